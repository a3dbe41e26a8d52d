"""Cuts batches from Kafka: the consumer, the decoder and the inboxes of the owned partitions."""

from __future__ import annotations

import time
from typing import Final, NamedTuple, TypeVar

import numpy as np
from kafka import ConsumerGroupMetadata, ConsumerRebalanceListener
from kafka.structs import TopicPartition

from models.vocabulary import NEVER_MS
from worker.cycle.contracts import PartitionBatch, TakeOver
from worker.cycle.inbox import DEAD_LETTERS, VALUE_BYTES, Bound, Inbox, cut
from worker.errors import IncompatibleError, SettingsError
from worker.kafka_io.consumer import ColumnarConsumer
from worker.kafka_io.record_batches import RecordColumns
from worker.live.conditions import WaitingLabels
from worker.live.guard import InputGuard
from worker.live.standing_still import StandingStill
from worker.partition.early_labels import LabelShelf, Room
from worker.partition.journal import Positions
from worker.settings.fields import StartFrom
from worker.settings.sections import BatchSettings, TopicSettings
from worker.wire.decoder import BadRecord, Decoder, LabelColumns, TransactionColumns, bad_records
from worker.wire.schema import Fault, Reason

C = TypeVar("C", TransactionColumns, LabelColumns)
_MOST_BAD: Final = 1 << 16
"""Where more bad records than that wait to be taken, the rest of a fetch is fetched again."""
_DECODED_AT_ONCE: Final = 1 << 16
"""Of one fetch; an ordinary one has fewer records."""
_MISPLACED: Final = Fault(
    Reason.MISPLACED, "the record lies in another partition than kafka.partitioner chooses for its key"
)


class Lag(NamedTuple):
    """How far reading is behind the broker's high watermarks, in offsets: markers and aborted records count."""

    transactions: int
    labels: int


class KafkaSource:
    """Reads the owned partitions of both topics.

    Parameters
    ----------
    consumer
        Not yet subscribed.
    decoder
        Bytes to columns.
    topics, batch
        Settings.
    guard
        Stops a worker whose input breaks its promises.
    take_over
        Called from `poll` after every rebalance of the group.
    start_from
        `kafka.start_from`: where a partition begins that no worker has worked on.
    """

    def __init__(
        self,
        consumer: ColumnarConsumer,
        decoder: Decoder,
        topics: TopicSettings,
        batch: BatchSettings,
        guard: InputGuard,
        take_over: TakeOver,
        start_from: StartFrom,
    ) -> None:
        self._consumer = consumer
        self._decoder = decoder
        self._topics = topics
        self._batch = batch
        self._guard = guard
        self._close_and_restore = take_over
        self._start_from = start_from
        self._first_offsets: dict[TopicPartition, int] = {}
        self._moved: set[int] = set()
        """Partitions whose positions the next batch commits, whatever comes. Those without committed offsets are among
        them: a start would ask again where they begin."""
        self._inboxes: dict[int, Inbox] = {}
        self._still: dict[int, StandingStill] = {}
        self._listener = _Listener(consumer)
        self._group = self._taken_over_in = consumer.group_metadata()
        self._asked_again = False
        self._held_since_s = 0.0
        self.rebalances = 0
        consumer.subscribe([topics.transactions, topics.labels], self._listener)

    @property
    def stands_still(self) -> bool:
        """Whether the worker is in no generation of the group that has partitions for it: then it reads nothing."""
        return bool(self._listener.joining or self._group.generation_id < 0)

    @property
    def is_cut_off(self) -> bool:
        """Whether Kafka has not answered for a session: nothing is read, and how much waits is not known."""
        return self._consumer.is_cut_off

    @property
    def owned(self) -> set[int]:
        """The partitions owned now; none while the group rebalances."""
        return set() if self._listener.joining else set(self._inboxes)

    @property
    def group_metadata(self) -> ConsumerGroupMetadata:
        """Metadata of the group as of the last poll: the client forgets it when the group throws it out."""
        return self._group

    def poll(self) -> list[PartitionBatch]:
        """Wait for input and cut a batch; none while the group rebalances or a partition has more to come."""
        # Rows that wait can be cut at once: a poll that blocks for more would only idle.
        busy = any(inbox.transactions.held or inbox.labels.cut_short for inbox in self._inboxes.values())
        idle = self._listener.joining or bool(self._held_since_s) or not busy
        fetched = self._consumer.poll(self._batch.commit_interval_ms if idle else 0)
        self._group = self._consumer.group_metadata()
        if self.stands_still:
            return []
        if self._listener.changed:
            self._listener.changed = False
            self._take_over()
            return []
        wall_ms = round(time.time() * 1000)
        for columns in fetched:
            self._put(columns, wall_ms)
        for partition, inbox in self._inboxes.items():
            self._pass_gaps(partition, inbox)
            inbox.at_end = self._read_all(self._topics.transactions, partition)
            knows_labels = self._still[partition].knows_labels
            inbox.has_all_labels = knows_labels and self._read_all(self._topics.labels, partition)
        return [] if self._holds() else self._cut()

    def follow_clock(self, partition: int, clock_ms: int) -> int:
        """Let the watermark follow the clock; return up to when labels are due."""
        return self._inboxes[partition].follow_clock(clock_ms)

    def take_labels(self, partition: int, until_ms: int, room: Room) -> LabelColumns | None:
        """Take labels up to the last one that is due, within the bound of a commit."""
        return self._inboxes[partition].take_labels(until_ms, self._share, room)

    def silent_until_ms(self, partition: int, clock_ms: int) -> int:
        """Return up to when silence is known; see `worker.cycle.inbox.Inbox`."""
        return self._inboxes[partition].silent_until_ms(clock_ms)

    def take_bad(self, partition: int) -> list[BadRecord]:
        """Take the bad records before the positions reached."""
        return self._inboxes[partition].take_bad()

    def positions(self, partition: int) -> Positions:
        """Return where reading goes on, given what was taken."""
        return self._inboxes[partition].positions

    def lag(self, partition: int) -> Lag:
        """Return how many records of each topic the broker has that were not taken yet."""
        at = self.positions(partition)
        return Lag(
            self._behind(self._topics.transactions, partition, at.transactions),
            self._behind(self._topics.labels, partition, at.labels),
        )

    def waiting_labels(self, partition: int, clock_ms: int, shelf: LabelShelf) -> WaitingLabels:
        """Return the labels that were read and are not due by the partition's clock, with those set aside."""
        inbox = self._inboxes[partition]
        due_ms = [it for it in (inbox.labels.first_due_ms, shelf.first_due_ms) if it is not None]
        return WaitingLabels(
            count=inbox.labels.waiting + len(shelf) - shelf.postponed,
            first_due_ms=min(due_ms, default=0),
            clock_ms=clock_ms,
            read_all=inbox.at_end and not inbox.transactions.waiting,
        )

    def _behind(self, topic: str, partition: int, position: int) -> int:
        end = self._consumer.highwater(TopicPartition(topic, partition))
        return 0 if end is None else max(0, end - position)

    def _take_over(self) -> None:
        """Drop what waits, restore the partitions gained, and read on where the tasks stand."""
        self.rebalances += 1
        for topic in (self._topics.transactions, self._topics.labels):
            self._guard.check_partitions(topic, self._consumer.partitions_for_topic(topic))
        owned, of_labels = (
            self._assigned(topic) for topic in (self._topics.transactions, self._topics.labels)
        )
        if (not owned or owned != of_labels) and not self._asked_again:
            # A killed static member inherits its old assignment (KIP-345), even one made before the topics were known;
            # the group makes no other until a member asks for it.
            self._asked_again = True
            self._drop_all()
            self._consumer.rejoin()
            return
        if owned != of_labels:
            raise IncompatibleError(
                f"the group assigns us partitions {sorted(owned)} of transactions, but {sorted(of_labels)} of labels: "
                "is there a member in kafka.group that is no fraud-worker?"
            )
        kept = owned & set(self._inboxes) if self._has_stayed() else set()
        standing = self._close_and_restore(set(self._inboxes) - kept, owned - kept)
        skew_ms = int(self._batch.allowed_skew_s * 1000)
        self._moved.clear()
        self._inboxes = {
            partition: Inbox(skew_ms, standing[partition].clock_ms) for partition in sorted(owned)
        }
        a_while_s = self._batch.max_idle_ms / 1000.0
        self._still = {at: StandingStill(inbox, a_while_s) for at, inbox in self._inboxes.items()}
        self._first_offsets = {tp: at for tp, at in self._first_offsets.items() if tp.partition in kept}
        for partition, inbox in self._inboxes.items():
            at = standing[partition].positions
            if at is None:
                self._moved.add(partition)
            transactions, labels = (None, None) if at is None else (at.transactions, at.labels)
            inbox.transactions.next_offset = self._begin(self._topics.transactions, partition, transactions)
            inbox.labels.next_offset = self._begin(self._topics.labels, partition, labels)
        self._taken_over_in = self._group

    def _drop_all(self) -> None:
        """Close every task: what the group gives next is restored, and nothing is asked about what is not ours."""
        if self._inboxes:
            self._close_and_restore(set(self._inboxes), set())
            self._inboxes, self._still = {}, {}

    def _has_stayed(self) -> bool:
        """Return whether this worker has been in every generation of the group since the last take-over.

        In a generation that it missed, another worker may have worked on partitions that are its own again now. The
        client does not say so: it reports no loss while it joins.
        """
        before, now = self._taken_over_in, self._group
        return bool(now.member_id == before.member_id and now.generation_id - before.generation_id <= 1)

    def _assigned(self, topic: str) -> set[int]:
        return {tp.partition for tp in self._consumer.assignment() if tp.topic == topic}

    def _begin(self, topic: str, partition: int, committed: int | None) -> int:
        tp = TopicPartition(topic, partition)
        offset = self._first_offset(tp) if committed is None else committed
        # A committed offset of 0 proves no read: a commit carries the offsets of both topics.
        if committed:
            self._guard.passed_beginning(topic)
        self._consumer.seek(tp, offset)
        self._consumer.resume(tp)
        return offset

    def _first_offset(self, tp: TopicPartition) -> int:
        """Return where a partition without committed offsets begins; the same until a commit."""
        if tp not in self._first_offsets:
            if self._start_from == "committed":
                raise SettingsError(
                    f"the group has no committed offset for {tp.topic}-{tp.partition}: if this is its first start, set "
                    'kafka.start_from to "earliest" or "latest"; else mend kafka.group'
                )
            ask = self._consumer.beginning_offsets
            if self._start_from == "latest":
                ask = self._consumer.end_offsets
            self._first_offsets[tp] = ask([tp])[tp]
        return self._first_offsets[tp]

    def _put(self, columns: RecordColumns, wall_ms: int) -> None:
        inbox = self._inboxes.get(columns.partition)
        if inbox is None:
            return
        # A batch of a megabyte may inflate to a million bad records: the fuse blows before all of them are objects.
        is_label = columns.topic == self._topics.labels
        queue = inbox.labels if is_label else inbox.transactions
        for part in columns.pieces(_DECODED_AT_ONCE):
            if not is_label:
                transactions, bad = self._set_aside(part, *self._decoder.transactions(part))
                inbox.put_transactions(transactions, bad, wall_ms)
            else:
                labels, bad = self._set_aside(part, *self._decoder.labels(part))
                inbox.put_labels(labels, bad, wall_ms)
            self._guard.count(part.topic, len(part), bad)
            # Without a fuse they would all become objects, and the same fetch would come again after each crash.
            if queue.waiting_bad > _MOST_BAD:
                self._consumer.seek(TopicPartition(part.topic, part.partition), part.next_offset)
                return

    def _pass_gaps(self, partition: int, inbox: Inbox) -> None:
        """Go on past aborted records and markers behind which nothing waits: no fetch with rows would do so.

        Kafka may delete them while the position stands before them, and the next start would miss them.
        """
        queues = ((self._topics.transactions, inbox.transactions), (self._topics.labels, inbox.labels))
        for topic, queue in queues:
            position = self._consumer.position(TopicPartition(topic, partition))
            if position is not None and queue.pass_gap(position):
                self._moved.add(partition)

    def _set_aside(
        self, records: RecordColumns, decoded: C, bad: list[BadRecord]
    ) -> tuple[C, list[BadRecord]]:
        """Add the records in a wrong partition to the bad ones, unless the guard stops at them."""
        misplaced = self._guard.misplaced(records, decoded.offsets)
        if self._guard.stops or not misplaced.any():
            return decoded, bad
        rows: list[int] = np.searchsorted(records.offsets, decoded.offsets[misplaced]).tolist()
        bad = sorted(
            [*bad, *bad_records(records, [(row, _MISPLACED) for row in rows])], key=lambda it: it.offset
        )
        return decoded.take(np.flatnonzero(~misplaced)), bad

    def _holds(self) -> bool:
        """Return whether to wait, for a bounded time, for partitions that have more to come (as Kafka Streams does)."""
        inboxes = self._inboxes.values()
        if all(inbox.at_end or inbox.transactions.waiting for inbox in inboxes):
            self._held_since_s = 0.0
            return False
        self._held_since_s = self._held_since_s or time.monotonic()
        return time.monotonic() - self._held_since_s < self._batch.max_idle_ms / 1000.0

    def _cut(self) -> list[PartitionBatch]:
        span_ms = int(self._batch.max_event_time_s * 1000)
        found = cut(list(self._inboxes.values()), span_ms, self._batch.max_records)
        until_ms, rows = (NEVER_MS, [0] * len(self._inboxes)) if found is None else found
        share, wall_ms = self._share, round(time.time() * 1000)
        is_live = all(it.is_live(wall_ms) for it in self._still.values())
        batch = []
        for (partition, inbox), most in zip(self._inboxes.items(), rows, strict=True):
            still = self._still[partition]
            still.note_cut(most)
            if is_live and still.is_ahead(wall_ms):
                # A faulty date has moved its clock: the others would come to it in hours.
                own_ms = int(inbox.transactions.due_ms[0]) + span_ms
                taken = inbox.transactions.take(own_ms, share)
            else:
                taken = inbox.transactions.take(until_ms, share._replace(rows=most))
            self._pause_while(self._topics.transactions, partition, held=inbox.transactions.held)
            self._pause_while(self._topics.labels, partition, held=inbox.labels.is_full)
            still.note_taken(came=taken is not None and len(taken) > 0)
            idle_ms = still.quiet_for_ms
            clock_ms = NEVER_MS if idle_ms is None else inbox.watermark.fall_quiet(wall_ms)
            batch.append(
                PartitionBatch(
                    partition,
                    taken,
                    moved=partition in self._moved,
                    idle_ms=idle_ms,
                    clock_ms=None if clock_ms == NEVER_MS else clock_ms,
                    first_label_ms=inbox.labels.first_due_ms,
                )
            )
        self._moved.clear()
        return batch

    @property
    def _share(self) -> Bound:
        """What one partition may bring into a commit."""
        return Bound(self._batch.max_records, DEAD_LETTERS, VALUE_BYTES).share(len(self._inboxes))

    def _read_all(self, topic: str, partition: int) -> bool:
        tp = TopicPartition(topic, partition)
        end, position = self._consumer.highwater(tp), self._consumer.position(tp)
        return end is not None and position is not None and position >= end

    def _pause_while(self, topic: str, partition: int, *, held: bool) -> None:
        tp = TopicPartition(topic, partition)
        (self._consumer.pause if held else self._consumer.resume)(tp)


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    """Takes notes in the client's IO thread, while the worker's own thread is inside the client's `poll`.

    Nothing may be read before the take-over, which drops what the same `poll` returned. So the listener pauses new
    partitions, at a position that the client does not question. It does no more: `position`, `committed` and `commit`
    raise in this thread.
    """

    def __init__(self, consumer: ColumnarConsumer) -> None:
        self._consumer = consumer
        self.joining = False
        self.changed = False

    def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        del revoked
        self.joining = True

    def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        for tp in assigned:
            self._consumer.pause(tp)
            self._consumer.seek(tp, 0)
        self.joining, self.changed = False, True
