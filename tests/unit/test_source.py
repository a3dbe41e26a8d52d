"""What the source makes of rebalances, with a scripted client."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from kafka import TopicPartition

from tests.support.records import record_columns
from tests.support.scripted_client import TOPICS, Client, Tasks, source_of, tp
from worker.cycle.contracts import Standing
from worker.errors import FuseError, IncompatibleError
from worker.kafka_io.record_batches import RecordColumns
from worker.partition.journal import Positions
from worker.wire.decoder import Decoder


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


def test_a_partition_is_idle_only_since_its_last_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """A payment an hour, as at night: each is taken at once, so that none is ever held."""
    now_s = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    client = Client()
    source = source_of(client, Tasks({0: Positions(100, 0)}))
    client.script = [lambda: client.rebalance(0)]
    source.poll()
    source.poll()
    for number in range(3):
        now_s += 3_600.0
        [waiting] = source.poll()
        assert waiting.idle_ms == 3_600_000
        client.script = [lambda number=number: client.fetch(0, 100 + number)]  # type: ignore[misc]
        [batch] = source.poll()
        assert batch.transactions is not None
        assert (len(batch.transactions), batch.idle_ms) == (1, None)
        source.poll()


@pytest.mark.parametrize("more_to_come", [None, 0, 1])
def test_a_partition_whose_clock_a_wrong_date_has_moved_waits_for_the_others_only_where_they_catch_up(
    monkeypatch: pytest.MonkeyPatch, more_to_come: int | None
) -> None:
    now_s = 1_000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    client = Client()
    source = source_of(client, Tasks({0: Positions(0, 0), 1: Positions(0, 0)}))
    client.script = [lambda: client.rebalance(0, 1)]
    source.poll()
    client.fetch(0, 0, ahead_ms=5 * 3_600_000)
    taken = []
    for number in range(20):
        client.fetch(0, 1 + number)
        client.fetch(1, number)
        if more_to_come is not None:
            client.behind[tp(more_to_come)] = 7
        now_s += 0.1
        taken.append({it.partition: len(it.transactions or ()) for it in source.poll()})
    assert [it[1] for it in taken] == [1] * 20
    before, after = [0] * 10, [12, *[1] * 9]  # once `batch.max_idle_ms` have passed, all that have come
    assert [it[0] for it in taken] == ([0] * 20 if more_to_come == 1 else before + after)


def test_the_position_passes_what_an_aborted_transaction_leaves_behind_and_is_committed() -> None:
    """Records that a reader never sees: Kafka deletes them in time, and a start from before them would fail."""
    client = Client()
    source = source_of(client, Tasks({0: Positions(100, 40)}))
    client.script = [lambda: client.rebalance(0), lambda: client.fetch(0, 100)]
    source.poll()
    [batch] = source.poll()
    assert not batch.moved
    client.positions |= {tp(0): 122, tp(0, TOPICS[1]): 45}
    [batch] = source.poll()
    assert (batch.moved, source.positions(0)) == (True, (122, 45))
    [batch] = source.poll()
    assert (batch.moved, source.positions(0)) == (False, (122, 45))


def test_the_position_passes_nothing_while_a_record_waits_before_it() -> None:
    client = Client()
    source = source_of(client, Tasks({0: Positions(100, 40), 1: Positions(5, 5)}))
    client.script = [lambda: client.rebalance(0, 1), lambda: client.fetch(0, 100)]
    client.behind = {tp(1): 7}  # more comes of partition 1, for which partition 0 waits
    source.poll()
    assert source.poll() == []
    client.positions[tp(0)] = 122
    assert source.poll() == []
    assert source.positions(0) == (100, 40)
    client.behind = {}
    [batch, _] = source.poll()
    assert batch.transactions is not None
    assert (len(batch.transactions), batch.transactions.next_offset) == (1, 101)


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


def test_the_commit_is_made_in_the_generation_of_its_batch() -> None:
    client = Client()
    source = source_of(client, Tasks({0: Positions(1, 1)}))
    client.script = [lambda: client.rebalance(0)]
    source.poll()
    source.poll()
    client.generation = -1  # a heartbeat has learnt that we were thrown out
    assert source.group_metadata.generation_id == 2


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


def test_of_a_fetch_of_bad_records_no_more_are_decoded_than_blow_the_fuse(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A legal batch of a megabyte inflates to a million of them: as objects they would fill the memory first."""
    monkeypatch.setattr("worker.live.source._DECODED_AT_ONCE", 500)
    client = Client()
    source = source_of(client, Tasks({0: Positions(100, 0)}))
    client.script = [lambda: client.rebalance(0)]
    source.poll()
    decoded, decode = [], Decoder.transactions

    def counted(decoder: Decoder, columns: RecordColumns) -> Any:
        decoded.append(len(columns))
        return decode(decoder, columns)

    monkeypatch.setattr(Decoder, "transactions", counted)
    client.fetched = [record_columns([None] * 30_000, [b"c"] * 30_000, TOPICS[0], partition=0)]
    with pytest.raises(FuseError, match="records were bad"):
        source.poll()
    assert decoded == [500] * 20, "as many as batch.fuse_window"


def test_without_a_fuse_a_fetch_of_bad_records_is_taken_in_parts_and_each_record_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("_DECODED_AT_ONCE", 500), ("_MOST_BAD", 1_200), ("DEAD_LETTERS", 700)):
        monkeypatch.setattr(f"worker.live.source.{name}", value)
    client = Client()
    source = source_of(client, Tasks({0: Positions(100, 0)}), fuse_share=1.0)
    client.script = [lambda: client.rebalance(0)]
    source.poll()

    def fetch() -> None:
        """Bring all that is left of 5,000 records, at offsets 100, 102, ..."""
        taken = (client.positions[tp(0)] - 100) // 2
        if taken < 5_000 and tp(0) not in client.paused:
            rest = record_columns([None] * (5_000 - taken), [b"c"] * (5_000 - taken), TOPICS[0], partition=0)
            offsets = rest.offsets + 2 * taken
            client.fetched = [replace(rest, offsets=offsets, next_offset=10_100)]
            client.positions[tp(0)] = 10_100

    found: list[int] = []
    for _ in range(20):
        client.script = [fetch]
        source.poll()
        assert source._inboxes[0].transactions.waiting_bad <= 1_200 + 500
        found += [it.offset for it in source.take_bad(0)]
    assert found == list(range(100, 10_100, 2))
