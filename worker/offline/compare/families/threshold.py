"""Learning as usual and moving the threshold: one model of gradient boosting under each rule.

As it comes, gradient boosting overfits where frauds are few: the cost rule is tried on one with small trees and a
strong penalty too.
"""

from __future__ import annotations

from typing import Any, Final

from worker.offline.compare.families.fitted import Fitted
from worker.offline.compare.families.nothing import boosting
from worker.offline.compare.families.preparation import coded
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import Rule, Strategy

_MEANINGS: Final = {
    Rule.HALF: "gradient boosting, alerting from a probability of 0.5 on",
    Rule.BEST_F1: "gradient boosting, alerting from the score of best F1 on",
    Rule.COST: "gradient boosting, alerting where calibrated probability times loss pays for a review",
    Rule.CHEAPEST: "gradient boosting, alerting from the score that cost least on",
}


def regularised(train: Sample, seed: int) -> list[Any]:
    """Return gradient boosting with small trees and a strong penalty."""
    small = {"max_iter": 200, "learning_rate": 0.05, "max_leaf_nodes": 7}
    return [
        model.set_params(l2_regularization=20.0, max_features=0.5, **small) for model in boosting(train, seed)
    ]


STRATEGIES: Final = (
    *(
        Strategy(f"threshold_{rule.value}", "threshold", meaning, lambda: Fitted(boosting, coded), rule=rule)
        for rule, meaning in _MEANINGS.items()
    ),
    Strategy(
        "threshold_cost_regularised",
        "threshold",
        "small, penalised trees, alerting where calibrated probability times loss pays for a review",
        lambda: Fitted(regularised, coded),
        rule=Rule.COST,
    ),
)
