from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier

from models.boosting import BoostingParams, FlatBooster
from models.column_edges import Binned, codes_of, split_values
from models.growing import LEAF

PARAMS = BoostingParams(trees=12, leaves=6, l2=1.0)


def rows(count: int = 600, seed: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of four features with missing values, of which the first two matter together; fewer than 255 values."""
    rng = np.random.default_rng(seed)
    X = np.round(rng.normal(size=(count, 4)), 1).astype(np.float32)
    y = (np.nan_to_num(X[:, 0]) * np.nan_to_num(X[:, 1]) + 0.3 * rng.normal(size=count) > 0.8).astype(
        np.uint8
    )
    X[rng.random(X.shape) < 0.1] = np.nan
    return X, y, np.where(y == 1, 1.0, 4.0)


def test_the_trees_score_as_those_of_scikit_learn_do() -> None:
    X, y, w = rows()
    # Of what is never missing nothing says where a missing value belongs.
    X[:, 1] = np.nan_to_num(X[:, 1])
    theirs = HistGradientBoostingClassifier(
        max_iter=12, max_leaf_nodes=6, learning_rate=PARAMS.learning_rate, min_samples_leaf=1,
        l2_regularization=1.0, early_stopping=False,
    ).fit(X, y, sample_weight=w)  # fmt: skip
    flat = FlatBooster.fit(Binned.of(X), y, w, PARAMS, seed=9)
    fresh, _, _ = rows(seed=4)
    assert np.isnan(fresh[:, 1]).any()
    # Their gradients have 24 bits.
    np.testing.assert_allclose(flat.score(fresh), theirs.decision_function(fresh), atol=1e-5)


def test_no_leaf_has_less_than_the_least_hessian() -> None:
    """Before the first tree every row has the same probability, so that a leaf's hessian follows from its rows."""
    X, y, w = rows()
    p = np.average(y, weights=w)

    def least(least_hessian: float) -> float:
        one = dataclasses.replace(PARAMS, trees=1, leaves=30, least_hessian=least_hessian)
        score = FlatBooster.fit(Binned.of(X), y, w, one, seed=9).score(X)
        return float(min(p * (1 - p) * w[score == leaf].sum() for leaf in np.unique(score)))

    assert least(0.0) < 10.0 <= least(10.0) < 30.0 <= least(30.0)


def test_a_column_of_many_values_is_split_between_evenly_many_rows_and_one_of_few_between_all() -> None:
    many = np.random.default_rng(1).lognormal(0.0, 2.0, 51_000).astype(np.float32)
    edges = split_values(np.append(many, [np.nan, np.inf]).astype(np.float32))
    np.testing.assert_array_equal(np.bincount(np.searchsorted(edges, many)), [200] * 255)
    few = np.array([3.0, 1.0, np.nan, 1.0, 7.0], np.float32)
    assert split_values(few).tolist() == [2.0, 5.0]
    assert split_values(np.array([np.nan, 4.0, 4.0], np.float32)).tolist() == []
    neighbours = np.array([1.0, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    assert split_values(neighbours).tolist() == [1.0]


def test_a_code_is_the_number_of_edges_below_a_value_and_what_is_missing_has_the_last() -> None:
    edges = np.array([1.0, 2.0, 2.5], np.float32)
    column = np.array([0.5, 1.0, 1.5, 2.0, 2.5, 9.0, np.nan, np.inf, -np.inf], np.float32)
    assert codes_of(column, edges).tolist() == [0, 0, 1, 1, 2, 3, 4, 4, 4]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 63, 64, 254])
def test_the_bins_of_many_values_are_those_that_a_plain_search_finds(count: int) -> None:
    rng = np.random.default_rng(count)
    edges = np.unique(rng.normal(size=count).astype(np.float32))
    column = np.concatenate([rng.normal(size=3_000), edges, [np.nan, np.inf, -np.inf]]).astype(np.float32)
    expected = np.where(np.isfinite(column), np.searchsorted(edges, column), len(edges) + 1)
    np.testing.assert_array_equal(codes_of(column, edges), expected)


def test_a_value_of_many_rows_has_edges_of_its_own_and_the_other_rows_share_the_rest() -> None:
    amounts = np.random.default_rng(2).lognormal(0.0, 2.0, 1_500).astype(np.float32)
    column = np.concatenate([np.zeros(48_500, np.float32), -amounts, amounts])
    edges = split_values(column)
    assert len(edges) == 254
    part = np.searchsorted(edges, column)
    assert len(np.unique(part[column == 0.0])) == 1
    assert not np.isin(part[column != 0.0], part[column == 0.0]).any()
    assert np.bincount(part)[np.unique(part[column != 0.0])].max() <= 3_000 // 250
    crowded = np.repeat(np.arange(300, dtype=np.float32), np.where(np.arange(300) % 2, 1, 1_000))
    assert len(split_values(crowded)) <= 254


def test_contributions_and_the_reference_sum_to_the_logit() -> None:
    X, y, w = rows()
    flat = FlatBooster.fit(Binned.of(X), y, w, PARAMS, seed=9)
    np.testing.assert_allclose(flat.contributions(X).sum(axis=1) + flat.reference, flat.score(X), atol=1e-12)


def test_a_contribution_is_what_the_path_changes_in_the_expected_value() -> None:
    # One split by hand: x at most 0 is legit (3 rows), above it fraud (1 row).
    flat = FlatBooster(
        features=2, baseline=-1.0, roots=np.array([0], np.int32), feature=np.array([1, -1, -1], np.int16),
        threshold=np.array([0, 0, 0], np.float32), missing_left=np.array([True, False, False]),
        left=np.array([1, 0, 0], np.int32), right=np.array([2, 0, 0], np.int32), value=np.array([-0.5, -1.0, 1.0]),
    )  # fmt: skip
    X = np.array([[9, 0], [9, 0.5], [9, np.nan]], np.float32)
    assert flat.score(X).tolist() == [-2.0, 0.0, -2.0]
    assert flat.contributions(X).tolist() == [[0.0, -0.5], [0.0, 1.5], [0.0, -0.5]]
    assert flat.reference == -1.5


def test_infinite_values_are_missing_and_columns_that_do_not_differ_are_left_alone() -> None:
    X, y, w = rows()
    X[:, 2], X[:, 3] = np.nan, 7.0
    flat = FlatBooster.fit(Binned.of(X), y, w, PARAMS, seed=9)
    assert not set(flat.feature[flat.feature >= 0].tolist()) & {2, 3}
    missing, infinite = X[:5].copy(), X[:5].copy()
    missing[:, 0], infinite[:, 0] = np.nan, np.inf
    np.testing.assert_array_equal(flat.score(missing), flat.score(infinite))


def test_a_column_of_one_value_that_is_missing_from_some_rows_splits_them() -> None:
    X = np.full((400, 1), 7.0, np.float32)
    X[200:] = np.nan
    y = (np.arange(400) % 100 < np.where(np.arange(400) < 200, 10, 60)).astype(np.uint8)
    flat = FlatBooster.fit(Binned.of(X), y, np.ones(400), PARAMS, seed=9)
    given, missing, other = flat.score(np.array([[7.0], [np.nan], [-3e38]], np.float32))
    assert given == other
    assert missing > given + 1.0


def test_a_split_meets_zeros_of_both_signs_and_the_greatest_values_as_a_comparison_does() -> None:
    values = np.array([0.0, -0.0, 1e-45, -1e-45, 3.4028235e38, -3.4028235e38, 1.5, -1.5], np.float32)
    for threshold in values:
        for missing_left in (True, False):
            flat = FlatBooster(
                features=1, baseline=0.0, roots=np.array([0], np.int32), feature=np.array([0, -1, -1], np.int16),
                threshold=np.array([threshold, 0, 0], np.float32), missing_left=np.array([missing_left, False, False]),
                left=np.array([1, 0, 0], np.int32), right=np.array([2, 0, 0], np.int32),
                value=np.array([0.0, -1.0, 1.0]),
            )  # fmt: skip
            expected = np.where(values <= threshold, -1.0, 1.0)
            np.testing.assert_array_equal(flat.score(values[:, None]), expected)
            nothing = np.array([[np.nan], [-np.nan], [np.inf], [-np.inf]], np.float32)
            assert flat.score(nothing).tolist() == [-1.0 if missing_left else 1.0] * 4


@pytest.mark.parametrize("count", [1, 31, 1_024, 2_500])
def test_rows_of_a_batch_of_any_size_reach_the_leaves_that_each_one_walks_to(count: int) -> None:
    X, y, w = rows()
    flat = FlatBooster.fit(Binned.of(X), y, w, PARAMS, seed=9)
    walked = np.array([_walked(flat, x) for x in X])
    np.testing.assert_array_equal(flat.score(np.resize(X, (count, 4))), np.resize(walked, count))


def _walked(flat: FlatBooster, x: np.ndarray) -> float:
    logit = flat.baseline
    for root in flat.roots:
        node = root
        while flat.feature[node] != LEAF:
            value = x[flat.feature[node]]
            goes_left = value <= flat.threshold[node] if np.isfinite(value) else flat.missing_left[node]
            node = flat.left[node] if goes_left else flat.right[node]
        logit += float(flat.value[node])
    return logit


def test_trees_take_the_shares_of_the_columns_in_turn() -> None:
    rng = np.random.default_rng(8)
    X = rng.normal(size=(4_000, 10)).astype(np.float32)
    y = (X.sum(axis=1) + rng.normal(size=4_000) > 2.0).astype(np.uint8)
    params = BoostingParams(trees=6, leaves=40, learning_rate=0.1, l2=1.0, column_shares=(1.0, 0.45, 0.1))
    flat = FlatBooster.fit(Binned.of(X), y, np.ones(4_000), params, seed=3)
    split = [set(nodes[nodes != LEAF].tolist()) for nodes in np.split(flat.feature, flat.roots[1:])]
    assert [len(its) for its in split] == [10, 5, 1, 10, 5, 1]
    assert split[1] != split[4]


def test_rows_are_drawn_anew_for_every_seed() -> None:
    X, y, w = rows()
    few = dataclasses.replace(PARAMS, rows=100)
    of_seed, again, other = (FlatBooster.fit(Binned.of(X), y, w, few, seed).score(X) for seed in (9, 9, 10))
    every = FlatBooster.fit(Binned.of(X), y, w, PARAMS, seed=9).score(X)
    np.testing.assert_array_equal(of_seed, again)
    assert np.abs(of_seed - other).max() > 0.01
    assert np.abs(of_seed - every).max() > 0.01
    # All columns are seen: without a draw the seed changes nothing.
    np.testing.assert_array_equal(every, FlatBooster.fit(Binned.of(X), y, w, PARAMS, seed=10).score(X))


def test_a_value_that_is_missing_later_goes_with_most_rows_not_with_most_of_those_drawn() -> None:
    X = np.repeat([[0.0], [1.0]], [1_000, 9_000], axis=0).astype(np.float32)
    # Half of the few are fraud, so that more of them are drawn than of the many.
    y = ((np.arange(10_000) < 1_000) & (np.arange(10_000) % 2 == 0)).astype(np.uint8)
    params = dataclasses.replace(PARAMS, rows=1_000)
    flat = FlatBooster.fit(Binned.of(X), y, np.ones(len(y)), params, seed=9)
    few, many, missing = flat.score(np.array([[0.0], [1.0], [np.nan]], np.float32))
    assert few > many + 1.0
    assert missing == many


def test_rows_that_do_not_differ_keep_the_logit_that_they_start_from() -> None:
    X, y = np.full((50, 2), 3.0, np.float32), np.zeros(50, np.uint8)
    y[:10] = 1
    params = BoostingParams(trees=3)
    trees = FlatBooster.fit(Binned.of(X), y, np.ones(50), params, seed=1, start=(-0.5, np.ones(50)))
    assert trees.score(X).tolist() == [-0.5] * 50


def test_rows_that_do_not_differ_make_the_share_of_frauds_the_score() -> None:
    flat = FlatBooster.fit(
        Binned.of(np.ones((4, 2), np.float32)),
        np.array([1, 0, 0, 0], np.uint8),
        np.array([1.0, 1, 1, 1]),
        PARAMS,
        seed=1,
    )
    np.testing.assert_allclose(flat.score(np.zeros((2, 2), np.float32)), np.log(1 / 3))
    assert flat.contributions(np.zeros((2, 2), np.float32)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("label", [0, 1])
def test_rows_of_one_class_or_without_weight_make_a_finite_score(label: int) -> None:
    X, _, w = rows()
    one_class = FlatBooster.fit(Binned.of(X), np.full(600, label, np.uint8), w, PARAMS, seed=9).score(X)
    assert np.all(one_class > 10.0 if label else one_class < -10.0)
    y = (np.arange(600) % 2).astype(np.uint8)
    certain = FlatBooster.fit(Binned.of(X), y, np.where(y == label, w, 0.0), PARAMS, seed=9).score(X)
    assert np.all(certain > 10.0 if label else certain < -10.0)
    assert np.isfinite(FlatBooster.fit(Binned.of(X), y, np.zeros(600), PARAMS, seed=9).score(X)).all()


def test_a_model_restored_from_its_arrays_is_the_same() -> None:
    X, y, w = rows()
    flat = FlatBooster.fit(Binned.of(X), y, w, PARAMS, seed=9)
    again = FlatBooster.from_arrays(flat.arrays(), 4)
    np.testing.assert_array_equal(again.score(X), flat.score(X))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("left", 0),
        ("left", 10_000),
        ("feature", 4),
        ("feature", -2),
        ("roots", -1),
        ("value", np.nan),
        ("threshold", np.nan),
        ("baseline", np.inf),
    ],
)
def test_nodes_that_lead_out_of_bounds_or_in_circles_are_refused(name: str, value: float) -> None:
    X, y, w = rows()
    arrays = {
        key: array.copy()
        for key, array in FlatBooster.fit(Binned.of(X), y, w, PARAMS, seed=9).arrays().items()
    }
    arrays[name][0] = value
    with pytest.raises(ValueError, match="nodes of a boosted model"):
        FlatBooster.from_arrays(arrays, 4)


def test_roots_that_are_no_plain_row_of_numbers_are_refused() -> None:
    X, y, w = rows()
    arrays = FlatBooster.fit(Binned.of(X), y, w, PARAMS, seed=9).arrays()
    with pytest.raises(ValueError, match="nodes of a boosted model"):
        FlatBooster.from_arrays({**arrays, "roots": arrays["roots"][:, None]}, 4)
