"""The lines of a CSV: where its rows lie, and a quote that is never closed, which swallows the lines behind it."""

from __future__ import annotations

import csv
import gzip
import re
from collections import deque
from collections.abc import Collection, Iterator
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Final

from worker.errors import SettingsError

_CHUNK_BYTES: Final = 1 << 20
_CLOSES: Final = re.compile(r'"[ \t]+(,|[\r\n]*$)')
"""A quote with nothing but blanks behind it closes its text, though strictly it does not."""


def lines_of_rows(path: Path, rows: Collection[int]) -> dict[int, int]:
    """Return the lines of rows, counted from 1 behind the header: Arrow skips empty lines, and a text may have many."""
    found: dict[int, int] = {}
    row, line, last = 0, 1, max(rows, default=-1)
    with opened(path) as file, suppress(csv.Error):
        reader = csv.reader(TextIOWrapper(file, encoding="utf-8", errors="replace", newline=""))
        for cells in reader:
            if cells:
                if row in rows:
                    found[row] = line
                if row >= last:
                    break
                row += 1
            line = reader.line_num + 1
    return found


def refuse_open_quote(path: Path, rows: int) -> None:
    """Refuse a CSV with a text that a quote opens and none closes: Arrow reads one of many lines, without a word.

    Parameters
    ----------
    path
        The file; compressed if its name ends in .gz.
    rows
        As many as were read, without the header. A file of as many lines has no text of several, and is not read again.

    Raises
    ------
    SettingsError
        The last text is never closed, or one that goes on over lines ends amid a cell, at a quote of another text.
    """
    with opened(path) as file:
        lines = sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK_BYTES), b""))
    if lines <= rows + 1:
        return
    found = _open_quote(path)
    if found is not None:
        line, end = found
        goes_on = f"to the end of the file, {lines - line:,} lines on" if end is None else f"to line {end}"
        raise SettingsError(
            f'{path}: the text that a quote opens in line {line} goes on {goes_on}: close it, or write "" for a quote '
            "within a text"
        )


def _open_quote(path: Path) -> tuple[int, int | None] | None:
    """Return the line in which a row begins whose text is not closed, and where it ends, None for that of the file."""
    begun, newest = 1, deque([""], maxlen=1)
    with opened(path) as file:

        def texts() -> Iterator[str]:
            for line in file:
                newest.append(line.decode("utf-8", errors="replace"))
                yield newest[0]

        reader = csv.reader(texts(), strict=True)
        while True:
            try:
                next(reader)
            except StopIteration:
                return None
            except csv.Error as error:
                if "end of data" in str(error) or "field limit" in str(error):
                    return begun, None
                goes_on = reader.line_num > begun and "expected after" in str(error)
                if goes_on and not _CLOSES.search(newest[0]):
                    return begun, reader.line_num
            begun = reader.line_num + 1


def opened(path: Path) -> IO[bytes]:
    """Open a file of text as bytes; it is compressed if its name ends in .gz."""
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]
