"""The cost ledger: settled decisions by day of event time, and their recall, precision and cost.

A *cohort* is the decisions of one day of event time. It closes once all of them are settled, by labels or by silence;
the few that are late, or never, hold it open only until silence has settled a later one. Only closed cohorts are
published, and they stay as published; the ledger counts apart what arrives later.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.arrays import BoolArray, FloatArray, IntArray
from models.vocabulary import MS_PER_DAY, Decider, Flag


class Truth(IntEnum):
    """What a settled decision turned out to be."""

    FRAUD = 0
    LEGIT = 1
    UNRESOLVED = 2


class ForestView(IntEnum):
    """What the isolation forest would have done; an idle forest scores only a hash-chosen share."""

    UNSCORED = 0
    WOULD_PASS = 1
    WOULD_ALERT = 2


SHAPE: Final = (len(Decider), 2, 2, len(ForestView), 2, len(Truth))
"""The axes of a cell: decider, alerted, would the online model alert, `ForestView`, would the challenger, `Truth`."""
CELLS: Final = int(np.prod(SHAPE))
COUNT, LOSS, CASES, WINDOWS, LABELLED = range(5)
SUMS: Final = 5
"""The sums of a cell: decisions, loss if missed, cases opened, first of a case window, settled by a label."""
CLOSED_DAYS_KEPT: Final = 64
_LEFT_OPEN: Final = 0.01
"""The share of a day that may be open though silence has passed it: payments that came late, or were lost."""
_GIVEN_UP_AFTER_MS: Final = 365 * MS_PER_DAY
"""Past the horizon, no day stays open for longer: many days of a wrong clock, decided at once, would fill memory."""
_DENSE_SPAN: Final = 1 << 16
"""Keys that span no more than this are summed densely; a sort would be slower."""
# Of the merged days: how many, the decisions in them, and the newest of them.
_DAYS, _DECISIONS, _NEWEST_DAY = range(3)


@dataclass(frozen=True)
class LedgerDeltas:
    """What one commit adds to the ledger.

    Attributes
    ----------
    day : int32 (k,)
        The day of event time, ``event_time_ms // 86_400_000``, of each touched cell.
    cell : uint8 (k,)
        Index into `SHAPE`, row-major.
    sums : float64 (k, 5)
        What the cell gains, or loses where a truth changed.
    decided_day : int32 (d,)
        Days in which transactions were decided.
    decided_count : int64 (d,)
        How many were.
    """

    day: NDArray[np.int32]
    cell: NDArray[np.uint8]
    sums: FloatArray
    decided_day: NDArray[np.int32]
    decided_count: IntArray

    def bytes_of_days(self, days: NDArray[np.int32]) -> IntArray:
        """Return how many bytes are of each of these days, int64 (d,); they are ascending, and all there are."""
        cells = np.bincount(np.searchsorted(days, self.day), minlength=len(days))
        decided = np.bincount(np.searchsorted(days, self.decided_day), minlength=len(days))
        cell_bytes = self.day.itemsize + self.cell.itemsize + SUMS * self.sums.itemsize
        return cells * cell_bytes + decided * (self.decided_day.itemsize + self.decided_count.itemsize)

    def of_days(self, first: int, last: int) -> LedgerDeltas:
        """Return what is said of the days `first` to `last`, both included."""
        cells = (self.day >= first) & (self.day <= last)
        decided = (self.decided_day >= first) & (self.decided_day <= last)
        return LedgerDeltas(
            self.day[cells],
            self.cell[cells],
            self.sums[cells],
            self.decided_day[decided],
            self.decided_count[decided],
        )


def settled_deltas(
    *,
    event_time_ms: IntArray,
    flags: NDArray[np.uint16],
    loss: FloatArray,
    truth: NDArray[np.uint8],
    labelled: BoolArray,
    sign: NDArray[np.int8],
) -> LedgerDeltas:
    """Sum settled decisions by day and cell.

    Parameters
    ----------
    event_time_ms : int64 (n,)
        Of the transactions, not ahead of the clock: a day in the far future would stay open for ever.
    flags : uint16 (n,)
        `Flag` as of the decision.
    loss : float64 (n,)
        The loss if the transaction is a missed fraud, as of the decision.
    truth : uint8 (n,)
        `Truth`.
    labelled : bool (n,)
        Settled by a label, not by silence.
    sign : int8 (n,)
        1 to add; -1 to take back what was added before under another truth.

    Raises
    ------
    ValueError
        If a decider or a truth does not exist.
    """
    cell = _cell_of(flags, truth)
    keys, slot = _compact(_day_of(event_time_ms) * CELLS + cell)
    columns = (
        np.ones(len(flags)),
        loss,
        (flags & Flag.OPENS_CASE) != 0,
        (flags & Flag.FIRST_OF_WINDOW) != 0,
        labelled,
    )
    sums = np.stack([np.bincount(slot, sign * column, len(keys)) for column in columns], axis=1)
    touched = np.bincount(slot, minlength=len(keys)) > 0
    day, cell_index = np.divmod(keys[touched], CELLS)
    return LedgerDeltas(
        day.astype(np.int32),
        cell_index.astype(np.uint8),
        np.ascontiguousarray(sums[touched]),
        np.zeros(0, np.int32),
        np.zeros(0, np.int64),
    )


def decided_deltas(event_time_ms: IntArray) -> LedgerDeltas:
    """Count the transactions decided in each day of event time; `event_time_ms` is int64 (n,)."""
    keys, slot = _compact(_day_of(event_time_ms))
    count = np.bincount(slot, minlength=len(keys))
    return LedgerDeltas(
        np.zeros(0, np.int32),
        np.zeros(0, np.uint8),
        np.zeros((0, SUMS)),
        keys[count > 0].astype(np.int32),
        count[count > 0].astype(np.int64),
    )


def summed(parts: list[LedgerDeltas]) -> LedgerDeltas:
    """Sum all parts into one, a row each day and cell: a commit is no larger for having many partitions."""
    # An empty part gives the types where there is no other.
    parts = [decided_deltas(np.zeros(0, np.int64)), *parts]
    columns = ([getattr(part, field.name) for part in parts] for field in fields(LedgerDeltas))
    joined = LedgerDeltas(*map(np.concatenate, columns))
    keys, slot = np.unique(joined.day.astype(np.int64) * CELLS + joined.cell, return_inverse=True)
    sums = np.zeros((len(keys), SUMS))
    np.add.at(sums, slot, joined.sums)
    days, at = np.unique(joined.decided_day, return_inverse=True)
    count = np.zeros(len(days), np.int64)
    np.add.at(count, at, joined.decided_count)
    day, cell = np.divmod(keys, CELLS)
    return LedgerDeltas(day.astype(np.int32), cell.astype(np.uint8), sums, days.astype(np.int32), count)


def _day_of(event_time_ms: IntArray) -> IntArray:
    limits = np.iinfo(np.int32)
    return np.clip(event_time_ms // MS_PER_DAY, limits.min, limits.max)


def _cell_of(flags: NDArray[np.uint16], truth: NDArray[np.uint8]) -> IntArray:
    scored = (flags & Flag.FOREST_SCORED) != 0
    forest_would = (flags & Flag.FOREST_WOULD_ALERT) != 0
    return np.ravel_multi_index(
        (
            (flags & Flag.DECIDER).astype(np.int64),
            (flags & Flag.ALERTED) != 0,
            (flags & Flag.ONLINE_WOULD_ALERT) != 0,
            np.where(scored, 1 + forest_would, 0),
            (flags & Flag.CHALLENGER_WOULD_ALERT) != 0,
            truth.astype(np.int64),
        ),
        SHAPE,
    ).astype(np.int64)


def _compact(keys: IntArray) -> tuple[IntArray, IntArray]:
    """Return ascending keys, of which some may be unused, and the index of each row's own key."""
    if len(keys) == 0:
        return keys, keys
    low, high = int(keys.min()), int(keys.max())
    if high - low < _DENSE_SPAN:
        return np.arange(low, high + 1), keys - low
    unique, slot = np.unique(keys, return_inverse=True)
    return unique, slot


@dataclass(frozen=True)
class Cohort:
    """The figures of some closed days; NaN where one is undefined. Accuracy is none of them.

    Attributes
    ----------
    days
        How many closed days they cover.
    decisions, settled, frauds, alerts, cases
        Counts. `settled` includes the unresolved; each of the `cases` was charged a review.
    prevalence
        Frauds among the decisions whose truth is known.
    label_coverage
        Settled by a label, among all settled.
    recall, recall_by_value
        Alerted frauds among frauds, by number and by the loss they would have caused.
    precision
        Frauds among alerts whose truth is known; the unresolved do not count.
    f1
        Harmonic mean of recall and precision.
    cost
        The realised cost: a review per case, and the loss of the frauds that were not alerted.
    cost_none, cost_all
        The cost of alerting on nothing, and of a review of every card once a case window.
    savings
        ``1 - cost / min(cost_none, cost_all)`` (Bahnsen et al. 2013).
    online_cost, forest_cost
        The cost if that decider alone had decided, and each of its alerts had opened as many cases as an actual one.
        The forest's is estimated, within each actual decider, from the rows that it scored; NaN where it scored none.
    challenger_cost
        Likewise with the challenger in the place of the online model, wherever that decided and there was a challenger.
    """

    days: int
    decisions: int
    settled: int
    frauds: int
    alerts: int
    cases: int
    prevalence: float
    label_coverage: float
    recall: float
    recall_by_value: float
    precision: float
    f1: float
    cost: float
    cost_none: float
    cost_all: float
    savings: float
    online_cost: float
    forest_cost: float
    challenger_cost: float


class Ledger:
    """Settled decisions by cohort: the source of truth for every published recall, precision and cost.

    A fold: `fold` and `close` alone change it. It keeps the days sorted and merges the oldest closed ones into one sum,
    so it is as large as there are open days.
    """

    def __init__(self) -> None:
        self._days = np.zeros(0, np.int32)
        self._closed = np.zeros(0, np.bool_)
        self._decided = np.zeros(0, np.int64)
        self._sums = np.zeros((0, CELLS, SUMS))
        self._merged_sums = np.zeros((CELLS, SUMS))
        # No day up to the newest merged one opens again.
        self._merged = np.array([0, 0, np.iinfo(np.int64).min], np.int64)
        self._after_close = np.zeros(len(Truth))

    def fold(self, deltas: LedgerDeltas) -> None:
        """Add one commit's deltas; those of closed days go to `after_close`."""
        self._open(np.concatenate([deltas.day, deltas.decided_day]))
        row, is_open = self._rows(deltas.day)
        # `np.add.at` adds row after row: sums of losses depend on the order.
        np.add.at(self._sums, (row[is_open], deltas.cell[is_open]), deltas.sums[is_open])
        np.add.at(self._after_close, deltas.cell[~is_open] % len(Truth), deltas.sums[~is_open, COUNT])
        row, is_open = self._rows(deltas.decided_day)
        np.add.at(self._decided, row[is_open], deltas.decided_count[is_open])

    def close(self, clock_ms: int, final_until_ms: int | None) -> int:
        """Close the days that are over and either wholly settled or before a day that silence has settled.

        Silence settles decisions in their order: what it has passed and left open came late, or is lost. That the
        horizon has passed is no proof: of a lowered one, the partitions have yet to settle what it makes final.

        Parameters
        ----------
        clock_ms
            That of the slowest partition.
        final_until_ms
            Silence makes the decisions before it final; None before the first label of all, while it means nothing.

        Returns
        -------
        int
            How many days close.
        """
        # Counts are whole numbers: their sum is the same in any order.
        end_ms = (self._days.astype(np.int64) + 1) * MS_PER_DAY
        still_open = self._decided - self._sums[:, :, COUNT].sum(axis=1)
        ready = still_open <= 0
        if final_until_ms is not None:
            passed = (end_ms <= final_until_ms) & (still_open <= _LEFT_OPEN * self._decided)
            ready |= end_ms < end_ms.max(where=passed, initial=np.iinfo(np.int64).min)
            ready |= end_ms <= final_until_ms - _GIVEN_UP_AFTER_MS
        ready &= end_ms <= clock_ms
        newly = int(np.count_nonzero(ready & ~self._closed))
        if newly:
            self._closed |= ready
            self._merge_oldest()
        return newly

    def window(self, days: int, review_cost: float) -> Cohort:
        """Return the figures of the newest `days` closed days; of fewer while there are fewer."""
        rows = np.flatnonzero(self._closed)[-days:] if days > 0 else np.zeros(0, np.int64)
        return _cohort(len(rows), int(self._decided[rows].sum()), self._sums[rows].sum(axis=0), review_cost)

    def total(self, review_cost: float) -> Cohort:
        """Return the figures of all closed days."""
        decided = int(self._merged[_DECISIONS] + self._decided[self._closed].sum())
        return _cohort(
            self.closed_days, decided, self._merged_sums + self._sums[self._closed].sum(axis=0), review_cost
        )

    @property
    def after_close(self) -> dict[Truth, float]:
        """By truth, the net changes that came too late for the published cohorts: how far off those are."""
        return {truth: float(self._after_close[truth]) for truth in Truth}

    @property
    def closed_days(self) -> int:
        """How many cohorts have closed so far."""
        return int(self._merged[_DAYS] + np.count_nonzero(self._closed))

    @property
    def closed_until_ms(self) -> int | None:
        """The end of the newest closed day in epoch milliseconds; None while none is closed."""
        return int(self._days[self._closed][-1] + 1) * MS_PER_DAY if self._closed.any() else None

    def fraud_of_day(self, day: int) -> tuple[float, int]:
        """Return the frauds that are known of a day of event time, and how many transactions it decided."""
        row = int(np.searchsorted(self._days, day))
        if row == len(self._days) or self._days[row] != day:
            return 0.0, 0
        frauds = self._sums[row].reshape(*SHAPE, SUMS)[..., Truth.FRAUD, COUNT].sum()
        return float(frauds), int(self._decided[row])

    def unlabelled_days(self, days: int) -> int:
        """Return how many of the newest `days` closed days closed without a single label, of those with a decision."""
        rows = np.flatnonzero(self._closed)[-days:] if days > 0 else np.zeros(0, np.int64)
        counts = self._sums[rows].sum(axis=1)
        return int(np.count_nonzero((counts[:, LABELLED] == 0) & (counts[:, COUNT] > 0)))

    def _open(self, days: NDArray[np.int32]) -> None:
        new = np.setdiff1d(days[days > self._merged[_NEWEST_DAY]], self._days)
        if len(new) == 0:
            return
        at = np.searchsorted(self._days, new)
        self._days = np.insert(self._days, at, new)
        self._closed = np.insert(self._closed, at, False)
        self._decided = np.insert(self._decided, at, 0)
        self._sums = np.insert(self._sums, at, 0.0, axis=0)

    def _rows(self, days: NDArray[np.int32]) -> tuple[IntArray, BoolArray]:
        row = np.searchsorted(self._days, days)
        is_open = days > self._merged[_NEWEST_DAY]
        is_open[is_open] = ~self._closed[row[is_open]]
        return row, is_open

    def _merge_oldest(self) -> None:
        still_open = np.flatnonzero(~self._closed)
        before_open = int(still_open[0]) if len(still_open) else len(self._days)
        n = max(min(before_open, int(np.count_nonzero(self._closed)) - CLOSED_DAYS_KEPT), 0)
        if n == 0:
            return
        self._merged_sums = self._merged_sums + self._sums[:n].sum(axis=0)
        self._merged[_DAYS] += n
        self._merged[_DECISIONS] += self._decided[:n].sum()
        self._merged[_NEWEST_DAY] = self._days[n - 1]
        self._days, self._closed = self._days[n:].copy(), self._closed[n:].copy()
        self._decided, self._sums = self._decided[n:].copy(), self._sums[n:].copy()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return copies of the arrays that the state consists of, by name."""
        return {name: getattr(self, f"_{name}").copy() for name in _STATE}


_STATE: Final = ("days", "closed", "decided", "sums", "merged_sums", "merged", "after_close")


def _divide(numerator: float, denominator: float) -> float:
    return float(numerator) / float(denominator) if denominator else float(np.nan)


def _cohort(days: int, decisions: int, sums: FloatArray, review_cost: float) -> Cohort:
    table = sums.reshape(*SHAPE, SUMS)
    by_truth = table.sum(axis=(0, 1, 2, 3, 4))
    alerted = table[:, 1].sum(axis=(0, 1, 2, 3))
    fraud, settled = by_truth[Truth.FRAUD], by_truth.sum(axis=0)
    caught = alerted[Truth.FRAUD]
    known = by_truth[[Truth.FRAUD, Truth.LEGIT], COUNT].sum()
    alerts, cases = alerted[:, COUNT].sum(), settled[CASES]
    recall = _divide(caught[COUNT], fraud[COUNT])
    precision = _divide(caught[COUNT], alerted[[Truth.FRAUD, Truth.LEGIT], COUNT].sum())
    cost = review_cost * cases + fraud[LOSS] - caught[LOSS]
    cost_none, cost_all = float(fraud[LOSS]), float(review_cost * settled[WINDOWS])
    case_cost = review_cost * (float(cases / alerts) if alerts else 1.0)
    return Cohort(
        days=days,
        decisions=decisions,
        settled=round(settled[COUNT]),
        frauds=round(fraud[COUNT]),
        alerts=round(alerts),
        cases=round(cases),
        prevalence=_divide(fraud[COUNT], known),
        label_coverage=_divide(settled[LABELLED], settled[COUNT]),
        recall=recall,
        recall_by_value=_divide(caught[LOSS], fraud[LOSS]),
        precision=precision,
        f1=_divide(2.0 * caught[COUNT], fraud[COUNT] + alerted[[Truth.FRAUD, Truth.LEGIT], COUNT].sum()),
        cost=float(cost),
        cost_none=cost_none,
        cost_all=cost_all,
        savings=1.0 - _divide(cost, min(cost_none, cost_all)),
        online_cost=_cost_by(table.sum(axis=(0, 1, 3, 4)), case_cost),
        forest_cost=_forest_cost(table.sum(axis=4), case_cost),
        challenger_cost=_cost_by(table.sum(axis=(0, 1, 2, 3)), case_cost),
    )


def _cost_by(by_would: FloatArray, case_cost: float) -> float:
    """Return the cost of alerting where something would have; the axes are that, `Truth`, and the sums."""
    return float(case_cost * by_would[1, :, COUNT].sum() + by_would[0, Truth.FRAUD, LOSS])


def _forest_cost(table: FloatArray, case_cost: float) -> float:
    """Estimate by ratios within each actual decider: of the alerts by number, of the missed frauds by loss."""
    cost = 0.0
    for decider, cells in zip(Decider, table.sum(axis=(1, 2)), strict=True):
        count, fraud_loss = cells[:, :, COUNT].sum(axis=1), cells[:, Truth.FRAUD, LOSS]
        if decider is Decider.NONE and count[ForestView.UNSCORED] == count.sum():
            cost += float(fraud_loss.sum())
            continue
        cost += case_cost * _scaled_up(count, ForestView.WOULD_ALERT)
        cost += _scaled_up(fraud_loss, ForestView.WOULD_PASS)
    return cost


def _scaled_up(by_view: FloatArray, view: ForestView) -> float:
    whole, scored = by_view.sum(), by_view[1:].sum()
    return 0.0 if whole == 0.0 else _divide(whole * by_view[view], scored)
