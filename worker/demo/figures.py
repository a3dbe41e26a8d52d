"""The figures of the demo at one moment: from the worker's /metrics, its alerts and the stream's calendar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from models.vocabulary import MS_PER_DAY
from worker.wire.schema import Alert

DECIDERS: Final = ("none", "forest", "online")


@dataclass(frozen=True, slots=True)
class Quality:
    """The results of the newest days that are wholly settled, 30 at most; NaN where undefined.

    Attributes
    ----------
    days
        The number of these days.
    last_day
        The newest of them, counted from 0; -1 if there is none.
    decisions, frauds, alerts, cases
        Counts.
    prevalence, label_coverage, recall, recall_by_value, precision, savings
        Shares.
    cost, cost_none
        The realised cost, and the cost without any alert.
    """

    days: int
    last_day: int
    decisions: float
    frauds: float
    alerts: float
    cases: float
    prevalence: float
    label_coverage: float
    recall: float
    recall_by_value: float
    precision: float
    cost: float
    cost_none: float
    savings: float

    @property
    def is_known(self) -> bool:
        """Whether a day is settled."""
        return self.days > 0


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the stream.

    Attributes
    ----------
    decider
        The decider of most of its transactions.
    threshold
        The last λ of the online model on that day; NaN if there was none.
    recall
        Share of its frauds that were alerted on; NaN before it is settled, and without frauds.
    """

    decider: str
    threshold: float
    recall: float


@dataclass(frozen=True, slots=True)
class HandOver:
    """A decider and its first decision in event time, epoch milliseconds."""

    decider: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ShownAlert:
    """An alert on the page; `label` is `fraud` or `legit` once it is known, else empty."""

    alert: Alert
    label: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the page, the lines and the summary show.

    Attributes
    ----------
    metrics_url
        The address of the worker's metrics.
    elapsed_s, duration_s
        Time spent and planned, without the start.
    start_ms, now_ms
        The start of the stream, and the event time of the last decision, epoch milliseconds.
    stream_days
        The length of the stream.
    stream_size
        The number of its transactions.
    decided, alerts, cases
        Counts so far.
    per_s
        Decisions a second over the last seconds.
    lag
        Transactions that are due and not decided, whether sent or not.
    latency_p50_s, latency_p99_s
        Recent time from a transaction's append to the commit of its alert; NaN without alerts.
    shares
        Each decider's share of the latest decisions; empty before the first ones.
    hand_overs
        In order of time.
    frauds_learnt, frauds_needed
        Frauds that the online model has learnt, and those that it needs before it decides.
    threshold_lambda, review_cost
        The online model alerts where the expected loss is at least their product.
    forest_cut
        The rank from which the forest alerts.
    reviews_cost, missed_cost
        Cost of the cases so far, and of the missed frauds whose labels have come.
    quality
        The results of settled days.
    history
        The days up to today.
    newest
        Some of the alerts, the newest first.
    """

    metrics_url: str
    elapsed_s: float
    duration_s: float
    start_ms: int
    now_ms: int
    stream_days: int
    stream_size: int
    decided: int
    alerts: int
    cases: int
    per_s: float
    lag: int
    latency_p50_s: float
    latency_p99_s: float
    shares: Mapping[str, float]
    hand_overs: tuple[HandOver, ...]
    frauds_learnt: int
    frauds_needed: int
    threshold_lambda: float
    review_cost: float
    forest_cut: float
    reviews_cost: float
    missed_cost: float
    quality: Quality
    history: tuple[Day, ...]
    newest: tuple[ShownAlert, ...]

    @property
    def today(self) -> int:
        """The current day of the stream, counted from 0."""
        return min(max((self.now_ms - self.start_ms) // MS_PER_DAY, 0), self.stream_days - 1)

    @property
    def is_wholly_decided(self) -> bool:
        """Whether all transactions of the stream are decided."""
        return self.decided >= self.stream_size
