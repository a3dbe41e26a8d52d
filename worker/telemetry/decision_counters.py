"""Counters of what was decided, by whom, and which cases it opened."""

from __future__ import annotations

from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from prometheus_client import Counter

from models.vocabulary import Decider, Flag
from worker.telemetry.cohort_gauges import MakeGauge
from worker.telemetry.instruments import CounterGrid

DECIDERS: Final = tuple(decider.name.lower() for decider in Decider)
DECISIONS: Final = ("pass", "alert")


class MakeCounter(Protocol):
    """Makes a counter of the worker's registry."""

    def __call__(self, name: str, text: str, *labels: str) -> Counter:
        """Return a counter without the prefix in its name."""


class MakeCounters(Protocol):
    """Makes counters of all combinations of label values."""

    def __call__(self, name: str, text: str, **labels: tuple[str, ...]) -> CounterGrid:
        """Return the counters without the prefix in their name."""


class DecisionCounters:
    """The counters that grow with each commit's decisions.

    Parameters
    ----------
    counter, counters, gauge
        Make them.
    """

    def __init__(self, counter: MakeCounter, counters: MakeCounters, gauge: MakeGauge) -> None:
        self._decisions = counters(
            "decisions_total", "Transactions decided.", decided_by=DECIDERS, decision=DECISIONS
        )
        self._alerts = counter("alerts_total", "Alerts written.")
        self._cases = counter("cases_total", "Cases opened; an alert may join an open one.")
        self._review_cost = counter("review_cost_total", "Charged for the cases opened.")
        self._disagreements = counters(
            "challenger_disagreements_total",
            "Decisions in which the challenger would have alerted, or passed, and the worker did not.",
            challenger=DECISIONS,
        )
        share = gauge("decider_share", "Share of the latest commit's decisions.", "decided_by")
        self._decider_share = [share.labels(decider) for decider in DECIDERS]

    def decided(self, flags: NDArray[np.uint16], review_cost: float) -> None:
        """Count one commit's decisions.

        Parameters
        ----------
        flags : uint16 (n,)
            `Flag` of each decision.
        review_cost
            Of one case.
        """
        alerted = (flags & Flag.ALERTED) != 0
        challenged = (flags & Flag.CHALLENGER_WOULD_ALERT) != 0
        decider = (flags & Flag.DECIDER).astype(np.int64)
        counts = np.bincount(2 * decider + alerted, minlength=2 * len(Decider))
        cases = int(np.count_nonzero(flags & Flag.OPENS_CASE))
        self._decisions.add(counts)
        self._disagreements.add(np.bincount(challenged[challenged != alerted], minlength=2))
        self._alerts.inc(int(alerted.sum()))
        self._cases.inc(cases)
        self._review_cost.inc(cases * review_cost)
        if len(flags):
            shares = counts.reshape(-1, 2).sum(axis=1) / len(flags)
            for gauge, share in zip(self._decider_share, shares.tolist(), strict=True):
                gauge.set(share)
