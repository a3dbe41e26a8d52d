from __future__ import annotations

import errno
import os
import resource
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY, Flag, Status
from tests.support import partition
from tests.support.model_log import ENTITIES, FEATURES, START_MS
from tests.support.partition import HASHER
from worker.errors import WorkerError
from worker.partition import pending as pending_module
from worker.partition.id_index import ANOTHER_CARD, NOWHERE
from worker.partition.journal import DecisionRows, Settlements
from worker.partition.pending import PendingDecisions

SEGMENT = 8
MINUTE_MS = 60_000
FAR = 1 << 60
CARD = 4


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "SEGMENT_ROWS", SEGMENT)
    monkeypatch.setattr(pending_module, "_SLOTS", 2 * SEGMENT)


@pytest.fixture
def pending(tmp_path: Path) -> PendingDecisions:
    return PendingDecisions(tmp_path / "waiting", ENTITIES, FEATURES)


def hashes(*ids: str) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    names = pa.array(ids, pa.string())
    return HASHER.entities(names), HASHER.checks(names)


def cards(count: int, card: int = CARD) -> NDArray[np.uint64]:
    return np.full(count, card, np.uint64)


def decisions(ids: list[str], card: int = CARD, **given: Any) -> DecisionRows:
    """Return decisions as `partition.decisions` makes them, but all of one card."""
    rows = partition.decisions(ids, **given)
    rows.entities[:, 0] = card
    return rows


def add(pending: PendingDecisions, rows: DecisionRows) -> None:
    pending.append(rows, *hashes(*rows.transaction_id.to_pylist()))


def numbered(first: int, count: int) -> DecisionRows:
    return decisions([f"t{number}" for number in range(first, first + count)], first=first)


def fill(pending: PendingDecisions, count: int) -> None:
    add(pending, numbered(pending.next_sequence, count))


def find(pending: PendingDecisions, *ids: str, times: list[int] | None = None, card: int = CARD) -> list[int]:
    asked = None if times is None else np.array(times, np.int64)
    return [int(sequence) for sequence in pending.find(*hashes(*ids), cards(len(ids), card), asked)]


def statuses(pending: PendingDecisions) -> list[int]:
    everything = np.arange(pending.first_sequence, pending.next_sequence)
    return [int(status) for status in pending.column("status", everything)]


def _mapping(array: NDArray[Any]) -> object:
    """The buffer at the bottom of a view."""
    below: Any = array
    while getattr(below, "base", None) is not None:
        below = below.base
    return below


def segments(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "waiting").iterdir())


@pytest.mark.parametrize("sizes", [[40], [1] * 40, [7, 1, 8, 9, 15], [8, 8, 24], [0, 3, 0, 37]])
def test_decisions_read_back_however_they_were_appended(pending: PendingDecisions, sizes: list[int]) -> None:
    for size in sizes:
        fill(pending, size)
    sequence = np.random.default_rng(0).permutation(40)
    waiting, expected = pending.read(sequence), numbered(0, 40)
    for name in ("event_time_ms", "clock_ms", "loss", "legit_weight", "logit", "flags", "entities"):
        np.testing.assert_array_equal(getattr(waiting, name), getattr(expected, name)[sequence], err_msg=name)
    np.testing.assert_array_equal(pending.column("features", sequence), expected.features[sequence])
    np.testing.assert_array_equal(pending.column("offset", sequence), expected.offset[sequence])
    assert waiting.sequence.tolist() == sequence.tolist()
    assert find(pending, *(f"t{number}" for number in sequence)) == sequence.tolist()


def test_a_segment_is_one_file_mapped_once(pending: PendingDecisions, tmp_path: Path) -> None:
    fill(pending, 20)
    assert [path.is_file() for path in (tmp_path / "waiting").iterdir()] == [True] * 3
    for segment in pending._segments.values():
        maps = {id(_mapping(array)) for array in [*segment.columns.values(), segment.slots]}
        assert len(maps) == 1


def test_a_full_disk_is_told_before_anything_is_written_to_it(
    pending: PendingDecisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pending_module, "_RESERVED_ROWS", 4)
    fill(pending, 4)

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("worker.partition.pending.os.posix_fallocate", full)
    with pytest.raises(WorkerError, match=r"0000000000 .*No space left.*worker\.state_dir"):
        fill(pending, 1)
    assert statuses(pending) == [Status.WAITING] * 4


def test_a_limit_of_open_files_is_named_with_what_to_raise(pending: PendingDecisions) -> None:
    fill(pending, 1)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = len(os.listdir("/proc/self/fd")) + 10
    resource.setrlimit(resource.RLIMIT_NOFILE, (few, before[1]))
    try:
        named = (
            rf"waiting/\d{{10}} .*\b{few} open files.*{SEGMENT} decisions.*ulimit -n.*LimitNOFILE.*ulimits"
        )
        with pytest.raises(WorkerError, match=named):
            fill(pending, 200 * SEGMENT)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize(
    ("number", "remedy"), [(errno.ENFILE, r"fs\.file-max"), (errno.ENOMEM, r"vm\.max_map_count")]
)
def test_a_segment_that_cannot_be_mapped_names_the_limit_of_the_machine(
    pending: PendingDecisions, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("worker.partition.pending.np.memmap", refused)
    with pytest.raises(WorkerError, match=rf"0000000000 .*{os.strerror(number)}.*{remedy}"):
        fill(pending, 1)


@pytest.mark.parametrize("step", [1, 3, 8, 1_000])
def test_every_byte_that_decisions_are_written_to_is_reserved_first(
    pending: PendingDecisions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    monkeypatch.setattr(pending_module, "_RESERVED_ROWS", step)
    reserved: dict[str, set[int]] = defaultdict(set)

    def note(fd: int, offset: int, length: int) -> None:
        reserved[Path(f"/proc/self/fd/{fd}").resolve().name].update(range(offset, offset + length))

    monkeypatch.setattr("worker.partition.pending.os.posix_fallocate", note)
    for count in (1, 2, 4, 6, 8):
        fill(pending, count)
        for path in (tmp_path / "waiting").iterdir():
            written = np.flatnonzero(np.fromfile(path, np.uint8))
            assert len(written)
            assert set(written.tolist()) <= reserved[path.name]


def test_no_decisions_have_columns_of_the_right_types(pending: PendingDecisions) -> None:
    nothing = np.empty(0, np.int64)
    for _ in range(2):
        assert pending.column("entities", nothing).shape == (0, 1 + ENTITIES)
        assert pending.column("features", nothing).dtype == np.float32
        truth = pending.read_truth(nothing)
        kinds = [truth.status.dtype, truth.label_time_ms.dtype, truth.learnt_at_ms.dtype, truth.acted.dtype]
        assert kinds == [np.uint8, np.int64, np.int64, np.uint8]
        fill(pending, 3)


def test_an_id_that_was_never_decided_is_not_found(pending: PendingDecisions) -> None:
    assert find(pending, "t1") == [-1]
    fill(pending, 20)
    assert find(pending, "t20", "t3", "") == [-1, 3, -1]
    assert find(pending) == []


def test_of_decisions_with_one_id_the_newest_is_found(pending: PendingDecisions) -> None:
    add(pending, decisions(["a", "b", "a", "c"]))
    assert find(pending, "a", "b") == [2, 1]
    add(pending, decisions(["x"] * 6 + ["a"], first=4))
    assert find(pending, "a", "x", "b") == [10, 9, 1]


def test_an_id_of_two_cards_is_found_on_each_and_on_no_third(pending: PendingDecisions) -> None:
    add(pending, decisions(["a", "b"], card=1))
    add(pending, decisions(["a"] * 12, card=2, first=2))
    assert find(pending, "a", card=1) == [0], "behind newer ones of another card, and in another segment"
    assert find(pending, "a", "b", card=2) == [13, ANOTHER_CARD]
    assert find(pending, "a", "b", "c", card=3) == [ANOTHER_CARD, ANOTHER_CARD, NOWHERE]


def test_ids_whose_first_hash_collides_are_told_apart_by_the_second(pending: PendingDecisions) -> None:
    id_hash, id_check = np.array([77, 77, 77], np.uint64), np.array([1, 2, 3], np.uint64)
    pending.append(decisions(["a", "b", "c"]), id_hash, id_check)
    asked = np.array([3, 1, 4, 2], np.uint64)
    assert pending.find(np.full(4, 77, np.uint64), asked, cards(4)).tolist() == [2, 0, -1, 1]


def test_a_probe_goes_round_the_end_of_the_index(pending: PendingDecisions) -> None:
    id_hash = np.array([15, 31, 47, 15 + 64, 0, 16], np.uint64)
    pending.append(decisions([*"abcdef"]), id_hash, id_hash + np.uint64(1))
    assert pending.find(id_hash, id_hash + np.uint64(1), cards(6)).tolist() == [0, 1, 2, 3, 4, 5]


def test_a_told_time_narrows_the_search_to_the_segments_that_span_it(pending: PendingDecisions) -> None:
    fill(pending, 24)
    inside = START_MS + 12 * MINUTE_MS
    assert find(pending, "t12", "t12", "t24", times=[inside, -1, inside]) == [12, 12, -1]
    add(pending, decisions(["t12"], first=24, event_time_ms=np.array([START_MS + 24 * MINUTE_MS])))
    assert find(pending, "t12", "t12", times=[inside, -1]) == [12, 24]


@pytest.mark.parametrize(
    "told_ms", [START_MS - MS_PER_DAY, START_MS + 7 * MINUTE_MS, START_MS + 25 * MINUTE_MS, FAR]
)
def test_a_decision_is_found_though_its_told_time_is_rounded_or_wrong(
    pending: PendingDecisions, told_ms: int
) -> None:
    """The eighth decision opens the second segment: a time cut to the hour lies in the first, or in none."""
    fill(pending, 24)
    assert find(pending, "t8", "t23", "t24", times=[told_ms] * 3) == [8, 23, -1]


def test_a_label_of_a_transaction_long_forgotten_asks_no_segment(
    pending: PendingDecisions, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(pending, 24)
    asked: list[int] = []
    find_in = pending_module._Segment.find

    def counted(segment: Any, id_hash: NDArray[np.uint64], *others: NDArray[np.uint64]) -> Any:
        asked.append(len(id_hash))
        return find_in(segment, id_hash, *others)

    monkeypatch.setattr(pending_module._Segment, "find", counted)
    long_ago_ms = START_MS - 100 * MS_PER_DAY
    assert find(pending, "gone", "t8", times=[long_ago_ms, long_ago_ms]) == [-1, -1]
    assert asked == []
    assert find(pending, "gone", "t8", "t9", times=[long_ago_ms, START_MS, -1]) == [-1, 8, 9]
    assert asked == [1, 2, 2], "the first segment spans the told time, then the newest two are asked for both"


def test_a_late_event_is_found_by_its_own_time(pending: PendingDecisions) -> None:
    fill(pending, 16)
    times = np.array([START_MS + 16 * MINUTE_MS, START_MS + 2 * MINUTE_MS])
    add(pending, decisions(["new", "late"], first=16, event_time_ms=times))
    assert find(pending, "late", times=[START_MS + 2 * MINUTE_MS]) == [17]


def test_segments_before_an_offset_can_be_left_out(pending: PendingDecisions) -> None:
    fill(pending, 24)  # offsets 0, 10, 20, ...; the second segment ends at 150
    asked = hashes("t0", "t9", "t20")
    assert pending.find(*asked, cards(3), min_offset=71).tolist() == [-1, 9, 20]
    assert pending.find(*asked, cards(3), min_offset=70).tolist() == [0, 9, 20]
    assert pending.find(*asked, cards(3), min_offset=151).tolist() == [-1, -1, 20]


def test_the_truth_is_written_and_read_across_segments(pending: PendingDecisions) -> None:
    fill(pending, 24)
    sequence = np.array([3, 7, 8, 20])
    settled = Settlements(
        sequence,
        np.array([2, 3, 4, 5], np.uint8),
        np.array([0, 1, 0, 1], np.uint8),
        np.array([11, 12, 13, 14]),
        np.array([21, 22, 23, 24]),
    )
    pending.write_truth(settled)
    truth = pending.read_truth(sequence[::-1])
    assert truth.status.tolist() == [5, 4, 3, 2]
    assert truth.acted.tolist() == [1, 0, 1, 0]
    assert truth.label_time_ms.tolist() == [14, 13, 12, 11]
    assert truth.learnt_at_ms.tolist() == [24, 23, 22, 21]
    others = np.setdiff1d(np.arange(24), sequence)
    assert pending.read_truth(others).status.tolist() == [Status.WAITING] * 20


def test_a_truth_read_is_a_copy(pending: PendingDecisions) -> None:
    fill(pending, 3)
    pending.read_truth(np.array([1])).status[:] = Status.FRAUD
    assert statuses(pending) == [Status.WAITING] * 3


def test_silence_reaches_up_to_the_first_decision_made_after_the_cut(pending: PendingDecisions) -> None:
    clock_ms = START_MS + np.repeat(np.arange(10), 2)
    ids = [f"t{number}" for number in range(20)]
    add(pending, decisions(ids, event_time_ms=np.full(20, START_MS), clock_ms=clock_ms))
    assert pending.mature_until(0, 20, START_MS - 1) == 0
    assert pending.mature_until(0, 20, START_MS) == 2
    assert pending.mature_until(0, 20, START_MS + 4) == 10
    assert pending.mature_until(0, 7, START_MS + 4) == 7
    assert pending.mature_until(12, 20, START_MS + 4) == 12
    assert pending.mature_until(5, 20, FAR) == 20


def test_silence_moves_one_status_in_a_range_and_spares_flags_and_what_was_acted_on(
    pending: PendingDecisions,
) -> None:
    flags = np.zeros(20, np.uint16)
    flags[[4, 9]] = Flag.ALERTED
    add(pending, decisions([f"t{number}" for number in range(20)], flags=flags))
    acted = np.array([10], np.int64)
    one = np.ones(1, np.uint8)
    pending.write_truth(Settlements(acted, 0 * one, one, acted, acted))
    pending.write_truth(Settlements(acted + 1, 2 * one, 0 * one, acted, acted))
    moved = pending.mature(
        3,
        18,
        before=Status.WAITING,
        after=Status.PROVISIONAL,
        learnt_at_ms=99,
        unless_flags=int(Flag.ALERTED),
        unless_acted=True,
    )
    expected = [number for number in range(3, 18) if number not in (4, 9, 10, 11)]
    assert moved.tolist() == expected
    assert np.flatnonzero(pending.column("status", np.arange(20)) == Status.PROVISIONAL).tolist() == expected
    assert pending.column("learnt_at_ms", moved).tolist() == [99] * len(expected)
    final = pending.mature(0, 12, before=Status.PROVISIONAL, after=Status.FINAL_LEGIT)
    assert final.tolist() == [3, 5, 6, 7, 8]
    assert pending.column("learnt_at_ms", final).tolist() == [99] * 5
    rest = pending.mature(0, 12, before=Status.WAITING, after=Status.UNRESOLVED)
    assert rest.tolist() == [0, 1, 2, 4, 9, 10]
    assert statuses(pending)[11] == Status.FRAUD


def test_an_empty_range_matures_nothing(pending: PendingDecisions) -> None:
    fill(pending, 3)
    assert pending.mature(2, 2, before=Status.WAITING, after=Status.UNRESOLVED).tolist() == []
    assert pending.mature_until(3, 3, FAR) == 3


def test_segments_go_when_they_lie_before_clock_sequence_and_offset_all_together(
    pending: PendingDecisions, tmp_path: Path
) -> None:
    fill(pending, 28)
    clock_ms = START_MS + 15 * MINUTE_MS + 1  # just past the last decision of the second segment
    pending.drop_before(START_MS + 7 * MINUTE_MS, FAR, FAR)
    pending.drop_before(FAR, SEGMENT - 1, FAR)
    pending.drop_before(FAR, FAR, 70)
    assert (pending.first_sequence, len(segments(tmp_path))) == (0, 4)
    pending.drop_before(clock_ms, FAR, FAR)
    assert pending.first_sequence == 16
    assert segments(tmp_path) == ["0000000002", "0000000003"]
    assert find(pending, "t3", "t15", "t16", "t27") == [-1, -1, 16, 27]


def test_the_segment_being_filled_is_never_dropped(pending: PendingDecisions) -> None:
    fill(pending, 12)
    pending.drop_before(FAR, FAR, FAR)
    assert (pending.first_sequence, pending.next_sequence) == (8, 12)
    fill(pending, 6)
    assert find(pending, "t8", "t17") == [8, 17]


def test_what_is_gone_neither_matures_nor_is_settled(pending: PendingDecisions) -> None:
    fill(pending, 20)
    pending.drop_before(FAR, 8, FAR)
    ones = np.ones(2, np.uint8)
    pending.write_truth(Settlements(np.array([2, 9]), ones * 3, ones, np.zeros(2, int), np.zeros(2, int)))
    assert statuses(pending)[:3] == [Status.WAITING, Status.LEGIT, Status.WAITING]
    assert pending.mature_until(0, 20, FAR) == 20
    moved = pending.mature(0, 12, before=Status.WAITING, after=Status.UNRESOLVED)
    assert moved.tolist() == [8, 10, 11]


def test_the_newest_decisions_are_those_still_there(pending: PendingDecisions) -> None:
    assert pending.newest(5).tolist() == []
    assert pending.last_offset == -1
    fill(pending, 20)
    assert pending.newest(3).tolist() == [17, 18, 19]
    assert pending.last_offset == 190
    pending.drop_before(FAR, 16, FAR)
    assert pending.newest(100).tolist() == [16, 17, 18, 19]


def test_a_folder_is_emptied_at_the_start_and_deleted_at_the_end(tmp_path: Path) -> None:
    first = PendingDecisions(tmp_path / "waiting", ENTITIES, FEATURES)
    fill(first, 20)
    second = PendingDecisions(tmp_path / "waiting", ENTITIES, FEATURES)
    assert (second.next_sequence, find(second, "t3")) == (0, [-1])
    fill(second, 9)
    second.close()
    assert not (tmp_path / "waiting").exists()
