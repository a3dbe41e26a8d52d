"""Which transactions repeat an id that was decided on their card within a window of offsets."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from worker.wire.decoder import TransactionColumns

NEVER_DECIDED: Final = -1


def fresh_rows(
    transactions: TransactionColumns, decided_at: NDArray[np.int64], window: int
) -> NDArray[np.bool_]:
    """Return which of n transactions repeat none of the last `window` offsets, decided or in this batch; bool (n,)."""
    slots = np.zeros(1 << (2 * len(transactions)).bit_length(), np.int64)
    fresh = np.empty(len(transactions), np.bool_)
    names = transactions.id_hash, transactions.id_check, transactions.card_hash
    _find_fresh(*names, transactions.offsets, decided_at, window, slots, fresh)
    return fresh


@njit(cache=True, nogil=True)
def _find_fresh(
    id_hash: NDArray[np.uint64],
    id_check: NDArray[np.uint64],
    card_hash: NDArray[np.uint64],
    offsets: NDArray[np.int64],
    decided_at: NDArray[np.int64],
    window: int,
    slots: NDArray[np.int64],
    fresh: NDArray[np.bool_],
) -> None:
    # A hash table of this batch alone, by linear probing; decided_at knows the earlier ones. Offsets, not counts, span
    # the window: a restore sees the same offsets, but not the repeats that were dropped.
    mask = np.uint64(len(slots) - 1)
    for i in range(len(id_hash)):
        decided = decided_at[i]
        slot = id_hash[i] & mask
        # Later ones of one id lie further along the probe: the last match is the newest.
        while slots[slot] != 0:
            j = slots[slot] - 1
            if id_hash[j] == id_hash[i] and id_check[j] == id_check[i] and card_hash[j] == card_hash[i]:
                decided = offsets[j]
            slot = (slot + np.uint64(1)) & mask
        fresh[i] = decided == NEVER_DECIDED or offsets[i] - decided > window
        if fresh[i]:
            slots[slot] = i + 1
