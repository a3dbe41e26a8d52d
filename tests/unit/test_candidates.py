"""The candidates of a search: how many there are, as each costs time at every cut that it reaches, and their words."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import search as search_module
from models.blend import Blend, TableSample, Trees, TreeSample, build_blend
from models.boosting import BoostingParams
from models.candidates import FOR_FEW_FRAUDS, FOR_MANY_FRAUDS, TABLES, TREES, with_differences, with_slopes
from models.generation import TrainingRows
from models.online import BinnedLogistic, LogisticParams
from models.vocabulary import ChallengerMode
from tests.support.searches import searcher_of
from tests.unit.test_search import examples, search

MOST = 12
"""The requirement: a search on one thread judges no more, so that its time has a bound."""


def test_there_are_at_most_twelve_candidates_trees_and_tables_together() -> None:
    with_slopes_and_differences = max(len(FOR_FEW_FRAUDS), len(FOR_MANY_FRAUDS)) + 2
    assert with_slopes_and_differences + len(TABLES) <= MOST


def test_each_size_is_a_candidate_all_but_the_largest_with_slopes_and_every_one_with_differences() -> None:
    sizes = sorted({*FOR_FEW_FRAUDS, *FOR_MANY_FRAUDS})
    largest = max(sizes, key=lambda at: TREES[at].trees * TREES[at].leaves)
    assert with_slopes(largest) == []
    sloped = [its for at in sizes if at != largest for its in with_slopes(at)]
    paired = [its for at in (*sizes, *sloped) for its in with_differences(at)]
    assert [*sizes, *sloped, *paired] == list(range(len(TREES)))
    for at in (*sizes, *sloped):
        assert TREES[with_differences(at)[0]] == dataclasses.replace(TREES[at], differences=True) != TREES[at]
    for at in set(sizes) - {largest}:
        assert TREES[with_slopes(at)[0]] == dataclasses.replace(TREES[at], linear=True) != TREES[at]


@pytest.mark.parametrize("challenger", list(ChallengerMode))
@pytest.mark.parametrize(("many_frauds", "sizes"), [(1, FOR_MANY_FRAUDS), (10**9, FOR_FEW_FRAUDS)])
def test_a_search_makes_at_most_twelve_candidates(
    monkeypatch: pytest.MonkeyPatch, many_frauds: int, sizes: tuple[int, ...], challenger: ChallengerMode
) -> None:
    trees, tables = set[BoostingParams](), set[tuple[tuple[str, Any], ...]]()
    fit = TreeSample.fit

    def fitted(sample: TreeSample, params: BoostingParams, seed: int) -> Trees:
        trees.add(params)
        return fit(sample, dataclasses.replace(params, trees=2), seed)

    def built(
        sample: TableSample, names: tuple[str, ...], params: LogisticParams, *rest: Any
    ) -> tuple[Blend, NDArray[np.float64]]:
        tables.add(tuple(sorted(params.items())))
        return build_blend(sample, names, params, *rest)

    monkeypatch.setattr(search_module, "_MANY_FRAUDS", many_frauds)
    monkeypatch.setattr(TreeSample, "fit", fitted)
    monkeypatch.setattr(search_module, "build_blend", built)
    search(examples(30, 60), challenger).search()
    assert len(trees) + len(tables) <= MOST
    # What is counted is all that the search makes: every size that it may choose, one with slopes, one
    # with differences, and all tables.
    without_trees = challenger is ChallengerMode.OFF
    assert (len(trees), len(tables)) == (1 if without_trees else len(sizes) + 2, len(TABLES))


def trees_chosen(X: NDArray[np.float32], y: NDArray[np.uint8], days: int) -> int:
    """Return how many trees a search chooses by rows of so many days; labels come two days later."""
    rows = TrainingRows(X, y, np.ones(len(y)))
    choice = searcher_of(rows, days, np.zeros(X.shape[1], np.bool_)).search().choice
    assert choice.has_judged
    return TREES[choice.trees_at].trees


@pytest.mark.parametrize("seed", [0, 1])
def test_a_fit_stops_early_where_the_fields_say_little_and_goes_on_where_they_say_much(seed: int) -> None:
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((3_600, 12)).astype(np.float32)
    little = 0.5 * (X[:, 0] + X[:, 1]) - 2.2
    y = (rng.random(3_600) < 1.0 / (1.0 + np.exp(-little))).astype(np.uint8)
    assert trees_chosen(X, y, 60) <= 125
    much = X[:, 0] * X[:, 1] + 0.5 * X[:, 2] > 1.2
    assert trees_chosen(X, much.astype(np.uint8), 60) >= 200


def test_each_candidate_for_tables_has_words_of_its_own_for_a_log() -> None:
    words = [BinnedLogistic(**params).in_words for params in TABLES]
    assert len(set(words)) == len(TABLES)
    assert words[:3] == [
        "tables of 64 bins and 16 in crosses, learnt in 1 pass at rates of 0.05 and 0.03",
        "tables of 64 bins and 16 in crosses, learnt in 3 passes at rates of 0.05 and 0.03",
        "tables of 16 bins and 8 in crosses, learnt in 1 pass at rates of 0.05 and 0.03",
    ]
