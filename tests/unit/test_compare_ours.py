"""What the worker's own rows of `compare` know, and what they alert on."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.state import ModelState
from models.threshold import Calibration, CostPolicy, Thresholds
from models.vocabulary import MS_PER_DAY
from tests.support.fake_strategies import FirstFeature, run_here, strategy_named
from tests.support.samples import drawn_sample
from worker.offline.compare.comparing import Options, compare
from worker.offline.compare.ours import OWN_ROWS, Deciding, frozen_view
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic, simulate

COSTS = CostPolicy(review_cost=10.0, loss_fixed=0.0, loss_factor=1.0, alert_budget_cases_per_day=None)


def test_all_strategies_of_the_frozen_block_know_the_labels_of_one_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = simulate(Traffic(cards=60, merchants=20, days=50, per_card_day=2.0, prevalence=0.06, seed=4))
    week_ms = 7 * MS_PER_DAY
    data = dataclasses.replace(drawn, label_time_ms=drawn.event_time_ms + week_ms)
    batch, online = FirstFeature(), FirstFeature()
    strategies = [
        dataclasses.replace(strategy_named("good"), make=lambda: batch),
        dataclasses.replace(strategy_named("online"), make_online=lambda _: online),
    ]
    frozen: list[tuple[int | None, int]] = []
    copied = Deciding.of

    def noted(model: ModelState, now_ms: int) -> Deciding:
        frozen.append((model.clock_ms, now_ms))
        return copied(model, now_ms)

    monkeypatch.setattr(Deciding, "of", noted)
    settings = Settings(entity_key="0f" * 16, transaction=FIELDS)
    options = Options(strategies=strategies, own_rows=OWN_ROWS, features="raw", run=run_here)
    made = compare(settings, data, options, "test")

    trained_ms = next(it.end_ms for it in made.windows if it.name == "train")
    [(clock_ms, now_ms)] = frozen
    assert now_ms == trained_ms
    assert clock_ms is not None
    # Of each the newest label is a few hours older than that moment, as payments come every few minutes.
    for newest_ms in (
        clock_ms,
        batch.fitted[0].event_time_ms.max() + week_ms,
        online.fitted[0].event_time_ms.max() + week_ms,
    ):
        assert trained_ms - MS_PER_DAY // 4 < newest_ms <= trained_ms


def test_the_frozen_online_model_is_calibrated_on_the_tuning_window() -> None:
    tune = drawn_sample(20_000, seed=1, prevalence=0.02)
    drawn = np.random.default_rng(2).normal(size=len(tune)) + 2.0 * tune.fraud
    # The log odds are 2 x - 2 + ln(0.02 / 0.98). The model has half of them, and a prior that is too high.
    logit = 2.0 * drawn - 2.0 - 3.892
    model: Any = SimpleNamespace(score_batch=lambda X: 0.5 * X[:, 0].astype(np.float64) + 1.1)
    deciding = Deciding(
        model, None, Calibration(1.0, 0.0), Thresholds(1.0, np.inf, np.inf, np.inf), trusted=True
    )
    features = logit[:, np.newaxis].astype(np.float32)
    known = np.arange(len(tune)) % 5 > 0
    unseen = dataclasses.replace(tune, fraud=np.where(known, tune.fraud, ~tune.fraud))
    tuned = deciding.tuned(features, unseen, known, COSTS, most_cases=None)
    assert tuned.thresholds == deciding.thresholds
    view = frozen_view(tuned, features, tune.loss, tune.amount, tune.case, COSTS)
    assert view.probability[known].sum() == pytest.approx(tune.fraud[known].sum(), rel=0.01)
    np.testing.assert_allclose(view.probability, 1.0 / (1.0 + np.exp(-logit)), atol=0.05)
    without = dataclasses.replace(deciding, online=None)
    assert without.tuned(features, unseen, known, COSTS, most_cases=3.0) is without


@pytest.mark.parametrize(("guarded", "most_cases"), [(1.0, 12.5), (1.0, 1e9), (2.0, 1e9), (np.inf, 12.5)])
def test_the_frozen_lambda_is_that_of_the_guard_raised_to_the_budget_of_the_tuning_window(
    guarded: float, most_cases: float
) -> None:
    tune = drawn_sample(5_000, seed=1, prevalence=0.02)
    drawn = np.random.default_rng(2).normal(-3.9, 1.0, len(tune)) + 2.0 * tune.fraud
    features = drawn[:, np.newaxis].astype(np.float32)
    model: Any = SimpleNamespace(score_batch=lambda X: X[:, 0].astype(np.float64))
    in_force = Thresholds(7.0, np.inf, np.inf, np.inf)
    deciding = Deciding(model, None, Calibration(), in_force, trusted=True, least_lambda=guarded)
    tuned = deciding.tuned(features, tune, np.ones(len(tune), np.bool_), COSTS, most_cases)
    view = frozen_view(tuned, features, tune.loss, tune.amount, tune.case, COSTS)
    opened = {int(case) for case in tune.case[view.alerted]}
    if guarded < np.inf and most_cases < len(tune):
        assert len(opened) == 12
        assert tuned.thresholds.online_lambda > guarded
    else:
        assert tuned.thresholds.online_lambda == guarded
        assert opened == {int(case) for case in tune.case[view.ratio >= guarded]}


def test_the_frozen_worker_joins_the_cases_that_it_has_opened_as_a_running_one_does() -> None:
    rng = np.random.default_rng(11)
    count = 300
    case, loss = rng.integers(0, 40, count), np.exp(rng.normal(3.0, 1.5, count))
    online: Any = SimpleNamespace(score_batch=lambda X: X[:, 0].astype(np.float64))
    thresholds = Thresholds(2.0, np.inf, np.inf, joining_lambda=0.25)
    deciding = Deciding(online, None, Calibration(1.0, 0.0), thresholds, trusted=True)
    features = rng.normal(0.0, 1.0, (count, 1)).astype(np.float32)
    view = frozen_view(deciding, features, loss, loss, case, COSTS)

    ratio = loss / (1.0 + np.exp(-features[:, 0].astype(np.float64))) / 10.0
    opened: set[int] = set()
    expected = []
    for row in range(count):
        opens = ratio[row] >= 2.0
        expected.append(opens or (case[row] in opened and ratio[row] >= 0.25))
        if opens:
            opened.add(int(case[row]))
    assert view.alerted.tolist() == view.online_alerted.tolist() == expected
    assert np.count_nonzero(ratio >= 2.0) < sum(expected) < np.count_nonzero(ratio >= 0.25)
