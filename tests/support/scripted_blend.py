"""A deciding model whose logit a test writes down: tables alone, with weight one."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray

from models.blend import Blend, Parts

Logit = Callable[[NDArray[np.float32]], NDArray[np.float64]]


class _ScriptedBlend:
    def __init__(self, logit: Logit) -> None:
        self.score_batch = logit

    def score_parts(self, X: NDArray[np.float32]) -> Parts:
        return Parts(self.score_batch(X), np.full(len(X), np.nan))

    def blended(self, parts: Parts) -> NDArray[np.float64]:
        return parts.tables


def scripted(logit: Logit) -> Blend:
    """Return a model that scores by `logit` and learns nothing."""
    return cast("Blend", _ScriptedBlend(logit))


def column(at: int) -> Logit:
    """Return what gives one of the features as the logit."""
    return lambda X: X[:, at].astype(np.float64)


def constant(logit: float) -> Logit:
    """Return what gives everything one logit."""
    return lambda X: np.full(len(X), logit)
