"""How deep objects and lists lie within each other in a file of JSON lines: Arrow crashes where it is too deep."""

from __future__ import annotations

import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from worker.errors import SettingsError
from worker.offline.csv_lines import opened

DEEPEST: Final = 1_000
"""Ten times as deep Arrow overflows its stack, which ends the process without a word."""
_CHUNK_BYTES: Final = 1 << 20
_LINE, _DEPTH, _WITHIN_TEXT, _ESCAPED = range(4)
_NEWLINE, _QUOTE, _BACKSLASH = ord("\n"), ord('"'), ord("\\")
_LIST_OPENS, _LIST_CLOSES, _OBJECT_OPENS, _OBJECT_CLOSES = map(ord, "[]{}")


def refuse_deep_nesting(path: Path) -> None:
    """Refuse a file of JSON lines that nests too deep to be read; what does not open or inflate is left to the reader.

    Parameters
    ----------
    path
        The file; compressed if its name ends in .gz.

    Raises
    ------
    SettingsError
        Naming the line.
    """
    state = np.array([1, 0, 0, 0], np.int64)
    with suppress(OSError, EOFError, zlib.error), opened(path) as file:
        while chunk := file.read(_CHUNK_BYTES):
            if _is_too_deep(np.frombuffer(chunk, np.uint8), state):
                raise SettingsError(
                    f"{path}: line {state[_LINE]} has objects or lists more than {DEEPEST:,} deep within each other: "
                    "no transaction does, remove the line"
                )


@njit(cache=True, nogil=True)
def _is_too_deep(chunk: NDArray[np.uint8], state: NDArray[np.int64]) -> bool:
    """Go on from the state that the chunk before has left; stop where too many objects and lists are open."""
    for byte in chunk:
        if byte == _NEWLINE:
            # No text goes on in the next line.
            state[_LINE] += 1
            state[_DEPTH] = state[_WITHIN_TEXT] = state[_ESCAPED] = 0
        elif state[_WITHIN_TEXT]:
            if state[_ESCAPED]:
                state[_ESCAPED] = 0
            elif byte == _BACKSLASH:
                state[_ESCAPED] = 1
            elif byte == _QUOTE:
                state[_WITHIN_TEXT] = 0
        elif byte == _QUOTE:
            state[_WITHIN_TEXT] = 1
        elif byte in (_LIST_OPENS, _OBJECT_OPENS):
            state[_DEPTH] += 1
            if state[_DEPTH] > DEEPEST:
                return True
        elif byte in (_LIST_CLOSES, _OBJECT_CLOSES):
            state[_DEPTH] -= 1
    return False
