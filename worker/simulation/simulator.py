"""The whole simulation: it draws numbers, and gives them names in a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.errors import SettingsError
from worker.offline.dataset import Dataset
from worker.settings.fields import TransactionFields
from worker.simulation.fraud_kinds import FraudKind
from worker.simulation.frauds import draw_frauds
from worker.simulation.honest import honest_traffic
from worker.simulation.labelling import DrawnLabels, draw_labels
from worker.simulation.rows import CHANNELS, DrawnRows
from worker.simulation.traffic import Traffic
from worker.simulation.world import COUNTRIES, World

FIELDS: Final = TransactionFields(
    entities=("merchant_id",), categorical=("channel", "country"), numeric=("distance_km",)
)
"""Fields of the simulated transactions; a worker that decides on them has these as `[transaction]`."""


def simulate(traffic: Traffic) -> Dataset:
    """Return the traffic with its truth, under the names of `FIELDS`."""
    return Simulation.of(traffic).dataset()


@dataclass(frozen=True, slots=True)
class Simulation:
    """A world and its transactions.

    Attributes
    ----------
    traffic
        The parameters.
    world
        Cards and merchants.
    rows
        The transactions, in order of time.
    labels
        Their labels.
    """

    traffic: Traffic
    world: World
    rows: DrawnRows
    labels: DrawnLabels

    @classmethod
    def of(cls, traffic: Traffic) -> Self:
        """Draw the world, its honest traffic, its frauds and its labels.

        Raises
        ------
        SettingsError
            There is no transaction, or no fraud although the prevalence is not 0.
        """
        # Each part has a generator of its own, so that a change to one leaves the others as they are.
        world_rng, honest_rng, fraud_rng, label_rng = (
            np.random.default_rng(seed) for seed in np.random.SeedSequence(traffic.seed).spawn(4)
        )
        world = World.drawn(traffic, world_rng)
        honest = honest_traffic(world, traffic, honest_rng)
        fraud = draw_frauds(world, honest, traffic, fraud_rng)
        rows = DrawnRows.concatenate([honest, *fraud]).in_time_order()
        _require_frauds(traffic, len(rows), len(rows) - len(honest))
        return cls(traffic, world, rows, draw_labels(rows.kind, rows.time_ms, traffic, label_rng))

    def __len__(self) -> int:
        return len(self.rows)

    def counts(self) -> dict[FraudKind, int]:
        """Return how many transactions there are of each kind."""
        counts = np.bincount(self.rows.kind, minlength=len(FraudKind)).tolist()
        return dict(zip(FraudKind, counts, strict=True))

    def dataset(self, chosen: NDArray[np.int64] | slice = slice(None)) -> Dataset:
        """Return those transactions with their truth, under the names of `FIELDS`."""
        rows, labels = self.rows.take(chosen), self.labels.take(chosen)
        number = np.arange(len(self))[chosen]
        countries = pa.array(COUNTRIES).take(pa.array(self.world.country[rows.merchant]))
        return Dataset(
            fields=FIELDS,
            transaction_id=_names(f"t{self.traffic.seed}-{self.traffic.start_ms // MS_PER_DAY}", number),
            card_id=_names("card", rows.card),
            event_time_ms=rows.time_ms,
            amount=rows.amount,
            currency=None,
            entities={"merchant_id": _names("merchant", rows.merchant)},
            numeric={"distance_km": self.world.distance_km(rows.card, rows.merchant)},
            categorical={"channel": pa.array(CHANNELS).take(pa.array(rows.channel)), "country": countries},
            is_fraud=rows.kind != FraudKind.NONE,
            label_time_ms=labels.time_ms,
            label_source=labels.source,
        )


def _require_frauds(traffic: Traffic, transactions: int, fraud: int) -> None:
    more = "with --cards, --days or --per-card-day"
    if transactions == 0:
        raise SettingsError(
            f"--cards = {traffic.cards}, --days = {traffic.days} and --per-card-day = {traffic.per_card_day:g} make no "
            f"transaction at all: make more {more}"
        )
    if traffic.prevalence > 0 and fraud == 0:
        raise SettingsError(
            f"--prevalence = {traffic.prevalence:g} of {transactions:,} transactions is no fraud at all: raise it, or "
            f"make {0.5 / traffic.prevalence:,.0f} or more {more}"
        )


def _names(prefix: str, numbers: NDArray[np.int64] | NDArray[np.int32]) -> pa.StringArray:
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width=7, padding="0")
    return pc.binary_join_element_wise(prefix, digits, "-")
