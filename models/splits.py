"""The best split of a leaf, by the sums of the gradients of its rows in the bins of each column.

`models.growing` compiles these functions into its own: see `models.gradients` on what that means for compiled code that
is kept.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.gradients import gradient_of, hessian_of

_MOST_CELLS: Final = 256
"""Of a column."""
_MORE: Final = 1.0 + 1e-12
"""By which factor a split has to be better: rounding is none."""


class Split(NamedTuple):
    """Where a leaf is split: rows of at most this code in the column at this place go left, and missing ones may.

    The gain is twice what the loss falls by, in units of the whole numbers; 0 where no split lowers it.
    """

    gain: float
    slot: int
    code: int
    missing_left: bool


@njit(cache=True, nogil=True, error_model="numpy")
def best_split(sums: NDArray[np.int64], starts: NDArray[np.uint64], penalty: float, enough: float) -> Split:
    """Return the split that lowers the loss most.

    Of equals it is the first: the columns in their order, of each first all codes with missing values on the right.
    Rows of gradient g and hessian h, as a leaf of their own, lower it by half of g * g / (h + penalty).

    Parameters
    ----------
    sums : int64 (cells,)
        Packed gradients by cell, column by column; the last cell of each column is for missing values.
    starts : uint64 (S + 1,)
        Where the cells of each column begin, and the end.
    penalty, enough
        Added to the sum of hessians of each side, above 0; and how much that sum has to be at least. In units of the
        whole numbers.
    """
    packed = sums[: starts[1]].sum()
    whole, hessian = gradient_of(packed), hessian_of(packed)
    least = best = whole * whole / (hessian + penalty)
    at_slot, at_code, at_missing_left = 0, 0, False
    upto = np.empty(_MOST_CELLS, np.int64)
    for slot in range(len(starts) - 1):
        begin, missing = int(starts[slot]), int(starts[slot + 1]) - 1
        missing_ways = 2 if sums[missing] != 0 else 1
        # The last cell may be split off only from what is missing.
        cells = missing - begin + missing_ways - 2
        _add_up(sums[begin:missing], upto[:cells])
        for missing_left in range(missing_ways):
            beside = missing_left * sums[missing]
            # All splits of a column are asked at once whether one is better, and few columns have one.
            if not _has_better(upto[:cells], beside, whole, hessian, penalty, enough, best):
                continue
            for cell in range(cells):
                found, both = _worth(upto[cell] + beside, whole, hessian, penalty, enough)
                if found > best * both * _MORE:
                    best = found / both
                    at_slot, at_code, at_missing_left = slot, cell, missing_left == 1
    return Split(best - least, at_slot, at_code, at_missing_left)


@njit(cache=True, nogil=True, error_model="numpy")
def _add_up(sums: NDArray[np.int64], upto: NDArray[np.int64]) -> None:
    """Fill in the sums up to and with each cell."""
    total = np.int64(0)
    for cell in range(len(upto)):
        total += sums[cell]
        upto[cell] = total


@njit(cache=True, nogil=True, error_model="numpy")
def _has_better(
    upto: NDArray[np.int64],
    beside: np.int64,
    whole: float,
    hessian: float,
    penalty: float,
    enough: float,
    best: float,
) -> bool:
    """Return whether any split of a column, missing values on one side, is better than the best: without a branch."""
    better = 0
    for cell in range(len(upto)):
        found, both = _worth(upto[cell] + beside, whole, hessian, penalty, enough)
        better |= found > best * both * _MORE
    return better != 0


@njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _worth(
    packed: np.int64, whole: float, hessian: float, penalty: float, enough: float
) -> tuple[float, float]:
    """Return the sum of g * g / (h + penalty) over both sides as a fraction: to divide takes longer than the rest.

    It is 0 where the hessians of a side are not enough.
    """
    left, left_h = gradient_of(packed), hessian_of(packed)
    right, right_h = whole - left, hessian - left_h
    is_enough = np.float64(min(left_h, right_h) >= enough)
    left_h += penalty
    right_h += penalty
    return is_enough * (left * left * right_h + right * right * left_h), left_h * right_h
