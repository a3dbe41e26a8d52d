"""What is wrong with a file of rows, in words that name the column, the setting and the fix."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

from worker.errors import SettingsError
from worker.offline.csv_lines import lines_of_rows
from worker.redaction import redact

_DECLARED: Final = ("transaction.entities", "transaction.categorical", "transaction.numeric")
"""Settings that name any number of columns: their defaults are those of the example's payments."""
_REMEDIES: Final = {setting: f"set {setting} to those that it has, or to []" for setting in _DECLARED} | {
    "transaction.transaction_id": "set transaction.transaction_id to the column of a unique id, or let "
    "--number-rows number the rows",
    "transaction.card_id": "set transaction.card_id to the column of the card or the account; where payments have "
    "neither, --number-rows takes each for one of a card of its own",
    "transaction.event_time": "set transaction.event_time to the column of times",
    "transaction.amount": "set transaction.amount to the column of amounts; where there is none, add one of 1 and "
    "set costs.missed_fraud_fixed to what a missed fraud costs",
    "label.transaction_id": "set label.transaction_id, label.card_id and label.label to the columns of the file",
}
"""What to do about a column that is not there, by the setting that names it."""
_JOINED: Final = (
    "a + joins columns that are named each in transaction.entities or categorical, or card_id itself; where a card is "
    "several columns, join them in the file"
)
_NAMED: Final = 40
"""So many columns a message lists."""
_HEADER_CHARACTERS: Final = 100_000
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")
"""What a text of Excel's "Unicode text" begins with."""
JSON_BLOCK_BYTES: Final = 16 << 20
"""Rows of JSON are read in blocks of so many bytes, and Arrow counts them within a block."""


def require_columns(path: Path, available: Collection[str], columns: Mapping[str, str]) -> None:
    """Raise SettingsError where the file lacks some of the columns, which settings or options name."""
    lacking = {name: named_by for name, named_by in columns.items() if name not in available}
    if not lacking:
        return
    separator = _other_separator(next(iter(available), "")) if len(available) == 1 else ""
    if separator:
        raise SettingsError(f"{path}: {separator}")
    named = " and ".join(f"column {name!r}, which {named_by} names" for name, named_by in lacking.items())
    remedies = dict.fromkeys(_REMEDIES[it] for it in lacking.values() if it in _REMEDIES)
    remedies |= dict.fromkeys([_JOINED] if any("+" in name for name in lacking) else [])
    remedy = f" ({'; '.join(remedies)})" if remedies else ""
    more = f" and {len(available) - _NAMED} more" if len(available) > _NAMED else ""
    # Of a file without a header these are the values of its first row.
    has = ", ".join(map(redact, islice(available, _NAMED)))
    raise SettingsError(f"{path} lacks {named}{remedy}; it has {has}{more}")


def require_once(path: Path, available: Collection[str], wanted: Collection[str]) -> None:
    """Raise SettingsError where the file has several columns of a name that is wanted."""
    twice = [name for name, times in Counter(available).items() if times > 1 and name in wanted]
    if twice:
        raise SettingsError(f"{path} has several columns {twice[0]!r}: rename all but the one that is meant")


def _other_separator(header: str) -> str:
    """Return what is wrong with a file whose header is one column; nothing where no other separator is in it."""
    other = re.search(r"[;\t|]", header)
    if not other:
        return ""
    decimals = ", and decimal commas by points" if other[0] == ";" else ""
    return f"its columns are separated by {other[0]!r}; columns have to be separated by commas: replace these{decimals}"


def as_utf_8(path: Path | None) -> str:
    """Return how a file of another encoding becomes one of UTF-8, to be put behind what is wrong with it."""
    encoding = "utf-16" if _is_utf_16(path) else "latin1"
    return f"; the file has to be UTF-8, such as `iconv --from {encoding} --to utf-8` makes it"


def _is_utf_16(path: Path | None) -> bool:
    if path is None:
        return False
    with path.open("rb") as file:
        return file.read(2) in _UTF_16


def _header(path: Path | None) -> str:
    """Return the first line, or its beginning, of a file that is not compressed."""
    if path is None or path.suffix.lower() == ".gz":
        return ""
    with path.open(encoding="utf-8", errors="replace") as lines:
        return lines.readline(_HEADER_CHARACTERS)


def _line(path: Path | None, number: int) -> str:
    """Return the line of a row as Arrow counts it, from 1 with the header."""
    return f"line {lines_of_rows(path, [number - 1]).get(number - 1, number) if path else number}"


def for_people(error: Exception, path: Path | None = None) -> str:
    """Drop the row that Arrow quotes, strike out card numbers, and count lines from 1."""
    message = re.sub(r"(got \d+):.*", r"\1", str(error), flags=re.DOTALL)
    message = re.sub(r"\bRow #(\d+)", lambda found: _line(path, int(found[1])), message)
    # Arrow counts the rows of JSON within its block, from 0.
    in_first_block = (
        path is not None and path.suffix.lower() != ".gz" and path.stat().st_size <= JSON_BLOCK_BYTES
    )
    line = (lambda found: f"in line {int(found[1]) + 1}") if in_first_block else ""
    message = re.sub(r"in row (\d+)", line, message)
    if "Expected 1 columns" in message:
        message += f"; {_other_separator(_header(path)) or 'columns have to be separated by commas'}"
    if "invalid UTF8" in message or _is_utf_16(path):
        message += as_utf_8(path)
    if "from object to array" in message:
        message += "; each line has to be an object of its own, as `jq --compact-output '.[]'` writes them"
    return redact(message)
