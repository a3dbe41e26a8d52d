"""Watches whether traffic, scores and the rate of fraud still are what they were.

What is watched becomes one number a day of event time, so that the time of day moves nothing: of a feature the mean
position of its values among the deciles of a first sample, of fraud the share of a matured day, and of the score the
share that the day's probabilities expect, which generations have in common. The first days say
how much such a number varies; then the test of Page (1954) and Hinkley (1971), of river, finds where its mean has
moved, and the days after that are the new usual ones. It informs people and decides nothing, so it is no fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY

if TYPE_CHECKING:
    from river.drift import PageHinkley

SCORE: Final = "score"
BASE_RATE: Final = "base_rate"
_SAMPLED_AT_ONCE: Final = 64
"""Rows of one commit that are looked at."""
_REFERENCE_ROWS: Final = 2_048
_DECILES: Final = np.linspace(0.1, 0.9, 9)
_FIRST_DAYS: Final = 14
_SETTLED_DAYS: Final = 28
"""So long histories of cards take to fill. Later values would all lie above the deciles of a stream's first rows."""
_DEVIATIONS: Final = 12.0
"""So far the sum of the deviations runs up before the mean counts as moved: a few days of a clear change."""
_SLACK: Final = 0.75
"""What each day's deviation is reduced by: days vary more than the first ones show."""
_LEAST_DEVIATION: Final = 0.005
"""Of a mean position: smaller moves are of no interest."""


class _Series:
    """Numbers, one a day, and whether their mean has moved."""

    def __init__(self) -> None:
        self._first: list[float] = []
        self._centre = self._deviation = 0.0
        self._test: PageHinkley | None = None

    def moves(self, value: float, least_deviation: float) -> bool:
        """Take the next number; return whether the mean has moved, and begin anew if so."""
        if self._test is None:
            self._first.append(value)
            if len(self._first) >= _FIRST_DAYS:
                self._centre, self._deviation = float(np.mean(self._first)), float(np.std(self._first))
                self._test = _page_hinkley()
                for each in self._first:
                    self._test.update(self._scaled(each, least_deviation))  # type: ignore[no-untyped-call]
            return False
        self._test.update(self._scaled(value, least_deviation))  # type: ignore[no-untyped-call]
        if not self._test.drift_detected:
            return False
        self._first, self._test = [], None
        return True

    def _scaled(self, value: float, least_deviation: float) -> float:
        return (value - self._centre) / max(self._deviation, least_deviation)


def _page_hinkley() -> PageHinkley:
    # It brings scikit-learn along, without which a start is a second shorter; `worker.live.app` imports it soon after.
    from river.drift import PageHinkley  # noqa: PLC0415

    return PageHinkley(min_instances=_FIRST_DAYS, delta=_SLACK, threshold=_DEVIATIONS, alpha=1.0)


class _Positions:
    """The daily mean position of the values of k columns among the deciles of their first rows.

    After `_SETTLED_DAYS` the next rows are the first ones, once.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._days = 0
        self._begin()

    def _begin(self) -> None:
        self._reference: list[NDArray[np.float64]] = []
        self._edges: list[NDArray[np.float64]] | None = None
        self._sum, self._rows = np.zeros(len(self._names)), 0
        self._series = [_Series() for _ in self._names]

    def add(self, values: NDArray[np.float64]) -> None:
        if self._edges is None:
            self._reference.append(values)
            if sum(map(len, self._reference)) < _REFERENCE_ROWS:
                return
            self._edges = [_edges(column) for column in np.concatenate(self._reference).T]
            self._reference.clear()
            return
        positions = [
            np.where(np.isnan(column), 0.0, (1.0 + np.searchsorted(edges, column, side="right")) / 10.0)
            for column, edges in zip(values.T, self._edges, strict=True)
        ]
        self._sum += np.sum(positions, axis=1)
        self._rows += len(values)

    def end_day(self) -> list[str]:
        """Return the names of the columns that the day has shown to have changed."""
        self._days += 1
        if self._days == _SETTLED_DAYS:
            self._begin()
        if not self._rows:
            return []
        means, self._sum, self._rows = self._sum / self._rows, np.zeros(len(self._names)), 0
        return [
            name
            for name, series, mean in zip(self._names, self._series, means.tolist(), strict=True)
            if series.moves(mean, _LEAST_DEVIATION)
        ]


class DriftWatch:
    """Watches one worker's decisions.

    Parameters
    ----------
    names
        Of the F features.
    dates
        Which of them go on with time, so that their change says nothing.
    """

    def __init__(self, names: Sequence[str], dates: Sequence[int] = ()) -> None:
        self._watched = np.setdiff1d(np.arange(len(names)), dates)
        self._features = _Positions([names[at] for at in self._watched])
        self._expected, self._scored = 0.0, 0
        self._score, self._rate = _Series(), _Series()
        self._day: int | None = None
        self._rate_day: int | None = None

    def decided(
        self, features: NDArray[np.float32], probability: NDArray[np.float32], clock_ms: int
    ) -> list[str]:
        """Take note of n decisions; return what the days that have ended since show to have changed.

        Parameters
        ----------
        features : float32 (n, F)
        probability : float32 (n,)
            NaN without an online model.
        clock_ms
            The partition's clock after them.
        """
        day, changed = clock_ms // MS_PER_DAY, []
        if self._day is not None and day > self._day:
            changed = self._features.end_day() + self._end_score()
        self._day = day if self._day is None else max(day, self._day)
        step = max(1, -(-len(features) // _SAMPLED_AT_ONCE))
        sampled = features[::step, self._watched].astype(np.float64)
        sampled[~np.isfinite(sampled)] = np.nan
        self._features.add(sampled)
        scored = probability[np.isfinite(probability)]
        self._expected += float(scored.sum(dtype=np.float64))
        self._scored += scored.size
        return changed

    def _end_score(self) -> list[str]:
        expected, scored, self._expected, self._scored = self._expected, self._scored, 0.0, 0
        return [SCORE] if scored and _share_moves(self._score, expected, scored) else []

    def matured(self, day: int, frauds: float, decided: float) -> list[str]:
        """Take note of the fraud in a day of event time whose labels are in, once; return `BASE_RATE` if it changed."""
        if not decided or (self._rate_day is not None and day <= self._rate_day):
            return []
        self._rate_day = day
        return [BASE_RATE] if _share_moves(self._rate, frauds, decided) else []


def _share_moves(series: _Series, frauds: float, of: float) -> bool:
    # The square root of a count varies by about a half, at any count: so does that of a rate, over the root.
    return series.moves(float(np.sqrt(frauds / of)), float(0.5 / np.sqrt(of)))


def _edges(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = values[~np.isnan(values)]
    return np.unique(np.quantile(known, _DECILES)) if len(known) else np.empty(0)
