"""How much of tables and of trees: fitted to logits of rows that neither has learnt (stacking: Wolpert 1992)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.blend import Mix
from models.threshold import Calibration

_PULL: Final = 200.0
"""The prior of the mix counts for so many frauds, and fades out as more come."""


def fit_mix(
    tables: NDArray[np.float64],
    trees: NDArray[np.float64] | None,
    fraud: NDArray[np.bool_],
    w: NDArray[np.float64],
) -> tuple[Mix, Calibration]:
    """Fit the weights of two logits and an intercept by weighted log loss; no weight is negative.

    A Gaussian prior pulls towards the plain mean of the two with intercept 0; it counts for some 200 frauds and fades.

    Parameters
    ----------
    tables, trees : float64 (n,)
        Logits of rows that neither has learnt; None for no trees.
    fraud : bool (n,)
    w : float64 (n,)
        Sampling weights.

    Returns
    -------
    mix
        The weights.
    calibration
        Slope 1 and the intercept.
    """
    ones = np.ones(len(w))
    X = np.column_stack([tables, 0.0 * ones if trees is None else trees, ones])
    free = np.array([True, trees is not None, True])
    theta = _newton(X, fraud, w, free)
    for at in (0, 1):
        if theta[at] < 0.0:
            free[at] = False
            theta = _newton(X, fraud, w, free)
    return Mix(float(max(theta[0], 0.0)), float(max(theta[1], 0.0))), Calibration(1.0, float(theta[2]))


def _newton(
    X: NDArray[np.float64], fraud: NDArray[np.bool_], w: NDArray[np.float64], free: NDArray[np.bool_]
) -> NDArray[np.float64]:
    centre = np.where(free, 1.0 / max(int(np.count_nonzero(free[:2])), 1), 0.0)
    centre[2] = 0.0
    frauds = float(np.dot(w, fraud))
    pull = np.array([1.0, 1.0, 0.1]) * max(0.5, 20.0 * (1.0 - frauds / _PULL))
    theta = centre.copy()
    for _ in range(50):
        z = np.clip(X @ theta, -30.0, 30.0)
        p = 1.0 / (1.0 + np.exp(-z))
        gradient = X.T @ (w * (p - fraud)) + pull * (theta - centre)
        hessian = (X * (w * p * (1.0 - p))[:, None]).T @ X + np.diag(pull)
        step = np.zeros(3)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        largest = np.abs(step).max()
        theta = theta - step * min(1.0, 1.0 / max(largest, 1e-12))
        if largest < 1e-9:
            break
    return theta


def blended_logit(
    tables: NDArray[np.float64], trees: NDArray[np.float64] | None, mix: Mix, calibration: Calibration
) -> NDArray[np.float64]:
    """Return the logits as the mix would use them, float64 (n,); `trees` is None for no trees."""
    return mix.tables * tables + (0.0 if trees is None else mix.trees * trees) + calibration.intercept
