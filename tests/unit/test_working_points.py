from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_curve

from models.working_points import WorkingPoints, first_alerts


def rows(seed: int, count: int = 40) -> dict[str, NDArray[np.generic]]:
    rng = np.random.default_rng(seed)
    return {
        "fraud": rng.random(count) < 0.3,
        "score": rng.integers(0, 9, count) / 4.0,
        "loss": rng.integers(1, 100, count).astype(np.float64),
        "case": rng.integers(0, count // 3, count),
    }


@given(st.integers(0, 10_000))
def test_every_threshold_equals_brute_force(seed: int) -> None:
    data = rows(seed)
    fraud, score, loss, case = data["fraud"], data["score"], data["loss"], data["case"]
    points = WorkingPoints.of(**data)  # type: ignore[arg-type]
    assert points.threshold.tolist() == [np.inf, *sorted(set(score.tolist()), reverse=True)]
    review = 5.0
    none, everything = loss[fraud].sum(), review * len(set(case.tolist()))
    for i, threshold in enumerate(points.threshold):
        alerted = score >= threshold
        cases = len(set(case[alerted].tolist()))
        cost = review * cases + loss[fraud & ~alerted].sum()
        assert points.alerts[i] == alerted.sum()
        assert points.caught[i] == (fraud & alerted).sum()
        assert points.cases[i] == cases
        assert points.cost(review)[i] == pytest.approx(cost)
        if fraud.any():
            assert points.recall[i] == pytest.approx((fraud & alerted).sum() / fraud.sum())
            assert points.recall_by_value[i] == pytest.approx(loss[fraud & alerted].sum() / loss[fraud].sum())
            assert points.savings(review)[i] == pytest.approx(1.0 - cost / min(none, everything))
        if alerted.any():
            assert points.precision[i] == pytest.approx(fraud[alerted].mean())
    assert (
        points.cost(review)[points.threshold == points.cheapest_threshold(review)]
        == points.cost(review).min()
    )


def test_a_weight_of_two_counts_a_row_twice() -> None:
    data = rows(3)
    twice = np.arange(40) % 3 == 0
    doubled = {name: np.concatenate([column, column[twice]]) for name, column in data.items()}
    weighted = WorkingPoints.of(**data, weight=1.0 + twice)  # type: ignore[arg-type]
    repeated = WorkingPoints.of(**doubled)
    np.testing.assert_allclose(weighted.alerts, repeated.alerts)
    np.testing.assert_allclose(weighted.f1, repeated.f1)
    np.testing.assert_allclose(weighted.caught_loss, repeated.caught_loss)


def test_the_best_f1_is_that_of_scikit_learns_curve() -> None:
    data = rows(5, 400)
    precision, recall, thresholds = precision_recall_curve(data["fraud"], data["score"])
    f1 = 2 * precision[:-1] * recall[:-1] / np.maximum(precision[:-1] + recall[:-1], 1e-12)
    points = WorkingPoints.of(**data)  # type: ignore[arg-type]
    assert points.best_f1_threshold() == thresholds[np.argmax(f1)]
    assert points.f1.max() == pytest.approx(f1.max())


def test_without_frauds_nothing_is_alerted() -> None:
    nothing = np.zeros(3, np.bool_)
    points = WorkingPoints.of(nothing, np.arange(3.0), np.ones(3), np.arange(3))
    assert points.cheapest_threshold(5.0) == np.inf
    assert points.best_f1_threshold() == np.inf
    assert np.isnan(points.recall).all()


def test_no_rows_leave_one_threshold() -> None:
    none = np.zeros(0)
    points = WorkingPoints.of(none.astype(bool), none, none, none.astype(np.int64))
    assert points.threshold.tolist() == [np.inf]
    assert points.cost(5.0).tolist() == [0.0]


def test_a_case_opens_at_its_first_alert() -> None:
    case = np.array([1, 2, 1, 1, 2])
    alerted = np.array([False, True, True, True, True])
    assert first_alerts(case, alerted).tolist() == [False, True, True, False, False]
