"""Features of a transaction: time-decayed counts and sums per entity, and the matrix made of them.

Decayed sums instead of lists of events: constant memory an entity, one multiply-add an event, no expiry, and linear,
so that the sums of many workers add up. The arithmetic is in `models.aggregates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from models import aggregates, familiarity, places
from models.hashing import MISSING
from models.tables import RowTable
from models.vocabulary import MS_PER_DAY

_HOUR: Final = ("hour", "hour of day (UTC)")
_PLACE: Final = (
    ("card_distance_km", "distance from the card's last place, in km"),
    ("card_speed_kmh", "speed since the card's last place, in km/h"),
    ("card_usual_distance_km", "distance from the card's usual place, in km"),
)
_CATEGORY_MASK: Final = np.uint64(2**24 - 1)
"""The low bits of a hash that make a category: float32 holds every whole number up to 2**24."""
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """The fields that a deployment declares beyond card, time and amount.

    Attributes
    ----------
    numeric, categorical, entities
        Names of the declared fields, in the order of their columns; `entities` without the card.
    half_lives_days
        Short, middle and long half-life of the aggregates, in days of event time.
    place
        The two numeric fields that are degrees of latitude and longitude; empty where none are.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    entities: tuple[str, ...]
    half_lives_days: tuple[float, float, float] = (1.0, 5.0, 20.0)
    place: tuple[str, ...] = ()

    @property
    def card_features(self) -> int:
        """How many features the history of a card gives."""
        return aggregates.CARD_FEATURES + (places.FEATURES if self.place else 0) + len(self.entities)

    def place_columns(self) -> NDArray[np.int64]:
        """Return which of the numeric fields are latitude and longitude, int64 (2,), or (0,)."""
        return np.array([self.numeric.index(name) for name in self.place], dtype=np.int64)

    @property
    def long_half_life_ms(self) -> float:
        """The long half-life in ms."""
        return self.half_lives_days[2] * MS_PER_DAY

    def decays_per_ms(self) -> NDArray[np.float64]:
        """Return the reciprocals of the half-lives in 1/ms, float64 (3,)."""
        return 1.0 / (np.array(self.half_lives_days, dtype=np.float64) * MS_PER_DAY)


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """The F columns of the feature matrix.

    Attributes
    ----------
    names, texts
        The identifier of each column, and its text in a reason code.
    categorical : bool (F,)
        Which columns hold categories rather than numbers.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    categorical: NDArray[np.bool_]

    @classmethod
    def from_spec(cls, spec: FeatureSpec) -> FeatureLayout:
        """Lay out the columns: amount, card, shared, hour, numeric, categorical.

        Declared fields keep their names: beside a field `hour` the computed hour is called `hour_computed`.
        """
        columns = [("amount", "amount"), *_card_columns(spec), *_shared_columns(spec), _HOUR]
        declared = spec.numeric + spec.categorical
        names = (*_others_than(declared, [name for name, _ in columns]), *declared)
        categorical = np.arange(len(names)) >= len(names) - len(spec.categorical)
        return cls(names, (*(text for _, text in columns), *declared), categorical)


def _others_than(taken: tuple[str, ...], names: list[str]) -> list[str]:
    """Return the names, with a suffix where one is taken or was there before."""
    found: list[str] = []
    for name in names:
        its = name
        while its in taken or its in found:
            its += "_computed"
        found.append(its)
    return found


def _card_columns(spec: FeatureSpec) -> list[tuple[str, str]]:
    short, _, long = (f"{days:g}" for days in spec.half_lives_days)
    return [
        ("card_amount_to_usual", "amount against the card's own usual amount"),
        ("card_amount_to_mean", "amount against the card's own mean"),
        ("card_amount_deviation", "amount in standard deviations from the card's own mean"),
        ("card_usual_amount", "the card's own usual amount"),
        ("card_excess", "how far the card's latest amounts were above its usual one"),
        ("card_large_count", "the card's recent amounts far above its usual one"),
        ("card_count_short", f"the card's latest transactions (half-life in days: {short})"),
        ("card_count_long", f"the card's transactions over a longer time (half-life in days: {long})"),
        *(_PLACE if spec.place else ()),
        *(
            (f"card_{it}_share", f"share of the card's transactions with the same {it}")
            for it in spec.entities
        ),
    ]


def _shared_columns(spec: FeatureSpec) -> list[tuple[str, str]]:
    columns = [("card_frauds", "frauds reported on the card")]
    short, middle, _ = (f"{days:g}" for days in spec.half_lives_days)
    for entity in spec.entities:
        columns += [
            (f"{entity}_odds_short", f"{entity}: log odds of its latest labels (half-life in days: {short})"),
            (
                f"{entity}_odds_middle",
                f"{entity}: log odds of its recent labels (half-life in days: {middle})",
            ),
            (f"{entity}_fraud_share", f"{entity}: share of frauds among its last labels"),
            (
                f"{entity}_legit_age",
                f"{entity}: days since its transactions proved legitimate, fewer the more did",
            ),
            (f"{entity}_frauds", f"{entity}: frauds reported"),
            (f"{entity}_rate_ratio", f"{entity}: latest traffic against its usual traffic"),
        ]
    return columns


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
        self._max_rows = max_rows

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
        if max_rows != self._max_rows:
            self._table.bound(max_rows)
            if self._places is not None:
                self._places.bound(max_rows)
            self._familiar.bound(familiarity.most_rows(max_rows, self._entity_count))
            self._max_rows = max_rows

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


def assemble(
    layout: FeatureLayout,
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
    layout
        Gives the number of columns; `FeatureLayout.from_spec` has their order.
    card_block : float32 (n, Fc)
        Of `CardAggregates.advance`.
    shared_block : float32 (n, Fs)
        Of `SharedAggregates.read`.
    amount : float64 (n,)
        NaN where missing, here as in `numeric`.
    event_time_ms : int64 (n,)
    numeric : float64 (n, N)
    categorical : uint64 (n, C)
        Hashes, 0 where missing.

    Returns
    -------
    float32 (n, F)
        In layout order; NaN where missing.
    """
    x = np.empty((amount.size, len(layout.names)), dtype=np.float32)
    hour = event_time_ms % MS_PER_DAY / (MS_PER_DAY / 24)
    categories = np.where(categorical == MISSING, np.nan, (categorical & _CATEGORY_MASK).astype(np.float64))
    at = 0
    for block in (amount[:, None], card_block, shared_block, hour[:, None], numeric, categories):
        x[:, at : at + block.shape[1]] = block
        at += block.shape[1]
    return x


def _named(prefix: str, table: RowTable) -> dict[str, NDArray[Any]]:
    return {f"{prefix}_{name}": array for name, array in table.arrays().items()}


def _plain(array: NDArray[Any], dtype: type[_Scalar]) -> NDArray[_Scalar]:
    """Return the array contiguous and writeable, as a copy where it is not.

    The compiled folds exist for such arrays alone: numba would compile them again for others, amid the stream.
    """
    return np.require(array, dtype, ("C", "W"))
