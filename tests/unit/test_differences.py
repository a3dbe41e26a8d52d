"""Differences of columns: their values, their place in reasons and records, and when a search takes them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from models.blend import BoostedRows, Trees, TreeSample
from models.boosting import BoostingParams
from models.candidates import TREES
from models.differences import Differences
from models.generation import TrainingRows
from tests.support.blends import CATEGORICAL, assert_restores_and_explains
from tests.support.searches import searcher_of

PARAMS = BoostingParams(trees=60, leaves=6, l2=1.0)
ORDER = np.array([3, 2, 0, 1], np.int16)


def emptied(count: int = 3_000, seed: int = 1, share: float = 0.03) -> TrainingRows:
    """Payments `a` from balances `b`, a column of chance, and a category: frauds take the balance but for a little."""
    rng = np.random.default_rng(seed)
    balance = rng.lognormal(6.0, 1.5, count)
    y = (rng.random(count) < share).astype(np.uint8)
    paid = np.where(y == 1, balance - 0.1 * rng.random(count), balance * rng.random(count))
    X = np.column_stack([paid, balance, rng.normal(size=count), rng.integers(0, 5, count)]).astype(np.float32)
    return TrainingRows(X, y, np.where(y == 1, 1.0, 2.0))


def fitted(some: TrainingRows, differences: Differences | None, params: BoostingParams = PARAMS) -> Trees:
    sample = TreeSample.of(some, CATEGORICAL, BoostedRows(np.arange(len(some.y)), some.w))
    return (sample if differences is None else sample.with_differences(differences)).fit(params, seed=5)


def test_each_of_the_first_given_numbers_is_taken_from_each() -> None:
    found = Differences.among(ORDER, ~CATEGORICAL)
    assert found.pairs.tolist() == [[0, 1], [0, 2], [1, 2]]
    many = Differences.among(np.arange(30, dtype=np.int16)[::-1], np.arange(30) % 2 == 1)
    assert len(many.pairs) == 28
    assert np.unique(many.pairs).tolist() == [15, 17, 19, 21, 23, 25, 27, 29]


def test_a_single_number_has_no_difference() -> None:
    one = Differences.among(ORDER, np.array([False, True, False, False]))
    assert one.of(np.ones((3, 4), np.float32)).shape == (3, 0)
    trees = fitted(emptied(500), one)
    assert trees.booster.features == 4 + len(trees.codes.columns)
    assert Trees.from_arrays(trees.arrays(), 4).differences is not None


def test_a_difference_is_missing_where_either_column_is() -> None:
    X = np.array([[5.0, 2.0], [np.nan, 2.0], [5.0, np.nan], [np.inf, np.inf], [3e38, -3e38]], np.float32)
    found = Differences(np.array([[0, 1]], np.int16)).of(X)
    assert found.dtype == np.float32
    assert np.isfinite(found[:, 0]).tolist() == [True, False, False, False, False]
    assert found[0, 0] == 3.0


def test_half_of_the_part_of_a_difference_is_of_each_of_its_columns() -> None:
    pairs = Differences(np.array([[0, 2], [1, 2]], np.int16))
    parts = np.array([[1.0, 2.0, 4.0, 10.0, 100.0]])
    assert pairs.summed(parts).tolist() == [[6.0, 52.0, 59.0]]


@pytest.mark.parametrize("linear", [False, True])
def test_trees_with_differences_explain_and_restore_to_the_bit(*, linear: bool) -> None:
    some = emptied()
    params = BoostingParams(trees=12, leaves=4, l2=1.0, linear=linear)
    trees = fitted(some, Differences.among(ORDER, ~CATEGORICAL), params)
    assert (trees.booster.feature >= trees.booster.features - 3).any(), "no tree splits a difference"
    X = some.X.copy()
    X[np.random.default_rng(1).random(X.shape) < 0.1] = np.nan
    total = trees.contributions(X).sum(axis=1) + trees.booster.reference
    np.testing.assert_allclose(total, trees.score(X), atol=1e-9)
    assert trees.contributions(X).shape == X.shape
    again = Trees.from_arrays(trees.arrays(), 4)
    np.testing.assert_array_equal(again.score(X), trees.score(X))
    words = "12 trees of 4 leaves with differences of columns"
    assert again.in_words == (f"{words} beside slopes" if linear else words)


def test_a_blend_with_differences_restores_and_its_reasons_sum_to_the_logit() -> None:
    some = emptied(800)
    assert_restores_and_explains(some, fitted(some, Differences.among(ORDER, ~CATEGORICAL)))


def test_few_frauds_along_a_line_are_found_by_the_difference_and_not_by_the_columns() -> None:
    some, fresh = emptied(), emptied(20_000, seed=2)
    with_pairs, without = (
        fitted(some, its).score(fresh.X) for its in (Differences.among(ORDER, ~CATEGORICAL), None)
    )

    def found(logit: NDArray[np.float64]) -> float:
        """Return the share of frauds among as many of the highest scores as there are frauds."""
        frauds = int(fresh.y.sum())
        return float(fresh.y[np.argsort(-logit)[:frauds]].mean())

    assert found(with_pairs) > 0.9
    assert found(without) < 0.7


@pytest.mark.parametrize(
    "wrong",
    [
        np.array([[0, 1]], np.int64),
        np.array([0, 1], np.int16),
        np.array([[0, 1, 2]], np.int16),
        np.array([[0, 4]], np.int16),
        np.array([[-1, 2]], np.int16),
        np.array([[1, 1]], np.int16),
        np.array([[0, 1], [0, 1]], np.int16),
    ],
)
def test_pairs_of_a_wrong_type_or_shape_are_refused(wrong: NDArray[np.int64]) -> None:
    with pytest.raises(ValueError, match="the pairs of columns are of a wrong type or shape"):
        Differences.from_arrays({"pairs": wrong}, 4)


@pytest.mark.parametrize("takes", [True, False])
def test_a_search_takes_differences_where_they_say_more_than_the_columns(*, takes: bool) -> None:
    some = emptied(6_000, share=0.05)
    if not takes:
        some.X[:, 0] = np.random.default_rng(1).permutation(some.X[:, 0])
        some.X[:, 2] += 1.5 * some.y
    choice = searcher_of(some, 60, CATEGORICAL).search().choice
    assert choice.trees_at >= 0
    assert TREES[choice.trees_at].differences == takes


def test_a_generation_pairs_the_given_numbers_that_matter_most_to_its_search() -> None:
    """Of eleven numbers the first two are computed; the payment and the balance are the last of the nine given ones."""
    some = emptied(6_000, share=0.05)
    chance = np.random.default_rng(4).normal(size=(6_000, 9)).astype(np.float32)
    chance[:, 0] += some.y
    wide = some._replace(X=np.column_stack([chance, some.X[:, :2]]))
    given = np.arange(11) >= 2
    searcher = searcher_of(wide, 60, np.zeros(11, np.bool_), given)
    found = searcher.search()
    trees = searcher.build(found).blend.trees
    assert trees is not None
    assert trees.differences is not None
    most = sorted([at for at in found.choice.order.tolist() if given[at]][:8])
    assert {9, 10} < set(most)
    assert 0 in found.choice.order[:8], "what is computed would be paired, were it not left out"
    assert trees.differences.pairs.tolist() == [list(its) for its in itertools.combinations(most, 2)]
