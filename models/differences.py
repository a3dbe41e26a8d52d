"""Differences of two columns, for trees to split beside the columns themselves.

An account that a payment empties, a price close to a limit: where two columns have one unit, how far they are apart may
say more than either. Trees that split one column at a time follow such a line in steps, and each step costs frauds that
are few. A split of a difference follows it at once (an oblique split of two columns: Murthy, Kasif and Salzberg 1994).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_MOST_COLUMNS: Final = 8
"""Of so many columns, where there are more those that matter most, each is taken from each: 28 differences."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Which columns are taken from which.

    Attributes
    ----------
    pairs : int16 (D, 2)
        Of the features: the first less the second.
    """

    pairs: NDArray[np.int16]

    @classmethod
    def among(cls, order: NDArray[np.int16], given: NDArray[np.bool_]) -> Differences:
        """Pair the first columns that are given: what is computed of a history is set against it already.

        Parameters
        ----------
        order : int16 (F,)
            Columns, those first that matter most.
        given : bool (F,)
            Which are numbers as the transaction has them.
        """
        numbers = np.sort(order[given[order]][:_MOST_COLUMNS])
        return cls(np.array(list(combinations(numbers, 2)), np.int16).reshape(-1, 2))

    def of(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the differences, float32 (n, D); missing where either column is."""
        with np.errstate(invalid="ignore", over="ignore"):
            return X[:, self.pairs[:, 0]] - X[:, self.pairs[:, 1]]

    def beside(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return X with the differences behind all columns, float32 (n, F + D)."""
        return np.column_stack([X, self.of(X)])

    def summed(self, parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the parts of all columns as those of the columns without differences: each has half of these."""
        columns = parts.shape[1] - len(self.pairs)
        out = parts[:, :columns].copy()
        for at, pair in enumerate(self.pairs):
            out[:, pair] += 0.5 * parts[:, columns + at, None]
        return out

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays of numbers, by name."""
        return {"pairs": self.pairs}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], features: int) -> Differences:
        """Restore what `arrays` returned; raises KeyError or ValueError where it cannot be that."""
        pairs = arrays["pairs"]
        if (
            pairs.dtype != np.int16
            or pairs.ndim != 2
            or pairs.shape[1] != 2
            or np.any((pairs < 0) | (pairs >= features))
            or np.any(pairs[:, 0] >= pairs[:, 1])
            or len(np.unique(pairs, axis=0)) < len(pairs)
        ):
            msg = "the pairs of columns are of a wrong type or shape, or name a column that is not there"
            raise ValueError(msg)
        return cls(pairs)
