"""Reads back what workers have written, and how far their group has come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from models.records import ModelRecord
from models.state import ModelState
from models.vocabulary import Flag
from worker.parameters import new_model
from worker.partition.journal import DecisionRows, JournalHeader, Settlements
from worker.partition.record_layouts import ModelLogDecoder, decode_journal
from worker.settings.sections import Settings
from worker.wire.schema import Alert, DeadLetter


class Journalled:
    """One entry of the journal, as it was read."""

    def __init__(
        self, header: JournalHeader, rows: list[DecisionRows], settlements: list[Settlements]
    ) -> None:
        self.header = header
        self.rows = rows
        self.settlements = settlements

    @property
    def transaction_ids(self) -> list[str]:
        """The decided transactions, in order."""
        return [name for rows in self.rows for name in rows.transaction_id.to_pylist()]

    @property
    def alerted_ids(self) -> list[str]:
        """The transactions with an alert."""
        flags = [flag for rows in self.rows for flag in rows.flags]
        return [name for name, flag in zip(self.transaction_ids, flags, strict=True) if flag & Flag.ALERTED]


class Topics:
    """The six topics of a group of workers: what they hold, and how far the group has come.

    Parameters
    ----------
    settings
        They name the broker, the topics and the group.
    partitions
        Of the input topics.
    """

    def __init__(self, settings: Settings, partitions: int) -> None:
        self.settings = settings
        self.partitions = partitions

    def read(self, name: str) -> list[Any]:
        """Return every committed record of one of the six topics, partition by partition."""
        topic = getattr(self.settings.topics, name)
        with _reader(self.settings) as consumer:
            tps = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
            consumer.assign(tps)
            consumer.seek_to_beginning(*tps)
            ends = consumer.end_offsets(tps)
            found: dict[TopicPartition, list[Any]] = {tp: [] for tp in tps}
            deadline_s = time.monotonic() + 60
            while any(consumer.position(tp) < ends[tp] for tp in tps):
                assert time.monotonic() < deadline_s, f"{topic} cannot be read to its end"
                for tp, records in consumer.poll(timeout_ms=200).items():
                    found[tp] += records
        return [record for tp in tps for record in found[tp]]

    def decisions(self) -> list[Journalled]:
        """Read the journal, entry by entry."""
        entries: list[Journalled] = []
        # A fetch may end inside an entry of one partition and continue with another partition.
        rows: dict[int, list[DecisionRows]] = {partition: [] for partition in range(self.partitions)}
        settled: dict[int, list[Settlements]] = {partition: [] for partition in range(self.partitions)}
        for record in self.read("decisions"):
            piece, header = decode_journal(record.value, record.headers)
            if isinstance(piece, DecisionRows):
                rows[record.partition].append(piece)
            if isinstance(piece, Settlements):
                settled[record.partition].append(piece)
            if header is not None:
                assert header.partition == record.partition
                entries.append(Journalled(header, rows[record.partition], settled[record.partition]))
                rows[record.partition], settled[record.partition] = [], []
        assert not any(rows.values()), "a journal ends inside an entry"
        return entries

    def alerts(self) -> list[Alert]:
        """Read and validate the alerts."""
        return [Alert.model_validate_json(record.value) for record in self.read("alerts")]

    def dead_letters(self) -> list[DeadLetter]:
        """Read and validate the dead letters."""
        return [DeadLetter.model_validate_json(record.value) for record in self.read("dead_letters")]

    def model_log(self) -> list[tuple[int, ModelRecord]]:
        """Read the records of the model log, each with the offset at which it takes force."""
        decoder = ModelLogDecoder()
        decoded = [(r.offset, decoder.decode(r.value, r.headers)) for r in self.read("model_log")]
        return [(offset, record) for offset, record in decoded if record is not None]

    def folded(self, until: int | None = None) -> ModelState:
        """Fold the model log up to an offset; a published digest that differs raises."""
        model = new_model(self.settings)
        for offset, record in self.model_log():
            if until is None or offset <= until:
                model.fold(offset, record)
        return model

    def offsets(self) -> dict[TopicPartition, tuple[int, int]]:
        """Return committed and end offset of every input partition; -1 where none is committed."""
        with self.watched_offsets() as offsets:
            return offsets()

    @contextmanager
    def watched_offsets(self) -> Iterator[Callable[[], dict[TopicPartition, tuple[int, int]]]]:
        """Give what `offsets` returns, as often as it is asked for, over one connection."""
        names = self.settings.topics
        tps = [
            TopicPartition(topic, p)
            for topic in (names.transactions, names.labels)
            for p in range(self.partitions)
        ]
        with _reader(self.settings, group_id=self.settings.kafka.group) as consumer:

            def offsets() -> dict[TopicPartition, tuple[int, int]]:
                ends = consumer.end_offsets(tps)
                committed = {tp: consumer.committed(tp, timeout_ms=30_000) for tp in tps}
                return {tp: (-1 if (at := committed[tp]) is None else at, ends[tp]) for tp in tps}

            yield offsets

    def commits(self) -> int:
        """Return the end of the model log, open transactions included: it grows with every commit begun."""
        tp = TopicPartition(self.settings.topics.model_log, 0)
        with _reader(self.settings, isolation_level="read_uncommitted") as consumer:
            return int(consumer.end_offsets([tp])[tp])

    def open_transaction(self) -> bool:
        """Return whether a transaction is open in any topic that workers write."""
        names = self.settings.topics
        outputs = (names.decisions, names.alerts, names.model_log, names.dead_letters)
        with (
            _reader(self.settings) as committed,
            _reader(self.settings, isolation_level="read_uncommitted") as uncommitted,
        ):
            tps = [
                TopicPartition(topic, p)
                for topic in outputs
                for p in committed.partitions_for_topic(topic) or ()
            ]
            # Until a transaction ends, readers of committed records see the log end before it.
            return bool(committed.end_offsets(tps) != uncommitted.end_offsets(tps))


@contextmanager
def _reader(settings: Settings, **config: Any) -> Iterator[KafkaConsumer]:
    committed = {"isolation_level": "read_committed", "enable_auto_commit": False}
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka.bootstrap, **(committed | config))
    try:
        yield consumer
    finally:
        consumer.close()
