"""Exact ranking measures, and the line of figures that a backtest prints for a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import BoolArray, FloatArray, IntArray


def average_precision(fraud: BoolArray, score: FloatArray, weight: FloatArray | None = None) -> float:
    """Sum the recall gained times the precision over the distinct scores (average precision).

    Rows of one score count together, as in scikit-learn; without interpolation (Davis and Goadrich 2006).

    Parameters
    ----------
    fraud : bool (n,)
    score : float64 (n,)
        Finite; a higher one is more suspect.
    weight : float64 (n,), optional
        How many transactions each row stands for; None counts each once.

    Returns
    -------
    float
        NaN without a fraud.
    """
    caught, alerted = _cumulative(fraud, score, weight)
    if len(caught) == 0 or caught[-1] == 0:
        return float(np.nan)
    gained = np.diff(caught, prepend=0.0)
    return float(np.sum(gained / caught[-1] * (caught / alerted)))


def roc_auc(fraud: BoolArray, score: FloatArray, weight: FloatArray | None = None) -> float:
    """Estimate the chance that a fraud outranks a legit, ties counting half (area under the ROC curve).

    Parameters
    ----------
    fraud : bool (n,)
    score : float64 (n,)
        Finite; a higher one is more suspect.
    weight : float64 (n,), optional
        How many transactions each row stands for; None counts each once.

    Returns
    -------
    float
        NaN unless both frauds and legits occur.
    """
    caught, alerted = _cumulative(fraud, score, weight)
    false = alerted - caught
    if len(caught) == 0 or caught[-1] == 0 or false[-1] == 0:
        return float(np.nan)
    height = caught - 0.5 * np.diff(caught, prepend=0.0)
    return float(np.sum(np.diff(false, prepend=0.0) * height) / (caught[-1] * false[-1]))


def _cumulative(
    fraud: BoolArray, score: FloatArray, weight: FloatArray | None
) -> tuple[FloatArray, FloatArray]:
    """Weigh the frauds, and the rows, at or above each distinct score, the highest first."""
    if weight is not None:
        # Rows that stand for nothing would give scores at which nothing is alerted.
        counted = weight > 0.0
        fraud, score, weight = fraud[counted], score[counted], weight[counted]
    order = np.argsort(-score, kind="stable")
    last_of_score = last_of_equals(score[order])
    if weight is None:
        caught: FloatArray = np.cumsum(fraud[order], dtype=np.float64)[last_of_score]
        return caught, last_of_score.astype(np.float64) + 1.0
    weight = weight[order]
    return np.cumsum(weight * fraud[order])[last_of_score], np.cumsum(weight)[last_of_score]


def last_of_equals(ranked: FloatArray) -> IntArray:
    """Return the index of the last of each run of equal values."""
    return np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True)[: len(ranked)])


@dataclass(frozen=True)
class Evaluation:
    """One line of a backtest's table; NaN where a figure is undefined.

    Attributes
    ----------
    n
        Decisions whose truth is known.
    prevalence
        Share of frauds.
    ap, roc_auc
        How well the score ranks the frauds: `average_precision` and `roc_auc`.
    recall, precision, f1
        Of the alerts as they were decided.
    cost
        A review per case opened, and the loss of every missed fraud: `cost_reviews` and `cost_missed`.
    savings
        1 less the cost over the lower of `cost_none` and `cost_all`.
    frauds, caught, alerts, cases
        Counts: frauds, alerted frauds, alerts, and the cases that these opened.
    recall_by_value
        Alerted frauds among frauds, by the loss they would have caused.
    cost_none, cost_all
        The cost of alerting on nothing, and of alerting on everything.
    """

    n: int
    prevalence: float
    ap: float
    roc_auc: float
    recall: float
    precision: float
    f1: float
    cost: float
    savings: float
    frauds: int
    caught: int
    alerts: int
    cases: int
    recall_by_value: float
    cost_reviews: float
    cost_missed: float
    cost_none: float
    cost_all: float


def evaluate(
    *,
    fraud: BoolArray,
    score: FloatArray,
    alerted: BoolArray,
    loss: FloatArray,
    opens_case: BoolArray,
    first_of_window: BoolArray,
    review_cost: float,
) -> Evaluation:
    """Compare decisions with the truth that later became known.

    Parameters
    ----------
    fraud, alerted : bool (n,)
        Truth and decision.
    score : float64 (n,)
        At decision time.
    loss : float64 (n,)
        The loss if the row is a missed fraud.
    opens_case, first_of_window : bool (n,)
        Where a review is charged, and where one would be charged if everything were alerted.
    review_cost
        Of one case.
    """
    n, frauds, alerts = len(fraud), int(fraud.sum()), int(alerted.sum())
    caught, cases = int((fraud & alerted).sum()), int(opens_case.sum())
    cost_reviews, cost_missed = review_cost * cases, float(loss[fraud & ~alerted].sum())
    cost_none, cost_all = float(loss[fraud].sum()), review_cost * int(first_of_window.sum())
    cost = cost_reviews + cost_missed
    return Evaluation(
        n=n,
        prevalence=_divide(frauds, n),
        ap=average_precision(fraud, score),
        roc_auc=roc_auc(fraud, score),
        recall=_divide(caught, frauds),
        precision=_divide(caught, alerts),
        f1=_divide(2 * caught, frauds + alerts),
        cost=cost,
        savings=1.0 - _divide(cost, min(cost_none, cost_all)),
        frauds=frauds,
        caught=caught,
        alerts=alerts,
        cases=cases,
        recall_by_value=_divide(float(loss[fraud & alerted].sum()), cost_none),
        cost_reviews=cost_reviews,
        cost_missed=cost_missed,
        cost_none=cost_none,
        cost_all=cost_all,
    )


def _divide(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else float(np.nan)
