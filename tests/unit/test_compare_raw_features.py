"""What raw features hold, and what they are called."""

from __future__ import annotations

import dataclasses

import numpy as np

from worker.offline.compare.raw_features import raw_features
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic, simulate

SETTINGS = Settings(entity_key="0f" * 16, transaction=FIELDS)
DATA = simulate(Traffic(cards=10, merchants=3, days=9, prevalence=0.05))


def test_a_declared_weekday_keeps_its_name_and_the_computed_one_gets_another() -> None:
    fields = FIELDS.model_copy(update={"numeric": (*FIELDS.numeric, "weekday")})
    declared = np.arange(len(DATA), dtype=np.float64)
    data = dataclasses.replace(DATA, fields=fields, numeric={**DATA.numeric, "weekday": declared})
    features = raw_features(SETTINGS.model_copy(update={"transaction": fields}), data)
    assert len(set(features.names)) == len(features.names) == features.values.shape[1]
    columns = dict(zip(features.names, features.values.T, strict=True))
    np.testing.assert_array_equal(columns["weekday"], declared)
    # numpy's own calendar: Monday is 0.
    days = data.event_time_ms.astype("datetime64[ms]").astype("datetime64[D]")
    expected = [day.astype(object).weekday() for day in days]
    np.testing.assert_array_equal(columns["weekday_computed"], expected)
    assert "weekday_computed" not in raw_features(SETTINGS, DATA).names
