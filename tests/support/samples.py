"""Small samples for the tests of a comparison's strategies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from worker.offline.compare.sample import Sample

NUMBERS = 6


def sample_of(
    features: NDArray[np.float32], fraud: NDArray[np.bool_], categorical: NDArray[np.bool_] | None = None
) -> Sample:
    """Return rows that stand for themselves, a second and a case apart, with an amount of 40 and a loss of 45."""
    rows = len(fraud)
    return Sample(
        features=features,
        fraud=fraud,
        weight=np.ones(rows),
        amount=np.full(rows, 40.0),
        loss=np.full(rows, 45.0),
        event_time_ms=np.arange(rows) * 1_000,
        case=np.arange(rows),
        categorical=np.zeros(features.shape[1], np.bool_) if categorical is None else categorical,
    )


def drawn_sample(rows: int, seed: int, prevalence: float = 0.1) -> Sample:
    """Return rows of six numbers and two categories with holes; frauds differ in some of both."""
    rng = np.random.default_rng(seed)
    fraud = rng.random(rows) < prevalence
    numbers = rng.normal(size=(rows, NUMBERS)) + fraud[:, None] * [2.0, 1.5, 0.0, 0.0, 0.5, 0.0]
    numbers[:, 3] = np.exp(3.0 * numbers[:, 3])
    categories = rng.integers(0, 40, size=(rows, 2)).astype(np.float64)
    categories[fraud & (rng.random(rows) < 0.5), 0] = 7.0
    features = np.concatenate([numbers, categories], axis=1).astype(np.float32)
    features[rng.random(features.shape) < 0.05] = np.nan
    return sample_of(features, fraud, np.arange(features.shape[1]) >= NUMBERS)
