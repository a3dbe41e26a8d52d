"""The watcher of a worker: it makes `Figures` of its observations, with rates, hand-overs and the history of days."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from models.vocabulary import MS_PER_DAY
from worker.demo.figures import DECIDERS, Day, Figures, HandOver, Quality, ShownAlert
from worker.demo.samples import (
    UNKNOWN,
    Samples,
    histogram_difference,
    histogram_quantile,
    latency_buckets,
    sample_sum,
    sample_value,
)
from worker.demo.stream import Stream
from worker.settings.sections import Settings
from worker.wire.schema import Alert

_RATE_OVER_S: Final = 5.0
_LATENCY_OVER_S: Final = 15.0
_KEPT_ALERTS: Final = 60
_WINDOW: Final = "30d"


@dataclass(frozen=True, slots=True)
class _Observation:
    """Counts at one moment; rates and shares are differences of two."""

    at_s: float
    decided_by: Mapping[str, int]
    latency: Mapping[float, float]

    @property
    def decided(self) -> int:
        return sum(self.decided_by.values())


class AlertBoard:
    """The alerts that the page shows: new ones at intervals, so that they can be read.

    Parameters
    ----------
    every_s
        Least time between two new alerts.
    """

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._added_s = -math.inf
        self.shown: deque[Alert] = deque(maxlen=_KEPT_ALERTS)

    def offer(self, alerts: Sequence[Alert], at_s: float) -> None:
        """Add the newest of these alerts, if it is time."""
        if alerts and at_s >= self._added_s + self._every_s:
            self._added_s = at_s
            self.shown.appendleft(alerts[-1])


class Watcher:
    """The figures of one worker over time.

    Parameters
    ----------
    stream
        The transactions that the worker decides.
    settings
        The worker's settings.
    duration_s
        The duration of the demo.
    speed
        Seconds of the stream in one second.
    alert_every_s
        See `AlertBoard`.
    """

    def __init__(
        self,
        stream: Stream,
        settings: Settings,
        duration_s: float,
        speed: float,
        alert_every_s: float = 0.7,
    ) -> None:
        self._stream, self._settings, self._duration_s, self._speed = stream, settings, duration_s, speed
        self._observations: deque[_Observation] = deque([_Observation(0.0, dict.fromkeys(DECIDERS, 0), {})])
        self._board = AlertBoard(alert_every_s)
        self._hand_overs: list[HandOver] = []
        self._shares: Mapping[str, float] = {}
        self._by_day: defaultdict[int, Counter[str]] = defaultdict(Counter)
        self._thresholds: dict[int, float] = {}
        self._recalls: dict[int, float] = {}

    def observe(self, samples: Samples, alerts: Sequence[Alert], at_s: float) -> Figures:
        """Return the figures as of one observation.

        Parameters
        ----------
        samples
            The worker's metrics.
        alerts
            The alerts that came since the last observation, in their order.
        at_s
            Seconds since the stream began.
        """
        by = {name: int(sample_sum(samples, "decisions_total", decided_by=name)) for name in DECIDERS}
        now = _Observation(at_s, by, latency_buckets(samples))
        now_ms = self._stream.time_ms(now.decided)
        self._note_deciders(now, now_ms)
        self._observations.append(now)
        while len(self._observations) > 2 and self._observations[1].at_s < at_s - _LATENCY_OVER_S:
            self._observations.popleft()
        self._board.offer(alerts, at_s)
        quality = self._quality(samples)
        self._note_day(samples, now_ms, quality)
        return self._figures(samples, now, now_ms, quality)

    def _figures(self, samples: Samples, now: _Observation, now_ms: int, quality: Quality) -> Figures:
        settings, stream = self._settings, self._stream
        latency = histogram_difference(now.latency, self._observations[0].latency)
        return Figures(
            metrics_url=f"http://{settings.health.host}:{settings.health.port}/metrics",
            elapsed_s=min(now.at_s, self._duration_s),
            duration_s=self._duration_s,
            start_ms=stream.start_ms,
            now_ms=now_ms,
            stream_days=stream.days,
            stream_size=len(stream),
            decided=now.decided,
            alerts=int(sample_sum(samples, "alerts_total")),
            cases=int(sample_sum(samples, "cases_total")),
            per_s=self._rate(now),
            lag=max(stream.count_due(now.at_s * self._speed) - now.decided, 0),
            latency_p50_s=histogram_quantile(latency, 0.5),
            latency_p99_s=histogram_quantile(latency, 0.99),
            shares=self._shares,
            hand_overs=tuple(self._hand_overs),
            frauds_learnt=int(sample_sum(samples, "model_frauds_learnt")),
            frauds_needed=settings.model.min_frauds,
            threshold_lambda=sample_value(samples, "model_threshold_lambda"),
            review_cost=settings.costs.review_cost,
            forest_cut=sample_value(samples, "model_forest_cut"),
            reviews_cost=sample_sum(samples, "review_cost_total"),
            missed_cost=sample_sum(samples, "missed_fraud_cost_by_arrival_total"),
            quality=quality,
            history=self._history(now_ms),
            newest=tuple(
                ShownAlert(alert, stream.label_of(alert.transaction_id, now_ms))
                for alert in self._board.shown
            ),
        )

    def _rate(self, now: _Observation) -> float:
        before = next(it for it in self._observations if it.at_s >= now.at_s - _RATE_OVER_S)
        spent_s = now.at_s - before.at_s
        return (now.decided - before.decided) / spent_s if spent_s > 0 else 0.0

    def _note_deciders(self, now: _Observation, now_ms: int) -> None:
        before = self._observations[-1]
        fresh = {name: now.decided_by[name] - before.decided_by[name] for name in DECIDERS}
        count = sum(fresh.values())
        if count <= 0:
            return
        self._shares = {name: fresh[name] / count for name in DECIDERS}
        self._by_day[self._day(now_ms)].update(fresh)
        self._note_hand_overs(before.decided, fresh)

    def _note_hand_overs(self, decided_before: int, fresh: Mapping[str, int]) -> None:
        """Note each decider that has taken over, even if several have since the last observation."""
        # Deciders take over in the order of `DECIDERS`: the decisions of a later one are the newer ones.
        active = [name for name in DECIDERS if fresh[name]]
        current = DECIDERS.index(self._hand_overs[-1].decider) if self._hand_overs else -1
        later = [name for name in active if DECIDERS.index(name) > current]
        for name in later or active[-1:]:
            if self._hand_overs and self._hand_overs[-1].decider == name:
                continue
            first = decided_before + sum(fresh[earlier] for earlier in DECIDERS[: DECIDERS.index(name)]) + 1
            self._hand_overs.append(HandOver(name, self._stream.time_ms(first)))

    def _note_day(self, samples: Samples, now_ms: int, quality: Quality) -> None:
        self._thresholds[self._day(now_ms)] = sample_value(samples, "model_threshold_lambda")
        # /metrics shows the newest day alone: days that settled since the last observation share its recall.
        for number in range(max(self._recalls, default=-1) + 1, quality.last_day + 1):
            self._recalls[number] = sample_value(samples, "cohort_recall", window="1d")

    def _history(self, now_ms: int) -> tuple[Day, ...]:
        """Return the days up to now; a day without an observation is like the one before."""
        days, decider, threshold = [], "none", UNKNOWN
        for number in range(self._day(now_ms) + 1):
            if self._by_day[number]:
                decider = self._by_day[number].most_common(1)[0][0]
            threshold = self._thresholds.get(number, threshold)
            days.append(Day(decider, threshold, self._recalls.get(number, UNKNOWN)))
        return tuple(days)

    def _day(self, time_ms: int) -> int:
        return (time_ms - self._stream.start_ms) // MS_PER_DAY

    def _quality(self, samples: Samples) -> Quality:
        def of(figure: str) -> float:
            return sample_value(samples, f"cohort_{figure}", window=_WINDOW)

        closed, end_s = of("closed"), sample_value(samples, "cohort_end_timestamp_seconds")
        return Quality(
            days=0 if math.isnan(closed) else int(closed),
            last_day=-1 if math.isnan(end_s) else self._day(int(end_s * 1000.0)) - 1,
            decisions=of("decisions"),
            frauds=of("frauds"),
            alerts=of("alerts"),
            cases=of("cases"),
            prevalence=of("prevalence"),
            label_coverage=of("label_coverage"),
            recall=of("recall"),
            recall_by_value=of("recall_by_value"),
            precision=of("precision"),
            cost=of("cost"),
            cost_none=of("cost_none"),
            savings=of("savings"),
        )
