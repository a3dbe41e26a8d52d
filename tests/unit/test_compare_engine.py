from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from tests.support.fake_strategies import FirstFeature, strategy_named
from tests.support.materials import DELAY_MS, material_of
from tests.support.samples import drawn_sample
from worker.offline.compare.engine import MEMORY_MS, REFIT_MS, capped, try_out
from worker.offline.compare.result import Block
from worker.offline.compare.strategy import Caps, LeftOutError, Rule, Strategy
from worker.offline.dataset import NEVER

MATERIAL, TRUTH = material_of(days=70, a_day=24)
WINDOWS = MATERIAL.windows
TEST = MATERIAL.between(WINDOWS.test_ms, WINDOWS.end_ms)


def watched(name: str, caps: Caps | None = None) -> tuple[list[FirstFeature], Strategy]:
    """Return the models that a strategy will have made, and the strategy."""
    made: list[FirstFeature] = []

    def make(seed: int = 1) -> FirstFeature:
        assert seed == 1
        made.append(FirstFeature())
        return made[-1]

    strategy = dataclasses.replace(strategy_named(name), caps=caps or Caps())
    if strategy.make is None:
        return made, dataclasses.replace(strategy, make_online=make)
    return made, dataclasses.replace(strategy, make=make)


def test_a_batch_model_is_fitted_before_the_test_and_then_every_week() -> None:
    made, strategy = watched("good")
    frozen, refreshed = try_out(MATERIAL, strategy, seed=1)
    assert (frozen.block, refreshed.block) == (Block.FROZEN, Block.REFRESHED)
    assert len(frozen.decided) == len(refreshed.decided) == TEST.stop - TEST.start
    weeks = list(range(WINDOWS.test_ms, WINDOWS.end_ms, REFIT_MS))
    assert len(made) == 1 + 2 * len(weeks)
    for model, now_ms in zip([made[0], *made[2::2]], [WINDOWS.tune_ms, *weeks], strict=True):
        [train] = model.fitted
        # Only what is old enough to be known, and all of that up to the memory, but for the warm-up.
        since_ms = max(WINDOWS.train_ms, now_ms - MEMORY_MS)
        times_ms = MATERIAL.event_time_ms
        expected = times_ms[(times_ms >= since_ms) & (times_ms <= now_ms - DELAY_MS)]
        np.testing.assert_array_equal(train.event_time_ms, expected)
        known = TRUTH[np.searchsorted(MATERIAL.event_time_ms, train.event_time_ms)]
        np.testing.assert_array_equal(train.fraud, known)


def test_every_week_is_tuned_on_its_newest_matured_rows_by_a_model_of_all_older_ones() -> None:
    made, strategy = watched("good")
    list(try_out(MATERIAL, strategy, seed=1))
    weeks = range(WINDOWS.test_ms, WINDOWS.end_ms, REFIT_MS)
    times_ms, gap_ms = MATERIAL.event_time_ms, WINDOWS.test_ms - WINDOWS.gap_ms
    for model, now_ms in zip(made[1::2], weeks, strict=True):
        [train], [scored] = model.fitted, model.scored
        end_ms = now_ms - gap_ms
        start_ms = end_ms - WINDOWS.tune_length_ms
        np.testing.assert_array_equal(
            scored.event_time_ms, times_ms[(times_ms >= start_ms) & (times_ms < end_ms)]
        )
        np.testing.assert_array_equal(train.event_time_ms, times_ms[times_ms < start_ms])


def test_no_row_is_tuned_on_by_a_model_that_has_learnt_it_where_times_are_whole_days() -> None:
    times_ms = MATERIAL.event_time_ms // MS_PER_DAY * MS_PER_DAY
    # Delays that are no whole days are rounded up to the gap: younger rows than those of the gap mature, too.
    for delay_ms in (DELAY_MS, DELAY_MS - MS_PER_DAY // 2):
        arrived = dataclasses.replace(
            MATERIAL,
            event_time_ms=times_ms,
            matures_ms=times_ms + delay_ms,
            fraud_ms=np.where(TRUTH, times_ms + delay_ms, MATERIAL.fraud_ms),
        )
        made, strategy = watched("good")
        list(try_out(arrived, strategy, seed=1))
        for model in made:
            assert model.fitted[0].event_time_ms.max() < model.scored[0].event_time_ms.min()


@pytest.mark.parametrize("name", ["good", "online"])
def test_every_threshold_keeps_the_days_it_is_tuned_on_within_the_budget(name: str) -> None:
    """Of all their transactions, also those whose truth is never known."""
    rng = np.random.default_rng(3)
    unknown = (MATERIAL.event_time_ms >= WINDOWS.tune_ms) & (rng.random(len(MATERIAL)) < 0.3)
    some = dataclasses.replace(
        MATERIAL,
        matures_ms=np.where(unknown, NEVER, MATERIAL.matures_ms),
        fraud_ms=np.where(unknown, NEVER, MATERIAL.fraud_ms),
        budget_cases_per_day=0.5,
    )
    _, strategy = watched(name)
    frozen, refreshed = try_out(some, strategy, seed=1)
    weeks = range(WINDOWS.test_ms, WINDOWS.end_ms, REFIT_MS)
    times_ms = MATERIAL.event_time_ms
    for now_ms, block in [(WINDOWS.test_ms, frozen), *((week, refreshed) for week in weeks)]:
        end_ms = now_ms - (WINDOWS.test_ms - WINDOWS.gap_ms)
        tuned = (times_ms >= end_ms - WINDOWS.tune_length_ms) & (times_ms < end_ms)
        threshold = block.decided.threshold[np.searchsorted(times_ms[TEST], now_ms)]
        opened = np.unique(MATERIAL.case[tuned & (MATERIAL.features[:, 0] >= threshold)])
        assert len(opened) == WINDOWS.tune_length_ms // MS_PER_DAY // 2


@pytest.mark.parametrize("rule", [Rule.COST, Rule.CHEAPEST])
def test_a_rule_by_cost_alerts_again_on_a_card_whose_case_is_open_as_the_worker_does(rule: Rule) -> None:
    """Its review is paid; a threshold of the score knows nothing of that."""
    _, strategy = watched("good")
    case = MATERIAL.case[TEST]
    for block in try_out(MATERIAL, dataclasses.replace(strategy, rule=rule), seed=1):
        its, opened, expected = block.decided, set[int](), []
        for row in range(len(its)):
            alerts = bool(its.rank[row] >= its.threshold[row])
            joins = rule is Rule.COST and its.rank[row] >= 0.1 and int(case[row]) in opened
            expected.append(alerts or joins)
            if alerts:
                opened.add(int(case[row]))
        np.testing.assert_array_equal(its.alerted, expected)
        joined = its.alerted & (its.rank < its.threshold)
        assert joined.any() == (rule is Rule.COST)


def test_what_is_scored_carries_no_truth() -> None:
    for name in ("good", "online"):
        made, strategy = watched(name)
        list(try_out(MATERIAL, strategy, seed=1))
        assert made[0].scored
        assert not any(sample.fraud.any() for model in made for sample in model.scored)


def test_an_online_model_learns_each_verdict_once_in_order_of_arrival_and_never_before() -> None:
    made, strategy = watched("online")
    blocks = list(try_out(MATERIAL, strategy, seed=1))
    [model] = made
    assert [it.block for it in blocks] == [Block.FROZEN, Block.REFRESHED]
    learnt = np.concatenate([sample.event_time_ms for sample in model.fitted])
    assert (np.diff(learnt) > 0).all()
    assert learnt.max() < WINDOWS.end_ms - DELAY_MS
    [first, *_] = model.fitted
    assert first.event_time_ms.max() <= WINDOWS.tune_ms - DELAY_MS
    # The frozen block is one call before anything else is learnt; then each hour is scored and what arrived is learnt.
    assert len(model.scored[0]) == len(MATERIAL) - MATERIAL.between(0, WINDOWS.tune_ms).stop
    assert max(len(sample) for sample in model.scored[1:]) <= 1


def test_no_row_is_learnt_before_it_is_scored_where_labels_come_at_once_and_times_are_whole_hours() -> None:
    """As in a file that is dated to the hour or to the day."""
    hour_ms = MS_PER_DAY // 24
    times_ms = MATERIAL.event_time_ms // hour_ms * hour_ms
    fraud_ms = np.where(TRUTH, times_ms, MATERIAL.fraud_ms)
    material = dataclasses.replace(
        MATERIAL, event_time_ms=times_ms, fraud_ms=fraud_ms, matures_ms=times_ms.copy()
    )
    made, strategy = watched("online")
    list(try_out(material, strategy, seed=1))
    [model] = made
    first, *later = model.fitted
    frozen, *hours = model.scored
    assert first.event_time_ms.max() < frozen.event_time_ms.min()
    assert len(hours) == len(later)
    for scored, learnt in zip(hours, later, strict=True):
        np.testing.assert_array_equal(scored.event_time_ms, learnt.event_time_ms)


def test_a_fraud_label_that_comes_late_is_learnt_again() -> None:
    late = MATERIAL.event_time_ms + 2 * DELAY_MS
    material = dataclasses.replace(MATERIAL, fraud_ms=np.where(TRUTH, late, MATERIAL.fraud_ms))
    made, strategy = watched("online")
    list(try_out(material, strategy, seed=1))
    learnt = np.concatenate([sample.event_time_ms for sample in made[0].fitted])
    fraud = np.concatenate([sample.fraud for sample in made[0].fitted])
    times, counts = np.unique(learnt, return_counts=True)
    relearnt = TRUTH & (MATERIAL.event_time_ms + 2 * DELAY_MS < WINDOWS.end_ms)
    np.testing.assert_array_equal(times[counts == 2], MATERIAL.event_time_ms[relearnt])
    assert fraud.sum() == relearnt.sum()


def test_a_fraud_label_that_comes_early_is_learnt_as_it_arrives_and_once() -> None:
    early = MATERIAL.event_time_ms + DELAY_MS // 3
    material = dataclasses.replace(MATERIAL, fraud_ms=np.where(TRUTH, early, MATERIAL.fraud_ms))
    made, strategy = watched("online")
    list(try_out(material, strategy, seed=1))
    newest = TRUTH & (early < WINDOWS.end_ms) & (MATERIAL.matures_ms >= WINDOWS.end_ms)
    learnt = np.concatenate([sample.event_time_ms for sample in made[0].fitted])
    fraud = np.concatenate([sample.fraud for sample in made[0].fitted])
    np.testing.assert_array_equal(
        np.sort(learnt[fraud]), MATERIAL.event_time_ms[TRUTH & (early < WINDOWS.end_ms)]
    )
    assert newest.any()
    assert len(np.unique(learnt)) == len(learnt)
    [first, *_] = made[0].fitted
    assert (first.event_time_ms[first.fraud] <= WINDOWS.tune_ms - DELAY_MS // 3).all()
    assert (first.event_time_ms[~first.fraud] <= WINDOWS.tune_ms - DELAY_MS).all()


def test_no_later_label_changes_which_rows_an_online_model_had_learnt() -> None:
    def learnt_before(fraud_ms: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        made, strategy = watched("online", caps=Caps(rows=400))
        list(try_out(dataclasses.replace(MATERIAL, fraud_ms=fraud_ms), strategy, seed=1))
        [first, *_] = made[0].fitted
        return first.event_time_ms, first.weight

    later = MATERIAL.matures_ms > WINDOWS.tune_ms
    honest = learnt_before(MATERIAL.fraud_ms)
    more = later & (np.arange(len(MATERIAL)) % 2 == 0)
    lied = learnt_before(np.where(more, MATERIAL.matures_ms, MATERIAL.fraud_ms))
    assert len(honest[0]) < int((~later).sum())
    for one, two in zip(honest, lied, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("name", ["good", "online"])
def test_no_label_of_the_future_changes_what_was_decided_before(name: str) -> None:
    middle_ms = WINDOWS.test_ms + REFIT_MS
    known = MATERIAL.fraud_ms <= middle_ms
    lied = np.where(known | (MATERIAL.matures_ms <= middle_ms), MATERIAL.fraud_ms, MATERIAL.matures_ms)
    other = dataclasses.replace(MATERIAL, fraud_ms=lied)
    before = MATERIAL.event_time_ms[TEST] < middle_ms
    assert before.any()
    assert not before.all()
    for one, two in zip(
        try_out(MATERIAL, strategy_named(name), 1), try_out(other, strategy_named(name), 1), strict=True
    ):
        np.testing.assert_array_equal(one.decided.alerted[before], two.decided.alerted[before])
        np.testing.assert_array_equal(one.decided.probability[before], two.decided.probability[before])


def test_what_it_cannot_use_is_a_reason() -> None:
    with pytest.raises(LeftOutError, match="not finite"):
        list(try_out(MATERIAL, strategy_named("nan"), 1))
    with pytest.raises(LeftOutError, match=r"0\.5 means nothing"):
        list(try_out(MATERIAL, strategy_named("half"), 1))
    no_frauds = dataclasses.replace(MATERIAL, fraud_ms=np.full(len(MATERIAL), np.iinfo(np.int64).max))
    with pytest.raises(LeftOutError, match="only one class"):
        list(try_out(no_frauds, strategy_named("good"), 1))


def test_beyond_the_cap_legits_are_sampled_and_stand_for_more() -> None:
    sample = drawn_sample(4_000, seed=1)
    few = capped(sample, 1_000, seed=1)
    assert len(few) == 1_000
    assert few.fraud.sum() == sample.fraud.sum()
    assert (few.weight[few.fraud] == 1.0).all()
    assert few.weight.sum() == pytest.approx(len(sample))
    assert (np.diff(few.event_time_ms) > 0).all()
    again = capped(sample, 1_000, seed=1)
    np.testing.assert_array_equal(few.event_time_ms, again.event_time_ms)
    assert capped(sample, None, seed=1) is capped(sample, 4_000, seed=1) is sample


def test_frauds_are_sampled_only_where_they_alone_fill_the_cap() -> None:
    sample = drawn_sample(4_000, seed=1, prevalence=0.4)
    few = capped(sample, 1_000, seed=1)
    assert (len(few), int(few.fraud.sum())) == (1_000, 500)
    assert few.weight[few.fraud].sum() == pytest.approx(sample.fraud.sum())
    assert few.weight.sum() == pytest.approx(len(sample))
    mostly_fraud = dataclasses.replace(sample, fraud=np.arange(4_000) >= 100)
    assert int((~capped(mostly_fraud, 1_000, seed=1).fraud).sum()) == 100


def test_an_online_model_learns_no_more_than_its_cap() -> None:
    made, strategy = watched("online", caps=Caps(rows=400))
    list(try_out(MATERIAL, strategy, seed=1))
    weight = np.concatenate([sample.weight for sample in made[0].fitted])
    fraud = np.concatenate([sample.fraud for sample in made[0].fitted])
    learnable = int((MATERIAL.matures_ms < WINDOWS.end_ms).sum())
    assert len(weight) == pytest.approx(400, abs=60)
    assert (weight[fraud] == 1.0).all()
    assert weight.sum() == pytest.approx(learnable, rel=0.15)


def test_days_are_whole() -> None:
    assert WINDOWS.test_ms % MS_PER_DAY == 0
