"""What one commit does with a partition's labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.partition.early_labels import (
    LabelShelf,
    Released,
    Sifted,
    wait_for_next_day,
    wait_for_transaction,
)
from worker.partition.ration import Ration, Rationed, with_followers
from worker.partition.settling import Settling
from worker.wire.decoder import LabelColumns


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labels of one commit, each of which is applied, waits, or finds no room to.

    Attributes
    ----------
    sifted
        Which of those that were read or had waited are due.
    rationed
        Which of these are of today.
    settling
        What these settled.
    unmatched
        Those of them whose transaction may still come, as they are journalled.
    """

    sifted: Sifted
    rationed: Rationed
    settling: Settling
    unmatched: LabelColumns

    @property
    def any_moved(self) -> bool:
        """Whether any label was due, or waits from now on."""
        return len(self.sifted.due) + len(self.sifted.early) > 0

    @property
    def set_aside(self) -> LabelColumns:
        """Those that wait from now on: for their time, the next day or their transaction."""
        return LabelColumns.concatenate([self.sifted.early, self.rationed.waiting, self.unmatched])

    @property
    def released(self) -> Released:
        """Which of those that are due had waited."""
        return self.sifted.released


def divide(labels: LabelColumns, ration: Ration, shelf: LabelShelf, clock_ms: int) -> Rationed:
    """Divide the labels into those of today, those that wait for the next day, and those without room to wait.

    Parameters
    ----------
    labels
        Those that are due.
    ration
        Counts those of today.
    shelf
        Where labels wait; those of the next day are returned as they are journalled.
    clock_ms
        The partition's clock.
    """
    if not len(labels):
        return Rationed(labels)
    ration.begin(clock_ms)
    # Labels that have waited for their transaction were counted when they came.
    fresh = np.flatnonzero(~wait_for_transaction(labels))
    came = labels.take(fresh)
    surplus = ration.surplus(came)
    held = with_followers(came, surplus, shelf.rationed)
    ration.count(came.take(np.setdiff1d(np.arange(len(came)), held)))
    if not len(held):
        return Rationed(labels)
    waits = _with_room(came, surplus, shelf)
    tomorrow_ms = (clock_ms // MS_PER_DAY + 1) * MS_PER_DAY
    return Rationed(
        labels.take(np.setdiff1d(np.arange(len(labels)), fresh[held])),
        shelf.set_aside(came.take(waits), tomorrow_ms),
        came.take(np.setdiff1d(held, waits)),
    )


def _with_room(came: LabelColumns, surplus: NDArray[np.int64], shelf: LabelShelf) -> NDArray[np.int64]:
    """Return the rows of the labels that may wait: of the surplus what fits, and what follows it."""
    # What has waited already keeps its place, which labels of the future may have made narrow.
    waited = surplus[wait_for_next_day(came)[surplus]]
    placed = np.union1d(waited, shelf.fitting(came, surplus))
    followed = with_followers(came, placed, shelf.rationed)
    return shelf.fitting(came, followed, whole=True)
