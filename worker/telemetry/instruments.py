"""Counters and histograms that take a whole commit's arrays at once."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector


class CounterGrid:
    """A counter with all its label combinations, in the order of an array's cells; all are shown from the start."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str, **labels: Sequence[str]) -> None:
        counter = Counter(name, text, tuple(labels), registry=registry)
        self._cells = [counter.labels(*values) for values in product(*labels.values())]

    def add(self, counts: NDArray[np.int64]) -> None:
        """Add an array of one count a cell, of any shape."""
        for cell, count in zip(self._cells, counts.ravel().tolist(), strict=True):
            if count:
                cell.inc(count)


class ArrayHistogram(Collector):
    """A histogram that takes arrays; prometheus_client's own takes one observation a call."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str, bounds: Sequence[float]) -> None:
        self._name, self._text = name, text
        self._bounds = np.array(bounds)
        self._labels = [*(str(float(bound)) for bound in bounds), "+Inf"]
        self._counts = np.zeros(len(bounds) + 1, np.int64)
        self._sum = 0.0
        self._lock = threading.Lock()
        registry.register(self)

    def observe(self, values: NDArray[np.float64]) -> None:
        """Add observations, float64 (n,); infinite ones and NaN are left out."""
        # Latencies compare clocks of two machines, which may differ: a negative one counts as zero.
        use = np.fmax(values[np.isfinite(values)], 0.0)
        # A bucket includes its bound (`le`), hence `left`.
        counts = np.bincount(np.searchsorted(self._bounds, use, side="left"), minlength=len(self._counts))
        with self._lock:
            self._counts += counts
            self._sum += float(use.sum())

    def collect(self) -> Iterable[Metric]:
        """Yield the cumulative buckets to a scrape, which runs in another thread."""
        with self._lock:
            cumulative, total = np.cumsum(self._counts).tolist(), self._sum
        buckets = list(zip(self._labels, cumulative, strict=True))
        yield HistogramMetricFamily(self._name, self._text, buckets=buckets, sum_value=total)
