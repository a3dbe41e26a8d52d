"""Text that others wrote, made fit for a terminal: it cannot move the cursor, turn its direction or hide."""

from __future__ import annotations

from worker.redaction import redact

_ELLIPSIS = ".."


def printable(text: str) -> str:
    r"""Strike out card numbers, and write every character that does not print as an escape such as ``\x1b``."""
    return "".join(it if it.isprintable() else _escaped(it) for it in redact(text))


def printable_bytes(data: bytes) -> str:
    """Do the same to bytes; what is not UTF-8 becomes escapes too."""
    return printable(data.decode("utf-8", errors="backslashreplace"))


def shortened(text: str, most: int) -> str:
    """Return `printable` text of at most `most` characters: its beginning."""
    shown = printable(text)
    return shown if len(shown) <= most else shown[: most - len(_ELLIPSIS)] + _ELLIPSIS


def short_id(text: str, most: int) -> str:
    """Return a `printable` identifier of at most `most` characters: both ends, for many begin alike."""
    shown = printable(text)
    if len(shown) <= most:
        return shown
    tail = (most - len(_ELLIPSIS)) // 2
    return shown[: most - len(_ELLIPSIS) - tail] + _ELLIPSIS + shown[-tail:]


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
