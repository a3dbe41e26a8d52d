"""Reading in columns and reading by the record: the same topics of a real broker, the same bytes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, get_args

import confluent_kafka
import pytest
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import CorruptRecordError, NoOffsetForPartitionError
from kafka.record.default_records import DefaultRecordBatch

from tests.support.records import read_from
from worker.errors import CorruptError
from worker.kafka_io.consumer import ColumnarConsumer
from worker.kafka_io.partitioner import Partitioner, partitions_of_keys
from worker.kafka_io.record_batches import RecordColumns

if TYPE_CHECKING:
    from tests.conftest import Broker, TopicFactory

pytestmark = pytest.mark.contract

Row = tuple[int, int, bytes | None, bytes | None]
"""Offset, timestamp in ms, key, value."""
Sent = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value, headers."""

DEADLINE_S = 60.0
both_ways = pytest.mark.parametrize("columnar", [True, False], ids=["columnar", "by_record"])


@contextmanager
def consumer_of(broker: Broker, *, columnar: bool, **config: Any) -> Iterator[ColumnarConsumer]:
    own = {
        "bootstrap_servers": broker.bootstrap,
        "auto_offset_reset": "none",
        "enable_auto_commit": False,
        "isolation_level": "read_committed",
    }
    consumer = ColumnarConsumer(own | config, columnar=columnar)
    try:
        yield consumer
    finally:
        consumer.close()


@contextmanager
def producer_of(broker: Broker, **config: Any) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=20, **config)
    try:
        yield producer
    finally:
        producer.close()


def send(
    producer: KafkaProducer, topic: str, rows: Sequence[Sent], partition: int = 0, time_ms: int = 5_000
) -> None:
    """Send `rows`, one millisecond apart, and wait until they are written."""
    futures = [
        producer.send(topic, value, key, headers, partition, time_ms + i)
        for i, (key, value, headers) in enumerate(rows)
    ]
    producer.flush()
    for future in futures:
        future.get(timeout=DEADLINE_S)


def many(count: int, prefix: bytes = b"") -> list[Sent]:
    return [(b"key-%d" % i, prefix + b"value-%d" % i * (i % 9), []) for i in range(count)]


def rows_of(columns: RecordColumns) -> list[Row]:
    return [
        (int(columns.offsets[i]), int(columns.timestamps_ms[i]), columns.key(i), columns.value(i))
        for i in range(len(columns))
    ]


def drain(consumer: ColumnarConsumer, check: Callable[[RecordColumns], None] | None = None) -> list[Row]:
    """Read the assigned partitions to their ends; partitions one after another."""
    ends = consumer.end_offsets(consumer.assignment())
    rows: dict[tuple[str, int], list[Row]] = {(tp.topic, tp.partition): [] for tp in sorted(ends)}
    deadline = time.monotonic() + DEADLINE_S
    while any((consumer.position(tp) or 0) < end for tp, end in ends.items()):
        assert time.monotonic() < deadline, "the ends are not reached"
        for columns in consumer.poll(200):
            assert len(columns) > 0
            if check:
                check(columns)
            rows[columns.topic, columns.partition] += rows_of(columns)
    assert {tp: consumer.position(tp) for tp in ends} == ends
    return [row for part in rows.values() for row in part]


def read(
    broker: Broker,
    topic: str,
    *,
    columnar: bool,
    partitions: int = 1,
    **config: Any,
) -> list[Row]:
    with consumer_of(broker, columnar=columnar, **config) as consumer:
        read_from(consumer, [TopicPartition(topic, i) for i in range(partitions)])
        return drain(consumer)


def read_both_ways(broker: Broker, topic: str, **options: Any) -> list[Row]:
    """Read columns and records, find them equal, return them."""
    whole = read(broker, topic, columnar=True, **options)
    assert whole == read(broker, topic, columnar=False, **options)
    return whole


@pytest.fixture(scope="module")
def long_topic(kafka: Broker, topic_factory: TopicFactory) -> str:
    """600 records in one partition, in several batches of each codec."""
    topic = topic_factory("long")
    for codec in (None, "gzip", "snappy", "lz4", "zstd"):
        with producer_of(kafka, compression_type=codec, batch_size=1_000) as producer:
            send(producer, topic, many(120))
    return topic


def test_every_codec_and_every_kind_of_null_reads_the_same(
    kafka: Broker, topic_factory: TopicFactory
) -> None:
    topic = topic_factory("codecs")
    sent: list[Sent] = [
        (b"key", b"value", []),
        (None, b"no key", []),
        (b"no value", None, []),
        (b"", b"", []),
        (b"headers", b"v" * 3_000, [("ce_id", b"1"), ("empty", b""), ("ce_id", b"again")]),
        *many(200, b"{}"),
    ]
    wanted: list[Row] = []
    for i, codec in enumerate((None, "gzip", "snappy", "lz4", "zstd")):
        with producer_of(kafka, compression_type=codec) as producer:
            send(producer, topic, sent, time_ms=i * 10_000)
        wanted += [(len(sent) * i + j, i * 10_000 + j, key, value) for j, (key, value, _) in enumerate(sent)]
    assert read_both_ways(kafka, topic) == wanted


def test_partitions_come_apart(kafka: Broker, topic_factory: TopicFactory) -> None:
    topic = topic_factory("partitions", 3)
    with producer_of(kafka, compression_type="lz4") as producer:
        for partition in range(3):
            send(producer, topic, many(50, b"%d-" % partition), partition)
    rows = read_both_ways(kafka, topic, partitions=3)
    assert [row[3] for row in rows] == [row[1] for i in range(3) for row in many(50, b"%d-" % i)]


def test_interleaved_transactions_show_what_was_committed(kafka: Broker, topic_factory: TopicFactory) -> None:
    topic = topic_factory("transactions")
    draw = random.Random(7)
    log: list[tuple[int, bytes | None]] = []  # number of the transaction, value
    kept = {-1}
    running: dict[KafkaProducer, int] = {}
    with (
        producer_of(kafka, transactional_id=f"{topic}-a") as one,
        producer_of(kafka, transactional_id=f"{topic}-b", compression_type="gzip") as two,
        producer_of(kafka) as plain,
    ):
        for producer in (one, two):
            producer.init_transactions()
        for step in range(40):
            producer = draw.choice([one, two, plain])
            if producer is not plain and producer not in running:
                producer.begin_transaction()
                running[producer] = step
            rows = many(draw.randint(1, 5), b"%d-" % step)
            send(producer, topic, rows)
            log += [(running.get(producer, -1), value) for _, value, _ in rows]
            if producer in running and draw.random() < 0.5:
                kept |= end(producer, running.pop(producer), commit=draw.random() < 0.5)
        kept |= {
            number for producer, number in running.items() for number in end(producer, number, commit=True)
        }
    wanted = [value for number, value in log if number in kept]
    assert 0 < len(wanted) < len(log)
    assert [row[3] for row in read_both_ways(kafka, topic)] == wanted
    everything = read_both_ways(kafka, topic, isolation_level="read_uncommitted")
    assert [row[3] for row in everything] == [value for _, value in log]


def end(producer: KafkaProducer, number: int, *, commit: bool) -> set[int]:
    """End the producer's transaction; return its number if that was a commit."""
    producer.commit_transaction() if commit else producer.abort_transaction()
    return {number} if commit else set()


def test_next_offset_and_position_move_past_control_batches(
    kafka: Broker, topic_factory: TopicFactory
) -> None:
    topic = topic_factory("markers")
    tp = TopicPartition(topic, 0)
    with producer_of(kafka, transactional_id=f"{topic}-a") as producer:
        producer.init_transactions()
        for commit in (True, False, True):
            producer.begin_transaction()
            send(producer, topic, many(3))
            end(producer, 0, commit=commit)
    # 0-2, commit 3; 4-6 aborted, abort 7; 8-10, commit 11
    with consumer_of(kafka, columnar=True) as consumer:
        read_from(consumer, [tp], 4)
        seen: list[RecordColumns] = []
        drain(consumer, seen.append)
    assert [columns.offsets.tolist() for columns in seen] == [[8, 9, 10]]
    assert seen[0].next_offset == 12


def test_a_topic_in_log_append_time_reads_the_same(kafka: Broker, topic_factory: TopicFactory) -> None:
    topic = topic_factory("appended", config={"message.timestamp.type": "LogAppendTime"})
    for codec in (None, "zstd"):
        with producer_of(kafka, compression_type=codec) as producer:
            send(producer, topic, many(30), time_ms=0)
    rows = read_both_ways(kafka, topic)
    assert len(rows) == 60
    assert min(row[1] for row in rows) > 1_600_000_000_000


@both_ways
def test_reading_can_start_inside_a_batch(kafka: Broker, long_topic: str, columnar: bool) -> None:
    tp = TopicPartition(long_topic, 0)
    every = read_both_ways(kafka, long_topic)
    with consumer_of(kafka, columnar=columnar) as consumer:
        read_from(consumer, [tp])
        for start in (1, 57, 119, 120, 333, 599, 600):
            consumer.seek(tp, start)
            assert drain(consumer) == every[start:]


@both_ways
@pytest.mark.parametrize("limit", [{"max_poll_records": 1}, {"max_partition_fetch_bytes": 1_500}], ids=str)
def test_small_limits_change_nothing(
    kafka: Broker, long_topic: str, limit: Mapping[str, int], columnar: bool
) -> None:
    assert read(kafka, long_topic, columnar=columnar, **limit) == read(
        kafka, long_topic, columnar=not columnar
    )


def test_compacted_gaps_read_the_same_from_everywhere(
    kafka: Broker, kafka_admin: KafkaAdminClient, topic_factory: TopicFactory
) -> None:
    cleaned = {"cleanup.policy": "compact", "segment.ms": "50", "min.cleanable.dirty.ratio": "0.001"}
    topic = topic_factory("compacted", config=cleaned)
    draw = random.Random(5)
    every: list[Row] = []
    with quick_cleaner(kafka_admin), producer_of(kafka, compression_type="lz4") as producer:
        for step in range(8):
            rows: list[Sent] = [(b"%d" % draw.randrange(100), b"%d-%d" % (step, i), []) for i in range(30)]
            send(producer, topic, rows, time_ms=1_000 * step)
        deadline = time.monotonic() + DEADLINE_S
        # Only closed segments are cleaned; a record closes one whose first is older than it by segment.ms.
        while len(every) == 0 or len(every) == every[-1][0] + 1:
            assert time.monotonic() < deadline, "the log cleaner has not run"
            send(producer, topic, [(b"last", b"", [])], time_ms=10_000 + 1_000 * len(every))
            every = read(kafka, topic, columnar=False)
        every = settled(lambda: read(kafka, topic, columnar=False))
    with consumer_of(kafka, columnar=True) as consumer:
        tp = TopicPartition(topic, 0)
        read_from(consumer, [tp])
        for start in range(0, every[-1][0] + 1, 7):
            consumer.seek(tp, start)
            assert drain(consumer) == [row for row in every if row[0] >= start]


@contextmanager
def quick_cleaner(admin: KafkaAdminClient) -> Iterator[None]:
    """The broker's log cleaner looks for work every 100 ms instead of every 15 s."""
    names = [str(broker["broker_id"]) for broker in admin.describe_cluster()["brokers"]]
    wanted = {"log.cleaner.backoff.ms": "100"}
    admin.alter_configs([ConfigResource(ConfigResourceType.BROKER, name, wanted) for name in names])
    yield
    admin.reset_configs([ConfigResource(ConfigResourceType.BROKER, name, [*wanted]) for name in names])


def settled(read_once: Callable[[], list[Row]]) -> list[Row]:
    """Read until five readings in a row agree: the cleaner is at rest."""
    readings = [read_once()]
    while len(readings) < 5 or any(reading != readings[-1] for reading in readings[-5:]):
        readings.append(read_once())
    return readings[-1]


@both_ways
@pytest.mark.parametrize("pausing", [False, True], ids=["reading_on", "after_a_pause"])
def test_after_a_corrupt_batch_the_consumer_refuses_instead_of_spinning(
    kafka: Broker, long_topic: str, monkeypatch: pytest.MonkeyPatch, columnar: bool, pausing: bool
) -> None:
    monkeypatch.setattr(DefaultRecordBatch, "validate_crc", lambda batch: batch.base_offset < 240)
    tp = TopicPartition(long_topic, 0)
    with consumer_of(kafka, columnar=columnar) as consumer:
        read_from(consumer, [tp], 100)
        good: list[Row] = []
        while len(good) < 140:
            good += [row for columns in consumer.poll(200) for row in rows_of(columns)]
        assert [row[0] for row in good] == list(range(100, 240))
        assert consumer.position(tp) == 240
        if pausing:
            consumer.pause(tp)
            with suppress(CorruptRecordError, CorruptError):
                consumer.poll(10)
            consumer.resume(tp)
        error = CorruptError if columnar else CorruptRecordError
        for _ in range(3):
            with pytest.raises(error, match="at offset 240 failed crc check"):
                consumer.poll(10_000)


def read_on(consumer: ColumnarConsumer) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        consumer.poll(1_000)


def test_any_other_fault_is_declared_and_final_too(kafka: Broker, topic_factory: TopicFactory) -> None:
    topic = topic_factory("nowhere")
    with consumer_of(kafka, columnar=True, group_id=topic) as consumer:
        consumer.subscribe([topic], None)
        for _ in range(2):
            with pytest.raises(NoOffsetForPartitionError):
                read_on(consumer)


def test_a_group_member_reads_pauses_and_resumes(kafka: Broker, topic_factory: TopicFactory) -> None:
    topic = topic_factory("group")
    tp = TopicPartition(topic, 0)
    with producer_of(kafka) as producer:
        send(producer, topic, many(10))
    with consumer_of(kafka, columnar=True, group_id=topic, auto_offset_reset="earliest") as consumer:
        consumer.subscribe([topic], None)
        rows: list[Row] = []
        while len(rows) < 10:
            rows += [row for columns in consumer.poll(1_000) for row in rows_of(columns)]
        assert consumer.assignment() == {tp}
        assert consumer.group_metadata().group_id == topic
        assert consumer.partitions_for_topic(topic) == {0}
        assert consumer.committed(tp) is None
        assert consumer.position(tp) == consumer.highwater(tp) == 10
        assert consumer.beginning_offsets([tp]) == {tp: 0}
        assert consumer.end_offsets([tp]) == {tp: 10}
        consumer.seek(tp, 4)
        consumer.pause(tp)
        assert consumer.poll(50) == []
        consumer.resume(tp)
        assert drain(consumer) == rows[4:]


def test_keys_lie_where_the_partitioners_say(kafka: Broker, topic_factory: TopicFactory) -> None:
    keys = [b"card-%d" % i for i in range(100)]
    topics: dict[Partitioner, str] = {name: topic_factory(name, 7) for name in get_args(Partitioner)}
    with producer_of(kafka) as producer:
        for key in keys:
            producer.send(topics["murmur2"], key=key, value=b"")
    foreign = confluent_kafka.Producer({"bootstrap.servers": kafka.bootstrap})
    for key in keys:
        foreign.produce(topics["crc32"], key=key, value=b"")
    assert foreign.flush(DEADLINE_S) == 0
    for partitioner, topic in topics.items():
        with consumer_of(kafka, columnar=True) as consumer:
            read_from(consumer, [TopicPartition(topic, i) for i in range(7)])
            seen: list[RecordColumns] = []
            assert len(drain(consumer, seen.append)) == 100
        for columns in seen:
            assert set(partitions_of_keys(columns, 7, partitioner).tolist()) == {columns.partition}
