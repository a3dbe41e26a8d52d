"""Compiled folds and reads of time-decayed aggregates, one row per entity.

A row is as of the latest time T it has seen: its sums are of contributions x_i * 2**(-(T - t_i) / h) for a half-life
h. A contribution from before T is discounted to its own time; a read for a time before T gives the row as of T.
`decays` are the reciprocals of the short, middle and long half-life in 1/ms, float64 (3,).

Where a hash is 0, the value is missing. Rows are folded one after another in the order given: sums of floats depend on
the order, so all workers must add in the same one.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import exp2, log
from models.hashing import MISSING
from models.tables import Rows, find, find_or_insert
from models.vocabulary import BEFORE_SHIFT, LEVEL_SHIFT, MS_PER_DAY, Flag

CARD_WIDTH: Final = 12
CARD_FRAUDS_WIDTH: Final = 1
CARD_FRAUDS: Final = 0
ENTITY_WIDTH: Final = 7
CARD_FEATURES: Final = 10
CARD_COUNT_FEATURE: Final = 7
ENTITY_FEATURES: Final = 6

# Places in `decays`.
_SHORT: Final = 0
_MIDDLE: Final = 1
_LONG: Final = 2
# Columns of a card's row: sums of decayed counts and amounts, then the windows that the card was seen in, what the
# newest of them has reached (a level, and whether the forest would have alerted), and the count of a burst.
_COUNT_SHORT: Final = 0
CARD_COUNT: Final = 1
_SUM: Final = 2
_SQUARES: Final = 3
_USUAL: Final = 4
_EXCESS: Final = 5
_LARGE: Final = 6
_SPREAD: Final = 7
_WINDOW: Final = 8
WINDOWS_SEEN: Final = 9
_REACHED: Final = 10
_COUNT_BURST: Final = 11
# Columns of another entity's row. Frauds have one for each half-life; legits for the short and the middle one.
_RATE_SHORT: Final = 0
ENTITY_COUNT: Final = 1
_FRAUDS: Final = 2
_LEGITS: Final = 5
_LEGIT_HALF_LIVES: Final = 2

# Spreads above the card's usual amount: where an amount is cut, where it counts as large, where its excess begins; and
# the most that the excess of one amount may add. Of a normal distribution, 1.25 spreads are one standard deviation.
_USUAL_LIMIT: Final = 3.0
_LARGE_FROM: Final = 5.0
_EXCESS_FROM: Final = 1.25
_EXCESS_LIMIT: Final = 15.0
_FIRST_SPREAD: Final = 0.4
"""A card's spread as a share of its usual amount, as long as only its first amounts are known."""
_FIRST_WEIGHT: Final = 2.0
"""So many amounts that share weighs as much as."""
FRAUD_PRIOR: Final = 0.02
"""Added to the frauds before the log odds of label evidence are taken; to the legits 1 is added."""
NOTHING: Final = 1e-6
"""A decayed count below this is no history: a quotient of what is left of it would be rounding."""
_NO_AMOUNT: Final = 1e-30
"""A usual amount below this is none: shares of it would be zero or infinite."""
_NO_LEGITS: Final = 1e-12
"""The least count of legits that a logarithm is taken of: about 40 half-lives after a single one."""
BURST_SHARE: Final = 1.0 / 24.0
"""Of the short half-life: that of a burst, an hour where the short one is a day."""
_MS_PER_HOUR: Final = MS_PER_DAY / 24
_LN2: Final = 0.6931471805599453
# Compiled loops take plain numbers for the bits of an enumeration.
_LEVEL: Final = int(Flag.LEVEL)
_FOREST_WOULD: Final = int(Flag.FOREST_WOULD_ALERT)
_OPENS_FOREST_CASE: Final = int(Flag.OPENS_FOREST_CASE)
_WINDOWS_KEPT: Final = 50
"""One bit a window, in a float64 of the row: it holds whole numbers of up to 53 bits."""
_SALT: Final = np.uint64(0x9E3779B97F4A7C15)
"""An odd constant with well-mixed bits (2**64 over the golden ratio)."""


@njit(cache=True, nogil=True)
def advance_cards(
    rows: Rows,
    card_hash: NDArray[np.uint64],
    event_time_ms: NDArray[np.int64],
    amount: NDArray[np.float64],
    window_ms: int,
    decays: NDArray[np.float64],
    out: NDArray[np.float32],
    first: NDArray[np.bool_],
) -> None:
    """Write each transaction's card features as of just before it, then fold it.

    A row sums amounts as they are, and amounts that are cut where they lie far above the mean of such cut amounts: the
    card's usual amount, which a spree does not raise. Far is counted in spreads: the mean absolute deviation of the cut
    amounts from what was usual, so that it suits steady payers and others (Huber, Robust Statistics, 1981).
    """
    for i in range(card_hash.size):
        if card_hash[i] == MISSING:
            continue
        row = find_or_insert(rows, card_hash[i], event_time_ms[i])
        v = rows.values[row]
        elapsed_ms = event_time_ms[i] - rows.last_ms[row]
        # The same factors discount the row to the event, or an event that comes late to the row.
        short = exp2(-abs(elapsed_ms) * decays[_SHORT])
        middle = exp2(-abs(elapsed_ms) * decays[_MIDDLE])
        long = exp2(-abs(elapsed_ms) * decays[_LONG])
        burst = exp2(-abs(elapsed_ms) * decays[_SHORT] / BURST_SHARE)
        if elapsed_ms >= 0:
            rows.last_ms[row] = event_time_ms[i]
            v[_COUNT_BURST] *= burst
            v[_COUNT_SHORT] *= short
            v[_EXCESS] *= short
            v[_LARGE] *= middle
            v[CARD_COUNT] *= long
            v[_SUM] *= long
            v[_SQUARES] *= long
            v[_USUAL] *= long
            v[_SPREAD] *= long
            burst = short = middle = long = 1.0
        x = amount[i]
        count = v[CARD_COUNT]
        usual = v[_USUAL] / count if count > NOTHING else np.nan
        if usual < _NO_AMOUNT:
            usual = 0.0
        _card_features(v, x, usual, elapsed_ms, out[i])
        v[_COUNT_BURST] += burst
        v[_COUNT_SHORT] += short
        v[CARD_COUNT] += long
        v[_SUM] += long * x
        v[_SQUARES] += long * x * x
        if usual > 0.0:
            first_amounts = _FIRST_WEIGHT * _FIRST_SPREAD * usual
            spread = (v[_SPREAD] + first_amounts) / (count + _FIRST_WEIGHT)
            # Of a single amount nobody knows what is far from it: after a charge of a cent, by which shops check
            # cards, all that follows would be cut for months.
            cut = min(x, usual + _USUAL_LIMIT * spread) if count > 1.0 else x
            v[_USUAL] += long * cut
            v[_SPREAD] += long * abs(cut - usual)
            v[_EXCESS] += short * min(max((x - usual) / spread - _EXCESS_FROM, 0.0), _EXCESS_LIMIT)
            v[_LARGE] += middle if x > usual + _LARGE_FROM * spread else 0.0
        else:
            v[_USUAL] += long * x
            v[_SPREAD] += long * _FIRST_SPREAD * x
        first[i] = _first_of_window(v, event_time_ms[i] // window_ms)


@njit(cache=True, nogil=True)
def _card_features(
    v: NDArray[np.float64], amount: float, usual: float, elapsed_ms: int, out: NDArray[np.float32]
) -> None:
    count = v[CARD_COUNT]
    if count > NOTHING:
        mean = v[_SUM] / count
        variance = v[_SQUARES] / count - mean * mean
        out[0] = amount / usual if usual > 0.0 else np.nan
        out[1] = amount / mean if mean >= _NO_AMOUNT else np.nan
        # The variance is a difference of large numbers: for equal amounts only rounding is left of it.
        out[2] = (amount - mean) / np.sqrt(variance) if variance > NOTHING * mean * mean else np.nan
        out[3] = usual
        out[9] = max(elapsed_ms, 0) / _MS_PER_HOUR
    out[4] = v[_EXCESS]
    out[5] = v[_LARGE]
    out[6] = v[_COUNT_SHORT]
    out[CARD_COUNT_FEATURE] = count
    out[8] = v[_COUNT_BURST]


@njit(cache=True, nogil=True)
def _first_of_window(v: NDArray[np.float64], window: int) -> bool:
    """Return whether the row has seen no transaction of this window; of a window long past it is taken to have.

    Bit k of what was seen is the window k before the newest one.
    """
    back = np.int64(v[_WINDOW]) - window
    seen = np.int64(v[WINDOWS_SEEN])
    if seen == 0 or back < 0:
        shifted = seen << -back if seen != 0 and back > -_WINDOWS_KEPT else 0
        v[_WINDOW] = window
        v[_REACHED] = 0.0
        v[WINDOWS_SEEN] = (shifted & ((1 << _WINDOWS_KEPT) - 1)) | 1
        return True
    if back >= _WINDOWS_KEPT or (seen >> back) & 1:
        return False
    v[WINDOWS_SEEN] = seen | (1 << back)
    return True


@njit(cache=True, nogil=True)
def reach_cards(
    rows: Rows,
    card_hash: NDArray[np.uint64],
    event_time_ms: NDArray[np.int64],
    flags: NDArray[np.uint16],
    window_ms: int,
    bits: NDArray[np.uint16],
) -> None:
    """Write what the card's window had reached before each transaction, then raise it; see `models.payoff`."""
    for i in range(card_hash.size):
        would = flags[i] & (_LEVEL | _FOREST_WOULD)
        if would == 0:
            continue
        row = find(rows, card_hash[i])
        here = row >= 0 and np.int64(rows.values[row, _WINDOW]) == event_time_ms[i] // window_ms
        reached = np.int64(rows.values[row, _REACHED]) if here else 0
        bits[i] = (reached & _LEVEL) << BEFORE_SHIFT - LEVEL_SHIFT
        if would & ~reached & _FOREST_WOULD:
            bits[i] |= _OPENS_FOREST_CASE
        if here:
            level = max(reached & _LEVEL, would & _LEVEL)
            rows.values[row, _REACHED] = level | (reached | would) & _FOREST_WOULD


@njit(cache=True, nogil=True)
def entity_key(entity_hash: np.uint64, entity: int) -> np.uint64:
    """Keep equal identifiers of different entities apart."""
    return entity_hash ^ (_SALT * np.uint64(entity + 1))


@njit(cache=True, nogil=True)
def read_shared(
    cards: Rows,
    entities: Rows,
    card_hash: NDArray[np.uint64],
    entity_hash: NDArray[np.uint64],
    event_time_ms: NDArray[np.int64],
    decays: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    """Write the frauds of each card and the features of each entity, as of the event time."""
    for i in range(card_hash.size):
        if card_hash[i] != MISSING:
            row = find(cards, card_hash[i])
            frauds = 0.0
            if row >= 0:
                elapsed_ms = max(0, event_time_ms[i] - cards.last_ms[row])
                # Evidence may be taken back from a row that was evicted in between: no sum reads below 0.
                frauds = max(0.0, cards.values[row, CARD_FRAUDS] * exp2(-elapsed_ms * decays[_LONG]))
            out[i, 0] = frauds
        for e in range(entity_hash.shape[1]):
            if entity_hash[i, e] != MISSING:
                row = find(entities, entity_key(entity_hash[i, e], e))
                at = 1 + e * ENTITY_FEATURES
                _entity_features(entities, row, event_time_ms[i], decays, out[i, at : at + ENTITY_FEATURES])


@njit(cache=True, nogil=True)
def _entity_features(
    rows: Rows, row: int, at_ms: int, decays: NDArray[np.float64], out: NDArray[np.float32]
) -> None:
    v = rows.values[row] if row >= 0 else np.zeros(ENTITY_WIDTH)
    elapsed_ms = max(0, at_ms - rows.last_ms[row]) if row >= 0 else 0
    short = exp2(-elapsed_ms * decays[_SHORT])
    middle = exp2(-elapsed_ms * decays[_MIDDLE])
    long = exp2(-elapsed_ms * decays[_LONG])
    frauds = max(0.0, v[_FRAUDS] * short)
    legits = max(0.0, v[_LEGITS] * short)
    out[0] = _log_odds(frauds, legits)
    out[1] = _log_odds(max(0.0, v[_FRAUDS + 1] * middle), max(0.0, v[_LEGITS + 1] * middle))
    # Unsmoothed: the last labels outweigh all older ones, and show best what goes on now.
    out[2] = frauds / (frauds + legits) if frauds + legits > _NO_LEGITS else np.nan
    out[3] = -log(max(legits, _NO_LEGITS)) / (_LN2 * decays[_SHORT] * MS_PER_DAY)
    out[4] = max(0.0, v[_FRAUDS + 2] * long)
    # A decayed count times its decay is a rate: both half-lives become comparable.
    if v[ENTITY_COUNT] * long > NOTHING:
        out[5] = v[_RATE_SHORT] * short * decays[_SHORT] / (v[ENTITY_COUNT] * long * decays[_LONG])


@njit(cache=True, nogil=True)
def _log_odds(frauds: float, legits: float) -> float:
    # Without any label it is the log odds of a prior of one fraud in 51.
    return log((frauds + FRAUD_PRIOR) / (legits + 1.0))


@njit(cache=True, nogil=True)
def _row_as_of(rows: Rows, key: np.uint64, at_ms: int, decays: NDArray[np.float64]) -> int:
    """Find or insert an entity's row; decay it to `at_ms` if that lies ahead of it."""
    row = find_or_insert(rows, key, at_ms)
    elapsed_ms = at_ms - rows.last_ms[row]
    if elapsed_ms > 0:
        rows.last_ms[row] = at_ms
        rows.values[row, _RATE_SHORT] *= exp2(-elapsed_ms * decays[_SHORT])
        rows.values[row, ENTITY_COUNT] *= exp2(-elapsed_ms * decays[_LONG])
        for h in range(3):
            factor = exp2(-elapsed_ms * decays[h])
            rows.values[row, _FRAUDS + h] *= factor
            if h < _LEGIT_HALF_LIVES:
                rows.values[row, _LEGITS + h] *= factor
    return row


@njit(cache=True, nogil=True)
def fold_traffic(
    entities: Rows,
    entity_hash: NDArray[np.uint64],
    event_time_ms: NDArray[np.int64],
    decays: NDArray[np.float64],
) -> None:
    """Add transactions to the traffic of their entities."""
    for i in range(entity_hash.shape[0]):
        for e in range(entity_hash.shape[1]):
            if entity_hash[i, e] != MISSING:
                row = _row_as_of(entities, entity_key(entity_hash[i, e], e), event_time_ms[i], decays)
                late_ms = entities.last_ms[row] - event_time_ms[i]
                entities.values[row, _RATE_SHORT] += exp2(-late_ms * decays[_SHORT])
                entities.values[row, ENTITY_COUNT] += exp2(-late_ms * decays[_LONG])


@njit(cache=True, nogil=True)
def fold_labels(
    cards: Rows,
    entities: Rows,
    hashes: NDArray[np.uint64],
    frauds: NDArray[np.float64],
    legits: NDArray[np.float64],
    at_ms: NDArray[np.int64],
    decays: NDArray[np.float64],
) -> None:
    """Add label evidence to the cards, the first column of `hashes`, and to the other entities.

    Evidence taken back has the date at which it was learnt, so it decays as that did and cancels it.
    """
    for i in range(hashes.shape[0]):
        if hashes[i, 0] != MISSING and frauds[i] != 0.0:
            row = find_or_insert(cards, hashes[i, 0], at_ms[i])
            elapsed_ms = at_ms[i] - cards.last_ms[row]
            factor = exp2(-abs(elapsed_ms) * decays[_LONG])
            if elapsed_ms >= 0:
                cards.last_ms[row] = at_ms[i]
                cards.values[row, CARD_FRAUDS] = cards.values[row, CARD_FRAUDS] * factor + frauds[i]
            else:
                cards.values[row, CARD_FRAUDS] += frauds[i] * factor
        for e in range(hashes.shape[1] - 1):
            if hashes[i, 1 + e] != MISSING:
                row = _row_as_of(entities, entity_key(hashes[i, 1 + e], e), at_ms[i], decays)
                late_ms = entities.last_ms[row] - at_ms[i]
                for h in range(3):
                    weight = exp2(-late_ms * decays[h])
                    entities.values[row, _FRAUDS + h] += weight * frauds[i]
                    if h < _LEGIT_HALF_LIVES:
                        entities.values[row, _LEGITS + h] += weight * legits[i]
