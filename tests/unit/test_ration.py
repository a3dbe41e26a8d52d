"""What a source of labels may teach in a day."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from models.state import ModelState
from models.vocabulary import MS_PER_DAY, LabelKind, LabelSource, Status
from tests.support.model_log import START_MS
from tests.support.partition import (
    HOUR_MS,
    LIMITS,
    POLICY,
    deciding_model,
    labels,
    run,
    running_task,
    transactions,
)
from worker.errors import CorruptError
from worker.partition import early_labels
from worker.partition import ration as ration_module
from worker.partition.ration import LEAST_A_DAY, Ration, with_followers
from worker.partition.task import PartitionTask
from worker.wire.decoder import LabelColumns

DAY_0_MS = START_MS // MS_PER_DAY * MS_PER_DAY
DAY_1_MS = DAY_0_MS + MS_PER_DAY
NOTHING = transactions([], np.empty(0, np.int64), first_offset=6)


def sent(count: int, source: LabelSource, kind: LabelKind = LabelKind.FRAUD) -> LabelColumns:
    made = labels(*[(f"t{i}", kind, START_MS) for i in range(count)])
    return dataclasses.replace(made, source=np.full(count, source, np.uint8))


def after_days(counts: list[int], times_usual: float = 10.0) -> Ration:
    """A ration at the beginning of the day after these numbers of frauds from chargebacks."""
    ration = Ration(times_usual)
    for day, count in enumerate(counts):
        ration.begin(DAY_0_MS + day * MS_PER_DAY)
        ration.count(sent(count, LabelSource.CHARGEBACK))
    ration.begin(DAY_0_MS + len(counts) * MS_PER_DAY)
    return ration


def test_a_bound_beyond_all_numbers_bounds_nothing() -> None:
    assert after_days([30] * 10, times_usual=1e18).surplus(sent(500, LabelSource.CHARGEBACK)).tolist() == []


def test_what_is_far_more_than_usual_waits_and_what_comes_first_is_applied() -> None:
    ration = after_days([30] * 10)
    assert ration.surplus(sent(300, LabelSource.CHARGEBACK)).tolist() == []
    assert ration.surplus(sent(304, LabelSource.CHARGEBACK)).tolist() == [300, 301, 302, 303]
    ration.count(sent(290, LabelSource.CHARGEBACK))
    mixed = LabelColumns.concatenate(
        [
            sent(8, LabelSource.CHARGEBACK),
            sent(50, LabelSource.CHARGEBACK, LabelKind.LEGIT),
            sent(5, LabelSource.CHARGEBACK),
            sent(70, LabelSource.ANALYST),
        ]
    )
    # 290 and 10 make 300: of the last five frauds three are too many. Other verdicts and sources have their own.
    assert ration.surplus(mixed).tolist() == [60, 61, 62]


def test_days_fade_and_days_without_labels_count() -> None:
    by_hand = [40, 0, 0, 100, 20, 0, 60, 80]
    fade = 0.5 ** (1 / 14)
    weights = [fade**age for age in range(len(by_hand) - 1, -1, -1)]
    usual = math.fsum(w * n for w, n in zip(weights, by_hand, strict=True)) / math.fsum(weights)
    ration = Ration(10.0)
    for day, count in enumerate(by_hand):
        if count:  # a day without labels is never begun
            ration.begin(DAY_0_MS + day * MS_PER_DAY)
            ration.count(sent(count, LabelSource.CHARGEBACK))
    ration.begin(DAY_0_MS + len(by_hand) * MS_PER_DAY)
    many = sent(1_000, LabelSource.CHARGEBACK)
    assert len(ration.surplus(many)) == 1_000 - int(10.0 * usual)


def test_labels_after_days_without_any_are_those_of_all_these_days() -> None:
    """A file a month, or a stream whose times are the first days of months: all of it is learnt as it comes."""
    ration = Ration(10.0)
    for month in range(6):
        ration.begin(DAY_0_MS + 30 * month * MS_PER_DAY)
        assert len(ration.surplus(sent(12_000, LabelSource.CHARGEBACK))) == 0
        ration.count(sent(12_000, LabelSource.CHARGEBACK))
    ration.begin(DAY_0_MS + 151 * MS_PER_DAY)
    # A day later it is what a day may teach: ten times some 400, of which the newest month counts most.
    assert 4_000 < 12_000 - len(ration.surplus(sent(12_000, LabelSource.CHARGEBACK))) < 12_000


@pytest.mark.parametrize(
    ("counts", "times_usual", "what"),
    [
        ([30] * 6, 10.0, "a week has to be known"),
        ([30] * 10, math.inf, "no bound was asked for"),
    ],
)
def test_nothing_waits_where(counts: list[int], times_usual: float, what: str) -> None:
    assert len(after_days(counts, times_usual).surplus(sent(5_000, LabelSource.CHARGEBACK))) == 0, what


def test_a_partition_without_a_clock_has_no_days_behind_it(tmp_path: Path) -> None:
    task, model = running_task(tmp_path, LIMITS), deciding_model()
    run(task, model, transactions([], np.empty(0, np.int64)), labels())
    assert task.ration.numbers() == (), "years without labels would make any first label unusual"


def test_few_labels_never_wait() -> None:
    assert after_days([1] * 10).surplus(sent(LEAST_A_DAY + 1, LabelSource.CHARGEBACK)).tolist() == [
        LEAST_A_DAY
    ]


def test_the_state_survives_the_journal_and_a_wrong_one_is_refused() -> None:
    ration, again = after_days([30, 50, 20]), Ration(10.0)
    again.replay(ration.numbers())
    assert again.numbers() == ration.numbers()
    assert Ration(10.0).numbers() == ()
    for wrong in ((1.0,), (*ration.numbers()[:-1], -1.0), (*ration.numbers()[:-1], math.nan)):
        with pytest.raises(CorruptError, match="taught"):
            again.replay(wrong)


@pytest.fixture
def two_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[PartitionTask, ModelState]:
    """A task whose sources may teach two frauds and two legits a day; six transactions are decided on day 0."""
    monkeypatch.setattr(ration_module, "LEAST_A_DAY", 2)
    monkeypatch.setattr(ration_module, "_KNOWN_AFTER", 0.5)
    limits = dataclasses.replace(LIMITS, labels_times_usual=1.0, orphan_after_ms=HOUR_MS)
    task, model = running_task(tmp_path, limits), deciding_model()
    ids = [f"t{i}" for i in range(6)]
    first = transactions(ids, np.full(6, DAY_0_MS), amount=np.full(6, 10.0))
    run(task, model, first, labels(("t0", LabelKind.OUTCOME, DAY_0_MS)))
    return task, model


def frauds(*ids: str, first_offset: int) -> LabelColumns:
    """Labels of day 1, as it begins."""
    return labels(*[(it, LabelKind.FRAUD, DAY_1_MS - 1) for it in ids], first_offset=first_offset)


def statuses(task: PartitionTask) -> list[Status]:
    return [Status(it) for it in task.pending.column("status", np.arange(task.pending.next_sequence))]


def test_the_label_of_another_card_with_the_same_id_follows_none() -> None:
    due = labels(("t0", LabelKind.FRAUD, DAY_1_MS), ("t0", LabelKind.REVERSAL, DAY_1_MS))
    surplus, none = np.array([0]), LabelColumns.none()
    assert with_followers(due, surplus, none).tolist() == [0, 1]
    of_two_cards = dataclasses.replace(due, card_hash=np.array([1, 2], np.uint64))
    assert with_followers(of_two_cards, surplus, none).tolist() == [0]


@pytest.mark.parametrize("batches", [1, 2])
def test_a_reversal_does_not_overtake_its_fraud_that_waits_for_the_next_day(
    two_a_day: tuple[PartitionTask, ModelState], batches: int
) -> None:
    task, model = two_a_day
    flood = frauds("t0", "t1", "t2", first_offset=1)
    reversals = labels(
        ("t2", LabelKind.REVERSAL, DAY_1_MS), ("t1", LabelKind.REVERSAL, DAY_1_MS), first_offset=4
    )
    came = [flood, reversals] if batches == 2 else [LabelColumns.concatenate([flood, reversals])]
    orphans = [run(task, model, NOTHING, it, DAY_1_MS).settled[0].orphans.tolist() for it in came]
    # The second is reversed at once. The third waits with its reversal; silence had spoken before its label's time.
    assert statuses(task)[:3] == [Status.FRAUD, Status.LEGIT, Status.PROVISIONAL]
    orphans.append(run(task, model, NOTHING, None, DAY_1_MS + MS_PER_DAY).settled[0].orphans.tolist())
    assert statuses(task)[:3] == [Status.FRAUD, Status.LEGIT, Status.LEGIT]
    assert (orphans, len(task.shelf)) == ([[]] * (batches + 1), 0)


def test_frauds_and_their_reversals_do_not_wait_for_each_other_for_ever(
    two_a_day: tuple[PartitionTask, ModelState],
) -> None:
    """A release of two labels takes frauds alone from the shelf, and a later one their reversals alone."""
    task, model = two_a_day
    ids = [f"t{row}" for row in range(6)]
    run(task, model, NOTHING, frauds(*ids, first_offset=1), DAY_1_MS)
    reversals = labels(*[(it, LabelKind.REVERSAL, DAY_1_MS) for it in ids], first_offset=7)
    run(task, model, NOTHING, reversals, DAY_1_MS)
    assert len(task.shelf) == 8, "two frauds are applied, and reversed at once"
    orphans = [
        run(task, model, NOTHING, None, DAY_1_MS + day * MS_PER_DAY, at_once=2).settled[0].orphans.tolist()
        for day in (1, 2, 3, 4)
        for _ in range(4)
    ]
    assert (len(task.shelf), orphans) == (0, [[]] * 16)
    assert statuses(task)[:6] == [Status.LEGIT] * 6


@pytest.mark.parametrize("ahead_ms", [-1, 0])
def test_a_reversal_that_waits_for_its_own_time_does_not_overtake_its_fraud(
    two_a_day: tuple[PartitionTask, ModelState], ahead_ms: int
) -> None:
    """The fraud waits for the next day, and its reversal is dated as that begins."""
    task, model = two_a_day
    day_2_ms = DAY_1_MS + MS_PER_DAY
    dated = labels(("t2", LabelKind.REVERSAL, day_2_ms + ahead_ms), first_offset=4)
    flood = LabelColumns.concatenate([frauds("t0", "t1", "t2", first_offset=1), dated])
    run(task, model, NOTHING, flood, DAY_1_MS)
    assert len(task.shelf) == 2
    second = run(task, model, NOTHING, None, day_2_ms)
    assert (second.settled[0].orphans.tolist(), statuses(task)[2]) == ([], Status.LEGIT)


def test_silence_waits_for_labels_that_wait_for_the_next_day(
    two_a_day: tuple[PartitionTask, ModelState],
) -> None:
    task, model = two_a_day
    later = [f"u{row}" for row in range(4)]
    run(task, model, transactions(later, np.full(4, DAY_1_MS), amount=np.full(4, 10.0), first_offset=6))
    late_ms = DAY_1_MS + POLICY.negatives_after_ms
    dated = [(it, LabelKind.FRAUD, late_ms) for it in later[:3]]
    run(task, model, NOTHING, labels(*dated, first_offset=1), late_ms)
    assert task.shelf.silent_until_ms(late_ms) == late_ms - 1
    assert statuses(task)[6:] == [Status.FRAUD, Status.FRAUD, Status.WAITING, Status.WAITING]
    run(task, model, NOTHING, None, DAY_1_MS + MS_PER_DAY)
    assert statuses(task)[6:] == [*[Status.FRAUD] * 3, Status.PROVISIONAL]


def test_a_label_that_waited_for_the_next_day_waits_for_its_transaction_too(
    two_a_day: tuple[PartitionTask, ModelState],
) -> None:
    task, model = two_a_day
    run(task, model, NOTHING, frauds("t0", "t1", "later", first_offset=1), DAY_1_MS)
    day_2_ms = DAY_1_MS + MS_PER_DAY
    second = run(task, model, NOTHING, None, day_2_ms)
    assert (second.settled[0].orphans.tolist(), len(task.shelf)) == ([], 1)
    assert task.shelf.silent_until_ms(day_2_ms) == day_2_ms
    run(task, model, transactions(["later"], [day_2_ms], amount=[10.0], first_offset=6))
    assert statuses(task)[6] == Status.FRAUD


def test_a_label_that_waited_for_its_transaction_is_counted_once_and_an_orphan_at_last(
    two_a_day: tuple[PartitionTask, ModelState],
) -> None:
    task, model = two_a_day
    run(task, model, NOTHING, frauds("x", "y", first_offset=1), DAY_1_MS)
    assert task.ration.numbers()[2:].count(2.0) == 1, "two frauds of today"
    # Both are due an hour later; the ration of the day is spent, and they have had their turn.
    second = run(task, model, NOTHING, None, DAY_1_MS + HOUR_MS)
    assert (second.settled[0].orphans.tolist(), len(task.shelf)) == ([0, 1], 0)


def test_a_label_never_waits_for_its_transaction_until_the_beginning_of_a_day(
    two_a_day: tuple[PartitionTask, ModelState],
) -> None:
    task, model = two_a_day
    run(task, model, NOTHING, labels(("x", LabelKind.FRAUD, DAY_1_MS - HOUR_MS)), DAY_1_MS - HOUR_MS)
    assert len(task.shelf.rationed) == 0
    assert [len(run(task, model, NOTHING, None, DAY_1_MS + ms).settled[0].orphans) for ms in (0, 1)] == [0, 1]


def test_labels_beyond_the_ration_are_applied_the_next_day(
    two_a_day: tuple[PartitionTask, ModelState],
) -> None:
    task, model = two_a_day
    ids = [f"t{i}" for i in range(6)]
    flood = labels(*[(name, LabelKind.FRAUD, DAY_0_MS + MS_PER_DAY) for name in ids], first_offset=1)
    days = [run(task, model, NOTHING, flood, DAY_0_MS + MS_PER_DAY)]
    days += [run(task, model, NOTHING, None, DAY_0_MS + day * MS_PER_DAY) for day in (1, 2, 3, 4)]
    taught = [sum(int(it.frauds.sum()) for it in day.settled[0].evidence) for day in days]
    assert taught == [2, 0, 2, 2, 0], "two always pass; the same day teaches no more"


@pytest.mark.parametrize(("most_rows", "most_bytes"), [(4, 1_000), (100, 4)])
def test_labels_beyond_the_ration_without_room_to_wait_are_not_applied(
    two_a_day: tuple[PartitionTask, ModelState],
    monkeypatch: pytest.MonkeyPatch,
    most_rows: int,
    most_bytes: int,
) -> None:
    monkeypatch.setattr(early_labels, "MOST_ROWS", most_rows)
    monkeypatch.setattr(early_labels, "MOST_BYTES", most_bytes)
    task, model = two_a_day
    flood = frauds(*[f"t{row}" for row in range(6)], first_offset=1)
    flood = dataclasses.replace(flood, value=pa.array([b"x"] * 6, pa.large_binary()))
    first = run(task, model, NOTHING, flood, DAY_1_MS)
    # Half of the shelf is for labels that wait beyond their own time: two of four, in rows as in bytes.
    assert (first.entry.early.offsets.tolist(), first.overflow.offsets.tolist()) == ([3, 4], [5, 6])
    assert statuses(task) == [Status.FRAUD] * 2 + [Status.PROVISIONAL] * 4
    assert task.ration.numbers()[2:].count(2.0) == 1, "two frauds of today"
    second = run(task, model, NOTHING, None, DAY_1_MS + MS_PER_DAY)
    # A day later the horizon of both others is over, and silence has spoken.
    assert statuses(task) == [Status.FRAUD] * 4 + [Status.FINAL_LEGIT] * 2
    assert len(second.overflow) == 0


def test_a_reversal_does_not_outlive_its_fraud_that_has_no_room_to_wait(
    two_a_day: tuple[PartitionTask, ModelState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_labels, "MOST_ROWS", 2)
    task, model = two_a_day
    flood = frauds("t0", "t1", "t2", "t3", first_offset=1)
    reversals = labels(
        ("t0", LabelKind.REVERSAL, DAY_1_MS), ("t3", LabelKind.REVERSAL, DAY_1_MS), first_offset=5
    )
    first = run(task, model, NOTHING, LabelColumns.concatenate([flood, reversals]), DAY_1_MS)
    assert (first.settled[0].orphans.tolist(), first.overflow.offsets.tolist()) == ([], [4, 6])
    assert statuses(task)[:2] == [Status.LEGIT, Status.FRAUD]


def test_labels_that_wait_for_the_next_day_keep_their_place_when_the_shelf_fills(
    two_a_day: tuple[PartitionTask, ModelState], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_labels, "MOST_ROWS", 8)
    task, model = two_a_day
    run(task, model, NOTHING, frauds(*[f"t{row}" for row in range(6)], first_offset=1), DAY_1_MS)
    far_ms = DAY_1_MS + 30 * MS_PER_DAY
    ahead = labels(*[(f"later{row}", LabelKind.FRAUD, far_ms) for row in range(4)], first_offset=7)
    days = [run(task, model, NOTHING, ahead, DAY_1_MS + MS_PER_DAY)]
    days.append(run(task, model, NOTHING, None, DAY_1_MS + 2 * MS_PER_DAY))
    assert [day.overflow.offsets.tolist() for day in days] == [[], []]
    assert statuses(task) == [Status.FRAUD] * 6
