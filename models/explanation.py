"""Why decisions alerted: the largest contributions to their scores, one by one, and the sum of all others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns, Wide
from models.vocabulary import Decider, Flag

if TYPE_CHECKING:
    from models.state import ModelState

REASONS: Final = 5
"""The largest contributions stand alone and the rest is one sum, so that all add up."""


@dataclass(frozen=True, slots=True)
class Explanations(Columns):
    """The reasons of k decisions, R each, the largest contribution first.

    Attributes
    ----------
    feature : int64 (k, R)
        Index into `FeatureLayout.names`.
    value : float32 (k, R)
        What the feature was; NaN where it was missing, and for a category: of the feature only a hash is left, the
        transaction has the text.
    contribution : float64 (k, R)
        What it adds to the logit (online model) or to the score (forest).
    rest : float64 (k,)
        The contributions of all other features together.
    reference : float64 (k,)
        The logit is this plus all contributions; NaN where the forest decided.
    """

    feature: Annotated[NDArray[np.int64], Wide("reasons")]
    value: Annotated[NDArray[np.float32], Wide("reasons")]
    contribution: Annotated[NDArray[np.float64], Wide("reasons")]
    rest: NDArray[np.float64]
    reference: NDArray[np.float64]


def explain(model: ModelState, features: NDArray[np.float32], flags: NDArray[np.uint16]) -> Explanations:
    """Explain k decisions of the online model or the forest.

    Parameters
    ----------
    model
        As it was when it decided.
    features : float32 (k, F)
    flags : uint16 (k,)
        Of the decisions.
    """
    online = (flags & Flag.DECIDER) == Decider.ONLINE
    contributions = np.zeros(features.shape)
    reference = np.full(len(features), np.nan)
    if model.online is not None and online.any():
        contributions[online] = model.online.contributions(features[online])
        reference[online] = model.online.reference_logit
    if model.forest is not None and not online.all():
        contributions[~online] = model.forest.reasons(features[~online])
    order = np.argsort(-contributions, axis=1, kind="stable")
    top, others = order[:, :REASONS], order[:, REASONS:]
    # In the order of the layout: the sum must not depend on how the others rank.
    rest = np.take_along_axis(contributions, np.sort(others, axis=1), axis=1).sum(axis=1)
    value = np.take_along_axis(features, top, axis=1)
    unreadable = model.layout.categorical[top] | ~np.isfinite(value)
    return Explanations(
        feature=top,
        value=np.where(unreadable, np.float32(np.nan), value),
        contribution=np.take_along_axis(contributions, top, axis=1),
        rest=rest,
        reference=reference,
    )
