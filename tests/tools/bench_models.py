"""What the domain takes alone: a backtest, and scoring, learning and growing trees in batch; part of `make bench`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from models.boosting import BoostingParams, FlatBooster
from models.column_edges import Binned
from models.online import build_generation
from worker.offline.backtest import backtest
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic, simulate


def models(values: dict[str, Any], rows: int, backtest_cards: int) -> dict[str, float]:
    """Measure the domain alone: a backtest; scoring and learning in batch at 17 features, by trees at 60."""
    rng = np.random.default_rng(5)
    features = rng.lognormal(size=(rows, 17)).astype(np.float32)
    label = (rng.random(len(features)) < 0.01).astype(np.uint8)
    weight = np.ones(len(features))
    model = build_generation(features, label, weight, [f"f{i}" for i in range(17)], np.zeros(17, np.bool_))
    score_s = _seconds(lambda: model.score_batch(features))
    learnt = rows // 5
    learn_s = _seconds(lambda: model.learn_batch(features[:learnt], label[:learnt], weight[:learnt]))
    size = BoostingParams(trees=100, leaves=15, column_shares=(0.5,))
    wide = rng.lognormal(size=(rows, 60)).astype(np.float32)
    trees = FlatBooster.fit(Binned.of(wide), label, weight, size, seed=1)
    trees_score_s = _seconds(lambda: trees.score(wide))
    trees_fit_s = _seconds(lambda: FlatBooster.fit(Binned.of(wide), label, weight, size, seed=1))
    theirs = HistGradientBoostingClassifier(
        max_iter=100, max_leaf_nodes=15, learning_rate=size.learning_rate, l2_regularization=size.l2,
        max_features=0.5, early_stopping=False,
    )  # fmt: skip
    with threadpool_limits(1):
        their_fit_s = _seconds(lambda: theirs.fit(wide, label))
    traffic = Traffic(cards=backtest_cards, merchants=1_000, days=30, per_card_day=2.0, label_delay_days=3.0)
    dataset = simulate(traffic)
    # A backtest reads every column of the data set, so the settings have to declare them.
    settings = Settings(**values | {"transaction": FIELDS.model_dump()})
    backtest(settings, dataset)  # compiles
    return {
        "score_us": score_s / len(features) * 1e6,
        "learn_us": learn_s / learnt * 1e6,
        "trees_score_us": trees_score_s / len(features) * 1e6,
        "trees_fit_s": trees_fit_s,
        "trees_fit_speedup": their_fit_s / trees_fit_s,
        "backtest_per_second": backtest(settings, dataset).transactions_per_second,
    }


def _seconds(call: Callable[[], object]) -> float:
    call()
    taken = []
    for _ in range(5):
        started_s = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started_s)
    return statistics.median(taken)
