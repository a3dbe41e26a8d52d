"""Of a young stream verdicts are held: what the online model learns of them, and when."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples, Verdict
from models.label_delay import LabelDelays
from models.maturing import legits_come_as_soon
from models.records import Commit, ModelRecord
from models.refit import RefitPlan, generation_job
from models.state import ModelState
from models.vocabulary import MS_PER_DAY
from tests.support.model_log import DIGEST_EVERY, LINEAGE, POLICY, START_MS, commit, examples

Learnt = Mapping[str, NDArray[Any]]
PLAN = RefitPlan(MS_PER_DAY, MS_PER_DAY, 256)


def assert_equal(one: Learnt, other: Learnt) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def on(day: int, rows: Examples | None = None) -> Commit:
    """Return the commit with which the clock reaches a day and labels are known up to it."""
    at_ms = START_MS + day * MS_PER_DAY
    record = dataclasses.replace(
        commit(np.random.default_rng(day), 0, clocks_ms={0: at_ms}), newest_label_ms=at_ms
    )
    return record if rows is None else dataclasses.replace(record, examples=rows)


def of_day(day: int, count: int = 80) -> Examples:
    return examples(np.random.default_rng(100 + day), count, START_MS + day * MS_PER_DAY)


def learnt(held_from_day: int, before: list[Commit], meanwhile: list[Commit], after: list[Commit]) -> Learnt:
    """Return the model after commits before the job, while it ran, and after its record; -1 holds nothing."""
    state = ModelState(LINEAGE, POLICY, DIGEST_EVERY)
    for record in [on(9, of_day(0, 1_500)), *before]:
        state.fold(state.offset + 1, record)
    job = generation_job(state, PLAN)
    assert job is not None
    made = job()
    held = np.array([-1 if held_from_day < 0 else START_MS + held_from_day * MS_PER_DAY], np.int64)
    made = dataclasses.replace(made, arrays={**made.arrays, "held_from_ms": held})
    later: list[ModelRecord] = [*meanwhile, made, *after]
    for it in later:
        state.fold(state.offset + 1, it)
    assert state.online is not None
    return state.online.arrays()


def joined(*parts: Examples) -> Examples:
    return Examples.concatenate(list(parts))


def test_of_a_young_stream_verdicts_are_learnt_once_silence_has_spoken_of_their_time() -> None:
    """What is held is compared with a worker that hears of it later, when the last of these decisions is a week old."""
    late, young = of_day(1, 20), of_day(9)
    held = learnt(2, [], [], [on(10, joined(late, young)), on(15)])
    assert_equal(held, learnt(-1, [], [], [on(10, late)]))
    held = learnt(2, [], [], [on(10, joined(late, young)), on(15), on(18)])
    assert_equal(held, learnt(-1, [], [], [on(10, late), on(18, young)]))
    held = learnt(2, [], [], [on(18, joined(late, young)), on(19)])
    assert_equal(held, learnt(-1, [], [], [on(18, joined(late, young))]))


def test_what_is_held_before_and_while_a_generation_is_made_is_learnt_once() -> None:
    one, two, three = of_day(3), of_day(5), of_day(8)
    held = learnt(3, [on(9, joined(one, three))], [on(10, two)], [on(11), on(13), on(16)])
    assert_equal(held, learnt(-1, [on(9, joined(one, three))], [], [on(11, one), on(13, two), on(16, three)]))


def test_what_is_held_waits_for_a_label_feed_that_is_silent() -> None:
    """Labels are known up to day 9, so that silence speaks of decisions up to day 5 alone."""
    quiet: Commit = dataclasses.replace(on(18), newest_label_ms=None)
    young = of_day(6)
    assert_equal(learnt(2, [], [], [on(9, young), quiet]), learnt(-1, [], [], []))


def test_of_a_verdict_that_was_overruled_while_it_was_held_nothing_is_learnt() -> None:
    young = of_day(8)
    overruled = dataclasses.replace(young, label=1 - young.label)
    held = learnt(2, [], [], [on(9, young), on(10, overruled), on(17)])
    assert_equal(held, learnt(-1, [], [], [on(17, overruled)]))


def comes_as_soon(
    fraud_delay_days: NDArray[np.float64], legit_delay_days: NDArray[np.float64], answered: int = 0
) -> bool:
    """Return whether a generation takes the verdicts of legits to come as soon as those of frauds.

    Of the frauds the first ones are alerts, answered within a day.
    """
    fraud_delay_days = np.where(np.arange(len(fraud_delay_days)) < answered, 0.5, fraud_delay_days)
    delay = np.concatenate([fraud_delay_days, legit_delay_days])
    some = examples(np.random.default_rng(3), len(delay), START_MS)
    verdict_ms = some.event_time_ms + (delay * MS_PER_DAY).astype(np.int64)
    at = np.arange(len(delay))
    label = np.where(at < len(fraud_delay_days), Verdict.FRAUD, 0) + np.where(
        at < answered, Verdict.ALERTED, 0
    )
    rows = dataclasses.replace(some, label=label.astype(np.uint8), verdict_ms=verdict_ms)
    delays = LabelDelays.measured(rows, START_MS + 60 * MS_PER_DAY)
    return legits_come_as_soon(rows, delays)


def test_silence_after_a_week_comes_later_than_labels_whose_last_quarter_takes_longer_than_that() -> None:
    rng = np.random.default_rng(4)
    frauds, silence = rng.standard_gamma(2.0, 1_000) * 2.9, np.full(3_000, 7.0)
    assert np.mean(frauds < 7.0) < 0.75
    assert not comes_as_soon(frauds, silence)
    assert comes_as_soon(np.full(1_000, 7.0), silence)
    assert comes_as_soon(frauds, rng.standard_gamma(2.0, 3_000) * 2.9)
    late = rng.standard_gamma(2.0, 1_000) * 20.0
    assert comes_as_soon(late, silence)
    assert comes_as_soon(late, silence, answered=200), "answers on alerts are of legits too"
