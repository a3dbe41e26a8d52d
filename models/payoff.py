"""What each policy of alerting would have brought, measured on matured days, and which one is in force.

A probability that is miscalibrated, or a forest that finds nothing, can cost more than alerting on nothing. So every
decision is also judged by policies that did not decide it: the cost rule at several multiples of the review cost (0 is
alerting on everything), the isolation forest, and nothing. What a policy brings in a day is the loss of the frauds it
would have stopped, less a review for each case it would have opened. The rule at 1 is in force unless another policy
has brought more, day by day, beyond noise. Where frauds are few, days without any are nearly alike, whatever the rule
is worth: so it gives alerts up only where they held fewer frauds, beyond noise, than their probabilities claim. Once a
case is open, every rule alerts on the card from `JOINS_FROM` on, for the review is paid.

The forest claims no probability, so while it decides nothing vouches for its alerts. Until matured days do, it alerts
on credit: the reviews it has cost, less the losses it has stopped, may reach two days of the budget. It spends the
credit over the time that silence takes to speak, for the few highest ranks of many days hold more fraud than the many
of two days; and however large the budget is, the credit is for at most `CREDIT_SHARE` of the decisions. What its alerts
have earned it may spend within a day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arrays import BoolArray, FloatArray, IntArray
from models.label_delay import LEAST_SHARE, LabelDelays
from models.payoff_deltas import (
    AS_DECIDED,
    CASES,
    CAUGHT,
    CLAIMED,
    CLAIMED_MISSED,
    CLAIMED_SILENT,
    FOREST,
    FRAUDS,
    LAMBDAS,
    MISSED,
    POLICIES,
    SILENT,
    SUMS,
    PayoffDeltas,
)
from models.threshold import CostPolicy
from models.vocabulary import MS_PER_DAY

_USUAL: Final = LAMBDAS.index(1.0)
_NOTHING: Final = POLICIES - 1
DAYS: Final = 28
"""The newest matured days that are compared."""
_FEWEST_DAYS: Final = 7
_STRAY_SHARE: Final = 0.01
_STRAYS: Final = 10.0
"""A day of fewer cases, and of less than that share of the busiest day's, is one of stray decisions that came late."""
_STANDARD_ERRORS: Final = 1.5
"""With two, a change overnight that costs a week of misses may pass for noise; to take one of equals costs little."""
_ANSCOMBE: Final = 0.8
_FOREST_ERRORS: Final = 2.5
"""The forest takes all of a day's decisions, and while it is idle few days of its sample hold most of the frauds."""
_DAYS_KEPT: Final = 128
CREDIT_DAYS: Final = 2.0
"""For so many days of its budget the forest may alert before labels vouch for it."""
_NEARLY_SPENT: Final = 0.1
"""With so little of the credit left, it is said to be spent."""
CREDIT_SHARE: Final = 0.25
"""Of the decisions, on which it alerts on credit at most: a budget may be larger than the traffic."""


class InForce(NamedTuple):
    """The policy of a day of event time.

    Attributes
    ----------
    least_lambda
        From which the rule alerts, where the online model decides; inf for nothing.
    forest_decides
        Whether the forest decides in place of the online model.
    forest_vouched
        Whether matured days say that the forest's alerts pay (1), that they do not (-1), or neither (0).
    """

    least_lambda: float
    forest_decides: bool
    forest_vouched: int


NAMES: Final = (*(f"rule from {lowest:g}" for lowest in LAMBDAS), "forest", "nothing")
"""Of the policies, in the order of their gains."""
_BY_DEFAULT: Final = InForce(1.0, False, 0)


@dataclass(frozen=True, slots=True)
class Matured:
    """What is needed to judge the days.

    Attributes
    ----------
    now_ms
        The clock.
    until_ms
        Verdicts on all decisions before are in, but for frauds that are labelled late.
    known_ms
        The lowest clock of any partition, or when the feed of labels fell silent: of later days no label is known.
    delays
        How late those are: the losses of a day stand for so many more, those of missed and of caught frauds apart.
    legit_delays
        Likewise of the labels of legits, where only labels make a decision legit: cases stand for so many more.
    silent_weight
        With which a silent alert of the rule counts as legit; its review then brought nothing.
    """

    now_ms: int
    until_ms: int
    known_ms: int
    delays: LabelDelays
    legit_delays: LabelDelays
    silent_weight: float


class Payoffs:
    """The days of every policy: the source of truth for which one is in force.

    A fold: `fold`, `choose` and `begin_again` alone change it.
    """

    def __init__(self) -> None:
        self._first_day = np.iinfo(np.int64).min
        self._days = np.zeros(0, np.int32)
        self._sums = np.zeros((0, SUMS, POLICIES))
        self.forest_balance = 0.0
        """What the forest's own alerts have stopped less their reviews, in reviews of the price when each was known."""
        self._chosen_day = np.iinfo(np.int64).min
        self.in_force = _BY_DEFAULT
        self.daily_gain = np.full(POLICIES, np.nan)
        """What each policy brought a day more than nothing, on the days that the choice rests on; NaN before any."""

    def forest_cases_per_day(self, costs: CostPolicy, wait_days: float, usual_cases: float) -> float:
        """Return how many cases a day the forest may open: the budget if matured days vouch for it; 0 without one.

        Until they do, it is what is left of the credit over `wait_days`, the time that silence takes to speak, and what
        its alerts have earned beyond their reviews, within a day: labels say that of frauds long before silence does.
        The credit opens at most `usual_cases` a day: nothing is learnt from silence on an alert.
        """
        budget, vouched = costs.alert_budget_cases_per_day, self.in_force.forest_vouched
        if budget is None or vouched < 0:
            return 0.0
        if vouched > 0:
            return budget
        on_credit = min(self._credit_left(budget) / max(wait_days, CREDIT_DAYS), usual_cases)
        return min(budget, on_credit + max(self.forest_balance, 0.0))

    def forest_is_limited(self, costs: CostPolicy) -> bool:
        """Return whether matured days speak against the forest's alerts, or hardly any of its credit is left."""
        budget, vouched = costs.alert_budget_cases_per_day, self.in_force.forest_vouched
        if not budget or vouched > 0:
            return False
        return vouched < 0 or self._credit_left(budget) < _NEARLY_SPENT * CREDIT_DAYS * budget

    def _credit_left(self, budget: float) -> float:
        return max(CREDIT_DAYS * budget + min(self.forest_balance, 0.0), 0.0)

    def fold(self, deltas: PayoffDeltas, costs: CostPolicy) -> None:
        """Add one commit's deltas; the verdicts on days that are not kept only change the forest's balance."""
        if not len(deltas):
            return
        new = np.setdiff1d(deltas.day[deltas.day >= self._first_day], self._days)
        at = np.searchsorted(self._days, new)
        self._days = np.insert(self._days, at, new)[-_DAYS_KEPT:]
        self._sums = np.insert(self._sums, at, 0.0, axis=0)[-_DAYS_KEPT:]
        row, added = np.searchsorted(self._days, deltas.day), deltas.sums
        for i in range(len(deltas)):
            self.forest_balance += deltas.caught[i, AS_DECIDED] / costs.review_cost
            self.forest_balance -= deltas.cases[i, AS_DECIDED]
            if len(self._days) and deltas.day[i] >= self._days[0]:
                self._sums[row[i]] += added[i]

    def begin_again(self, now_ms: int) -> None:
        """Judge by decisions of later days only: those before had other levels, as multiples of a review, or cases."""
        self._first_day = now_ms // MS_PER_DAY + 1
        self._days, self._sums = self._days[:0], self._sums[:0]
        self.in_force, self.daily_gain = _BY_DEFAULT, np.full(POLICIES, np.nan)

    def choose(self, matured: Matured, costs: CostPolicy) -> None:
        """Choose the policy of the day of event time that `matured.now_ms` is in, once."""
        today = matured.now_ms // MS_PER_DAY
        if today <= self._chosen_day:
            return
        self._chosen_day = today
        gains, scored = self._gains(matured, costs)
        against_nothing = _against(gains, _NOTHING)
        vouched = int(_beyond_noise(against_nothing, FOREST, 1.0)) - int(
            _beyond_noise(against_nothing, FOREST, -1.0)
        )
        # The model scores the day on which it begins in part only: the first of these days may be that one.
        both = gains[np.flatnonzero(scored)[1:]]
        found = _against(both, _USUAL)
        best = _best(found, self._claims_too_much(matured, costs))
        # The idle forest's figures are noisy, so it has to be better than the best of the others beyond noise. One that
        # stops no fraud is nothing by another name, and days without a fraud would prove nothing better.
        forest_decides = vouched > 0 and _beyond_noise(_against(both, best), FOREST, 1.0)
        self.daily_gain = _against(both, _NOTHING)[0]
        self.in_force = InForce(
            least_lambda=float("inf") if best == _NOTHING else LAMBDAS[best],
            forest_decides=forest_decides,
            forest_vouched=vouched,
        )

    def _gains(self, matured: Matured, costs: CostPolicy) -> tuple[FloatArray, BoolArray]:
        """Return what each policy brought on the newest matured days, float64 (days, policies).

        Beside it on which of them the online model scored traffic, bool (days,): the rule brings nothing on the others.
        """
        rows, share = self._matured_days(matured)
        sums, share = self._sums[rows[-DAYS:]], share[-DAYS:]
        gains = np.zeros((len(sums), POLICIES))
        budget = np.inf if costs.alert_budget_cases_per_day is None else costs.alert_budget_cases_per_day
        _gain(sums, share, matured.silent_weight, costs.review_cost, float(budget), gains)
        # All that the model scored and that has a verdict, in cases. Were a few strays a day like any other, on which
        # all policies are nearly equal, some of these would halve the standard error of what a day or two say.
        known = sums[:, CASES, 0] + sums[:, SILENT, 0]
        return gains, (known > 0.0) & (known >= min(_STRAYS, _STRAY_SHARE * known.max(initial=0.0)))

    def _matured_days(self, matured: Matured) -> tuple[IntArray, FloatArray]:
        """Return the rows of the days whose verdicts are in, and which shares of these are by now, (k, 3).

        Of the frauds that were alerted on, of the other frauds, and of the legits.
        """
        end_ms = (self._days.astype(np.int64) + 1) * MS_PER_DAY
        age_ms = matured.known_ms - end_ms
        share = np.stack(
            [
                matured.delays.labelled_by(age_ms, alerted=True),
                matured.delays.labelled_by(age_ms, alerted=False),
                matured.legit_delays.labelled_by(age_ms, alerted=False),
            ],
            axis=1,
        )
        # Where nearly all the frauds of a day are silent yet, reviews would be all that the rule seems to bring. What
        # alerts bring is known before what was missed is: an alert that no fraud justifies must not wait for that.
        enough_known = (share[:, :2].max(axis=1) >= LEAST_SHARE) & (share[:, 2] >= LEAST_SHARE)
        rows = np.flatnonzero((end_ms <= matured.until_ms) & enough_known)
        return rows, np.maximum(share[rows], LEAST_SHARE)

    def _claims_too_much(self, matured: Matured, costs: CostPolicy) -> BoolArray:
        """Return which policies give up only alerts that held fewer frauds than claimed, bool (policies,).

        Of the newest matured days, or of all that are kept: where frauds are few, it takes months to see.
        """
        rows, share = self._matured_days(matured)
        sums = self._sums[rows]
        claims = (sums[:, CLAIMED] + matured.silent_weight * sums[:, CLAIMED_SILENT]) * share[:, :1]
        claims = (claims + sums[:, CLAIMED_MISSED] * share[:, 1:2]) * (costs.review_cost / share[:, 2:])
        return _are_fewer(claims[-DAYS:], sums[-DAYS:, FRAUDS]) | _are_fewer(claims, sums[:, FRAUDS])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return copies of the arrays that the state consists of, by name."""
        return {
            "days": self._days.copy(),
            "sums": self._sums.copy(),
            "forest_balance": np.array([self.forest_balance]),
            "chosen_day": np.array([self._chosen_day, self._first_day], np.int64),
            "in_force": np.array(self.in_force, np.float64),
            "daily_gain": self.daily_gain.copy(),
        }


@njit(cache=True, nogil=True)
def _gain(
    sums: FloatArray, share: FloatArray, silent_weight: float, review: float, budget: float, out: FloatArray
) -> None:
    cases = np.empty(FOREST + 1)
    for i in range(len(sums)):
        for k in range(FOREST + 1):
            # Nothing else vouches for the forest: did its silent alerts not count, one fraud would outweigh them all.
            silent = silent_weight if k < FOREST else 1.0
            cases[k] = (sums[i, CASES, k] + silent * sums[i, SILENT, k]) / share[i, 2]
            stopped = sums[i, CAUGHT, k] / share[i, 0] + sums[i, MISSED, k] / share[i, 1]
            out[i, k] = stopped - review * cases[k]
        for k in (FOREST - 1, FOREST):
            if cases[k] > budget:
                out[i, k] *= budget / cases[k]
                cases[k] = budget
        # The budget raises lambda until it is met, which lies between the lowest one within it and the next below.
        for k in range(FOREST - 2, -1, -1):
            if cases[k] > budget:
                part = (budget - cases[k + 1]) / (cases[k] - cases[k + 1]) if cases[k + 1] < budget else 0.0
                out[i, k] = out[i, k + 1] + part * (out[i, k] - out[i, k + 1])
                cases[k] = budget


@njit(cache=True, nogil=True)
def _compare(gains: FloatArray, with_policy: int, out: FloatArray) -> None:
    """Write the mean daily difference of each policy to one of them, and its standard error."""
    n = len(gains)
    for k in range(gains.shape[1]):
        mean = 0.0
        for i in range(n):
            mean += (gains[i, k] - gains[i, with_policy]) / n
        squares = 0.0
        for i in range(n):
            squares += (gains[i, k] - gains[i, with_policy] - mean) ** 2
        out[0, k] = mean
        out[1, k] = np.sqrt(squares / (n * (n - 1)))


def _against(gains: FloatArray, policy: int) -> FloatArray:
    """Return the mean daily difference of each policy to this one and its standard error, (2, policies).

    Both are NaN where there are too few days.
    """
    found = np.full((2, POLICIES), np.nan)
    if len(gains) >= _FEWEST_DAYS:
        _compare(gains, policy, found)
    return found


def _beyond_noise(found: FloatArray, policy: int, sign: float) -> bool:
    mean, error = sign * found[0, policy], found[1, policy]
    return bool(mean > 0.0 and mean > (_FOREST_ERRORS if policy == FOREST else _STANDARD_ERRORS) * error)


def _are_fewer(claims: FloatArray, frauds: FloatArray) -> BoolArray:
    """Return for each policy whether what it gives up of the usual one held fewer frauds than claimed, beyond noise.

    Square roots of Poisson counts have a standard deviation of one half (Anscombe 1948). With the constant, one and a
    half errors are the exact quantile of 6.7 % for none to ten frauds, to a tenth of a fraud.
    """
    claimed, found = claims.sum(axis=0), frauds.sum(axis=0)
    given_up, of_these = claimed[_USUAL] - claimed, found[_USUAL] - found
    errors = 2.0 * (np.sqrt(np.maximum(given_up, 0.0)) - np.sqrt(np.maximum(of_these, 0.0) + _ANSCOMBE))
    return np.asarray(errors > _STANDARD_ERRORS)


def _best(found: FloatArray, claims_too_much: BoolArray) -> int:
    """Return what brings the most of the rule and nothing, if it is better beyond noise; the usual one if none is.

    What alerts on less than the usual one must claim too much in what it gives up.
    """
    better = [
        k
        for k in range(POLICIES)
        if k != FOREST and _beyond_noise(found, k, 1.0) and (k < _USUAL or claims_too_much[k])
    ]
    return max(better, key=lambda k: float(found[0, k]), default=_USUAL)
