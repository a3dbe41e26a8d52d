"""Turns the outcomes of a cycle into the records and offsets of one Kafka transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Protocol

from kafka import ConsumerGroupMetadata
from kafka.structs import TopicPartition

from models.records import ModelRecord
from models.state import ModelState
from worker.cycle.contracts import Finish, Outcome
from worker.identity import Hasher
from worker.kafka_io.committer import KafkaTransaction, Outgoing
from worker.live.alert_writer import AlertWriter
from worker.live.unused_labels import SETTLE_STAGE, UNUSED, unused_labels
from worker.partition.early_labels import uncut
from worker.partition.journal import DecisionRows, JournalEntry, JournalHeader, Positions
from worker.partition.record_layouts import encode_journal, encode_model
from worker.partition.task import PartitionTask
from worker.settings.sections import Settings
from worker.wire.decoder import BadRecord
from worker.wire.schema import DeadLetter


class Commits(Protocol):
    """Commits Kafka transactions: `worker.kafka_io.committer.Committer`, or memory where compiled loops are warmed."""

    def begin(self, transaction: KafkaTransaction, group: ConsumerGroupMetadata | None) -> Finish:
        """Start one transaction; the caller waits for it by calling what this returns."""


class Publisher:
    """The sink of a live worker's cycle.

    Parameters
    ----------
    settings
        Topics and the worker's id.
    committer
        Owns the Kafka transaction.
    tasks
        Read for the headers of the journal.
    partitions
        How many partitions the topics have.
    group
        Returns the metadata of the consumer group as of the last poll.
    """

    def __init__(
        self,
        settings: Settings,
        committer: Commits,
        tasks: dict[int, PartitionTask],
        partitions: int,
        group: Callable[[], ConsumerGroupMetadata],
    ) -> None:
        self._topics = settings.topics
        self._worker_id = settings.worker.id
        self._committer = committer
        self._tasks = tasks
        self._partitions = partitions
        self._group = group
        self._journalled: dict[int, Positions] = {}
        """By partition, the positions of its last entry by this process; it may have been another's since."""
        self._alerts = AlertWriter(settings.topics.alerts, Hasher(settings.hash_key), settings.alerts.fields)

    def begin(self, outcomes: list[Outcome], records: list[ModelRecord], model: ModelState) -> Finish:
        """Begin to commit alerts, journal, dead letters, model log and the offsets of every owned partition.

        `worker.kafka_io.committer.Committer.begin` says what this returns, and what that raises.
        """
        # The model that decided explains the alerts, now; all else is only encoded, while the model folds on.
        alerts = [record for outcome in outcomes for record in self._explained(outcome, model)]
        entries = [(outcome, self._entry(outcome, model)) for outcome in outcomes if self._is_news(outcome)]
        journalled = (record for outcome, entry in entries for record in self._of_partition(outcome, entry))
        offsets = {}
        for outcome in outcomes:
            # Of unchanged partitions too: Kafka then rejects a worker that has lost any of them.
            offsets[TopicPartition(self._topics.transactions, outcome.partition)] = (
                outcome.positions.transactions
            )
            offsets[TopicPartition(self._topics.labels, outcome.partition)] = outcome.positions.labels
        outgoing = chain(alerts, journalled, self._model_log(records))
        return self._committer.begin(KafkaTransaction(outgoing, offsets), self._group())

    def _is_news(self, outcome: Outcome) -> bool:
        """Return whether a partition's journal needs an entry: a restore reads them all.

        Its last header must name the committed offsets, and these move over the markers of transactions too.
        """
        before = self._journalled.get(outcome.partition)
        self._journalled[outcome.partition] = outcome.positions
        return outcome.changed or before != outcome.positions

    def open_log(self, records: list[ModelRecord]) -> None:
        """Commit records of the model log alone, before the first batch."""
        self._committer.begin(KafkaTransaction(self._model_log(records)), None)()

    def _model_log(self, records: list[ModelRecord]) -> Iterator[Outgoing]:
        for record in records:
            for value, headers in encode_model(record):
                yield Outgoing(self._topics.model_log, value, partition=0, headers=headers)

    def _explained(self, outcome: Outcome, model: ModelState) -> list[Outgoing]:
        if outcome.decided is None:
            return []
        return self._alerts.write(outcome.partition, outcome.decided, model)

    def _of_partition(self, outcome: Outcome, entry: JournalEntry) -> Iterator[Outgoing]:
        for record in chain(outcome.bad, self._unused(outcome)):
            yield _dead_letter(self._topics.dead_letters, record)
        for value, headers in encode_journal(entry):
            yield Outgoing(self._topics.decisions, value, partition=outcome.partition, headers=headers)

    def _unused(self, outcome: Outcome) -> Iterator[BadRecord]:
        for reason, labels, rows in unused_labels(outcome):
            for row in rows.tolist():
                value, value_bytes = uncut(labels.value[row].as_py())
                yield BadRecord(
                    topic=self._topics.labels,
                    partition=outcome.partition,
                    offset=int(labels.offsets[row]),
                    timestamp_ms=int(labels.timestamps_ms[row]),
                    stage=SETTLE_STAGE,
                    reason=reason,
                    detail=UNUSED[reason],
                    value=value,
                    value_bytes=value_bytes,
                )

    def _entry(self, outcome: Outcome, model: ModelState) -> JournalEntry:
        task = self._tasks[outcome.partition]
        header = JournalHeader(
            worker=self._worker_id,
            lineage=model.lineage.id,
            model_version=model.version,
            partition=outcome.partition,
            partitions=self._partitions,
            next_transaction_offset=outcome.positions.transactions,
            next_label_offset=outcome.positions.labels,
            clock_ms=task.clock_ms,
            case_window_ms=model.policy.case_window_ms,
            first_sequence=outcome.first_sequence,
            provisional_sequence=task.provisional_sequence,
            final_sequence=task.final_sequence,
            newest_label_ms=task.newest_label_ms,
            repeats=outcome.repeats,
            bad_records=len(outcome.bad),
            silence_is_legit=model.policy.silence_is_legit,
            clears_alerts=outcome.matured.clears_alerts,
            max_cards=model.policy.max_cards,
            taught=task.ration.numbers(),
        )
        rows = DecisionRows.empty(**task.pending.widths) if outcome.decided is None else outcome.decided.rows
        settlements = outcome.by_label.settlements
        return JournalEntry(header, rows, settlements, outcome.early, outcome.released)


def _dead_letter(topic: str, record: BadRecord) -> Outgoing:
    letter = DeadLetter.of(
        record.value,
        value_bytes=record.value_bytes,
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        stage=record.stage,
        reason=record.reason,
        detail=record.detail,
    )
    return Outgoing(topic, letter.to_json(), key=f"{record.topic}-{record.partition}".encode())
