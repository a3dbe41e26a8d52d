from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.drift import BASE_RATE, SCORE, DriftWatch
from models.vocabulary import MS_PER_DAY

NAMES = ("amount", "hour", "channel")
PER_DAY = 24
"""Commits, of as many rows as are sampled at once."""


def day_of(
    rng: np.random.Generator, *, amount: float = 1.0, missing: float = 0.1
) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Return a day's commits: heavy-tailed amounts, the hour of the day, a field that is missing now and then."""
    found = []
    for hour in range(PER_DAY):
        channel = np.where(rng.random(64) < missing, np.nan, rng.normal(size=64))
        X = np.column_stack([amount * rng.lognormal(3.0, 1.5, 64), np.full(64, hour), channel])
        found.append((X.astype(np.float32), rng.beta(1, 200, 64).astype(np.float32)))
    return found


def watched(
    watch: DriftWatch,
    days: int,
    rng: np.random.Generator,
    first: int = 0,
    changes: dict[str, float] | None = None,
) -> list[str]:
    changed = []
    for day in range(first, first + days):
        for hour, (X, p) in enumerate(day_of(rng, **(changes or {}))):
            changed += watch.decided(X, p, day * MS_PER_DAY + hour * MS_PER_DAY // PER_DAY)
    return changed


@pytest.mark.parametrize("seed", range(5))
def test_steady_traffic_with_its_times_of_day_does_not_drift(seed: int) -> None:
    assert watched(DriftWatch(NAMES), 60, np.random.default_rng(seed)) == []


def test_a_date_goes_on_with_time_without_drifting() -> None:
    watch, rng = DriftWatch(("amount", "age_date"), (1,)), np.random.default_rng(1)
    changed = []
    for day in range(60):
        X = np.column_stack([rng.gamma(2.0, 1.0, 600), day - rng.gamma(2.0, 5.0, 600)]).astype(np.float32)
        changed += watch.decided(X, np.full(600, 0.01, np.float32), day * MS_PER_DAY)
    assert changed == []


@pytest.mark.parametrize(("changes", "name"), [({"amount": 2.0}, "amount"), ({"missing": 0.6}, "channel")])
def test_what_changes_is_named_within_days_and_nothing_else(changes: dict[str, float], name: str) -> None:
    watch, rng = DriftWatch(NAMES), np.random.default_rng(1)
    assert watched(watch, 20, rng) == []
    assert set(watched(watch, 8, rng, first=20, changes=changes)) == {name}
    assert watched(watch, 20, rng, first=60, changes=changes) == [], "the new state is the usual one"


def test_a_history_that_filled_in_the_first_weeks_is_watched_from_then_on() -> None:
    """Counts of a card are zero on a stream's first day."""
    watch, rng = DriftWatch(("count",)), np.random.default_rng(4)

    def counted(first: int, days: int, level: float) -> list[str]:
        changed = []
        for day in range(first, first + days):
            filled = min(day / 21.0, 1.0)
            for hour in range(PER_DAY):
                X = (filled * rng.gamma(2.0, level, (64, 1))).astype(np.float32)
                at_ms = day * MS_PER_DAY + hour * MS_PER_DAY // PER_DAY
                changed += watch.decided(X, np.full(64, 0.01, np.float32), at_ms)
        return changed

    counted(0, 60, 5.0)
    assert counted(60, 8, 10.0) == ["count"]


def test_scores_drift_where_they_expect_another_share_of_fraud_however_they_are_spread() -> None:
    """Generations spread their scores differently: what their probabilities have in common is the share they expect."""
    watch, rng = DriftWatch(NAMES), np.random.default_rng(2)

    def scored(first: int, days: int, level: float, spread: float) -> list[str]:
        changed = []
        for day in range(first, first + days):
            for hour, (X, _) in enumerate(day_of(rng)):
                at_ms = day * MS_PER_DAY + hour * MS_PER_DAY // PER_DAY
                p = rng.beta(spread * level, spread * (1.0 - level), len(X))
                changed += watch.decided(X, p.astype(np.float32), at_ms)
        return changed

    assert scored(0, 20, 0.01, 20.0) == []
    assert scored(20, 20, 0.01, 200.0) == [], "a generation of other spread and of the same mean"
    assert scored(40, 10, 0.04, 200.0) == [SCORE]


def test_a_rate_of_fraud_that_jumps_is_found_and_one_that_stays_is_not() -> None:
    rng, watch = np.random.default_rng(3), DriftWatch(NAMES)
    for day in range(40):
        assert watch.matured(day, float(rng.poisson(20)), 10_000) == []
    found = [name for day in range(40, 50) for name in watch.matured(day, float(rng.poisson(60)), 10_000)]
    assert set(found) == {BASE_RATE}


def test_a_day_counts_once_and_days_without_decisions_or_fraud_say_nothing() -> None:
    watch = DriftWatch(NAMES)
    for day in range(30):
        assert watch.matured(day, 0.0, 10_000) == []
        assert watch.matured(day, 9_999.0, 10_000) == []
        assert watch.matured(day + 1, 5.0, 0) == []


def test_few_and_odd_rows_are_no_reason_to_fail() -> None:
    watch = DriftWatch(NAMES)
    nothing = np.full((1, 3), np.nan, np.float32)
    for day in range(4_000):
        assert watch.decided(nothing, np.full(1, np.nan, np.float32), day * MS_PER_DAY) == []
    odd = np.array([[np.inf, -np.inf, 1e38]], np.float32)
    for day in range(4_000, 4_010):
        watch.decided(odd, np.ones(1, np.float32), day * MS_PER_DAY)
