"""What silence after an alert teaches, measured from how many of the alerts' predicted frauds labels confirm.

No one may have looked at the alert, or a payment that was blocked cannot charge back: silence alone does not say. Leave
all silent alerts out, and above the threshold only frauds are learnt: the model thinks ever more of its own alerts
as it raises more of them. Learn all of them as legit, and blocked frauds teach that fraud is legit. What tells the two
apart is the frauds: where alerts go unanswered but their frauds still charge back, labels confirm about as many as the
model predicted; where frauds are blocked, next to none. So a silent alert is learnt as legit with a weight that follows
from the share that is confirmed. The forest's alerts should hold as many frauds as any decisions, at least: where
nearly all is alerted, as in a small stream of large amounts, a first generation would otherwise know hardly a legit.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from models.examples import Examples, Verdict
from models.threshold import Calibration

_PRIOR_FRAUDS: Final = 10.0
"""Predicted frauds without any confirmed that the estimate begins with: silence proves nothing until labels do."""
_ENOUGH: Final = 3.0
"""A third of the predicted frauds, confirmed, proves that alerts are not blocked: a model that has learnt too little of
its silent alerts predicts too many, and would otherwise prove itself right."""


def silent_weight(examples: Examples, calibration: Calibration) -> float:
    """Return the weight with which a silent alert is learnt as legit, from 0 to 1.

    Parameters
    ----------
    examples
        The last verdict on each decision, silent alerts with them, each for as many as its weight. Those that the
        forest decided predict as many frauds as there are among as many of all decisions.
    calibration
        Makes probabilities of their logits.
    """
    weight, fraud = examples.weight.astype(np.float64), examples.label & Verdict.FRAUD != 0
    alerted, online = examples.label & Verdict.ALERTED > 0, np.isfinite(examples.logit)
    probability = np.full(len(weight), np.sum(weight, where=fraud) / max(float(weight.sum()), 1.0))
    probability[online] = calibration.probability(examples.logit[online].astype(np.float64))
    predicted = np.dot(weight[alerted], probability[alerted])
    confirmed = np.sum(weight, where=alerted & fraud)
    return float(min(_ENOUGH * confirmed / (predicted + _PRIOR_FRAUDS), 1.0))


def resolved(examples: Examples, weight: float) -> Examples:
    """Return the examples with the weights that they are learnt with: silent alerts have that of `silent_weight`."""
    silent = examples.label == Verdict.ALERTED
    return replace(examples, weight=np.where(silent, examples.weight * np.float32(weight), examples.weight))
