"""Weighing frauds more in learning, alerting from a probability of 0.5 on.

Equal weights are n / (k · n_c), counted in transactions: each of k = 2 classes weighs n / 2.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from worker.errors import SettingsError
from worker.offline.compare.families.extras import imported
from worker.offline.compare.families.fitted import Fitted, Weights, trees
from worker.offline.compare.families.nothing import FOREST_CAPS, boosting, forest, logistic
from worker.offline.compare.families.preparation import coded, coded_categories
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import Strategy

BY_HAND: Final = 10.0


def balanced(train: Sample) -> NDArray[np.float64]:
    """Weigh both classes alike: n / (2 · n_c), as `class_weight="balanced"` does."""
    total = train.weight.sum()
    fraud = train.weight[train.fraud].sum()
    of_class = np.where(train.fraud, total / (2 * fraud), total / (2 * (total - fraud)))
    return np.asarray(train.weight * of_class)


def by_hand(fraud: float) -> Weights:
    """Return what weighs a fraud as much as so many legits."""
    return lambda train: train.weight * np.where(train.fraud, fraud, 1.0)


def with_argument(argument: str) -> Strategy:
    """Return the strategy `weights:FRAUD`.

    Raises
    ------
    SettingsError
        The argument is no positive number.
    """
    fraud = positive(argument)
    if fraud is None:
        raise SettingsError(f"weights:{argument}: give how many legits a fraud weighs, as in weights:25")
    return Strategy(
        f"weights:{argument}",
        "weights",
        f"a fraud weighs as much as {fraud:g} legits",
        lambda: Fitted(logistic, weights=by_hand(fraud)),
    )


def positive(text: str) -> float | None:
    """Return a positive number; None where a text is none."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0.0 < number < math.inf else None


def lightgbm(train: Sample, seed: int) -> list[Any]:
    """Return LightGBM with `scale_pos_weight`."""
    make = imported("lightgbm").LGBMClassifier
    return [
        make(
            scale_pos_weight=legits_per_fraud(train),
            random_state=seed,
            n_jobs=0,
            deterministic=True,
            force_col_wise=True,
            verbose=-1,
        )
    ]


def categories(train: Sample) -> dict[str, Any]:
    """Return which features LightGBM has to take for categories."""
    columns = coded_categories(train)
    return {"categorical_feature": columns} if columns else {}


def _xgboost(train: Sample, seed: int) -> list[Any]:
    make = imported("xgboost").XGBClassifier
    return [make(scale_pos_weight=legits_per_fraud(train), random_state=seed)]


def legits_per_fraud(train: Sample) -> float:
    """Return how many legit transactions there are for each fraud: the advice for `scale_pos_weight`."""
    return float(train.weight[~train.fraud].sum() / train.weight[train.fraud].sum())


STRATEGIES: Final = (
    Strategy(
        "weights_balanced",
        "weights",
        "logistic regression, both classes weighing the same",
        lambda: Fitted(logistic, weights=balanced),
    ),
    Strategy(
        "weights_by_hand",
        "weights",
        f"a fraud weighs as much as {BY_HAND:g} legits; others as weights:25",
        lambda: Fitted(logistic, weights=by_hand(BY_HAND)),
    ),
    Strategy(
        "weights_forest",
        "weights",
        "random forest, both classes weighing the same",
        lambda: trees(forest, balanced),
        caps=FOREST_CAPS,
    ),
    Strategy(
        "weights_boosting",
        "weights",
        "gradient boosting, both classes weighing the same",
        lambda: Fitted(boosting, coded, balanced),
    ),
    Strategy(
        "lightgbm_scale_pos_weight",
        "weights",
        "LightGBM, frauds weighing as much as all legits",
        lambda: Fitted(lightgbm, coded, arguments=categories),
        needs=("lightgbm",),
    ),
    Strategy(
        "xgboost_scale_pos_weight",
        "weights",
        "XGBoost, frauds weighing as much as all legits",
        lambda: Fitted(_xgboost, coded),
        needs=("xgboost",),
    ),
)
