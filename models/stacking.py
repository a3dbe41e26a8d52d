"""How much of tables and of trees: fitted to logits of rows that neither has learnt (stacking: Wolpert 1992)."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.blend import LEAST_WEIGHT, Mix
from models.threshold import Calibration, log_loss, probabilities

_PULL: Final = 200.0
"""The prior of the mix counts for so many frauds, and fades out as more come."""
_STEPS: Final = 50
_LONGEST_STEP: Final = 1.0
_CONVERGED: Final = 1e-9


def fit_mix(
    tables: NDArray[np.float64],
    trees: NDArray[np.float64] | None,
    fraud: NDArray[np.bool_],
    w: NDArray[np.float64],
) -> tuple[Mix, Calibration]:
    """Fit the weights of two logits, a slope and an intercept by weighted log loss; no weight is negative.

    The weights sum to 1: how far the logits go is the slope of the calibration. What a search says of it varies with
    the frauds of three weeks, and must not change how decisions of one generation rank among those of another.
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
        The weights; both are 0 where neither logit says anything.
    calibration
        Slope and intercept.
    """
    ones = np.ones(len(w))
    X = np.column_stack([tables, 0.0 * ones if trees is None else trees, ones])
    free = np.array([True, trees is not None, True])
    theta = _newton(X, fraud, w, free)
    while (theta[:2] < 0.0).any():
        # The first of them alone: without it the other may be worth something. Fixed ones are 0.
        free[int(np.flatnonzero(theta[:2] < 0.0)[0])] = False
        theta = _newton(X, fraud, w, free)
    weights, intercept = np.maximum(theta[:2], 0.0), float(theta[2])
    slope = float(weights.sum())
    if slope < LEAST_WEIGHT:
        return Mix(0.0, 0.0), Calibration(1.0, intercept)
    return Mix(*(weights / slope).tolist()), Calibration(slope, intercept)


def _newton(
    X: NDArray[np.float64], fraud: NDArray[np.bool_], w: NDArray[np.float64], free: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the two slopes and the intercept; a step that would raise the penalised loss is halved until not."""
    centre = np.where(free, 1.0 / max(int(np.count_nonzero(free[:2])), 1), 0.0)
    centre[2] = 0.0
    frauds = float(np.dot(w, fraud))
    pull = np.array([1.0, 1.0, 0.1]) * max(0.5, 20.0 * (1.0 - frauds / _PULL))

    def loss(theta: NDArray[np.float64]) -> float:
        return float(w @ log_loss(X @ theta, fraud.astype(np.float64)) + 0.5 * pull @ (theta - centre) ** 2)

    theta = centre.copy()
    least = loss(theta)
    for _ in range(_STEPS):
        p = probabilities(X @ theta)
        gradient = X.T @ (w * (p - fraud)) + pull * (theta - centre)
        hessian = (X * (w * p * (1.0 - p))[:, None]).T @ X + np.diag(pull)
        step = np.zeros(3)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        step *= min(1.0, _LONGEST_STEP / max(np.abs(step).max(), _CONVERGED))
        # Where the logits are sure of themselves and mean nothing, whole steps go back and forth for ever.
        while (found := loss(theta - step)) > least and np.abs(step).max() > _CONVERGED:
            step /= 2.0
        if found > least:
            break
        theta, least = theta - step, found
        if np.abs(step).max() <= _CONVERGED:
            break
    return theta


def blended_logit(
    tables: NDArray[np.float64], trees: NDArray[np.float64] | None, mix: Mix, calibration: Calibration
) -> NDArray[np.float64]:
    """Return the calibrated logits of a mix, float64 (n,); `trees` is None for no trees."""
    blended = mix.tables * tables + (0.0 if trees is None else mix.trees * trees)
    return calibration.slope * blended + calibration.intercept
