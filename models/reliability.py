"""Whether probabilities mean what they say: how often fraud came true in each bin of probability."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.arrays import BoolArray, FloatArray, IntArray
from models.columns import Columns
from models.evaluation import last_of_equals

_Z: Final = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True, slots=True)
class Reliability(Columns):
    """The b bins of a probability, ascending.

    Attributes
    ----------
    predicted : float64 (b,)
        Mean probability.
    observed, low, high : float64 (b,)
        Share of frauds, and its 95 % interval (Wilson 1927).
    count, frauds : int64 (b,)
        Rows, and the frauds among them.
    """

    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    count: NDArray[np.int64]
    frauds: NDArray[np.int64]

    @classmethod
    def of(cls, fraud: BoolArray, probability: FloatArray, most: int) -> Reliability:
        """Compare n probabilities with the truth.

        Bins of equal numbers of rows would all lie near zero where frauds are rare. These hold about equally many
        expected frauds each, so that all are about equally certain.

        Parameters
        ----------
        fraud : bool (n,)
        probability : float64 (n,)
            Rows that have none (NaN) are left out.
        most
            How many bins at most. Rows of one probability share a bin.
        """
        use = np.isfinite(probability)
        order = np.argsort(probability[use], kind="stable")
        truth, ranked = fraud[use][order], probability[use][order].astype(np.float64)
        first, count = _bins(ranked, most)
        frauds = np.add.reduceat(truth.astype(np.int64), first) if len(first) else np.zeros(0, np.int64)
        expected = np.add.reduceat(ranked, first) if len(first) else np.zeros(0)
        low, high = wilson_interval(frauds, count)
        return cls(expected / count, frauds / count, low, high, count, frauds)


def wilson_interval(frauds: IntArray, rows: IntArray) -> tuple[FloatArray, FloatArray]:
    """Return the 95 % intervals of shares, each of at least one row (Wilson 1927)."""
    share, z2 = frauds / rows, _Z * _Z / rows
    centre = share + z2 / 2.0
    spread = _Z * np.sqrt(share * (1.0 - share) / rows + z2 / (4.0 * rows))
    low, high = (centre - spread) / (1.0 + z2), (centre + spread) / (1.0 + z2)
    # Exactly 0 and 1 at the ends, which rounding misses.
    return np.where(frauds == 0, 0.0, low), np.where(frauds == rows, 1.0, high)


def _bins(ranked: FloatArray, most: int) -> tuple[IntArray, IntArray]:
    """Return the first row of each bin, and how many rows it has."""
    if len(ranked) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    last = last_of_equals(ranked)
    expected = np.cumsum(ranked)[last]
    # A run of equal probabilities belongs where its last row falls.
    share = expected / expected[-1] if expected[-1] > 0.0 else np.ones(len(last))
    number = np.clip(np.ceil(share * most - 1e-9), 1, most)
    stop = last[np.append(number[1:] != number[:-1], True)] + 1
    first = np.concatenate([[0], stop[:-1]])
    return first, stop - first
