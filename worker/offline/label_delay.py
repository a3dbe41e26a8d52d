"""How long after its transaction a label arrives, where the data do not say when it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.identity import Hasher

_LONGEST_DAYS: Final = 36_500.0


@dataclass(frozen=True, slots=True)
class LabelDelay:
    """A constant delay, or one drawn for each transaction from a log-normal distribution.

    Attributes
    ----------
    median_days
        Half of the labels arrive sooner.
    sigma
        Standard deviation of the delay's logarithm; 0 for a constant delay.
    seed
        Another seed draws other delays.
    """

    median_days: float = 7.0
    sigma: float = 0.0
    seed: int = 0

    def draw_ms(self, transaction_id: pa.Array) -> NDArray[np.int64]:
        """Return the delay of each transaction, int64 (n,).

        It is a function of the seed and the transaction id alone: a part of a file has the delays of the whole.
        """
        if self.sigma == 0.0:
            return np.full(len(transaction_id), round(min(self.median_days, _LONGEST_DAYS) * MS_PER_DAY))
        hasher = Hasher((self.seed, 0))
        radius, angle = _uniform(hasher.entities(transaction_id)), _uniform(hasher.checks(transaction_id))
        # Two independent uniform numbers make one normal number (Box and Muller 1958).
        normal = np.sqrt(-2.0 * np.log(radius)) * np.cos(2.0 * np.pi * angle)
        with np.errstate(over="ignore"):
            days = self.median_days * np.exp(self.sigma * normal)
        return np.round(np.minimum(days, _LONGEST_DAYS) * MS_PER_DAY).astype(np.int64)


def _uniform(hashes: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Return hashes as numbers between 0 and 1, neither of them included."""
    return ((hashes >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
