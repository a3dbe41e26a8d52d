from __future__ import annotations

import numpy as np
import pytest

from tests.support.samples import drawn_sample
from worker.offline.compare.rules import Alerting
from worker.offline.compare.strategy import LeftOutError, Rule

REVIEW = 5.0
TUNE = drawn_sample(20_000, seed=1, prevalence=0.02)


def logits(prior: float = -3.9) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Return the true log odds of rows that are one standard deviation apart, by class."""
    rng = np.random.default_rng(2)
    drawn = rng.normal(size=len(TUNE)) + 2.0 * TUNE.fraud
    return np.asarray(2.0 * drawn - 2.0 + prior)


def probability(
    logit: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))


@pytest.mark.parametrize("inflation", [0.0, 4.0, -3.0])
def test_a_changed_prior_is_undone_in_the_probability(inflation: float) -> None:
    score = probability(logits() + inflation)
    alerting = Alerting.settled(Rule.COST, score, TUNE, REVIEW, is_probability=True)
    its = alerting.decide(score, TUNE.loss)
    assert its.probability.sum() == pytest.approx(TUNE.fraud.sum(), rel=0.01)
    np.testing.assert_allclose(its.probability, probability(logits()), atol=0.05)
    np.testing.assert_array_equal(its.alerted, its.probability * TUNE.loss >= REVIEW)


def test_weighted_rows_count_by_what_they_stand_for() -> None:
    doubled = drawn_sample(20_000, seed=1, prevalence=0.02)
    doubled.weight[~doubled.fraud] = 3.0
    score = probability(logits())
    its = Alerting.settled(Rule.COST, score, doubled, REVIEW, is_probability=True).decide(score, TUNE.loss)
    assert doubled.weight @ its.probability == pytest.approx(doubled.weight[doubled.fraud].sum(), rel=0.01)


def test_scores_of_any_scale_become_probabilities_that_keep_their_order() -> None:
    score = 1_000.0 * logits() + 7.0
    its = Alerting.settled(Rule.COST, score, TUNE, REVIEW, is_probability=False).decide(score, TUNE.loss)
    assert its.probability.sum() == pytest.approx(TUNE.fraud.sum(), rel=0.02)
    assert (np.diff(its.probability[np.argsort(score)]) >= 0.0).all()


def test_each_rule_alerts_where_it_says() -> None:
    score = probability(logits())
    by_rule = {
        rule: Alerting.settled(rule, score, TUNE, REVIEW, is_probability=True).decide(score, TUNE.loss)
        for rule in Rule
    }
    np.testing.assert_array_equal(by_rule[Rule.HALF].alerted, score > 0.5)
    for rule, its in by_rule.items():
        np.testing.assert_array_equal(its.alerted, its.rank >= its.threshold, err_msg=rule.value)

    def f1(threshold: float) -> float:
        alerted = score >= threshold
        return float(2 * (alerted & TUNE.fraud).sum() / (alerted.sum() + TUNE.fraud.sum()))

    def cost(threshold: float) -> float:
        alerted = score >= threshold
        return float(REVIEW * len(np.unique(TUNE.case[alerted])) + TUNE.loss[TUNE.fraud & ~alerted].sum())

    candidates = [*np.unique(score)[::50], np.inf]
    assert f1(float(by_rule[Rule.BEST_F1].threshold[0])) >= max(map(f1, candidates))
    assert cost(float(by_rule[Rule.CHEAPEST].threshold[0])) <= min(map(cost, candidates))


def cases_of(alerted: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> int:
    return len({int(case) for case in TUNE.case[alerted]})


@pytest.mark.parametrize("rule", [Rule.COST, Rule.CHEAPEST])
@pytest.mark.parametrize("most", [0.0, 1.0, 40.5, 400.0])
def test_a_threshold_by_cost_is_raised_no_further_than_the_budget_demands(rule: Rule, most: float) -> None:
    score = probability(logits())
    free = Alerting.settled(rule, score, TUNE, REVIEW, is_probability=True)
    assert cases_of(free.decide(score, TUNE.loss).alerted) > 400
    bound = free.within(most, score, TUNE.loss, TUNE.case)
    its = bound.decide(score, TUNE.loss)
    # With the next lower rank as the threshold, more cases would open.
    lower = its.rank >= its.rank[~its.alerted].max()
    assert cases_of(its.alerted) == int(most) < cases_of(lower)


@pytest.mark.parametrize("rule", list(Rule))
def test_an_ample_budget_moves_no_threshold(rule: Rule) -> None:
    score = probability(logits())
    free = Alerting.settled(rule, score, TUNE, REVIEW, is_probability=True)
    assert free.within(float(len(np.unique(TUNE.case))), score, TUNE.loss, TUNE.case) == free


@pytest.mark.parametrize("rule", [Rule.HALF, Rule.BEST_F1])
def test_rules_that_know_nothing_of_reviews_know_nothing_of_their_budget(rule: Rule) -> None:
    score = probability(logits())
    free = Alerting.settled(rule, score, TUNE, REVIEW, is_probability=True)
    assert free.within(1.0, score, TUNE.loss, TUNE.case) == free


def test_certain_probabilities_stay_finite() -> None:
    score = TUNE.fraud.astype(np.float64)
    its = Alerting.settled(Rule.COST, score, TUNE, REVIEW, is_probability=True).decide(score, TUNE.loss)
    assert np.isfinite(its.probability).all()
    np.testing.assert_array_equal(its.alerted, TUNE.fraud)


def test_one_score_for_all_is_the_prior() -> None:
    score = np.full(len(TUNE), 3.0)
    its = Alerting.settled(Rule.COST, score, TUNE, REVIEW, is_probability=False).decide(score, TUNE.loss)
    np.testing.assert_allclose(its.probability, TUNE.fraud.mean(), rtol=0.05)


def test_a_half_of_no_probability_and_a_window_of_one_class_are_refused() -> None:
    with pytest.raises(LeftOutError, match="no probabilities"):
        Alerting.settled(Rule.HALF, logits(), TUNE, REVIEW, is_probability=False)
    legits = TUNE.take(~TUNE.fraud)
    with pytest.raises(LeftOutError, match="only one class"):
        Alerting.settled(Rule.COST, np.zeros(len(legits)), legits, REVIEW, is_probability=True)
