"""The examples that the online model learns from, and the buffer that keeps them for the next generation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns, Wide


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
        return self.take(np.sort(self._last_verdicts(np.arange(len(self)))))

    def _last_verdicts(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        # Stable: the last verdict on a decision stays last of its key.
        by_key = rows[np.argsort(self.key[rows], kind="stable")]
        keys = self.key[by_key]
        last = np.ones(len(keys), np.bool_)
        last[:-1] = keys[1:] != keys[:-1]
        return by_key[last & (self.weight[by_key] > 0)]


class ExampleBuffer:
    """The newest `capacity` examples of the model log, in log order.

    `models.state.ModelState` owns it. `append` and `bound` alone change it, so that it holds the same in every worker.
    It copies the rows, so that the records of the log can be freed.
    """

    def __init__(self, capacity: int, feature_count: int) -> None:
        self._allocate(capacity, feature_count)

    def _allocate(self, capacity: int, feature_count: int) -> None:
        self._capacity = capacity
        # Room for a quarter more: rows move to the front once in so many appends, not at each.
        room = capacity + max(capacity // 4, 1)
        widths = {"features": feature_count}
        self._rows = Examples(
            **{name: np.empty(it.shape(room, widths), it.dtype) for name, it in Examples.layout().items()}
        )
        self._offsets = np.empty(room, np.int64)
        self._end = 0

    def __len__(self) -> int:
        return min(self._end, self._capacity)

    def append(self, examples: Examples, offset: int) -> None:
        """Keep the examples of the model log's record at `offset`."""
        examples = examples.take(slice(max(0, len(examples) - self._capacity), None))
        if self._end + len(examples) > len(self._offsets):
            self._move_to_front(self._capacity - len(examples))
        self._put(examples, offset)

    def bound(self, capacity: int) -> None:
        """Keep at most the newest `capacity` examples from now on."""
        if capacity == self._capacity:
            return
        rows, offsets = self.snapshot()
        self._allocate(capacity, rows.features.shape[1])
        self._put(rows.take(slice(-capacity, None)), offsets[-capacity:])

    def _put(self, examples: Examples, offset: int | NDArray[np.int64]) -> None:
        target = slice(self._end, self._end + len(examples))
        for name in Examples.layout():
            getattr(self._rows, name)[target] = getattr(examples, name)
        self._offsets[target] = offset
        self._end = target.stop

    def count_before(self, event_ms: int) -> int:
        """Return how many examples are of transactions before `event_ms`."""
        kept = slice(self._end - len(self), self._end)
        return int(np.count_nonzero(self._rows.event_time_ms[kept] < event_ms))

    def snapshot(self) -> tuple[Examples, NDArray[np.int64]]:
        """Return copies of all examples in log order, and the log offset of each, int64 (k,)."""
        kept = np.arange(self._end - len(self), self._end)
        return self._rows.take(kept), self._offsets[kept]

    def since(self, offset: int) -> Examples:
        """Return the examples folded after `offset`, in log order; valid until the next `append`."""
        first = int(np.searchsorted(self._offsets[: self._end], offset, side="right"))
        return self._rows.take(slice(max(first, self._end - self._capacity), self._end))

    def of_times(self, from_ms: int, until_ms: int, before_offset: int) -> Examples:
        """Return the examples folded before an offset of transactions from `from_ms` to `until_ms`, in log order."""
        kept = slice(self._end - len(self), self._end)
        event_ms = self._rows.event_time_ms[kept][: np.searchsorted(self._offsets[kept], before_offset)]
        return self._rows.take(kept.start + np.flatnonzero((event_ms >= from_ms) & (event_ms < until_ms)))

    def _move_to_front(self, kept: int) -> None:
        newest = slice(self._end - kept, self._end)
        for array in (*(getattr(self._rows, name) for name in Examples.layout()), self._offsets):
            # A copy, as the two ranges may overlap.
            array[:kept] = array[newest].copy()
        self._end = kept
