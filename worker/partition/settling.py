"""What labels and silence do to the waiting decisions of one partition, and what of it goes into the model log."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples, Verdict
from models.labels import LabelResult, apply_labels
from models.ledger import LedgerDeltas, Truth, settled_deltas
from models.payoff_deltas import PayoffDeltas, settled_payoffs
from models.records import Evidence
from models.vocabulary import Flag, LabelEffect, Status
from worker.partition.id_index import ANOTHER_CARD, NOWHERE
from worker.partition.journal import Settlements
from worker.partition.pending import PendingDecisions, Waiting
from worker.wire.decoder import LabelColumns

_SETTLED = np.array([Status.FRAUD, Status.LEGIT, Status.FINAL_LEGIT, Status.UNRESOLVED], np.uint8)
_OPEN = np.array([Status.WAITING, Status.UNRESOLVED], np.uint8)
"""No verdict is known, and silence has not become one."""
_TRUTH = np.zeros(len(Status), np.uint8)
_TRUTH[[Status.FRAUD, Status.LEGIT, Status.FINAL_LEGIT, Status.UNRESOLVED]] = [
    Truth.FRAUD,
    Truth.LEGIT,
    Truth.LEGIT,
    Truth.UNRESOLVED,
]
SEQUENCE_BITS = 48


@dataclass(slots=True)
class Settling:
    """What labels, or silence, settled in one commit of one partition.

    Attributes
    ----------
    settlements
        For the journal; silence leaves none, a restore repeats it from the header.
    evidence, examples, ledger, payoff
        For the model log.
    label_flags, label_effects, label_truth : uint16, uint8, bool (m,)
        Of each label that found a decision: the decision's flags, the `LabelEffect`, whether it is a fraud after it.
    label_loss : float64 (m,)
        Cost of missing each labelled decision.
    label_delay_ms : int64 (m,)
        From the transaction to its label.
    orphans : int64 (k,)
        Rows of the labels that found no decision, or none that they can reverse; with those of another card.
    wrong_card : int64 (j,)
        Rows of the orphans whose decision is of another card.
    unknown : int64 (u,)
        Rows of the labels whose transaction has not been decided.
    postponed : int64 (p,)
        Rows of those that wait for it; they are no orphans yet.
    provisionally_legit, finally_legit, unresolved
        How many decisions silence settled for now, and for good.
    """

    settlements: Settlements = field(default_factory=Settlements.empty)
    evidence: list[Evidence] = field(default_factory=list)
    examples: list[Examples] = field(default_factory=list)
    ledger: list[LedgerDeltas] = field(default_factory=list)
    payoff: list[PayoffDeltas] = field(default_factory=list)
    label_flags: NDArray[np.uint16] = field(default_factory=lambda: np.empty(0, np.uint16))
    label_effects: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    label_truth: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, np.bool_))
    label_loss: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    label_delay_ms: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    orphans: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    wrong_card: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    unknown: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    postponed: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    provisionally_legit: int = 0
    finally_legit: int = 0
    unresolved: int = 0


@dataclass(frozen=True, slots=True)
class Matured:
    """What silence settled in one commit of one partition.

    Attributes
    ----------
    provisional
        Decisions that became provisionally legit.
    final
        Decisions that became finally legit or unresolved.
    clears_alerts
        Whether silence on an alert was legit evidence.
    """

    provisional: Settling = field(default_factory=Settling)
    final: Settling = field(default_factory=Settling)
    clears_alerts: bool = False


class Settler:
    """Applies labels and silence to one partition's waiting decisions.

    Parameters
    ----------
    partition
        Part of an example's key.
    pending
        The decisions; this class and a restore alone change their truth.
    """

    def __init__(self, partition: int, pending: PendingDecisions) -> None:
        self._partition = partition
        self._pending = pending
        self._silent: list[range] = []
        """Silent alerts of these sequence numbers count as unanswered: those for which silence has meant legit."""

    def apply(self, labels: LabelColumns, clock_ms: int) -> Settling:
        """Join labels with their decisions and apply the label table (`models.labels.apply_labels`).

        Parameters
        ----------
        labels
            Those due by the clock.
        clock_ms
            The partition's clock: the time at which the model learns them.
        """
        if len(labels) == 0:
            return Settling()
        sequence = self._pending.find(labels.id_hash, labels.id_check, labels.card_hash, labels.event_time_ms)
        unknown, wrong_card = np.flatnonzero(sequence == NOWHERE), np.flatnonzero(sequence == ANOTHER_CARD)
        matched = np.flatnonzero(sequence >= 0)
        distinct, position = np.unique(sequence[matched], return_inverse=True)
        truth = self._pending.read_truth(distinct)
        result = apply_labels(truth, position, labels.kind[matched], labels.label_time_ms[matched], clock_ms)
        settlements = Settlements(
            distinct, truth.status, truth.acted, truth.label_time_ms, truth.learnt_at_ms
        )
        self._pending.write_truth(settlements)
        waiting = self._pending.read(sequence[matched])
        settling = self._learnt(waiting, result, clock_ms)
        settling.payoff.append(_moved_payoff(waiting, result, self._silent))
        settling.settlements = settlements
        orphaned = matched[result.effect == LabelEffect.ORPHAN]
        settling.orphans = np.sort(np.concatenate([np.flatnonzero(sequence < 0), orphaned]))
        settling.wrong_card, settling.unknown = wrong_card, unknown
        settling.label_delay_ms = labels.label_time_ms[matched] - waiting.event_time_ms
        return settling

    def mature(self, start: int, stop: int, clock_ms: int, *, clears_alerts: bool) -> Settling:
        """Make silence on the decisions `start` to `stop` provisionally legit, where no one acted.

        A silent alert stays as it is, but becomes an example of its own kind: what it teaches, the model measures.

        Parameters
        ----------
        start, stop
            Sequence numbers, `stop` exclusive.
        clock_ms
            The partition's clock.
        clears_alerts
            Whether silent alerts are legit evidence: else entities whose payments alert would keep their frauds alone.
        """
        moved, silent = self.replay_mature(start, stop, clock_ms, clears_alerts=clears_alerts)
        settling = Settling(provisionally_legit=len(moved))
        if len(moved):
            waiting = self._pending.read(moved)
            settling.evidence.append(_evidence(waiting, 0, 1, np.full(len(moved), clock_ms)))
            settling.payoff.append(_payoff(waiting, case=1))
            label, weight = np.full(len(moved), Verdict.SILENT, np.uint8), waiting.legit_weight
            settling.examples.append(self._examples(waiting, weight > 0, label, weight, clock_ms))
        if len(silent):
            waiting = self._pending.read(silent)
            settling.payoff.append(_payoff(waiting, silent=1))
            if clears_alerts:
                settling.evidence.append(_evidence(waiting, 0, 1, np.full(len(silent), clock_ms)))
            label, weight = np.full(len(silent), Verdict.ALERTED, np.uint8), np.ones(len(silent), np.float32)
            settling.examples.append(self._examples(waiting, weight > 0, label, weight, clock_ms))
        return settling

    def finalise(self, start: int, stop: int) -> Settling:
        """Make silence on the decisions `start` to `stop` finally legit; what still waits becomes unresolved."""
        legit, unresolved = self.replay_finalise(start, stop)
        settling = Settling(finally_legit=len(legit), unresolved=len(unresolved))
        for moved, truth in ((legit, Truth.LEGIT), (unresolved, Truth.UNRESOLVED)):
            if len(moved):
                waiting = self._pending.read(moved)
                settled = np.full(len(moved), truth, np.uint8)
                settling.ledger.append(_ledger(waiting, settled, labelled=False, sign=1))
        return settling

    def replay_mature(
        self, start: int, stop: int, clock_ms: int, *, clears_alerts: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Do what `mature` does to the decisions; return those that moved and the silent alerts, int64 (k,)."""
        if stop > start:
            goes_on = bool(self._silent) and self._silent[-1].stop == start
            self._silent.append(range(self._silent.pop().start if goes_on else start, stop))
        silent = self._pending.unanswered(start, stop, int(Flag.ALERTED))
        if clears_alerts:
            self._pending.note_learnt(silent, clock_ms)
        moved = self._pending.mature(
            start,
            stop,
            before=Status.WAITING,
            after=Status.PROVISIONAL,
            learnt_at_ms=clock_ms,
            unless_flags=int(Flag.ALERTED),
            unless_acted=True,
        )
        return moved, silent

    def replay_finalise(self, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Do what `finalise` does to the decisions; return those now legit and those unresolved, int64 (k,)."""
        legit = self._pending.mature(start, stop, before=Status.PROVISIONAL, after=Status.FINAL_LEGIT)
        unresolved = self._pending.mature(start, stop, before=Status.WAITING, after=Status.UNRESOLVED)
        return legit, unresolved

    def _learnt(self, waiting: Waiting, result: LabelResult, clock_ms: int) -> Settling:
        """Return what the labels of these decisions change in the model log."""
        settling = Settling(label_flags=waiting.flags, label_effects=result.effect)
        settling.label_truth = result.after == Status.FRAUD
        settling.label_loss = waiting.loss
        changed = result.after != result.before
        settling.evidence = _moved_evidence(waiting, result, changed, clock_ms)
        settling.ledger = _moved_truth(waiting, result, changed)
        fraud = changed & (result.after == Status.FRAUD)
        # The model has learnt a provisionally legit decision already: a legit label repeats it.
        legit = changed & (result.after == Status.LEGIT) & (result.before != Status.PROVISIONAL)
        # Only legit decisions are sampled: a fraud, and a fraud taken back, stand for themselves alone.
        alone = fraud | (legit & (result.before == Status.FRAUD))
        weight = np.where(alone, np.float32(1), waiting.legit_weight)
        # A label that reopens a decision cancels its earlier example: the same key with weight 0.
        reopened = changed & (result.after == Status.WAITING)
        alerted = (waiting.flags & Flag.ALERTED) != 0
        # So does the first outcome of an alert whose silence has become an example.
        was_silent = alerted & _is_within(self._silent, waiting.sequence) & (result.acted_before == 0)
        answered = was_silent & (result.effect == LabelEffect.NOTED) & np.isin(result.after, _OPEN)
        chosen = (fraud | legit | reopened | answered) & (weight > 0)
        weight[reopened | answered] = 0
        label = fraud * np.uint8(Verdict.FRAUD) + (fraud & alerted) * np.uint8(Verdict.ALERTED)
        settling.examples.append(self._examples(waiting, chosen, label, weight, clock_ms))
        return settling

    def _examples(
        self,
        waiting: Waiting,
        chosen: NDArray[np.bool_],
        label: NDArray[np.uint8],
        weight: NDArray[np.float32],
        clock_ms: int,
    ) -> Examples:
        """Return the chosen decisions as examples, in the order of the labels: the last one of a decision counts."""
        rows = np.flatnonzero(chosen)
        sequence = waiting.sequence[rows]
        return Examples(
            label=label[rows],
            weight=weight[rows],
            event_time_ms=waiting.counted_ms[rows],
            key=(np.uint64(self._partition << SEQUENCE_BITS) | sequence.astype(np.uint64)),
            logit=waiting.logit[rows],
            verdict_ms=np.full(len(rows), clock_ms),
            **self._pending.columns(["features", "tables_logit", "trees_logit"], sequence),
        )


def _evidence(waiting: Waiting, frauds: int, legits: int, at_ms: NDArray[np.int64]) -> Evidence:
    count = len(waiting.sequence)
    return Evidence(waiting.entities, np.full(count, frauds, np.int8), np.full(count, legits, np.int8), at_ms)


def _moved_evidence(
    waiting: Waiting, result: LabelResult, changed: NDArray[np.bool_], clock_ms: int
) -> list[Evidence]:
    """Take the evidence of the old truth back, dated as it was learnt, and add that of the new one at the clock."""
    before, after, learnt_ms = result.before, result.after, result.learnt_before_ms
    was_fraud = changed & (before == Status.FRAUD)
    counted_legit = (before != Status.FRAUD) & (learnt_ms > 0)
    withdrawn = (result.effect == LabelEffect.NOTED) & np.isin(after, _OPEN)
    was_legit = counted_legit & (withdrawn | (changed & (after != Status.LEGIT)))
    to_fraud = changed & (after == Status.FRAUD)
    to_legit = changed & (after == Status.LEGIT) & ~counted_legit
    now_ms = np.full(len(before), clock_ms, np.int64)
    moves = (
        (was_fraud, -1, 0, learnt_ms),
        (was_legit, 0, -1, learnt_ms),
        (to_fraud, 1, 0, now_ms),
        (to_legit, 0, 1, now_ms),
    )
    return [
        _evidence(waiting.take(chosen), frauds, legits, at_ms[chosen])
        for chosen, frauds, legits, at_ms in moves
        if chosen.any()
    ]


def _moved_truth(waiting: Waiting, result: LabelResult, changed: NDArray[np.bool_]) -> list[LedgerDeltas]:
    deltas = []
    was_settled = changed & np.isin(result.before, _SETTLED)
    if was_settled.any():
        before = result.before[was_settled]
        for labelled in (True, False):
            by_label = np.isin(before, [Status.FRAUD, Status.LEGIT]) == labelled
            if by_label.any():
                gone = waiting.take(was_settled).take(by_label)
                deltas.append(_ledger(gone, _TRUTH[before[by_label]], labelled=labelled, sign=-1))
    settled = changed & np.isin(result.after, _SETTLED)
    if settled.any():
        now = _TRUTH[result.after[settled]]
        deltas.append(_ledger(waiting.take(settled), now, labelled=True, sign=1))
    return deltas


def _is_within(spans: list[range], sequence: NDArray[np.int64]) -> NDArray[np.bool_]:
    within = np.zeros(len(sequence), np.bool_)
    for span in spans:
        within |= (sequence >= span.start) & (sequence < span.stop)
    return within


def _moved_payoff(waiting: Waiting, result: LabelResult, silent: list[range]) -> PayoffDeltas:
    """Return what labels change: an alert whose silence has counted as unanswered counts as answered instead."""
    open_before, open_after = np.isin(result.before, _OPEN), np.isin(result.after, _OPEN)
    case = open_before.astype(np.int8) - open_after.astype(np.int8)
    noted = result.effect == LabelEffect.NOTED
    counted = _is_within(silent, waiting.sequence) & ((waiting.flags & Flag.ALERTED) != 0)
    counted &= open_before & (result.acted_before == 0)
    answered = counted & (noted | ~open_after)
    fraud = (result.after == Status.FRAUD).astype(np.int8) - (result.before == Status.FRAUD).astype(np.int8)
    return _payoff(waiting, case, -answered.astype(np.int8), fraud)


def _payoff(
    waiting: Waiting,
    case: int | NDArray[np.int8] = 0,
    silent: int | NDArray[np.int8] = 0,
    fraud: int | NDArray[np.int8] = 0,
) -> PayoffDeltas:
    count = len(waiting.sequence)
    return settled_payoffs(
        waiting.counted_ms,
        waiting.flags,
        waiting.logit,
        waiting.loss,
        np.stack([np.broadcast_to(np.asarray(sign, np.int8), count) for sign in (case, silent, fraud)]),
    )


def _ledger(waiting: Waiting, truth: NDArray[np.uint8], *, labelled: bool, sign: int) -> LedgerDeltas:
    count = len(truth)
    return settled_deltas(
        event_time_ms=waiting.counted_ms,
        flags=waiting.flags,
        loss=waiting.loss,
        truth=truth,
        labelled=np.full(count, labelled),
        sign=np.full(count, sign, np.int8),
    )
