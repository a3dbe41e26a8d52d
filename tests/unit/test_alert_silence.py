from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.alert_silence import confirmed_share, resolved
from models.examples import Examples
from models.threshold import Calibration

LEGIT, FRAUD, SILENT, ALERTED_FRAUD = 0, 1, 2, 3
NAN = float("nan")


def examples(*given: tuple[int, float]) -> Examples:
    """Return examples of (label, logit)."""
    count = len(given)
    return dataclasses.replace(
        Examples.empty(features=1),
        features=np.zeros((count, 1), np.float32),
        label=np.array([label for label, _ in given], np.uint8),
        weight=np.full(count, 2.0, np.float32),
        event_time_ms=np.arange(count),
        key=np.arange(count, dtype=np.uint64),
        logit=np.array([logit for _, logit in given], np.float32),
    )


def test_a_silent_alert_weighs_what_is_confirmed_times_its_probability_of_being_legit() -> None:
    given = examples((LEGIT, 0.0), (FRAUD, 3.0), (SILENT, 0.0), (ALERTED_FRAUD, 1.0), (SILENT, NAN))
    found = resolved(given, 0.5, Calibration(1.0, np.log(3.0)))
    assert found.label.tolist() == [0, 1, 0, 1, 0]
    # A logit of 0 means three quarters; a decision of the forest predicts no fraud.
    np.testing.assert_allclose(found.weight, [2.0, 2.0, 2.0 * 0.5 * 0.25, 2.0, 2.0 * 0.5], rtol=1e-6)


def test_without_any_silent_alert_nothing_is_weighed_anew() -> None:
    given = examples((LEGIT, 0.0), (ALERTED_FRAUD, 3.0))
    found = resolved(given, 0.3, Calibration())
    assert found.label.tolist() == [0, 1]
    assert found.weight.tolist() == [2.0, 2.0]


def test_the_share_is_confirmed_frauds_over_predicted_ones_and_begins_at_none() -> None:
    assert confirmed_share(examples(), Calibration()) == 0.0
    # Forty alerts of one half each predict twenty frauds, beside ten of the prior; fifteen are confirmed.
    given = examples(*[(SILENT, 0.0)] * 25, *[(ALERTED_FRAUD, 0.0)] * 15, (FRAUD, 5.0), (SILENT, NAN))
    assert confirmed_share(given, Calibration()) == pytest.approx(15 / 30)
    certain = examples(*[(ALERTED_FRAUD, -2.0)] * 40)
    assert confirmed_share(certain, Calibration()) == 1.0


def test_where_alerts_are_blocked_and_never_charge_back_their_silence_teaches_next_to_nothing() -> None:
    rng = np.random.default_rng(1)
    logit = rng.normal(-1.0, 1.0, 5_000)
    assert confirmed_share(examples(*((SILENT, it) for it in logit)), Calibration()) == 0.0


def test_where_unanswered_alerts_charge_back_the_share_is_that_of_a_calibrated_model() -> None:
    rng = np.random.default_rng(2)
    logit = rng.normal(-1.0, 1.0, 20_000)
    fraud = rng.random(20_000) < 1.0 / (1.0 + np.exp(-logit))
    given = [(ALERTED_FRAUD if is_fraud else SILENT, it) for is_fraud, it in zip(fraud, logit, strict=True)]
    assert confirmed_share(examples(*given), Calibration()) == pytest.approx(1.0, abs=0.05)
