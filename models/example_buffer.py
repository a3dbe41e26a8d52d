"""The buffer that keeps the examples of the memory for the next generation."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples, Verdict
from models.hashing import mixed
from models.vocabulary import NEVER_MS

FILLED: Final = 0.9
"""The share of the buffer that what is expected of the memory may fill: it is not as even as it is taken to be."""
_LEGIT, _FRAUD = 0, 1
_UNORDERED: Final = 1 << 14
"""So many of the newest rows are searched one by one, before all are put in order again."""
_COMPACT: Final = 0.75
"""Where no more of the buffer is last verdicts that count, the others make room enough."""
_LEAST_KEPT: Final = 2.0**-40
"""A class of which less is kept holds many verdicts on few decisions: halving it would make no room."""


class ExampleBuffer:
    """At most `capacity` examples of the model log, in log order.

    Those of the memory are all there, or a sample of each class that reaches as far back as the other's: where they do
    not fit, half of the decisions of the larger class go, with all verdicts on them, and the others weigh twice
    (Horvitz and Thompson 1952). Without that, the oldest verdicts would have to go: those on frauds, which are labelled
    within days, before those on the legits of the same day, which mature later.

    `models.state.ModelState` owns it. `append`, `bound` and `keep_more` alone change it, so that it holds the same in
    every worker. It copies the rows, so that the records of the log can be freed.
    """

    def __init__(self, capacity: int, feature_count: int) -> None:
        self.kept_one_in = np.ones(2, np.int64)
        """Of the legits and of the frauds that come, 1 in so many decisions is kept, with that weight."""
        self.complete_from_ms = NEVER_MS
        """Of transactions from here on no verdict has gone to make room."""
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
        self._one_in = np.empty(room, np.int64)
        self._empty()

    def _empty(self) -> None:
        self._end = 0
        self._ordered = np.zeros(0, np.uint64)
        """The keys of the rows before the next number, and of some that have left."""
        self._ordered_end = 0

    def __len__(self) -> int:
        return min(self._end, self._capacity)

    def append(self, examples: Examples, offset: int, since_ms: int, least_frauds: int = 0) -> None:
        """Keep the examples of the model log's record at `offset`.

        Parameters
        ----------
        examples
            Of one commit.
        offset
            Greater than any before.
        since_ms
            Verdicts from before it may go to make room, the oldest first.
        least_frauds
            Not so while there are fewer frauds from then on: those that so many reach back to stay, and what is as old.
        """
        rows, one_in = self._sampled(examples)
        while not self._fits(rows, since_ms, least_frauds) and self._halve(rows):
            rows, one_in = self._sampled(examples)
        self._forget(self._gone(rows))
        newest = slice(max(0, len(rows) - self._capacity), None)
        rows, one_in = rows.take(newest), one_in[newest]
        if self._end + len(rows) > len(self._offsets):
            self._move_to_front(self._capacity - len(rows))
        self._put(rows, offset, one_in)

    def bound(self, capacity: int) -> None:
        """Keep at most `capacity` examples from now on."""
        if capacity == self._capacity:
            return
        while len(self) > capacity and self._halve(self._rows.take(slice(0))):
            pass
        rows, offsets = self.snapshot()
        one_in = self._one_in[self._kept()].copy()
        self._forget(rows.verdict_ms[: max(len(rows) - capacity, 0)])
        self._allocate(capacity, rows.features.shape[1])
        self._put(rows.take(slice(-capacity, None)), offsets[-capacity:], one_in[-capacity:])

    def keep_more(self, expected: tuple[float, float], since_ms: int) -> None:
        """Keep of each class twice as many from now on, where there will be room for it.

        Parameters
        ----------
        expected
            How many examples of legits and of frauds come in the time that the buffer is to hold.
        since_ms
            Examples of verdicts from before it are not counted.
        """
        for each in np.flatnonzero(self.kept_one_in > 1):
            then = np.where(np.arange(2) == each, self.kept_one_in // 2, self.kept_one_in)
            rows = expected[_LEGIT] / then[_LEGIT] + expected[_FRAUD] / then[_FRAUD]
            if rows > FILLED * self._capacity:
                continue
            counted = np.count_nonzero(self._rows.verdict_ms[self._kept()] >= since_ms)
            if 2 * counted <= self._capacity:
                self.kept_one_in = then

    def count_before(self, event_ms: int) -> int:
        """Return how many examples are of transactions before `event_ms`."""
        return int(np.count_nonzero(self._rows.event_time_ms[self._kept()] < event_ms))

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
        kept = self._kept()
        event_ms = self._rows.event_time_ms[kept][: np.searchsorted(self._offsets[kept], before_offset)]
        return self._rows.take(kept.start + np.flatnonzero((event_ms >= from_ms) & (event_ms < until_ms)))

    def _kept(self) -> slice:
        return slice(self._end - len(self), self._end)

    def _sampled(self, examples: Examples) -> tuple[Examples, NDArray[np.int64]]:
        """Return what is kept of a commit's examples, and 1 in how many of their class were when they came.

        What takes back a verdict that is kept stays, without weight.
        """
        one_in = self.kept_one_in[_class(examples.label)]
        if np.all(one_in == 1):
            return examples, one_in
        chosen = _is_chosen(examples.key, one_in) & (examples.weight > 0)
        weight = np.where(chosen, examples.weight * one_in, 0).astype(np.float32)
        rows = np.flatnonzero(chosen | self._overrules(examples.key, chosen))
        kept = examples.take(rows)
        kept.weight[:] = weight[rows]
        return kept, one_in[rows]

    def _overrules(self, key: NDArray[np.uint64], chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which of a commit's other decisions are kept by an earlier verdict, or by one of the same commit."""
        others = np.flatnonzero(~chosen)
        found = np.zeros(len(key), np.bool_)
        found[others] = self._were_kept(key[others]) | _are_among(key[others], key[chosen])
        return found

    def _were_kept(self, key: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which keys are in the buffer, or were until lately: a row without weight too many does no harm."""
        if self._end - self._ordered_end > _UNORDERED:
            self._ordered, self._ordered_end = np.sort(self._rows.key[self._kept()]), self._end
        among_newest = _are_among(key, self._rows.key[self._ordered_end : self._end])
        if not len(self._ordered):
            return among_newest
        at = np.minimum(np.searchsorted(self._ordered, key), len(self._ordered) - 1)
        return np.asarray(among_newest | (self._ordered[at] == key))

    def _fits(self, rows: Examples, since_ms: int, least_frauds: int) -> bool:
        """Return whether there is room for rows, at most by what may go."""
        gone = self._gone(rows)
        newest_ms = int(gone.max(initial=NEVER_MS))
        if newest_ms == NEVER_MS or newest_ms >= since_ms:
            return newest_ms == NEVER_MS
        return least_frauds == 0 or newest_ms < self._frauds_since_ms(least_frauds, since_ms)

    def _frauds_since_ms(self, least: int, since_ms: int) -> int:
        """Return `since_ms`, or since when there are so many frauds, if that is earlier."""
        times_ms = np.zeros(0, np.int64)
        # From the newest rows backwards: mostly the first few thousand have enough.
        for count in (1 << 14, 1 << 18, len(self)):
            rows = slice(self._end - min(count, len(self)), self._end)
            frauds = np.flatnonzero(self._rows.label[rows] & np.uint8(Verdict.FRAUD))
            times_ms = self._rows.event_time_ms[rows][frauds]
            if np.count_nonzero(times_ms >= since_ms) >= least:
                return since_ms
        return min(since_ms, int(np.sort(times_ms)[-least:].min(initial=since_ms)))

    def _gone(self, rows: Examples) -> NDArray[np.int64]:
        """Return the times of the verdicts that rows leave no room for, int64 (k,)."""
        over = max(len(self) + len(rows) - self._capacity, 0)
        oldest = self._rows.verdict_ms[self._kept()][:over]
        return np.concatenate([oldest, rows.verdict_ms[: over - len(oldest)]])

    def _forget(self, gone: NDArray[np.int64]) -> None:
        """Note the times of verdicts that go to make room."""
        if len(gone):
            self.complete_from_ms = max(self.complete_from_ms, int(gone.max()) + 1)

    def _halve(self, coming: Examples) -> bool:
        """Keep half as many decisions of the larger class; return whether that can make room for what comes."""
        kept = self._kept()
        rows, offsets = self.snapshot()
        # Of each decision its last verdict alone, and none if it is taken back: an earlier one must not come back.
        last = rows.rows_of_last_verdicts()
        rows, offsets, one_in = rows.take(last), offsets[last], self._one_in[kept][last]
        of_class = _class(rows.label)
        if len(rows) > _COMPACT * self._capacity or len(rows) == len(self):
            frauds = np.count_nonzero(of_class) + np.count_nonzero(_class(coming.label))
            larger = int(2 * frauds > len(of_class) + len(coming))
            if 1.0 / self.kept_one_in[larger] < _LEAST_KEPT:
                return False
            self.kept_one_in[larger] *= 2
            # Rows that came at a lower rate than this stay as they are.
            target = np.where(of_class == larger, np.maximum(one_in, self.kept_one_in[larger]), one_in)
            stays = (target == one_in) | _is_chosen(rows.key, target)
            rows.weight[:] *= (target // one_in).astype(np.float32)
            rows, offsets, one_in = rows.take(stays), offsets[stays], target[stays]
        self._empty()
        self._put(rows, offsets, one_in)
        return True

    def _put(self, examples: Examples, offset: int | NDArray[np.int64], one_in: NDArray[np.int64]) -> None:
        target = slice(self._end, self._end + len(examples))
        for name in Examples.layout():
            getattr(self._rows, name)[target] = getattr(examples, name)
        self._offsets[target] = offset
        self._one_in[target] = one_in
        self._end = target.stop

    def _move_to_front(self, kept: int) -> None:
        newest = slice(self._end - kept, self._end)
        arrays = (getattr(self._rows, name) for name in Examples.layout())
        for array in (*arrays, self._offsets, self._one_in):
            # A copy, as the two ranges may overlap.
            array[:kept] = array[newest].copy()
        self._end, self._ordered_end = kept, max(self._ordered_end - newest.start, 0)


def _class(label: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.where(label & np.uint8(Verdict.FRAUD) != 0, _FRAUD, _LEGIT)


def _are_among(few: NDArray[np.uint64], many: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which of a few keys are among many: sorting the few is cheaper than sorting all."""
    if not len(few):
        return np.zeros(0, np.bool_)
    ordered = np.sort(few)
    at = np.minimum(np.searchsorted(ordered, many), len(few) - 1)
    return np.asarray(np.isin(few, many[ordered[at] == many]))


def _is_chosen(key: NDArray[np.uint64], one_in: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Choose decisions by hash; who is chosen at one power of two is chosen at every smaller one."""
    return np.asarray(mixed(key) & (one_in - 1).astype(np.uint64) == 0)
