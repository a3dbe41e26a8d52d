from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from models.anomaly import FlatForest
from models.decision import Scores, _legit_weight, decide
from models.payoff import InForce
from models.payoff_deltas import IDLE_FOREST_ONE_IN, decided_payoffs
from models.state import ModelState
from models.threshold import BINS, EDGES, Calibration, CostPolicy, histogram
from models.vocabulary import MS_PER_DAY, Decider, Flag
from tests.support.model_log import DIGEST_EVERY, FEATURES, LINEAGE, POLICY, START_MS
from tests.support.scripted_blend import column, constant, scripted

COSTS = CostPolicy(review_cost=4.0, loss_fixed=2.0, loss_factor=0.5, alert_budget_cases_per_day=None)
FREE = dataclasses.replace(POLICY, costs=COSTS)
"""Without a budget lambda is 1, and the forest alerts on nothing."""


def model(
    *, online: bool = False, forest: bool = False, frauds: int = 0, budget: float | None = None
) -> ModelState:
    costs = dataclasses.replace(COSTS, alert_budget_cases_per_day=budget)
    state = ModelState(LINEAGE, dataclasses.replace(FREE, costs=costs), DIGEST_EVERY)
    state.online = scripted(column(0)) if online else None
    state.forest = FOREST if forest else None
    state.frauds_learnt = frauds
    return state


FOREST = FlatForest.fit(
    np.random.default_rng(3).normal(size=(300, FEATURES)).astype(np.float32), trees=5, seed=1
)
TRUSTED = POLICY.min_frauds
ONE_IN = 4


def rows(*logits: float) -> NDArray[np.float32]:
    features = np.random.default_rng(7).normal(size=(len(logits), FEATURES)).astype(np.float32)
    features[:, 0] = logits
    return features


def decided(
    state: ModelState,
    features: NDArray[np.float32],
    amount: list[float] | None = None,
    id_hash: NDArray[np.uint64] | None = None,
    now_ms: int = START_MS + MS_PER_DAY,
) -> Scores:
    count = len(features)
    # Neither a sampled example nor left out by the idle forest.
    hashes = np.full(count, 8 << 40 | 1, np.uint64) if id_hash is None else id_hash
    return decide(state, features, np.array(amount or [100.0] * count), hashes, now_ms)


def deciders(scores: Scores) -> list[Decider]:
    return [Decider(int(flags) & Flag.DECIDER) for flags in scores.flags]


def has(scores: Scores, flag: Flag) -> list[bool]:
    return [bool(int(flags) & flag) for flags in scores.flags]


def random_hashes(count: int) -> NDArray[np.uint64]:
    return np.random.default_rng(5).integers(0, 1 << 64, count, dtype=np.uint64)


def test_before_there_is_a_forest_no_decider_decides_and_nothing_is_alerted() -> None:
    scores = decided(model(), rows(9.0, 9.0))
    assert deciders(scores) == [Decider.NONE] * 2
    assert scores.flags.tolist() == [0, 0]
    assert np.isnan([scores.logit, scores.probability, scores.forest_score]).all()


def test_an_online_model_alone_that_has_learnt_too_little_decides_nothing_but_is_noted() -> None:
    scores = decided(model(online=True, frauds=TRUSTED - 1), rows(9.0))
    assert deciders(scores) == [Decider.NONE]
    assert has(scores, Flag.ONLINE_WOULD_ALERT) == [True]
    assert not scores.alerted.any()


def test_the_forest_decides_until_the_online_model_is_trusted() -> None:
    assert deciders(decided(model(forest=True), rows(1.0))) == [Decider.FOREST]
    assert deciders(decided(model(forest=True, frauds=TRUSTED), rows(1.0))) == [Decider.FOREST]
    untrusted = model(online=True, forest=True, frauds=TRUSTED - 1)
    assert deciders(decided(untrusted, rows(1.0))) == [Decider.FOREST]
    assert deciders(decided(model(online=True, forest=True, frauds=TRUSTED), rows(1.0))) == [Decider.ONLINE]


def test_each_row_whose_online_score_is_not_finite_falls_to_the_forest() -> None:
    scores = decided(
        model(online=True, forest=True, frauds=TRUSTED), rows(1.0, np.nan, np.inf, -np.inf, -1.0)
    )
    online, forest = Decider.ONLINE, Decider.FOREST
    assert deciders(scores) == [online, forest, forest, forest, online]
    assert has(scores, Flag.FOREST_SCORED)[1:4] == [True] * 3


def test_without_a_forest_a_row_without_a_score_has_no_decider() -> None:
    scores = decided(model(online=True, frauds=TRUSTED), rows(np.nan, 9.0))
    assert deciders(scores) == [Decider.NONE, Decider.ONLINE]
    assert scores.alerted.tolist() == [False, True]


def test_the_online_model_alerts_iff_expected_loss_reaches_the_review_cost() -> None:
    # Missing 100.0 costs 2 + 0.5 * 100 = 52, a review 4: worth it from p = 4 / 52 on, a logit of log(4 / 48).
    break_even = np.log(4 / 48)
    scores = decided(model(online=True, frauds=TRUSTED), rows(break_even - 1e-3, break_even + 1e-3))
    assert scores.alerted.tolist() == [False, True]
    np.testing.assert_allclose(scores.probability, 4 / 52, rtol=1e-2)
    np.testing.assert_array_equal(scores.loss, [52.0, 52.0])
    np.testing.assert_allclose(scores.ratio, scores.probability.astype(float) * 52 / 4, rtol=1e-12)
    assert scores.online_lambda == 1.0


def test_a_small_amount_is_worth_a_review_only_where_fraud_is_likely() -> None:
    # Missing 1.0 costs 2.5, less than a review of 4: never; 6.0 costs 5: from p = 0.8 on.
    scores = decided(model(online=True, frauds=TRUSTED), rows(9.0, 1.3, 1.5), [1.0, 6.0, 6.0])
    assert scores.alerted.tolist() == [False, False, True]


def test_the_calibration_is_applied_before_costs_are_compared() -> None:
    state = model(online=True, frauds=TRUSTED)
    state.calibration = Calibration(slope=2.0, intercept=-1.0)
    scores = decided(state, rows(0.5, 1.0))
    np.testing.assert_allclose(scores.probability, [0.5, 1 / (1 + np.exp(-1.0))], rtol=1e-6)
    np.testing.assert_array_equal(scores.logit, np.array([0.5, 1.0], np.float32))


def test_a_decision_keeps_the_logits_of_the_parts_as_they_are_before_calibration() -> None:
    state = model(online=True, frauds=TRUSTED)
    state.calibration = Calibration(slope=2.0, intercept=-1.0)
    scores = decided(state, rows(0.5, 1.0))
    np.testing.assert_array_equal(scores.tables_logit, np.array([0.5, 1.0], np.float32))
    assert np.isnan(scores.trees_logit).all(), "of a model without trees"
    unscored = decided(model(), rows(0.5))
    assert np.isnan([unscored.tables_logit, unscored.trees_logit]).all()


def test_a_budget_raises_lambda_and_the_rule_asks_for_so_much_more() -> None:
    state = model(online=True, frauds=TRUSTED, budget=10.0)
    ratios = np.full(1_000, 3.0)
    for clock_ms in (START_MS, START_MS + MS_PER_DAY):
        state.budget.fold(histogram(ratios, np.ones(1_000)), np.zeros(256), 0, 0, clock_ms)
    scores = decided(state, rows(0.0, 9.0), [8.0, 1_000.0])
    # A thousand ratios of 3 in a day are far beyond ten cases a day: lambda is next to the edge above 3.
    assert scores.online_lambda == pytest.approx(EDGES[EDGES > 3.0][0], rel=1e-3)
    assert scores.ratio[0] == 0.5 * 6.0 / 4.0
    assert scores.alerted.tolist() == [False, True]


def test_a_forest_that_has_spent_nothing_is_not_limited_however_small_the_traffic() -> None:
    state = model(forest=True, budget=200.0)
    assert not state.payoffs.forest_is_limited(state.policy.costs)
    assert state.forest_cases_per_day == pytest.approx(2 * 200.0 / 7)
    ranks = np.full(60, 5.0)
    for clock_ms in (START_MS, START_MS + MS_PER_DAY):
        state.budget.fold(np.zeros(256), histogram(ranks, np.ones(60)), 0, 0, clock_ms)
    # 90 decayed counts over the decayed day of 1.44 / 2: a quarter of some 125 decisions a day.
    assert state.forest_cases_per_day == pytest.approx(0.25 * 90 / (0.5 / np.log(2)))
    assert not state.payoffs.forest_is_limited(state.policy.costs)
    own = np.full(400, Decider.FOREST | Flag.ALERTED | Flag.OPENS_CASE, np.uint16)
    state.payoffs.fold(decided_payoffs(np.full(400, START_MS), own), state.policy.costs)
    assert state.payoffs.forest_is_limited(state.policy.costs)


def test_an_open_case_takes_an_alert_from_a_tenth_of_a_review_on_whatever_the_budget() -> None:
    state = model(online=True, frauds=TRUSTED, budget=10.0)
    for clock_ms in (START_MS, START_MS + MS_PER_DAY):
        state.budget.fold(histogram(np.full(1_000, 3.0), np.ones(1_000)), np.zeros(256), 0, 0, clock_ms)
    # At even odds, missing 0, 8, 20 or 1,000 costs 0.25, 0.75, 1.5 or 62.75 reviews; lambda is above 3.
    scores = decided(state, rows(0.0, 0.0, 0.0, 0.0, 0.0), [0.0, 8.0, 20.0, 1_000.0, 8.0])
    np.testing.assert_allclose(scores.ratio, [0.25, 0.75, 1.5, 62.75, 0.75])
    assert scores.alerted.tolist() == [False, False, False, True, False]
    assert scores.may_join.tolist() == [True, True, True, False, True]
    joined = scores.joining(np.array([True, False, True, False, False]))
    assert joined.alerted.tolist() == [True, False, True, True, False]
    assert joined.joined.tolist() == [True, False, True, False, False]
    assert has(joined, Flag.ONLINE_WOULD_ALERT) == joined.alerted.tolist()
    assert joined.online_threshold.tolist() == [0.1, scores.online_lambda] * 2 + [scores.online_lambda]
    assert joined.legit_weight[[0, 2]].tolist() == [1.0, 1.0]
    assert not scores.joined.any(), "the scores that were asked are as they were"


@pytest.mark.parametrize(("least", "from_reviews"), [(0.0, 0.1), (4.0, 0.1), (np.inf, np.inf)])
def test_what_joins_a_case_follows_no_policy_but_to_alert_on_nothing(
    least: float, from_reviews: float
) -> None:
    state = model(online=True, frauds=TRUSTED)
    state.payoffs.in_force = InForce(least, forest_decides=False, forest_vouched=0)
    assert decided(state, rows(0.0)).joining_lambda == from_reviews


def test_what_the_forest_decides_joins_no_case() -> None:
    state = model(online=True, forest=True, frauds=TRUSTED - 1)
    assert not decided(state, rows(9.0, -1.0)).may_join.any()


def with_forest_cut(state: ModelState) -> float:
    """Let the budget see a day of ranks so that the forest has a finite cut."""
    ranks = np.random.default_rng(2).uniform(0, 100, 500)
    for clock_ms in (START_MS, START_MS + MS_PER_DAY):
        low = histogram(np.full(500, 0.1), np.ones(500))
        state.budget.fold(low, histogram(ranks, np.ones(500)), 0, 0, clock_ms)
    return state.thresholds().forest_cut


def test_the_forest_alerts_on_score_times_amount_from_its_cut_on() -> None:
    state = model(forest=True, budget=20.0)
    cut = with_forest_cut(state)
    assert 0 < cut < np.inf
    features = rows(*range(5))
    score = np.asarray(FOREST.score(features), np.float32).astype(float)
    amounts = [float(cut / one * factor) for one, factor in zip(score, (0.5, 0.99, 1.01, 2, 0), strict=True)]
    scores = decided(state, features, amounts)
    assert scores.alerted.tolist() == [False, False, True, True, False]
    assert has(scores, Flag.FOREST_WOULD_ALERT) == [False, False, True, True, False]
    np.testing.assert_allclose(scores.rank, score * amounts)


def test_what_begins_a_day_is_decided_under_the_budget_of_that_day() -> None:
    state = model(forest=True, budget=20.0)
    with_forest_cut(state)
    nothing = np.zeros(BINS)
    state.budget.fold(nothing, nothing, 40, 40, START_MS + MS_PER_DAY)
    last_ms = START_MS + 2 * MS_PER_DAY - 1
    alerted = [
        decided(state, rows(0), [1e6], now_ms=now_ms).alerted.tolist() for now_ms in (last_ms, last_ms + 1)
    ]
    assert alerted == [[False], [True]]


def test_what_the_idle_forest_would_have_done_is_noted_but_alerts_nothing() -> None:
    state = model(online=True, forest=True, frauds=TRUSTED, budget=20.0)
    with_forest_cut(state)
    scores = decided(state, rows(-30.0), [1e6])
    assert deciders(scores) == [Decider.ONLINE]
    assert has(scores, Flag.FOREST_WOULD_ALERT) == [True]
    assert scores.alerted.tolist() == [False]


def test_the_policy_in_force_says_from_where_on_the_rule_alerts() -> None:
    state = model(online=True, frauds=TRUSTED)
    expected = {
        0.0: [True, True, True],
        0.5: [False, True, True],
        1.0: [False, False, True],
        np.inf: [False] * 3,
    }
    for least, alerted in expected.items():
        state.payoffs.in_force = InForce(least, forest_decides=False, forest_vouched=0)
        # Ratios of 0.013, 0.7 and 13: what a miss costs, over a review of 4.
        scores = decided(state, rows(-6.9, -2.87, 9.0))
        assert scores.alerted.tolist() == alerted, least
        assert scores.online_lambda == least


def test_a_forest_that_brings_more_decides_in_place_of_a_trusted_model() -> None:
    state = model(online=True, forest=True, frauds=TRUSTED, budget=20.0)
    with_forest_cut(state)
    state.payoffs.in_force = InForce(1.0, forest_decides=True, forest_vouched=1)
    scores = decided(state, rows(9.0), [1e6])
    assert deciders(scores) == [Decider.FOREST]
    assert scores.alerted.tolist() == [True]


def test_a_forest_whose_credit_is_spent_would_alert_but_does_not() -> None:
    state = model(forest=True, budget=20.0)
    with_forest_cut(state)
    spent = np.full(40, Decider.FOREST | Flag.ALERTED | Flag.OPENS_CASE, np.uint16)
    state.payoffs.fold(decided_payoffs(np.full(40, START_MS), spent), state.policy.costs)
    scores = decided(state, rows(0.0), [1e6])
    assert deciders(scores) == [Decider.FOREST]
    assert has(scores, Flag.FOREST_WOULD_ALERT) == [True]
    assert scores.alerted.tolist() == [False]
    assert scores.forest_cut == np.inf


def test_an_idle_forest_scores_one_row_in_eight_chosen_by_hash_each_for_eight() -> None:
    count = 4_000
    id_hash = random_hashes(count)
    scores = decided(model(online=True, forest=True, frauds=TRUSTED), rows(*np.zeros(count)), id_hash=id_hash)
    chosen = [(int(one) >> 40) % 8 == 0 for one in id_hash]
    assert has(scores, Flag.FOREST_SCORED) == chosen
    assert np.isfinite(scores.forest_score).tolist() == chosen
    assert scores.forest_weight.tolist() == [8.0 if one else 0.0 for one in chosen]
    assert IDLE_FOREST_ONE_IN == 8
    assert 400 < sum(chosen) < 600


def test_a_deciding_forest_scores_every_row_each_for_itself() -> None:
    scores = decided(model(forest=True), rows(*np.zeros(50)), id_hash=random_hashes(50))
    assert has(scores, Flag.FOREST_SCORED) == [True] * 50
    assert scores.forest_weight.tolist() == [1.0] * 50
    np.testing.assert_array_equal(scores.forest_score, FOREST.score(rows(*np.zeros(50))).astype(np.float32))


@pytest.mark.parametrize("logit", [np.inf, -np.inf, np.nan])
def test_a_score_that_is_not_finite_is_no_score(logit: float) -> None:
    state = model(online=True, forest=True, frauds=TRUSTED)
    state.online = scripted(constant(logit))
    scores = decided(state, rows(0.0), [1e6])
    assert deciders(scores) == [Decider.FOREST]
    assert has(scores, Flag.ONLINE_WOULD_ALERT) == [False]
    assert np.isnan([scores.logit[0], scores.probability[0], scores.ratio[0]]).all()


def test_examples_are_sampled_by_the_hash_of_the_transaction_alone() -> None:
    id_hash = random_hashes(2_000)
    scores = decided(model(), rows(*np.zeros(2_000)), id_hash=id_hash)
    one_in = ONE_IN
    assert scores.legit_weight.tolist() == [one_in if int(one) % one_in == 0 else 0 for one in id_hash]
    again = decided(model(forest=True), rows(*np.ones(2_000)), [7.0] * 2_000, id_hash)
    np.testing.assert_array_equal(again.legit_weight, scores.legit_weight)


def test_no_sampled_legit_stands_for_more_than_a_fraud_and_in_the_mean_each_for_itself() -> None:
    probability = np.repeat(np.array([0.3, 0.004, 1e-5, 0.9, np.nan, 1.0], np.float32), 40_000)
    nothing, id_hash = np.zeros(len(probability), np.uint16), random_hashes(len(probability))
    weight = _legit_weight(nothing, id_hash, probability, 512).reshape(6, -1)
    assert [np.unique(some).tolist() for some in weight] == [[0, 2], [0, 128], [0, 512], [1], [0, 512], [1]]
    assert weight.mean(axis=1) == pytest.approx(np.ones(6), abs=0.35)
    assert weight[:2].mean(axis=1) == pytest.approx(np.ones(2), abs=0.2)
    assert (_legit_weight(nothing, id_hash, probability, 1) == 1.0).all()
    assert np.unique(_legit_weight(nothing, id_hash, probability, 10)).tolist() == [0, 1, 2, 10]


def test_a_legit_that_looks_like_fraud_stands_for_fewer_of_its_kind() -> None:
    """Probabilities of 27 % and of 8 %, and at most one in four: one in two is kept, and one in four."""
    state = model(online=True, frauds=TRUSTED)
    scores = decided(state, rows(-1.0, -1.0, -2.5, -2.5), [0.0] * 4, np.array([8, 10, 8, 10], np.uint64))
    assert has(scores, Flag.ALERTED) == [False] * 4
    assert scores.legit_weight.tolist() == [2.0, 2.0, ONE_IN, 0.0]


def test_what_either_decider_would_alert_is_an_example_that_stands_for_itself() -> None:
    state = model(online=True, forest=True, frauds=TRUSTED, budget=20.0)
    with_forest_cut(state)
    scores = decided(state, rows(30.0, -30.0, -30.0), [50.0, 1e6, 0.0], np.array([8, 16, 24], np.uint64))
    would = [
        (bool(flags & Flag.ONLINE_WOULD_ALERT), bool(flags & Flag.FOREST_WOULD_ALERT))
        for flags in scores.flags
    ]
    assert would == [(True, False), (False, True), (False, False)]
    assert scores.legit_weight.tolist() == [1.0, 1.0, ONE_IN]


def test_the_sample_of_examples_and_that_of_the_idle_forest_are_independent() -> None:
    state = model(online=True, forest=True, frauds=TRUSTED)
    state.policy = dataclasses.replace(state.policy, sample_one_in=8)
    scores = decided(state, rows(*np.full(8_000, -30.0)), id_hash=random_hashes(8_000))
    both = (scores.legit_weight == 8) & np.array(has(scores, Flag.FOREST_SCORED))
    assert 8_000 / 64 * 0.6 < both.sum() < 8_000 / 64 * 1.4


def test_deciding_one_by_one_is_deciding_all_at_once() -> None:
    state = model(online=True, forest=True, frauds=TRUSTED, budget=20.0)
    with_forest_cut(state)
    features, id_hash = rows(*np.linspace(-4, 4, 40)), random_hashes(40)
    whole = decided(state, features, id_hash=id_hash)
    for row in range(40):
        one = slice(row, row + 1)
        alone = decided(state, features[one], id_hash=id_hash[one])
        assert alone.flags[0] == whole.flags[row]
        np.testing.assert_array_equal(alone.ratio, whole.ratio[one])


def test_no_rows_are_decided_as_none() -> None:
    scores = decided(model(online=True, forest=True, frauds=TRUSTED), rows())
    assert len(scores.flags) == len(scores.forest_weight) == 0
