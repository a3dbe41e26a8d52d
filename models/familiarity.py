"""Compiled fold and read of what is familiar to a card: how often it has used each value of the other entities.

A row belongs to a card and one value (a merchant, a device), and holds the decayed count of the card's transactions
with it. A value without a row, or whose row has been evicted, is new to the card.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import exp2
from models.hashing import MISSING
from models.tables import LARGEST_TABLE, Rows, find_or_insert

WIDTH: Final = 1
COUNT: Final = 0
_VALUES_PER_CARD: Final = 4
"""So many values of each entity may be remembered of a card, on average over a full table of cards."""
_NOTHING: Final = 1e-6
"""A card whose decayed count is below this has no history, as in `models.aggregates`."""
# Odd constants with well-mixed bits (2**64 over the golden ratio and over the plastic number).
_OF_ENTITY: Final = np.uint64(0x9E3779B97F4A7C15)
_OF_CARD: Final = np.uint64(0xC13FA9A902A6328F)


def most_rows(max_cards: int, entity_count: int) -> int:
    """Return how many values of all cards and entities are remembered at most; a table has room for one at least."""
    return min(max(_VALUES_PER_CARD * max_cards * entity_count, 1), LARGEST_TABLE)


@njit(cache=True, nogil=True)
def advance_familiarity(
    rows: Rows,
    card_hash: NDArray[np.uint64],
    entity_hash: NDArray[np.uint64],
    event_time_ms: NDArray[np.int64],
    card_count: NDArray[np.float32],
    decay: float,
    out: NDArray[np.float32],
) -> None:
    """Write what share of its card's transactions had each value, as of just before each transaction, then fold it.

    `card_count` is the decayed count of the card's transactions just before, float32 (n,), and `decay` the reciprocal
    of its half-life in 1/ms. A card without history has no share of anything: nothing is new to it either.
    """
    for i in range(card_hash.size):
        if card_hash[i] == MISSING:
            continue
        for e in range(entity_hash.shape[1]):
            if entity_hash[i, e] == MISSING:
                continue
            row = find_or_insert(rows, _key(card_hash[i], entity_hash[i, e], e), event_time_ms[i])
            elapsed_ms = event_time_ms[i] - rows.last_ms[row]
            # The same factor discounts the row to the event, or an event that comes late to the row.
            factor = exp2(-abs(elapsed_ms) * decay)
            if elapsed_ms >= 0:
                rows.last_ms[row] = event_time_ms[i]
                rows.values[row, COUNT] *= factor
                factor = 1.0
            if card_count[i] > _NOTHING:
                # A value counts as of the card's latest transaction with it, the card as of its latest of all.
                out[i, e] = min(1.0, rows.values[row, COUNT] / card_count[i])
            rows.values[row, COUNT] += factor


@njit(cache=True, nogil=True)
def _key(card_hash: np.uint64, entity_hash: np.uint64, entity: int) -> np.uint64:
    """Keep equal identifiers of different entities apart, and a value from another one of another card."""
    return (card_hash * _OF_CARD) ^ (entity_hash + _OF_ENTITY * np.uint64(entity + 1))
