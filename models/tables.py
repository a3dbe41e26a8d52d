"""Rows of numbers by 64-bit key: dense, in order of insertion, with an index of open addressing.

The dense arrays are the state; the index is derived from them. Keys are keyed hashes already (SipHash), so their low
bits serve as the slot: a sender who does not know the key cannot make rows collide.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import log

_FIRST_CAPACITY: Final = 1024
LARGEST_TABLE: Final = 2**30
"""The index holds row numbers as int32."""
# Places in `Rows.counts`.
_SIZE: Final = 0
_EVICTIONS: Final = 1
_MAX_ROWS: Final = 2
_NO_ROW: Final = -1
_LN2: Final = 0.6931471805599453
_LEAST_WEIGHT: Final = 2.0**-64
"""What is left of a weight after 64 half-lives; one that evidence taken back made negative counts as that little."""


class Rows(NamedTuple):
    """The arrays of a table, as compiled loops take them.

    Attributes
    ----------
    keys : uint64 (capacity,)
        The key of each row.
    values : float64 (capacity, width)
        The numbers of each row.
    last_ms : int64 (capacity,)
        The time of each row's last use; its values are as of this time.
    slots : int32 (s,)
        The row in each slot, or -1; s is a power of two and at least twice the capacity.
    counts : int64 (3,)
        Rows in use, rows evicted so far, and the most rows there may be.
    weighed, half_life_ms
        The column that says how much a row knows, and how fast that fades.
    """

    keys: NDArray[np.uint64]
    values: NDArray[np.float64]
    last_ms: NDArray[np.int64]
    slots: NDArray[np.int32]
    counts: NDArray[np.int64]
    weighed: int
    half_life_ms: float


@njit(cache=True, nogil=True)
def _slot(keys: NDArray[np.uint64], slots: NDArray[np.int32], key: np.uint64) -> int:
    """Return the slot of a key: the one that holds its row, or the empty one where its row would go."""
    # At most half of the slots are taken, so probes are short and always end.
    mask = slots.size - 1
    slot = int(np.int64(key & np.uint64(mask)))
    while slots[slot] >= 0 and keys[slots[slot]] != key:
        slot = (slot + 1) & mask
    return slot


@njit(cache=True, nogil=True)
def _rebuild(keys: NDArray[np.uint64], slots: NDArray[np.int32], size: int) -> None:
    slots[:] = _NO_ROW
    for row in range(size):
        slots[_slot(keys, slots, keys[row])] = row


@njit(cache=True, nogil=True)
def _faded_ms(rows: Rows, size: int) -> NDArray[np.float64]:
    """Return when the weight of each row fades to one, as if it were read again: the earliest knows the least."""
    faded_ms = np.empty(size)
    for row in range(size):
        weight = max(rows.values[row, rows.weighed], _LEAST_WEIGHT)
        faded_ms[row] = rows.last_ms[row] + rows.half_life_ms * (log(weight) / _LN2)
    return faded_ms


@njit(cache=True, nogil=True)
def _evict(rows: Rows) -> None:
    """Drop the rows that know the least until three quarters remain; of those that know as much, the first.

    What a row knows is its weight, which has faded since its last use. So a flood of new keys evicts itself rather than
    keys that have been used again and again, and keys that are no longer used go in time, whatever they weighed. Of
    keys used once the newest stay.

    A quarter at a time: an eviction reads the whole table, and so costs little per insertion.
    """
    size = rows.counts[_SIZE]
    most = rows.counts[_MAX_ROWS]
    surplus = size - (most - max(1, most // 4))
    # The rows kept depend on weights, times and insertion order alone, never on how the partition orders equals.
    faded_ms = _faded_ms(rows, size)
    bound = np.partition(faded_ms, surplus - 1)[surplus - 1]
    ties = surplus - np.sum(faded_ms < bound)
    kept = 0
    for row in range(size):
        if faded_ms[row] < bound:
            continue
        if faded_ms[row] == bound and ties > 0:
            ties -= 1
            continue
        rows.keys[kept] = rows.keys[row]
        rows.values[kept] = rows.values[row]
        rows.last_ms[kept] = rows.last_ms[row]
        kept += 1
    rows.counts[_SIZE] = kept
    rows.counts[_EVICTIONS] += size - kept
    _rebuild(rows.keys, rows.slots, kept)


@njit(cache=True, nogil=True)
def find(rows: Rows, key: np.uint64) -> int:
    """Return the row of a key, or -1."""
    return int(rows.slots[_slot(rows.keys, rows.slots, key)])


@njit(cache=True, nogil=True)
def find_or_insert(rows: Rows, key: np.uint64, at_ms: int) -> int:
    """Return the row of a key; a new one is zero, as of `at_ms`, and evicts others if the table is full.

    The caller has reserved room for it. An eviction moves rows: a row number found before is no longer valid.
    """
    slot = _slot(rows.keys, rows.slots, key)
    if rows.slots[slot] >= 0:
        return int(rows.slots[slot])
    if rows.counts[_SIZE] >= rows.counts[_MAX_ROWS]:
        _evict(rows)
        slot = _slot(rows.keys, rows.slots, key)
    row = int(rows.counts[_SIZE])
    rows.counts[_SIZE] = row + 1
    rows.keys[row] = key
    rows.values[row] = 0.0
    rows.last_ms[row] = at_ms
    rows.slots[slot] = row
    return row


class RowTable:
    """A growing table of rows by key, bounded by eviction of the quarter that knows the least.

    Its content depends on the order of the insertions alone, not on how they are batched.

    Parameters
    ----------
    width
        Numbers in a row.
    max_rows
        The most rows kept.
    weighed
        The column whose number says how much a row knows: a decayed count.
    half_life_ms
        Of that count.

    Raises
    ------
    ValueError
        If `max_rows` is not between 1 and 2**30.
    """

    def __init__(self, width: int, max_rows: int, weighed: int, half_life_ms: float) -> None:
        _check_bound(max_rows)
        capacity = min(_FIRST_CAPACITY, max_rows)
        self.rows = _allocate(capacity, width, max_rows, weighed, half_life_ms)

    def __len__(self) -> int:
        return int(self.rows.counts[_SIZE])

    @property
    def evictions(self) -> int:
        """Rows evicted since the table began."""
        return int(self.rows.counts[_EVICTIONS])

    def reserve(self, n: int) -> Rows:
        """Make room for n insertions.

        Returns
        -------
        Rows
            The arrays to insert into, valid until the next call.
        """
        # Never beyond the bound: what does not fit evicts.
        size, _, most = (int(count) for count in self.rows.counts)
        capacity = self.rows.keys.size
        if min(size + n, most) > capacity:
            self.rows = _copied(self.rows, min(max(2 * capacity, size + n), most))
        return self.rows

    def bound(self, max_rows: int) -> None:
        """Keep at most so many rows from now on; if there are more, evict them as an insertion does.

        Raises
        ------
        ValueError
            If `max_rows` is not between 1 and 2**30.
        """
        _check_bound(max_rows)
        self.rows.counts[_MAX_ROWS] = max_rows
        if len(self) > max_rows:
            _evict(self.rows)
            self.rows = _copied(self.rows, max_rows)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return copies of the rows in use: `keys`, `values`, `last_ms`; and `evictions`, an array of one."""
        rows, size = self.rows, len(self)
        return {
            "keys": rows.keys[:size].copy(),
            "values": rows.values[:size].copy(),
            "last_ms": rows.last_ms[:size].copy(),
            "evictions": rows.counts[_EVICTIONS : _EVICTIONS + 1].copy(),
        }


def table_bytes(rows: int, width: int) -> int:
    """Return the bytes of a table with room for so many rows of `width` numbers."""
    return rows * (8 + 8 * width + 8) + 4 * _slot_count(rows)


def _check_bound(max_rows: int) -> None:
    if not 1 <= max_rows <= LARGEST_TABLE:
        msg = f"a table of at most {max_rows} rows cannot be made"
        raise ValueError(msg)


def _slot_count(capacity: int) -> int:
    return 1 << (2 * capacity - 1).bit_length()


def _allocate(capacity: int, width: int, max_rows: int, weighed: int, half_life_ms: float) -> Rows:
    slots = _slot_count(capacity)
    return Rows(
        keys=np.zeros(capacity, dtype=np.uint64),
        values=np.zeros((capacity, width), dtype=np.float64),
        last_ms=np.zeros(capacity, dtype=np.int64),
        slots=np.full(slots, _NO_ROW, dtype=np.int32),
        counts=np.array([0, 0, max_rows], dtype=np.int64),
        weighed=weighed,
        half_life_ms=half_life_ms,
    )


def _copied(rows: Rows, capacity: int) -> Rows:
    size = int(rows.counts[_SIZE])
    width, most = rows.values.shape[1], int(rows.counts[_MAX_ROWS])
    copy = _allocate(capacity, width, most, rows.weighed, rows.half_life_ms)
    copy.keys[:size] = rows.keys[:size]
    copy.values[:size] = rows.values[:size]
    copy.last_ms[:size] = rows.last_ms[:size]
    copy.counts[:] = rows.counts
    _rebuild(copy.keys, copy.slots, size)
    return copy
