"""Examples of which every column gives their number."""

from __future__ import annotations

from dataclasses import fields

import numpy as np

from models.examples import Examples

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
