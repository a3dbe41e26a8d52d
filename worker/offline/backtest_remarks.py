"""What a reader of a backtest should know beside its figures: where they are of a cold start, and what was dear."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from models.anomaly import MINIMUM_ROWS
from models.maturing import FEWEST_EXAMPLES, Memory
from models.threshold import MOST_DAILY_BUDGETS
from models.vocabulary import MS_PER_DAY, Decider
from worker.offline.backtest import BacktestResult
from worker.offline.report.wording import beyond_budget, date, money

_FEW_FRAUDS: Final = 100
_HOURS_STEP_S: Final = 300


def remarks(result: BacktestResult) -> Iterator[str]:
    """Yield some sentences each on what the figures do not say."""
    if result.steady_from_ms is None:
        yield from _all_is_cold(result)
    elif result.cold is not None and result.steady is not None:
        yield (
            f"Cold start lasts until the online model first decides and {_wait(result)} more "
            "(labels.negatives_after_days): until then another decides, or the model has learnt from few labels. A "
            "worker goes through it once. Plan with the steady state; the cold start says what beginning costs."
        )
    yield from _rankings(result)
    line, costs = result.evaluation, result.settings.costs
    if line.frauds < line.n and line.cost > min(line.cost_none, line.cost_all):
        yield _dearer_than_a_trivial_policy(result)
    yield from _overrun(result)
    silent = (result.judged.decider == Decider.FOREST) & np.isposinf(result.judged.threshold)
    if silent.any():
        why = "it had just begun, its credit was spent, or labels had spoken against its alerts"
        if result.model.policy.costs.alert_budget_cases_per_day is None:
            why = "without a budget (costs.alert_budget_cases_per_day = inf) it never does"
        yield f"In {int(silent.sum()):,} of its decisions the isolation forest could not alert: {why}."
    closed = result.model.ledger.total(costs.review_cost)
    if result.model.challenger is not None and closed.days:
        yield (
            f"On {closed.days} days that are settled, the tables with the trees in shadow (model.challenger) "
            f"would have cost {money(closed.challenger_cost)} instead of {money(closed.cost)}."
        )
    if 0 < line.frauds < _FEW_FRAUDS:
        yield f"With {line.frauds} frauds, chance moves every share of frauds: read recall and AP with care."


def _wait(result: BacktestResult) -> str:
    return f"{result.settings.labels.negatives_after_days:g} days"


def _all_is_cold(result: BacktestResult) -> Iterator[str]:
    settings, known = result.settings, Memory.of(result.model)
    frauds = known.mature_frauds()
    mature = result.model.examples.count_before(known.clock_ms - result.model.policy.negatives_after_ms)
    if frauds >= settings.model.min_frauds and mature >= FEWEST_EXAMPLES:
        advice = _too_late(result)
    else:
        advice = _short_file(result) + _few_frauds(result)
    yield (
        f"All of it is cold start: the online model decided nothing. It needs {settings.model.min_frauds} labelled "
        f"frauds (model.min_frauds) and {FEWEST_EXAMPLES:,} examples that are older than {_wait(result)} "
        f"(labels.negatives_after_days); at the end there were {frauds:,} and {mature:,}.{advice}"
    )
    if result.decided_by["none"] > 0.0:
        yield (
            f"Nothing decides until {settings.model.forest_min_rows:,} transactions have come (model.forest_min_rows) "
            f"and {MINIMUM_ROWS} of those looked at are neither known frauds nor alerted: then the isolation forest "
            "does."
        )


def _too_late(result: BacktestResult) -> str:
    span_s = result.settings.batch.max_event_time_s
    budget = result.model.policy.costs.alert_budget_cases_per_day
    first = "" if budget is None else ", and scores for an hour before it decides"
    shorter = f"; of a file of hours {_HOURS_STEP_S} shows more" if span_s > _HOURS_STEP_S else ""
    return (
        f" Both came too late: a generation is made between commits{first}. Commits span up to {span_s:g} s of event "
        f"time (batch.max_event_time_s){shorter}."
    )


def _short_file(result: BacktestResult) -> str:
    """Return what to set where a file is too short for its waits, as a public one of two days is; nothing elsewhere."""
    times_ms = result.dataset.event_time_ms
    days = int(times_ms[-1] - times_ms[0]) / MS_PER_DAY
    if days >= 2 * result.settings.labels.negatives_after_days:
        return ""
    return (
        f" What was read spans {days:,.1f} days: to see what the model makes of so little, let labels and silence "
        "speak within hours (labels.negatives_after_days = 0.1 and, where the file does not date its labels, "
        "--label-delay-days 0.05)."
    )


def _few_frauds(result: BacktestResult) -> str:
    """Return what to set where there are fewer frauds than the model waits for; nothing elsewhere."""
    dataset, needed = result.dataset, result.settings.model.min_frauds
    frauds = 0 if dataset.is_fraud is None else int(np.count_nonzero(dataset.is_fraud & dataset.labelled))
    if not 0 < frauds < needed:
        return ""
    return (
        f" What was read has {frauds:,} labelled frauds in all: what a model makes of so few is seen with "
        "model.min_frauds set lower."
    )


def _rankings(result: BacktestResult) -> Iterator[str]:
    """Yield what average precision ranks, where it is not what alerts rank."""
    shares = result.decided_by
    if sum(share > 0.0 for share in shares.values()) > 1:
        yield (
            "Where several deciders decided, AP and ROC AUC rank the scores of the online model above those of the "
            "forest, and these above the rows without a decider."
        )
    is_limited = result.model.policy.costs.alert_budget_cases_per_day is not None
    if shares["forest"] > 0.0 and is_limited and result.evaluation.frauds:
        yield (
            "Of the forest AP and ROC AUC rank how unusual a payment is; its alerts are the highest products of that "
            "and the amount, so that a high AP may stand beside few frauds alerted."
        )


def _overrun(result: BacktestResult) -> Iterator[str]:
    """Yield that a day opened far more cases than investigators take, where it did: the mean of all days hides it."""
    budget = result.model.policy.costs.alert_budget_cases_per_day
    opened = result.judged.event_time_ms[result.judged.opens_case] // MS_PER_DAY
    if budget is None or not opened.size:
        return
    days, cases = np.unique(opened, return_counts=True)
    busiest = int(np.argmax(cases))
    if cases[busiest] > max(MOST_DAILY_BUDGETS * budget, 1.0):
        yield (
            f"On {date(int(days[busiest]) * MS_PER_DAY)} {int(cases[busiest]):,} cases opened, where the budget is "
            f"{budget:g} a day (costs.alert_budget_cases_per_day): one threshold decides all that comes in one commit, "
            "and payments of one time do."
        )


def _dearer_than_a_trivial_policy(result: BacktestResult) -> str:
    line, costs, better = result.evaluation, result.settings.costs, result.better_trivial_policy
    least = money(min(line.cost_none, line.cost_all))
    text = f"Alerting on {better} would have cost less: {least} instead of {money(line.cost)}."
    if better == "everything":
        text += beyond_budget(result.cases_for_all_per_day, costs.alert_budget_cases_per_day)
    forest = result.judged.take(np.flatnonzero(result.judged.decider == Decider.FOREST))
    stopped = float(forest.loss[forest.fraud & forest.alerted].sum())
    if costs.review_cost * np.count_nonzero(forest.charged) > stopped:
        text += (
            " The isolation forest's reviews cost more than they stopped. It has no probability to weigh: it opens "
            "cases for two days of the budget (costs.alert_budget_cases_per_day = "
            f"{costs.alert_budget_cases_per_day:g}), on at most a quarter of its decisions, and from then on for what "
            "its alerts have earned by their labels."
        )
    return text
