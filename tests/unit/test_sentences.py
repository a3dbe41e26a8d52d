"""The reasons of an alert in an analyst's words, with their values."""

from __future__ import annotations

import numpy as np
import pytest

from models.feature_layout import FeatureLayout, FeatureSpec
from worker.wire.sentences import Sentences

SPEC = FeatureSpec(("distance_km",), ("channel",), ("merchant_id",))
LAYOUT = FeatureLayout.from_spec(SPEC)
SENTENCES = Sentences(SPEC)
SHORT_LEGITS = 26.0
MERCHANT = {
    "merchant_id_odds_short": float(np.log((4 + 0.02) / (SHORT_LEGITS + 1))),
    "merchant_id_odds_middle": float(np.log(0.25)),
    "merchant_id_fraud_share": 4 / (4 + SHORT_LEGITS),
    "merchant_id_legit_age": -float(np.log2(SHORT_LEGITS)),
    "merchant_id_frauds": 6.2,
    "merchant_id_rate_ratio": 2.5,
}


def said(feature: str, values: dict[str, float], category: str | None = None) -> str:
    row = np.full(len(LAYOUT.names), np.nan, np.float32)
    for name, value in values.items():
        row[LAYOUT.names.index(name)] = value
    return SENTENCES.of(LAYOUT.names.index(feature), row.tolist(), category)


@pytest.mark.parametrize(
    ("feature", "value", "words"),
    [
        ("amount", 1234.5, "the amount is 1,234.50"),
        ("card_amount_to_usual", 3.14, "3.1 times this card's usual amount"),
        ("card_amount_to_mean", 0.5, "0.5 times this card's average amount"),
        ("card_amount_deviation", -2.04, "2.0 standard deviations below this card's average amount"),
        ("card_usual_amount", 40.0, "this card usually pays about 40.00"),
        ("card_large_count", 2.2, "about 2 recent amounts of this card far above what is usual for it"),
        ("card_large_count", 0.1, "no recent amount of this card far above what is usual for it"),
        ("card_count_short", 7.3, "about 7 latest payments of this card"),
        ("card_count_burst", 3.2, "about 3 payments of this card just before"),
        ("card_count_burst", 0.2, "no payment of this card just before"),
        ("card_idle_hours", 0.0, "this card last paid at this time or later"),
        ("card_idle_hours", 0.01, "this card last paid less than two minutes before"),
        ("card_idle_hours", 0.5, "this card last paid 30 minutes before"),
        ("card_idle_hours", 47.0, "this card last paid 47 hours before"),
        ("card_idle_hours", 240.0, "this card last paid 10 days before"),
        ("card_idle_hours", np.nan, "this card has no earlier payment"),
        ("card_merchant_id_share", 0.0, "this merchant_id is new to this card"),
        ("card_merchant_id_share", 0.25, "about 25 % of this card's payments had this merchant_id"),
        ("card_merchant_id_share", 0.004, "less than 1 % of this card's payments had this merchant_id"),
        ("card_merchant_id_share", np.nan, "this card has no earlier payment"),
        ("card_frauds", 0.0, "no fraud reported on this card"),
        ("card_frauds", 1.0, "about 1 fraud reported on this card"),
        ("hour", 3.25, "at 03:15 UTC"),
        ("distance_km", 812.0, "distance_km is 812"),
        ("distance_km", np.nan, "distance_km is missing"),
        ("card_amount_to_usual", np.nan, "this card's usual amount is not known yet"),
    ],
)
def test_a_feature_is_a_sentence_with_its_value(feature: str, value: float, words: str) -> None:
    assert said(feature, {feature: value}) == words


def test_a_value_that_is_missing_on_a_known_card_is_missing() -> None:
    assert said("card_merchant_id_share", {"card_count_long": 3.0}) == "merchant_id is missing"


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        ("merchant_id_odds_short", "merchant_id: about 4 frauds among its last 30 payments of known outcome"),
        (
            "merchant_id_fraud_share",
            "merchant_id: about 4 frauds among its last 30 payments of known outcome",
        ),
        (
            "merchant_id_odds_middle",
            "merchant_id: about 20 % fraud among its recent payments of known outcome",
        ),
        ("merchant_id_legit_age", "merchant_id: about 26 latest payments proved legitimate"),
        ("merchant_id_frauds", "merchant_id: about 6 frauds reported"),
        ("merchant_id_rate_ratio", "merchant_id: 2.5 times its usual traffic"),
    ],
)
def test_what_is_known_of_an_entity_is_counted(feature: str, words: str) -> None:
    assert said(feature, MERCHANT) == words


def test_an_entity_without_history_says_so() -> None:
    unknown = float(np.log(0.02))
    new = {
        "merchant_id_odds_short": unknown, "merchant_id_odds_middle": unknown, "merchant_id_legit_age": 39.9
    }  # fmt: skip
    assert said("merchant_id_odds_short", new) == "merchant_id: no payment of known outcome yet"
    assert said("merchant_id_odds_middle", new) == "merchant_id: no payment of known outcome yet"
    assert said("merchant_id_rate_ratio", new) == "merchant_id: its usual traffic is not known yet"


@pytest.mark.parametrize("feature", [name for name in LAYOUT.names if name.startswith("merchant_id_")])
def test_an_entity_that_the_transaction_lacks_is_missing(feature: str) -> None:
    assert said(feature, {}) == "merchant_id is missing"


@pytest.mark.parametrize(
    ("frauds", "legits", "words"),
    [
        (0, 1, "less than 1 %"),
        (20, 1980, "at most 2 %"),
        (1, 0, "about 50 %"),  # by 1.02 / 1, for one payment says little
        (30, 70, "about 30 %"),
    ],
)
def test_a_share_of_fraud_is_not_said_to_be_larger_than_it_is_where_little_is_known(
    frauds: int, legits: int, words: str
) -> None:
    odds = {"merchant_id_odds_middle": float(np.log((frauds + 0.02) / (legits + 1)))}
    sentence = f"merchant_id: {words} fraud among its recent payments of known outcome"
    assert said("merchant_id_odds_middle", odds) == sentence


def test_a_place_is_said_in_kilometres() -> None:
    spec = FeatureSpec(("lat", "lon"), (), ("merchant_id",), place=("lat", "lon"))
    names, sentences = FeatureLayout.from_spec(spec).names, Sentences(spec)
    row = np.full(len(names), np.nan, np.float32)

    def of(name: str) -> str:
        return sentences.of(names.index(name), row.tolist(), None)

    assert of("card_speed_kmh") == "no earlier place of this card is known"
    row[[names.index(name) for name in ("card_distance_km", "card_speed_kmh", "card_frauds")]] = (
        1234.4,
        5678.0,
        2.0,
    )
    assert of("card_distance_km") == "1,234 km from this card's last place"
    assert of("card_speed_kmh") == "5,678 km/h since this card's last place"
    assert of("card_frauds") == "about 2 frauds reported on this card"
    assert all(sentences.of(feature, row.tolist(), None).isprintable() for feature in range(len(names)))


def test_the_date_from_which_an_age_counts_is_a_date() -> None:
    spec = FeatureSpec(("weight", "age"), (), (), ages=("age",))
    names, sentences = FeatureLayout.from_spec(spec).names, Sentences(spec)
    row = np.full(len(names), np.nan, np.float32)
    assert (
        sentences.of(names.index("age_date"), row.tolist(), None) == "age counts from a date that is missing"
    )
    row[names.index("age_date")], row[names.index("age")] = 19_723.0, 12.0
    assert sentences.of(names.index("age_date"), row.tolist(), None) == "age counts from 2024-01-01"
    assert sentences.of(names.index("age"), row.tolist(), None) == "age is 12"
    assert sentences.of(names.index("weight"), row.tolist(), None) == "weight is missing"
    for days in (-1e6, 1e6):
        row[names.index("age_date")] = days
        assert sentences.of(names.index("age_date"), row.tolist(), None).isprintable()


def test_a_category_is_named() -> None:
    assert said("channel", {}, "web") == "channel is web"
    assert said("channel", {}) == "channel is missing"


def test_every_feature_has_a_sentence_at_every_value() -> None:
    for feature in range(len(LAYOUT.names)):
        for value in (np.nan, 0.0, -50.0, 1e9, 1e-9):
            row = np.full(len(LAYOUT.names), value, np.float32)
            assert SENTENCES.of(feature, row.tolist(), None).isprintable()
