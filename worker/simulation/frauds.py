"""Simulated frauds, in episodes: one card or one merchant, for minutes to weeks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.simulation.fraud_kinds import NEW_PATTERN, PATTERN, FraudKind, Pattern
from worker.simulation.honest import usual_spending
from worker.simulation.rows import ONLINE, DrawnRows, cents, draw_channels
from worker.simulation.traffic import Traffic
from worker.simulation.world import FAVOURITES, World

_HOUR_MS: Final = 3_600_000
_TEST_EVERY_MS: Final = 30_000
_RING_MERCHANTS: Final = 25
"""Online merchants where a ring of fraudsters spends."""
_FEWEST_CUSTOMERS: Final = 10
"""The fewest cards for which a merchant is worth compromising."""


class _Window(NamedTuple):
    """A stretch of time, epoch milliseconds."""

    start_ms: int
    end_ms: int


def draw_frauds(
    world: World, honest: DrawnRows, traffic: Traffic, rng: np.random.Generator
) -> list[DrawnRows]:
    """Draw as many frauds as make the prevalence, spread over time as the honest transactions are."""
    total = _fraud_count(len(honest), traffic.prevalence)
    change_ms = traffic.end_ms
    if traffic.pattern_change_day is not None:
        change_ms = traffic.start_ms + traffic.pattern_change_day * MS_PER_DAY
    # A change of the pattern does not change the prevalence: each stretch has its share of the honest traffic.
    before = round(total * np.count_nonzero(honest.time_ms < change_ms) / max(len(honest), 1))
    old = _Ring(world, honest, PATTERN, _Window(traffic.start_ms, change_ms), rng).frauds(before)
    new = _Ring(world, honest, NEW_PATTERN, _Window(change_ms, traffic.end_ms), rng).frauds(total - before)
    return [*old, *new]


def _fraud_count(honest: int, prevalence: float) -> int:
    """Return how many frauds make the prevalence beside that many honest transactions."""
    return round(honest * prevalence / (1.0 - prevalence))


class _Episodes(NamedTuple):
    """n payments in e episodes.

    Attributes
    ----------
    of : int64 (n,)
        The episode of each payment, ascending.
    size
        The number e.
    """

    of: NDArray[np.int64]
    size: int

    @classmethod
    def drawn(cls, rng: np.random.Generator, payments: int, least: int, most: int) -> _Episodes:
        """Draw episodes of `least` to `most` payments; the last one may be shorter."""
        # Enough lengths even if all are the least.
        lengths = rng.integers(least, most + 1, size=payments // least + 1)
        of = np.repeat(np.arange(lengths.size), lengths)[:payments]
        return cls(of, lengths.size)

    @property
    def rank(self) -> NDArray[np.int64]:
        """The place of each payment in its episode, from 0 on."""
        ranks: NDArray[np.int64] = np.arange(self.of.size) - np.searchsorted(self.of, self.of)
        return ranks

    @property
    def is_last(self) -> NDArray[np.bool_]:
        """Whether a payment is the last of its episode."""
        ends = np.append(self.of[1:] != self.of[:-1], True)
        return ends[: self.of.size]  # empty without payments


class _Ring:
    """The fraudsters of one stretch of time."""

    def __init__(
        self, world: World, honest: DrawnRows, pattern: Pattern, window: _Window, rng: np.random.Generator
    ) -> None:
        self._world, self._honest = world, honest
        self._pattern, self._window, self._rng = pattern, window, rng
        self._merchants = rng.choice(np.flatnonzero(world.is_online), _RING_MERCHANTS).astype(np.int32)

    def frauds(self, total: int) -> list[DrawnRows]:
        """Draw that many frauds, one kind after the other."""
        # Rounded sums differ by whole numbers that add up to the total; rounded shares may not.
        marks = np.round(np.cumsum(self._pattern.shares) * total).astype(int)
        draw: tuple[Callable[[int], DrawnRows], ...] = (
            self._test_cards,
            self._use_stolen_cards,
            self._compromise_merchants,
            self._take_over_accounts,
        )
        counts = np.diff(marks, prepend=0).tolist()
        return [kind(count) for kind, count in zip(draw, counts, strict=True) if count]

    def _test_cards(self, payments: int) -> DrawnRows:
        episodes = _Episodes.drawn(self._rng, payments, 5, 10)
        card = self._victims(episodes.size)[episodes.of]
        merchant = self._rng.choice(self._merchants, episodes.size)[episodes.of]
        longest_ms = np.full(episodes.size, 12 * _TEST_EVERY_MS)
        pause_ms = (episodes.rank + self._rng.random(payments)) * _TEST_EVERY_MS
        large = self._world.usual_amount[card] * self._rng.uniform(3.0, 8.0, payments)
        small = self._rng.uniform(*self._pattern.tested, payments)
        time_ms = self._starts_ms(longest_ms)[episodes.of] + pause_ms.astype(np.int64)
        amount = cents(np.where(episodes.is_last, large, small))
        return self._online(FraudKind.CARD_TESTING, time_ms, card, merchant, amount)

    def _use_stolen_cards(self, payments: int) -> DrawnRows:
        episodes = _Episodes.drawn(self._rng, payments, 4, 10)
        card = self._victims(episodes.size)[episodes.of]
        near_home = self._world.shops.draw(self._rng, self._world.home[card])
        merchant = np.where(
            self._rng.random(payments) < 0.6, near_home, self._rng.choice(self._merchants, payments)
        )
        amount = self._raised(episodes, card, self._pattern.stolen)
        return DrawnRows(
            time_ms=self._times_ms(episodes, 6 * _HOUR_MS, 36 * _HOUR_MS),
            card=card,
            merchant=merchant,
            amount=amount,
            channel=draw_channels(self._rng, self._world.is_online[merchant], amount),
            kind=np.full(payments, FraudKind.STOLEN_CARD, np.int8),
        )

    def _compromise_merchants(self, payments: int) -> DrawnRows:
        episodes = _Episodes.drawn(self._rng, payments, 15, 50)
        customer, merchants = self._customers()
        chosen = merchants[self._rng.integers(merchants.size, size=episodes.size)]
        first, end = np.searchsorted(merchants, chosen), np.searchsorted(merchants, chosen, side="right")
        card = customer[self._rng.integers(first[episodes.of], end[episodes.of])]
        merchant = chosen[episodes.of]
        amount = usual_spending(self._world, self._rng, card, merchant)
        return DrawnRows(
            time_ms=self._times_ms(episodes, 14 * MS_PER_DAY, 28 * MS_PER_DAY),
            card=card,
            merchant=merchant,
            amount=amount,
            channel=draw_channels(self._rng, self._world.is_online[merchant], amount),
            kind=np.full(payments, FraudKind.COMPROMISED_MERCHANT, np.int8),
        )

    def _customers(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Return pairs of a card and a favourite merchant of it that is worth compromising, in order of merchants."""
        merchant = self._world.favourites.ravel()
        right = self._world.is_online[merchant] == self._pattern.compromises_online
        many = np.bincount(merchant)[merchant] >= _FEWEST_CUSTOMERS
        # A small world may have no such merchant: then one with fewer customers, then any.
        fit = next((it for it in (right & many, right) if it.any()), np.ones_like(right))
        pairs = np.flatnonzero(fit)
        pairs = pairs[np.argsort(merchant[pairs], kind="stable")]
        return (pairs // FAVOURITES).astype(np.int32), merchant[pairs]

    def _take_over_accounts(self, payments: int) -> DrawnRows:
        episodes = _Episodes.drawn(self._rng, payments, 3, 8)
        card = self._victims(episodes.size)[episodes.of]
        # The farthest of three merchants: takeovers show by their distance from home.
        candidates = self._rng.choice(self._merchants, (3, payments))
        distances = np.stack([self._world.distance_km(card, each) for each in candidates])
        merchant = candidates[distances.argmax(axis=0), np.arange(payments)]
        time_ms = self._times_ms(episodes, 6 * _HOUR_MS, 48 * _HOUR_MS)
        amount = self._raised(episodes, card, self._pattern.taken_over)
        return self._online(FraudKind.ACCOUNT_TAKEOVER, time_ms, card, merchant, amount)

    def _victims(self, count: int) -> NDArray[np.int32]:
        """Draw cards in proportion to their honest transactions."""
        return self._honest.card[self._rng.integers(len(self._honest), size=count)]

    def _raised(
        self, episodes: _Episodes, card: NDArray[np.int32], times: tuple[float, float]
    ) -> NDArray[np.float64]:
        factor = self._rng.uniform(*times, episodes.size)[episodes.of]
        spread = self._rng.standard_gamma(4.0, card.size) / 4.0
        return cents(self._world.usual_amount[card] * factor * spread)

    def _times_ms(self, episodes: _Episodes, shortest_ms: int, longest_ms: int) -> NDArray[np.int64]:
        """Draw the times of payments; those of an episode lie within a stretch of a drawn length."""
        window_ms = self._window.end_ms - self._window.start_ms
        length_ms = np.minimum(
            self._rng.integers(shortest_ms, longest_ms + 1, size=episodes.size), window_ms - 1
        )
        within_ms = self._rng.random(episodes.of.size) * length_ms[episodes.of]
        return self._starts_ms(length_ms)[episodes.of] + within_ms.astype(np.int64)

    def _starts_ms(self, length_ms: NDArray[np.int64]) -> NDArray[np.int64]:
        free_ms = self._window.end_ms - self._window.start_ms - length_ms
        return self._window.start_ms + (self._rng.random(length_ms.size) * free_ms).astype(np.int64)

    def _online(
        self,
        kind: FraudKind,
        time_ms: NDArray[np.int64],
        card: NDArray[np.int32],
        merchant: NDArray[np.int32],
        amount: NDArray[np.float64],
    ) -> DrawnRows:
        online = np.full(card.size, ONLINE, np.int8)
        return DrawnRows(time_ms, card, merchant, amount, online, np.full(card.size, kind, np.int8))
