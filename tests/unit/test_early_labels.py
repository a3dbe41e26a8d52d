from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pytest

from models.vocabulary import LabelKind
from tests.support.model_log import START_MS
from tests.support.partition import labels
from worker.partition import early_labels
from worker.partition.early_labels import LabelShelf, Released, transactions_of
from worker.wire.decoder import LabelColumns
from worker.wire.schema import MAX_ORIGINAL_BYTES

LATEST = START_MS + 10**9
NOBODY = np.empty(0, np.uint64)


def read(*at: int, first_offset: int = 0) -> LabelColumns:
    """Labels due at these times after the start."""
    return labels(*[(f"t{ms}", LabelKind.FRAUD, START_MS + ms) for ms in at], first_offset=first_offset)


def offsets(found: LabelColumns | Released) -> list[int]:
    given: list[int] = found.offsets.tolist()
    return given


def test_what_is_due_is_applied_at_once_and_what_is_not_once_the_clock_is_there() -> None:
    shelf = LabelShelf()
    first = shelf.sift(read(10, 900, 20), START_MS + 50, NOBODY)
    assert (offsets(first.due), offsets(first.early), offsets(first.released)) == ([0, 2], [1], [])
    second = shelf.sift(read(60, first_offset=3), START_MS + 70, NOBODY)
    assert (offsets(second.due), len(second.early), len(second.released)) == ([3], 0, 0)
    assert (len(shelf), shelf.first_due_ms) == (1, START_MS + 900)
    third = shelf.sift(None, START_MS + 900, NOBODY)
    assert (offsets(third.due), offsets(third.released), len(shelf)) == ([1], [1], 0)
    assert shelf.first_due_ms is None


def test_a_label_set_aside_comes_before_those_read_later() -> None:
    shelf = LabelShelf()
    shelf.sift(read(10, 900, 20), START_MS + 50, NOBODY)
    found = shelf.sift(read(60, 950, 70, first_offset=3), START_MS + 940, NOBODY)
    assert (offsets(found.due), offsets(found.early), offsets(found.released)) == ([1, 3, 5], [4], [1])
    assert found.due.next_offset == 6


def test_before_the_first_fetch_there_is_nothing() -> None:
    assert len(LabelShelf().sift(None, LATEST, NOBODY).due) == 0


@pytest.mark.parametrize("seed", range(4))
def test_every_label_is_applied_once_and_never_before_it_is_due_and_a_replay_agrees(seed: int) -> None:
    rng, shelf, again = np.random.default_rng(seed), LabelShelf(), LabelShelf()
    due_ms: list[int] = []
    applied: list[int] = []
    for clock in range(0, 4_000, 40):
        came = (clock + rng.integers(-300, 1_500, int(rng.integers(0, 6)))).tolist() if clock < 2_000 else []
        found = shelf.sift(read(*came, first_offset=len(due_ms)), START_MS + clock, NOBODY)
        again.replay(found.early, found.released)
        due_ms += came
        now = offsets(found.due)
        assert all(due_ms[at] <= clock for at in now)
        assert now == sorted(now)
        applied += now
        assert {at for at in range(len(due_ms)) if due_ms[at] <= clock} == set(applied)
        assert (len(shelf), shelf.first_due_ms) == (len(again), again.first_due_ms)
    assert sorted(applied) == list(range(len(due_ms)))
    assert len(due_ms) > 80


def test_only_so_many_come_at_once_and_silence_waits_for_the_rest() -> None:
    shelf = LabelShelf()
    shelf.sift(read(500, 600, 700, 800), START_MS, NOBODY)
    seen = []
    for _ in range(2):
        found = shelf.sift(None, START_MS + 900, NOBODY, 2)
        seen.append((offsets(found.due), shelf.silent_until_ms(START_MS + 900) - START_MS))
    assert seen == [([0, 1], 699), ([2, 3], 900)]


def test_the_shelf_is_behind_while_more_are_due_than_are_released_at_once() -> None:
    shelf = LabelShelf()
    shelf.sift(read(500, 600, 700, 5_000), START_MS, NOBODY)
    now_ms = START_MS + 900
    seen = []
    while shelf.is_behind(now_ms, 2):
        seen.append(offsets(shelf.sift(None, now_ms, NOBODY, 2).due))
    assert seen == [[0, 1]]
    found = shelf.sift(read(710, 720, first_offset=4), now_ms, NOBODY, 2)
    assert (offsets(found.due), len(found.early), len(shelf)) == ([2, 4, 5], 0, 1)


def test_labels_of_a_transaction_just_decided_come_beside_those_released_at_once() -> None:
    shelf = LabelShelf()
    kept = postponed(shelf, read(10, 20, 30), 9_000)
    shelf.sift(read(500, 600, first_offset=3), START_MS, NOBODY)
    found = shelf.sift(None, START_MS + 900, transactions_of(kept)[[0, 2]], 1)
    assert offsets(found.due) == [0, 2, 3], "without its decision it would wait until its time is over"


def postponed(shelf: LabelShelf, late: LabelColumns, until: int) -> LabelColumns:
    return shelf.set_aside(late, START_MS + until)


def test_a_label_that_waits_for_its_transaction_is_due_with_it_or_when_its_time_is_over() -> None:
    shelf, again = LabelShelf(), LabelShelf()
    kept = postponed(shelf, read(10, 20, 30), 1_000)
    again.replay(kept, Released.empty())
    assert (shelf.postponed, shelf.first_due_ms) == (3, None)
    assert shelf.silent_until_ms(LATEST) == LATEST, "it keeps no other decision from maturing"
    found = shelf.sift(None, START_MS + 50, transactions_of(kept)[[1]])
    assert (offsets(found.due), offsets(found.released)) == ([1], [1])
    again.replay(found.early, found.released)
    assert again.postponed == shelf.postponed == 2
    assert offsets(shelf.sift(None, START_MS + 1_000, NOBODY).due) == [0, 2]


def test_a_label_that_waits_for_its_transaction_is_not_due_with_that_of_another_card() -> None:
    shelf = LabelShelf()
    kept = postponed(shelf, labels(("x", LabelKind.FRAUD, START_MS), cards=["b"]), 1_000)
    elsewhere = labels(("x", LabelKind.FRAUD, START_MS), cards=["a"])
    assert len(shelf.sift(None, START_MS + 50, transactions_of(elsewhere)).due) == 0
    assert offsets(shelf.sift(None, START_MS + 50, transactions_of(kept)).due) == [0]


def test_labels_are_due_in_the_order_of_their_offsets_whenever_they_were_set_aside() -> None:
    shelf = LabelShelf()
    read_ahead = read(10, 900, 20)
    shelf.sift(read_ahead, START_MS + 50, NOBODY)
    postponed(shelf, read_ahead.take(np.array([0])), 900)
    assert offsets(shelf.sift(None, START_MS + 900, NOBODY).due) == [0, 1]


def test_no_more_wait_for_their_transactions_than_half_of_the_shelf_holds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(early_labels, "MOST_ROWS", 6)
    monkeypatch.setattr(early_labels, "MOST_BYTES", 1_000)
    shelf, late = LabelShelf(), read(10, 20, 30, 40)
    small = dataclasses.replace(late, value=pa.array([b"x"] * 4, pa.large_binary()))
    assert shelf.fitting(small, np.arange(4)).tolist() == [0, 1, 2]
    large = dataclasses.replace(late, value=pa.array([b"x" * 200] * 4, pa.large_binary()))
    assert shelf.fitting(large, np.arange(4)).tolist() == [0, 1]
    postponed(shelf, small, 1_000)
    assert shelf.fitting(small, np.arange(4)).tolist() == []


def test_room_is_what_rows_and_bytes_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(early_labels, "MOST_ROWS", 5)
    monkeypatch.setattr(early_labels, "MOST_BYTES", 1_000)
    shelf = LabelShelf()
    assert shelf.room[:2] == (5, 1_000)
    far = read(900, 950)
    shelf.sift(
        dataclasses.replace(far, value=pa.array([b"x" * 100, None], pa.large_binary())), START_MS, NOBODY
    )
    assert shelf.room[:2] == (3, 900)


def test_what_is_kept_of_a_value_holds_no_card_number_and_no_more_than_a_dead_letter_would() -> None:
    long = b'{"note": "4111 1111 1111 1111", "filler": "' + b"x" * 100_000 + b'"}'
    far = dataclasses.replace(read(900), value=pa.array([long], pa.large_binary()))
    kept = LabelShelf().sift(far, START_MS, NOBODY).early.value.to_pylist()[0]
    assert b"4111" not in kept
    beginning, whole_bytes = early_labels.uncut(kept)
    assert (len(beginning), whole_bytes) == (MAX_ORIGINAL_BYTES, len(long))
