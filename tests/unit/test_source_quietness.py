"""When a partition is quiet, and how far silence is known, with a scripted client."""

from __future__ import annotations

from typing import cast

import pytest

from tests.support.records import record_columns
from tests.support.scripted_client import SETTINGS, TOPICS, Client, Tasks, source_of, tp
from worker.kafka_io.consumer import ColumnarConsumer
from worker.kafka_io.record_batches import RecordColumns
from worker.live.guard import InputGuard
from worker.live.source import KafkaSource
from worker.partition.early_labels import NO_ROOM
from worker.partition.journal import Positions
from worker.wire.decoder import Decoder


def test_while_the_group_rebalances_nothing_is_owned_that_could_be_asked_for_its_lag() -> None:
    client = Client()
    source = source_of(client, Tasks({0: Positions(1, 1)}))
    client.script = [lambda: client.rebalance(0), client.throw_out]
    source.poll()
    assert {partition: source.lag(partition) for partition in source.owned} == {0: (0, 0)}
    source.poll()
    assert source.owned == set(), "the client knows nothing of partitions that it has lost"


def test_a_partition_is_quiet_only_after_a_while_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [100.0]
    monkeypatch.setattr("worker.live.source.time.monotonic", lambda: now_s[0])
    client = Client()
    source = source_of(client, Tasks({0: Positions(5, 5)}))
    client.script = [lambda: client.rebalance(0)]
    source.poll()

    def quiet_at(time_s: float) -> bool:
        now_s[0] = time_s
        return source.poll()[0].idle_ms is not None

    max_idle_s = SETTINGS.batch.max_idle_ms / 1000
    assert not quiet_at(100.0)
    assert not quiet_at(100.0 + max_idle_s - 0.01)
    assert quiet_at(100.0 + max_idle_s)
    now_s[0] = 107.0
    assert source.poll()[0].idle_ms == 7_000
    client.ends_ahead = 1  # one more transaction has come, and is on its way
    source.poll()
    now_s[0] += max_idle_s  # nobody waits for it any longer
    assert source.poll()[0].idle_ms is None
    client.ends_ahead = 0
    assert source.poll()[0].idle_ms is None, "time at the end does not add up"


def label_records(count: int, time_ms: int) -> RecordColumns:
    values = [
        b'{"transaction_id":"t","card_id":"f","label":"fraud","label_time":%d,"source":"chargeback"}'
        % time_ms
    ] * count
    return record_columns(values, [b"f"] * count, topic=TOPICS[1], partition=0)


class Clocked:
    """A source of partition 0 whose labels are fetched by hand, and whose seconds are ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr("worker.live.source.time.monotonic", lambda: self.now_s)
        self.client = Client()
        guard = InputGuard(3, "murmur2", SETTINGS.batch)
        self.source = KafkaSource(
            cast("ColumnarConsumer", self.client), Decoder(SETTINGS), SETTINGS.topics, SETTINGS.batch, guard,
            Tasks({0: Positions(5, 0)}), "earliest",
        )  # fmt: skip
        self.client.script = [lambda: self.client.rebalance(0)]
        self.source.poll()
        self.pass_s(60.0)

    def pass_s(self, passed_s: float) -> bool:
        """Let seconds pass and poll; return whether the partition is quiet."""
        self.now_s += passed_s
        return self.source.poll()[0].idle_ms is not None

    def fetch(self, count: int, of: int, time_ms: int) -> None:
        """Bring labels, of as many as the broker has; the position is behind them."""
        self.client.fetched.append(label_records(count, time_ms))
        self.client.positions[tp(0, TOPICS[1])] += count
        self.client.behind[tp(0, TOPICS[1])] = of - count


def test_silence_is_not_known_while_labels_are_paused_nor_until_the_broker_was_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocked = Clocked(monkeypatch)
    source, clock_ms = clocked.source, 10_000
    assert source.silent_until_ms(0, clock_ms) == clock_ms
    clocked.fetch(30_000, of=30_000, time_ms=5_000)  # more than one commit takes
    seen = []
    for passed_s in (0.0, 0.1, 0.1, 0.1, 0.7, 0.2):
        clocked.pass_s(passed_s)
        source.take_labels(0, clock_ms, NO_ROOM)
        seen.append((tp(0, TOPICS[1]) in clocked.client.paused, source.silent_until_ms(0, clock_ms)))
    assert seen == [
        (False, 4_999),
        (True, clock_ms),  # all were read just before
        (False, 5_000),  # none could be read: what the broker has meanwhile is not known
        (False, 5_000),
        (False, 5_000),
        (False, clock_ms),
    ]


def test_a_partition_is_not_quiet_while_its_labels_are_not_read_to_their_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocked, clock_ms = Clocked(monkeypatch), 10_000
    assert clocked.pass_s(1.0)
    clocked.fetch(10, of=20, time_ms=5_000)
    assert not clocked.pass_s(5.0), "the broker has more labels"
    clocked.source.take_labels(0, clock_ms, NO_ROOM)
    clocked.fetch(10, of=10, time_ms=5_000)
    assert not clocked.pass_s(5.0)
    clocked.source.take_labels(0, clock_ms, NO_ROOM)
    assert clocked.pass_s(1.0)


def test_labels_that_wait_for_a_clock_that_stands_still_are_set_aside_before_retention_takes_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The committed offset cannot pass them, and a start from one that is deleted would be refused."""
    clocked, clock_ms = Clocked(monkeypatch), 10_000
    clocked.fetch(10, of=10, time_ms=20_000)
    room = NO_ROOM._replace(rows=6, value_bytes=1 << 20, unnamed=100)
    taken = []
    for passed_s in (0.0, 0.1, 3_599.8, 0.2, 0.1):
        clocked.pass_s(passed_s)
        labels = clocked.source.take_labels(0, clock_ms, room)
        taken.append((0 if labels is None else len(labels), clocked.source.positions(0).labels))
    assert taken == [(0, 100), (0, 100), (0, 100), (6, 112), (4, 125)]


def test_labels_of_the_future_hold_no_clock_however_many_the_broker_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.cycle.inbox.MOST_ROWS", 9)
    clocked, clock_ms = Clocked(monkeypatch), 10_000
    clocked.fetch(10, of=500, time_ms=20_000)
    clocked.pass_s(0.0)
    clocked.source.take_labels(0, clock_ms, NO_ROOM)
    assert not clocked.pass_s(0.5)
    assert clocked.pass_s(1.0), "no more is read before these are due, and nothing else moves the clock"
