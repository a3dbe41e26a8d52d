from __future__ import annotations

import doctest
import itertools
import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from river import checks, linear_model, optim

from models import online
from models.bins import draw_bins
from models.generation import BinnedRows, TrainingRows
from models.online import BinnedLogistic, LogisticParams, build_generation

NAMES = ("amount", "rate", "channel")
KINDS = np.array([False, False, True])
SMALL: LogisticParams = {"main_bins": 8, "cross_bins": 5}

Rows = tuple[NDArray[np.float32], NDArray[np.uint8], NDArray[np.float64]]


def stream(rows: int, seed: int = 1) -> Rows:
    """Rows whose frauds have high amounts, or a low rate on channel 7; legits stand for ten."""
    rng = np.random.default_rng(seed)
    X = np.empty((rows, 3), np.float32)
    X[:, 0] = rng.lognormal(3.0, 1.0, rows)
    X[:, 1] = np.where(rng.random(rows) < 0.5, 0.0, rng.random(rows))
    X[:, 2] = rng.choice([3.0, 7.0, 9.0], rows)
    risk = 0.02 + 0.6 * (X[:, 0] > 60) + 0.3 * ((X[:, 1] < 0.2) & (X[:, 2] == 7.0))
    y = (rng.random(rows) < risk).astype(np.uint8)
    X[rng.random((rows, 3)) < 0.05] = np.nan
    return X, y, np.where(y == 1, 1.0, 10.0)


def built(rows: Rows, params: LogisticParams = SMALL) -> BinnedLogistic:
    return build_generation(*rows, NAMES, KINDS, params)


def taken(rows: Rows, where: slice) -> Rows:
    X, y, w = rows
    return X[where], y[where], w[where]


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / (1.0 + np.exp(-logits))


class TwoRateAdaGrad(optim.AdaGrad):
    """River's AdaGrad with another rate for crosses, whose names are tuples of four."""

    def __init__(self, main_rate: float, cross_rate: float) -> None:
        super().__init__(lr=main_rate, eps=1.0)
        self.cross_rate = cross_rate

    def _step_with_dict(self, w: Any, g: Any) -> Any:
        for name, gradient in g.items():
            self.g2[name] += gradient**2
            rate = self.cross_rate if len(name) == 4 else self.learning_rate
            w[name] -= rate / (self.g2[name] + self.eps) ** 0.5 * gradient
        return w


def one_hot(main: NDArray[np.uint8], cross: NDArray[np.uint8]) -> dict[tuple[int, ...], float]:
    pairs = itertools.combinations(range(len(main)), 2)
    effects = {(f, int(at)): 1.0 for f, at in enumerate(main)}
    return effects | {(i, j, int(cross[i]), int(cross[j])): 1.0 for i, j in pairs}


def test_it_scores_and_learns_as_the_river_pipeline_it_stands_for() -> None:
    X, y, w = stream(600)
    w *= np.random.default_rng(2).uniform(0.1, 3.0, len(w))
    ours = built((X, y, w), {**SMALL, "fraud_weight": 3.0, "prior": 0.1, "intercept_learning_rate": 0.02})
    river = linear_model.LogisticRegression(
        optimizer=TwoRateAdaGrad(0.05, 0.03),
        loss=optim.losses.Log(weight_pos=3.0),
        intercept_init=math.log(3.0 * 0.1 / 0.9),
        intercept_lr=0.02,
    )
    later = stream(300, seed=3)
    bins = draw_bins(X, w, KINDS, main_bins=8, cross_bins=5)
    main, cross = bins.assign(X)
    for i in range(len(X)):
        river.learn_one(one_hot(main[i], cross[i]), bool(y[i]), w=float(w[i]))
    main, cross = bins.assign(later[0])
    for i in range(len(main)):
        x, row = one_hot(main[i], cross[i]), taken(later, slice(i, i + 1))
        theirs = river._raw_dot_one(x) - math.log(3.0)
        assert ours.score_batch(row[0])[0] == pytest.approx(theirs, rel=1e-9, abs=1e-9)
        river.learn_one(x, bool(row[1][0]), w=float(row[2][0]))
        ours.learn_batch(*row)
    arrays = ours.arrays()
    pairs = list(itertools.combinations(range(3), 2))
    for name, weight in river.weights.items():
        if len(name) == 2:
            mine = arrays["main_weights"][name]
        else:
            mine = arrays["cross_weights"][pairs.index(name[:2]), name[2], name[3]]
        assert mine == pytest.approx(weight, rel=1e-9, abs=1e-9)
    learnt = np.count_nonzero(arrays["main_weights"]) + np.count_nonzero(arrays["cross_weights"])
    assert learnt == len(river.weights) > 60


@pytest.mark.parametrize(
    "check",
    [
        pytest.param(check, id=f"{i}-{check.__name__}")
        for i, check in enumerate(checks.yield_checks(BinnedLogistic()))
    ],
)
def test_it_passes_every_check_of_a_river_estimator(check: Callable[[BinnedLogistic], None]) -> None:
    check(BinnedLogistic())


def test_the_example_in_its_documentation_runs() -> None:
    assert doctest.testmod(online) == doctest.TestResults(failed=0, attempted=3)


def test_a_batch_is_learnt_row_by_row_in_its_order() -> None:
    rows, more = stream(400), stream(50, seed=2)
    together, apart, backwards = built(rows), built(rows), built(rows)
    together.learn_batch(*more)
    for i in range(50):
        apart.learn_batch(*taken(more, slice(i, i + 1)))
    backwards.learn_batch(*taken(more, slice(None, None, -1)))
    assert np.array_equal(together.score_batch(more[0]), apart.score_batch(more[0]))
    assert not np.array_equal(together.score_batch(more[0]), backwards.score_batch(more[0]))


def test_crosses_learn_what_no_single_feature_shows() -> None:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(4_000, 2)).astype(np.float32)
    y = ((X[:, 0] > 0) != (X[:, 1] > 0)).astype(np.uint8)
    model = build_generation(X, y, np.ones(4_000), ("a", "b"), np.zeros(2, np.bool_))
    logits = model.score_batch(X)
    assert np.mean((logits > 0) == y) > 0.9


def test_sampled_legits_of_weight_ten_give_the_probability_of_the_whole_traffic() -> None:
    X, y, w = stream(20_000)
    model = built((X, y, w))
    rate = np.average(y, weights=w)
    predicted = np.average(sigmoid(model.score_batch(X)), weights=w)
    assert predicted == pytest.approx(rate, rel=0.1)
    assert rate < 0.5 * y.mean()


def test_the_weight_of_frauds_is_undone_in_the_probability() -> None:
    X, y, w = stream(20_000)
    heavy = built((X, y, w), {**SMALL, "fraud_weight": 20.0})
    predicted = np.average(sigmoid(heavy.score_batch(X)), weights=w)
    assert predicted == pytest.approx(np.average(y, weights=w), rel=0.2)


def test_the_intercept_starts_at_the_log_odds_of_the_prior() -> None:
    X, y, w = stream(200)
    weightless = np.zeros(200)
    model = built((X, y, weightless), {"prior": 0.002})
    assert model.score_batch(X)[0] == pytest.approx(math.log(0.002 / 0.998), rel=1e-12)
    still: LogisticParams = {
        "learning_rate": 0.0,
        "cross_learning_rate": 0.0,
        "intercept_learning_rate": 0.0,
    }
    counted = built((X, y, w), still)
    frauds, legits = w[y == 1].sum(), w[y == 0].sum()
    assert counted.score_batch(X)[0] == pytest.approx(math.log((frauds + 0.5) / (legits + 0.5)), rel=1e-12)


def test_contributions_and_the_reference_sum_to_the_logit() -> None:
    rows = stream(2_000)
    model = built(rows)
    model.learn_batch(*stream(300, seed=9))
    sums = model.contributions(rows[0]).sum(axis=1) + model.reference_logit
    assert np.allclose(sums, model.score_batch(rows[0]), rtol=0, atol=1e-12)


def test_contributions_average_to_nothing_over_the_rows_of_the_generation() -> None:
    X, y, w = stream(2_000)
    shares = built((X, y, w), {**SMALL, "fraud_weight": 5.0}).contributions(X)
    assert np.allclose(np.average(shares, axis=0, weights=w), 0.0, atol=1e-12)
    assert np.all(np.std(shares, axis=0) > 0.01)


def test_a_feature_is_given_its_own_weight_and_half_of_its_crosses() -> None:
    rows = stream(2_000)
    model = built(rows)
    arrays, bins = model.arrays(), draw_bins(rows[0], rows[2], KINDS, main_bins=8, cross_bins=5)
    (main,), (cross,) = bins.assign(rows[0][:1])
    pairs = list(itertools.combinations(range(3), 2))
    expected = [arrays["main_weights"][f, main[f]] - arrays["mean_main"][f] for f in range(3)]
    for pair, (i, j) in enumerate(pairs):
        value = arrays["cross_weights"][pair, cross[i], cross[j]] - arrays["mean_cross"][pair]
        expected[i] += value / 2
        expected[j] += value / 2
    assert model.contributions(rows[0][:1])[0] == pytest.approx(expected, rel=1e-12)


def test_of_very_many_rows_the_means_are_those_of_every_third_or_so() -> None:
    X, y, w = stream(60_001)
    arrays = built((X, y, w)).arrays()
    main, _ = draw_bins(X, w, KINDS, main_bins=8, cross_bins=5).assign(X)
    third = slice(None, None, 3)
    weights = np.column_stack([arrays["main_weights"][f, main[third, f]] for f in range(3)])
    assert arrays["mean_main"] == pytest.approx(np.average(weights, axis=0, weights=w[third]), rel=1e-9)


def test_rows_in_other_bins_than_the_model_has_are_refused() -> None:
    X, y, w = stream(500)
    coarse = BinnedRows.of(TrainingRows(X, y.astype(np.uint8), w), KINDS, 4, 4)
    with pytest.raises(ValueError, match="4 and 4 bins, not 64 and 16"):
        BinnedLogistic().begin(coarse, "abc")


def test_the_means_stay_where_they_were_when_the_generation_began() -> None:
    model = built(stream(500))
    before = model.arrays()
    model.learn_batch(*stream(500, seed=2))
    after = model.arrays()
    assert np.array_equal(before["mean_main"], after["mean_main"])
    assert np.array_equal(before["mean_cross"], after["mean_cross"])
    moved = after["intercept"][0] - before["intercept"][0]
    assert moved != 0.0
    restored = BinnedLogistic.from_arrays(before)
    assert model.reference_logit - restored.reference_logit == pytest.approx(moved, rel=1e-9)


def test_a_restored_model_continues_to_the_bit() -> None:
    model = built(stream(500), {**SMALL, "fraud_weight": 2.0, "prior": None, "max_crossed": 2})
    restored = BinnedLogistic.from_arrays(model.arrays())
    assert repr(restored) == repr(model)
    more = stream(300, seed=4)
    model.learn_batch(*more)
    restored.learn_batch(*more)
    ours, theirs = model.arrays(), restored.arrays()
    assert all(np.array_equal(ours[name], theirs[name], equal_nan=True) for name in ours)
    assert np.array_equal(model.contributions(more[0]), restored.contributions(more[0]))
    assert restored.predict_proba_one({"amount": 90.0}) == model.predict_proba_one({"amount": 90.0})


def test_its_arrays_are_numbers_and_do_not_change_under_the_reader() -> None:
    model = built(stream(500))
    arrays = model.arrays()
    assert {array.dtype.kind for array in arrays.values()} <= set("fu")
    kept = {name: array.copy() for name, array in arrays.items()}
    model.learn_batch(*stream(100, seed=2))
    assert all(np.array_equal(arrays[name], kept[name], equal_nan=True) for name in kept)
    arrays["main_weights"][:] = 0.0
    assert np.any(model.arrays()["main_weights"] != 0.0)


def spoilt(name: str, spoil: Callable[[NDArray[Any]], NDArray[Any]]) -> dict[str, NDArray[Any]]:
    arrays = built(stream(300)).arrays()
    return {**arrays, name: spoil(arrays[name])}


def with_first(value: float) -> Callable[[NDArray[Any]], NDArray[Any]]:
    return lambda array: np.concatenate(([value], array.ravel()[1:])).reshape(array.shape).astype(array.dtype)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("main_weights", lambda array: array[:, :-1]),
        ("cross_weights", lambda array: array[:-1]),
        ("cross_squares", lambda array: array.astype(np.float32)),
        ("main_squares", with_first(math.nan)),
        ("main_squares", with_first(-2.0)),
        ("intercept", with_first(math.inf)),
        ("mean_cross", with_first(math.nan)),
        ("main_of", with_first(200)),
        ("edges", lambda array: array[:2]),
        ("names", lambda _: np.frombuffer(json.dumps(NAMES[:2]).encode(), np.uint8)),
        ("params", lambda array: array[:-1]),
        ("params", with_first(32.0)),
        ("params", with_first(math.inf)),
        ("params", with_first(1e9)),
    ],
)
def test_arrays_that_no_model_could_hold_are_refused(
    name: str, spoil: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    arrays = spoilt(name, spoil)
    with pytest.raises(ValueError, match=r".+"):
        BinnedLogistic.from_arrays(arrays)


def test_what_is_not_a_number_never_reaches_a_weight() -> None:
    model = built(stream(500))
    for value in (np.nan, np.inf, -np.inf):
        X = np.full((20, 3), value, np.float32)
        assert np.array_equal(model.score_batch(X), model.score_batch(np.full((20, 3), np.nan, np.float32)))
        model.learn_batch(X, np.ones(20, np.uint8), np.full(20, 1e300))
    arrays = model.arrays()
    assert all(np.all(np.isfinite(arrays[name])) for name in ("main_weights", "cross_weights", "intercept"))
    assert np.all(np.isfinite(model.score_batch(stream(100)[0])))


@pytest.mark.parametrize(
    ("y", "w", "reason"),
    [
        ([0, 2], [1.0, 1.0], "neither 0 nor 1"),
        ([0, 1], [1.0, math.nan], "not finite"),
        ([0, 1], [1.0, math.inf], "not finite"),
        ([0, 1], [1.0, -1.0], "negative"),
        ([0], [1.0, 1.0], "targets of shape"),
        ([0, 1], [1.0], "weights of shape"),
    ],
)
def test_a_bad_target_or_weight_is_refused_and_nothing_is_learnt(
    y: list[int], w: list[float], reason: str
) -> None:
    model = built(stream(300))
    before = model.arrays()
    with pytest.raises(ValueError, match=reason):
        model.learn_batch(stream(2)[0], np.array(y), np.array(w))
    assert all(np.array_equal(before[name], now, equal_nan=True) for name, now in model.arrays().items())


def untaught(features: int, params: LogisticParams) -> BinnedLogistic:
    X = np.random.default_rng(1).normal(size=(50, features)).astype(np.float32)
    names = [str(f) for f in range(features)]
    return build_generation(
        X, np.zeros(50, np.uint8), np.zeros(50), names, np.zeros(features, np.bool_), params
    )


@pytest.mark.parametrize(("features", "share"), [(3, 1.0), (17, 1.0), (32, 136 / 496), (40, 136 / 496)])
def test_many_crosses_learn_at_a_rate_lowered_by_their_number(features: int, share: float) -> None:
    model = untaught(features, {"prior": 0.5})
    model.learn_batch(np.zeros((1, features), np.float32), np.ones(1, np.uint8), np.array([4.0]))
    arrays = model.arrays()
    # The gradient is 4 (sigmoid(0) - 1) = -2, so AdaGrad's step is rate * 2 / sqrt(4 + 1).
    assert arrays["main_weights"].max() == pytest.approx(0.05 * 2 / math.sqrt(5), rel=1e-12)
    assert arrays["cross_weights"].max() == pytest.approx(0.03 * share * 2 / math.sqrt(5), rel=1e-12)
    assert arrays["intercept"][0] == pytest.approx(2 * model.intercept_learning_rate, rel=1e-12)


def test_features_beyond_the_crossed_ones_count_by_themselves_alone() -> None:
    X, y, w = stream(2_000)
    model = built((X, y, w), {**SMALL, "max_crossed": 2})
    assert model.arrays()["cross_weights"].shape == (1, 5, 5)
    elsewhere = X.copy()
    elsewhere[:, 2] = 7.0
    change = model.score_batch(elsewhere) - model.score_batch(X)
    for code in (3.0, 9.0):
        assert np.ptp(change[X[:, 2] == code]) == pytest.approx(0.0, abs=1e-12)


def as_dicts(X: NDArray[np.float32]) -> Iterator[dict[str, float | None]]:
    for row in X.tolist():
        yield {name: None if math.isnan(value) else value for name, value in zip("abc", row, strict=True)}


def test_from_scratch_it_answers_the_prior_until_its_first_rows_have_drawn_the_edges() -> None:
    X, y, w = stream(60)
    model = BinnedLogistic(warm_up_rows=40)
    assert model.predict_proba_one({"a": 1.0})[True] == 0.5
    for i, x in enumerate(as_dicts(X[:39])):
        model.learn_one(x, bool(y[i]), w=w[i])
    frauds, weight = w[:39][y[:39] == 1].sum(), w[:39].sum()
    assert model.predict_proba_one({"a": 1.0})[True] == pytest.approx((frauds + 0.5) / (weight + 1.0))
    for i, x in enumerate(as_dicts(X[39:]), start=39):
        model.learn_one(x, bool(y[i]), w=w[i])
    at_once = build_generation(X[:40], y[:40], w[:40], "abc", np.zeros(3, np.bool_))
    at_once.learn_batch(X[40:], y[40:], w[40:])
    expected = sigmoid(at_once.score_batch(X))
    found = [model.predict_proba_one(x)[True] for x in as_dicts(X)]
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("passes", [1, 2])
def test_a_generation_gives_each_row_the_logit_that_it_had_before_it_was_learnt_first(passes: int) -> None:
    rng = np.random.default_rng(12)
    X = rng.integers(0, 2, (60, 3)).astype(np.float32)
    X[:2] = [[0, 1, 0], [1, 0, 1]]
    y, w = (rng.random(60) < 0.3).astype(np.uint8), rng.uniform(0.5, 3.0, 60)
    model = BinnedLogistic(prior=0.1, passes=passes, fraud_weight=2.0)
    before = model.restart(X, y, w, "abc", np.zeros(3, np.bool_))
    # Each column has two values, so the edges are the same however few rows draw them.
    for row in (2, 17, 59):
        params: LogisticParams = {"prior": 0.1, "fraud_weight": 2.0}
        learnt = build_generation(X[:row], y[:row], w[:row], "abc", np.zeros(3, np.bool_), params)
        assert before[row] == pytest.approx(learnt.score_batch(X[row : row + 1])[0], abs=1e-12)


def test_without_a_generation_a_batch_is_refused() -> None:
    X, y, w = stream(5)
    for call in (
        lambda: BinnedLogistic().score_batch(X),
        lambda: BinnedLogistic().learn_batch(X, y, w),
        lambda: BinnedLogistic().arrays(),
    ):
        with pytest.raises(RuntimeError, match="no generation"):
            call()


@pytest.mark.parametrize(
    "params",
    [
        {"fraud_weight": 0.0},
        {"fraud_weight": math.inf},
        {"prior": 1.0},
        {"learning_rate": -0.1},
        {"cross_learning_rate": math.nan},
        {"max_crossed": -1},
        {"warm_up_rows": 0},
    ],
)
def test_impossible_parameters_are_refused(params: LogisticParams) -> None:
    with pytest.raises(ValueError, match="must"):
        BinnedLogistic(**params)


def test_a_generation_needs_rows_and_a_name_for_every_column() -> None:
    X, y, w = stream(10)
    with pytest.raises(ValueError, match="needs rows"):
        build_generation(X[:0], y[:0], w[:0], NAMES, KINDS)
    with pytest.raises(ValueError, match="a name"):
        build_generation(X, y, w, NAMES[:2], KINDS)
