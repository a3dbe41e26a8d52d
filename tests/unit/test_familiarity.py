"""How familiar a card is with a value of another entity, against lists of everything that the card ever did."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.familiarity import advance_familiarity, most_rows
from models.feature_layout import FeatureLayout, FeatureSpec
from models.features import CardAggregates
from models.places import advance_places
from models.vocabulary import MS_PER_DAY

SPEC = FeatureSpec((), (), ("merchant", "device"), place=())
HALF_LIFE_MS = SPEC.half_lives_days[2] * MS_PER_DAY
SHOP, OTHER_SHOP = 7, 8


def shares(
    cards: list[int], merchants: list[int], days: list[float], devices: list[int] | None = None
) -> NDArray[np.float32]:
    """Return the shares of merchant and device of each transaction, float32 (n, 2)."""
    entities = np.array([merchants, devices or [0] * len(cards)], np.uint64).T
    times_ms = np.array([round(day * MS_PER_DAY) for day in days])
    return advanced(CardAggregates(SPEC, 100), np.array(cards, np.uint64), entities, times_ms)


def advanced(
    aggregates: CardAggregates,
    cards: NDArray[np.uint64],
    entities: NDArray[np.uint64],
    times_ms: NDArray[np.int64],
) -> NDArray[np.float32]:
    features, _ = aggregates.advance(cards, entities, times_ms, np.ones(len(cards)), MS_PER_DAY)
    return features[:, -2:]


def test_a_value_is_new_to_a_card_until_the_card_has_used_it() -> None:
    found = shares([5] * 4, [SHOP, OTHER_SHOP, SHOP, SHOP], [1.0] * 4)[:, 0]
    assert math.isnan(found[0]), "to a card without history nothing is new"
    assert found[1:].tolist() == pytest.approx([0.0, 1 / 2, 2 / 3])


def test_a_value_that_one_card_knows_is_new_to_another() -> None:
    found = shares([5, 6, 6, 5], [SHOP, OTHER_SHOP, SHOP, SHOP], [1.0] * 4)[:, 0]
    assert found[2:].tolist() == [0.0, 1.0]


def test_one_identifier_in_two_fields_is_two_values() -> None:
    found = shares([5, 5], [SHOP, OTHER_SHOP], [1.0, 1.0], devices=[OTHER_SHOP, SHOP])
    assert found[1].tolist() == [0.0, 0.0]


def test_without_a_card_or_a_value_nothing_is_known_and_nothing_is_folded() -> None:
    found = shares([5, 0, 5, 5], [SHOP, SHOP, 0, SHOP], [1.0] * 4)
    assert np.isnan(found[:3]).all()
    assert found[3, 0] == 1 / 2, "one of two transactions had the shop: the one without a card is nobody's"
    assert np.isnan(found[:, 1]).all()


def test_shares_are_those_of_all_earlier_transactions_decayed_late_ones_included() -> None:
    rng = np.random.default_rng(3)
    count = 600
    times_ms = np.sort(rng.integers(0, 40 * MS_PER_DAY, count))
    times_ms[rng.random(count) < 0.3] -= MS_PER_DAY
    cards = rng.integers(1, 6, count).astype(np.uint64)
    entities = rng.integers(0, 5, (count, 2)).astype(np.uint64)
    expected = np.full((count, 2), np.nan)
    for at in range(count):
        of_card = cards[:at] == cards[at]
        for e in np.flatnonzero(entities[at] != 0):
            if of_card.any():
                of_value = of_card & (entities[:at, e] == entities[at, e])
                ratio = decayed(times_ms[:at][of_value], times_ms[at]) / decayed(
                    times_ms[:at][of_card], times_ms[at]
                )
                expected[at, e] = min(1.0, ratio)
    found = advanced(CardAggregates(SPEC, 100), cards, entities, times_ms)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert (found == 0.0).sum() > 10


def decayed(times_ms: NDArray[np.int64], at_ms: int) -> float:
    """Return the count of what happened at these times, as of then or of the latest of them."""
    now_ms = max(at_ms, times_ms.max(initial=at_ms))
    return math.fsum(0.5 ** ((now_ms - times_ms) / HALF_LIFE_MS))


def test_shares_do_not_depend_on_how_they_were_batched_evictions_included() -> None:
    rng = np.random.default_rng(4)
    count = 800
    cards, times_ms = (
        rng.integers(1, 9, count).astype(np.uint64),
        np.sort(rng.integers(0, 40 * MS_PER_DAY, count)),
    )
    entities = rng.integers(0, 40, (count, 2)).astype(np.uint64)
    whole, parts = CardAggregates(SPEC, 10), CardAggregates(SPEC, 10)
    expected = advanced(whole, cards, entities, times_ms)
    found = [
        advanced(parts, cards[rows], entities[rows], times_ms[rows])
        for rows in np.array_split(np.arange(count), 7)
    ]
    np.testing.assert_array_equal(np.concatenate(found), expected)
    ours, theirs = whole.arrays(), parts.arrays()
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])
    assert ours["familiar_evictions"][0] > 0
    assert len(ours["familiar_keys"]) <= most_rows(10, 2)


def test_a_value_that_has_been_evicted_is_new_again() -> None:
    # Eight values may be remembered, of all cards and entities together: what is known the least of goes first.
    aggregates = CardAggregates(SPEC, 1)
    merchants = [SHOP, SHOP, *range(100, 108), SHOP, 100]
    entities = np.array([merchants, [0] * len(merchants)], np.uint64).T
    cards, times_ms = np.full(len(merchants), 5, np.uint64), np.zeros(len(merchants), np.int64)
    found = advanced(aggregates, cards, entities, times_ms)[-2:, 0]
    assert found.tolist() == pytest.approx([2 / 10, 0.0])


def test_a_value_used_often_outlives_newer_ones_that_were_used_once() -> None:
    # Four uses are worth two half-lives, 40 days.
    merchants = [SHOP] * 4 + [OTHER_SHOP] + [*range(100, 108)] + [SHOP, OTHER_SHOP]
    days = [0.0] * 5 + [30.0] * 10
    entities = np.array([merchants, [0] * len(merchants)], np.uint64).T
    cards, times_ms = np.full(len(merchants), 5, np.uint64), np.array(days, np.int64) * MS_PER_DAY
    found = advanced(CardAggregates(SPEC, 1), cards, entities, times_ms)[-2:, 0]
    assert found[0] > 0.0
    assert found[1] == 0.0


def test_a_card_that_has_been_forgotten_in_time_begins_anew() -> None:
    found = shares([5, 5, 5], [SHOP, SHOP, SHOP], [0.0, 20.0 * 19, 20.0 * 40])[:, 0]
    assert found[1] == pytest.approx(1.0)
    assert math.isnan(found[2]), "after 21 half-lives nothing of its history is left"


def test_no_share_is_above_one_where_the_card_has_been_evicted_and_its_values_have_not() -> None:
    # Two cards fit: the first, used least, goes when the third comes. Its value, used three times, stays.
    cards = np.array([5] * 3 + [6] * 5 + [7] * 5 + [5, 5], np.uint64)
    merchants = [SHOP] * 3 + [1] * 5 + [2] * 5 + [OTHER_SHOP, SHOP]
    entities = np.array([merchants, [0] * len(cards)], np.uint64).T
    found = advanced(CardAggregates(SPEC, 2), cards, entities, np.zeros(len(cards), np.int64))[-2:, 0]
    assert math.isnan(found[0]), "the card begins anew"
    assert found[1] == 1.0, "three of one transaction"


def test_a_batch_may_bring_more_new_values_than_the_table_has_room_for() -> None:
    count = 3_000
    cards, times_ms = np.full(count, 5, np.uint64), np.zeros(count, np.int64)
    entities = np.column_stack([np.arange(1, count + 1), np.arange(1, count + 1)]).astype(np.uint64)
    aggregates = CardAggregates(SPEC, 10_000)
    advanced(aggregates, cards, entities, times_ms)
    assert len(aggregates.arrays()["familiar_keys"]) == 2 * count
    again = advanced(aggregates, cards, entities, times_ms)
    np.testing.assert_allclose(again, np.column_stack([1 / np.arange(count, 2 * count)] * 2), rtol=1e-6)


def test_shares_stand_behind_what_places_say() -> None:
    spec = FeatureSpec(("lat", "lon"), (), ("merchant", "device"), place=("lat", "lon"))
    entities = np.array([[SHOP, 3], [SHOP, 4]], np.uint64)
    cards, times_ms = np.full(2, 5, np.uint64), np.array([0, MS_PER_DAY // 24])
    place = np.array([[0.0, 0.0], [1.0, 0.0]], np.float32)
    found, _ = CardAggregates(spec, 10).advance(cards, entities, times_ms, np.ones(2), MS_PER_DAY, place)
    names = FeatureLayout.from_spec(spec).names[1 : 1 + spec.card_features]
    degree_km = 6371.0 * math.pi / 180
    known = dict(zip(names, found[1].tolist(), strict=True))
    assert known["card_distance_km"] == pytest.approx(degree_km, rel=1e-5)
    assert known["card_usual_distance_km"] == pytest.approx(degree_km, rel=1e-5)
    # The first hour has taken a little of the card's count and of the value's count alike.
    assert (known["card_merchant_share"], known["card_device_share"]) == pytest.approx((1.0, 0.0))


def test_the_compiled_folds_exist_for_one_kind_of_arrays_whatever_the_batch() -> None:
    for entities in (0, 2):
        spec = FeatureSpec(("lat", "lon"), (), ("merchant", "device")[:entities], place=("lat", "lon"))
        for count in (0, 1, 5):
            columns = np.ones((count, 5), np.uint64)
            place, times_ms = np.ones((count, 2), np.float32), np.zeros(count, np.int64)
            CardAggregates(spec, 10).advance(
                columns[:, 0], columns[:, 1 : 1 + entities], times_ms, np.ones(count), MS_PER_DAY, place
            )
    assert len(advance_familiarity.signatures) == len(advance_places.signatures) == 1


def test_fewer_cards_may_be_remembered_from_now_on_and_so_fewer_values() -> None:
    aggregates = CardAggregates(SPEC, 100)
    cards = np.arange(1, 101, dtype=np.uint64)
    entities = np.column_stack([cards, cards])
    advanced(aggregates, cards, entities, np.zeros(100, np.int64))
    assert len(aggregates.arrays()["familiar_keys"]) == 200
    aggregates.bound(10)
    assert len(aggregates.arrays()["familiar_keys"]) <= most_rows(10, 2) == 80


def test_a_table_never_has_more_rows_than_its_index_can_number() -> None:
    assert most_rows(5_000_000, 2) == 40_000_000
    assert most_rows(2**30, 9) == 2**30
    assert most_rows(10, 0) == 1
