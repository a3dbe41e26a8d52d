"""Runs the commit cycle over a file, without Kafka: what this worker would have decided, and at what cost."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation import Evaluation
from models.state import ModelState
from models.vocabulary import Decider, Flag
from worker.errors import SettingsError
from worker.offline import figures
from worker.offline.alert_handling import ANSWERED_AFTER_MS, AS_THE_FILE_SAYS, AlertShares
from worker.offline.dataset import Dataset
from worker.offline.figures import Days, ExplainedAlert, Judged, Miss, ReasonCount, Stretch
from worker.offline.reasons import explained_alerts, frequent_reasons
from worker.offline.worker_run import AlertReasons, Decisions, WorkerRun
from worker.progress import OnProgress, ignore_progress
from worker.settings.sections import Settings

MISSES: Final = 20
"""So many of the costliest missed frauds are listed."""


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """The result of a backtest.

    Attributes
    ----------
    settings, dataset, handled
        What was run.
    decisions
        All of them, in the order of the data set.
    declined : bool (n,)
        Which of them are alerts that were declined, so that their labels did not arrive.
    answered : bool (n,)
        Which of them are alerts that were answered soon, whether the data set has a label of them or not.
    model
        As it was after the last transaction.
    judged
        The decisions of the stretch asked for; their figures cover those whose truth is known.
    whole
        The figures of all of them.
    cold, steady
        The figures before and from `steady_from_ms` on; None where that part of the stretch is empty.
    steady_from_ms
        The online model's first decision plus `labels.negatives_after_days`; None where it has decided nothing.
    alert_reasons
        Of all alerts of the run.
    costliest_misses
        The missed frauds of the largest loss, the largest first.
    true_reasons, false_reasons
        The most frequent reasons of the alerts on frauds and on legits, the most frequent first.
    explained
        Ten alerts with their reasons: on frauds, those of the largest loss; on legits, those of the highest score.
    seconds
        How long the run took.
    """

    settings: Settings
    dataset: Dataset
    handled: AlertShares
    decisions: Decisions
    declined: NDArray[np.bool_]
    answered: NDArray[np.bool_]
    model: ModelState
    judged: Judged
    whole: Stretch
    cold: Stretch | None
    steady: Stretch | None
    steady_from_ms: int | None
    weeks: tuple[Stretch, ...]
    days: Days
    alert_reasons: AlertReasons
    costliest_misses: tuple[Miss, ...]
    true_reasons: tuple[ReasonCount, ...]
    false_reasons: tuple[ReasonCount, ...]
    explained: tuple[ExplainedAlert, ...]
    seconds: float

    @property
    def evaluation(self) -> Evaluation:
        """What the judged decisions were worth."""
        return self.whole.evaluation

    @property
    def decided_by(self) -> dict[str, float]:
        """The share of the judged decisions that each decider made, by name."""
        return self.whole.decided_by

    @property
    def label_coverage(self) -> float:
        """The share of the judged decisions whose label reaches the worker by the end of the run."""
        return self.whole.label_coverage

    @property
    def better_trivial_policy(self) -> str:
        """`nothing` or `everything`: alerting on which would have cost less."""
        return "nothing" if self.evaluation.cost_none <= self.evaluation.cost_all else "everything"

    @property
    def cases_for_all_per_day(self) -> float:
        """Cases a day if everything were alerted: also those of unknown truth, for which no review is charged."""
        return len(np.unique(self.judged.case)) / self.whole.days

    @property
    def transactions(self) -> int:
        """How many transactions the data set has."""
        return len(self.dataset)

    @property
    def transactions_per_second(self) -> float:
        """How fast the run was."""
        return self.transactions / self.seconds

    def figures(self) -> dict[str, float]:
        """Return all figures of the whole stretch by name, NaN where undefined."""
        return {
            **self.whole.figures(),
            "transactions": self.transactions,
            "seconds": self.seconds,
            "transactions_per_second": self.transactions_per_second,
        }


def backtest(
    settings: Settings,
    dataset: Dataset,
    *,
    evaluate_from_ms: int | None = None,
    evaluate_to_ms: int | None = None,
    handled: AlertShares = AS_THE_FILE_SAYS,
    progress: OnProgress = ignore_progress,
) -> BacktestResult:
    """Run the worker's cycle over a data set; each label arrives at its time in the data set.

    Parameters
    ----------
    settings
        Those of a live worker.
    dataset
        In order of event time.
    evaluate_from_ms, evaluate_to_ms
        Judge only transactions from the first time on and before the second; None for all.
    handled
        What people do with the alerts. The figures use the truth of declined ones all the same.
    progress
        Called with the numbers of transactions decided so far and in all.

    Raises
    ------
    SettingsError
        No transaction lies in the stretch to judge.
    """
    times_ms = dataset.event_time_ms
    start_ms = int(times_ms[0]) if evaluate_from_ms is None else evaluate_from_ms
    end_ms = dataset.end_ms if evaluate_to_ms is None else evaluate_to_ms
    if not ((times_ms >= start_ms) & (times_ms < end_ms)).any():
        first, last = times_ms[[0, -1]].astype("datetime64[ms]")
        raise SettingsError(
            f"no transaction lies in the stretch to judge: all lie from {first} to {last} UTC; change "
            "--evaluate-from or --evaluate-to"
        )
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fraud-worker-backtest-") as folder:
        run = WorkerRun(settings, dataset, Path(folder), explained=True, handled=handled)
        decisions = run.to_the_end(progress)
    seconds = time.perf_counter() - started_s
    declined, answered = run.alerts.declined(), run.alerts.answered()
    labelled = _reached(dataset, decisions, declined, answered)
    judged = _judged(settings, dataset, decisions, labelled, start_ms, end_ms)
    review_cost = run.model.policy.costs.review_cost
    steady_from_ms = _steady_from_ms(run.model, dataset, decisions)
    turn_ms = end_ms if steady_from_ms is None else min(max(steady_from_ms, start_ms), end_ms)
    reasons = run.alert_reasons()
    return BacktestResult(
        settings=settings,
        dataset=dataset,
        handled=handled,
        decisions=decisions,
        declined=declined,
        answered=answered,
        model=run.model,
        judged=judged,
        whole=figures.stretch(judged, review_cost, start_ms, end_ms),
        cold=figures.stretch(judged, review_cost, start_ms, turn_ms) if turn_ms > start_ms else None,
        steady=figures.stretch(judged, review_cost, turn_ms, end_ms) if turn_ms < end_ms else None,
        steady_from_ms=steady_from_ms,
        weeks=figures.weeks(judged, review_cost),
        days=figures.days(judged, review_cost),
        alert_reasons=reasons,
        costliest_misses=_costliest_misses(dataset, judged),
        true_reasons=frequent_reasons(judged, reasons, run.model.layout, fraud=True),
        false_reasons=frequent_reasons(judged, reasons, run.model.layout, fraud=False),
        explained=explained_alerts(dataset, judged, reasons, run.model, decisions.features),
        seconds=seconds,
    )


def _reached(
    dataset: Dataset, decisions: Decisions, declined: NDArray[np.bool_], answered: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return which rows' label, or answer, the worker has had by its last clock: none comes behind the file."""
    last_ms = int(decisions.clock_ms.max(initial=0))
    arrived = np.zeros(len(dataset), np.bool_)
    if dataset.label_time_ms is not None:
        arrived = dataset.has_a_say & (dataset.label_time_ms <= last_ms)
    return (arrived & ~declined) | (answered & (dataset.event_time_ms + ANSWERED_AFTER_MS <= last_ms))


def _judged(
    settings: Settings,
    dataset: Dataset,
    decisions: Decisions,
    labelled: NDArray[np.bool_],
    start_ms: int,
    end_ms: int,
) -> Judged:
    times_ms = dataset.event_time_ms
    row = np.flatnonzero(decisions.decided & (times_ms >= start_ms) & (times_ms < end_ms))
    flags = decisions.flags[row]
    decider = (flags & Flag.DECIDER).astype(np.uint8)
    loss, probability = decisions.loss[row], decisions.probability[row]
    known = dataset.truth_known[row]
    fraud = np.zeros(len(row), np.bool_) if dataset.is_fraud is None else dataset.is_fraud[row] & known
    # As the alert has it: a product of a 32-bit probability.
    expected_loss = np.where(decider == Decider.ONLINE, probability.astype(np.float64) * loss, np.nan)
    window_ms = round(settings.costs.case_window_hours * 3_600_000)
    counted_ms = np.minimum(times_ms[row], decisions.clock_ms[row])
    alerted, case = (flags & Flag.ALERTED) != 0, _case_numbers(dataset, row, counted_ms // window_ms)
    charged = figures.charge(case, alerted, known)
    return Judged(
        row=row,
        event_time_ms=times_ms[row],
        fraud=fraud,
        truth_known=known,
        labelled=labelled[row],
        amount=dataset.amount[row],
        loss=loss,
        score=decisions.score[row],
        probability=probability,
        expected_loss=expected_loss,
        threshold=decisions.threshold[row],
        decider=decider,
        alerted=alerted,
        opens_case=(flags & Flag.OPENS_CASE) != 0,
        case=case,
        charged=charged.of_alerts,
        charged_for_all=charged.of_all,
    )


def _case_numbers(dataset: Dataset, row: NDArray[np.int64], window: NDArray[np.int64]) -> NDArray[np.int64]:
    card = dataset.card_id.dictionary_encode().indices.to_numpy()[row].astype(np.int64)
    first = int(window.min(initial=0))
    span = int(window.max(initial=0)) - first + 1
    _, number = np.unique(card * span + (window - first), return_inverse=True)
    return number.astype(np.int64)


def _steady_from_ms(model: ModelState, dataset: Dataset, decisions: Decisions) -> int | None:
    online = np.flatnonzero((decisions.flags & Flag.DECIDER) == Decider.ONLINE)
    if len(online) == 0:
        return None
    return int(dataset.event_time_ms[online[0]]) + model.policy.negatives_after_ms


def _costliest_misses(dataset: Dataset, judged: Judged) -> tuple[Miss, ...]:
    missed = np.flatnonzero(judged.fraud & ~judged.alerted)
    costliest = missed[np.argsort(-judged.loss[missed], kind="stable")[:MISSES]]
    return tuple(
        Miss(
            transaction_id=dataset.transaction_id[int(judged.row[i])].as_py(),
            event_time_ms=int(judged.event_time_ms[i]),
            amount=float(judged.amount[i]),
            loss=float(judged.loss[i]),
            decider=Decider(int(judged.decider[i])),
            probability=float(judged.probability[i]),
            expected_loss=float(judged.expected_loss[i]),
            threshold=float(judged.threshold[i]),
        )
        for i in costliest
    )
