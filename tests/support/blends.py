"""A blend of tables and trees, fitted to rows of which two columns make a fraud together, and a category alone."""

from __future__ import annotations

import numpy as np

from models.blend import Blend, BoostedRows, Mix, TableSample, Trees, TreeSample, build_blend
from models.boosting import BoostingParams
from models.feature_layout import FeatureLayout
from models.generation import TrainingRows

NAMES = ("a", "b", "c", "d")
CATEGORICAL = np.array([False, False, False, True])
LAYOUT = FeatureLayout(NAMES, NAMES, CATEGORICAL, ~CATEGORICAL)
PARAMS = BoostingParams(trees=8, leaves=5, l2=1.0)


def rows(count: int, seed: int = 1) -> TrainingRows:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(count, 4)).astype(np.float32)
    X[:, 3] = rng.integers(0, 5, count)
    y = (X[:, 0] * X[:, 1] + (X[:, 3] == 2) + 0.3 * rng.normal(size=count) > 1.2).astype(np.uint8)
    return TrainingRows(X, y, np.where(y == 1, 1.0, 2.0))


BOTH = Mix(0.4, 0.7)


def blend(mix: Mix = BOTH, order: tuple[int, ...] = (2, 0, 3, 1)) -> Blend:
    some = rows(800)
    every = BoostedRows(np.arange(800), some.w)
    trees = TreeSample.of(some, CATEGORICAL, every).fit(PARAMS, 5) if mix.trees else None
    sample = TableSample.of(some, CATEGORICAL, np.array(order, np.int16), {})
    return build_blend(sample, NAMES, {}, mix, trees)[0]


def assert_restores_and_explains(rows: TrainingRows, trees: Trees) -> None:
    """Fail unless a blend with these trees restores to the bit and its reasons sum to the logit."""
    sample = TableSample.of(rows, CATEGORICAL, np.array([2, 0, 3, 1], np.int16), {})
    its = build_blend(sample, NAMES, {}, BOTH, trees)[0]
    logit = its.score_batch(rows.X)
    np.testing.assert_allclose(its.contributions(rows.X).sum(axis=1) + its.reference_logit, logit, atol=1e-9)
    np.testing.assert_array_equal(Blend.from_arrays(its.arrays()).score_batch(rows.X), logit)
