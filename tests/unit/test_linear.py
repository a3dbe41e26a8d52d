from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from models.blend import BoostedRows, Trees, TreeSample
from models.boosting import BoostingParams
from models.generation import TrainingRows
from models.linear import LinearStart, _sample
from tests.support.blends import CATEGORICAL, assert_restores_and_explains

PARAMS = BoostingParams(trees=12, leaves=4, l2=1.0, linear=True)


def rows(count: int = 2_000, seed: int = 1) -> TrainingRows:
    rng = np.random.default_rng(seed)
    X = rng.normal([3.0, -40.0, 0.0, 0.0], [1.0, 5.0, 1e4, 1.0], (count, 4)).astype(np.float32)
    X[:, 3] = rng.integers(0, 5, count)
    logit = 0.8 * (X[:, 0] - 3.0) - 0.2 * (X[:, 1] + 40.0) + (X[:, 3] == 2) - 2.0
    y = (rng.random(count) < 1.0 / (1.0 + np.exp(-logit))).astype(np.uint8)
    X[rng.random((count, 4)) < 0.1] = np.nan
    return TrainingRows(X, y, np.where(y == 1, 1.0, 3.0))


def scaled(X: NDArray[np.float32], w: NDArray[np.float64]) -> NDArray[np.float64]:
    """Put each column on its weighted mean and spread without its tails, a thousandth each, and cut it at four spreads.

    What is missing is the mean.
    """
    out = np.zeros(X.shape)
    for column in range(X.shape[1]):
        known = np.isfinite(X[:, column])
        its = X[known, column].astype(np.float64)
        left_out = math.ceil((len(its) - 1) / 1_000)
        inner = np.clip(its, *np.sort(its)[[left_out, -left_out - 1]])
        mean = np.average(inner, weights=w[known])
        spread = np.sqrt(np.average((inner - mean) ** 2, weights=w[known]))
        out[known, column] = np.clip((its - mean) / spread, -4.0, 4.0)
    return out


def test_slopes_are_those_of_a_ridge_regression_on_scaled_columns() -> None:
    X, y, w = rows()
    start, intercept = LinearStart.fit(X, y, w, seed=1)
    expected = LogisticRegression(C=0.1, tol=1e-10, max_iter=1_000).fit(scaled(X, w), y, sample_weight=w)
    np.testing.assert_allclose(start.slope, expected.coef_[0], atol=1e-5)
    assert intercept == pytest.approx(expected.intercept_[0], abs=1e-4)
    np.testing.assert_allclose(start.score(X), scaled(X, w) @ start.slope, atol=1e-9)


@pytest.mark.parametrize(("count", "share"), [(6_000, 0.01), (20_000, 0.003)])
def test_a_flag_that_nearly_says_who_is_a_fraud_has_the_slope_of_a_ridge_regression(
    count: int, share: float
) -> None:
    """Newton's steps alone would go to and fro for ever."""
    rng = np.random.default_rng(1)
    y = (rng.random(count) < share).astype(np.uint8)
    flag = rng.random(count) < np.where(y == 1, 0.9, 0.002)
    X = np.column_stack([flag, rng.normal(size=(count, 3)) + 0.7 * y[:, None]]).astype(np.float32)
    start, intercept = LinearStart.fit(X, y, np.ones(count), seed=1)
    Z = np.clip((X - start.mean) / start.spread, -4.0, 4.0)
    expected = LogisticRegression(C=0.1, tol=1e-10, max_iter=1_000).fit(Z, y)
    np.testing.assert_allclose(start.slope, expected.coef_[0], atol=1e-4)
    p = 1.0 / (1.0 + np.exp(-intercept - start.score(X)))
    assert p.mean() == pytest.approx(y.mean(), rel=1e-4)


@pytest.mark.parametrize("far", [1e6, 3e38, -3e38, np.inf])
def test_one_value_far_away_changes_hardly_any_slope(far: float) -> None:
    X, y, w = rows(4_000)
    expected, _ = LinearStart.fit(X, y, w, seed=1)
    X[7, :3] = far
    found, _ = LinearStart.fit(X, y, w, seed=1)
    np.testing.assert_allclose(
        found.slope / found.spread, expected.slope / expected.spread, rtol=0.05, atol=1e-5
    )


def test_a_flag_that_hardly_any_row_has_is_put_on_a_scale() -> None:
    X, y, w = rows(4_000)
    X[:, 2] = 0.0
    X[np.flatnonzero(y == 1)[:3], 2] = 1.0
    start, _ = LinearStart.fit(X, y, w, seed=1)
    assert start.slope[2] > 0.0
    assert start.spread[2] == pytest.approx(np.sqrt(3.0 / w.sum()), rel=0.01)


def test_what_the_columns_add_sums_to_the_score_and_what_is_missing_adds_nothing() -> None:
    X, y, w = rows()
    start, _ = LinearStart.fit(X, y, w, seed=1)
    parts = start.contributions(np.column_stack([X, X[:, :1]]))
    np.testing.assert_allclose(parts.sum(axis=1), start.score(X), atol=1e-9)
    assert np.all(parts[:, :4][~np.isfinite(X)] == 0.0)
    assert np.all(parts[:, 4] == 0.0)


def test_a_value_far_away_counts_as_one_four_spreads_away() -> None:
    start = LinearStart(np.array([10.0]), np.array([2.0]), np.array([0.5]))
    X = np.array([[10.0], [14.0], [18.0], [1e30], [-1e30], [np.inf], [np.nan]], np.float32)
    assert start.score(X).tolist() == [0.0, 1.0, 2.0, 2.0, -2.0, 0.0, 0.0]


def test_of_too_many_rows_some_legits_are_left_out_and_the_others_stand_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    X, y, w = rows(40_000)
    whole, begun = LinearStart.fit(X, y, w, seed=1)
    monkeypatch.setattr("models.linear._MOST_WORK", 10_000.0 * 16)
    part, intercept = LinearStart.fit(X, y, w, seed=1)
    assert part.slope.tolist() != whole.slope.tolist()
    np.testing.assert_allclose(part.slope, whole.slope, atol=0.06)
    assert intercept == pytest.approx(begun, abs=0.1)
    assert LinearStart.fit(X, y, w, seed=1)[0].slope.tolist() == part.slope.tolist()


def test_of_too_many_frauds_half_as_many_as_rows_may_be_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    X, _, w = rows(40_000)
    X[~np.isfinite(X[:, 0]), 0] = 3.0
    y = (np.random.default_rng(3).random(40_000) < 1.0 / (1.0 + np.exp(3.0 - X[:, 0]))).astype(np.uint8)
    whole, begun = LinearStart.fit(X, y, w, seed=1)
    monkeypatch.setattr("models.linear._MOST_WORK", 10_000.0 * 16)
    kept, each = _sample(y, 10_000, np.random.default_rng(1))
    assert np.count_nonzero(y[kept]) == pytest.approx(5_000, abs=200)
    assert np.count_nonzero(y[kept] == 0) == pytest.approx(10_000 * (1.0 - y.mean()), abs=200)
    assert each[y[kept] == 1].sum() == pytest.approx(y.sum())
    part, intercept = LinearStart.fit(X, y, w, seed=1)
    np.testing.assert_allclose(part.slope, whole.slope, atol=0.1)
    assert intercept == pytest.approx(begun, abs=0.1)


@pytest.mark.parametrize(
    "column", [np.full(600, 7.0), np.full(600, np.nan), np.r_[np.full(599, 0.0), 1e30], np.full(600, 1e38)]
)
def test_a_column_that_says_nothing_has_a_slope_that_is_finite(column: NDArray[np.float64]) -> None:
    X, y, w = rows(600)
    start, intercept = LinearStart.fit(np.column_stack([X, column]).astype(np.float32), y, w, seed=1)
    assert np.all(np.isfinite([*start.mean, *start.spread, *start.slope, intercept]))
    assert abs(start.slope[4]) < 0.2


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_class_alone_or_without_weight_have_no_slopes(label: int) -> None:
    X, y, w = rows(600)
    for its_y, its_w in ((np.full(600, label, np.uint8), w), (y, np.zeros(600))):
        start, intercept = LinearStart.fit(X, its_y, its_w, seed=1)
        np.testing.assert_allclose(start.slope, 0.0, atol=1e-2)
        assert np.isfinite(intercept)


def sample(some: TrainingRows) -> TreeSample:
    return TreeSample.of(some, CATEGORICAL, BoostedRows(np.arange(len(some.y)), some.w))


def test_trees_that_start_from_slopes_explain_and_restore_to_the_bit() -> None:
    some = rows()
    trees = sample(some).fit(PARAMS, seed=5)
    assert trees.linear is not None
    coded = trees.codes.of(some.X)
    np.testing.assert_array_equal(trees.score(some.X), trees.booster.score(coded) + trees.linear.score(coded))
    total = trees.contributions(some.X).sum(axis=1) + trees.booster.reference
    np.testing.assert_allclose(total, trees.score(some.X), atol=1e-9)
    again = Trees.from_arrays(trees.arrays(), 4)
    np.testing.assert_array_equal(again.score(some.X), trees.score(some.X))
    assert again.in_words == "12 trees of 4 leaves beside slopes"


def test_they_say_more_of_what_is_linear_than_as_many_trees_alone() -> None:
    some, fresh = rows(), rows(20_000, seed=2)
    alone, beside = (
        sample(some).fit(dataclasses.replace(PARAMS, linear=its), seed=5).score(fresh.X)
        for its in (False, True)
    )

    def loss(logit: NDArray[np.float64]) -> float:
        return float(np.average(np.logaddexp(0.0, logit) - fresh.y * logit, weights=fresh.w))

    assert loss(beside) < loss(alone) - 0.005


def test_a_blend_with_slopes_restores_and_its_reasons_sum_to_the_logit() -> None:
    some = rows(800)
    assert_restores_and_explains(some, sample(some).fit(PARAMS, seed=5))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("slope", np.zeros(3)),
        ("slope", np.full(4, np.nan)),
        ("mean", np.zeros(4, np.float32)),
        ("spread", np.zeros(4)),
    ],
)
def test_slopes_of_a_wrong_type_or_shape_are_refused(name: str, wrong: NDArray[np.float64]) -> None:
    X, y, w = rows(600)
    arrays = {**LinearStart.fit(X, y, w, seed=1)[0].arrays(), name: wrong}
    with pytest.raises(ValueError, match="the slopes of a linear start are of a wrong type or shape"):
        LinearStart.from_arrays(arrays, 4)
