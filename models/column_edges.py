"""Where boosted trees may split a column, and the numbers of the stretches between: what a fit learns from."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

_MOST_BINS: Final = 255
"""With one number for what is missing they fill a byte."""
_BLOCK: Final = 1_024
"""Rows that search together."""


class Binned(NamedTuple):
    """Rows as trees learn them.

    Attributes
    ----------
    edges : float32 (e,) each
        Where each of F columns may be split.
    codes : uint8 (F, n)
        Of each column the numbers of the stretches that the values lie in (`codes_of`).
    """

    edges: list[NDArray[np.float32]]
    codes: NDArray[np.uint8]

    @classmethod
    def of(cls, X: NDArray[np.float32]) -> Binned:
        """Draw the edges by the rows themselves, float32 (n, F); what is not finite is missing."""
        columns = np.ascontiguousarray(X.T)
        edges, codes = [split_values(column) for column in columns], np.empty(columns.shape, np.uint8)
        for at, its in enumerate(edges):
            codes[at] = codes_of(columns[at], its)
        return cls(edges, codes)


def split_values(column: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return where trees may split a column: between all its values, or between evenly many rows where it has too many.

    A value that more rows have than a stretch may hold has edges of its own, and the others are drawn for the rest of
    the rows: of a column that is mostly zero, zero would take nearly all of them.

    Rows count alike whatever their weight, so that the frauds, which are kept while legits are sampled, get a fair
    share of the edges.

    Parameters
    ----------
    column : float32 (n,)
        What is not finite is missing.

    Returns
    -------
    float32 (e,)
        Ascending, at most 254; empty where no two values differ.
    """
    distinct, counts = np.unique(column[np.isfinite(column)], return_counts=True)
    at = _evenly(counts) if len(distinct) > _MOST_BINS else np.arange(max(len(distinct) - 1, 0))
    below, above = distinct[at], distinct[at + 1]
    middle = (0.5 * (below.astype(np.float64) + above)).astype(np.float32)
    # Rounding may reach the value above, which belongs to the right.
    return np.where(middle < above, middle, below)


def _evenly(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the distinct values behind which an edge lies, of so many rows each; int64 (e,), ascending."""
    own = np.flatnonzero(counts * _MOST_BINS > counts.sum())
    around = np.unique(np.concatenate([own - 1, own]))
    if len(around) > _MOST_BINS // 2:
        around, own = around[:0], own[:0]
    rest = counts.copy()
    rest[own] = 0
    upto, stretches = np.cumsum(rest), _MOST_BINS - len(around)
    even = np.searchsorted(upto, np.arange(1, stretches) * upto[-1] // stretches)
    at = np.union1d(around, even)
    return at[(at >= 0) & (at < len(counts) - 1)]


def codes_of(column: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return the number of edges below each value, uint8 (n,); one more than that of all edges where it is missing."""
    codes = np.empty(len(column), np.uint8)
    _count_below(np.ascontiguousarray(column), edges, codes)
    return codes


@njit(cache=True, nogil=True)
def _count_below(column: NDArray[np.float32], edges: NDArray[np.float32], codes: NDArray[np.uint8]) -> None:
    # All rows of a block take each step of a binary search together. How far a row moves is read from two numbers:
    # a branch would be foreseen wrongly every other time.
    below, moves = np.empty(_BLOCK, np.uint64), np.zeros(2, np.uint64)
    for start in range(0, len(column), _BLOCK):
        its = column[start : start + _BLOCK]
        below[:] = 0
        remaining = len(edges)
        while remaining > 0:
            moves[1] = half = np.uint64((remaining + 1) // 2)
            for row in range(len(its)):
                middle = below[row] + half - np.uint64(1)
                below[row] += moves[np.uint64(edges[middle] < its[row])]
            remaining -= int(half)
        for row in range(len(its)):
            codes[start + row] = below[row] if np.isfinite(its[row]) else len(edges) + 1
