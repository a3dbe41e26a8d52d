"""Where cards were: distances and speeds, against great circles worked out by the haversine formula."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from models import places
from models.feature_layout import FeatureLayout, FeatureSpec
from models.features import CardAggregates
from models.records import Lineage
from models.state import LineageMismatchError
from models.vocabulary import MS_PER_DAY
from tests.support.model_log import new_state
from worker.parameters import feature_spec
from worker.settings.fields import TransactionFields
from worker.settings.sections import Settings

SPEC = FeatureSpec(("lon", "age", "lat"), (), (), place=("lat", "lon"))
HOUR_MS = MS_PER_DAY // 24
LONDON, PARIS, SYDNEY = (51.5074, -0.1278), (48.8566, 2.3522), (-33.8688, 151.2093)
RADIUS_KM = 6371.0

Place = tuple[float, float]


def haversine_km(a: Place, b: Place) -> float:
    (lat_a, lon_a), (lat_b, lon_b) = ([math.radians(it) for it in place] for place in (a, b))
    h = math.sin((lat_b - lat_a) / 2) ** 2
    h += math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * RADIUS_KM * math.asin(math.sqrt(h))


def no_entities(card: NDArray[Any]) -> NDArray[np.uint64]:
    return np.zeros((len(card), 0), np.uint64)


def journey(
    visited: Sequence[Place], hours: Sequence[float], cards: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Return distance, speed and distance from the usual place of each transaction, float32 (n, 3)."""
    card = np.full(len(visited), 5, np.uint64) if cards is None else np.array(cards, np.uint64)
    times_ms = np.array([round(hour * HOUR_MS) for hour in hours])
    place = np.array(visited, np.float32)
    found, _ = CardAggregates(SPEC, 100).advance(
        card, no_entities(card), times_ms, np.ones(len(card)), MS_PER_DAY, place
    )
    return found[:, -places.FEATURES :]


def test_distance_and_speed_are_those_of_the_great_circle_from_the_last_place() -> None:
    found = journey([LONDON, PARIS, SYDNEY], [0.0, 2.0, 26.0])
    assert np.isnan(found[0]).all()
    assert found[1, 0] == pytest.approx(343.6, abs=0.1)
    assert found[1, 1] == pytest.approx(343.6 / 2, abs=0.1)
    distance_km = haversine_km(PARIS, SYDNEY)
    assert found[2, :2].tolist() == pytest.approx([distance_km, distance_km / 24], rel=1e-6)


def test_the_date_line_and_the_poles_are_no_borders() -> None:
    one_degree_km = RADIUS_KM * math.pi / 180
    over = journey([(0.0, 179.5), (0.0, -179.5), (0.0, 180.5)], [0.0, 1.0, 2.0])
    assert over[1, 0] == pytest.approx(one_degree_km, rel=1e-5)
    assert over[2, 0] == pytest.approx(0.0, abs=1e-3)
    assert journey([(89.5, 10.0), (89.5, 190.0)], [0.0, 1.0])[1, 0] == pytest.approx(one_degree_km, rel=1e-5)
    assert journey([(10.0, 20.0), (-10.0, -160.0)], [0, 1])[1, 0] == pytest.approx(
        math.pi * RADIUS_KM, rel=1e-6
    )


def test_two_transactions_of_one_moment_are_a_minute_apart() -> None:
    found = journey([LONDON, PARIS], [3.0, 3.0])[1]
    assert found[1] == pytest.approx(60 * haversine_km(LONDON, PARIS), rel=1e-6)


def test_a_transaction_without_a_place_is_passed_over() -> None:
    nowhere = (math.nan, 2.0), (48.0, math.nan), (90.1, 0.0), (0.0, 361.0), (math.inf, 0.0)
    found = journey([LONDON, *nowhere, PARIS], [0, 1, 1, 1, 1, 1, 2])
    assert np.isnan(found[1:-1]).all()
    assert found[-1].tolist() == pytest.approx(journey([LONDON, PARIS], [0, 2])[1].tolist(), rel=1e-6)


def test_cards_are_apart_and_no_card_is_nowhere() -> None:
    found = journey([LONDON, PARIS, PARIS, PARIS], [0, 1, 2, 3], cards=[5, 6, 0, 5])
    assert np.isnan(found[:3]).all()
    assert found[3, 0] == pytest.approx(haversine_km(LONDON, PARIS), rel=1e-6)


def unit(place: Place) -> NDArray[np.float64]:
    latitude, longitude = np.radians(place)
    return np.array(
        [
            np.cos(latitude) * np.cos(longitude),
            np.cos(latitude) * np.sin(longitude),
            np.sin(latitude),
        ]
    )


def test_the_usual_place_is_the_decayed_mean_of_all_places_late_ones_included() -> None:
    rng = np.random.default_rng(3)
    hours = np.sort(rng.uniform(0, 24 * 60, 80))
    hours[rng.random(80) < 0.3] -= 30.0
    visited = [
        (float(lat), float(lon)) for lat, lon in rng.uniform((40, -10), (60, 30), (80, 2)).astype(np.float32)
    ]
    half_life_hours = 24 * SPEC.half_lives_days[2]
    expected = [math.nan]
    for at in range(1, 80):
        now = max(hours[at], hours[:at].max())
        weights = 0.5 ** ((now - hours[:at]) / half_life_hours)
        mean = weights @ np.array([unit(place) for place in visited[:at]])
        middle = (
            math.degrees(math.asin(mean[2] / np.linalg.norm(mean))),
            math.degrees(math.atan2(mean[1], mean[0])),
        )
        expected.append(haversine_km(middle, visited[at]))
    np.testing.assert_allclose(journey(visited, hours.tolist())[:, 2], expected, rtol=1e-5)


def test_a_late_transaction_is_compared_with_the_latest_place_and_does_not_become_it() -> None:
    found = journey([LONDON, SYDNEY, PARIS, SYDNEY], [0.0, 48.0, 47.0, 49.0])
    assert found[2, 1] == pytest.approx(haversine_km(SYDNEY, PARIS), rel=1e-6), "an hour apart"
    assert found[3, 0] == pytest.approx(0.0, abs=1e-3)


def test_a_card_that_was_on_all_sides_alike_has_no_usual_place() -> None:
    found = journey([(0.0, 0.0), (0.0, 180.0), (0.0, 90.0)], [0.0, 0.0, 0.0])
    assert np.isfinite(found[2, :2]).all()
    assert np.isnan(found[2, 2])


def test_places_do_not_depend_on_how_they_were_batched_evictions_included() -> None:
    rng = np.random.default_rng(4)
    card, times_ms = (
        rng.integers(1, 60, 400).astype(np.uint64),
        np.sort(rng.integers(0, 40 * MS_PER_DAY, 400)),
    )
    place, amount = rng.uniform(-90, 90, (400, 2)).astype(np.float32), np.ones(400)
    whole, parts = CardAggregates(SPEC, 20), CardAggregates(SPEC, 20)
    expected, _ = whole.advance(card, no_entities(card), times_ms, amount, MS_PER_DAY, place)
    found = [
        parts.advance(card[rows], no_entities(rows), times_ms[rows], amount[rows], MS_PER_DAY, place[rows])[0]
        for rows in np.array_split(np.arange(400), 7)
    ]
    np.testing.assert_array_equal(np.concatenate(found), expected)
    ours, theirs = whole.arrays(), parts.arrays()
    assert {name for name in ours if name.startswith("place_")} == {
        f"place_{name}" for name in ("keys", "values", "last_ms", "evictions")
    }
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])
    assert ours["place_evictions"][0] > 0


def test_the_features_of_places_follow_those_of_amounts() -> None:
    with_place, without = (FeatureLayout.from_spec(it) for it in (SPEC, dataclasses.replace(SPEC, place=())))
    added = ("card_distance_km", "card_speed_kmh", "card_usual_distance_km")
    assert with_place.names == (*without.names[:11], *added, *without.names[11:])
    assert SPEC.place_columns().tolist() == [2, 0]


def test_a_log_without_a_place_keeps_its_lineage_and_one_with_a_place_is_another() -> None:
    plain, placed = (Lineage(it, "0" * 16, 1.0) for it in (dataclasses.replace(SPEC, place=()), SPEC))
    assert "place" not in plain.describe()
    assert placed.describe()["place"] == ["lat", "lon"]
    for ours, theirs in ((plain, placed), (placed, plain)):
        with pytest.raises(LineageMismatchError, match="place"):
            new_state(ours).fold(0, theirs)


def test_the_setting_names_two_numeric_fields() -> None:
    settings = Settings(
        entity_key="00" * 16, transaction=TransactionFields(numeric=("lat", "lon"), place=("lat", "lon"))
    )
    assert feature_spec(settings).place == ("lat", "lon")


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (("lat",), ("transaction.place", "two fields", "latitude and longitude")),
        (("lat", "lat"), ("transaction.place", "two fields")),
        (("lat", "lng"), ("transaction.place", "'lng'", "transaction.numeric", "'lon'", "add it")),
    ],
)
def test_another_place_is_refused_with_the_remedy(place: tuple[str, ...], words: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError) as refused:
        TransactionFields(numeric=("lat", "lon"), place=place)
    assert [word for word in words if word not in str(refused.value)] == []
