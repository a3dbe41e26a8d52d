"""Gradients of the log loss as whole numbers, and the rows by which the splits of a boosted tree are found.

Gradients and hessians are summed as whole numbers that share 64 bits (quantized training: Shi et al. 2022): a row costs
one addition a column, and a sum depends on no order. Of many rows a tree's splits are found by a sample in which a
row's chance grows with its gradient (minimal variance sampling: Ibragimov and Gusev 2019): the many legits that a model
is sure of say little.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import branchless_sigmoid

WHOLE: Final = 2.0**30
"""What the absolute gradients of all rows sum to as whole numbers, and likewise the hessians.

Of drawn rows, each counted for those that it stands for, it is the sum in the mean: there is room for twice as much of
gradients, and for four times as much of hessians.
"""
_LEAST_SUM: Final = 1e-200
_TURN: Final = 1 << 32
"""How many places there are on a circle, on which each row has its own."""
_STEP: Final = 2_654_435_769
"""How far a row's place is from that of the row before it: the golden section of a turn, which spreads neighbours."""
_HIGH: Final = 32
_LOW: Final = (1 << 32) - 1


class Gradients(NamedTuple):
    """The gradients of n rows.

    Attributes
    ----------
    gradient, hessian : float64 (n,)
        First and second derivative of the loss by the logit, weighted.
    packed : int64 (n,)
        Of the drawn rows, in their order, both as whole numbers, the hessian in the low 32 bits, each for the rows that
        its own stands for. The places behind them hold nothing.
    """

    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]
    packed: NDArray[np.int64]


class Sums(NamedTuple):
    """Of the absolute gradients and of the hessians of all rows; above zero."""

    gradients: float
    hessians: float


@njit(cache=True, nogil=True, error_model="numpy")
def set_gradients(
    logit: NDArray[np.float64], y: NDArray[np.float64], w: NDArray[np.float64], its: Gradients
) -> Sums:
    """Fill in gradients and hessians of the log loss by the rows' logits, labels and weights, and return their sums."""
    # The sums are taken apart: their order is fixed, so that the processor could not work on several rows at once.
    for row in range(len(y)):
        p = branchless_sigmoid(logit[row])
        its.gradient[row] = w[row] * (p - y[row])
        its.hessian[row] = w[row] * p * (1.0 - p)
    gradients = hessians = 0.0
    for row in range(len(y)):
        gradients += abs(its.gradient[row])
        hessians += its.hessian[row]
    return Sums(max(gradients, _LEAST_SUM), max(hessians, _LEAST_SUM))


@njit(cache=True, nogil=True, error_model="numpy")
def draw_rows(its: Gradients, sums: Sums, turn: float, rows: int, order: NDArray[np.uint32]) -> np.int64:
    """Draw rows, pack their gradients, and return how many they are.

    Parameters
    ----------
    its, sums
        As `set_gradients` leaves them; this fills `packed`.
    turn
        From 0 to below 1: by how much all places are turned.
    rows
        How many are drawn in the mean, at most; from n on all are that have a gradient.
    order : uint32 (n,)
        Takes the rows drawn, ascending.
    """
    n = len(its.gradient)
    by_gradient, by_hessian = WHOLE / sums.gradients, WHOLE / sums.hessians
    # From this gradient on a row is certain. Where all rows may be drawn, that is any.
    certain = sums.gradients / rows if rows < n else 0.0
    steps_each, turned = _TURN * rows / sums.gradients if rows < n else np.inf, np.uint32(turn * _TURN)
    count = np.int64(0)
    # As where `models.growing` splits, a row is written whether it is drawn or not: only the count depends on it.
    for row in range(n):
        order[count] = row
        place = np.uint32(np.uint32(row) * np.uint32(_STEP) + turned)
        count += np.int64(abs(its.gradient[row]) * steps_each > np.float64(place))
    for at in range(count):
        row = order[at]
        stands_for = max(certain / abs(its.gradient[row]), 1.0)
        g, h = stands_for * its.gradient[row], stands_for * its.hessian[row]
        its.packed[at] = (np.int64(g * by_gradient) << _HIGH) + np.int64(h * by_hessian)
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def gradient_of(packed: np.int64) -> float:
    """Return a sum of gradients as a whole number."""
    return np.float64(packed >> _HIGH)


@njit(cache=True, nogil=True, error_model="numpy")
def hessian_of(packed: np.int64) -> float:
    """Return a sum of hessians as a whole number."""
    return np.float64(packed & _LOW)
