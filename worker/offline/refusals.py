"""Rows of a file that a live worker would send to the dead letters: counted with its reasons, and left out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from worker.redaction import looks_like_card_number
from worker.wire.schema import (
    END_OF_TIME_MS,
    MAX_AMOUNT,
    MAX_ID_CHARACTERS,
    MAX_NUMBER,
    MAX_TEXT_CHARACTERS,
    Reason,
)
from worker.wire.spans import Spans, card_numbers

Mask = NDArray[np.bool_]
_CONTROL: Final = r"\p{Cc}"
_TIMES: Final = "the years 1970 to 2099"
_AMOUNTS: Final = f"0 to {MAX_AMOUNT:g}"
_NUMBERS: Final = f"at most {MAX_NUMBER:g}, of either sign"


class Refusal(NamedTuple):
    """Rows refused for one reason in one column.

    Attributes
    ----------
    column, reason
        The column, and a word of `worker.wire.schema.Reason`.
    rows
        How many.
    first
        The first of them, counted from 1 without a header.
    line
        Its line in a CSV; None for other files.
    allowed
        In words, the values that are not out of range; empty for other reasons.
    """

    column: str
    reason: str
    rows: int
    first: int
    line: int | None = None
    allowed: str = ""

    def __str__(self) -> str:
        place = f"row {self.first:,}" if self.line is None else f"line {self.line:,}"
        reason = f"{self.reason} ({self.allowed})" if self.allowed else self.reason
        found = f"{self.column}: {reason} in {self.rows:,} rows, first in {place}"
        if self.reason == Reason.CARD_NUMBER.value:
            found += f'; where these are made up or no cards, add "{self.column}" to transaction.not_searched'
        return (
            f"{found}; a negative one, as of a refund, is no payment" if self.allowed == _AMOUNTS else found
        )


class Refusals:
    """The rows of a file that are good so far; a row is refused once, for the first reason found.

    Parameters
    ----------
    count
        How many rows the file has.
    """

    def __init__(self, count: int) -> None:
        self.good: Mask = np.ones(count, np.bool_)
        self.found: list[Refusal] = []

    def identifier(self, column: str, values: pa.Array, *, token: bool = False) -> None:
        """Refuse identifiers that are missing, too long or not printable; of tokens, also card numbers."""
        self._refuse(column, Reason.MISSING_FIELD, mask(values.is_null()))
        bad = mask(pc.equal(pc.utf8_length(values), 0)) | _bad_text(values, MAX_ID_CHARACTERS)
        self._refuse(column, Reason.BAD_TEXT, bad)
        if token:
            self._refuse(column, Reason.CARD_NUMBER, looks_like_card_numbers(values))

    def text(self, column: str, values: pa.Array, *, token: bool = False) -> None:
        """Refuse texts that are too long or not printable; of tokens, also card numbers."""
        self._refuse(column, Reason.BAD_TEXT, _bad_text(values, MAX_TEXT_CHARACTERS))
        if token:
            self._refuse(column, Reason.CARD_NUMBER, looks_like_card_numbers(values))

    def time(self, column: str, times_ms: NDArray[np.int64], missing: Mask) -> None:
        """Refuse event times that are missing or outside 1970-2099."""
        self._refuse(column, Reason.MISSING_FIELD, missing)
        self._refuse(column, Reason.OUT_OF_RANGE, (times_ms < 0) | (times_ms >= END_OF_TIME_MS), _TIMES)

    def amount(self, column: str, values: NDArray[np.float64]) -> None:
        """Refuse amounts that are missing, negative, too large or not finite."""
        self._refuse(column, Reason.MISSING_FIELD, np.isnan(values))
        self._refuse(column, Reason.NOT_FINITE, np.isinf(values))
        self._refuse(column, Reason.OUT_OF_RANGE, (values < 0.0) | (values > MAX_AMOUNT), _AMOUNTS)

    def number(self, column: str, values: NDArray[np.float64]) -> None:
        """Refuse numbers that are too large or not finite; NaN is a missing one."""
        self._refuse(column, Reason.NOT_FINITE, np.isinf(values))
        self._refuse(column, Reason.OUT_OF_RANGE, np.abs(values) > MAX_NUMBER, _NUMBERS)

    def name_lines(self, lines: Mapping[int, int]) -> None:
        """Name the line of each first row that has one, by row from 1."""
        self.found = [it._replace(line=lines.get(it.first)) for it in self.found]

    def remedy(self) -> str:
        """Return what can be done about most of them."""
        most = max(self.found, key=lambda it: it.rows)
        if most.reason == Reason.CARD_NUMBER.value:
            return f"Where they are cards, put a token, such as a keyed hash, in the place of each in {most.column}"
        if most.allowed == _AMOUNTS:
            return (
                "Set transaction.amount to a column of amounts of 0 or more; where there is none, add one of 1 and set "
                "costs.missed_fraud_fixed to what a missed fraud costs"
            )
        return "Check [transaction]"

    def _refuse(self, column: str, reason: Reason, bad: Mask, allowed: str = "") -> None:
        rows = np.flatnonzero(bad & self.good)
        if len(rows):
            self.found.append(Refusal(column, reason.value, len(rows), int(rows[0]) + 1, allowed=allowed))
            self.good[rows] = False


def mask(values: pa.Array | pa.ChunkedArray) -> Mask:
    """Return booleans of Arrow as numpy's, False where missing."""
    return np.array(values.fill_null(False).to_numpy(zero_copy_only=False), np.bool_)


def looks_like_card_numbers(values: pa.StringArray) -> Mask:
    """Return which of n texts are card numbers as a whole, bool (n,)."""
    texts = values.fill_null("")
    _, offsets_buffer, data_buffer = texts.buffers()
    ends = np.frombuffer(offsets_buffer, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(data_buffer or b"", np.uint8)
    start = ends[:-1].astype(np.int64)
    suspects = card_numbers(Spans(data, start, np.diff(ends).astype(np.int64)))
    for row in np.flatnonzero(suspects):
        suspects[row] = looks_like_card_number(texts[int(row)].as_py())
    return suspects


def _bad_text(values: pa.Array, most: int) -> Mask:
    too_long = mask(pc.greater(pc.utf8_length(values), most))
    return too_long | mask(pc.match_substring_regex(values, _CONTROL))
