"""Resampling, weights and a threshold together, as often advised for severe imbalance.

SMOTE makes frauds until there is one for ten legits, weights make the classes equal from there, and the tuning window
chooses the threshold.
"""

from __future__ import annotations

from typing import Any, Final

from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

from worker.offline.compare.families.extras import imported
from worker.offline.compare.families.resampling import (
    NEIGHBOUR_CAPS,
    SMOTE_FRAUDS,
    SMOTE_NEIGHBOURS,
    resampled,
)
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import Rule, Strategy

FRAUDS_PER_LEGIT: Final = 0.1


def _some_smote(train: Sample, seed: int) -> list[Any]:
    """Return SMOTE up to one fraud for ten legits; up to equal classes where there are as many already."""
    frauds = int(train.fraud.sum())
    rare = frauds < FRAUDS_PER_LEGIT * (len(train) - frauds)
    make = imported("imblearn.over_sampling").SMOTE
    return [
        make(
            sampling_strategy=FRAUDS_PER_LEGIT if rare else "auto",
            k_neighbors=SMOTE_NEIGHBOURS,
            random_state=seed,
        )
    ]


def _logistic(_train: Sample, seed: int) -> list[Any]:
    return [LogisticRegression(max_iter=1000, class_weight="balanced", random_state=seed)]


def _boosting(_train: Sample, seed: int) -> list[Any]:
    return [HistGradientBoostingClassifier(class_weight="balanced", random_state=seed)]


STRATEGIES: Final = (
    Strategy(
        "smote_weights_threshold",
        "combinations",
        "SMOTE to 1 in 10, balanced weights, logistic regression, alerting from the score that cost least on",
        lambda: resampled(_some_smote, _logistic, frauds=SMOTE_FRAUDS),
        rule=Rule.CHEAPEST,
        needs=("imblearn",),
        caps=NEIGHBOUR_CAPS,
    ),
    Strategy(
        "smote_weights_threshold_boosting",
        "combinations",
        "SMOTE to 1 in 10, balanced weights, gradient boosting, alerting from the score that cost least on",
        lambda: resampled(_some_smote, _boosting, frauds=SMOTE_FRAUDS),
        rule=Rule.CHEAPEST,
        needs=("imblearn",),
        caps=NEIGHBOUR_CAPS,
    ),
)
