"""What the demo knows at one moment: read from the worker's /metrics, its alerts and the stream's own calendar."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from models.vocabulary import MS_PER_DAY
from worker.wire.schema import Alert

DECIDERS: Final = ("none", "forest", "online")


@dataclass(frozen=True, slots=True)
class Quality:
    """What became of the days that are wholly settled, the newest 30 at most; NaN where undefined.

    Attributes
    ----------
    days
        How many there are.
    last_day
        The newest of them, counted from 0; -1 while there is none.
    decisions, frauds, alerts, cases
        Counts.
    prevalence, label_coverage, recall, recall_by_value, precision, savings
        Shares.
    cost, cost_none
        Realised, and had nothing been alerted.
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
        """Whether any day is settled."""
        return self.days > 0


@dataclass(frozen=True, slots=True)
class Day:
    """One day of the stream.

    Attributes
    ----------
    decider
        Who decided most of it.
    threshold
        The online model's λ as last seen in it; NaN while there was none.
    recall
        Share of its frauds that were alerted; NaN while it is not settled, or had none.
    """

    decider: str
    threshold: float
    recall: float


@dataclass(frozen=True, slots=True)
class HandOver:
    """Who began to decide, and when in the stream's time, epoch milliseconds."""

    decider: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class ShownAlert:
    """An alert on the page; `turned_out` is `fraud` or `legit` once its label has come, else empty."""

    alert: Alert
    turned_out: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that the page, the lines and the summary say.

    Attributes
    ----------
    metrics_url
        Where the worker serves its own.
    elapsed_s, duration_s
        Of the demo, without its start.
    start_ms, now_ms
        Where the stream begins, and how far it is decided, epoch milliseconds.
    stream_days
        How long the stream is.
    stream_size
        Transactions in it.
    decided, alerts, cases
        So far.
    decided_by
        So far, by decider.
    per_s
        Transactions decided a second, lately.
    lag
        Transactions due by now that are not decided yet, whether sent or not.
    latency_p50_s, latency_p99_s
        From a transaction's append to its alert's commit, lately; NaN without alerts.
    shares
        Of the latest decisions, by decider; empty before there are any.
    hand_overs
        In their order.
    frauds_learnt, frauds_needed
        By the online model, and before it may decide.
    threshold_lambda, review_cost
        The online model alerts where the expected loss is at least their product.
    forest_cut
        The forest alerts from this rank on.
    reviews_cost, missed_cost
        Of the cases opened so far, and of missed frauds as far as their labels have come.
    quality
        Of settled days.
    history
        Day by day, up to today.
    newest
        Alerts, the newest first.
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
    decided_by: Mapping[str, int]
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
        """The day of the stream, counted from 0."""
        return min(max((self.now_ms - self.start_ms) // MS_PER_DAY, 0), self.stream_days - 1)

    @property
    def is_wholly_decided(self) -> bool:
        """Whether nothing of the stream is left."""
        return self.decided >= self.stream_size
