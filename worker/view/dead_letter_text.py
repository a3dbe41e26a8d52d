"""The dead letters as an operator reads them: which records could not be used, and why."""

from __future__ import annotations

import base64
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from rich.table import Table
from rich.text import Text

from worker.moments import moment
from worker.redaction import printable, redact, redact_bytes
from worker.view.alert_text import one_line
from worker.view.foreign_text import printable_bytes, shortened
from worker.wire.dead_letters import EVERYTHING, Wanted, is_marker, original_of, read_letter
from worker.wire.schema import DeadLetter

_ORIGINAL_CHARACTERS: Final = 72
_UNREADABLE: Final = ("-", "unreadable")


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


def listing(records: Iterable[Any], *, most: int, wanted: Wanted = EVERYTHING) -> Listing:
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
        if is_marker(record):
            continue
        letter = read_letter(record.value)
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
    """Return the JSON of a dead letter as on the topic, with card numbers redacted once more, in what prints."""
    original = letter.original and base64.b64encode(redact_bytes(original_of(letter))).decode()
    texts = {name: redact(getattr(letter, name)) for name in ("topic", "stage", "reason", "detail")}
    return one_line(letter.model_copy(update={"original": original, **texts}).to_json()) or b""


def _beginning(letter: DeadLetter) -> str:
    if letter.original is None:
        return "(no value)"
    return shortened(printable_bytes(original_of(letter)), _ORIGINAL_CHARACTERS)
