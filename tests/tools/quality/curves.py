"""Figures of resampled days, and the paired interval of a difference.

The days of an evaluation are resampled with replacement; a day that is drawn twice counts twice. Both sides of a
comparison see the same draws, so that what both find hard on a day cancels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Weights = NDArray[np.float64]
"""How often each of D days counts in each of B draws, float64 (B, D)."""
Figure = Callable[[Weights], NDArray[np.float64]]
"""Returns a figure of each draw, float64 (B,)."""

DRAWS: Final = 1_000
MOST_STEPS: Final = 8_192
"""Steps of a resampled curve: beyond it, neighbouring ones are joined; the measured figures are exact."""
_BLOCK: Final = 100


@dataclass(frozen=True, slots=True)
class DayCurves:
    """What a ranking catches at each of G thresholds, day by day.

    Attributes
    ----------
    caught, alerted : float32 (G, D)
        Frauds, and rows, at or above each threshold, the highest first.
    """

    caught: NDArray[np.float32]
    alerted: NDArray[np.float32]

    @classmethod
    def of(cls, fraud: NDArray[np.bool_], score: NDArray[np.float64], day: NDArray[np.int64]) -> DayCurves:
        """Count n ranked rows.

        Parameters
        ----------
        fraud : bool (n,)
        score : float64 (n,)
        day : int64 (n,)
            From 0 on, without gaps.
        """
        days = int(day.max()) + 1 if day.size else 0
        order = np.argsort(-score, kind="stable")
        ranked, is_fraud = score[order], fraud[order]
        # Precision counts where recall grows: a step ends with the rows that tie with a fraud.
        new = np.append(True, ranked[1:] != ranked[:-1])[: ranked.size]
        group: NDArray[np.int64] = np.cumsum(new) - 1
        has_fraud = np.bincount(group, weights=is_fraud, minlength=1) > 0
        step_of_group: NDArray[np.int64] = np.cumsum(has_fraud) - has_fraud
        steps = int(has_fraud.sum())
        step: NDArray[np.int64] = step_of_group[group]
        inside = step < steps
        if steps > MOST_STEPS:
            step = step * MOST_STEPS // steps
            steps = MOST_STEPS
        cell = step[inside] * days + day[order][inside]
        counts = [np.bincount(cell, weights=it, minlength=steps * days) for it in (is_fraud[inside], None)]
        caught, alerted = (np.cumsum(it.reshape(steps, days), axis=0, dtype=np.float32) for it in counts)
        return cls(caught, alerted)

    def joined(self, steps: int) -> DayCurves:
        """Return the curves with so many steps at most; neighbouring ones are joined."""
        ends = np.unique(np.arange(1, steps + 1) * len(self.caught) // steps)
        last = ends[ends > 0] - 1
        return DayCurves(self.caught[last], self.alerted[last])

    def average_precision(self, weights: Weights) -> NDArray[np.float64]:
        """Return the average precision of each draw; NaN without a fraud."""
        out = np.full(len(weights), np.nan)
        for first in range(0, len(weights), _BLOCK):
            block = weights[first : first + _BLOCK].T.astype(np.float32)
            caught = (self.caught @ block).astype(np.float64)
            alerted = (self.alerted @ block).astype(np.float64)
            if not len(caught):
                continue
            gained = np.diff(caught, axis=0, prepend=0.0)
            precision = np.divide(caught, alerted, out=np.zeros_like(caught), where=alerted > 0)
            total = caught[-1]
            area = (gained * precision).sum(axis=0)
            out[first : first + _BLOCK] = np.divide(
                area, total, out=np.full_like(total, np.nan), where=total > 0
            )
        return out


@dataclass(frozen=True, slots=True)
class DayCosts:
    """What decisions cost, day by day.

    Attributes
    ----------
    decided, nothing, everything : float64 (D,)
        Costs as decided, of alerting on nothing, and on everything.
    """

    decided: NDArray[np.float64]
    nothing: NDArray[np.float64]
    everything: NDArray[np.float64]

    def savings(self, weights: Weights) -> NDArray[np.float64]:
        """Return 1 less the cost over that of the cheaper trivial policy, of each draw; NaN where that is 0."""
        best = np.minimum(weights @ self.nothing, weights @ self.everything)
        share = np.divide(weights @ self.decided, best, out=np.full(len(best), np.nan), where=best > 0)
        return np.asarray(1.0 - share, np.float64)


class Interval(NamedTuple):
    """A difference, and the bounds that hold it with 95 %."""

    difference: float
    low: float
    high: float


def once(days: int) -> Weights:
    """Return the draw in which each day counts once."""
    return np.ones((1, days))


def paired_interval(
    pairs: Sequence[tuple[Figure, Figure, int]],
    seed: int = 0,
    draws: int = DRAWS,
    *,
    same_days: bool = False,
) -> Interval:
    """Return the mean difference of pairs of figures with its interval: percentiles over resampled days.

    Parameters
    ----------
    pairs
        For each seed of a stream both figures and the number of its days.
    seed
        Of the draws.
    draws
        How many.
    same_days
        Whether the seeds share their days, and so the draws; otherwise they are resampled apart.
    """
    rng = np.random.default_rng(seed)
    measured, resampled = [], []
    for one, other, days in pairs:
        if same_days:
            rng = np.random.default_rng(seed)
        measured.append(float((one(once(days)) - other(once(days)))[0]))
        weights = rng.multinomial(days, np.full(days, 1.0 / days), size=draws).astype(np.float64)
        resampled.append(one(weights) - other(weights))
    differences = np.mean(resampled, axis=0)
    low, high = (
        np.nanpercentile(differences, [2.5, 97.5]) if np.isfinite(differences).any() else (np.nan, np.nan)
    )
    return Interval(float(np.mean(measured)), float(low), float(high))
