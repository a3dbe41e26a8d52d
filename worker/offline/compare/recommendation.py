"""The recommendation: the simplest strategy within noise of the cheapest, in words that follow from the table.

Noise is one standard error of the difference (the rule of Breiman et al. 1984). Most strategies have an interval that
includes 0 where frauds are few, however much they cost.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

from models.threshold import CostPolicy
from worker.offline.compare.result import (
    OURS,
    Block,
    Comparison,
    Figures,
    Recommendation,
    Row,
    Severity,
    is_over_budget,
)
from worker.offline.compare.strategy import Rule

_SIMPLICITY: Final = (
    "nothing", "threshold", "weights", "costs", "resampling", "ensembles", "anomaly", "online", OURS, "combinations",
)  # fmt: skip
"""Families, the simplest first: what each adds to a plain model that has to be run, understood and kept."""

_ADVICE: Final[dict[Severity, tuple[str, tuple[str, ...]]]] = {
    Severity.BALANCED: ("do nothing: the classes are nearly equal", ("logistic", "boosting")),
    Severity.MILD: ("class weights", ("weights_balanced", "weights_boosting")),
    Severity.MODERATE: (
        "SMOTE or class weights",
        ("smote", "smote_boosting", "weights_balanced", "weights_boosting"),
    ),
    Severity.SEVERE: (
        "SMOTE, class weights and a tuned threshold together, or a balanced ensemble",
        ("smote_weights_threshold", "smote_weights_threshold_boosting", "balanced_forest", "easy_ensemble"),
    ),
    Severity.EXTREME: ("anomaly detection", ("isolation_forest", "one_class_svm")),
}
BANDS: Final = {
    Severity.BALANCED: "30 % or more",
    Severity.MILD: "10 to 30 %",
    Severity.MODERATE: "1 to 10 %",
    Severity.SEVERE: "0.1 to 1 %",
    Severity.EXTREME: "less than 0.1 %",
}
"""The share of frauds of each severity."""
_SAME_AP: Final = 0.02
_SAME_ACCURACY: Final = 0.01
_RESAMPLED: Final = ("resampling", "ensembles", "combinations", "weights")


def recommend(rows: Sequence[Row], costs: CostPolicy, severity: Severity, test_days: int) -> Recommendation:
    """Derive the recommendation from the rows of both blocks.

    The refreshed block counts, because a model that is used is also refitted; the frozen one where the other has no
    figures.

    Parameters
    ----------
    rows
        Of both blocks.
    costs
        The user's costs, with the budget of cases.
    severity
        Of the data set.
    test_days
        Length of the test window.
    """
    block = next((it for it in (Block.REFRESHED, Block.FROZEN) if _with_figures(rows, it)), Block.FROZEN)
    candidates = _with_figures(rows, block)
    phrase, names = _ADVICE[severity]
    if not candidates:
        return Recommendation(
            None, block, None, names, ("No strategy could be run: there is nothing to choose from.",)
        )
    choice = _chosen_from(candidates, costs)
    chosen, pool = choice.judged, choice.pool
    paragraphs = [_choice(choice, block), *_not_compared(rows, block)]
    paragraphs += _chosen_on_the_test(len(pool), test_days)
    paragraphs += _simpler_still(choice) if choice.budget is None else [_too_many(choice, choice.budget)]
    if all(is_over_budget(it[1], costs) for it in candidates):
        budget = _cases(costs.alert_budget_cases_per_day or 0.0)
        paragraphs.append(f"Every strategy opens more cases a day than the budget of {budget}.")
    paragraphs += _advice(phrase, names, severity, choice, candidates, costs)
    paragraphs += _own(chosen, candidates, costs)
    return Recommendation(chosen[0].strategy, block, choice.cheapest[0].strategy, names, tuple(paragraphs))


def accuracy_of_nothing(comparison: Comparison) -> float:
    """Return the accuracy in the test window of a model that calls every transaction legitimate."""
    fraud = comparison.test.fraud
    return float((~fraud).sum() / max(len(fraud), 1))


def accuracy_explained(comparison: Comparison) -> str:
    """Return why accuracy is not in the table, by the user's own numbers."""
    judged = comparison.test
    legits, frauds = int((~judged.fraud).sum()), int(judged.fraud.sum())
    trivial = accuracy_of_nothing(comparison)
    text = (
        f"Accuracy is worthless here. A model that calls every transaction legitimate would be right in {legits:,} of "
        f"{len(judged):,} test transactions: an accuracy of {_share(trivial)}. It would catch none of the {frauds:,} "
        f"frauds, and lose {_money(float(judged.loss[judged.fraud].sum()))}."
    )
    name, block = comparison.recommendation.strategy, comparison.recommendation.block
    row = next((it for it in comparison.block(block) if it.strategy == name), None)
    if row is None or row.decided is None or row.figures is None:
        return text
    accuracy = float((row.decided.alerted == judged.fraud).mean())
    return (
        f"{text} {row.strategy} catches {_share(row.figures.recall)} of the frauds{_saves(row.figures)}"
        f"{_beside(accuracy, trivial)}."
    )


def _saves(worth: Figures) -> str:
    return "" if math.isnan(worth.savings) else f" and saves {_share(worth.savings)} of the cost"


def _beside(accuracy: float, trivial: float) -> str:
    if accuracy > trivial + _SAME_ACCURACY:
        return (
            f"; its accuracy of {_share(accuracy)} beats the {_share(trivial)} of the model that does nothing, and "
            "says neither"
        )
    verdict = "lose to" if accuracy < trivial else "hardly beat"
    return f", yet by its accuracy of {_share(accuracy)} it would {verdict} the model that does nothing"


_Judged = tuple[Row, Figures]


class _Choice(NamedTuple):
    """The strategy to recommend, and what it was chosen from.

    Attributes
    ----------
    judged
        That strategy.
    pool
        Those within the budget of cases; all where none is.
    best, cheapest
        The cheapest of the pool and of all.
    budget
        The budget, where it rules the cheapest out; None where cost alone decides.
    """

    judged: _Judged
    pool: Sequence[_Judged]
    best: _Judged
    cheapest: _Judged
    budget: float | None

    @property
    def is_cheapest(self) -> bool:
        """Whether nothing in the pool costs less, though others may cost as much."""
        return self.judged[1].cost == self.best[1].cost


def _chosen_from(candidates: Sequence[_Judged], costs: CostPolicy) -> _Choice:
    cheapest = min(candidates, key=_cost)
    pool = [it for it in candidates if not is_over_budget(it[1], costs)] or candidates
    best = min(pool, key=_cost)
    if pool is not candidates and is_over_budget(cheapest[1], costs):
        # Intervals are of the difference to the cheapest of all: they do not say what is within noise of this one.
        return _Choice(best, pool, best, cheapest, costs.alert_budget_cases_per_day)
    return _Choice(_simplest_within_noise(pool, best), pool, best, cheapest, None)


def _with_figures(rows: Sequence[Row], block: Block) -> list[_Judged]:
    return [(row, row.figures) for row in rows if row.block is block and row.figures is not None]


def _not_compared(rows: Sequence[Row], block: Block) -> list[str]:
    """Name the strategies that the choice knows nothing of."""
    absent = [it.strategy for it in rows if it.block is block and it.figures is None]
    if not absent:
        return []
    count = len(absent) + len(_with_figures(rows, block))
    return [
        f"{len(absent)} of {count} strategies have no figures here, and may be better ({', '.join(absent)}): the list "
        "of what was left out says why of each."
    ]


def _simplest_within_noise(pool: Sequence[_Judged], best: _Judged) -> _Judged:
    # The cheapest is always within noise of itself: its interval is [0, 0].
    within = [it for it in pool if it is best or it[1].excess <= it[1].excess_error]
    return min(within, key=lambda it: (_simplicity(it[0]), _cost(it)))


def _simpler_still(choice: _Choice) -> list[str]:
    """Name the simplest strategy that the test is too short to rule out."""
    simplicity = _simplicity(choice.judged[0])
    undecided = [it for it in choice.pool if it[1].excess_low <= 0.0 and _simplicity(it[0]) < simplicity]
    if not undecided:
        return []
    row, worth = min(undecided, key=lambda it: it[1].cost)
    return [
        f"{row.strategy} is simpler still. It cost {_money(worth.excess)} more than the cheapest: more than one "
        f"standard error, but the interval ({_interval(worth)}) includes 0. This test is too short to rule it out."
    ]


def _too_many(choice: _Choice, budget: float) -> str:
    row, worth = choice.cheapest
    return (
        f"{row.strategy} is cheaper at {_money(worth.cost)}, but opens {_cases_a_day(worth.cases_per_day)}, more "
        f"than the budget of {_cases(budget)}."
    )


def _choice(choice: _Choice, block: Block) -> str:
    row, worth = choice.judged
    begun = "refitted every week" if block is Block.REFRESHED else "fitted once"
    if row.family in ("online", OURS):
        begun = "learning as labels arrive" if block is Block.REFRESHED else "frozen before the test"
    text = (
        f"{_lead(choice)} {row.strategy} ({row.meaning}), {begun}: it cost {_money(worth.cost)} in the test window"
        f"{_saved(worth)}. {_caught(worth)}"
    )
    if choice.budget is not None:
        within = _cases_a_day(choice.budget)
        return f"{text} It is the cheapest{_beside_others(choice)} within the budget of {within}."
    if choice.is_cheapest:
        return (
            f"{text} It is the cheapest{_beside_others(choice)}, and nothing simpler is within one standard error of "
            "its cost."
        )
    best = choice.best
    return (
        f"{text} {best[0].strategy} cost least, {_money(best[1].cost)}{_saved(best[1])}. "
        f"The difference of {_money(worth.excess)} is within its standard error "
        f"(95 % interval {_interval(worth)}), and {row.strategy} is simpler."
    )


def _beside_others(choice: _Choice) -> str:
    """Name those that cost exactly as much, as where all alert on nothing: none of them is the cheapest alone."""
    alike = [
        row.strategy
        for row, worth in choice.pool
        if row is not choice.judged[0] and worth.cost == choice.judged[1].cost
    ]
    return f" (with {', '.join(alike)}, which cost as much)" if alike else ""


def _lead(choice: _Choice) -> str:
    best, simpler = choice.best[1], "The simplest within noise of the cheapest is"
    if math.isnan(best.savings):
        return (
            "By [costs] no fraud of the test window loses money, so there is nothing to save: set "
            "costs.missed_fraud_fixed to what a missed fraud costs whatever its amount. "
            f"{'The cheapest is' if choice.is_cheapest else simpler}"
        )
    if best.savings > 0.0:
        return "Use"
    trivial = _money(best.cost / (1.0 - best.savings))
    if choice.cheapest[1].savings > 0.0 and choice.budget is not None:
        return (
            f"No strategy within the budget of {_cases_a_day(choice.budget)} saves anything: alerting on "
            f"nothing, or on everything, would cost {trivial}. Look at the budget before you look at strategies. The "
            "best of those within it is"
        )
    return (
        f"No strategy saves anything: alerting on nothing, or on everything, would cost {trivial}. Look at [costs] and "
        f"at the features before you look at strategies. {'The best of them is' if choice.is_cheapest else simpler}"
    )


def _saved(worth: Figures) -> str:
    return "" if math.isnan(worth.savings) else f" and saved {_share(worth.savings)}"


def _caught(worth: Figures) -> str:
    if math.isnan(worth.precision):
        return "It alerted on nothing."
    is_worthless = math.isnan(worth.recall_by_value)
    by_value = "" if is_worthless else f" ({_share(worth.recall_by_value)} by value)"
    return (
        f"It caught {_share(worth.recall)} of the frauds{by_value} with a precision of {_share(worth.precision)} and "
        f"{_about(worth.cases_per_day)}."
    )


def _chosen_on_the_test(count: int, test_days: int) -> list[str]:
    """Say that the best of several on one stretch of time was partly lucky there."""
    if count < 2:
        return []
    return [
        f"Chosen and measured on the same {test_days} days: the best of {count} strategies looks better there than it "
        "is. Expect somewhat less of it on later days."
    ]


def _advice(
    phrase: str,
    names: Sequence[str],
    severity: Severity,
    choice: _Choice,
    candidates: Sequence[_Judged],
    costs: CostPolicy,
) -> list[str]:
    text = (
        f"Frauds are {BANDS[severity]} of the transactions ({severity.value}). The common advice is {phrase}."
    )
    advised = [it for it in candidates if it[0].strategy in names]
    if not advised:
        return [f"{text} None of {', '.join(names)} has figures here."]
    measured = "; ".join(
        f"{row.strategy} cost {_money(worth.cost)} (AP {worth.ap:.3f}, {_about(worth.cases_per_day)}"
        f"{', over the budget' if is_over_budget(worth, costs) else ''})"
        for row, worth in advised
    )
    if choice.judged[0].strategy in names:
        return [f"{text} Here it holds: {measured}."]
    within = [it for it in advised if not is_over_budget(it[1], costs)]
    followed = min(within or advised, key=lambda it: it[1].cost)
    return [f"{text} Measured here: {measured}.", _why(followed, choice, costs)]


def _why(followed: _Judged, choice: _Choice, costs: CostPolicy) -> str:
    """Say what in the table speaks against the advised strategy: its cases, its cost, or that it is less simple."""
    (row, worth), (winner, best) = followed, choice.judged
    lead, budget = f"{row.strategy}, the best of that advice,", costs.alert_budget_cases_per_day
    if budget is not None and is_over_budget(worth, costs) and not is_over_budget(best, costs):
        return f"{lead} opens {_cases_a_day(worth.cases_per_day)}, more than the budget of {_cases(budget)}."
    dearer = worth.cost - best.cost
    if choice.budget is None and (dearer <= 0.0 or worth.excess <= worth.excess_error):
        return _though_near(followed, choice)
    is_unsure = choice.budget is None and worth.excess_low <= 0.0
    unsure = ", a difference that a longer test may clear" if is_unsure else ""
    reasons = "; ".join(_reasons(row, worth, best))
    return f"{lead} costs {_money(dearer)} more than {winner.strategy}{unsure}: {reasons}."


def _though_near(followed: _Judged, choice: _Choice) -> str:
    """Say why advice is not taken that costs less than the choice, or is within noise of the cheapest too."""
    (row, worth), (winner, best) = followed, choice.judged
    is_simpler = _simplicity(winner) < _simplicity(row)
    why = f"preferred because it {'is simpler to run and to explain' if is_simpler else 'cost less'}."
    if worth.excess <= 0.0 < best.excess:
        return f"{row.strategy} is the cheapest. {winner.strategy} is within noise of it, and is {why}"
    if worth.excess <= 0.0:
        return f"{row.strategy} cost as little as {winner.strategy}. {winner.strategy} is {why}"
    if worth.excess <= worth.excess_error:
        return f"{row.strategy} is within noise of the cheapest too. {winner.strategy} is {why}"
    less = f"{row.strategy} cost {_money(best.cost - worth.cost)} less than {winner.strategy}."
    return f"{less} {winner.strategy} is within noise of the cheapest, and is {why}"


def _reasons(row: Row, worth: Figures, best: Figures) -> list[str]:
    reasons = []
    if worth.ap < best.ap - _SAME_AP:
        reasons.append(f"it ranks the transactions worse (AP {worth.ap:.3f} against {best.ap:.3f})")
    elif worth.ap > best.ap + _SAME_AP:
        reasons.append(
            f"it ranks the transactions better (AP {worth.ap:.3f} against {best.ap:.3f}), but alerts in the wrong place"
        )
    else:
        reasons.append(
            f"it ranks the transactions as well (AP {worth.ap:.3f} against {best.ap:.3f}), so the threshold decides"
        )
    if worth.cases_per_day > best.cases_per_day * 1.1:
        reasons.append(f"it opens {_about(worth.cases_per_day)} instead of {_rounded(best.cases_per_day)}")
    if worth.recall_by_value < best.recall_by_value - 0.01:
        reasons.append(
            f"it catches {_share(worth.recall_by_value)} of the lost value instead of {_share(best.recall_by_value)}"
        )
    if row.rule is Rule.HALF:
        if row.family in _RESAMPLED:
            reasons.append(
                "equalised classes make its probabilities too high, and it alerts from 0.5 on, not where a review pays"
            )
        else:
            reasons.append("it alerts from a probability of 0.5 on, not where a review pays")
    return reasons


def _own(chosen: _Judged, candidates: Sequence[_Judged], costs: CostPolicy) -> list[str]:
    """Say where the worker itself stands, whether or not it is the choice."""
    worker = next((it for it in candidates if it[0].strategy == "worker"), None)
    if worker is None or worker is chosen:
        return []
    worth = worker[1]
    is_over = is_over_budget(worth, costs)
    many = f", with {_cases_a_day(worth.cases_per_day)}, more than the budget" if is_over else ""
    text = f"This worker as it would run cost {_money(worth.cost)}{_saved(worth)}{many}"
    if worth.excess <= 0.0:
        return [f"{text}: it is {'one of ' if worth.cost == chosen[1].cost else ''}the cheapest."]
    if worth.excess <= worth.excess_error:
        within = "within noise of the cheapest"
    elif worth.excess_low <= 0.0:
        within = "above the cheapest, which a longer test may clear"
    else:
        within = "beyond noise above the cheapest"
    return [f"{text}: {within} (95 % interval of the difference {_interval(worth)})."]


def _cost(it: _Judged) -> tuple[float, bool]:
    # Once its online model decides everything, the worker costs the same to the cent: it is the worker that one runs.
    return it[1].cost, it[0].strategy != "worker"


def _simplicity(row: Row) -> int:
    return _SIMPLICITY.index(row.family) if row.family in _SIMPLICITY else len(_SIMPLICITY)


def _interval(worth: Figures) -> str:
    return f"{_money(worth.excess_low)} to {_money(worth.excess_high)}"


def _money(value: float) -> str:
    return f"{value:,.0f}"


def _cases_a_day(a_day: float) -> str:
    """Return a rate of cases in words, by the digits of the table."""
    return _in_words(_cases(a_day))


def _about(a_day: float) -> str:
    return _in_words(_rounded(a_day))


def _rounded(a_day: float) -> str:
    return f"{a_day:,.0f}" if a_day >= 1.0 else _cases(a_day)


def _in_words(cases: str) -> str:
    return f"{cases} {'case' if cases == '1' else 'cases'} a day"


def _cases(a_day: float) -> str:
    """Return cases a day by the digits of the table: rounded to a case, they might equal a budget that they exceed."""
    return f"{a_day:,.1f}".removesuffix(".0")


def _share(value: float) -> str:
    return f"{100 * value:.1f} %"
