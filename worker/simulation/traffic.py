"""Made-up card traffic with known fraud, for the demo, the tests and the benchmarks.

Cards have a rate, a usual amount and favourite merchants; days have a rhythm. The kinds of fraud follow the
simulator of *Reproducible Machine Learning for Credit Card Fraud Detection* (Le Borgne et al., 2022), with card
testing added. Everything follows from the seed; numpy alone, so that a million transactions take two seconds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.dataset import Dataset
from worker.settings import TransactionFields

FIELDS: Final = TransactionFields(entities=("merchant_id",), categorical=("channel",))
"""What the generated transactions are made of; put it in force as `[transaction]`."""

CHANNELS: Final = ("chip", "contactless", "online")

_FAVOURITES: Final = 12
_LEAST_EPISODES: Final = 12
"""Fraud of one kind is spread over at least so many merchants or cards."""


class FraudKind(IntEnum):
    """What made a transaction fraud."""

    NONE = 0
    COMPROMISED_MERCHANT = 1
    """Everything bought at one merchant for three to five weeks; amounts look normal."""
    STOLEN_CARD = 2
    """A third of one card's transactions for two weeks, at five times the amount."""
    CARD_TESTING = 3
    """A burst of tiny online payments within minutes, then one large one."""


_SHARES: Final = {
    FraudKind.CARD_TESTING: 0.15,
    FraudKind.STOLEN_CARD: 0.35,
    FraudKind.COMPROMISED_MERCHANT: 0.5,
}


@dataclass(frozen=True, slots=True)
class Traffic:
    """What to simulate.

    Attributes
    ----------
    cards, merchants
        How many there are.
    days
        How long it lasts.
    per_card_day
        Mean number of transactions; a card's own rate lies evenly between none and twice that.
    prevalence
        Share of fraud.
    seed
        Another seed is another world; the same one is the same to the bit.
    start_ms
        Midnight of the first day, epoch milliseconds. (1 January 2024, a Monday, unless told otherwise.)
    label_delay_days
        From a transaction to its label.
    """

    cards: int = 5_000
    merchants: int = 5_000
    days: int = 60
    per_card_day: float = 2.0
    prevalence: float = 0.008
    seed: int = 0
    start_ms: int = 1_704_067_200_000
    label_delay_days: float = 7.0


@dataclass(frozen=True, slots=True)
class _Rows:
    time_ms: NDArray[np.int64]
    card: NDArray[np.int64]
    merchant: NDArray[np.int64]
    amount: NDArray[np.float64]
    channel: NDArray[np.int8]
    kind: NDArray[np.int8]

    def in_time_order(self) -> Self:
        order = np.argsort(self.time_ms, kind="stable")
        return replace(self, **{name: getattr(self, name)[order] for name in self.__slots__})

    def joined(self, other: _Rows) -> Self:
        both = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in self.__slots__}
        return replace(self, **both)


def simulate(traffic: Traffic) -> Dataset:
    """Return the traffic with its truth, under the names of `FIELDS`."""
    return simulate_with_kinds(traffic)[0]


def simulate_with_kinds(traffic: Traffic) -> tuple[Dataset, NDArray[np.int8]]:
    """Return the traffic and the `FraudKind` of each transaction."""
    rng = np.random.default_rng(traffic.seed)
    world = _World.drawn(traffic, rng)
    honest = world.honest_traffic()
    target = round(traffic.prevalence * len(honest.time_ms))
    tested = world.card_testing(round(target * _SHARES[FraudKind.CARD_TESTING]))
    rows = honest.joined(tested).in_time_order()
    world.steal_cards(rows, round(target * _SHARES[FraudKind.STOLEN_CARD]))
    world.compromise_merchants(rows, round(target * _SHARES[FraudKind.COMPROMISED_MERCHANT]))
    return _dataset(traffic, rows), rows.kind


@dataclass(frozen=True, slots=True)
class _World:
    """Cards and merchants, and what they do."""

    traffic: Traffic
    rng: np.random.Generator
    rate: NDArray[np.float64]
    usual_amount: NDArray[np.float64]
    favourites: NDArray[np.int64]
    is_online: NDArray[np.bool_]

    @classmethod
    def drawn(cls, traffic: Traffic, rng: np.random.Generator) -> Self:
        popularity = 1.0 / np.sqrt(1.0 + np.arange(traffic.merchants))
        is_online = rng.random(traffic.merchants) < 0.25
        is_online[rng.integers(traffic.merchants)] = True
        return cls(
            traffic,
            rng,
            rate=rng.uniform(0.0, 2.0 * traffic.per_card_day, traffic.cards),
            usual_amount=rng.uniform(5.0, 100.0, traffic.cards),
            favourites=_draw(rng, popularity, traffic.cards * _FAVOURITES).reshape(-1, _FAVOURITES),
            is_online=is_online,
        )

    def honest_traffic(self) -> _Rows:
        card = np.repeat(np.arange(self.traffic.cards), self.rng.poisson(self.rate * self.traffic.days))
        rank = np.minimum(self.rng.exponential(3.0, card.size).astype(np.int64), _FAVOURITES - 1)
        merchant = self.favourites[card, rank]
        contactless = self.rng.random(card.size) < 0.6
        return _Rows(
            time_ms=self.traffic.start_ms + self._moments(card.size),
            card=card,
            merchant=merchant,
            amount=_cents(self.rng.gamma(4.0, self.usual_amount[card] / 4.0)),
            channel=np.where(self.is_online[merchant], 2, contactless).astype(np.int8),
            kind=np.zeros(card.size, np.int8),
        )

    def card_testing(self, target: int) -> _Rows:
        """Make bursts of five to ten payments on cards at one online merchant each."""
        sizes = self.rng.integers(5, 11, size=target // 5 + 1)
        bursts = np.repeat(np.arange(sizes.size), sizes)[:target]
        last = np.append(bursts[1:] != bursts[:-1], True)[: bursts.size]
        starts = self.rng.uniform(0.0, self.traffic.days - 0.1, sizes.size) * MS_PER_DAY
        card = self.rng.integers(self.traffic.cards, size=sizes.size)[bursts]
        pauses = self.rng.exponential(30_000.0, bursts.size).cumsum()
        pauses -= pauses[np.searchsorted(bursts, bursts)]  # from the first of each burst
        large = self.usual_amount[card] * self.rng.uniform(3.0, 8.0, bursts.size)
        return _Rows(
            time_ms=self.traffic.start_ms + (starts[bursts] + pauses).astype(np.int64),
            card=card,
            merchant=self.rng.choice(np.flatnonzero(self.is_online), sizes.size)[bursts],
            amount=_cents(np.where(last, large, self.rng.uniform(0.5, 3.0, bursts.size))),
            channel=np.full(bursts.size, 2, np.int8),
            kind=np.full(bursts.size, FraudKind.CARD_TESTING, np.int8),
        )

    def steal_cards(self, rows: _Rows, target: int) -> None:
        misused = np.flatnonzero((rows.kind == FraudKind.NONE) & (self.rng.random(rows.kind.size) < 1 / 3))
        chosen = misused[
            self._episodes(rows.card[misused], rows.time_ms[misused], self.traffic.cards, 14, 14, target)
        ]
        rows.kind[chosen] = FraudKind.STOLEN_CARD
        rows.amount[chosen] = _cents(rows.amount[chosen] * 5.0)

    def compromise_merchants(self, rows: _Rows, target: int) -> None:
        clean = np.flatnonzero(rows.kind == FraudKind.NONE)
        chosen = self._episodes(
            rows.merchant[clean], rows.time_ms[clean], self.traffic.merchants, 21, 35, target
        )
        rows.kind[clean[chosen]] = FraudKind.COMPROMISED_MERCHANT

    def _episodes(
        self,
        owner: NDArray[np.int64],
        time_ms: NDArray[np.int64],
        owners: int,
        shortest_days: int,
        longest_days: int,
        target: int,
    ) -> NDArray[np.int64]:
        """Choose `target` rows: owner after owner in random order, the rows of one stretch of time of each.

        Each owner comes up once and gives a twelfth of the rows at most; a busy one gives some of its rows.
        """
        span_ms = self.traffic.days * MS_PER_DAY
        key = owner * (span_ms + 1) + (time_ms - self.traffic.start_ms)
        order = np.argsort(key, kind="stable")
        first = self.rng.permutation(owners) * (span_ms + 1)
        length = self.rng.uniform(shortest_days, longest_days, owners) * MS_PER_DAY
        start = self.rng.uniform(-length, span_ms)  # some began before the traffic does
        end = np.clip(start + length, 0, span_ms).astype(np.int64)
        start = np.maximum(start, 0).astype(np.int64)
        begins = np.searchsorted(key[order], first + start)
        counts = np.searchsorted(key[order], first + end) - begins
        taken = np.minimum(counts, -(-target // _LEAST_EPISODES))
        taken = np.diff(np.minimum(taken.cumsum(), target), prepend=0)
        return order[_spread(begins, counts, taken)]

    def _moments(self, n: int) -> NDArray[np.int64]:
        """Draw milliseconds since the start: quiet Sundays, busy noons and evenings, quiet nights."""
        weekday = np.arange(self.traffic.days) % 7
        day = _draw(self.rng, np.array([1.0, 1.0, 1.0, 1.05, 1.2, 1.1, 0.7])[weekday], n)
        centre_h = np.array([12.5, 18.5])[self.rng.integers(2, size=n)]
        hour = np.where(
            self.rng.random(n) < 0.1, self.rng.uniform(0.0, 24.0, n), self.rng.normal(centre_h, 2.5)
        )
        return day * MS_PER_DAY + (hour % 24.0 * 3_600_000.0).astype(np.int64)


def _draw(rng: np.random.Generator, weights: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Draw n indices in proportion to the weights."""
    bounds = weights.cumsum()
    drawn: NDArray[np.int64] = np.searchsorted(bounds, rng.random(n) * bounds[-1], side="right")
    return drawn


def _spread(
    begins: NDArray[np.int64], counts: NDArray[np.int64], taken: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Of each range begin, begin + 1, … (count of them), take so many, evenly spread."""
    within = np.arange(taken.sum()) - np.repeat(taken.cumsum() - taken, taken)
    steps: NDArray[np.int64] = within * np.repeat(counts, taken) // np.repeat(taken, taken)
    return np.repeat(begins, taken) + steps


def _cents(amount: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.maximum(np.round(amount, 2), 0.01)


def _dataset(traffic: Traffic, rows: _Rows) -> Dataset:
    merchants = _names("merchant", np.arange(traffic.merchants))
    return Dataset(
        fields=FIELDS,
        transaction_id=_names(f"t{traffic.seed}", np.arange(rows.time_ms.size)),
        card_id=_names("card", np.arange(traffic.cards)).take(pa.array(rows.card)),
        event_time_ms=rows.time_ms,
        amount=rows.amount,
        currency=None,
        entities={"merchant_id": merchants.take(pa.array(rows.merchant))},
        numeric={},
        categorical={"channel": pa.array(CHANNELS).take(pa.array(rows.channel))},
        is_fraud=rows.kind != FraudKind.NONE,
        label_time_ms=rows.time_ms + round(traffic.label_delay_days * MS_PER_DAY),
    )


def _names(prefix: str, numbers: NDArray[np.int64]) -> pa.StringArray:
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), width=7, padding="0")
    return pc.binary_join_element_wise(prefix, digits, "-")
