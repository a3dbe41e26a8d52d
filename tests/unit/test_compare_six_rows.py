"""The classic experiment with six rows: our strategies on raw arrays are a direct run of the libraries."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, recall_score
from sklearn.model_selection import train_test_split

from tests.support.samples import sample_of
from worker.offline.compare.families.fitted import Fitted
from worker.offline.compare.families.preparation import as_is
from worker.offline.compare.registry import strategies

SEED = 42


class Split(NamedTuple):
    """The one random split, as the script has it."""

    X: NDArray[np.float32]
    X_test: NDArray[np.float32]
    y: NDArray[np.int64]
    y_test: NDArray[np.int64]


@pytest.fixture(scope="module")
def split() -> Split:
    X, y = make_classification(
        n_samples=10_000, n_features=20, n_informative=10, n_redundant=5, weights=[0.95], random_state=SEED
    )
    return Split(*train_test_split(X.astype(np.float32), y, test_size=0.2, random_state=SEED))


def directly(sampler: str | None, classifier: Any, split: Split) -> NDArray[np.float64]:
    """Return the probabilities that the script computes, without any of our code."""
    X, y = split.X.astype(np.float64), split.y
    if sampler is not None:
        module = "under_sampling" if sampler == "RandomUnderSampler" else "over_sampling"
        samplers = pytest.importorskip(f"imblearn.{module}")
        X, y = getattr(samplers, sampler)(random_state=SEED).fit_resample(X, y)
    probabilities = classifier.fit(X, y).predict_proba(split.X_test.astype(np.float64))[:, 1]
    return np.asarray(probabilities)


@pytest.mark.parametrize(
    ("name", "sampler", "class_weight", "f1", "recall"),
    [
        ("logistic", None, None, 56.6, 40.9),
        ("weights_balanced", None, "balanced", 34.4, 86.4),
        ("oversampling", "RandomOverSampler", None, 34.4, 86.4),
        ("smote", "SMOTE", None, 34.2, 85.5),
        ("undersampling", "RandomUnderSampler", None, 32.7, 81.8),
        ("balanced_forest", None, None, 62.1, 78.2),
    ],
)
def test_a_strategy_on_raw_arrays_is_a_direct_run(
    split: Split, name: str, sampler: str | None, class_weight: str | None, f1: float, recall: float
) -> None:
    if name == "balanced_forest":
        ensembles = pytest.importorskip("imblearn.ensemble")
        classifier = ensembles.BalancedRandomForestClassifier(n_estimators=100, random_state=SEED)
    else:
        classifier = LogisticRegression(max_iter=1000, random_state=SEED, class_weight=class_weight)
    theirs = directly(sampler, classifier, split)

    make = strategies()[name].make
    model = make() if make else None
    assert isinstance(model, Fitted)
    model = replace(model, preparation=as_is)
    model.fit(sample_of(split.X, split.y == 1), SEED)
    ours = model.score(sample_of(split.X_test, split.y_test == 1))

    assert np.abs(ours - theirs).max() <= 1e-12
    alerted = ours > 0.5  # as `predict` does: a tie is legit, and ties are frequent among a hundred trees
    assert np.array_equal(alerted, classifier.predict(split.X_test.astype(np.float64)))
    assert 100 * f1_score(split.y_test, alerted) == pytest.approx(f1, abs=0.05)
    assert 100 * recall_score(split.y_test, alerted) == pytest.approx(recall, abs=0.05)
