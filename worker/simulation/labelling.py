"""Who finds out what a transaction was, and when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns
from models.vocabulary import MS_PER_DAY
from worker.offline.dataset import NEVER
from worker.simulation.fraud_kinds import FraudKind
from worker.simulation.traffic import Traffic
from worker.wire.schema import LabelSource


class Delay(NamedTuple):
    """Gamma distributed: its shape, and its mean in units of `Traffic.label_delay_days`."""

    shape: float
    mean: float


DELAYS: Final[Mapping[LabelSource, Delay]] = {
    LabelSource.CHARGEBACK: Delay(3.0, 1.0),
    LabelSource.EARLY_WARNING: Delay(2.0, 0.4),
    LabelSource.CUSTOMER: Delay(1.5, 0.12),
    LabelSource.ANALYST: Delay(2.0, 0.25),
}
"""Days to weeks for a chargeback, hours to days for a customer who sees a stranger's payments."""

SOURCES: Final[Mapping[FraudKind, Mapping[LabelSource, float]]] = {
    FraudKind.NONE: {LabelSource.ANALYST: 1.0},
    FraudKind.CARD_TESTING: {LabelSource.CHARGEBACK: 0.8, LabelSource.CUSTOMER: 0.2},
    FraudKind.STOLEN_CARD: {LabelSource.CHARGEBACK: 0.4, LabelSource.CUSTOMER: 0.6},
    FraudKind.COMPROMISED_MERCHANT: {LabelSource.CHARGEBACK: 0.7, LabelSource.EARLY_WARNING: 0.3},
    FraudKind.ACCOUNT_TAKEOVER: {LabelSource.CHARGEBACK: 0.5, LabelSource.CUSTOMER: 0.5},
}
"""Share of each source in the labels of a kind."""


@dataclass(frozen=True, slots=True)
class DrawnLabels(Columns):
    """The labels of n transactions, one each.

    Attributes
    ----------
    time_ms : int64 [n]
        When, `dataset.NEVER` where it does not.
    source : uint8 [n]
        `LabelSource`; `NONE` where nobody says anything.
    """

    time_ms: NDArray[np.int64]
    source: NDArray[np.uint8]


def draw_labels(
    kind: NDArray[np.int8], time_ms: NDArray[np.int64], traffic: Traffic, rng: np.random.Generator
) -> DrawnLabels:
    """Draw who says what the transactions were, and when: of every fraud, of some legitimate ones."""
    chance = rng.random(kind.size)
    source = np.full(kind.size, LabelSource.NONE, np.uint8)
    for each, shares in SOURCES.items():
        rows = np.flatnonzero(kind == each)
        bounds = np.cumsum([*shares.values()])[:-1]
        source[rows] = np.array([*shares], np.uint8)[np.searchsorted(bounds, chance[rows], side="right")]
    silent = (kind == FraudKind.NONE) & (chance >= traffic.legit_labels)
    source[silent] = LabelSource.NONE
    told_ms = np.full(kind.size, NEVER)
    for who, delay in DELAYS.items():
        rows = np.flatnonzero(source == who)
        mean_ms = delay.mean * traffic.label_delay_days * MS_PER_DAY
        drawn_ms = rng.standard_gamma(delay.shape, rows.size) * (mean_ms / delay.shape)
        told_ms[rows] = time_ms[rows] + drawn_ms.astype(np.int64)
    return DrawnLabels(told_ms, source)
