"""The partitioners of Kafka's producers, for a whole column of keys and for one."""

from __future__ import annotations

import zlib
from typing import Literal

import numpy as np
from kafka.partitioner import murmur2
from numba import njit
from numpy.typing import NDArray

from worker.kafka_io.record_batches import RecordColumns, require_inside

Partitioner = Literal["murmur2", "crc32"]


def partitions_of_keys(
    columns: RecordColumns, partition_count: int, partitioner: Partitioner
) -> NDArray[np.int32]:
    """Return the partition that a producer's partitioner chooses for each record's key.

    Parameters
    ----------
    columns
        The records.
    partition_count
        Number of partitions of the topic, at least 1.
    partitioner
        `murmur2` is Kafka's own (``toPositive(murmur2(key)) % n``), `crc32` librdkafka's default,
        `consistent_random` (``crc32(key) % n``).

    Returns
    -------
    int32 (n,)
        -1 where the partitioner draws a partition at random: for a null key, under `crc32` for an empty one too.

    Raises
    ------
    IndexError
        A key lies outside the data.
    """
    hashed = _murmur2_partitions if partitioner == "murmur2" else _crc32_partitions
    found: NDArray[np.int32] = hashed(columns.data, columns.key_start, columns.key_length, partition_count)
    return found


@njit(cache=True, nogil=True)
def _murmur2(data: NDArray[np.uint8], start: int, length: int) -> np.uint32:
    """Return MurmurHash2 with Kafka's seed, as `org.apache.kafka.common.utils.Utils.murmur2` does."""
    # The hash is of 32 bits, but numba multiplies in 64: every product is masked.
    mask = np.uint64(0xFFFFFFFF)
    m = np.uint64(0x5BD1E995)
    h = np.uint64(0x9747B28C) ^ np.uint64(length)
    whole = length & ~3
    for i in range(start, start + whole, 4):
        k = np.uint64(0)
        for j in range(4):
            k |= np.uint64(data[i + j]) << np.uint64(8 * j)
        k = (k * m) & mask
        k = ((k ^ (k >> np.uint64(24))) * m) & mask
        h = ((h * m) & mask) ^ k
    if length > whole:
        for j in range(length - whole):
            h ^= np.uint64(data[start + whole + j]) << np.uint64(8 * j)
        h = (h * m) & mask
    h = ((h ^ (h >> np.uint64(13))) * m) & mask
    return np.uint32(h ^ (h >> np.uint64(15)))


def partition_of(key: bytes, partition_count: int, partitioner: Partitioner) -> int:
    """Return the partition that a producer's partitioner chooses for one key that is not empty."""
    hashed = murmur2(key) & 0x7FFFFFFF if partitioner == "murmur2" else zlib.crc32(key)
    return int(hashed % partition_count)


@njit(cache=True, nogil=True)
def _murmur2_partitions(
    data: NDArray[np.uint8], start: NDArray[np.int64], length: NDArray[np.int64], count: int
) -> NDArray[np.int32]:
    out = np.full(start.size, -1, dtype=np.int32)
    for i in range(start.size):
        if length[i] >= 0:
            require_inside(data, start[i], length[i])
            # Kafka's `toPositive` clears the sign bit of a Java int.
            out[i] = np.int64(_murmur2(data, start[i], length[i]) & np.uint32(0x7FFFFFFF)) % count
    return out


def _crc32_table() -> NDArray[np.uint32]:
    """Return the remainders of all 256 bytes by zlib's reflected polynomial, uint32 (256,)."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0xEDB88320), table >> 1)
    return table


_CRC32 = _crc32_table()


@njit(cache=True, nogil=True)
def _crc32_partitions(
    data: NDArray[np.uint8], start: NDArray[np.int64], length: NDArray[np.int64], count: int
) -> NDArray[np.int32]:
    out = np.full(start.size, -1, dtype=np.int32)
    for i in range(start.size):
        if length[i] > 0:
            require_inside(data, start[i], length[i])
            crc = np.uint32(0xFFFFFFFF)
            for j in range(start[i], start[i] + length[i]):
                crc = (crc >> np.uint32(8)) ^ _CRC32[(crc ^ data[j]) & np.uint32(0xFF)]
            out[i] = np.int64(crc ^ np.uint32(0xFFFFFFFF)) % count
    return out
