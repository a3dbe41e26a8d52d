"""The reasons of an alert as the wire has them."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.explanation import Explanations
from models.features import FeatureLayout
from worker.wire.schema import AlertReason

OTHER: Final = "other_features"
"""Name of the sum of all contributions that an alert does not list."""


def alert_reasons(why: Explanations, index: int, layout: FeatureLayout) -> list[AlertReason]:
    """Return the reasons of one decision: the largest contributions first, the sum of all others last."""
    named = zip(why.feature[index], why.value[index], why.contribution[index], strict=True)
    reasons = [
        AlertReason(
            feature=layout.names[feature],
            text=layout.texts[feature],
            value=float(value) if np.isfinite(value) else None,
            contribution=float(contribution),
        )
        for feature, value, contribution in named
    ]
    rest = float(why.rest[index])
    return [*reasons, AlertReason(feature=OTHER, text="all other features", value=None, contribution=rest)]
