from __future__ import annotations

import math

import numpy as np
import pytest

from models.payoff_deltas import LAMBDAS
from models.threshold import (
    BINS,
    EDGES,
    AlertBudget,
    Calibration,
    CostPolicy,
    bin_of,
    forest_rank,
    histogram,
    online_ratio,
)
from models.vocabulary import MS_PER_DAY

HOUR = MS_PER_DAY // 24
START = 1_700_000_000_000
EMPTY = np.zeros(BINS)


def policy(budget: float | None = None) -> CostPolicy:
    return CostPolicy(review_cost=5.0, loss_fixed=2.0, loss_factor=0.5, alert_budget_cases_per_day=budget)


def all_in(value: float, count: float) -> np.ndarray:
    return histogram(np.array([value]), np.array([count]))


def test_a_missed_fraud_costs_a_fixed_part_and_a_share_of_the_amount() -> None:
    amount = np.array([100.0, 0.0, -40.0, math.nan])
    assert policy().loss(amount).tolist() == [52.0, 2.0, 2.0, 2.0]


def test_an_alert_pays_once_the_expected_loss_reaches_the_review_cost() -> None:
    loss = policy().loss(np.array([100.0, 100.0, 16.0]))
    ratio = online_ratio(np.array([0.25, 0.05, 0.5]), loss, policy())
    assert ratio == pytest.approx([2.6, 0.52, 1.0])


@pytest.mark.parametrize(
    ("field", "value"), [("review_cost", 0.0), ("loss_fixed", -1.0), ("loss_factor", math.nan)]
)
def test_costs_that_no_decision_follows_from_are_refused(field: str, value: float) -> None:
    costs = {"review_cost": 5.0, "loss_fixed": 1.0, "loss_factor": 1.0} | {field: value}
    with pytest.raises(ValueError, match=field):
        CostPolicy(**costs, alert_budget_cases_per_day=None)


def test_the_forest_ranks_nothing_without_a_positive_amount() -> None:
    rank = forest_rank(np.array([0.5, 0.5, 0.5, math.nan]), np.array([80.0, -80.0, math.nan, 80.0]))
    assert rank.tolist() == [40.0, 0.0, 0.0, 0.0]


def test_the_fit_without_any_row_changes_nothing() -> None:
    none = np.zeros(0)
    assert Calibration.fit(none, none.astype(bool), none) == Calibration(1.0, 0.0)


def test_an_unfitted_calibration_is_the_logistic_function() -> None:
    p = Calibration().probability(np.array([0.0, math.log(3.0), -800.0, math.nan]))
    assert p[:2] == pytest.approx([0.5, 0.75], abs=1e-15)
    assert 0.0 < p[2] < 1e-20
    assert math.isnan(p[3])


def test_many_frauds_recover_the_slope_and_intercept_of_the_world() -> None:
    rng = np.random.default_rng(7)
    logit = rng.normal(-2.0, 1.5, 40_000)
    fraud = rng.random(40_000) < 1.0 / (1.0 + np.exp(-(0.6 * logit - 0.8)))
    fitted = Calibration.fit(logit, fraud, np.ones(40_000))
    assert fitted.slope == pytest.approx(0.6, abs=0.03)
    assert fitted.intercept == pytest.approx(-0.8, abs=0.06)
    assert fitted.probability(logit).sum() == pytest.approx(float(fraud.sum()), rel=1e-3)


def test_the_fit_stands_where_the_penalised_likelihood_is_flat() -> None:
    rng = np.random.default_rng(8)
    logit, weight = rng.normal(-1.0, 2.0, 500), rng.uniform(0.5, 10.0, 500)
    fraud = rng.random(500) < 0.1
    weight[fraud] = 1.0
    pull = 50.0 * (1.0 - fraud.sum() / 200.0)
    fitted = Calibration.fit(logit, fraud, weight)
    error = weight * (fitted.probability(logit) - fraud)
    assert (error * logit).sum() + pull * (fitted.slope - 1.0) == pytest.approx(0.0, abs=1e-6)
    assert error.sum() + pull * fitted.intercept == pytest.approx(0.0, abs=1e-6)


def test_few_frauds_hardly_move_the_calibration_and_many_do() -> None:
    def fit(frauds: int) -> Calibration:
        logit = np.full(10 * frauds, -1.0)
        return Calibration.fit(logit, np.arange(10 * frauds) < frauds, np.ones(10 * frauds))

    own, observed = Calibration().probability(np.array([-1.0]))[0], 0.1
    few, many = (fit(n).probability(np.array([-1.0]))[0] for n in (2, 400))
    assert own - few < 0.2 * (own - observed)
    assert many == pytest.approx(observed, abs=0.001)


@pytest.mark.parametrize("fraud", [True, False])
def test_one_class_alone_has_a_finite_fit(fraud: bool) -> None:
    logit = np.linspace(-60.0, 60.0, 1_000)
    fitted = Calibration.fit(logit, np.full(1_000, fraud), np.ones(1_000))
    assert math.isfinite(fitted.slope)
    assert math.isfinite(fitted.intercept)


def test_as_many_frauds_are_expected_as_are_asked_for_where_rows_can_hold_them() -> None:
    rng = np.random.default_rng(5)
    logit, weight = rng.normal(-4.0, 2.0, 500), rng.uniform(0.5, 3.0, 500)
    found = Calibration(0.7, 1.0).expecting(90.0, logit, weight)
    assert found.slope == 0.7
    assert weight @ (1.0 / (1.0 + np.exp(-0.7 * logit - found.intercept))) == pytest.approx(90.0, abs=1e-5)
    for impossible in (0.0, weight.sum()):
        assert Calibration(0.7, 1.0).expecting(impossible, logit, weight) == Calibration(0.7, 1.0)


def test_separable_frauds_have_a_finite_fit() -> None:
    logit = np.concatenate([np.full(1_000, -3.0), np.full(1_000, 3.0)])
    fitted = Calibration.fit(logit, logit > 0, np.ones(2_000))
    assert 1.0 < fitted.slope < 20.0


def test_rows_that_are_not_numbers_are_left_out_of_the_fit() -> None:
    rng = np.random.default_rng(9)
    logit, fraud = rng.normal(size=300), rng.random(300) < 0.3
    dirty = np.concatenate([logit, [math.nan, math.inf, 0.0, 0.0]])
    weight = np.concatenate([np.ones(300), [1.0, 1.0, math.nan, -1.0]])
    fitted = Calibration.fit(dirty, np.concatenate([fraud, [True] * 4]), weight)
    assert fitted == Calibration.fit(logit, fraud, np.ones(300))


def test_bins_are_found_by_their_lower_edges() -> None:
    assert len(EDGES) == BINS - 1
    assert bin_of(EDGES).tolist() == list(range(1, BINS))
    assert bin_of(np.nextafter(EDGES, 0.0)).tolist() == list(range(BINS - 1))
    odd = np.array([0.0, -3.0, math.nan, math.inf, -math.inf, 1e300])
    assert bin_of(odd).tolist() == [0, 0, 0, 255, 0, 255]


def test_edges_ascend_by_a_sixth_of_a_doubling_and_one_is_an_edge() -> None:
    assert np.log2(EDGES) == pytest.approx(np.arange(255) / 6 - 10, abs=1e-12)
    assert 1.0 in EDGES


def test_a_histogram_sums_weights() -> None:
    hist = histogram(np.array([1.0, 1.05, 8.0, 0.0]), np.array([1.0, 8.0, 2.0, 4.0]))
    assert hist[bin_of(np.array([1.0, 8.0, 0.0]))].tolist() == [9.0, 2.0, 4.0]
    assert hist.sum() == 15.0


def test_without_a_budget_money_alone_decides() -> None:
    budget = AlertBudget()
    budget.fold(all_in(100.0, 1e6), all_in(100.0, 1e6), 1e6, 1e6, START)
    assert budget.online_lambda(policy(None)) == 1.0
    assert budget.forest_cut(policy(None)) == math.inf


def test_before_anything_is_known_money_decides_and_the_forest_is_silent() -> None:
    assert AlertBudget().online_lambda(policy(50.0)) == 1.0
    assert AlertBudget().forest_cut(policy(50.0)) == math.inf


def steady(hours: int, per_hour: float, cases_per_alert: float = 1.0) -> AlertBudget:
    """Traffic of evenly many at ratios (and ranks) 2**0.5, 2**1.5, ... 2**9.5; hardly any of it was alerted."""
    budget = AlertBudget()
    values = np.exp2(np.arange(10) + 0.5)
    hist = histogram(values, np.full(10, per_hour))
    for hour in range(hours + 1):
        counted = hist if hour else EMPTY
        alerts = 1e-3 if hour else 0.0
        budget.fold(counted, counted, alerts, alerts * cases_per_alert, START + hour * HOUR)
    return budget


def test_lambda_rises_until_the_expected_cases_meet_the_budget() -> None:
    traffic = steady(hours=24 * 14, per_hour=10.0)
    # 240 a day at each of ten values. An hour's commit counts at its end, which overstates rates by 1.5 %.
    for wanted in range(1, 10):
        found = traffic.online_lambda(policy(250.0 * wanted))
        assert 2.0 ** (9.5 - wanted) < found <= 2.0 ** (10.5 - wanted)
        assert 2.0 ** (9.5 - wanted) < traffic.forest_cut(policy(250.0 * wanted)) <= 2.0 ** (10.5 - wanted)
    assert traffic.online_lambda(policy(2_500.0)) == 1.0


@pytest.mark.parametrize("least", LAMBDAS)
def test_where_nothing_binds_lambda_is_the_policys_own_between_edges_too(least: float) -> None:
    assert AlertBudget().online_lambda(policy(50.0), least=least) == least
    traffic = steady(hours=24 * 14, per_hour=10.0)
    assert traffic.online_lambda(policy(2_500.0), least=least) == least


def test_lambda_is_the_lowest_edge_that_meets_the_budget_once_that_is_used_up() -> None:
    lowest = EDGES[bin_of(np.array([2.0**8.5]))[0]]
    for opened, within_bin in ((249.0, True), (260.0, False)):
        traffic = steady(hours=24 * 14, per_hour=10.0)
        # Its rate of cases is what is opened over the decayed time, and so has to be as many times that.
        cases = opened * traffic.online_elapsed_days
        traffic.fold(EMPTY, EMPTY, cases, cases, START + 24 * 14 * HOUR)
        found = traffic.online_lambda(policy(250.0))
        assert (found < lowest) == within_bin
        assert found == lowest or within_bin
        assert traffic.forest_cut(policy(250.0)) == lowest, "the forest never exceeds what it may open"


def test_while_there_is_room_lambda_parts_a_bin_as_if_its_ratios_were_spread_evenly() -> None:
    budget = AlertBudget()
    budget.fold(EMPTY, EMPTY, 0.0, 0.0, START)
    # An hour's: 240 a day at 1.2, and 960 at 3.0 in the bin from 2.828 on.
    budget.fold(all_in(1.2, 10.0) + all_in(3.0, 40.0), EMPTY, 0.0, 0.0, START + HOUR)
    a_day = 1_200.0
    low, high = EDGES[EDGES < 3.0][-1], EDGES[EDGES > 3.0][0]
    # Three quarters of what lies at 3.0 fit: lambda is a quarter of the way up from the lower edge.
    assert budget.online_lambda(policy(0.6 * a_day)) == pytest.approx(low + (high - low) / 4.0, rel=1e-12)
    low, high = EDGES[EDGES < 1.2][-1], EDGES[EDGES > 1.2][0]
    # All at 3.0 fits, and half of what lies at 1.2.
    assert budget.online_lambda(policy(0.9 * a_day)) == pytest.approx((low + high) / 2.0, rel=1e-12)


def test_a_budget_that_is_hardly_exceeded_gives_up_hardly_any_alert() -> None:
    rng, budget = np.random.default_rng(2), AlertBudget()
    alerted = np.zeros(12)
    # Nearly equal ratios, two bins wide, and a budget of one case a day less than the traffic. An hour's commit counts
    # at its end, which overstates rates by 1.5 %.
    for hour in range(24 * 12):
        ratio = rng.uniform(4.0, 5.0, 100)
        cases = int(np.count_nonzero(ratio >= budget.online_lambda(policy(2_399.0))))
        budget.fold(histogram(ratio, np.ones(100)), EMPTY, cases, cases, START + hour * HOUR)
        alerted[hour // 24] += cases
    assert alerted[1:].min() > 0.96 * 2_400
    assert alerted[1:].max() <= 2_400


def test_alerts_that_share_a_case_leave_room_in_the_budget() -> None:
    alone = steady(hours=24 * 14, per_hour=10.0).forest_cut(policy(250.0))
    shared = steady(hours=24 * 14, per_hour=10.0, cases_per_alert=0.5).forest_cut(policy(250.0))
    assert alone == pytest.approx(2.0 * shared)


def test_nothing_alerts_on_an_exhausted_budget() -> None:
    traffic = steady(hours=48, per_hour=10.0)
    traffic.fold(all_in(1e300, 1e6), all_in(1e300, 1e6), 0.0, 0.0, START + 49 * HOUR)
    assert traffic.online_lambda(policy(1.0)) == math.inf
    assert traffic.forest_cut(policy(1.0)) == math.inf


def test_a_day_that_has_had_its_cases_has_no_more_until_midnight() -> None:
    midnight = START - START % MS_PER_DAY + 15 * MS_PER_DAY
    traffic = steady(hours=24 * 14, per_hour=10.0)
    assert midnight > START + 24 * 14 * HOUR
    for hour, cases, silent in ((0, 499.0, False), (5, 1.0, True), (23, 7.0, True), (24, 3.0, False)):
        traffic.fold(EMPTY, EMPTY, cases, cases, midnight + hour * HOUR)
        thresholds = traffic.online_lambda(policy(250.0)), traffic.forest_cut(policy(250.0))
        assert [math.isinf(one) for one in thresholds] == [silent, silent], hour
        assert not math.isinf(traffic.online_lambda(policy(260.0)))
    traffic.fold(EMPTY, EMPTY, 1e6, 1e6, midnight + 23 * HOUR)
    assert math.isfinite(traffic.online_lambda(policy(250.0))), "cases of the day before came late"


def test_a_new_day_has_its_cases_before_any_commit_of_it_is_folded() -> None:
    midnight = START - START % MS_PER_DAY + 15 * MS_PER_DAY
    spent = steady(hours=24 * 14, per_hour=10.0)
    spent.fold(EMPTY, EMPTY, 900.0, 900.0, midnight - HOUR)
    unspent = steady(hours=24 * 14, per_hour=10.0)
    unspent.fold(EMPTY, EMPTY, 1e-3, 1e-3, midnight - HOUR)
    costs = policy(250.0)
    for now_ms in (None, midnight - 3 * HOUR, midnight - 1):
        assert math.isinf(spent.online_lambda(costs, now_ms))
        assert math.isinf(spent.forest_cut(costs, now_ms))
    assert spent.forest_cut(costs, midnight) == unspent.forest_cut(costs, midnight) < math.inf
    assert 1.0 < unspent.online_lambda(costs, midnight) <= spent.online_lambda(costs, midnight) < math.inf


def test_what_is_left_of_a_day_is_spread_over_what_is_left_of_it() -> None:
    midnight = START - START % MS_PER_DAY + 15 * MS_PER_DAY
    noon = steady(hours=24 * 14, per_hour=10.0)
    noon.fold(EMPTY, EMPTY, 900.0, 900.0, midnight + 12 * HOUR)
    # Of 2 * 500 cases 100 are left for half a day: as if the budget were 200.
    by_rate = steady(hours=24 * 14, per_hour=10.0)
    by_rate.fold(EMPTY, EMPTY, 1e-3, 1e-3, midnight + 12 * HOUR)
    assert noon.forest_cut(policy(500.0)) == by_rate.forest_cut(policy(200.0))
    assert noon.online_lambda(policy(500.0)) > by_rate.online_lambda(policy(500.0)) > 1.0


@pytest.mark.parametrize(("more_traffic", "higher_scores"), [(10, 1.0), (100, 1.0), (1, 8.0)])
def test_no_jump_opens_more_cases_in_a_day_than_two_budgets_and_a_commit(
    more_traffic: int, higher_scores: float
) -> None:
    rng, budget, wanted, step = np.random.default_rng(1), AlertBudget(), 200.0, 5 * 60_000
    midnight = START - START % MS_PER_DAY
    by_day = np.zeros(6)
    largest = 0
    for at in range(0, 6 * MS_PER_DAY, step):
        jumped = at >= 3.5 * MS_PER_DAY
        count = rng.poisson(350 * (more_traffic if jumped else 1))
        ratio = np.exp(rng.normal(-2.5, 2.2, count)) * (higher_scores if jumped else 1.0)
        cases = int(np.count_nonzero(ratio >= budget.online_lambda(policy(wanted))))
        budget.fold(histogram(ratio, np.ones(count)), EMPTY, cases, cases, midnight + at)
        by_day[at // MS_PER_DAY] += cases
        largest = max(largest, cases)
    assert by_day[3:].max() > 1.3 * wanted, "a jump that is none"
    assert by_day.max() <= 2 * wanted + largest
    assert by_day[1:3].max() < wanted


def test_the_forest_is_silent_for_the_first_hour() -> None:
    budget = AlertBudget()
    budget.fold(EMPTY, all_in(30.0, 2.0), 0.0, 0.0, START)
    budget.fold(EMPTY, all_in(30.0, 2.0), 0.0, 0.0, START + HOUR // 2)
    assert budget.forest_cut(policy(1_000.0)) == math.inf
    budget.fold(EMPTY, EMPTY, 0.0, 0.0, START + 2 * HOUR)
    assert budget.forest_cut(policy(1_000.0)) == EDGES[0]


def test_a_burst_in_the_first_minute_is_not_taken_for_a_day_of_such_minutes() -> None:
    budget = AlertBudget()
    budget.fold(EMPTY, EMPTY, 0.0, 0.0, START)
    budget.fold(all_in(3.0, 10.0), EMPTY, 10.0, 10.0, START + 1_000)
    assert budget.online_lambda(policy(240.0)) == 1.0
    assert budget.online_lambda(policy(239.0)) > 3.0


def test_counts_and_time_halve_in_a_day() -> None:
    budget = AlertBudget()
    budget.fold(all_in(3.0, 8.0), all_in(5.0, 16.0), 4.0, 2.0, START)
    budget.fold(EMPTY, EMPTY, 0.0, 0.0, START + 2 * MS_PER_DAY)
    state = budget.arrays()
    assert state["state"][:BINS].sum() == pytest.approx(2.0, rel=1e-14)
    assert state["state"][BINS : 2 * BINS].sum() == pytest.approx(4.0, rel=1e-14)
    assert budget.cases_per_alert == pytest.approx(0.5)
    # The integral of 2**-t over two days.
    assert budget.online_elapsed_days == pytest.approx(0.75 / math.log(2.0), rel=1e-14)


def test_a_share_of_the_decisions_is_so_many_cases_a_day_once_the_forest_has_ranked_for_an_hour() -> None:
    budget = AlertBudget()
    assert budget.cases_of(0.25) == math.inf
    budget.fold(EMPTY, all_in(5.0, 16.0), 4.0, 2.0, START)
    assert budget.cases_of(0.25) == math.inf
    budget.fold(EMPTY, EMPTY, 0.0, 0.0, START + 2 * MS_PER_DAY)
    # Four decisions of the decayed days, every second alert a case.
    assert budget.cases_of(0.25) == pytest.approx(0.25 * 4.0 / (0.75 / math.log(2.0)) * 0.5, rel=1e-14)


def test_a_commit_behind_the_clock_is_discounted_to_its_own_time_and_adds_none() -> None:
    budget = AlertBudget()
    budget.fold(EMPTY, EMPTY, 0.0, 0.0, START)
    before = budget.online_elapsed_days
    budget.fold(all_in(3.0, 8.0), EMPTY, 0.0, 0.0, START - MS_PER_DAY)
    assert budget.arrays()["state"][:BINS].sum() == pytest.approx(4.0, rel=1e-14)
    assert budget.online_elapsed_days == before
    assert budget.arrays()["clock_ms"].tolist() == [START]
