"""The columns of the feature matrix: their names, their order, and what is put where."""

from __future__ import annotations

import math

import numpy as np

from models.feature_layout import FeatureLayout, FeatureSpec, assemble
from models.vocabulary import MS_PER_DAY

_SPEC = FeatureSpec(numeric=("age",), categorical=("country", "channel"), entities=("merchant", "device"))
_LAYOUT = FeatureLayout.from_spec(_SPEC)
_ENTITY = ["odds_short", "odds_middle", "fraud_share", "legit_age", "frauds", "rate_ratio"]


def test_the_layout_names_every_column_once_and_marks_the_categories() -> None:
    assert len(set(_LAYOUT.names)) == len(_LAYOUT.names) == len(_LAYOUT.texts) == 1 + 10 + 2 + 1 + 12 + 1 + 3
    assert _LAYOUT.names[-4:] == ("hour", "age", "country", "channel")
    assert np.flatnonzero(_LAYOUT.categorical).tolist() == [28, 29]
    assert np.flatnonzero(_LAYOUT.given).tolist() == [0, 27]
    assert _LAYOUT.texts[_LAYOUT.names.index("card_amount_to_mean")] == "amount against the card's own mean"
    assert _LAYOUT.names[11:13] == ("card_merchant_share", "card_device_share")
    assert _LAYOUT.names[14:26] == tuple(f"{entity}_{name}" for entity in _SPEC.entities for name in _ENTITY)


def test_a_declared_field_keeps_its_name_and_a_computed_column_of_that_name_gets_another() -> None:
    spec = FeatureSpec(("hour_computed", "amount"), categorical=("hour",), entities=("card",))
    names = FeatureLayout.from_spec(spec).names
    assert len(set(names)) == len(names)
    assert names[-4:] == ("hour_computed_computed", "hour_computed", "amount", "hour")
    assert names[0] == "amount_computed"
    assert names[names.index("card_legit_age") + 1] == "card_frauds_computed", "the first is the card's own"


def test_the_matrix_holds_blocks_hour_and_declared_fields_in_layout_order() -> None:
    card_block = np.arange(24, dtype=np.float32).reshape(2, 12)
    shared_block = np.arange(26, dtype=np.float32).reshape(2, 13) + 100
    x = assemble(
        _LAYOUT,
        card_block,
        shared_block,
        amount=np.array([1.5, 2.5]),
        event_time_ms=np.array([MS_PER_DAY * 9 + 90 * 60_000, -60 * 60_000]),
        numeric=np.array([[math.nan], [33.0]]),
        categorical=np.array([[0xABCDEF123456, 0], [2**24, 0xFFFFFF]], np.uint64),
    )
    assert x.dtype == np.float32
    expected = [
        [1.5, *card_block[0], *shared_block[0], 1.5, math.nan, 0x123456, math.nan],
        [2.5, *card_block[1], *shared_block[1], 23.0, 33.0, 0.0, 0xFFFFFF],
    ]
    np.testing.assert_array_equal(x, np.array(expected, np.float32))


def test_the_date_from_which_an_age_counts_stands_behind_the_hour_and_stays_while_the_age_grows() -> None:
    spec = FeatureSpec(("weight", "age"), (), (), ages=("age",))
    layout = FeatureLayout.from_spec(spec)
    at = layout.names.index("age_date")
    assert (layout.names[at - 1], layout.names[at + 1 :], layout.dates) == ("hour", ("weight", "age"), (at,))
    assert not layout.given[at]
    assert not layout.categorical[at]
    days, age = np.array([20_000, 20_003, 20_003, 20_003]), np.array([10.0, 13.0, np.nan, -1e30])
    x = assemble(
        layout,
        np.zeros((4, spec.card_features), np.float32),
        np.zeros((4, 1), np.float32),
        amount=np.ones(4),
        event_time_ms=days * MS_PER_DAY + 5,
        numeric=np.column_stack([np.zeros(4), age]),
        categorical=np.empty((4, 0), np.uint64),
    )
    np.testing.assert_array_equal(x[:, at], np.array([19_990, 19_990, np.nan, np.nan], np.float32))
