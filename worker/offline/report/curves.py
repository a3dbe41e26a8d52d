"""The plots that both reports have: what a ranking would catch and cost, and whether its probabilities hold."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple

import numpy as np

from models.arrays import BoolArray, FloatArray
from models.reliability import Reliability
from models.working_points import WorkingPoints
from worker.offline.figures import Judged
from worker.offline.report import wording
from worker.offline.report.markup import Html
from worker.offline.report.page import figure, figures, missing
from worker.offline.report.plots import NEUTRAL, Axis, Curve, Plot, Point, Reference, Series, Span

_BINS: Final = 10
_SHARE: Final = (0.0, 1.0)
_UNIT: Final[tuple[float, ...]] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
_MOVED: Final = " The threshold moved over time, so the marker, at its median, can lie off the line."
_LEAST_SHOWN: Final = 1e-6
"""No probability or ratio below it has a place on an axis."""


@dataclass(frozen=True, slots=True)
class Reached:
    """What decisions were worth; NaN where a figure is undefined.

    Attributes
    ----------
    recall, recall_by_value, precision, savings, cost
        As in `models.evaluation.Evaluation`.
    cases_per_day
        Cases opened a day.
    """

    recall: float
    recall_by_value: float
    precision: float
    savings: float
    cost: float
    cases_per_day: float


@dataclass(frozen=True)
class Ranked:
    """One way to decide, ready to draw.

    Attributes
    ----------
    series
        How it looks in every plot.
    judged
        Its decisions whose truth is known, in order of event time.
    reached
        What these were worth.
    rank : float64 (n,)
        What it compares with its threshold; NaN where it never alerts.
    rank_label
        What that is.
    threshold : float64 (n,)
        In force at each decision, in terms of the rank.
    has_probability
        Whether `judged.probability` is a probability of fraud.
    days
        Length of the stretch, for rates.
    review_cost
        Of one case.
    """

    series: Series
    judged: Judged
    reached: Reached
    rank: FloatArray
    rank_label: str
    threshold: FloatArray
    has_probability: bool
    days: float
    review_cost: float

    @cached_property
    def by_rank(self) -> WorkingPoints:
        """Every threshold of its rank."""
        rank = np.where(np.isnan(self.rank), -np.inf, self.rank)
        return WorkingPoints.of(self.judged.fraud, rank, self.judged.loss, self.judged.case)

    @cached_property
    def usual_threshold(self) -> float:
        """The median of its thresholds; NaN where it always alerted on nothing."""
        finite = self.threshold[np.isfinite(self.threshold)]
        return float(np.median(finite)) if len(finite) else math.nan

    @property
    def prevalence(self) -> float:
        """The share of frauds; NaN without a decision."""
        return float(self.judged.fraud.mean()) if len(self.judged) else math.nan


def _label(one: Ranked, shown: Sequence[Ranked]) -> str:
    return one.series.letter if len(shown) > 1 else "reached"


def precision_recall(
    name: str, title: str, ranked: Sequence[Ranked], others: Sequence[tuple[float, float]] = ()
) -> Html:
    """Return precision over recall with the working point of each, and those of `others`, (recall, precision)."""
    shown = [one for one in ranked if one.judged.fraud.any()]
    if not shown:
        return missing("Without frauds there is neither recall nor precision.")
    described = "; ".join(
        f"{one.series.name}: recall {wording.percent(one.reached.recall)}, precision"
        f" {wording.percent(one.reached.precision)}"
        for one in shown
    )
    prevalence = shown[0].prevalence
    plot = Plot(
        name,
        title,
        f"Precision against recall, a line for each strategy. Working points: {described}.",
        Axis("recall", *_SHARE, wording.whole_percent, ticks=_UNIT),
        Axis("precision", *_SHARE, wording.whole_percent, ticks=_UNIT),
        curves=[
            Curve(one.series, *recall_and_precision(one.judged.fraud, one.judged.score)) for one in shown
        ],
        points=[
            *(Point(NEUTRAL, *point, "") for point in others if math.isfinite(point[1])),
            *(
                Point(one.series, one.reached.recall, one.reached.precision, _label(one, shown))
                for one in shown
                if math.isfinite(one.reached.precision)
            ),
        ],
        references=[
            Reference(_SHARE, (prevalence, prevalence), f"alerting at random: {wording.percent(prevalence)}")
        ],
    )
    caption = (
        "A marker is what the decisions reached. It can lie off its line: the line follows the score alone, and a"
        " decision by cost weighs the score with the amount."
    )
    if others:
        caption += " The small grey points are what the other strategies reached."
    return figure(plot, caption, [one.series for one in shown])


def recall_and_precision(fraud: BoolArray, score: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return recall and precision at each score of a fraud, the highest first.

    Between two of these precision only falls, while recall stands still: no need to sort all rows in pairs.
    """
    score = np.where(np.isnan(score), -np.inf, score)
    threshold, frauds = np.unique(score[fraud], return_counts=True)
    caught = np.cumsum(frauds[::-1])
    alerts = len(score) - np.searchsorted(np.sort(score), threshold[::-1], side="left")
    return caught / caught[-1], caught / alerts


def cost_over_threshold(ranked: Sequence[Ranked]) -> Html:
    """Return the cost of every threshold, a plot for each: their thresholds have no common scale."""
    return figures(_cost_plot(one) for one in ranked) if ranked else missing("No strategy has figures.")


def _cost_plot(one: Ranked) -> Html:
    swept, realised, chosen = one.by_rank, one.reached.cost, one.usual_threshold
    cost = swept.cost(one.review_cost)
    nothing, cheapest = float(cost[0]), int(np.argmin(cost))
    top = 1.25 * max(nothing, realised, float(cost[cheapest])) or 1.0
    usable = np.isfinite(swept.threshold) & (cost <= top)
    axis = _threshold_axis(swept.threshold[usable], chosen, one)
    if axis is None:
        return missing(f"{one.series.name}: too few different scores for a curve of the cost.")
    inside = usable & (swept.threshold >= axis.low) & (swept.threshold <= axis.high)
    has_chosen = math.isfinite(chosen)
    best = wording.money(float(cost[cheapest])), wording.threshold(float(swept.threshold[cheapest]))
    plot = Plot(
        f"cost-{one.series.letter.lower()}",
        f"{one.series.letter}: {one.series.name}",
        f"Cost against the threshold. The decisions cost {wording.money(realised)} at a threshold of"
        f" {wording.threshold(chosen)}. The cheapest threshold, {best[1]}, would have cost {best[0]}.",
        axis,
        Axis("cost", 0.0, top, wording.compact),
        # Above the highest score a threshold alerts on nothing.
        curves=[
            Curve(one.series, np.append(axis.high, swept.threshold[inside]), np.append(nothing, cost[inside]))
        ],
        points=[Point(one.series, chosen, realised, f"chosen: {wording.compact(realised)}")]
        if has_chosen
        else [],
        references=[
            Reference(
                (axis.low, axis.high), (nothing, nothing), f"alert on nothing: {wording.compact(nothing)}"
            ),
            *([Reference((chosen, chosen), (0.0, top))] if has_chosen else []),
        ],
    )
    moved = "" if len(np.unique(one.threshold[np.isfinite(one.threshold)])) < 2 else _MOVED
    caption = (
        f"The decisions cost {wording.money(realised)}. In hindsight the best single threshold was {best[1]}, at a cost"
        f" of {best[0]}.{moved}"
    )
    return figure(plot, caption)


def _threshold_axis(thresholds: FloatArray, chosen: float, one: Ranked) -> Axis | None:
    """Return the axis of a threshold; None where there is no room for one."""
    values = np.append(thresholds, chosen)
    values = values[np.isfinite(values)]
    is_positive = bool(len(values)) and float(values.min()) >= 0.0
    if is_positive:
        values = np.maximum(values, _LEAST_SHOWN)
    if len(values) == 0 or values.min() == values.max():
        return None
    low, high = float(values.min()), float(values.max())
    form = wording.whole_percent if is_positive and high <= 1.0 else wording.compact
    return Axis(one.rank_label, low, high, form, is_log=is_positive and high / low > 20.0)


def capacity(ranked: Sequence[Ranked], *, is_all_known: bool) -> Html:
    """Return recall, recall by value, precision and savings over cases a day, a plot for each measure.

    Parameters
    ----------
    ranked
        Ways to decide.
    is_all_known
        Whether these are all decisions; where the truth of others is unknown, they have cases that no curve counts.
    """
    low = min((1.0 / one.days for one in ranked), default=1.0)
    high = max((float(one.by_rank.cases[-1]) / one.days for one in ranked), default=0.0)
    if high <= low:
        return missing("There are too few cases for a curve.")
    cases = "cases a day" if is_all_known else "cases a day of known truth"
    axis = Axis(cases, low, high, wording.compact, is_log=True)
    return figures(_capacity_plot(measure, axis, ranked) for measure in _MEASURES)


def _capacity_plot(measure: _Measure, axis: Axis, ranked: Sequence[Ranked]) -> Html:
    described = "; ".join(
        f"{one.series.name}: {wording.percent(measure.reached(one.reached))} at"
        f" {wording.rate(one.reached.cases_per_day)}"
        for one in ranked
    )
    plot = Plot(
        f"capacity-{measure.title.lower().replace(' ', '-')}",
        measure.title,
        f"{measure.title} against {axis.label}. Reached: {described} {axis.label}.",
        axis,
        Axis(measure.title.lower(), measure.low, 1.0, wording.whole_percent, ticks=measure.ticks),
        curves=[
            Curve(one.series, one.by_rank.cases[1:] / one.days, measure.swept(one)[1:]) for one in ranked
        ],
        points=[
            Point(one.series, one.reached.cases_per_day, max(reached, measure.low), _label(one, ranked))
            for one in ranked
            if math.isfinite(reached := measure.reached(one.reached)) and one.reached.cases_per_day > 0.0
        ],
        references=[Reference((axis.low, axis.high), (0.0, 0.0))] if measure.low < 0.0 else [],
    )
    return figure(plot, measure.meaning, [one.series for one in ranked])


class _Measure(NamedTuple):
    """What a capacity curve shows: of a ranking, and as the decisions reached it."""

    title: str
    meaning: str
    low: float
    ticks: Sequence[float]
    swept: Callable[[Ranked], FloatArray]
    reached: Callable[[Reached], float]


_MEASURES: Final = (
    _Measure(
        "Recall",
        "The share of frauds that so many cases a day would catch.",
        0.0,
        _UNIT,
        lambda one: one.by_rank.recall,
        lambda it: it.recall,
    ),
    _Measure(
        "Recall by value",
        "The same, each fraud weighed by its loss.",
        0.0,
        _UNIT,
        lambda one: one.by_rank.recall_by_value,
        lambda it: it.recall_by_value,
    ),
    _Measure(
        "Precision",
        "The share of frauds among the alerts of these cases.",
        0.0,
        _UNIT,
        lambda one: one.by_rank.precision,
        lambda it: it.precision,
    ),
    _Measure(
        "Savings",
        "1 less the cost over that of the better trivial policy, alerting on nothing or on everything. Below the dotted"
        " line that policy would be better.",
        -0.5,
        (-0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0),
        lambda one: one.by_rank.savings(one.review_cost),
        lambda it: it.savings,
    ),
)


def calibration(ranked: Sequence[Ranked]) -> Html:
    """Return predicted against observed shares of fraud."""
    with_probability = [one for one in ranked if one.has_probability]
    bins = {
        one.series.number: Reliability.of(one.judged.fraud, one.judged.probability.astype(np.float64), _BINS)
        for one in with_probability
    }
    drawable = [one for one in with_probability if len(bins[one.series.number])]
    if not drawable:
        return missing("There is no probability to compare with the truth.")
    positive = [v for b in bins.values() for v in (*b.predicted, *b.observed) if v > 0.0]
    low = max(min(positive, default=0.1) / 1.5, _LEAST_SHOWN)
    curves, spans, described = [], [], []
    for one in drawable:
        its = bins[one.series.number]
        x, y = np.maximum(its.predicted, low), np.maximum(its.observed, low)
        curves.append(Curve(one.series, x, y, has_markers=True))
        spans += [
            Span(one.series, (float(at), float(at)), (max(float(bottom), low), float(top)))
            for at, bottom, top in zip(x, its.low, its.high, strict=True)
        ]
        said = float(np.dot(its.predicted, its.count))
        described.append(
            f"{one.series.name}: {wording.count(said)} frauds expected, {int(its.frauds.sum()):,} observed"
        )
    plot = Plot(
        "calibration",
        "Calibration",
        f"Observed share of frauds against predicted probability. {'; '.join(described)}.",
        Axis("predicted probability", low, 1.0, wording.whole_percent, is_log=True),
        Axis("observed share of frauds", low, 1.0, wording.whole_percent, is_log=True),
        curves=curves,
        spans=spans,
        references=[Reference((low, 1.0), (low, 1.0), "exact")],
    )
    caption = (
        f"Each marker holds about a tenth of the expected frauds; its stroke is the 95 % interval. Below the dotted"
        f" line a probability is too high, above it too low. In all: {'; '.join(described)}."
    )
    return figure(plot, caption, [one.series for one in drawable])
