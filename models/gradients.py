"""Gradients of the log loss as whole numbers, and the rows by which the splits of a boosted tree are found.

Gradients and hessians are summed as whole numbers that share 64 bits (quantized training: Shi et al. 2022): a row costs
one addition a column, and a sum depends on no order. Of many rows a tree's splits are found by a sample in which a
row's chance grows with its gradient (minimal variance sampling: Ibragimov and Gusev 2019): the many legits that a model
is sure of say little.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

WHOLE: Final = 2.0**30
"""What the gradients of all rows sum to at most, as whole numbers, and likewise the hessians."""
_LEAST_SUM: Final = 1e-200
_TURN: Final = 1 << 32
"""Steps of a full turn; a row's own is `_STEP` steps behind that of the row before it: the golden section, so that the
places of any few neighbours are spread evenly."""
_STEP: Final = 2_654_435_769
_HIGH: Final = 32
_LOW: Final = (1 << 32) - 1


class Gradients(NamedTuple):
    """Of every row, and in whole numbers that share 64 bits for those that are drawn."""

    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]
    packed: NDArray[np.int64]


class Sums(NamedTuple):
    """Of the absolute gradients and of the hessians of all rows."""

    gradients: float
    hessians: float


@njit(cache=True, nogil=True, error_model="numpy")
def set_gradients(
    logit: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64], its: Gradients
) -> Sums:
    """Fill in the gradients of the log loss."""
    gradients = hessians = 0.0
    for row in range(len(y)):
        p = 1.0 / (1.0 + math.exp(-logit[row]))
        its.gradient[row] = w[row] * (p - y[row])
        its.hessian[row] = w[row] * p * (1.0 - p)
        gradients += abs(its.gradient[row])
        hessians += its.hessian[row]
    return Sums(max(gradients, _LEAST_SUM), max(hessians, _LEAST_SUM))


@njit(cache=True, nogil=True, error_model="numpy")
def draw_rows(its: Gradients, sums: Sums, turn: float, rows: int, order: NDArray[np.uint32]) -> np.int64:
    """Draw rows, pack their gradients, each for those that it stands for, and return how many they are."""
    n = len(its.gradient)
    by_gradient, by_hessian = WHOLE / sums.gradients, WHOLE / sums.hessians
    # From this gradient on a row is certain. Where all rows may be drawn, that is any.
    certain = sums.gradients / rows if rows < n else 0.0
    steps_each, turned = _TURN * rows / sums.gradients if rows < n else np.inf, np.uint32(turn * _TURN)
    count = np.int64(0)
    # As in `_split`, a row is written whether it is drawn or not: only the count depends on it.
    for row in range(n):
        order[count] = row
        place = np.uint32(np.uint32(row) * np.uint32(_STEP) + turned)
        count += np.int64(abs(its.gradient[row]) * steps_each > np.float64(place))
    for row in order[:count]:
        stands_for = max(certain / abs(its.gradient[row]), 1.0)
        g, h = stands_for * its.gradient[row], stands_for * its.hessian[row]
        its.packed[row] = (np.int64(g * by_gradient) << _HIGH) + np.int64(h * by_hessian)
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def part(packed: np.int64, units: tuple[float, float], l2: float) -> float:
    """Return twice what rows of these sums lower the loss by, as a leaf of their own."""
    gradient = (packed >> _HIGH) * units[0]
    return gradient * gradient / ((packed & _LOW) * units[1] + l2)
