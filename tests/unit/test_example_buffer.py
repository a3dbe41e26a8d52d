"""The buffer of examples: what it holds, and of which it holds a sample."""

from __future__ import annotations

import numpy as np
import pytest

from models import example_buffer
from models.example_buffer import ExampleBuffer
from models.examples import Examples, Verdict
from models.vocabulary import MS_PER_DAY, NEVER_MS
from tests.support.examples import FEATURES, assert_same, numbered, numbers

ALL_OLD = 2**62
"""So late that every verdict may go to make room."""
NONE_OLD = -(2**62)


def test_the_buffer_holds_the_newest_examples_in_records_of_any_size() -> None:
    rng = np.random.default_rng(1)
    capacity = 40
    buffer = ExampleBuffer(capacity, FEATURES)
    appended: list[int] = []
    for offset in range(60):
        count = int(rng.choice([0, 1, 3, 17, 39, 40, 41, 60]))
        buffer.append(numbered(len(appended), count), offset, ALL_OLD)
        appended += range(len(appended), len(appended) + count)
        assert len(buffer) == min(len(appended), capacity)
        assert numbers(buffer.snapshot()[0]) == appended[-capacity:]
        assert numbers(buffer.since(-1)) == appended[-capacity:]


def test_since_gives_what_was_folded_after_an_offset_in_log_order() -> None:
    buffer = ExampleBuffer(100, FEATURES)
    for offset, count in ((3, 2), (5, 3), (9, 1)):
        buffer.append(numbered(offset * 10, count), offset, ALL_OLD)
    assert numbers(buffer.since(2)) == [30, 31, 50, 51, 52, 90]
    assert numbers(buffer.since(3)) == [50, 51, 52, 90]
    assert numbers(buffer.since(4)) == [50, 51, 52, 90]
    assert numbers(buffer.since(5)) == [90]
    assert numbers(buffer.since(9)) == []
    assert buffer.snapshot()[1].tolist() == [3, 3, 5, 5, 5, 9]


def test_of_times_gives_what_was_folded_before_an_offset_of_a_span_of_transactions() -> None:
    buffer = ExampleBuffer(6, FEATURES)
    for offset, first in ((2, 0), (5, 4), (9, 2)):
        buffer.append(numbered(first, 3), offset, ALL_OLD)
    # Of the nine, 0 to 2, 4 to 6 and 2 to 4, the buffer holds the newest six.
    assert numbers(buffer.of_times(3_000, 6_000, 10)) == [4, 5, 3, 4]
    assert numbers(buffer.of_times(3_000, 6_000, 9)) == [4, 5]
    assert numbers(buffer.of_times(0, 9_000, 5)) == []


def test_looking_at_the_buffer_does_not_change_what_it_holds() -> None:
    looked_at, other = ExampleBuffer(10, FEATURES), ExampleBuffer(10, FEATURES)
    for offset in range(30):
        for buffer in (looked_at, other):
            buffer.append(numbered(3 * offset, 3), offset, ALL_OLD)
        looked_at.snapshot()
        assert len(looked_at) == len(other)
        for cut in (offset - 5, offset - 1):
            assert_same(looked_at.since(cut), other.since(cut))


def test_the_buffer_does_not_share_memory_with_the_record_that_examples_came_in() -> None:
    buffer = ExampleBuffer(10, FEATURES)
    record = numbered(0, 4)
    buffer.append(record, 0, ALL_OLD)
    record.label[:] = 9
    assert numbers(buffer.since(-1)) == [0, 1, 2, 3]


def test_a_snapshot_stays_as_it_was() -> None:
    buffer = ExampleBuffer(4, FEATURES)
    buffer.append(numbered(0, 4), 0, ALL_OLD)
    rows, _ = buffer.snapshot()
    for offset in range(1, 9):
        buffer.append(numbered(10 * offset, 3), offset, ALL_OLD)
    assert numbers(rows) == [0, 1, 2, 3]


def test_a_wider_bound_keeps_what_there_is_and_a_narrower_one_a_sample_of_it() -> None:
    buffer = ExampleBuffer(10, FEATURES)
    for offset in range(9):
        buffer.append(numbered(3 * offset, 3), offset, ALL_OLD)
    buffer.bound(25)
    assert numbers(buffer.snapshot()[0]) == list(range(17, 27))
    buffer.append(numbered(27, 3), 9, ALL_OLD)
    assert numbers(buffer.since(8)) == [27, 28, 29]
    assert buffer.snapshot()[1].tolist() == [5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9]
    buffer.bound(4)
    rows, offsets = buffer.snapshot()
    assert 0 < len(rows) <= 4
    assert set(rows.key.tolist()) <= set(range(17, 30))
    assert offsets.tolist() == [key // 3 for key in rows.key.tolist()]


def rows_of(
    key: list[int], day: list[float], *, fraud: bool, weight: float = 1.0, wait_days: float = 0.0
) -> Examples:
    """Examples of transactions of given days, whose verdict comes so much later."""
    count = len(key)
    event_ms = (np.array(day) * MS_PER_DAY).astype(np.int64)
    nothing = np.zeros(count, np.float32)
    return Examples(
        features=np.zeros((count, FEATURES), np.float32),
        label=np.full(count, Verdict.FRAUD if fraud else Verdict.SILENT, np.uint8),
        weight=np.full(count, weight, np.float32),
        event_time_ms=event_ms,
        key=np.array(key, np.uint64),
        logit=nothing,
        tables_logit=nothing,
        trees_logit=nothing,
        verdict_ms=event_ms + round(wait_days * MS_PER_DAY),
    )


def day_of(verdict_day: int, *, frauds: int, legits: int) -> Examples:
    """The verdicts of a day: on frauds of the day before, and on legits, 1 in 100, of seven days before."""
    first = 1_000_000 * verdict_day
    spread = np.random.default_rng(verdict_day).random(frauds + legits)
    return Examples.concatenate(
        [
            rows_of(
                [*range(first, first + frauds)], [*(verdict_day - 1 + spread[:frauds])], fraud=True, wait_days=1
            ),
            rows_of(
                [*range(first + frauds, first + frauds + legits)],
                [*(verdict_day - 7 + spread[frauds:])],
                fraud=False, weight=100.0, wait_days=7,
            ),
        ]
    )  # fmt: skip


def filled(days: int, capacity: int, *, frauds: int, legits: int) -> ExampleBuffer:
    """A buffer of a memory of 30 days after so many days."""
    buffer = ExampleBuffer(capacity, FEATURES)
    for day in range(7, days):
        since_ms = (day - 30) * MS_PER_DAY
        buffer.append(day_of(day, frauds=frauds, legits=legits), day, since_ms)
        assert len(buffer) <= capacity
    return buffer


@pytest.mark.parametrize(("frauds", "legits"), [(160, 40), (40, 160), (100, 100), (300, 5)])
def test_both_classes_reach_back_over_the_memory_and_stand_for_all_that_came(
    frauds: int, legits: int
) -> None:
    rows = filled(100, 1_000, frauds=frauds, legits=legits).snapshot()[0].for_generation(70 * MS_PER_DAY)
    day = rows.event_time_ms // MS_PER_DAY
    fraud = rows.label == Verdict.FRAUD
    for early, late in ((70, 77), (77, 84), (84, 91)):
        week = (day >= early) & (day < late)
        for is_fraud, a_day in ((True, frauds), (False, 100 * legits)):
            of_class = week & (fraud == is_fraud)
            expected, found = 7 * a_day, float(rows.weight[of_class].sum())
            # Horvitz and Thompson: each stands for `weight` that are there or not with it.
            unit = 1.0 if is_fraud else 100.0
            error = np.sqrt(np.sum(rows.weight[of_class] ** 2 - unit * rows.weight[of_class]))
            assert abs(found - expected) <= 4.0 * error + 1e-6
            assert np.count_nonzero(of_class) >= 15


def test_a_class_that_fits_is_not_sampled() -> None:
    rows = filled(100, 1_000, frauds=3, legits=160).snapshot()[0]
    frauds = rows.take(rows.label == Verdict.FRAUD)
    assert np.all(frauds.weight == 1.0)
    assert np.count_nonzero(frauds.event_time_ms >= 70 * MS_PER_DAY) == 3 * 29


def test_what_is_older_than_the_memory_goes_first_and_nothing_is_sampled_for_it() -> None:
    buffer = filled(200, 1_000, frauds=10, legits=20)
    assert buffer.kept_one_in.tolist() == [1, 1]
    rows = buffer.snapshot()[0]
    assert len(rows) == 1_000
    # 30 a day: the verdicts of the last 33 days and ten of the day before.
    assert int(rows.verdict_ms.min()) // MS_PER_DAY == 166
    assert 166 * MS_PER_DAY <= buffer.complete_from_ms <= 167 * MS_PER_DAY


def test_frauds_so_few_that_the_memory_lacks_some_are_never_given_up_for_room() -> None:
    buffer = ExampleBuffer(500, FEATURES)
    for day in range(7, 300):
        legits = day_of(day, frauds=0, legits=30)
        fraud = rows_of([day], [day - 1], fraud=True, wait_days=1)
        came = Examples.concatenate([legits, fraud]) if day % 40 == 0 else legits
        buffer.append(came, day, (day - 30) * MS_PER_DAY, least_frauds=20)
    rows = buffer.snapshot()[0]
    frauds = rows.take(rows.label == Verdict.FRAUD)
    assert frauds.key.tolist() == [40, 80, 120, 160, 200, 240, 280]
    assert np.all(frauds.weight == 1.0)
    legits = rows.take((rows.label != Verdict.FRAUD) & (rows.event_time_ms >= 40 * MS_PER_DAY))
    total = 253 * 30 * 100.0
    assert float(legits.weight.sum()) == pytest.approx(total, rel=0.3)


def test_a_later_verdict_on_a_decision_that_is_kept_is_never_missed() -> None:
    buffer = filled(60, 400, frauds=200, legits=40)
    assert buffer.kept_one_in[1] > 1
    before = buffer.snapshot()[0]
    legits = before.take((before.label != Verdict.FRAUD) & (before.weight > 0))
    assert len(legits) > 10
    late = rows_of(legits.key.tolist(), [30.0] * len(legits), fraud=True, wait_days=30)
    buffer.append(late, 60, NONE_OLD)
    after = buffer.snapshot()[0].for_generation(NONE_OLD)
    again = after.take(np.isin(after.key, legits.key))
    # Some frauds are sampled out, and then their decision teaches nothing at all.
    assert 0 < len(again) < len(legits)
    assert np.all(again.label == Verdict.FRAUD)
    assert np.all(again.weight == buffer.kept_one_in[1])


def test_rows_that_came_at_a_lower_rate_keep_their_weight_when_that_rate_returns() -> None:
    buffer = ExampleBuffer(400, FEATURES)
    buffer.kept_one_in = np.array([1, 4])
    buffer.append(rows_of([*range(800)], [1.0] * 800, fraud=True), 1, NONE_OLD)
    first = buffer.snapshot()[0].key.tolist()
    buffer.kept_one_in = np.array([1, 2])
    buffer.append(rows_of([*range(1_000, 1_800)], [2.0] * 800, fraud=True), 2, NONE_OLD)
    assert buffer.kept_one_in.tolist() == [1, 4]
    rows = buffer.snapshot()[0]
    assert np.all(rows.weight == 4.0)
    assert rows.key.tolist()[: len(first)] == first
    for count in (len(first), len(rows) - len(first)):
        # 1 in 4 of 800, within four standard errors.
        assert abs(count - 200) <= 4.0 * np.sqrt(800 * 0.25 * 0.75)


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize(("kept", "fraud_first"), [([8, 1], True), ([1, 8], False)])
def test_a_verdict_that_is_sampled_out_takes_back_an_earlier_one_of_the_same_commit_too(
    kept: list[int], fraud_first: bool, together: bool
) -> None:
    keys = [*range(1_000)]
    first = rows_of(keys, [1.0] * 1_000, fraud=fraud_first)
    second = rows_of(keys, [1.0] * 1_000, fraud=not fraud_first)
    buffer = ExampleBuffer(10_000, FEATURES)
    buffer.kept_one_in = np.array(kept)
    if together:
        buffer.append(Examples.concatenate([first, second]), 1, NONE_OLD)
    else:
        buffer.append(first, 1, NONE_OLD)
        buffer.append(second, 2, NONE_OLD)
    learnt = buffer.snapshot()[0].for_generation(NONE_OLD)
    assert 60 < len(learnt) < 190
    assert np.all((learnt.label == Verdict.FRAUD) == (not fraud_first))


def test_what_has_been_taken_back_makes_room_before_anything_is_sampled() -> None:
    buffer = ExampleBuffer(1_000, FEATURES)
    buffer.append(rows_of([*range(500)], [1.0] * 500, fraud=False), 1, NONE_OLD)
    taken_back = rows_of([*range(400)], [1.0] * 400, fraud=False, weight=0.0)
    buffer.append(taken_back, 2, NONE_OLD)
    buffer.append(rows_of([*range(500, 700)], [2.0] * 200, fraud=True), 3, NONE_OLD)
    assert buffer.kept_one_in.tolist() == [1, 1]
    assert buffer.complete_from_ms == NEVER_MS
    assert buffer.snapshot()[0].key.tolist() == [*range(400, 700)]


def test_once_a_class_is_sampled_what_takes_back_nothing_that_is_kept_takes_no_room() -> None:
    buffer = ExampleBuffer(1_000, FEATURES)
    buffer.kept_one_in = np.array([2, 1])
    buffer.append(rows_of([*range(100)], [1.0] * 100, fraud=False), 1, NONE_OLD)
    kept = buffer.snapshot()[0].key.tolist()
    buffer.append(rows_of([*range(200)], [1.0] * 200, fraud=False, weight=0.0), 2, NONE_OLD)
    assert buffer.snapshot()[0].key.tolist() == kept + kept


def test_frauds_of_one_commit_that_do_not_fit_are_sampled_themselves_and_no_legit_is_lost_for_them() -> None:
    buffer = ExampleBuffer(1_000, FEATURES)
    buffer.append(rows_of([*range(600)], [1.0] * 600, fraud=False), 1, NONE_OLD)
    buffer.append(rows_of([*range(1_000, 6_000)], [2.0] * 5_000, fraud=True), 2, NONE_OLD)
    assert buffer.kept_one_in[0] <= 2
    rows = buffer.snapshot()[0]
    assert np.count_nonzero(rows.label != Verdict.FRAUD) > 200
    assert float(rows.weight[rows.label == Verdict.FRAUD].sum()) == pytest.approx(5_000, rel=0.3)


@pytest.mark.parametrize("seed", range(5))
def test_what_was_kept_is_found_whatever_has_been_put_in_order_by_then(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a plain set, over appends of which some make the buffer move and forget."""
    monkeypatch.setattr(example_buffer, "_UNORDERED", 16)
    rng = np.random.default_rng(seed)
    buffer = ExampleBuffer(200, FEATURES)
    # Of frauds 7 in 8 are sampled out, each on a decision that may be kept as legit.
    buffer.kept_one_in = np.array([1, 8])
    for offset in range(200):
        keys = rng.integers(0, 2_000, 12)
        before = set(buffer.snapshot()[0].key.tolist())
        buffer.append(rows_of(keys.tolist(), [float(offset)] * 12, fraud=bool(offset % 2)), offset, ALL_OLD)
        rows, offsets = buffer.snapshot()
        came = {int(key) for key in rows.key[offsets == offset]}
        assert before & set(keys.tolist()) <= came


def test_more_is_kept_again_only_where_there_will_be_room() -> None:
    buffer = filled(60, 400, frauds=200, legits=40)
    legits, frauds = (int(one_in) for one_in in buffer.kept_one_in)
    buffer.keep_more((30.0 * 40, 30.0 * 200), 30 * MS_PER_DAY)
    assert buffer.kept_one_in.tolist() == [legits, frauds]
    buffer.keep_more((0.0, 100.0), 70 * MS_PER_DAY)
    assert buffer.kept_one_in[1] == frauds / 2


def test_a_buffer_that_had_another_bound_while_it_was_empty_is_as_one_that_always_had_this_one() -> None:
    begun, rebound = ExampleBuffer(10, FEATURES), ExampleBuffer(40, FEATURES)
    rebound.bound(10)
    assert rebound.complete_from_ms == begun.complete_from_ms
    for buffer in (begun, rebound):
        buffer.append(numbered(0, 30), 0, ALL_OLD)
    assert rebound.complete_from_ms == begun.complete_from_ms
    assert numbers(rebound.snapshot()[0]) == numbers(begun.snapshot()[0])
