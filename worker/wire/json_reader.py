"""Reads records into tables in two ways that agree: plain records in compiled loops, every other one by its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from worker.kafka_io.inflate import MOST_BYTES
from worker.kafka_io.record_batches import RecordColumns, refused_until
from worker.settings.fields import MAX_SOURCE_CHARACTERS, TimeFormat
from worker.wire.json_columns import NULL, Cells, DeclaredFields, FieldKind, read_cells
from worker.wire.schema import (
    AMOUNT_TEXT,
    END_OF_TIME_MS,
    MAX_AMOUNT,
    MAX_AMOUNT_CHARACTERS,
    MAX_ID_CHARACTERS,
    MAX_NUMBER,
    MAX_RECORD_BYTES,
    MAX_TEXT_CHARACTERS,
    Fault,
    Label,
    Reason,
    Transaction,
    explain_record,
    is_searched,
)
from worker.wire.spans import Integers, Spans, Words, card_numbers, gather_utf8, iso_times, same_texts

NO_TIME: Final = -1
"""Milliseconds of a time that the record does not have."""
_TIMES: Final = ("event_time", "label_time")
_IDENTIFIERS: Final = ("transaction_id", "card_id")
_TIME_LIMITS: Final[dict[TimeFormat, tuple[FieldKind, float, float]]] = {
    "epoch_ms": (FieldKind.INTEGER, 0.0, END_OF_TIME_MS - 1.0),
    "epoch_s": (FieldKind.NUMBER, 0.0, float(np.nextafter(END_OF_TIME_MS / 1000, 0.0))),
    "iso8601": (FieldKind.TEXT, 1.0, 64.0),
}


@dataclass(frozen=True, slots=True)
class Table:
    """n records, with every attribute of the model as a column.

    Attributes
    ----------
    attributes
        Their order is that of the fields in `cells`.
    spans
        The buffer that texts lie in, and the records themselves.
    cells
        Texts and numbers.
    times_ms : int64 (n,)
        Of each time attribute; `NO_TIME` where it is missing.
    """

    attributes: tuple[str, ...]
    spans: Spans
    cells: Cells
    times_ms: dict[str, Integers]

    def __len__(self) -> int:
        return len(self.cells.plain)

    def texts(self, attribute: str) -> Spans:
        """Return a text attribute."""
        field = self.attributes.index(attribute)
        return Spans(self.spans.data, self.cells.start[field], self.cells.length[field])

    def numbers(self, attribute: str) -> NDArray[np.float64]:
        """Return a number attribute, float64 (n,); NaN where it is missing."""
        number: NDArray[np.float64] = self.cells.number[self.attributes.index(attribute)]
        return number

    def take(self, rows: Integers) -> Table:
        """Return the rows chosen by index, in that order."""
        start, length, number, plain = self.cells
        return replace(
            self,
            spans=Spans(self.spans.data, self.spans.start[rows], self.spans.length[rows]),
            cells=Cells(start[:, rows], length[:, rows], number[:, rows], plain[rows]),
            times_ms={name: times[rows] for name, times in self.times_ms.items()},
        )


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """How a kind of record is read, derived from its model.

    Attributes
    ----------
    model, attributes, fields
        The pydantic model, its attributes in order, and the same for the compiled reader.
    time_format
        Of all its times.
    tokens
        Attributes in which a card number is refused.
    rule
        Returns the rows of a table that fulfil what the model demands of several fields together.
    amount_text
        Whether the amount is written as a text.
    """

    model: type[Transaction] | type[Label]
    attributes: tuple[str, ...]
    fields: DeclaredFields
    time_format: TimeFormat
    tokens: tuple[str, ...]
    rule: Callable[[Table], NDArray[np.bool_]] | None = None
    amount_text: bool = False

    @classmethod
    def of(
        cls,
        model: type[Transaction] | type[Label],
        time_format: TimeFormat,
        rule: Callable[[Table], NDArray[np.bool_]] | None = None,
        *,
        amount_text: bool = False,
        integer_texts: bool = False,
    ) -> RecordLayout:
        """Derive the layout from a model whose aliases are the names in the JSON."""
        infos = model.model_fields
        limits = {attribute: _limits(attribute, time_format) for attribute in infos}
        if amount_text:
            limits["amount"] = (FieldKind.TEXT, 1.0, float(MAX_AMOUNT_CHARACTERS))
        if integer_texts:
            limits |= {
                name: (FieldKind.TEXT_OR_INTEGER, *limit[1:])
                for name, limit in limits.items()
                if name.startswith(("categorical_", "entity_"))
            }
        kinds, lowest, highest = zip(*limits.values(), strict=True)
        fields = DeclaredFields(
            Words.of([info.alias or attribute for attribute, info in infos.items()]),
            np.array(kinds, dtype=np.uint8),
            np.array([info.is_required() for info in infos.values()]),
            np.array(lowest),
            np.array(highest),
        )
        tokens = tuple(name for name, info in infos.items() if is_searched(info))
        return cls(model, tuple(infos), fields, time_format, tokens, rule, amount_text)


def _limits(attribute: str, time_format: TimeFormat) -> tuple[FieldKind, float, float]:
    """Return the kind of an attribute, and the bounds within which values, or bytes of text, are surely accepted."""
    if attribute in _TIMES:
        return _TIME_LIMITS[time_format]
    if attribute == "amount":
        return FieldKind.NUMBER, 0.0, MAX_AMOUNT
    if attribute.startswith("numeric_"):
        return FieldKind.NUMBER, -MAX_NUMBER, MAX_NUMBER
    if attribute in _IDENTIFIERS:
        return FieldKind.TEXT, 1.0, MAX_ID_CHARACTERS
    if attribute == "source":
        return FieldKind.TEXT, 1.0, MAX_SOURCE_CHARACTERS
    return FieldKind.TEXT, 0.0, MAX_TEXT_CHARACTERS


def read_table(
    records: RecordColumns, layout: RecordLayout
) -> tuple[Table, Integers, list[tuple[int, Fault]]]:
    """Read records.

    Returns
    -------
    tuple
        The table of the good records; their rows in `records`, int64 (n,); the other rows, each with its fault.
    """
    # Read-only and writable arrays are two types for numba: one view type spares a second compilation of every loop.
    data = records.data.view()
    data.flags.writeable = False
    length = np.where(records.value_length <= MAX_RECORD_BYTES, records.value_length, NULL)
    spans = Spans(data, records.value_start, length)
    cells = read_cells(spans, layout.fields)
    if layout.amount_text:
        _read_amounts(spans, cells, layout.attributes.index("amount"))
    table = Table(layout.attributes, spans, cells, _times_ms(spans, cells, layout))
    good = cells.plain & _accepted(table, Spans(data, records.key_start, records.key_length), layout)
    odd: list[int] = np.flatnonzero(~good).tolist()
    if not odd:
        return table, np.arange(len(records)), []
    outcomes = [(row, _read_odd(layout, records, row)) for row in odd]
    read = [(row, outcome) for row, outcome in outcomes if not isinstance(outcome, Fault)]
    good[[row for row, _ in read]] = True
    rows = np.flatnonzero(good)
    faults = [(row, outcome) for row, outcome in outcomes if isinstance(outcome, Fault)]
    return _patched(table, layout, read).take(rows), rows, faults


def _read_odd(layout: RecordLayout, records: RecordColumns, row: int) -> Transaction | Label | Fault:
    last = refused_until(int(records.offsets[row]), int(records.value_length[row]))
    if last is not None:
        return Fault(
            Reason.TOO_LARGE,
            f"a compressed batch of more than {MOST_BYTES} bytes, not read up to offset {last}",
        )
    # One byte more than is allowed shows that a value is too long.
    return read_one(layout, records.key(row), records.value(row, most=MAX_RECORD_BYTES + 1))


def read_one(layout: RecordLayout, key: bytes | None, value: bytes | None) -> Transaction | Label | Fault:
    """Read one record by its model, which decides what is accepted and names the reason otherwise."""
    if value is None:
        return Fault(Reason.NULL_VALUE, "the record has no value")
    if len(value) > MAX_RECORD_BYTES:
        return Fault(Reason.TOO_LARGE, f"more than {MAX_RECORD_BYTES} bytes")
    if key is None:
        return Fault(Reason.NULL_KEY, "the record has no key")
    try:
        message = layout.model.model_validate_json(value)
    except ValidationError as error:
        return explain_record(error)
    if message.card_id.encode() != key:
        return Fault(Reason.KEY_MISMATCH, "the record's key is not its card")
    return message


def _accepted(table: Table, keys: Spans, layout: RecordLayout) -> NDArray[np.bool_]:
    accepted = same_texts(table.texts("card_id"), keys)
    for name in layout.tokens:
        accepted &= ~card_numbers(table.texts(name))
    for name, times in table.times_ms.items():
        is_present = table.cells.length[layout.attributes.index(name)] >= 0
        accepted &= ~is_present | ((times >= 0) & (times < END_OF_TIME_MS))
    return accepted & layout.rule(table) if layout.rule else accepted


def _times_ms(spans: Spans, cells: Cells, layout: RecordLayout) -> dict[str, Integers]:
    fields = {name: layout.attributes.index(name) for name in _TIMES if name in layout.attributes}
    return {name: _time_ms(spans, cells, field, layout.time_format) for name, field in fields.items()}


def _read_amounts(spans: Spans, cells: Cells, field: int) -> None:
    """Read the amounts that are texts; a record with any other text is odd."""
    rows = np.flatnonzero(cells.plain)
    text = gather_utf8(Spans(spans.data, cells.start[field, rows], cells.length[field, rows]))
    fits = pc.match_substring_regex(text, AMOUNT_TEXT)
    amount = pc.if_else(fits, text, "nan").cast(pa.float64()).to_numpy(zero_copy_only=False)
    cells.number[field, rows] = amount
    cells.plain[rows] = amount <= MAX_AMOUNT


def _time_ms(spans: Spans, cells: Cells, field: int, time_format: TimeFormat) -> Integers:
    if time_format == "iso8601":
        return iso_times(Spans(spans.data, cells.start[field], cells.length[field]))
    # Cells of odd records hold anything; a NaN would not convert to an integer.
    is_present = cells.plain & (cells.length[field] >= 0)
    number = np.where(is_present, cells.number[field], 0.0)
    milliseconds = np.rint(number * 1000.0) if time_format == "epoch_s" else number
    return np.where(is_present, milliseconds, NO_TIME).astype(np.int64)


def _patched(table: Table, layout: RecordLayout, read: Sequence[tuple[int, Transaction | Label]]) -> Table:
    """Write what the model read into the table; its texts are appended to the buffer, for escapes make new bytes."""
    rows = [row for row, _ in read]
    buffers = [table.spans.data]
    end = table.spans.data.size
    for field, name in enumerate(layout.attributes):
        values = [getattr(message, name) for _, message in read]
        if name in table.times_ms:
            table.times_ms[name][rows] = [NO_TIME if value is None else value for value in values]
        elif name != "amount" and layout.fields.kind[field] in {FieldKind.TEXT, FieldKind.TEXT_OR_INTEGER}:
            texts = [b"" if value is None else value.encode() for value in values]
            lengths = np.array([len(text) for text in texts], dtype=np.int64)
            table.cells.start[field, rows] = end + np.cumsum(lengths) - lengths
            table.cells.length[field, rows] = np.where([value is None for value in values], NULL, lengths)
            buffers.append(np.frombuffer(b"".join(texts), dtype=np.uint8))
            end += buffers[-1].size
        else:
            table.cells.number[field, rows] = [np.nan if value is None else value for value in values]
    data = np.concatenate(buffers)
    data.flags.writeable = False
    return replace(table, spans=table.spans._replace(data=data))
