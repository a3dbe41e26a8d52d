"""The course of time in a report: prevalence, threshold and savings by day or week, and the table of weeks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.offline.figures import Days, Stretch, days
from worker.offline.report import wording
from worker.offline.report.curves import Ranked
from worker.offline.report.markup import Column, Html, Table, text
from worker.offline.report.page import figure, figures, missing
from worker.offline.report.plots import FONT, NEUTRAL, Axis, Curve, Plot, Reference, Series

_MOST_DAYS: Final = 42
"""Longer stretches are drawn by week: a day has few frauds, and many days are a thicket."""
_MOST_TICKS: Final = 5
_LETTER: Final = 0.62
"""Width of a bold letter over its height."""
_FLOOR: Final = -1.0
"""Savings below it are drawn at it."""


@dataclass(frozen=True, slots=True)
class Course:
    """Figures by period; a period is a day or a week.

    Attributes
    ----------
    name
        `day` or `week`.
    start_ms : int64 (p,)
    prevalence, savings, threshold : float64 (p,)
        NaN where undefined.
    decided_by_none, decided_by_forest, decided_by_online : float64 (p,)
        Shares of the decisions.
    alerts, cases, cost_reviews, cost_missed : float64 (p,)
        A day.
    """

    name: str
    start_ms: NDArray[np.int64]
    decided_by_none: NDArray[np.float64]
    decided_by_forest: NDArray[np.float64]
    decided_by_online: NDArray[np.float64]
    alerts: NDArray[np.float64]
    cases: NDArray[np.float64]
    cost_reviews: NDArray[np.float64]
    cost_missed: NDArray[np.float64]
    prevalence: NDArray[np.float64]
    savings: NDArray[np.float64]
    threshold: NDArray[np.float64]


def course(by_day: Days) -> Course:
    """Return the course of a stretch, by week where it is long."""
    span = int(by_day.start_ms[-1] - by_day.start_ms[0]) // MS_PER_DAY + 1 if len(by_day) else 0
    length = 1 if span <= _MOST_DAYS else 7
    origin = by_day.start_ms[0] if len(by_day) else 0
    number = (by_day.start_ms - origin) // (length * MS_PER_DAY)
    slots, slot = np.unique(number, return_inverse=True)

    def total(values: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
        return np.bincount(slot, values, len(slots)).astype(np.float64)

    def share(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
        return part / np.where(whole > 0.0, whole, np.nan)

    decisions = total(by_day.decisions)
    # Of its calendar days, as in the tables: of the last slot those that have begun.
    of_days = np.minimum(length, span - slots * length)
    trivial = np.minimum(total(by_day.cost_none), total(by_day.cost_all))
    return Course(
        name="day" if length == 1 else "week",
        start_ms=origin + slots * length * MS_PER_DAY,
        decided_by_none=share(total(by_day.decided_by_none * by_day.decisions), decisions),
        decided_by_forest=share(total(by_day.decided_by_forest * by_day.decisions), decisions),
        decided_by_online=share(total(by_day.decided_by_online * by_day.decisions), decisions),
        alerts=total(by_day.alerts) / of_days,
        cases=total(by_day.cases) / of_days,
        cost_reviews=total(by_day.cost_reviews) / of_days,
        cost_missed=total(by_day.cost_missed) / of_days,
        prevalence=share(total(by_day.frauds), total(by_day.judged)),
        savings=1.0 - share(total(by_day.cost), trivial),
        threshold=np.array([_middle(by_day.threshold[slot == one]) for one in range(len(slots))]),
    )


def _middle(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else float("nan")


def over_time(
    ranked: Sequence[Ranked], threshold_label: str, threshold_note: str, others: Sequence[Html] = ()
) -> Html:
    """Return prevalence, savings and threshold by day or week.

    Parameters
    ----------
    ranked
        Decisions of one stretch.
    threshold_label, threshold_note
        What the thresholds are, in a word and in a sentence.
    others
        More figures to stand beside these.
    """
    courses = [(one.series, course(days(one.judged, one.review_cost))) for one in ranked]
    if not courses or all(len(shown.start_ms) < 2 for _, shown in courses):
        return missing("The stretch is too short for a course of time.")
    shown = [_prevalence(courses[0][1]), _savings(courses)]
    if any(np.isfinite(one.threshold).any() for _, one in courses):
        shown.append(_thresholds(courses, threshold_label, threshold_note))
    return figures([*shown, *others])


def _prevalence(shown: Course) -> Html:
    known = shown.prevalence[np.isfinite(shown.prevalence)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (float("nan"), float("nan"))
    plot = Plot(
        "course-prevalence",
        f"Prevalence by {shown.name}",
        f"Share of frauds by {shown.name}: from {wording.percent(low)} to {wording.percent(high)}.",
        time_axis(shown),
        Axis("share of frauds", 0.0, 1.1 * high if high > 0.0 else 0.01, wording.whole_percent),
        curves=[Curve(NEUTRAL, *_xy(shown, shown.prevalence), has_markers=True)],
    )
    return figure(plot, "Frauds among the transactions whose truth is known.")


def _savings(courses: Sequence[tuple[Series, Course]]) -> Html:
    shown = courses[0][1]
    curves = [
        Curve(series, *_xy(one, np.maximum(one.savings, _FLOOR)), has_markers=True) for series, one in courses
    ]
    lowest = min((float(it.y[np.isfinite(it.y)].min(initial=0.0)) for it in curves), default=0.0)
    cut = any(bool((one.savings < _FLOOR).any()) for _, one in courses)
    axis = time_axis(shown)
    plot = Plot(
        "course-savings",
        f"Savings by {shown.name}",
        f"Savings by {shown.name}, a line for each strategy.",
        axis,
        Axis("savings", min(lowest, 0.0), 1.0, wording.whole_percent),
        curves=curves,
        references=[Reference((axis.low, axis.high), (0.0, 0.0))],
    )
    caption = (
        f"1 less the cost over that of the better trivial policy of that {shown.name}, alerting on nothing or on"
        " everything."
    )
    if cut:
        caption += f" Values below {wording.whole_percent(_FLOOR)} are drawn there."
    return figure(plot, caption, [series for series, _ in courses])


def _thresholds(courses: Sequence[tuple[Series, Course]], label: str, note: str) -> Html:
    shown = courses[0][1]
    values = np.concatenate([one.threshold for _, one in courses])
    values = values[np.isfinite(values)]
    low, high = float(values.min()), float(values.max())
    is_log = low > 0.0 and high / low > 20.0
    room = 0.15 * ((high - low) or abs(high) or 1.0)
    ends = (low / 1.5, high * 1.5) if is_log else (min(0.0, low - room) if low < 0.0 else 0.0, high + room)
    plot = Plot(
        "course-threshold",
        f"Threshold by {shown.name}",
        f"Median threshold in force by {shown.name}, from {wording.threshold(low)} to {wording.threshold(high)}.",
        time_axis(shown),
        Axis(label, *ends, wording.compact, is_log=is_log),
        curves=[
            Curve(series, *_xy(one, one.threshold), has_markers=True)
            for series, one in courses
            if np.isfinite(one.threshold).any()
        ],
    )
    return figure(plot, note, [series for series, _ in courses])


def time_axis(shown: Course) -> Axis:
    """Return the axis of its time."""
    at = days_of(shown)
    low, high = float(at[0]), float(at[-1])
    step = max(math.ceil((high - low) / (_MOST_TICKS - 1)), 1)
    ticks = [low + step * i for i in range(_MOST_TICKS) if low + step * i <= high]
    room = 0.03 * (high - low) or 0.5
    return Axis("", low - room, high + room, lambda day: wording.short_date(day * MS_PER_DAY), ticks=ticks)


def _xy(shown: Course, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return days_of(shown), values


def days_of(shown: Course) -> NDArray[np.float64]:
    """Return when its periods begin, in days since 1970."""
    return shown.start_ms / MS_PER_DAY


def lines_over_time(
    name: str,
    title: str,
    shown: Course,
    y: Axis,
    lines: Sequence[tuple[str, NDArray[np.float64]]],
    references: Sequence[Reference] = (),
) -> Plot:
    """Return a plot of a few lines that are named at their ends.

    Parameters
    ----------
    name, title
        As in `Plot`.
    shown
        Its periods.
    y
        The vertical axis.
    lines
        Name and values of each.
    references
        Drawn too.
    """
    longest = max(len(label) for label, _ in lines)
    last = [
        (label, next((v for v in values[::-1].tolist() if math.isfinite(v)), math.nan))
        for label, values in lines
    ]
    return Plot(
        name,
        title,
        f"{title}. At the end: " + "; ".join(f"{label} {y.form(value)}" for label, value in last) + ".",
        time_axis(shown),
        y,
        curves=[
            Curve(Series(i, label), *_xy(shown, values), label=label, has_markers=len(values) <= _MOST_DAYS)
            for i, (label, values) in enumerate(lines)
        ],
        references=references,
        right=_LETTER * FONT * longest + 12.0,
    )


def week_table(caption: str, stretches: Sequence[tuple[Series | None, Sequence[Stretch]]]) -> Html:
    """Return the figures of each week, one strategy after the other.

    Parameters
    ----------
    caption
        What the table shows.
    stretches
        The weeks of each; without a series they have no heading.
    """
    table = Table(
        caption,
        [
            Column("week from"),
            Column("transactions"),
            Column("frauds"),
            Column("prevalence"),
            Column("alerts"),
            Column("cases a day"),
            Column("recall"),
            Column("by value", "recall, each fraud weighed by its loss"),
            Column("precision"),
            Column("reviews", "cost of the reviews"),
            Column("missed", "loss of the missed frauds"),
            Column("cost"),
            Column("savings"),
        ],
    )
    for series, its_weeks in stretches:
        if series is not None:
            table.add(text(f"{series.letter}: {series.name}"), is_group=True)
        for week in its_weeks:
            table.add(*map(text, _week(week)))
    return table.html() if table.lines else missing("There is no week to show.")


def _week(week: Stretch) -> list[str]:
    its = week.evaluation
    return [
        wording.date(week.start_ms),
        wording.count(week.decisions),
        wording.count(its.frauds),
        wording.percent(its.prevalence),
        wording.count(week.alerts),
        wording.rate(week.cases_per_day),
        wording.percent(its.recall),
        wording.percent(its.recall_by_value),
        wording.percent(its.precision),
        wording.money(its.cost_reviews),
        wording.money(its.cost_missed),
        wording.money(its.cost),
        wording.percent(its.savings),
    ]
