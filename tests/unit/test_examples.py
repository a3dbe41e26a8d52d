from __future__ import annotations

import numpy as np
import pytest

from models.examples import Examples, begins_ms
from tests.support.examples import FEATURES, numbered, numbers


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


@pytest.mark.parametrize(
    "parts", [[], [numbered(5, 2)], [numbered(0, 2), Examples.empty(features=FEATURES), numbered(7, 1)]]
)
def test_parts_are_joined_in_their_order(parts: list[Examples]) -> None:
    expected = [int(key) for part in parts for key in part.key]
    assert numbers(Examples.concatenate(parts, features=FEATURES)) == expected


def test_a_stream_begins_with_its_first_row_but_for_strays_of_long_before() -> None:
    steady = np.arange(1_000, 2_000)
    assert begins_ms(steady) == 1_000
    # A tenth of the time before the others is no gap that a growing stream would not have.
    assert begins_ms(np.concatenate([[900], steady])) == 900
    assert begins_ms(np.concatenate([[-5_000, -4_000], steady])) == 1_008
    # One in fifty is no stray.
    assert begins_ms(np.concatenate([np.arange(-5_020, -5_000), steady])) == -5_020
    assert begins_ms(np.array([7])) == 7
