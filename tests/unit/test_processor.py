from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from models.records import Commit, ModelRecord
from models.refit import RefitPlan
from models.state import ModelState
from models.threshold import BINS
from models.vocabulary import MS_PER_DAY, LabelEffect, LabelKind, Status
from tests.support.model_log import LINEAGE, START_MS
from tests.support.partition import HOUR_MS, LIMITS, POLICY, SKEW_MS, labels, new_task, transactions
from worker.cycle.contracts import Outcome, PartitionBatch, StepTimes
from worker.cycle.inbox import Inbox
from worker.cycle.processor import Processor
from worker.cycle.refits import Refits
from worker.offline.in_memory import ImmediateJobs
from worker.partition.early_labels import Room
from worker.partition.journal import Positions
from worker.partition.task import PartitionTask, TaskLimits, TaskState
from worker.wire.decoder import BadRecord, LabelColumns

NEVER = RefitPlan(generation_ms=1 << 50, forest_ms=1 << 50, forest_min_rows=1 << 50)
EVERYTHING = 1 << 62


class Surroundings:
    """Source, sink, log and observer in memory; every poll takes all that waits."""

    def __init__(self, partitions: int) -> None:
        self.inboxes = {partition: Inbox(SKEW_MS) for partition in range(partitions)}
        self.quiet: set[int] = set()
        self.idle_ms = HOUR_MS
        self.moved: set[int] = set()
        self.clock_ms: dict[int, int] = {}
        self.commits: list[list[ModelRecord]] = []
        self.steps: list[str] = []
        self._unfolded: list[ModelRecord] = []
        self._offset = 0

    def poll(self) -> list[PartitionBatch]:
        self.steps.append("poll")
        return [
            PartitionBatch(
                partition,
                inbox.transactions.take(EVERYTHING),
                idle_ms=self.idle_ms if partition in self.quiet else None,
                moved=partition in self.moved,
                clock_ms=self.clock_ms.get(partition),
                first_label_ms=inbox.labels.first_due_ms,
            )
            for partition, inbox in self.inboxes.items()
        ]

    def follow_clock(self, partition: int, clock_ms: int) -> int:
        return self.inboxes[partition].follow_clock(clock_ms)

    def take_labels(self, partition: int, until_ms: int, room: Room) -> LabelColumns | None:
        return self.inboxes[partition].take_labels(until_ms, room=room)

    def silent_until_ms(self, partition: int, clock_ms: int) -> int:
        return self.inboxes[partition].silent_until_ms(clock_ms)

    def take_bad(self, partition: int) -> list[BadRecord]:
        return self.inboxes[partition].take_bad()

    def positions(self, partition: int) -> Positions:
        return self.inboxes[partition].positions

    def begin(
        self, outcomes: list[Outcome], records: list[ModelRecord], model: ModelState
    ) -> Callable[[], None]:
        del outcomes, model
        self.steps.append("begin")
        self.commits.append(records)
        return lambda: self._finish(records)

    def _finish(self, records: list[ModelRecord]) -> None:
        self.steps.append("finish")
        self._unfolded += records

    def fold_into(self, model: ModelState) -> None:
        self.steps.append("fold")
        for record in self._unfolded:
            model.fold(self._offset, record)
            self._offset += 1
        self._unfolded = []

    def observe(self, outcomes: list[Outcome], times: StepTimes) -> None:
        del outcomes
        assert min(dataclasses.astuple(times)) >= 0.0
        self.steps.append("observe")

    def commit_record(self) -> Commit:
        """Return the last commit's own record."""
        commit = self.commits[-1][0]
        assert isinstance(commit, Commit)
        return commit


class Worker:
    """A processor over partitions of its own."""

    def __init__(
        self, folder: Path, partitions: int = 2, digest_every: int = 1_000, limits: TaskLimits = LIMITS
    ) -> None:
        self.model = ModelState(LINEAGE, POLICY, digest_every)
        self.around = Surroundings(partitions)
        self.tasks: dict[int, PartitionTask] = {}
        for partition in range(partitions):
            self.tasks[partition] = new_task(folder / str(partition), limits, partition)
            self.tasks[partition].move_to(TaskState.RUNNING)
        around, refits = self.around, Refits(NEVER, ImmediateJobs())
        self.processor = Processor("w", around, around, around, self.model, self.tasks, refits, around)

    def put(self, partition: int, *ids: str, hour: int = 0) -> None:
        start = self.tasks[partition].pending.next_sequence
        times = START_MS + HOUR_MS * hour + np.arange(len(ids))
        self.around.inboxes[partition].put_transactions(transactions(ids, times, first_offset=start), [])


def test_the_steps_of_a_cycle_come_in_their_order_and_the_commit_ends_before_the_next_poll(
    tmp_path: Path,
) -> None:
    worker = Worker(tmp_path)
    worker.put(0, "a")
    worker.processor.run_once()
    worker.processor.run_once()
    cycle = ["poll", "begin", "fold", "finish", "observe"]
    assert worker.around.steps == [*cycle, "poll", "fold", "observe"]


def test_a_cycle_in_which_nothing_happened_commits_nothing(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    outcomes = worker.processor.run_once()
    assert [(one.changed, one.decided) for one in outcomes] == [(False, None)] * 2
    assert worker.around.commits == []


def test_one_commit_tells_what_all_partitions_did(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.put(0, "a", "b", "a")
    worker.put(1, "c", hour=2)
    one, other = worker.processor.run_once()
    assert (one.positions.transactions, one.repeats, one.first_sequence) == (3, 1, 0)
    assert (other.positions.transactions, other.repeats) == (1, 0)
    commit = worker.around.commit_record()
    assert commit.clocks_ms == {0: START_MS + 1, 1: START_MS + 2 * HOUR_MS}
    assert commit.traffic.event_time_ms.tolist() == [START_MS, START_MS + 1, START_MS + 2 * HOUR_MS]
    assert commit.ledger.decided_count.sum() == 3
    worker.processor.run_once()
    assert worker.model.traffic_seen == 3


def test_a_partition_that_was_never_used_has_no_clock_to_tell(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.put(1, "c")
    worker.processor.run_once()
    assert worker.around.commit_record().clocks_ms == {1: START_MS}


def test_a_repeat_or_a_bad_record_alone_is_committed_for_its_position(tmp_path: Path) -> None:
    worker = Worker(tmp_path, partitions=1)
    worker.put(0, "a")
    worker.processor.run_once()
    worker.put(0, "a")
    assert [one.repeats for one in worker.processor.run_once()] == [1]
    bad = BadRecord("t", 0, 2, START_MS, "decode", "not_json", "it is not", b"x", 1)
    worker.around.inboxes[0].put_transactions(transactions([], first_offset=3), [bad])
    (outcome,) = worker.processor.run_once()
    assert (outcome.bad, outcome.positions.transactions) == ([bad], 3)
    assert [len(records) for records in worker.around.commits] == [1, 1, 1]
    assert worker.around.commit_record().ledger.decided_count.sum() == 0


def test_an_event_dated_years_ahead_counts_as_of_its_arrival(tmp_path: Path) -> None:
    worker = Worker(tmp_path, partitions=1)
    came = transactions(["a"], [START_MS + 9 * 365 * MS_PER_DAY], timestamps_ms=[START_MS])
    worker.around.inboxes[0].put_transactions(came, [])
    worker.processor.run_once()
    commit = worker.around.commit_record()
    assert commit.traffic.event_time_ms.tolist() == [START_MS + SKEW_MS]
    assert commit.ledger.decided_day.tolist() == [START_MS // MS_PER_DAY]


def test_one_record_dated_twenty_years_ahead_moves_no_clock_and_closes_no_day(tmp_path: Path) -> None:
    worker = Worker(tmp_path, partitions=1)
    hours = START_MS + np.arange(5) * HOUR_MS
    times = np.insert(hours, 2, START_MS + 20 * 365 * MS_PER_DAY)
    worker.around.inboxes[0].put_transactions(transactions([*"abxcde"], times, timestamps_ms=times), [])
    worker.processor.run_once()
    commit = worker.around.commit_record()
    assert commit.clocks_ms == {0: hours[-1]}
    assert commit.traffic.event_time_ms.tolist() == [*hours[:2], hours[1], *hours[2:]]
    assert commit.ledger.decided_day.tolist() == [START_MS // MS_PER_DAY]


def test_a_partition_that_fell_quiet_moves_to_its_watermark(tmp_path: Path) -> None:
    worker = Worker(tmp_path, partitions=1)
    worker.put(0, "a")
    inbox = worker.around.inboxes[0]
    far_ms = START_MS + 9 * MS_PER_DAY
    inbox.put_transactions(transactions(["b"], [far_ms], first_offset=1), [])
    worker.processor.run_once()
    assert worker.around.commit_record().clocks_ms == {0: START_MS}
    worker.around.clock_ms[0] = inbox.watermark.fall_quiet(far_ms)
    worker.processor.run_once()
    assert worker.around.commit_record().clocks_ms == {0: far_ms}


def test_a_quiet_partition_follows_by_whole_minutes_so_that_most_commits_leave_it_unchanged(
    tmp_path: Path,
) -> None:
    worker = Worker(tmp_path)
    worker.put(0, "a")
    worker.put(1, "b")
    worker.processor.run_once()
    worker.around.quiet = {0}
    seen = []
    for second in range(1, 181):
        times = [START_MS + 1_000 * second]
        worker.around.inboxes[1].put_transactions(
            transactions([f"c{second}"], times, first_offset=second), []
        )
        outcome = worker.processor.run_once()[0]
        assert worker.tasks[0].clock_ms % 60_000 == 0
        seen.append(outcome.changed)
    # The commit of second 60 is folded in the cycle of second 61, and seen in the one of second 62.
    assert [1 + index for index in np.flatnonzero(seen)] == [62, 122]


@pytest.mark.parametrize("set_aside_before", [False, True])
def test_a_label_that_is_due_within_a_minute_waits_for_no_other_transaction(
    tmp_path: Path, set_aside_before: bool
) -> None:
    worker = Worker(tmp_path)
    worker.put(0, "a")
    due_ms = START_MS + HOUR_MS + 20_000
    label = labels(("a", LabelKind.FRAUD, due_ms), timestamps_ms=[due_ms])
    if set_aside_before:
        worker.around.inboxes[0].put_labels(label, [])
    worker.processor.run_once()
    worker.around.inboxes[1].put_transactions(transactions(["b"], [due_ms + 20_000]), [])
    worker.around.quiet = {0}
    worker.processor.run_once()
    worker.processor.run_once()
    if not set_aside_before:
        worker.around.inboxes[0].put_labels(label, [])
    effects = worker.processor.run_once()[0].by_label.label_effects.tolist()
    assert effects == [LabelEffect.MATCHED]


def test_a_label_alone_is_a_change_that_the_journal_must_hold(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.put(0, "a")
    worker.processor.run_once()
    worker.around.inboxes[0].put_labels(labels(("a", LabelKind.LEGIT, START_MS)), [])
    assert [worker.processor.run_once()[0].changed for _ in range(2)] == [True, False]


def test_a_label_dated_in_the_future_holds_back_no_other_and_is_applied_in_its_time(tmp_path: Path) -> None:
    worker = Worker(tmp_path, partitions=1)
    worker.put(0, "a", "b")
    far_ms = START_MS + 5 * HOUR_MS
    dated = [("a", LabelKind.FRAUD, far_ms), ("b", LabelKind.FRAUD, START_MS + 1)]
    worker.around.inboxes[0].put_labels(labels(*dated, timestamps_ms=[far_ms, far_ms]), [])
    (outcome,) = worker.processor.run_once()
    assert (outcome.labels.offsets.tolist(), outcome.early.offsets.tolist()) == ([1], [0])
    assert outcome.positions.labels == 2, "one offset is enough"
    worker.put(0, "c", hour=5)
    (outcome,) = worker.processor.run_once()
    assert (outcome.labels.offsets.tolist(), outcome.released.offsets.tolist()) == ([0], [0])
    assert len(outcome.by_label.orphans) == 0


def early(worker: Worker, partition: int, count: int) -> None:
    """Put labels that are due in the fifth hour, and behind them one that is due now."""
    worker.put(partition, *[f"{partition}.{row}" for row in range(count + 1)])
    far_ms = START_MS + 5 * HOUR_MS
    dated = [(f"{partition}.{row}", LabelKind.FRAUD, far_ms + row) for row in range(count)]
    dated.append((f"{partition}.{count}", LabelKind.FRAUD, START_MS))
    stamps = [far_ms + SKEW_MS] * (count + 1)
    worker.around.inboxes[partition].put_labels(labels(*dated, timestamps_ms=stamps), [])


def test_labels_without_room_to_wait_for_their_day_are_read_once_and_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.partition.ration.LEAST_A_DAY", 1)
    monkeypatch.setattr("worker.partition.ration._KNOWN_AFTER", 0.5)
    monkeypatch.setattr("worker.partition.early_labels.MOST_ROWS", 2)
    worker = Worker(tmp_path, partitions=1)
    worker.put(0, "a", "b", "c")
    worker.around.inboxes[0].put_labels(labels(("a", LabelKind.OUTCOME, START_MS)), [])
    worker.processor.run_once()
    worker.put(0, "d", hour=24)
    flood = labels(*[(it, LabelKind.FRAUD, START_MS) for it in "abc"], first_offset=1)
    worker.around.inboxes[0].put_labels(flood, [])
    (outcome,) = worker.processor.run_once()
    parts = outcome.labels, outcome.surplus, outcome.early, outcome.overflow
    assert [part.offsets.tolist() for part in parts] == [[1], [2], [2], [3]]
    assert outcome.positions.labels == 4


def release_at_once(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    for module in ("worker.cycle.processor", "worker.partition.early_labels"):
        monkeypatch.setattr(f"{module}.RELEASED_AT_ONCE", count, raising=False)


def test_no_label_is_read_while_more_are_due_on_the_shelf_than_are_released_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release_at_once(monkeypatch, 2)
    worker = Worker(tmp_path, partitions=1)
    early(worker, 0, 5)
    worker.processor.run_once()
    assert len(worker.tasks[0].shelf) == 5
    worker.put(0, "c", hour=6)
    later = labels(*[("c", LabelKind.FRAUD, START_MS + 5 * HOUR_MS)] * 9, first_offset=6)
    worker.around.inboxes[0].put_labels(later, [])
    seen = []
    for _ in range(3):
        (outcome,) = worker.processor.run_once()
        seen.append((outcome.labels.offsets.tolist(), len(worker.tasks[0].shelf), outcome.positions.labels))
    assert seen == [([0, 1], 3, 6), ([2, 3], 1, 6), ([4, *range(6, 15)], 0, 15)]


def test_partitions_that_reach_their_labels_together_share_what_is_released_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release_at_once(monkeypatch, 4)
    worker = Worker(tmp_path, partitions=2)
    for partition in (0, 1):
        early(worker, partition, 5)
    worker.processor.run_once()
    for partition in (0, 1):
        worker.put(partition, f"{partition}.c", hour=6)
    released = [[one.released.offsets.tolist() for one in worker.processor.run_once()] for _ in range(3)]
    assert released == [[[0, 1]] * 2, [[2, 3]] * 2, [[4]] * 2]


def test_the_more_decisions_wait_the_fewer_labels_come_that_have_to_be_looked_for_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.partition.pending.SEGMENT_ROWS", 16)
    monkeypatch.setattr("worker.partition.pending._SLOTS", 32)
    monkeypatch.setattr("worker.cycle.processor.LOOKUPS", 12, raising=False)
    worker = Worker(tmp_path, partitions=2)
    ids = [f"t{row}" for row in range(40)]
    worker.put(0, *ids)
    dated = [(it, LabelKind.FRAUD, START_MS) for it in ids]
    worker.around.inboxes[0].put_labels(labels(*dated), [])
    # 12 look-ups make 6 for each partition, in three segments two labels.
    taken = [worker.processor.run_once()[0].labels for _ in range(3)]
    assert [it.offsets.tolist() for it in taken] == [[0, 1], [2, 3], [4, 5]]


PATIENT = dataclasses.replace(LIMITS, orphan_after_ms=HOUR_MS)


def test_a_label_waits_for_its_transaction_and_finds_it(tmp_path: Path) -> None:
    worker = Worker(tmp_path, partitions=1, limits=PATIENT)
    worker.put(0, "a")
    worker.around.inboxes[0].put_labels(labels(("b", LabelKind.FRAUD, START_MS)), [])
    (outcome,) = worker.processor.run_once()
    assert (outcome.early.offsets.tolist(), outcome.by_label.orphans.tolist()) == ([0], [])
    assert outcome.positions.labels == 1, "one offset is enough"
    worker.put(0, "c")
    (outcome,) = worker.processor.run_once()
    assert len(outcome.labels) == 0
    worker.put(0, "b")
    (outcome,) = worker.processor.run_once()
    assert outcome.released.offsets.tolist() == [0]
    assert outcome.by_label.label_effects.tolist() == [LabelEffect.MATCHED]
    assert worker.tasks[0].pending.column("status", np.arange(3)).tolist() == [
        Status.WAITING,
        Status.WAITING,
        Status.FRAUD,
    ]


def test_a_label_whose_transaction_does_not_come_in_time_is_an_orphan_once(tmp_path: Path) -> None:
    worker = Worker(tmp_path, partitions=1, limits=PATIENT)
    worker.put(0, "a")
    worker.around.inboxes[0].put_labels(labels(("b", LabelKind.FRAUD, START_MS)), [])
    worker.processor.run_once()
    orphans = []
    for hour in (0, 1, 2, 3):
        worker.put(0, f"c{hour}", hour=hour)
        (outcome,) = worker.processor.run_once()
        orphans.append(outcome.by_label.orphans.tolist())
        assert not len(outcome.early)
    assert orphans == [[], [0], [], []]


@pytest.mark.parametrize(("idle_ms", "finds_it"), [(HOUR_MS - 1, True), (HOUR_MS, False)])
def test_a_feed_in_bulk_does_not_outrun_a_label_that_waits_in_a_quiet_partition(
    tmp_path: Path, idle_ms: int, finds_it: bool
) -> None:
    worker = Worker(tmp_path, limits=PATIENT)
    worker.put(0, "a")
    worker.around.inboxes[0].put_labels(labels(("b", LabelKind.FRAUD, START_MS)), [])
    worker.put(1, "c", hour=50)
    worker.processor.run_once()
    worker.around.quiet, worker.around.idle_ms = {0}, idle_ms
    orphans = [len(worker.processor.run_once()[0].by_label.orphans) for _ in range(3)]
    held_ms = START_MS + HOUR_MS - 60_000
    assert worker.tasks[0].clock_ms == (held_ms if finds_it else START_MS + 50 * HOUR_MS)
    assert sum(orphans) == (0 if finds_it else 1)
    worker.put(0, "b")
    effects = worker.processor.run_once()[0].by_label.label_effects.tolist()
    assert effects == ([LabelEffect.MATCHED] if finds_it else [])


def test_a_label_that_waits_for_its_transaction_silences_no_other(tmp_path: Path) -> None:
    worker = Worker(tmp_path, partitions=1, limits=PATIENT)
    worker.put(0, "a")
    late_ms = START_MS + POLICY.negatives_after_ms
    dated = [("b", LabelKind.FRAUD, late_ms), ("c", LabelKind.FRAUD, late_ms)]
    worker.around.inboxes[0].put_labels(labels(*dated, timestamps_ms=[late_ms, late_ms]), [])
    worker.put(0, "d", hour=POLICY.negatives_after_ms // HOUR_MS)
    worker.processor.run_once()
    assert worker.tasks[0].shelf.postponed == 2
    assert worker.tasks[0].provisional_sequence == 1


def test_a_label_of_the_far_future_counts_as_of_tomorrow_and_does_not_hide_a_dead_feed(
    tmp_path: Path,
) -> None:
    worker = Worker(tmp_path, partitions=1)
    worker.put(0, "a")
    far_ms = START_MS + 20 * 365 * MS_PER_DAY
    dated = labels(("a", LabelKind.FRAUD, far_ms), timestamps_ms=[far_ms])
    worker.around.inboxes[0].put_labels(dated, [], wall_ms=START_MS)
    worker.processor.run_once()
    assert worker.tasks[0].newest_label_ms is None
    worker.put(0, "b", hour=24)
    worker.processor.run_once()
    assert worker.tasks[0].newest_label_ms == START_MS + MS_PER_DAY


def test_without_an_online_model_no_score_is_counted(tmp_path: Path) -> None:
    worker = Worker(tmp_path, partitions=1)
    worker.put(0, "a", "b")
    worker.processor.run_once()
    commit = worker.around.commit_record()
    np.testing.assert_array_equal(commit.budget.online, np.zeros(BINS))
    np.testing.assert_array_equal(commit.budget.forest, np.zeros(BINS))


def test_a_quiet_partition_follows_the_highest_clock_and_its_labels_fall_due(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.put(0, "a")
    worker.put(1, "b")
    worker.processor.run_once()
    worker.around.inboxes[0].put_labels(labels(("a", LabelKind.FRAUD, START_MS + HOUR_MS)), [])
    worker.put(1, "c", hour=3)
    worker.around.quiet = {0}
    for _ in range(2):
        worker.processor.run_once()
        assert worker.tasks[0].clock_ms == START_MS, "the third hour is not folded yet"
    worker.processor.run_once()
    assert worker.tasks[0].clock_ms == START_MS + 3 * HOUR_MS
    commit = worker.around.commit_record()
    assert commit.evidence.frauds.tolist() == [1]
    assert (commit.newest_label_ms, commit.examples.label.tolist()) == (START_MS + HOUR_MS, [1])


def test_each_digest_is_published_once(tmp_path: Path) -> None:
    worker = Worker(tmp_path, partitions=1, digest_every=2)
    for number in range(7):
        worker.put(0, f"t{number}")
        worker.processor.run_once()
    digests = [
        record.digest for records in worker.around.commits for record in records if isinstance(record, Commit)
    ]
    assert [digest and digest.offset for digest in digests] == [None, None, 0, None, 2, None, 4]


def test_the_beginning_of_a_partition_is_committed_although_nothing_came(tmp_path: Path) -> None:
    worker = Worker(tmp_path)
    worker.processor.run_once()
    assert worker.around.commits == []
    worker.around.moved = {1}
    [_, begun] = worker.processor.run_once()
    assert begun.changed
    assert len(worker.around.commits) == 1
