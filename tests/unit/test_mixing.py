from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from models.mixing import REMEMBERED, follow, information_of

Numbers = NDArray[np.float64]
PLAIN = np.array([1.0, 0.0])


def chance(logit: Numbers) -> Numbers:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)), np.float64)


def stream(
    count: int, by_tables: float, by_trees: float, seed: int
) -> tuple[Numbers, Numbers, NDArray[np.uint8]]:
    """Return two logits that know different things, and verdicts that follow a weighted sum of them."""
    rng = np.random.default_rng(seed)
    tables, trees = rng.normal(-3.0, 2.0, (2, count))
    fraud = rng.random(count) < chance(by_tables * tables + by_trees * trees)
    return tables, trees, fraud.astype(np.uint8)


def started(weights: list[float]) -> tuple[Numbers, Numbers]:
    tables, trees, _ = stream(5_000, 0.5, 0.5, seed=1)
    theta = np.array(weights)
    return theta, information_of(tables, trees, np.ones(5_000), theta, PLAIN, REMEMBERED)


def test_the_information_is_that_of_as_many_verdicts_as_are_remembered() -> None:
    tables, trees, w = np.array([1.0, -2.0]), np.array([0.5, 3.0]), np.array([1.0, 4.0])
    weights, link = np.array([0.5, 1.0, 0.25]), np.array([2.0, -1.0])
    rows = np.array([[1.0, 0.5, 1.0], [-2.0, 3.0, 1.0]])
    p = chance(2.0 * (rows @ weights) - 1.0)
    each = w * p * (1.0 - p)
    expected = REMEMBERED * sum(4.0 * it * np.outer(row, row) for it, row in zip(each, rows, strict=True))
    np.testing.assert_allclose(
        information_of(tables, trees, w, weights, link, REMEMBERED), expected / each.sum(), rtol=1e-12
    )
    for certainty, counts in ((250.0, 0.25), (4_000.0, 1.0), (0.5, 0.01)):
        np.testing.assert_allclose(
            information_of(tables, trees, w, weights, link, certainty),
            counts * expected / each.sum(),
            rtol=1e-12,
        )


def test_each_verdict_is_one_step_of_newtons_method_with_fading_memory() -> None:
    tables, trees, y = stream(300, 0.7, 0.4, seed=2)
    w, link = np.random.default_rng(3).uniform(0.5, 3.0, 300), np.array([1.5, 0.2])
    theta, information = started([0.5, 0.5, 0.0])
    expected, remembered = theta.copy(), information.copy()
    follow(tables, trees, y, w, link, theta, information)
    for i in range(300):
        x = np.array([tables[i], trees[i], 1.0])
        p = chance(np.array(1.5 * (expected @ x) + 0.2))
        curvature = w[i] * p * (1.0 - p)
        remembered = (1.0 - curvature / REMEMBERED) * remembered + 1.5**2 * curvature * np.outer(x, x)
        expected = expected + np.linalg.solve(remembered + np.eye(3), x) * 1.5 * w[i] * (y[i] - p)
    np.testing.assert_allclose(theta, expected, rtol=1e-9)
    np.testing.assert_allclose(information, remembered, rtol=1e-9)


def test_weights_that_are_right_stay_so() -> None:
    tables, trees, y = stream(60_000, 0.5, 0.5, seed=4)
    theta, information = started([0.5, 0.5, 0.0])
    follow(tables, trees, y, np.ones(60_000), PLAIN, theta, information)
    assert theta[:2] == pytest.approx([0.5, 0.5], abs=0.05)
    assert theta[2] == pytest.approx(0.0, abs=0.15)


def test_when_the_trees_know_nothing_any_more_the_tables_take_their_weight() -> None:
    theta, information = started([0.1, 1.0, 0.0])
    before = theta.copy()
    tables, trees, y = stream(300_000, 1.0, 0.0, seed=5)
    follow(tables, trees, y, np.ones(300_000), PLAIN, theta, information)
    assert theta[0] == pytest.approx(1.0, abs=0.1)
    assert theta[1] == pytest.approx(0.0, abs=0.1)
    # What comes next is calibrated again.
    tables, trees, y = stream(60_000, 1.0, 0.0, seed=6)
    followed, left = (chance(it[0] * tables + it[1] * trees + it[2]) for it in (theta, before))
    assert followed.mean() == pytest.approx(y.mean(), rel=0.1)
    assert log_loss(y, followed) == pytest.approx(log_loss(y, chance(tables)), abs=0.002)
    assert log_loss(y, left) > 2.0 * log_loss(y, followed)


def test_no_weight_of_a_logit_becomes_negative_and_a_verdict_of_huge_weight_is_one_of_many() -> None:
    theta, information = started([0.5, 0.5, 0.0])
    tables, trees, y = stream(200_000, 1.0, -0.5, seed=7)
    follow(tables, trees, y, np.ones(200_000), PLAIN, theta, information)
    assert 0.0 <= theta[1] < 0.02
    follow(
        np.full(1, 20.0), np.full(1, 20.0), np.zeros(1, np.uint8), np.full(1, 1e9), PLAIN, theta, information
    )
    assert np.isfinite(theta).all()
    assert np.isfinite(information).all()


@pytest.mark.parametrize(("by_tables", "by_trees"), [(1.0, -0.5), (-0.5, 1.0), (-0.5, -0.5)])
def test_where_a_weight_would_be_negative_the_others_are_as_good_as_they_can_be_without_it(
    by_tables: float, by_trees: float
) -> None:
    theta, information = started([0.5, 0.5, 0.0])
    tables, trees, y = stream(200_000, by_tables, by_trees, seed=8)
    follow(tables, trees, y, np.ones(200_000), PLAIN, theta, information)
    tables, trees, y = stream(60_000, by_tables, by_trees, seed=9)
    p = chance(theta[0] * tables + theta[1] * trees + theta[2])
    assert p.mean() == pytest.approx(y.mean(), rel=0.1)
    kept = [part for part, weight in ((tables, by_tables), (trees, by_trees)) if weight > 0.0]
    X = np.column_stack([*kept, np.zeros(60_000)])
    best = LogisticRegression(C=1e6).fit(X, y).predict_proba(X)[:, 1]
    assert log_loss(y, p) == pytest.approx(log_loss(y, best), abs=0.005)
