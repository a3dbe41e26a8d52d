"""Compiled scoring and learning of the online model: a weight per main bin, and per pair of cross bins.

Shapes: n rows, F features, B main bins, C cross bins. The first K features are crossed: P = K (K - 1) / 2 pairs in the
order (0, 1), (0, 2), ..., (K - 2, K - 1). All sums run in that order, row by row: a sum of floats depends on its order,
and a logit must be the same number in every worker. Besides additions, multiplications and divisions the loops use
`np.sqrt`, which IEEE 754 rounds alike everywhere, and the plain `sigmoid`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import sigmoid

GRADIENT_LIMIT: Final = 1e12
"""River's own limit: no gradient is larger, however great the weight of its example."""


class Tables(NamedTuple):
    """Weights and AdaGrad accumulators; `learn` alone changes them, in place.

    Attributes
    ----------
    intercept : float64 (1,)
    main_weights, main_squares : float64 (F, B)
    cross_weights, cross_squares : float64 (P, C, C)
    """

    intercept: NDArray[np.float64]
    main_weights: NDArray[np.float64]
    main_squares: NDArray[np.float64]
    cross_weights: NDArray[np.float64]
    cross_squares: NDArray[np.float64]


class Means(NamedTuple):
    """The weighted mean weight of every table over a generation's first rows, to which reasons refer.

    Attributes
    ----------
    main : float64 (F,)
    cross : float64 (P,)
    """

    main: NDArray[np.float64]
    cross: NDArray[np.float64]


class Rates(NamedTuple):
    """Learning rates, and the weight of a fraud in the loss."""

    main: float
    cross: float
    intercept: float
    fraud_weight: float


def zero_tables(intercept: float, features: int, crossed: int, main_bins: int, cross_bins: int) -> Tables:
    """Return the tables of a model that has learnt nothing: all zero but the intercept."""
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
    """Return the raw logits, float64 (n,)."""
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
) -> NDArray[np.float64]:
    """Take one AdaGrad step per row, in row order (Duchi, Hazan and Singer 2011).

    It returns the raw logits that the rows had before they were learnt, float64 (n,).

    Accumulators start at 1, which is added under the root. The intercept takes a plain step, as river's does.
    """
    main_weights, main_squares = tables.main_weights, tables.main_squares
    cross_weights, cross_squares = tables.cross_weights, tables.cross_squares
    before = np.empty(main.shape[0])
    for row in range(main.shape[0]):
        z = before[row] = _logit(main, cross, row, crossed, tables)
        # sigmoid(-z), not 1 - sigmoid(z): no digits cancel where the model is sure.
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
    return before


@njit(cache=True, nogil=True)
def mean_weights(
    main: NDArray[np.uint8],
    cross: NDArray[np.uint8],
    w: NDArray[np.float64],
    crossed: int,
    tables: Tables,
) -> Means:
    """Return the weighted mean of each table's weight over the rows; zeros if no row has weight."""
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
    """Return each feature's own deviation from its mean and half of that of its crosses, float64 (n, F)."""
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
