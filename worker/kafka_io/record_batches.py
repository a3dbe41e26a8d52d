"""Kafka records as columns, and the compiled reader that takes them out of a record batch.

The format is Kafka's message format v2: a batch's records are length-prefixed and their fields are zigzag
varints, see https://kafka.apache.org/documentation/#record. Legacy formats never come here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

OFFSET, TIMESTAMP, KEY_LENGTH, VALUE_LENGTH, KEY_START, VALUE_START = range(6)
"""Rows of a batch's table; the last two are positions in its bytes."""
SMALLEST_RECORD_BYTES = 7
"""A length, the attributes, two deltas, two null lengths and a header count of one byte each."""

ParsedBatch = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""The bytes of a batch, uint8, and the table of its records, int64 [6, n], that points into them."""


class RecordFormatError(ValueError):
    """Bytes that claim to be records are not; nothing outside them has been read."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordColumns:
    """Consecutive records of one partition, as columns.

    Attributes
    ----------
    topic, partition
        Where the records come from.
    offsets
        int64 [n], strictly increasing; compaction and transactions leave gaps.
    timestamps_ms
        int64 [n], the producer's or the broker's, as the topic is configured.
    data
        uint8, one contiguous buffer that holds the bytes of all keys and values, and others between them.
    key_start, key_length, value_start, value_length
        int64 [n], positions in `data`; a length of -1 is null.
    next_offset
        Where the partition's position stands after these records: past gaps and control batches too.
    """

    topic: str
    partition: int
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    data: NDArray[np.uint8]
    key_start: NDArray[np.int64]
    key_length: NDArray[np.int64]
    value_start: NDArray[np.int64]
    value_length: NDArray[np.int64]
    next_offset: int

    @classmethod
    def of_batches(
        cls, topic: str, partition: int, batches: Sequence[ParsedBatch], next_offset: int
    ) -> RecordColumns:
        """Join at least one parsed batch; a single one is not copied."""
        data, table = batches[0] if len(batches) == 1 else _joined(batches)
        return cls(
            topic=topic,
            partition=partition,
            offsets=table[OFFSET],
            timestamps_ms=table[TIMESTAMP],
            data=data,
            key_start=table[KEY_START],
            key_length=table[KEY_LENGTH],
            value_start=table[VALUE_START],
            value_length=table[VALUE_LENGTH],
            next_offset=next_offset,
        )

    def __len__(self) -> int:
        return self.offsets.size

    def key(self, i: int) -> bytes | None:
        """Return the key of record `i`, a copy."""
        return self._bytes(int(self.key_start[i]), int(self.key_length[i]))

    def value(self, i: int) -> bytes | None:
        """Return the value of record `i`, a copy."""
        return self._bytes(int(self.value_start[i]), int(self.value_length[i]))

    def _bytes(self, start: int, length: int) -> bytes | None:
        return None if length < 0 else self.data[start : start + length].tobytes()


def _joined(batches: Sequence[ParsedBatch]) -> ParsedBatch:
    sizes = np.array([data.size for data, _ in batches])
    table = np.concatenate([table for _, table in batches], axis=1)
    table[KEY_START:] += np.repeat(np.cumsum(sizes) - sizes, [table.shape[1] for _, table in batches])
    return np.concatenate([data for data, _ in batches]), table


def parse_records(
    data: NDArray[np.uint8],
    position: int,
    *,
    count: int,
    base_offset: int,
    last_offset_delta: int,
    base_timestamp_ms: int,
) -> NDArray[np.int64]:
    """Take the records of one uncompressed batch apart.

    Parameters
    ----------
    data
        uint8, the bytes of the batch, which end with its last record.
    position
        Where its first record begins, in bytes.
    count, base_offset, last_offset_delta, base_timestamp_ms
        As the batch's header says.

    Returns
    -------
    NDArray
        int64 [6, count]: offset, timestamp in ms, lengths of key and value (-1 is null), their starts.

    Raises
    ------
    RecordFormatError
        A field runs out of its record or out of int64, a record ends too early or too late, offsets do not
        increase up to at most the batch's last, or bytes are left over.
    """
    room = data.size - position
    if not 0 <= count * SMALLEST_RECORD_BYTES <= room:
        raise RecordFormatError(f"{count} records cannot be in {room} bytes")
    table = np.empty((6, count), dtype=np.int64)
    bad = _parse(data, position, base_offset, last_offset_delta, base_timestamp_ms, table)
    if bad >= 0:
        what = "bytes after the last record" if bad == count else f"record {bad} of {count}"
        raise RecordFormatError(f"{what} not as the format wants")
    return table


@njit(cache=True, nogil=True)
def _varint(buffer: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """Zigzag varint at `at`: its value and the position after it, -1 when there is none before `stop`."""
    raw = np.uint64(0)
    for shift in range(0, 64, 7):
        if at >= stop:
            break
        byte = np.uint64(buffer[at])
        at += 1
        raw |= (byte & np.uint64(0x7F)) << np.uint64(shift)
        if byte < np.uint64(0x80):
            if shift == 63 and byte > np.uint64(1):  # the 65th bit
                break
            return int(np.int64(raw >> np.uint64(1))) ^ -int(np.int64(raw & np.uint64(1))), at
    return 0, -1


@njit(cache=True, nogil=True)
def _nullable(buffer: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int, int]:
    """Nullable bytes at `at`: start, length (-1 when null), the position after them (-1 when malformed)."""
    length, start = _varint(buffer, at, stop)
    if start < 0 or length > stop - start:
        return 0, 0, -1
    if length < 0:
        return start, -1, start
    return start, length, start + length


@njit(cache=True, nogil=True)
def _skip_headers(buffer: NDArray[np.uint8], at: int, stop: int) -> int:
    """Position after the headers at `at`, -1 when they are malformed."""
    count, at = _varint(buffer, at, stop)
    if at < 0 or count < 0 or count > stop - at:
        return -1
    for _ in range(count):
        _, length, at = _nullable(buffer, at, stop)
        if at < 0 or length < 0:
            return -1
        _, length, at = _nullable(buffer, at, stop)
        if at < 0:
            return -1
    return at


@njit(cache=True, nogil=True)
def _parse(
    buffer: NDArray[np.uint8],
    at: int,
    base_offset: int,
    last_delta: int,
    base_timestamp_ms: int,
    table: NDArray[np.int64],
) -> int:
    """Fill `table`; the number of the first bad record, -1 when all is well."""
    count = table.shape[1]
    previous = -1
    for i in range(count):
        size, at = _varint(buffer, at, buffer.size)
        if at < 0 or size < 1 or size > buffer.size - at:
            return i
        stop = at + size
        timestamp, at = _varint(buffer, at + 1, stop)
        if at < 0:
            return i
        offset, at = _varint(buffer, at, stop)
        if at < 0 or offset <= previous or offset > last_delta:
            return i
        previous = offset
        table[OFFSET, i] = base_offset + offset
        table[TIMESTAMP, i] = base_timestamp_ms + timestamp
        table[KEY_START, i], table[KEY_LENGTH, i], at = _nullable(buffer, at, stop)
        if at < 0:
            return i
        table[VALUE_START, i], table[VALUE_LENGTH, i], at = _nullable(buffer, at, stop)
        if at < 0 or _skip_headers(buffer, at, stop) != stop:
            return i
        at = stop
    return -1 if at == buffer.size else count


@njit(cache=True, nogil=True)
def require_inside(data: NDArray[np.uint8], start: int, length: int) -> None:
    """Raise IndexError when `length` bytes from `start` on are not all in `data`; for compiled callers."""
    if start < 0 or length > data.size - start:
        raise IndexError("a key or value lies outside the data")
