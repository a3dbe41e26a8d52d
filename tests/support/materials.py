"""Small material for the tests of a comparison's engine: one feature, made-up verdicts, windows of 40 days."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.offline.compare.material import Material
from worker.offline.compare.windows import Delay, Windows
from worker.offline.dataset import NEVER

DELAY_MS = 3 * MS_PER_DAY
START_MS = 20_000 * MS_PER_DAY


def windows_of(days: int) -> Windows:
    return Windows.over(START_MS, START_MS + days * MS_PER_DAY - 1, Delay(DELAY_MS, varies=False))


def material_of(
    days: int = 40, a_day: int = 48, prevalence: float = 0.1, seed: int = 0
) -> tuple[Material, NDArray[np.bool_]]:
    """Return material from the train window on, its first feature higher for frauds, and the truth of its rows."""
    windows = windows_of(days)
    count = days * a_day
    times_ms = START_MS + np.arange(count) * (MS_PER_DAY // a_day)
    rng = np.random.default_rng(seed)
    fraud = rng.random(count) < prevalence
    kept = times_ms >= windows.train_ms
    features = np.column_stack([rng.normal(size=count) + 2.0 * fraud, rng.normal(size=count)])
    amount = rng.uniform(1.0, 100.0, count)
    whole = Material(
        features=features.astype(np.float32),
        amount=amount,
        loss=amount + 5.0,
        event_time_ms=times_ms,
        case=np.arange(count) // 2,
        matures_ms=times_ms + DELAY_MS,
        fraud_ms=np.where(fraud, times_ms + DELAY_MS, NEVER),
        categorical=np.zeros(2, np.bool_),
        windows=windows,
        review_cost=5.0,
    )
    return whole.take(kept), fraud[kept]
