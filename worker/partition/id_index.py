"""The index of a segment's transaction ids: a hash table of its rows, and before it a Bloom filter.

A label that does not say when its transaction was is looked for in every segment, of which a year has thousands. The
filter answers for most that do not have it, and a search in ascending order of the ids goes through it in one line.
"""

from __future__ import annotations

from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

ROWS_A_WORD: Final = 8
"""Of the filter: so it takes a byte a row, and answers for 97 of 100 ids that are not in the segment."""

NOWHERE: Final = -1
ANOTHER_CARD: Final = -2
"""In the place of a row: the id is not there, or there on other cards alone."""


@numba.njit(cache=True, nogil=True)
def _word(id_hash: np.uint64, words: int) -> np.uint64:
    """Return an id's word of the filter: ascending ids have ascending words."""
    return ((id_hash >> np.uint64(32)) * np.uint64(words)) >> np.uint64(32)


@numba.njit(cache=True, nogil=True)
def _bits(id_hash: np.uint64) -> np.uint64:
    """Return an id's three bits of its word, by parts of the hash that choose neither the word nor the slot."""
    one, last = np.uint64(1), np.uint64(63)
    bits = one << ((id_hash >> np.uint64(20)) & last)
    bits |= one << ((id_hash >> np.uint64(26)) & last)
    return bits | one << ((id_hash >> np.uint64(32)) & last)


@numba.njit(cache=True, nogil=True)
def index_ids(
    slots: NDArray[np.uint32],
    words: NDArray[np.uint64],
    id_hash: NDArray[np.uint64],
    start: int,
    stop: int,
) -> None:
    """Index the rows `start` to `stop` of a segment."""
    # Open addressing with linear probing: twice as many slots as rows, a power of two, so that the hash itself, a
    # keyed one that no sender can aim, is the place. A slot holds row + 1; 0 is free.
    mask = np.uint64(len(slots) - 1)
    for row in range(start, stop):
        slot = id_hash[row] & mask
        while slots[slot] != 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = row + 1
        words[_word(id_hash[row], len(words))] |= _bits(id_hash[row])


@numba.njit(cache=True, nogil=True)
def find_ids(  # noqa: PLR0913 - arrays of one segment and of the search
    slots: NDArray[np.uint32],
    words: NDArray[np.uint64],
    id_hash: NDArray[np.uint64],
    id_check: NDArray[np.uint64],
    card: NDArray[np.uint64],
    wanted_hash: NDArray[np.uint64],
    wanted_check: NDArray[np.uint64],
    wanted_card: NDArray[np.uint64],
    found: NDArray[np.int64],
) -> None:
    """Write the newest row of each wanted id on its card into `found`, int64 (m,).

    `NOWHERE` where no card has the id, `ANOTHER_CARD` where only others have it.
    """
    mask = np.uint64(len(slots) - 1)
    for i in range(len(wanted_hash)):
        found[i] = NOWHERE
        # The filter lies close together in memory, slots and rows do not: most segments do not have the id.
        bits = _bits(wanted_hash[i])
        if words[_word(wanted_hash[i], len(words))] & bits != bits:
            continue
        slot = wanted_hash[i] & mask
        # Later decisions of one id lie further along the probe: the last match is the newest.
        while slots[slot] != 0:
            row = np.int64(slots[slot]) - 1
            if id_hash[row] == wanted_hash[i] and id_check[row] == wanted_check[i]:
                if card[row] == wanted_card[i]:
                    found[i] = row
                elif found[i] < 0:
                    found[i] = ANOTHER_CARD
            slot = (slot + np.uint64(1)) & mask
