"""Searches over rows of which every label is known two days after its transaction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples
from models.feature_layout import FeatureLayout
from models.generation import TrainingRows
from models.label_delay import LabelDelays, Ripening
from models.search import Searcher
from models.vocabulary import MS_PER_DAY


def searcher_of(
    rows: TrainingRows, days: int, categorical: NDArray[np.bool_], given: NDArray[np.bool_] | None = None
) -> Searcher:
    """Return a search over rows in the order of their days, of equally many rows each.

    Without `given` every number is as the transaction has it.
    """
    count, columns = rows.X.shape
    time_ms = np.arange(count) // (count // days) * MS_PER_DAY
    unknown = np.full(count, np.nan, np.float32)
    known = Examples(
        features=rows.X, label=rows.y, weight=rows.w.astype(np.float32), event_time_ms=time_ms,
        key=np.arange(count, dtype=np.uint64), logit=unknown, tables_logit=unknown, trees_logit=unknown,
        verdict_ms=time_ms,
    )  # fmt: skip
    now_ms, wait_ms = int(time_ms[-1]) + 2 * MS_PER_DAY, 2 * MS_PER_DAY - 1
    ripening = Ripening(known, np.zeros(count), LabelDelays.none(), now_ms, wait_ms)
    names = tuple(f"n{at}" for at in range(columns))
    layout = FeatureLayout(names, names, categorical, ~categorical if given is None else given)
    return Searcher(ripening, layout, fraud_weight=1.0, seed=7)
