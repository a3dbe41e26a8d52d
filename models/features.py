"""Features of a transaction: time-decayed counts and sums per entity, and how they become a matrix.

Decayed sums instead of lists of events: constant memory an entity, one multiply-add an event, no expiry, and
linear, so that what many workers learnt adds up. The arithmetic is in `models.aggregates`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from models import aggregates
from models.tables import RowTable
from models.vocabulary import MS_PER_DAY

_HOUR: Final = ("hour", "hour of day (UTC)")
_CATEGORY_MASK: Final = np.uint64(2**24 - 1)
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """The fields a deployment declares beyond card, time and amount.

    Attributes
    ----------
    numeric, categorical, entities
        Names of the declared fields, in the order of their columns; `entities` without the card.
    half_lives_days
        Short, middle and long half-life of the aggregates, in days of event time.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    entities: tuple[str, ...]
    half_lives_days: tuple[float, float, float] = (1.0, 5.0, 20.0)

    def decays_per_ms(self) -> NDArray[np.float64]:
        """Return the reciprocal half-lives in 1/ms, float64 (3,)."""
        return 1.0 / (np.array(self.half_lives_days, dtype=np.float64) * MS_PER_DAY)


@dataclass(frozen=True, slots=True)
class FeatureLayout:
    """What the columns of the feature matrix are.

    Attributes
    ----------
    names, texts
        One identifier a column, and what a reason code says of it.
    categorical
        bool (F,): which columns hold categories rather than numbers.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    categorical: NDArray[np.bool_]

    @classmethod
    def from_spec(cls, spec: FeatureSpec) -> FeatureLayout:
        """Lay out the columns: amount, card, shared, hour, numeric, categorical."""
        columns = [("amount", "amount"), *_card_columns(spec), *_shared_columns(spec), _HOUR]
        columns += [(name, name) for name in spec.numeric + spec.categorical]
        categorical = np.arange(len(columns)) >= len(columns) - len(spec.categorical)
        return cls(tuple(name for name, _ in columns), tuple(text for _, text in columns), categorical)


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
        self._table = RowTable(aggregates.CARD_WIDTH, max_rows)

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
        tuple[NDArray[np.float32], NDArray[np.bool_]]
            The features, (n, Fc) in layout order, NaN where unknown; and whether each transaction is its card's
            first in its case window, floor(time / length).
        """
        n = card_hash.size
        out = np.full((n, aggregates.CARD_FEATURES), np.nan, dtype=np.float32)
        first = np.zeros(n, dtype=np.bool_)
        aggregates.advance_cards(
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

    def forget_windows(self) -> None:
        """Begin the windows anew, for they are of another length now."""
        self._table.rows.values[:, aggregates.WINDOWS_SEEN] = 0.0

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state as dense arrays, see `RowTable.arrays`."""
        return self._table.arrays()


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
        self._entities = RowTable(aggregates.ENTITY_WIDTH, max_rows)
        self._cards = RowTable(aggregates.CARD_FRAUDS_WIDTH, max_rows)

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
    ) -> NDArray[np.float32]:
        """Read the shared features of n transactions; changes nothing.

        Parameters
        ----------
        card_hash, entity_hash
            uint64 (n,) and (n, E); 0 reads as missing.
        event_time_ms
            int64 (n,).

        Returns
        -------
        NDArray[np.float32]
            Shape (n, Fs) in layout order, NaN where unknown.
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
        """Add n transactions to the traffic of their entities: uint64 (n, E) and int64 (n,)."""
        hashes, times_ms = _plain(entity_hash, np.uint64), _plain(event_time_ms, np.int64)
        aggregates.fold_traffic(self._entities.reserve(hashes.size), hashes, times_ms, self._decays)

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
            float64 (m,); negative to take evidence back, exactly so if dated as the evidence was.
        at_ms
            int64 (m,): when each increment was learnt.
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
        """Return the state as dense arrays: those of both tables, prefixed `cards_` and `entities_`."""
        tables = {"cards": self._cards, "entities": self._entities}
        return {
            f"{name}_{key}": array for name, table in tables.items() for key, array in table.arrays().items()
        }


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
        Says where they go.
    card_block, shared_block
        float32 (n, Fc) and (n, Fs).
    amount, event_time_ms, numeric
        float64 (n,), int64 (n,) and float64 (n, N), NaN where missing.
    categorical
        uint64 (n, C) hashes, 0 where missing.

    Returns
    -------
    NDArray[np.float32]
        Shape (n, F) in layout order, NaN where missing.
    """
    x = np.empty((amount.size, len(layout.names)), dtype=np.float32)
    hour = event_time_ms % MS_PER_DAY / (MS_PER_DAY / 24)
    categories = np.where(categorical == 0, np.nan, (categorical & _CATEGORY_MASK).astype(np.float64))
    at = 0
    for block in (amount[:, None], card_block, shared_block, hour[:, None], numeric, categories):
        x[:, at : at + block.shape[1]] = block
        at += block.shape[1]
    return x


def _plain(array: NDArray[Any], dtype: type[_Scalar]) -> NDArray[_Scalar]:
    """Contiguous and writeable: anything else would be compiled for anew, in the middle of a stream."""
    return np.require(array, dtype, ("C", "W"))
