from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from kafka.record.memory_records import MemoryRecordsBuilder

from tests.support.records import json_columns
from worker.kafka_io.bulk import BATCH_BYTES, encode_batches, varint
from worker.kafka_io.partitioner import partition_of
from worker.offline.dataset import NEVER, Dataset
from worker.offline.replay import (
    CHUNK_RECORDS,
    TICK_S,
    ReplayOptions,
    Timeline,
    due_times_s,
    label_values,
    paced,
    transaction_values,
)
from worker.settings.fields import LabelFields, TransactionFields
from worker.settings.sections import KafkaSettings, Settings
from worker.wire.decoder import Decoder

FIELDS = TransactionFields(
    transaction_id="TX", card_id="CUSTOMER", event_time="AT", amount="AMOUNT", currency="CUR",
    entities=("SHOP",), categorical=("KIND",), numeric=("SCORE",),
)  # fmt: skip
SETTINGS = Settings(entity_key="00" * 16, transaction=FIELDS)
START_MS = 1_700_000_000_000
DAY_MS = 86_400_000


def dataset(fields: TransactionFields = FIELDS) -> Dataset:
    """Four transactions a day apart; the labels of the first two cross; the third is never labelled."""
    return Dataset(
        fields=fields,
        transaction_id=pa.array(["t0", "t1", "t2", "t3"]),
        card_id=pa.array(["alice", "bob", "alice", "carol"]),
        event_time_ms=START_MS + DAY_MS * np.arange(4),
        amount=np.array([1.5, 2.0, 0.0, 12.34]),
        currency=pa.array(["EUR", None, "USD", "EUR"]),
        entities={"SHOP": pa.array(["s", None, "s", "ü"])},
        numeric={"SCORE": np.array([0.25, np.nan, 3.0, -1.0])},
        categorical={"KIND": pa.array(["a", "b", None, "a"])},
        is_fraud=np.array([True, False, False, True]),
        label_time_ms=START_MS
        + np.array([2, 1, NEVER - START_MS, 3]) * np.array([DAY_MS, DAY_MS, 1, DAY_MS]),
    )


class Topics:
    """Remembers what is sent, in the order in which it is sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int, bytes, dict[str, Any], int]] = []

    def send(
        self, topic: str, partition: int, keys: list[bytes], values: list[bytes], timestamps_ms: list[int]
    ) -> None:
        for key, value, timestamp_ms in zip(keys, values, timestamps_ms, strict=True):
            self.sent.append((topic, partition, key, orjson.loads(value), timestamp_ms))


@pytest.mark.parametrize(
    ("value", "encoded"),
    [(0, "00"), (-1, "01"), (1, "02"), (-64, "7f"), (64, "8001"), (300, "d804"), (-300, "d704"),
     (2**31, "8080808010"), (-(2**62), "ffffffffffffffff7f")],
)  # fmt: skip
def test_integers_are_zigzag_and_seven_bits_a_byte(value: int, encoded: str) -> None:
    assert varint(value).hex() == encoded


def test_a_batch_is_byte_for_byte_what_the_client_would_write() -> None:
    rng = np.random.default_rng(0)
    keys = [rng.bytes(n) for n in (0, 1, 63, 64, 300)]
    values = [rng.bytes(n) for n in (5, 0, 70, 9_000, 20_000)]
    times = [START_MS, START_MS + 1, START_MS - 5_000, START_MS + 10**10, START_MS]
    theirs = MemoryRecordsBuilder(2, 0, 1 << 20)
    for key, value, time_ms in zip(keys, values, times, strict=True):
        theirs.append(time_ms, key, value)
    theirs.close()
    header_bytes = 61
    assert list(encode_batches(keys, values, times)) == [(5, 0, bytes(theirs.buffer()[header_bytes:]))]


def test_records_are_cut_into_batches_below_the_brokers_limit_and_none_is_lost() -> None:
    n = 3_000
    batches = list(encode_batches([b"k"] * n, [b"v" * 1_000] * n, [START_MS] * n))
    assert len(batches) == -(-n * 1_008 // BATCH_BYTES)
    assert all(len(body) < BATCH_BYTES + 2_000 for _, _, body in batches)
    assert [first for _, first, _ in batches] == np.cumsum([0, *(count for count, _, _ in batches)])[
        :-1
    ].tolist()
    assert sum(count for count, _, _ in batches) == n
    assert list(encode_batches([], [], [])) == []


# From Kafka's own UtilsTest and from the check value of CRC-32.
@pytest.mark.parametrize(
    ("key", "hashed"), [(b"21", -973932308), (b"foobar", -790332482), (b"abc", 479470107)]
)
def test_murmur2_puts_keys_where_java_does(key: bytes, hashed: int) -> None:
    assert partition_of(key, 12, "murmur2") == (hashed & 0x7FFFFFFF) % 12


def test_crc32_puts_keys_where_librdkafka_does() -> None:
    assert partition_of(b"123456789", 1_000_003, "crc32") == 0xCBF43926 % 1_000_003


def test_transactions_and_labels_interleave_in_the_order_of_their_times() -> None:
    topics = Topics()
    data = dataset()
    timeline = Timeline(SETTINGS, data, data.arrivals(), partitions=4)
    for at in range(len(timeline)):
        timeline.send(slice(at, at + 1), topics.send)
    names = {SETTINGS.topics.transactions: "TX", SETTINGS.topics.labels: "transaction_id"}
    told = [(topic, value[names[topic]], (at - START_MS) // DAY_MS) for topic, _, _, value, at in topics.sent]
    transactions, labels = SETTINGS.topics.transactions, SETTINGS.topics.labels
    # On days 1, 2 and 3 a transaction comes before the label that falls on the same moment.
    assert told == [
        (transactions, "t0", 0),
        (transactions, "t1", 1),
        (labels, "t1", 1),
        (transactions, "t2", 2),
        (labels, "t0", 2),
        (transactions, "t3", 3),
        (labels, "t3", 3),
    ]


@pytest.mark.parametrize("partitioner", ["murmur2", "crc32"])
def test_a_cards_records_go_under_its_key_to_its_partition_in_both_topics(partitioner: Any) -> None:
    topics, data = Topics(), dataset()
    settings = SETTINGS.model_copy(update={"kafka": KafkaSettings(partitioner=partitioner)})
    Timeline(settings, data, data.arrivals(), partitions=5).send(slice(0, 7), topics.send)
    assert len(topics.sent) == 7
    for _, partition, key, value, _ in topics.sent:
        assert key.decode() == value.get("CUSTOMER", value.get("card_id"))
        assert partition == partition_of(key, 5, partitioner)


def test_transactions_are_written_under_the_users_names() -> None:
    written = [orjson.loads(value) for value in transaction_values(dataset(), np.array([1, 3]))]
    assert written == [
        {"TX": "t1", "CUSTOMER": "bob", "AT": START_MS + DAY_MS, "AMOUNT": 2.0, "CUR": None, "SHOP": None,
         "KIND": "b", "SCORE": None},
        {"TX": "t3", "CUSTOMER": "carol", "AT": START_MS + 3 * DAY_MS, "AMOUNT": 12.34, "CUR": "EUR",
         "SHOP": "ü", "KIND": "a", "SCORE": -1.0},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("time_format", "written"),
    [("epoch_ms", START_MS), ("epoch_s", 1_700_000_000.0), ("iso8601", "2023-11-14T22:13:20.000Z")],
)
def test_times_are_written_as_the_settings_say(time_format: Any, written: object) -> None:
    fields = FIELDS.model_copy(update={"time_format": time_format})
    assert orjson.loads(transaction_values(dataset(fields), np.array([0]))[0])["AT"] == written
    data = dataset()
    labels = data.with_label_delay(0).arrivals()
    names = LabelFields(time_format=time_format, label_time="KNOWN", label="TRUTH")
    first = orjson.loads(label_values(names, data, labels)[0])
    assert (first["KNOWN"], first["event_time"]) == (written, written)
    assert (first["TRUTH"], first["source"]) == ("fraud", "chargeback")


def test_frauds_only_leaves_the_legit_labels_out() -> None:
    labels = dataset().arrivals(frauds_only=True)
    values = [orjson.loads(value) for value in label_values(LabelFields(), dataset(), labels)]
    assert [(value["transaction_id"], value["label"]) for value in values] == [
        ("t0", "fraud"),
        ("t3", "fraud"),
    ]


def test_outcomes_are_sent_as_such_among_the_labels_in_the_order_of_their_times() -> None:
    acted_ms = START_MS + DAY_MS * np.array([1, 4, 3, 0]) + np.array([1, 0, 0, NEVER - START_MS])
    data = dataclasses.replace(dataset(), outcome_time_ms=acted_ms)
    values = [orjson.loads(value) for value in label_values(LabelFields(), data, data.arrivals())]
    assert [(value["transaction_id"], value.get("label"), value.get("outcome")) for value in values] == [
        ("t1", "legit", None),
        ("t0", None, "declined"),
        ("t0", "fraud", None),
        ("t3", "fraud", None),
        ("t2", None, "declined"),
        ("t1", None, "declined"),
    ]
    columns, bad = Decoder(SETTINGS).labels(json_columns(values))
    assert (columns.kind.tolist(), bad) == (data.arrivals().kind.tolist(), [])


def test_records_fall_due_by_rate_and_by_speed_whichever_is_later() -> None:
    times_ms = START_MS + np.array([0, 1_000, 1_000, 7_200_000])
    assert due_times_s(times_ms, ReplayOptions()).tolist() == [0, 0, 0, 0]
    assert due_times_s(times_ms, ReplayOptions(rate=2)).tolist() == [0, 0.5, 1.0, 1.5]
    assert due_times_s(times_ms, ReplayOptions(speed=3_600)).tolist() == pytest.approx(
        [0, 1 / 3600, 1 / 3600, 2]
    )
    assert due_times_s(times_ms, ReplayOptions(rate=2, speed=3_600)).tolist() == pytest.approx(
        [0, 0.5, 1.0, 2]
    )


class FakeTime:
    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now_s += seconds


def test_a_pace_sleeps_until_records_are_due_and_sends_what_fell_due_together() -> None:
    time = FakeTime()
    due_s = np.array([0.0, 0.001, 0.002, 5.0, 5.5])
    taken = [(chunk, time.now_s - 100.0) for chunk in paced(due_s, time.clock, time.sleep)]
    assert [chunk for chunk, _ in taken] == [slice(0, 1), slice(1, 3), slice(3, 4), slice(4, 5)]
    assert [at for _, at in taken] == pytest.approx([0.0, TICK_S, 5.0, 5.5])


def test_without_a_pace_nothing_sleeps_and_stretches_are_bounded() -> None:
    time = FakeTime()
    n = 2 * CHUNK_RECORDS + 1
    chunks = list(paced(np.zeros(n), time.clock, time.sleep))
    assert time.slept == []
    assert [chunk.stop - chunk.start for chunk in chunks] == [CHUNK_RECORDS, CHUNK_RECORDS, 1]
