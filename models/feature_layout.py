"""The columns of the feature matrix: what a deployment declares, how they are named and laid out, and how they fill.

What the history of cards and other entities gives is of `models.features`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import aggregates, places
from models.hashing import MISSING
from models.vocabulary import MS_PER_DAY

_HOUR: Final = ("hour", "hour of day (UTC)")
_PLACE: Final = (
    ("card_distance_km", "distance from the card's last place, in km"),
    ("card_speed_kmh", "speed since the card's last place, in km/h"),
    ("card_usual_distance_km", "distance from the card's usual place, in km"),
)
_LAST_DATE: Final = 1e6
"""Days since 1970, 2,700 years: a whole number that float32 holds."""
_CATEGORY_MASK: Final = np.uint64(2**24 - 1)
"""The low bits of a hash that make a category: float32 holds every whole number up to 2**24."""


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
    ages
        The numeric fields that count the days since a date, as since an account was opened.
    """

    numeric: tuple[str, ...]
    categorical: tuple[str, ...]
    entities: tuple[str, ...]
    half_lives_days: tuple[float, float, float] = (1.0, 5.0, 20.0)
    place: tuple[str, ...] = ()
    ages: tuple[str, ...] = ()

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
    given : bool (F,)
        Which columns are numbers as the transaction has them: the amount and the declared ones.
    ages
        Which of the numeric fields count days.
    dates
        The columns of the dates from which they count.
    """

    names: tuple[str, ...]
    texts: tuple[str, ...]
    categorical: NDArray[np.bool_]
    given: NDArray[np.bool_]
    ages: tuple[int, ...] = ()
    dates: tuple[int, ...] = ()

    @classmethod
    def from_spec(cls, spec: FeatureSpec) -> FeatureLayout:
        """Lay out the columns: amount, card, shared, hour, dates, numeric, categorical.

        Declared fields keep their names: beside a field `hour` the computed hour is called `hour_computed`.
        """
        columns = [("amount", "amount"), *card_columns(spec), *_shared_columns(spec), _HOUR]
        columns += [(f"{name}_date", f"{name}: the date from which it counts") for name in spec.ages]
        declared = spec.numeric + spec.categorical
        names = (*others_than(declared, [name for name, _ in columns]), *declared)
        at = np.arange(len(names))
        categorical = at >= len(names) - len(spec.categorical)
        given = ((at == 0) | (at >= len(names) - len(declared))) & ~categorical
        ages = tuple(spec.numeric.index(name) for name in spec.ages)
        dates = tuple(range(len(columns) - len(ages), len(columns)))
        return cls(names, (*(text for _, text in columns), *declared), categorical, given, ages, dates)


def others_than(taken: tuple[str, ...], names: list[str]) -> list[str]:
    """Return the names of computed features, with a suffix where one is taken or was there before."""
    found: list[str] = []
    for name in names:
        its = name
        while its in taken or its in found:
            its += "_computed"
        found.append(its)
    return found


def card_columns(spec: FeatureSpec) -> list[tuple[str, str]]:
    """Return name and text of each feature that the history of a card gives, in order."""
    short, _, long = (f"{days:g}" for days in spec.half_lives_days)
    burst = f"{24 * aggregates.BURST_SHARE * spec.half_lives_days[0]:g}"
    return [
        ("card_amount_to_usual", "amount against the card's own usual amount"),
        ("card_amount_to_mean", "amount against the card's own mean"),
        ("card_amount_deviation", "amount in standard deviations from the card's own mean"),
        ("card_usual_amount", "the card's own usual amount"),
        ("card_excess", "how far the card's latest amounts were above its usual one"),
        ("card_large_count", "the card's recent amounts far above its usual one"),
        ("card_count_short", f"the card's latest transactions (half-life in days: {short})"),
        ("card_count_long", f"the card's transactions over a longer time (half-life in days: {long})"),
        ("card_count_burst", f"the card's transactions just before (half-life in hours: {burst})"),
        ("card_idle_hours", "hours since the card's last transaction"),
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
    dates = counted_from(numeric[:, list(layout.ages)], event_time_ms)
    for block in (amount[:, None], card_block, shared_block, hour[:, None], dates, numeric, categories):
        x[:, at : at + block.shape[1]] = block
        at += block.shape[1]
    return x


def counted_from(age_days: NDArray[np.float64], event_time_ms: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the dates from which ages count, in whole days since 1970: those of one account stay while it ages.

    Parameters
    ----------
    age_days : float64 (n, A)
        NaN where missing.
    event_time_ms : int64 (n,)

    Returns
    -------
    float64 (n, A)
        NaN where missing, or beyond all dates.
    """
    dates = np.floor(event_time_ms[:, None] / MS_PER_DAY - age_days)
    return np.where(np.abs(dates) <= _LAST_DATE, dates, np.nan)
