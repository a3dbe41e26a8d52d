from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from models.evaluation import average_precision, evaluate, roc_auc


@pytest.mark.parametrize("distinct", [2, 7, 10_000])
@pytest.mark.parametrize("prevalence", [0.003, 0.5])
def test_ranking_measures_equal_those_of_scikit_learn(distinct: int, prevalence: float) -> None:
    rng = np.random.default_rng(distinct)
    fraud = rng.random(3_000) < prevalence
    score = rng.integers(0, distinct, 3_000) / distinct + 0.3 * fraud
    assert average_precision(fraud, score) == pytest.approx(average_precision_score(fraud, score), abs=1e-12)
    assert roc_auc(fraud, score) == pytest.approx(roc_auc_score(fraud, score), abs=1e-12)


def test_weighted_measures_equal_those_of_scikit_learn() -> None:
    rng = np.random.default_rng(1)
    fraud = rng.random(3_000) < 0.05
    score = rng.integers(0, 50, 3_000) / 50 + 0.3 * fraud
    weight = np.where(fraud, 1.0, rng.integers(0, 20, 3_000))
    precision = average_precision_score(fraud, score, sample_weight=weight)
    area = roc_auc_score(fraud, score, sample_weight=weight)
    assert average_precision(fraud, score, weight) == pytest.approx(precision, abs=1e-12)
    assert roc_auc(fraud, score, weight) == pytest.approx(area, abs=1e-12)


def test_average_precision_by_hand() -> None:
    fraud = np.array([True, False, True, False])
    assert average_precision(fraud, np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_one_score_for_all_ranks_no_better_than_chance() -> None:
    fraud = np.array([True, False, False, False])
    assert average_precision(fraud, np.zeros(4)) == 0.25
    assert roc_auc(fraud, np.zeros(4)) == 0.5


@pytest.mark.parametrize("fraud", [[], [False, False]])
def test_ranking_without_a_fraud_is_undefined(fraud: list[bool]) -> None:
    truth, score = np.array(fraud, dtype=bool), np.arange(len(fraud), dtype=np.float64)
    assert math.isnan(average_precision(truth, score))
    assert math.isnan(roc_auc(truth, score))


def test_roc_auc_without_a_legit_is_undefined() -> None:
    assert math.isnan(roc_auc(np.array([True, True]), np.array([0.1, 0.2])))


def test_a_backtest_line_by_hand() -> None:
    line = evaluate(
        fraud=np.array([True, True, False, False, False]),
        score=np.array([0.9, 0.2, 0.8, 0.1, 0.0]),
        alerted=np.array([True, False, True, False, False]),
        loss=np.array([100.0, 30.0, 50.0, 10.0, 10.0]),
        opens_case=np.array([True, False, False, False, False]),
        first_of_window=np.array([True, True, True, True, False]),
        review_cost=5.0,
    )
    assert line.n == 5
    assert line.prevalence == pytest.approx(0.4)
    assert line.ap == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert line.roc_auc == pytest.approx(5 / 6)
    assert (line.recall, line.precision, line.f1) == (0.5, 0.5, 0.5)
    # One case was reviewed and 30 was lost; reviewing all four windows would have cost 20, nothing 130.
    assert line.cost == pytest.approx(35.0)
    assert line.savings == pytest.approx(1.0 - 35.0 / 20.0)


def test_a_line_about_nothing_is_undefined_and_not_zero() -> None:
    none, truth = np.zeros(0), np.zeros(0, dtype=bool)
    line = evaluate(
        fraud=truth,
        score=none,
        alerted=truth,
        loss=none,
        opens_case=truth,
        first_of_window=truth,
        review_cost=5.0,
    )
    assert (line.n, line.cost) == (0, 0.0)
    undefined = (line.prevalence, line.ap, line.roc_auc, line.recall, line.precision, line.f1, line.savings)
    assert all(math.isnan(value) for value in undefined)
