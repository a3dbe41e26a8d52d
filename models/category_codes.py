"""Categories as numbers that trees can split: by how frequent a value is, or by the odds of fraud among its rows.

Ordered by frequency, all rare values lie together, and nothing is fitted to labels. The odds of fraud say far more
where a category has many values, but fitted to the very rows that trees then learn they would give the label away. So
each row takes the odds of the rows of other stretches of time (cross-fitted target statistics: Micci-Barreca 2001; cut
in time: Bergmeir and Benítez 2012): frauds come in bursts, and of those of its own days a decision knows no label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.generation import TrainingRows

_MOST_FREQUENT: Final = 62
_FEWEST_ROWS: Final = 30
"""A value of fewer rows counts as rare: what trees learn of rare ones is what they know of new ones."""
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
    values, codes : float32 (K,)
        Of each column ascending, and their numbers.
    unknown : float32 (C,)
        The number of a value that is not among them; a missing value stays missing.
    """

    columns: NDArray[np.int64]
    starts: NDArray[np.int64]
    values: NDArray[np.float32]
    codes: NDArray[np.float32]
    unknown: NDArray[np.float32]

    @classmethod
    def by_frequency(cls, rows: TrainingRows, categorical: NDArray[np.bool_]) -> CategoryCodes:
        """Give the most frequent values numbers from 0 on, and all others the next number."""
        found, unknown = [], []
        columns = np.flatnonzero(categorical)
        for column in columns:
            values, counts = np.unique(_known(rows.X[:, column]), return_counts=True)
            by_count = np.argsort(-counts, kind="stable")[:_MOST_FREQUENT]
            kept = by_count[counts[by_count] >= _FEWEST_ROWS]
            ascending = np.argsort(values[kept])
            found.append((values[kept][ascending], ascending.astype(np.float32)))
            unknown.append(len(kept))
        return cls._of(columns, found, unknown)

    @classmethod
    def by_odds(cls, rows: TrainingRows, categorical: NDArray[np.bool_]) -> CategoryCodes:
        """Give every value the log odds of fraud among its rows, shrunk towards the odds of all rows."""
        prior = _Prior.of(rows)
        found = []
        columns = np.flatnonzero(categorical)
        for column in columns:
            known = np.flatnonzero(np.isfinite(rows.X[:, column]))
            values, place = np.unique(rows.X[known, column], return_inverse=True)
            fraud_weight, legit_weight = ((rows.w * it)[known] for it in (rows.y, 1 - rows.y))
            frauds = np.bincount(place, fraud_weight, len(values)).astype(np.float64)
            legits = np.bincount(place, legit_weight, len(values)).astype(np.float64)
            found.append((values, prior.log_odds(frauds, legits)))
        return cls._of(columns, found, [prior.log_odds(np.zeros(1), np.zeros(1))[0]] * len(columns))

    @classmethod
    def _of(
        cls,
        columns: NDArray[np.int64],
        found: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
        unknown: list[Any],
    ) -> CategoryCodes:
        none = np.empty(0, np.float32)
        return cls(
            columns.astype(np.int64),
            np.cumsum([0, *(len(values) for values, _ in found)]).astype(np.int64),
            np.concatenate([none, *(values for values, _ in found)]).astype(np.float32),
            np.concatenate([none, *(codes for _, codes in found)]).astype(np.float32),
            np.array(unknown, np.float32),
        )

    def of(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return X with every category replaced by its number, float32 (n, F)."""
        if not len(self.columns):
            return X
        out = np.array(X, np.float32)
        for at, column in enumerate(self.columns):
            values = self.values[self.starts[at] : self.starts[at + 1]]
            codes = self.codes[self.starts[at] : self.starts[at + 1]]
            given = X[:, column]
            place = np.minimum(np.searchsorted(values, given), max(len(values) - 1, 0))
            known = values[place] == given if len(values) else np.zeros(len(X), np.bool_)
            number = np.where(known, codes[place], self.unknown[at]) if len(values) else self.unknown[at]
            out[:, column] = np.where(np.isfinite(given), number, np.float32(np.nan))
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays of numbers, by name."""
        return {
            "columns": self.columns,
            "starts": self.starts,
            "values": self.values,
            "codes": self.codes,
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
        read = cls(*(arrays[name] for name in ("columns", "starts", "values", "codes", "unknown")))
        count = len(read.columns)
        if (
            read.columns.dtype != np.int64
            or read.starts.dtype != np.int64
            or any(it.dtype != np.float32 for it in (read.values, read.codes, read.unknown))
            or np.any((read.columns < 0) | (read.columns >= features))
            or read.starts.shape != (count + 1,)
            or read.unknown.shape != (count,)
            or read.codes.shape != read.values.shape
            or read.starts[0] != 0
            or read.starts[-1] != len(read.values)
            or np.any(np.diff(read.starts) < 0)
            or not np.all(np.isfinite(read.codes))
        ):
            msg = "the codes of categories are of a wrong type or shape"
            raise ValueError(msg)
        return read


def odds_elsewhere(rows: TrainingRows, categorical: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the rows with each category replaced by the log odds of fraud that its value has in other stretches.

    Parameters
    ----------
    rows
        In transaction order.
    categorical : bool (F,)
    """
    prior = _Prior.of(rows)
    out = np.array(rows.X, np.float32)
    weights = rows.w * rows.y, rows.w * (1 - rows.y)
    stretch = np.arange(len(rows.y)) * _STRETCHES // max(len(rows.y), 1)
    for column in np.flatnonzero(categorical):
        known = np.flatnonzero(np.isfinite(rows.X[:, column]))
        values, place = np.unique(rows.X[known, column], return_inverse=True)
        cell = place * _STRETCHES + stretch[known]
        frauds, legits = (_sums_elsewhere(weight[known], cell, len(values)) for weight in weights)
        out[known, column] = prior.log_odds(frauds, legits)
        out[~np.isfinite(rows.X[:, column]), column] = np.nan
    return out


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


def _sums_elsewhere(weight: NDArray[np.float64], cell: NDArray[np.int64], values: int) -> NDArray[np.float64]:
    """Return the sum of the weights of each row's value in all stretches but its own."""
    sums = np.bincount(cell, weight, values * _STRETCHES).reshape(values, _STRETCHES)
    # Of whole weights the sums are exact; of others a rounding error must not become a negative sum.
    elsewhere: NDArray[np.float64] = np.maximum(sums.sum(axis=1, keepdims=True) - sums, 0.0)
    return elsewhere.ravel()[cell]


def _known(column: NDArray[np.float32]) -> NDArray[np.float32]:
    return column[np.isfinite(column)]
