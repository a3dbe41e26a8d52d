"""Simulated transactions as numbers, without names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns

CHANNELS: Final = ("chip", "contactless", "online")
ONLINE: Final = 2

_CONTACTLESS_LIMIT: Final = 50.0
_CONTACTLESS_SHARE: Final = 0.75


@dataclass(frozen=True, slots=True)
class DrawnRows(Columns):
    """n transactions.

    Attributes
    ----------
    time_ms : int64 (n,)
    card, merchant : int32 (n,)
    amount : float64 (n,)
        In whole cents.
    channel : int8 (n,)
        Index into `CHANNELS`.
    kind : int8 (n,)
        `FraudKind`.
    """

    time_ms: NDArray[np.int64]
    card: NDArray[np.int32]
    merchant: NDArray[np.int32]
    amount: NDArray[np.float64]
    channel: NDArray[np.int8]
    kind: NDArray[np.int8]

    def in_time_order(self) -> Self:
        """Return the same rows in order of time; equal times keep their order."""
        return self.take(np.argsort(self.time_ms, kind="stable"))


def cents(amount: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round amounts to whole cents, one cent at least."""
    return np.maximum(np.round(amount, 2), 0.01)


def draw_channels(
    rng: np.random.Generator, is_online: NDArray[np.bool_], amount: NDArray[np.float64]
) -> NDArray[np.int8]:
    """Draw channels: online at online merchants; in shops, small amounts are mostly contactless."""
    contactless = (amount <= _CONTACTLESS_LIMIT) & (rng.random(amount.size) < _CONTACTLESS_SHARE)
    return np.where(is_online, ONLINE, contactless).astype(np.int8)
