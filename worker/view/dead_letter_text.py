"""The dead letters as an operator reads them: which records could not be used, and why."""

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

MARKER: Final = ("kind", b"sent-again")
"""Header of the records of the topic that are no letters: they name letters that were sent again."""
_ORIGINAL_CHARACTERS: Final = 72
_UNREADABLE: Final = ("-", "unreadable")


@dataclass(frozen=True, slots=True)
class Wanted:
    """A choice of dead letters.

    Attributes
    ----------
    stage, reason
        Only those of this stage and of this reason; None chooses all.
    """

    stage: str | None = None
    reason: str | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Return whether the letter is chosen."""
        return self.stage in {None, letter.stage} and self.reason in {None, letter.reason}

    @property
    def is_everything(self) -> bool:
        """Whether all are chosen, those that cannot be read included."""
        return self.stage is None and self.reason is None


@dataclass
class Listing:
    """The newest of the chosen dead letters, and the number of each stage and reason.

    Attributes
    ----------
    letters
        The newest of the chosen ones, oldest first.
    counts
        Numbers of all chosen ones, listed or not, by stage and reason.
    others
        Numbers of those that are not chosen.
    """

    letters: deque[DeadLetter]
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    others: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """How many are chosen."""
        return self.counts.total()


def letters(records: Iterable[Any], wanted: Wanted) -> Iterator[DeadLetter]:
    """Yield the chosen dead letters one after the other, without those that cannot be read."""
    read = (_read(record.value) for record in records if not _is_marker(record))
    return (letter for letter in read if letter is not None and wanted.fits(letter))


def listing(records: Iterable[Any], *, most: int, wanted: Wanted = Wanted()) -> Listing:
    """List and count the records of the dead-letter topic.

    Parameters
    ----------
    records
        Kafka records, oldest first.
    most
        How many to list.
    wanted
        Which ones.

    Returns
    -------
    Listing
        A record that cannot be read as a dead letter is counted as unreadable.
    """
    found = Listing(deque(maxlen=most))
    for record in records:
        if _is_marker(record):
            continue
        letter = _read(record.value)
        fits = wanted.is_everything if letter is None else wanted.fits(letter)
        counts = found.counts if fits else found.others
        counts[_UNREADABLE if letter is None else (letter.stage, letter.reason)] += 1
        if letter is not None and fits:
            found.letters.append(letter)
    return found


def table(letters: Iterable[DeadLetter]) -> Table:
    """Return a table of dead letters. What others wrote is escaped, card numbers are redacted once more."""
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
    """Return a table of the counts by stage and reason, most frequent first."""
    rows = Table(box=None, pad_edge=False, header_style="bold")
    rows.add_column("count", justify="right")
    rows.add_column("stage")
    rows.add_column("reason")
    for (stage, reason), count in counts.most_common():
        rows.add_row(f"{count:,}", Text(printable(stage)), Text(printable(reason)))
    return rows


def redacted_json(letter: DeadLetter) -> bytes:
    """Return the JSON of a dead letter as on the topic, with card numbers redacted once more."""
    original = letter.original and base64.b64encode(redact_bytes(_original(letter))).decode()
    return letter.model_copy(update={"original": original, "detail": redact(letter.detail)}).to_json()


def _is_marker(record: Any) -> bool:
    return MARKER in (record.headers or ())


def _read(value: bytes | None) -> DeadLetter | None:
    """Return the dead letter; None if the value is none, or its original is no base64."""
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
