from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from models.examples import ExampleBuffer, Examples

FEATURES = 3


def numbered(first: int, count: int) -> Examples:
    """Examples of which every column gives their number."""
    number = np.arange(first, first + count)
    return Examples(
        features=(number[:, None] + np.arange(FEATURES) / 10).astype(np.float32),
        label=(number % 2).astype(np.uint8),
        weight=(number + 0.5).astype(np.float32),
        event_time_ms=number * 1_000,
        key=number.astype(np.uint64),
        logit=(-number).astype(np.float32),
        tables_logit=(number * 3).astype(np.float32),
        trees_logit=(number * 4).astype(np.float32),
        verdict_ms=number * 2_000,
    )


def numbers(rows: Examples) -> list[int]:
    """The rows' numbers, having checked that their columns still belong together."""
    again = [numbered(int(key), 1) for key in rows.key]
    assert_same(rows, Examples.concatenate([Examples.empty(features=FEATURES), *again], features=FEATURES))
    return [int(key) for key in rows.key]


def assert_same(one: Examples, other: Examples) -> None:
    for field in fields(Examples):
        left, right = getattr(one, field.name), getattr(other, field.name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


def verdicts(*rows: tuple[int, int, int]) -> Examples:
    """Rows of (key, event time, label)."""
    key, time_ms, label = (np.array(column) for column in zip(*rows, strict=True))
    count = len(rows)
    zeros = np.zeros(count, np.float32)
    return Examples(
        np.zeros((count, 1), np.float32), label.astype(np.uint8), np.ones(count, np.float32),
        time_ms.astype(np.int64), key.astype(np.uint64), zeros, zeros, zeros, time_ms.astype(np.int64),
    )  # fmt: skip


def in_short(rows: Examples) -> list[tuple[int, int, int]]:
    columns = zip(rows.key, rows.event_time_ms, rows.label, strict=True)
    return [(int(key), int(time_ms), int(label)) for key, time_ms, label in columns]


def test_a_generation_learns_the_last_verdict_on_a_decision_and_no_other() -> None:
    rows = verdicts((7, 100, 0), (8, 100, 0), (7, 100, 1), (8, 100, 1), (7, 100, 0))
    assert in_short(rows.for_generation(0)) == [(7, 100, 0), (8, 100, 1)]


def test_a_generation_leaves_out_what_was_taken_back() -> None:
    rows = verdicts((7, 100, 0), (8, 100, 0), (9, 100, 0), (7, 100, 0), (9, 100, 0), (9, 100, 1))
    rows.weight[3:5] = 0.0
    assert in_short(rows.for_generation(0)) == [(8, 100, 0), (9, 100, 1)]


def test_a_generation_learns_in_transaction_order_and_not_in_that_of_the_labels() -> None:
    rows = verdicts((3, 300, 0), (1, 500, 1), (2, 100, 0), (9, 100, 1))
    assert in_short(rows.for_generation(0)) == [(2, 100, 0), (9, 100, 1), (3, 300, 0), (1, 500, 1)]


def test_a_generation_forgets_what_happened_before_its_memory_begins() -> None:
    rows = verdicts((1, 99, 0), (2, 100, 0), (3, 101, 1))
    assert in_short(rows.for_generation(100)) == [(2, 100, 0), (3, 101, 1)]
    assert in_short(rows.for_generation(102)) == []


def test_the_buffer_holds_the_newest_examples_in_records_of_any_size() -> None:
    rng = np.random.default_rng(1)
    capacity = 40
    buffer = ExampleBuffer(capacity, FEATURES)
    appended: list[int] = []
    for offset in range(60):
        count = int(rng.choice([0, 1, 3, 17, 39, 40, 41, 60]))
        buffer.append(numbered(len(appended), count), offset)
        appended += range(len(appended), len(appended) + count)
        assert len(buffer) == min(len(appended), capacity)
        assert numbers(buffer.snapshot()[0]) == appended[-capacity:]
        assert numbers(buffer.since(-1)) == appended[-capacity:]


def test_since_gives_what_was_folded_after_an_offset_in_log_order() -> None:
    buffer = ExampleBuffer(100, FEATURES)
    for offset, count in ((3, 2), (5, 3), (9, 1)):
        buffer.append(numbered(offset * 10, count), offset)
    assert numbers(buffer.since(2)) == [30, 31, 50, 51, 52, 90]
    assert numbers(buffer.since(3)) == [50, 51, 52, 90]
    assert numbers(buffer.since(4)) == [50, 51, 52, 90]
    assert numbers(buffer.since(5)) == [90]
    assert numbers(buffer.since(9)) == []
    assert buffer.snapshot()[1].tolist() == [3, 3, 5, 5, 5, 9]


def test_of_times_gives_what_was_folded_before_an_offset_of_a_span_of_transactions() -> None:
    buffer = ExampleBuffer(6, FEATURES)
    for offset, first in ((2, 0), (5, 4), (9, 2)):
        buffer.append(numbered(first, 3), offset)
    # Of the nine, 0 to 2, 4 to 6 and 2 to 4, the buffer holds the newest six.
    assert numbers(buffer.of_times(3_000, 6_000, 10)) == [4, 5, 3, 4]
    assert numbers(buffer.of_times(3_000, 6_000, 9)) == [4, 5]
    assert numbers(buffer.of_times(0, 9_000, 5)) == []


def test_looking_at_the_buffer_does_not_change_what_it_holds() -> None:
    looked_at, other = ExampleBuffer(10, FEATURES), ExampleBuffer(10, FEATURES)
    for offset in range(30):
        for buffer in (looked_at, other):
            buffer.append(numbered(3 * offset, 3), offset)
        looked_at.snapshot()
        assert len(looked_at) == len(other)
        for cut in (offset - 5, offset - 1):
            assert_same(looked_at.since(cut), other.since(cut))


def test_the_buffer_does_not_share_memory_with_the_record_that_examples_came_in() -> None:
    buffer = ExampleBuffer(10, FEATURES)
    record = numbered(0, 4)
    buffer.append(record, 0)
    record.label[:] = 9
    assert numbers(buffer.since(-1)) == [0, 1, 2, 3]


def test_a_snapshot_stays_as_it_was() -> None:
    buffer = ExampleBuffer(4, FEATURES)
    buffer.append(numbered(0, 4), 0)
    rows, _ = buffer.snapshot()
    for offset in range(1, 9):
        buffer.append(numbered(10 * offset, 3), offset)
    assert numbers(rows) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "parts", [[], [numbered(5, 2)], [numbered(0, 2), Examples.empty(features=FEATURES), numbered(7, 1)]]
)
def test_parts_are_joined_in_their_order(parts: list[Examples]) -> None:
    expected = [int(key) for part in parts for key in part.key]
    assert numbers(Examples.concatenate(parts, features=FEATURES)) == expected


def test_a_buffer_of_another_bound_keeps_the_newest_and_goes_on_as_if_it_had_always_had_that_one() -> None:
    buffer = ExampleBuffer(10, FEATURES)
    for offset in range(9):
        buffer.append(numbered(3 * offset, 3), offset)
    buffer.bound(25)
    assert numbers(buffer.snapshot()[0]) == list(range(17, 27))
    buffer.append(numbered(27, 3), 9)
    assert numbers(buffer.since(8)) == [27, 28, 29]
    assert buffer.snapshot()[1].tolist() == [5, 6, 6, 6, 7, 7, 7, 8, 8, 8, 9, 9, 9]
    buffer.bound(4)
    assert numbers(buffer.snapshot()[0]) == [26, 27, 28, 29]
    assert buffer.snapshot()[1].tolist() == [8, 9, 9, 9]
    buffer.append(numbered(30, 2), 10)
    assert numbers(buffer.snapshot()[0]) == [28, 29, 30, 31]
