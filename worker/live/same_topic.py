"""Tells an input topic from another one of its name: one that was deleted, created again and has grown beyond it.

Positions alone show only a topic that is still shorter. So the newest decision of the journal is compared with the
record that now lies where it was read.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from worker.errors import IncompatibleError
from worker.kafka_io.client import consumer_config
from worker.kafka_io.consumer import columns_of
from worker.partition.journal import DecisionRows
from worker.settings.sections import Settings
from worker.wire.decoder import Decoder

_POLL_MS: Final = 200
_WAIT_S: Final = 10.0


class NewestDecision(NamedTuple):
    """The last row of a journal: which transaction it decided, and where that was read."""

    offset: int
    transaction_id: str
    event_time_ms: int

    @classmethod
    def of(cls, rows: DecisionRows) -> NewestDecision:
        """Return the last of some rows."""
        return cls(int(rows.offset[-1]), rows.transaction_id[-1].as_py(), int(rows.event_time_ms[-1]))


class TopicCheck:
    """Refuses a transactions topic that is not the one which the journal has read.

    Where the record was deleted or does not decode, nothing is known, and nothing is refused. Labels are not compared.

    Parameters
    ----------
    settings
        Name Kafka, the topic and its fields.
    alive
        Called now and then; an exception of it ends the wait.
    """

    def __init__(self, settings: Settings, alive: Callable[[], None]) -> None:
        self._settings = settings
        self._alive = alive

    def __call__(self, partition: int, newest: NewestDecision) -> None:
        """Compare the newest decision with the record that lies at its offset.

        Raises
        ------
        IncompatibleError
            Another transaction lies there.
        """
        record = self._record_at(TopicPartition(self._settings.topics.transactions, partition), newest.offset)
        if record is None or not self._differs(record, newest):
            return
        raise IncompatibleError(
            f"topics.transactions, partition {partition}, holds another transaction at offset {newest.offset} than the "
            "journal has decided there: the topic was created again, or is another one. Do not set offsets, "
            "or its records before them are left out. Restore the topic, or begin anew with new topics.decisions, "
            "topics.model_log and kafka.group"
        )

    def _differs(self, record: Any, newest: NewestDecision) -> bool:
        tp = TopicPartition(record.topic, record.partition)
        found, _ = Decoder(self._settings).transactions(columns_of(tp, [record]))
        # Both: an identifier may be read from another field by now.
        return bool(
            len(found)
            and found.transaction_id[0].as_py() != newest.transaction_id
            and int(found.event_time_ms[0]) != newest.event_time_ms
        )

    def _record_at(self, tp: TopicPartition, offset: int) -> Any | None:
        consumer = KafkaConsumer(**consumer_config(self._settings, group=False))
        try:
            consumer.assign([tp])
            if not consumer.beginning_offsets([tp])[tp] <= offset < consumer.end_offsets([tp])[tp]:
                return None
            consumer.seek(tp, offset)
            deadline_s = time.monotonic() + _WAIT_S
            while consumer.position(tp) <= offset and time.monotonic() < deadline_s:
                self._alive()
                for record in consumer.poll(timeout_ms=_POLL_MS).get(tp, []):
                    return record if record.offset == offset else None
        finally:
            consumer.close(autocommit=False)
        return None
