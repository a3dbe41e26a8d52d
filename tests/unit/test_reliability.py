from __future__ import annotations

import math

import numpy as np
import pytest

from models.reliability import Reliability, wilson_interval


def brute_force(fraud: list[bool], probability: list[float], most: int) -> list[tuple[float, int, int]]:
    """Return mean probability, rows and frauds of each bin, one row after the other."""
    known = sorted((p, f) for p, f in zip(probability, fraud, strict=True) if not math.isnan(p))
    total = sum(p for p, _ in known)
    bins: dict[int, list[tuple[float, bool]]] = {}
    for value in sorted({p for p, _ in known}):
        up_to = sum(p for p, _ in known if p <= value)
        number = next(k for k in range(1, most + 1) if up_to <= k * total / most + 1e-9 or k == most)
        bins.setdefault(number, []).extend((p, f) for p, f in known if p == value)
    return [
        (sum(p for p, _ in rows) / len(rows), len(rows), sum(f for _, f in rows)) for rows in bins.values()
    ]


@pytest.mark.parametrize("most", [1, 3, 10])
@pytest.mark.parametrize("distinct", [2, 9, 1_000_000])
def test_bins_equal_brute_force(most: int, distinct: int) -> None:
    rng = np.random.default_rng(distinct + most)
    probability = np.round(rng.beta(0.3, 2.0, 300) * distinct) / distinct
    probability[::17] = np.nan
    fraud = rng.random(300) < 0.2
    bins = Reliability.of(fraud, probability, most)
    expected = brute_force(fraud.tolist(), probability.tolist(), most)
    assert bins.predicted.tolist() == pytest.approx([mean for mean, _, _ in expected])
    assert bins.count.tolist() == [rows for _, rows, _ in expected]
    assert bins.frauds.tolist() == [frauds for _, _, frauds in expected]
    assert bins.observed.tolist() == pytest.approx([frauds / rows for _, rows, frauds in expected])
    assert bins.count.sum() == np.isfinite(probability).sum()


@pytest.mark.parametrize(("frauds", "rows"), [(0, 1), (0, 7), (3, 7), (7, 7), (12, 40_000)])
def test_the_ends_of_an_interval_are_as_far_as_the_normal_quantile(frauds: int, rows: int) -> None:
    low, high = (float(end[0]) for end in wilson_interval(np.array([frauds]), np.array([rows])))
    assert 0.0 <= low <= frauds / rows <= high <= 1.0
    for end in {low, high} - {0.0, 1.0}:
        deviation = (frauds / rows - end) / math.sqrt(end * (1.0 - end) / rows)
        assert abs(deviation) == pytest.approx(1.959964, abs=1e-6)


@pytest.mark.parametrize("probability", [[], [np.nan, np.nan]])
def test_without_a_probability_there_is_no_bin(probability: list[float]) -> None:
    bins = Reliability.of(np.zeros(len(probability), np.bool_), np.array(probability), 10)
    assert len(bins) == 0


def test_probabilities_of_zero_share_one_bin() -> None:
    bins = Reliability.of(np.array([True, False]), np.zeros(2), 10)
    assert (bins.predicted.tolist(), bins.count.tolist(), bins.frauds.tolist()) == ([0.0], [2], [1])
