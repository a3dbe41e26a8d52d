"""When to alert: the cost rule, the calibration of its probability, and the investigators' budget.

One rule decides for the online model: alert iff ``p * L / review_cost >= lambda``, with ``p`` the calibrated
probability, ``L`` the loss if the fraud is missed, and ``lambda`` 1 unless the budget demands more (Elkan 2001; Bahnsen
et al. 2013). The isolation forest has no probability: it ranks by score times amount and alerts from the rank on that
the budget allows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import exp2
from models.arrays import BoolArray, FloatArray, IntArray
from models.vocabulary import MS_PER_DAY, NEVER_MS

BINS: Final = 256
# The alert budget's state: a histogram of each decider, then single numbers.
_ONLINE: Final = slice(0, BINS)
_FOREST: Final = slice(BINS, 2 * BINS)
_ALERTS, _CASES, _ONLINE_DAYS, _FOREST_DAYS = range(2 * BINS, 2 * BINS + 4)
_STATE_SIZE: Final = 2 * BINS + 4
_BINS_PER_OCTAVE: Final = 6
_LOWEST_POWER: Final = -10
_MAX_LOGIT: Final = 50.0
_DAYS_PER_E_FOLD: Final = 1.4426950408889634
"""1 / ln 2: the integral of 2**-t over all time."""
SHORTEST_DAYS: Final = 1.0 / 24.0
"""A decider must have scored for so long before its counts give a rate."""
MOST_DAILY_BUDGETS: Final = 2.0
"""A day of event time opens no more cases than so many budgets: a rate alone follows a jump only within a day."""
# The fit of the calibration. The pull is the precision of its prior: it fades out by so many frauds, but for a trace.
_NEWTON_STEPS: Final = 25
_CONVERGED: Final = 1e-10
_HALVINGS: Final = 30
_BISECTIONS: Final = 40
_PULL: Final = 50.0
_LEAST_PULL: Final = 0.5
_PULL_FADES_BY: Final = 200.0


def _edges() -> FloatArray:
    # Literals and exact powers of two: every machine has the same edges, and 1.0 is one of them.
    sixths = (
        1.0,
        1.122462048309373,
        1.2599210498948732,
        1.4142135623730951,
        1.5874010519681994,
        1.7817974362806785,
    )
    steps = np.arange(BINS - 1)
    powers = (steps // _BINS_PER_OCTAVE + _LOWEST_POWER).astype(np.int32)
    edges: FloatArray = np.ldexp(np.array(sixths)[steps % _BINS_PER_OCTAVE], powers)
    return edges


EDGES: Final = _edges()
"""Lower edges of bins 1 to 255, six to the doubling, from 2**-10 to 2**32.33; bin 0 is below them."""


@dataclass(frozen=True)
class CostPolicy:
    """The costs that the user sets.

    Attributes
    ----------
    review_cost
        The cost of one investigated case.
    loss_fixed, loss_factor
        A missed fraud costs ``loss_fixed + loss_factor * amount``. Without the fixed part, card testing with small
        amounts would cost nothing.
    alert_budget_cases_per_day
        How many cases the investigators can take; None for no limit.

    Raises
    ------
    ValueError
        If a cost is negative or not finite, or a review costs nothing.
    """

    review_cost: float
    loss_fixed: float
    loss_factor: float
    alert_budget_cases_per_day: float | None

    def __post_init__(self) -> None:
        """Reject costs that no decision follows from."""
        if not 0.0 < self.review_cost < np.inf:
            raise ValueError(f"review_cost = {self.review_cost} must be positive and finite")
        budget = 0.0 if self.alert_budget_cases_per_day is None else self.alert_budget_cases_per_day
        for value in (self.loss_fixed, self.loss_factor, budget):
            if not 0.0 <= value < np.inf:
                raise ValueError(f"{self}: a cost or budget must be finite and not negative")

    def loss(self, amount: FloatArray) -> FloatArray:
        """Return the loss of each transaction as a missed fraud; a negative or missing amount counts as zero."""
        return self.loss_fixed + self.loss_factor * np.fmax(amount, 0.0)


def online_ratio(probability: FloatArray, loss: FloatArray, policy: CostPolicy) -> FloatArray:
    """Divide expected loss by the cost of a review: alert iff it reaches lambda (Elkan 2001)."""
    return probability * loss / policy.review_cost


def forest_rank(score: FloatArray, amount: FloatArray) -> FloatArray:
    """Multiply score by amount, the forest's order of alerting; zero where either is missing or negative."""
    return np.fmax(score, 0.0) * np.fmax(amount, 0.0)


@dataclass(frozen=True)
class Calibration:
    """Platt's slope and intercept: they turn the model's logit into a probability.

    Attributes
    ----------
    slope, intercept
        1 and 0 leave the model's own probability as it is.
    """

    slope: float = 1.0
    intercept: float = 0.0

    def probability(self, logit: FloatArray) -> FloatArray:
        """Turn logits into calibrated probabilities of fraud; NaN stays NaN."""
        return _sigmoid(self.slope * np.clip(logit, -_MAX_LOGIT, _MAX_LOGIT) + self.intercept)

    def expecting(self, frauds: float, logit: FloatArray, weight: FloatArray) -> Calibration:
        """Return the calibration of the same slope with which the rows hold so many expected frauds.

        Parameters
        ----------
        frauds
            Where it is not between 0 and the sum of the weights, the intercept stays.
        logit, weight : float64 (n,)
            Of the rows.
        """
        if not 0.0 < frauds < weight.sum():
            return self
        low, high = -30.0, 30.0
        for _ in range(_BISECTIONS):
            middle = (low + high) / 2.0
            found = float(np.dot(weight, replace(self, intercept=middle).probability(logit)))
            low, high = (low, middle) if found > frauds else (middle, high)
        return replace(self, intercept=low)

    @staticmethod
    def fit(logit: FloatArray, label: BoolArray, weight: FloatArray) -> Calibration:
        """Fit slope and intercept by Newton's method (Platt 1999), pulled towards (1, 0).

        The pull is a Gaussian prior that fades out linearly by 200 frauds. A trace of it stays, so that separable data
        and data of one class have a finite fit too. The fit is no fold: its result is a record, so numpy's functions
        may differ between processors.

        Parameters
        ----------
        logit : float64 (n,)
            Uncalibrated, as of decision time; rows that are not finite are left out.
        label : bool (n,)
            Fraud or not.
        weight : float64 (n,)
            Rows without a positive, finite weight are left out.
        """
        use = np.isfinite(logit) & np.isfinite(weight) & (weight > 0.0)
        x = np.clip(logit[use], -_MAX_LOGIT, _MAX_LOGIT)
        y, w = label[use].astype(np.float64), weight[use]
        frauds = float(np.dot(w, y))
        pull = max(_PULL * (1.0 - frauds / _PULL_FADES_BY), _LEAST_PULL)
        theta = np.array([1.0, 0.0])
        for _ in range(_NEWTON_STEPS):
            before, theta = theta, _descend(theta, x, y, w, pull)
            if np.abs(theta - before).max() < _CONVERGED:
                break
        return Calibration(float(theta[0]), float(theta[1]))


def log_loss(logit: FloatArray, y: NDArray[np.uint8] | FloatArray) -> FloatArray:
    """Return the log loss of each row, or what it is expected to be where y is the probability of fraud."""
    return np.asarray(np.logaddexp(0.0, logit) - y * logit, np.float64)


def probabilities(logit: FloatArray) -> FloatArray:
    """Return the probabilities of logits, of which those beyond 30 count as 30: none is 0 or 1."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(logit, -30.0, 30.0))), np.float64)


def _sigmoid(z: FloatArray) -> FloatArray:
    e = np.exp(-np.abs(z))
    return np.where(z >= 0.0, 1.0, e) / (1.0 + e)


def _objective(theta: FloatArray, x: FloatArray, y: FloatArray, w: FloatArray, pull: float) -> float:
    z = theta[0] * x + theta[1]
    off = theta - (1.0, 0.0)
    return float(np.dot(w, log_loss(z, y)) + 0.5 * pull * np.dot(off, off))


def _descend(theta: FloatArray, x: FloatArray, y: FloatArray, w: FloatArray, pull: float) -> FloatArray:
    """Take one Newton step, halved until it does not climb; none if it climbs even then."""
    p = _sigmoid(theta[0] * x + theta[1])
    error, curvature = w * (p - y), w * p * (1.0 - p)
    gradient = np.array([np.dot(error, x), error.sum()]) + pull * (theta - (1.0, 0.0))
    cross = np.dot(curvature, x)
    hessian = np.array([[np.dot(curvature, x * x) + pull, cross], [cross, curvature.sum() + pull]])
    step = np.linalg.solve(hessian, gradient)
    before = _objective(theta, x, y, w, pull)
    for _ in range(_HALVINGS):
        if _objective(theta - step, x, y, w, pull) <= before:
            return theta - step
        step = step * 0.5
    return theta


def bin_of(values: FloatArray) -> IntArray:
    """Find the bin of each value: 0 below the lowest edge and for NaN, 255 from the highest edge on."""
    return np.where(np.isnan(values), 0, np.searchsorted(EDGES, values, side="right")).astype(np.int64)


def _lower_edge(place: int) -> float:
    return float(EDGES[place - 1]) if place else 0.0


def histogram(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Sum the weights per bin, float64 (256,)."""
    return np.bincount(bin_of(values), weights=weights, minlength=BINS).astype(np.float64)


class Thresholds(NamedTuple):
    """From where on each decider alerts, and so opens a case; inf where it opens none.

    Attributes
    ----------
    online_lambda
        The least ratio of expected loss to review cost.
    forest_cut
        The least rank, score times amount.
    forest_budget_cut
        What the budget alone would allow the forest: from there on it would alert, were it let.
    joining_lambda
        The least ratio of an alert of the online model that joins an open case of its card.
    """

    online_lambda: float
    forest_cut: float
    forest_budget_cut: float
    joining_lambda: float


class AlertBudget:
    """The scores and cases of the last day or so: the source of truth for lambda and the forest's cut.

    A fold: `fold` alone changes it. It holds two histograms (online ratios, forest ranks), each with the time since its
    decider's first score, and counts of alerts and cases. All decay with a half-life of one day of event time, and a
    rate per day is a decayed count over the decayed time. Beside them it counts, without decay, the cases of the
    current day of event time (UTC).
    """

    def __init__(self) -> None:
        self._state = np.zeros(_STATE_SIZE)
        self._cases_today = 0.0
        self._clock_ms = NEVER_MS

    def fold(
        self, online_hist: FloatArray, forest_hist: FloatArray, alerts: float, cases: float, clock_ms: int
    ) -> None:
        """Add the counts of one commit.

        Parameters
        ----------
        online_hist, forest_hist : float64 (256,)
            Of all its decisions, each weighted by how many it stands for (`histogram`).
        alerts, cases
            Alerts without those that needed an open case, and alerts that opened one.
        clock_ms
            Event time of the commit. A commit behind the newest one, of another worker, is discounted to its own time
            and adds no elapsed time.
        """
        newest = max(clock_ms, self._clock_ms)
        passed_ms = 0 if self._clock_ms == NEVER_MS else newest - self._clock_ms
        added = np.concatenate([online_hist, forest_hist, (alerts, cases, 0.0, 0.0)])
        _fold(self._state, added, passed_ms / MS_PER_DAY, (newest - clock_ms) / MS_PER_DAY)
        if newest // MS_PER_DAY != self._clock_ms // MS_PER_DAY:
            self._cases_today = 0.0
        if newest // MS_PER_DAY == clock_ms // MS_PER_DAY:
            self._cases_today += cases
        self._clock_ms = newest

    def online_lambda(self, policy: CostPolicy, now_ms: int | None = None, least: float = 1.0) -> float:
        """Find the smallest lambda of at least `least` whose cases a day meet the budget.

        Ratios are counted in bins. While fewer cases have been opened than the budget allows, lambda lies within a bin
        as if its ratios were spread evenly: with a model that gives many decisions nearly the same ratio, a whole bin
        more or less is a tenth of the alerts. Otherwise it is the bin's upper edge.

        Until the online model has scored for an hour of event time, its counts are taken as an hour's. Lambda is inf
        where no edge meets the budget, and once the current day has had its `MOST_DAILY_BUDGETS`. The current day is
        that of the newest commit, or of `now_ms` where that is later.
        """
        budget = policy.alert_budget_cases_per_day
        if budget is None or least == np.inf:
            return least
        first = int(np.searchsorted(EDGES, least, side="right"))  # the bin that `least` lies in
        allowed = self._allowed_per_day(budget, now_ms)
        has_room = self._cases_per_day <= allowed
        lowest = self._lowest(
            self._state[_ONLINE], allowed, self.online_elapsed_days, first, within_bin=has_room
        )
        return max(least, lowest)

    def forest_cut(
        self, policy: CostPolicy, now_ms: int | None = None, cases_per_day: float | None = None
    ) -> float:
        """Find the lowest rank from which the forest may alert and whose expected cases a day meet the budget.

        `cases_per_day` is what the forest may open of the budget; None for all of it. The cut is inf, which alerts on
        nothing, without a budget, until a forest has ranked for an hour of event time, and once the current day (see
        `online_lambda`) has had its `MOST_DAILY_BUDGETS`.
        """
        budget = policy.alert_budget_cases_per_day
        if budget is None or self.forest_elapsed_days < SHORTEST_DAYS:
            return float(np.inf)
        allowed = self._allowed_per_day(budget if cases_per_day is None else cases_per_day, now_ms)
        return self._lowest(
            self._state[_FOREST], allowed, self.forest_elapsed_days, first=1, within_bin=False
        )

    def cases_of(self, share: float) -> float:
        """Return how many cases a day the forest would open if it alerted on such a share of the decisions.

        It is inf, which bounds nothing, until a forest has ranked for an hour of event time.
        """
        if self.forest_elapsed_days < SHORTEST_DAYS:
            return float(np.inf)
        a_day = float(self._state[_FOREST].sum()) / self.forest_elapsed_days
        return share * a_day * self.cases_per_alert

    @property
    def online_elapsed_days(self) -> float:
        """The decayed event time since the online model's first score; it approaches 1.44."""
        return float(self._state[_ONLINE_DAYS])

    @property
    def forest_elapsed_days(self) -> float:
        """The decayed event time since the forest's first score; it approaches 1.44."""
        return float(self._state[_FOREST_DAYS])

    @property
    def cases_per_alert(self) -> float:
        """The share of recent alerts, of those that needed no open one, that opened a case; 1 while there are none."""
        alerts, cases = float(self._state[_ALERTS]), float(self._state[_CASES])
        return min(cases / alerts, 1.0) if alerts > 0.0 else 1.0

    @property
    def _cases_per_day(self) -> float:
        """How many were opened of late, by either decider, over the time since the online model's first score.

        On that model's first day those of the forest from before it make the rate too high, and lambda rather high.
        """
        return float(self._state[_CASES]) / max(self.online_elapsed_days, SHORTEST_DAYS)

    def _lowest(
        self, hist: FloatArray, allowed: float, elapsed_days: float, first: int, *, within_bin: bool
    ) -> float:
        """Return the lowest value, at the lower edge of the bin `first` or above, whose cases a day are allowed."""
        if allowed <= 0.0:
            return float(np.inf)
        from_here_on = np.cumsum(hist[::-1])[::-1]
        cases_per_day = from_here_on * (self.cases_per_alert / max(elapsed_days, SHORTEST_DAYS))
        meets = np.flatnonzero(cases_per_day[first:] <= allowed)
        if not len(meets):
            return float(np.inf)
        lowest = first + int(meets[0])
        edge = _lower_edge(lowest)
        if lowest == first or not within_bin:
            return edge
        too_many, few_enough = cases_per_day[lowest - 1], cases_per_day[lowest]
        part = (allowed - few_enough) / (too_many - few_enough)
        return edge - float(part) * (edge - _lower_edge(lowest - 1))

    def _allowed_per_day(self, budget: float, now_ms: int | None) -> float:
        """Return the budget, or less where the cases left for the day would not last at that rate until midnight."""
        now_ms = self._clock_ms if now_ms is None else max(now_ms, self._clock_ms)
        # Of a day that has just begun no commit is folded yet: the count is still of the day before.
        begun = now_ms // MS_PER_DAY > self._clock_ms // MS_PER_DAY
        left_days = 1.0 - now_ms % MS_PER_DAY / MS_PER_DAY
        left_cases = MOST_DAILY_BUDGETS * budget - (0.0 if begun else self._cases_today)
        return min(budget, left_cases / left_days)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return copies of the arrays that the state consists of, by name."""
        return {
            "state": self._state.copy(),
            "cases_today": np.array([self._cases_today]),
            "clock_ms": np.array([self._clock_ms], dtype=np.int64),
        }


@njit(cache=True, nogil=True)
def _fold(state: FloatArray, added: FloatArray, passed_days: float, behind_days: float) -> None:
    # The plain exp2: lambda must be the same in every worker.
    decay, discount = exp2(-passed_days), exp2(-behind_days)
    for i in range(state.shape[0]):
        state[i] = state[i] * decay + added[i] * discount
    # The integral of the decay over the time passed: so a constant stream has a constant rate.
    passed = (1.0 - decay) * _DAYS_PER_E_FOLD
    if state[:BINS].any():
        state[_ONLINE_DAYS] += passed
    if state[BINS : 2 * BINS].any():
        state[_FOREST_DAYS] += passed
