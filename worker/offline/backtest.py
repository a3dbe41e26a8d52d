"""Runs the commit cycle over a file, without Kafka: what this worker would have decided, and at what cost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.evaluation import Evaluation, evaluate
from models.records import ModelRecord
from models.state import ModelState
from models.vocabulary import Decider, Flag
from worker.cycle.contracts import Finish, Outcome
from worker.cycle.processor import Processor
from worker.cycle.refits import Refits
from worker.identity import Hasher
from worker.offline.dataset import Dataset
from worker.offline.dataset_columns import label_columns, transaction_columns
from worker.offline.in_memory import ImmediateJobs, InboxSource, NoObserver
from worker.parameters import feature_spec, new_model, refit_plan, task_limits
from worker.partition.journal import DecisionRows
from worker.partition.task import PartitionTask, TaskState
from worker.progress import OnProgress, ignore_progress
from worker.settings.sections import Settings


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a backtest decided, n rows in the order of the data set.

    Attributes
    ----------
    score : float64 (n,)
        One ranking by decision-time scores: the online model's logit where it decided, below all of those the
        forest's score where it decided, below both the rows without a decider. NaN where not `decided`.
    flags : uint16 (n,)
    decided : bool (n,)
        False for repeats of a transaction id, which the cycle drops.
    """

    score: NDArray[np.float64]
    flags: NDArray[np.uint16]
    decided: NDArray[np.bool_]

    def share(self, decider: Decider, rows: NDArray[np.bool_]) -> float:
        """Return the share of the chosen rows that `decider` decided."""
        return float(np.mean((self.flags[rows] & Flag.DECIDER) == decider)) if rows.any() else float("nan")


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
        run = _Run(settings, dataset, Path(folder))
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


class _Run:
    """One pass of the processor, with a file as its source and memory as its log."""

    def __init__(self, settings: Settings, dataset: Dataset, folder: Path) -> None:
        self.model = new_model(settings)
        self._task = PartitionTask(0, feature_spec(settings), task_limits(settings), folder / "0")
        self._task.move_to(TaskState.RUNNING)
        self._source = _FileSource(settings, dataset)
        self._memory = _Memory(len(dataset))
        self._memory.append([self.model.lineage, self.model.policy])
        refits = Refits(refit_plan(settings), ImmediateJobs())
        tasks = {0: self._task}
        self._processor = Processor(
            settings.worker.id,
            self._source,
            self._memory,
            self._memory,
            self.model,
            tasks,
            refits,
            NoObserver(),
        )

    def to_the_end(self, progress: OnProgress) -> Decisions:
        while not self._source.exhausted:
            self._processor.run_once()
            progress(self._memory.count, len(self._memory.decisions.decided))
        return self._memory.decisions


class _FileSource(InboxSource):
    """The whole data set, which waits from the beginning."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        super().__init__(settings)
        transactions = transaction_columns(dataset, Hasher(settings.hash_key))
        self._inbox.put_transactions(transactions, [])
        self._inbox.put_labels(label_columns(dataset, transactions), [])
        self._inbox.at_end = True

    @property
    def exhausted(self) -> bool:
        return not self._inbox.transactions.waiting


class _Memory:
    """Sink and model log in one: a commit is visible at once."""

    def __init__(self, transactions: int) -> None:
        self.decisions = Decisions(
            np.full(transactions, np.nan), np.zeros(transactions, np.uint16), np.zeros(transactions, np.bool_)
        )
        self.count = 0
        self._log: list[tuple[int, ModelRecord]] = []
        self._next_offset = 0

    def append(self, records: Iterable[ModelRecord]) -> None:
        for record in records:
            self._log.append((self._next_offset, record))
            self._next_offset += 1

    def begin(self, outcomes: list[Outcome], records: list[ModelRecord], model: ModelState) -> Finish:
        del model
        for outcome in outcomes:
            if outcome.decided is not None:
                self._note(outcome.decided.rows)
        self.append(records)
        return lambda: None

    def fold_into(self, model: ModelState) -> None:
        for offset, record in self._log:
            model.fold(offset, record)
        self._log.clear()

    def _note(self, rows: DecisionRows) -> None:
        decisions, at = self.decisions, rows.offset
        decisions.score[at] = ranking_score(rows.flags, rows.logit, rows.forest_score)
        decisions.flags[at] = rows.flags
        decisions.decided[at] = True
        self.count += len(rows)


def ranking_score(
    flags: NDArray[np.uint16], logit: NDArray[np.float32], forest_score: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return one ranking of n decisions by decision-time scores, float64 (n,): see `Decisions.score`."""
    decider = flags & Flag.DECIDER
    # A forest's score lies in (0, 1) and no logit comes near -1e6: the three ranges cannot overlap.
    return np.select(
        [decider == Decider.ONLINE, decider == Decider.FOREST],
        [logit.astype(np.float64), forest_score - 1e6],
        -2e6,
    )
