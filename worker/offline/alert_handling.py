"""What people do with the alerts of a run over a data set, which changes what labels arrive, and when."""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import Flag, LabelKind, LabelSource
from worker.offline.dataset import Dataset
from worker.offline.dataset_columns import labels_of
from worker.wire.decoder import LabelColumns, TransactionColumns

ANSWERED_AFTER_MS: Final = 4 * 3_600_000


class AlertShares(NamedTuple):
    """Which shares of the alerts are handled how; a keyed hash of the transaction id chooses them.

    Attributes
    ----------
    declined
        An outcome says so at once, and their labels do not arrive.
    answered
        An analyst's label says `ANSWERED_AFTER_MS` later what they are, where figures know it. So where silence means
        legit, a fraud that the data set has no label of is answered as legit. Labels of all others arrive as the data
        set has them.
    """

    declined: float = 0.0
    answered: float = 0.0


AS_THE_FILE_SAYS: Final = AlertShares()


class AlertHandling:
    """Replaces the labels of declined alerts by outcomes, and puts answers before the labels of the data set.

    Parameters
    ----------
    dataset, transactions
        The same rows.
    shares
        Add up to 1 at most.
    flags : uint16 (n,)
        Of the decisions on the rows, as they are made.
    """

    def __init__(
        self,
        dataset: Dataset,
        transactions: TransactionColumns,
        shares: AlertShares,
        flags: NDArray[np.uint16],
    ) -> None:
        # The second hash: bits of the first one choose the examples and what an idle forest scores.
        at = transactions.id_check.astype(np.float64) / 2.0**64
        self._declines = at < shares.declined
        self._answers = (at >= shares.declined) & (at < shares.declined + shares.answered)
        self._answers &= dataset.truth_known
        self._active = bool(self._declines.any() or self._answers.any())
        is_fraud = np.zeros(len(at), np.bool_) if dataset.is_fraud is None else dataset.is_fraud
        self._answers_of = {
            LabelKind.FRAUD: self._answers & is_fraud,
            LabelKind.LEGIT: self._answers & ~is_fraud,
        }
        self._transactions, self._flags = transactions, flags
        self._row_of_label = dataset.arrivals().row if self._active else np.zeros(0, np.int64)
        self._held = LabelColumns.none()
        self._to_come = LabelColumns.none()
        self._reported = 0
        self._decided = 0

    def declined(self) -> NDArray[np.bool_]:
        """Return which rows are declined alerts, as far as decisions are known; bool (n,)."""
        return self._alerted(self._declines, slice(None))

    def answered(self) -> NDArray[np.bool_]:
        """Return which rows are answered alerts, likewise."""
        return self._alerted(self._answers, slice(None))

    def silent_until_ms(self, until_ms: int) -> int:
        """Return up to when silence is known: just before the first label that is held back, at most `until_ms`."""
        held_ms = np.concatenate([self._held.label_time_ms, self._to_come.label_time_ms])
        return int((held_ms - 1).min(initial=until_ms))

    def apply(self, due: LabelColumns, until_ms: int, next_row: int) -> LabelColumns:
        """Return what says by now how alerts were handled, and the labels that are due, but for declined alerts.

        Decisions are known up to the last batch. A label of the current one that may be declined waits for the next.

        Parameters
        ----------
        due
            Labels due by the clock, or taken early.
        until_ms
            The clock.
        next_row
            The first row that is not in the current batch.
        """
        if not self._active:
            return due
        labels = LabelColumns.concatenate([self._held, due])
        row = self._row_of_label[labels.offsets]
        unknown = self._declines[row] & (row >= self._decided)
        self._held = labels.take(np.flatnonzero(unknown))
        arriving = labels.take(np.flatnonzero(~unknown & ~self._alerted(self._declines, row)))
        last = slice(self._reported, self._decided)
        outcomes = self._handled(last, self._declines, LabelKind.OUTCOME)
        said = [
            self._handled(last, chosen, kind, LabelSource.ANALYST, ANSWERED_AFTER_MS)
            for kind, chosen in self._answers_of.items()
        ]
        answers = LabelColumns.concatenate([self._to_come, *said])
        self._reported, self._decided = self._decided, next_row
        is_due = answers.label_time_ms <= until_ms
        self._to_come = answers.take(np.flatnonzero(~is_due))
        return LabelColumns.concatenate([outcomes, answers.take(np.flatnonzero(is_due)), arriving])

    def _alerted(self, chosen: NDArray[np.bool_], rows: slice | NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray(chosen[rows] & ((self._flags[rows] & Flag.ALERTED) != 0))

    def _handled(
        self,
        rows: slice,
        chosen: NDArray[np.bool_],
        kind: LabelKind,
        source: LabelSource = LabelSource.NONE,
        after_ms: int = 0,
    ) -> LabelColumns:
        row = rows.start + np.flatnonzero(self._alerted(chosen, rows))
        when_ms = self._transactions.event_time_ms[row] + after_ms
        labels = labels_of(self._transactions, row, when_ms, np.full(len(row), kind, np.uint8))
        # Behind all labels of the data set: labels that are set aside are known by their offsets.
        return replace(
            labels, offsets=len(self._row_of_label) + row, source=np.full(len(row), source, np.uint8)
        )
