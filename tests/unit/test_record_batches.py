"""The compiled reader of record batches and the partitioners, compared with kafka-python's own."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import kafka
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.partitioner.default import murmur2
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords, MemoryRecordsBuilder
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c
from numpy.typing import NDArray

from tests.support.records import record_columns
from worker.errors import CorruptError, SettingsError
from worker.kafka_io.consumer import _ColumnarPartitionRecords, columns_of, require_seam
from worker.kafka_io.partitioner import Partitioner, partitions_of_keys
from worker.kafka_io.record_batches import RecordColumns, RecordFormatError, _parse, parse_records

Row = tuple[int, int, bytes | None, bytes | None, list[tuple[str, bytes | None]]]
"""Offset delta, timestamp in ms, key, value, headers."""

PARTITION = TopicPartition("topic", 3)
HEADER_BYTES = DefaultRecordBatch.HEADER_STRUCT.size
ABORT, COMMIT = 0, 1

examples = settings(max_examples=100, deadline=None, derandomize=True)

blobs = st.none() | st.binary(max_size=40)
headers = st.lists(st.tuples(st.text(max_size=5), blobs), max_size=2)


@st.composite
def batch_rows(draw: Callable[[Any], Any]) -> list[Row]:
    steps = draw(st.lists(st.integers(1, 300), max_size=12))
    times = st.integers(-1, 2**62)
    return [(int(delta), draw(times), draw(blobs), draw(blobs), draw(headers)) for delta in np.cumsum(steps)]


def plain_rows(count: int, first: int = 0) -> list[Row]:
    return [(i, 1_000 + i, b"k%d" % i, b"v%d" % i, []) for i in range(first, first + count)]


def batch_bytes(
    rows: Sequence[Row],
    base_offset: int = 0,
    codec: int = 0,
    *,
    producer_id: int = -1,
    flags: int = 0,
    append_time_ms: int | None = None,
    last_delta: int | None = None,
) -> bytearray:
    """One batch as a broker would send it: kafka-python's, with the fields that brokers set."""
    builder = DefaultRecordBatchBuilder(2, codec, False, producer_id, 0, 0, 1 << 20)
    for row in rows:
        builder.append(*row)
    raw = bytearray(builder.build())
    struct.pack_into(">q", raw, 0, base_offset)
    (attributes,) = struct.unpack_from(">h", raw, 21)
    if append_time_ms is not None:
        flags |= DefaultRecordBatch.TIMESTAMP_TYPE_MASK
        struct.pack_into(">q", raw, 35, append_time_ms)
    struct.pack_into(">h", raw, 21, attributes | flags)
    if last_delta is not None:
        struct.pack_into(">i", raw, 23, last_delta)
    struct.pack_into(">I", raw, 17, calc_crc32c(memoryview(raw)[21:]))
    return raw


def marker(base_offset: int, producer_id: int, kind: int) -> bytearray:
    flags = DefaultRecordBatch.CONTROL_MASK | DefaultRecordBatch.TRANSACTIONAL_MASK
    return batch_bytes(
        [(0, 5, struct.pack(">hh", 0, kind), b"", [])], base_offset, producer_id=producer_id, flags=flags
    )


def parse(raw: bytearray) -> RecordColumns:
    batch = DefaultRecordBatch(raw)
    batch._maybe_uncompress()
    data = np.frombuffer(batch._buffer, dtype=np.uint8)
    table = parse_records(
        data,
        batch._pos,
        count=batch.records_count,
        base_offset=batch.base_offset,
        last_offset_delta=batch.last_offset_delta,
        base_timestamp_ms=batch.first_timestamp,
    )
    return RecordColumns.of_batches("topic", 3, [(data, table)], batch.next_offset)


def table_of(records: bytes | list[int], count: int = 1, last_offset_delta: int = 1) -> NDArray[np.int64]:
    data = np.frombuffer(bytearray(records), dtype=np.uint8)
    return parse_records(
        data, 0, count=count, base_offset=0, last_offset_delta=last_offset_delta, base_timestamp_ms=0
    )


def rows_of(columns: RecordColumns) -> list[tuple[int, int, bytes | None, bytes | None]]:
    at = zip(columns.offsets.tolist(), columns.timestamps_ms.tolist(), range(len(columns)), strict=True)
    return [(offset, time_ms, columns.key(i), columns.value(i)) for offset, time_ms, i in at]


def client_rows(raw: bytearray) -> list[tuple[int, int, bytes | None, bytes | None]]:
    return [(it.offset, it.timestamp, it.key, it.value) for it in DefaultRecordBatch(raw)]


def fetched(
    kind: type[Any], batches: Sequence[bytearray], fetch_offset: int = 0, aborted: Sequence[Any] = ()
) -> Any:
    """The client's reader of one fetched partition, with no broker behind it."""
    records = MemoryRecords(b"".join(batches))
    level = IsolationLevel.READ_COMMITTED
    return kind(fetch_offset, PARTITION, records, isolation_level=level, aborted_transactions=aborted)


def both_ways(
    batches: Sequence[bytearray], fetch_offset: int = 0, aborted: Sequence[Any] = ()
) -> tuple[RecordColumns, RecordColumns, int]:
    """The same fetch read whole and record by record, and the client's position after it."""
    whole = fetched(_ColumnarPartitionRecords, batches, fetch_offset, aborted)
    single = fetched(Fetcher.PartitionRecords, batches, fetch_offset, aborted)
    columns = columns_of(PARTITION, whole.take())
    by_record = columns_of(PARTITION, single.take())
    assert whole.next_fetch_offset == single.next_fetch_offset
    assert whole.leader_epoch == single.leader_epoch
    return columns, by_record, single.next_fetch_offset


class Aborted:
    """An aborted transaction as a fetch response lists it."""

    def __init__(self, producer_id: int, first_offset: int) -> None:
        self.producer_id = producer_id
        self.first_offset = first_offset


@given(batch_rows(), st.integers(0, 2**40), st.sampled_from([0, 1, 2, 3, 4]))
@examples
def test_a_batch_reads_as_the_client_reads_it(rows: list[Row], base_offset: int, codec: int) -> None:
    raw = batch_bytes(rows, base_offset, codec)
    columns = parse(raw)
    assert rows_of(columns) == client_rows(raw)
    assert rows_of(columns) == [(base_offset + row[0], *row[1:4]) for row in rows]


def test_a_record_written_out_by_hand_reads() -> None:
    fields = [
        0x00,  # attributes
        0x03,  # timestamp delta -2, zigzag
        0xD8, 0x04,  # offset delta 300 = 0b10_0101100, zigzag 600
        0x02, ord("k"),  # key of 1 byte
        0x01,  # null value
        0x02, 0x02, ord("h"), 0x00,  # one header, key of 1 byte, empty value
    ]  # fmt: skip
    # 0xEE precedes the batch's first record
    data = np.frombuffer(bytearray([0xEE, 2 * len(fields), *fields]), dtype=np.uint8)
    table = parse_records(data, 1, count=1, base_offset=7, last_offset_delta=300, base_timestamp_ms=50)
    assert table[:, 0].tolist() == [307, 48, 1, -1, 7, 9]


@given(batch_rows().filter(len), st.data())
@examples
def test_hostile_bytes_raise_the_declared_error_or_read_inside_the_batch(
    rows: list[Row], data: st.DataObject
) -> None:
    raw = batch_bytes(rows)
    records = raw[HEADER_BYTES:]
    for _ in range(data.draw(st.integers(1, 3))):
        records[data.draw(st.integers(0, len(records) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    records = records[: data.draw(st.integers(0, len(records)) | st.just(len(records)))]
    try:
        columns = parse(raw[:HEADER_BYTES] + records)
    except RecordFormatError:
        return
    size = columns.data.size
    for start, length in (
        (columns.key_start, columns.key_length),
        (columns.value_start, columns.value_length),
    ):
        assert (start >= HEADER_BYTES).all()
        assert (start + np.maximum(length, 0) <= size).all()
    assert (np.diff(columns.offsets) > 0).all()


@given(st.binary(max_size=60), st.integers(1, 4))
@examples
def test_what_lies_behind_the_buffer_never_matters(records: bytes, count: int) -> None:
    seen = []
    for filler in (b"\x00", b"\x7f", b"\xff"):
        memory = np.frombuffer(bytearray(filler * 16 + records + filler * 64), dtype=np.uint8)
        table = np.zeros((6, count), dtype=np.int64)
        seen.append((_parse(memory[16 : 16 + len(records)], 0, 0, 1_000, 0, table), table.tolist()))
    assert seen[0] == seen[1] == seen[2]


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ([0x0C, 0, 0, 0, 1, 1, 0], None),
        ([0x0C, 0, 0, 0, 1, 1], "too short for any record"),
        ([0x0E, 0, 0, 0, 1, 1, 0], "longer than the buffer"),
        ([0x0A, 0, 0, 0, 1, 1, 0], "shorter than its fields"),
        ([0x0E, 0, 0, 0, 1, 1, 0, 0], "longer than its fields"),
        ([0x01, 0, 0, 0, 1, 1, 0], "negative length"),
        ([0x0C, 0, 0, 0, 1, 1, 0, 0], "bytes left over"),
        ([0x0C, 0, 0, 1, 1, 1, 0], "negative offset delta"),
        ([0x0C, 0, 0, 4, 1, 1, 0], "offset behind the batch's last"),
        ([0x0C, 0, 0, 0, 2, 1, 0], "key takes the value's length for its own byte"),
        ([0x0C, 0, 0, 0, 1, 4, 0], "value longer than its record"),
        ([0x0C, 0, 0, 0, 1, 1, 1], "negative header count"),
        ([0x10, 0, 0, 0, 1, 1, 2, 1, 0], "null header key"),
        ([0x1E, 0] + [0xFF] * 9 + [0x02, 0, 1, 1, 0], "timestamp beyond 64 bits"),
        ([0x20, 0] + [0x80] * 10 + [0x00, 0, 1, 1, 0], "timestamp of eleven bytes"),
    ],
)
def test_a_malformed_record_is_refused(record: list[int], what: str | None) -> None:
    if what is None:
        assert table_of(record)[:, 0].tolist() == [0, 0, -1, -1, 5, 6]
    else:
        with pytest.raises(RecordFormatError):
            table_of(record)


@pytest.mark.parametrize("count", [-1, 2**31 - 1])
def test_a_hostile_record_count_allocates_nothing(count: int) -> None:
    with pytest.raises(RecordFormatError, match="cannot be in 10 bytes"):
        table_of(bytes(10), count)


def test_offsets_that_do_not_increase_are_refused() -> None:
    first, second = [0x0C, 0, 0, 2, 1, 1, 0], [0x0C, 0, 0, 2, 1, 1, 0]
    with pytest.raises(RecordFormatError, match="record 1 of 2"):
        table_of(first + second, count=2, last_offset_delta=5)


def test_log_append_time_stands_for_every_record() -> None:
    columns, by_record, _ = both_ways([batch_bytes(plain_rows(3), append_time_ms=777)])
    assert columns.timestamps_ms.tolist() == [777] * 3
    assert rows_of(columns) == rows_of(by_record)


@pytest.mark.parametrize("fetch_offset", [100, 101, 104, 105, 110, 111])
def test_a_fetch_from_the_middle_of_a_batch_drops_what_precedes_it(fetch_offset: int) -> None:
    batches = [batch_bytes(plain_rows(5), 100, codec=1), batch_bytes(plain_rows(7), 105)]
    columns, by_record, position = both_ways(batches, fetch_offset)
    assert rows_of(columns) == rows_of(by_record)
    assert columns.offsets[0] == fetch_offset
    assert columns.next_offset == position == 112


def test_compaction_leaves_gaps_before_inside_and_behind_batches() -> None:
    kept = [plain_rows(10)[i] for i in (2, 3, 7)]
    batches = [
        batch_bytes(kept, 100, last_delta=9),
        batch_bytes([], 110, last_delta=4),
        batch_bytes(plain_rows(1), 200, last_delta=19),
    ]
    columns, by_record, position = both_ways(batches, 103)
    assert columns.offsets.tolist() == [103, 107, 200]
    assert rows_of(columns) == rows_of(by_record)
    assert columns.next_offset == position == 220


def test_a_batch_whose_wanted_records_were_compacted_away_moves_the_position() -> None:
    reader = fetched(_ColumnarPartitionRecords, [batch_bytes(plain_rows(2), 100, last_delta=9)], 105)
    columns = columns_of(PARTITION, reader.take())
    assert len(columns) == 0
    assert columns.next_offset == 110


def test_aborted_transactions_and_markers_are_left_out() -> None:
    transactional = DefaultRecordBatch.TRANSACTIONAL_MASK
    batches = [
        batch_bytes(plain_rows(2), 0, producer_id=11, flags=transactional),
        batch_bytes(plain_rows(2), 2, producer_id=22, flags=transactional),
        batch_bytes(plain_rows(1), 4),
        batch_bytes(plain_rows(2), 5, 4, producer_id=11, flags=transactional),
        marker(7, 11, ABORT),
        batch_bytes(plain_rows(1), 8, producer_id=11, flags=transactional),
        marker(9, 22, COMMIT),
        marker(10, 11, COMMIT),
    ]
    columns, by_record, position = both_ways(batches, aborted=[Aborted(11, 0)])
    assert columns.offsets.tolist() == [2, 3, 4, 8]
    assert rows_of(columns) == rows_of(by_record)
    assert columns.next_offset == position == 11


def test_legacy_batches_are_read_by_the_client_and_joined_in_order() -> None:
    legacy = MemoryRecordsBuilder(magic=1, compression_type=0, batch_size=1 << 20, offset=0)
    for i in range(3):
        legacy.append(50 + i, b"old%d" % i, None)
    legacy.close()
    batches = [bytearray(legacy.buffer()), batch_bytes(plain_rows(2), 3)]
    columns, by_record, position = both_ways(batches, 1)
    assert columns.offsets.tolist() == [1, 2, 3, 4]
    assert columns.key(0) == b"old1"
    assert columns.value(0) is None
    assert rows_of(columns) == rows_of(by_record)
    assert columns.next_offset == position == 5


def test_records_before_a_corrupt_batch_are_handed_out_and_the_position_stays_before_it() -> None:
    broken = batch_bytes(plain_rows(3), 5)
    broken[-2] ^= 1
    reader = fetched(_ColumnarPartitionRecords, [batch_bytes(plain_rows(5)), broken])
    columns = columns_of(PARTITION, reader.take())
    assert columns.offsets.tolist() == [0, 1, 2, 3, 4]
    assert columns.next_offset == reader.next_fetch_offset == 5
    with pytest.raises(CorruptError, match="topic/3: the batch at 5 does not read"):
        reader.take()


@given(st.binary(min_size=1), st.data())
@examples
def test_a_hostile_fetch_ends_in_the_declared_error_or_reads(noise: bytes, data: st.DataObject) -> None:
    whole = b"".join(
        [batch_bytes(plain_rows(4)), batch_bytes(plain_rows(4), 4, codec=1), marker(8, 1, COMMIT)]
    )
    at = data.draw(st.integers(0, len(whole) - 1))
    hostile = bytearray(whole[:at] + noise + whole[at + data.draw(st.integers(0, 20)) :])
    reader = _ColumnarPartitionRecords(
        0, PARTITION, MemoryRecords(hostile), check_crcs=data.draw(st.booleans())
    )
    try:
        while reader.take(1):
            pass
    except CorruptError:
        pass


def test_a_client_without_the_seam_is_refused_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    require_seam()
    monkeypatch.setattr(kafka, "__version__", "3.1.0")
    with pytest.raises(SettingsError, match=r"3\.1\.0 lacks version 3\.0\.x.*kafka\.columnar=false"):
        require_seam()
    monkeypatch.undo()
    monkeypatch.delattr(Fetcher, "PartitionRecords")
    with pytest.raises(SettingsError, match=r"Fetcher\.PartitionRecords.*kafka\.columnar=false"):
        require_seam()


@given(st.lists(st.none() | st.binary(max_size=30), min_size=1, max_size=20), st.integers(1, 1_000))
@examples
def test_partitions_are_those_of_the_producers(keys: list[bytes | None], count: int) -> None:
    columns = parse(batch_bytes([(i, 0, key, b"", []) for i, key in enumerate(keys)]))
    of_java = [-1 if key is None else (murmur2(key) & 0x7FFFFFFF) % count for key in keys]
    of_librdkafka = [zlib.crc32(key) % count if key else -1 for key in keys]
    assert partitions_of_keys(columns, count, "murmur2").tolist() == of_java
    assert partitions_of_keys(columns, count, "crc32").tolist() == of_librdkafka


def test_murmur2_gives_what_kafkas_own_tests_want() -> None:
    wanted = {
        b"21": -973932308,
        b"foobar": -790332482,
        b"a-little-bit-long-string": -985981536,
        b"a-little-bit-longer-string": -1486304829,
        b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
        b"abc": 479470107,
    }
    columns = parse(batch_bytes([(i, 0, key, b"", []) for i, key in enumerate(wanted)]))
    positive = [hashed & 0x7FFFFFFF for hashed in wanted.values()]
    assert partitions_of_keys(columns, 2**31 - 1, "murmur2").tolist() == positive


@pytest.mark.parametrize("start", [-1, 190, 2**62])
def test_columns_that_point_outside_their_data_are_refused(start: int) -> None:
    at, length = np.array([start]), np.array([11])
    columns = RecordColumns("t", 0, at, at, np.zeros(200, dtype=np.uint8), at, length, at, length, 1)
    partitioners: list[Partitioner] = ["murmur2", "crc32"]
    for partitioner in partitioners:
        with pytest.raises(IndexError):
            partitions_of_keys(columns, 3, partitioner)


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 8])
def test_pieces_are_the_records_one_after_the_other_with_the_position_behind_each(rows: int) -> None:
    whole = record_columns([b"v%d" % at for at in range(7)], [b"k%d" % at for at in range(7)])
    pieces = list(whole.pieces(rows))
    assert [len(it) for it in pieces] == [min(rows, 7 - start) for start in range(0, 7, rows)]
    assert [it.value(at) for it in pieces for at in range(len(it))] == [whole.value(at) for at in range(7)]
    assert [it.key(at) for it in pieces for at in range(len(it))] == [whole.key(at) for at in range(7)]
    for piece, behind in zip(pieces, [*(it.offsets[0] for it in pieces[1:]), whole.next_offset], strict=True):
        assert piece.next_offset == behind
    [nothing] = record_columns([], []).pieces(rows)
    assert (len(nothing), nothing.next_offset) == (0, record_columns([], []).next_offset)
