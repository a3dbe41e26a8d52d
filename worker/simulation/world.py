"""The simulated world: places, merchants with their prices, cards with their homes and usual amounts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from worker.simulation.traffic import Traffic

COUNTRIES: Final = (
    "DE",
    "GB",
    "FR",
    "IT",
    "ES",
    "PL",
    "NL",
    "BE",
    "SE",
    "PT",
    "CZ",
    "AT",
    "US",
    "JP",
    "BR",
    "AU",
)
FAVOURITES: Final = 12

_LATITUDE: Final = np.array(
    [51.0, 52.5, 47.0, 43.5, 40.3, 52.0, 52.2, 50.8, 59.3, 39.6, 49.8, 47.6, 39.0, 35.7, -22.0, -34.0]
)
_LONGITUDE: Final = np.array(
    [10.0, -1.5, 2.5, 12.0, -3.7, 19.5, 5.3, 4.5, 16.0, -8.5, 15.0, 14.5, -95.0, 138.0, -46.0, 149.0]
)
_POPULATION: Final = np.array([83, 67, 68, 59, 48, 38, 18, 12, 10, 10, 11, 9, 30, 12, 20, 3], np.float64)
_CARDS_COUNTRIES: Final = 12
"""Cardholders live in the first so many countries; they travel to the others, or buy there online."""
_ONLINE_SHARE: Final = 0.25
_ONLINE_FAVOURITES: Final = 3
_MERCHANTS_PER_PLACE: Final = 20
_MOST_PLACES: Final = 400
_PLACE_SPREAD_DEGREES: Final = 1.5
_TOWN_SPREAD_DEGREES: Final = 0.05
_EARTH_RADIUS_KM: Final = 6_371.0


class Market:
    """Merchants in groups, from which popular ones are drawn more often.

    Parameters
    ----------
    merchants : int32 (m,)
    group : int64 (m,)
        The group of each merchant.
    popularity : float64 (m,)
        The weight of each merchant.
    groups
        The number of groups; one without merchants allows no draw.
    """

    def __init__(
        self,
        merchants: NDArray[np.int32],
        group: NDArray[np.int64],
        popularity: NDArray[np.float64],
        groups: int,
    ) -> None:
        order = np.argsort(group, kind="stable")
        self._merchants = merchants[order]
        self._first = np.searchsorted(group[order], np.arange(groups))
        self._end = np.searchsorted(group[order], np.arange(groups), side="right")
        self._bounds = np.append(0.0, popularity[order].cumsum())

    def draw(self, rng: np.random.Generator, group: NDArray[np.int64]) -> NDArray[np.int32]:
        """Draw one merchant from each of these groups."""
        first, end = self._first[group], self._end[group]
        low, high = self._bounds[first], self._bounds[end]
        drawn = low + rng.random(group.size) * (high - low)
        place = np.searchsorted(self._bounds, drawn, side="right") - 1
        # A sum that is rounded up may reach into the next group.
        return np.asarray(self._merchants[np.minimum(place, end - 1)])


@dataclass(frozen=True, slots=True)
class World:
    """A world of c cards and m merchants.

    Attributes
    ----------
    rate : float64 (c,)
        Transactions a day.
    usual_amount : float64 (c,)
    home : int64 (c,)
        The place where a card's holder lives.
    favourites : int32 (c, FAVOURITES)
        Merchants, the one that the card uses most first; most are shops at home, some sell online.
    is_online : bool (m,)
    price : float64 (m,)
        Multiplies the card's usual amount; 1 is usual.
    country : int8 (m,)
        Index into `COUNTRIES`.
    shops, online
        Shops grouped by place; merchants that sell online, all in group 0.
    places
        Places to live in or to travel to; each has a shop.
    """

    rate: NDArray[np.float64]
    usual_amount: NDArray[np.float64]
    home: NDArray[np.int64]
    favourites: NDArray[np.int32]
    is_online: NDArray[np.bool_]
    price: NDArray[np.float64]
    country: NDArray[np.int8]
    shops: Market
    online: Market
    places: NDArray[np.int64]
    _card_at: NDArray[np.float32]
    _merchant_at: NDArray[np.float32]

    @classmethod
    def drawn(cls, traffic: Traffic, rng: np.random.Generator) -> Self:
        """Draw a world."""
        cards, merchants = traffic.cards, traffic.merchants
        place_country, latitude, longitude = _places(rng, merchants)
        place = rng.integers(place_country.size, size=merchants)
        is_online = rng.permutation(merchants) < max(1, round(merchants * _ONLINE_SHARE))
        shops, online = _markets(place, is_online, place_country.size)
        with_shops = np.unique(place[~is_online])
        lived_in = with_shops[place_country[with_shops] < _CARDS_COUNTRIES]
        home = rng.choice(lived_in if lived_in.size else with_shops, cards)
        return cls(
            rate=rng.uniform(0.0, 2.0 * traffic.per_card_day, cards),
            usual_amount=rng.lognormal(np.log(35.0), 0.6, cards),
            home=home,
            favourites=_favourites(rng, home, shops, online),
            is_online=is_online,
            price=rng.lognormal(0.0, 0.4, merchants),
            country=place_country[place],
            shops=shops,
            online=online,
            places=with_shops,
            _card_at=_scattered(rng, latitude[home], longitude[home]),
            _merchant_at=_scattered(rng, latitude[place], longitude[place]),
        )

    def distance_km(self, card: NDArray[np.int32], merchant: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the distance from each card's home to its merchant along the surface, rounded to 100 m."""
        apart = self._card_at[card] - self._merchant_at[merchant]
        # At short distances the chord of two unit vectors keeps the precision that their dot product loses.
        chord = np.sqrt(np.einsum("ij,ij->i", apart, apart).astype(np.float64))
        return np.asarray(np.round(2.0 * _EARTH_RADIUS_KM * np.arcsin(np.minimum(chord / 2.0, 1.0)), 1))


def draw_weighted(rng: np.random.Generator, weights: NDArray[np.float64], n: int) -> NDArray[np.int64]:
    """Draw n indices in proportion to the weights."""
    bounds = weights.cumsum()
    drawn: NDArray[np.int64] = np.searchsorted(bounds, rng.random(n) * bounds[-1], side="right")
    return drawn


def _places(
    rng: np.random.Generator, merchants: int
) -> tuple[NDArray[np.int8], NDArray[np.float64], NDArray[np.float64]]:
    """Draw the country, latitude and longitude of each place."""
    count = min(max(merchants // _MERCHANTS_PER_PLACE, 1), _MOST_PLACES)
    country = draw_weighted(rng, _POPULATION, count)
    latitude = _LATITUDE[country] + rng.normal(0.0, _PLACE_SPREAD_DEGREES, count)
    longitude = _LONGITUDE[country] + rng.normal(0.0, _PLACE_SPREAD_DEGREES, count)
    return country.astype(np.int8), latitude, longitude


def _markets(place: NDArray[np.int64], is_online: NDArray[np.bool_], places: int) -> tuple[Market, Market]:
    popularity = 1.0 / np.sqrt(1.0 + np.arange(place.size))
    shop = np.flatnonzero(~is_online).astype(np.int32)
    web = np.flatnonzero(is_online).astype(np.int32)
    return (
        Market(shop, place[shop], popularity[shop], places),
        Market(web, np.zeros(web.size, np.int64), popularity[web], 1),
    )


def _favourites(
    rng: np.random.Generator, home: NDArray[np.int64], shops: Market, online: Market
) -> NDArray[np.int32]:
    near = FAVOURITES - _ONLINE_FAVOURITES
    found = np.concatenate(
        [
            shops.draw(rng, np.repeat(home, near)).reshape(-1, near),
            online.draw(rng, np.zeros(home.size * _ONLINE_FAVOURITES, np.int64)).reshape(
                -1, _ONLINE_FAVOURITES
            ),
        ],
        axis=1,
    )
    return np.asarray(rng.permuted(found, axis=1))


def _scattered(
    rng: np.random.Generator, latitude: NDArray[np.float64], longitude: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Draw points near places: unit vectors from the centre of the earth, float32 (n, 3)."""
    phi = np.radians(latitude + rng.normal(0.0, _TOWN_SPREAD_DEGREES, latitude.size))
    lam = np.radians(longitude + rng.normal(0.0, _TOWN_SPREAD_DEGREES, latitude.size))
    axes = [np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam), np.sin(phi)]
    return np.stack(axes, axis=1).astype(np.float32)
