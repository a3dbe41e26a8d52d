"""Features of a transaction: time-decayed counts and sums per entity, and how they become a matrix.

Every aggregate is a sum of contributions x_i * 2**(-(T - t_i) / h) for a half-life h: one multiply-add an event
and no expiry, and linear, so that increments of many workers add up. A row is as of the latest time T it has
seen; an earlier contribution is discounted to its own time, and a read for an earlier time is as of T.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import exp2, log
from models.tables import Rows, RowTable, find, find_or_insert
from models.vocabulary import MS_PER_DAY

Arrays = Mapping[str, NDArray[np.generic]]

_MS_PER_HOUR: Final = 3_600_000
_CATEGORY_MASK: Final = np.uint64(2**24 - 1)

# Columns of a card's row.
_COUNT: Final = 0  # three, by half-life
_SUM_SHORT: Final = 3
_SUM_LONG: Final = 4
_SQUARES: Final = 5
_LARGE: Final = 6
_WINDOW: Final = 7
_WINDOWS_SEEN: Final = 8
_CARD_WIDTH: Final = 9
# Columns of another entity's row.
_RATE_SHORT: Final = 0
_RATE_LONG: Final = 1
_FRAUDS: Final = 2  # three, by half-life
_LEGITS: Final = 5  # three
_ENTITY_WIDTH: Final = 8

_CARD_FEATURES: Final = 8
_ENTITY_FEATURES: Final = 6
_LARGE_RATIO: Final = 2.2
_NOTHING: Final = 1e-6
_WINDOWS_KEPT: Final = 50
_SALT: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """The fields a deployment declares beyond card, time and amount.

    Attributes
    ----------
    numeric, categorical, entities
        Names of the declared fields, in the order of their columns; `entities` without the card.
    half_lives_days
        Short, middle and long half-life of every aggregate, in days of event time.

    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    entities: tuple[str, ...]
    half_lives_days: tuple[float, float, float] = (1.0, 5.0, 20.0)

    def decays_per_ms(self) -> NDArray[np.float64]:
        """Return the reciprocal half-lives in 1/ms, shape (3,)."""
        return 1.0 / (np.array(self.half_lives_days) * MS_PER_DAY)


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """What the columns of the feature matrix are.

    Attributes
    ----------
    names
        One identifier a column.
    texts
        The same for a reader: what a reason code says.
    categorical
        bool (F,): which columns hold categories rather than numbers.

    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    categorical: NDArray[np.bool_]

    @classmethod
    def from_spec(cls, spec: FeatureSpec) -> FeatureLayout:
        """Lay out the columns: amount, card, shared, hour, numeric, categorical."""
        columns = [
            ("amount", "amount"),
            *_card_columns(spec),
            *_shared_columns(spec),
            ("hour", "hour of day (UTC)"),
        ]
        columns += [(name, name) for name in spec.numeric + spec.categorical]
        categorical = np.zeros(len(columns), dtype=np.bool_)
        categorical[len(columns) - len(spec.categorical) :] = True
        return cls(tuple(name for name, _ in columns), tuple(text for _, text in columns), categorical)


def _card_columns(spec: FeatureSpec) -> list[tuple[str, str]]:
    short, middle, long = (f"{days:g}" for days in spec.half_lives_days)
    counts = [
        (f"card_count_{days}d", f"the card's recent transactions (half-life {days} days)")
        for days in (short, middle, long)
    ]
    return [
        ("card_amount_ratio", "amount against the card's own mean"),
        ("card_amount_deviation", "amount in standard deviations from the card's own mean"),
        (
            "card_mean_ratio",
            f"the card's recent mean amount ({short} days) against its long one ({long} days)",
        ),
        *counts,
        ("card_mean", "the card's own mean amount"),
        ("card_large_count", "the card's recent amounts far above its own mean"),
    ]


def _shared_columns(spec: FeatureSpec) -> list[tuple[str, str]]:
    columns = [("card_frauds", "frauds reported lately on the card")]
    for entity in spec.entities:
        columns += [
            (
                f"{entity}_fraud_odds_{days:g}d",
                f"{entity}: frauds against legitimate ones (half-life {days:g} days)",
            )
            for days in spec.half_lives_days
        ]
        columns += [
            (f"{entity}_labels", f"{entity}: transactions whose truth became known lately"),
            (f"{entity}_frauds", f"{entity}: frauds reported lately"),
            (f"{entity}_rate_ratio", f"{entity}: recent traffic against its usual traffic"),
        ]
    return columns


@njit(cache=True, nogil=True)
def _advance(
    rows: Rows,
    card_hash: NDArray[np.uint64],
    event_time_ms: NDArray[np.int64],
    amount: NDArray[np.float64],
    window_ms: int,
    decays: NDArray[np.float64],
    out: NDArray[np.float32],
    first: NDArray[np.bool_],
) -> None:
    for i in range(card_hash.size):
        if card_hash[i] == 0:
            continue
        row = find_or_insert(rows, card_hash[i], event_time_ms[i])
        v = rows.values[row]
        elapsed_ms = event_time_ms[i] - rows.last_ms[row]
        short = exp2(-abs(elapsed_ms) * decays[0])
        middle = exp2(-abs(elapsed_ms) * decays[1])
        long = exp2(-abs(elapsed_ms) * decays[2])
        if elapsed_ms >= 0:
            rows.last_ms[row] = event_time_ms[i]
            v[_COUNT] *= short
            v[_COUNT + 1] *= middle
            v[_COUNT + 2] *= long
            v[_SUM_SHORT] *= short
            v[_SUM_LONG] *= long
            v[_SQUARES] *= long
            v[_LARGE] *= middle
            short = middle = long = 1.0
        ratio = _card_features(v, amount[i], out[i])
        v[_COUNT] += short
        v[_COUNT + 1] += middle
        v[_COUNT + 2] += long
        v[_SUM_SHORT] += short * amount[i]
        v[_SUM_LONG] += long * amount[i]
        v[_SQUARES] += long * amount[i] * amount[i]
        if ratio > _LARGE_RATIO:
            v[_LARGE] += middle
        first[i] = _first_of_window(v, event_time_ms[i] // window_ms)


@njit(cache=True, nogil=True)
def _card_features(v: NDArray[np.float64], amount: float, out: NDArray[np.float32]) -> float:
    """Write the features of one card's row and return the amount against the card's mean."""
    ratio = np.nan
    count = v[_COUNT + 2]
    if count > _NOTHING:
        mean = v[_SUM_LONG] / count
        out[6] = mean
        if mean > 0.0:
            ratio = amount / mean
            variance = v[_SQUARES] / count - mean * mean
            if variance > _NOTHING * mean * mean:
                out[1] = (amount - mean) / np.sqrt(variance)
            if v[_COUNT] > _NOTHING:
                out[2] = v[_SUM_SHORT] / v[_COUNT] / mean
    out[0] = ratio
    out[3] = v[_COUNT]
    out[4] = v[_COUNT + 1]
    out[5] = v[_COUNT + 2]
    out[7] = v[_LARGE]
    return ratio


@njit(cache=True, nogil=True)
def _first_of_window(v: NDArray[np.float64], window: int) -> bool:
    """Whether no transaction of this window came before; of windows long past, one is taken to have come."""
    back = np.int64(v[_WINDOW]) - window
    seen = np.int64(v[_WINDOWS_SEEN])
    if seen == 0 or back < 0:
        shifted = seen << -back if seen != 0 and back > -_WINDOWS_KEPT else 0
        v[_WINDOW] = window
        v[_WINDOWS_SEEN] = (shifted & ((1 << _WINDOWS_KEPT) - 1)) | 1
        return True
    if back >= _WINDOWS_KEPT or (seen >> back) & 1:
        return False
    v[_WINDOWS_SEEN] = seen | (1 << back)
    return True


class CardAggregates:
    """Aggregates of the key entity, the card: the part of the features that belongs to one partition.

    Parameters
    ----------
    spec
        The declared fields and half-lives.
    max_rows
        The most cards kept; beyond it the quarter least recently seen is evicted.

    """

    def __init__(self, spec: FeatureSpec, max_rows: int) -> None:
        self._decays = spec.decays_per_ms()
        self._table = RowTable(_CARD_WIDTH, max_rows)

    def __len__(self) -> int:
        return len(self._table)

    @property
    def evictions(self) -> int:
        """Cards evicted since the table began."""
        return self._table.evictions

    def advance(
        self,
        card_hash: NDArray[np.uint64],
        event_time_ms: NDArray[np.int64],
        amount: NDArray[np.float64],
        window_ms: int,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read each transaction's features as of just before it, then fold it, in the order given.

        Parameters
        ----------
        card_hash
            uint64 (n,); 0 reads as missing and folds nothing.
        event_time_ms, amount
            int64 and float64 (n,).
        window_ms
            Length of a case window.

        Returns
        -------
        tuple
            float32 (n, Fc) in layout order, NaN where unknown, and bool (n,): whether this is the card's first
            transaction in its case window, the window being floor(time / length).

        """
        n = card_hash.size
        out = np.full((n, _CARD_FEATURES), np.nan, dtype=np.float32)
        first = np.zeros(n, dtype=np.bool_)
        _advance(
            self._table.reserve(n),
            _plain(card_hash, np.uint64),
            _plain(event_time_ms, np.int64),
            _plain(amount, np.float64),
            window_ms,
            self._decays,
            out,
            first,
        )
        return out, first

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the state as dense arrays, see `RowTable.arrays`."""
        return self._table.arrays()

    @classmethod
    def from_arrays(cls, spec: FeatureSpec, max_rows: int, arrays: Arrays) -> CardAggregates:
        """Rebuild from `arrays()`; it continues bit-identically.

        Raises
        ------
        ValueError
            If the arrays are not those of card aggregates.

        """
        aggregates = cls(spec, max_rows)
        aggregates._table = RowTable.from_arrays(_CARD_WIDTH, max_rows, arrays)
        return aggregates


@njit(cache=True, nogil=True)
def _entity_key(entity_hash: np.uint64, entity: int) -> np.uint64:
    """Keep equal identifiers of different entities apart."""
    return entity_hash ^ (_SALT * np.uint64(entity + 1))


@njit(cache=True, nogil=True)
def _read(
    cards: Rows,
    entities: Rows,
    card_hash: NDArray[np.uint64],
    entity_hash: NDArray[np.uint64],
    event_time_ms: NDArray[np.int64],
    decays: NDArray[np.float64],
    out: NDArray[np.float32],
) -> None:
    for i in range(card_hash.size):
        t = event_time_ms[i]
        if card_hash[i] != 0:
            row = find(cards, card_hash[i])
            elapsed_ms = max(0, t - cards.last_ms[row]) if row >= 0 else 0
            out[i, 0] = max(0.0, cards.values[row, 0] * exp2(-elapsed_ms * decays[2])) if row >= 0 else 0.0
        for e in range(entity_hash.shape[1]):
            if entity_hash[i, e] != 0:
                row = find(entities, _entity_key(entity_hash[i, e], e))
                _entity_features(entities, row, t, decays, out[i, 1 + e * _ENTITY_FEATURES :])


@njit(cache=True, nogil=True)
def _entity_features(
    rows: Rows, row: int, at_ms: int, decays: NDArray[np.float64], out: NDArray[np.float32]
) -> None:
    elapsed_ms = max(0, at_ms - rows.last_ms[row]) if row >= 0 else 0
    labels = frauds = 0.0
    for h in range(3):
        factor = exp2(-elapsed_ms * decays[h]) if row >= 0 else 0.0
        frauds = max(0.0, rows.values[row, _FRAUDS + h] * factor)
        legits = max(0.0, rows.values[row, _LEGITS + h] * factor)
        labels = frauds + legits
        out[h] = log((frauds + 0.02) / (legits + 1.0))
    out[3] = labels
    out[4] = frauds
    if row >= 0 and rows.values[row, _RATE_LONG] * exp2(-elapsed_ms * decays[2]) > _NOTHING:
        relative = exp2(-elapsed_ms * (decays[0] - decays[2])) * decays[0] / decays[2]
        out[5] = rows.values[row, _RATE_SHORT] / rows.values[row, _RATE_LONG] * relative


@njit(cache=True, nogil=True)
def _row_as_of(rows: Rows, key: np.uint64, at_ms: int, decays: NDArray[np.float64]) -> int:
    """Find or insert an entity's row and move it on to a time, if that lies ahead of it."""
    row = find_or_insert(rows, key, at_ms)
    elapsed_ms = at_ms - rows.last_ms[row]
    if elapsed_ms > 0:
        rows.last_ms[row] = at_ms
        rows.values[row, _RATE_SHORT] *= exp2(-elapsed_ms * decays[0])
        rows.values[row, _RATE_LONG] *= exp2(-elapsed_ms * decays[2])
        for h in range(3):
            factor = exp2(-elapsed_ms * decays[h])
            rows.values[row, _FRAUDS + h] *= factor
            rows.values[row, _LEGITS + h] *= factor
    return row


@njit(cache=True, nogil=True)
def _fold_transactions(
    entities: Rows,
    entity_hash: NDArray[np.uint64],
    event_time_ms: NDArray[np.int64],
    decays: NDArray[np.float64],
) -> None:
    for i in range(entity_hash.shape[0]):
        for e in range(entity_hash.shape[1]):
            if entity_hash[i, e] != 0:
                row = _row_as_of(entities, _entity_key(entity_hash[i, e], e), event_time_ms[i], decays)
                late_ms = entities.last_ms[row] - event_time_ms[i]
                entities.values[row, _RATE_SHORT] += exp2(-late_ms * decays[0])
                entities.values[row, _RATE_LONG] += exp2(-late_ms * decays[2])


@njit(cache=True, nogil=True)
def _fold_evidence(
    cards: Rows,
    entities: Rows,
    hashes: NDArray[np.uint64],
    frauds: NDArray[np.float64],
    legits: NDArray[np.float64],
    at_ms: NDArray[np.int64],
    decays: NDArray[np.float64],
) -> None:
    for i in range(hashes.shape[0]):
        if hashes[i, 0] != 0 and frauds[i] != 0.0:
            row = find_or_insert(cards, hashes[i, 0], at_ms[i])
            elapsed_ms = at_ms[i] - cards.last_ms[row]
            factor = exp2(-abs(elapsed_ms) * decays[2])
            if elapsed_ms >= 0:
                cards.last_ms[row] = at_ms[i]
                cards.values[row, 0] = cards.values[row, 0] * factor + frauds[i]
            else:
                cards.values[row, 0] += frauds[i] * factor
        for e in range(hashes.shape[1] - 1):
            if hashes[i, 1 + e] != 0:
                row = _row_as_of(entities, _entity_key(hashes[i, 1 + e], e), at_ms[i], decays)
                late_ms = entities.last_ms[row] - at_ms[i]
                for h in range(3):
                    weight = exp2(-late_ms * decays[h])
                    entities.values[row, _FRAUDS + h] += weight * frauds[i]
                    entities.values[row, _LEGITS + h] += weight * legits[i]


class SharedAggregates:
    """What all workers know together: traffic of the other entities and label evidence of every entity.

    Parameters
    ----------
    spec
        The declared fields and half-lives.
    max_rows
        The most rows kept, of the other entities together and again of cards with frauds.

    """

    def __init__(self, spec: FeatureSpec, max_rows: int) -> None:
        self._decays = spec.decays_per_ms()
        self._entities = RowTable(_ENTITY_WIDTH, max_rows)
        self._cards = RowTable(1, max_rows)

    def __len__(self) -> int:
        return len(self._entities) + len(self._cards)

    @property
    def evictions(self) -> int:
        """Rows evicted since the tables began."""
        return self._entities.evictions + self._cards.evictions

    def read(
        self,
        card_hash: NDArray[np.uint64],
        entity_hash: NDArray[np.uint64],
        event_time_ms: NDArray[np.int64],
        amount: NDArray[np.float64],  # noqa: ARG002
    ) -> NDArray[np.float32]:
        """Read the shared features of n transactions; changes nothing.

        Parameters
        ----------
        card_hash, entity_hash
            uint64 (n,) and (n, E); 0 reads as missing.
        event_time_ms, amount
            int64 and float64 (n,).

        Returns
        -------
        NDArray[np.float32]
            Shape (n, Fs) in layout order, NaN where unknown.

        """
        n, entities = entity_hash.shape
        out = np.full((n, 1 + entities * _ENTITY_FEATURES), np.nan, dtype=np.float32)
        _read(
            self._cards.rows,
            self._entities.rows,
            _plain(card_hash, np.uint64),
            _plain(entity_hash, np.uint64),
            _plain(event_time_ms, np.int64),
            self._decays,
            out,
        )
        return out

    def fold_transactions(
        self,
        entity_hash: NDArray[np.uint64],
        event_time_ms: NDArray[np.int64],
        amount: NDArray[np.float64],  # noqa: ARG002
    ) -> None:
        """Add n transactions to the traffic of their entities: uint64 (n, E), int64 and float64 (n,)."""
        rows = self._entities.reserve(entity_hash.size)
        _fold_transactions(
            rows, _plain(entity_hash, np.uint64), _plain(event_time_ms, np.int64), self._decays
        )

    def fold_evidence(
        self,
        hashes: NDArray[np.uint64],
        frauds: NDArray[np.float64],
        legits: NDArray[np.float64],
        at_ms: NDArray[np.int64],
    ) -> None:
        """Add increments of label evidence, each decaying from the time it was learnt.

        Parameters
        ----------
        hashes
            uint64 (m, 1 + E), the card first; 0 folds nothing. Cards keep frauds only.
        frauds, legits
            float64 (m,); negative to move evidence back.
        at_ms
            int64 (m,): when each increment was learnt.

        """
        _fold_evidence(
            self._cards.reserve(hashes.shape[0]),
            self._entities.reserve(hashes.size - hashes.shape[0]),
            _plain(hashes, np.uint64),
            _plain(frauds, np.float64),
            _plain(legits, np.float64),
            _plain(at_ms, np.int64),
            self._decays,
        )

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the state as dense arrays: those of both tables, prefixed `cards_` and `entities_`."""
        tables = {"cards": self._cards, "entities": self._entities}
        return {
            f"{name}_{key}": array for name, table in tables.items() for key, array in table.arrays().items()
        }

    @classmethod
    def from_arrays(cls, spec: FeatureSpec, max_rows: int, arrays: Arrays) -> SharedAggregates:
        """Rebuild from `arrays()`; it continues bit-identically.

        Raises
        ------
        ValueError
            If the arrays are not those of shared aggregates.

        """
        aggregates = cls(spec, max_rows)
        cards = {key.removeprefix("cards_"): array for key, array in arrays.items()}
        entities = {key.removeprefix("entities_"): array for key, array in arrays.items()}
        aggregates._cards = RowTable.from_arrays(1, max_rows, cards)
        aggregates._entities = RowTable.from_arrays(_ENTITY_WIDTH, max_rows, entities)
        return aggregates


def assemble(
    layout: FeatureLayout,
    spec: FeatureSpec,
    card_block: NDArray[np.float32],
    shared_block: NDArray[np.float32],
    amount: NDArray[np.float64],
    event_time_ms: NDArray[np.int64],
    numeric: NDArray[np.float64],
    categorical: NDArray[np.uint64],
) -> NDArray[np.float32]:
    """Put the blocks and the declared fields together.

    Parameters
    ----------
    layout, spec
        The layout and the specification it was made from.
    card_block, shared_block
        float32 (n, Fc) and (n, Fs).
    amount, event_time_ms
        float64 and int64 (n,).
    numeric
        float64 (n, N), NaN where missing.
    categorical
        uint64 (n, C) hashes, 0 where missing.

    Returns
    -------
    NDArray[np.float32]
        Shape (n, F) in layout order, NaN where missing.

    """
    x = np.empty((amount.size, len(layout.names)), dtype=np.float32)
    hour = event_time_ms % MS_PER_DAY / _MS_PER_HOUR
    categories = np.where(categorical == 0, np.nan, (categorical & _CATEGORY_MASK).astype(np.float32))
    at = 0
    for block in (amount[:, None], card_block, shared_block, hour[:, None], numeric, categories):
        x[:, at : at + block.shape[1]] = block
        at += block.shape[1]
    return x


def _plain(array: NDArray[np.generic], dtype: type[np.generic]) -> NDArray[np.generic]:
    """Contiguous and writeable: anything else would be compiled for anew, in the middle of a stream."""
    return np.require(array, dtype, ("C", "W"))
