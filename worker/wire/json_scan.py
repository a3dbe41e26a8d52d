"""The grammar of JSON (RFC 8259) in compiled steps over a buffer, each from a position to the one behind it.

A step returns `ODD` where the text is not JSON, and wherever a short step cannot be sure: escapes, control characters,
deep nesting, numbers at the edge of the range. No step reads at `end` or behind it, nor before its start.

The steps that every record takes are inlined; rare ones (`skip`, exponents, characters of several bytes) are called, to
keep the common loop small.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit

from worker.wire.spans import Bytes

ODD: Final = -1
OPEN_OBJECT: Final = ord("{")
CLOSE_OBJECT: Final = ord("}")
COMMA: Final = ord(",")
QUOTE: Final = ord('"')

_OPEN_ARRAY: Final = ord("[")
_CLOSE_ARRAY: Final = ord("]")
_COLON: Final = ord(":")
_ZERO: Final = ord("0")
_NINE: Final = ord("9")
_MINUS: Final = ord("-")
_PLUS: Final = ord("+")
_POINT: Final = ord(".")
_DEEPEST: Final = 32
"""Levels of nesting that are skipped: `skip` keeps one bit a level in an int64."""
_LONGEST_NUMBER: Final = 64
_MOST_DIGITS: Final = 18
"""So many digits never overflow an int64."""
_EXACT_INTEGER: Final = 2**53
_EXACT_POWER: Final = 22
"""10**22 is the largest power of ten that a float holds exactly."""
_LARGEST_POWER: Final = 250
"""Well below 308, from where floats overflow and underflow."""
_POWERS: Final = np.array([float(10**power) for power in range(_EXACT_POWER + 1)])
_IS_BLANK: Final = np.isin(np.arange(256), [ord(character) for character in " \t\n\r"])
_IS_PRINTABLE_ASCII: Final = np.isin(
    np.arange(256), [*range(0x20, ord('"')), *range(0x23, 0x5C), *range(0x5D, 0x7F)]
)
"""Bytes that stand for themselves in a string: neither quote, backslash nor control. A look-up replaces four tests."""


@njit(cache=True, nogil=True, forceinline=True)
def blank(data: Bytes, at: int, end: int) -> int:
    """Pass over white space; an odd position stays odd."""
    while 0 <= at < end and _IS_BLANK[data[at]]:
        at += 1
    return at


@njit(cache=True, nogil=True, forceinline=True)
def colon(data: Bytes, close: int, end: int) -> int:
    """Go from the closing quote of a name to the beginning of its value."""
    if close < 0:
        return ODD
    at = blank(data, close + 1, end)
    if at >= end or data[at] != _COLON:
        return ODD
    return blank(data, at + 1, end)


@njit(cache=True, nogil=True, forceinline=True)
def string(data: Bytes, at: int, end: int) -> int:
    """Find the closing quote of the string that opens at `at`."""
    if at >= end or data[at] != QUOTE:
        return ODD
    at += 1
    while at < end:
        while at < end and _IS_PRINTABLE_ASCII[data[at]]:
            at += 1
        if at < end and data[at] == QUOTE:
            return at
        size = _wide(data, at, end)
        if size == 0:
            return ODD
        at += size
    return ODD


@njit(cache=True, nogil=True)
def _wide(data: Bytes, at: int, end: int) -> int:
    """Return the size of a UTF-8 sequence of several bytes (RFC 3629); 0 if malformed or a control character."""
    if at >= end or data[at] < 0xC2 or data[at] > 0xF4:
        return 0
    lead = data[at]
    size = 2 + (lead >= 0xE0) + (lead >= 0xF0)
    if at + size > end:
        return 0
    for i in range(1, size):
        if data[at + i] & 0xC0 != 0x80:
            return 0
    # The second byte has narrower bounds after some leads: without them a sequence would be an overlong form, a
    # surrogate, or lie beyond U+10FFFF; after 0xC2 it would be a control character (U+0080 to U+009F).
    second = data[at + 1]
    lowest = 0xA0 if lead in (0xC2, 0xE0) else 0x90 if lead == 0xF0 else 0x80
    highest = 0x9F if lead == 0xED else 0x8F if lead == 0xF4 else 0xBF
    return size if lowest <= second <= highest else 0


@njit(cache=True, nogil=True, forceinline=True)
def null(data: Bytes, at: int, end: int) -> int:
    """Pass over `null`."""
    return at + 4 if _is(data, at, end, (0x6E, 0x75, 0x6C, 0x6C)) else ODD


@njit(cache=True, nogil=True, forceinline=True)
def _is(data: Bytes, at: int, end: int, word: tuple[int, int, int, int]) -> bool:
    if at + 4 > end or data[at] != word[0]:
        return False
    return bool(data[at + 1] == word[1] and data[at + 2] == word[2] and data[at + 3] == word[3])


@njit(cache=True, nogil=True, forceinline=True)
def read_number(data: Bytes, begin: int, end: int) -> tuple[int, float, bool]:
    """Read a number.

    The value is one product or quotient of two floats: it is rounded correctly if both are exact (Clinger, How to read
    floating point numbers accurately, 1990). Elsewhere it is NaN. Negative zero is odd, because pydantic reads `-0` as
    the integer zero, without its sign.

    Returns
    -------
    tuple
        The position behind the number, or `ODD`; its value; whether it is written as an integer.
    """
    first = begin + 1 if begin < end and data[begin] == _MINUS else begin
    point, digits = _digits(data, first, end, 0)
    stop, fraction = point, 0
    if point < end and data[point] == _POINT:
        stop, digits = _digits(data, point + 1, end, digits)
        fraction = stop - point - 1
    after, power = _power(data, stop, end)
    if point == first or stop == point + 1 or after < 0 or after - begin > _LONGEST_NUMBER:
        return ODD, np.nan, False
    if data[first] == _ZERO and point > first + 1:
        return ODD, np.nan, False
    power -= fraction
    # `stop - first` counts the point too: where it is at most 18, `digits` has not wrapped around.
    if stop - first > _MOST_DIGITS or digits > _EXACT_INTEGER or abs(power) > _EXACT_POWER:
        sure = after > point and abs(power) < _LARGEST_POWER
        return after if sure else ODD, np.nan, False
    value = digits / _POWERS[-power] if power < 0 else digits * _POWERS[power]
    if first == begin:
        return after, value, after == point
    return after if digits > 0 else ODD, -value, after == point


@njit(cache=True, nogil=True, forceinline=True)
def _digits(data: Bytes, at: int, end: int, value: int) -> tuple[int, int]:
    """Pass over digits and append them to a value, which may wrap around after more than 18 of them."""
    while at < end and _ZERO <= data[at] <= _NINE:
        value = value * 10 + (data[at] - _ZERO)
        at += 1
    return at, value


@njit(cache=True, nogil=True)
def _power(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Read the exponent that may follow the digits; return the position behind it, or `ODD`, and its value, capped."""
    if at >= end or (data[at] | 0x20) != 0x65:
        return at, 0
    first = at + 1
    is_negative = first < end and data[first] == _MINUS
    if is_negative or (first < end and data[first] == _PLUS):
        first += 1
    after = first
    value = 0
    while after < end and _ZERO <= data[after] <= _NINE:
        # The cap keeps an exponent of any length from overflowing, and is far beyond the powers accepted.
        value = min(value * 10 + (data[after] - _ZERO), 10 * _LARGEST_POWER)
        after += 1
    return after if after > first else ODD, -value if is_negative else value


@njit(cache=True, nogil=True)
def skip(data: Bytes, at: int, end: int) -> int:
    """Pass over a value of any kind, nested at most 32 deep, without recursion."""
    depth = 0
    objects = 0  # one bit a level: is it an object?
    while True:
        opened = data[at] if at < end else 0
        if opened in (OPEN_OBJECT, _OPEN_ARRAY):
            depth += 1
            objects = objects * 2 + (opened == OPEN_OBJECT)
            at = blank(data, at + 1, end)
            if at >= end or data[at] != _closing(objects):
                at = _item(data, at, end, objects)
                if at < 0 or depth > _DEEPEST:
                    return ODD
                continue
        else:
            at = _scalar(data, at, end)
        while depth > 0:
            at = blank(data, at, end)
            if at < 0 or at >= end or data[at] != _closing(objects):
                break
            depth -= 1
            objects //= 2
            at += 1
        if depth == 0:
            return at
        if at < 0 or at >= end or data[at] != COMMA:
            return ODD
        at = _item(data, blank(data, at + 1, end), end, objects)
        if at < 0:
            return ODD


@njit(cache=True, nogil=True, forceinline=True)
def _closing(objects: int) -> int:
    """Return the byte that closes the innermost level."""
    return CLOSE_OBJECT if objects % 2 else _CLOSE_ARRAY


@njit(cache=True, nogil=True, forceinline=True)
def _item(data: Bytes, at: int, end: int, objects: int) -> int:
    """Go to the value of the next item: past its name, if the innermost level is an object."""
    return colon(data, string(data, at, end), end) if objects % 2 else at


@njit(cache=True, nogil=True, forceinline=True)
def _scalar(data: Bytes, at: int, end: int) -> int:
    if at < end and data[at] == QUOTE:
        close = string(data, at, end)
        return close + 1 if close >= 0 else ODD
    if at < end and (data[at] == _MINUS or _ZERO <= data[at] <= _NINE):
        return read_number(data, at, end)[0]
    if _is(data, at, end, (0x74, 0x72, 0x75, 0x65)):  # true
        return at + 4
    if at < end and data[at] == 0x66 and _is(data, at + 1, end, (0x61, 0x6C, 0x73, 0x65)):  # false
        return at + 5
    return null(data, at, end)
