"""Samples of a worker's /metrics, and the figures that Prometheus computes from such samples."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from worker.telemetry.metrics import PREFIX

UNKNOWN: Final = math.nan

Samples = Mapping[tuple[str, frozenset[tuple[str, str]]], float]
"""Values by name, without the prefix, and labels."""


def read_samples(text: str) -> Samples:
    """Return the samples of a text in Prometheus' format."""
    return {
        (sample.name.removeprefix(f"{PREFIX}_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sample_value(samples: Samples, name: str, **labels: str) -> float:
    """Return the value of one sample; NaN if it is missing."""
    return samples.get((name, frozenset(labels.items())), UNKNOWN)


def sample_sum(samples: Samples, name: str, **labels: str) -> float:
    """Return the sum of a metric's samples with these labels; 0 without such samples."""
    wanted = labels.items()
    return sum(
        number for (called, has), number in samples.items() if called == name and wanted <= dict(has).items()
    )


def latency_buckets(samples: Samples) -> Mapping[float, float]:
    """Return the histogram from append to commit: the count up to each bound."""
    return {
        float(dict(labels)["le"]): count
        for (name, labels), count in samples.items()
        if name == "end_to_end_latency_seconds_bucket"
    }


def histogram_difference(now: Mapping[float, float], before: Mapping[float, float]) -> Mapping[float, float]:
    """Return the counts that came between two states of a histogram."""
    return {bound: count - before.get(bound, 0.0) for bound, count in now.items()}


def histogram_quantile(cumulative: Mapping[float, float], share: float) -> float:
    """Return a quantile of a histogram as PromQL's `histogram_quantile` does; NaN if it is empty.

    Parameters
    ----------
    cumulative
        Count up to each bound; the last bound is infinite.
    share
        From 0 to 1.
    """
    bounds = sorted(cumulative)
    count = cumulative[bounds[-1]] if bounds else 0.0
    if count <= 0:
        return UNKNOWN
    wanted, lower, below = share * count, 0.0, 0.0
    for bound in bounds:
        if cumulative[bound] >= wanted:
            break
        lower, below = bound, cumulative[bound]
    if math.isinf(bound):
        return lower
    inside = cumulative[bound] - below
    return lower + (bound - lower) * ((wanted - below) / inside if inside else 1.0)
