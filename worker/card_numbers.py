"""Finds card numbers in bytes, in one compiled pass: the one definition of what a card number is.

A card number is 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1) and have the leading digits and the length
of a card scheme. Without these two, every tenth number of 15 digits would be one: an IMEI, a merchant number. It begins
and ends where the text has no digit, or inside a text whose digits are spelt apart: up to three separators may lie
between two digits, as in `4111-1111 1111.1111` or in UTF-16. Zeros that fill it
up to 19 digits do not count.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

SHOWN: Final = 4
"""Digits at the end of a card number that redaction leaves."""

_LEAST: Final = 13
_MOST: Final = 19
_SEPARATORS: Final = 3
_STAR: Final = ord("*")
_PLUS: Final = ord("+")
_POINT: Final = ord(".")
_QUOTE: Final = ord('"')
_DASH: Final = ord("-")
_BACKSLASH: Final = ord("\\")
_LONGEST_HEX: Final = 160

_DIGIT: Final = np.full(256, -1, np.int64)
_DIGIT[ord("0") : ord("9") + 1] = range(10)
_HEX: Final = np.full(256, -1, np.int64)
for _place, _character in enumerate("0123456789abcdef"):
    _HEX[ord(_character)] = _HEX[ord(_character.upper())] = _place
_IS_SEPARATOR: Final = np.isin(np.arange(256), [*range(0x20), *b" -._/|,:;=~#*'&\xa0"])
"""Control characters too, and the no-break space of Latin-1: half a character of UTF-16 looks like one."""


@njit(cache=True, nogil=True)
def _digit_at(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return the decimal digit at a position and its bytes; -1 and 0 if there is none.

    Digits come as ASCII, as JSON escapes, and as the digits of other scripts in UTF-8.
    """
    byte = data[at]
    if _DIGIT[byte] >= 0:
        return _DIGIT[byte], 1
    if byte == _BACKSLASH:
        code = _escaped(data, at, end)
        value = _digit_of(code) if code >= 0 else -1
        return value, 6 if value >= 0 else 0
    if byte < 0xD9:
        return -1, 0
    code, size = _wide(data, at, end)
    value = _digit_of(code)
    return value, size if value >= 0 else 0


@njit(cache=True, nogil=True)
def _size_at(data: Bytes, at: int, end: int) -> int:
    """Return how many bytes to pass over where there is no digit: an escape as a whole, for it has digits in it."""
    return 6 if data[at] == _BACKSLASH and _escaped(data, at, end) >= 0 else 1


@njit(cache=True, nogil=True)
def _escaped(data: Bytes, at: int, end: int) -> int:
    r"""Return the code of the JSON escape `\uXXXX` at a position; -1 if there is none."""
    if end - at < 6 or data[at + 1] != ord("u"):
        return -1
    code = 0
    for i in range(at + 2, at + 6):
        if _HEX[data[i]] < 0:
            return -1
        code = code * 16 + _HEX[data[i]]
    return code


@njit(cache=True, nogil=True)
def _wide(data: Bytes, at: int, end: int) -> tuple[int, int]:
    """Return the code and the size of the UTF-8 sequence of two or three bytes at a position; -1 and 0 if none."""
    lead = data[at]
    size = 2 if 0xC2 <= lead <= 0xDF else 3 if 0xE0 <= lead <= 0xEF else 0
    if size == 0 or size > end - at:
        return -1, 0
    code = int(lead & (0x1F if size == 2 else 0x0F))
    for i in range(at + 1, at + size):
        if data[i] & 0xC0 != 0x80:
            return -1, 0
        code = code * 64 + int(data[i] & 0x3F)
    return code, size


@njit(cache=True, nogil=True)
def _digit_of(code: int) -> int:
    """Return the value of the decimal digit of a code point; -1 if it is none of the common scripts."""
    for zero in (0x30, 0x660, 0x6F0, 0x966, 0x9E6, 0xFF10):
        if zero <= code <= zero + 9:
            return code - zero
    return -1


@njit(cache=True, nogil=True)
def _separator_at(data: Bytes, at: int, end: int) -> int:
    """Return the size of the separator at a position; 0 if there is none."""
    byte = data[at]
    if _IS_SEPARATOR[byte]:
        return 1
    if byte == _BACKSLASH and at + 1 < end:
        if data[at + 1] in (ord("n"), ord("r"), ord("t"), ord("/")):
            return 2
        code, size = _escaped(data, at, end), 6
    elif byte >= 0xC2:
        code, size = _wide(data, at, end)
    else:
        return 0
    if 0 <= code < 128:
        return size if _IS_SEPARATOR[code] else 0
    # No-break space, soft hyphen, the spaces and dashes of typography, minus, ideographic space, byte order mark.
    known = (
        code in (0xA0, 0xAD, 0x2212, 0x3000, 0xFEFF) or 0x2000 <= code <= 0x2015 or code in (0x202F, 0x2060)
    )
    return size if known else 0


@njit(cache=True, nogil=True)
def _is_issued(prefix: int, count: int) -> bool:  # noqa: PLR0911 - a table
    """Return whether a card scheme issues numbers of this length that begin with these six digits."""
    two, three, four = prefix // 10_000, prefix // 1_000, prefix // 100
    if two // 10 == 4:  # Visa
        return count in (13, 16, 19)
    if 51 <= two <= 55 or 2221 <= four <= 2720:  # Mastercard
        return count == 16
    if two in (34, 37):  # American Express
        return count == 15
    if 300 <= three <= 305 or four == 3095 or two in (36, 38, 39):  # Diners Club
        return count in (14, 16, 19)
    if 3528 <= four <= 3589:  # JCB
        return count in (16, 19)
    if two == 62:  # UnionPay
        return count >= 16
    if 2200 <= four <= 2205 or four == 9792:  # Mir, Troy
        return count in (16, 19)
    if 644 <= three <= 649 or two in (60, 65, 81, 82):  # Discover, RuPay
        return count in (16, 19)
    # Maestro and the national schemes of its ranges.
    return two in (50, 56, 57, 58, 63, 64, 66, 67, 68, 69) and count in (13, 16, 18, 19)


@njit(cache=True, nogil=True)
def card_from(data: Bytes, start: int, begin: int, end: int) -> tuple[int, int]:
    """Return where the longest card number that begins at a digit ends, and how many digits it has; -1 and 0 if none.

    Parameters
    ----------
    data : uint8 (bytes,)
        Holds the text.
    start
        The digit; no other one lies directly before it.
    begin, end
        Where the text lies.
    """
    at, count, prefix, zeros = start, 0, 0, 0
    even = odd = 0  # sums in which the digits of even, or odd, place count twice
    found, found_count = -1, 0
    while at < end:
        digit, size = _digit_at(data, at, end)
        if digit < 0:
            return found, found_count
        at += size
        if count > 0 or digit > 0:
            twice = 2 * digit - 9 if digit > 4 else 2 * digit
            even += digit if count % 2 else twice
            odd += twice if count % 2 else digit
            prefix = prefix * 10 + digit if count < 6 else prefix
            count += 1
            if count > _MOST:
                return found, found_count
        else:
            zeros += 1
        if at < end and _digit_at(data, at, end)[0] >= 0:
            continue
        if count == 0:  # nothing but zeros
            return found, found_count
        # Luhn doubles every second digit from the right, beginning with the last but one.
        total = odd if count % 2 else even
        if count >= _LEAST and total % 10 == 0 and _is_issued(prefix, count):
            is_padded = zeros == 0 or zeros + count == _MOST
            if is_padded and not _is_something_else(data, start, at, begin, end, count):
                found, found_count = at, count
        at = _behind_separators(data, at, end)
    return found, found_count


@njit(cache=True, nogil=True)
def _behind_separators(data: Bytes, at: int, end: int) -> int:
    """Pass over separators as far as they may lie between two digits; in UTF-16, zeros lie between them too."""
    separators = zeros = 0
    while at < end and separators <= _SEPARATORS and zeros <= 4 * _SEPARATORS:
        size = _separator_at(data, at, end)
        if size == 0:
            break
        is_zero = data[at] == 0
        separators += not is_zero
        zeros += is_zero
        at += size
    return at


@njit(cache=True, nogil=True)
def _is_something_else(data: Bytes, start: int, stop: int, begin: int, end: int, count: int) -> bool:
    """Return whether the digits are an international telephone number, or part of a digest or a UUID."""
    if start > begin and data[start - 1] == _PLUS and count <= 15:
        return True
    first = start
    while first > begin and start - first < _LONGEST_HEX and _is_hex(data[first - 1]):
        first -= 1
    last = stop
    while last < end and last - stop < _LONGEST_HEX and _is_hex(data[last]):
        last += 1
    digits = letters = 0
    for i in range(first, last):
        if not _is_hex(data[i]):
            return False
        digits += _HEX[data[i]] >= 0
        letters += _HEX[data[i]] >= 10
    return letters > 0 and digits in (32, 40, 48, 56, 64, 96, 128)


@njit(cache=True, nogil=True)
def _is_hex(byte: int) -> bool:
    return bool(_HEX[byte] >= 0 or byte == _DASH)


@njit(cache=True, nogil=True)
def holds_card(data: Bytes, begin: int, end: int) -> bool:
    """Return whether a text holds a card number."""
    after_digit, at = False, begin
    while at < end:
        digit, size = _digit_at(data, at, end)
        if digit >= 0 and not after_digit and card_from(data, at, begin, end)[1] > 0:
            return True
        after_digit = digit >= 0
        at += size if digit >= 0 else _size_at(data, at, end)
    return False


@njit(cache=True, nogil=True)
def strike_cards(data: Bytes, out: Bytes, is_json: bool) -> None:
    """Overwrite, in a copy of the data, all digits of card numbers but the last four of each with stars.

    The fraction of a number of JSON is none: outside its texts, and in nothing but JSON.
    """
    after_digit, at, end = False, 0, data.size
    in_text, escaped = False, False
    while at < end:
        digit, size = _digit_at(data, at, end)
        if digit >= 0 and not after_digit:
            stop, count = card_from(data, at, 0, end)
            may_be_number = is_json and not in_text
            if count > 0 and not (may_be_number and _is_fraction(data, at, stop, end)):
                _strike(data, at, stop, count - SHOWN, out)
        after_digit = digit >= 0
        size = size if after_digit else _size_at(data, at, end)
        in_text ^= data[at] == _QUOTE and not escaped
        escaped = data[at] == _BACKSLASH and not escaped and size == 1
        at += size


@njit(cache=True, nogil=True)
def _strike(data: Bytes, at: int, stop: int, hidden: int, out: Bytes) -> None:
    counted = 0
    while at < stop and counted < hidden:
        digit, size = _digit_at(data, at, stop)
        if digit < 0:
            at += _size_at(data, at, stop)
            continue
        counted += counted > 0 or digit > 0
        out[at : at + size] = _STAR
        at += size


@njit(cache=True, nogil=True)
def _behind_blanks(data: Bytes, at: int, end: int) -> int:
    while at < end and (data[at] == ord(" ") or 9 <= data[at] <= 13):
        at += 1
    return at


@njit(cache=True, nogil=True)
def _is_fraction(data: Bytes, start: int, stop: int, end: int) -> bool:
    """Return whether the digits are the fraction of a number that is a whole value of JSON: no card number is one."""
    if start < 2 or data[start - 1] != _POINT or _DIGIT[data[start - 2]] < 0:
        return False
    for i in range(start, stop):
        if _DIGIT[data[i]] < 0:
            return False
    first = start - 1
    while first > 0 and _DIGIT[data[first - 1]] >= 0:
        first -= 1
    first -= first > 0 and data[first - 1] == _DASH
    while first > 0 and (data[first - 1] == ord(" ") or 9 <= data[first - 1] <= 13):
        first -= 1
    if first == 0 or not (
        data[first - 1] == ord(":") or data[first - 1] == ord("[") or data[first - 1] == ord(",")
    ):
        return False
    if stop < end and (data[stop] == ord("e") or data[stop] == ord("E")):
        return True
    last = _behind_blanks(data, stop, end)
    return bool(last < end and (data[last] == ord(",") or data[last] == ord("}") or data[last] == ord("]")))
