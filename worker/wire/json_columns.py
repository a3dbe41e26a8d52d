"""Reads plain JSON objects into columns, in one compiled pass over a batch, and leaves all others to pydantic.

A record is *plain* when it is one JSON object in which every declared field occurs at most once with a value of its
declared kind and range, and no string has an escape or a control character. Every other record is *odd*. Each record
is read by itself, so an odd one does not slow the others down.

The two readers agree as long as this one accepts nothing that pydantic refuses or reads differently. It may refuse what
pydantic accepts, so every doubt makes a record odd.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from worker.wire.json_scan import (
    CLOSE_OBJECT,
    COMMA,
    ODD,
    OPEN_OBJECT,
    QUOTE,
    blank,
    colon,
    null,
    read_number,
    skip,
    string,
)
from worker.wire.spans import Bytes, Integers, Spans, Words, find, gather_utf8

NULL: Final = -1
"""Length of a field that is `null`."""
ABSENT: Final = -2
"""Length of a field that the record does not have."""


class FieldKind(IntEnum):
    """What a declared field holds."""

    TEXT = 0
    NUMBER = 1
    INTEGER = 2
    TEXT_OR_INTEGER = 3
    """An integer stands for the text of its digits."""


_MOST_CHARACTERS: Final = 18
"""So many digits, or 17 behind a minus, are surely below the bound of an integer that stands for a text."""
_TEXT: Final = int(FieldKind.TEXT)
_INTEGER: Final = int(FieldKind.INTEGER)
_TEXT_OR_INTEGER: Final = int(FieldKind.TEXT_OR_INTEGER)


class DeclaredFields(NamedTuple):
    """F declared fields.

    Attributes
    ----------
    names
        As they are written in the JSON.
    kind : uint8 (F,)
        `FieldKind`.
    required : bool (F,)
        Whether a record without the field is odd.
    lowest, highest : float64 (F,)
        Bounds of a number's value, or of a text's length in bytes.
    """

    names: Words
    kind: NDArray[np.uint8]
    required: NDArray[np.bool_]
    lowest: NDArray[np.float64]
    highest: NDArray[np.float64]


class Cells(NamedTuple):
    """What F fields hold in n records.

    A field is a row of these arrays, so that its column is contiguous in the loops that read it.

    Attributes
    ----------
    start, length : int64 (F, n)
        A text's span in the buffer; length `NULL` or `ABSENT` where there is none.
    number : float64 (F, n)
        A number's value, NaN where there is none.
    plain : bool (n,)
        Whether the record was read; the cells of the others mean nothing.
    """

    start: Integers
    length: Integers
    number: NDArray[np.float64]
    plain: NDArray[np.bool_]


def read_cells(records: Spans, fields: DeclaredFields) -> Cells:
    """Read n JSON objects; a missing record is odd."""
    n = records.start.size
    shape = (fields.kind.size, n)
    cells = Cells(
        np.zeros(shape, dtype=np.int64),
        np.full(shape, ABSENT),
        np.full(shape, np.nan),
        np.zeros(n, dtype=np.bool_),
    )
    _read_objects(records, fields, cells)
    for field in np.flatnonzero(fields.kind == FieldKind.NUMBER):
        _read_long_numbers(records.data, fields, cells, int(field))
    return cells


def _read_long_numbers(data: Bytes, fields: DeclaredFields, cells: Cells, field: int) -> None:
    """Round the numbers that have too many digits for the compiled reader; Arrow rounds every number correctly."""
    rows = np.flatnonzero(cells.plain & (cells.length[field] > 0))
    if rows.size:
        text = gather_utf8(Spans(data, cells.start[field, rows], cells.length[field, rows]))
        value = text.cast(pa.float64()).to_numpy(zero_copy_only=False)
        cells.number[field, rows] = value
        cells.plain[rows] = (value >= fields.lowest[field]) & (value <= fields.highest[field])


@njit(cache=True, nogil=True)
def _read_objects(records: Spans, fields: DeclaredFields, cells: Cells) -> None:
    # Records look alike: the search begins with the field that followed this one in the record before. [F] is the
    # start of a record.
    follower = np.zeros(fields.kind.size + 1, dtype=np.int64)
    for row in range(records.start.size):
        start = records.start[row]
        end = start + records.length[row]
        cells.plain[row] = _read_object(records.data, start, end, row, fields, cells, follower)


@njit(cache=True, nogil=True, forceinline=True)
def _read_object(
    data: Bytes, at: int, end: int, row: int, fields: DeclaredFields, cells: Cells, follower: Integers
) -> bool:
    at = blank(data, at, end)
    if at >= end or data[at] != OPEN_OBJECT:
        return False
    before = fields.kind.size
    while True:
        name = blank(data, at + 1, end)
        close = string(data, name, end)
        at = colon(data, close, end)
        if at < 0:
            return False
        field = find(data, name + 1, close - name - 1, fields.names, follower[before])
        if field < 0:
            at = skip(data, at, end)
        else:
            if cells.length[field, row] != ABSENT:  # a field that occurs twice
                return False
            follower[before] = field
            before = field
            at, start, length, value = _read_value(data, at, end, fields.kind[field])
            if not _is_within(length, value, fields, field):
                return False
            cells.start[field, row], cells.length[field, row], cells.number[field, row] = start, length, value
        at = blank(data, at, end)
        if at < 0 or at >= end:
            return False
        if data[at] != COMMA:
            break
    return data[at] == CLOSE_OBJECT and blank(data, at + 1, end) == end and _is_complete(row, fields, cells)


@njit(cache=True, nogil=True, forceinline=True)
def _read_value(data: Bytes, at: int, end: int, kind: int) -> tuple[int, int, int, float]:
    """Read the value of a declared field; a number that this reader cannot round has a span instead of a value.

    Returns
    -------
    tuple
        The position behind the value, or `ODD`; then what its cells hold: start, length, number.
    """
    after = null(data, at, end)
    if after >= 0:
        return after, at, NULL, np.nan
    if kind == _TEXT or (kind == _TEXT_OR_INTEGER and at < end and data[at] == QUOTE):
        close = string(data, at, end)
        return (close + 1 if close >= 0 else ODD), at + 1, close - at - 1, np.nan
    after, value, is_integer = read_number(data, at, end)
    if kind == _TEXT_OR_INTEGER:
        # JSON allows no leading zeros, and `read_number` no negative zero: the digits are the text that Python writes.
        sure = after >= 0 and is_integer and after - at <= _MOST_CHARACTERS
        return after if sure else ODD, at, after - at, np.nan
    is_long = np.isnan(value)
    if kind == _INTEGER and (is_long or not is_integer):
        after = ODD
    return after, at, (after - at if is_long else 0), value


@njit(cache=True, nogil=True, forceinline=True)
def _is_within(length: int, value: float, fields: DeclaredFields, field: int) -> bool:
    if length == NULL:
        return True
    # Bytes of a text, not characters: never fewer, so a text within the bounds here is within pydantic's. A number
    # without a value yet is compared once `_read_long_numbers` has rounded it.
    kind = fields.kind[field]
    measure = float(length) if kind == _TEXT or kind == _TEXT_OR_INTEGER else value
    return bool(np.isnan(measure) or fields.lowest[field] <= measure <= fields.highest[field])


@njit(cache=True, nogil=True, forceinline=True)
def _is_complete(row: int, fields: DeclaredFields, cells: Cells) -> bool:
    for field in range(fields.kind.size):
        if fields.required[field] and cells.length[field, row] < 0:
            return False
    return True
