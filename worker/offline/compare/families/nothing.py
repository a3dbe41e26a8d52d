"""Doing nothing about the imbalance: models as they come, alerting from a probability of 0.5 on."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import Strategy


class Fitted:
    """An estimator of scikit-learn's kind as a `worker.offline.compare.strategy.Model`.

    Parameters
    ----------
    make
        Makes the estimator from a seed.
    """

    def __init__(self, make: Any) -> None:
        self._make = make
        self._estimator: Any = None

    def fit(self, train: Sample, seed: int) -> None:
        """Fit the estimator to all rows, weighted by what they stand for."""
        self._estimator = self._make(seed)
        last = getattr(self._estimator, "steps", [("", None)])[-1][0]
        name = f"{last}__sample_weight" if last else "sample_weight"
        self._estimator.fit(train.features, train.fraud, **{name: train.weight})

    def score(self, sample: Sample) -> NDArray[np.float64]:
        """Return the estimator's probability of fraud."""
        return np.asarray(self._estimator.predict_proba(sample.features)[:, 1], np.float64)


def _logistic(seed: int) -> Any:
    return make_pipeline(
        SimpleImputer(strategy="median"),
        StandardScaler(),
        LogisticRegression(max_iter=1000, random_state=seed),
    )


def _forest(seed: int) -> Any:
    return make_pipeline(SimpleImputer(strategy="median"), RandomForestClassifier(random_state=seed))


def _boosting(seed: int) -> Any:
    return HistGradientBoostingClassifier(random_state=seed)


STRATEGIES: Final = (
    Strategy("logistic", "nothing", "logistic regression as it comes", lambda: Fitted(_logistic)),
    Strategy("random_forest", "nothing", "random forest as it comes", lambda: Fitted(_forest)),
    Strategy("boosting", "nothing", "gradient boosting as it comes", lambda: Fitted(_boosting)),
)
