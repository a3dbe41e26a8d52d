"""Simulated honest traffic: favourite merchants, the rhythm of days and weeks, journeys."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.simulation.rows import DrawnRows, cents, draw_channels
from worker.simulation.traffic import Traffic
from worker.simulation.world import FAVOURITES, World, draw_weighted

_WEEK: Final = np.array([1.0, 1.0, 1.0, 1.05, 1.2, 1.1, 0.7])
"""Weight of each day, from Monday on."""
_EPOCH_WEEKDAY: Final = 3
"""1 January 1970 was a Thursday."""
_ANY_HOUR_SHARE: Final = 0.1
"""Share of the purchases that are as likely at night as by day."""
_STROLL_SHARE: Final = 0.08
"""Share of the purchases in shops that are not at a favourite merchant."""
_AMOUNT_SHAPE: Final = 3.0
_SEASON_DAYS: Final = 60
"""A card makes at most one journey in each stretch of so many days."""
_TRAVELLERS: Final = 0.4
"""Share of cards that go on a journey in a season."""


def honest_traffic(world: World, traffic: Traffic, rng: np.random.Generator) -> DrawnRows:
    """Draw the honest transactions, one card after the other."""
    counts = rng.poisson(world.rate * traffic.days)
    card = np.repeat(np.arange(traffic.cards, dtype=np.int32), counts)
    day = draw_weighted(rng, _WEEK[_weekday(traffic) % 7], card.size)
    merchant = _merchants(world, traffic, rng, card, day)
    amount = usual_spending(world, rng, card, merchant)
    return DrawnRows(
        time_ms=traffic.start_ms + day * MS_PER_DAY + _time_of_day_ms(rng, card.size),
        card=card,
        merchant=merchant,
        amount=amount,
        channel=draw_channels(rng, world.is_online[merchant], amount),
        kind=np.zeros(card.size, np.int8),
    )


def usual_spending(
    world: World, rng: np.random.Generator, card: NDArray[np.int32], merchant: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Draw the amounts that those cards usually spend at those merchants."""
    mean = world.usual_amount[card] * world.price[merchant]
    return cents(rng.standard_gamma(_AMOUNT_SHAPE, card.size) * (mean / _AMOUNT_SHAPE))


def _weekday(traffic: Traffic) -> NDArray[np.int64]:
    return np.arange(traffic.days) + traffic.start_ms // MS_PER_DAY + _EPOCH_WEEKDAY


def _time_of_day_ms(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Draw times of day: busy noons and evenings, quiet nights."""
    centre_h = np.where(rng.random(n) < 0.5, 12.5, 18.5)
    hour = centre_h + 2.5 * rng.standard_normal(n)
    # Below the share, the chance is uniform too: scaled up, it is the hour itself.
    any_hour = rng.random(n)
    hour = np.where(any_hour < _ANY_HOUR_SHARE, any_hour * (24.0 / _ANY_HOUR_SHARE), hour % 24.0)
    return np.minimum((hour * 3_600_000.0).astype(np.int64), MS_PER_DAY - 1)


def _merchants(
    world: World,
    traffic: Traffic,
    rng: np.random.Generator,
    card: NDArray[np.int32],
    day: NDArray[np.int64],
) -> NDArray[np.int32]:
    rank = np.minimum(rng.exponential(3.0, card.size).astype(np.int64), FAVOURITES - 1)
    merchant = world.favourites[card, rank]
    place, away = _whereabouts(world, traffic, rng, card, day)
    away |= rng.random(card.size) < _STROLL_SHARE
    # Online merchants are in reach on a journey too.
    other = np.flatnonzero(away & ~world.is_online[merchant])
    merchant[other] = world.shops.draw(rng, place[other])
    return merchant


def _whereabouts(
    world: World,
    traffic: Traffic,
    rng: np.random.Generator,
    card: NDArray[np.int32],
    day: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the place of each card's holder on that day, and whether the holder is on a journey."""
    seasons = -(-traffic.days // _SEASON_DAYS)
    count = traffic.cards * seasons
    first = rng.integers(_SEASON_DAYS, size=count)
    length = np.where(rng.random(count) < _TRAVELLERS, rng.integers(3, 11, size=count), 0)
    destination = rng.choice(world.places, count)
    journey = card.astype(np.int64) * seasons + day // _SEASON_DAYS
    since = day % _SEASON_DAYS - first[journey]
    away = (since >= 0) & (since < length[journey])
    return np.where(away, destination[journey], world.home[card]), away
