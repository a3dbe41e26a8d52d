"""What a baseline may learn at a moment: the rows whose verdict was known by then, of either class alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from tests.tools.quality.streams import Loaded

FEWEST_OF_A_CATEGORY: Final = 30


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The verdicts known at one moment.

    Attributes
    ----------
    row : int64 (m,)
        Indexes the stream, ascending.
    fraud : bool (m,)
    weight : float64 (m,)
        How many rows each stands for: 1, or 1/rate where its class was sampled.
    """

    row: NDArray[np.int64]
    fraud: NDArray[np.bool_]
    weight: NDArray[np.float64]

    def sampled(self, most: int, rng: np.random.Generator) -> Verdicts:
        """Return at most about so many rows: legits are sampled, and frauds too where they alone are too many."""
        frauds = np.flatnonzero(self.fraud)
        legits = np.flatnonzero(~self.fraud)
        kept_frauds = min(frauds.size, max(most // 2, most - legits.size))
        kept_legits = min(legits.size, most - kept_frauds)
        if kept_frauds == frauds.size and kept_legits == legits.size:
            return self
        weight = self.weight.copy()
        chosen = []
        for rows, kept in ((frauds, kept_frauds), (legits, kept_legits)):
            chosen.append(rng.choice(rows, kept, replace=False))
            weight[rows] *= rows.size / max(kept, 1)
        at = np.sort(np.concatenate(chosen))
        return replace(self, row=self.row[at], fraud=self.fraud[at], weight=weight[at])


def verdicts_at(
    loaded: Loaded, time_ms: int, memory_days: float, matured_days: float, *, silence_is_legit: bool = True
) -> Verdicts:
    """Return the verdicts known at a time on the rows of the last `memory_days`.

    A row counts once it is `matured_days` old, whatever its class: frauds are labelled sooner than silence proves a
    legit, and would crowd the newest days. From then on it is a fraud if a label has said so by `time_ms`, else legit.
    Where silence is not legit, rows whose label has not arrived are left out.
    """
    events_ms = loaded.dataset.event_time_ms
    first = np.searchsorted(events_ms, time_ms - round(memory_days * MS_PER_DAY))
    # A label that arrives with its transaction is known to the next one.
    end = np.searchsorted(events_ms, time_ms - round(matured_days * MS_PER_DAY), side="left")
    row = np.arange(first, max(first, end))
    labelled = loaded.label_time_ms[row] <= time_ms
    if not silence_is_legit:
        row, labelled = row[labelled], labelled[labelled]
    return Verdicts(row, loaded.fraud[row] & labelled, np.ones(row.size))


class DenseCodes:
    """Categories as small whole numbers, in the order of their frequency in the training rows.

    The journalled categories are hashes: libraries that size tables by the largest code cannot take them. All rare
    categories share the last code, and so does one that training did not hold: what a model learns of rare ones is what
    it knows of new ones.

    Parameters
    ----------
    features : float32 (m, F)
        Of the training rows.
    categorical : bool (F,)
    most
        Codes of each feature.
    """

    def __init__(self, features: NDArray[np.float32], categorical: NDArray[np.bool_], most: int) -> None:
        self._values: dict[int, NDArray[np.float32]] = {}
        for column in np.flatnonzero(categorical).tolist():
            values, counts = np.unique(features[:, column], return_counts=True)
            frequent = ~np.isnan(values) & (counts >= FEWEST_OF_A_CATEGORY)
            values, counts = values[frequent], counts[frequent]
            self._values[column] = values[np.argsort(-counts, kind="stable")[: most - 1]]

    def of(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the features with dense codes, float32 (n, F); what is missing stays so."""
        out = np.array(features, np.float32)
        for column, values in self._values.items():
            codes = np.full(len(out), values.size, np.float32)
            if values.size:
                order = np.argsort(values)
                at = np.minimum(np.searchsorted(values[order], features[:, column]), values.size - 1)
                found = values[order][at] == features[:, column]
                codes[found] = order[at[found]]
            out[:, column] = np.where(np.isnan(features[:, column]), np.float32(np.nan), codes)
        return out
