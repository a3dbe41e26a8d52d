"""Columns of texts that lie as spans in one buffer: compiled loops look them up, compare, read and copy them.

Nothing here checks bounds: every span must lie inside its buffer. The readers of record batches and JSON ensure that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY, MS_PER_MINUTE
from worker.card_numbers import holds_card

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

_ZERO: Final = ord("0")
_MINUS: Final = ord("-")
_PLUS: Final = ord("+")
_POINT: Final = ord(".")
_COLON: Final = ord(":")
_SPACE: Final = ord(" ")
_T: Final = ord("T")
_Z: Final = ord("Z")
_NO_OFFSET: Final = -1_000_000
"""No offset of minutes: real ones lie within a day of zero."""


class Spans(NamedTuple):
    """n texts of one buffer.

    Attributes
    ----------
    data : uint8 (bytes,)
        The buffer.
    start, length : int64 (n,)
        A negative length is a missing text.
    """

    data: Bytes
    start: Integers
    length: Integers


class Words(NamedTuple):
    """Texts to be recognised, each known by its number.

    Attributes
    ----------
    text : uint8 (bytes,)
        The words one after the other.
    ends : int64 (words,)
        Where each word ends.
    """

    text: Bytes
    ends: Integers

    @classmethod
    def of(cls, words: Sequence[str]) -> Words:
        """Lay out words; their order numbers them."""
        encoded = [word.encode() for word in words]
        ends = np.cumsum([len(word) for word in encoded], dtype=np.int64)
        # A writable buffer: numba compiles every loop once more for read-only arrays.
        return cls(np.frombuffer(bytearray(b"".join(encoded)), dtype=np.uint8), ends)


def gather(spans: Spans) -> pa.Array:
    """Copy texts into an Arrow binary array with 64-bit offsets; missing ones become nulls."""
    return _arrow(pa.large_binary(), spans, np.int64)


def gather_utf8(spans: Spans) -> pa.Array:
    """Copy texts known to be UTF-8, together less than 2 GiB, into an Arrow string array."""
    return _arrow(pa.string(), spans, np.int32)


def _arrow(kind: pa.DataType, spans: Spans, offset: type[np.signedinteger]) -> pa.Array:
    ends, copied = _gather(spans)
    missing = spans.length < 0
    valid = pa.array(~missing).buffers()[1] if missing.any() else None
    buffers = [valid, pa.py_buffer(ends.astype(offset, copy=False)), pa.py_buffer(copied)]
    return pa.Array.from_buffers(kind, spans.start.size, buffers)


@njit(cache=True, nogil=True)
def _gather(spans: Spans) -> tuple[Integers, Bytes]:
    n = spans.start.size
    ends = np.zeros(n + 1, dtype=np.int64)
    for row in range(n):
        ends[row + 1] = ends[row] + max(spans.length[row], 0)
    out = np.empty(ends[-1], dtype=np.uint8)
    for row in range(n):
        for i in range(ends[row + 1] - ends[row]):
            out[ends[row] + i] = spans.data[spans.start[row] + i]
    return ends, out


@njit(cache=True, nogil=True, forceinline=True)
def find(data: Bytes, start: int, length: int, words: Words, guess: int) -> int:
    """Return the number of the word that a span equals, -1 for none; the search begins at the guessed word."""
    count = words.ends.size
    for i in range(count):
        word = guess + i if guess + i < count else guess + i - count
        begin = words.ends[word - 1] if word > 0 else 0
        if words.ends[word] - begin == length and _same(data, start, words.text, begin, length):
            return word
    return -1


@njit(cache=True, nogil=True, forceinline=True)
def _same(data: Bytes, start: int, other: Bytes, other_start: int, length: int) -> bool:
    i = 0
    while i < length and data[start + i] == other[other_start + i]:
        i += 1
    return i >= length


@njit(cache=True, nogil=True)
def find_words(spans: Spans, words: Words) -> Integers:
    """Return the number of the word that each text equals, int64 (n,); -1 for none and where the text is missing."""
    out = np.empty(spans.start.size, dtype=np.int64)
    for row in range(spans.start.size):
        out[row] = find(spans.data, spans.start[row], spans.length[row], words, 0)
    return out


@njit(cache=True, nogil=True)
def same_texts(one: Spans, other: Spans) -> NDArray[np.bool_]:
    """Return where two columns of texts are equal byte for byte, bool (n,)."""
    out = np.empty(one.start.size, dtype=np.bool_)
    for row in range(one.start.size):
        length = one.length[row]
        out[row] = length == other.length[row] and _same(
            one.data, one.start[row], other.data, other.start[row], length
        )
    return out


@njit(cache=True, nogil=True)
def card_numbers(spans: Spans) -> NDArray[np.bool_]:
    """Return which texts hold a card number, bool (n,); see `worker.card_numbers`."""
    out = np.empty(spans.start.size, dtype=np.bool_)
    for row in range(spans.start.size):
        length = spans.length[row]
        # Most tokens are shorter than a card number.
        out[row] = length >= 13 and holds_card(spans.data, spans.start[row], spans.start[row] + length)
    return out


@njit(cache=True, nogil=True)
def iso_times(spans: Spans) -> Integers:
    """Read `2026-01-31T23:59:59.123Z` into epoch milliseconds, int64 (n,); -1 where a text is anything else.

    A space may replace the T. The fraction has 1-9 digits or is missing. The offset is Z, ±hh:mm, or missing, which
    means UTC. Parts of a millisecond are cut off.
    """
    out = np.empty(spans.start.size, dtype=np.int64)
    for row in range(spans.start.size):
        out[row] = _iso_time(spans.data, spans.start[row], spans.start[row] + spans.length[row])
    return out


@njit(cache=True, nogil=True, forceinline=True)
def _iso_time(data: Bytes, at: int, end: int) -> int:
    if end - at < 19 or data[at + 4] != _MINUS or data[at + 7] != _MINUS:
        return -1
    if (
        data[at + 13] != _COLON
        or data[at + 16] != _COLON
        or (data[at + 10] != _T and data[at + 10] != _SPACE)
    ):
        return -1
    year, month = _two(data, at) * 100 + _two(data, at + 2), _two(data, at + 5)
    day, hour = _two(data, at + 8), _two(data, at + 11)
    minute, second = _two(data, at + 14), _two(data, at + 17)
    if not (1970 <= year <= 2100 and 1 <= month <= 12 and 1 <= day <= _days_in(year, month)):
        return -1
    if hour > 23 or minute > 59 or second > 59 or min(hour, minute, second) < 0:
        return -1
    at, ms = _fraction_ms(data, at + 19, end)
    offset = _offset_minutes(data, at, end)
    if at < 0 or offset == _NO_OFFSET:
        return -1
    minutes = hour * 60 + minute - offset
    return _days_since_1970(year, month, day) * MS_PER_DAY + minutes * MS_PER_MINUTE + second * 1000 + ms


@njit(cache=True, nogil=True, forceinline=True)
def _two(data: Bytes, at: int) -> int:
    """Return two digits as a number.

    Where they are not digits the number is so negative that no second pair of digits can make a year of it.
    """
    tens, ones = int(data[at]) - _ZERO, int(data[at + 1]) - _ZERO
    return tens * 10 + ones if 0 <= tens <= 9 and 0 <= ones <= 9 else -10_000


@njit(cache=True, nogil=True, forceinline=True)
def _days_in(year: int, month: int) -> int:
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


@njit(cache=True, nogil=True, forceinline=True)
def _days_since_1970(year: int, month: int, day: int) -> int:
    """Count days in years that begin in March, so that the leap day comes last."""
    # From March on, month lengths repeat every five months (153 days). 719,468 days lie between 0000-03-01 and 1970.
    years = year - 1 if month < 3 else year
    days = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return years * 365 + years // 4 - years // 100 + years // 400 + days - 719_468


@njit(cache=True, nogil=True, forceinline=True)
def _fraction_ms(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Read `.123`, cut to milliseconds; return the position behind it, -1 if it is malformed, and its value."""
    if at >= end or data[at] != _POINT:
        return at, 0
    first, ms, scale = at + 1, 0, 100
    at = first
    while at < end and _ZERO <= data[at] <= _ZERO + 9:
        ms += (int(data[at]) - _ZERO) * scale
        scale //= 10
        at += 1
    return (at if 1 <= at - first <= 9 else -1), ms


@njit(cache=True, nogil=True, forceinline=True)
def _offset_minutes(data: Bytes, at: int, end: int) -> int:
    """Return the offset that ends the text, in minutes ahead of UTC; `_NO_OFFSET` if it is malformed."""
    if at < 0 or at > end:
        return _NO_OFFSET
    if at == end or (at + 1 == end and data[at] == _Z):
        return 0
    if at + 6 != end or (data[at] != _PLUS and data[at] != _MINUS) or data[at + 3] != _COLON:
        return _NO_OFFSET
    hours, minutes = _two(data, at + 1), _two(data, at + 4)
    if not (0 <= hours <= 23 and 0 <= minutes <= 59):
        return _NO_OFFSET
    return (hours * 60 + minutes) * (1 if data[at] == _PLUS else -1)
