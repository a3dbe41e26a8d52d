from __future__ import annotations

import dataclasses
import math
import statistics

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

from models.vocabulary import MS_PER_DAY
from worker.offline.compare.figures import beside_the_cheapest, cost_by_day, figures_of
from worker.offline.compare.intervals import day_draws, interval_of
from worker.offline.compare.result import Block, Decided, Figures, JudgedRows, Row

REVIEW = 7.0
DAYS = 10


def judged(count: int = 2_000, seed: int = 0) -> JudgedRows:
    rng = np.random.default_rng(seed)
    amount = rng.lognormal(3.0, 1.0, count)
    return JudgedRows(
        fraud=rng.random(count) < 0.08,
        loss=amount + 5.0,
        amount=amount,
        event_time_ms=np.sort(rng.integers(0, DAYS * MS_PER_DAY, count)),
        case=rng.integers(0, count // 2, count),
    )


def decided(rows: JudgedRows, strength: float, seed: int) -> Decided:
    rng = np.random.default_rng(seed)
    score = rng.normal(size=len(rows)).round(2) + strength * rows.fraud
    nothing = np.full(len(rows), np.nan)
    return Decided(score, nothing, score, np.full(len(rows), 1.5), score >= 1.5)


def figures(rows: JudgedRows, its: Decided) -> Figures:
    return figures_of(rows, its, REVIEW, DAYS, fit_seconds=1.0, score_us=2.0)


def test_figures_equal_scikit_learn_and_brute_force() -> None:
    rows = judged()
    its = decided(rows, 1.0, 1)
    line = figures(rows, its)
    assert line.ap == pytest.approx(average_precision_score(rows.fraud, its.score), abs=1e-12)
    assert line.roc_auc == pytest.approx(roc_auc_score(rows.fraud, its.score), abs=1e-12)
    assert line.recall == pytest.approx(recall_score(rows.fraud, its.alerted), abs=1e-12)
    assert line.precision == pytest.approx(precision_score(rows.fraud, its.alerted), abs=1e-12)
    assert line.f1 == pytest.approx(f1_score(rows.fraud, its.alerted), abs=1e-12)
    cases = {int(case) for case, alerted in zip(rows.case, its.alerted, strict=True) if alerted}
    missed = sum(
        loss for loss, fraud, alerted in zip(rows.loss, rows.fraud, its.alerted, strict=True) if fraud and not alerted
    )  # fmt: skip
    everything, nothing = REVIEW * len(set(rows.case.tolist())), float(rows.loss[rows.fraud].sum())
    assert line.cases_per_day == len(cases) / DAYS
    assert line.cost == pytest.approx(REVIEW * len(cases) + missed)
    assert line.savings == pytest.approx(1.0 - line.cost / min(everything, nothing))
    assert line.recall_by_value == pytest.approx(1.0 - missed / nothing)
    assert (line.fit_seconds, line.score_us) == (1.0, 2.0)


def test_costs_of_days_sum_to_the_cost() -> None:
    rows = judged()
    its = decided(rows, 1.0, 1)
    by_day = cost_by_day(rows, its, REVIEW, 0, DAYS)
    assert len(by_day) == DAYS
    assert by_day.sum() == pytest.approx(figures(rows, its).cost)


def test_rows_stand_beside_the_cheapest() -> None:
    data = judged()
    rows = [
        dataclasses.replace(
            Row(f"s{strength}", "fake", "", Block.FROZEN),
            figures=figures(data, its := decided(data, strength, 3)),
            decided=its,
        )
        for strength in (0.0, 3.0, 2.9)
    ]
    left_out = Row("none", "fake", "", Block.FROZEN, left_out="because")
    *done, same = beside_the_cheapest([*rows, left_out], data, REVIEW, 0, DAYS, seed=1)
    assert same is left_out
    worse, cheapest, close = (row.figures for row in done if row.figures is not None)
    assert (cheapest.excess, cheapest.excess_low, cheapest.excess_high) == (0.0, 0.0, 0.0)
    assert worse.excess == pytest.approx(worse.cost - cheapest.cost)
    assert 0.0 < worse.excess_low < worse.excess < worse.excess_high
    by_day = [cost_by_day(data, row.decided, REVIEW, 0, DAYS) for row in rows[:2] if row.decided is not None]
    # The variance of a sum of n days is n times that of a day.
    expected = math.sqrt(DAYS * statistics.variance((by_day[0] - by_day[1]).tolist()))
    assert worse.excess_error == pytest.approx(expected)
    assert cheapest.excess_error == 0.0
    # The interval reaches 2.26 standard errors for ten days, and is widened: no quarter of it is one.
    assert worse.excess_high - worse.excess_low > 4.2 * worse.excess_error
    assert close.excess_low <= 0.0 <= close.excess_high
    again = beside_the_cheapest([*rows, left_out], data, REVIEW, 0, DAYS, seed=1)
    assert [row.figures for row in again[:3]] == [row.figures for row in done]


@pytest.mark.parametrize("days", [9, 14, 60])
def test_intervals_cover_in_simulation(days: int) -> None:
    # Skewed days, as those of money are: of 400 intervals of 95 %, some 380 have to hold the truth.
    rng = np.random.default_rng(days)
    drawn = day_draws(days, seed=1, draws=1_000)
    mean, runs, held = math.exp(0.5 * 0.6**2), 400, 0
    for _ in range(runs):
        by_day = rng.lognormal(0.0, 0.6, days)
        low, high = interval_of(by_day, drawn @ by_day)
        held += low <= days * mean <= high
    assert 0.90 <= held / runs <= 0.985


@pytest.mark.parametrize("days", [2, 3, 4, 7])
def test_intervals_of_very_few_days_cover_where_no_draw_lies_beyond_the_best_day(days: int) -> None:
    rng, runs = np.random.default_rng(days), 400
    drawn = day_draws(days, seed=1, draws=1_000)
    held = 0
    for _ in range(runs):
        by_day = rng.normal(1.0, 1.0, days)
        low, high = interval_of(by_day, drawn @ by_day)
        held += low <= days <= high
    assert held / runs >= 0.92


def test_two_days_that_differ_prove_nothing() -> None:
    by_day = np.array([10.0, 12.0])
    low, high = interval_of(by_day, day_draws(2, seed=3) @ by_day)
    # 12.7062 is the quantile for one degree of freedom, and the standard error of the sum is 2.
    assert (low, high) == pytest.approx((22 - 2 * 12.7062, 22 + 2 * 12.7062), abs=1e-3)


def test_a_single_day_has_no_interval() -> None:
    low, high = interval_of(np.ones(1), day_draws(1, seed=1) @ np.ones(1))
    assert math.isnan(low)
    assert math.isnan(high)


def test_the_interval_of_a_normal_sum_is_students() -> None:
    days = 12
    values = np.random.default_rng(5).normal(10.0, 3.0, days)
    low, high = interval_of(values, day_draws(days, seed=2, draws=40_000) @ values)
    # 2.200985 is the quantile for 11 degrees of freedom.
    half = 2.200985 * values.std(ddof=1) * math.sqrt(days)
    assert high - low == pytest.approx(2 * half, rel=0.08)
