"""Compiled folds of the online model: one weight per main bin and per pair of cross bins, in a fixed order.

Shapes: n rows, F features, B main bins, C cross bins; the first K features are crossed, P = K (K - 1) / 2
pairs in the order (0, 1), (0, 2), ..., (K - 2, K - 1). Sums run in that order, so a logit is the same number
wherever it is computed.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import sigmoid

GRADIENT_LIMIT: Final = 1e12
"""River's own limit: no gradient is larger, whatever the weight of its example."""


class Tables(NamedTuple):
    """Weights and AdaGrad accumulators, changed in place by `learn` and by nothing else."""

    intercept: NDArray[np.float64]
    """Shape (1,)."""
    main_weights: NDArray[np.float64]
    """Shape (F, B), as are its squares."""
    main_squares: NDArray[np.float64]
    cross_weights: NDArray[np.float64]
    """Shape (P, C, C), as are its squares."""
    cross_squares: NDArray[np.float64]


class Means(NamedTuple):
    """The weighted mean weight of every table over a generation's first rows: what reasons refer to."""

    main: NDArray[np.float64]
    """Shape (F,)."""
    cross: NDArray[np.float64]
    """Shape (P,)."""


class Rates(NamedTuple):
    """Learning rates, and the weight of a fraud in the loss."""

    main: float
    cross: float
    intercept: float
    fraud_weight: float


def zero_tables(intercept: float, features: int, crossed: int, main_bins: int, cross_bins: int) -> Tables:
    """Tables of an untaught model: all zero but the intercept."""
    main = (features, main_bins)
    cross = (crossed * (crossed - 1) // 2, cross_bins, cross_bins)
    return Tables(np.array([intercept]), np.zeros(main), np.zeros(main), np.zeros(cross), np.zeros(cross))


@njit(cache=True, nogil=True)
def _logit(
    main: NDArray[np.uint8], cross: NDArray[np.uint8], row: int, crossed: int, tables: Tables
) -> float:
    total = tables.intercept[0]
    pair = 0
    for i in range(main.shape[1]):
        part = tables.main_weights[i, main[row, i]]
        for j in range(i + 1, crossed):
            part += tables.cross_weights[pair, cross[row, i], cross[row, j]]
            pair += 1
        total += part
    return float(total)


@njit(cache=True, nogil=True)
def score(
    main: NDArray[np.uint8], cross: NDArray[np.uint8], crossed: int, tables: Tables
) -> NDArray[np.float64]:
    """Raw logits of shape (n,)."""
    out = np.empty(main.shape[0])
    for row in range(main.shape[0]):
        out[row] = _logit(main, cross, row, crossed, tables)
    return out


@njit(cache=True, nogil=True)
def learn(
    main: NDArray[np.uint8],
    cross: NDArray[np.uint8],
    y: NDArray[np.uint8],
    w: NDArray[np.float64],
    crossed: int,
    rates: Rates,
    tables: Tables,
) -> None:
    """One AdaGrad step per row, in row order (Duchi, Hazan and Singer 2011; accumulators start at 1)."""
    main_weights, main_squares = tables.main_weights, tables.main_squares
    cross_weights, cross_squares = tables.cross_weights, tables.cross_squares
    for row in range(main.shape[0]):
        z = _logit(main, cross, row, crossed, tables)
        slope = -rates.fraud_weight * sigmoid(-z) if y[row] else sigmoid(z)
        gradient = min(max(slope * w[row], -GRADIENT_LIMIT), GRADIENT_LIMIT)
        square = gradient * gradient
        main_step = rates.main * gradient
        cross_step = rates.cross * gradient
        tables.intercept[0] -= rates.intercept * gradient
        pair = 0
        for i in range(main.shape[1]):
            at = main[row, i]
            main_squares[i, at] += square
            main_weights[i, at] -= main_step / np.sqrt(main_squares[i, at] + 1.0)
            for j in range(i + 1, crossed):
                a, b = cross[row, i], cross[row, j]
                cross_squares[pair, a, b] += square
                cross_weights[pair, a, b] -= cross_step / np.sqrt(cross_squares[pair, a, b] + 1.0)
                pair += 1


@njit(cache=True, nogil=True)
def mean_weights(
    main: NDArray[np.uint8],
    cross: NDArray[np.uint8],
    w: NDArray[np.float64],
    crossed: int,
    tables: Tables,
) -> Means:
    """Return the weighted mean of each table's weight over the rows; zeros without any weight."""
    means = Means(np.zeros(tables.main_weights.shape[0]), np.zeros(tables.cross_weights.shape[0]))
    total = np.sum(w)
    if total == 0.0:
        return means
    for row in range(main.shape[0]):
        share = w[row] / total
        pair = 0
        for i in range(main.shape[1]):
            means.main[i] += share * tables.main_weights[i, main[row, i]]
            for j in range(i + 1, crossed):
                means.cross[pair] += share * tables.cross_weights[pair, cross[row, i], cross[row, j]]
                pair += 1
    return means


@njit(cache=True, nogil=True)
def contributions(
    main: NDArray[np.uint8], cross: NDArray[np.uint8], crossed: int, tables: Tables, means: Means
) -> NDArray[np.float64]:
    """Each feature's own deviation from the mean and half of that of its crosses, of shape (n, F)."""
    out = np.empty(main.shape)
    for row in range(main.shape[0]):
        for i in range(main.shape[1]):
            out[row, i] = tables.main_weights[i, main[row, i]] - means.main[i]
        pair = 0
        for i in range(crossed):
            for j in range(i + 1, crossed):
                weight = tables.cross_weights[pair, cross[row, i], cross[row, j]]
                half = 0.5 * (weight - means.cross[pair])
                out[row, i] += half
                out[row, j] += half
                pair += 1
    return out
