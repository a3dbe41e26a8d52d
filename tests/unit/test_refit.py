from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from models import refit
from models.anomaly import FlatForest
from models.blend import Mix
from models.candidates import Choice
from models.examples import Examples, Verdict
from models.label_delay import LabelDelays, Ripening
from models.maturing import Memory
from models.online import BinnedLogistic, build_generation
from models.records import Refit
from models.refit import FOREST_ROWS, Job, RefitPlan, forest_due, forest_job, generation_due, generation_job
from models.search import Found, Searcher
from models.state import ModelState
from models.threshold import Calibration
from models.vocabulary import MS_PER_DAY
from tests.support.model_log import (
    DIGEST_EVERY,
    EAGER,
    FEATURES,
    LINEAGE,
    POLICY,
    START_MS,
    commit,
    examples,
    fold_days,
)
from tests.support.scripted_blend import constant, scripted

PLAN = RefitPlan(generation_ms=7 * MS_PER_DAY, forest_ms=5 * MS_PER_DAY, forest_min_rows=500)


def state_with(
    *, learnt: int = 0, frauds: int = 0, traffic: int = 0, clock_ms: int = START_MS, lineage: float = 1.0
) -> ModelState:
    state = ModelState(dataclasses.replace(LINEAGE, fraud_weight=lineage), EAGER, DIGEST_EVERY)
    add(state, learnt=learnt, frauds=frauds, traffic=traffic, clock_ms=clock_ms)
    return state


def add(
    state: ModelState, *, learnt: int = 0, frauds: int = 0, traffic: int = 0, clock_ms: int = START_MS
) -> None:
    """Fold one commit with so many examples, so many of them frauds, and so much traffic."""
    rng = np.random.default_rng(state.offset + 2)
    rows = examples(rng, learnt, clock_ms - MS_PER_DAY)
    rows.label[:] = np.arange(learnt) < frauds
    record = commit(rng, 0, clocks_ms={0: clock_ms}, counts=(traffic, 0, 0))
    state.fold(state.offset + 1, dataclasses.replace(record, examples=rows))


def run(job: Job | None) -> Refit:
    assert job is not None
    return job()


def test_nothing_is_due_before_the_first_commit() -> None:
    state = ModelState(LINEAGE, POLICY, DIGEST_EVERY)
    assert not generation_due(state, PLAN)
    assert not forest_due(state, PLAN)


@pytest.mark.parametrize(
    ("learnt", "frauds", "due"),
    [
        (999, POLICY.min_frauds, False),
        (1_000, POLICY.min_frauds - 1, False),
        (1_000, POLICY.min_frauds, True),
    ],
)
def test_the_first_generation_waits_for_a_thousand_examples_and_enough_frauds(
    learnt: int, frauds: int, due: bool
) -> None:
    assert generation_due(state_with(learnt=learnt, frauds=frauds), PLAN) is due


def test_a_generation_is_redone_when_its_week_is_over() -> None:
    state = state_with(learnt=1_000, frauds=100)
    begun_ms = START_MS + 15 * MS_PER_DAY
    add(state, clock_ms=begun_ms)
    state.fold(2, run(generation_job(state, PLAN)))
    assert not generation_due(state, PLAN)
    add(state, clock_ms=begun_ms + PLAN.generation_ms - 1)
    assert not generation_due(state, PLAN)
    add(state, clock_ms=begun_ms + PLAN.generation_ms)
    assert generation_due(state, PLAN)


def test_a_generation_of_few_hours_is_redone_when_half_as_many_hours_more_have_matured() -> None:
    """In dense traffic a thousand examples mature within minutes: their generation is not in force for a week."""
    hour_ms = MS_PER_DAY // 24
    state = state_with(learnt=1_000, frauds=100)
    for hours, next_ms in ((0, hour_ms), (1, hour_ms), (3, 3 * hour_ms // 2), (6, 3 * hour_ms)):
        begun_ms = START_MS + hours * hour_ms
        add(state, clock_ms=begun_ms)
        state.fold(state.offset + 1, run(generation_job(state, PLAN)))
        add(state, clock_ms=begun_ms + next_ms - 1)
        assert not generation_due(state, PLAN), hours
        add(state, clock_ms=begun_ms + next_ms)
        assert generation_due(state, PLAN), hours


def test_a_generation_is_redone_when_it_has_learnt_twice_the_frauds() -> None:
    state = state_with(learnt=1_000, frauds=100)
    state.fold(1, run(generation_job(state, PLAN)))
    add(state, learnt=99, frauds=99)
    assert not generation_due(state, PLAN)
    add(state, learnt=1, frauds=1)
    assert generation_due(state, PLAN)


def state_of_a_stream(young_frauds: int = 0, newest_day: int = 19, newest_label_day: int = 19) -> ModelState:
    """Return a state with mature examples of twelve days, and frauds of the last labelled day, alerted on."""
    state = ModelState(LINEAGE, dataclasses.replace(POLICY, memory_ms=90 * MS_PER_DAY), DIGEST_EVERY)
    rng = np.random.default_rng(5)
    fold_days(state, rng, days=12, a_day=200, frauds=0.1, with_labels=False)
    newest_ms, labelled_ms = (START_MS + day * MS_PER_DAY for day in (newest_day, newest_label_day))
    rows = examples(rng, young_frauds, labelled_ms - MS_PER_DAY, frauds=1.0)
    rows.label[:] = Verdict.FRAUD | Verdict.ALERTED
    record = commit(rng, 0, clocks_ms={0: newest_ms})
    record = dataclasses.replace(record, examples=rows, newest_label_ms=labelled_ms)
    state.fold(state.offset + 1, record)
    return state


def assert_same_generation(one: Refit, other: Refit) -> None:
    assert one.arrays.keys() == other.arrays.keys()
    for name, values in one.arrays.items():
        np.testing.assert_array_equal(values, other.arrays[name], err_msg=name)


def test_frauds_that_are_labelled_before_silence_could_speak_shift_nothing() -> None:
    """All that a generation measures is of mature days alone: of the newest days only frauds are known."""
    quiet, rushed = (run(generation_job(state_of_a_stream(many), PLAN)) for many in (0, 500))
    assert_same_generation(quiet, rushed)


def test_frauds_of_days_whose_silence_a_dead_label_feed_keeps_back_shift_nothing() -> None:
    """The feed falls silent on day 14, so that silence speaks up to day 10: day 13 is known by its frauds alone."""
    quiet, rushed = (run(generation_job(state_of_a_stream(many, 24, 14), PLAN)) for many in (0, 500))
    assert_same_generation(quiet, rushed)


def test_where_the_first_labels_come_all_at_once_no_delay_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each is as late as its transaction is old, so that a delay would be said to be as long as the stream."""
    state = ModelState(LINEAGE, POLICY, DIGEST_EVERY)
    rng, clock_ms = np.random.default_rng(7), START_MS + 19 * MS_PER_DAY
    days = [examples(rng, 200, START_MS + day * MS_PER_DAY, frauds=0.1) for day in range(12)]
    rows = [dataclasses.replace(it, verdict_ms=np.full(200, clock_ms)) for it in days]
    record = dataclasses.replace(
        commit(rng, 0, clocks_ms={0: clock_ms}), examples=Examples.concatenate(rows), newest_label_ms=clock_ms
    )
    state.fold(0, record)
    assert LabelDelays.measured(record.examples, clock_ms).maturity_ms > 15 * MS_PER_DAY
    searched: list[Ripening] = []

    def searcher(ripening: Ripening, *given: Any, **named: Any) -> Searcher:
        searched.append(ripening)
        return Searcher(ripening, *given, **named)

    monkeypatch.setattr(refit, "Searcher", searcher)
    run(generation_job(state, PLAN))
    assert len(searched[0].mature_at(searched[0].now_ms)) == 2_400


@pytest.mark.parametrize(("delay_hours", "at_once"), [(0, True), (1, True), (2, False), (240, False)])
def test_late_verdicts_move_the_balance_of_the_mix_alone(delay_hours: int, at_once: bool) -> None:
    state = ModelState(LINEAGE, POLICY, DIGEST_EVERY)
    rng, clock_ms = np.random.default_rng(8), START_MS + 19 * MS_PER_DAY
    rows = Examples.concatenate(
        [examples(rng, 1_000, START_MS + day * MS_PER_DAY, frauds=0.2) for day in (0, 1, 2)]
    )
    rows = dataclasses.replace(rows, verdict_ms=rows.event_time_ms + delay_hours * 3_600_000)
    record = commit(rng, 0, clocks_ms={0: clock_ms})
    state.fold(0, dataclasses.replace(record, examples=rows, newest_label_ms=clock_ms))
    assert bool(run(generation_job(state, PLAN)).arrays["balance_alone"]) is not at_once


def labelled_after(days: int, memory_days: int, fraud_hours: int, legit_hours: int) -> tuple[ModelState, int]:
    """Return a state of so many days, each verdict so long after its decision, and its clock."""
    policy = dataclasses.replace(POLICY, memory_ms=memory_days * MS_PER_DAY)
    state = ModelState(LINEAGE, policy, DIGEST_EVERY)
    rng, clock_ms = np.random.default_rng(9), START_MS + (days + 7) * MS_PER_DAY
    rows = Examples.concatenate(
        [examples(rng, 100, START_MS + day * MS_PER_DAY, frauds=0.1) for day in range(days)]
    )
    # A verdict comes with a commit, minutes after the label.
    hours = np.where(rows.label == 1, fraud_hours, legit_hours) + rng.uniform(0.0, 0.5, len(rows))
    rows = dataclasses.replace(rows, verdict_ms=rows.event_time_ms + (hours * 3_600_000).astype(np.int64))
    record = commit(rng, 0, clocks_ms={0: clock_ms})
    state.fold(0, dataclasses.replace(record, examples=rows, newest_label_ms=clock_ms))
    return state, clock_ms


@pytest.mark.parametrize(
    ("days", "memory_days", "fraud_hours", "legit_hours", "holds"),
    [
        (12, 90, 0, 168, True),
        (12, 90, 48, 168, True),
        (30, 90, 48, 168, False),
        (12, 20, 48, 168, False),
        (12, 90, 168, 168, False),
        (12, 90, 0, 0, False),
        (12, 90, 5, 5, False),
        (12, 90, 48, 24, False),
    ],
)
def test_verdicts_of_a_young_stream_are_held_where_legits_come_later_than_frauds(
    days: int, memory_days: int, fraud_hours: int, legit_hours: int, holds: bool
) -> None:
    state, clock_ms = labelled_after(days, memory_days, fraud_hours, legit_hours)
    expected = clock_ms - POLICY.negatives_after_ms if holds else -1
    assert run(generation_job(state, PLAN)).arrays["held_from_ms"].tolist() == [expected]


@pytest.mark.parametrize(("fraud_hours", "holds"), [(48, True), (200, False)])
def test_after_a_change_of_everything_a_stream_is_young_but_for_what_is_known_of_its_delays(
    monkeypatch: pytest.MonkeyPatch, fraud_hours: int, holds: bool
) -> None:
    """Forty days are more than four times the wait for silence, and the ten since the change are less."""
    state, clock_ms = labelled_after(40, 90, fraud_hours, 200)
    steady = run(generation_job(state, PLAN)).arrays
    _, searched = changing(monkeypatch, START_MS + 30 * MS_PER_DAY)
    young = run(generation_job(state, PLAN)).arrays
    assert not searched[0].is_old
    assert steady["held_from_ms"].tolist() == [-1]
    assert (young["held_from_ms"].tolist() == [-1]) is not holds
    assert not holds or young["held_from_ms"].tolist() == [clock_ms - POLICY.negatives_after_ms]
    np.testing.assert_array_equal(young["label_delays"], steady["label_delays"])


def test_the_first_generation_is_made_once_enough_frauds_are_mature() -> None:
    """Labels of many more may be known: a model that has learnt three of them is worth less than the forest."""
    rng = np.random.default_rng(10)
    for mature, is_made in ((POLICY.min_frauds - 1, False), (POLICY.min_frauds, True)):
        state = ModelState(LINEAGE, POLICY, DIGEST_EVERY)
        clock_ms = START_MS + 9 * MS_PER_DAY
        old, young = examples(rng, 1_500, frauds=0.0), examples(rng, 50, clock_ms - MS_PER_DAY, frauds=1.0)
        old.label[:mature] = Verdict.FRAUD
        record = commit(rng, 0, clocks_ms={0: clock_ms})
        rows = Examples.concatenate([old, young])
        state.fold(0, dataclasses.replace(record, examples=rows, newest_label_ms=clock_ms))
        assert (generation_job(state, PLAN) is not None) is is_made


def test_frauds_that_the_newest_commit_has_labelled_are_learnt_as_frauds() -> None:
    state = ModelState(LINEAGE, POLICY, DIGEST_EVERY)
    rng = np.random.default_rng(6)
    clock_ms = START_MS + 10 * MS_PER_DAY + 5_000
    rows = examples(rng, 2_000, START_MS, frauds=0.1)
    rows = dataclasses.replace(
        rows, event_time_ms=START_MS + np.arange(2_000), verdict_ms=np.full(2_000, clock_ms)
    )
    record = dataclasses.replace(
        commit(rng, 0, clocks_ms={0: clock_ms}), examples=rows, newest_label_ms=clock_ms
    )
    state.fold(0, record)
    state.fold(1, run(generation_job(state, PLAN)))
    assert state.online is not None
    logit = state.online.score_batch(rows.features)
    assert roc_auc_score(rows.label, logit) > 0.9


def test_a_search_that_could_judge_nothing_is_made_again_and_one_that_could_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refit, "_CHEAP_ROWS", 0)
    state = state_of_a_stream()
    state.fold(state.offset + 1, run(generation_job(state, PLAN)))
    order = np.arange(FEATURES, dtype=np.int16)
    state.choice = Choice(0, -1, Mix(), order)
    assert np.isfinite(run(generation_job(state, PLAN)).arrays["losses"]).all()
    state.choice = Choice(0, -1, Mix(), order, None, 0.5, 0.5, 0.25, rows=1_700, known_frauds=40)
    kept = run(generation_job(state, PLAN)).arrays
    assert (kept["losses"].tolist(), kept["choice"].tolist()) == ([0.5, 0.5, 0.25], [0, -1, 1, 1_700, 40])
    # The state has 2,400 mature rows: one and a half times 1,600.
    state.choice = Choice(0, -1, Mix(), order, None, 0.5, 0.5, 0.25, rows=1_600)
    again = run(generation_job(state, PLAN)).arrays
    assert (again["losses"][0] != 0.5, again["choice"][2:4].tolist()) == (True, [0, 2_400])


def test_every_fourth_generation_searches_where_examples_are_many_and_have_not_grown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The 2,400 mature rows of the state lie between few, 2,000 here, and half as many again as the search had.
    monkeypatch.setattr(refit, "_CHEAP_ROWS", 2_000)
    state, searched = state_of_a_stream(), 0
    search = Searcher.search

    def counted(searcher: Searcher) -> Found:
        nonlocal searched
        searched += 1
        return search(searcher)

    monkeypatch.setattr(Searcher, "search", counted)
    searches, ages = [], []
    for _ in range(6):
        record = run(generation_job(state, PLAN))
        state.fold(state.offset + 1, record)
        assert state.choice is not None
        assert (state.choice.has_judged, state.choice.rows) == (True, 2_400)
        searches.append(searched)
        ages.append(state.choice.age)
    assert searches == [1, 1, 1, 1, 2, 2]
    assert ages == [0, 1, 2, 3, 0, 1]


def changing(monkeypatch: pytest.MonkeyPatch, change_ms: int) -> tuple[list[int], list[Ripening]]:
    """Let everything have changed at a moment; return what was believed before each job, and what each searcher had."""
    believed, searched = [], []

    def changed(*given: Any, **_: int) -> int:
        believed.append(given[3])
        return change_ms

    def noted(ripening: Ripening, *args: Any, **named: Any) -> Searcher:
        searched.append(ripening)
        return Searcher(ripening, *args, **named)

    monkeypatch.setattr(refit, "change_point_ms", changed)
    monkeypatch.setattr(refit, "Searcher", noted)
    return believed, searched


def test_after_a_change_of_everything_a_generation_learns_what_came_since(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = state_of_a_stream()
    change_ms = START_MS + 8 * MS_PER_DAY
    believed, searched = changing(monkeypatch, change_ms)
    for _ in range(2):
        state.fold(state.offset + 1, run(generation_job(state, PLAN)))
        assert state.generation is not None
        assert state.generation.change_ms == change_ms
    assert believed == [0, change_ms]
    # Twelve days of 200 rows are mature, and of each job's searcher the last four.
    assert [it.mature_rows for it in searched] == [4 * 200] * 2
    assert all(it.examples.event_time_ms.min() >= change_ms for it in searched)


@pytest.mark.parametrize(("moved_days", "searches"), [(0, False), (1, True)])
def test_where_everything_has_changed_anew_a_generation_searches(
    monkeypatch: pytest.MonkeyPatch, moved_days: int, searches: bool
) -> None:
    monkeypatch.setattr(refit, "_CHEAP_ROWS", 0)
    state = state_of_a_stream()
    changing(monkeypatch, START_MS + 4 * MS_PER_DAY)
    state.fold(state.offset + 1, run(generation_job(state, PLAN)))
    changing(monkeypatch, START_MS + (4 + moved_days) * MS_PER_DAY)
    age = int(run(generation_job(state, PLAN)).arrays["choice"][2])
    assert (age == 0) is searches


def test_a_generation_of_few_days_since_a_change_is_redone_when_half_as_many_more_have_matured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state = state_with(learnt=1_000, frauds=100)
    begun_ms = START_MS + 15 * MS_PER_DAY
    add(state, clock_ms=begun_ms)
    changing(monkeypatch, begun_ms - 4 * MS_PER_DAY)
    ripen = Memory.ripen
    monkeypatch.setattr(Memory, "ripen", lambda memory, _=0: ripen(memory))
    state.fold(state.offset + 1, run(generation_job(state, PLAN)))
    add(state, clock_ms=begun_ms + 2 * MS_PER_DAY - 1)
    assert not generation_due(state, PLAN)
    add(state, clock_ms=begun_ms + 2 * MS_PER_DAY)
    assert generation_due(state, PLAN)


def test_the_first_forest_waits_for_its_least_traffic() -> None:
    assert not forest_due(state_with(traffic=499), PLAN)
    assert forest_due(state_with(traffic=500), PLAN)


def fit_forest(state: ModelState, rows: int = 300) -> None:
    features = np.random.default_rng(1).normal(size=(rows, FEATURES)).astype(np.float32)
    state.fold(state.offset + 1, run(forest_job(state, features)))


def test_a_forest_is_refitted_when_young_traffic_has_doubled() -> None:
    state = state_with(traffic=600)
    fit_forest(state)
    add(state, traffic=599)
    assert not forest_due(state, PLAN)
    add(state, traffic=1)
    assert forest_due(state, PLAN)
    fit_forest(state)
    assert not forest_due(state, PLAN)


def test_once_a_forest_has_seen_its_fill_doubling_is_no_reason() -> None:
    state = state_with(traffic=FOREST_ROWS)
    fit_forest(state)
    add(state, traffic=FOREST_ROWS)
    assert not forest_due(state, PLAN)


def test_a_forest_is_refitted_when_its_time_is_over() -> None:
    state = state_with(traffic=FOREST_ROWS)
    fit_forest(state)
    add(state, clock_ms=START_MS + PLAN.forest_ms - 1)
    assert not forest_due(state, PLAN)
    add(state, clock_ms=START_MS + PLAN.forest_ms)
    assert forest_due(state, PLAN)


def test_a_generation_equals_one_built_by_hand_from_the_last_verdicts_in_transaction_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("models.cuts.LEAST_FRAUDS", 1_000)  # nothing is judged
    state = ModelState(dataclasses.replace(LINEAGE, fraud_weight=2.5), EAGER, DIGEST_EVERY)
    rng = np.random.default_rng(11)
    old = examples(rng, 40, START_MS - POLICY.memory_ms - 2 * MS_PER_DAY)
    rows = examples(rng, 200, START_MS - 3 * MS_PER_DAY)
    overruled = dataclasses.replace(rows.take(slice(0, 30)), label=1 - rows.label[:30])
    for part in (old, rows, overruled):
        record = commit(rng, 0, clocks_ms={0: START_MS})
        state.fold(state.offset + 1, dataclasses.replace(record, examples=part))
    job = generation_job(state, PLAN)
    add(state, learnt=50, frauds=10, clock_ms=START_MS + 40 * MS_PER_DAY)
    refit = run(job)

    last = {int(key): index for index, key in enumerate(rows.key)}
    label = rows.label.copy()
    label[:30] = overruled.label
    order = sorted(last.values(), key=lambda row: (rows.event_time_ms[row], rows.key[row]))
    weight = rows.weight[order].astype(np.float64)
    expected = build_generation(
        rows.features[order],
        label[order],
        weight,
        state.layout.names,
        state.layout.categorical,
        {"fraud_weight": 2.5, "main_bins": 16, "cross_bins": 8},
    )
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(refit.arrays[f"tables.{name}"], array, err_msg=name)
    unlearnt = BinnedLogistic(fraud_weight=2.5, main_bins=16, cross_bins=8).restart(
        rows.features[order], label[order], weight, state.layout.names, state.layout.categorical
    )
    newest = slice(150, None)
    calibration = Calibration.fit(unlearnt[newest], label[order][newest] == 1, weight[newest])
    expected_numbers = [calibration.slope, calibration.intercept]
    assert refit.arrays["calibration"].tolist() == pytest.approx(expected_numbers, rel=1e-12)
    assert (refit.kind, refit.cut_offset, refit.clock_ms) == ("generation", 2, START_MS)


def test_no_generation_follows_another_where_no_fraud_lies_within_its_memory() -> None:
    state = state_with(learnt=1_000, frauds=100)
    add(state, learnt=50, clock_ms=START_MS + POLICY.memory_ms + MS_PER_DAY)
    state.online = scripted(constant(0.0))
    assert generation_job(state, PLAN) is None


def test_a_forest_equals_one_fitted_by_hand_with_the_log_offset_for_a_seed() -> None:
    state = state_with(traffic=5)
    add(state, traffic=5, clock_ms=START_MS + 9)
    features = np.random.default_rng(1).normal(size=(400, FEATURES)).astype(np.float32)
    refit = run(forest_job(state, features))
    for name, array in FlatForest.fit(features, seed=1).arrays().items():
        np.testing.assert_array_equal(refit.arrays[name], array, err_msg=name)
    assert (refit.kind, refit.cut_offset, refit.clock_ms) == ("forest", 1, START_MS + 9)


def test_no_forest_is_fitted_on_less_than_a_trees_sample() -> None:
    features = np.zeros((255, FEATURES), np.float32)
    assert forest_job(state_with(traffic=500), features) is None
