"""What decisions were worth, against brute force over single rows."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from models.vocabulary import MS_PER_DAY, Decider
from models.working_points import WorkingPoints, first_alerts
from worker.offline import figures
from worker.offline.compare.figures import figures_of
from worker.offline.compare.result import Decided, JudgedRows
from worker.offline.figures import Judged

START_MS = 1_704_067_200_000 + 5 * 3_600_000
REVIEW_COST = 4.0


def made_up(count: int = 3_000, seed: int = 1, days: float = 20.0) -> Judged:
    """Decisions in random order of everything but time; a fifth has no known truth."""
    rng = np.random.default_rng(seed)
    fraud, known = rng.random(count) < 0.1, rng.random(count) < 0.8
    alerted = rng.random(count) < np.where(fraud, 0.6, 0.05)
    decider = rng.integers(0, 3, count).astype(np.uint8)
    time_ms = START_MS + np.sort(rng.integers(0, round(days * MS_PER_DAY), count))
    _, case = np.unique(time_ms // MS_PER_DAY * 100 + rng.integers(0, 50, count), return_inverse=True)
    charged = figures.charge(case, alerted, known)
    return Judged(
        row=np.arange(count),
        event_time_ms=time_ms,
        fraud=fraud & known,
        truth_known=known,
        labelled=known & (rng.random(count) < 0.5),
        amount=rng.uniform(0, 100, count),
        loss=rng.uniform(1, 100, count),
        score=rng.normal(size=count) + fraud,
        probability=rng.random(count).astype(np.float32),
        expected_loss=rng.random(count),
        threshold=rng.integers(1, 30, count).astype(np.float64),
        decider=decider,
        alerted=alerted,
        opens_case=first_alerts(case, alerted),
        case=case,
        charged=charged.of_alerts,
        charged_for_all=charged.of_all,
    )


def test_a_case_is_charged_once_at_its_first_alert_of_known_truth() -> None:
    case = np.array([0, 0, 0, 0, 1, 1, 2, 2, 3])
    alerted = np.array([1, 0, 1, 1, 1, 0, 1, 1, 0], np.bool_)
    known = np.array([0, 1, 1, 1, 0, 1, 0, 0, 1], np.bool_)
    charged = figures.charge(case, alerted, known)
    # Of case 1 the only alert is of unknown truth, of case 2 all is, and of case 3 nothing is alerted.
    assert np.flatnonzero(charged.of_alerts).tolist() == [2]
    assert np.flatnonzero(charged.of_all).tolist() == [1, 5, 8]


def test_one_rule_charges_reviews_in_a_backtest_in_a_comparison_and_in_a_curve() -> None:
    """A fifth of the truth is not known, of first alerts too."""
    judged = made_up()
    known = judged.take(judged.truth_known)
    opened_by_others = judged.alerted & ~judged.truth_known & judged.opens_case
    assert np.isin(known.case[known.alerted], judged.case[opened_by_others]).any()
    whole = figures.stretch(judged, REVIEW_COST, START_MS, START_MS + 20 * MS_PER_DAY).evaluation
    rows = JudgedRows(known.fraud, known.loss, known.amount, known.event_time_ms, known.case)
    nothing = np.full(len(known), np.nan)
    decided = Decided(known.score, nothing, known.score, nothing, known.alerted)
    compared = figures_of(rows, decided, REVIEW_COST, 20, fit_seconds=0.0, score_us=0.0)
    swept = WorkingPoints.of(known.fraud, known.alerted.astype(np.float64), known.loss, known.case)
    assert compared.cost == pytest.approx(whole.cost)
    assert compared.savings == pytest.approx(whole.savings)
    assert compared.cases_per_day == whole.cases / 20 == swept.cases[1] / 20
    assert swept.cost(REVIEW_COST)[1] == pytest.approx(whole.cost)
    assert swept.savings(REVIEW_COST)[1] == pytest.approx(whole.savings)


def opened_in(judged: Judged, alerted: NDArray[np.bool_], inside: list[int]) -> int:
    """Count the cases whose first alert of known truth is one of the rows inside."""
    rows = np.flatnonzero(alerted & judged.truth_known).tolist()
    first = {int(judged.case[row]): row for row in reversed(rows)}
    return len(set(first.values()) & set(inside))


def test_a_stretch_counts_what_lies_in_it_and_judges_what_is_known() -> None:
    judged = made_up()
    start_ms, end_ms = START_MS + 3 * MS_PER_DAY, START_MS + 11 * MS_PER_DAY
    found = figures.stretch(judged, REVIEW_COST, start_ms, end_ms)
    inside = [row for row in range(len(judged)) if start_ms <= judged.event_time_ms[row] < end_ms]
    every = judged.take(np.array(inside))
    known = every.take(every.truth_known)
    line = found.evaluation

    assert (found.decisions, found.alerts, found.cases) == (
        len(inside),
        every.alerted.sum(),
        every.opens_case.sum(),
    )
    assert (found.days, found.alerts_per_day) == (8.0, every.alerted.sum() / 8)
    assert found.label_coverage == pytest.approx(every.labelled.mean())
    assert found.decided_by["forest"] == pytest.approx((every.decider == Decider.FOREST).mean())
    assert sum(found.decided_by.values()) == pytest.approx(1.0)

    assert (line.n, line.frauds, line.alerts, line.cases) == (
        len(known), known.fraud.sum(), known.alerted.sum(), opened_in(judged, judged.alerted, inside)
    )  # fmt: skip
    assert line.prevalence == pytest.approx(known.fraud.mean())
    assert line.ap == pytest.approx(average_precision_score(known.fraud, known.score), abs=1e-12)
    assert line.roc_auc == pytest.approx(roc_auc_score(known.fraud, known.score), abs=1e-12)
    assert line.recall == pytest.approx(recall_score(known.fraud, known.alerted))
    assert line.precision == pytest.approx(precision_score(known.fraud, known.alerted))
    assert line.f1 == pytest.approx(f1_score(known.fraud, known.alerted))
    caught = sum(known.loss[row] for row in range(len(known)) if known.fraud[row] and known.alerted[row])
    at_stake = sum(known.loss[row] for row in range(len(known)) if known.fraud[row])
    assert line.recall_by_value == pytest.approx(caught / at_stake)
    assert line.cost_reviews == REVIEW_COST * line.cases
    assert line.cost_missed == pytest.approx(at_stake - caught)
    assert line.cost == pytest.approx(line.cost_reviews + line.cost_missed)
    assert line.cost_none == pytest.approx(at_stake)
    assert line.cost_all == REVIEW_COST * opened_in(judged, np.ones(len(judged), np.bool_), inside)
    assert line.savings == pytest.approx(1 - line.cost / min(line.cost_none, line.cost_all))
    names = set(dataclasses.asdict(line)) | {"decisions", "label_coverage", "alerts_per_day", "cases_per_day"}
    assert names <= set(found.figures())


def test_weeks_part_the_decisions_and_begin_at_midnight() -> None:
    judged = made_up()
    weeks = figures.weeks(judged, REVIEW_COST)
    assert [week.start_ms % MS_PER_DAY for week in weeks] == [0, 0, 0]
    assert [week.days for week in weeks] == [7, 7, 7]
    assert sum(week.decisions for week in weeks) == len(judged)
    whole = figures.stretch(judged, REVIEW_COST, 0, 2**60).evaluation
    for name in ("n", "frauds", "caught", "cost", "cost_missed", "cost_none", "cost_all"):
        assert sum(getattr(week.evaluation, name) for week in weeks) == pytest.approx(getattr(whole, name))


def test_a_week_without_a_decision_is_left_out_and_the_last_may_be_short() -> None:
    judged = made_up(400)
    gone = (judged.event_time_ms >= START_MS + MS_PER_DAY) & (
        judged.event_time_ms <= START_MS + 16 * MS_PER_DAY
    )
    gap = judged.take(~gone)
    weeks = figures.weeks(gap, REVIEW_COST)
    assert [week.days for week in weeks] == [7, 7]
    assert weeks[1].start_ms - weeks[0].start_ms == 14 * MS_PER_DAY
    assert figures.weeks(judged.take(slice(0, 0)), REVIEW_COST) == ()
    [short] = figures.weeks(made_up(50, days=1.2), REVIEW_COST)
    assert short.days == 2


def test_days_add_up_to_the_whole_and_know_their_threshold() -> None:
    judged = made_up()
    days = figures.days(judged, REVIEW_COST)
    assert len(days) == 21
    for i in (0, 7, 20):
        start_ms = int(days.start_ms[i])
        one = figures.stretch(judged, REVIEW_COST, start_ms, start_ms + MS_PER_DAY)
        line = one.evaluation
        assert (days.decisions[i], days.alerts[i], days.cases[i]) == (one.decisions, one.alerts, one.cases)
        assert (days.judged[i], days.frauds[i], days.caught[i]) == (line.n, line.frauds, line.caught)
        assert days.prevalence[i] == pytest.approx(line.prevalence)
        assert days.savings[i] == pytest.approx(line.savings)
        assert (days.cost[i], days.cost_none[i], days.cost_all[i]) == (
            pytest.approx(line.cost), pytest.approx(line.cost_none), line.cost_all
        )  # fmt: skip
        assert days.decided_by_online[i] == pytest.approx(one.decided_by["online"])
        inside = (judged.event_time_ms >= start_ms) & (judged.event_time_ms < start_ms + MS_PER_DAY)
        of_model = np.sort(judged.threshold[inside & (judged.decider == Decider.ONLINE)])
        assert days.threshold[i] == of_model[(len(of_model) - 1) // 2]


def test_what_is_undefined_is_nan_and_not_zero() -> None:
    unknown = dataclasses.replace(
        made_up(50), truth_known=np.zeros(50, np.bool_), fraud=np.zeros(50, np.bool_)
    )
    line = figures.stretch(unknown, REVIEW_COST, 0, 2**60).evaluation
    assert line.n == 0
    assert all(math.isnan(value) for value in (line.prevalence, line.ap, line.recall, line.savings))
    nothing = figures.stretch(unknown, REVIEW_COST, 0, 1)
    assert (nothing.decisions, nothing.cases_per_day) == (0, 0.0)
    assert math.isnan(nothing.label_coverage)
    assert all(math.isnan(share) for share in nothing.decided_by.values())
    forest = dataclasses.replace(unknown, decider=np.full(50, Decider.FOREST, np.uint8))
    days = figures.days(forest, REVIEW_COST)
    assert np.isnan(days.threshold).all()
    assert np.isnan(days.prevalence).all()
    assert np.isnan(days.savings).all()
