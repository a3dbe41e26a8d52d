"""Estimators of scikit-learn's kind as models of a comparison."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.pipeline import make_pipeline

from worker.offline.compare.families.preparation import Preparation, finite, imputed, scaled
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import LeftOutError

Weights = Callable[[Sample], NDArray[np.float64] | None]
"""Returns how much each row weighs in learning; None where the model weighs rows itself."""

LEAST_ROWS: Final = 20


def as_sampled(train: Sample) -> NDArray[np.float64]:
    """Weigh each row by how many transactions it stands for."""
    return train.weight


def unweighted(_train: Sample) -> None:
    """Weigh no row: for models that make the classes equal by themselves, whatever share was sampled."""


def _none(_train: Sample) -> dict[str, Any]:
    return {}


@dataclass(slots=True)
class Fitted:
    """Steps of scikit-learn's or imbalanced-learn's kind, the last one a classifier, after a preparation.

    Attributes
    ----------
    steps
        Makes the unfitted steps from the rows to learn from and a seed.
    preparation
        The steps before these.
    weights
        What the classifier weighs rows by; None where rows are made or dropped on the way.
    pipeline
        Joins steps; that of imbalanced-learn where a step resamples.
    arguments
        Returns further arguments of the classifier's `fit`.
    """

    steps: Callable[[Sample, int], list[Any]]
    preparation: Preparation = scaled
    weights: Weights = as_sampled
    pipeline: Callable[..., Any] = make_pipeline
    arguments: Callable[[Sample], dict[str, Any]] = _none
    _estimator: Any = field(default=None, init=False, repr=False)

    def fit(self, train: Sample, seed: int) -> None:
        """Fit the preparation and the steps to all rows."""
        require_rows(train)
        require_both_classes(train)
        with explained():
            estimator = self.pipeline(*self.preparation(train), *self.steps(train, seed))
            weights = self.weights(train)
            arguments = self.arguments(train) | ({} if weights is None else {"sample_weight": weights})
            last = estimator.steps[-1][0]
            named = {f"{last}__{name}": value for name, value in arguments.items()}
            estimator.fit(finite(train.features), train.fraud, **named)
        self._estimator = estimator

    def score(self, sample: Sample) -> NDArray[np.float64]:
        """Return the probability of fraud that the classifier gives."""
        with explained():
            probability = self._estimator.predict_proba(finite(sample.features))[:, 1]
        return np.asarray(probability, np.float64)


def trees(steps: Callable[[Sample, int], list[Any]], weights: Weights = as_sampled) -> Fitted:
    """Return a model of trees that take no missing value."""
    return Fitted(steps, preparation=imputed, weights=weights)


def require_rows(train: Sample) -> None:
    """Raise `LeftOutError` where there is too little to learn from."""
    if len(train) < LEAST_ROWS:
        raise LeftOutError(
            f"the training window holds {len(train)} rows; learning needs {LEAST_ROWS} or more"
        )


def require_both_classes(train: Sample) -> None:
    """Raise `LeftOutError` where frauds or legits are missing."""
    for name, there in (("fraud", train.fraud), ("legit transaction", ~train.fraud)):
        if not there.any():
            raise LeftOutError(f"the training window holds no {name}")


@contextmanager
def explained(*more: type[Exception]) -> Iterator[None]:
    """Turn a library's refusal of the data into a reason for the table.

    Parameters
    ----------
    *more
        What this library raises, beside the errors of values, numbers and time of run.
    """
    refusals: tuple[type[Exception], ...] = (ValueError, ArithmeticError, RuntimeError, *more)
    with warnings.catch_warnings():
        # A solver that stops at its limit of steps is used as it is, as most code does.
        warnings.simplefilter("ignore", ConvergenceWarning)
        try:
            yield
        except refusals as error:
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise LeftOutError(f"the library refuses the data: {said}") from error
