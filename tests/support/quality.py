"""A small stream for the tests of the quality harness."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from models.vocabulary import MS_PER_DAY
from tests.tools.quality.streams import Loaded, Stream, Window, labels_at
from worker.offline.dataset import Dataset
from worker.settings.fields import TransactionFields

START_MS = 1_704_067_200_000
DAYS = 30


def loaded(count: int = 600, seed: int = 0) -> Loaded:
    """Return transactions of ten cards; frauds are labelled after a day to some weeks, legits never."""
    rng = np.random.default_rng(seed)
    times_ms = START_MS + np.sort(rng.integers(0, DAYS * MS_PER_DAY, count))
    times_ms[0] = START_MS
    fraud = rng.random(count) < 0.2
    delay = np.where(fraud, rng.uniform(1.0, 20.0, count), np.nan)
    dataset = Dataset(
        fields=TransactionFields(entities=(), numeric=("x",)),
        transaction_id=pa.array([f"t{at}" for at in range(count)]),
        card_id=pa.array([f"k{at}" for at in rng.integers(0, 10, count)]),
        event_time_ms=times_ms,
        amount=np.round(rng.lognormal(3.0, 1.0, count), 2),
        currency=None,
        entities={},
        numeric={"x": rng.standard_normal(count)},
        categorical={},
        is_fraud=fraud,
        label_time_ms=labels_at(times_ms, delay),
    )
    return Loaded(dataset, np.ones(count, np.bool_))


STREAM = Stream(
    name="tiny",
    about="",
    load=lambda seed: loaded(seed=seed),
    tune_days=(10, 16),
    windows=(Window(16, DAYS),),
)
