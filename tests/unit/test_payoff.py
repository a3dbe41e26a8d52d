from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from models.feature_layout import FeatureSpec
from models.features import CardAggregates
from models.label_delay import HOURS, LabelDelays
from models.payoff import Matured, Payoffs
from models.payoff_deltas import (
    IDLE_FOREST_ONE_IN,
    LAMBDAS,
    POLICIES,
    PayoffDeltas,
    decided_payoffs,
    level_bits,
    settled_payoffs,
)
from models.threshold import CostPolicy
from models.vocabulary import LEVEL_SHIFT, MS_PER_DAY, Decider, Flag
from tests.support.model_log import payoff_deltas

DAY = 19_000
REVIEW = 5.0
COSTS = CostPolicy(review_cost=REVIEW, loss_fixed=0.0, loss_factor=1.0, alert_budget_cases_per_day=None)
LIMITED = dataclasses.replace(COSTS, alert_budget_cases_per_day=10.0)
USUAL, FOREST, OWN = LAMBDAS.index(1.0), len(LAMBDAS), len(LAMBDAS) + 1


def day_of(
    day: int,
    *,
    cases: dict[int, float],
    stopped: dict[int, float],
    missed: dict[int, float] | None = None,
    silent: float = 0.0,
    claimed: float = 100.0,
    frauds: float = 0.0,
) -> PayoffDeltas:
    """Return a day whose policies opened so many cases and stopped so much; `silent` cases more of every policy.

    What they `stopped` was alerted on, what it `missed` would have been. Of what only the rule from one on alerts on,
    so many frauds were `claimed`, and so many `frauds` there were.
    """
    sums = np.zeros((8, 1, POLICIES))
    sums[1] = silent
    sums[4, 0, : USUAL + 1], sums[7, 0, : USUAL + 1] = claimed / REVIEW, frauds
    # Every day has decisions that the model scored.
    sums[0, 0, 0] = 1e-9
    for kind, values in ((0, cases), (2, stopped), (3, missed or {})):
        for policy, value in values.items():
            sums[kind, 0, policy] = value
    return PayoffDeltas(np.array([day], np.int32), *sums)


def rule(values: list[float]) -> dict[int, float]:
    return dict(enumerate(values))


def chosen(
    payoffs: Payoffs,
    day: int,
    costs: CostPolicy = COSTS,
    delays: LabelDelays | None = None,
    silent: float = 1.0,
    legit_delays: LabelDelays | None = None,
) -> None:
    """Choose at the beginning of a day up to which all verdicts are in."""
    at_ms = day * MS_PER_DAY
    nothing = LabelDelays.none()
    payoffs.choose(Matured(at_ms, at_ms, at_ms, delays or nothing, legit_delays or nothing, silent), costs)


def after(days: list[PayoffDeltas], costs: CostPolicy = COSTS, silent: float = 1.0) -> Payoffs:
    payoffs = Payoffs()
    for one in days:
        payoffs.fold(one, costs)
    chosen(payoffs, DAY + len(days), costs, silent=silent)
    return payoffs


def test_a_level_counts_the_multiples_of_the_review_cost_that_a_ratio_reaches() -> None:
    ratio = np.array([0.0, 0.09, 0.1, 0.99, 1.0, 3.0, 8.0, 31.0, 32.0, 1e9, math.nan])
    assert (level_bits(ratio) >> LEVEL_SHIFT).tolist() == [0, 0, 1, 2, 3, 4, 6, 6, 7, 7, 0]


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_every_policy_opens_the_cases_and_stops_the_losses_that_it_would_by_brute_force(batch: int) -> None:
    rng = np.random.default_rng(3)
    count, window_ms = 500, MS_PER_DAY // 4
    card = rng.integers(1, 12, count).astype(np.uint64)
    time_ms = DAY * MS_PER_DAY + np.sort(rng.integers(0, MS_PER_DAY, count))
    ratio, loss = np.exp(rng.normal(0, 2, count)), rng.uniform(1, 100, count)
    fraud, forest = rng.random(count) < 0.2, rng.random(count) < 0.1
    flags = level_bits(ratio) | np.where(forest, Flag.FOREST_WOULD_ALERT, 0).astype(np.uint16)
    cards, none = (
        CardAggregates(FeatureSpec((), (), (), (1.0, 5.0, 20.0)), 1000),
        np.zeros((count, 0), np.uint64),
    )
    for start in range(0, count, batch):
        rows = slice(start, start + batch)
        first = cards.advance(card[rows], none[rows], time_ms[rows], loss[rows], window_ms)[1]
        flags[rows] |= np.where(first, Flag.FIRST_OF_WINDOW, 0).astype(np.uint16)
        flags[rows] |= cards.reach(card[rows], time_ms[rows], flags[rows], window_ms)
    signs = np.stack([np.ones(count), np.zeros(count), fraud]).astype(np.int8)
    logit = np.zeros(count, np.float32)
    found = settled_payoffs(time_ms, flags, logit, loss, signs)
    assert found.day.tolist() == [DAY]

    # Rows of a batch that spans two windows see the newer one: only batches of one window are exact.
    case = list(zip(card.tolist(), (time_ms // window_ms).tolist(), strict=True))
    exact = batch == 1
    for policy, would in [*((k, ratio >= lowest) for k, lowest in enumerate(LAMBDAS)), (FOREST, forest)]:
        opened = {one for one, alerts in zip(case, would, strict=True) if alerts}
        alerts_on = would.copy()
        # What is worth a tenth of a review joins an open case, but one of the forest.
        for row in np.flatnonzero(ratio >= (math.inf if policy == FOREST else 0.1)):
            alerts_on[row] |= any(case[row] == case[other] for other in np.flatnonzero(would[:row]))
        stands_for = IDLE_FOREST_ONE_IN if policy == FOREST else 1
        expected = stands_for * len(opened)
        assert (
            found.cases[0, policy] == expected if exact or policy == 0 else found.cases[0, policy] >= expected
        )
        stopped = stands_for * loss[alerts_on & fraud].sum()
        if exact or policy in (0, FOREST):
            assert found.missed[0, policy] == pytest.approx(stopped)
        else:
            assert stands_for * loss[would & fraud].sum() <= found.missed[0, policy] <= stopped + 1e-6


def test_parts_are_summed_by_day_so_that_many_are_no_larger_than_one() -> None:
    parts = [payoff_deltas(np.random.default_rng(seed), 30) for seed in range(6)]
    joined = PayoffDeltas.summed([*parts, PayoffDeltas.nothing()])
    assert joined.day.tolist() == sorted({day for part in parts for day in part.day.tolist()})
    names = [name for name in PayoffDeltas.layout() if name != "day"]
    assert len(names) == 8
    for name in names:
        for day, its in zip(joined.day.tolist(), getattr(joined, name), strict=True):
            of_day = [getattr(part, name)[part.day == day].sum(axis=0) for part in parts]
            np.testing.assert_allclose(its, np.sum(of_day, axis=0))
    assert len(PayoffDeltas.summed([])) == 0


def test_a_decision_that_the_online_model_did_not_score_says_nothing_of_the_rule() -> None:
    flags = np.array([Flag.LEVEL | Flag.FIRST_OF_WINDOW], np.uint16)
    logit, loss = np.array([np.nan], np.float32), np.array([100.0])
    found = settled_payoffs(np.array([DAY * MS_PER_DAY]), flags, logit, loss, np.ones((3, 1), np.int8))
    assert not found.cases.any()
    assert not found.caught.any()
    assert not found.missed.any()


def test_the_rule_at_one_is_in_force_until_a_week_has_matured() -> None:
    better = day_of(DAY, cases={}, stopped=rule([91.0, 90.0, 90.0, 10.0]))
    # The day on which the model begins does not count.
    days = [dataclasses.replace(better, day=better.day + back) for back in range(8)]
    assert after(days[:7]).in_force.least_lambda == 1.0
    assert after(days).in_force.least_lambda == 0.0


def test_days_of_a_few_strays_make_no_week_of_two_days_that_have_matured() -> None:
    busy = [
        day_of(DAY + back, cases={0: 1000.0}, stopped=rule([1090.0, 91.0, 90.0, 10.0]))
        for back in (20, 21, 22)
    ]
    strays = [day_of(DAY + back, cases={0: 9.0}, stopped=rule([9.1, 1.0, 1.0])) for back in range(8)]
    payoffs = Payoffs()
    for one in (*strays, *busy):
        payoffs.fold(one, COSTS)
    chosen(payoffs, DAY + 23)
    assert payoffs.in_force.least_lambda == 1.0
    assert np.isnan(payoffs.daily_gain).all()


def test_one_day_of_which_far_more_is_known_makes_no_strays_of_the_others() -> None:
    """Where silence means nothing, a day may be labelled as a whole among days of which a few labels are known."""
    days = [day_of(DAY + back, cases={0: 50.0}, stopped=rule([91.0, 90.0, 90.0, 10.0])) for back in range(8)]
    audited = day_of(DAY + 8, cases={0: 50_000.0}, stopped=rule([91.0, 90.0, 90.0, 10.0]))
    assert not np.isnan(after([*days, audited]).daily_gain).any()


def test_days_before_the_model_scored_say_nothing_of_the_rule_but_vouch_for_the_forest() -> None:
    alone = [
        day_of(DAY + back, cases={0: 0.0, FOREST: 4.0}, stopped={FOREST: 90.0 + back}) for back in range(10)
    ]
    payoffs = after(alone)
    assert payoffs.in_force == (1.0, False, 1)
    assert np.isnan(payoffs.daily_gain).all()


@pytest.mark.parametrize(
    ("claimed", "frauds", "gives_up"), [(2.6, 0, False), (2.8, 0, True), (9.8, 5, False)]
)
def test_the_rule_gives_up_alerts_only_where_they_held_fewer_frauds_than_claimed(
    claimed: float, frauds: int, gives_up: bool
) -> None:
    """P(none) is 6.7 % where 2.7 are claimed, P(five or fewer) where 10.0 are."""
    days = [
        day_of(DAY + back, cases=rule([10.0] * 4), stopped={}, claimed=claimed / 14, frauds=frauds / 14)
        for back in range(15)
    ]
    # The day on which the model begins counts as well: its claims are as good as those of any.
    days[0] = day_of(DAY, cases=rule([10.0] * 4), stopped={}, claimed=0.0)
    least = after(days).in_force.least_lambda
    assert (least > 1.0) == gives_up


def test_a_calibrated_rule_goes_on_alerting_where_a_fraud_comes_once_in_months() -> None:
    """Twenty alerts a day with a chance of fraud of 1 in 2,000 each, worth four reviews each, over two years."""
    rng = np.random.default_rng(2)
    payoffs, usual, count = Payoffs(), 0, 20
    flags = level_bits(np.full(count, 4.0)) | np.uint16(Flag.ALERTED | Flag.FIRST_OF_WINDOW)
    loss = np.full(count, 4.0 * REVIEW * 2_000.0)
    for day in range(DAY, DAY + 730):
        fraud = rng.random(count) < 1 / 2_000
        signs = np.stack([np.ones(count), np.zeros(count), fraud]).astype(np.int8)
        payoffs.fold(
            settled_payoffs(
                np.full(count, day * MS_PER_DAY),
                flags.astype(np.uint16),
                np.zeros(count, np.float32),
                loss,
                signs,
            ),
            COSTS,
        )
        chosen(payoffs, day + 1)
        usual += payoffs.in_force.least_lambda <= 4.0 and not payoffs.in_force.forest_decides
    assert usual >= 0.95 * 730


def test_where_frauds_are_few_the_days_of_months_show_what_a_month_does_not() -> None:
    def least_after(months: int) -> float:
        days = [
            day_of(DAY + back, cases=rule([10.0] * 4), stopped={}, claimed=2.0 / 28)
            for back in range(28 * months)
        ]
        return after(days).in_force.least_lambda

    assert least_after(1) == 1.0
    assert least_after(2) > 1.0


def test_what_is_alerted_on_beyond_the_usual_rule_needs_no_claim() -> None:
    days = [
        day_of(DAY + back, cases={}, stopped=rule([91.0 + back % 2, 10.0, 10.0, 10.0]), claimed=0.0)
        for back in range(10)
    ]
    assert after(days).in_force.least_lambda == 0.0


def test_claims_are_the_least_probabilities_that_reach_the_level_by_hand() -> None:
    """Losses of 100 at levels of 4 and 1 reviews, and of 50 at a tenth of one."""
    ratio, loss = np.array([5.0, 1.5, 0.3, 0.05]), np.array([100.0, 100.0, 50.0, 70.0])
    flags = level_bits(ratio) | np.array([Flag.ALERTED, Flag.ALERTED, 0, 0]).astype(np.uint16)
    signs = np.array([[1, 0, 1, 1], [0, 1, 0, 0], [1, 0, 0, 0]], np.int8)
    found = settled_payoffs(np.full(4, DAY * MS_PER_DAY), flags, np.zeros(4, np.float32), loss, signs)
    by_level = {
        name: getattr(found, name)[0, : len(LAMBDAS)].tolist() for name in found.layout() if name != "day"
    }
    assert by_level["claimed"] == pytest.approx([0.04] * 6 + [0.0] * 2)
    assert by_level["claimed_silent"] == pytest.approx([0.01] * 4 + [0.0] * 4)
    assert by_level["claimed_missed"] == pytest.approx([0.002] * 2 + [0.0] * 6)
    assert by_level["frauds"] == [1.0] * 6 + [0.0] * 2


def test_after_a_change_of_costs_only_decisions_of_later_days_are_judged() -> None:
    costly = [day_of(DAY + back, cases=rule([10.0] * 4), stopped={}) for back in range(30)]
    payoffs = after(costly)
    assert payoffs.in_force.least_lambda > 1.0
    payoffs.begin_again((DAY + 30) * MS_PER_DAY)
    assert payoffs.in_force.least_lambda == 1.0
    # Verdicts on decisions of before still come.
    for one in costly[20:]:
        payoffs.fold(one, COSTS)
    chosen(payoffs, DAY + 40)
    assert payoffs.in_force.least_lambda == 1.0
    for back in range(31, 40):
        payoffs.fold(dataclasses.replace(costly[0], day=costly[0].day + back), COSTS)
    chosen(payoffs, DAY + 41)
    assert payoffs.in_force.least_lambda > 1.0


def test_of_equal_policies_the_usual_one_mostly_stays_in_force() -> None:
    rng = np.random.default_rng(5)
    switched = 0
    for _ in range(200):
        days = [
            day_of(DAY + back, cases={}, stopped=rule(rng.exponential(100.0, 8).tolist()))
            for back in range(28)
        ]
        switched += after(days).in_force.least_lambda != 1.0
    assert switched <= 80, "seven one-sided comparisons beyond 1.5 errors: at most some forty in a hundred"


@pytest.mark.parametrize(
    ("policy", "errors", "takes_over"),
    [(0, 1.3, False), (0, 1.7, True), (FOREST, 2.2, False), (FOREST, 2.8, True)],
)
def test_the_rule_gives_way_beyond_one_and_a_half_errors_and_to_the_forest_beyond_two_and_a_half(
    policy: int, errors: float, *, takes_over: bool
) -> None:
    # Sixteen days, of which every other one is 10 above or below the mean, behind the one on which the model begins.
    error = 10.0 * math.sqrt(16 / 15) / math.sqrt(16)
    better = [100.0 + errors * error + 10.0 * (-1.0) ** back for back in range(17)]
    days = [
        day_of(DAY + back, cases={}, stopped={USUAL: 100.0, policy: more}) for back, more in enumerate(better)
    ]
    in_force = after(days, LIMITED).in_force
    assert (in_force.forest_decides if policy == FOREST else in_force.least_lambda == 0.0) == takes_over


def test_what_costs_more_than_it_stops_gives_way_to_alerting_on_nothing() -> None:
    days = [
        day_of(DAY + back, cases=rule([100.0] * 8), stopped=rule([20.0 + back] * 8)) for back in range(10)
    ]
    assert after(days).in_force.least_lambda == math.inf


def test_the_forest_decides_where_it_brings_more_than_the_model() -> None:
    days = [
        day_of(DAY + back, cases={USUAL: 4.0, FOREST: 4.0}, stopped={USUAL: 30.0, FOREST: 60.0 + back})
        for back in range(10)
    ]
    payoffs = after(days, LIMITED)
    assert payoffs.in_force.forest_decides
    assert payoffs.in_force.forest_vouched == 1


def test_a_forest_that_stops_nothing_does_not_decide_in_place_of_reviews_that_found_no_fraud() -> None:
    """Without a budget it alerts on nothing: it would bring more than any rule on days without a fraud."""
    days = [
        day_of(DAY + back, cases=rule([20.0 + back % 2] * 8), stopped={}, claimed=0.01) for back in range(28)
    ]
    assert after(days).in_force == (1.0, False, 0)


def test_a_forest_no_better_than_another_threshold_does_not_decide() -> None:
    days = [
        day_of(
            DAY + back,
            cases={0: 9.0, USUAL: 4.0, FOREST: 9.0},
            stopped={0: 90.0 + back % 3, USUAL: 30.0, FOREST: 60.0 + 80.0 * (back % 2)},
        )
        for back in range(10)
    ]
    in_force = after(days).in_force
    assert (in_force.least_lambda, in_force.forest_decides) == (0.0, False)


def test_a_policy_beyond_the_budget_brings_what_the_budget_leaves_of_it() -> None:
    cases, stopped = (
        [40.0, 30.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0],
        [900.0, 800.0, 300.0, 200.0, 50.0, 40.0, 30.0, 20.0],
    )
    days = [day_of(DAY + back, cases=rule(cases), stopped=rule(stopped)) for back in range(10)]
    assert after(days).in_force.least_lambda == 0.0
    # Ten cases a day are reached between 0.5, with 9, and 0.1, with 30: a 21st of the way.
    limited = after(days, LIMITED)
    assert limited.in_force.least_lambda in (0.0, 0.1)
    between = (300.0 - 45.0) + ((800.0 - 150.0) - (300.0 - 45.0)) / 21
    assert limited.daily_gain[:3].tolist() == pytest.approx([between, between, 300.0 - 45.0])
    dearer = [
        day_of(DAY + back, cases=rule(cases), stopped=rule([260.0, 240.0, 200.0, *stopped[3:]]))
        for back in range(10)
    ]
    assert after(dearer, LIMITED).in_force.least_lambda == 1.0, "more of what does not pay"


def test_a_policy_all_of_which_is_beyond_the_budget_brings_its_share() -> None:
    days = [
        day_of(
            DAY + back, cases=rule([40.0] * 8) | {FOREST: 20.0}, stopped=rule([600.0] * 8) | {FOREST: 180.0}
        )
        for back in range(10)
    ]
    gain = after(days, LIMITED).daily_gain
    assert gain[:9].tolist() == pytest.approx([(600.0 - 200.0) / 4] * 8 + [(180.0 - 100.0) / 2])


def test_a_day_is_judged_once_its_verdicts_are_in_and_a_policy_holds_for_the_day() -> None:
    better = day_of(DAY, cases={}, stopped=rule([91.0, 90.0, 90.0, 10.0]))
    payoffs = Payoffs()
    for back in range(9):
        payoffs.fold(dataclasses.replace(better, day=better.day + back), COSTS)
    until_ms = (DAY + 7) * MS_PER_DAY
    halted = Matured((DAY + 30) * MS_PER_DAY, until_ms, until_ms, LabelDelays.none(), LabelDelays.none(), 1.0)
    payoffs.choose(halted, COSTS)
    assert payoffs.in_force.least_lambda == 1.0, "of six days alone, and the first"
    payoffs.choose(dataclasses.replace(halted, until_ms=(DAY + 9) * MS_PER_DAY), COSTS)
    assert payoffs.in_force.least_lambda == 1.0, "the policy of that day is chosen"
    chosen(payoffs, DAY + 31)
    assert payoffs.in_force.least_lambda == 0.0


def test_frauds_that_are_labelled_late_stand_for_the_ones_still_to_come() -> None:
    # The rule stops 40 for 50 of reviews by the labels so far, but only half of the frauds are labelled.
    days = [day_of(DAY + back, cases=rule([10.0] * 8), stopped=rule([40.0] * 8)) for back in range(10)]
    assert after(days).in_force.least_lambda == math.inf
    half = LabelDelays(np.full((2, HOURS), 0.5))
    payoffs = Payoffs()
    for one in days:
        payoffs.fold(one, COSTS)
    chosen(payoffs, DAY + 10, delays=half)
    assert payoffs.in_force.least_lambda == 1.0


def test_missed_frauds_that_are_charged_back_late_stand_for_more_than_alerts_answered_at_once() -> None:
    """From half a review on the rule would pay: 12 cases more for four frauds of 20, of which one is known."""
    days = [
        day_of(
            DAY + back,
            cases=rule([22.0, 22.0, 22.0, *[10.0] * 5]),
            stopped=rule([100.0 + back % 2] * 8),
            missed=rule([20.0] * 3),
        )
        for back in range(10)
    ]
    apart = np.ones((2, HOURS))
    apart[0] = 0.25
    together = np.full((2, HOURS), (100.0 + 20.0) / (100.0 + 80.0))

    def least_lambda(shares: NDArray[np.float64]) -> float:
        payoffs = Payoffs()
        for one in days:
            payoffs.fold(one, COSTS)
        chosen(payoffs, DAY + 10, delays=LabelDelays(shares))
        return payoffs.in_force.least_lambda

    assert least_lambda(apart) < 1.0
    assert least_lambda(together) == 1.0, "one share for both would not have seen it"


def test_alerts_that_no_fraud_justifies_are_ended_before_the_missed_frauds_are_known() -> None:
    days = [
        day_of(DAY + back, cases=rule([20.0] * 8), stopped=rule([5.0 + back % 2] * 8)) for back in range(10)
    ]
    shares = np.ones((2, HOURS))
    shares[0, : 60 * 24] = 0.01
    payoffs = Payoffs()
    for one in days:
        payoffs.fold(one, COSTS)
    chosen(payoffs, DAY + 10, delays=LabelDelays(shares))
    assert payoffs.in_force.least_lambda == math.inf


def test_days_of_whose_frauds_hardly_any_is_labelled_yet_speak_for_no_policy() -> None:
    """Chargebacks take months here: by the labels so far, every review was wasted."""
    days = [day_of(DAY + back, cases=rule([10.0] * 8), stopped=rule([4.0] * 8)) for back in range(10)]
    late = np.ones((2, HOURS))
    late[:, : 60 * 24] = 0.1
    payoffs = Payoffs()
    for one in days:
        payoffs.fold(one, COSTS)
    chosen(payoffs, DAY + 10, delays=LabelDelays(late))
    assert (payoffs.in_force.least_lambda, payoffs.in_force.forest_vouched) == (1.0, 0)
    assert np.isnan(payoffs.daily_gain).all()
    # A label feed that has fallen silent adds nothing as time goes by.
    silent = Matured(
        (DAY + 70) * MS_PER_DAY,
        (DAY + 10) * MS_PER_DAY,
        (DAY + 17) * MS_PER_DAY,
        LabelDelays(late),
        LabelDelays.none(),
        1.0,
    )
    payoffs.choose(silent, COSTS)
    assert payoffs.in_force.least_lambda == 1.0
    chosen(payoffs, DAY + 71, delays=LabelDelays(late))
    assert payoffs.in_force.least_lambda == math.inf


def test_cases_that_are_confirmed_legit_late_stand_for_the_ones_still_to_come() -> None:
    def least_lambda(legit_share: float) -> float:
        payoffs = Payoffs()
        for back in range(10):
            payoffs.fold(
                day_of(DAY + back, cases=rule([5.0] * 4), stopped=rule([30.0 + back % 2] * 4)), COSTS
            )
        shares = LabelDelays(np.full((2, HOURS), legit_share))
        chosen(payoffs, DAY + 10, legit_delays=shares)
        return payoffs.in_force.least_lambda

    # Five cases cost 25 and stop 30; ten, of which half are known, cost 50.
    assert least_lambda(1.0) == 1.0
    assert least_lambda(0.5) > 1.0
    # Of so few nothing is judged.
    assert least_lambda(0.2) == 1.0


def test_silent_alerts_cost_their_review_as_far_as_silence_means_legit() -> None:
    days = [
        day_of(DAY + back, cases={}, stopped=rule([40.0 + back % 2] * 8), silent=10.0) for back in range(10)
    ]
    assert after(days, silent=1.0).in_force.least_lambda == math.inf
    assert after(days, silent=0.1).in_force.least_lambda == 1.0


def test_silent_alerts_of_the_forest_cost_their_review_in_any_case() -> None:
    # One fraud a day confirmed among ten alerts, the others silent.
    days = [
        day_of(DAY + back, cases={}, stopped={FOREST: 40.0 + back % 2}, silent=10.0) for back in range(10)
    ]
    assert after(days, silent=0.0).in_force.forest_vouched == -1


def own_cases(count: int, day: int = DAY) -> PayoffDeltas:
    flags = np.full(count, Decider.FOREST | Flag.ALERTED | Flag.OPENS_CASE, np.uint16)
    return decided_payoffs(np.full(count, day * MS_PER_DAY), flags)


def labelled(loss: float, flags: int) -> PayoffDeltas:
    signs = np.array([[1], [0], [1]], np.int8)
    row: tuple[NDArray[np.int64], NDArray[np.uint16]] = (
        np.array([DAY * MS_PER_DAY]),
        np.array([flags], np.uint16),
    )
    return settled_payoffs(*row, np.array([np.nan], np.float32), np.array([loss]), signs)


def test_the_forest_alerts_on_a_credit_of_two_days_of_budget_until_its_alerts_earn() -> None:
    payoffs = Payoffs()

    def allowed() -> float:
        return payoffs.forest_cases_per_day(LIMITED, wait_days=7.0, usual_cases=math.inf)

    assert allowed() == pytest.approx(20 / 7)
    payoffs.fold(own_cases(13), LIMITED)
    assert allowed() == pytest.approx(1.0)
    payoffs.fold(own_cases(7), LIMITED)
    assert payoffs.forest_balance == -20
    assert allowed() == 0.0
    would = int(Flag.FOREST_WOULD_ALERT | Flag.FOREST_SCORED)
    payoffs.fold(labelled(500.0, would | Decider.FOREST), LIMITED)
    assert allowed() == 0.0, "a fraud that it was not let to alert pays nothing back"
    payoffs.fold(labelled(30.0, would | Decider.FOREST | Flag.ALERTED), LIMITED)
    assert payoffs.forest_balance == 30.0 / REVIEW - 20
    assert allowed() == pytest.approx(6 / 7)
    payoffs.fold(labelled(20 * REVIEW, would | Decider.FOREST | Flag.ALERTED), LIMITED)
    assert payoffs.forest_balance == 6
    assert allowed() == pytest.approx(20 / 7 + 6), "what it has earned is its own to spend within a day"
    payoffs.fold(labelled(9_000.0, would | Decider.FOREST | Flag.ALERTED), LIMITED)
    assert allowed() == 10.0, "the budget bounds what earnings allow"


def test_another_price_of_reviews_neither_spends_the_credit_of_the_forest_nor_gives_it_back() -> None:
    payoffs, cheap = Payoffs(), dataclasses.replace(LIMITED, review_cost=REVIEW / 20)
    payoffs.fold(own_cases(13), LIMITED)
    assert payoffs.forest_cases_per_day(cheap, wait_days=7.0, usual_cases=math.inf) == pytest.approx(1.0)


@pytest.mark.parametrize(("cases", "limited"), [(0, False), (17, False), (19, True)])
def test_a_forest_is_limited_once_nine_tenths_of_its_credit_are_spent(cases: int, *, limited: bool) -> None:
    payoffs = Payoffs()
    payoffs.fold(own_cases(cases), LIMITED)
    assert payoffs.forest_is_limited(LIMITED) == limited
    assert not payoffs.forest_is_limited(COSTS), "without a budget it has no credit to spend"


def test_where_the_budget_is_larger_than_the_traffic_the_credit_is_a_share_of_it() -> None:
    payoffs = Payoffs()
    assert payoffs.forest_cases_per_day(LIMITED, wait_days=7.0, usual_cases=2.0) == 2.0
    payoffs.fold(labelled(3 * REVIEW, int(Flag.FOREST_WOULD_ALERT | Decider.FOREST | Flag.ALERTED)), LIMITED)
    assert payoffs.forest_cases_per_day(LIMITED, wait_days=7.0, usual_cases=2.0) == pytest.approx(2.0 + 3.0)


@pytest.mark.parametrize(("stopped", "may"), [(80.0, 10.0), (10.0, 0.0)])
def test_matured_days_overrule_the_credit_of_the_forest(stopped: float, may: float) -> None:
    days = [day_of(DAY + back, cases={FOREST: 9.0}, stopped={FOREST: stopped + back}) for back in range(10)]
    payoffs = after(days, LIMITED)
    if may:
        payoffs.fold(own_cases(1_000), LIMITED)
    assert payoffs.forest_cases_per_day(LIMITED, wait_days=7.0, usual_cases=0.0) == may
    assert payoffs.forest_is_limited(LIMITED) == (may == 0.0)


def test_without_a_budget_the_forest_may_open_no_case() -> None:
    payoffs = Payoffs()
    assert payoffs.forest_cases_per_day(COSTS, wait_days=7.0, usual_cases=math.inf) == 0.0


def test_days_and_their_order_bound_the_state() -> None:
    payoffs = Payoffs()
    for day in [DAY + 500, *range(DAY, DAY + 300)]:
        payoffs.fold(day_of(day, cases={0: 1.0}, stopped={}), COSTS)
    days = payoffs.arrays()["days"]
    assert len(days) <= 128
    assert np.all(np.diff(days) > 0)
    assert days[-1] == DAY + 500
