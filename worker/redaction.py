"""Strikes card numbers out: none leaves the worker. `worker.card_numbers` says what a card number is.

A text that goes to a terminal is `printable`, too.
"""

from __future__ import annotations

from typing import Final

_LEAST_DIGITS: Final = 13


def looks_like_card_number(text: str) -> bool:
    """Return whether a text holds a card number, and so is no token."""
    if _has_too_few_digits(text):
        return False
    import numpy as np  # noqa: PLC0415 - see `redact_bytes`

    from worker.card_numbers import holds_card  # noqa: PLC0415

    data = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)
    return bool(holds_card(data, 0, data.size))


def redact(text: str) -> str:
    """Return the text with all digits of its card numbers struck out, except the last four of each."""
    if _has_too_few_digits(text):
        return text
    return redact_bytes(text.encode("utf-8", "surrogatepass")).decode("utf-8", "surrogatepass")


def redact_bytes(data: bytes) -> bytes:
    """Return `redact` of bytes in any encoding in which digits are ASCII, UTF-16 included; the length stays the same.

    Its time is linear in the length: digits that lie apart, the worst case, take some thirty times that of other bytes.
    """
    if not data:
        return data
    # Imported here: the compiled loops take a second to load, and most commands redact nothing.
    import numpy as np  # noqa: PLC0415

    from worker.card_numbers import strike_cards  # noqa: PLC0415

    found = np.frombuffer(data, np.uint8)
    out = found.copy()
    strike_cards(found, out, is_json=False)
    struck = out.tobytes()
    if struck == data or not _is_json(data):
        return struck
    out[:] = found
    strike_cards(found, out, is_json=True)
    return out.tobytes()


def _is_json(data: bytes) -> bool:
    """Return whether these bytes are an object or an array of JSON: in them a fraction is no card number."""
    from pydantic_core import from_json  # noqa: PLC0415 - see `redact_bytes`

    try:
        return isinstance(from_json(data), dict | list)
    except ValueError:
        return False


def _has_too_few_digits(text: str) -> bool:
    """Return whether a text surely holds no card number: a quick look, for log lines and short texts."""
    if "\\" in text:
        return False
    return sum(map(str.isdecimal, text)) < _LEAST_DIGITS


def printable(text: str) -> str:
    r"""Redact card numbers, and write every character that does not print as an escape such as ``\x1b``."""
    return "".join(it if it.isprintable() else _escaped(it) for it in redact(text))


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
