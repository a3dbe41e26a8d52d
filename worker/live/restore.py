"""Rebuilds a partition's task from its journal, without deciding anything or computing any feature again.

A restore reads the journal with `read_committed` up to the high watermark, not to the last stable offset: so it waits
until no transaction is open there (Kafka ends a dead worker's by its time-out). The markers of one commit become
visible partition by partition; only the last header, which must name the group's committed offsets, proves the end.
After a change of leader the high watermark lies before what was committed, for a moment (KIP-207).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from worker.errors import CorruptError, IncompatibleError
from worker.identity import Hasher
from worker.kafka_io.open_transactions import STALLED_S
from worker.kafka_io.patience import Patience
from worker.live.same_topic import NewestDecision
from worker.partition.journal import JournalHeader, JournalPart, JournalParts, Positions
from worker.partition.record_layouts import decode_journal, kind_of
from worker.partition.task import PartitionTask, TaskState

log = logging.getLogger(__name__)
_POLL_MS: Final = 20
_LAG_S: Final = 5.0
"""A log that ends before what was committed may have a new leader: so long a restore waits for the rest."""


class Restorer:
    """Restores tasks from the decisions topic.

    Parameters
    ----------
    config
        Keyword arguments of `kafka.KafkaConsumer`, without a group.
    topic
        Name of the decisions topic.
    hasher
        Hashes the journalled transaction ids again.
    lineage
        `models.records.Lineage.id` of the model; the restore refuses a journal of another.
    folded
        Folds the model log as far as it is visible and returns its last offset; the restore refuses a journal that
        knows more of it.
    alive
        Called now and then, so that a long restore does not look like a stalled poll loop; an exception of it ends
        the restore.
    stray
        Called with each record that no worker wrote, which the restore skips.
    same_topic
        Called with the partition and its newest decision; raises where the input topic is another one.
    stalled_s
        After so long without a record the restore is given up.
    """

    def __init__(  # noqa: PLR0913 - all that a restore needs
        self,
        config: Mapping[str, Any],
        topic: str,
        hasher: Hasher,
        lineage: str,
        folded: Callable[[], int],
        alive: Callable[[], None] = lambda: None,
        stray: Callable[[Any], None] = lambda _: None,
        same_topic: Callable[[int, NewestDecision], None] = lambda *_: None,
        stalled_s: float = STALLED_S,
    ) -> None:
        self._config = config
        self._topic = topic
        self._hasher = hasher
        self._lineage = lineage
        self._folded = folded
        self._alive = alive
        self._stray = stray
        self._same_topic = same_topic
        self._stalled_s = stalled_s

    def restore(
        self,
        task: PartitionTask,
        committed: Positions | None,
        *,
        partitions: int,
        ends: Positions | None = None,
    ) -> Positions | None:
        """Fold the task's journal and set the task running.

        Parameters
        ----------
        task
            New.
        committed
            The group's committed offsets; None if it has none.
        partitions
            How many partitions the topics have now.
        ends
            Where both topics end now; None if the caller does not know.

        Returns
        -------
        Positions
            Where reading goes on; None for a partition that no worker has worked on.

        Raises
        ------
        IncompatibleError
            The journal belongs to another lineage, model log, number of partitions or set of committed offsets, or its
            beginning was deleted.
        CorruptError
            The journal does not decode.
        UnreachableError
            The journal cannot be read to its end.
        """
        header, newest = self._fold(task, committed)
        if header is not None and ends is not None:
            _refuse_another_topic(header, ends)
        # First: where a topic is deleted, Kafka drops its committed offsets, and no others may be set.
        if newest is not None:
            self._same_topic(task.partition, newest)
        self._compare(task.partition, header, committed, partitions)
        task.move_to(TaskState.RUNNING)
        return committed

    def _fold(
        self, task: PartitionTask, committed: Positions | None
    ) -> tuple[JournalHeader | None, NewestDecision | None]:
        tp = TopicPartition(self._topic, task.partition)
        consumer = KafkaConsumer(**self._config)
        started_s = time.monotonic()
        try:
            consumer.assign([tp])
            consumer.seek_to_beginning(tp)
            replay = JournalReplay(task, self._hasher, self._lineage)
            header = replay.read(consumer, tp, self._alive, self._stray, self._stalled_s)
            lag_until_s = time.monotonic() + _LAG_S
            while _ends_before(header, committed) and time.monotonic() < lag_until_s:
                header = replay.read(consumer, tp, self._alive, self._stray, self._stalled_s)
        except CorruptError as error:
            if (begin := consumer.beginning_offsets([tp])[tp]) > 0:
                raise _headless(tp, begin, error) from error
            raise
        finally:
            consumer.close()
        log.info(
            "restored partition %d: %d decisions in %.1f s",
            task.partition, task.pending.next_sequence, time.monotonic() - started_s,
        )  # fmt: skip
        return header, replay.newest

    def _compare(
        self, partition: int, header: JournalHeader | None, committed: Positions | None, partitions: int
    ) -> None:
        where = f"partition {partition} of {self._topic}"
        if header is None:
            if committed is not None:
                raise IncompatibleError(
                    f"{where} is empty, but the group has committed offsets {committed}: the journal was deleted. "
                    "Begin anew with another kafka.group and empty topics"
                )
            return
        if header.partitions != partitions:
            raise IncompatibleError(
                f"{where} was written for {header.partitions} partitions, the topics have {partitions} now: cards "
                "have moved. Begin anew with new topics of that count; `fraud-worker replay` sends past payments there"
            )
        journalled = header.positions
        if committed is None:
            raise IncompatibleError(
                f"the group's committed offsets are missing beside a journal that ends at {journalled} in {where}: "
                "they expired, or kafka.group was changed. Name the group that wrote the journal; if it is this one, "
                f"`fraud-worker skip --partition {partition}` sets its offsets to those, once all workers have stopped"
            )
        if journalled != committed:
            raise IncompatibleError(
                f"{where} ends at offsets {journalled} of topics.transactions and topics.labels, the group has "
                f"committed {committed}: the group's offsets were moved. Set them to {journalled}, which "
                f"`fraud-worker skip --partition {partition}` does once all workers have stopped, or name the "
                "kafka.group that wrote the journal"
            )
        if (last := self._folded_to(header.model_offset)) < header.model_offset:
            raise IncompatibleError(
                f"{where} was decided with offset {header.model_offset} of the model log, topics.model_log ends at "
                f"{last}: it was deleted, or is another one. Name the model log that belongs to this journal, or begin "
                "anew with new topics.model_log, topics.decisions and kafka.group"
            )

    def _folded_to(self, offset: int) -> int:
        """Fold the model log; where it ends before an offset, its leader may be new, too."""
        lag_until_s = time.monotonic() + _LAG_S
        while (last := self._folded()) < offset and time.monotonic() < lag_until_s:
            self._alive()
            time.sleep(_POLL_MS / 1000)
        return last


def _headless(tp: TopicPartition, begin: int, error: CorruptError) -> IncompatibleError:
    return IncompatibleError(
        f"the beginning of partition {tp.partition} of {tp.topic} (topics.decisions) was deleted: it begins at offset "
        f"{begin} ({error}). The cards and waiting decisions that it held are nowhere else: restore the topic from a "
        "copy and see that nothing deletes its records (retention.ms = -1), or begin anew with new topics.decisions, "
        "topics.model_log and kafka.group"
    )


def _refuse_another_topic(header: JournalHeader, ends: Positions) -> None:
    """Refuse a topic that ends before what the journal has read of it: committed offsets would skip its records."""
    for name, read, end in zip(Positions._fields, header.positions, ends, strict=True):
        if read > end:
            raise IncompatibleError(
                f"topics.{name}, partition {header.partition}, ends at offset {end}, but the journal has read it up to "
                f"{read}: it was deleted and created again, or lost records. Do not set offsets: its records would be "
                "skipped. Restore the topic, or begin anew with new topics.decisions, topics.model_log and kafka.group"
            )


class JournalReplay:
    """Joins the records of the journal into entries and replays them."""

    def __init__(self, task: PartitionTask, hasher: Hasher, lineage: str) -> None:
        self._task, self._hasher, self._lineage = task, hasher, lineage
        self._parts = JournalParts()
        self._header: JournalHeader | None = None
        self.newest: NewestDecision | None = None

    def read(
        self,
        consumer: KafkaConsumer,
        tp: TopicPartition,
        alive: Callable[[], None],
        stray: Callable[[Any], None],
        stalled_s: float,
    ) -> JournalHeader | None:
        """Replay what is left up to the high watermark; return the last header."""

        def report() -> None:
            log.info(
                "restoring partition %d: %d decisions, at offset %s of %s", tp.partition,
                self._task.pending.next_sequence, consumer.position(tp), consumer.highwater(tp),
            )  # fmt: skip

        patience = Patience(stalled_s, report)
        while True:
            for record in consumer.poll(timeout_ms=_POLL_MS).get(tp, []):
                patience.progressed()
                if kind_of(record.headers) is None:
                    stray(record)
                else:
                    self.take(*decode_journal(record.value, record.headers))
            alive()
            if _read_all(consumer, tp):
                return self._header
            patience.wait(f"journal {tp.topic}-{tp.partition}: no progress")

    def take(self, part: JournalPart, header: JournalHeader | None) -> None:
        """Take one record; replay the entry that it closes."""
        self._parts.take(part)
        if header is None:
            return
        self._check(header)
        entry = self._parts.entry(header, self._task.pending.widths)
        ids = entry.rows.transaction_id
        self._task.replay(entry, self._hasher.entities(ids), self._hasher.checks(ids))
        self._parts, self._header = JournalParts(), header
        if len(entry.rows):
            self.newest = NewestDecision.of(entry.rows)

    def _check(self, header: JournalHeader) -> None:
        if header.partition != self._task.partition:
            raise CorruptError(
                f"journal of partition {self._task.partition} holds an entry of {header.partition}"
            )
        if header.lineage != self._lineage:
            raise IncompatibleError(
                f"the journal of partition {header.partition} (topics.decisions) is of lineage {header.lineage}, the "
                f"model log (topics.model_log) and the settings are of {self._lineage}: to begin a new lineage, name a "
                "new topics.decisions and kafka.group beside the new topics.model_log; to go on with the old one, "
                "restore its settings and its topics.model_log"
            )


def _ends_before(header: JournalHeader | None, committed: Positions | None) -> bool:
    if committed is None:
        return False
    return header is None or any(
        its < of_group for its, of_group in zip(header.positions, committed, strict=True)
    )


def _read_all(consumer: KafkaConsumer, tp: TopicPartition) -> bool:
    position, end = consumer.position(tp), consumer.highwater(tp)
    return end is not None and position is not None and position >= end
