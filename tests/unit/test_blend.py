from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from models.blend import Blend, BoostedRows, Mix, Parts, TreeSample
from models.category_codes import odds_elsewhere
from models.column_edges import Binned
from models.threshold import Calibration
from tests.support.blends import BOTH, CATEGORICAL, PARAMS, blend, rows


def test_the_logit_is_the_weighted_sum_of_the_two_parts() -> None:
    both, X = blend(), rows(50, seed=2).X
    tables, trees = blend(Mix(1.0, 0.0)), blend(Mix(0.0, 1.0))
    expected = 0.4 * tables.score_batch(X) + 0.7 * trees.score_batch(X)
    np.testing.assert_allclose(both.score_batch(X), expected, atol=1e-12)


def test_contributions_stand_in_declared_order_and_sum_to_the_logit() -> None:
    both, X = blend(), rows(50, seed=2).X
    total = both.contributions(X).sum(axis=1) + both.reference_logit
    np.testing.assert_allclose(total, both.score_batch(X), atol=1e-9)
    # The third feature is noise: what it adds is little beside the pair that makes a fraud.
    part = np.abs(both.contributions(X)).mean(axis=0)
    assert part[2] < 0.5 * max(part[0], part[1])


def test_trees_that_may_not_split_by_odds_know_a_category_by_its_rank_alone() -> None:
    some = rows(800)
    sample = TreeSample.of(some, CATEGORICAL, BoostedRows(np.arange(800), some.w))
    by_both = sample.fit(PARAMS, 5)
    by_rank = sample.fit(dataclasses.replace(PARAMS, by_odds=False), 5)
    # Odds stand in the place of the category, column 3, ranks behind all columns.
    assert 3 in by_both.booster.feature
    assert 3 not in by_rank.booster.feature
    assert 4 in by_rank.booster.feature


def test_the_order_of_columns_changes_nothing_where_all_are_crossed() -> None:
    X = rows(50, seed=2).X
    one, other = blend(), blend(order=(0, 1, 2, 3))
    np.testing.assert_allclose(one.score_batch(X), other.score_batch(X), atol=1e-9)


def test_only_the_tables_learn_on() -> None:
    both, some = blend(), rows(30, seed=3)
    before = both.trees
    logit = both.score_batch(some.X)
    both.learn_batch(some.X, some.y, some.w)
    assert both.trees is before
    assert np.any(both.score_batch(some.X) != logit)


def test_weights_that_follow_keep_contributions_exact_and_move_by_verdicts_alone() -> None:
    both, some = blend(), rows(300, seed=3)
    decided = both.score_parts(some.X)
    both.follow(decided, some.y, some.w, Calibration())
    assert both.mix == BOTH, "the weights stay until `begin_to_follow`"
    both.begin_to_follow(some.X, some.w, Calibration(), 50.0)
    both.learn_batch(some.X, some.y, some.w)
    assert both.mix == BOTH
    both.follow(decided, 1 - some.y, some.w, Calibration())
    assert both.mix.trees < BOTH.trees
    assert both.mix.offset != 0.0
    total = both.contributions(some.X).sum(axis=1) + both.reference_logit
    np.testing.assert_allclose(total, both.score_batch(some.X), atol=1e-9)


@pytest.mark.parametrize("follows", ["nothing", "balance alone", "all"])
@pytest.mark.parametrize("mix", [BOTH, Mix(1.0, 0.0)])
def test_a_blend_restored_from_its_arrays_goes_on_to_the_bit(mix: Mix, follows: str) -> None:
    one, some = blend(mix), rows(30, seed=3)
    if follows != "nothing":
        one.begin_to_follow(some.X, some.w, Calibration(), 50.0, balance_alone=follows == "balance alone")
    other = Blend.from_arrays({name: array.copy() for name, array in one.arrays().items()})
    for model in (one, other):
        decided = model.score_parts(some.X)
        model.learn_batch(some.X, some.y, some.w)
        model.follow(decided, some.y, some.w, Calibration())
    np.testing.assert_array_equal(one.score_batch(some.X), other.score_batch(some.X))


@pytest.mark.parametrize("slope", [0.01, 0.5, 1.0, 2.0])
def test_a_mix_is_as_certain_as_it_was_begun_whatever_the_slope_of_its_calibration(slope: float) -> None:
    both, some, calibration = blend(), rows(300, seed=3), Calibration(slope, 0.1)
    both.begin_to_follow(some.X, some.w, calibration, 50.0)
    assert both.certainty(calibration) == pytest.approx(50.0)


def following(mix: Mix = BOTH, *, balance_alone: bool = False) -> Blend:
    both, some = blend(mix), rows(300, seed=3)
    both.begin_to_follow(some.X, some.w, Calibration(), 50.0, balance_alone=balance_alone)
    return both


def test_weights_follow_the_logits_of_the_decision_not_those_of_tables_that_have_learnt_since() -> None:
    """Tables that knew nothing at the decisions lose weight, though they know every verdict when it comes."""
    late, some = following(), rows(300, seed=4)
    decided = Parts(np.zeros(300), np.where(some.y == 1, 4.0, -4.0))
    for _ in range(5):
        late.learn_batch(some.X, some.y, some.w)
    late.follow(decided, some.y, some.w, Calibration())
    same = following()
    same.follow(decided, some.y, some.w, Calibration())
    assert late.mix == same.mix
    assert late.mix.trees > BOTH.trees


def test_a_decision_of_a_model_without_trees_moves_no_weight_of_one_that_has_them() -> None:
    both, some = following(), rows(4, seed=4)
    missing = np.array([np.nan, 1.0, np.nan, 1.0])
    both.follow(Parts(np.ones(4), missing), some.y, some.w, Calibration())
    alone = following()
    alone.follow(Parts(np.ones(2), np.ones(2)), some.y[1::2], some.w[1::2], Calibration())
    assert both.mix == alone.mix != BOTH
    undecided = following()
    undecided.follow(Parts(np.full(4, np.nan), np.ones(4)), some.y, some.w, Calibration())
    assert undecided.mix == BOTH


def test_the_weight_of_tables_alone_follows_whatever_trees_said() -> None:
    weights, some = [], rows(300, seed=4)
    for trees in (np.full(300, np.nan), np.full(300, 9.0)):
        alone = following(Mix(1.0, 0.0))
        alone.follow(Parts(alone.score_parts(some.X).tables, trees), 1 - some.y, some.w, Calibration())
        weights.append(alone.mix)
    assert weights[0] == weights[1] != Mix(1.0, 0.0)
    assert weights[0].trees == 0.0


def test_where_only_the_balance_follows_the_two_share_their_weight_as_those_that_follow_all_do() -> None:
    begun, some = Mix(0.4, 0.7, 0.25), rows(300, seed=4)
    balanced, whole = following(begun, balance_alone=True), following(begun)
    decided = Parts(np.where(some.y == 1, 1.0, -1.0), np.where(some.y == 1, 0.5, -2.0))
    for model in (balanced, whole):
        model.follow(decided, some.y, some.w, Calibration())
    share = whole.mix.tables / (whole.mix.tables + whole.mix.trees)
    assert abs(share - 0.4 / 1.1) > 0.05
    assert whole.mix.offset != 0.25
    np.testing.assert_allclose(dataclasses.astuple(balanced.mix), [1.1 * share, 1.1 * (1 - share), 0.25])
    total = balanced.contributions(some.X).sum(axis=1) + balanced.reference_logit
    np.testing.assert_allclose(total, balanced.score_batch(some.X), atol=1e-9)


def test_a_late_burst_of_frauds_that_neither_knew_hardly_moves_the_balance() -> None:
    tables, trees = np.random.default_rng(5).normal((-5.0, -7.0), 0.3, (2_000, 2)).T
    frauds, w = np.ones(2_000, np.uint8), np.ones(2_000)
    balanced, whole = following(balance_alone=True), following()
    for model in (balanced, whole):
        model.follow(Parts(tables, trees), frauds, w, Calibration())
    assert whole.mix.tables + whole.mix.trees < 0.6
    assert balanced.mix.tables == pytest.approx(0.4, abs=0.15)
    assert balanced.mix.trees == pytest.approx(0.7, abs=0.15)


def test_where_only_the_balance_follows_tables_alone_keep_their_weight() -> None:
    alone, some = following(Mix(1.0, 0.0), balance_alone=True), rows(300, seed=4)
    alone.follow(alone.score_parts(some.X), 1 - some.y, some.w, Calibration())
    assert alone.mix == Mix(1.0, 0.0)


def test_weights_of_next_to_nothing_say_no_share() -> None:
    assert BOTH.balanced(Mix(3e-4, 6e-4, 9.0)) == BOTH
    assert BOTH.balanced(Mix(0.0, 0.5)).tables == 0.0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("order", np.zeros(4, np.int16)),
        ("mix", np.array([-0.1, 1.0, 0.0])),
        ("mix", np.array([np.nan, 1.0, 0.0])),
        ("mix", np.array([1.0, 1.0])),
        ("mix_information", np.full((3, 3), np.nan)),
        ("mix_information", np.zeros(3)),
        ("mix", np.array([0.5, 0.5, np.inf])),
        ("mix_followed", np.array([0.5, -0.5, 0.0])),
        ("balance_alone", np.zeros(2, np.uint8)),
        ("balance_alone", np.array([2], np.uint8)),
        ("balance_alone", np.array([1.0])),
    ],
)
def test_arrays_that_no_blend_has_are_refused(name: str, value: np.ndarray) -> None:
    with pytest.raises(ValueError, match=name):
        Blend.from_arrays({**following().arrays(), name: value})


def test_trees_learn_the_odds_of_other_times_and_score_by_those_of_all() -> None:
    some, chosen = rows(800), np.arange(0, 800, 3)
    sample = TreeSample.of(some, CATEGORICAL, BoostedRows(chosen, some.w[chosen]))
    scored = sample.codes.of(some.X[chosen])
    learnt = scored.copy()
    learnt[:, 3] = odds_elsewhere(some, np.array([3]))[chosen, 0]
    assert np.all(learnt[:, 3] != scored[:, 3])
    expected = Binned.of(learnt)
    np.testing.assert_array_equal(sample.binned.codes, expected.codes)
    np.testing.assert_array_equal(sample.binned.edges[3], expected.edges[3])


def test_trees_in_words_count_the_trees_and_the_leaves_of_the_largest() -> None:
    assert blend(Mix(0.5, 0.5)).trees_in_words == "8 trees of 5 leaves"
    assert blend(Mix(1.0, 0.0)).trees_in_words == "no trees"
