from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.alert_silence import resolved, silent_weight
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
        tables_logit=np.full(count, np.nan, np.float32),
        trees_logit=np.full(count, np.nan, np.float32),
        verdict_ms=np.arange(count),
    )


def test_a_silent_alert_is_learnt_as_legit_with_its_weight_and_all_else_as_it_is() -> None:
    given = examples((LEGIT, 0.0), (FRAUD, 3.0), (SILENT, 0.0), (ALERTED_FRAUD, 1.0), (SILENT, NAN))
    found = resolved(given, 0.25)
    assert found.label.tolist() == given.label.tolist()
    assert found.weight.tolist() == [2.0, 2.0, 0.5, 2.0, 0.5]


def test_the_weight_is_three_times_the_confirmed_share_of_predicted_frauds_and_begins_at_nothing() -> None:
    assert silent_weight(examples(), Calibration()) == 0.0
    # Forty alerts of one half each predict twenty frauds, beside ten of the prior; five are confirmed.
    given = examples(*[(SILENT, 0.0)] * 35, *[(ALERTED_FRAUD, 0.0)] * 5, (FRAUD, 5.0))
    given = dataclasses.replace(given, weight=np.ones(len(given), np.float32))
    assert silent_weight(given, Calibration()) == pytest.approx(3 * 5 / 30)
    # The calibration makes three quarters of one half.
    assert silent_weight(given, Calibration(1.0, np.log(3.0))) == pytest.approx(3 * 5 / 40)


def test_the_forests_alerts_are_expected_to_hold_as_many_frauds_as_all_decisions_do() -> None:
    # Of 400 decisions 20 are frauds, so its 80 alerts should hold four; they hold two, and beside are ten of the prior.
    given = examples(
        *[(SILENT, NAN)] * 78, *[(ALERTED_FRAUD, NAN)] * 2, *[(FRAUD, NAN)] * 18, *[(LEGIT, NAN)] * 302
    )
    given = dataclasses.replace(given, weight=np.ones(len(given), np.float32))
    assert silent_weight(given, Calibration()) == pytest.approx(3 * 2 / (4 + 10))


def test_where_the_forest_alerts_on_nearly_everything_its_silence_is_learnt() -> None:
    given = examples(*[(SILENT, NAN)] * 450, *[(ALERTED_FRAUD, NAN)] * 25, *[(LEGIT, NAN)] * 25)
    assert silent_weight(given, Calibration()) == 1.0


def test_where_frauds_and_legits_are_sampled_apart_the_weight_is_that_of_all() -> None:
    every = examples(*[(SILENT, 0.0)] * 36, *[(ALERTED_FRAUD, 0.0)] * 4)
    every = dataclasses.replace(every, weight=np.ones(len(every), np.float32))
    sampled = every.take(np.r_[0:9, 36:38])
    sampled.weight[:] = [4.0] * 9 + [2.0] * 2
    assert silent_weight(sampled, Calibration()) == silent_weight(every, Calibration()) > 0.0


def test_where_alerts_are_blocked_and_never_charge_back_their_silence_teaches_nothing() -> None:
    rng = np.random.default_rng(1)
    assert (
        silent_weight(examples(*((SILENT, it) for it in rng.normal(-1.0, 1.0, 5_000))), Calibration()) == 0.0
    )


def test_where_unanswered_alerts_charge_back_it_teaches_all_even_if_the_model_predicts_twice_too_many() -> (
    None
):
    rng = np.random.default_rng(2)
    logit = rng.normal(-3.0, 1.0, 20_000)
    fraud = rng.random(20_000) < 1.0 / (1.0 + np.exp(-logit))
    given = [(ALERTED_FRAUD if is_fraud else SILENT, it) for is_fraud, it in zip(fraud, logit, strict=True)]
    assert silent_weight(examples(*given), Calibration()) == 1.0
    assert silent_weight(examples(*given), Calibration(1.0, np.log(2.0))) == 1.0
