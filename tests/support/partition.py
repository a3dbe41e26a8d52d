"""Transactions and labels of one partition as columns, made up, and what a task is given beside them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.decision import decide
from models.label_delay import clears_alerts
from models.records import Policy
from models.state import ModelState
from models.vocabulary import MS_PER_DAY, LabelKind
from tests.support import model_log
from tests.support.model_log import ENTITIES, FEATURES, LINEAGE, SPEC, START_MS
from tests.support.scripted_blend import scripted
from worker.identity import Hasher
from worker.partition.early_labels import RELEASED_AT_ONCE, transactions_of
from worker.partition.journal import DecisionRows, JournalEntry, JournalHeader, JournalParts
from worker.partition.record_layouts import decode_journal, encode_journal
from worker.partition.settling import Settling
from worker.partition.task import PartitionTask, TaskLimits, TaskState
from worker.wire.decoder import LabelColumns, TransactionColumns

HASHER = Hasher((1, 2))
HOUR_MS = MS_PER_DAY // 24
SKEW_MS = 5 * 60_000
LIMITS = TaskLimits(
    repeat_window=100,
    keep_ms=60 * MS_PER_DAY,
    mature_rows=1_000,
    orphan_after_ms=0,
    labels_times_usual=10.0,
)


POLICY = dataclasses.replace(
    model_log.POLICY,
    costs=dataclasses.replace(model_log.POLICY.costs, alert_budget_cases_per_day=None),
    negatives_after_ms=10 * HOUR_MS,
    horizon_ms=30 * HOUR_MS,
    max_silence_ms=8 * HOUR_MS,
)
"""Of alerts without a budget, and of silence that speaks within days."""


def new_task(folder: Path, limits: TaskLimits = LIMITS, partition: int = 0) -> PartitionTask:
    return PartitionTask(partition, SPEC, limits, folder)


def running_task(folder: Path, limits: TaskLimits = LIMITS) -> PartitionTask:
    task = new_task(folder, limits)
    task.move_to(TaskState.RUNNING)
    return task


def transactions(
    ids: Sequence[str],
    event_time_ms: Sequence[int] | NDArray[np.int64] | None = None,
    *,
    cards: Sequence[str] | None = None,
    amount: Sequence[float] | NDArray[np.float64] | None = None,
    timestamps_ms: Sequence[int] | NDArray[np.int64] | None = None,
    offsets: Sequence[int] | NDArray[np.int64] | None = None,
    first_offset: int = 0,
) -> TransactionColumns:
    """Transactions an hour apart, unless `hours` says otherwise, stamped by Kafka when they happened."""
    count = len(ids)
    times = (
        START_MS + HOUR_MS * np.arange(count) if event_time_ms is None else np.array(event_time_ms, np.int64)
    )
    at = first_offset + np.arange(count) if offsets is None else np.array(offsets, np.int64)
    names = pa.array(ids, pa.string())
    card_ids = pa.array([f"card of {one}" for one in ids] if cards is None else cards, pa.string())
    id_hash = HASHER.entities(names)
    stamps = times if timestamps_ms is None else np.array(timestamps_ms, np.int64)
    return TransactionColumns(
        next_offset=int(at[-1]) + 1 if count else first_offset,
        offsets=at,
        timestamps_ms=stamps,
        event_time_ms=times,
        claim_ms=np.minimum(times, stamps + SKEW_MS),
        amount=np.full(count, 100.0) if amount is None else np.array(amount, np.float64),
        transaction_id=names,
        card_id=card_ids,
        currency=None,
        id_hash=id_hash,
        id_check=HASHER.checks(names),
        card_hash=HASHER.entities(card_ids),
        entity_hash=np.column_stack(
            [1 + id_hash // np.uint64(7**it) % np.uint64(7) for it in range(ENTITIES)]
        ),
        numeric=np.column_stack([(id_hash >> np.uint64(8 * at)) % np.uint64(91) for at in range(3)]).astype(
            np.float64
        ),
        categorical=1 + id_hash[:, None] % np.uint64(3),
    )


def labels(
    *described: tuple[str, LabelKind, int],
    event_time_ms: Sequence[int] | None = None,
    timestamps_ms: Sequence[int] | None = None,
    first_offset: int = 0,
    cards: Sequence[str] | None = None,
) -> LabelColumns:
    """Labels of (transaction id, kind, label time); none names its transaction's time, unless given here."""
    count = len(described)
    names = pa.array([name for name, _, _ in described], pa.string())
    label_time_ms = np.array([time_ms for _, _, time_ms in described], np.int64)
    stamps = label_time_ms if timestamps_ms is None else np.array(timestamps_ms, np.int64)
    return LabelColumns(
        next_offset=first_offset + count,
        offsets=first_offset + np.arange(count),
        timestamps_ms=stamps,
        label_time_ms=label_time_ms,
        event_time_ms=np.full(count, -1) if event_time_ms is None else np.array(event_time_ms, np.int64),
        claim_ms=np.minimum(label_time_ms, stamps + SKEW_MS),
        source=np.zeros(count, np.uint8),
        kind=np.array([kind for _, kind, _ in described], np.uint8),
        id_hash=HASHER.entities(names),
        id_check=HASHER.checks(names),
        card_hash=HASHER.entities(
            pa.array([f"card of {name}" for name, _, _ in described] if cards is None else cards, pa.string())
        ),
        value=pa.nulls(count, pa.large_binary()),
    )


def decisions(
    ids: Sequence[str],
    *,
    first: int = 0,
    event_time_ms: NDArray[np.int64] | None = None,
    clock_ms: NDArray[np.int64] | None = None,
    flags: NDArray[np.uint16] | None = None,
) -> DecisionRows:
    """Return decisions from number `first` on, a minute apart; every column is a function of the number."""
    number = first + np.arange(len(ids))
    times = START_MS + 60_000 * number if event_time_ms is None else event_time_ms
    return DecisionRows(
        transaction_id=pa.array(ids, pa.string()),
        offset=10 * number,
        event_time_ms=times,
        clock_ms=np.maximum.accumulate(times) if clock_ms is None else clock_ms,
        amount=(number + 0.5).astype(np.float64),
        entities=(number[:, None] * 10 + np.arange(1 + ENTITIES)).astype(np.uint64),
        features=(number[:, None] + np.arange(FEATURES) / 100).astype(np.float32),
        logit=-number.astype(np.float32),
        probability=np.zeros(len(ids), np.float32),
        tables_logit=(number * 3).astype(np.float32),
        trees_logit=(number * 4).astype(np.float32),
        forest_score=np.full(len(ids), np.nan, np.float32),
        loss=(number + 0.25).astype(np.float64),
        legit_weight=(number % 3).astype(np.float32),
        flags=(number % 7 << 2).astype(np.uint16) if flags is None else flags,
    )


def deciding_model(policy: Policy = POLICY) -> ModelState:
    model = ModelState(LINEAGE, policy, model_log.DIGEST_EVERY)
    model.fold(0, model_log.commit(np.random.default_rng(1), 50))
    model.online, model.frauds_learnt = (
        scripted(lambda X: np.where(X[:, 0] > 50, 3.0, -9.0)),
        policy.min_frauds,
    )
    return model


@dataclasses.dataclass
class Commit:
    """What one commit did."""

    rows: DecisionRows
    settled: list[Settling]
    entry: JournalEntry
    overflow: LabelColumns = dataclasses.field(default_factory=LabelColumns.none)


def run(
    task: PartitionTask,
    model: ModelState,
    came: TransactionColumns,
    labelled: LabelColumns | None = None,
    quiet_until_ms: int | None = None,
    at_once: int = RELEASED_AT_ONCE,
) -> Commit:
    """One commit, in the order of the processor's cycle."""
    first_sequence = task.pending.next_sequence
    fresh = task.admit(came)
    rows = DecisionRows.empty(**task.pending.widths)
    if len(fresh):
        features, first = task.features(fresh, model)
        scores = decide(model, features, fresh.amount, fresh.id_hash, task.clock_after(fresh))
        scores = task.join_cases(fresh, scores, model.policy)
        rows = task.record(fresh, features, first, scores, model.policy)
    if quiet_until_ms is not None:
        task.move_clock(quiet_until_ms)
    decided = transactions_of(fresh) if len(fresh) else np.empty(0, np.uint64)
    labels = task.apply_labels(labelled, task.clock_ms, decided, at_once)
    matured = task.mature(
        model.policy,
        task.newest_label_ms,
        task.shelf.silent_until_ms(task.clock_ms),
        clears_alerts=clears_alerts(model.silent_weight, model.delays, model.policy.negatives_after_ms),
    )
    header = JournalHeader(
        worker="w", lineage=model.lineage.id, model_version=model.version, partition=0, partitions=1,
        next_transaction_offset=came.next_offset, next_label_offset=0, clock_ms=task.clock_ms,
        case_window_ms=model.policy.case_window_ms, first_sequence=first_sequence,
        provisional_sequence=task.provisional_sequence,
        final_sequence=task.final_sequence, newest_label_ms=task.newest_label_ms,
        repeats=len(came) - len(fresh), bad_records=0, silence_is_legit=model.policy.silence_is_legit,
        clears_alerts=matured.clears_alerts, max_cards=model.policy.max_cards, taught=task.ration.numbers(),
    )  # fmt: skip
    settled = [labels.settling, matured.provisional, matured.final]
    entry = JournalEntry(header, rows, labels.settling.settlements, labels.set_aside, labels.released)
    return Commit(rows, settled, entry, labels.rationed.overflow)


def replayed(folder: Path, entries: list[JournalEntry], limits: TaskLimits) -> PartitionTask:
    """A task restored from what was journalled, through the codec."""
    task = new_task(folder, limits)
    for entry in entries:
        pieces = [decode_journal(*payload) for payload in encode_journal(entry)]
        parts = JournalParts()
        for part, _ in pieces:
            parts.take(part)
        header = pieces[-1][1]
        assert header is not None
        again = parts.entry(header, task.pending.widths)
        ids = again.rows.transaction_id
        task.replay(again, HASHER.entities(ids), HASHER.checks(ids))
    task.move_to(TaskState.RUNNING)
    return task
