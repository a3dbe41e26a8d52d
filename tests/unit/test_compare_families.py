"""Every strategy learns from small, ordinary data, and names a reason where data are odd."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_sample_weight
from threadpoolctl import threadpool_limits

from models.evaluation import average_precision
from tests.support.samples import NUMBERS, drawn_sample, sample_of
from worker.errors import SettingsError
from worker.offline.compare.families import costs, extras, online, weights
from worker.offline.compare.families.fitted import LEAST_ROWS
from worker.offline.compare.registry import chosen, strategies, strategy_named
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import LeftOutError, Strategy

SEED = 42
MORE = ("weights:25", "costs:5:250", "river:river.naive_bayes.GaussianNB")

# These are the same model under other rules: fitting is what takes the time here.
SAME = ("threshold_half", "threshold_best_f1", "threshold_cost", "threshold_cheapest")
EACH = [name for name in [*strategies(), *MORE] if name not in SAME]
# What is odd about data meets these in code that others of their family share.
LIKE_OTHERS = (
    "weights_forest",
    "weights_boosting",
    "costs_loss_boosting",
    "smote_weights_threshold_boosting",
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On small data threads cost more than they bring, most of all beside other tests."""
    with threadpool_limits(1):
        yield


def scores(strategy: Strategy, train: Sample, test: Sample, seed: int = SEED) -> NDArray[np.float64]:
    model: Any
    if strategy.make_online is not None:
        model = strategy.make_online(seed)
        model.learn(train)
    else:
        assert strategy.make is not None
        model = strategy.make()
        model.fit(train, seed)
    result: NDArray[np.float64] = model.score(test)
    assert result.dtype == np.float64
    assert result.shape == (len(test),)
    assert np.isfinite(result).all()
    if strategy.is_probability:
        assert result.min() >= 0.0
        assert result.max() <= 1.0
    return result


def why_left_out(strategy: Strategy, train: Sample, test: Sample) -> str | None:
    try:
        scores(strategy, train, test)
    except LeftOutError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", EACH)
def test_a_strategy_ranks_frauds_above_legits(name: str) -> None:
    if name == "xgboost_scale_pos_weight":
        pytest.importorskip("xgboost")
    rows = 3_000 if name == "hoeffding_adaptive_tree" else 800  # it splits late
    train, test = drawn_sample(rows, seed=1), drawn_sample(800, seed=2)
    strategy = strategy_named(name)
    found = average_precision(test.fraud, scores(strategy, train, test))
    assert found > (1.5 if strategy.family == "anomaly" else 2.0) * test.fraud.mean()


@pytest.mark.parametrize("name", [name for name in EACH if name not in LIKE_OTHERS])
def test_odd_data_are_scored_or_left_out_with_a_reason(name: str) -> None:
    if name == "xgboost_scale_pos_weight":
        pytest.importorskip("xgboost")
    strategy, plain = strategy_named(name), drawn_sample(150, seed=3, prevalence=0.2)
    test = drawn_sample(20, seed=4)
    nan, inf = np.float32(np.nan), np.float32(np.inf)
    rows, few = np.arange(150), plain.take(np.flatnonzero(~plain.fraud))

    def with_features(features: NDArray[np.float32]) -> Sample:
        return replace(plain, features=features)

    column_missing = plain.features.copy()
    column_missing[:, [0, NUMBERS]] = nan
    many_categories = plain.features.copy()
    many_categories[:, NUMBERS] = rows * 7_000.0
    infinite = plain.features.copy()
    infinite[::7, 1] = inf
    constant = np.ones_like(plain.features)
    odd = {
        "ten rows": plain.take(rows[:10]),
        "one class": few,
        "only frauds": plain.take(np.flatnonzero(plain.fraud)),
        "three frauds": Sample.concatenate([few, plain.take(np.flatnonzero(plain.fraud)[:3])]),
        "no value": with_features(np.full_like(plain.features, nan)),
        "columns without a value": with_features(column_missing),
        "a category for each row": with_features(many_categories),
        "infinities": with_features(infinite),
        "constants": with_features(constant),
    }
    for what, train in odd.items():
        reason = why_left_out(strategy, train, test)
        assert reason is None or " " in reason, what


@pytest.mark.parametrize(
    "name", ["logistic", "boosting", "undersampling", "online_logistic", "isolation_forest"]
)
def test_a_hundred_thousand_categories_are_learnt(name: str) -> None:
    """These prepare categories in each of the ways that there are: other strategies share theirs."""
    plain = drawn_sample(100_000, seed=3, prevalence=0.02)
    features = plain.features.copy()
    features[:, NUMBERS] = np.random.default_rng(7).permutation(len(plain)) * 7.0
    train = replace(plain, features=features)
    assert len(np.unique(train.features[:, NUMBERS])) == len(plain)
    assert why_left_out(strategies()[name], train, train.rows(0, 500)) is None


@pytest.mark.parametrize(
    ("name", "train", "reason"),
    [
        ("logistic", drawn_sample(10, seed=1, prevalence=0.5), f"10 rows; learning needs {LEAST_ROWS}"),
        ("balanced_forest", drawn_sample(200, seed=1, prevalence=0.0), "holds no fraud"),
        ("boosting", drawn_sample(200, seed=1, prevalence=1.0), "holds no legit transaction"),
        (
            "smote",
            sample_of(drawn_sample(200, seed=1).features, np.arange(200) < 4),
            "needs 6 of them, and the training window holds 4",
        ),
        (
            "smote_nc",
            sample_of(drawn_sample(200, seed=1).features, np.arange(200) < 20),
            "no categorical features",
        ),
        (
            "online_logistic",
            sample_of(np.full((200, 3), np.nan, np.float32), np.arange(200) < 20),
            "no feature has a value",
        ),
        (
            "isolation_forest",
            sample_of(np.full((200, 3), np.nan, np.float32), np.arange(200) < 20),
            "no feature has a value",
        ),
    ],
)
def test_the_reason_says_what_is_missing(name: str, train: Sample, reason: str) -> None:
    with pytest.raises(LeftOutError, match=reason):
        scores(strategies()[name], train, train)


@pytest.mark.parametrize(
    ("name", "module", "remedy"),
    [
        ("smote", "imblearn.over_sampling", r"needs imbalanced-learn: pip install 'fraud-worker\[compare\]'"),
        ("easy_ensemble", "imblearn.ensemble", r"imbalanced-learn: pip install 'fraud-worker\[compare\]'"),
        ("lightgbm_scale_pos_weight", "lightgbm", r"LightGBM: pip install 'fraud-worker\[compare\]'"),
        ("xgboost_scale_pos_weight", "xgboost", "XGBoost: pip install 'xgboost-cpu'"),
        ("inne", "pyod.models.inne", r"PyOD: pip install 'fraud-worker\[compare\]'"),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, remedy: str
) -> None:
    def absent(wanted: str) -> None:
        assert wanted == module
        top = module.partition(".")[0]
        raise ModuleNotFoundError(f"No module named {top!r}", name=top)

    monkeypatch.setattr(extras, "import_module", absent)
    train = drawn_sample(200, seed=1, prevalence=0.2)
    with pytest.raises(LeftOutError, match=remedy):
        scores(strategies()[name], train, train)


@pytest.mark.parametrize("name", ["smote", "balanced_forest", "adaptive_random_forest", "inne", "boosting"])
def test_a_seed_decides_everything(name: str) -> None:
    train, test = drawn_sample(300, seed=1, prevalence=0.1), drawn_sample(100, seed=2)
    strategy = strategies()[name]
    assert np.array_equal(scores(strategy, train, test), scores(strategy, train, test))


@pytest.mark.parametrize(
    "name", ["logistic", "smote", "inne", "isolation_forest", "online_oversampling", "boosting"]
)
def test_the_score_of_a_row_depends_on_no_other_row(name: str) -> None:
    train, test = drawn_sample(300, seed=1, prevalence=0.1), drawn_sample(100, seed=2)
    strategy = strategies()[name]
    together = scores(strategy, train, test)
    assert np.allclose(together[:3], scores(strategy, train, test.rows(0, 3)), rtol=0, atol=1e-12)


def test_balanced_weights_are_those_of_scikit_learn() -> None:
    train = drawn_sample(500, seed=1)
    theirs = compute_sample_weight("balanced", train.fraud)
    assert np.allclose(weights.balanced(train), theirs, rtol=1e-12)
    assert weights.legits_per_fraud(train) == pytest.approx((~train.fraud).sum() / train.fraud.sum())


@pytest.mark.parametrize(
    "name",
    [
        "logistic",
        "tomek_links",
        "weights_balanced",
        "costs_matrix",
        "adaptive_random_forest",
        "online_logistic",
    ],
)
def test_sampled_legits_stand_for_all(name: str) -> None:
    """A probability learnt from one legit in five is near the one learnt from all, not near one of a fifth of them."""
    whole = drawn_sample(5_000 if name != "adaptive_random_forest" else 600, seed=1, prevalence=0.1)
    test = drawn_sample(300, seed=2, prevalence=0.1)
    kept = whole.fraud | (np.random.default_rng(3).random(len(whole)) < 0.2)
    sampled = replace(whole, weight=np.where(whole.fraud, 1.0, 5.0)).take(kept)
    strategy = strategies()[name]
    expected = scores(strategy, whole, test).mean()
    unweighted = scores(strategy, replace(sampled, weight=np.ones(len(sampled))), test).mean()
    got = scores(strategy, sampled, test).mean()
    assert abs(got - expected) < max(0.25 * abs(unweighted - expected), 0.03)


def test_a_cost_matrix_moves_a_probability_of_half_to_where_an_alert_pays() -> None:
    """With one informative feature the model is right, so 0.5 under costs is review / missed without them."""
    rng = np.random.default_rng(5)
    x = rng.normal(size=(40_000, 1))
    fraud = rng.random(len(x)) < 1.0 / (1.0 + np.exp(4.0 - 2.0 * x[:, 0]))
    train = sample_of(x.astype(np.float32), fraud)
    grid = sample_of(np.linspace(-3, 4, 2_000, dtype=np.float32)[:, None], np.zeros(2_000, np.bool_))
    plain = scores(strategies()["logistic"], train, grid)
    costly = scores(strategy_named("costs:10:100"), train, grid)
    assert plain[np.searchsorted(costly, 0.5)] == pytest.approx(0.1, abs=0.02)


def test_frauds_weigh_what_they_lose() -> None:
    train = replace(drawn_sample(400, seed=1, prevalence=0.1), loss=np.arange(400.0))
    weight = costs.by_loss(train)
    frauds = train.fraud
    assert weight[frauds].sum() == pytest.approx(frauds.sum())
    assert np.allclose(weight[frauds] / weight[frauds].sum(), train.loss[frauds] / train.loss[frauds].sum())
    assert (weight[~frauds] == 1.0).all()
    with pytest.raises(LeftOutError, match="causes a loss"):
        costs.by_loss(replace(train, loss=np.zeros(400)))


def test_which_models_of_river_honour_weights() -> None:
    honoured = {
        name: online.honours_weights(make)
        for name, make in {
            "logistic": online.logistic,
            "tree": online.adaptive_tree,
            "forest": online.adaptive_forest,
        }.items()
    }
    assert honoured == {"logistic": True, "tree": True, "forest": False}


def test_a_missing_or_infinite_value_does_not_spoil_an_online_model() -> None:
    rng = np.random.default_rng(6)
    features = rng.normal(size=(2_000, 3)).astype(np.float32)
    fraud = features[:, 0] > 1.0
    holes = features.copy()
    holes[::50, 1], holes[7::50, 2] = np.nan, np.inf
    strategy = strategies()["online_logistic"]
    with_holes = scores(strategy, sample_of(holes, fraud), sample_of(features, fraud))
    assert average_precision(fraud, with_holes) > 0.95


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("smoot", "did you mean smote"),
        ("nonsense-xyz", "there are logistic"),
        ("weights:-3", "how many legits"),
        ("weights:nan", "how many legits"),
        ("costs:10", "cost of a review"),
        ("costs:10:5", "cost of a review"),
        ("river:os.path.join", "must begin with river"),
        ("river:riverless.Thing", "must begin with river"),
        ("river:river.naive_bayes.Nothing", "no such classifier"),
        ("river:river.no_such_module.Thing", "no such classifier"),
        ("river:river.linear_model.LinearRegression", "no such classifier"),
        ("river:river.ensemble.BaggingClassifier", "it needs model"),
    ],
)
def test_a_name_that_is_none_says_what_would_be_one(name: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        strategy_named(name)


def test_names_and_families_choose_in_the_order_of_the_table() -> None:
    assert [*chosen()] == [*strategies()]
    assert [*chosen(["smote", "logistic"])] == ["logistic", "smote"]
    assert [*chosen(["nothing", "weights:25"], skip=["boosting"])] == [
        "logistic",
        "random_forest",
        "weights:25",
    ]
    assert chosen(["smote"], skip=["resampling"]) == {}


def test_names_are_unique_and_meanings_short() -> None:
    listed = [*strategies().values()]
    assert len({it.name for it in listed}) == len(listed)
    for strategy in listed:
        assert (strategy.make is None) != (strategy.make_online is None)
        assert len(strategy.meaning) <= 110
        assert strategy.name.replace("_", "").isalnum()


def test_learning_changes_no_filter_of_warnings() -> None:
    before = list(warnings.filters)
    scores(strategies()["logistic"], drawn_sample(200, seed=1, prevalence=0.2), drawn_sample(50, seed=2))
    assert list(warnings.filters) == before
