from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from models import category_codes
from models.blend import BoostedRows, TreeSample
from models.candidates import TREES
from models.category_codes import CategoryCodes, odds_elsewhere
from models.generation import TrainingRows
from models.threshold import probabilities

CATEGORICAL = np.array([False, True])
NAN = float("nan")


def rows(values: list[float], fraud: list[int], weight: list[float] | None = None) -> TrainingRows:
    X = np.column_stack([np.arange(len(values)), values]).astype(np.float32)
    return TrainingRows(X, np.array(fraud, np.uint8), np.array(weight or [1.0] * len(values)))


def log_odds(frauds: float, legits: float, prior: float) -> float:
    return math.log((frauds + 20 * prior) / (legits + 20 * (1 - prior)))


def test_a_row_takes_the_odds_that_its_value_has_in_the_other_fifths_of_the_rows() -> None:
    # Fifths of two rows each: the second holds a burst of frauds of value 7.
    values, fraud = [5, 7, 7, 7, 5, NAN, 7, 5, 9, 7], [0, 0, 1, 1, 0, 0, 0, 0, 0, 1]
    weight = [4.0, 4.0, 1.0, 1.0, 4.0, 4.0, 4.0, 4.0, 4.0, 1.0]
    some = rows(values, fraud, weight)
    prior = 3 / 31
    expected = [
        log_odds(0, 8, prior),
        log_odds(3, 4, prior),
        log_odds(1, 8, prior),
        log_odds(1, 8, prior),
        log_odds(0, 8, prior),
        NAN,
        log_odds(3, 4, prior),
        log_odds(0, 8, prior),
        log_odds(0, 0, prior),
        log_odds(2, 8, prior),
    ]
    np.testing.assert_allclose(odds_elsewhere(some, np.array([1]))[:, 0], expected, rtol=1e-6)


def test_a_later_row_takes_the_odds_of_all_rows_and_a_new_value_those_of_none() -> None:
    codes = CategoryCodes.of_rows(rows([7, 5, 7, 7, NAN, 5], [1, 0, 0, 1, 0, 0]), CATEGORICAL)
    later = np.array([[0, 7], [0, 5], [0, 6], [0, NAN], [0, np.inf]], np.float32)
    prior = 2 / 6
    expected = [log_odds(2, 1, prior), log_odds(0, 2, prior), log_odds(0, 0, prior), NAN, NAN]
    np.testing.assert_allclose(codes.of(later)[:, 1], expected, rtol=1e-6)


def test_frequent_values_are_numbered_by_frequency_and_rare_ones_share_a_number() -> None:
    values = [3.0] * 40 + [9.0] * 50 + [1.0] * 29
    codes = CategoryCodes.of_rows(rows(values, [0] * len(values)), CATEGORICAL)
    given = np.array([[0, 9], [0, 3], [0, 1], [0, 77], [0, NAN]], np.float32)
    np.testing.assert_array_equal(codes.of(given)[:, 2], [0, 1, 2, 2, NAN])
    np.testing.assert_array_equal(codes.of(given)[:, 0], given[:, 0])


def test_rows_without_categories_stay_as_they_are() -> None:
    none = np.array([False, False])
    some = rows([1, 2], [0, 1])
    codes = CategoryCodes.of_rows(some, none)
    assert codes.of(some.X) is some.X
    np.testing.assert_array_equal(codes.summed(np.ones((2, 2))), np.ones((2, 2)))


def test_a_category_without_any_value_is_missing_everywhere() -> None:
    some = rows([NAN, NAN], [0, 1])
    codes = CategoryCodes.of_rows(some, CATEGORICAL)
    assert np.isnan(codes.of(some.X)[:, 1:]).all()
    assert codes.of(np.array([[0, 4]], np.float32))[0].tolist() == pytest.approx([0.0, 0.0, 0.0])


def test_what_a_category_adds_is_the_sum_of_what_its_two_numbers_add() -> None:
    codes = CategoryCodes.of_rows(rows([7, 5, 7], [1, 0, 0]), CATEGORICAL)
    parts = np.array([[1.0, 2.0, 0.5], [-1.0, 3.0, 4.0]])
    np.testing.assert_array_equal(codes.summed(parts), [[1.0, 2.5], [-1.0, 7.0]])


def test_where_no_row_has_a_gap_a_value_that_has_grown_goes_with_most_rows_and_an_odd_one_is_rare() -> None:
    some = rows([7.0] * 40 + [5.0] * 40 + [9.0] * 3, [1] + [0] * 82)
    # Of the traffic of now 30 have a value that nobody had, 30 one that three had; 29 one that is as odd as before.
    recent = np.zeros((129, 2), np.float32)
    recent[:, 1] = np.repeat([7, 8, 9, 6], [40, 30, 30, 29])
    given = np.array([[0, 7], [0, 5], [0, 8], [0, 9], [0, 6]], np.float32)
    before, now = (CategoryCodes.of_rows(some, CATEGORICAL, it) for it in (None, recent))
    expected = before.of(given)
    expected[2:4, 1:] = NAN
    np.testing.assert_array_equal(now.of(given), expected)
    assert np.isfinite(before.of(given)).all()
    np.testing.assert_array_equal(CategoryCodes.from_arrays(now.arrays(), 2).of(given), expected)


def test_where_rows_have_gaps_a_value_that_has_grown_is_like_most_values_and_no_gap_by_hand() -> None:
    some = rows([7.0] * 40 + [5.0] * 35 + [6.0] * 25 + [NAN] * 100, [1] * 10 + [0] * 190)
    recent = np.zeros((100, 2), np.float32)
    recent[:, 1] = np.repeat([7, 8], [60, 40])
    odds, rank = CategoryCodes.of_rows(some, CATEGORICAL, recent).of(np.array([[0, 8]], np.float32))[0, 1:]
    # Ten frauds of the 100 rows with a value, and the prior of 20 rows of which a twentieth is fraud.
    assert odds == pytest.approx(math.log((10 + 1) / (90 + 19)))
    assert rank == 1.0, (
        "40 rows have the most frequent value, 75 one of the first two: the median row has the second"
    )


def test_a_value_that_has_grown_is_no_gap_to_trees_that_know_what_gaps_say() -> None:
    """One in a hundred is fraud without a value, one in ten with one."""
    rng = np.random.default_rng(3)
    count = 6_000
    value = np.where(rng.random(count) < 0.5, NAN, rng.integers(1, 6, count))
    fraud = rng.random(count) < np.where(np.isnan(value), 0.01, 0.1)
    some = rows(value.tolist(), fraud.astype(int).tolist())
    recent = np.zeros((1_000, 2), np.float32)
    recent[:, 1] = rng.permutation(np.resize([NAN, 1.0, 9.0], 1_000))
    sample = TreeSample.of(some, CATEGORICAL, BoostedRows.of(some, count, 1), recent)
    trees = sample.fit(replace(TREES[0], trees=60), 1)
    p_grown, p_known, p_gap = probabilities(trees.score(np.array([[0, 9], [0, 1], [0, NAN]], np.float32)))
    assert 0.05 < p_grown < 0.2
    assert 0.05 < p_known < 0.2
    assert p_gap < 0.03


def test_values_that_were_always_there_have_not_grown_however_few_rows_there_are() -> None:
    """Of 200 values of even shares 5,000 rows have some 25 each, and 16,384 recent decisions some 82."""
    rng = np.random.default_rng(5)
    values = rng.integers(1, 201, 5_000).astype(np.float32)
    recent = np.zeros((16_384, 2), np.float32)
    recent[:, 1] = rng.integers(1, 201, 16_384)
    recent[:6_000, 1] = 777.0
    codes = CategoryCodes.of_rows(
        rows(values.tolist(), rng.integers(0, 2, 5_000).tolist()), CATEGORICAL, recent
    )
    given = np.column_stack([np.zeros(201), [*range(1, 201), 777]]).astype(np.float32)
    assert np.isnan(codes.of(given)[:, 1:]).all(axis=1).tolist() == [False] * 200 + [True]


def test_where_few_rows_make_one_expect_hardly_any_of_a_value_none_says_nothing_of_it() -> None:
    """40 of 16,384 recent decisions are two in 1,000 rows."""
    recent = np.ones((16_384, 2), np.float32)
    recent[:40, 1] = 777.0
    codes = CategoryCodes.of_rows(rows([1.0] * 1_000, [1] * 10 + [0] * 990), CATEGORICAL, recent)
    assert np.isfinite(codes.of(np.array([[0, 777]], np.float32))).all()


def test_codes_restored_from_their_arrays_are_the_same_and_foreign_ones_are_refused() -> None:
    codes = CategoryCodes.of_rows(rows([7, 5, 7], [1, 0, 0]), CATEGORICAL)
    again = CategoryCodes.from_arrays(codes.arrays(), 2)
    given = np.array([[0, 5], [0, 7], [0, 8]], np.float32)
    np.testing.assert_array_equal(again.of(given), codes.of(given))
    foreign: dict[str, Any] = {
        "columns": np.array([2]), "starts": np.array([0, 3]),
        "numbers": np.full((2, 2), np.inf, np.float32), "unknown": np.zeros(2, np.float32),
    }  # fmt: skip
    for name, value in foreign.items():
        with pytest.raises(ValueError, match="codes of categories"):
            CategoryCodes.from_arrays({**codes.arrays(), name: value}, 2)
    two = CategoryCodes.of_rows(rows([7, 5, 7], [1, 0, 0]), np.array([True, True])).arrays()
    with pytest.raises(ValueError, match="codes of categories"):
        CategoryCodes.from_arrays({**two, "columns": np.array([1, 1])}, 2)


def test_starts_whose_differences_overflow_and_rows_without_the_category_are_refused() -> None:
    four = {
        "columns": np.arange(4), "starts": np.array([0, 2**62, -(2**63), -(2**62), 3]),
        "values": np.arange(3, dtype=np.float32), "numbers": np.zeros((3, 2), np.float32),
        "unknown": np.zeros((4, 2), np.float32),
    }  # fmt: skip
    with pytest.raises(ValueError, match="codes of categories"):
        CategoryCodes.from_arrays(four, 4)
    codes = CategoryCodes.of_rows(rows([7, 5, 7], [1, 0, 0]), CATEGORICAL)
    with pytest.raises(ValueError, match=r"column 1, got an array of shape \(2, 1\)"):
        codes.of(np.zeros((2, 1), np.float32))


def test_of_very_many_values_those_that_say_the_most_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The most frequent one has the odds of all rows, so that it says nothing."""
    monkeypatch.setattr(category_codes, "_MOST_VALUES", 2)
    codes = CategoryCodes.of_rows(rows([3, 8, 8, 8, 8, 5], [1, 1, 0, 1, 0, 0]), CATEGORICAL)
    given = np.array([[0, 3], [0, 8], [0, 5]], np.float32)
    expected = [log_odds(1, 0, 0.5), log_odds(0, 0, 0.5), log_odds(0, 1, 0.5)]
    np.testing.assert_allclose(codes.of(given)[:, 1], expected, rtol=1e-6)


def test_of_very_many_values_a_frequent_one_keeps_its_rank_though_it_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(category_codes, "_MOST_VALUES", 2)
    codes = CategoryCodes.of_rows(rows([9.0] * 40 + [3.0, 5.0], [0, 1] * 20 + [1, 0]), CATEGORICAL)
    assert codes.of(np.array([[0, 9], [0, 77]], np.float32))[:, 2].tolist() == [0, 1]
