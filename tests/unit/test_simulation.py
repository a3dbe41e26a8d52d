from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from numpy.typing import NDArray

from worker.dataset import Dataset
from worker.simulation import FIELDS, FraudKind, Traffic, simulate, simulate_with_kinds

TRAFFIC = Traffic(cards=2_000, merchants=2_000, days=42, seed=11)
HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@pytest.fixture(scope="module")
def made() -> tuple[Dataset, NDArray[np.int8]]:
    return simulate_with_kinds(TRAFFIC)


def columns(data: Dataset) -> list[object]:
    arrays = [data.transaction_id, data.card_id, *data.entities.values(), *data.categorical.values()]
    numbers = [data.event_time_ms, data.amount, data.is_fraud, data.label_time_ms]
    return [array.to_pylist() for array in arrays] + [np.asarray(array).tolist() for array in numbers]


def test_the_same_seed_makes_the_same_world_and_another_seed_another() -> None:
    small = Traffic(cards=50, merchants=20, days=3, prevalence=0.05, seed=5)
    assert columns(simulate(small)) == columns(simulate(small))
    assert columns(simulate(small)) != columns(simulate(dataclasses.replace(small, seed=6)))


def test_it_is_a_data_set_in_order_of_time_with_unique_ids(made: tuple[Dataset, NDArray[np.int8]]) -> None:
    data, _ = made
    assert data.fields is FIELDS
    assert (set(data.entities), set(data.categorical)) == (set(FIELDS.entities), set(FIELDS.categorical))
    assert pc.count_distinct(data.transaction_id).as_py() == len(data)
    assert (np.diff(data.event_time_ms) >= 0).all()
    assert data.event_time_ms[0] >= TRAFFIC.start_ms
    assert data.event_time_ms[-1] < TRAFFIC.start_ms + 42 * DAY_MS
    assert (data.amount > 0).all()
    assert data.label_time_ms is not None
    assert (data.label_time_ms - data.event_time_ms == 7 * DAY_MS).all()


def test_volume_is_what_cards_and_days_promise(made: tuple[Dataset, NDArray[np.int8]]) -> None:
    # Rates are uniform on (0, 4): over 2,000 cards the mean of 2 has a standard error of 0.026.
    assert len(made[0]) / (2_000 * 42) == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize("prevalence", [0.002, 0.008, 0.05])
def test_prevalence_is_near_what_was_asked(prevalence: float) -> None:
    data = simulate(dataclasses.replace(TRAFFIC, prevalence=prevalence))
    assert data.is_fraud is not None
    assert data.is_fraud.mean() == pytest.approx(prevalence, rel=0.05)


def test_no_fraud_can_be_asked_for() -> None:
    data = simulate(Traffic(cards=20, merchants=5, days=2, prevalence=0))
    assert data.is_fraud is not None
    assert not data.is_fraud.any()


def test_days_have_a_rhythm(made: tuple[Dataset, NDArray[np.int8]]) -> None:
    data, kind = made
    honest = data.event_time_ms[kind == FraudKind.NONE] - TRAFFIC.start_ms
    hours = np.bincount(honest // HOUR_MS % 24, minlength=24)
    assert hours[[12, 18]].min() > 5 * hours[[2, 3, 4]].max()
    days = np.bincount(honest // DAY_MS % 7, minlength=7)
    assert (int(days.argmax()), int(days.argmin())) == (4, 6)  # the first day is a Monday


def test_every_kind_of_fraud_has_its_share(made: tuple[Dataset, NDArray[np.int8]]) -> None:
    data, kind = made
    assert data.is_fraud is not None
    np.testing.assert_array_equal(kind != FraudKind.NONE, data.is_fraud)
    shares = np.bincount(kind, minlength=4)[1:] / data.is_fraud.sum()
    np.testing.assert_allclose(shares, [0.5, 0.35, 0.15], atol=0.02)


def codes(column: pa.StringArray) -> NDArray[np.int64]:
    return np.asarray(column.dictionary_encode().indices).astype(np.int64)


def test_compromised_merchants_are_a_dozen_or_more_for_five_weeks_at_most_with_normal_amounts(
    made: tuple[Dataset, NDArray[np.int8]],
) -> None:
    data, kind = made
    hit = kind == FraudKind.COMPROMISED_MERCHANT
    merchant = codes(data.entities["merchant_id"])
    assert np.unique(merchant[hit]).size >= 12
    for one in np.unique(merchant[hit]):
        times = data.event_time_ms[hit & (merchant == one)]
        assert times[-1] - times[0] <= 35 * DAY_MS
    assert np.median(data.amount[hit]) == pytest.approx(np.median(data.amount[kind == 0]), rel=0.25)


def test_stolen_cards_pay_five_times_as_much_within_two_weeks(
    made: tuple[Dataset, NDArray[np.int8]],
) -> None:
    data, kind = made
    hit, card = kind == FraudKind.STOLEN_CARD, codes(data.card_id)
    ratios = []
    for one in np.unique(card[hit]):
        times = data.event_time_ms[hit & (card == one)]
        assert times[-1] - times[0] <= 14 * DAY_MS
        own = data.amount[(card == one) & (kind == FraudKind.NONE)]
        ratios += list(data.amount[hit & (card == one)] / own.mean()) if own.size else []
    assert np.mean(ratios) == pytest.approx(5.0, rel=0.15)


def test_card_testing_is_a_burst_of_tiny_online_payments_and_a_large_one(
    made: tuple[Dataset, NDArray[np.int8]],
) -> None:
    data, kind = made
    hit = kind == FraudKind.CARD_TESTING
    assert set(data.categorical["channel"].filter(pa.array(hit)).to_pylist()) == {"online"}
    tiny = data.amount[hit] <= 3.0
    assert 0.75 < tiny.mean() < 0.92  # all but one of five to ten
    card = codes(data.card_id)
    for one in np.unique(card[hit])[:20]:
        times = data.event_time_ms[hit & (card == one)]
        assert np.median(np.diff(times)) < 5 * 60_000
