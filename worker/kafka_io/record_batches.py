"""Kafka records as columns, and the compiled reader that takes them out of a record batch.

The format is Kafka's message format v2: a batch's records are length-prefixed and their fields are zigzag
varints, see https://kafka.apache.org/documentation/#record. kafka-python itself reads the legacy formats.

The bytes come from the network, and numba checks no bounds. So every length is compared with the bytes that are left
before it is used, in a form that cannot overflow (`length > stop - at`, never `at + length > stop`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numba import njit
from numpy.typing import NDArray

OFFSET, TIMESTAMP, KEY_LENGTH, VALUE_LENGTH, KEY_START, VALUE_START = range(6)
"""Rows of a batch's table, contiguous, so that a column is a view; the last two are positions in the batch's bytes."""
SMALLEST_RECORD_BYTES = 7
"""A length, the attributes, two deltas, two null lengths and a header count of one byte each."""

ParsedBatch = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""The bytes of a batch, uint8, and the table of its records, int64 (6, n), that points into them."""


class RecordFormatError(ValueError):
    """The bytes of a batch are not records; nothing outside them was read."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordColumns:
    """Consecutive records of one partition, as columns.

    Not one of `models.columns.Columns`: its starts point into `data`, so joining two sets is more than joining arrays.

    Attributes
    ----------
    topic, partition
        Where the records come from.
    offsets : int64 (n,)
        Strictly increasing; compaction and transactions leave gaps.
    timestamps_ms : int64 (n,)
        The producer's or the broker's, as the topic is configured.
    data : uint8 (bytes,)
        One contiguous buffer that holds all keys and values, and other bytes between them.
    key_start, key_length, value_start, value_length : int64 (n,)
        Positions in `data`; a length of -1 is null. A value's length below that stands for a whole batch that was not
        read; see `refused_batch`.
    next_offset
        The partition's position after these records: behind gaps and control batches too.
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

    def pieces(self, rows: int) -> Iterator[RecordColumns]:
        """Yield views of `rows` records at most, one after the other; of no records these themselves."""
        for start in range(0, max(len(self), 1), rows):
            part, is_last = slice(start, start + rows), start + rows >= len(self)
            yield replace(
                self,
                offsets=self.offsets[part],
                timestamps_ms=self.timestamps_ms[part],
                key_start=self.key_start[part],
                key_length=self.key_length[part],
                value_start=self.value_start[part],
                value_length=self.value_length[part],
                next_offset=self.next_offset if is_last else int(self.offsets[part.stop]),
            )

    def key(self, i: int) -> bytes | None:
        """Return the key of record `i`, a copy."""
        return self._bytes(int(self.key_start[i]), int(self.key_length[i]))

    def value(self, i: int, most: int | None = None) -> bytes | None:
        """Return the value of record `i`, a copy; of a longer one than `most`, the first so many bytes."""
        length = int(self.value_length[i])
        return self._bytes(int(self.value_start[i]), length if most is None else min(length, most))

    def _bytes(self, start: int, length: int) -> bytes | None:
        return None if length < 0 else self.data[start : start + length].tobytes()


def _joined(batches: Sequence[ParsedBatch]) -> ParsedBatch:
    sizes = np.array([data.size for data, _ in batches])
    table = np.concatenate([table for _, table in batches], axis=1)
    # Starts point into their own batch's bytes: they move by the bytes of the batches before.
    table[KEY_START:] += np.repeat(np.cumsum(sizes) - sizes, [table.shape[1] for _, table in batches])
    return np.concatenate([data for data, _ in batches]), table


_REFUSED = -2


def refused_batch(base_offset: int, last_offset_delta: int, timestamp_ms: int) -> NDArray[np.int64]:
    """Return the table of a batch that was not read, because it inflates too far: one row, int64 (6, 1).

    The row has no key, and -2 less the distance to the batch's last offset as the length of its value.
    """
    table = np.zeros((6, 1), np.int64)
    table[OFFSET], table[TIMESTAMP] = base_offset, timestamp_ms
    table[KEY_LENGTH], table[VALUE_LENGTH] = -1, _REFUSED - last_offset_delta
    return table


def refused_until(offset: int, value_length: int) -> int | None:
    """Return the last offset of the batch that a record stands for; None for a record that was read."""
    return offset + _REFUSED - value_length if value_length <= _REFUSED else None


def rows_from(table: NDArray[np.int64], offset: int) -> NDArray[np.int64]:
    """Return the rows of a batch from an offset on; of one that was not read, a row for what is left of it."""
    first, last = int(table[OFFSET, 0]), refused_until(int(table[OFFSET, 0]), int(table[VALUE_LENGTH, 0]))
    if last is not None and first < offset <= last:
        return refused_batch(offset, last - offset, int(table[TIMESTAMP, 0]))
    return table[:, np.searchsorted(table[OFFSET], offset) :]


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
    data : uint8 (bytes,)
        The bytes of the batch, which end with its last record.
    position
        Where its first record begins, in bytes.
    count, base_offset, last_offset_delta, base_timestamp_ms
        From the batch's header.

    Returns
    -------
    int64 (6, count)
        Offset, timestamp in ms, lengths of key and value (-1 is null), their starts.

    Raises
    ------
    RecordFormatError
        A field runs out of its record or out of int64, a record ends too early or too late, offsets do not increase,
        one lies behind the batch's last, or bytes are left over.
    """
    # Before the table is allocated: a hostile header may count two billion records.
    room = data.size - position
    if not 0 <= count * SMALLEST_RECORD_BYTES <= room:
        raise RecordFormatError(f"{count} records cannot be in {room} bytes")
    table = np.empty((6, count), dtype=np.int64)
    bad = _parse(data, position, base_offset, last_offset_delta, base_timestamp_ms, table)
    if bad >= 0:
        what = "bytes after the last record" if bad == count else f"record {bad} of {count}"
        raise RecordFormatError(f"{what} not as the format requires")
    return table


@njit(cache=True, nogil=True)
def _varint(buffer: NDArray[np.uint8], at: int, stop: int) -> tuple[int, int]:
    """Read the zigzag varint at `at`; return its value and the position after it, -1 if it runs past `stop`."""
    # All in uint64: numba makes a float of an int64 and a uint64, and a right shift of an int64 keeps the sign.
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
    """Read the nullable bytes at `at`; return start, length (-1 if null), the position after (-1 if malformed)."""
    length, start = _varint(buffer, at, stop)
    if start < 0 or length > stop - start:
        return 0, 0, -1
    if length < 0:
        return start, -1, start
    return start, length, start + length


@njit(cache=True, nogil=True)
def _skip_headers(buffer: NDArray[np.uint8], at: int, stop: int) -> int:
    """Return the position after the headers at `at`, -1 if they are malformed."""
    count, at = _varint(buffer, at, stop)
    # A header takes at least one byte, which bounds the loop under a hostile count.
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
    """Fill `table`; return the number of the first bad record, `count` if bytes are left over, -1 if all is well."""
    count = table.shape[1]
    previous = -1
    for i in range(count):
        size, at = _varint(buffer, at, buffer.size)
        if at < 0 or size < 1 or size > buffer.size - at:
            return i
        stop = at + size
        timestamp, at = _varint(buffer, at + 1, stop)  # behind the attributes, which no version uses
        if at < 0:
            return i
        offset, at = _varint(buffer, at, stop)
        # Offsets must increase: readers search them, and a position once committed covers all before it.
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
    """Raise IndexError unless all `length` bytes from `start` on lie in `data`; compiled loops read unchecked."""
    if start < 0 or length > data.size - start:
        raise IndexError("a key or value lies outside the data")
