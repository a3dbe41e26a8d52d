"""Decisions that wait for a label: the source of truth for the state of each, on local disk.

A partition numbers its decisions in the order it makes them (their *sequence*). A segment is a memory-mapped file of
columns and a hash index, for a fixed number of consecutive decisions. The columns of a decision never change once it
is appended; its truth (`models.labels.DecisionTruth`) does, by labels and by silence. The files are a cache of the
journal: a restart rebuilds them.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns, Layout, Wide
from models.labels import DecisionTruth
from models.vocabulary import MS_PER_DAY, NEVER_MS, Status
from worker.partition.id_index import ANOTHER_CARD, NOWHERE, ROWS_A_WORD, find_ids, index_ids
from worker.partition.journal import DecisionRows, Settlements
from worker.partition.segment_files import no_segment

SEGMENT_ROWS: Final = 1 << 18
_SLOTS: Final = SEGMENT_ROWS * 2
_RESERVED_ROWS: Final = 1 << 14
"""The segment takes disk space for so many decisions at a time: a quiet partition fills only part of a segment."""
_LINE: Final = 64
"""Columns begin at cache lines."""

_NOT_KEPT: Final = {"transaction_id", "amount", "probability", "forest_score"}
"""The journal has these; no label and no refit reads them."""
_DECISION: Final = {name: layout for name, layout in DecisionRows.layout().items() if name not in _NOT_KEPT}
_IDS: Final = {"id_hash": Layout(np.dtype(np.uint64)), "id_check": Layout(np.dtype(np.uint64))}
_TRUTH: Final = {name: layout for name, layout in Settlements.layout().items() if name != "sequence"}
_LAYOUT: Final = {**_DECISION, **_IDS, **_TRUTH}

_Shapes = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Waiting(Columns):
    """k decisions read back, with the columns that settling reads; see `worker.partition.journal.DecisionRows`."""

    sequence: NDArray[np.int64]
    event_time_ms: NDArray[np.int64]
    clock_ms: NDArray[np.int64]
    loss: NDArray[np.float64]
    legit_weight: NDArray[np.float32]
    logit: NDArray[np.float32]
    flags: NDArray[np.uint16]
    entities: Annotated[NDArray[np.uint64], Wide("hashes")]

    @property
    def counted_ms(self) -> NDArray[np.int64]:
        """See `worker.partition.journal.DecisionRows.counted_ms`."""
        return np.minimum(self.event_time_ms, self.clock_ms)


def _shapes(rows: int, widths: dict[str, int]) -> _Shapes:
    """Return type and shape of every column of a segment of `rows` decisions."""
    return {name: (layout.dtype, layout.shape(rows, widths)) for name, layout in _LAYOUT.items()}


def bytes_per_decision(entity_count: int, feature_count: int) -> int:
    """Return the disk space that a waiting decision takes, its share of the index included."""
    shapes = _shapes(1, {"hashes": 1 + entity_count, "features": feature_count}).values()
    index_bytes = 4 * _SLOTS // SEGMENT_ROWS + 8 // ROWS_A_WORD
    return sum(dtype.itemsize * math.prod(shape) for dtype, shape in shapes) + index_bytes


class _Segment:
    """`SEGMENT_ROWS` consecutive decisions."""

    def __init__(self, path: Path, widths: dict[str, int]) -> None:
        self.path = path
        self.size = 0
        self.first_event_ms = np.iinfo(np.int64).max
        self.last_event_ms = NEVER_MS
        self.last_offset = -1
        index: _Shapes = {
            "slots": (np.dtype(np.uint32), (_SLOTS,)),
            "filter": (np.dtype(np.uint64), (SEGMENT_ROWS // ROWS_A_WORD,)),
        }
        self.columns, self._starts = _mapped(path, _shapes(SEGMENT_ROWS, widths) | index)
        self.slots: NDArray[np.uint32] = self.columns.pop("slots")
        self.filter: NDArray[np.uint64] = self.columns.pop("filter")
        self._reserved = 0
        _take_space(
            path,
            [(self._starts["slots"], self.slots.nbytes), (self._starts["filter"], self.filter.nbytes)],
        )

    def append(self, values: dict[str, NDArray[Any]], count: int) -> None:
        self._reserve(self.size + count)
        target = slice(self.size, self.size + count)
        for name, column in values.items():
            self.columns[name][target] = column
        index_ids(self.slots, self.filter, self.columns["id_hash"], self.size, self.size + count)
        self.size += count
        self.first_event_ms = min(self.first_event_ms, int(values["event_time_ms"].min()))
        self.last_event_ms = max(self.last_event_ms, int(values["event_time_ms"].max()))
        self.last_offset = int(values["offset"][-1])

    def _reserve(self, rows: int) -> None:
        """Take the disk space for so many rows."""
        if rows <= self._reserved:
            return
        taken, self._reserved = self._reserved, min(-(-rows // _RESERVED_ROWS) * _RESERVED_ROWS, SEGMENT_ROWS)
        row_bytes = {name: column.nbytes // SEGMENT_ROWS for name, column in self.columns.items()}
        _take_space(
            self.path,
            [
                (self._starts[name] + taken * width, (self._reserved - taken) * width)
                for name, width in row_bytes.items()
            ],
        )

    def spans(self, event_time_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        return np.asarray((event_time_ms >= self.first_event_ms) & (event_time_ms <= self.last_event_ms))

    def find(
        self, id_hash: NDArray[np.uint64], id_check: NDArray[np.uint64], card_hash: NDArray[np.uint64]
    ) -> NDArray[np.int64]:
        found = np.empty(len(id_hash), np.int64)
        columns = self.columns
        own = columns["id_hash"], columns["id_check"], columns["entities"][:, 0]
        find_ids(self.slots, self.filter, *own, id_hash, id_check, card_hash, found)
        return found


def _take_space(path: Path, ranges: list[tuple[int, int]]) -> None:
    """Take disk space for parts of a file, each a start and a length.

    The system kills a process (SIGBUS) that writes through a mapping where the disk is full.
    """
    try:
        with path.open("r+b") as file:
            for start, length in ranges:
                os.posix_fallocate(file.fileno(), start, length)
    except OSError as error:
        raise no_segment(path, error, SEGMENT_ROWS) from error


def _mapped(path: Path, shapes: _Shapes) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
    """Return arrays of zeros in one new sparse file, and where each begins.

    All arrays share one file: Linux allows a process some 65,000 mappings, and a worker may keep a year of segments.
    """
    ends = np.cumsum(
        [-(-dtype.itemsize * math.prod(shape) // _LINE) * _LINE for dtype, shape in shapes.values()]
    )
    try:
        # Never an existing file: to truncate one kills the process that has it mapped.
        with path.open("xb") as file:
            file.truncate(int(ends[-1]))
        whole = np.memmap(path, np.uint8, "r+", shape=(int(ends[-1]),))
    except OSError as error:
        raise no_segment(path, error, SEGMENT_ROWS) from error
    starts = dict(zip(shapes, [0, *ends[:-1].tolist()], strict=True))
    arrays = {}
    for name, (dtype, shape) in shapes.items():
        data = np.asarray(whole[starts[name] : starts[name] + dtype.itemsize * math.prod(shape)])
        arrays[name] = data.view(dtype).reshape(shape)
    return arrays, starts


class PendingDecisions:
    """The waiting decisions of one partition.

    They change by `append` (new decisions), `write_truth` (labels), `mature` and `note_learnt` (silence) and
    `drop_before` (age) alone.

    Parameters
    ----------
    folder
        Emptied first: the restore rebuilds its content from the journal.
    entity_count, feature_count
        Declared entities without the card; features of a decision.
    """

    def __init__(self, folder: Path, entity_count: int, feature_count: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise no_segment(folder, error, SEGMENT_ROWS) from error
        self._folder = folder
        self.widths = {"hashes": 1 + entity_count, "features": feature_count}
        """How many values the wide columns of `DecisionRows` have."""
        self._segments: dict[int, _Segment] = {}
        self.next_sequence = 0
        self.first_sequence = 0

    def append(self, rows: DecisionRows, id_hash: NDArray[np.uint64], id_check: NDArray[np.uint64]) -> None:
        """Add new decisions; all of them wait.

        Parameters
        ----------
        rows
            In the order of the decisions.
        id_hash, id_check : uint64 (n,)
            Two independent keyed hashes of the transaction ids: together they stand for the id.
        """
        values: dict[str, NDArray[Any]] = {name: getattr(rows, name) for name in _DECISION}
        values |= {"id_hash": id_hash, "id_check": id_check}
        start = 0
        while start < len(rows):
            segment = self._segment_for_append()
            count = min(len(rows) - start, SEGMENT_ROWS - segment.size)
            segment.append({name: column[start : start + count] for name, column in values.items()}, count)
            self.next_sequence += count
            start += count

    def find(
        self,
        id_hash: NDArray[np.uint64],
        id_check: NDArray[np.uint64],
        card_hash: NDArray[np.uint64],
        event_time_ms: NDArray[np.int64] | None = None,
        *,
        min_offset: int = 0,
    ) -> NDArray[np.int64]:
        """Return the sequence of each named decision, int64 (m,); the newest wins.

        `NOWHERE` (-1) where no decision has the id, `ANOTHER_CARD` (-2) where those that have it are of other cards.

        Parameters
        ----------
        id_hash, id_check : uint64 (m,)
            As in `append`.
        card_hash : uint64 (m,)
            The first of the decision's entities.
        event_time_ms : int64 (m,)
            The transaction's event time where the label names it, else -1. The search begins in the segments that
            span that time and then goes on to all others, because labels may name it rounded. It ends at once for a
            time a day or more before every decision that is still here.
        min_offset
            The search leaves out segments whose transactions all lie before this offset.
        """
        found = np.full(len(id_hash), NOWHERE, np.int64)
        # In the order of the segments' filters, where the search may go through many.
        order = np.arange(len(id_hash)) if event_time_ms is None else np.argsort(id_hash)
        for named_ms in [None] if event_time_ms is None else [event_time_ms, None]:
            missing = order[found[order] < 0]
            if event_time_ms is not None:
                missing = missing[self._may_hold(event_time_ms[missing])]
            wanted = id_hash[missing], id_check[missing], card_hash[missing]
            for number in sorted(self._segments, reverse=True):
                segment = self._segments[number]
                if not len(missing) or segment.last_offset < min_offset:
                    break
                asked = missing if named_ms is None else missing[segment.spans(named_ms[missing])]
                if not len(asked):
                    continue
                if asked is not missing:
                    wanted = id_hash[asked], id_check[asked], card_hash[asked]
                row = segment.find(*wanted)
                found[asked[row == ANOTHER_CARD]] = ANOTHER_CARD
                hit = row >= 0
                if hit.any():
                    found[asked[hit]] = number * SEGMENT_ROWS + row[hit]
                    missing = missing[found[missing] < 0]
                    wanted = id_hash[missing], id_check[missing], card_hash[missing]
        return found

    def read(self, sequence: NDArray[np.int64]) -> Waiting:
        """Return the decisions of those sequence numbers, in that order."""
        names = [name for name in Waiting.layout() if name != "sequence"]
        return Waiting(sequence, **self.columns(names, sequence))

    def column(self, name: str, sequence: NDArray[np.int64]) -> NDArray[Any]:
        """Return one column of the decisions of those sequence numbers."""
        return self.columns([name], sequence)[name]

    def read_truth(self, sequence: NDArray[np.int64]) -> DecisionTruth:
        """Return a copy of the truth of those decisions."""
        return DecisionTruth(**self.columns(list(_TRUTH), sequence))

    def columns(self, names: Sequence[str], sequence: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return copies of columns of the decisions of those sequence numbers, by name."""
        numbers, rows = np.divmod(sequence, SEGMENT_ROWS)
        present = np.unique(numbers)
        if len(present) == 1:
            columns = self._segments[int(present[0])].columns
            return {name: np.asarray(columns[name][rows]) for name in names}
        count, layouts = len(sequence), {name: _LAYOUT[name] for name in names}
        values = {name: np.empty(it.shape(count, self.widths), it.dtype) for name, it in layouts.items()}
        for number in present:
            here = numbers == number
            columns = self._segments[int(number)].columns
            for name in names:
                values[name][here] = columns[name][rows[here]]
        return values

    def write_truth(self, settled: Settlements) -> None:
        """Write the state that labels gave to decisions; those already dropped are left out."""
        numbers, rows = np.divmod(settled.sequence, SEGMENT_ROWS)
        for number in np.unique(numbers[settled.sequence >= self.first_sequence]):
            here = numbers == number
            columns = self._segments[int(number)].columns
            for name in _TRUTH:
                columns[name][rows[here]] = getattr(settled, name)[here]

    def mature_until(self, start: int, stop: int, clock_ms: int) -> int:
        """Return the first sequence from `start` on, at most `stop`, of a decision made after `clock_ms`."""
        sequence = max(start, self.first_sequence)
        for segment, rows, first in self._slices(sequence, stop):
            reached = int(np.searchsorted(segment.columns["clock_ms"][rows], clock_ms, side="right"))
            sequence = first + reached
            if reached < rows.stop - rows.start:
                break
        return max(sequence, start)

    def mature(
        self,
        start: int,
        stop: int,
        *,
        before: Status,
        after: Status,
        learnt_at_ms: int | None = None,
        unless_flags: int = 0,
        unless_acted: bool = False,
    ) -> NDArray[np.int64]:
        """Move the decisions of one status to another.

        Parameters
        ----------
        start, stop
            Sequence numbers, `stop` exclusive.
        before, after
            Status from and to.
        learnt_at_ms
            The clock at which the model learns the change; None leaves the one written before.
        unless_flags
            Decisions with any of these flags keep their status.
        unless_acted
            Whether decisions on which an outcome says that someone acted keep their status.

        Returns
        -------
        int64 (k,)
            The sequence numbers that moved.
        """
        moved = []
        for segment, rows, first in self._slices(max(start, self.first_sequence), stop):
            columns = segment.columns
            chosen = (columns["status"][rows] == before) & ((columns["flags"][rows] & unless_flags) == 0)
            if unless_acted:
                chosen &= columns["acted"][rows] == 0
            here = np.flatnonzero(chosen)
            columns["status"][rows.start + here] = after
            if learnt_at_ms is not None:
                columns["learnt_at_ms"][rows.start + here] = learnt_at_ms
            moved.append(first + here)
        return np.concatenate(moved) if moved else np.empty(0, np.int64)

    def unanswered(self, start: int, stop: int, flags: int) -> NDArray[np.int64]:
        """Return the sequence numbers of waiting decisions with any of the flags and without an outcome, int64 (k,)."""
        found = [np.empty(0, np.int64)]
        for segment, rows, first in self._slices(max(start, self.first_sequence), stop):
            columns = segment.columns
            flagged = np.flatnonzero(columns["flags"][rows] & flags) + rows.start
            silent = (columns["status"][flagged] == Status.WAITING) & (columns["acted"][flagged] == 0)
            found.append(first + flagged[silent] - rows.start)
        return np.concatenate(found)

    def note_learnt(self, sequence: NDArray[np.int64], learnt_at_ms: int) -> None:
        """Note when the evidence of some decisions was learnt, whose status stays."""
        numbers, rows = np.divmod(sequence, SEGMENT_ROWS)
        for number in np.unique(numbers):
            self._segments[int(number)].columns["learnt_at_ms"][rows[numbers == number]] = learnt_at_ms

    def newest(self, count: int) -> NDArray[np.int64]:
        """Return the sequence numbers of the newest decisions, at most `count`."""
        return np.arange(max(self.first_sequence, self.next_sequence - count), self.next_sequence)

    @property
    def segments(self) -> int:
        """How many segments there are: a look-up may have to go through all of them."""
        return len(self._segments)

    @property
    def first_clock_ms(self) -> int:
        """The clock just after the oldest decision that is still here; there must be one."""
        return int(self.column("clock_ms", np.array([self.first_sequence]))[0])

    @property
    def last_offset(self) -> int:
        """Offset of the newest decision's transaction; -1 without one."""
        newest = max(self._segments, default=None)
        return -1 if newest is None else self._segments[newest].last_offset

    def drop_before(self, clock_ms: int, sequence: int, offset: int) -> None:
        """Delete the segments whose decisions all lie before a clock, a sequence number and an offset."""
        for number in sorted(self._segments):
            segment, end = self._segments[number], (number + 1) * SEGMENT_ROWS
            if segment.size < SEGMENT_ROWS or end > sequence or segment.last_offset >= offset:
                return
            if segment.columns["clock_ms"][-1] >= clock_ms:
                return
            del self._segments[number]
            self.first_sequence = end
            segment.path.unlink(missing_ok=True)

    def close(self) -> None:
        """Close the files and delete them."""
        self._segments.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _may_hold(self, named_ms: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which transactions of these times, -1 where unknown, may still be here.

        A label may name a time that is up to a day too early: a date for a moment.
        """
        first_ms = min((segment.first_event_ms for segment in self._segments.values()), default=0)
        return np.asarray((named_ms < 0) | (named_ms >= first_ms - MS_PER_DAY))

    def _segment_for_append(self) -> _Segment:
        number = self.next_sequence // SEGMENT_ROWS
        if number not in self._segments:
            self._segments[number] = _Segment(self._folder / f"{number:010d}", self.widths)
        return self._segments[number]

    def _slices(self, start: int, stop: int) -> Iterator[tuple[_Segment, slice, int]]:
        """Yield each segment's part of `start`..`stop`: the segment, its rows, and the sequence of the first."""
        while start < stop:
            number, row = divmod(start, SEGMENT_ROWS)
            count = min(stop - start, SEGMENT_ROWS - row)
            yield self._segments[number], slice(row, row + count), start
            start += count
