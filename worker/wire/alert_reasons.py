"""The reasons of an alert as the wire has them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from models.explanation import Explanations
from models.feature_layout import FeatureLayout
from worker.wire.schema import AlertReason

OTHER: Final = "other_features"
"""Name of the sum of all contributions that an alert does not list."""


def alert_reasons(
    why: Explanations,
    index: int,
    layout: FeatureLayout,
    *,
    category: Callable[[str], str | None] = lambda _: None,
    sentence: Callable[[int, str | None], str] | None = None,
) -> list[AlertReason]:
    """Return the reasons of one decision: the largest contributions first, the sum of all others last.

    Parameters
    ----------
    why, index
        The explanations, and which of them.
    layout
        Names of the features.
    category
        Returns the value of a categorical feature by its name: of the feature only a hash is left.
    sentence
        Returns the sentence of a feature, given its place and its category; without it reasons have none.
    """
    reasons = []
    places, numbers = why.feature[index].tolist(), why.value[index].tolist()
    for feature, number, contribution in zip(places, numbers, why.contribution[index].tolist(), strict=True):
        text = category(layout.names[feature]) if layout.categorical[feature] else None
        reasons.append(
            AlertReason(
                feature=layout.names[feature],
                text=layout.texts[feature],
                value=number if math.isfinite(number) else text,
                contribution=contribution,
                sentence=None if sentence is None else sentence(feature, text),
            )
        )
    rest = AlertReason(
        feature=OTHER,
        text="all other features",
        value=None,
        contribution=float(why.rest[index]),
        sentence=None if sentence is None else "all other features together",
    )
    return [*reasons, rest]
