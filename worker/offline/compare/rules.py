"""Where a strategy alerts: thresholds and calibration from the tuning window, at natural prevalence."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.payoff_deltas import JOINS_FROM
from models.threshold import Calibration
from models.working_points import WorkingPoints
from worker.offline.compare.result import Decided
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import LeftOutError, Rule
from worker.partition.cases import CaseBook

_LEAST_PROBABILITY: Final = 1e-12
_HALVINGS: Final = 80
_WIDEST_SHIFT: Final = 60.0
_BY_COST: Final = (Rule.COST, Rule.CHEAPEST)
"""Rules that charge for reviews, and so have to know how many there may be."""


@dataclass(frozen=True, slots=True)
class Alerting:
    """How scores become probabilities and alerts, as settled on a tuning window.

    Attributes
    ----------
    rule
        Of the strategy.
    is_probability
        Whether the scores are probabilities.
    centre, scale
        Of the scores that are none: less `centre`, over `scale`, they are taken for logits.
    calibration
        Of the logit.
    threshold
        What `rank` is compared with.
    review_cost
        Of one case.
    """

    rule: Rule
    is_probability: bool
    centre: float
    scale: float
    calibration: Calibration
    threshold: float
    review_cost: float

    @classmethod
    def settled(
        cls, rule: Rule, score: NDArray[np.float64], tune: Sample, review_cost: float, *, is_probability: bool
    ) -> Alerting:
        """Settle it on a tuning window.

        Parameters
        ----------
        rule
            Of the strategy.
        score : float64 (n,)
            Of the tuning window; finite.
        tune
            Its rows, at natural prevalence.
        review_cost
            Of one case.
        is_probability
            Whether the scores are probabilities.

        Raises
        ------
        LeftOutError
            The rule does not fit the scores or the window.
        """
        if rule is Rule.HALF and not is_probability:
            raise LeftOutError("its scores are no probabilities, so 0.5 means nothing for them")
        if not tune.fraud.any() or tune.fraud.all():
            raise LeftOutError("the tuning window has only one class, so no threshold can be tuned")
        centre, scale = float(np.mean(score)), float(np.std(score)) or 1.0
        raw = cls(rule, is_probability, centre, scale, Calibration(), 0.5, review_cost)
        calibration = calibrated(raw._logit(score), tune)
        return replace(raw, calibration=calibration, threshold=_threshold(rule, score, tune, review_cost))

    def decide(self, score: NDArray[np.float64], loss: NDArray[np.float64]) -> Decided:
        """Return probabilities and decisions of n scored transactions."""
        probability = self.calibration.probability(self._logit(score))
        rank = probability * loss / self.review_cost if self.rule is Rule.COST else score
        return Decided(
            score=score,
            probability=probability,
            rank=rank,
            threshold=np.full(len(score), self.threshold),
            alerted=rank >= self.threshold,
        )

    def within(
        self,
        most_cases: float,
        score: NDArray[np.float64],
        loss: NDArray[np.float64],
        case: NDArray[np.int64],
    ) -> Alerting:
        """Return it with its threshold raised until n transactions open no more than so many cases.

        A worker raises its own likewise. Rules that do not go by cost stay: 0.5 and best F1 know nothing of reviews.
        """
        if self.rule not in _BY_COST:
            return self
        least = threshold_within(most_cases, self.decide(score, loss).rank, case)
        return replace(self, threshold=max(self.threshold, least))

    def _logit(self, score: NDArray[np.float64]) -> NDArray[np.float64]:
        if not self.is_probability:
            return (score - self.centre) / self.scale
        inside = np.clip(score, _LEAST_PROBABILITY, 1.0 - _LEAST_PROBABILITY)
        return np.log(inside) - np.log1p(-inside)


def calibrated(logit: NDArray[np.float64], tune: Sample) -> Calibration:
    """Return the calibration of a tuning window.

    Its prior comes first: a shift of the logit by which the probabilities sum to the frauds undoes that of a resampled
    or reweighted training set. The fit is pulled towards what is shifted so, where frauds are few.

    Parameters
    ----------
    logit : float64 (n,)
        Finite.
    tune
        The n rows of the window, at natural prevalence.
    """
    shift = _prior_shift(logit, tune.fraud, tune.weight)
    fitted = Calibration.fit(logit + shift, tune.fraud, tune.weight)
    return replace(fitted, intercept=fitted.intercept + fitted.slope * shift)


def joining(
    alerted: NDArray[np.bool_], asked: NDArray[np.bool_], case: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which of n transactions join a case that an earlier alert has opened, of those asked for.

    Parameters
    ----------
    alerted, asked : bool (n,)
        In order of time.
    case : int64 (n,)
        The number of each one's card and case window.
    """
    at_once = np.zeros(len(case), np.int64)
    return CaseBook().has_case(case.astype(np.uint64), at_once, alerted, asked, window_ms=1)


def with_joins(decided: Decided, rule: Rule, case: NDArray[np.int64]) -> Decided:
    """Return decisions in order of time with those that join open cases, as by the worker: their review is paid."""
    if rule is not Rule.COST:
        return decided
    joins = joining(decided.alerted, decided.rank >= JOINS_FROM, case)
    return replace(decided, alerted=decided.alerted | joins)


def threshold_within(most_cases: float, rank: NDArray[np.float64], case: NDArray[np.int64]) -> float:
    """Return the least threshold from which on ranks open no more than so many cases; -inf where any does."""
    cases, number = np.unique(case, return_inverse=True)
    opens_at = np.full(len(cases), -np.inf)
    np.maximum.at(opens_at, number, rank)
    most = math.floor(most_cases)
    if most >= len(cases):
        return -math.inf
    return math.nextafter(float(np.sort(opens_at)[-1 - most]), math.inf)


def _threshold(rule: Rule, score: NDArray[np.float64], tune: Sample, review_cost: float) -> float:
    if rule is Rule.HALF:
        # scikit-learn's `predict` gives a tie to the first class, which is legit.
        return math.nextafter(0.5, 1.0)
    if rule is Rule.COST:
        return 1.0
    points = WorkingPoints.of(tune.fraud, score, tune.loss, tune.case, tune.weight)
    return points.best_f1_threshold() if rule is Rule.BEST_F1 else points.cheapest_threshold(review_cost)


def _prior_shift(logit: NDArray[np.float64], fraud: NDArray[np.bool_], weight: NDArray[np.float64]) -> float:
    """Return what makes the probabilities sum to the frauds: the sum grows with it, so it is found by halving."""
    frauds = float(weight[fraud].sum())
    low, high = -_WIDEST_SHIFT, _WIDEST_SHIFT
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        expected = float(weight @ Calibration().probability(logit + middle))
        low, high = (middle, high) if expected < frauds else (low, middle)
    return 0.5 * (low + high)
