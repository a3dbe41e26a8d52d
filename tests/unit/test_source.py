"""What the source makes of rebalances, with a scripted client."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import cast

import pytest
from kafka import ConsumerGroupMetadata, ConsumerRebalanceListener, TopicPartition

from tests.support.records import record_columns
from worker.cycle.contracts import Standing
from worker.cycle.watermark import NEVER_MS
from worker.errors import FuseError, IncompatibleError, SettingsError
from worker.kafka_io.consumer import ColumnarConsumer
from worker.kafka_io.partitioner import partitions_of_keys
from worker.kafka_io.record_batches import RecordColumns
from worker.live.guard import InputGuard
from worker.live.source import KafkaSource
from worker.partition.early_labels import NO_ROOM
from worker.partition.journal import Positions
from worker.settings.fields import StartFrom
from worker.settings.sections import Settings
from worker.wire.decoder import Decoder

SETTINGS = Settings(entity_key="00" * 16)
TOPICS = (SETTINGS.topics.transactions, SETTINGS.topics.labels)


class Client:
    """Stands for the consumer; `script` is what happens inside the next polls."""

    def __init__(self) -> None:
        self.listener: ConsumerRebalanceListener | None = None
        self.script: list[Callable[[], None]] = []
        self.positions: dict[TopicPartition, int] = {}
        self.paused: set[TopicPartition] = set()
        self.ends: dict[TopicPartition, int] = {}
        self.generation = 1
        self.member = "m"
        self.partitions = {0, 1, 2}
        self.ends_ahead = 0
        self.rejoins = 0
        self.fetched: list[RecordColumns] = []
        self.behind: dict[TopicPartition, int] = {}

    def subscribe(self, topics: list[str], listener: ConsumerRebalanceListener) -> None:
        assert topics == list(TOPICS)
        self.listener = listener

    def poll(self, timeout_ms: int) -> list[RecordColumns]:
        assert timeout_ms >= 0
        if self.script:
            self.script.pop(0)()
        fetched, self.fetched = self.fetched, []
        return fetched

    def rebalance(self, *partitions: int, lost: bool = False) -> None:
        assert self.listener is not None
        self.generation += 1
        if lost:
            self.member += "'"
        mine, given = set(self.positions), {TopicPartition(topic, p) for topic in TOPICS for p in partitions}
        (self.listener.on_partitions_lost if lost else self.listener.on_partitions_revoked)(mine)
        self.positions = {tp: self.positions.get(tp, -1) for tp in given}
        self.listener.on_partitions_assigned(given)

    def throw_out(self) -> None:
        assert self.listener is not None
        self.listener.on_partitions_lost(set(self.positions))
        self.positions = {}

    def rejoin(self) -> None:
        self.rejoins += 1

    def assignment(self) -> set[TopicPartition]:
        return set(self.positions)

    def group_metadata(self) -> ConsumerGroupMetadata:
        return ConsumerGroupMetadata(group_id="g", generation_id=self.generation, member_id=self.member)

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self.positions[tp] = offset

    def pause(self, *tps: TopicPartition) -> None:
        self.paused |= set(tps)

    def resume(self, *tps: TopicPartition) -> None:
        self.paused -= set(tps)

    def position(self, tp: TopicPartition) -> int:
        return self.positions[tp]

    def highwater(self, tp: TopicPartition) -> int:
        return self.positions[tp] + self.ends_ahead + self.behind.get(tp, 0)

    def partitions_for_topic(self, topic: str) -> set[int]:
        return self.partitions if topic == TOPICS[1] else {0, 1, 2}

    def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 3)

    def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {tp: self.ends[tp] for tp in tps}


class Tasks:
    """A take-over that records its calls."""

    def __init__(self, committed: Mapping[int, Positions | None]) -> None:
        self.committed = dict(committed)
        self.calls: list[tuple[set[int], set[int]]] = []
        self._owned: set[int] = set()

    def __call__(self, lost: set[int], gained: set[int]) -> Mapping[int, Standing]:
        self.calls.append((lost, gained))
        self._owned = self._owned - lost | gained
        return {partition: Standing(self.committed.get(partition), NEVER_MS) for partition in self._owned}


def source_of(client: Client, tasks: Tasks, start_from: StartFrom = "earliest") -> KafkaSource:
    guard = InputGuard(3, "murmur2", SETTINGS.batch)
    consumer = cast("ColumnarConsumer", client)
    return KafkaSource(consumer, Decoder(SETTINGS), SETTINGS.topics, SETTINGS.batch, guard, tasks, start_from)


def tp(partition: int, topic: str = TOPICS[0]) -> TopicPartition:
    return TopicPartition(topic, partition)


def test_partitions_are_paused_from_their_assignment_until_their_tasks_are_there() -> None:
    client = Client()
    paused_while_restoring: set[TopicPartition] = set()

    class Restoring(Tasks):
        def __call__(self, lost: set[int], gained: set[int]) -> Mapping[int, Standing]:
            paused_while_restoring.update(client.paused)
            return super().__call__(lost, gained)

    source = source_of(client, Restoring({0: Positions(7, 8), 1: Positions(9, 10)}))
    client.script = [lambda: client.rebalance(0, 1)]
    assert source.poll() == []
    assert paused_while_restoring == client.assignment()
    assert client.paused == set()
    assert client.positions == {tp(0): 7, tp(0, TOPICS[1]): 8, tp(1): 9, tp(1, TOPICS[1]): 10}
    assert source.positions(1) == (9, 10)
    assert [batch.partition for batch in source.poll()] == [0, 1]


def test_what_stays_keeps_its_task_and_goes_on_from_the_committed_offsets() -> None:
    client, tasks = Client(), Tasks({0: Positions(7, 8), 1: Positions(9, 10)})
    source = source_of(client, tasks)
    client.script = [lambda: client.rebalance(0, 1), lambda: client.rebalance(1, 2)]
    source.poll()
    client.positions[tp(1)] = 50  # fetched, and dropped with the batch that the rebalance prevented
    tasks.committed |= {1: Positions(20, 21), 2: Positions(0, 0)}
    source.poll()
    assert tasks.calls == [(set(), {0, 1}), ({0}, {2})]
    assert client.positions[tp(1)] == 20
    assert source.positions(1) == (20, 21)


def test_after_a_generation_that_was_missed_everything_is_restored() -> None:
    """Somebody else may have worked on any of it for that long."""
    client, tasks = Client(), Tasks({0: Positions(1, 1), 1: Positions(1, 1)})
    source = source_of(client, tasks)

    def twice() -> None:
        client.rebalance(0)
        client.rebalance(0, 1)

    client.script = [lambda: client.rebalance(0, 1), twice]
    source.poll()
    source.poll()
    assert tasks.calls == [(set(), {0, 1}), ({0, 1}, {0, 1})]


def test_what_was_lost_is_restored_even_if_it_is_given_back() -> None:
    """A member that was thrown out cannot know what others have done meanwhile."""
    client, tasks = Client(), Tasks({0: Positions(1, 1), 1: Positions(1, 1)})
    source = source_of(client, tasks)
    client.script = [lambda: client.rebalance(0, 1), lambda: client.rebalance(0, 1, lost=True)]
    source.poll()
    source.poll()
    assert tasks.calls == [(set(), {0, 1}), ({0, 1}, {0, 1})]


def test_a_membership_lost_in_the_middle_of_a_join_is_noticed_although_the_client_does_not_tell() -> None:
    """It calls nothing lost that it has called revoked before; only its member id is another."""
    client, tasks = Client(), Tasks({0: Positions(1, 1), 1: Positions(1, 1)})
    source = source_of(client, tasks)

    def revoked() -> None:
        assert client.listener is not None
        client.listener.on_partitions_revoked(client.assignment())

    def thrown_out_and_back() -> None:
        assert client.listener is not None
        client.generation, client.member = client.generation + 1, "another"
        client.listener.on_partitions_assigned(client.assignment())

    client.script = [lambda: client.rebalance(0, 1), revoked, thrown_out_and_back]
    for _ in range(3):
        source.poll()
    assert tasks.calls == [(set(), {0, 1}), ({0, 1}, {0, 1})]


def test_an_assignment_of_the_same_generation_once_more_keeps_every_task() -> None:
    client, tasks = Client(), Tasks({0: Positions(1, 1)})
    source = source_of(client, tasks)

    def again() -> None:
        client.rebalance(0)
        client.generation -= 1

    client.script = [lambda: client.rebalance(0), again]
    source.poll()
    source.poll()
    assert tasks.calls == [(set(), {0}), (set(), set())]


def test_an_empty_assignment_is_asked_for_again_once() -> None:
    client, tasks = Client(), Tasks({0: Positions(1, 1)})
    source = source_of(client, tasks)
    client.script = [client.rebalance, client.rebalance, lambda: client.rebalance(0), client.rebalance]
    source.poll()
    assert (client.rejoins, tasks.calls) == (1, [])
    source.poll()
    assert (client.rejoins, tasks.calls) == (1, [(set(), set())]), "there may be more workers than partitions"
    source.poll()
    source.poll()
    assert (client.rejoins, tasks.calls[1:]) == (1, [(set(), {0}), ({0}, set())])


def test_a_worker_that_loses_all_partitions_at_once_stands_by() -> None:
    client, tasks = Client(), Tasks({0: Positions(1, 1), 1: Positions(2, 2)})
    source = source_of(client, tasks)
    client.script = [
        lambda: client.rebalance(0, 1),
        client.rebalance,
        client.rebalance,
        lambda: client.rebalance(1),
    ]
    source.poll()
    source.poll()
    assert {partition: source.lag(partition) for partition in source.owned} == {}
    assert source.poll() == source.poll() == []
    assert source.positions(1) == (2, 2)
    assert tasks.calls == [(set(), {0, 1}), ({0, 1}, set()), (set(), set()), (set(), {1})]


def test_partitions_of_one_topic_alone_are_asked_for_again_and_then_refused() -> None:
    client = Client()
    source = source_of(client, Tasks({0: Positions(1, 1)}))

    def half() -> None:
        client.rebalance(0)
        del client.positions[tp(0, TOPICS[1])]

    client.script = [half, half]
    source.poll()
    assert client.rejoins == 1
    with pytest.raises(IncompatibleError, match=r"partitions \[0\] of transactions, but \[\] of labels"):
        source.poll()


def test_nothing_is_cut_while_the_group_rebalances_or_has_thrown_us_out() -> None:
    client = Client()
    source = source_of(client, Tasks({0: Positions(1, 1)}))
    client.script = [lambda: client.rebalance(0)]
    source.poll()
    assert len(source.poll()) == 1
    client.generation = -1
    assert source.poll() == []
    client.generation = 2
    assert len(source.poll()) == 1
    assert client.listener is not None
    client.listener.on_partitions_revoked(set())
    assert source.poll() == []


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
        return source.poll()[0].quiet

    max_idle_s = SETTINGS.batch.max_idle_ms / 1000
    assert not quiet_at(100.0)
    assert not quiet_at(100.0 + max_idle_s - 0.01)
    assert quiet_at(100.0 + max_idle_s)
    now_s[0] = 107.0
    assert source.poll()[0].idle_ms == 7_000
    client.ends_ahead = 1  # one more transaction has come, and is on its way
    source.poll()
    now_s[0] += max_idle_s  # nobody waits for it any longer
    assert not source.poll()[0].quiet
    client.ends_ahead = 0
    assert not source.poll()[0].quiet, "time at the end does not add up"


def label_records(count: int, time_ms: int) -> RecordColumns:
    values = [
        b'{"transaction_id":"t","card_id":"c","label":"fraud","label_time":%d,"source":"chargeback"}'
        % time_ms
    ] * count
    return record_columns(values, [b"c"] * count, topic=TOPICS[1], partition=0)


class Clocked:
    """A source of partition 0 whose labels are fetched by hand, and whose seconds are ours."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 100.0
        monkeypatch.setattr("worker.live.source.time.monotonic", lambda: self.now_s)
        self.client = Client()
        guard = InputGuard(3, "murmur2", SETTINGS.batch, stops=False)
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
        return self.source.poll()[0].quiet

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


def test_the_commit_is_made_in_the_generation_of_its_batch() -> None:
    client = Client()
    source = source_of(client, Tasks({0: Positions(1, 1)}))
    client.script = [lambda: client.rebalance(0)]
    source.poll()
    source.poll()
    client.generation = -1  # a heartbeat has learnt that we were thrown out
    assert source.group_metadata.generation_id == 2


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
    assert [[batch.begins for batch in source.poll()] for _ in range(2)] == [[True, False], [False, False]]


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
        "earliest", refuses_misplaced=True,
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


def test_a_topic_that_has_grown_under_the_worker_is_refused() -> None:
    client = Client()
    source = source_of(client, Tasks({0: Positions(1, 1)}))
    client.script = [lambda: client.rebalance(0), lambda: client.rebalance(0)]
    source.poll()
    client.partitions = {0, 1, 2, 3}
    with pytest.raises(
        IncompatibleError, match=f"{TOPICS[1]} has 4 partitions now, 3 when the worker started"
    ):
        source.poll()


def test_a_worker_stands_still_from_the_revocation_of_its_partitions_until_the_next_assignment() -> None:
    client, tasks = Client(), Tasks({0: Positions(1, 1)})
    source = source_of(client, tasks)
    client.script = [lambda: client.rebalance(0), client.throw_out, lambda: None, lambda: client.rebalance(0)]
    seen = []
    for _ in range(4):
        source.poll()
        seen.append(source.stands_still)
    assert seen == [False, True, True, False]
