from __future__ import annotations

import dataclasses
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from models.vocabulary import MS_PER_DAY, NEVER_MS, LabelKind
from tests.support.model_log import START_MS
from tests.support.partition import labels, transactions
from worker.cycle import inbox as inbox_module
from worker.cycle.inbox import Bound, Inbox
from worker.cycle.inbox import cut as cut_all
from worker.partition.early_labels import NO_ROOM, Room
from worker.wire.decoder import BadRecord, TransactionColumns

SKEW_MS = 300
MANY = 1_000
SPAN_MS = 3_600_000


def came(*at: int, first_offset: int = 0, stamped: int | None = None) -> TransactionColumns:
    """Transactions at these milliseconds since the start, at offsets two apart."""
    count = len(at)
    return transactions(
        [f"{first_offset}+{row}" for row in range(count)],
        [START_MS + ms for ms in at],
        timestamps_ms=None if stamped is None else [START_MS + stamped] * count,
        offsets=first_offset + 2 * np.arange(count),
        first_offset=first_offset,
    )


def bad(offset: int) -> BadRecord:
    return BadRecord("t", 0, offset, START_MS, "decode", "not_json", "it is not", b"x", 1)


def inbox(*fetches: TransactionColumns, at_end: bool = True) -> Inbox:
    box = Inbox(SKEW_MS)
    for fetch in fetches:
        box.put_transactions(fetch, [])
    box.at_end = at_end
    return box


def take(box: Inbox, until: int) -> list[int]:
    """Milliseconds since the start of the transactions due."""
    taken = box.transactions.take(START_MS + until)
    assert taken is not None
    return [int(ms) - START_MS for ms in taken.event_time_ms]


def cut(*boxes: Inbox, span_ms: int = SPAN_MS, most: int = MANY) -> int | None:
    found = cut_all(boxes, span_ms, most)
    return None if found is None else found.until_ms - START_MS


def test_rows_wait_in_order_until_they_are_due() -> None:
    box = inbox(came(0, 10, 20, 30))
    assert take(box, -1) == []
    assert take(box, 15) == [0, 10]
    assert box.transactions.waiting == 2
    assert take(box, 15) == []
    assert take(box, 30) == [20, 30]
    assert box.transactions.waiting == 0


def test_nothing_can_be_taken_before_the_first_fetch() -> None:
    assert Inbox(SKEW_MS).transactions.take(START_MS) is None
    assert Inbox(SKEW_MS).transactions.take_bad() == []


def test_what_is_left_of_one_fetch_comes_before_the_next() -> None:
    box = inbox(came(0, 10, 20))
    take(box, 10)
    box.put_transactions(came(30, 40, first_offset=6), [])
    assert box.transactions.waiting == 3
    assert take(box, 40) == [20, 30, 40]


def test_a_late_event_is_due_with_the_one_before_it() -> None:
    box = inbox(came(50, 10))
    box.put_transactions(came(20, 60, first_offset=4), [])
    assert (box.transactions.due_ms - START_MS).tolist() == [50, 50, 50, 60]
    assert take(box, 50) == [50, 10, 20]


def test_an_upload_of_old_payments_in_order_of_time_is_one_batch_and_holds_up_no_other_partition() -> None:
    days, now = 40, 50 * MS_PER_DAY
    uploads, other = inbox(came(now)), inbox(came(now + 5))
    take(uploads, now)
    uploads.put_transactions(came(*(day * MS_PER_DAY for day in range(days)), first_offset=2), [])
    until = cut(uploads, other)
    assert until is not None
    assert len(take(uploads, until)) == days
    assert take(other, until) == [now + 5]


@pytest.mark.parametrize("left", [(10_000, 20_000), (50_000, 10_000), (20_000, 50_000, 10_000)])
def test_labels_of_a_late_transaction_that_is_left_wait_for_it(left: tuple[int, ...]) -> None:
    box = inbox(came(50_000))
    take(box, 50_000)
    box.put_transactions(came(*left, first_offset=2), [])
    assert box.follow_clock(START_MS + 50_000) == START_MS + 10_000 - 1
    take(box, 50_000)
    assert box.follow_clock(START_MS + 50_000) == START_MS + 50_000


def test_an_event_dated_ahead_of_its_arrival_is_due_when_it_arrived_and_a_skew() -> None:
    box = inbox(came(99_999, 5, stamped=100))
    assert (box.transactions.due_ms - START_MS).tolist() == [400, 400]


@pytest.mark.parametrize("timestamp_ms", [-1, 0, 2**63 - 1, -(2**63)])
def test_a_record_without_a_timestamp_and_one_beyond_all_time_are_dated_by_their_event(
    timestamp_ms: int,
) -> None:
    box = inbox()
    columns = dataclasses.replace(came(5, 5), timestamps_ms=np.full(2, timestamp_ms))
    box.put_transactions(columns, [], wall_ms=START_MS + 400 * MS_PER_DAY)
    assert box.watermark.clock_ms == START_MS + 5


def test_the_position_is_the_first_offset_not_taken() -> None:
    box = inbox(came(0, 10, 20, first_offset=100))
    assert box.transactions.next_offset == -1, "until something is taken, it is whatever was set"
    take(box, -1)
    assert box.transactions.next_offset == 100
    take(box, 10)
    assert box.transactions.next_offset == 104
    take(box, 20)
    assert box.transactions.next_offset == 105, "behind all that was read"


def test_a_fetch_without_a_good_record_moves_the_position_on() -> None:
    box = Inbox(SKEW_MS)
    box.put_transactions(came(first_offset=7), [bad(5), bad(6)])
    box.transactions.take(NEVER_MS)
    assert box.transactions.next_offset == 7
    assert [record.offset for record in box.transactions.take_bad()] == [5, 6]
    assert box.transactions.take_bad() == []


def test_bad_records_are_taken_once_their_offset_has_been_passed() -> None:
    box = Inbox(SKEW_MS)
    box.put_transactions(came(0, 10, 20), [bad(1), bad(3), bad(5)])  # good ones lie at 0, 2 and 4
    box.transactions.next_offset = 0
    assert box.transactions.take_bad() == []
    take(box, 0)
    assert [record.offset for record in box.transactions.take_bad()] == [1]
    box.put_transactions(came(first_offset=9), [bad(8)])
    assert box.transactions.take_bad() == []
    take(box, 20)
    assert [record.offset for record in box.transactions.take_bad()] == [3, 5, 8]
    assert box.transactions.next_offset == 9


@pytest.mark.parametrize("seed", range(5))
def test_every_row_and_bad_record_is_taken_once_and_never_behind_the_position(seed: int) -> None:
    rng, box = np.random.default_rng(seed), Inbox(SKEW_MS)
    box.transactions.next_offset = 0
    offset, now = 0, 0
    good, spoilt, taken, set_aside = (list[int]() for _ in range(4))
    for _ in range(80):
        if rng.random() < 0.5:
            offsets = offset + np.sort(rng.choice(30, int(rng.integers(0, 12)), replace=False))
            is_bad = rng.random(len(offsets)) < 0.3
            kept = offsets[~is_bad]
            times = START_MS + now + rng.integers(-50, 200, len(kept))
            fetch = transactions([str(at) for at in kept], times, offsets=kept, first_offset=offset)
            offset += 30
            fetch = dataclasses.replace(fetch, next_offset=offset)
            box.put_transactions(fetch, [bad(int(at)) for at in offsets[is_bad]])
            good += kept.tolist()
            spoilt += offsets[is_bad].tolist()
        now += int(rng.integers(0, 60))
        part = box.transactions.take(START_MS + now)
        taken += [] if part is None else part.offsets.tolist()
        set_aside += [record.offset for record in box.transactions.take_bad()]
        position = box.transactions.next_offset
        assert set(taken) == {at for at in good if at < position}
        assert set(set_aside) == {at for at in spoilt if at < position}
    assert len(taken) == len(set(taken)) > 100
    assert taken == sorted(taken)
    assert len(set_aside) == len(set(set_aside)) > 20


def test_labels_wait_for_the_clock() -> None:
    box = Inbox(SKEW_MS)
    dated = [(f"t{ms}", LabelKind.FRAUD, START_MS + ms) for ms in (10, 50, 20, 60)]
    box.put_labels(labels(*dated), [])
    assert [offsets_due(box, clock) for clock in (9, 10, 19, 50, 60)] == [[], [0], [], [1, 2], [3]]


def test_a_label_that_is_not_due_holds_back_none_behind_it_while_there_is_room_to_set_it_aside() -> None:
    dated = [
        (f"t{row}", LabelKind.FRAUD, START_MS + ms) for row, ms in enumerate((10, 900, 20, 800, 30, 700))
    ]
    taken = []
    for rows in (0, 1, 2, 9):
        box = Inbox(SKEW_MS)
        box.put_labels(labels(*dated), [])
        found = box.take_labels(START_MS + 50, room=Room(rows, 1 << 20))
        assert found is not None
        taken.append(
            (found.offsets.tolist(), box.labels.next_offset, box.silent_until_ms(START_MS + 50) - START_MS)
        )
    assert taken == [([0], 1, 19), ([0, 1, 2], 3, 29), ([0, 1, 2, 3, 4], 5, 50), ([0, 1, 2, 3, 4], 5, 50)]


def test_due_labels_behind_more_early_ones_than_a_commit_may_hold_are_reached() -> None:
    box = Inbox(SKEW_MS)
    dated = [(f"t{row}", LabelKind.FRAUD, START_MS + (10**6 if row < 12 else 0)) for row in range(20)]
    box.put_labels(labels(*dated), [])
    taken, room = [], 100
    while True:
        found = box.take_labels(START_MS, ROOMY._replace(rows=5), Room(room, 1 << 20))
        assert found is not None
        if not len(found):
            break
        room -= int((found.claim_ms > START_MS).sum())
        taken += found.offsets.tolist()
    assert taken == list(range(20))
    assert not box.labels.is_full


def test_labels_are_fetched_on_while_early_ones_wait_but_not_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(inbox_module, "MOST_ROWS", 3)
    box = Inbox(SKEW_MS)
    box.put_labels(labels(*[(f"t{row}", LabelKind.FRAUD, START_MS + 10**6) for row in range(3)]), [])
    assert box.take_labels(START_MS) is not None
    assert not box.labels.is_full
    box.put_labels(labels(("t3", LabelKind.FRAUD, START_MS + 10**6), first_offset=3), [])
    assert box.labels.is_full


def test_silence_is_not_known_beyond_the_last_label_read_while_the_broker_has_more() -> None:
    box = Inbox(SKEW_MS)
    box.has_all_labels = False
    assert box.silent_until_ms(START_MS) == NEVER_MS
    box.put_labels(labels(("a", LabelKind.FRAUD, START_MS + 5)), [])
    assert box.take_labels(START_MS + 9) is not None
    assert box.silent_until_ms(START_MS + 9) == START_MS + 5
    box.has_all_labels = True
    assert box.silent_until_ms(START_MS + 9) == START_MS + 9


def test_one_label_of_the_future_at_the_end_of_a_fetch_does_not_let_silence_speak() -> None:
    box = Inbox(SKEW_MS)
    box.has_all_labels = False
    far_ms = 9 * MS_PER_DAY
    dated = [(f"t{ms}", LabelKind.FRAUD, START_MS + ms) for ms in (5, 7, far_ms)]
    box.put_labels(labels(*dated), [])
    assert box.take_labels(START_MS + far_ms - 1) is not None
    assert box.silent_until_ms(START_MS + far_ms - 1) == START_MS + 7


def test_a_label_of_long_ago_at_the_end_of_a_fetch_holds_silence_back() -> None:
    box = Inbox(SKEW_MS)
    box.has_all_labels = False
    box.put_labels(labels(*[(f"t{ms}", LabelKind.FRAUD, START_MS + ms) for ms in (5, 90, 7)]), [])
    assert box.take_labels(START_MS + 99) is not None
    assert box.silent_until_ms(START_MS + 99) == START_MS + 7


def test_only_so_many_bytes_of_labels_that_are_not_due_are_passed() -> None:
    box = Inbox(SKEW_MS)
    dated = labels(*[(f"t{row}", LabelKind.FRAUD, START_MS + (row % 2) * 900) for row in range(8)])
    box.put_labels(dataclasses.replace(dated, value=pa.array([b"x" * 100] * 8, pa.large_binary())), [])
    found = box.take_labels(START_MS + 50, room=Room(99, 250))
    assert found is not None
    assert found.offsets.tolist() == [0, 1, 2, 3, 4]


def test_a_label_dated_ahead_of_its_arrival_is_due_when_it_arrived_and_a_skew() -> None:
    box = Inbox(SKEW_MS)
    box.put_labels(labels(("a", LabelKind.FRAUD, START_MS + 10**10), timestamps_ms=[START_MS]), [])
    assert [offsets_due(box, clock) for clock in (SKEW_MS - 1, SKEW_MS)] == [[], [0]]


def offsets_due(box: Inbox, clock: int) -> list[int]:
    taken = box.labels.take(START_MS + clock)
    assert taken is not None
    due: list[int] = taken.offsets.tolist()
    return due


def test_where_nothing_waits_there_is_nothing_to_cut() -> None:
    assert cut(inbox(), inbox(came())) is None
    assert cut() is None


def test_a_batch_is_cut_at_one_event_time_for_all_partitions() -> None:
    one, other = inbox(came(0, 100, 5_000)), inbox(came(50, 900, 1_100))
    until = cut(one, other, span_ms=1_000)
    assert until == 1_000
    assert (take(one, until), take(other, until)) == ([0, 100], [50, 900])


def test_a_partition_of_which_more_is_to_come_holds_the_others_back() -> None:
    behind, ahead = inbox(came(0, 100), at_end=False), inbox(came(50, 500))
    assert cut(behind, ahead) == 100
    behind.at_end = True
    assert cut(behind, ahead) == SPAN_MS
    ahead.at_end = False
    assert cut(behind, ahead) == 500


def test_a_batch_holds_as_many_records_as_it_may_even_of_one_moment() -> None:
    one, other = inbox(came(0, 10, 20, 30, 30, 40)), inbox(came(5, 15, 25))
    assert cut(one, other, most=4) == 15
    assert cut(one, other, most=9) == SPAN_MS
    assert cut(one, most=1) == 0
    found = cut_all([one], SPAN_MS, 4)
    assert found == (START_MS + 30, [4])
    dated_to_the_day = [inbox(came(*[0] * 50)), inbox(came(*[0] * 50))]
    assert cut_all(dated_to_the_day, SPAN_MS, 70) == (START_MS, [50, 20])


@pytest.mark.parametrize("seed", range(20))
def test_every_cut_takes_something_and_keeps_its_bounds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = []
    for _ in range(3):
        times = np.sort(rng.choice(10_000, int(rng.integers(1, 40)), replace=False))
        boxes.append(inbox(came(*times), at_end=bool(rng.random() < 0.5)))
    waiting = [box.transactions.due_ms.copy() for box in boxes]
    found = cut_all(boxes, 2_000, 10)
    assert found is not None
    until, rows = found
    first = min(int(due[0]) for due in waiting)
    assert first <= until <= first + 2_000
    assert 1 <= sum(rows) <= 10
    for due, count in zip(waiting, rows, strict=True):
        assert np.count_nonzero(due < until) <= count <= np.count_nonzero(due <= until)
    for box, due in zip(boxes, waiting, strict=True):
        assert box.at_end or until <= due[-1]


ROOMY = Bound(MANY, MANY, 1 << 30)


def test_bad_records_are_taken_a_bounded_number_at_a_time() -> None:
    box = Inbox(SKEW_MS)
    box.put_transactions(came(first_offset=400_000), [bad(at) for at in range(400_000)])
    seen = []
    while box.transactions.held:
        box.transactions.take(NEVER_MS, ROOMY._replace(dead_letters=150_000))
        seen.append((len(box.transactions.take_bad()), box.transactions.next_offset))
    assert seen == [(150_000, 150_000), (150_000, 300_000), (100_000, 400_000)]


class Watched:
    """A bad record that counts how often its offset is looked at."""

    value = None
    looks = 0

    def __init__(self, offset: int) -> None:
        self._offset = offset

    @property
    def offset(self) -> int:
        Watched.looks += 1
        return self._offset


def test_bad_records_that_stay_are_not_looked_at_again_in_every_cycle() -> None:
    box = Inbox(SKEW_MS)
    box.put_transactions(came(first_offset=1_000), [cast("BadRecord", Watched(at)) for at in range(1_000)])
    Watched.looks = taken = 0
    while box.transactions.held:
        box.transactions.take(NEVER_MS, ROOMY._replace(dead_letters=10))
        taken += len(box.transactions.take_bad())
    assert taken == 1_000
    assert Watched.looks <= 2 * 1_000 + 2 * 100, "each once, and in each of 100 cycles the first that stays"


def test_bad_records_are_taken_as_far_as_their_bytes_allow_but_one_at_least() -> None:
    box = Inbox(SKEW_MS)
    heavy = [dataclasses.replace(bad(at), value=b"x" * 100) for at in (1, 3, 5)]
    box.put_transactions(dataclasses.replace(came(0, 10, 20), next_offset=6), heavy)
    seen = []
    for value_bytes in (250, 10):
        taken = box.transactions.take(START_MS + 20, ROOMY._replace(value_bytes=value_bytes))
        assert taken is not None
        seen.append(
            (taken.offsets.tolist(), [it.offset for it in box.transactions.take_bad()], taken.next_offset)
        )
    assert seen == [([0, 2, 4], [1, 3], 5), ([], [5], 6)]


def test_labels_of_one_moment_come_a_bounded_number_at_a_time_and_silence_waits_for_the_rest() -> None:
    box = Inbox(SKEW_MS)
    box.put_labels(labels(*[(f"t{row}", LabelKind.FRAUD, START_MS + 5) for row in range(10)]), [])
    seen = []
    for _ in range(3):
        taken = box.take_labels(START_MS + 7, ROOMY._replace(rows=4))
        assert taken is not None
        seen.append((len(taken), box.silent_until_ms(START_MS + 7) - START_MS))
    assert seen == [(4, 4), (4, 4), (2, 7)]


def test_labels_come_as_far_as_their_bytes_allow() -> None:
    box = Inbox(SKEW_MS)
    dated = labels(*[(f"t{row}", LabelKind.FRAUD, START_MS) for row in range(5)])
    box.put_labels(dataclasses.replace(dated, value=pa.array([b"x" * 100] * 5, pa.large_binary())), [])
    taken = [box.take_labels(START_MS, ROOMY._replace(value_bytes=most)) for most in (250, 10, 1_000)]
    assert [one and one.offsets.tolist() for one in taken] == [[0, 1], [2], [3, 4]]


def test_only_so_many_labels_come_at_once_that_have_to_be_looked_for_everywhere() -> None:
    box = Inbox(SKEW_MS)
    dated = [(f"t{row}", LabelKind.FRAUD, START_MS) for row in range(9)]
    named = [START_MS, -1, START_MS, -1, START_MS, -1, -1, -1, START_MS]
    box.put_labels(labels(*dated, event_time_ms=named), [])
    seen = []
    for _ in range(3):
        taken = box.take_labels(START_MS, room=NO_ROOM._replace(unnamed=2))
        assert taken is not None
        seen.append((taken.offsets.tolist(), box.labels.cut_short, box.silent_until_ms(START_MS) - START_MS))
    assert seen == [([0, 1, 2, 3, 4], True, -1), ([5, 6], True, -1), ([7, 8], False, 0)]


def test_a_label_of_the_moment_within_which_a_batch_was_cut_waits_for_the_transactions_left() -> None:
    box = inbox(came(0, 10, 10, 10))
    dated = [("a", LabelKind.FRAUD, START_MS + 9), ("b", LabelKind.FRAUD, START_MS + 10)]
    box.put_labels(labels(*dated), [])
    assert box.transactions.take(START_MS + 10, ROOMY._replace(rows=2)) is not None
    first = box.take_labels(box.follow_clock(START_MS + 10))
    assert box.transactions.take(START_MS + 10) is not None
    second = box.take_labels(box.follow_clock(START_MS + 10))
    assert (first is not None and first.offsets.tolist(), second is not None and second.offsets.tolist()) == (
        [0],
        [1],
    )
