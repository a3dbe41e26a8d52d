from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from models.vocabulary import MS_PER_DAY, LabelKind
from tests.support.model_log import START_MS
from tests.support.partition import (
    HOUR_MS,
    LIMITS,
    POLICY,
    SKEW_MS,
    Commit,
    deciding_model,
    labels,
    replayed,
    run,
    running_task,
    transactions,
)
from worker.errors import CorruptError
from worker.partition import early_labels
from worker.partition import pending as pending_module
from worker.partition import ration as ration_module
from worker.partition.task import PartitionTask, TaskLimits
from worker.wire.decoder import LabelColumns, TransactionColumns

FEW_CARDS = 15
TIGHT = TaskLimits(
    repeat_window=25,
    keep_ms=40 * HOUR_MS,
    mature_rows=7,
    orphan_after_ms=3 * HOUR_MS,
    labels_times_usual=0.5,
)


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "SEGMENT_ROWS", 16)
    monkeypatch.setattr(pending_module, "_SLOTS", 32)


@pytest.fixture(autouse=True)
def _small_rations(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ration_module, "LEAST_A_DAY", 1)
    monkeypatch.setattr(ration_module, "_KNOWN_AFTER", 0.5)


def assert_same_task(one: PartitionTask, other: PartitionTask) -> None:
    """Everything that a later commit depends on, to the bit."""
    for name in ("clock_ms", "newest_label_ms", "provisional_sequence", "final_sequence", "waiting"):
        assert getattr(one, name) == getattr(other, name), name
    np.testing.assert_array_equal(one.shelf._kept.offsets, other.shelf._kept.offsets)
    assert one.ration.numbers() == other.ration.numbers()
    for name in ("first_sequence", "next_sequence", "last_offset"):
        assert getattr(one.pending, name) == getattr(other.pending, name), name
    kept = np.arange(one.pending.first_sequence, one.pending.next_sequence)
    for name in pending_module._LAYOUT:
        np.testing.assert_array_equal(one.pending.column(name, kept), other.pending.column(name, kept), name)
    assert one._cases._open == other._cases._open
    assert one._settler._silent == other._settler._silent
    for name, array in one.cards.arrays().items():
        np.testing.assert_array_equal(array, other.cards.arrays()[name], name)


def assert_same_commit(one: Commit, other: Commit) -> None:
    assert one.entry.header == other.entry.header
    for part in ("rows", "settlements"):
        left, right = getattr(one.entry, part), getattr(other.entry, part)
        for field in dataclasses.fields(left):
            if field.name == "transaction_id":
                assert left.transaction_id.equals(right.transaction_id)
            else:
                np.testing.assert_array_equal(
                    getattr(left, field.name), getattr(right, field.name), field.name
                )
    for left, right in zip(one.settled, other.settled, strict=True):
        for name in ("evidence", "examples", "ledger"):
            for ours, theirs in zip(getattr(left, name), getattr(right, name), strict=True):
                for field in dataclasses.fields(ours):
                    np.testing.assert_array_equal(getattr(ours, field.name), getattr(theirs, field.name))


class Stream:
    """Random traffic of a few cards: repeats, late events, events dated ahead, labels of all kinds, silence."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._now_ms, self._offset, self._ids = START_MS, 0, ["t0"]

    def next(self, clock_ms: int) -> tuple[TransactionColumns, LabelColumns | None, int | None]:
        rng = self._rng
        self._now_ms += int(rng.integers(0, 3 * HOUR_MS))
        count = int(rng.integers(0, 9))
        fresh = [f"t{len(self._ids) + row}" for row in range(count)]
        ids = [str(rng.choice(self._ids[-60:])) if rng.random() < 0.2 else name for name in fresh]
        self._ids += fresh
        shift_ms = rng.choice([0, -7 * HOUR_MS, SKEW_MS, 9 * 365 * MS_PER_DAY], count, p=[0.7, 0.1, 0.1, 0.1])
        came = transactions(
            ids,
            self._now_ms + rng.integers(0, HOUR_MS, count) + shift_ms,
            cards=[f"card {rng.integers(25)}" for _ in range(count)],
            amount=rng.choice([3.0, 40.0, 60.0, 500.0], count),
            timestamps_ms=np.full(count, self._now_ms + HOUR_MS),
            first_offset=self._offset,
        )
        self._offset += count
        clock_ms = max(clock_ms, self._now_ms)
        described = [
            (
                str(rng.choice(self._ids)),
                LabelKind(int(rng.integers(4))),
                clock_ms + int(rng.integers(-HOUR_MS, 4 * HOUR_MS)),
            )
            for _ in range(int(rng.integers(0, 6)))
        ]
        return (
            came,
            labels(*described) if rng.random() < 0.7 else None,
            clock_ms if rng.random() < 0.2 else None,
        )


@pytest.mark.parametrize("seed", range(4))
def test_a_task_replayed_from_its_journal_is_the_one_that_wrote_it(tmp_path: Path, seed: int) -> None:
    model, stream = deciding_model(), Stream(seed)
    model.policy = dataclasses.replace(POLICY, max_cards=FEW_CARDS)
    live = running_task(tmp_path / "live", TIGHT)
    entries = []
    for number in range(60):
        # What silence on alerts means changes with the generations.
        model.silent_weight = float(number // 10 % 2)
        entries.append(run(live, model, *stream.next(START_MS)).entry)
    assert {it.header.clears_alerts for it in entries} == {False, True}
    restored = replayed(tmp_path / "restored", entries, TIGHT)
    assert_same_task(live, restored)
    for _ in range(40):
        batch = stream.next(live.clock_ms)
        assert_same_commit(run(live, model, *batch), run(restored, model, *batch))
        assert_same_task(live, restored)
    assert live.pending.first_sequence > 0, "nothing was forgotten"
    assert live.final_sequence > live.pending.first_sequence
    assert live.cards.evictions > 0


def test_a_task_whose_labels_find_no_room_to_wait_is_restored_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(early_labels, "MOST_ROWS", 12)
    model, stream, live = deciding_model(), Stream(3), running_task(tmp_path / "live", TIGHT)
    commits = [run(live, model, *stream.next(START_MS)) for _ in range(60)]
    assert sum(len(it.overflow) for it in commits) > 0
    restored = replayed(tmp_path / "restored", [it.entry for it in commits], TIGHT)
    assert_same_task(live, restored)
    for _ in range(40):
        batch = stream.next(live.clock_ms)
        assert_same_commit(run(live, model, *batch), run(restored, model, *batch))
        assert_same_task(live, restored)


def test_a_change_of_the_policy_is_replayed_where_it_happened(tmp_path: Path) -> None:
    model, stream = deciding_model(), Stream(5)
    live = running_task(tmp_path / "live", TIGHT)
    entries = [run(live, model, *stream.next(START_MS)).entry for _ in range(20)]
    costs = dataclasses.replace(POLICY.costs, loss_fixed=77.0, loss_factor=0.25)
    model.policy = dataclasses.replace(
        POLICY,
        costs=costs,
        case_window_ms=2 * POLICY.case_window_ms,
        sample_one_in=3,
        silence_is_legit=False,
        max_cards=8,
    )
    entries += [run(live, model, *stream.next(live.clock_ms)).entry for _ in range(20)]
    model.policy = dataclasses.replace(model.policy, silence_is_legit=True)
    # A cycle without news, which writes nothing, changes nothing.
    live.mature(model.policy, live.newest_label_ms, 0, clears_alerts=True)
    restored = replayed(tmp_path / "restored", entries, TIGHT)
    assert_same_task(live, restored)
    for _ in range(20):
        batch = stream.next(live.clock_ms)
        assert_same_commit(run(live, model, *batch), run(restored, model, *batch))
        assert_same_task(live, restored)


def test_an_entry_that_does_not_follow_the_one_before_is_corrupt(tmp_path: Path) -> None:
    live, model = running_task(tmp_path / "live"), deciding_model()
    first, second = (
        run(live, model, transactions([name], first_offset=at)).entry for at, name in enumerate("ab")
    )
    with pytest.raises(CorruptError, match="begins at decision 1 where 0 was due"):
        replayed(tmp_path / "gap", [second], LIMITS)
    with pytest.raises(CorruptError, match="begins at decision 0 where 1 was due"):
        replayed(tmp_path / "again", [first, first], LIMITS)


def test_a_worker_that_forgets_sooner_still_replays_the_journal(tmp_path: Path) -> None:
    # Without a ration: silence waits for what it puts off, and what is not final is not forgotten.
    free = dataclasses.replace(TIGHT, labels_times_usual=math.inf)
    model, stream, live = deciding_model(), Stream(9), running_task(tmp_path / "live", free)
    entries = [run(live, model, *stream.next(START_MS)).entry for _ in range(60)]
    sooner = dataclasses.replace(free, keep_ms=31 * HOUR_MS)
    restored = replayed(tmp_path / "sooner", entries, sooner)
    assert restored.pending.first_sequence > live.pending.first_sequence
    kept = np.arange(restored.pending.first_sequence, restored.pending.next_sequence)
    np.testing.assert_array_equal(
        live.pending.column("status", kept), restored.pending.column("status", kept)
    )
