"""Where a partition begins, and what stops a worker at its first records, with a scripted client."""

from __future__ import annotations

from contextlib import nullcontext
from typing import cast

import pytest

from tests.support.records import record_columns
from tests.support.scripted_client import SETTINGS, TOPICS, Client, Tasks, source_of, tp
from worker.errors import FuseError, SettingsError
from worker.kafka_io.consumer import ColumnarConsumer
from worker.kafka_io.partitioner import partitions_of_keys
from worker.kafka_io.record_batches import RecordColumns
from worker.live.guard import InputGuard
from worker.live.source import KafkaSource
from worker.partition.journal import Positions
from worker.settings.fields import StartFrom
from worker.wire.decoder import Decoder


@pytest.mark.parametrize(("start_from", "first"), [("earliest", 3), ("latest", 40)])
def test_a_partition_never_worked_on_begins_where_the_setting_says(start_from: StartFrom, first: int) -> None:
    client, tasks = Client(), Tasks({0: None, 1: None})
    source = source_of(client, tasks, start_from)
    client.ends = {tp(p, topic): 40 + p for p in (0, 1) for topic in TOPICS}
    client.script = [lambda: client.rebalance(0), lambda: client.rebalance(0, 1)]
    source.poll()
    assert source.positions(0) == (first, first)
    assert client.positions[tp(0)] == first
    client.ends = dict.fromkeys(client.ends, 90)
    source.poll()
    assert source.positions(0) == (first, first), "moved although nothing was committed"
    assert source.positions(1) == ((3, 3) if start_from == "earliest" else (90, 90))


def test_where_a_partition_begins_is_committed_with_the_first_batch_although_nothing_came() -> None:
    client, tasks = Client(), Tasks({0: None, 1: Positions(7, 7)})
    source = source_of(client, tasks, "latest")
    client.ends = {tp(0, topic): 40 for topic in TOPICS}
    client.script = [lambda: client.rebalance(0, 1)]
    source.poll()
    assert [[batch.moved for batch in source.poll()] for _ in range(2)] == [[True, False], [False, False]]


def test_a_first_start_that_is_not_declared_is_refused() -> None:
    client = Client()
    source = source_of(client, Tasks({0: None}), "committed")
    client.script = [lambda: client.rebalance(0)]
    with pytest.raises(SettingsError, match=r"kafka\.start_from"):
        source.poll()


def bad_labels(count: int) -> RecordColumns:
    return record_columns([b"{}"] * count, [None] * count, topic=TOPICS[1], partition=0)


@pytest.mark.parametrize(
    ("committed", "stops"), [(Positions(70, 8), False), (Positions(70, 0), True), (None, True)]
)
def test_only_a_topic_of_which_nothing_was_ever_read_is_stopped_by_its_first_hundred(
    committed: Positions | None, stops: bool
) -> None:
    client = Client()
    source = source_of(client, Tasks({0: committed}))
    client.script = [lambda: client.rebalance(0), lambda: client.fetched.append(bad_labels(150))]
    source.poll()
    with pytest.raises(FuseError, match="none of the first 150") if stops else nullcontext():
        source.poll()


def test_misplaced_records_become_dead_letters_where_the_setting_says_so() -> None:
    client, tasks = Client(), Tasks({0: Positions(0, 0)})
    guard = InputGuard(3, "murmur2", SETTINGS.batch, stops=False)
    source = KafkaSource(
        cast("ColumnarConsumer", client), Decoder(SETTINGS), SETTINGS.topics, SETTINGS.batch, guard, tasks,
        "earliest",
    )  # fmt: skip
    keys = [f"c{n}".encode() for n in range(30)]
    values = [b'{"transaction_id":"t","card_id":"%s","event_time":1,"amount":1}' % key for key in keys]
    records = record_columns([*values, b"{"], [*keys, b"x"], topic=TOPICS[0], partition=0)
    right = (partitions_of_keys(records, 3, "murmur2")[:30] == 0).tolist()
    client.script = [lambda: client.rebalance(0), lambda: client.fetched.append(records)]
    source.poll()
    [batch] = source.poll()
    assert batch.transactions is not None
    assert batch.transactions.card_id.to_pylist() == [
        k.decode() for k, fits in zip(keys, right, strict=True) if fits
    ]
    bad = source.take_bad(0)
    assert [it.reason for it in bad] == ["misplaced"] * right.count(False) + ["not_json"]
    assert 0 < right.count(False) < 30
