"""The examples that the online model learns from, kept for the next generation."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Examples:
    """k settled decisions to learn from, as they were when they were decided.

    Attributes
    ----------
    features : float32 [k, F]
        The features stored at decision time.
    label : uint8 [k]
        1 for fraud.
    weight : float32 [k]
        How many decisions this one stands for; 0 takes an earlier verdict back.
    event_time_ms : int64 [k]
    key : uint64 [k]
        Names the decision (partition and sequence number), so that a later verdict replaces an earlier one.
    logit : float32 [k]
        The online model's score at decision time; NaN where there was none.
    """

    features: NDArray[np.float32]
    label: NDArray[np.uint8]
    weight: NDArray[np.float32]
    event_time_ms: NDArray[np.int64]
    key: NDArray[np.uint64]
    logit: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def empty(cls, feature_count: int) -> Examples:
        """No example at all."""
        return cls(
            np.empty((0, feature_count), np.float32),
            np.empty(0, np.uint8),
            np.empty(0, np.float32),
            np.empty(0, np.int64),
            np.empty(0, np.uint64),
            np.empty(0, np.float32),
        )

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Examples:
        """The chosen rows."""
        return Examples(
            self.features[rows],
            self.label[rows],
            self.weight[rows],
            self.event_time_ms[rows],
            self.key[rows],
            self.logit[rows],
        )

    def rows(self, start: int, stop: int) -> Examples:
        """Rows `start` to `stop`."""
        return self.take(slice(start, stop))

    @classmethod
    def concatenate(cls, parts: list[Examples], feature_count: int) -> Examples:
        """All parts, one after another."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            return cls.empty(feature_count)
        return cls(
            np.concatenate([part.features for part in parts]),
            np.concatenate([part.label for part in parts]),
            np.concatenate([part.weight for part in parts]),
            np.concatenate([part.event_time_ms for part in parts]),
            np.concatenate([part.key for part in parts]),
            np.concatenate([part.logit for part in parts]),
        )

    def for_generation(self, since_ms: int) -> Examples:
        """The last verdict on each decision since `since_ms`, unless it is of no weight, in transaction order."""
        recent = np.flatnonzero(self.event_time_ms >= since_ms)
        by_key = recent[np.argsort(self.key[recent], kind="stable")]
        keys = self.key[by_key]
        last = np.ones(len(keys), np.bool_)
        last[:-1] = keys[1:] != keys[:-1]
        kept = by_key[last & (self.weight[by_key] > 0)]
        return self.take(kept[np.lexsort((self.key[kept], self.event_time_ms[kept]))])


class ExampleBuffer:
    """The newest `capacity` examples of the model log, in log order.

    Owned by `models.state.ModelState`; changed by `append` and `bound` alone, so that it holds the same in every
    worker, whoever reads it. Rows are copied: the records they came in may go.
    """

    def __init__(self, capacity: int, feature_count: int) -> None:
        self._allocate(capacity, feature_count)

    def _allocate(self, capacity: int, feature_count: int) -> None:
        self._capacity = capacity
        # Moving a quarter at a time keeps the cost of an append constant on average.
        room = capacity + max(capacity // 4, 1)
        empty = Examples.empty(feature_count)
        columns = (getattr(empty, field.name) for field in fields(Examples))
        self._rows = Examples(*(np.empty((room, *column.shape[1:]), column.dtype) for column in columns))
        self._offsets = np.empty(room, np.int64)
        self._end = 0

    def __len__(self) -> int:
        return min(self._end, self._capacity)

    def append(self, examples: Examples, offset: int) -> None:
        """Keep `examples`, folded from the model log's record at `offset`."""
        examples = examples.take(slice(max(0, len(examples) - self._capacity), None))
        if self._end + len(examples) > len(self._offsets):
            self._move_to_front(self._capacity - len(examples))
        self._put(examples, offset)

    def bound(self, capacity: int) -> None:
        """Keep at most so many examples from now on, the newest."""
        if capacity == self._capacity:
            return
        rows, offsets = self.snapshot()
        self._allocate(capacity, rows.features.shape[1])
        self._put(rows.take(slice(-capacity, None)), offsets[-capacity:])

    def _put(self, examples: Examples, offset: int | NDArray[np.int64]) -> None:
        target = slice(self._end, self._end + len(examples))
        for field in fields(Examples):
            getattr(self._rows, field.name)[target] = getattr(examples, field.name)
        self._offsets[target] = offset
        self._end = target.stop

    def snapshot(self) -> tuple[Examples, NDArray[np.int64]]:
        """Copies of all examples in log order, and the log offset of each."""
        kept = np.arange(self._end - len(self), self._end)
        return self._rows.take(kept), self._offsets[kept]

    def since(self, offset: int) -> Examples:
        """The examples folded after `offset`, in log order; valid until the next `append`."""
        first = int(np.searchsorted(self._offsets[: self._end], offset, side="right"))
        return self._rows.take(slice(max(first, self._end - self._capacity), self._end))

    def _move_to_front(self, kept: int) -> None:
        newest = slice(self._end - kept, self._end)
        for array in (*(getattr(self._rows, field.name) for field in fields(Examples)), self._offsets):
            array[:kept] = array[newest].copy()
        self._end = kept
