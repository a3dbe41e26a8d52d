"""Text that others wrote, made safe for a terminal: no escape sequence, change of direction or hidden character."""

from __future__ import annotations

from worker.redaction import printable

_ELLIPSIS = ".."


def printable_bytes(data: bytes) -> str:
    """Return the same of bytes. What is not UTF-8 becomes escapes too."""
    return printable(data.decode("utf-8", errors="backslashreplace"))


def shortened(text: str, limit: int) -> str:
    """Return the beginning of `printable` text, at most `limit` characters."""
    # Redact before the cut, which could leave half a card number that no longer looks like one.
    shown = printable(text)
    return shown if len(shown) <= limit else shown[: limit - len(_ELLIPSIS)] + _ELLIPSIS


def short_id(text: str, limit: int) -> str:
    """Return both ends of a `printable` identifier, at most `limit` characters: many identifiers begin alike."""
    shown = printable(text)
    if len(shown) <= limit:
        return shown
    tail = (limit - len(_ELLIPSIS)) // 2
    return shown[: limit - len(_ELLIPSIS) - tail] + _ELLIPSIS + shown[-tail:]
