"""What the dead-letter topic holds, for an operator: which records were set aside, and why."""

from __future__ import annotations

import base64
import binascii
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from worker.redaction import redact, redact_bytes
from worker.view.alert_text import moment
from worker.view.foreign_text import printable, printable_bytes, shortened
from worker.wire.schema import DeadLetter

_ORIGINAL_CHARACTERS: Final = 72
_UNREADABLE: Final = ("-", "unreadable")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which dead letters are asked for; None asks for all.

    Attributes
    ----------
    stage, reason
        Only those.
    """

    stage: str | None = None
    reason: str | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Whether it is asked for."""
        return self.stage in {None, letter.stage} and self.reason in {None, letter.reason}

    @property
    def is_everything(self) -> bool:
        """Whether all are asked for, those that do not read as well."""
        return self.stage is None and self.reason is None


@dataclass
class Listing:
    """The newest dead letters that were asked for, and how many there were of each stage and reason.

    Attributes
    ----------
    letters
        The newest ones, oldest first.
    counts, others
        By stage and reason, of all that fit, shown or not, and of those that do not.
    """

    letters: deque[DeadLetter]
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    others: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """How many fit."""
        return self.counts.total()


def letters(records: Iterable[Any], wanted: Wanted) -> Iterator[DeadLetter]:
    """Yield the dead letters that are asked for, one after the other; what does not read as one is left out."""
    read = (_read(record.value) for record in records)
    return (letter for letter in read if letter is not None and wanted.fits(letter))


def listing(records: Iterable[Any], *, most: int, wanted: Wanted = Wanted()) -> Listing:
    """Go through records of the dead-letter topic.

    Parameters
    ----------
    records
        Kafka records, oldest first.
    most
        How many to keep.
    wanted
        Which are asked for.

    Returns
    -------
    Listing
        What does not read as a dead letter is counted as unreadable.
    """
    found = Listing(deque(maxlen=most))
    for record in records:
        letter = _read(record.value)
        fits = wanted.is_everything if letter is None else wanted.fits(letter)
        counts = found.counts if fits else found.others
        counts[_UNREADABLE if letter is None else (letter.stage, letter.reason)] += 1
        if letter is not None and fits:
            found.letters.append(letter)
    return found


def table(letters: Iterable[DeadLetter]) -> Table:
    """Lay dead letters out, one a row; what others wrote is escaped, card numbers are struck out again."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("when", "record", "stage", "reason", "error", "begins with"):
        rows.add_column(name, overflow="fold", no_wrap=name in {"when", "stage", "reason"})
    for letter in letters:
        where = f"{printable(letter.topic)}-{letter.partition}@{letter.offset}"
        texts = (letter.stage, letter.reason, letter.detail)
        cells = [moment(letter.timestamp_ms), where, *map(printable, texts), _beginning(letter)]
        rows.add_row(*map(Text, cells))
    return rows


def summary(counts: Counter[tuple[str, str]]) -> Table:
    """Lay counts by stage and reason out, most frequent first."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    rows.add_column("count", justify="right")
    rows.add_column("stage")
    rows.add_column("reason")
    for (stage, reason), count in counts.most_common():
        rows.add_row(f"{count:,}", Text(printable(stage)), Text(printable(reason)))
    return rows


def redacted_json(letter: DeadLetter) -> bytes:
    """Return the dead letter as on the topic, card numbers struck out once more."""
    original = letter.original and base64.b64encode(redact_bytes(_original(letter))).decode()
    return letter.model_copy(update={"original": original, "detail": redact(letter.detail)}).to_json()


def _read(value: bytes | None) -> DeadLetter | None:
    try:
        letter = DeadLetter.model_validate_json(value or b"", extra="ignore")
        _original(letter)
    except (ValidationError, binascii.Error):
        return None
    return letter


def _original(letter: DeadLetter) -> bytes:
    return base64.b64decode(letter.original or "", validate=True)


def _beginning(letter: DeadLetter) -> str:
    if letter.original is None:
        return "(no value)"
    return shortened(printable_bytes(_original(letter)), _ORIGINAL_CHARACTERS)
