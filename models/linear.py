"""A ridge logistic regression from which boosted trees may start: what is linear, they need not learn step by step.

Where frauds are few, a sum of a few hundred steps is a poor likeness of a slope. Columns are put on one scale, and far
values are cut, so that none decides alone; what is missing counts as the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.boosting import log_odds
from models.threshold import log_loss, probabilities

_MOST_DEVIATIONS: Final = 4.0
"""A value further from the mean counts as one that is so far."""
_TAIL: Final = 0.001
"""The share of the lowest and of the highest values whose size does not count for the scale."""
_LEAST_SPREAD: Final = 1e-12
_PENALTY: Final = 10.0
_MOST_WORK: Final = 5e8
"""Rows times squared columns of one step: where there are more, some of either class are left out."""
_OF_THE_INTERCEPT: Final = 1e-6
"""A penalty that is none, but lets the intercept be found where one class is absent."""
_STEPS: Final = 30
_CONVERGED: Final = 1e-8


@dataclass(frozen=True, slots=True)
class LinearStart:
    """A slope for each of the first K columns.

    Attributes
    ----------
    mean, spread : float64 (K,)
        Of each column; a spread is above 0.
    slope : float64 (K,)
        What one spread above the mean adds to the logit.
    """

    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    slope: NDArray[np.float64]

    @classmethod
    def fit(
        cls, X: NDArray[np.float32], y: NDArray[np.uint8], w: NDArray[np.float64], seed: int
    ) -> tuple[Self, float]:
        """Fit by Newton's method, and return the intercept too.

        Parameters
        ----------
        X : float32 (n, K)
            What is not finite is missing.
        y : uint8 (n,)
            1 for fraud.
        w : float64 (n,)
            Sampling weights.
        seed
            Chooses the rows, where there are too many.
        """
        most = int(_MOST_WORK / max(X.shape[1], 1) ** 2)
        if len(y) > most:
            chosen, each = _sample(y, most, np.random.default_rng(seed))
            X, y, w = X[chosen], y[chosen], w[chosen] * each
        mean, spread = _scale(X, w)
        start = cls(mean, spread, np.zeros(X.shape[1]))
        Z = np.column_stack([start._scaled(X), np.ones(len(y))])
        theta = _newton(Z, y, w)
        return cls(mean, spread, theta[:-1]), float(theta[-1])

    def score(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what the columns add to the logit, float64 (n,), in their order: in every worker alike."""
        out = np.zeros(len(X))
        _add_slopes(np.ascontiguousarray(X), self.mean, self.spread, self.slope, out)
        return out

    def contributions(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each column adds, float64 (n, X.shape[1])."""
        out = np.zeros(X.shape)
        out[:, : len(self.slope)] = self._scaled(X[:, : len(self.slope)]) * self.slope
        return out

    def _scaled(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            Z = (X.astype(np.float64) - self.mean) / self.spread
        Z[~np.isfinite(X)] = 0.0
        return np.clip(Z, -_MOST_DEVIATIONS, _MOST_DEVIATIONS)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays of numbers, by name."""
        return {"mean": self.mean, "spread": self.spread, "slope": self.slope}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], features: int) -> Self:
        """Restore what `arrays` returned; raises KeyError or ValueError where it cannot be that."""
        read = cls(arrays["mean"], arrays["spread"], arrays["slope"])
        its = (read.mean, read.spread, read.slope)
        if (
            any(it.dtype != np.float64 or it.shape != (features,) for it in its)
            or not all(np.all(np.isfinite(it)) for it in its)
            or np.any(read.spread <= 0.0)
        ):
            msg = "the slopes of a linear start are of a wrong type or shape"
            raise ValueError(msg)
        return read


def _sample(
    y: NDArray[np.uint8], most: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Choose rows, ascending, and return how many each stands for.

    Legits are kept as often as `most` is of all rows, frauds all, but at most half of `most`.
    """
    frauds, legits = np.flatnonzero(y == 1), np.flatnonzero(y == 0)
    kept_legits = legits[rng.random(len(legits)) < most / len(y)]
    kept_frauds = (
        frauds if 2 * len(frauds) <= most else frauds[rng.random(len(frauds)) < most / 2 / len(frauds)]
    )
    chosen = np.sort(np.concatenate([kept_frauds, kept_legits]))
    of_fraud, of_legit = len(frauds) / max(len(kept_frauds), 1), len(legits) / max(len(kept_legits), 1)
    return chosen, np.where(y[chosen] == 1, of_fraud, of_legit)


def _scale(X: NDArray[np.float32], w: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and spread of each column without its tails; of what is nearly always one value, with them."""
    mean, spread = np.zeros(X.shape[1]), np.ones(X.shape[1])
    for column in range(X.shape[1]):
        known = np.isfinite(X[:, column]) & (w > 0.0)
        if not known.any():
            continue
        value, weight = X[known, column].astype(np.float64), w[known]
        low = np.quantile(value, _TAIL, method="higher")
        high = np.quantile(value, 1.0 - _TAIL, method="lower")
        if low < high:
            value = np.clip(value, low, high)
        mean[column] = np.average(value, weights=weight)
        its = np.sqrt(np.average((value - mean[column]) ** 2, weights=weight))
        if its > _LEAST_SPREAD * max(abs(mean[column]), 1.0):
            spread[column] = its
    return mean, spread


def _newton(Z: NDArray[np.float64], y: NDArray[np.uint8], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the slopes and the intercept; a step that would raise the penalised loss is halved until it does not."""
    penalty = np.full(Z.shape[1], _PENALTY)
    penalty[-1] = _OF_THE_INTERCEPT

    def loss(theta: NDArray[np.float64]) -> float:
        z = Z @ theta
        return float(w @ log_loss(z, y) + 0.5 * penalty @ theta**2)

    theta = np.zeros(Z.shape[1])
    theta[-1] = log_odds(y, w)
    least = loss(theta)
    for _ in range(_STEPS):
        p = probabilities(Z @ theta)
        gradient = Z.T @ (w * (p - y)) + penalty * theta
        hessian = (Z * (w * p * (1.0 - p))[:, None]).T @ Z + np.diag(penalty)
        step = np.linalg.solve(hessian, gradient)
        while (found := loss(theta - step)) > least and np.abs(step).max() > _CONVERGED:
            step = step / 2.0
        if found > least:
            break
        theta, least = theta - step, found
        if np.abs(step).max() <= _CONVERGED:
            break
    return theta


@njit(cache=True, nogil=True, error_model="numpy")
def _add_slopes(
    X: NDArray[np.float32],
    mean: NDArray[np.float64],
    spread: NDArray[np.float64],
    slope: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    for row in range(len(out)):
        total = 0.0
        for column in range(len(slope)):
            value = X[row, column]
            if np.isfinite(value):
                z = (np.float64(value) - mean[column]) / spread[column]
                total += slope[column] * min(max(z, -_MOST_DEVIATIONS), _MOST_DEVIATIONS)
        out[row] += total
