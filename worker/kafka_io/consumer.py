"""Reading Kafka in columns: kafka-python's consumer, with whole record batches taken apart by compiled code.

Everything but the parsing of records stays the client's: fetch sessions, positions, checksums, aborted
transactions, control batches, leader epochs. The client has no public way to read a batch whole, so this
leans on its private interface, checks at start that it is there, and can do without (`kafka.columnar=false`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import kafka
import numpy as np
from kafka import ConsumerGroupMetadata, ConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.memory_records import MemoryRecords
from numpy.typing import NDArray

from worker.errors import CorruptError, SettingsError
from worker.kafka_io.record_batches import (
    KEY_LENGTH,
    KEY_START,
    OFFSET,
    TIMESTAMP,
    VALUE_LENGTH,
    VALUE_START,
    ParsedBatch,
    RecordColumns,
    parse_records,
)

PINNED_VERSION = "3.0."
"""The versions of kafka-python whose private interface this module knows."""


class ConsumerCorruptError(CorruptError):
    """Reading failed, `__cause__` says how; nothing more is read, for the client would spin for ever."""


class ColumnarConsumer:
    """kafka-python's `KafkaConsumer`, read as whole record batches.

    Like it, not thread-safe, and its rebalance listeners run on the client's own thread.

    Parameters
    ----------
    config
        Keyword arguments of `KafkaConsumer`, without deserializers. `max_poll_records` counts record batches
        when reading in columns.
    columnar
        False reads record by record: the same columns, ten times slower, by the client's public interface.

    Raises
    ------
    SettingsError
        The installed kafka-python cannot be read in columns.
    """

    def __init__(self, config: Mapping[str, object], *, columnar: bool = True) -> None:
        if columnar:
            require_seam()
        self._consumer = KafkaConsumer(**config, key_deserializer=None, value_deserializer=None)
        if columnar:
            self._consumer._fetcher.PartitionRecords = _ColumnarPartitionRecords
        self._failure: Exception | None = None

    def poll(self, timeout_ms: int) -> list[RecordColumns]:
        """Return what has been fetched, at most one `RecordColumns` a partition and none of them empty.

        A partition can move on without records, past the marker of a transaction: `position` tells.

        Parameters
        ----------
        timeout_ms
            How long to wait when nothing is there.

        Raises
        ------
        ConsumerCorruptError
            The client raised something, now or in an earlier call. Records that precede the fault in their
            partition have been returned before.
        """
        if self._failure is None:
            try:
                self._remember_join()
                polled = self._consumer.poll(timeout_ms=timeout_ms)
                found = [columns_of(partition, records) for partition, records in polled.items()]
                self._failure = self._postponed_failure()
                return [columns for columns in found if len(columns)]
            except Exception as error:  # noqa: BLE001 - whatever it is, the client does not survive it
                self._failure = error
        raise ConsumerCorruptError(
            f"reading Kafka failed and is not resumed: {type(self._failure).__name__}: {self._failure}"
        ) from self._failure

    def _remember_join(self) -> None:
        # Up to 3.0.12 the client forgets a join that outlasts its poll if new metadata, not the broker, asked for
        # it: no later poll completes it, and the member stays without partitions and heartbeats for ever.
        if getattr(getattr(self._consumer, "_coordinator", None), "rejoining", False):
            self.rejoin()

    def _postponed_failure(self) -> Exception | None:
        # A fault behind good records is kept for the next call, but forgotten if its partition is paused by
        # then; the client would spin once the partition is resumed.
        fetcher = getattr(self._consumer, "_fetcher", None)
        metadata = getattr(fetcher, "_next_in_line_exception_metadata", None)
        return None if metadata is None else metadata.exception

    def rejoin(self) -> None:
        """Ask the group for an assignment anew, in the next `poll`."""
        coordinator = getattr(self._consumer, "_coordinator", None)
        if coordinator is not None:
            coordinator.request_rejoin()

    def subscribe(self, topics: Sequence[str], listener: ConsumerRebalanceListener | None = None) -> None:
        """Join the group for `topics`; `listener` hears of rebalances, on the client's thread."""
        for topic in topics:
            # A leader that does not know the topics yet gives out no partitions at all.
            self._consumer.partitions_for_topic(topic)
        self._consumer.subscribe(topics=list(topics), listener=listener)

    def assignment(self) -> set[TopicPartition]:
        """Return the partitions that are read now."""
        return set(self._consumer.assignment() or ())

    def pause(self, *partitions: TopicPartition) -> None:
        """Return nothing of `partitions` until they are resumed; what is fetched stays fetched."""
        self._consumer.pause(*partitions)

    def resume(self, *partitions: TopicPartition) -> None:
        """Read on in paused `partitions`."""
        self._consumer.resume(*partitions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        """Read on from `offset`."""
        self._consumer.seek(partition, offset)

    def position(self, partition: TopicPartition) -> int | None:
        """Return the offset that is read next; waits for it when the partition has no position yet."""
        position: int | None = self._consumer.position(partition)
        return position

    def committed(self, partition: TopicPartition) -> int | None:
        """Return the group's committed offset, None when there is none."""
        offset: int | None = self._consumer.committed(partition)
        return offset

    def highwater(self, partition: TopicPartition) -> int | None:
        """Return the offset after the newest record known of, None before the first fetch."""
        offset: int | None = self._consumer.highwater(partition)
        return offset

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask the brokers for the oldest offsets."""
        return dict(self._consumer.beginning_offsets(list(partitions)))

    def end_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        """Ask the brokers for the offsets after the newest records (last stable ones if `read_committed`)."""
        return dict(self._consumer.end_offsets(list(partitions)))

    def partitions_for_topic(self, topic: str) -> set[int]:
        """Return the topic's partition numbers, empty when there is no such topic."""
        return set(self._consumer.partitions_for_topic(topic) or ())

    def group_metadata(self) -> ConsumerGroupMetadata:
        """Return the membership that fences a transaction's offsets (KIP-447)."""
        return self._consumer.group_metadata()

    def close(self) -> None:
        """Leave the group (a static member stays) and close the connections."""
        self._consumer.close(autocommit=False)


def require_seam() -> None:
    """Check that kafka-python is one whose record batches can be read whole.

    Raises
    ------
    SettingsError
        It is not.
    """
    missing = [] if kafka.__version__.startswith(PINNED_VERSION) else [f"version {PINNED_VERSION}x"]
    for owner, name in (
        (Fetcher, "PartitionRecords"),
        (getattr(Fetcher, "PartitionRecords", None), "_unpack_records"),
        (MemoryRecords, "next_batch"),
        (DefaultRecordBatch, "_maybe_uncompress"),
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
    """A whole batch in the place of one record: all that the client's loop asks of a record, itself as value."""

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
        self._maybe_uncompress()
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
            table[TIMESTAMP] = self.max_timestamp
        return iter((_BatchRecord(self.last_offset, data, table),) if self.records_count else ())


class _WholeBatches:
    """The batches of a fetch; those of the legacy formats stay as they are."""

    def __init__(self, records: MemoryRecords) -> None:
        self._records = records

    def next_batch(self) -> Any:
        batch = self._records.next_batch()
        if isinstance(batch, DefaultRecordBatch):
            # The client has just made it for us; another class on it spares a copy of its bytes.
            batch.__class__ = _WholeBatch
        return batch


class _ColumnarPartitionRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What was fetched of one partition, handed out by the batch; legacy formats by the record."""

    def _unpack_records(
        self, tp: TopicPartition, records: MemoryRecords, *deserializers: None
    ) -> Iterator[ConsumerRecord | _BatchRecord]:
        try:
            for record in super()._unpack_records(tp, _WholeBatches(records), *deserializers):
                yield self._claimed(record.value) if isinstance(record.value, _BatchRecord) else record
        except Exception as error:
            raise CorruptError(
                f"{tp.topic}/{tp.partition}: the batch at {self.next_fetch_offset} does not read: {error}"
            ) from error

    def _claimed(self, batch: _BatchRecord) -> _BatchRecord:
        batch.reader = self
        offsets = batch.table[OFFSET]
        if offsets[0] < self.fetch_offset:  # a broker sends the batch that holds the offset, whole
            batch.table = batch.table[:, np.searchsorted(offsets, self.fetch_offset) :]
        return batch


def columns_of(partition: TopicPartition, records: Sequence[Any]) -> RecordColumns:
    """Join what the client hands out of one partition: batches, or records where no batch was read whole."""
    batches: list[ParsedBatch] = []
    for kind, group in itertools.groupby(records, key=type):
        run = list(group)
        batches += [(it.data, it.table) for it in run] if kind is _BatchRecord else [_parsed_records(run)]
    last = records[-1]
    whole = isinstance(last, _BatchRecord)
    next_offset = last.reader.next_fetch_offset if whole else last.offset + 1
    return RecordColumns.of_batches(partition.topic, partition.partition, batches, next_offset)


def _parsed_records(records: Sequence[ConsumerRecord]) -> ParsedBatch:
    """Lay the client's records, raw bytes, out like a parsed batch."""
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
