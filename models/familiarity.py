"""Compiled fold and read of what is familiar to a card: how often it has used each value of the other entities.

A row belongs to a card and one value (a merchant, a device), and holds the decayed count of the card's transactions
with it. A value without a row, or whose row has been evicted, is new to the card. Most values are used once, so that a
full table forgets the oldest of these first.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.aggregates import CARD_COUNT_FEATURE, NOTHING, entity_key
from models.arithmetic import exp2
from models.hashing import MISSING
from models.tables import LARGEST_TABLE, Rows, find_or_insert

WIDTH: Final = 1
COUNT: Final = 0
_VALUES_PER_CARD: Final = 4
"""There is room for so many values of a card and entity, on average over a full table of cards and all entities."""
_OF_CARD: Final = np.uint64(0xC13FA9A902A6328F)
"""An odd constant with well-mixed bits (2**64 over the plastic number)."""


def most_rows(max_cards: int, entity_count: int) -> int:
    """Return how many values of all cards and entities are remembered at most; a table has room for one at least."""
    return min(max(_VALUES_PER_CARD * max_cards * entity_count, 1), LARGEST_TABLE)


@njit(cache=True, nogil=True)
def advance_familiarity(
    rows: Rows,
    card_hash: NDArray[np.uint64],
    entity_hash: NDArray[np.uint64],
    event_time_ms: NDArray[np.int64],
    decay: float,
    out: NDArray[np.float32],
) -> None:
    """Write what share of its card's transactions had each value, as of just before each transaction, then fold it.

    `out` is the card's block of features, whose last columns are the shares; the decayed count of the card's
    transactions stands there already. `decay` is the reciprocal of the half-life of both counts in 1/ms. To a card
    without history nothing is new.
    """
    first = out.shape[1] - entity_hash.shape[1]
    for i in range(card_hash.size):
        if card_hash[i] == MISSING:
            continue
        count = out[i, CARD_COUNT_FEATURE]
        for e in range(entity_hash.shape[1]):
            if entity_hash[i, e] == MISSING:
                continue
            key = (card_hash[i] * _OF_CARD) ^ entity_key(entity_hash[i, e], e)
            row = find_or_insert(rows, key, event_time_ms[i])
            elapsed_ms = event_time_ms[i] - rows.last_ms[row]
            # The same factor discounts the row to the event, or an event that comes late to the row.
            factor = exp2(-abs(elapsed_ms) * decay)
            if elapsed_ms >= 0:
                rows.last_ms[row] = event_time_ms[i]
                rows.values[row, COUNT] *= factor
                factor = 1.0
            if count > NOTHING:
                # For an event that comes late the card's count may be as of a later time than the value's, and a card
                # that was evicted begins anew while its values stay.
                out[i, first + e] = min(1.0, rows.values[row, COUNT] / count)
            rows.values[row, COUNT] += factor
