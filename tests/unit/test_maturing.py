"""What a generation may learn: both classes alike, whatever a partition has fallen behind."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.examples import Examples, Verdict
from models.maturing import Memory
from models.vocabulary import MS_PER_DAY
from tests.support import model_log
from tests.support.model_log import START_MS
from tests.support.scripted_blend import constant, scripted

SHARE = 0.02
A_DAY = 1_000


def examples_of(partition: int, days: int, now_ms: int) -> Examples:
    """Return what is known by now of a partition: frauds after a day, legits by silence after a week."""
    rng = np.random.default_rng(partition)
    count = A_DAY * days
    rows = model_log.examples(rng, count, START_MS, SHARE)
    event_time_ms = np.sort(START_MS + rng.integers(0, days * MS_PER_DAY, count))
    fraud = rows.label == Verdict.FRAUD
    rows = replace(
        rows,
        event_time_ms=event_time_ms,
        verdict_ms=event_time_ms + np.where(fraud, 1, 7) * MS_PER_DAY,
        label=np.where(fraud, Verdict.FRAUD, Verdict.SILENT).astype(np.uint8),
        weight=np.ones(count, np.float32),
        key=np.uint64(partition << 48) + np.arange(count, dtype=np.uint64),
    )
    return rows.take(np.flatnonzero(rows.verdict_ms <= now_ms))


def memory_of(days: int, lag_days: int) -> Memory:
    """Return the memory of a model of two partitions, of which one lags."""
    clocks_ms = {0: START_MS + days * MS_PER_DAY, 1: START_MS + (days - lag_days) * MS_PER_DAY}
    policy = replace(model_log.POLICY, max_examples=200_000, memory_ms=90 * MS_PER_DAY, min_frauds=50)
    model = model_log.new_state(policy=policy)
    known = Examples.concatenate([examples_of(at, days, now_ms) for at, now_ms in clocks_ms.items()])
    commit = model_log.commit(np.random.default_rng(9), 0, clocks_ms=clocks_ms)
    model.fold(0, replace(commit, examples=known, newest_label_ms=max(clocks_ms.values())))
    return Memory.of(model)


@pytest.mark.parametrize(("days", "lag_days", "is_old"), [(20, 0, False), (60, 0, True), (60, 2, True)])
def test_a_partition_that_lags_makes_no_old_stream_young(*, days: int, lag_days: int, is_old: bool) -> None:
    """A young one is judged by hindsight; the verdicts of days that are not mature wait for the one that lags."""
    ripening = memory_of(days, lag_days).ripen().ripening
    assert ripening.is_old == is_old
    assert ripening.learns_young == (is_old and not lag_days)


def test_a_stream_whose_labels_all_take_a_week_is_young_until_it_has_lasted_several() -> None:
    """Its young verdicts shift no prior, but a moment of the past knew next to nothing."""
    memory = memory_of(days=20, lag_days=0)
    known = memory.examples
    late = replace(known, verdict_ms=known.event_time_ms + 7 * MS_PER_DAY)
    ripening = memory._replace(examples=late.take(late.verdict_ms <= memory.clock_ms)).ripen().ripening
    assert ripening.learns_young
    assert not ripening.is_old


def test_a_row_dated_long_before_all_others_makes_no_young_stream_old() -> None:
    memory = memory_of(days=20, lag_days=0)
    early = replace(
        memory.examples.take(np.array([0])),
        event_time_ms=np.array([START_MS - 40 * MS_PER_DAY]),
        label=np.array([Verdict.SILENT], np.uint8),
        key=np.array([1 << 60], np.uint64),
    )
    ripe = memory._replace(examples=Examples.concatenate([early, memory.examples])).ripen()
    assert not ripe.ripening.is_old
    assert ripe.held_from_ms == memory.ripen().held_from_ms > 0


def test_verdicts_that_came_as_the_clock_leapt_ahead_of_the_labels_are_known() -> None:
    """Times are first days of months: the labels of a month are dated a week after it and come with the next one."""
    policy = replace(model_log.POLICY, max_examples=200_000, memory_ms=90 * MS_PER_DAY)
    model = model_log.new_state(policy=policy)
    rows = model_log.examples(np.random.default_rng(1), 5_000, START_MS, SHARE)
    clock_ms = START_MS + 30 * MS_PER_DAY
    rows = replace(
        rows,
        event_time_ms=np.full(5_000, START_MS),
        verdict_ms=np.full(5_000, clock_ms),
        key=np.arange(5_000, dtype=np.uint64),
    )
    commit = model_log.commit(np.random.default_rng(9), 0, clocks_ms={0: clock_ms})
    model.fold(0, replace(commit, examples=rows, newest_label_ms=START_MS + 7 * MS_PER_DAY))
    ripening = Memory.of(model).ripen().ripening
    known = ripening.known_at(ripening.now_ms, ripening.mature_at(ripening.now_ms))
    assert int(known.y.sum()) == np.count_nonzero(rows.label & Verdict.FRAUD) > 50


def rare(*fraud_days: int, days: int, has_model: bool) -> Memory:
    """Return the memory of 40 days of a model, ten legits a day and a fraud on each of these days; three are needed."""
    policy = replace(model_log.POLICY, max_examples=200_000, memory_ms=40 * MS_PER_DAY, min_frauds=3)
    model = model_log.new_state(policy=policy)
    day = np.concatenate([np.repeat(np.arange(days), 10), fraud_days])
    rows = model_log.examples(np.random.default_rng(1), len(day), START_MS, 0.0)
    rows = replace(
        rows, event_time_ms=START_MS + day * MS_PER_DAY, verdict_ms=START_MS + (day + 7) * MS_PER_DAY
    )
    rows.label[-len(fraud_days) :] = Verdict.FRAUD
    clock_ms = START_MS + days * MS_PER_DAY
    commit = model_log.commit(np.random.default_rng(9), 0, clocks_ms={0: clock_ms})
    model.fold(0, replace(commit, examples=rows, newest_label_ms=clock_ms))
    model.online = scripted(constant(0.0)) if has_model else None
    return Memory.of(model)


@pytest.mark.parametrize(
    ("fraud_days", "has_model", "reaches_back_to", "frauds"),
    [
        ((70, 80, 85, 90), False, 60, 4),  # enough within the memory, of the days 60 to 100
        ((5, 20, 45, 80), False, 20, 3),  # the newest three are enough
        ((5, 20, 45, 80), True, 20, 3),
        ((5, 20, 45), False, 5, 3),  # labels come later than the memory lasts
        ((5, 20, 45), True, 60, 0),  # the feed has fallen silent: what is in force stays
        ((20, 80), True, 20, 2),
    ],
)
def test_the_memory_reaches_back_until_there_are_frauds_enough(
    *, fraud_days: tuple[int, ...], has_model: bool, reaches_back_to: int, frauds: int
) -> None:
    memory = rare(*fraud_days, days=100, has_model=has_model)
    assert (memory.since_ms - START_MS) / MS_PER_DAY == reaches_back_to
    assert memory.mature_frauds() == frauds
    learnt = memory.examples.for_generation(memory.since_ms)
    assert int(np.count_nonzero(learnt.label == Verdict.FRAUD)) == frauds


@pytest.mark.parametrize("lag_days", [0, 6, 10])
def test_a_partition_that_lags_adds_no_frauds_whose_legits_are_still_to_come(lag_days: int) -> None:
    ripening = memory_of(20, lag_days).ripen().ripening
    rows = ripening.known_at(ripening.now_ms, ripening.mature_at(ripening.now_ms))
    share = float(np.average(rows.y, weights=rows.w))
    frauds = int(rows.y.sum())
    assert frauds > 100
    # Within three standard errors of the truth; with the silence of a lagging partition still to come it was 0.026.
    assert share == pytest.approx(SHARE, abs=3 * SHARE / np.sqrt(frauds))
