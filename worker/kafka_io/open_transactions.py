"""How long a transaction may stay open, and the wait for those that are: what lies behind one is not visible yet."""

from __future__ import annotations

import time
from typing import Final

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from worker.errors import UnreachableError
from worker.kafka_io.client import consumer_config
from worker.settings.sections import Settings

STALLED_S: Final = 60.0
"""Nothing may come for so long before a read is given up, where no transaction stays open for longer."""
_GRACE_S: Final = 20.0
"""A broker looks every ten seconds which transactions have been open for too long."""
_PAUSE_S: Final = 0.2


def patience_s(settings: Settings) -> float:
    """Return for how long nothing may come before a read is given up: longer than an abandoned transaction stays."""
    return max(STALLED_S, _longest_s(settings))


def wait_for_open_transactions(settings: Settings, topic: str) -> None:
    """Wait until all that is on a topic by now is committed or aborted.

    Raises
    ------
    UnreachableError
        It takes longer than a transaction may stay open.
    """
    written = end_offsets(settings, topic, "read_uncommitted")
    deadline_s = time.monotonic() + _longest_s(settings)
    while any(end < written[tp] for tp, end in end_offsets(settings, topic).items()):
        if time.monotonic() > deadline_s:
            raise UnreachableError(
                f"{topic}: a transaction stays open for longer than kafka.transaction_timeout_ms = "
                f"{settings.kafka.transaction_timeout_ms}; try again once Kafka has ended it"
            )
        time.sleep(_PAUSE_S)


def _longest_s(settings: Settings) -> float:
    return settings.kafka.transaction_timeout_ms / 1000 + _GRACE_S


def end_offsets(
    settings: Settings, topic: str, isolation: str = "read_committed"
) -> dict[TopicPartition, int]:
    """Return where each partition of a topic ends: before the first open transaction, or for `read_uncommitted` not."""
    consumer = KafkaConsumer(**consumer_config(settings, group=False) | {"isolation_level": isolation})
    try:
        numbers = consumer.partitions_for_topic(topic) or ()
        ends: dict[TopicPartition, int] = consumer.end_offsets([TopicPartition(topic, it) for it in numbers])
    finally:
        consumer.close(autocommit=False)
    return ends
