"""The worker's own rows of the table: the online model, the forest alone, and the worker as it would run."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.anomaly import FlatForest
from models.blend import Blend
from models.columns import Columns
from models.decision import finite_logit
from models.state import ModelState
from models.threshold import Calibration, CostPolicy, Thresholds, forest_rank, online_ratio
from models.vocabulary import MS_PER_DAY, Decider, Flag
from worker.offline.compare.result import Decided
from worker.offline.compare.rules import calibrated, joining, threshold_within
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import LeftOutError
from worker.offline.worker_run import Decisions, Moment, ranking_score

_UNSCORED: Final = -1e6
"""Below every logit and every forest's score."""


@dataclass(frozen=True, slots=True)
class Deciding:
    """A copy of what decides in a model state, as of one moment.

    Attributes
    ----------
    online, forest
        None where the state had none yet.
    calibration, thresholds
        In force at that moment.
    trusted
        Whether the online model decides.
    least_lambda
        The guard's choice, which the budget may have raised in `thresholds`.
    """

    online: Blend | None
    forest: FlatForest | None
    calibration: Calibration
    thresholds: Thresholds
    trusted: bool
    least_lambda: float = 1.0

    @classmethod
    def of(cls, model: ModelState, now_ms: int) -> Deciding:
        """Copy it; the online model goes on learning in place."""
        return cls(
            copy.deepcopy(model.online),
            model.forest,
            model.calibration,
            model.thresholds(now_ms),
            model.online_decides,
            model.payoffs.in_force.least_lambda,
        )

    def tuned(
        self,
        features: NDArray[np.float32],
        tune: Sample,
        known: NDArray[np.bool_],
        costs: CostPolicy,
        most_cases: float | None,
    ) -> Deciding:
        """Return it calibrated on the tuning window, and its lambda raised to the budget there, as of every strategy.

        Parameters
        ----------
        features : float32 (n, F)
            Of the tuning window, as the worker journals them.
        tune
            Its n rows.
        known : bool (n,)
            Whose verdict is known.
        costs
            The user's costs.
        most_cases
            What the budget allows there; None for no limit.
        """
        if self.online is None:
            return self
        logit = _logit(self.online, features).astype(np.float64)
        calibration, least = calibrated(logit[known], tune.take(known)), self.least_lambda
        if most_cases is not None:
            ratio = _ratio(calibration.probability(logit).astype(np.float32), tune.loss, costs)
            least = max(least, threshold_within(most_cases, ratio, tune.case))
        return replace(
            self, calibration=calibration, thresholds=self.thresholds._replace(online_lambda=least)
        )


class ForestAt(NamedTuple):
    """The forest and its cut in force at a moment."""

    time_ms: int
    forest: FlatForest | None
    thresholds: Thresholds


@dataclass(slots=True)
class Watch:
    """Keeps what decides at the end of the train window, and the forest of each day of the test window.

    Parameters
    ----------
    freeze_ms
        End of the train window: what is learnt from later labels, no strategy of the frozen block knows.
    test_ms, end_ms
        The test window.
    """

    freeze_ms: int
    test_ms: int
    end_ms: int
    frozen: Deciding | None = None
    days: list[ForestAt] = field(default_factory=list)
    seconds_to_freeze: float = 0.0
    _started_s: float = field(default_factory=time.perf_counter)

    def moments(self) -> list[Moment]:
        """Return the moments at which a run of the worker has to show its model."""

        def freeze(model: ModelState) -> None:
            self.frozen = Deciding.of(model, self.freeze_ms)
            self.seconds_to_freeze = time.perf_counter() - self._started_s

        def daily(at_ms: int) -> Callable[[ModelState], None]:
            return lambda model: self.days.append(ForestAt(at_ms, model.forest, model.thresholds(at_ms)))

        days = range(self.test_ms, self.end_ms, MS_PER_DAY)
        return [Moment(self.freeze_ms, freeze), *(Moment(at_ms, daily(at_ms)) for at_ms in days)]


@dataclass(frozen=True, slots=True)
class OwnView(Columns):
    """What the worker's deciders made of n judged transactions in one block.

    Attributes
    ----------
    logit, probability, forest_score : float32 (n,)
        NaN without an online model, or without a forest.
    ratio, rank : float64 (n,)
        Expected loss over review cost, and the forest's order of alerting; 0 where there is no score.
    decider : uint8 (n,)
        `Decider` of the worker as it would run.
    online_lambda, forest_cut, forest_budget_cut : float64 (n,)
        The thresholds in force; see `models.threshold.Thresholds`.
    online_alerted, forest_alerted, alerted : bool (n,)
        What each decider alone would alert, and what the worker alerts.
    """

    logit: NDArray[np.float32]
    probability: NDArray[np.float32]
    forest_score: NDArray[np.float32]
    decider: NDArray[np.uint8]
    online_lambda: NDArray[np.float64]
    forest_cut: NDArray[np.float64]
    forest_budget_cut: NDArray[np.float64]
    online_alerted: NDArray[np.bool_]
    forest_alerted: NDArray[np.bool_]
    alerted: NDArray[np.bool_]
    ratio: NDArray[np.float64]
    rank: NDArray[np.float64]


def frozen_view(
    deciding: Deciding,
    features: NDArray[np.float32],
    loss: NDArray[np.float64],
    amount: NDArray[np.float64],
    case: NDArray[np.int64],
    costs: CostPolicy,
) -> OwnView:
    """Score and decide n transactions by the model as of one moment.

    Parameters
    ----------
    deciding
        What decides.
    features : float32 (n, F)
        As the worker journals them.
    loss, amount : float64 (n,)
    case : int64 (n,)
        The number of its card and case window.
    costs
        The user's costs.
    """
    logit = _logit(deciding.online, features)
    forest_score = _forest_score(deciding.forest, features)
    probability = deciding.calibration.probability(logit.astype(np.float64)).astype(np.float32)
    otherwise = Decider.NONE if deciding.forest is None else Decider.FOREST
    decider = np.where(np.isfinite(logit) & deciding.trusted, np.uint8(Decider.ONLINE), np.uint8(otherwise))
    ratio, rank = _ratio(probability, loss, costs), forest_rank(forest_score.astype(np.float64), amount)
    online_lambda, forest_cut, forest_budget_cut, joining_lambda = deciding.thresholds
    online, by_forest = ratio >= online_lambda, (rank >= forest_cut) & (decider == Decider.FOREST)
    online |= joining(online, ratio >= joining_lambda, case)
    return OwnView(
        logit=logit,
        probability=probability,
        forest_score=forest_score,
        decider=decider,
        online_lambda=np.full(len(features), online_lambda),
        forest_cut=np.full(len(features), forest_cut),
        forest_budget_cut=np.full(len(features), forest_budget_cut),
        online_alerted=online,
        forest_alerted=rank >= forest_budget_cut,
        alerted=np.where(decider == Decider.ONLINE, online, by_forest),
        ratio=ratio,
        rank=rank,
    )


def refreshed_view(
    decisions: Decisions,
    days: list[ForestAt],
    times_ms: NDArray[np.int64],
    amount: NDArray[np.float64],
    costs: CostPolicy,
) -> OwnView:
    """Return the journalled decisions of n transactions; an idle forest scores what it had left out.

    Parameters
    ----------
    decisions
        Of those transactions.
    days
        The forest and thresholds at the start of each day, which the journal does not have.
    times_ms : int64 (n,)
    amount : float64 (n,)
    costs
        The user's costs.
    """
    day = np.searchsorted([it.time_ms for it in days], times_ms, side="right") - 1
    forest_score = decisions.forest_score.copy()
    for number, at in enumerate(days):
        idle = np.flatnonzero((day == number) & ~np.isfinite(forest_score))
        forest_score[idle] = _forest_score(at.forest, decisions.features[idle])
    flags = decisions.flags
    forest_budget_cut = np.array([at.thresholds.forest_budget_cut for at in days])[day]
    rank = forest_rank(forest_score.astype(np.float64), amount)
    scored = (flags & Flag.FOREST_SCORED) != 0
    return OwnView(
        logit=decisions.logit,
        probability=decisions.probability,
        forest_score=forest_score,
        decider=(flags & Flag.DECIDER).astype(np.uint8),
        online_lambda=np.array([at.thresholds.online_lambda for at in days])[day],
        forest_cut=np.array([at.thresholds.forest_cut for at in days])[day],
        forest_budget_cut=forest_budget_cut,
        online_alerted=(flags & Flag.ONLINE_WOULD_ALERT) != 0,
        forest_alerted=np.where(scored, (flags & Flag.FOREST_WOULD_ALERT) != 0, rank >= forest_budget_cut),
        alerted=(flags & Flag.ALERTED) != 0,
        ratio=_ratio(decisions.probability, decisions.loss, costs),
        rank=rank,
    )


def _logit(online: Blend | None, features: NDArray[np.float32]) -> NDArray[np.float32]:
    if online is None:
        return np.full(len(features), np.nan, np.float32)
    with np.errstate(over="ignore"):
        return finite_logit(online.score_batch(features))


def _forest_score(forest: FlatForest | None, features: NDArray[np.float32]) -> NDArray[np.float32]:
    if forest is None or len(features) == 0:
        return np.full(len(features), np.nan, np.float32)
    return np.asarray(forest.score(features), np.float32)


def _ratio(
    probability: NDArray[np.float32], loss: NDArray[np.float64], costs: CostPolicy
) -> NDArray[np.float64]:
    return np.nan_to_num(online_ratio(probability.astype(np.float64), loss, costs))


def _online_model(view: OwnView) -> Decided:
    if not np.isfinite(view.logit).any():
        raise LeftOutError(
            "the worker has no online model here: it has learnt too few frauds for a generation"
        )
    score = np.where(np.isfinite(view.logit), view.logit.astype(np.float64), _UNSCORED)
    probability = view.probability.astype(np.float64)
    return Decided(score, probability, view.ratio, view.online_lambda, view.online_alerted)


def _forest(view: OwnView) -> Decided:
    if not np.isfinite(view.forest_score).any():
        raise LeftOutError("the worker has no forest here: it has seen too few transactions")
    score = np.where(np.isfinite(view.forest_score), view.forest_score.astype(np.float64), _UNSCORED)
    nothing = np.full(len(view), np.nan)
    return Decided(score, nothing, view.rank, view.forest_budget_cut, view.forest_alerted)


def _worker(view: OwnView) -> Decided:
    online = view.decider == Decider.ONLINE
    # Each decider compares a quantity of its own: both are divided by their threshold, so that 1 is the threshold.
    cut = np.where(np.isfinite(view.forest_cut) & (view.forest_cut > 0.0), view.forest_cut, np.inf)
    by_forest = np.where(view.decider == Decider.FOREST, view.rank / cut, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        # A lambda of 0 alerts on everything.
        by_rule = np.where(view.online_lambda > 0.0, view.ratio / view.online_lambda, 1.0 + view.ratio)
    rank = np.where(online, by_rule, by_forest)
    probability = np.where(online, view.probability.astype(np.float64), np.nan)
    score = ranking_score(view.decider.astype(np.uint16), view.logit, view.forest_score)
    return Decided(score, probability, rank, np.ones(len(view)), view.alerted)


class OwnRow(NamedTuple):
    """One row of the worker itself."""

    name: str
    meaning: str
    decide: Callable[[OwnView], Decided]


OWN_ROWS: Final = (
    OwnRow("online_model", "the worker's online model, alerting by the cost rule", _online_model),
    OwnRow("forest", "the worker's isolation forest alone, ranked by score times amount", _forest),
    OwnRow("worker", "this worker as it would run", _worker),
)
"""A later model of the worker joins the table by a row here."""
