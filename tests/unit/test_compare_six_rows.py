"""The classic experiment with six rows: our strategies, run by the engine, are a direct run of the libraries."""

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

from models.vocabulary import MS_PER_DAY
from worker.offline.compare.engine import try_out
from worker.offline.compare.families.fitted import Fitted
from worker.offline.compare.families.preparation import as_is
from worker.offline.compare.material import Material
from worker.offline.compare.registry import strategies
from worker.offline.compare.result import Block
from worker.offline.compare.windows import Windows
from worker.offline.dataset import NEVER

SEED = 42
TUNED = 1_000


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


def material_of(split: Split) -> Material:
    """Lay the split out in time: a window to train, one to tune with some of its rows again, one to test."""
    X = np.concatenate([split.X, split.X[:TUNED], split.X_test])
    fraud = np.concatenate([split.y, split.y[:TUNED], split.y_test]) == 1
    rows = np.arange(len(X))
    starts = np.array([0, 0, len(split.X), len(split.X) + TUNED, len(split.X) + TUNED, len(X)])
    amount = np.ones(len(X))
    return Material(
        features=X,
        amount=amount,
        loss=amount,
        event_time_ms=rows * MS_PER_DAY,
        case=rows,
        matures_ms=rows * MS_PER_DAY,
        fraud_ms=np.where(fraud, rows * MS_PER_DAY, NEVER),
        categorical=np.zeros(X.shape[1], np.bool_),
        windows=Windows(*(int(start) * MS_PER_DAY for start in starts)),
        review_cost=1.0,
    )


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
def test_a_strategy_on_raw_arrays_is_a_direct_run_of_the_libraries(
    split: Split, name: str, sampler: str | None, class_weight: str | None, f1: float, recall: float
) -> None:
    if name == "balanced_forest":
        ensembles = pytest.importorskip("imblearn.ensemble")
        classifier = ensembles.BalancedRandomForestClassifier(n_estimators=100, random_state=SEED)
    else:
        classifier = LogisticRegression(max_iter=1000, random_state=SEED, class_weight=class_weight)
    theirs = directly(sampler, classifier, split)

    strategy = strategies()[name]

    def make() -> Fitted:
        # The script scales nothing.
        model = strategy.make() if strategy.make else None
        assert isinstance(model, Fitted)
        return replace(model, preparation=as_is)

    frozen = next(try_out(material_of(split), replace(strategy, make=make), SEED))
    assert (frozen.block, frozen.rows_learnt) == (Block.FROZEN, len(split.X))
    assert np.abs(frozen.decided.score - theirs).max() <= 1e-12
    # As `predict` does: a tie is legit, and ties are frequent among a hundred trees.
    alerted = frozen.decided.alerted
    assert np.array_equal(alerted, classifier.predict(split.X_test.astype(np.float64)))
    assert 100 * f1_score(split.y_test, alerted) == pytest.approx(f1, abs=0.05)
    assert 100 * recall_score(split.y_test, alerted) == pytest.approx(recall, abs=0.05)
