from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models.decision import Scores
from models.state import ModelState
from models.vocabulary import MS_PER_DAY, Decider, Flag, LabelKind
from tests.support import model_log
from tests.support.model_log import START_MS
from tests.support.partition import (
    HOUR_MS,
    LIMITS,
    POLICY,
    SKEW_MS,
    deciding_model,
    labels,
    new_task,
    run,
    running_task,
    transactions,
)
from worker.errors import CorruptError
from worker.partition import pending as pending_module
from worker.partition.task import PartitionTask, TaskState

TIGHT = dataclasses.replace(LIMITS, repeat_window=25)


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "SEGMENT_ROWS", 16)
    monkeypatch.setattr(pending_module, "_SLOTS", 32)


def admitted(task: PartitionTask, model: ModelState, ids: list[str], offsets: list[int]) -> list[int]:
    """Offsets of the transactions decided, of these."""
    return [int(offset) for offset in run(task, model, transactions(ids, offsets=offsets)).rows.offset]


def test_a_repeat_within_the_window_is_dropped_and_one_beyond_is_a_new_transaction(tmp_path: Path) -> None:
    task, model = running_task(tmp_path, TIGHT), deciding_model()
    assert admitted(task, model, ["a", "b"], [0, 10]) == [0, 10]
    assert admitted(task, model, ["a", "b", "c"], [25, 26, 27]) == [27]
    assert admitted(task, model, ["a", "b"], [28, 36]) == [28, 36]
    assert admitted(task, model, ["a"], [53]) == []


def test_a_repeat_within_one_batch_is_dropped_unless_it_lies_beyond_the_window(tmp_path: Path) -> None:
    task, model = running_task(tmp_path, TIGHT), deciding_model()
    assert admitted(task, model, ["a", "b", "a", "a", "a"], [0, 1, 2, 25, 26]) == [0, 1, 26]


@pytest.mark.parametrize("seed", range(4))
def test_what_is_a_repeat_does_not_depend_on_how_batches_are_cut(tmp_path: Path, seed: int) -> None:
    rng, model = np.random.default_rng(seed), deciding_model()
    ids = [f"t{number}" for number in rng.integers(0, 30, 150)]
    offsets = np.cumsum(rng.integers(1, 4, 150)).tolist()
    decided: dict[str, int] = {}
    expected = []
    for name, offset in zip(ids, offsets, strict=True):
        if name not in decided or offset - decided[name] > TIGHT.repeat_window:
            decided[name] = offset
            expected.append(offset)
    for cuts in ([150], [1] * 150, [40, 3, 57, 50]):
        task, found, start = running_task(tmp_path, TIGHT), [], 0
        for size in cuts:
            part = slice(start, start + size)
            found += admitted(task, model, ids[part], offsets[part])
            start += size
        assert found == expected


def test_an_id_is_not_a_repeat_of_another_whose_first_hash_collides(tmp_path: Path) -> None:
    task, model = running_task(tmp_path), deciding_model()
    same = np.full(3, 5, np.uint64)
    came = transactions(["a", "b", "a"])
    assert run(task, model, dataclasses.replace(came, id_hash=same)).rows.offset.tolist() == [0, 1]
    later = transactions(["c", "b", "d"], first_offset=3)
    assert run(task, model, dataclasses.replace(later, id_hash=same)).rows.offset.tolist() == [3, 5]


def test_an_id_of_two_cards_is_two_transactions(tmp_path: Path) -> None:
    """Issuers and terminals number their payments themselves: both are decided, in one batch or in two."""
    task, model = running_task(tmp_path), deciding_model()
    ids, cards = ["a", "a", "a"], ["x", "y", "x"]
    assert run(task, model, transactions(ids, cards=cards)).rows.offset.tolist() == [0, 1]
    assert run(
        task, model, transactions(ids, cards=["y", "z", "x"], first_offset=3)
    ).rows.offset.tolist() == [4]


def test_a_repeat_changes_nothing(tmp_path: Path) -> None:
    task, model = running_task(tmp_path), deciding_model()
    came = transactions(["a", "b", "c"], cards=["x", "x", "y"])
    run(task, model, came)
    cards, clock_ms = task.cards.arrays(), task.clock_ms
    run(task, model, dataclasses.replace(came, offsets=came.offsets + 3))
    assert (task.pending.next_sequence, task.clock_ms) == (3, clock_ms)
    for name, array in task.cards.arrays().items():
        np.testing.assert_array_equal(array, cards[name])


def test_the_clock_is_the_highest_event_time_capped_at_the_arrival_and_a_skew(tmp_path: Path) -> None:
    task, model = running_task(tmp_path), deciding_model()
    assert not task.has_clock
    arrival = START_MS + HOUR_MS
    came = transactions(
        [*"abcd"],
        [START_MS + 50, START_MS + 20, START_MS + 10 * MS_PER_DAY, START_MS + 90],
        timestamps_ms=[arrival] * 4,
    )
    rows = run(task, model, came).rows
    assert rows.clock_ms.tolist() == [START_MS + 50, START_MS + 50, arrival + SKEW_MS, arrival + SKEW_MS]
    assert rows.event_time_ms.tolist() == came.event_time_ms.tolist()
    assert (task.has_clock, task.clock_ms) == (True, arrival + SKEW_MS)
    task.move_clock(START_MS)
    assert task.clock_ms == arrival + SKEW_MS


def test_an_event_dated_years_ahead_joins_the_case_that_is_open_when_it_arrives(tmp_path: Path) -> None:
    task, model = running_task(tmp_path), deciding_model()
    arrival = START_MS + 5 * MS_PER_DAY
    dated = [arrival, arrival + 9 * 365 * MS_PER_DAY]
    came = transactions(["a", "b"], dated, cards=["x", "x"], timestamps_ms=[arrival, arrival])
    task.features(came, model)
    alert = np.array([Flag.ALERTED | Decider.ONLINE, Decider.ONLINE], np.uint16)
    ratio, some, none = np.array([1.0, 0.25]), np.ones(2), np.full(2, np.nan, np.float32)
    scores = Scores(
        none, none, none, none, none, some, ratio, some, alert, none, 1.0, 1.0, 0.25, 1.0, np.full(2, np.nan)
    )
    assert task.join_cases(came, scores, model.policy).alerted.tolist() == [True, True]


def test_an_event_dated_years_ahead_counts_as_of_its_arrival(tmp_path: Path) -> None:
    """Else its card's history would be of the year 2038, and everything that follows would be late by years."""
    honest, skewed, model = running_task(tmp_path / "1"), running_task(tmp_path / "2"), deciding_model()
    arrival = START_MS + HOUR_MS
    for task, dated in ((honest, arrival + SKEW_MS), (skewed, arrival + 9 * 365 * MS_PER_DAY)):
        run(task, model, transactions(["a"], [dated], cards=["x"], amount=[60.0], timestamps_ms=[arrival]))
    for task in (honest, skewed):
        run(task, model, transactions(["b"], [arrival + SKEW_MS + 7], cards=["x"], first_offset=1))
    kept = [np.arange(task.pending.next_sequence) for task in (honest, skewed)]
    left, right = (
        task.pending.column("features", at) for task, at in zip((honest, skewed), kept, strict=True)
    )
    np.testing.assert_array_equal(left, right)
    for name, array in honest.cards.arrays().items():
        np.testing.assert_array_equal(array, skewed.cards.arrays()[name])
    flags = [task.pending.column("flags", kept[0]).tolist() for task in (honest, skewed)]
    assert flags[0] == flags[1]


def cases(
    task: PartitionTask, model: ModelState, *events: tuple[str, float, float]
) -> list[tuple[bool, bool]]:
    """Whether each of (card, days since the start, amount) is its window's first, and opens a case."""
    cards, days, amount = zip(*events, strict=True)
    first_offset = task.pending.next_sequence
    ids = [f"t{first_offset + row}" for row in range(len(events))]
    times = START_MS + (np.array(days) * MS_PER_DAY).astype(np.int64)
    rows = run(
        task, model, transactions(ids, times, cards=cards, amount=amount, first_offset=first_offset)
    ).rows
    return [(bool(flag & Flag.FIRST_OF_WINDOW), bool(flag & Flag.OPENS_CASE)) for flag in rows.flags]


def test_a_card_opens_one_case_a_window_with_its_first_alert(tmp_path: Path) -> None:
    task, model = running_task(tmp_path), deciding_model()
    opened = cases(
        task, model, ("x", 0.1, 10), ("x", 0.2, 99), ("x", 0.3, 99), ("y", 0.4, 99), ("x", 1.1, 99)
    )
    assert opened == [(True, False), (False, True), (False, False), (True, True), (True, True)]
    assert cases(task, model, ("x", 1.2, 99), ("y", 0.5, 99), ("y", 1.3, 10)) == [
        (False, False), (False, False), (True, False),
    ]  # fmt: skip


def test_an_alert_in_a_window_long_past_opens_a_case_anew_and_disturbs_no_other(tmp_path: Path) -> None:
    task, model = running_task(tmp_path), deciding_model()
    cases(task, model, ("x", 0.1, 99), ("x", 20.1, 99))
    assert [opens for _, opens in cases(task, model, ("x", 0.2, 99), ("x", 20.2, 99))] == [True, False]


@pytest.mark.parametrize("factor", [2.0, 0.5])
def test_a_card_still_opens_one_case_a_window_when_windows_become_longer_or_shorter(
    tmp_path: Path, factor: float
) -> None:
    task, model = running_task(tmp_path), deciding_model()
    cases(task, model, ("x", 0.1, 99))
    model.policy = dataclasses.replace(POLICY, case_window_ms=int(POLICY.case_window_ms * factor))
    opened = cases(task, model, ("x", 4.1, 99), ("x", 4.2, 99), ("y", 4.3, 99))
    assert opened == [(True, True), (False, False), (True, True)]
    again = cases(task, model, ("x", 4.1, 99), ("x", 4.2, 99), ("y", 4.3, 99))
    assert again == [(False, False)] * 3


def test_a_silent_feed_is_reported_once_the_clock_has_left_it_behind(tmp_path: Path) -> None:
    task, model = running_task(tmp_path), deciding_model()
    model.newest_label_ms = START_MS
    assert not task.feed_halted(model)
    task.move_clock(START_MS + POLICY.max_silence_ms)
    assert not task.feed_halted(model)
    task.move_clock(START_MS + POLICY.max_silence_ms + 1)
    assert task.feed_halted(model)


def test_a_feed_that_has_never_brought_a_label_is_reported_once_silence_should_have_spoken(
    tmp_path: Path,
) -> None:
    task, model = running_task(tmp_path), deciding_model()
    model.newest_label_ms = None
    task.move_clock(START_MS)
    assert not task.feed_halted(model), "nothing was decided"
    run(task, model, transactions(["a", "b"], [START_MS, START_MS + HOUR_MS]))
    due_ms = START_MS + POLICY.negatives_after_ms + POLICY.max_silence_ms
    task.move_clock(due_ms)
    assert not task.feed_halted(model)
    task.move_clock(due_ms + 1)
    assert task.feed_halted(model)


def test_the_forest_is_given_recent_decisions_that_nothing_speaks_against(tmp_path: Path) -> None:
    task, model = running_task(tmp_path), deciding_model()
    assert task.believed_legit(5).shape == (0, model_log.FEATURES)
    rows = run(task, model, transactions([f"t{n}" for n in range(9)], amount=[10 * n for n in range(9)])).rows
    run(
        task,
        model,
        transactions([]),
        labels(("t2", LabelKind.FRAUD, START_MS), ("t3", LabelKind.LEGIT, START_MS)),
    )
    # Six and more are alerts, two is a fraud.
    np.testing.assert_array_equal(task.believed_legit(100), rows.features[[0, 1, 3, 4, 5]])
    np.testing.assert_array_equal(task.believed_legit(3), rows.features[[0, 3, 5]])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([], TaskState.RESTORING),
        ([TaskState.RUNNING], TaskState.RUNNING),
        ([TaskState.RUNNING], TaskState.RESTORING),
        ([TaskState.CLOSED], TaskState.RUNNING),
        ([TaskState.RUNNING, TaskState.CLOSED], TaskState.CLOSED),
    ],
)
def test_a_task_changes_its_state_along_the_arrows_only(
    tmp_path: Path, before: list[TaskState], after: TaskState
) -> None:
    task = new_task(tmp_path / "waiting")
    for state in before:
        task.move_to(state)
    with pytest.raises(CorruptError, match=f"cannot become {after.value}"):
        task.move_to(after)
