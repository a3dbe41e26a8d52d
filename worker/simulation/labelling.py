"""Labels of simulated transactions: their sources and their delays."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns
from models.vocabulary import MS_PER_DAY, LabelSource
from worker.offline.dataset import NEVER
from worker.simulation.fraud_kinds import FraudKind
from worker.simulation.traffic import Traffic


class Delay(NamedTuple):
    """A gamma distribution: its shape, and its mean in units of `Traffic.label_delay_days`."""

    shape: float
    mean: float


DELAYS: Final[Mapping[LabelSource, Delay]] = {
    LabelSource.CHARGEBACK: Delay(3.0, 1.0),
    LabelSource.EARLY_WARNING: Delay(2.0, 0.4),
    LabelSource.CUSTOMER: Delay(1.5, 0.12),
    LabelSource.ANALYST: Delay(2.0, 0.25),
}
"""A chargeback takes days to weeks; a customer who sees a stranger's payments takes hours to days."""

SOURCES: Final[Mapping[FraudKind, Mapping[LabelSource, float]]] = {
    FraudKind.NONE: {LabelSource.ANALYST: 1.0},
    FraudKind.CARD_TESTING: {LabelSource.CHARGEBACK: 0.8, LabelSource.CUSTOMER: 0.2},
    FraudKind.STOLEN_CARD: {LabelSource.CHARGEBACK: 0.4, LabelSource.CUSTOMER: 0.6},
    FraudKind.COMPROMISED_MERCHANT: {LabelSource.CHARGEBACK: 0.7, LabelSource.EARLY_WARNING: 0.3},
    FraudKind.ACCOUNT_TAKEOVER: {LabelSource.CHARGEBACK: 0.5, LabelSource.CUSTOMER: 0.5},
}
"""Share of each source in the labels of each kind."""


@dataclass(frozen=True, slots=True)
class DrawnLabels(Columns):
    """The labels of n transactions, one each.

    Attributes
    ----------
    time_ms : int64 (n,)
        When the label becomes known, epoch milliseconds; `dataset.NEVER` without a label.
    source : uint8 (n,)
        `LabelSource`; `NONE` without a label.
    """

    time_ms: NDArray[np.int64]
    source: NDArray[np.uint8]


def draw_labels(
    kind: NDArray[np.int8], time_ms: NDArray[np.int64], traffic: Traffic, rng: np.random.Generator
) -> DrawnLabels:
    """Draw a label for every fraud and for a share of the legitimate transactions."""
    chance = rng.random(kind.size)
    source = np.full(kind.size, LabelSource.NONE, np.uint8)
    for fraud, shares in SOURCES.items():
        rows = np.flatnonzero(kind == fraud)
        bounds = np.cumsum([*shares.values()])[:-1]
        source[rows] = np.array([*shares], np.uint8)[np.searchsorted(bounds, chance[rows], side="right")]
    # All labels of legitimate transactions have one source, so their chance is free to choose the labelled ones.
    silent = (kind == FraudKind.NONE) & (chance >= traffic.legit_labels)
    source[silent] = LabelSource.NONE
    known_ms = np.full(kind.size, NEVER)
    for each, delay in DELAYS.items():
        rows = np.flatnonzero(source == each)
        mean_ms = delay.mean * traffic.label_delay_days * MS_PER_DAY
        drawn_ms = rng.standard_gamma(delay.shape, rows.size) * (mean_ms / delay.shape)
        known_ms[rows] = time_ms[rows] + drawn_ms.astype(np.int64)
    return DrawnLabels(known_ms, source)
