from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models import search as search_module
from models.blend import Mix, Parts, Trees
from models.boosting import BoostingParams
from models.candidates import (
    FOR_FEW_FRAUDS,
    FOR_MANY_FRAUDS,
    TABLES,
    TREES,
    Choice,
    with_differences,
    with_slopes,
)
from models.cuts import Cut
from models.examples import Examples
from models.label_delay import LabelDelays, Ripening
from models.search import Searcher, _Judged, _mean_loss, _noise
from models.vocabulary import MS_PER_DAY, ChallengerMode
from tests.support.blends import CATEGORICAL, LAYOUT, NAMES, rows


def examples(days: int, per_day: int, seed: int = 1) -> Examples:
    some = rows(days * per_day, seed)
    time_ms = np.repeat(np.arange(days), per_day) * MS_PER_DAY
    count = len(some.y)
    return Examples(
        features=some.X, label=some.y, weight=some.w.astype(np.float32), event_time_ms=time_ms.astype(np.int64),
        key=np.arange(count, dtype=np.uint64), logit=np.full(count, np.nan, np.float32),
        tables_logit=np.full(count, np.nan, np.float32), trees_logit=np.full(count, np.nan, np.float32),
        verdict_ms=time_ms.astype(np.int64),
    )  # fmt: skip


def search(
    found: Examples,
    challenger: ChallengerMode = ChallengerMode.CHOOSE,
    recent: NDArray[np.float32] | None = None,
) -> Searcher:
    known = Ripening(
        found,
        np.zeros(len(found)),
        LabelDelays.none(),
        int(found.event_time_ms[-1]) + 2 * MS_PER_DAY,
        2 * MS_PER_DAY - 1,
    )
    return Searcher(known, LAYOUT, fraud_weight=1.0, seed=7, challenger=challenger, recent=recent)


def test_a_search_reports_what_it_judged_and_its_choice_makes_a_model() -> None:
    found = examples(30, 60)
    chosen = search(found).search()
    choice = chosen.choice
    assert 0 <= choice.tables_at < len(TABLES)
    assert choice.trees_at < len(TREES)
    assert choice.blend_loss <= min(choice.tables_loss, choice.trees_loss) + 0.01
    assert search(found).build(chosen).blend.score_batch(found.features).shape == (1_800,)
    again = search(found).search().choice
    assert again.arrays()["choice"].tolist() == choice.arrays()["choice"].tolist()
    assert (again.mix, again.calibration) == (choice.mix, choice.calibration)


def test_there_are_more_trees_than_the_search_had_if_it_knew_fewer_frauds() -> None:
    choice = Choice(0, 0, Mix(), np.arange(2, dtype=np.int16), known_frauds=400)
    assert TREES[0].trees == 250
    assert [choice.size(frauds).trees for frauds in (100, 400, 600, 5_000)] == [250, 250, 375, 500]
    assert dataclasses.replace(choice, trees_at=2).size(5_000).trees == 1_000
    assert choice.size(600) == dataclasses.replace(TREES[0], trees=375)


def test_there_are_no_more_trees_where_a_fit_that_stops_early_was_best() -> None:
    choice = Choice(0, 0, Mix(), np.arange(2, dtype=np.int16), known_frauds=400)
    early = [at for at in FOR_FEW_FRAUDS if TREES[at].trees <= 125]
    assert len(early) == 2
    for at in early:
        for its in (at, *with_slopes(at)):
            for one in (its, *with_differences(its)):
                assert dataclasses.replace(choice, trees_at=one).size(5_000) == TREES[one]


def test_the_trees_of_a_generation_are_as_many_as_its_frauds_call_for() -> None:
    searcher = search(examples(30, 60))
    found = searcher.search()
    cuts = searcher._cuts()
    known = np.mean([np.count_nonzero(cut.known.y) for cut in cuts])
    assert found.choice.known_frauds == round(known)
    trees_at = max(found.choice.trees_at, 0)
    chosen = found._replace(choice=dataclasses.replace(found.choice, trees_at=trees_at))
    trees = searcher.build(chosen).blend.trees
    assert trees is not None
    frauds = int(np.count_nonzero(searcher._rows.y))
    assert len(trees.booster.roots) == chosen.choice.size(frauds).trees > TREES[trees_at].trees


def test_the_trees_of_a_generation_take_a_value_that_is_frequent_by_now_for_missing() -> None:
    found = examples(30, 60)
    recent = np.full((30, len(NAMES)), 987.0, np.float32)
    before, now = search(found), search(found, recent=recent)
    chosen = before.search()
    chosen = chosen._replace(choice=dataclasses.replace(chosen.choice, trees_at=0))
    new, missing = found.features[:50].copy(), found.features[:50].copy()
    new[:, CATEGORICAL], missing[:, CATEGORICAL] = 987.0, np.nan
    scores = []
    for searcher in (before, now):
        trees = searcher.build(chosen).blend.trees
        assert trees is not None
        scores.append((trees.score(new), trees.score(missing)))
    assert (scores[0][0] != scores[0][1]).any()
    np.testing.assert_array_equal(scores[1][0], scores[1][1])


def test_columns_are_put_in_order_by_days_that_the_trees_have_not_learnt(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searcher, shown = search(examples(30, 60)), list[np.ndarray]()

    def declared(_: Trees, X: np.ndarray) -> np.ndarray:
        shown.append(X)
        return np.arange(4, dtype=np.int16)

    monkeypatch.setattr(search_module, "_order", declared)
    searcher.search()
    np.testing.assert_array_equal(shown[0], searcher._rows.X[searcher._cuts()[-1].judged])


def test_frauds_beyond_a_sample_do_not_count_as_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search_module, "SEARCH_ROWS", 60)
    assert search(examples(30, 60)).search().choice.known_frauds == 30


def test_the_offset_of_a_challenger_counts_for_the_share_of_the_rows_that_its_models_knew() -> None:
    searcher = search(examples(30, 60), ChallengerMode.SHADOW)
    found = searcher.search()
    built = searcher.build(found)
    assert found.choice.shadow is not None
    assert found.judged is not None
    assert built.challenger is not None
    X, y, w = found.judged
    offset, searched = built.challenger.mix.offset, found.choice.shadow.mix.offset
    parts = Parts(built.blend.score_parts(X).tables, built.challenger.trees.score(X))
    logit = built.challenger.score(parts) - offset
    own = (offset - found.known_share * searched) / (1.0 - found.known_share)
    # With its own offset it expects as many frauds as there are.
    assert np.dot(w, 1 / (1 + np.exp(-logit - own))) == pytest.approx(np.dot(w, y), rel=1e-6)
    assert abs(own - searched) > 0.01


def test_the_intercept_of_a_search_counts_for_the_share_of_the_rows_that_its_models_knew() -> None:
    searcher = search(examples(30, 60))
    found = searcher.search()
    choice = found.choice
    blend, calibration, *_ = searcher.build(found)
    cuts, known = searcher._cuts(), searcher._rows
    X, y, w = known.take(np.concatenate([cut.judged for cut in cuts]))
    logit, share = blend.score_batch(X), len(cuts[-1].known.y) / len(known.y)
    assert choice.calibration is not None
    assert 0.5 < share < 0.95
    # What is left is the intercept with which the generation expects the frauds of the judged days.
    own = (calibration.intercept - share * choice.calibration.intercept) / (1.0 - share)
    assert abs(own - choice.calibration.intercept) > 0.03
    slope = choice.calibration.slope
    assert w @ (1.0 / (1.0 + np.exp(-slope * logit - own))) == pytest.approx(w @ y, rel=1e-6)


def test_nothing_of_a_cuts_days_or_of_the_wait_for_labels_is_learnt_before_it() -> None:
    searcher = search(examples(30, 60))
    cuts = searcher._cuts()
    assert len(cuts) == 3
    for cut in cuts:
        newest_learnt, oldest_judged = (
            searcher._time_ms[: len(cut.known.y)].max(),
            searcher._time_ms[cut.judged].min(),
        )
        assert newest_learnt < oldest_judged - 2 * MS_PER_DAY + 1
    judged = np.concatenate([cut.judged for cut in cuts])
    assert len(set(judged.tolist())) == len(judged)


def test_a_row_dated_long_before_all_others_moves_no_cut() -> None:
    plain = examples(12, 60)
    early = dataclasses.replace(
        plain.take(np.array([0])), label=np.zeros(1, np.uint8),
        event_time_ms=plain.event_time_ms[:1] - 40 * MS_PER_DAY, verdict_ms=plain.verdict_ms[:1],
    )  # fmt: skip
    with_it = Examples.concatenate([early, plain])
    cuts, others = search(plain)._cuts(), search(with_it)._cuts()
    assert len(cuts) > 1
    assert [it.at_ms for it in others] == [it.at_ms for it in cuts]


def test_a_young_stream_is_judged_by_hindsight_but_in_the_order_of_time() -> None:
    """Labels take as long as the stream is old: at a moment within it, nothing was known."""
    found, wait_ms = examples(6, 200), 6 * MS_PER_DAY
    now_ms = int(found.event_time_ms[-1]) + wait_ms
    ripening = Ripening(found, np.zeros(len(found)), LabelDelays.none(), now_ms, wait_ms - 1)
    searcher = Searcher(ripening, LAYOUT, fraud_weight=1.0, seed=7)
    cuts = searcher._cuts()
    assert cuts
    assert all(cut.ripening is not ripening for cut in cuts)
    for cut in cuts:
        count = len(cut.known.y)
        assert found.event_time_ms[count - 1] < cut.at_ms <= found.event_time_ms[count]
        assert count == cut.judged[0]
        np.testing.assert_array_equal(cut.known.y, found.label[:count])
    assert {it for cut in cuts for it in found.event_time_ms[cut.judged] // MS_PER_DAY} == {3, 4, 5}
    choice = searcher.search().choice
    assert choice.has_judged
    assert choice.mix.trees > 0.5


def test_rows_of_one_time_are_judged_as_if_they_had_come_one_by_one() -> None:
    """Dates may say no more than the month, and its frauds are known before the next month comes."""
    found, wait_ms = examples(6, 200), 6 * MS_PER_DAY
    found = dataclasses.replace(found, event_time_ms=np.full(len(found), 90 * MS_PER_DAY))
    ripening = Ripening(found, np.zeros(len(found)), LabelDelays.none(), 120 * MS_PER_DAY, wait_ms)
    searcher = Searcher(ripening, LAYOUT, fraud_weight=1.0, seed=7)
    cuts = searcher._cuts()
    # A sixth of the last of 1,200 rows for each cut: half of them is judged.
    assert [len(cut.known.y) for cut in cuts] == [603, 802, 1001]
    for cut in cuts:
        count = len(cut.known.y)
        np.testing.assert_array_equal(cut.judged, np.arange(count, count + 199))
        np.testing.assert_array_equal(cut.known.y, found.label[:count])
    choice = searcher.search().choice
    assert choice.has_judged
    assert choice.mix.trees > 0.5


def test_an_old_stream_is_judged_as_it_was_known_then_however_long_labels_take() -> None:
    """Its models are as old as its labels when they decide, and by hindsight they would not be."""
    found, wait_ms = examples(30, 60), 16 * MS_PER_DAY
    now_ms = int(found.event_time_ms[-1]) + wait_ms
    young = Ripening(found, np.zeros(len(found)), LabelDelays.none(), now_ms, wait_ms - 1)
    old = dataclasses.replace(young, is_old=True)
    by_hindsight, as_then = (Searcher(it, LAYOUT, fraud_weight=1.0, seed=7)._cuts() for it in (young, old))
    assert all(cut.ripening is not young for cut in by_hindsight)
    assert all(cut.ripening is old for cut in as_then)
    assert len(as_then[-1].known.y) < 0.5 * len(found)


def test_a_stream_of_whose_examples_a_cut_knew_half_is_judged_as_it_was_known_then() -> None:
    searcher = search(examples(30, 60))
    for cut in searcher._cuts():
        assert cut.ripening is searcher._ripening
        assert len(cut.known.y) >= 0.5 * len(searcher._rows.y)


@pytest.mark.parametrize("beyond_noise", [False, True])
def test_a_candidate_that_loses_the_newest_days_is_judged_there_alone_and_one_that_wins_them_at_every_cut(
    *, beyond_noise: bool
) -> None:
    searcher = search(examples(30, 60))
    cuts = searcher._cuts()
    fraud = searcher._rows.y[np.concatenate([cut.judged for cut in cuts])] == 1
    perfect, hopeless = np.where(fraud, 20.0, -20.0), np.where(fraud, -20.0, 20.0)
    asked: list[int] = []

    def judged(some: list[Cut], at: int) -> np.ndarray:
        asked.append(len(some))
        return np.concatenate([0.001 * at + 1e-9 * cut.judged for cut in some])

    def used(_: list[Cut], logit: np.ndarray) -> np.ndarray:
        return logit

    best = _Judged(0, perfect)
    assert searcher._best(cuts, best, [1, 2], judged, used, beyond_noise=beyond_noise) is best
    assert asked == [1, 1]
    asked.clear()
    found = searcher._best(cuts, _Judged(0, hopeless), [1], judged, used, beyond_noise=beyond_noise)
    assert (found.at, asked) == (1, [1, 2])
    np.testing.assert_array_equal(found.logit, judged(cuts, 1))


@pytest.mark.parametrize("places", [[1, 2], [2, 1]])
@pytest.mark.parametrize(
    ("elsewhere", "expected", "cuts_judged"), [(9.0, 2, [1, 1, 2]), (-20.0, 1, [1, 1, 2, 2])]
)
def test_only_the_best_of_the_newest_days_is_made_at_every_cut_unless_it_fails_there_whichever_comes_first(
    elsewhere: float, expected: int, cuts_judged: list[int], places: list[int]
) -> None:
    searcher = search(examples(30, 60))
    cuts = searcher._cuts()
    asked: list[int] = []

    def logits(cut: Cut, at: int) -> np.ndarray:
        # The second candidate is better than the first on the newest days, and may be worse on the others.
        size = 2.0 * at if cut is cuts[-1] or at < 2 else elsewhere
        return np.where(searcher._rows.y[cut.judged] == 1, size, -size)

    def judged(some: list[Cut], at: int) -> np.ndarray:
        asked.append(len(some))
        return np.concatenate([logits(cut, at) for cut in some])

    simplest = _Judged(0, judged(cuts, 0))
    asked.clear()
    found = searcher._best(cuts, simplest, places, judged, lambda _, logit: logit, beyond_noise=False)
    assert (found.at, asked) == (expected, cuts_judged)
    np.testing.assert_array_equal(found.logit, judged(cuts, expected))


@pytest.mark.parametrize(("beyond_noise", "chosen"), [(False, 1), (True, 0)])
def test_what_is_better_by_one_day_alone_is_taken_only_where_noise_is_no_matter(
    *, beyond_noise: bool, chosen: int
) -> None:
    searcher = search(examples(30, 60))
    cuts = searcher._cuts()
    lucky_day = searcher._time_ms[cuts[-1].judged[0]] // MS_PER_DAY

    def judged(some: list[Cut], at: int) -> np.ndarray:
        rows = np.concatenate([cut.judged for cut in some])
        right = np.where(searcher._rows.y[rows] == 1, 1.0, -1.0)
        return at * right * np.where(searcher._time_ms[rows] // MS_PER_DAY == lucky_day, 5.0, -0.001)

    simplest = _Judged(0, judged(cuts, 0))
    found = searcher._best(cuts, simplest, [1], judged, lambda _, logit: logit, beyond_noise=beyond_noise)
    assert found.at == chosen


def test_a_search_of_a_single_cut_judges_every_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = search(examples(30, 60))
    only = searcher._cuts()[-1:]
    # Each is better than the one before, on two days alike.
    gains = itertools.count(1.0)
    monkeypatch.setattr(Searcher, "_gains", lambda *_: np.full(2, next(gains)))
    trees, order = searcher._chosen_trees(only)
    tables = searcher._chosen_tables(only, order, trees.logit)
    (sloped,) = with_slopes(FOR_FEW_FRAUDS[-1])
    assert (trees.at, tables.at) == (*with_differences(sloped), len(TABLES) - 1)
    assert len(trees.logit) == len(tables.logit) == len(only[0].judged)


def test_tables_are_judged_alike_whichever_were_judged_before() -> None:
    searcher = search(examples(30, 60))
    cuts, order = searcher._cuts(), np.array([2, 0, 3, 1], np.int16)
    for at in range(len(TABLES)):
        alone = search(examples(30, 60))._judged_tables(cuts, at, order)
        assert np.array_equal(searcher._judged_tables(cuts, at, order), alone)


@pytest.mark.parametrize(("many", "candidates"), [(1, FOR_MANY_FRAUDS), (10**9, FOR_FEW_FRAUDS)])
def test_larger_trees_need_a_lower_loss_and_differences_and_other_tables_one_lower_beyond_noise(
    monkeypatch: pytest.MonkeyPatch, many: int, candidates: tuple[int, ...]
) -> None:
    searcher, asked = search(examples(30, 60)), list[tuple[list[int], bool]]()

    def best(_: list[Cut], first: _Judged, others: list[int], *_rest: Any, beyond_noise: bool) -> _Judged:
        asked.append(([first.at, *others], beyond_noise))
        return first

    monkeypatch.setattr(search_module, "_MANY_FRAUDS", many)
    monkeypatch.setattr(searcher, "_best", best)
    searcher.search()
    first, tables = candidates[0], list(range(len(TABLES)))
    slopes, differences = [first, *with_slopes(first)], [first, *with_differences(first)]
    assert asked == [(list(candidates), False), (slopes, False), (differences, True), (tables, True)]


@pytest.mark.parametrize("sloped_is_better", [False, True])
def test_the_trees_that_are_best_start_from_slopes_where_they_then_are_better_still(
    monkeypatch: pytest.MonkeyPatch, *, sloped_is_better: bool
) -> None:
    searcher = search(examples(30, 200))
    cuts, fraud, best = searcher._cuts(), searcher._rows.y == 1, FOR_FEW_FRAUDS[2]
    (sloped,), (another,) = with_slopes(best), with_slopes(FOR_FEW_FRAUDS[1])
    size = {best: 4.0, sloped: 5.0 if sloped_is_better else 3.0, another: 9.0}
    rng = np.random.default_rng(3)
    noise = 2.0 * rng.normal(size=len(fraud))

    def logits(some: list[Cut], fits: list[BoostingParams]) -> np.ndarray:
        its = size.get(TREES.index(fits[0]), 0.0) * np.where(fraud, 1.0, -1.0) + noise
        return np.concatenate([its[cut.judged] for cut in some])

    monkeypatch.setattr(search_module, "_order", lambda *_: searcher._plain_order)
    monkeypatch.setattr(searcher, "_trees", lambda _, its: its)
    monkeypatch.setattr(searcher, "_logits", logits)
    assert searcher._chosen_trees(cuts)[0].at == (sloped if sloped_is_better else best)


def rank_by(
    monkeypatch: pytest.MonkeyPatch, searcher: Searcher, noise: float, other: float
) -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    """Give the simplest trees what they know with more noise, the second so many times it; none to the others.

    Returns the two logits of the judged rows, and these.
    """
    rng, fraud = np.random.default_rng(3), searcher._rows.y == 1
    known = np.where(fraud, 1.0, -1.0) + rng.normal(size=len(fraud))
    logit_of = dict(
        zip(FOR_FEW_FRAUDS[:2], (known + noise * rng.normal(size=len(fraud)), other * known), strict=True)
    )

    def logits(some: list[Cut], fits: list[BoostingParams]) -> np.ndarray:
        at = TREES.index(fits[0])
        return np.concatenate([logit_of.get(at, np.zeros(len(fraud)))[cut.judged] for cut in some])

    monkeypatch.setattr(search_module, "_order", lambda *_: searcher._plain_order)
    monkeypatch.setattr(searcher, "_trees", lambda _, size: size)
    monkeypatch.setattr(searcher, "_logits", logits)
    judged = np.concatenate([cut.judged for cut in searcher._cuts()])
    return [it[judged] for it in logit_of.values()], judged


def test_trees_that_rank_better_are_chosen_though_they_are_too_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mix sets their scale."""
    searcher = search(examples(30, 200))
    # Ten times as sure as it may be, its loss as it is exceeds that of the other, which knows less.
    (smaller, _), judged = rank_by(monkeypatch, searcher, noise=2.0, other=20.0)
    found, _ = searcher._chosen_trees(searcher._cuts())
    assert found.at == FOR_FEW_FRAUDS[1]
    y, w = searcher._rows.y[judged], searcher._rows.w[judged]
    assert _mean_loss(smaller, y, w) < _mean_loss(found.logit, y, w)


def test_trees_that_rank_the_wrong_way_round_are_worth_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    searcher = search(examples(30, 200))
    (_, wrong), judged = rank_by(monkeypatch, searcher, noise=4.0, other=-1.0)
    cuts = searcher._cuts()
    assert searcher._chosen_trees(cuts)[0].at == FOR_FEW_FRAUDS[0]
    # Such logits are as good as none: all rows are as often fraud as the judged ones are in the mean.
    rate = float(np.average(searcher._rows.y[judged], weights=searcher._rows.w[judged]))
    expected = np.full(len(judged), np.log(rate / (1.0 - rate)))
    assert searcher._calibrated(cuts, wrong) == pytest.approx(expected, abs=1e-6)


def test_tables_are_chosen_by_what_they_add_to_the_trees_and_by_their_own_loss_where_there_are_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    searcher = search(examples(30, 60))
    cuts, rng = searcher._cuts(), np.random.default_rng(3)
    fraud = searcher._rows.y == 1
    trees, other = (np.where(fraud, 1.0, -1.0) + rng.normal(size=len(fraud)) for _ in range(2))
    # The second repeats the trees, and alone is the better; the third knows something else.
    logit_of = {0: np.zeros(len(fraud)), 1: 1.5 * trees, 2: 0.5 * other}

    def judged(some: list[Cut], at: int, _: Any) -> np.ndarray:
        own = logit_of.get(at, np.zeros(len(fraud)))
        return np.concatenate([np.empty(0), *(own[cut.judged] for cut in some)])

    monkeypatch.setattr(searcher, "_judged_tables", judged)
    order = np.arange(len(searcher._names), dtype=np.int16)
    beside = np.concatenate([trees[cut.judged] for cut in cuts])
    assert searcher._chosen_tables(cuts, order, beside).at == 2
    assert searcher._chosen_tables(cuts, order, None).at == 1


def test_noise_is_one_standard_error_of_the_gain_over_days_and_a_single_day_says_nothing() -> None:
    searcher = search(examples(30, 60))
    cut = searcher._cuts()[-1]
    y, day = searcher._rows.y[cut.judged], searcher._time_ms[cut.judged] // MS_PER_DAY
    first, plain = day == day.min(), np.zeros(len(y))
    assert len(np.unique(day)) > 2
    # Much is gained on one day and a little lost on the others: the gain is less than one standard error.
    lucky = np.where(first, np.where(y == 1, 5.0, -5.0), np.where(y == 1, -0.01, 0.01))
    by_luck = searcher._gains([cut], lucky, plain)
    assert (
        0.0 < by_luck.sum() < _noise(by_luck) == pytest.approx(np.std(by_luck, ddof=1) * len(by_luck) ** 0.5)
    )
    every_day = searcher._gains([cut], np.where(y == 1, 5.0, -5.0), plain)
    assert every_day.sum() > _noise(every_day)
    assert not searcher._gains([cut], plain, plain).any()
    assert _noise(every_day[:1]) == np.inf


def test_with_too_few_frauds_the_tables_alone_are_made() -> None:
    few = examples(10, 20)
    label = np.zeros(len(few), np.uint8)
    label[:25] = 1
    choice = search(dataclasses.replace(few, label=label)).search().choice
    assert (choice.mix, choice.trees_at, choice.calibration) == (Mix(1.0, 0.0), -1, None)


def test_without_trees_the_tables_alone_are_chosen_and_their_weight_is_fitted() -> None:
    found = examples(30, 60)
    searcher = search(found, ChallengerMode.OFF)
    chosen = searcher.search()
    choice = chosen.choice
    assert (choice.trees_at, choice.mix.trees) == (-1, 0.0)
    assert choice.mix == Mix(1.0, 0.0)
    assert choice.calibration is not None
    assert choice.calibration.slope > 0.5
    assert searcher.build(chosen).blend.trees is None
