"""Time-decayed counts and sums per entity: what the history of cards and other entities gives to the features.

Decayed sums instead of lists of events: constant memory an entity, one multiply-add an event, no expiry, and linear,
so that the sums of many workers add up. The arithmetic is in `models.aggregates`; `models.feature_layout` has the
columns that these fill.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models import aggregates, familiarity, places
from models.feature_layout import FeatureSpec
from models.tables import RowTable

_Scalar = TypeVar("_Scalar", bound=np.generic)


class CardAggregates:
    """Aggregates of the cards: the part of the features that belongs to one partition.

    Parameters
    ----------
    spec
        The declared fields and half-lives.
    max_rows
        The most cards kept; when there are more, the table evicts the quarter it knows the least of. How many of the
        values that they use are kept follows from it, see `models.familiarity`.
    """

    def __init__(self, spec: FeatureSpec, max_rows: int) -> None:
        self._decays = spec.decays_per_ms()
        half_life_ms = spec.long_half_life_ms
        self._table = RowTable(aggregates.CARD_WIDTH, max_rows, aggregates.CARD_COUNT, half_life_ms)
        self._places: RowTable | None = None
        if spec.place:
            self._places = RowTable(places.WIDTH, max_rows, places.COUNT, half_life_ms)
        self._entity_count = len(spec.entities)
        most_values = familiarity.most_rows(max_rows, self._entity_count)
        self._familiar = RowTable(familiarity.WIDTH, most_values, familiarity.COUNT, half_life_ms)
        self._width = spec.card_features

    def __len__(self) -> int:
        return len(self._table)

    @property
    def evictions(self) -> int:
        """The cards evicted since the table began."""
        return self._table.evictions

    @property
    def value_evictions(self) -> int:
        """The values of cards evicted since their table began."""
        return self._familiar.evictions

    def advance(
        self,
        card_hash: NDArray[np.uint64],
        entity_hash: NDArray[np.uint64],
        event_time_ms: NDArray[np.int64],
        amount: NDArray[np.float64],
        window_ms: int,
        place: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Read each transaction's features as of just before it, then fold it, in the order given.

        Parameters
        ----------
        card_hash : uint64 (n,)
            0 reads as missing and folds nothing, here as in `entity_hash`.
        entity_hash : uint64 (n, E)
        event_time_ms : int64 (n,)
        amount : float64 (n,)
        window_ms
            Length of a case window.
        place : float32 (n, 2)
            Degrees of latitude and longitude, NaN where missing; None where the spec declares no place. Single
            precision, as they are journalled: a replay has no other.

        Returns
        -------
        features : float32 (n, Fc)
            In layout order; NaN where unknown.
        first : bool (n,)
            Whether the transaction is its card's first in its case window, floor(time / length).
        """
        n = card_hash.size
        out = np.full((n, self._width), np.nan, dtype=np.float32)
        first = np.zeros(n, dtype=np.bool_)
        hashes, times_ms = _plain(card_hash, np.uint64), _plain(event_time_ms, np.int64)
        amounts = _plain(amount, np.float64)
        table = self._table.reserve(n)
        aggregates.advance_cards(table, hashes, times_ms, amounts, window_ms, self._decays, out, first)
        decay, entities = float(self._decays[-1]), _plain(entity_hash, np.uint64)
        if self._places is not None and place is not None:
            places.advance_places(
                self._places.reserve(n),
                hashes,
                times_ms,
                _plain(place, np.float32),
                decay,
                aggregates.CARD_FEATURES,
                out,
            )
        values = self._familiar.reserve(entities.size)
        familiarity.advance_familiarity(values, hashes, entities, times_ms, decay, out)
        return out, first

    def reach(
        self,
        card_hash: NDArray[np.uint64],
        event_time_ms: NDArray[np.int64],
        flags: NDArray[np.uint16],
        window_ms: int,
    ) -> NDArray[np.uint16]:
        """Note what other policies would have done with n transactions that `advance` has just folded.

        Returns
        -------
        uint16 (n,)
            `Flag.LEVEL_BEFORE`, and `Flag.OPENS_FOREST_CASE` where no earlier transaction of the case window has opened
            it. A transaction of an older window than its card's newest is taken for the first of its window.
        """
        bits = np.zeros(card_hash.size, np.uint16)
        rows = self._table.rows
        aggregates.reach_cards(
            rows, _plain(card_hash, np.uint64), _plain(event_time_ms, np.int64), flags, window_ms, bits
        )
        return bits

    def bound(self, max_rows: int) -> None:
        """Keep at most so many cards from now on, see `RowTable.bound`."""
        self._table.bound(max_rows)
        if self._places is not None:
            self._places.bound(max_rows)
        self._familiar.bound(familiarity.most_rows(max_rows, self._entity_count))

    def forget_windows(self) -> None:
        """Begin the case windows anew: their length has changed."""
        self._table.rows.values[:, aggregates.WINDOWS_SEEN] = 0.0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as dense arrays, see `RowTable.arrays`.

        Those of the familiar values are named `familiar_...`, those of the places `place_...`.
        """
        state = self._table.arrays() | _named("familiar", self._familiar)
        return state if self._places is None else state | _named("place", self._places)


class SharedAggregates:
    """What all workers share: traffic of the other entities, and label evidence of every entity.

    Parameters
    ----------
    spec
        The declared fields and half-lives.
    max_rows
        The most rows of either table: the other entities together, and the cards with frauds.
    """

    def __init__(self, spec: FeatureSpec, max_rows: int) -> None:
        self._decays = spec.decays_per_ms()
        half_life_ms = spec.long_half_life_ms
        self._entities = RowTable(aggregates.ENTITY_WIDTH, max_rows, aggregates.ENTITY_COUNT, half_life_ms)
        self._cards = RowTable(aggregates.CARD_FRAUDS_WIDTH, max_rows, aggregates.CARD_FRAUDS, half_life_ms)

    def __len__(self) -> int:
        return len(self._entities) + len(self._cards)

    @property
    def evictions(self) -> int:
        """The rows evicted since the tables began."""
        return self._entities.evictions + self._cards.evictions

    def read(
        self,
        card_hash: NDArray[np.uint64],
        entity_hash: NDArray[np.uint64],
        event_time_ms: NDArray[np.int64],
    ) -> NDArray[np.float32]:
        """Read the shared features of n transactions; change nothing.

        Parameters
        ----------
        card_hash : uint64 (n,)
            0 reads as missing, here as in `entity_hash`.
        entity_hash : uint64 (n, E)
        event_time_ms : int64 (n,)

        Returns
        -------
        float32 (n, Fs)
            In layout order; NaN where unknown.
        """
        features = 1 + entity_hash.shape[1] * aggregates.ENTITY_FEATURES
        out = np.full((entity_hash.shape[0], features), np.nan, dtype=np.float32)
        aggregates.read_shared(
            self._cards.rows,
            self._entities.rows,
            _plain(card_hash, np.uint64),
            _plain(entity_hash, np.uint64),
            _plain(event_time_ms, np.int64),
            self._decays,
            out,
        )
        return out

    def bound(self, max_rows: int) -> None:
        """Keep at most so many rows from now on, see `RowTable.bound`."""
        self._entities.bound(max_rows)
        self._cards.bound(max_rows)

    def fold_transactions(self, entity_hash: NDArray[np.uint64], event_time_ms: NDArray[np.int64]) -> None:
        """Add n transactions to the traffic of their entities.

        Parameters
        ----------
        entity_hash : uint64 (n, E)
            0 folds nothing.
        event_time_ms : int64 (n,)
        """
        hashes, times_ms = _plain(entity_hash, np.uint64), _plain(event_time_ms, np.int64)
        aggregates.fold_traffic(self._entities.reserve(hashes.size), hashes, times_ms, self._decays)

    def fold_evidence(
        self,
        hashes: NDArray[np.uint64],
        frauds: NDArray[np.float64],
        legits: NDArray[np.float64],
        at_ms: NDArray[np.int64],
    ) -> None:
        """Add increments of label evidence; each decays from the time it was learnt.

        Parameters
        ----------
        hashes : uint64 (m, 1 + E)
            The card first; 0 folds nothing. Cards keep frauds only.
        frauds, legits : float64 (m,)
            Negative to take evidence back; nothing of it stays if it has the date of that evidence.
        at_ms : int64 (m,)
            When each increment was learnt.
        """
        aggregates.fold_labels(
            self._cards.reserve(hashes.shape[0]),
            self._entities.reserve(hashes.size),
            _plain(hashes, np.uint64),
            _plain(frauds, np.float64),
            _plain(legits, np.float64),
            _plain(at_ms, np.int64),
            self._decays,
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as dense arrays: those of both tables, named `cards_...` and `entities_...`."""
        return _named("cards", self._cards) | _named("entities", self._entities)


def _named(prefix: str, table: RowTable) -> dict[str, NDArray[Any]]:
    return {f"{prefix}_{name}": array for name, array in table.arrays().items()}


def _plain(array: NDArray[Any], dtype: type[_Scalar]) -> NDArray[_Scalar]:
    """Return the array contiguous and writeable, as a copy where it is not.

    The compiled folds exist for such arrays alone: numba would compile them again for others, amid the stream.
    """
    return np.require(array, dtype, ("C", "W"))
