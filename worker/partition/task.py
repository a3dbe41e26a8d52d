"""One partition's task: the source of truth for its cards, its clock, its cases and its waiting decisions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.decision import Scores
from models.feature_layout import FeatureLayout, FeatureSpec, assemble
from models.features import CardAggregates
from models.records import Policy
from models.state import ModelState
from models.tables import LARGEST_TABLE
from models.vocabulary import MS_PER_DAY, MS_PER_MINUTE, NEVER_MS, Flag, LabelKind, Status
from worker.errors import CorruptError
from worker.partition.cases import CaseBook
from worker.partition.early_labels import RELEASED_AT_ONCE, LabelShelf, wait_for_transaction
from worker.partition.journal import DecisionRows, JournalEntry
from worker.partition.labelled import Labelled, divide
from worker.partition.pending import PendingDecisions
from worker.partition.ration import Ration
from worker.partition.repeats import NEVER_DECIDED, fresh_rows
from worker.partition.settling import Matured, Settler, Settling
from worker.wire.decoder import LabelColumns, TransactionColumns

_NO_END: Final = np.iinfo(np.int64).max
_FOREST_WINDOW_ROWS: Final = 65_536


class TaskState(Enum):
    """RESTORING ──► RUNNING ──► CLOSED, or RESTORING ──► CLOSED when the partition is lost early."""

    RESTORING = "restoring"
    RUNNING = "running"
    CLOSED = "closed"


_NEXT: Final = {
    TaskState.RESTORING: {TaskState.RUNNING, TaskState.CLOSED},
    TaskState.RUNNING: {TaskState.CLOSED},
    TaskState.CLOSED: set[TaskState](),
}


@dataclass(frozen=True, slots=True)
class TaskLimits:
    """Bounds and horizons that belong to the process, not to the model.

    Attributes
    ----------
    repeat_window
        Offsets within which a repeat of a transaction id is dropped.
    keep_ms
        How long a label can still find a decision, by the partition's clock.
    mature_rows
        How many decisions mature in one commit at most.
    orphan_after_ms
        How long, by the partition's clock, a label without a decision waits for its transaction.
    labels_times_usual
        So many times its usual number of labels a source may teach in a day.
    """

    repeat_window: int
    keep_ms: int
    mature_rows: int
    orphan_after_ms: int
    labels_times_usual: float


class PartitionTask:
    """Folds one partition's transactions in journalled order; moves with the partition.

    A live worker decides by `admit`, `features`, `join_cases` and `record`, moves the clock, and calls `apply_labels`
    and `mature`, once a commit and in that order; a restore calls `replay` with the journal entries of those calls and
    ends in the same state.

    Parameters
    ----------
    partition
        Its number.
    spec
        The declared fields.
    limits
        Bounds and horizons.
    folder
        For the waiting decisions; emptied.
    """

    def __init__(self, partition: int, spec: FeatureSpec, limits: TaskLimits, folder: Path) -> None:
        self.partition = partition
        self.state = TaskState.RESTORING
        self.clock_ms = NEVER_MS
        self.newest_label_ms: int | None = None
        self.provisional_sequence = 0
        self.final_sequence = 0
        layout = FeatureLayout.from_spec(spec)
        self.cards = CardAggregates(spec, LARGEST_TABLE)  # until the first batch: the policy bounds it
        self.pending = PendingDecisions(folder, len(spec.entities), len(layout.names))
        self.shelf = LabelShelf()
        """Labels that were read and are not due yet."""
        self.ration = Ration(limits.labels_times_usual)
        """How many labels each source has taught today, and what is usual."""
        self._settler = Settler(partition, self.pending)
        self._cases = CaseBook()
        self._window_ms = 0
        self._limits = limits
        self._first_numeric = len(layout.names) - len(spec.categorical) - len(spec.numeric)
        self._place = spec.place_columns()

    def move_to(self, state: TaskState) -> None:
        """Change the state, along the arrows of `TaskState` only.

        Raises
        ------
        CorruptError
            No arrow leads there.
        """
        if state not in _NEXT[self.state]:
            raise CorruptError(f"partition {self.partition}: {self.state.value} cannot become {state.value}")
        self.state = state
        if state is TaskState.CLOSED:
            self.pending.close()

    def admit(self, transactions: TransactionColumns) -> TransactionColumns:
        """Return the transactions without the repeats of an id on its card within the last `repeat_window` offsets."""
        if len(transactions) == 0:
            return transactions
        window = self._limits.repeat_window
        names = transactions.id_hash, transactions.id_check, transactions.card_hash
        sequence = self.pending.find(*names, min_offset=int(transactions.offsets[0]) - window)
        decided_at = np.full(len(transactions), NEVER_DECIDED, np.int64)
        seen = np.flatnonzero(sequence >= 0)
        decided_at[seen] = self.pending.column("offset", sequence[seen])
        fresh = fresh_rows(transactions, decided_at, window)
        return transactions if fresh.all() else transactions.take(np.flatnonzero(fresh))

    def features(
        self, transactions: TransactionColumns, model: ModelState
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Fold the transactions into the cards' aggregates; return their features.

        Returns
        -------
        features : float32 (n, F)
            As of just before each transaction.
        first_of_window : bool (n,)
            Whether it is the first of its card in a case window.
        """
        event_time_ms = np.minimum(transactions.event_time_ms, self._clocks_ms(transactions))
        amount = transactions.amount
        self.cards.bound(model.policy.max_cards)
        window_ms = self._case_window(model.policy.case_window_ms)
        place = self._place_of(transactions.numeric)
        cards, entities = transactions.card_hash, transactions.entity_hash
        card, first = self.cards.advance(cards, entities, event_time_ms, amount, window_ms, place)
        shared = model.shared.read(cards, entities, event_time_ms)
        matrix = assemble(
            model.layout,
            card,
            shared,
            amount,
            event_time_ms,
            transactions.numeric,
            transactions.categorical,
        )
        return matrix, first

    def join_cases(self, transactions: TransactionColumns, scores: Scores, policy: Policy) -> Scores:
        """Return the scores with alerts for those that join an open case of their card."""
        counted_ms = np.minimum(transactions.event_time_ms, self._clocks_ms(transactions))
        window_ms = self._case_window(policy.case_window_ms)
        card_hash, alerted = transactions.card_hash, scores.alerted
        return scores.joining(
            self._cases.has_case(card_hash, counted_ms, alerted, scores.may_join, window_ms)
        )

    def record(
        self,
        transactions: TransactionColumns,
        features: NDArray[np.float32],
        first_of_window: NDArray[np.bool_],
        scores: Scores,
        policy: Policy,
    ) -> DecisionRows:
        """Make journal rows of the decisions, open their cases, move the clock; the decisions wait for labels."""
        rows = DecisionRows(
            transaction_id=transactions.transaction_id,
            offset=transactions.offsets,
            event_time_ms=transactions.event_time_ms,
            clock_ms=self._clocks_ms(transactions),
            amount=transactions.amount,
            entities=np.column_stack([transactions.card_hash, transactions.entity_hash]),
            features=features,
            logit=scores.logit,
            probability=scores.probability,
            tables_logit=scores.tables_logit,
            trees_logit=scores.trees_logit,
            forest_score=scores.forest_score,
            loss=scores.loss,
            legit_weight=scores.legit_weight,
            flags=scores.flags | np.where(first_of_window, np.uint16(Flag.FIRST_OF_WINDOW), np.uint16(0)),
        )
        window_ms = self._case_window(policy.case_window_ms)
        opened = self._open_cases(rows, window_ms)
        rows.flags[opened] |= np.uint16(Flag.OPENS_CASE)
        rows.flags[:] |= self._reach(rows, window_ms)
        self._wait(rows, transactions.id_hash, transactions.id_check)
        return rows

    @property
    def has_clock(self) -> bool:
        """Whether a transaction has set the clock yet."""
        return self.clock_ms != NEVER_MS

    def clock_after(self, transactions: TransactionColumns) -> int:
        """Return the clock just after these transactions, of which there is at least one."""
        return int(self._clocks_ms(transactions)[-1])

    def move_clock(self, clock_ms: int) -> None:
        """Move the clock forward where no transaction does; an earlier time leaves it."""
        self.clock_ms = max(self.clock_ms, clock_ms)

    def follow_model(self, clock_ms: int, idle_ms: int, first_label_ms: int | None = None) -> None:
        """Move the clock of a partition that has been quiet for so long to the model's.

        A feed in bulk moves that by days in a second: labels wait as long for their transaction by the wall clock.

        Each move is an entry of the journal, which would grow by commits times quiet partitions: so the clock goes by
        whole minutes, except to a label that is due. `first_label_ms` is when the first one is that was not taken yet.
        """
        if idle_ms < self._limits.orphan_after_ms:
            clock_ms = self.shelf.before_orphans_ms(clock_ms)
        due_ms = [it for it in (first_label_ms, self.shelf.next_due_ms) if it is not None]
        if min(due_ms, default=clock_ms + 1) > clock_ms:
            clock_ms -= clock_ms % MS_PER_MINUTE
        self.move_clock(clock_ms)

    def apply_labels(
        self,
        read: LabelColumns | None,
        until_ms: int,
        decided: NDArray[np.uint64],
        at_once: int = RELEASED_AT_ONCE,
    ) -> Labelled:
        """Settle the labels that are due, and set aside what has to wait; for the parameters see `LabelShelf.sift`."""
        sifted = self.shelf.sift(read, until_ms, decided, at_once)
        rationed = divide(sifted.due, self.ration, self.shelf, self.clock_ms)
        settling = self.settle(rationed.today)
        return Labelled(sifted, rationed, settling, self._postpone(rationed.today, settling))

    def settle(self, labels: LabelColumns) -> Settling:
        """Apply the labels that are due; those whose transaction may still come are `Settling.postponed`."""
        first_try = ~wait_for_transaction(labels)
        if len(labels):
            # Capped as event times are: no later label could overrule one dated in the far future.
            capped_ms = np.minimum(labels.claim_ms, labels.label_time_ms)
            labels = replace(labels, label_time_ms=capped_ms)
            # A source of outcomes may go on while the one of frauds is dead: outcomes prove nothing of the label feed.
            verdicts_ms = capped_ms[labels.kind != LabelKind.OUTCOME]
            if len(verdicts_ms):
                newest = int(verdicts_ms.max())
                self.newest_label_ms = max(newest, self.newest_label_ms or newest)
        settling = self._settler.apply(labels, self.clock_ms)
        if self._limits.orphan_after_ms and len(settling.unknown):
            rows = self.shelf.fitting(labels, settling.unknown[first_try[settling.unknown]])
            settling.postponed, settling.orphans = rows, np.setdiff1d(settling.orphans, rows)
        return settling

    def _postpone(self, labels: LabelColumns, settling: Settling) -> LabelColumns:
        """Set the postponed labels aside, and return them as they are journalled.

        They are applied when their transaction is decided, or else when their time is over: it is after the label's own
        time, which shows that they have waited.
        """
        if not len(settling.postponed):
            return LabelColumns.none()
        until_ms = self.clock_ms + self._limits.orphan_after_ms
        # Never at the very beginning of a day: then it would count as too many for the day before.
        return self.shelf.set_aside(labels.take(settling.postponed), until_ms + (until_ms % MS_PER_DAY == 0))

    def mature(
        self,
        policy: Policy,
        newest_label_ms: int | None,
        silent_until_ms: int = _NO_END,
        *,
        clears_alerts: bool,
    ) -> Matured:
        """Let silence become legit, up to the clock but not beyond a dead label feed.

        Parameters
        ----------
        policy
            The horizons in force.
        newest_label_ms
            Time of the newest label that any worker has seen; before the first one nothing matures.
        silent_until_ms
            Labels up to here have been applied.
        clears_alerts
            Whether silence on an alert is evidence that its card and entities are legit.
        """
        if newest_label_ms is None:
            return Matured()
        now_ms = min(self.clock_ms, newest_label_ms + policy.max_silence_ms, silent_until_ms)
        rows = self._limits.mature_rows
        start = self.provisional_sequence
        end = min(self.pending.next_sequence, start + rows)
        self.provisional_sequence = self.pending.mature_until(start, end, now_ms - policy.negatives_after_ms)
        provisional, clears_alerts = Settling(), clears_alerts and policy.silence_is_legit
        if policy.silence_is_legit:
            provisional = self._settler.mature(
                start, self.provisional_sequence, self.clock_ms, clears_alerts=clears_alerts
            )
        start = self.final_sequence
        end = min(self.provisional_sequence, start + rows)
        self.final_sequence = self.pending.mature_until(start, end, now_ms - policy.horizon_ms)
        final = self._settler.finalise(start, self.final_sequence)
        self._forget()
        return Matured(provisional, final, clears_alerts)

    def replay(self, entry: JournalEntry, id_hash: NDArray[np.uint64], id_check: NDArray[np.uint64]) -> None:
        """Fold one journal entry without deciding anything again.

        Parameters
        ----------
        entry
            The next one of this partition.
        id_hash, id_check : uint64 (n,)
            Hashes of its transaction ids.

        Raises
        ------
        CorruptError
            The entry does not follow the last one.
        """
        header, rows = entry.header, entry.rows
        if header.first_sequence != self.pending.next_sequence:
            raise CorruptError(
                f"journal of partition {self.partition}: an entry begins at decision {header.first_sequence} "
                f"where {self.pending.next_sequence} was due: records of topics.decisions are missing"
            )
        if len(rows):
            cards = np.ascontiguousarray(rows.entities[:, 0])
            self.cards.bound(header.max_cards)
            window_ms = self._case_window(header.case_window_ms)
            place = self._place_of(rows.features[:, self._first_numeric :])
            self.cards.advance(cards, rows.entities[:, 1:], rows.counted_ms, rows.amount, window_ms, place)
            self._open_cases(rows, window_ms)
            self._reach(rows, window_ms)
            self._wait(rows, id_hash, id_check)
        self.clock_ms = max(self.clock_ms, header.clock_ms)
        self.shelf.replay(entry.early, entry.released)
        self.pending.write_truth(entry.settlements)
        if header.silence_is_legit:
            self._settler.replay_mature(
                self.provisional_sequence,
                header.provisional_sequence,
                self.clock_ms,
                clears_alerts=header.clears_alerts,
            )
        self._settler.replay_finalise(self.final_sequence, header.final_sequence)
        self.provisional_sequence, self.final_sequence = header.provisional_sequence, header.final_sequence
        self.newest_label_ms = header.newest_label_ms
        self.ration.replay(header.taught)
        self._forget()

    @property
    def waiting(self) -> int:
        """How many decisions are not final yet."""
        return self.pending.next_sequence - self.final_sequence

    def feed_halted(self, model: ModelState) -> bool:
        """Return whether the label feed has been silent for so long that nothing matures.

        Before the first label, the time counts from when the first decision should have matured.
        """
        newest, policy = model.newest_label_ms, model.policy
        if newest is None:
            if self.pending.next_sequence == 0:
                return False
            newest = self.pending.first_clock_ms + policy.negatives_after_ms
        return self.clock_ms > newest + policy.max_silence_ms

    def believed_legit(self, count: int) -> NDArray[np.float32]:
        """Return the features of recent decisions, evenly spread, none alerted or fraud; float32 (at most count, F)."""
        newest = self.pending.newest(_FOREST_WINDOW_ROWS)
        suspect = (self.pending.column("flags", newest) & Flag.ALERTED) != 0
        suspect |= self.pending.column("status", newest) == Status.FRAUD
        kept = newest[~suspect]
        if len(kept) > count:
            kept = kept[np.linspace(0, len(kept) - 1, count).astype(np.int64)]
        return np.asarray(self.pending.column("features", kept), np.float32)

    def _clocks_ms(self, transactions: TransactionColumns) -> NDArray[np.int64]:
        """Return the partition's clock just after each transaction, int64 (n,)."""
        return np.maximum.accumulate(np.maximum(transactions.claim_ms, self.clock_ms))

    def _place_of(self, numeric: NDArray[Any]) -> NDArray[np.float32] | None:
        """Return latitude and longitude among the numeric fields, float32 (n, 2), or None where none are declared."""
        if not len(self._place):
            return None
        with np.errstate(over="ignore"):
            return np.asarray(numeric[:, self._place], np.float32)

    def _case_window(self, window_ms: int) -> int:
        """Set the length of a case window; windows of another length have other numbers, so all cases begin anew."""
        if window_ms != self._window_ms:
            self.cards.forget_windows()
            self._cases, self._window_ms = CaseBook(), window_ms
        return window_ms

    def _open_cases(self, rows: DecisionRows, window_ms: int) -> NDArray[np.bool_]:
        alerted = (rows.flags & Flag.ALERTED) != 0
        return self._cases.open(rows.entities[:, 0], rows.counted_ms, alerted, window_ms)

    def _reach(self, rows: DecisionRows, window_ms: int) -> NDArray[np.uint16]:
        card_hash = np.ascontiguousarray(rows.entities[:, 0])
        return self.cards.reach(card_hash, rows.counted_ms, rows.flags, window_ms)

    def _forget(self) -> None:
        """Drop old decisions, by journalled values alone: a restore drops the same ones."""
        clock_ms, offset = self.clock_ms - self._limits.keep_ms, self.pending.last_offset
        self.pending.drop_before(clock_ms, self.final_sequence, offset - self._limits.repeat_window)

    def _wait(self, rows: DecisionRows, id_hash: NDArray[np.uint64], id_check: NDArray[np.uint64]) -> None:
        if len(rows):
            self.pending.append(rows, id_hash, id_check)
            self.clock_ms = int(rows.clock_ms[-1])
