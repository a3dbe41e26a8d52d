"""Learning as usual and moving the threshold: one model of gradient boosting under each rule."""

from __future__ import annotations

from typing import Final

from worker.offline.compare.families.fitted import Fitted
from worker.offline.compare.families.nothing import boosting
from worker.offline.compare.families.preparation import coded
from worker.offline.compare.strategy import Rule, Strategy

_MEANINGS: Final = {
    Rule.HALF: "gradient boosting, alerting from a probability of 0.5 on",
    Rule.BEST_F1: "gradient boosting, alerting from the score of best F1 on",
    Rule.COST: "gradient boosting, alerting where calibrated probability times loss pays for a review",
    Rule.CHEAPEST: "gradient boosting, alerting from the score that cost least on",
}

STRATEGIES: Final = tuple(
    Strategy(f"threshold_{rule.value}", "threshold", meaning, lambda: Fitted(boosting, coded), rule=rule)
    for rule, meaning in _MEANINGS.items()
)
