"""Intervals and money of the quality table, beside brute force."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from models.evaluation import average_precision, evaluate
from models.vocabulary import MS_PER_DAY
from tests.support.quality import loaded
from tests.tools.quality.curves import MOST_STEPS, DayCosts, DayCurves, once, paired_interval
from tests.tools.quality.money import LAMBDAS, day_costs, fixed_policy_cost, rule_alerts, worst_excess_days
from worker.settings.sections import CostSettings

# Intervals.


@pytest.mark.parametrize("ties", [False, True])
def test_a_curve_of_days_equals_average_precision_over_rows_that_count_so_often(ties: bool) -> None:
    rng = np.random.default_rng(3)
    fraud = rng.random(3_000) < 0.1
    score = rng.standard_normal(3_000) + fraud
    score = np.round(score, 1) if ties else score
    day = rng.integers(0, 12, 3_000)
    curves = DayCurves.of(fraud, score, day)
    assert curves.average_precision(once(12))[0] == pytest.approx(average_precision(fraud, score), abs=1e-6)
    drawn = rng.multinomial(12, np.full(12, 1 / 12), size=5).astype(np.float64)
    for weights, found in zip(drawn, curves.average_precision(drawn), strict=True):
        expected = average_precision_score(fraud, score, sample_weight=weights[day])
        assert found == pytest.approx(expected, abs=1e-6)


def test_joined_steps_change_little() -> None:
    rng = np.random.default_rng(4)
    fraud = rng.random(60_000) < 0.5
    score = rng.standard_normal(60_000) + fraud
    curves = DayCurves.of(fraud, score, rng.integers(0, 5, 60_000))
    assert len(curves.caught) == MOST_STEPS
    assert curves.average_precision(once(5))[0] == pytest.approx(average_precision(fraud, score), abs=2e-4)


def test_a_curve_without_frauds_has_no_precision() -> None:
    curves = DayCurves.of(np.zeros(5, np.bool_), np.arange(5.0), np.arange(5))
    assert np.isnan(curves.average_precision(once(5))).all()
    nothing = DayCurves.of(np.zeros(0, np.bool_), np.zeros(0), np.zeros(0, np.int64))
    assert np.isnan(nothing.average_precision(np.ones((2, 0)))).all()


def days_of(rng: np.random.Generator, days: int, harder: float) -> tuple[DayCurves, DayCurves]:
    """Return two rankings of the same days: some days are hard for both."""
    rows = 60
    day = np.repeat(np.arange(days), rows)
    fraud = rng.random(day.size) < 0.15
    hard = np.repeat(rng.normal(1.5, 0.7, days), rows)
    shared = rng.standard_normal(day.size)
    sides = [
        DayCurves.of(fraud, fraud * (hard - less) + shared + 0.5 * rng.standard_normal(day.size), day)
        for less in (0.0, harder)
    ]
    return sides[0], sides[1]


def test_joined_steps_count_what_their_last_ones_did() -> None:
    rng = np.random.default_rng(3)
    fraud = rng.random(300) < 0.3
    curves = DayCurves.of(fraud, rng.standard_normal(300), rng.integers(0, 4, 300))
    steps = len(curves.caught)
    for most in (1, 7, steps, steps + 5):
        joined = curves.joined(most)
        assert len(joined.caught) == min(most, steps)
        kept = [next(at for at in range(steps) if (curves.alerted[at] == it).all()) for it in joined.alerted]
        np.testing.assert_array_equal(curves.caught[kept], joined.caught)
        assert kept[-1] == steps - 1
        assert max(np.diff([-1, *kept])) <= -(-steps // most)
    none = DayCurves.of(np.zeros(5, np.bool_), np.arange(5.0), np.arange(5))
    assert len(none.joined(3).caught) == 0


def test_intervals_cover_the_difference_and_pairing_makes_them_short() -> None:
    truth_one, truth_other = days_of(np.random.default_rng(99), 6_000, 0.3)
    truth = truth_one.average_precision(once(6_000))[0] - truth_other.average_precision(once(6_000))[0]
    covered, paired, apart = 0, [], []
    for run in range(200):
        one, other = days_of(np.random.default_rng(run), 40, 0.3)
        found = paired_interval([(one.average_precision, other.average_precision, 40)], seed=run, draws=200)
        covered += bool(found.low <= truth <= found.high)
        paired.append(found.high - found.low)
        alone = paired_interval(
            [(one.average_precision, lambda it: np.zeros(len(it)), 40)], seed=run, draws=200
        )
        apart.append(alone.high - alone.low)
    # 95 % within the noise of 200 runs, and of percentiles on 40 days.
    assert 0.89 <= covered / 200 <= 0.99
    assert np.mean(paired) < 0.7 * np.mean(apart)


def test_more_seeds_make_an_interval_shorter_and_a_seed_of_draws_repeats_it() -> None:
    pairs = []
    for seed in range(4):
        one, other = days_of(np.random.default_rng(seed), 30, 0.3)
        pairs.append((one.average_precision, other.average_precision, 30))
    all_of_them = paired_interval(pairs)
    assert all_of_them == paired_interval(pairs)
    single = paired_interval(pairs[:1])
    assert all_of_them.high - all_of_them.low < single.high - single.low
    # The same days three times say no more than once.
    thrice = paired_interval(pairs[:1] * 3, same_days=True)
    np.testing.assert_allclose(thrice, single)


# Money.


def test_costs_of_days_add_up_to_those_of_the_evaluation() -> None:
    rng = np.random.default_rng(5)
    n = 400
    fraud, alerted, opens, first = (rng.random(n) < share for share in (0.2, 0.3, 0.2, 0.6))
    loss, day = rng.lognormal(3.0, 1.0, n), rng.integers(0, 9, n)
    costs = day_costs(fraud, alerted, opens, first, loss, day, 5.0)
    whole = evaluate(
        fraud=fraud,
        score=rng.random(n),
        alerted=alerted,
        loss=loss,
        opens_case=opens,
        first_of_window=first,
        review_cost=5.0,
    )
    assert costs.decided.sum() == pytest.approx(whole.cost)
    assert costs.savings(once(9))[0] == pytest.approx(whole.savings)


def test_savings_without_anything_to_lose_are_undefined() -> None:
    costs = DayCosts(np.ones(3), np.zeros(3), np.ones(3))
    assert np.isnan(costs.savings(once(3))).all()


def test_the_rule_alerts_in_the_best_cases_of_each_day_within_the_budget() -> None:
    """Against a loop over cases."""
    data = loaded(500).dataset
    rng = np.random.default_rng(6)
    rows = np.sort(rng.choice(500, 300, replace=False))
    probability = rng.random(300) ** 2
    loss = 5.0 + data.amount[rows]
    costs = CostSettings(review_cost=10.0, alert_budget_cases_per_day=3.0)
    alerted, opens = rule_alerts(data, rows, probability, loss, costs)
    cases: dict[tuple[str, int], list[int]] = {}
    for at, row in enumerate(rows.tolist()):
        if probability[at] * loss[at] >= 10.0:
            key = (data.card_id[row].as_py(), int(data.event_time_ms[row]) // MS_PER_DAY)
            cases.setdefault(key, []).append(at)
    expected: set[int] = set()
    for day in {key[1] for key in cases}:
        of_day = [it for key, it in cases.items() if key[1] == day]
        of_day.sort(key=lambda case: -max(probability[at] * loss[at] for at in case))
        expected |= {at for case in of_day[:3] for at in case}
    assert set(np.flatnonzero(alerted).tolist()) == expected
    assert {min(case) for case in cases.values()} >= set(np.flatnonzero(opens).tolist())
    assert opens.sum() == len(
        {(data.card_id[rows[at]].as_py(), data.event_time_ms[rows[at]] // MS_PER_DAY) for at in expected}
    )


@pytest.mark.parametrize("budget", [2.0, 1e9])
def test_the_best_fixed_policy_spends_each_days_budget_as_cases_come(budget: float) -> None:
    """Against a loop over transactions."""
    data = loaded(500).dataset
    rng = np.random.default_rng(7)
    rows = np.sort(rng.choice(500, 300, replace=False))
    assert data.is_fraud is not None
    fraud, probability, loss = data.is_fraud[rows], rng.random(300) ** 2, 5.0 + data.amount[rows]
    costs = CostSettings(review_cost=10.0, alert_budget_cases_per_day=budget)
    judged = rng.random(300) < 0.7
    expected = [loss[fraud & judged].sum()]
    for least in LAMBDAS:
        cost, spent, decided = 0.0, dict[int, int](), dict[tuple[str, int], bool]()
        for at, row in enumerate(rows.tolist()):
            day = int(data.event_time_ms[row]) // MS_PER_DAY
            case = (data.card_id[row].as_py(), day)
            alerts = probability[at] * loss[at] / 10.0 >= least
            if alerts and case not in decided:
                decided[case] = spent.get(day, 0) < budget
                spent[day] = spent.get(day, 0) + decided[case]
                cost += 10.0 * (decided[case] and judged[at])
            missed = fraud[at] and judged[at] and not (alerts and decided[case])
            cost += loss[at] if missed else 0.0
        expected.append(cost)
    found = fixed_policy_cost(data, rows, judged, fraud, probability, loss, costs)
    assert found == pytest.approx(min(expected))


def test_the_worst_excess_is_over_the_cheaper_trivial_policy_so_far_by_hand() -> None:
    data = loaded(500).dataset
    assert data.is_fraud is not None
    day = data.event_time_ms // MS_PER_DAY
    rows = np.concatenate([np.flatnonzero(day == each)[:2] for each in np.unique(day)[:3]])
    costs = CostSettings(review_cost=10.0, alert_budget_cases_per_day=2.0)
    fraud = np.array([False, False, True, False, True, False])
    loss, cost = np.full(6, 50.0), np.array([20.0, 0.0, 30.0, 0.0, 0.0, 10.0])
    # So far: 20, 50, 60; nothing: 0, 50, 100; everything within two cases a day: 20, 40, 60.
    found = worst_excess_days(data, rows, np.ones(6, np.bool_), fraud, loss, cost, costs)
    assert found == pytest.approx(20.0 / (10.0 * 2.0))


def test_the_rule_that_alerts_on_nothing_opens_no_case() -> None:
    data = loaded(50).dataset
    alerted, opens = rule_alerts(data, np.arange(50), np.zeros(50), np.ones(50), CostSettings())
    assert not alerted.any()
    assert not opens.any()
