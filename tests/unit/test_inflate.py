"""Compressed batches are inflated within a bound, and read as the client reads them."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import numpy as np
import pytest
import zstandard
from kafka.codec import gzip_encode, lz4_encode, snappy_encode, zstd_encode

from tests.unit.test_record_batches import PARTITION, batch_bytes, fetched, plain_rows, rows_of
from worker.errors import CorruptError
from worker.kafka_io.consumer import _ColumnarPartitionRecords, columns_of
from worker.kafka_io.inflate import MOST_BYTES, TooLargeError, inflate
from worker.settings.sections import Settings
from worker.wire.decoder import Decoder

ENCODE = {1: gzip_encode, 2: snappy_encode, 3: lz4_encode, 4: zstd_encode}
CODECS = pytest.mark.parametrize("codec", [1, 2, 3, 4], ids=["gzip", "snappy", "lz4", "zstd"])


@CODECS
@pytest.mark.parametrize("size", [0, 1, 70_000, 3 << 20])
def test_what_is_within_the_bound_is_inflated_whole(codec: int, size: int) -> None:
    data = np.random.default_rng(size).integers(0, 4, size, dtype=np.uint8).tobytes()
    packed = memoryview(ENCODE[codec](data))
    assert inflate(codec, packed, most=size) == data
    if size:
        with pytest.raises(TooLargeError):
            inflate(codec, packed, most=size - 1)


@CODECS
def test_a_bomb_takes_no_more_memory_than_the_bound(codec: int) -> None:
    packed = memoryview(ENCODE[codec](bytes(300 << 20)))
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            inflate(codec, packed, most=4 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 * (4 << 20) + 3 * len(packed)
    finally:
        tracemalloc.stop()


@CODECS
def test_damaged_bytes_raise_the_declared_error_alone(codec: int) -> None:
    rng = np.random.default_rng(codec)
    whole = bytearray(ENCODE[codec](rng.integers(0, 4, 5_000, dtype=np.uint8).tobytes()))
    for _ in range(300):
        damaged = whole[: rng.integers(0, len(whole))] if rng.random() < 0.3 else bytearray(whole)
        for at in rng.integers(0, max(1, len(damaged)), 3)[: len(damaged)]:
            damaged[at] ^= 1 << int(rng.integers(0, 8))
        with suppress(CorruptError, TooLargeError):
            inflate(codec, memoryview(bytes(damaged)), most=1 << 20)


def test_a_bug_of_ours_is_not_called_corrupt_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        del args, kwargs
        raise AttributeError("a bug")

    monkeypatch.setattr("worker.kafka_io.consumer.parse_records", broken)
    fetch = fetched(_ColumnarPartitionRecords, [batch_bytes(plain_rows(3))])
    with pytest.raises(AttributeError, match="a bug"):
        fetch.take()


def test_snappy_without_the_java_frame_is_bounded_by_its_own_length() -> None:
    packed = memoryview(snappy_encode(bytes(1_000), xerial_compatible=False))
    assert inflate(2, packed, most=1_000) == bytes(1_000)
    with pytest.raises(TooLargeError):
        inflate(2, packed, most=999)


def bomb(base_offset: int) -> bytearray:
    """One batch of one record of spaces, 10 KB as it comes."""
    return batch_bytes([(0, 1_000, b"k", b" " * (MOST_BYTES + 1), [])], base_offset, codec=4, last_delta=6)


def test_a_bomb_becomes_a_dead_letter_by_its_offsets_and_what_follows_is_read() -> None:
    assert len(bomb(0)) < 10_000
    fetch = fetched(_ColumnarPartitionRecords, [bomb(5), batch_bytes(plain_rows(3), 12)])
    columns = columns_of(PARTITION, fetch.take())
    assert rows_of(columns) == [
        (5, 1_000, None, None), *((12 + i, 1_000 + i, b"k%d" % i, b"v%d" % i) for i in range(3))
    ]  # fmt: skip
    assert (columns.next_offset, fetch.next_fetch_offset) == (15, 15)
    good, bad = Decoder(Settings(entity_key="00" * 16)).transactions(columns)
    assert len(good) == 0
    assert (bad[0].offset, bad[0].reason, bad[0].value) == (5, "too_large", None)
    assert "not read up to offset 11" in bad[0].detail


@pytest.mark.parametrize("fetch_offset", [6, 11])
def test_a_bomb_is_reported_for_what_is_left_of_it_where_reading_begins_inside(fetch_offset: int) -> None:
    fetch = fetched(_ColumnarPartitionRecords, [bomb(5), batch_bytes(plain_rows(1), 12)], fetch_offset)
    columns = columns_of(PARTITION, fetch.take())
    assert rows_of(columns) == [(fetch_offset, 1_000, None, None), (12, 1_000, b"k0", b"v0")]
    _, bad = Decoder(Settings(entity_key="00" * 16)).transactions(columns)
    assert (bad[0].offset, bad[0].reason) == (fetch_offset, "too_large")
    assert "not read up to offset 11" in bad[0].detail


def test_a_fetch_of_many_large_batches_ends_early_and_is_fetched_again() -> None:
    size = MOST_BYTES // 4
    batches = [batch_bytes([(0, 1, b"k", b" " * size, [])], offset, codec=1) for offset in range(12)]
    seen, position = [], 0
    while position < len(batches):
        fetch = fetched(_ColumnarPartitionRecords, batches[position:], position)
        columns = columns_of(PARTITION, fetch.take())
        seen.append(columns.offsets.tolist())
        assert columns.data.size < 2 * MOST_BYTES
        position = fetch.next_fetch_offset
    assert [offset for part in seen for offset in part] == list(range(12))
    assert len(seen) > 2


def test_a_record_with_a_null_value_is_not_taken_for_a_refused_batch() -> None:
    fetch = fetched(_ColumnarPartitionRecords, [batch_bytes([(0, 1, b"k", None, [])], 3)])
    _, bad = Decoder(Settings(entity_key="00" * 16)).transactions(columns_of(PARTITION, fetch.take()))
    assert [(it.offset, it.reason) for it in bad] == [(3, "null_value")]


def test_frames_one_after_another_are_read_across() -> None:
    two = zstandard.ZstdCompressor().compress(b"a" * 10) + zstandard.ZstdCompressor().compress(b"b" * 10)
    assert inflate(4, memoryview(two)) == b"a" * 10 + b"b" * 10
