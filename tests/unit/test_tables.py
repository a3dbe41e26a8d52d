"""Row tables, against an ordered dictionary that follows the same rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from models.tables import Rows, RowTable, find, find_or_insert


@njit(nogil=True)
def _use(rows: Rows, keys: NDArray[np.uint64], at_ms: NDArray[np.int64]) -> None:
    for i in range(keys.size):
        row = find_or_insert(rows, keys[i], at_ms[i])
        rows.last_ms[row] = max(rows.last_ms[row], at_ms[i])
        rows.values[row, 0] += 1.0
        rows.values[row, 1] = keys[i]


@njit(nogil=True)
def _look_up(rows: Rows, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    out = np.empty(keys.size, np.int64)
    for i in range(keys.size):
        out[i] = find(rows, keys[i])
    return out


def _apply(table: RowTable, keys: NDArray[np.uint64], at_ms: NDArray[np.int64]) -> None:
    _use(table.reserve(keys.size), keys, at_ms)


HALF_LIFE_MS = 40.0


def _table(max_rows: int) -> RowTable:
    """A table whose rows weigh as much as they have been used."""
    return RowTable(2, max_rows, weighed=0, half_life_ms=HALF_LIFE_MS)


class _Expected:
    """The rules in plain Python: a dictionary in order of insertion, from key to [uses, last use]."""

    def __init__(self, max_rows: int) -> None:
        self.rows: dict[int, list[int]] = {}
        self.evictions = 0
        self._max_rows = max_rows

    def use(self, key: int, at_ms: int) -> None:
        if key not in self.rows and len(self.rows) == self._max_rows:
            self._evict()
        uses, last_ms = self.rows.get(key, [0, at_ms])
        self.rows[key] = [uses + 1, max(last_ms, at_ms)]

    def _evict(self) -> None:
        def faded_ms(key: int) -> float:
            uses, last_ms = self.rows[key]
            return last_ms + HALF_LIFE_MS * math.log2(uses)

        by_weight = sorted(self.rows, key=faded_ms)
        for key in by_weight[: max(1, self._max_rows // 4)]:
            del self.rows[key]
            self.evictions += 1


def _stream(n: int, distinct: int, seed: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    keys = rng.integers(1, 2**63, size=distinct, dtype=np.uint64)[rng.integers(0, distinct, size=n)]
    # Few distinct times, so that many rows are equally old.
    return keys, np.sort(rng.integers(0, n // 10, size=n)) - rng.integers(0, 20, size=n)


@pytest.mark.parametrize(("max_rows", "distinct"), [(1, 5), (3, 10), (64, 100), (5000, 4000)])
def test_rows_and_evictions_follow_the_rules(max_rows: int, distinct: int) -> None:
    keys, at_ms = _stream(6000, distinct, seed=max_rows)
    table, expected = _table(max_rows), _Expected(max_rows)
    for batch in np.array_split(np.arange(keys.size), 37):
        _apply(table, keys[batch], at_ms[batch])
    for key, at in zip(keys.tolist(), at_ms.tolist(), strict=True):
        expected.use(key, at)
    arrays = table.arrays()
    assert arrays["keys"].tolist() == list(expected.rows)
    assert arrays["values"][:, 0].tolist() == [uses for uses, _ in expected.rows.values()]
    assert arrays["last_ms"].tolist() == [last_ms for _, last_ms in expected.rows.values()]
    assert (len(table), table.evictions) == (len(expected.rows), expected.evictions)


def test_every_key_is_found_in_its_own_row_and_others_nowhere() -> None:
    rng = np.random.default_rng(5)
    # Equal low bits: all of them compete for one slot and its neighbours.
    keys = np.unique(rng.integers(1, 2**40, size=3000, dtype=np.uint64)) << np.uint64(20)
    table = _table(10_000)
    _apply(table, keys, np.zeros(keys.size, np.int64))
    assert _look_up(table.rows, keys).tolist() == list(range(keys.size))
    assert np.all(_look_up(table.rows, keys + np.uint64(1)) == -1)


def test_a_table_bound_more_tightly_evicts_at_once_and_one_bound_less_tightly_grows() -> None:
    table = _table(1000)
    _apply(table, np.arange(1, 1001, dtype=np.uint64), np.arange(1000))
    table.bound(100)
    assert table.arrays()["keys"].tolist() == [*range(926, 1001)]
    assert table.evictions == 925
    assert table.rows.keys.size == 100
    table.bound(3000)
    _apply(table, np.arange(2001, 4001, dtype=np.uint64), np.arange(1000, 3000))
    assert table.arrays()["keys"].tolist() == [*range(926, 1001), *range(2001, 4001)]
    assert _look_up(table.rows, np.array([926, 4000, 1], np.uint64)).tolist() == [0, 2074, -1]


def test_a_bound_that_fits_the_rows_evicts_none() -> None:
    table = _table(1000)
    _apply(table, np.arange(1, 101, dtype=np.uint64), np.arange(100))
    table.bound(100)
    assert (len(table), table.evictions) == (100, 0)
    with pytest.raises(ValueError, match="cannot be made"):
        table.bound(0)


def test_a_flood_of_new_keys_evicts_itself_and_old_keys_go_in_time() -> None:
    known, flood = np.arange(1, 51, dtype=np.uint64), np.arange(1000, 1200, dtype=np.uint64)
    table = _table(100)
    for _ in range(8):
        _apply(table, known, np.zeros(50, np.int64))
    # Eight uses are worth three half-lives: the known keys outlive any flood that comes before.
    _apply(table, flood, np.full(200, 2 * int(HALF_LIFE_MS)))
    assert np.all(_look_up(table.rows, known) >= 0)
    _apply(table, flood + np.uint64(500), np.full(200, 4 * int(HALF_LIFE_MS)))
    assert np.all(_look_up(table.rows, known) == -1)


def test_arrays_are_copies() -> None:
    table = _table(10)
    _apply(table, np.array([7], dtype=np.uint64), np.array([0]))
    taken = table.arrays()
    _apply(table, np.array([7], dtype=np.uint64), np.array([5]))
    assert taken["values"][0, 0] == 1.0
    assert taken["last_ms"][0] == 0


@pytest.mark.parametrize("max_rows", [0, -1, 2**30 + 1])
def test_an_impossible_bound_is_refused(max_rows: int) -> None:
    with pytest.raises(ValueError, match="cannot be made"):
        _table(max_rows)
