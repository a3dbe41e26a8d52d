"""Intervals of a sum over days: the bootstrap draws whole days, because frauds of one day belong together."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

DRAWS: Final = 4_000
CONFIDENCE: Final = 0.95
_FEW_DAYS: Final = 8


class Interval(NamedTuple):
    """Lower and upper bound."""

    low: float
    high: float


def day_draws(days: int, seed: int, draws: int = DRAWS) -> NDArray[np.float64]:
    """Return how often each day is drawn, float64 (draws, days); the same draws for all rows pair their differences."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(days, np.full(days, 1.0 / days), size=draws).astype(np.float64)


def interval_of(by_day: NDArray[np.float64], drawn: NDArray[np.float64]) -> Interval:
    """Return the interval of a sum over days, from its bootstrap draws.

    The percentiles are those of Student's distribution and widened by sqrt(n / (n - 1)) (Hesterberg 2015, the expanded
    percentile interval): plain ones cover too little where the days are few. No draw lies beyond the best day drawn
    every time, so that of fewer than `_FEW_DAYS` the interval is Student's own wherever that is wider.

    Parameters
    ----------
    by_day : float64 (days,)
    drawn : float64 (draws,)
        Their sums as of `day_draws`.
    """
    days = len(by_day)
    if days < 2:
        return Interval(float("nan"), float("nan"))
    quantile = _student(0.5 + CONFIDENCE / 2, days - 1)
    tail = NormalDist().cdf(-quantile * np.sqrt(days / (days - 1)))
    low, high = np.quantile(drawn, [tail, 1.0 - tail])
    if days < _FEW_DAYS:
        middle, half = float(by_day.sum()), quantile * standard_error(by_day)
        low, high = min(low, middle - half), max(high, middle + half)
    return Interval(float(low), float(high))


def standard_error(by_day: NDArray[np.float64]) -> float:
    """Return the standard error of the sum over days; NaN for a single day."""
    days = len(by_day)
    return float(np.sqrt(days) * by_day.std(ddof=1)) if days > 1 else float("nan")


def _student(share: float, freedom: int) -> float:
    """Return a quantile of Student's distribution by Cornish and Fisher's expansion (Abramowitz and Stegun 26.7.5)."""
    if freedom == 1:  # Cauchy's, which the expansion does not reach
        return math.tan(math.pi * (share - 0.5))
    z = NormalDist().inv_cdf(share)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92_160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))
