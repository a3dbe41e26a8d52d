"""Sends many records at once: encodes whole record batches and passes them to kafka-python's producer.

`KafkaProducer.send` costs 20-45 µs a record however small; this costs 3 µs. The client keeps connections, retries,
sequence numbers and compression. The batches go into its accumulator, a private interface: kafka-python's version is
pinned, and an integration test reads back what was sent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import cache
from types import TracebackType
from typing import Final, Self

from kafka import KafkaProducer
from kafka.errors import UnknownTopicOrPartitionError
from kafka.producer.future import FutureRecordMetadata
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder
from kafka.structs import TopicPartition

from worker.kafka_io.client import kafka_errors_explained, producer_config
from worker.kafka_io.producer_logger import keep_producer_logger
from worker.settings.sections import Settings

BATCH_BYTES: Final = 512 << 10
"""Below the broker's 1 MiB, which bounds a batch."""
IN_FLIGHT_BYTES: Final = 32 << 20
ACKNOWLEDGED_WITHIN_S: Final = 120.0

_MAGIC: Final = 2


class BulkProducer:
    """An idempotent producer that takes lists of records and checks the acknowledgement of every batch.

    It is not thread-safe. The context manager flushes on an exit without an error.

    Raises
    ------
    WorkerError
        Kafka does not answer, or refuses a batch; a later call raises it, at the latest `flush`.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        keep_producer_logger()
        with kafka_errors_explained(settings):
            self._producer = KafkaProducer(**producer_config(settings, transactional_id=None))
        # The client's hook at the interpreter's exit would wait for what a thread that was given up has not sent.
        self._producer._unregister_cleanup()
        self._codec: int = self._producer.config["compression_attrs"]
        self._in_flight: deque[tuple[FutureRecordMetadata, int]] = deque()
        self._in_flight_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self.flush()
        finally:
            if self._in_flight:
                # These batches are given up; `close` alone would wait for them.
                self._producer._sender.force_close()
            self._producer.close()

    def send(
        self,
        topic: str,
        partition: int,
        keys: Sequence[bytes],
        values: Sequence[bytes],
        timestamps_ms: Sequence[int],
    ) -> None:
        """Append records to one partition in their order; block while too many bytes are in flight."""
        with kafka_errors_explained(self._settings):
            if partition not in (self._producer.partitions_for(topic) or ()):
                raise UnknownTopicOrPartitionError(f"{topic}-{partition}")
            for count, first, body in encode_batches(keys, values, timestamps_ms):
                latest = max(timestamps_ms[first : first + count])
                self._append(TopicPartition(topic, partition), body, count, timestamps_ms[first], latest)
            while self._in_flight_bytes > IN_FLIGHT_BYTES:
                self._await_oldest()

    def flush(self) -> None:
        """Wait until everything is acknowledged."""
        with kafka_errors_explained(self._settings):
            while self._in_flight:
                self._await_oldest()

    def _append(self, where: TopicPartition, body: bytes, count: int, first_ms: int, latest_ms: int) -> None:
        # Full from the start, so that the client appends no record of its own. The builder writes the header and
        # compresses when the batch is sent; it takes what it would have counted from these fields.
        records = MemoryRecordsBuilder(_MAGIC, self._codec, batch_size=1)
        builder = records._builder
        builder._buffer += body
        builder._num_records, builder._last_offset = count, count - 1
        builder._first_timestamp, builder._max_timestamp = first_ms, latest_ms
        records._next_offset = count
        batch = _UnsplitBatch(where, records)
        acknowledged = FutureRecordMetadata(batch.produce_future, 0, first_ms, None, -1, -1, -1)
        # What `RecordAccumulator.append` does with a new batch: its lock, its queue, its set of unfinished batches.
        accumulator = self._producer._accumulator
        with accumulator._tp_lock(where):
            accumulator._batches[where].append(batch)
            accumulator._incomplete.add(batch)
        self._producer._sender.wakeup()
        self._in_flight.append((acknowledged, len(body)))
        self._in_flight_bytes += len(body)

    def _await_oldest(self) -> None:
        acknowledged, size = self._in_flight.popleft()
        self._in_flight_bytes -= size
        acknowledged.get(ACKNOWLEDGED_WITHIN_S)


class _UnsplitBatch(ProducerBatch):  # type: ignore[misc]
    """A batch that fails when the broker finds it too large.

    The client splits a batch of several records and would wait for ever for the acknowledgement of the whole.
    """

    @property
    def record_count(self) -> int:
        return 1


def encode_batches(
    keys: Sequence[bytes], values: Sequence[bytes], timestamps_ms: Sequence[int]
) -> Iterator[tuple[int, int, bytes]]:
    """Encode records as bodies of record batches, message format v2, uncompressed.

    Yields
    ------
    count, first, body
        How many records, the index of the first of them, and their bytes.
    """
    first, out, size = 0, list[bytes](), 0
    for i, (key, value, timestamp_ms) in enumerate(zip(keys, values, timestamps_ms, strict=True)):
        if size >= BATCH_BYTES:
            yield i - first, first, b"".join(out)
            first, out, size = i, [], 0
        record = b"".join(
            (
                b"\0",  # attributes
                varint(timestamp_ms - timestamps_ms[first]),
                _short(i - first),
                _short(len(key)),
                key,
                _short(len(value)),
                value,
                b"\0",  # no headers
            )
        )
        out += (_short(len(record)), record)
        size += len(record) + 3
    if out:
        yield len(keys) - first, first, b"".join(out)


def varint(value: int) -> bytes:
    """Return a signed integer as Kafka encodes it: zigzag, seven bits a byte, lowest first."""
    rest = value << 1 if value >= 0 else (-value << 1) - 1
    out = bytearray()
    while rest > 0x7F:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)


_short = cache(varint)
"""For lengths and offset deltas, which repeat all the time."""
