from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.anomaly import FlatForest
from models.blend import Blend, Parts
from models.digest import DigestMismatch
from models.examples import Examples, Verdict
from models.label_delay import HOURS, LabelDelays, weight_online
from models.payoff import Matured, Payoffs
from models.records import Budget, Commit, Digest, ModelRecord, Policy, Refit
from models.refit import RefitPlan, generation_job
from models.state import ForestStart, GenerationStart, LineageMismatchError, ModelState
from models.threshold import BINS, Calibration, CostPolicy
from models.vocabulary import MS_PER_DAY
from tests.support.model_log import (
    EAGER,
    FEATURES,
    LINEAGE,
    START_MS,
    commit,
    examples,
    new_state,
)

PLAN = RefitPlan(MS_PER_DAY, MS_PER_DAY, 256)


def day_of_commits(rng: np.random.Generator, days: int, per_day: int = 2) -> list[Commit]:
    def clocks_ms(day: int) -> dict[int, int]:
        return {partition: START_MS + day * MS_PER_DAY - partition * 60_000 for partition in range(3)}

    return [
        commit(rng, 15, from_ms=START_MS + day * MS_PER_DAY, clocks_ms=clocks_ms(day))
        for day in range(days)
        for _ in range(per_day)
    ]


def begun(state: ModelState) -> Refit:
    job = generation_job(state, PLAN)
    assert job is not None
    return job()


def a_forest(seed: int) -> Refit:
    rows = np.random.default_rng(seed).normal(size=(300, FEATURES)).astype(np.float32)
    return Refit("forest", 0, START_MS, FlatForest.fit(rows, trees=3, seed=seed).arrays())


def a_log() -> list[ModelRecord]:
    """Of everything: lineage, policy, commits, a generation, a forest, a second policy."""
    commits = day_of_commits(np.random.default_rng(5), 8)
    state = folded([LINEAGE, EAGER, *commits[:6]])
    stricter = dataclasses.replace(EAGER, horizon_ms=2 * MS_PER_DAY)
    return [LINEAGE, EAGER, *commits[:8], begun(state), *commits[8:12], a_forest(1), stricter, *commits[12:]]


def folded(records: list[ModelRecord], step: int = 1) -> ModelState:
    state = new_state()
    for index, record in enumerate(records):
        state.fold(index * step, record)
    return state


def test_two_workers_that_fold_one_log_agree_to_the_bit() -> None:
    log = a_log()
    assert folded(log).digest() == folded(log).digest()


def test_a_changed_bit_of_one_record_changes_the_digest() -> None:
    log = a_log()
    first = log[2]
    assert isinstance(first, Commit)
    first.examples.weight[0] = np.nextafter(first.examples.weight[0], np.float32(9))
    other = a_log()
    assert folded(log).digest() != folded(other).digest()


def test_the_digest_depends_on_when_parts_began_and_on_the_policy_in_force() -> None:
    log = a_log()
    state = folded(log)
    assert state.generation is not None
    assert state.forest_fitted is not None
    begun, fitted = state.generation, state.forest_fitted
    cheaper = dataclasses.replace(state.policy, costs=dataclasses.replace(state.policy.costs, loss_fixed=5.5))
    seen = {state.digest()}
    for name, value in [
        ("generation", None),
        ("generation", dataclasses.replace(begun, offset=begun.offset + 1)),
        ("generation", dataclasses.replace(begun, clock_ms=begun.clock_ms + 1)),
        ("generation", dataclasses.replace(begun, frauds_learnt=begun.frauds_learnt + 1)),
        ("generation", dataclasses.replace(begun, change_ms=START_MS)),
        ("forest_fitted", None),
        ("forest_fitted", dataclasses.replace(fitted, clock_ms=fitted.clock_ms + 1)),
        ("forest_fitted", dataclasses.replace(fitted, traffic_seen=fitted.traffic_seen + 1)),
        ("policy", cheaper),
        ("policy_offset", state.policy_offset + 1),
        ("held_from_ms", START_MS),
    ]:
        before = getattr(state, name)
        setattr(state, name, value)
        seen.add(state.digest())
        setattr(state, name, before)
    assert len(seen) == 12


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.float32, np.uint8])
def test_the_digest_depends_on_every_bit_of_an_array(dtype: type[np.generic]) -> None:
    rng = np.random.default_rng(3)
    state = new_state()
    array = rng.integers(0, 256, 13 * 8, dtype=np.uint8).view(dtype)
    state.budget.arrays = lambda: {"made_up": array}  # type: ignore[method-assign]
    seen = {state.digest()}
    for bit in range(8 * array.nbytes):
        array.view(np.uint8)[bit // 8] ^= 1 << bit % 8
        seen.add(state.digest())
        array.view(np.uint8)[bit // 8] ^= 1 << bit % 8
    assert len(seen) == 1 + 8 * array.nbytes


def test_the_order_of_the_log_matters() -> None:
    one, other = day_of_commits(np.random.default_rng(5), 2, per_day=1)
    assert folded([one, other]).digest() != folded([other, one]).digest()


def test_reading_the_state_does_not_change_it() -> None:
    log = [
        dataclasses.replace(record, max_examples=40) if isinstance(record, Policy) else record
        for record in a_log()
    ]
    read, left_alone = new_state(), new_state()
    for offset, record in enumerate(log):
        read.fold(offset, record)
        left_alone.fold(offset, record)
        if job := generation_job(read, PLAN):
            job()
        assert read.thresholds() == left_alone.thresholds()
    assert read.digest() == left_alone.digest()
    assert read.digests.latest == left_alone.digests.latest


@pytest.mark.parametrize("is_legit", [True, False])
def test_where_silence_is_unknown_its_delays_are_known_to_the_guard_and_teach_nothing(
    is_legit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = dataclasses.replace(EAGER, silence_is_legit=is_legit)
    state = new_state(policy=policy)
    for offset, record in enumerate(day_of_commits(np.random.default_rng(5), 8)):
        state.fold(offset, record)
    refit = begun(state)
    assert ("legit_delays" in refit.arrays) != is_legit
    state.fold(state.offset + 1, refit)
    # Half of the frauds, and a third of the legits, have their labels within any time.
    state.delays = LabelDelays(np.full((2, HOURS), 0.5))
    if state.legit_delays is not None:
        state.legit_delays = LabelDelays(np.full((2, HOURS), 1.0 / 3.0))
    judged: list[Matured] = []
    learnt: list[LabelDelays] = []

    def choose(_: Payoffs, matured: Matured, costs: CostPolicy) -> None:
        assert costs == policy.costs
        judged.append(matured)

    def weighed(some: Examples, chance: NDArray[np.float64], delays: LabelDelays) -> NDArray[np.float64]:
        learnt.append(delays)
        return weight_online(some, chance, delays)

    monkeypatch.setattr(Payoffs, "choose", choose)
    monkeypatch.setattr("models.state.weight_online", weighed)
    state.held_from_ms = None
    state.fold(state.offset + 1, commit(np.random.default_rng(6), 15, from_ms=START_MS + 9 * MS_PER_DAY))
    [matured] = judged
    assert matured.delays.shares[0, 0] == 0.5
    assert matured.legit_delays.shares[0, 0] == (1.0 if is_legit else 1.0 / 3.0)
    assert [delays.shares[0, 0] for delays in learnt] == [0.5 if is_legit else 1.0]


def test_a_digest_is_remembered_wherever_a_multiple_is_reached_or_stepped_over() -> None:
    state = new_state()
    rng = np.random.default_rng(1)
    seen = []
    for offset in (0, 1, 3, 6, 7, 8, 15):
        state.fold(offset, commit(rng, 2))
        assert state.digests.latest is not None
        seen.append(state.digests.latest.offset)
    assert seen == [0, 0, 0, 6, 6, 8, 15]
    assert state.digests.latest == Digest(15, state.digest())


def test_a_digest_that_differs_is_noted_and_the_state_folds_on() -> None:
    rng = np.random.default_rng(2)
    state = new_state()
    state.fold(0, commit(rng, 5))
    at_zero = state.digests.latest
    assert at_zero is not None
    state.fold(1, commit(rng, 5, digest=at_zero))
    assert state.digests.mismatches == []
    state.fold(2, commit(rng, 5, digest=Digest(0, "f" * 64)))
    assert state.digests.mismatches == [DigestMismatch(0, "worker-1", at_zero.value, "f" * 64)]
    assert state.offset == 2


def test_a_digest_of_an_offset_not_remembered_is_passed_over() -> None:
    state = new_state()
    state.fold(0, commit(np.random.default_rng(2), 5))
    state.fold(1, commit(np.random.default_rng(3), 5, digest=Digest(-7, "f" * 64)))
    assert state.offset == 1


def test_a_generation_takes_force_at_its_offset_with_what_it_missed_learnt_once_more() -> None:
    rng = np.random.default_rng(9)
    commits = day_of_commits(rng, 6, per_day=1)
    state = new_state()
    for offset, record in enumerate(commits[:3]):
        state.fold(offset, record)
    refit = begun(state)
    assert refit.cut_offset == 2
    for offset, record in enumerate(commits[3:5], start=3):
        state.fold(offset, record)
    assert parts(state) == (False, False)
    state.fold(5, refit)
    slope, intercept = refit.arrays["calibration"]
    expected = Blend.from_arrays(refit.arrays)
    learn(expected, commits[3:5], state.calibration)
    assert_same_model(state, expected)
    assert (state.calibration.slope, state.calibration.intercept) == (float(slope), float(intercept))
    assert state.generation == GenerationStart(5, refit.clock_ms, state.frauds_learnt)
    state.fold(6, commits[5])
    learn(expected, commits[5:], state.calibration)
    assert_same_model(state, expected)


def test_a_newer_generation_replaces_the_one_in_force() -> None:
    state = new_state()
    commits = day_of_commits(np.random.default_rng(9), 4)
    for offset, record in enumerate(commits[:4]):
        state.fold(offset, record)
    state.fold(4, begun(state))
    state.fold(5, commits[4])
    second = begun(state)
    state.fold(6, second)
    assert_same_model(state, Blend.from_arrays(second.arrays))
    assert state.generation is not None
    assert state.generation.offset == 6


def parts(state: ModelState) -> tuple[bool, bool]:
    """Whether there is an online model, and a forest."""
    return state.online is not None, state.forest is not None


def learn(model: Blend, records: list[Commit], calibration: Calibration) -> None:
    for rows in (record.examples for record in records):
        for row in range(len(rows)):
            one = slice(row, row + 1)
            weight = rows.weight[one].astype(np.float64)
            model.learn_batch(rows.features[one], rows.label[one], weight)
            decided = Parts(
                rows.tables_logit[one].astype(np.float64), rows.trees_logit[one].astype(np.float64)
            )
            model.follow(decided, rows.label[one], weight, calibration)


def assert_same_model(state: ModelState, other: Blend) -> None:
    assert state.online is not None
    ours = state.online.arrays()
    for name, array in other.arrays().items():
        np.testing.assert_array_equal(ours[name], array, err_msg=name)


def test_a_forest_takes_force_at_its_offset() -> None:
    state = new_state()
    state.fold(0, commit(np.random.default_rng(9), 20))
    refit = a_forest(4)
    assert parts(state) == (False, False)
    state.fold(1, refit)
    assert state.forest is not None
    np.testing.assert_array_equal(state.forest.paths, refit.arrays["paths"])
    assert state.forest_fitted == ForestStart(refit.clock_ms, 20)


def test_a_policy_is_in_force_from_its_offset() -> None:
    state = new_state()
    cheaper = dataclasses.replace(EAGER, min_frauds=1)
    assert (state.policy, state.policy_offset) == (EAGER, -1)
    state.fold(3, cheaper)
    assert (state.policy, state.policy_offset) == (cheaper, 3)


def test_the_lineage_of_the_log_is_accepted_where_it_is_ours() -> None:
    state = new_state()
    state.fold(0, dataclasses.replace(LINEAGE))
    assert state.has_lineage


def test_another_lineage_is_refused_and_the_message_names_what_differs() -> None:
    spec = dataclasses.replace(LINEAGE.spec, entities=("merchant",))
    with pytest.raises(LineageMismatchError) as refused:
        new_state().fold(0, dataclasses.replace(LINEAGE, spec=spec, fraud_weight=3.0))
    message = str(refused.value)
    assert "entities: log ['merchant'], settings ['merchant', 'device']" in message
    assert "fraud_weight: log 3.0, settings 1.0" in message
    assert "numeric" not in message
    assert "key_fingerprint" not in message


def test_the_version_is_the_lineage_and_the_last_offset_folded() -> None:
    state = new_state()
    assert state.version == f"{LINEAGE.id}--1"
    state.fold(12, commit(np.random.default_rng(1), 3))
    assert state.version == f"{LINEAGE.id}-12"


def test_clocks_and_the_newest_label_never_go_back() -> None:
    rng = np.random.default_rng(1)
    state = new_state()
    state.fold(0, commit(rng, 3, clocks_ms={0: START_MS + 50, 1: START_MS + 90}))
    state.fold(1, commit(rng, 3, from_ms=START_MS - 5, clocks_ms={1: START_MS + 70, 2: START_MS}))
    assert state.clocks_ms == {0: START_MS + 50, 1: START_MS + 90, 2: START_MS}
    assert (state.clock_ms, state.newest_label_ms) == (START_MS + 90, START_MS)


def test_there_is_no_clock_before_the_first_commit() -> None:
    assert new_state().clock_ms is None


def test_a_commit_without_labels_leaves_the_newest_label_as_it_was() -> None:
    state = new_state()
    state.fold(0, dataclasses.replace(commit(np.random.default_rng(1), 3), newest_label_ms=None))
    assert state.newest_label_ms is None
    state.fold(1, commit(np.random.default_rng(1), 3))
    state.fold(2, dataclasses.replace(commit(np.random.default_rng(1), 3), newest_label_ms=None))
    assert state.newest_label_ms == START_MS


def test_the_online_model_is_trusted_once_it_has_learnt_enough_frauds() -> None:
    rng = np.random.default_rng(1)
    few, more = (examples(rng, EAGER.min_frauds - 1, frauds=1.0), examples(rng, 1, frauds=1.0))
    state = new_state()
    state.fold(0, dataclasses.replace(commit(rng, 0), examples=few))
    state.fold(1, begun(folded([commit(rng, 50)])))
    assert (state.frauds_learnt, state.online_is_trusted) == (EAGER.min_frauds - 1, False)
    state.fold(2, dataclasses.replace(commit(rng, 0), examples=more))
    scored = Budget(np.ones(BINS), np.zeros(BINS), 0, 0)
    state.fold(3, dataclasses.replace(commit(rng, 0), budget=scored))
    assert (state.frauds_learnt, state.online_is_trusted) == (EAGER.min_frauds, False)
    hours_later = {partition: clock + 2 * 3_600_000 for partition, clock in state.clocks_ms.items()}
    state.fold(4, dataclasses.replace(commit(rng, 0), budget=scored, clocks_ms=hours_later))
    assert state.online_is_trusted


def test_prevalence_counts_every_decision_an_example_stands_for() -> None:
    rng = np.random.default_rng(1)
    state = new_state()
    assert np.isnan(state.prevalence)
    rows = dataclasses.replace(
        examples(rng, 3),
        label=np.array([1, 0, 0], np.uint8),
        weight=np.array([1, 10, 9], np.float32),
    )
    state.fold(0, dataclasses.replace(commit(rng, 0), examples=rows))
    assert state.prevalence == 1 / 20


def fold_day(state: ModelState, day: float, traffic: int) -> None:
    """Fold a commit of so much traffic at the end of a day."""
    clock_ms = START_MS + round(day * MS_PER_DAY)
    record = commit(np.random.default_rng(0), 0, clocks_ms={0: clock_ms}, counts=(traffic, 0, 0))
    state.fold(state.offset + 1, dataclasses.replace(record, budget=Budget.empty()))


def test_the_sampling_rate_is_the_power_of_two_at_which_the_memory_holds_the_traffic() -> None:
    """Of 400 examples legits may fill 360; the memory spans 20 days."""
    state = new_state(policy=dataclasses.replace(EAGER, sample_one_in=None, max_examples=400))
    fold_day(state, 0.0, 100)
    # Taken for that of six hours it would be 8,000 in 20 days, but nobody knows that it goes on: four times what came.
    assert state.sample_one_in == 2
    fold_day(state, 0.25, 900)
    assert state.sample_one_in == 16
    for day in range(1, 40):
        fold_day(state, day, 100)
    # 100 a day, and what is left of the first: a little more than 2,000, and 360 x 4 < 2,000 <= 360 x 8.
    assert state.sample_one_in == 8
    for day in range(40, 80):
        fold_day(state, day, 10)
    # 200, and one part in 52 of 1,800 more.
    assert state.sample_one_in == 1


@pytest.mark.parametrize("first_ms", [1, START_MS - 5 * 365 * MS_PER_DAY])
def test_a_first_record_of_years_ago_does_not_change_the_sampling_rate(first_ms: int) -> None:
    state = new_state(policy=dataclasses.replace(EAGER, sample_one_in=None, max_examples=400))
    fold_day(state, (first_ms - START_MS) / MS_PER_DAY, 1)
    for day in range(1, 15):
        fold_day(state, day, 100)
    assert state.sample_one_in == 8


def test_traffic_dated_by_the_month_is_not_taken_for_that_of_a_day() -> None:
    """Of 400 examples legits may fill 360; the memory spans 20 days, of which 100 a month are some 70."""
    state = new_state(policy=dataclasses.replace(EAGER, sample_one_in=None, max_examples=400))
    fold_day(state, 0.0, 100)
    for month in range(1, 4):
        fold_day(state, 30.0 * month, 100)
        # All of the weight is that of the newest month, over the ten days of an e-fold: 220.
        assert state.sample_one_in == 1


def test_where_silence_means_nothing_the_sampling_rate_follows_what_labels_name() -> None:
    """Of 400 examples legits may fill 360; of 6,000 transactions labels name 30."""
    state = new_state(
        policy=dataclasses.replace(EAGER, sample_one_in=None, max_examples=400, silence_is_legit=False)
    )
    rng = np.random.default_rng(0)
    named = dataclasses.replace(
        examples(rng, 30), weight=np.ones(30, np.float32), label=np.zeros(30, np.uint8)
    )
    for days in (0, 10, 11):
        record = commit(rng, 0, clocks_ms={0: START_MS + days * MS_PER_DAY}, counts=(2_000, 0, 0))
        state.fold(
            state.offset + 1,
            dataclasses.replace(record, examples=named if days == 10 else named.take(slice(0))),
        )
    # 30 in 11 days are some 55 in the memory: all fit.
    assert state.sample_one_in == 1


def days_of_verdicts(frauds: int, legits: int, max_examples: int = 400) -> ModelState:
    """A state of 200 days of so many verdicts each; the memory is of 90 days, and silence takes 7."""
    policy = dataclasses.replace(
        EAGER, max_examples=max_examples, memory_ms=90 * MS_PER_DAY, negatives_after_ms=7 * MS_PER_DAY
    )
    state = new_state(policy=policy)
    rng = np.random.default_rng(3)
    for day in range(200):
        now_ms = START_MS + day * MS_PER_DAY
        its = dataclasses.replace(
            examples(rng, frauds + legits, now_ms),
            label=np.repeat([Verdict.FRAUD, Verdict.SILENT], [frauds, legits]).astype(np.uint8),
            weight=np.ones(frauds + legits, np.float32),
        )
        record = commit(rng, 0, clocks_ms={0: now_ms + MS_PER_DAY}, counts=(1, 0, 0))
        state.fold(day, dataclasses.replace(record, examples=its, budget=Budget.empty()))
    return state


def test_of_many_frauds_a_full_buffer_keeps_the_newest_seven_weeks_whole() -> None:
    """7 verdicts a day are 343 in the 7 + 42 days that it must reach back, so that no class is sampled."""
    kept = days_of_verdicts(frauds=3, legits=4).examples
    assert kept.kept_one_in.tolist() == [1, 1]
    rows = kept.snapshot()[0]
    assert len(rows) == 400
    assert int(rows.event_time_ms.min() - START_MS) // MS_PER_DAY == 200 - 58


def test_of_many_frauds_that_do_not_fit_in_seven_weeks_both_classes_are_sampled() -> None:
    """28 a day are 1,372 in 49 days; at 1 in 4 of both, 400 reach back 57 days."""
    kept = days_of_verdicts(frauds=14, legits=14).examples
    assert kept.kept_one_in.tolist() == [4, 4]
    rows = kept.snapshot()[0]
    assert 200 - 90 < (rows.event_time_ms.min() - START_MS) / MS_PER_DAY < 200 - 49


def test_few_frauds_are_kept_of_the_whole_memory_and_the_legits_beside_them_sampled() -> None:
    """Of 600 examples the 49 frauds of seven weeks are less than a tenth; 90 of them leave room for 1 legit in 4."""
    kept = days_of_verdicts(frauds=1, legits=16, max_examples=600).examples
    assert kept.kept_one_in.tolist() == [4, 1]
    rows = kept.snapshot()[0].for_generation(START_MS + 110 * MS_PER_DAY)
    assert np.count_nonzero(rows.label & Verdict.FRAUD) == 90


def test_shared_aggregates_are_folded_from_traffic_and_evidence() -> None:
    record = commit(np.random.default_rng(4), 30)
    state, other = new_state(), new_state()
    state.fold(0, record)
    other.shared.fold_transactions(record.traffic.entities, record.traffic.event_time_ms)
    frauds, legits = (
        change.astype(np.float64) for change in (record.evidence.frauds, record.evidence.legits)
    )
    other.shared.fold_evidence(record.evidence.hashes, frauds, legits, record.evidence.at_ms)
    for name, array in other.shared.arrays().items():
        np.testing.assert_array_equal(state.shared.arrays()[name], array)


def test_cohorts_close_by_the_slowest_partition() -> None:
    horizon_ms = EAGER.horizon_ms
    state = new_state()
    state.fold(0, commit(np.random.default_rng(4), 30, clocks_ms={0: START_MS, 1: START_MS}))
    late_ms = START_MS + 10 * MS_PER_DAY + horizon_ms
    state.fold(1, commit(np.random.default_rng(4), 0, clocks_ms={0: late_ms}))
    assert state.ledger.closed_days == 0
    state.fold(2, commit(np.random.default_rng(4), 0, clocks_ms={1: late_ms}))
    assert state.ledger.closed_days == 3


def test_a_refit_begun_before_the_one_in_force_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    state = new_state()
    state.fold(0, dataclasses.replace(commit(rng, 0), examples=examples(rng, 400)))
    newer = begun(state)
    state.fold(1, newer)
    digest = state.digest()
    state.fold(2, dataclasses.replace(newer, clock_ms=newer.clock_ms - 1, cut_offset=-1))
    assert state.digest() == digest
    assert state.generation == GenerationStart(1, newer.clock_ms, state.frauds_learnt)


TIGHT = dataclasses.replace(EAGER, max_entities=8, max_examples=60)
BOUNDS_CHANGED: list[ModelRecord] = [
    LINEAGE,
    TIGHT,
    *day_of_commits(np.random.default_rng(5), 3),
    dataclasses.replace(TIGHT, max_entities=30, max_examples=90),
    *day_of_commits(np.random.default_rng(6), 3),
    dataclasses.replace(TIGHT, max_entities=6, max_examples=20),
    *day_of_commits(np.random.default_rng(7), 3),
]


@pytest.mark.parametrize("settings", [EAGER, TIGHT, dataclasses.replace(EAGER, max_examples=7)])
def test_workers_agree_on_a_log_of_changing_bounds_under_any_settings_of_their_own(settings: Policy) -> None:
    digests = {}
    first = new_state(policy=TIGHT, digest_every=1)
    for offset, record in enumerate(BOUNDS_CHANGED):
        first.fold(offset, record)
        digests[offset] = first.digests.latest
    other = new_state(policy=settings, digest_every=1)
    for offset, record in enumerate(BOUNDS_CHANGED):
        written = (
            dataclasses.replace(record, digest=digests[offset - 1]) if isinstance(record, Commit) else record
        )
        other.fold(offset, written)
    assert first.shared.evictions > 0
    assert other.digests.latest == first.digests.latest
    (ours, our_offsets), (theirs, their_offsets) = first.examples.snapshot(), other.examples.snapshot()
    np.testing.assert_array_equal(ours.features, theirs.features)
    np.testing.assert_array_equal(our_offsets, their_offsets)


@pytest.mark.parametrize(
    ("change", "begins_again"),
    [
        ({"review_cost": 9.0}, True),
        ({"loss_factor": 0.5}, True),
        ({"alert_budget_cases_per_day": 3.0}, False),
        ({"alert_budget_cases_per_day": None}, True),
        ({"case_window_ms": 3_600_000}, True),
    ],
)
def test_a_change_of_what_an_alert_costs_begins_the_comparison_of_policies_again(
    change: dict[str, Any], begins_again: bool
) -> None:
    state = new_state()
    state.fold(0, EAGER)
    state.fold(1, commit(np.random.default_rng(5), 50))
    assert len(state.payoffs.arrays()["days"])
    costs = {name: value for name, value in change.items() if name != "case_window_ms"}
    windows = {name: value for name, value in change.items() if name not in costs}
    state.fold(2, dataclasses.replace(EAGER, costs=dataclasses.replace(EAGER.costs, **costs), **windows))
    assert (len(state.payoffs.arrays()["days"]) == 0) == begins_again


def test_a_policy_rebounds_what_is_remembered_from_its_offset_on() -> None:
    state = new_state()
    record = commit(np.random.default_rng(5), 50)
    state.fold(0, record)
    assert len(state.examples) == 50
    state.fold(1, dataclasses.replace(EAGER, max_entities=4, max_examples=30))
    assert len(state.shared) <= 2 * 4
    kept, offsets = state.examples.snapshot()
    assert 0 < len(kept) <= 30
    assert np.isin(kept.key, record.examples.key).all()
    assert offsets.tolist() == [0] * len(kept)
