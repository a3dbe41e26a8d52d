"""One commit cycle, top to bottom; the order of these steps is what the promises rest on.

::

    poll            a micro-batch of all owned partitions, cut at one event time, decoded into columns
    admit           drop repeats of a transaction id
    features        fold the batch into the cards' aggregates; read the other entities' as of the model state
    decide          score, compare with the threshold; join the cards' open cases
    settle, mature  join the labels that are due; then let silence become legit
    commit          alerts, journal, model log, dead letters and input offsets in one Kafka transaction
    fold            the model log, as far as it is visible, while the commit is on its way

Nothing is uncommitted when the cycle polls. Any exception ends the process.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import numpy as np

from models.decision import decide
from models.examples import Examples
from models.label_delay import clears_alerts
from models.ledger import LedgerDeltas, decided_deltas, summed
from models.payoff_deltas import PayoffDeltas, decided_payoffs
from models.records import Budget, Commit, Digest, EntityEvents, Evidence, ModelRecord
from models.state import ModelState
from models.threshold import histogram
from models.vocabulary import Flag
from worker.cycle.contracts import (
    Decided,
    ModelLog,
    Observer,
    Outcome,
    PartitionBatch,
    Sink,
    Source,
    StepTimes,
)
from worker.cycle.refits import Refits
from worker.partition.early_labels import RELEASED_AT_ONCE, transactions_of
from worker.partition.labelled import Labelled
from worker.partition.settling import Matured, Settling
from worker.partition.task import PartitionTask, TaskState
from worker.wire.decoder import TransactionColumns

LOOKUPS: Final = 4_000_000
"""So many times one commit may look for the transaction of a label that does not name its time in a segment: 0.1 s."""


class Processor:
    """Runs commit cycles over the owned partitions.

    Parameters
    ----------
    worker_id
        Named in every commit.
    source, sink, log
        Kafka's, or a file and memory in a backtest.
    model
        Changed by folding `log` alone.
    tasks
        By partition; the rebalance adds and removes them.
    refits
        Model parts learnt off the hot path.
    observer
        Metrics.
    """

    def __init__(
        self,
        worker_id: str,
        source: Source,
        sink: Sink,
        log: ModelLog,
        model: ModelState,
        tasks: Mapping[int, PartitionTask],
        refits: Refits,
        observer: Observer,
    ) -> None:
        self._worker_id = worker_id
        self._source = source
        self._sink = sink
        self._log = log
        self._model = model
        self._tasks = tasks
        self._refits = refits
        self._observer = observer
        self._published_digest = -1

    def run_once(self) -> list[Outcome]:
        """Run one cycle and return what it did to each partition."""
        started_s = time.perf_counter()
        batch = self._source.poll()
        polled_s = time.perf_counter()
        outcomes = [self._process(part, len(batch)) for part in batch]
        records = self._model_records(outcomes)
        decided_s = time.perf_counter()
        finish = self._sink.begin(outcomes, records, self._model) if records else None
        begun_s = time.perf_counter()
        # Earlier commits fold while this one is on its way: its decisions and their reasons need the model no more.
        self._log.fold_into(self._model)
        folded_s = time.perf_counter()
        if finish is not None:
            finish()
        times = StepTimes(
            poll_s=polled_s - started_s,
            decide_s=decided_s - polled_s,
            commit_s=begun_s - decided_s + time.perf_counter() - folded_s,
            fold_s=folded_s - begun_s,
        )
        self._observer.observe(outcomes, times)
        return outcomes

    def _process(self, part: PartitionBatch, partitions: int) -> Outcome:
        task = self._tasks[part.partition]
        if task.state is not TaskState.RUNNING:
            raise RuntimeError(f"partition {part.partition}: its task is {task.state.value}, not running")
        before = (task.clock_ms, task.provisional_sequence, task.final_sequence)
        first_sequence = task.pending.next_sequence
        decided, repeats = self._decide(task, part.transactions)
        self._move_clock(task, part)
        # Labels before silence: a label that is due keeps its decision from maturing unlabelled.
        labelled = self._apply_labels(task, decided, partitions)
        matured = self._mature(task)
        bad = self._source.take_bad(part.partition)
        after = (task.clock_ms, task.provisional_sequence, task.final_sequence)
        return Outcome(
            partition=part.partition,
            positions=self._source.positions(part.partition),
            decided=decided,
            labels=labelled.rationed.today,
            by_label=labelled.settling,
            matured=matured,
            bad=bad,
            repeats=repeats,
            first_sequence=first_sequence,
            changed=bool(decided or repeats or bad or labelled.any_moved or before != after or part.moved),
            early=labelled.set_aside,
            surplus=labelled.rationed.waiting,
            overflow=labelled.rationed.overflow,
            released=labelled.released,
        )

    def _move_clock(self, task: PartitionTask, part: PartitionBatch) -> None:
        """Let time pass where no transaction comes."""
        if part.clock_ms is not None:
            task.move_clock(part.clock_ms)
        if part.idle_ms is not None and self._model.clock_ms is not None:
            task.follow_model(self._model.clock_ms, part.idle_ms, part.first_label_ms)

    def _apply_labels(self, task: PartitionTask, decided: Decided | None, partitions: int) -> Labelled:
        """Read the labels up to the task's clock, and apply those that are due."""
        until_ms = self._source.follow_clock(task.partition, task.clock_ms)
        read, at_once = None, max(1, RELEASED_AT_ONCE // partitions)
        if not task.shelf.is_behind(until_ms, at_once):
            unnamed = LOOKUPS // partitions // max(1, task.pending.segments)
            room = task.shelf.room._replace(unnamed=unnamed)
            read = self._source.take_labels(task.partition, until_ms, room)
        just_decided = np.empty(0, np.uint64) if decided is None else transactions_of(decided.transactions)
        return task.apply_labels(read, until_ms, just_decided, at_once)

    def _mature(self, task: PartitionTask) -> Matured:
        newest_ms = _newest(self._model.newest_label_ms, task.newest_label_ms)
        silent_ms = self._source.silent_until_ms(task.partition, task.clock_ms)
        model, policy = self._model, self._model.policy
        clears = clears_alerts(model.silent_weight, model.delays, policy.negatives_after_ms)
        return task.mature(policy, newest_ms, task.shelf.silent_until_ms(silent_ms), clears_alerts=clears)

    def _decide(
        self, task: PartitionTask, transactions: TransactionColumns | None
    ) -> tuple[Decided | None, int]:
        if transactions is None:
            return None, 0
        fresh = task.admit(transactions)
        repeats = len(transactions) - len(fresh)
        if len(fresh) == 0:
            return None, repeats
        features, first_of_window = task.features(fresh, self._model)
        scores = decide(self._model, features, fresh.amount, fresh.id_hash, task.clock_after(fresh))
        scores = task.join_cases(fresh, scores, self._model.policy)
        rows = task.record(fresh, features, first_of_window, scores, self._model.policy)
        return Decided(fresh, scores, rows), repeats

    def _model_records(self, outcomes: list[Outcome]) -> list[ModelRecord]:
        """Return what this cycle adds to the model log; nothing where there is nothing to commit."""
        records: list[ModelRecord] = []
        digest = self._model.digests.latest
        news = digest if digest is not None and digest.offset > self._published_digest else None
        owner = self._tasks.get(0)
        if owner is not None and owner.state is TaskState.RUNNING and outcomes:
            records += self._refits.advance(self._model, owner)
        if records or any(outcome.changed for outcome in outcomes):
            records.insert(0, self._commit_record(outcomes, news))
            self._published_digest = news.offset if news else self._published_digest
        return records

    def _commit_record(self, outcomes: list[Outcome], digest: Digest | None) -> Commit:
        spec = self._model.lineage.spec
        settled = [one for outcome in outcomes for one in outcome.settled]
        decided = [outcome.decided for outcome in outcomes if outcome.decided is not None]
        newest: int | None = None
        for outcome in outcomes:
            newest = _newest(newest, self._tasks[outcome.partition].newest_label_ms)
        return Commit(
            worker=self._worker_id,
            clocks_ms={
                o.partition: self._tasks[o.partition].clock_ms for o in outcomes if self._has_clock(o)
            },
            newest_label_ms=newest,
            traffic=_traffic(decided, len(spec.entities)),
            evidence=Evidence.concatenate(
                [part for one in settled for part in one.evidence], hashes=1 + len(spec.entities)
            ),
            examples=Examples.concatenate(
                [part for one in settled for part in one.examples if len(part)],
                features=len(self._model.layout.names),
            ),
            ledger=_ledger(decided, settled),
            payoff=_payoff(decided, settled),
            budget=_budget(decided),
            digest=digest,
        )

    def _has_clock(self, outcome: Outcome) -> bool:
        return self._tasks[outcome.partition].has_clock


def _newest(one: int | None, other: int | None) -> int | None:
    return max((time_ms for time_ms in (one, other) if time_ms is not None), default=None)


def _traffic(decided: list[Decided], entity_count: int) -> EntityEvents:
    if not decided:
        return EntityEvents.empty(entities=entity_count)
    return EntityEvents(
        np.concatenate([one.transactions.entity_hash for one in decided]),
        np.concatenate([one.rows.counted_ms for one in decided]),
    )


def _ledger(decided: list[Decided], settled: list[Settling]) -> LedgerDeltas:
    # The clock caps the day, here as when the decision settles: a day in the far future would stay open for ever.
    days = [decided_deltas(one.rows.counted_ms) for one in decided]
    return summed(days + [part for one in settled for part in one.ledger])


def _payoff(decided: list[Decided], settled: list[Settling]) -> PayoffDeltas:
    own = [decided_payoffs(one.rows.counted_ms, one.rows.flags) for one in decided]
    return PayoffDeltas.summed(own + [part for one in settled for part in one.payoff])


def _budget(decided: list[Decided]) -> Budget:
    if not decided:
        return Budget.empty()
    flags = np.concatenate([one.rows.flags for one in decided])
    ratio = np.concatenate([one.scores.ratio for one in decided])
    rank = np.concatenate([one.scores.rank for one in decided])
    weight = np.concatenate([one.scores.forest_weight for one in decided])
    return Budget(
        # A decision that the online model did not score counts for no rate of its alerts.
        histogram(ratio, np.isfinite(ratio).astype(np.float64)),
        histogram(rank, weight),
        sum(int(np.count_nonzero(one.scores.alerted & ~one.scores.joined)) for one in decided),
        int(np.count_nonzero(flags & Flag.OPENS_CASE)),
    )
