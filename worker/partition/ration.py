"""How much one source of labels may teach on one day.

A faulty or bought source that calls everything fraud, or everything legit, would teach the model within minutes what
takes weeks to unlearn. So labels far beyond what is usual for their source wait for the next day. If the jump lasts, it
becomes usual, and is learnt day by day; if it does not, somebody has had a day to stop it. Where no label has come for
days, as with a file a month, what may be taught is that of all these days. What finds no room to wait is not applied
either: it goes to the dead letters, from which it can be sent again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY, LabelKind, LabelSource
from worker.errors import CorruptError
from worker.partition.early_labels import transactions_of
from worker.wire.decoder import LabelColumns

LEAST_A_DAY: Final = 100
"""So many labels of one source and verdict are always applied."""
_FADE: Final = 0.5 ** (1 / 14)
"""A day counts half as much two weeks later."""
_KNOWN_AFTER: Final = (1.0 - _FADE**7) / (1.0 - _FADE)
"""The weight of seven days: before, nothing is usual yet, and nothing waits."""
_NO_BOUND: Final = 2.0**62
"""More than any number of labels, and a whole number of 64 bits."""
_KINDS: Final = (LabelKind.FRAUD, LabelKind.LEGIT)
_SHAPE: Final = (len(LabelSource), len(_KINDS))


@dataclass(frozen=True, slots=True)
class Rationed:
    """What is done with the labels that are due.

    Attributes
    ----------
    today
        Those to apply now.
    waiting
        Those that wait for the next day, as they are journalled.
    overflow
        Those that would have to wait but find no room to: dead letters.
    """

    today: LabelColumns = field(default_factory=LabelColumns.none)
    waiting: LabelColumns = field(default_factory=LabelColumns.none)
    overflow: LabelColumns = field(default_factory=LabelColumns.none)


class Ration:
    """Counts, by source and verdict, what was applied today and what is usual.

    Parameters
    ----------
    times_usual
        So many times its usual number of labels a source may teach in a day.
    """

    def __init__(self, times_usual: float) -> None:
        self._times_usual = times_usual
        self._day: int | None = None
        self._weight = 0.0
        self._days = 1
        self._today = np.zeros(_SHAPE)
        self._total = np.zeros(_SHAPE)

    def begin(self, clock_ms: int) -> None:
        """Close the days before the clock's."""
        day = clock_ms // MS_PER_DAY
        if self._day is None:
            self._day = day
        if day <= self._day:
            return
        # What comes after days without any label is that of all these days.
        self._days = day - self._day
        fade = _FADE ** (self._days - 1)
        self._total = (_FADE * self._total + self._today) * fade
        self._weight = (_FADE * self._weight + 1.0) * fade + (1.0 - fade) / (1.0 - _FADE)
        self._today = np.zeros(_SHAPE)
        self._day = day

    def surplus(self, labels: LabelColumns) -> NDArray[np.int64]:
        """Return the rows of the labels that are too many for today, the last ones of each source and verdict."""
        if self._weight < _KNOWN_AFTER or np.isinf(self._times_usual):
            return np.zeros(0, np.int64)
        allowed = self._days * np.maximum(LEAST_A_DAY, self._times_usual * self._total / self._weight)
        # A mean of equal days may lie a rounding below them.
        room = np.floor(np.clip(allowed - self._today, 0.0, _NO_BOUND) + 1e-6).astype(np.int64)
        over = np.argwhere(_counted(labels) > room)
        rows = [
            np.flatnonzero((labels.source == source) & (labels.kind == _KINDS[at]))[room[source, at] :]
            for source, at in over.tolist()
        ]
        return np.sort(np.concatenate([np.zeros(0, np.int64), *rows]))

    def count(self, labels: LabelColumns) -> None:
        """Count labels that are applied today."""
        self._today += _counted(labels)

    def numbers(self) -> tuple[float, ...]:
        """Return the state as a journal header holds it; none before the first day."""
        if self._day is None:
            return ()
        return (
            float(self._day),
            float(self._days),
            self._weight,
            *self._today.ravel().tolist(),
            *self._total.ravel().tolist(),
        )

    def replay(self, numbers: tuple[float, ...]) -> None:
        """Take over the state that `numbers` gave.

        Raises
        ------
        CorruptError
            The numbers are not of such a state.
        """
        if not numbers:
            return
        cells = _SHAPE[0] * _SHAPE[1]
        values = np.array(numbers, np.float64)
        if values.shape != (3 + 2 * cells,) or not np.all(np.isfinite(values)) or values[1:].min() < 0.0:
            raise CorruptError(f"journal header: taught is {numbers!r}")
        self._day, self._days, self._weight = int(values[0]), int(values[1]), float(values[2])
        self._today = values[3 : 3 + cells].reshape(_SHAPE).copy()
        self._total = values[3 + cells :].reshape(_SHAPE).copy()


def with_followers(
    labels: LabelColumns, surplus: NDArray[np.int64], waiting: LabelColumns
) -> NDArray[np.int64]:
    """Return the rows of the labels that are too many, and of those that follow one of their transaction, in order.

    A reversal that overtook its fraud would be an orphan, and the fraud would stay.

    Parameters
    ----------
    labels
        Those that are due.
    surplus : int64 (k,)
        The rows that are too many, ascending.
    waiting
        Labels that wait for the next day already: none of a greater offset holds a label back, or the two would wait
        for each other for ever.
    """
    of_labels = transactions_of(labels)
    ids = np.concatenate([transactions_of(waiting), of_labels[surplus]])
    offsets = np.concatenate([waiting.offsets, labels.offsets[surplus]])
    if not len(ids):
        return surplus
    in_order = np.lexsort((offsets, ids))
    ids, first = np.unique(ids[in_order], return_index=True)
    offsets = offsets[in_order][first]
    at = np.minimum(np.searchsorted(ids, of_labels), len(ids) - 1)
    return np.flatnonzero((ids[at] == of_labels) & (offsets[at] <= labels.offsets))


def _counted(labels: LabelColumns) -> NDArray[np.float64]:
    """Return how many of the labels each source has sent of each verdict."""
    return np.column_stack(
        [np.bincount(labels.source[labels.kind == kind], minlength=_SHAPE[0]) for kind in _KINDS]
    ).astype(np.float64)
