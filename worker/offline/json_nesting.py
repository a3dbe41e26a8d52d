"""How deep objects and lists lie within each other in a file of JSON lines: Arrow crashes where it is too deep."""

from __future__ import annotations

import re
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Final

import numpy as np

from worker.errors import SettingsError
from worker.offline.csv_lines import opened

DEEPEST: Final = 1_000
"""Ten times as deep Arrow overflows its stack, which ends the process without a word."""
_TEXT: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)


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
    with suppress(OSError, EOFError, zlib.error), opened(path) as file:
        for number, line in enumerate(file, 1):
            # Few lines have so many brackets at all.
            if line.count(b"[") + line.count(b"{") > DEEPEST and _depth(line) > DEEPEST:
                raise SettingsError(
                    f"{path}: line {number} has objects or lists more than {DEEPEST:,} deep within each other: no "
                    "transaction does, remove the line"
                )


def _depth(line: bytes) -> int:
    """Return how many objects and lists are open at once, outside texts."""
    kinds = np.frombuffer(_TEXT.sub(b"", line), np.uint8)
    opens = (kinds == ord("[")) | (kinds == ord("{"))
    closes = (kinds == ord("]")) | (kinds == ord("}"))
    return int(np.cumsum(opens.astype(np.int64) - closes).max(initial=0))
