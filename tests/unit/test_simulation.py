from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from models.vocabulary import LabelSource
from worker.errors import SettingsError
from worker.offline.dataset import NEVER, Dataset
from worker.simulation import FIELDS, FraudKind, Simulation, Traffic, simulate
from worker.simulation.rows import CHANNELS
from worker.simulation.world import COUNTRIES

TRAFFIC = Traffic(cards=2_000, merchants=2_000, days=42, prevalence=0.02, seed=11)
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.fixture(scope="module")
def made() -> Simulation:
    return Simulation.of(TRAFFIC)


@pytest.fixture(scope="module")
def changed() -> Simulation:
    return Simulation.of(dataclasses.replace(TRAFFIC, pattern_change_day=21))


def columns(data: Dataset) -> list[object]:
    arrays = [data.transaction_id, data.card_id, *data.entities.values(), *data.categorical.values()]
    truth = [data.is_fraud, data.label_time_ms, data.label_source]
    numbers: list[object] = [data.event_time_ms, data.amount, *data.numeric.values(), *truth]
    return [array.to_pylist() for array in arrays] + [np.asarray(array).tolist() for array in numbers]


def test_the_same_seed_makes_the_same_world_and_another_seed_another() -> None:
    small = Traffic(cards=50, merchants=20, days=3, prevalence=0.05, seed=5)
    assert columns(simulate(small)) == columns(simulate(small))
    assert columns(simulate(small)) != columns(simulate(dataclasses.replace(small, seed=6)))


def test_it_is_a_data_set_in_order_of_time_with_unique_ids(made: Simulation) -> None:
    data = made.dataset()
    assert data.fields is FIELDS
    assert (set(data.entities), set(data.categorical)) == (set(FIELDS.entities), set(FIELDS.categorical))
    assert set(data.numeric) == set(FIELDS.numeric)
    assert len(data) == len(made)
    assert pc.count_distinct(data.transaction_id).as_py() == len(data)
    assert (np.diff(data.event_time_ms) >= 0).all()
    assert data.event_time_ms[0] >= TRAFFIC.start_ms
    assert data.event_time_ms[-1] < TRAFFIC.start_ms + 42 * DAY_MS
    assert (data.amount > 0).all()
    np.testing.assert_allclose(data.amount * 100, np.round(data.amount * 100), atol=1e-6)
    assert set(data.categorical["channel"].to_pylist()) == set(CHANNELS)
    assert set(data.categorical["country"].to_pylist()) <= set(COUNTRIES)


def test_a_part_of_the_rows_has_the_names_they_have_in_the_whole(made: Simulation) -> None:
    whole, rows = made.dataset(), np.arange(100, 200)
    assert columns(made.dataset(slice(100, 200))) == columns(whole.take(rows)) == columns(made.dataset(rows))


def test_volume_is_what_cards_and_days_promise(made: Simulation) -> None:
    # Rates are uniform on (0, 4): over 2,000 cards the mean of 2 has a standard error of 0.026.
    honest = made.counts()[FraudKind.NONE]
    assert honest / (2_000 * 42) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("prevalence", [0.00002, 0.001, 0.05])
@pytest.mark.parametrize("change", [None, 30])
def test_prevalence_is_what_was_asked_to_the_nearest_transaction(
    prevalence: float, change: int | None
) -> None:
    traffic = dataclasses.replace(TRAFFIC, prevalence=prevalence, pattern_change_day=change)
    data = simulate(traffic)
    assert data.is_fraud is not None
    assert abs(data.is_fraud.sum() - prevalence * len(data)) <= 0.5


def test_one_in_a_hundred_thousand_of_three_hundred_thousand_is_three() -> None:
    data = simulate(Traffic(cards=3_000, merchants=500, days=50, per_card_day=2.0, prevalence=1e-5))
    assert 280_000 < len(data) < 320_000
    assert data.is_fraud is not None
    assert data.is_fraud.sum() == 3


def test_no_fraud_can_be_asked_for() -> None:
    data = simulate(Traffic(cards=20, merchants=5, days=2, prevalence=0))
    assert data.is_fraud is not None
    assert not data.is_fraud.any()


def test_the_smallest_world_has_its_frauds() -> None:
    data = simulate(Traffic(cards=1, merchants=2, days=2, per_card_day=50.0, prevalence=0.2, seed=1))
    assert data.is_fraud is not None
    assert data.is_fraud.mean() == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("start_day", "busiest", "quietest"), [("2024-01-01", 4, 6), ("2024-01-05", 0, 2)])
def test_days_have_a_rhythm_and_weeks_begin_on_monday(start_day: str, busiest: int, quietest: int) -> None:
    start_ms = int(np.datetime64(start_day, "ms").astype(int))
    traffic = dataclasses.replace(TRAFFIC, start_ms=start_ms, prevalence=0)
    times = simulate(traffic).event_time_ms - start_ms
    hours = np.bincount(times // HOUR_MS % 24, minlength=24)
    assert hours[[12, 18]].min() > 5 * hours[[2, 3, 4]].max()
    days = np.bincount(times // DAY_MS % 7, minlength=7)
    assert (int(days.argmax()), int(days.argmin())) == (busiest, quietest)  # Fridays and Sundays


def test_shops_are_near_home_but_for_journeys_and_the_internet_is_not(made: Simulation) -> None:
    data, kind = made.dataset(), made.rows.kind
    online = np.array(data.categorical["channel"].to_pylist()) == "online"
    distance = data.numeric["distance_km"]
    in_shops = distance[~online & (kind == FraudKind.NONE)]
    assert np.median(in_shops) < 30
    assert 0.01 < (in_shops > 300).mean() < 0.08  # 40 % of the cards travel some 6.5 of 60 days: 4 %
    assert np.median(distance[online]) > 300


def test_distances_are_those_along_the_surface(made: Simulation) -> None:
    rows = made.rows.take(slice(0, 1_000))
    card, merchant = made.world._card_at[rows.card], made.world._merchant_at[rows.merchant]
    angles = np.arccos(
        np.einsum("ij,ij->i", card.astype(np.float64), merchant.astype(np.float64)).clip(-1, 1)
    )
    np.testing.assert_allclose(made.world.distance_km(rows.card, rows.merchant), 6_371 * angles, atol=2.5)
    np.testing.assert_allclose(np.linalg.norm(card, axis=1), 1.0, atol=1e-6)


def test_every_kind_of_fraud_has_its_share(made: Simulation) -> None:
    data, counts = made.dataset(), made.counts()
    assert data.is_fraud is not None
    np.testing.assert_array_equal(made.rows.kind != FraudKind.NONE, data.is_fraud)
    shares = np.array([counts[kind] for kind in [*FraudKind][1:]]) / data.is_fraud.sum()
    np.testing.assert_allclose(shares, [0.2, 0.4, 0.3, 0.1], atol=0.001)


def groups(owner: NDArray[Any], time_ms: NDArray[np.int64], gap_ms: int) -> list[NDArray[np.int64]]:
    """Rows of one owner without a longer gap between them: the episodes, unless two of an owner run together."""
    order = np.lexsort((time_ms, owner))
    apart = (np.diff(owner[order]) != 0) | (np.diff(time_ms[order]) > gap_ms)
    return np.split(order, np.flatnonzero(apart) + 1)


def test_card_testing_is_a_burst_of_tiny_online_payments_and_a_large_one(made: Simulation) -> None:
    rows = made.rows.take(np.flatnonzero(made.rows.kind == FraudKind.CARD_TESTING))
    assert {CHANNELS[channel] for channel in rows.channel} == {"online"}
    bursts = groups(rows.card, rows.time_ms, HOUR_MS)
    whole = [burst for burst in bursts if 5 <= burst.size <= 10]
    assert len(whole) >= len(bursts) - 5  # one is cut short; two on one card may run together
    for burst in whole:
        assert rows.time_ms[burst].max() - rows.time_ms[burst].min() <= 6 * 60_000
        assert np.unique(rows.merchant[burst]).size == 1
        amounts = rows.amount[burst][np.argsort(rows.time_ms[burst])]
        assert (amounts[:-1] <= 3.0).all()
        usual = made.world.usual_amount[rows.card[burst[0]]]
        assert 3 <= round(amounts[-1] / usual, 2) <= 8


def test_stolen_cards_pay_raised_amounts_within_36_hours_at_merchants_that_are_new(made: Simulation) -> None:
    rows = made.rows.take(np.flatnonzero(made.rows.kind == FraudKind.STOLEN_CARD))
    times = rows.amount / made.world.usual_amount[rows.card]
    assert times.mean() == pytest.approx(3.75, rel=0.1)  # evenly from 2.5 to 5 times
    episodes = groups(rows.card, rows.time_ms, 3 * DAY_MS)
    spans = np.array([np.ptp(rows.time_ms[one]) for one in episodes])
    assert (spans <= 36 * HOUR_MS).mean() > 0.97
    own = (made.world.favourites[rows.card] == rows.merchant[:, None]).any(axis=1)
    honest = made.rows.take(np.flatnonzero(made.rows.kind == FraudKind.NONE))
    usual = (made.world.favourites[honest.card] == honest.merchant[:, None]).any(axis=1)
    assert own.mean() < 0.4
    assert usual.mean() > 0.8


def test_a_compromised_merchant_takes_ordinary_amounts_from_many_cards_for_weeks(made: Simulation) -> None:
    rows = made.rows.take(np.flatnonzero(made.rows.kind == FraudKind.COMPROMISED_MERCHANT))
    ratio = rows.amount / (made.world.usual_amount[rows.card] * made.world.price[rows.merchant])
    assert ratio.mean() == pytest.approx(1.0, abs=0.1)
    assert not made.world.is_online[rows.merchant].any()
    assert np.unique(rows.merchant).size >= 10
    for merchant in np.unique(rows.merchant):
        here = rows.merchant == merchant
        assert np.unique(rows.card[here]).size >= 5 or here.sum() < 15
        assert np.ptp(rows.time_ms[here]) <= 28 * DAY_MS or here.sum() > 50


def test_an_account_taken_over_pays_high_amounts_online_far_from_home(made: Simulation) -> None:
    rows = made.rows.take(np.flatnonzero(made.rows.kind == FraudKind.ACCOUNT_TAKEOVER))
    assert {CHANNELS[channel] for channel in rows.channel} == {"online"}
    assert (rows.amount / made.world.usual_amount[rows.card]).mean() == pytest.approx(7.0, rel=0.15)
    episodes = groups(rows.card, rows.time_ms, 3 * DAY_MS)
    assert max(np.ptp(rows.time_ms[one]) for one in episodes) <= 2 * DAY_MS
    honest = made.rows.take(np.flatnonzero((made.rows.kind == FraudKind.NONE) & (made.rows.channel == 2)))
    far = np.median(made.world.distance_km(rows.card, rows.merchant))
    assert far > 1.3 * np.median(made.world.distance_km(honest.card, honest.merchant))


def test_frauds_change_on_the_day_and_not_before(changed: Simulation) -> None:
    rows, change_ms = changed.rows, TRAFFIC.start_ms + 21 * DAY_MS
    frauds = rows.take(np.flatnonzero(rows.kind != FraudKind.NONE))
    after = frauds.time_ms >= change_ms
    shares = [np.bincount(frauds.kind[part], minlength=5)[1:] / part.sum() for part in (~after, after)]
    np.testing.assert_allclose(shares, [[0.2, 0.4, 0.3, 0.1], [0.1, 0.15, 0.25, 0.5]], atol=0.005)
    small = (frauds.kind == FraudKind.CARD_TESTING) & (frauds.amount <= 3)
    larger = (frauds.kind == FraudKind.CARD_TESTING) & (frauds.amount > 4) & (frauds.amount <= 12)
    assert not after[small].any()
    assert after[larger].mean() > 0.9  # the last one of a burst may be as small on either side
    compromised = frauds.kind == FraudKind.COMPROMISED_MERCHANT
    np.testing.assert_array_equal(changed.world.is_online[frauds.merchant[compromised]], after[compromised])
    takeover = frauds.kind == FraudKind.ACCOUNT_TAKEOVER
    assert not {*frauds.merchant[takeover & ~after]} >= {*frauds.merchant[takeover & after]}


def test_a_change_of_the_frauds_leaves_honest_traffic_as_it_is(made: Simulation, changed: Simulation) -> None:
    before, after = (
        one.rows.take(np.flatnonzero(one.rows.kind == FraudKind.NONE)) for one in (made, changed)
    )
    for field in dataclasses.fields(before):
        np.testing.assert_array_equal(getattr(before, field.name), getattr(after, field.name))


SHARES = {  # chargeback, early warning, analyst, customer
    FraudKind.NONE: (0, 0, 1, 0),
    FraudKind.CARD_TESTING: (0.8, 0, 0, 0.2),
    FraudKind.STOLEN_CARD: (0.4, 0, 0, 0.6),
    FraudKind.COMPROMISED_MERCHANT: (0.7, 0.3, 0, 0),
    FraudKind.ACCOUNT_TAKEOVER: (0.5, 0, 0, 0.5),
}


def test_each_kind_is_labelled_by_its_sources(made: Simulation) -> None:
    for kind, shares in SHARES.items():
        sources = made.labels.source[made.rows.kind == kind]
        found = np.bincount(sources, minlength=6)[1:5] / sources.size
        np.testing.assert_allclose(found, shares, atol=4 * 0.5 / np.sqrt(sources.size))


# Mean of 14 days times a source's own, and shape, of its gamma distribution.
DELAYS = {
    LabelSource.CHARGEBACK: (14.0, 3.0),
    LabelSource.EARLY_WARNING: (5.6, 2.0),
    LabelSource.CUSTOMER: (1.68, 1.5),
    LabelSource.ANALYST: (3.5, 2.0),
}


def test_labels_follow_their_transactions_by_the_delay_of_their_source(made: Simulation) -> None:
    delays = (made.labels.time_ms - made.rows.time_ms) / DAY_MS
    assert (delays >= 0).all()
    for source, (mean, shape) in DELAYS.items():
        found = delays[made.labels.source == source]
        assert found.mean() == pytest.approx(mean, rel=5 / np.sqrt(shape * found.size))
        assert found.var() == pytest.approx(mean**2 / shape, rel=0.5)
        assert (found < mean).mean() > 0.5  # a gamma distribution leans to the left


def test_delays_grow_and_vanish_with_the_mean_that_is_asked_for(made: Simulation) -> None:
    double = Simulation.of(dataclasses.replace(TRAFFIC, label_delay_days=28.0))
    none = Simulation.of(dataclasses.replace(TRAFFIC, label_delay_days=0.0))
    one, two = (each.labels.time_ms - each.rows.time_ms for each in (made, double))
    np.testing.assert_allclose(two, 2.0 * one, atol=2)
    np.testing.assert_array_equal(none.labels.time_ms, none.rows.time_ms)


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_share_of_the_legitimate_transactions_is_labelled(share: float) -> None:
    quiet = Simulation.of(dataclasses.replace(TRAFFIC, legit_labels=share))
    honest = quiet.rows.kind == FraudKind.NONE
    labelled = quiet.labels.time_ms != NEVER
    assert labelled[~honest].all()
    assert labelled[honest].mean() == pytest.approx(share, abs=0.01)
    np.testing.assert_array_equal(labelled, quiet.labels.source != LabelSource.NONE)


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "no cards": ({"cards": 0}, "--cards = 0: make at least 1"),
    "one merchant": ({"merchants": 1}, "--merchants = 1: make at least 2"),
    "no day": ({"days": 0}, "--days = 0: make at least 1"),
    "no purchases": ({"per_card_day": 0.0}, r"--per-card-day = 0\.0: make it more than 0"),
    "more fraud than there may be": (
        {"prevalence": 0.3},
        r"--prevalence = 0\.3: make it a share from 0 to 0\.2",
    ),
    "less than no fraud": ({"prevalence": -0.1}, "--prevalence = -0.1"),
    "a negative seed": ({"seed": -1}, "--seed = -1: make it a whole number from 0 on"),
    "labels before": ({"label_delay_days": -1.0}, r"--label-delay-days = -1\.0: make it 0 or more"),
    "too many labels": ({"legit_labels": 1.5}, r"--legit-labels = 1\.5: make it a share"),
    "a change at the start": (
        {"pattern_change_day": 0},
        "--pattern-change-day = 0: make it a day from 1 to 59",
    ),
    "a change after the end": ({"pattern_change_day": 60}, "or raise --days"),
    "a change within the only day": ({"days": 1, "pattern_change_day": 1}, "make --days at least 2"),
    "a start at noon": ({"start_ms": 12 * HOUR_MS}, "--start = 1970-01-01T12:00:00.000: name a day"),
    "a start before time": ({"start_ms": -DAY_MS}, "choose days from 1970 to 2099"),
    "an end after time": ({"days": 365 * 80}, "choose days from 1970 to 2099"),
    "too much of all": ({"cards": 10**8}, "make some 12,000,000,000 transactions, more than 100,000,000"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_cannot_be_is_refused_with_its_name_its_value_and_what_to_do(case: str) -> None:
    wishes, message = IMPOSSIBLE[case]
    with pytest.raises(SettingsError, match=message):
        Traffic(**wishes)


def test_a_share_of_less_than_one_transaction_is_refused() -> None:
    with pytest.raises(
        SettingsError, match=r"--prevalence = 1e-05 of .* is no fraud at all: .* make 50,000 or more"
    ):
        simulate(Traffic(cards=50, merchants=20, days=3, prevalence=1e-5))
