from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest

from models.anomaly import MINIMUM_ROWS, FlatForest


def traffic(rows: int, seed: int = 1) -> NDArray[np.float32]:
    """Five features, one of them mostly zero and one of them whole numbers."""
    rng = np.random.default_rng(seed)
    X = rng.lognormal(size=(rows, 5)).astype(np.float32)
    X[rng.random(rows) < 0.8, 1] = 0.0
    X[:, 2] = rng.integers(0, 24, rows)
    return X


def with_holes(X: NDArray[np.float32]) -> NDArray[np.float32]:
    X = X.copy()
    X[np.random.default_rng(7).random(X.shape) < 0.1] = np.nan
    return X


@pytest.mark.parametrize("max_samples", [3, 100, 256])
def test_its_score_is_that_of_scikit_learn_with_the_sign_turned(max_samples: int) -> None:
    X = traffic(1_000)
    theirs = IsolationForest(n_estimators=40, max_samples=max_samples, random_state=5).fit(X)
    forest = FlatForest.fit(X, trees=40, max_samples=max_samples, seed=5)
    strangers = 10 * traffic(300, seed=2) - 5
    for rows in (X, strangers):
        assert np.allclose(forest.score(rows), -theirs.score_samples(rows), rtol=0, atol=1e-9)


def test_a_value_on_a_threshold_goes_the_way_it_goes_in_scikit_learn() -> None:
    X = traffic(600)
    theirs = IsolationForest(n_estimators=10, random_state=3).fit(X)
    forest = FlatForest.fit(X, trees=10, seed=3)
    near = []
    for tree in (estimator.tree_ for estimator in theirs.estimators_):
        for feature, threshold in zip(tree.feature, tree.threshold, strict=True):
            if feature >= 0:
                row = X[0].copy()
                row[feature] = threshold
                above, below = row.copy(), row.copy()
                above[feature] = np.nextafter(row[feature], np.float32(np.inf))
                below[feature] = np.nextafter(row[feature], np.float32(-np.inf))
                near += [row, above, below]
    rows = np.array(near)
    assert np.allclose(forest.score(rows), -theirs.score_samples(rows), rtol=0, atol=1e-9)


def test_one_row_scores_as_it_does_in_a_batch() -> None:
    X = traffic(400)
    forest = FlatForest.fit(X, trees=20, seed=1)
    assert [forest.score(X[i : i + 1])[0] for i in range(50)] == forest.score(X)[:50].tolist()


def test_a_stranger_scores_higher_than_the_crowd() -> None:
    X = traffic(2_000)
    stranger = np.array([[400.0, 300.0, 3.0, 500.0, 200.0]], np.float32)
    forest = FlatForest.fit(X, seed=1)
    assert forest.score(stranger)[0] > np.quantile(forest.score(X), 0.999)


def test_what_is_missing_or_not_finite_counts_as_the_median_that_occurred() -> None:
    X = with_holes(traffic(1_001))
    forest = FlatForest.fit(X, trees=20, seed=1)
    medians = [float(np.quantile(column[np.isfinite(column)], 0.5, method="lower")) for column in X.T]
    assert forest.medians.tolist() == medians
    row = traffic(1, seed=3)
    filled = row.copy()
    filled[0, 3] = medians[3]
    for value in (np.nan, np.inf, -np.inf):
        row[0, 3] = value
        assert forest.score(row)[0] == forest.score(filled)[0]


def test_it_is_fitted_as_if_the_medians_had_been_there() -> None:
    X = with_holes(traffic(1_000))
    X[0, 0] = np.inf
    forest = FlatForest.fit(X, trees=20, seed=1)
    filled = np.where(np.isfinite(X), X, forest.medians)
    assert np.array_equal(forest.score(X), FlatForest.fit(filled, trees=20, seed=1).score(filled))


def test_a_column_that_is_always_missing_and_huge_numbers_do_no_harm() -> None:
    X = traffic(600)
    X[:, 0] = np.nan
    X[::7, 3] = np.finfo(np.float32).max
    X[::11, 3] = -np.finfo(np.float32).max
    score = FlatForest.fit(X, trees=20, seed=1).score(X)
    assert np.all((score > 0.0) & (score < 1.0))


def test_a_reason_is_how_far_the_score_falls_with_the_feature_at_its_median() -> None:
    X = traffic(1_000)
    theirs = IsolationForest(n_estimators=30, random_state=2).fit(X)
    forest = FlatForest.fit(X, trees=30, seed=2)
    rows = traffic(40, seed=3)
    rows[0, 1], rows[1, 2] = np.nan, forest.medians[2]
    filled = np.where(np.isfinite(rows), rows, forest.medians)
    reasons = forest.reasons(rows)
    for f in range(5):
        usual = filled.copy()
        usual[:, f] = forest.medians[f]
        fall = theirs.score_samples(usual) - theirs.score_samples(filled)
        assert np.allclose(reasons[:, f], fall, rtol=0, atol=1e-9)
    assert reasons[0, 1] == reasons[1, 2] == 0.0
    assert np.any(reasons > 0.01)


def test_a_restored_forest_scores_to_the_bit() -> None:
    X = with_holes(traffic(800))
    forest = FlatForest.fit(X, trees=20, seed=1)
    arrays = forest.arrays()
    assert {array.dtype.kind for array in arrays.values()} <= set("fu")
    restored = FlatForest.from_arrays(arrays)
    arrays["paths"][:] = 0.0
    assert np.array_equal(restored.score(X), forest.score(X))
    assert np.array_equal(restored.reasons(X[:20]), forest.reasons(X[:20]))


def test_the_seed_alone_decides_the_draws() -> None:
    X = traffic(500)
    first, again, other = (FlatForest.fit(X, trees=5, seed=seed).score(X) for seed in (1, 2**32 + 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_too_few_rows_and_too_few_columns_are_refused() -> None:
    X = traffic(MINIMUM_ROWS)
    with pytest.raises(ValueError, match=f"needs {MINIMUM_ROWS} rows"):
        FlatForest.fit(X[1:], seed=1)
    with pytest.raises(ValueError, match="5 features"):
        FlatForest.fit(X, trees=2, seed=1).score(X[:, :4])


def with_first(value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda array: np.concatenate(([value], array.ravel()[1:])).reshape(array.shape)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("features", with_first(5)),
        ("features", lambda array: array[:, :-1]),
        ("thresholds", with_first(math.nan)),
        ("thresholds", lambda array: array[1:]),
        ("paths", lambda array: array[:, :-1]),
        ("paths", with_first(-1.0)),
        ("paths", with_first(math.nan)),
        ("medians", with_first(math.inf)),
        ("medians", lambda array: array[:4]),
        ("normaliser", with_first(0.0)),
        ("normaliser", lambda array: np.concatenate((array, array))),
    ],
)
def test_arrays_that_no_forest_could_hold_are_refused(
    name: str, spoil: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    arrays = FlatForest.fit(traffic(300), trees=3, seed=1).arrays()
    with pytest.raises(ValueError, match="forest"):
        FlatForest.from_arrays({**arrays, name: spoil(arrays[name])})
