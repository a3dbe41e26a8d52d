"""The examples that the online model learns from, kept for the next generation."""

from __future__ import annotations

from dataclasses import dataclass

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
        How many decisions this one stands for.
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
        """The last verdict on each decision since `since_ms`, in transaction order."""
        recent = np.flatnonzero(self.event_time_ms >= since_ms)
        by_key = recent[np.argsort(self.key[recent], kind="stable")]
        keys = self.key[by_key]
        last = np.ones(len(keys), np.bool_)
        last[:-1] = keys[1:] != keys[:-1]
        kept = by_key[last]
        return self.take(kept[np.lexsort((self.key[kept], self.event_time_ms[kept]))])


class ExampleBuffer:
    """The newest examples of the model log, in log order; the oldest go when it is full.

    Owned by `models.state.ModelState`; changed by `append` alone.
    """

    def __init__(self, capacity: int, feature_count: int) -> None:
        self._capacity = capacity
        self._feature_count = feature_count
        self._parts: list[Examples] = []
        self._offsets: list[NDArray[np.int64]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, examples: Examples, offset: int) -> None:
        """Keep `examples`, folded from the model log's record at `offset`."""
        if len(examples) == 0:
            return
        self._parts.append(examples)
        self._offsets.append(np.full(len(examples), offset, np.int64))
        self._size += len(examples)
        # Compacting a quarter at a time keeps the cost of an append constant on average.
        if self._size > self._capacity + self._capacity // 4:
            self._compact()

    def snapshot(self) -> tuple[Examples, NDArray[np.int64]]:
        """All examples in log order, and the log offset of each."""
        self._compact()
        offsets = self._offsets[0] if self._offsets else np.empty(0, np.int64)
        return Examples.concatenate(self._parts, self._feature_count), offsets

    def since(self, offset: int) -> Examples:
        """The examples folded after `offset`, in log order."""
        parts = [
            part for part, offsets in zip(self._parts, self._offsets, strict=True) if offsets[-1] > offset
        ]
        offsets = [offsets for offsets in self._offsets if offsets[-1] > offset]
        if not parts:
            return Examples.empty(self._feature_count)
        return Examples.concatenate(parts, self._feature_count).take(np.concatenate(offsets) > offset)

    def _compact(self) -> None:
        if not self._parts:
            return
        newest = slice(max(0, self._size - self._capacity), None)
        self._parts = [Examples.concatenate(self._parts, self._feature_count).take(newest)]
        self._offsets = [np.concatenate(self._offsets)[newest]]
        self._size = len(self._offsets[0])
