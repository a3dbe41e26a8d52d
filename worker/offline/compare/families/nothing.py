"""Doing nothing about the imbalance: models as they come, alerting from a probability of 0.5 on."""

from __future__ import annotations

from typing import Any, Final

from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from worker.offline.compare.families.fitted import Fitted, trees
from worker.offline.compare.families.preparation import coded, coded_categories
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import Caps, Strategy

FOREST_CAPS: Final = Caps(rows=100_000)


def logistic(_train: Sample, seed: int) -> list[Any]:
    """Return logistic regression as it comes, with steps enough to converge."""
    return [LogisticRegression(max_iter=1000, random_state=seed)]


def forest(_train: Sample, seed: int) -> list[Any]:
    """Return a random forest as it comes."""
    return [RandomForestClassifier(random_state=seed)]


def boosting_on_numbers(_train: Sample, seed: int) -> list[Any]:
    """Return gradient boosting as it comes, on features that are all numbers."""
    return [HistGradientBoostingClassifier(random_state=seed)]


def boosting(train: Sample, seed: int) -> list[Any]:
    """Return gradient boosting as it comes; it knows which features are categories."""
    return [
        HistGradientBoostingClassifier(
            random_state=seed, categorical_features=coded_categories(train) or None
        )
    ]


STRATEGIES: Final = (
    Strategy("logistic", "nothing", "logistic regression as it comes", lambda: Fitted(logistic)),
    Strategy(
        "random_forest", "nothing", "random forest as it comes", lambda: trees(forest), caps=FOREST_CAPS
    ),
    Strategy("boosting", "nothing", "gradient boosting as it comes", lambda: Fitted(boosting, coded)),
)
