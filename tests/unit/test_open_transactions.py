"""How long a reader waits for what an open transaction hides."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka import TopicPartition

from worker.kafka_io import consumer as consumer_module
from worker.kafka_io.consumer import ColumnarConsumer
from worker.kafka_io.open_transactions import patience_s
from worker.settings.sections import Settings


@pytest.mark.parametrize(("open_ms", "waits_s"), [(10_000, 60.0), (60_000, 80.0), (900_000, 920.0)])
def test_a_read_waits_for_longer_than_an_abandoned_transaction_stays_open(
    open_ms: int, waits_s: float
) -> None:
    kafka = {"transaction_timeout_ms": open_ms}
    assert patience_s(Settings.model_validate({"entity_key": "00" * 16, "kafka": kafka})) == waits_s


def test_a_position_is_asked_for_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a partition has no leader the client would ask for its epoch, and the other partitions would wait."""
    asked: list[Any] = []

    def position(tp: TopicPartition, timeout_ms: int | None = None) -> int:
        asked.append((tp, timeout_ms))
        return 7

    client = SimpleNamespace(position=position)
    monkeypatch.setattr(consumer_module, "KafkaConsumer", lambda **_: client)
    assert ColumnarConsumer({}, columnar=False).position(TopicPartition("t", 1)) == 7
    assert asked == [(TopicPartition("t", 1), 0)]
