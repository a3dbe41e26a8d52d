"""The weights of the two logits of a blend, and an offset: they follow the verdicts from one search to the next.

A search weighs tables and trees by days weeks ago. When fraud changes overnight, trees go on with what was, while the
tables learn what is: as verdicts show it, the weights move to the better of the two. It is a
logistic regression of three parameters in Newton steps, whose information fades (recursive estimation with a forgetting
factor: Ljung and Söderström 1983). The logits are those of the decision: by the time of a late verdict the tables have
learnt what came beside it, and of a burst of frauds would seem to have known each but the first.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import exp
from models.arrays import FloatArray
from models.threshold import probabilities

REMEMBERED: Final = 1_000.0
"""The most verdicts that count, each by p (1 - p): they hold at least as many expected frauds."""
_LEAST: Final = 10.0
"""Weights that hardly any verdict stands behind are held as if so many did."""
_RIDGE: Final = 1.0
_MOST_FORGOTTEN: Final = 0.5
"""By one verdict, whatever its weight."""


def information_of(
    tables: FloatArray,
    trees: FloatArray,
    w: FloatArray,
    weights: FloatArray,
    link: FloatArray,
    certainty: float,
) -> FloatArray:
    """Return the information of so many verdicts on such rows, float64 (3, 3).

    Parameters
    ----------
    tables, trees : float64 (n,)
        Logits of some rows that are like those to come.
    w : float64 (n,)
        Sampling weights.
    weights : float64 (3,)
        In force.
    link : float64 (2,)
        Slope and intercept of the calibration.
    certainty
        How many verdicts the weights were fitted to, each counted by p (1 - p).
    """
    X = np.column_stack([tables, trees, np.ones(len(w))])
    p = probabilities(link[0] * (X @ weights) + link[1])
    each = w * p * (1.0 - p)
    information = (X * (each * link[0] ** 2)[:, None]).T @ X / max(float(each.sum()), 1e-12)
    return np.asarray(min(max(certainty, _LEAST), REMEMBERED) * information, np.float64)


@njit(cache=True, nogil=True)
def follow(
    tables: FloatArray,
    trees: FloatArray,
    y: NDArray[np.uint8],
    w: FloatArray,
    link: FloatArray,
    weights: FloatArray,
    information: FloatArray,
) -> None:
    """Move the weights by one verdict after the other; no weight of a logit becomes negative.

    Parameters
    ----------
    tables, trees : float64 (n,)
        Logits as of the decisions.
    y, w : (n,)
        Verdicts and their weights.
    link : float64 (2,)
        Slope and intercept of the calibration: the weights aim at a logit that is right once it is calibrated.
    weights : float64 (3,)
        Of the logit of the tables, of that of the trees, and the offset; changed.
    information : float64 (3, 3)
        The Hessian of the remembered verdicts' log loss; changed.
    """
    theta, H = weights, information
    x = np.ones(3)
    for i in range(len(y)):
        x[0], x[1] = tables[i], trees[i]
        z = link[0] * (theta[0] * x[0] + theta[1] * x[1] + theta[2]) + link[1]
        p = 1.0 / (1.0 + exp(-min(max(z, -30.0), 30.0)))
        curvature = w[i] * p * (1.0 - p)
        kept = 1.0 - min(curvature / REMEMBERED, _MOST_FORGOTTEN)
        for j in range(3):
            for k in range(3):
                H[j, k] = kept * H[j, k] + curvature * link[0] * link[0] * x[j] * x[k]
        a, b, c = H[0, 0] + _RIDGE, H[1, 1] + _RIDGE, H[2, 2] + _RIDGE
        d, e, f = H[0, 1], H[0, 2], H[1, 2]
        # The inverse of a symmetric matrix by its cofactors.
        aa, bb, cc = b * c - f * f, a * c - e * e, a * b - d * d
        ab, ac, bc = e * f - d * c, d * f - b * e, d * e - a * f
        step = link[0] * w[i] * (y[i] - p) / (a * aa + d * ab + e * ac)
        t0 = theta[0] + step * (aa * x[0] + ab * x[1] + ac)
        t1 = theta[1] + step * (ab * x[0] + bb * x[1] + bc)
        t2 = theta[2] + step * (ac * x[0] + bc * x[1] + cc)
        # Where a weight would be negative, the others go to where the loss is least with that weight at 0.
        u0, u1, u2 = t0, t1, t2
        if t1 < 0.0:
            u0, u1, u2 = t0 - t1 * ab / bb, 0.0, t2 - t1 * bc / bb
        elif t0 < 0.0:
            u0, u1, u2 = 0.0, t1 - t0 * ab / aa, t2 - t0 * ac / aa
        if u0 < 0.0 or u1 < 0.0:
            u0, u1, u2 = 0.0, 0.0, t2 + (e * t0 + f * t1) / c
        theta[0], theta[1], theta[2] = u0, u1, u2
