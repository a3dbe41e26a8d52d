"""The records that tests send: simulated transactions and their labels."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from models.vocabulary import LabelKind
from worker.offline.dataset import Dataset
from worker.offline.replay import label_values, transaction_values
from worker.settings.fields import LabelFields
from worker.simulation import Traffic, simulate


class InputRecord(NamedTuple):
    """One record to send; `topic` is `transactions` or `labels`."""

    topic: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


Coordinates = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass
class Fed:
    """What was sent: ids of the good transactions, coordinates of the records that cannot be used, the good labels.

    Of a label: the transaction that it names, when it became known, and what it says.
    """

    transaction_ids: set[str] = field(default_factory=set)
    dead: Counter[Coordinates] = field(default_factory=Counter)
    labels: list[tuple[str, int, str]] = field(default_factory=list)


def small_traffic(seed: int = 7, days: int = 6, cards: int = 400, per_card_day: float = 4.0) -> Dataset:
    """Simulate about `cards * days * per_card_day` transactions, 4 % fraud, labelled half a day later."""
    return simulate(
        Traffic(
            cards=cards,
            merchants=60,
            days=days,
            per_card_day=per_card_day,
            prevalence=0.04,
            seed=seed,
            label_delay_days=0.5,
        )
    )


def records_of(dataset: Dataset, legit_one_in: int = 10) -> list[InputRecord]:
    """Return the records of a data set in the order of their times: all frauds are labelled, legits 1 in n.

    Labels that become known after the last transaction are left out: no partition's clock would reach them.
    """
    rows = np.arange(len(dataset))
    values = transaction_values(dataset, rows)
    keys = [card.encode() for card in dataset.card_id.to_pylist()]
    records = [
        InputRecord("transactions", keys[row], values[row], int(dataset.event_time_ms[row])) for row in rows
    ]
    labels = dataset.arrivals()
    known = labels.time_ms <= dataset.event_time_ms[-1]
    known &= (labels.kind != LabelKind.LEGIT) | (labels.row % legit_one_in == 0)
    labels = labels.take(known)
    texts = label_values(LabelFields(), dataset, labels)
    records += [
        InputRecord("labels", keys[row], value, int(time_ms))
        for row, value, time_ms in zip(labels.row, texts, labels.time_ms, strict=True)
    ]
    return sorted(records, key=lambda record: record.timestamp_ms)


def alike(record: InputRecord, **changes: Any) -> InputRecord:
    """Return a transaction or label like another, with some fields changed."""
    value = json.loads(record.value or b"{}") | changes
    return record._replace(value=json.dumps(value).encode())
