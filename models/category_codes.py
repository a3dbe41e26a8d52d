"""Categories as two numbers that trees can split: the odds of fraud among the rows of a value, and its rank.

The odds say most where a category has many values, but fitted to the very rows that trees then learn they would give
the label away. So each row takes the odds of the rows of other stretches of time (cross-fitted target statistics:
Micci-Barreca 2001; cut in time: Bergmeir and Benítez 2012): frauds come in bursts, and of those of its own days a
decision knows no label. The rank by frequency looks at no label, and puts all rare values together. Which of the
two serves depends on the stream; trees that have both are within noise of the better one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.bins import read_only
from models.generation import TrainingRows

_MOST_FREQUENT: Final = 62
_FEWEST_ROWS: Final = 30
"""A value of fewer rows counts as rare: what trees learn of rare ones is what they know of new ones."""
_FEWEST_EXPECTED: Final = 8.0
_GREW_TIMES: Final = 4
"""A value has grown where recent traffic makes one expect so many rows, and so many times as many as there are."""
_MOST_VALUES: Final = 20_000
"""So many of a column are told apart, those that say the most: they are part of the generation's record."""
_PRIOR_ROWS: Final = 20.0
"""The prior odds count for so many rows."""
_STRETCHES: Final = 5
"""Into so many the rows are cut in time, of equally many rows each."""


@dataclass(frozen=True, slots=True)
class CategoryCodes:
    """A number for every known value of C categorical columns.

    Attributes
    ----------
    columns : int64 (C,)
        Of the features.
    starts : int64 (C + 1,)
        Where the values of each column begin.
    values : float32 (K,)
        Of each column ascending.
    numbers : float32 (K, 2)
        Log odds of fraud, and rank, of each value; `_typical` ones of a value that has become frequent since.
    unknown : float32 (C, 2)
        The numbers of a value that is not among them; a missing value stays missing.
    """

    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    values: NDArray[np.float32]
    numbers: NDArray[np.float32]
    unknown: NDArray[np.float32]

    @classmethod
    def of_rows(
        cls, rows: TrainingRows, categorical: NDArray[np.bool_], recent: NDArray[np.float32] | None = None
    ) -> CategoryCodes:
        """Give every value the log odds of fraud among its rows, shrunk towards the odds of all rows, and a rank.

        The most frequent values have the ranks from 0 on, and all others the next one.

        Parameters
        ----------
        rows
            What trees learn; their labels are known, so that they end days ago.
        categorical : bool (F,)
            Which columns are categories.
        recent : float32 (n, F)
            Features of the traffic of now. A value that is frequent there and rare among the rows counts as a value of
            most rows: it is a new version of an app rather than one of the odd values that frauds come with.
        """
        prior, columns = _Prior.of(rows), np.flatnonzero(categorical)
        values: list[NDArray[np.float32]] = [np.empty(0, np.float32)]
        numbers: list[NDArray[np.float32]] = [np.empty((0, 2), np.float32)]
        unknown = np.empty((len(columns), 2), np.float32)
        for at, column in enumerate(columns):
            filled = np.flatnonzero(np.isfinite(rows.X[:, column]))
            its, place, counts = np.unique(rows.X[filled, column], return_inverse=True, return_counts=True)
            frauds, legits = (_sums(place, weight[filled], len(its)) for weight in _weights(rows))
            ranks, next_rank = _ranks(counts)
            odds, of_none = prior.log_odds(frauds, legits), prior.log_odds(np.zeros(1), np.zeros(1))[0]
            # What is not kept has the odds of a value that was never seen: the fewer rows that moves, and the less. One
            # with a rank of its own stays.
            moved = np.where(ranks < next_rank, np.inf, counts * np.abs(odds - of_none))
            kept = np.sort(np.argsort(-moved, kind="stable")[:_MOST_VALUES])
            grown = _grown(its, counts, None if recent is None else recent[:, column])
            its_numbers = np.column_stack([odds, ranks])
            of_all = prior.log_odds(frauds.sum(keepdims=True), legits.sum(keepdims=True))
            typical = _typical(its_numbers, counts, float(of_all[0]), has_gaps=len(filled) < len(rows.y))
            its_values, its_numbers = _with_grown(its[kept], its_numbers[kept], grown, typical)
            values.append(its_values)
            numbers.append(its_numbers)
            unknown[at] = of_none, next_rank
        starts = np.cumsum([0, *(len(its) for its in values[1:])])
        return cls(columns, starts, np.concatenate(values), np.concatenate(numbers), unknown)

    def of(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return X with the odds in place of every category, and the ranks behind all columns; float32 (n, F + C)."""
        if not len(self.columns):
            return X
        if X.ndim != 2 or X.shape[1] <= self.columns[-1]:
            msg = f"expected a category in column {self.columns[-1]}, got an array of shape {X.shape}"
            raise ValueError(msg)
        out = np.empty((len(X), X.shape[1] + len(self.columns)), np.float32)
        out[:, : X.shape[1]] = X
        values, numbers, unknown = read_only(self.values), read_only(self.numbers), read_only(self.unknown)
        _look_up(read_only(self.columns), read_only(self.starts), values, numbers, unknown, out)
        return out

    def summed(self, parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the parts of all columns as those of the features, float64 (n, F): a category has those of both."""
        features = parts.shape[1] - len(self.columns)
        out = parts[:, :features].copy()
        out[:, self.columns] += parts[:, features:]
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays of numbers, by name."""
        return {
            "columns": self.columns,
            "starts": self.starts,
            "values": self.values,
            "numbers": self.numbers,
            "unknown": self.unknown,
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], features: int) -> CategoryCodes:
        """Restore what `arrays` returned.

        Raises
        ------
        KeyError
            An array is absent.
        ValueError
            An array has another type or shape, or names a column that is not there.
        """
        read = cls(*(arrays[name] for name in ("columns", "starts", "values", "numbers", "unknown")))
        count = len(read.columns)
        if (
            read.columns.dtype != np.int64
            or read.starts.dtype != np.int64
            or any(it.dtype != np.float32 for it in (read.values, read.numbers, read.unknown))
            or read.columns.ndim != 1
            or np.any((read.columns < 0) | (read.columns >= features))
            or np.any(np.diff(read.columns) <= 0)
            or read.starts.shape != (count + 1,)
            or read.unknown.shape != (count, 2)
            or read.values.ndim != 1
            or read.numbers.shape != (len(read.values), 2)
            or read.starts[0] != 0
            or read.starts[-1] != len(read.values)
            or np.any(read.starts[1:] < read.starts[:-1])
            or np.any(np.isinf(read.numbers))
            or not np.all(np.isfinite(read.unknown))
        ):
            msg = "the codes of categories are of a wrong type or shape"
            raise ValueError(msg)
        return read


def odds_elsewhere(rows: TrainingRows, columns: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the log odds of fraud that each row's value has in other stretches of time.

    Parameters
    ----------
    rows
        In transaction order.
    columns : int64 (C,)
        The categorical ones.

    Returns
    -------
    float32 (n, C)
        NaN for a missing value.
    """
    prior = _Prior.of(rows)
    out = np.full((len(rows.y), len(columns)), np.nan, np.float32)
    stretch = np.arange(len(rows.y)) * _STRETCHES // max(len(rows.y), 1)
    for at, column in enumerate(columns):
        known = np.flatnonzero(np.isfinite(rows.X[:, column]))
        values, place = np.unique(rows.X[known, column], return_inverse=True)
        cell = place * _STRETCHES + stretch[known]
        frauds, legits = (_sums_elsewhere(weight[known], cell, len(values)) for weight in _weights(rows))
        out[known, at] = prior.log_odds(frauds, legits)
    return out


def _weights(rows: TrainingRows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the weights of the rows as frauds and as legits."""
    return rows.w * rows.y, rows.w * (1 - rows.y)


def _ranks(counts: NDArray[np.int64]) -> tuple[NDArray[np.float32], int]:
    """Return the rank of each value, and the one that rare and unknown values share."""
    by_count = np.argsort(-counts, kind="stable")[:_MOST_FREQUENT]
    kept = by_count[counts[by_count] >= _FEWEST_ROWS]
    ranks = np.full(len(counts), len(kept), np.float32)
    ranks[kept] = np.arange(len(kept))
    return ranks, len(kept)


def _grown(
    before: NDArray[np.float32], counts: NDArray[np.int64], recent: NDArray[np.float32] | None
) -> NDArray[np.float32]:
    """Return the values that are frequent in recent traffic and were rare before, by share too, ascending.

    Parameters
    ----------
    before : float32 (k,)
        The values of the rows, ascending.
    counts : int64 (k,)
        Of how many rows each is.
    recent : float32 (n,) or None
        Of recent traffic.
    """
    if recent is None:
        return np.empty(0, np.float32)
    values, now = np.unique(recent[np.isfinite(recent)], return_counts=True)
    then = np.zeros(len(values), np.int64)
    _, at_before, at_now = np.intersect1d(before, values, assume_unique=True, return_indices=True)
    then[at_now] = counts[at_before]
    # Of fewer rows than of recent decisions a value that has always been there has few as well.
    expected = now * (counts.sum() / max(int(now.sum()), 1))
    has_grown = (expected >= _FEWEST_EXPECTED) & (then * _GREW_TIMES < expected)
    return np.asarray(values[(now >= _FEWEST_ROWS) & (then < _FEWEST_ROWS) & has_grown], np.float32)


def _typical(
    numbers: NDArray[np.float32], counts: NDArray[np.int64], odds: float, *, has_gaps: bool
) -> NDArray[np.float32]:
    """Return the numbers of a value of which nothing is known but that many rows have it, float32 (2,).

    NaN where no row has a gap: at each split it then goes with most rows. Trees that know gaps send NaN where these
    belong, and an empty field may say much: there it has the odds of all rows that have a value, and their median rank.

    Parameters
    ----------
    numbers : float32 (k, 2)
        Of the values of the rows.
    counts : int64 (k,)
        Of how many rows each is.
    odds
        The log odds of all rows that have a value.
    has_gaps
        Whether other rows have none.
    """
    if not has_gaps or not len(counts):
        return np.full(2, np.nan, np.float32)
    by_rank = np.argsort(numbers[:, 1], kind="stable")
    median = by_rank[np.searchsorted(np.cumsum(counts[by_rank]), counts.sum() / 2.0)]
    return np.array([odds, numbers[median, 1]], np.float32)


def _with_grown(
    values: NDArray[np.float32],
    numbers: NDArray[np.float32],
    grown: NDArray[np.float32],
    typical: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return ascending values and their numbers with those that have grown, which all have the same numbers."""
    every = np.union1d(values, grown)
    out = np.empty((len(every), numbers.shape[1]), np.float32)
    out[np.searchsorted(every, values)] = numbers
    out[np.searchsorted(every, grown)] = typical
    return every, out


@dataclass(frozen=True, slots=True)
class _Prior:
    """The weights of frauds and legits that every value begins with."""

    frauds: float
    legits: float

    @classmethod
    def of(cls, rows: TrainingRows) -> _Prior:
        share = float(np.clip(np.average(rows.y, weights=rows.w), 1e-7, 1.0 - 1e-7))
        return cls(_PRIOR_ROWS * share, _PRIOR_ROWS * (1.0 - share))

    def log_odds(self, frauds: NDArray[np.float64], legits: NDArray[np.float64]) -> NDArray[np.float32]:
        return (np.log(frauds + self.frauds) - np.log(legits + self.legits)).astype(np.float32)


def _sums(place: NDArray[np.int64], weight: NDArray[np.float64], places: int) -> NDArray[np.float64]:
    # Of no weights at all the sums are whole numbers.
    return np.bincount(place, weight, places).astype(np.float64)


def _sums_elsewhere(weight: NDArray[np.float64], cell: NDArray[np.int64], values: int) -> NDArray[np.float64]:
    """Return the sum of the weights of each row's value in all stretches but its own."""
    sums = _sums(cell, weight, values * _STRETCHES).reshape(values, _STRETCHES)
    # Of whole weights the sums are exact; of others a rounding error must not become a negative sum.
    elsewhere: NDArray[np.float64] = np.maximum(sums.sum(axis=1, keepdims=True) - sums, 0.0)
    return elsewhere.ravel()[cell]


@njit(cache=True, nogil=True)
def _look_up(
    columns: NDArray[np.int64],
    starts: NDArray[np.int64],
    values: NDArray[np.float32],
    numbers: NDArray[np.float32],
    unknown: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None:
    """Replace the categories by their first numbers, and write the second ones behind all features."""
    features = out.shape[1] - len(columns)
    for at in range(len(columns)):
        column, begin, end = columns[at], starts[at], starts[at + 1]
        for row in range(len(out)):
            value = out[row, column]
            low, high = begin, end
            while low < high:
                middle = (low + high) // 2
                if values[middle] < value:
                    low = middle + 1
                else:
                    high = middle
            if not np.isfinite(value):
                out[row, column] = out[row, features + at] = np.nan
            elif low < end and values[low] == value:
                out[row, column], out[row, features + at] = numbers[low, 0], numbers[low, 1]
            else:
                out[row, column], out[row, features + at] = unknown[at, 0], unknown[at, 1]
