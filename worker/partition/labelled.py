"""What one commit does with a partition's labels."""

from __future__ import annotations

from dataclasses import dataclass

from worker.partition.early_labels import Released, Sifted
from worker.partition.ration import Rationed
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
