"""The examples that the online model learns from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns, Wide

_STRAY_SHARE: Final = 0.01
_STRAY_GAP: Final = 0.25
"""So few rows are strays where they lie that far before the others, as a share of the time of these."""


class Verdict(IntFlag):
    """The bits of an example's label: 0 is legit by a label, `ALERTED` alone a silence after an alert.

    See `models.alert_silence` and `models.label_delay` for what the two silences teach.
    """

    FRAUD = 1
    ALERTED = 2
    """The decision alerted, and no label says that it is legit."""
    SILENT = 4
    """No label says that the decision is legit, and it did not alert."""


@dataclass(frozen=True, slots=True)
class Examples(Columns):
    """k settled decisions to learn from, with features and score as of the decision.

    Attributes
    ----------
    features : float32 (k, F)
    label : uint8 (k,)
        Bits of `Verdict`.
    weight : float32 (k,)
        How many decisions this one stands for; 0 takes an earlier verdict back.
    event_time_ms : int64 (k,)
    key : uint64 (k,)
        Names the decision (partition and sequence number), so that a later verdict replaces an earlier one.
    logit : float32 (k,)
        The online model's score; NaN where there was none.
    tables_logit, trees_logit : float32 (k,)
        Those of its parts; NaN where there were none.
    verdict_ms : int64 (k,)
        The partition's clock when the verdict was learnt.
    """

    features: Annotated[NDArray[np.float32], Wide("features")]
    label: NDArray[np.uint8]
    weight: NDArray[np.float32]
    event_time_ms: NDArray[np.int64]
    key: NDArray[np.uint64]
    logit: NDArray[np.float32]
    tables_logit: NDArray[np.float32]
    trees_logit: NDArray[np.float32]
    verdict_ms: NDArray[np.int64]

    def for_generation(self, since_ms: int) -> Examples:
        """Return the last verdict on each decision since `since_ms`, if it has weight, in transaction order."""
        kept = self._last_verdicts(np.flatnonzero(self.event_time_ms >= since_ms))
        # By key where times are equal: the order that rows are learnt in depends on the decisions alone.
        return self.take(kept[np.lexsort((self.key[kept], self.event_time_ms[kept]))])

    def last_verdicts(self) -> Examples:
        """Return the last verdict on each decision, if it has weight, in the order of the verdicts."""
        return self.take(self.rows_of_last_verdicts())

    def rows_of_last_verdicts(self) -> NDArray[np.int64]:
        """Return the rows of `last_verdicts`, ascending, int64 (m,)."""
        return np.sort(self._last_verdicts(np.arange(len(self))))

    def _last_verdicts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        # Stable: the last verdict on a decision stays last of its key.
        by_key = rows[np.argsort(self.key[rows], kind="stable")]
        keys = self.key[by_key]
        last = np.ones(len(keys), np.bool_)
        last[:-1] = keys[1:] != keys[:-1]
        return by_key[last & (self.weight[by_key] > 0)]


def begins_ms(event_time_ms: NDArray[np.int64]) -> int:
    """Return when a stream begins, but for a few rows dated long before the others, as late ones of terminals are.

    Parameters
    ----------
    event_time_ms : int64 (n,)
        Ascending, of at least one row.
    """
    first, usual, last = (int(event_time_ms[at]) for at in (0, int(_STRAY_SHARE * len(event_time_ms)), -1))
    return usual if usual - first > _STRAY_GAP * (last - usual) else first
