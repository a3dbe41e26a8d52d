"""What the domain takes alone: a backtest, and scoring, learning and growing trees in batch; part of `make bench`."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from models.boosting import BoostingParams, FlatBooster
from models.candidates import FOR_MANY_FRAUDS, TREES
from models.column_edges import Binned
from models.differences import Differences
from models.linear import LinearStart
from models.online import build_generation
from worker.offline.backtest import backtest
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic, simulate

WIDTH: Final = 24
"""Features, for which the requirements say how long a transaction is scored and an example is learnt."""


def models(values: dict[str, Any], rows: int, backtest_cards: int) -> dict[str, float]:
    """Measure the domain alone: a backtest; tables and trees in batch.

    `score_us` and `learn_us` are of tables of 17 features, `..._24_us` of 24. `trees_score_us` and `trees_fit_s` are of
    100 trees of 15 leaves at 60 features, beside scikit-learn's. `trees_score_smallest_us` and `trees_score_largest_us`
    are of the first and the last size that a search may choose, at 24 features: a generation has up to twice as many
    trees. `slopes_score_us` is what they take more where they start from slopes, `trees_score_differences_us` what the
    first size takes where it may split the differences of eight columns.
    """
    rng = np.random.default_rng(5)
    return {
        **_tables(rng, rows, 17, ""),
        **_tables(rng, rows, WIDTH, "_24"),
        **_trees(rng, rows),
        **_candidates(rng, rows),
        **_backtest(values, backtest_cards),
    }


def _tables(rng: np.random.Generator, rows: int, width: int, suffix: str) -> dict[str, float]:
    """Measure a transaction that tables score, and an example that they learn, µs."""
    features, label, weight = _examples(rng, rows, width)
    names, numeric = [f"f{i}" for i in range(width)], np.zeros(width, np.bool_)
    model = build_generation(features, label, weight, names, numeric)
    learnt = slice(rows // 5)
    score_s = _seconds(lambda: model.score_batch(features))
    learn_s = _seconds(lambda: model.learn_batch(features[learnt], label[learnt], weight[learnt]))
    return {f"score{suffix}_us": score_s / rows * 1e6, f"learn{suffix}_us": learn_s / (rows // 5) * 1e6}


def _trees(rng: np.random.Generator, rows: int) -> dict[str, float]:
    """Measure a fit beside scikit-learn's, and a transaction that its trees score, µs."""
    wide, label, weight = _examples(rng, rows, 60)
    size = BoostingParams(trees=100, leaves=15, column_shares=(0.5,))
    trees = FlatBooster.fit(Binned.of(wide), label, weight, size, seed=1)
    score_s = _seconds(lambda: trees.score(wide))
    fit_s = _seconds(lambda: FlatBooster.fit(Binned.of(wide), label, weight, size, seed=1))
    theirs = HistGradientBoostingClassifier(
        max_iter=100, max_leaf_nodes=15, learning_rate=size.learning_rate, l2_regularization=size.l2,
        max_features=0.5, early_stopping=False,
    )  # fmt: skip
    with threadpool_limits(1):
        their_fit_s = _seconds(lambda: theirs.fit(wide, label))
    return {
        "trees_score_us": score_s / rows * 1e6,
        "trees_fit_s": fit_s,
        "trees_fit_speedup": their_fit_s / fit_s,
    }


def _candidates(rng: np.random.Generator, rows: int) -> dict[str, float]:
    """Measure a transaction that trees of the sizes of a search score, and the slopes from which they may start, µs."""
    features, label, weight = _examples(rng, rows, WIDTH)
    binned, scored = Binned.of(features), features[: rows // 5]
    found = {}
    for name, at in (("smallest", FOR_MANY_FRAUDS[0]), ("largest", FOR_MANY_FRAUDS[-1])):
        trees = FlatBooster.fit(binned, label, weight, TREES[at], seed=1)
        score_s = _seconds(partial(trees.score, scored))
        found[f"trees_score_{name}_us"] = score_s / len(scored) * 1e6
    differences = Differences.among(np.arange(WIDTH, dtype=np.int16), np.ones(WIDTH, np.bool_))
    wider = Binned.of(differences.beside(features))
    trees = FlatBooster.fit(wider, label, weight, TREES[FOR_MANY_FRAUDS[0]], seed=1)
    score_s = _seconds(lambda: trees.score(differences.beside(scored)))
    found["trees_score_differences_us"] = score_s / len(scored) * 1e6
    slopes, _ = LinearStart.fit(features, label, weight, seed=1)
    found["slopes_score_us"] = _seconds(partial(slopes.score, scored)) / len(scored) * 1e6
    return found


def _backtest(values: dict[str, Any], cards: int) -> dict[str, float]:
    traffic = Traffic(cards=cards, merchants=1_000, days=30, per_card_day=2.0, label_delay_days=3.0)
    dataset = simulate(traffic)
    # A backtest reads every column of the data set, so the settings have to declare them.
    settings = Settings(**values | {"transaction": FIELDS.model_dump()})
    backtest(settings, dataset)  # compiles
    return {"backtest_per_second": backtest(settings, dataset).transactions_per_second}


def _examples(
    rng: np.random.Generator, rows: int, width: int
) -> tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]]:
    """Return features, labels of which one in a hundred is fraud, and weights."""
    label = (rng.random(rows) < 0.01).astype(np.uint8)
    return rng.lognormal(size=(rows, width)).astype(np.float32), label, np.ones(rows)


def _seconds(call: Callable[[], object]) -> float:
    call()
    taken = []
    for _ in range(5):
        started_s = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started_s)
    return statistics.median(taken)
