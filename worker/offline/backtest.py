"""Runs the commit cycle over a file, without Kafka: what this worker would have decided, and at what cost."""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.evaluation import Evaluation, evaluate
from models.state import ModelState
from models.vocabulary import Decider, Flag
from worker.offline.dataset import Dataset
from worker.offline.worker_run import Decisions, WorkerRun
from worker.progress import OnProgress, ignore_progress
from worker.settings.sections import Settings


@dataclass(frozen=True, slots=True)
class BacktestResult:
    """The result of a backtest; `evaluation` covers the chosen rows whose truth is known."""

    evaluation: Evaluation
    decided_by: dict[str, float]
    label_coverage: float
    transactions_per_second: float
    transactions: int
    seconds: float
    decisions: Decisions
    model: ModelState

    def figures(self) -> dict[str, float]:
        """Return all figures by name, NaN where undefined."""
        return {
            **asdict(self.evaluation),
            **{f"decided_by_{name}": share for name, share in self.decided_by.items()},
            "label_coverage": self.label_coverage,
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
        Evaluate only transactions from the first time on and before the second; None for all.
    progress
        Called with the numbers of transactions decided so far and in all.
    """
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fraud-worker-backtest-") as folder:
        run = WorkerRun(settings, dataset, Path(folder))
        decisions = run.to_the_end(progress)
    seconds = time.perf_counter() - started_s
    event_time_ms = dataset.event_time_ms
    chosen = event_time_ms >= (evaluate_from_ms if evaluate_from_ms is not None else event_time_ms[0])
    if evaluate_to_ms is not None:
        chosen &= event_time_ms < evaluate_to_ms
    chosen &= decisions.decided
    known = chosen & _known(dataset)
    flags = decisions.flags[known]
    costs = run.model.policy.costs
    evaluation = evaluate(
        fraud=np.zeros(0, np.bool_) if dataset.is_fraud is None else dataset.is_fraud[known],
        score=decisions.score[known],
        alerted=(flags & Flag.ALERTED) != 0,
        loss=costs.loss(dataset.amount[known]),
        opens_case=(flags & Flag.OPENS_CASE) != 0,
        first_of_window=(flags & Flag.FIRST_OF_WINDOW) != 0,
        review_cost=costs.review_cost,
    )
    return BacktestResult(
        evaluation=evaluation,
        decided_by={decider.name.lower(): decisions.share(decider, chosen) for decider in Decider},
        label_coverage=float(known.sum() / max(chosen.sum(), 1)),
        transactions_per_second=len(dataset) / seconds,
        transactions=len(dataset),
        seconds=seconds,
        decisions=decisions,
        model=run.model,
    )


def _known(dataset: Dataset) -> NDArray[np.bool_]:
    if dataset.label_time_ms is None:
        return np.zeros(len(dataset), np.bool_)
    return np.asarray(dataset.label_time_ms != np.iinfo(np.int64).max)
