"""One run of the worker's cycle over a data set: every decision it makes, and the model at moments of interest."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns, Wide
from models.explanation import REASONS, Explanations, explain
from models.records import ModelRecord
from models.state import ModelState
from models.vocabulary import MS_PER_DAY, Decider, Flag
from worker.cycle.contracts import Decided, Finish, Outcome, PartitionBatch
from worker.cycle.processor import Processor
from worker.cycle.refits import RefitKind, Refits
from worker.identity import Hasher
from worker.offline.alert_handling import AS_THE_FILE_SAYS, AlertHandling, AlertShares
from worker.offline.dataset import Dataset
from worker.offline.dataset_columns import label_columns, transaction_columns
from worker.offline.in_memory import ImmediateJobs, InboxSource, NoObserver
from worker.parameters import feature_spec, new_model, refit_plan, task_limits
from worker.partition.early_labels import Room
from worker.partition.task import PartitionTask, TaskState
from worker.progress import OnProgress, ignore_progress
from worker.settings.sections import Settings
from worker.wire.decoder import LabelColumns


@dataclass(frozen=True, slots=True)
class Decisions(Columns):
    """What the worker decided on a data set, n rows in the order of the data set.

    All columns but `decided` and `threshold` are as the journal has them. Where `decided` is false, they are 0 or NaN.

    Attributes
    ----------
    decided : bool (n,)
        False for repeats of a transaction id, which the cycle drops.
    clock_ms : int64 (n,)
    features : float32 (n, F)
    logit, probability, forest_score : float32 (n,)
    loss : float64 (n,)
    flags : uint16 (n,)
    threshold : float64 (n,)
        Alerted from here on: an expected loss (online model), or a forest's score times amount (forest). Inf where the
        decider alerted on nothing, NaN without a decider.
    """

    decided: NDArray[np.bool_]
    clock_ms: NDArray[np.int64]
    features: Annotated[NDArray[np.float32], Wide("features")]
    logit: NDArray[np.float32]
    probability: NDArray[np.float32]
    forest_score: NDArray[np.float32]
    loss: NDArray[np.float64]
    flags: NDArray[np.uint16]
    threshold: NDArray[np.float64]

    @classmethod
    def undecided(cls, count: int, feature_count: int) -> Decisions:
        """Return `count` rows without a decision."""
        widths = {"features": feature_count}
        columns = {
            name: np.full(
                it.shape(count, widths), np.nan if it.dtype.kind == "f" and name != "loss" else 0, it.dtype
            )
            for name, it in cls.layout().items()
        }
        return cls(**columns)

    @property
    def score(self) -> NDArray[np.float64]:
        """One ranking by decision-time scores, float64 (n,); NaN where not `decided`.

        The online model's logit where it decided, below all of those the forest's score where it decided, below both
        the rows without a decider.
        """
        return np.where(self.decided, ranking_score(self.flags, self.logit, self.forest_score), np.nan)

    def share(self, decider: Decider, rows: NDArray[np.bool_]) -> float:
        """Return the share of the chosen rows that `decider` decided; NaN where none is chosen."""
        return float(np.mean((self.flags[rows] & Flag.DECIDER) == decider)) if rows.any() else float("nan")


@dataclass(frozen=True, slots=True)
class AlertReasons:
    """The reasons of the k alerts of a run, as the alerts topic would have them.

    Attributes
    ----------
    row : int64 (k,)
        Row of the data set, ascending.
    why
        k rows.
    """

    row: NDArray[np.int64]
    why: Explanations


class Moment(NamedTuple):
    """Looks at the model once, before the batch that reaches a time: nothing from then on is decided or learnt.

    To cut that batch would move all later ones, and with them what the worker knows when it decides.
    """

    time_ms: int
    look: Callable[[ModelState], None]


class WorkerRun:
    """One pass of the processor, with a data set as its source and memory as its log.

    Parameters
    ----------
    settings
        Those of a live worker.
    dataset
        In order of event time; each label arrives at its time.
    folder
        For the waiting decisions.
    explained
        Keep the reasons of the alerts.
    handled
        What people do with the alerts.
    """

    def __init__(
        self,
        settings: Settings,
        dataset: Dataset,
        folder: Path,
        *,
        explained: bool = False,
        handled: AlertShares = AS_THE_FILE_SAYS,
    ) -> None:
        self.model = new_model(settings)
        self.generations_cpu_s: list[float] = []
        """The CPU time that each generation took to make, s."""
        self._task = PartitionTask(0, feature_spec(settings), task_limits(settings), folder / "0")
        self._task.move_to(TaskState.RUNNING)
        self._memory = _Memory(len(dataset), len(self.model.layout.names), explained=explained)
        self._source = _DatasetSource(settings, dataset, handled, self._memory.decisions)
        self._memory.append([self.model.lineage, self.model.policy])
        self._processor = Processor(
            settings.worker.id,
            self._source,
            self._memory,
            self._memory,
            self.model,
            {0: self._task},
            Refits(refit_plan(settings), ImmediateJobs(), self._refitted),
            NoObserver(),
        )

    def to_the_end(self, progress: OnProgress = ignore_progress, moments: Sequence[Moment] = ()) -> Decisions:
        """Run the cycle until every transaction is decided; look at the model at the moments, ascending in time."""
        waiting = deque(moments)
        while (reaches_ms := self._source.reaches_ms()) is not None:
            while waiting and waiting[0].time_ms <= reaches_ms:
                waiting.popleft().look(self.model)
            self._processor.run_once()
            progress(self._memory.count, len(self._memory.decisions))
        for moment in waiting:
            moment.look(self.model)
        return self._memory.decisions

    def alert_reasons(self) -> AlertReasons:
        """Return the reasons of the alerts so far; none unless the run keeps them."""
        return self._memory.alert_reasons()

    @property
    def alerts(self) -> AlertHandling:
        """What people did with the alerts so far."""
        return self._source.alerts

    def _refitted(self, kind: RefitKind, cpu_s: float) -> None:
        if kind == "generation":
            self.generations_cpu_s.append(cpu_s)


_QUIET_MS: Final = MS_PER_DAY
_QUIET_STEP_MS: Final = 3_600_000


class _DatasetSource(InboxSource):
    """The whole data set, which waits from the beginning.

    Where it has no transaction for more than a day, as where all of a month bear one date, the clock goes on without
    any: traffic that the file leaves out would move it. So labels and silence are learnt when they come, rather than
    beside the next transactions, which would be decided without them.
    """

    def __init__(
        self, settings: Settings, dataset: Dataset, handled: AlertShares, decisions: Decisions
    ) -> None:
        super().__init__(settings)
        transactions = transaction_columns(dataset, Hasher(settings.hash_key))
        self.alerts = AlertHandling(dataset, transactions, handled, decisions.flags)
        self._inbox.put_transactions(transactions, [], are_last=True)
        self._inbox.put_labels(label_columns(dataset, transactions), [])
        self._inbox.at_end = True
        self._horizon_ms = round(settings.labels.horizon_days * MS_PER_DAY)
        self._last_ms: int | None = None
        """Event time of the last transaction taken."""
        self._clock_ms = 0

    def poll(self) -> list[PartitionBatch]:
        """Cut a batch of the waiting rows, or let the clock of a quiet time go on by an hour."""
        step_ms = self._quiet_step_ms()
        if step_ms is not None:
            return [PartitionBatch(0, None, clock_ms=step_ms)]
        batch = super().poll()
        taken = batch[0].transactions
        if taken is not None and len(taken):
            self._last_ms = int(taken.claim_ms[-1])
        return batch

    def reaches_ms(self) -> int | None:
        """Return the event time that the next batch reaches; None where nothing waits."""
        step_ms = self._quiet_step_ms()
        return super().reaches_ms() if step_ms is None else step_ms

    def follow_clock(self, partition: int, clock_ms: int) -> int:
        """Return up to when labels are due, and note the clock."""
        self._clock_ms = clock_ms
        return super().follow_clock(partition, clock_ms)

    def _quiet_step_ms(self) -> int | None:
        """Return where the clock goes without a transaction; None where one comes first, or soon enough."""
        due_ms = self._inbox.transactions.due_ms
        if self._last_ms is None or not len(due_ms) or due_ms[0] - self._last_ms <= _QUIET_MS:
            return None
        step_ms = self._clock_ms + _QUIET_STEP_MS
        # By then silence has spoken of all decisions for good: a wrong date does not take decades.
        until_ms = min(int(due_ms[0]), self._last_ms + self._horizon_ms)
        return step_ms if step_ms < until_ms else None

    def take_labels(self, partition: int, until_ms: int, room: Room) -> LabelColumns | None:
        """Take labels up to the last one that is due, and what people did with the alerts of the last batch."""
        due = super().take_labels(partition, until_ms, room)
        return due if due is None else self.alerts.apply(due, until_ms, self._inbox.transactions.next_offset)

    def silent_until_ms(self, partition: int, clock_ms: int) -> int:
        """Return the clock, or just before the first label that is due by the clock and was not taken or handed on."""
        return self.alerts.silent_until_ms(super().silent_until_ms(partition, clock_ms))


class _Memory:
    """Sink and model log in one: a commit is visible at once."""

    def __init__(self, transactions: int, features: int, *, explained: bool) -> None:
        self.decisions = Decisions.undecided(transactions, features)
        self.count = 0
        self._log: list[tuple[int, ModelRecord]] = []
        self._next_offset = 0
        self._explained = explained
        self._reasons: list[tuple[NDArray[np.int64], Explanations]] = []

    def append(self, records: Iterable[ModelRecord]) -> None:
        for record in records:
            self._log.append((self._next_offset, record))
            self._next_offset += 1

    def begin(self, outcomes: list[Outcome], records: list[ModelRecord], model: ModelState) -> Finish:
        for outcome in outcomes:
            if outcome.decided is not None:
                self._note(outcome.decided, model)
        self.append(records)
        return lambda: None

    def fold_into(self, model: ModelState) -> None:
        for offset, record in self._log:
            model.fold(offset, record)
        self._log.clear()

    def alert_reasons(self) -> AlertReasons:
        rows = [row for row, _ in self._reasons]
        why = Explanations.concatenate([why for _, why in self._reasons], reasons=REASONS)
        return AlertReasons(np.concatenate([np.zeros(0, np.int64), *rows]), why)

    def _note(self, decided: Decided, model: ModelState) -> None:
        # The offset of a transaction is its row in the data set.
        rows, scores = decided.rows, decided.scores
        self.decisions.decided[rows.offset] = True
        for name in _JOURNALLED:
            getattr(self.decisions, name)[rows.offset] = getattr(rows, name)
        decider = rows.flags & Flag.DECIDER
        by_forest = np.where(decider == Decider.FOREST, scores.forest_cut, np.nan)
        by_rule = scores.online_threshold * model.policy.costs.review_cost
        self.decisions.threshold[rows.offset] = np.where(decider == Decider.ONLINE, by_rule, by_forest)
        self.count += len(rows)
        alerts = np.flatnonzero(scores.alerted) if self._explained else np.zeros(0, np.int64)
        if len(alerts):
            why = explain(model, rows.features[alerts], rows.flags[alerts])
            self._reasons.append((rows.offset[alerts], why))


_JOURNALLED: Final = [name for name in Decisions.layout() if name not in ("decided", "threshold")]


def ranking_score(
    flags: NDArray[np.uint16], logit: NDArray[np.float32], forest_score: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return one ranking of n decisions by decision-time scores, float64 (n,): see `Decisions.score`."""
    decider = flags & Flag.DECIDER
    # A forest's score lies in (0, 1) and no logit comes near -1e6: the three ranges cannot overlap. Near -1e6 32 bits
    # count in sixteenths.
    return np.select(
        [decider == Decider.ONLINE, decider == Decider.FOREST],
        [logit.astype(np.float64), forest_score.astype(np.float64) - 1e6],
        -2e6,
    )
