"""Costs in learning: each example weighs what deciding it wrongly costs."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.errors import SettingsError
from worker.offline.compare.families.fitted import Fitted, Weights
from worker.offline.compare.families.nothing import boosting, logistic
from worker.offline.compare.families.preparation import coded
from worker.offline.compare.families.weights import positive
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import LeftOutError, Rule, Strategy

REVIEW: Final = 10.0
MISSED: Final = 1_000.0


def by_matrix(review: float, missed: float) -> Weights:
    """Return the weights of a 2x2 cost matrix: what a wrong decision costs above the right one (Elkan 2001).

    An alert costs a review whether it is right or wrong, a missed fraud costs `missed`, anything else nothing. With
    these weights a probability of 0.5 stands for the true one at which an alert pays: review / missed.
    """

    def weights(train: Sample) -> NDArray[np.float64]:
        return _with_mean_of_one(train.weight * np.where(train.fraud, missed - review, review), train)

    return weights


def by_loss(train: Sample) -> NDArray[np.float64]:
    """Weigh each fraud by its loss over the mean loss; the classes keep what they weighed."""
    weights = train.weight.copy()
    losses = train.loss[train.fraud]
    mean = np.average(losses, weights=train.weight[train.fraud])
    if not mean > 0.0:
        raise LeftOutError("no fraud of the training window causes a loss")
    weights[train.fraud] *= losses / mean
    return weights


def with_argument(argument: str) -> Strategy:
    """Return the strategy `costs:REVIEW:MISSED`.

    Raises
    ------
    SettingsError
        The argument is not two positive numbers, the second one greater.
    """
    review, _, missed = (positive(it) if it != ":" else None for it in argument.partition(":"))
    if review is None or missed is None or missed <= review:
        raise SettingsError(
            f"costs:{argument}: give the cost of a review and the greater one of a missed fraud, as in costs:10:1000"
        )
    return _matrix(f"costs:{argument}", review, missed)


def _matrix(name: str, review: float, missed: float) -> Strategy:
    return Strategy(
        name,
        "costs",
        f"logistic regression that learns a review costs {review:g} and a missed fraud {missed:g}",
        lambda: Fitted(logistic, weights=by_matrix(review, missed)),
    )


def _with_mean_of_one(weights: NDArray[np.float64], train: Sample) -> NDArray[np.float64]:
    """Scale weights so that they sum to what the rows stand for: a penalty on coefficients then keeps its strength."""
    return np.asarray(weights * (train.weight.sum() / weights.sum()))


STRATEGIES: Final = (
    _matrix("costs_matrix", REVIEW, MISSED),
    Strategy(
        "costs_loss",
        "costs",
        "logistic regression with frauds weighed by loss, alerting from the score that cost least on",
        lambda: Fitted(logistic, weights=by_loss),
        rule=Rule.CHEAPEST,
    ),
    Strategy(
        "costs_loss_boosting",
        "costs",
        "gradient boosting with frauds weighed by loss, alerting from the score that cost least on",
        lambda: Fitted(boosting, coded, by_loss),
        rule=Rule.CHEAPEST,
    ),
)
