"""Every threshold that a ranking allows: what each would catch, open and cost."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import BoolArray, FloatArray, IntArray
from models.evaluation import last_of_equals


@dataclass(frozen=True, slots=True)
class WorkingPoints:
    """The k + 1 thresholds of a ranking of n rows with k distinct scores; the first alerts on nothing.

    Attributes
    ----------
    threshold : float64 (k + 1,)
        Alert from here on: inf, then the distinct scores, the highest first.
    alerts, caught : float64 (k + 1,)
        Rows at or above it, and the frauds among them, by weight.
    caught_loss : float64 (k + 1,)
        The loss that these frauds would have caused.
    cases : float64 (k + 1,)
        Cases that the alerts open.
    frauds, loss
        All frauds by weight, and their loss.
    """

    threshold: FloatArray
    alerts: FloatArray
    caught: FloatArray
    caught_loss: FloatArray
    cases: FloatArray
    frauds: float
    loss: float

    @classmethod
    def of(
        cls,
        fraud: BoolArray,
        score: FloatArray,
        loss: FloatArray,
        case: IntArray,
        weight: FloatArray | None = None,
    ) -> WorkingPoints:
        """Sweep a threshold over all distinct scores.

        Parameters
        ----------
        fraud : bool (n,)
        score : float64 (n,)
            Finite; a higher one is more suspect.
        loss : float64 (n,)
            The cost of missing the row if it is a fraud.
        case : int64 (n,)
            Alerts of one case are reviewed once.
        weight : float64 (n,), optional
            How many transactions each row stands for; None counts each once. A case weighs as much as its highest
            scored row.
        """
        order = np.argsort(-score, kind="stable")
        weight = np.ones(len(score)) if weight is None else weight[order]
        fraud, ranked, loss = fraud[order], score[order], loss[order]
        opens = np.zeros(len(order), np.bool_)
        opens[np.unique(case[order], return_index=True)[1]] = True
        last = last_of_equals(ranked)

        def total(values: FloatArray) -> FloatArray:
            return np.concatenate([[0.0], np.cumsum(values)[last]])

        alerts, caught, caught_loss, cases = (
            total(values) for values in (weight, weight * fraud, weight * fraud * loss, weight * opens)
        )
        threshold = np.concatenate([[np.inf], ranked[last]])
        return cls(threshold, alerts, caught, caught_loss, cases, float(caught[-1]), float(caught_loss[-1]))

    @property
    def recall(self) -> FloatArray:
        """The share of the frauds caught, float64 (k + 1,); NaN without frauds."""
        return self.caught / (self.frauds or np.nan)

    @property
    def recall_by_value(self) -> FloatArray:
        """The same weighed by loss; NaN where frauds cost nothing."""
        return self.caught_loss / (self.loss or np.nan)

    @property
    def precision(self) -> FloatArray:
        """The share of frauds among the alerts, float64 (k + 1,); NaN where nothing is alerted."""
        return self.caught / np.where(self.alerts > 0.0, self.alerts, np.nan)

    @property
    def f1(self) -> FloatArray:
        """The harmonic mean of recall and precision, float64 (k + 1,); 0 where nothing is caught."""
        return 2.0 * self.caught / np.maximum(self.frauds + self.alerts, np.finfo(np.float64).tiny)

    def cost(self, review_cost: float) -> FloatArray:
        """Return the cost of each threshold, a review for each case and the missed losses: float64 (k + 1,)."""
        return review_cost * self.cases + (self.loss - self.caught_loss)

    def savings(self, review_cost: float) -> FloatArray:
        """Return 1 less the cost over the lower of the costs of alerting on nothing and on everything."""
        cost = self.cost(review_cost)
        return 1.0 - cost / (min(cost[0], cost[-1]) or np.nan)

    def best_f1_threshold(self) -> float:
        """Return the highest threshold of the greatest F1; inf without frauds."""
        return float(self.threshold[np.argmax(self.f1)])

    def cheapest_threshold(self, review_cost: float) -> float:
        """Return the highest threshold of the least cost."""
        return float(self.threshold[np.argmin(self.cost(review_cost))])


def first_alerts(case: IntArray, alerted: BoolArray) -> BoolArray:
    """Return where a case opens, bool (n,): at the first alert of each case, in the order of the rows."""
    opens = np.zeros(len(case), np.bool_)
    rows = np.flatnonzero(alerted)
    opens[rows[np.unique(case[rows], return_index=True)[1]]] = True
    return opens
