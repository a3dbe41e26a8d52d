"""Detectors fitted on legitimate traffic only; they rank, and alert from the score that cost least on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import IsolationForest
from sklearn.pipeline import make_pipeline
from sklearn.svm import OneClassSVM

from worker.offline.compare.families.extras import imported
from worker.offline.compare.families.fitted import explained, require_rows
from worker.offline.compare.families.preparation import finite, scaled
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import Caps, Rule, Strategy


@dataclass(slots=True)
class Detector:
    """An estimator of outliers of scikit-learn's kind, after imputation and scaling.

    Attributes
    ----------
    make
        Makes the unfitted estimator from a seed.
    sign
        1 where its `decision_function` is higher for stranger rows, -1 where it is lower.
    """

    make: Callable[[int], Any]
    sign: float = 1.0
    _preparation: Any = field(default=None, init=False, repr=False)
    _estimator: Any = field(default=None, init=False, repr=False)

    def fit(self, train: Sample, seed: int) -> None:
        """Fit the estimator to the legits; what legits stand for is the same for all of them."""
        legits = train.take(~train.fraud)
        require_rows(legits)
        with explained():
            self._preparation = make_pipeline(*scaled(legits))
            self._estimator = self.make(seed)
            self._estimator.fit(self._preparation.fit_transform(finite(legits.features)))

    def score(self, sample: Sample) -> NDArray[np.float64]:
        """Return how strange each row is among legits."""
        with explained():
            prepared = self._preparation.transform(finite(sample.features))
            strangeness = self._estimator.decision_function(prepared)
        return np.asarray(self.sign * strangeness, np.float64)


def _forest(seed: int) -> Any:
    return IsolationForest(random_state=seed)


def _support_vectors(_seed: int) -> Any:
    return OneClassSVM(nu=0.01)


def _nearest(seed: int) -> Any:
    # INNE's score of a row depends on the training window alone. ECOD and COPOD of the same package rank the rows to
    # be scored among each other, so that a decision would see later transactions.
    return imported("pyod.models.inne").INNE(n_estimators=100, random_state=seed)


STRATEGIES: Final = (
    Strategy(
        "isolation_forest",
        "anomaly",
        "how few random cuts set a transaction apart from legits",
        lambda: Detector(_forest, sign=-1.0),
        rule=Rule.CHEAPEST,
        is_probability=False,
    ),
    Strategy(
        "one_class_svm",
        "anomaly",
        "how far a transaction lies outside of the legits (one-class SVM)",
        lambda: Detector(_support_vectors, sign=-1.0),
        rule=Rule.CHEAPEST,
        is_probability=False,
        caps=Caps(rows=20_000),
    ),
    Strategy(
        "inne",
        "anomaly",
        "how lonely a transaction is beside its nearest legits (INNE, of PyOD)",
        lambda: Detector(_nearest),
        rule=Rule.CHEAPEST,
        is_probability=False,
        needs=("pyod",),
        caps=Caps(rows=50_000),
    ),
)
