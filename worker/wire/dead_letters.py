"""The records of the dead-letter topic, read back: letters, and the markers of those that were sent again."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from worker.wire.schema import DeadLetter

MARKER: Final = ("kind", b"sent-again")
"""Header of the records of the topic that are no letters: they name letters that were sent again."""


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


EVERYTHING: Final = Wanted()


def letters(records: Iterable[Any], wanted: Wanted) -> Iterator[DeadLetter]:
    """Yield the chosen dead letters one after the other, without those that cannot be read."""
    read = (read_letter(record.value) for record in records if not is_marker(record))
    return (letter for letter in read if letter is not None and wanted.fits(letter))


def is_marker(record: Any) -> bool:
    """Return whether a record of the topic is a marker."""
    return MARKER in (record.headers or ())


def read_letter(value: bytes | None) -> DeadLetter | None:
    """Return the dead letter; None if the value is none, or its original is no base64."""
    try:
        letter = DeadLetter.model_validate_json(value or b"", extra="ignore")
        original_of(letter)
    except (ValidationError, binascii.Error):
        return None
    return letter


def original_of(letter: DeadLetter) -> bytes:
    """Return the bytes of the record that became the letter."""
    return base64.b64decode(letter.original or "", validate=True)
