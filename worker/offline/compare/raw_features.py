"""The declared columns alone as features: what a model has that keeps no history of cards and merchants."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.feature_layout import FeatureLayout, FeatureSpec, assemble, others_than
from models.vocabulary import MS_PER_DAY
from worker.identity import Hasher
from worker.offline.dataset import Dataset
from worker.parameters import feature_spec
from worker.settings.sections import Settings

# 1970-01-01 was a Thursday; Monday is 0.
_FIRST_WEEKDAY = 3


class Features(NamedTuple):
    """Features of n transactions.

    Attributes
    ----------
    values : float32 (n, F)
        NaN where missing.
    names
        The F names.
    categorical : bool (F,)
        Which are categories.
    """

    values: NDArray[np.float32]
    names: tuple[str, ...]
    categorical: NDArray[np.bool_]

    def only(self, columns: NDArray[np.bool_]) -> Features:
        """Return some of the columns."""
        names = tuple(name for name, kept in zip(self.names, columns, strict=True) if kept)
        return Features(self.values[:, columns], names, self.categorical[columns])


def layout_of(settings: Settings) -> FeatureLayout:
    """Return the layout of the journalled features."""
    return FeatureLayout.from_spec(feature_spec(settings))


def raw_features(settings: Settings, dataset: Dataset) -> Features:
    """Return amount, hour and weekday (UTC), and the declared numbers and categories.

    Declared fields keep their names: beside a field `weekday` the computed one is called `weekday_computed`.
    """
    spec = FeatureSpec(settings.transaction.numeric, settings.transaction.categorical, ())
    layout = FeatureLayout.from_spec(spec)
    count = len(dataset)
    hasher = Hasher(settings.hash_key)
    codes = [hasher.entities(values) for values in dataset.categorical.values()]
    numbers = list(dataset.numeric.values())
    histories = len(layout.names) - 2 - len(numbers) - len(codes)
    # The journal's own code lays the columns out, with no history; those of histories are then dropped.
    with np.errstate(over="ignore"):
        whole = assemble(
            layout,
            np.empty((count, histories), np.float32),
            np.empty((count, 0), np.float32),
            dataset.amount,
            dataset.event_time_ms,
            np.column_stack(numbers) if numbers else np.empty((count, 0)),
            np.column_stack(codes) if codes else np.empty((count, 0), np.uint64),
        )
    at = 1 + histories
    weekday = ((dataset.event_time_ms // MS_PER_DAY + _FIRST_WEEKDAY) % 7).astype(np.float32)
    return Features(
        np.column_stack([whole[:, 0], whole[:, at], weekday, whole[:, at + 1 :]]),
        (layout.names[0], layout.names[at], *others_than(layout.names, ["weekday"]), *layout.names[at + 1 :]),
        np.concatenate([[False, False, False], layout.categorical[at + 1 :]]),
    )
