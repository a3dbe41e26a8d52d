"""What silence after an alert teaches, measured from how many of the alerts' predicted frauds labels confirm.

Nobody may have looked at the alert, or a payment that was blocked cannot charge back: silence alone does not say. Leave
all silent alerts out, and above the threshold only frauds are learnt: the model thinks ever more of its own alerts
(on a stream with 20 % fraud and no label but chargebacks, average precision falls from 0.58 to 0.44). Learn all of them
as legit, and blocked frauds teach that fraud is legit. What tells the two apart is the frauds: where alerts go
unanswered but their frauds still charge back, labels confirm about as many as the model predicted; where frauds are
blocked, next to none. So a silent alert is learnt as legit with the share that is confirmed, times its own probability
of being legit. The latter keeps that share from feeding on itself.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import sigmoid
from models.examples import Examples, Verdict
from models.threshold import Calibration

_PRIOR_FRAUDS: Final = 10.0
"""Predicted frauds without any confirmed that the estimate begins with: silence proves nothing until labels do."""


def confirmed_share(examples: Examples, calibration: Calibration) -> float:
    """Return how many of the frauds that the alerts predicted labels have confirmed, at most 1.

    Parameters
    ----------
    examples
        The last verdict on each decision, silent alerts with them. Those that the forest decided predict nothing.
    calibration
        Makes probabilities of their logits.
    """
    alerted = (examples.label & Verdict.ALERTED > 0) & np.isfinite(examples.logit)
    predicted = _probabilities(examples.logit[alerted].astype(np.float64), calibration).sum()
    confirmed = np.count_nonzero(examples.label[alerted] & Verdict.FRAUD)
    return float(min(confirmed / (predicted + _PRIOR_FRAUDS), 1.0))


def resolved(examples: Examples, share: float, calibration: Calibration) -> Examples:
    """Return the examples as they are learnt: labels 0 and 1, silent alerts with the weight that they deserve.

    Parameters
    ----------
    examples
        As the model log carries them.
    share
        As `confirmed_share` returns it.
    calibration
        Makes probabilities of their logits.
    """
    silent = np.flatnonzero(examples.label == Verdict.ALERTED)
    label = examples.label & np.uint8(Verdict.FRAUD)
    if not len(silent):
        return replace(examples, label=label)
    weight = examples.weight.copy()
    fraud = _probabilities(examples.logit[silent].astype(np.float64), calibration)
    weight[silent] *= share * (1.0 - fraud)
    return replace(examples, label=label, weight=weight)


def _probabilities(logit: NDArray[np.float64], calibration: Calibration) -> NDArray[np.float64]:
    out = np.zeros(len(logit))
    _sigmoids(logit, calibration.slope, calibration.intercept, out)
    return out


@njit(cache=True, nogil=True)
def _sigmoids(logit: NDArray[np.float64], slope: float, intercept: float, out: NDArray[np.float64]) -> None:
    # Plain arithmetic: a fold calls this. A decision without a logit predicts no fraud.
    for row in range(len(logit)):
        if np.isfinite(logit[row]):
            out[row] = sigmoid(slope * logit[row] + intercept)
