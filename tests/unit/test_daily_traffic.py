"""What a verdict is weighed by where traffic is not what it was."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from models.blend import Blend
from models.daily_traffic import DailyTraffic
from models.examples import Examples, Verdict
from models.label_delay import LabelDelays, Ripening
from models.refit import RefitPlan, generation_job
from models.vocabulary import MS_PER_DAY
from tests.support.model_log import EAGER, START_MS, commit, examples, new_state

WEEK_MS = 7 * MS_PER_DAY
BEGIN = 20_000
"""The first day."""


def of_days(counts: list[int]) -> DailyTraffic:
    """Return the traffic of consecutive days from `BEGIN` on, folded a day at a time."""
    traffic = DailyTraffic()
    for at, count in enumerate(counts):
        begin_ms = (BEGIN + at) * MS_PER_DAY
        traffic.fold(np.full(count, begin_ms + 5), begin_ms + MS_PER_DAY - 1)
    return traffic


def verdicts(event: list[float], verdict: list[float], label: list[int]) -> Examples:
    """Return verdicts by days since `BEGIN`."""
    count = len(event)
    return dataclasses.replace(
        Examples.empty(features=1),
        features=np.zeros((count, 1), np.float32),
        label=np.array(label, np.uint8),
        weight=np.ones(count, np.float32),
        event_time_ms=in_ms(event),
        key=np.arange(count, dtype=np.uint64),
        logit=np.zeros(count, np.float32),
        tables_logit=np.zeros(count, np.float32),
        trees_logit=np.zeros(count, np.float32),
        verdict_ms=in_ms(verdict),
    )


def in_ms(days: list[float]) -> NDArray[np.int64]:
    return np.array([round((BEGIN + day) * MS_PER_DAY) for day in days], np.int64)


def test_an_early_fraud_counts_for_the_traffic_of_which_silence_speaks_over_that_of_its_own_day() -> None:
    traffic = of_days([100] * 8 + [300] * 7 + [100] * 8)
    found = traffic.weights(
        verdicts(
            # On an ordinary day; in the week of more; after it; before it, but labelled late; labelled on its own day.
            [5.5, 9.5, 16.5, 2.5, 8.5],
            [7.5, 10.5, 18.5, 20.5, 8.9],
            [Verdict.FRAUD] * 5,
        ),
        WEEK_MS,
    )
    # The last is weighed by the day before its own, of which not all has been seen.
    assert found.tolist() == pytest.approx([1.0, 100 / 300, 300 / 100, 1.0, 100 / 100])


def test_silence_counts_as_it_is_and_a_legit_that_a_label_names_early_as_a_fraud_does() -> None:
    traffic = of_days([100] * 8 + [300] * 7)
    found = traffic.weights(
        verdicts([9.5, 9.5, 9.5, 2.5], [16.5, 16.5, 10.5, 14.5], [Verdict.SILENT, Verdict.ALERTED, 0, 0]),
        WEEK_MS,
    )
    # The last label came when silence had spoken.
    assert found.tolist() == pytest.approx([1.0, 1.0, 100 / 300, 1.0])


def test_a_day_of_hardly_any_traffic_or_of_unknown_traffic_makes_no_weight_extreme() -> None:
    traffic = of_days([100, 0, 2] + [100] * 9)
    frauds = verdicts([8.5, 7.5, 8.5, 4.5], [9.5, 8.5, 10.5, 4.7], [Verdict.FRAUD] * 4)
    # Beside 2 of 100 a quarter at the least; 1 beside none, beside as many, and beside what was before all.
    assert traffic.weights(frauds, WEEK_MS).tolist() == [0.25, 1.0, 1.0, 1.0]
    assert DailyTraffic().weights(frauds, WEEK_MS).tolist() == [1.0] * 4


def test_only_the_newest_days_are_remembered_and_a_late_event_belongs_to_its_own() -> None:
    traffic = of_days([100] * 3)
    traffic.fold(np.full(50, BEGIN * MS_PER_DAY), (BEGIN + 3) * MS_PER_DAY)
    before = verdicts([1.5], [7.5], [Verdict.FRAUD])
    # Day 0 has 150, day 1 has 100.
    assert traffic.weights(before, WEEK_MS).tolist() == [1.5]
    later = BEGIN + 600
    traffic.fold(np.array([BEGIN * MS_PER_DAY, later * MS_PER_DAY]), later * MS_PER_DAY)
    assert traffic.weights(before, WEEK_MS).tolist() == [1.0]
    assert int(traffic.arrays()["counts"].sum()) == 1


def test_an_event_ahead_of_the_clock_counts_as_of_the_clock() -> None:
    traffic = DailyTraffic()
    traffic.fold(np.full(7, (BEGIN + 9) * MS_PER_DAY), BEGIN * MS_PER_DAY)
    assert traffic.arrays()["counts"][BEGIN % 512] == 7
    assert traffic.arrays()["newest_day"].tolist() == [BEGIN]


def test_a_snapshot_stays_as_it_is() -> None:
    traffic = of_days([100] * 3)
    kept = traffic.snapshot()
    traffic.fold(np.full(50, BEGIN * MS_PER_DAY), (BEGIN + 3) * MS_PER_DAY)
    assert int(kept.arrays()["counts"].sum()) == 300


def test_tables_learn_young_frauds_by_these_weights() -> None:
    traffic = of_days([100] * 8 + [300] * 7)
    known = verdicts([2.5, 9.5], [9.5, 10.5], [Verdict.SILENT, Verdict.FRAUD])
    none = LabelDelays.none()
    now_ms = (BEGIN + 12) * MS_PER_DAY
    ripening = Ripening(known, np.zeros(2), none, now_ms, WEEK_MS, learns_young=True, traffic=traffic)
    ripening = dataclasses.replace(ripening, silence_ms=WEEK_MS)
    assert ripening.in_order(now_ms).w.tolist() == pytest.approx([1.0, 1 / 3])
    day_ms = [(BEGIN + day) * MS_PER_DAY for day in (10, 11)]
    assert ripening.verdicts_between(*day_ms).w.tolist() == pytest.approx([1 / 3])


def test_a_worker_learns_what_a_label_says_by_these_weights() -> None:
    rng = np.random.default_rng(1)
    state = new_state(policy=EAGER)
    for offset in range(4):
        state.fold(offset, commit(rng, 30, from_ms=START_MS + offset * MS_PER_DAY))
    job = generation_job(state, RefitPlan(MS_PER_DAY, MS_PER_DAY, 256))
    assert job is not None
    generation = job()
    state.fold(4, generation)
    state.fold(5, dataclasses.replace(EAGER, negatives_after_ms=2 * MS_PER_DAY))
    clock_ms = START_MS + 6 * MS_PER_DAY
    fraud = examples(rng, 1, START_MS + 5 * MS_PER_DAY, frauds=1.0)
    fraud = dataclasses.replace(fraud, verdict_ms=np.array([clock_ms]))
    record = dataclasses.replace(commit(rng, 0, clocks_ms={0: clock_ms}), examples=fraud)
    # Silence speaks of day 4 when a label says what the decision of day 5 was.
    for day, count in ((4, 60), (5, 30)):
        state.daily_traffic.fold(np.full(count, START_MS + day * MS_PER_DAY), clock_ms)
    state.fold(6, record)
    expected, weight = Blend.from_arrays(generation.arrays), fraud.weight * 60 / 30
    expected.learn_batch(fraud.features, fraud.label, weight.astype(np.float64))
    assert state.online is not None
    for name, array in expected.arrays().items():
        if name.startswith("tables"):
            np.testing.assert_array_equal(state.online.arrays()[name], array, err_msg=name)


def test_traffic_is_part_of_the_state() -> None:
    rng = np.random.default_rng(0)
    record = commit(rng, 5, clocks_ms={0: START_MS})
    one, other = new_state(policy=EAGER), new_state(policy=EAGER)
    one.fold(0, record)
    other.fold(0, record)
    assert one.digest() == other.digest()
    other.daily_traffic.fold(np.array([START_MS]), START_MS)
    assert one.digest() != other.digest()
