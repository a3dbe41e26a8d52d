"""Recognises card numbers and strikes them out: none leaves the worker.

A card number is 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1), together or in the usual groups. A text is
searched for card numbers; a token is checked as a whole.
"""

from __future__ import annotations

import re
from typing import Final

_CARD: Final = re.compile(
    # Neither a part of a longer number nor the fraction of a decimal.
    r"(?<![0-9])(?<![0-9]\.)"
    r"(?:[0-9]{13,19}"
    r"|[0-9]{4}([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{1,4}(?:\1[0-9]{1,3})?"
    r"|[0-9]{4}([ -])[0-9]{6}\2[0-9]{4,5})"
    r"(?![0-9])"
)
_SHOWN: Final = 4
_DOUBLED: Final = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""Sum of the digits of twice a digit."""


def looks_like_card_number(text: str) -> bool:
    """Return whether the whole text is a card number, and so no token."""
    return _CARD.fullmatch(text) is not None and _passes_luhn(_digits(text))


def redact(text: str) -> str:
    """Return the text with all digits of its card numbers struck out, except the last four of each.

    A number that begins with 1 and has 13, 16 or 19 digits is a time (milli-, micro- or nanoseconds since 1970, until
    2033) and stays; no card scheme issues such numbers.
    """
    return _CARD.sub(_strike, text)


def redact_bytes(data: bytes) -> bytes:
    """Return `redact` of bytes in any encoding in which digits are ASCII; the length stays the same."""
    # Latin-1 maps every byte to one character and back, so that bytes that are no text survive.
    return redact(data.decode("latin-1")).encode("latin-1")


def _strike(match: re.Match[str]) -> str:
    found = match.group()
    digits = _digits(found)
    if _is_clock(digits) or not _passes_luhn(digits):
        return found
    hidden = len(found) - _SHOWN
    return re.sub("[0-9]", "*", found[:hidden]) + found[hidden:]


def _digits(text: str) -> str:
    return text.replace(" ", "").replace("-", "")


def _is_clock(digits: str) -> bool:
    return digits[0] == "1" and len(digits) in {13, 16, 19}


def _passes_luhn(digits: str) -> bool:
    if not 13 <= len(digits) <= 19:
        return False
    plain = sum(map(int, digits[::-2]))
    return (plain + sum(_DOUBLED[int(digit)] for digit in digits[-2::-2])) % 10 == 0
