"""Gauges of the closed days: what the ledger publishes, by window."""

from __future__ import annotations

from dataclasses import fields
from typing import Final, Protocol

import numpy as np
from prometheus_client import Gauge

from models.ledger import Cohort, Ledger, Truth

WINDOWS_DAYS: Final = (1, 7, 30)
_COHORT: Final = {
    # A name that ends in `days` would look like a duration in days.
    field.name: {"days": "closed"}.get(field.name, field.name)
    for field in fields(Cohort)
}


class MakeGauge(Protocol):
    """Makes a gauge of the worker's registry."""

    def __call__(self, name: str, text: str, *labels: str) -> Gauge:
        """Return a gauge without the prefix in its name."""


class CohortGauges:
    """The gauges of the closed days; NaN until a day is closed.

    Parameters
    ----------
    gauge
        Makes them.
    """

    def __init__(self, gauge: MakeGauge) -> None:
        windows = [f"{days}d" for days in WINDOWS_DAYS]
        figures = {
            name: gauge(f"cohort_{shown_as}", _of_cohort(name), "window")
            for name, shown_as in _COHORT.items()
        }
        unlabelled = gauge("cohort_unlabelled", "Closed days of the window without a single label.", "window")
        self._unlabelled = [unlabelled.labels(window) for window in windows]
        self._end = gauge("cohort_end_timestamp_seconds", "Where the newest closed day ends.")
        self._end.set(np.nan)  # no day is closed yet; 0 would be a figure
        self._figures = [{name: it.labels(window) for name, it in figures.items()} for window in windows]
        for it in (it for figures_of_window in self._figures for it in figures_of_window.values()):
            it.set(np.nan)
        changes = gauge("cohort_changes_after_close", "Net changes too late for a closed cohort.", "truth")
        self._after_close = {truth: changes.labels(truth.name.lower()) for truth in Truth}

    def publish(self, ledger: Ledger, review_cost: float) -> None:
        """Set every gauge as of the ledger."""
        for days, gauges in zip(WINDOWS_DAYS, self._figures, strict=True):
            cohort = ledger.window(days, review_cost)
            for name, gauge in gauges.items():
                gauge.set(getattr(cohort, name))
        for days, gauge in zip(WINDOWS_DAYS, self._unlabelled, strict=True):
            gauge.set(ledger.unlabelled_days(days))
        if ledger.closed_until_ms is not None:
            self._end.set(ledger.closed_until_ms / 1000.0)
        for truth, change in ledger.after_close.items():
            self._after_close[truth].set(change)


def _of_cohort(figure: str) -> str:
    return f"Of the window's closed days: {figure.replace('_', ' ')}."
