"""Reads Kafka in columns: kafka-python's consumer, in which compiled code takes whole record batches apart.

The client does everything else: fetch sessions, positions, checksums, aborted transactions, control batches, leader
epochs. It has no public way to read a batch whole, so this module uses its private interface and checks at the start
that it exists (`require_seam`). `kafka.columnar = false` does without.
"""

from __future__ import annotations

import itertools
import struct
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import kafka
import numpy as np
from kafka import ConsumerGroupMetadata, ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.coordinator.base import MemberState
from kafka.errors import FencedInstanceIdError, KafkaError, KafkaTimeoutError
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords
from numpy.typing import NDArray

from worker.errors import CorruptError, SettingsError, UnreachableError
from worker.kafka_io.inflate import MOST_BYTES, TooLargeError, inflate
from worker.kafka_io.open_transactions import STALLED_S
from worker.kafka_io.record_batches import (
    KEY_LENGTH,
    KEY_START,
    OFFSET,
    TIMESTAMP,
    VALUE_LENGTH,
    VALUE_START,
    ParsedBatch,
    RecordColumns,
    RecordFormatError,
    parse_records,
    refused_batch,
    rows_from,
)

PINNED_VERSION = "3.0."
"""Versions of kafka-python whose private interface this module knows."""
_MUTE_S = 1.0
_ASK_MS = 1_000
_UNREADABLE = (RecordFormatError, ValueError, RuntimeError, EOFError, OSError, struct.error, zlib.error)
"""What reading a batch raises over its bytes, older formats included; anything else is a bug."""


class ColumnarConsumer:
    """kafka-python's `KafkaConsumer`, read as whole record batches.

    Like `KafkaConsumer` it is not thread-safe, and its rebalance listeners run in the client's own thread.

    Parameters
    ----------
    config
        Keyword arguments of `KafkaConsumer`, without deserializers. Under `columnar`, `max_poll_records` counts record
        batches.
    columnar
        False reads record by record through the client's public interface: the same columns, ten times slower.

    Raises
    ------
    SettingsError
        The installed kafka-python has another private interface.
    """

    def __init__(self, config: Mapping[str, object], *, columnar: bool = True) -> None:
        if columnar:
            require_seam()
        self._consumer = KafkaConsumer(**config, key_deserializer=None, value_deserializer=None)
        if columnar:
            # The client has no public hook for how it reads a fetch.
            self._consumer._fetcher.PartitionRecords = _ColumnarPartitionRecords
        self._failure: Exception | None = None
        self._mute_since_s: float | None = None

    def poll(self, timeout_ms: int) -> list[RecordColumns]:
        """Return what has been fetched, at most one `RecordColumns` a partition and none of them empty.

        A partition can move on without records, past the marker of a transaction: see `position`.

        Parameters
        ----------
        timeout_ms
            How long to wait if nothing is there.

        Raises
        ------
        CorruptError
            A batch does not read. Records that precede it in its partition were returned before.
        KafkaError
            Kafka's own. Like any other error it is raised by every later call too, because kafka-python would spin for
            ever.
        """
        if self._failure is None:
            try:
                self._remember_join()
                polled = self._consumer.poll(timeout_ms=timeout_ms)
                found = [columns_of(partition, records) for partition, records in polled.items()]
                self._failure = self._postponed_failure() or self._fencing()
                return [columns for columns in found if len(columns)]
            except Exception as error:  # noqa: BLE001 - after any error kafka-python's next poll would spin for ever
                self._failure = error
        raise self._failure

    def _remember_join(self) -> None:
        # Up to 3.0.12 the client forgets a join that outlasts its poll if new metadata, not the broker, caused it: no
        # later poll completes it, and the member stays without partitions and heartbeats for ever.
        if getattr(getattr(self._consumer, "_coordinator", None), "rejoining", False):
            self.rejoin()

    def _postponed_failure(self) -> Exception | None:
        # The client keeps a fault behind good records for its next poll, but forgets it if the partition is paused by
        # then, and would spin once the partition is resumed.
        fetcher = getattr(self._consumer, "_fetcher", None)
        metadata = getattr(fetcher, "_next_in_line_exception_metadata", None)
        return None if metadata is None else metadata.exception

    def _fencing(self) -> Exception | None:
        """Return an error once another process has joined the group under our static member id.

        The client learns it from a heartbeat, sends no more of them, and polls on for ever: its commits would be
        refused, but an idle worker has none.
        """
        coordinator = getattr(self._consumer, "_coordinator", None)
        if getattr(coordinator, "_heartbeat_enabled", True) or coordinator.state != MemberState.STABLE:  # type: ignore[union-attr]
            self._mute_since_s = None
            return None
        # Not at once: the client sets both one after the other when it joins.
        self._mute_since_s = self._mute_since_s or time.monotonic()
        if time.monotonic() - self._mute_since_s < _MUTE_S:
            return None
        fenced: Exception = FencedInstanceIdError("another process has joined under this static member id")
        return fenced

    @property
    def is_cut_off(self) -> bool:
        """Whether no broker has answered the member's heartbeats for a session: `poll` finds nothing, and says nothing.

        The client looks for its group without end, and keeps the newest offsets that it has heard of.
        """
        coordinator = getattr(self._consumer, "_coordinator", None)
        if getattr(coordinator, "state", None) != MemberState.STABLE:
            return False
        return bool(coordinator.heartbeat.session_timeout_expired())  # type: ignore[union-attr]

    def rejoin(self) -> None:
        """Ask the group for a new assignment, in the next `poll`."""
        coordinator = getattr(self._consumer, "_coordinator", None)
        if coordinator is not None:
            coordinator.request_rejoin()

    def subscribe(self, topics: Sequence[str], listener: ConsumerRebalanceListener | None = None) -> None:
        """Join the group for `topics`; the client's thread calls `listener` on rebalances."""
        for topic in topics:
            # Fetches the topic's metadata: a group leader that does not know the topics yet assigns no partitions.
            self._consumer.partitions_for_topic(topic)
        self._consumer.subscribe(topics=list(topics), listener=listener)

    def assignment(self) -> set[TopicPartition]:
        """Return the partitions that the group has assigned to this consumer."""
        return set(self._consumer.assignment() or ())

    def pause(self, *partitions: TopicPartition) -> None:
        """Return nothing of `partitions` until they are resumed; what is fetched stays fetched."""
        self._consumer.pause(*partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        """Read on in paused `partitions`."""
        self._consumer.resume(*partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Set the position of `partition`: the next record read is the one at `offset`."""
        self._consumer.seek(partition, offset)

    def position(self, partition: TopicPartition) -> int | None:
        """Return the offset that is read next; None if the partition has no position yet."""
        # Not a moment's wait: while a partition has no leader the client asks for its epoch, for half a minute a call.
        position: int | None = self._consumer.position(partition, timeout_ms=0)
        return position

    def committed(
        self,
        partition: TopicPartition,
        alive: Callable[[], None] = lambda: None,
        deadline_s: float = STALLED_S,
    ) -> int | None:
        """Return the group's committed offset; None if there is none.

        The broker gives no offset while a transaction that would move it is open, and the client asks on.

        Parameters
        ----------
        partition
            Of which topic.
        alive
            Called now and then; an exception of it ends the wait.
        deadline_s
            How long to wait.

        Raises
        ------
        UnreachableError
            No answer came in time.
        """
        end_s = time.monotonic() + deadline_s
        while True:
            alive()
            try:
                offset: int | None = self._consumer.committed(partition, timeout_ms=_ASK_MS)
            except KafkaTimeoutError:
                if time.monotonic() < end_s:
                    continue
                raise UnreachableError(
                    f"the group's offset of {partition.topic}-{partition.partition} does not come for "
                    f"{deadline_s:.0f} s: no broker answers, or a transaction of another worker stays open"
                ) from None
            return offset

    def highwater(self, partition: TopicPartition) -> int | None:
        """Return the offset after the newest record that the client knows of; None before the first fetch."""
        offset: int | None = self._consumer.highwater(partition)
        return offset

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the oldest offsets that the brokers have."""
        return dict(self._consumer.beginning_offsets(list(partitions)))

    def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the offsets after the brokers' newest records (newest stable ones if `read_committed`)."""
        return dict(self._consumer.end_offsets(list(partitions)))

    def partitions_for_topic(self, topic: str) -> set[int]:
        """Return the topic's partition numbers; none if there is no such topic."""
        return set(self._consumer.partitions_for_topic(topic) or ())

    def group_metadata(self) -> ConsumerGroupMetadata:
        """Return the membership that Kafka checks a transaction's offsets against (KIP-447)."""
        return self._consumer.group_metadata()

    def close(self) -> None:
        """Close the connections and leave the group; a static member stays in it."""
        self._consumer.close(autocommit=False)


def require_seam() -> None:
    """Check that kafka-python has the private interface by which batches are read whole.

    Raises
    ------
    SettingsError
        The version differs or a member is missing.
    """
    missing = [] if kafka.__version__.startswith(PINNED_VERSION) else [f"version {PINNED_VERSION}x"]
    for owner, name in (
        (Fetcher, "PartitionRecords"),
        (getattr(Fetcher, "PartitionRecords", None), "_unpack_records"),
        (MemoryRecords, "next_batch"),
        (DefaultRecordBatch, "_decompressed"),
        (DefaultRecordBatch, "_buffer"),
        (DefaultRecordBatch, "_pos"),
    ):
        if not hasattr(owner, name):
            missing.append(f"{getattr(owner, '__name__', owner)}.{name}")
    if missing:
        raise SettingsError(
            f"kafka.columnar: kafka-python {kafka.__version__} lacks {', '.join(missing)}, by which batches "
            "are read whole. Install kafka-python 3.0.12, or set kafka.columnar=false (ten times slower)."
        )


class _BatchRecord:
    """A whole batch in the place of one record, with every attribute that the client's loop reads of a record."""

    __slots__ = ("data", "offset", "reader", "size_in_bytes", "table")

    key = None
    headers = ()
    timestamp = -1
    timestamp_type = 0
    checksum = None
    reader: _ColumnarPartitionRecords

    def __init__(self, offset: int, data: NDArray[np.uint8], table: NDArray[np.int64]) -> None:
        self.offset = offset
        self.data = data
        self.table = table
        self.size_in_bytes = data.size

    @property
    def value(self) -> _BatchRecord:
        return self

    def __len__(self) -> int:
        return self.size_in_bytes

    def validate_crc(self) -> bool:
        return True


class _WholeBatch(DefaultRecordBatch):  # type: ignore[misc]
    """A record batch that iterates over itself, once, instead of over its records."""

    __slots__ = ()

    def __iter__(self) -> Iterator[_BatchRecord]:
        try:
            _inflate(self)
        except TooLargeError:
            table = refused_batch(self.base_offset, self.last_offset_delta, self.max_timestamp)
            return iter((_BatchRecord(self.last_offset, np.zeros(1, np.uint8), table),))
        # From `_pos` on, `_buffer` holds the records, decompressed now; the array is a view of it.
        data = np.frombuffer(self._buffer, dtype=np.uint8)
        table = parse_records(
            data,
            self._pos,
            count=self.records_count,
            base_offset=self.base_offset,
            last_offset_delta=self.last_offset_delta,
            base_timestamp_ms=self.first_timestamp,
        )
        if self.timestamp_type == self.LOG_APPEND_TIME:
            # The broker stamps the batch, in its header alone; the records keep the producer's times.
            table[TIMESTAMP] = self.max_timestamp
        return iter((_BatchRecord(self.last_offset, data, table),) if self.records_count else ())

    @property
    def inflated_bytes(self) -> int:
        """How much memory the batch takes once it was iterated over."""
        return len(self._buffer)


def _inflate(batch: Any) -> None:
    """Do what the client's `_maybe_uncompress` does, but within a bound."""
    if batch._decompressed or batch.compression_type == batch.CODEC_NONE:
        return
    batch._buffer = inflate(batch.compression_type, memoryview(batch._buffer)[batch._pos :])
    batch._pos, batch._decompressed = 0, True


class _WholeBatches:
    """The batches of a fetch, of which those of format v2 are read whole.

    The fetch ends early, as if it held no more, once what was inflated exceeds the bound of one batch: many batches
    that inflate to no more than that each would together fill the memory. The client fetches the rest again.
    """

    def __init__(self, records: MemoryRecords) -> None:
        self._records = records
        self._last: Any = None
        self._inflated = 0

    def next_batch(self) -> Any:
        if isinstance(self._last, _WholeBatch):
            self._inflated += self._last.inflated_bytes
        if self._inflated > MOST_BYTES:
            return None
        batch = self._last = self._records.next_batch()
        if isinstance(batch, DefaultRecordBatch):
            # The client has just made this object for us. Making another one would copy the batch's bytes.
            batch.__class__ = _WholeBatch
        return batch


class _ColumnarPartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What was fetched of one partition, returned batch by batch; legacy formats record by record."""

    def _unpack_records(
        self, tp: TopicPartition, records: MemoryRecords, *deserializers: None
    ) -> Iterator[ConsumerRecord | _BatchRecord]:
        try:
            for record in super()._unpack_records(tp, _WholeBatches(records), *deserializers):
                yield self._claimed(record.value) if isinstance(record.value, _BatchRecord) else record
        except (*_UNREADABLE, KafkaError, CorruptError) as error:
            raise CorruptError(
                f"{tp.topic}/{tp.partition}: the batch at {self.next_fetch_offset} does not read ({error}): see the "
                "brokers' logs and disks; `fraud-worker skip` goes on behind it"
            ) from error

    def _claimed(self, batch: _BatchRecord) -> _BatchRecord:
        batch.reader = self
        if batch.table[OFFSET, 0] < self.fetch_offset:  # a broker sends the whole batch that holds the offset
            batch.table = rows_from(batch.table, self.fetch_offset)
        return batch


def columns_of(partition: TopicPartition, records: Sequence[Any]) -> RecordColumns:
    """Return what the client returned of one partition, which is batches, or records where no batch was read whole."""
    batches: list[ParsedBatch] = []
    for kind, group in itertools.groupby(records, key=type):
        run = list(group)
        batches += [(it.data, it.table) for it in run] if kind is _BatchRecord else [_parsed_records(run)]
    last = records[-1]
    # A batch may end in a gap: only its reader knows where the position stands after it.
    whole = isinstance(last, _BatchRecord)
    next_offset = last.reader.next_fetch_offset if whole else last.offset + 1
    return RecordColumns.of_batches(partition.topic, partition.partition, batches, next_offset)


def _parsed_records(records: Sequence[ConsumerRecord]) -> ParsedBatch:
    """Return the client's records, of raw bytes, in the form of a parsed batch."""
    fields = [field for record in records for field in (record.key, record.value)]
    length = np.array([-1 if field is None else len(field) for field in fields], dtype=np.int64)
    stop = np.cumsum(np.maximum(length, 0))
    start = stop - np.maximum(length, 0)
    table = np.empty((6, len(records)), dtype=np.int64)
    table[OFFSET] = [record.offset for record in records]
    table[TIMESTAMP] = [record.timestamp for record in records]
    table[KEY_LENGTH], table[VALUE_LENGTH] = length[::2], length[1::2]
    table[KEY_START], table[VALUE_START] = start[::2], start[1::2]
    return np.frombuffer(bytearray().join(field or b"" for field in fields), dtype=np.uint8), table
