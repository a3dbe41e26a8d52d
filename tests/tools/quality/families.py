"""The kinds of baselines and their settings; adding one is an entry of `FAMILIES`.

Batch families are refitted every week, online ones learn each verdict as it arrives. Everything has one thread.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

Features = NDArray[np.float32]
Scores = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Training:
    """The rows of one fit.

    Attributes
    ----------
    features : float32 (m, F)
        NaN where missing; categories are dense codes from 0 on.
    fraud : bool (m,)
    weight : float64 (m,)
        How many rows each stands for.
    categorical : bool (F,)
    seed
        Decides all that is random.
    """

    features: Features
    fraud: NDArray[np.bool_]
    weight: NDArray[np.float64]
    categorical: NDArray[np.bool_]
    seed: int

    def balanced_weight(self) -> float:
        """Return 1/rate, the weight of a fraud where classes are balanced."""
        return float(self.weight.sum() / max(self.weight[self.fraud].sum(), 1.0))


Setting = Mapping[str, Any]
Fitted = Callable[[Features], Scores]
"""Returns the probability of fraud of each row, float64 (n,)."""


class OnlineModel(Protocol):
    """A model that learns row by row."""

    def learn(self, row: NDArray[np.float32], fraud: bool, weight: float) -> None:
        """Learn one verdict."""

    def score(self, row: NDArray[np.float32]) -> float:
        """Return the probability of fraud."""


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of baseline.

    Attributes
    ----------
    name
        As in the table.
    settings
        What is chosen among; the first one where nothing can be chosen.
    needs
        The module it needs, and how pip calls that.
    fit, online
        One of the two.
    most_rows
        Training rows of a fit, or verdicts learnt in all of an online model; beyond it rows are sampled, legits first.
    """

    name: str
    settings: tuple[Setting, ...]
    needs: tuple[str, str]
    fit: Callable[[Training, Setting], Fitted] | None = None
    online: Callable[[Setting, NDArray[np.bool_], int], OnlineModel] | None = None
    most_rows: int = 200_000

    def settings_for(self, categorical: NDArray[np.bool_]) -> tuple[Setting, ...]:
        """Return the settings that make sense for these features: without categories none is there to be coded."""
        return tuple(it for it in self.settings if categorical.any() or not it.get("coded"))

    @property
    def is_installed(self) -> bool:
        """Whether its module is there."""
        return importlib.util.find_spec(self.needs[0]) is not None


def setting_name(setting: Setting) -> str:
    """Return a setting as text, also part of a file's name."""
    return "_".join(f"{name}={value:g}" for name, value in setting.items())


def natural(probability: Scores, weight: float) -> Scores:
    """Undo a class weight of frauds in probabilities."""
    return np.asarray(probability / (probability + weight * (1.0 - probability)), np.float64)


def _boosted(
    leaves: int,
    hessian: float,
    l2: float,
    *,
    balanced: int = 0,
    trees: int = 200,
    rate: float = 0.1,
    coded: int = 0,
) -> Setting:
    """Return a setting of gradient boosting.

    Parameters
    ----------
    leaves, hessian, l2
        Of a tree; the least hessian of a leaf, and its L2.
    balanced
        Whether a fraud weighs 1/rate.
    trees, rate
        Their number and their learning rate.
    coded
        Whether categories are numbers in the order of their frequency rather than categories as such: with few frauds
        a split by sets of categories fits them too well.
    """
    return {
        "leaves": leaves,
        "hessian": hessian,
        "l2": l2,
        "balanced": balanced,
        "trees": trees,
        "rate": rate,
        "coded": coded,
    }


def _categorical(training: Training, setting: Setting) -> NDArray[np.bool_]:
    return np.zeros_like(training.categorical) if setting["coded"] else training.categorical


def _lightgbm(training: Training, setting: Setting) -> Fitted:
    import lightgbm  # noqa: PLC0415

    fraud_weight = training.balanced_weight() if setting["balanced"] else 1.0
    parameters = {
        "objective": "binary",
        "num_leaves": setting["leaves"],
        "min_sum_hessian_in_leaf": setting["hessian"],
        "lambda_l2": setting["l2"],
        "learning_rate": setting["rate"],
        "min_data_in_leaf": 20,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "num_threads": 1,
        "seed": training.seed,
        "deterministic": True,
        "force_col_wise": True,
        "verbosity": -1,
    }
    data = lightgbm.Dataset(
        training.features,
        training.fraud.astype(np.float32),
        weight=training.weight * np.where(training.fraud, fraud_weight, 1.0),
        categorical_feature=np.flatnonzero(_categorical(training, setting)).tolist(),
        params={"verbosity": -1},
    )
    booster = lightgbm.train(parameters, data, num_boost_round=setting["trees"])
    return lambda features: natural(np.asarray(booster.predict(features, num_threads=1)), fraud_weight)


def _xgboost(training: Training, setting: Setting) -> Fitted:
    import xgboost  # noqa: PLC0415

    fraud_weight = training.balanced_weight() if setting["balanced"] else 1.0
    kinds = np.where(_categorical(training, setting), "c", "q").tolist()

    def matrix(features: Features, **known: Any) -> Any:
        return xgboost.DMatrix(features, feature_types=kinds, enable_categorical=True, nthread=1, **known)

    parameters = {
        "objective": "binary:logistic",
        "tree_method": "hist",
        "grow_policy": "lossguide",
        "max_depth": 0,
        "max_leaves": setting["leaves"],
        "min_child_weight": setting["hessian"],
        "lambda": setting["l2"],
        "eta": setting["rate"],
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "nthread": 1,
        "seed": training.seed,
        "verbosity": 0,
    }
    weight = training.weight * np.where(training.fraud, fraud_weight, 1.0)
    data = matrix(training.features, label=training.fraud.astype(np.float32), weight=weight)
    booster = xgboost.train(parameters, data, num_boost_round=setting["trees"])
    return lambda features: natural(np.asarray(booster.predict(matrix(features)), np.float64), fraud_weight)


def _ebm(training: Training, setting: Setting) -> Fitted:
    from interpret.glassbox import ExplainableBoostingClassifier  # noqa: PLC0415

    kinds = np.where(training.categorical, "nominal", "continuous").tolist()
    model = ExplainableBoostingClassifier(
        feature_types=kinds,
        interactions=setting["interactions"],
        outer_bags=setting["bags"],
        learning_rate=setting["rate"],
        random_state=training.seed,
        n_jobs=1,
    )
    model.fit(training.features, training.fraud.astype(np.int64), sample_weight=training.weight)
    return lambda features: np.asarray(model.predict_proba(features)[:, 1], np.float64)


class _RiverModel:
    """A river classifier over dictionaries: numbers, and one field for each category."""

    def __init__(self, model: Any, categorical: NDArray[np.bool_], weighted: Any) -> None:
        self._model = model
        self._categorical = categorical.tolist()
        self._weighted = weighted

    def _fields(self, row: NDArray[np.float32]) -> dict[str, float]:
        fields = {}
        for at, value in enumerate(row.tolist()):
            if value != value:  # noqa: PLR0124
                fields[f"{at}?"] = 1.0
            elif self._categorical[at]:
                fields[f"{at}={value:.0f}"] = 1.0
            else:
                # Amounts and counts have heavy tails, which a linear model does not survive.
                fields[f"{at}"] = float(np.sign(value) * np.log1p(abs(value)))
        return fields

    def learn(self, row: NDArray[np.float32], fraud: bool, weight: float) -> None:
        fields = self._fields(row)
        if self._weighted is None:
            self._model.learn_one(fields, fraud)
        else:
            # A river pipeline drops the weight, so the scaler stands apart.
            self._weighted.learn_one(fields)
            self._model.learn_one(self._weighted.transform_one(fields), fraud, w=weight)

    def score(self, row: NDArray[np.float32]) -> float:
        fields = self._fields(row)
        if self._weighted is not None:
            fields = self._weighted.transform_one(fields)
        return float(self._model.predict_proba_one(fields).get(True, 0.0))


def _logistic(setting: Setting, categorical: NDArray[np.bool_], seed: int) -> OnlineModel:
    del seed
    from river import linear_model, optim, preprocessing  # noqa: PLC0415

    model = linear_model.LogisticRegression(optimizer=optim.SGD(setting["rate"]))
    return _RiverModel(model, categorical, preprocessing.StandardScaler())


def _adaptive_forest(setting: Setting, categorical: NDArray[np.bool_], seed: int) -> OnlineModel:
    from river import forest  # noqa: PLC0415

    return _RiverModel(forest.ARFClassifier(n_models=setting["trees"], seed=seed), categorical, None)


LIGHTGBM: Final = Family(
    "LightGBM",
    (
        _boosted(15, 20.0, 20.0),
        _boosted(7, 1.0, 1.0),
        _boosted(31, 20.0, 0.0, rate=0.05),
        _boosted(31, 5.0, 20.0, trees=300, rate=0.05),
        _boosted(63, 50.0, 50.0, trees=300, rate=0.05),
        _boosted(63, 1.0, 0.0, trees=100),
        _boosted(127, 1.0, 0.0, trees=300, rate=0.05),
        _boosted(15, 20.0, 20.0, balanced=1),
        _boosted(31, 50.0, 50.0, balanced=1, trees=300, rate=0.05),
    ),
    ("lightgbm", "lightgbm"),
    fit=_lightgbm,
)
LIGHTGBM_CODED: Final = Family(
    "LightGBM coded",
    (
        _boosted(15, 20.0, 20.0, coded=1),
        _boosted(7, 20.0, 5.0, coded=1),
        _boosted(31, 20.0, 0.0, rate=0.05, coded=1),
        _boosted(31, 5.0, 20.0, trees=300, rate=0.05, coded=1),
        _boosted(63, 50.0, 50.0, trees=300, rate=0.05, coded=1),
        _boosted(127, 1.0, 0.0, trees=300, rate=0.05, coded=1),
        _boosted(15, 20.0, 20.0, balanced=1, coded=1),
    ),
    LIGHTGBM.needs,
    fit=_lightgbm,
)
XGBOOST: Final = Family(
    "XGBoost",
    (
        _boosted(15, 20.0, 20.0),
        _boosted(31, 5.0, 5.0, rate=0.05),
        _boosted(31, 20.0, 20.0, rate=0.05, coded=1),
    ),
    ("xgboost", "xgboost-cpu"),
    fit=_xgboost,
)
EBM: Final = Family(
    "EBM",
    ({"interactions": 10, "bags": 2, "rate": 0.02},),
    ("interpret", "interpret-core"),
    fit=_ebm,
    most_rows=60_000,
)
LOGISTIC: Final = Family(
    "river logistic", ({"rate": 0.01}, {"rate": 0.003}), ("river", "river"), online=_logistic
)
ADAPTIVE_FOREST: Final = Family(
    "river ARF", ({"trees": 10},), ("river", "river"), online=_adaptive_forest, most_rows=100_000
)

FAMILIES: Final = (LIGHTGBM, LIGHTGBM_CODED, LOGISTIC, XGBOOST, EBM, ADAPTIVE_FOREST)
