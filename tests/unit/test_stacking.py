"""How much of tables and of trees: the weights of two logits, fitted to rows that neither has learnt."""

from __future__ import annotations

import numpy as np
import pytest

from models.blend import Mix
from models.stacking import blended_logit, fit_mix


def test_the_mix_finds_the_better_logit_and_no_weight_is_negative() -> None:
    rng = np.random.default_rng(2)
    truth = rng.normal(size=20_000) * 2 - 2
    fraud = rng.random(20_000) < 1 / (1 + np.exp(-truth))
    noise = rng.normal(size=20_000)
    # The best weights are -1 and 1: the tables would take the noise out of the trees.
    mix, calibration = fit_mix(noise, truth + noise, fraud, np.ones(20_000))
    assert mix == Mix(0.0, 1.0)
    assert 0.5 < calibration.slope < 1.0
    mix, calibration = fit_mix(noise, truth, fraud, np.ones(20_000))
    assert mix.tables == pytest.approx(0.0, abs=0.05)
    assert mix.tables + mix.trees == pytest.approx(1.0, abs=1e-12)
    assert calibration.slope == pytest.approx(1.0, abs=0.05)
    assert calibration.intercept == pytest.approx(0.0, abs=0.1)
    mix, _ = fit_mix(truth + rng.normal(size=20_000), truth + rng.normal(size=20_000), fraud, np.ones(20_000))
    assert mix.tables == pytest.approx(mix.trees, abs=0.1)


def test_a_mix_of_two_logits_that_are_both_the_wrong_way_round_has_no_weight() -> None:
    rng = np.random.default_rng(6)
    fraud = rng.random(5_000) < 0.3
    wrong = np.where(fraud, -1.0, 1.0) + rng.normal(size=5_000)
    mix, calibration = fit_mix(wrong, wrong + rng.normal(size=5_000), fraud, np.ones(5_000))
    assert (mix.tables, mix.trees) == (0.0, 0.0)
    assert calibration.intercept == pytest.approx(np.log(fraud.mean() / (1 - fraud.mean())), abs=0.05)


def test_a_logit_that_is_worth_something_beside_a_useless_one_alone_leaves_no_intercept_behind() -> None:
    """Its weight falls below nothing once the other is left out: then both are, and the rate alone is left."""
    rng = np.random.default_rng(8)
    signal, other = rng.normal(size=40_000), rng.normal(size=40_000)
    fraud = rng.random(40_000) < 1.0 / (1.0 + np.exp(5.0 - signal))
    tables, trees = 0.5 * other - 0.2 * signal - 6.0, 0.5 * other - 1.2 * signal - 6.0
    for pair in ((tables, trees), (trees, tables)):
        mix, calibration = fit_mix(*pair, fraud, np.ones(40_000))
        assert mix == Mix(0.0, 0.0)
        rate = 1.0 / (1.0 + np.exp(-calibration.intercept))
        assert rate == pytest.approx(fraud.mean(), rel=0.02)


def test_without_trees_the_weight_of_the_tables_is_fitted_alone() -> None:
    rng = np.random.default_rng(4)
    truth = rng.normal(size=20_000) * 2 - 2
    fraud = rng.random(20_000) < 1 / (1 + np.exp(-truth))
    mix, calibration = fit_mix(truth / 2 + 1, None, fraud, np.ones(20_000))
    # The truth is twice the given logit less two.
    assert mix == Mix(1.0, 0.0)
    assert calibration.slope == pytest.approx(2.0, abs=0.1)
    assert calibration.intercept == pytest.approx(-2.0, abs=0.1)


@pytest.mark.parametrize("spread", [3.0, 9.0])
@pytest.mark.parametrize("seed", range(6))
def test_logits_that_are_sure_of_themselves_and_mean_nothing_are_no_worse_than_the_rate_of_fraud(
    spread: float, seed: int
) -> None:
    """Newton's whole steps would go back and forth for ever."""
    rng = np.random.default_rng(seed)
    fraud = rng.random(4_000) < 0.3
    both = spread * rng.normal(size=4_000)
    tables, trees = both + rng.normal(size=4_000), both + rng.normal(size=4_000)
    logit = blended_logit(tables, trees, *fit_mix(tables, trees, fraud, np.ones(4_000)))
    loss = np.where(fraud, np.log1p(np.exp(-logit)), np.log1p(np.exp(logit))).mean()
    of_the_rate = -np.log(np.where(fraud, fraud.mean(), 1.0 - fraud.mean())).mean()
    # The prior pulls the weights away from nothing, by half a fraud's worth.
    assert loss < of_the_rate + 1e-3
