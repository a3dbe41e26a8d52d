"""Files of rows read as checked columns; every error names the file, the column and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray

from worker.errors import SettingsError
from worker.offline.csv_lines import lines_of_rows, refuse_open_quote
from worker.offline.epochs import SECONDS_END, not_epochs
from worker.offline.json_nesting import refuse_deep_nesting
from worker.offline.table_mistakes import (
    JSON_BLOCK_BYTES,
    as_utf_8,
    for_people,
    require_columns,
    require_once,
)
from worker.redaction import redact
from worker.settings.fields import TimeFormat
from worker.wire.schema import END_OF_TIME_MS

_TRUTH: Final = {
    **dict.fromkeys(("fraud", "1", "true", "t", "yes", "y"), True),
    **dict.fromkeys(("legit", "0", "false", "f", "no", "n"), False),
}

FRAUD_WORDS: Final = tuple(word for word, is_fraud in _TRUTH.items() if is_fraud)
"""What a cell says of a fraud, in any case; `[label.values]` may add to it."""

# "NA" is a country, so it is not a missing value here.
_MISSING: Final = ["", "null", "NULL", "NaN", "nan"]
_SHOWN: Final = 60
"""Characters of a cell in an error."""
_OF_ANOTHER_ORIGIN: Final = (
    ", if these are seconds; milliseconds since another moment than 1970 must have that moment added to each"
)
_MOST_EXACT: Final = 2.0**53
"""Above, two whole numbers may be one floating one."""


@dataclass(frozen=True, slots=True)
class TableFile:
    """The columns of one file.

    Attributes
    ----------
    path
        Where it was read from.
    table
        Only the columns that were asked for.
    named_by
        Column by column, the setting or option that names it.
    others
        The columns that nobody asked for; of a CSV file with the types of its first rows.
    absent
        Those that it may lack, and does.
    """

    path: Path
    table: pa.Table
    named_by: Mapping[str, str]
    others: pa.Schema
    absent: frozenset[str] = frozenset()

    @classmethod
    def read(
        cls,
        path: Path,
        columns: Mapping[str, str],
        text: Collection[str],
        optional: Collection[str] = (),
    ) -> Self:
        """Read some columns of a CSV, Parquet or JSON-lines file.

        Parameters
        ----------
        path
            Its ending says what it is: `.csv`, `.parquet`, `.pq`, `.jsonl`, `.ndjson` or `.json`; text may
            be compressed (`.csv.gz`).
        columns
            Column by column, the setting or option that names it.
        text
            Those columns whose digits and dates are not to be interpreted: `007` stays `007`.
        optional
            Columns that the file may lack; all their values are then missing.

        Raises
        ------
        SettingsError
            The file does not read or lacks a column.
        """
        reader = _READERS.get(_ending(path))
        if reader is None:
            raise SettingsError(
                f"{path}: the name must end in one of {', '.join('.' + it for it in _READERS)}; a text may be "
                "compressed (.csv.gz), but no .zip"
            )
        if path.is_dir():
            raise SettingsError(f"{path} is a folder: name one file")
        if not path.is_file():
            raise SettingsError(f"{path}: there is no such file")
        try:
            table, schema = reader(path, columns, text, optional)
            table.validate(full=True)
        except OSError as error:
            raise SettingsError(str(error)) from None
        except UnicodeDecodeError:
            raise SettingsError(
                f"{path} does not read: names of its columns are not UTF-8{as_utf_8(path)}"
            ) from None
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SettingsError(f"{path} does not read: {for_people(error, path)}") from None
        others = pa.schema([field for field in schema if field.name not in table.column_names])
        absent = frozenset(optional).difference(table.column_names)
        for name in sorted(absent):
            table = table.append_column(name, pa.nulls(len(table), pa.string()))
        return cls(path, table, columns, others, absent)

    @property
    def holds_records(self) -> bool:
        """Whether its rows may be the very records of a topic: JSON lines."""
        return _READERS[_ending(self.path)] is _read_json_lines

    def holds_integers(self, name: str) -> bool:
        """Return whether a column was read as integers."""
        return bool(pa.types.is_integer(self.table[name].type))

    def holds_texts(self, name: str) -> bool:
        """Return whether a column was read as texts."""
        return bool(pa.types.is_string(self.table[name].type))

    def holds_dates(self, name: str) -> bool:
        """Return whether a column was read as times, or as texts that are more than digits."""
        column = self.table[name]
        if not pa.types.is_string(column.type):
            return bool(pa.types.is_temporal(column.type))
        return not pc.all(pc.utf8_is_digit(column), min_count=0).as_py()

    def lines(self, rows: Collection[int]) -> dict[int, int]:
        """Return, by row from 1, the line of the file; nothing where the format has no lines of its own."""
        return lines_of_rows(self.path, rows) if _ending(self.path) == "csv" else {}

    def place(self, row: int) -> str:
        """Return how an editor finds a row, counted from 1: its line in a CSV, the row itself elsewhere."""
        line = self.lines([row]).get(row)
        return f"row {row}" if line is None else f"line {line}"

    def text(self, name: str) -> pa.StringArray:
        """Return a column as text, null where missing."""
        column = self.table[name]
        if pa.types.is_floating(column.type):
            column = self._whole(name, pc.if_else(pc.is_nan(column), None, column))
        return self._cast(name, column, pa.string(), "text")

    def _whole(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return whole numbers as such: a missing value, or one beyond 64 bits, made floating ones of them all."""
        long = pc.index(pc.greater(pc.abs(column), _MOST_EXACT), True).as_py()
        if long >= 0:
            raise self._error(
                name,
                f"holds numbers of too many digits, first in {self.place(long + 1)}: write them as texts",
            )
        are_whole = pc.all(pc.equal(column, pc.floor(column)), min_count=0).as_py()
        return column.cast(pa.int64()) if are_whole else column

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where missing."""
        column = self.table[name]
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        if pa.types.is_integer(column.type):
            # Rounded where it is too long for a number, as a live worker rounds it.
            column = column.cast(pa.float64(), safe=False)
        elif any(
            its(column.type) for its in (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
        ):
            column = _filled(column)
        fix = "; numbers are written as 1234.5, without a currency, and a missing one is an empty cell"
        if self.named_by.get(name) == "transaction.numeric":
            fix += "; a field of words belongs in transaction.categorical"
        numbers = self._cast(name, column, pa.float64(), "numbers", fix)
        return np.array(numbers.fill_null(np.nan).to_numpy(zero_copy_only=False))

    def optional_times_ms(
        self, name: str, time_format: TimeFormat | None, setting: str = "transaction.time_format"
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return a column as epoch milliseconds, and where it is missing.

        Time stamps, dates and ISO 8601 count as UTC unless they say otherwise; numbers follow `time_format`, which
        `setting` names, or without one are seconds or milliseconds by their size.
        """
        column = self.table[name]
        if not pa.types.is_temporal(column.type):
            kind = column.type
            is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
            column = self._epochs(name, time_format, setting) if is_number else self._iso_8601(name, column)
        # Unchecked: the years that nanoseconds cannot express lie outside what `refusals` accepts anyway.
        kind = pa.timestamp("ms", getattr(column.type, "tz", None))
        instants = self._cast(name, column, kind, "times", safe=False).cast(pa.int64())
        missing = _missing(instants)
        return np.array(instants.fill_null(0).to_numpy()), missing

    def label_times_ms(
        self, name: str, time_format: TimeFormat | None, setting: str = ""
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the same of a column of label times; one beyond the end of time, which never comes, is refused."""
        times_ms, missing = self.optional_times_ms(name, time_format, setting)
        beyond = np.flatnonzero(times_ms >= END_OF_TIME_MS)
        if beyond.size:
            row = int(beyond[0])
            raise self._error(
                name,
                f"holds {redact(str(self.table[name][row]))} in {self.place(row + 1)}: a label time lies before 2100; "
                "correct it, or empty the cell, which then takes --label-delay-days",
            )
        return times_ms, missing

    def truth(
        self, name: str, own: Mapping[str, bool | None] | None = None
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return a column of booleans, of 0 and 1, of `fraud` and `legit` or of yes and no; and where it says neither.

        Parameters
        ----------
        name
            Of the column.
        own
            Further words, of `[label.values]`, as they are written, and whether each means fraud; None for one that
            means neither. Without `own` that setting does not apply.
        """
        column = self.table[name]
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        words = _filled(pc.utf8_trim_whitespace(self._cast(name, column, pa.string(), "truth")))
        further = dict(own or {})
        known = {word: _TRUTH.get(word.lower()) for word in words.unique().to_pylist() if word is not None}
        odd = [word for word in known if word not in further and word.lower() not in _TRUTH]
        known |= further
        if odd:
            remedy = (
                f"; or give the word a meaning in [label.values], and the file as --labels {self.path.name} in place of"
                " --fraud-column, which knows no other words, with label.transaction_id, label.card_id and label.label "
                "set to its columns"
                if own is None
                else ", or give the word a meaning in [label.values]"
            )
            raise self._error(
                name,
                f"holds {redact(odd[0])!r} in {self.place(pc.index(words, odd[0]).as_py() + 1)}; make it one of "
                f"{', '.join([*_TRUTH, *further])}, or empty{remedy}",
            )
        frauds, legits = (
            pa.array([word for word, is_fraud in known.items() if is_fraud is meaning], pa.string())
            for meaning in (True, False)
        )
        is_fraud, is_legit = (pc.is_in(words, its).to_numpy(zero_copy_only=False) for its in (frauds, legits))
        return is_fraud, ~(is_fraud | is_legit)

    def _epochs(self, name: str, time_format: TimeFormat | None, setting: str) -> pa.ChunkedArray:
        numbers = self.numbers(name)
        odd = not_epochs(numbers, time_format, setting)
        if odd:
            raise self._error(name, odd)
        # The median: one odd value is a row to refuse, not another format.
        usual = float(np.nanmedian(numbers)) if np.isfinite(numbers).any() else np.nan
        in_seconds = usual < SECONDS_END if time_format is None else time_format == "epoch_s"
        if in_seconds != (usual < SECONDS_END) and not np.isnan(usual):
            better, since = ("epoch_ms", "") if in_seconds else ("epoch_s", _OF_ANOTHER_ORIGIN)
            raise self._error(name, f'holds {usual:.0f}: set {setting} = "{better}"{since}')
        milliseconds = np.clip(np.nan_to_num(numbers) * (1000.0 if in_seconds else 1.0), -1.0, END_OF_TIME_MS)
        instants = np.round(milliseconds).astype("datetime64[ms]")
        return pa.chunked_array([pa.array(instants, mask=np.isnan(numbers))])

    def _iso_8601(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        # Microseconds are for the years that nanoseconds cannot express.
        kinds = [pa.timestamp(unit, zone) for zone in (None, "UTC") for unit in ("ns", "us")]
        for kind in kinds:
            try:
                return column.cast(kind)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                continue
        where = ""
        if pa.types.is_string(column.type):
            row = max(_first_odd(column, kind) for kind in (*kinds, pa.int64()))
            where = f": {self.place(row)} holds {redact(column[row - 1].as_py())!r}"
        raise self._error(
            name,
            f"does not hold ISO 8601 times, all with or all without an offset, nor epoch times{where}; "
            "write each as 2024-01-31 or 2024-01-31T09:05:00",
        )

    def _cast(
        self,
        name: str,
        column: pa.ChunkedArray,
        kind: pa.DataType,
        what: str,
        fix: str = "",
        *,
        safe: bool = True,
    ) -> pa.Array:
        try:
            return column.cast(kind, safe=safe).combine_chunks()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            # Arrow lacks the cast where the type as a whole is not of the kind.
            if not isinstance(error, pa.ArrowInvalid):
                raise self._error(
                    name, f"does not hold {what}, but {_kind(column.type, what)}{fix}"
                ) from None
            # Arrow may quote another one: it casts a part of the column at a time.
            row = _first_odd(column, kind)
            value = redact(str(column[row - 1].as_py()))[:_SHOWN]
            raise self._error(name, f"does not hold {what} in {self.place(row)}: {value!r}{fix}") from None

    def _error(self, name: str, what: str) -> SettingsError:
        named_by = f" ({self.named_by[name]})" if name in self.named_by else ""
        return SettingsError(f"{self.path}: column {name!r}{named_by} {what}")


def _kind(kind: pa.DataType, wanted: str) -> str:
    """Return what a column holds whose type as a whole is not what is wanted."""
    if pa.types.is_time(kind):
        return "times of day" + (": join each with its date" if wanted == "times" else "")
    return "dates" if pa.types.is_date(kind) or pa.types.is_timestamp(kind) else f"{kind} values"


def _first_odd(column: pa.ChunkedArray, kind: pa.DataType) -> int:
    """Return the row, from 1, of the first value that is not of a kind, where one is not."""
    good, bad = 0, len(column)  # rows before `good` are of the kind; one before `bad` is not
    while bad - good > 1:
        middle = (good + bad) // 2
        try:
            column.slice(good, middle - good).cast(kind)
            good = middle
        except pa.ArrowInvalid:
            bad = middle
    return bad


def _ending(path: Path) -> str:
    return path.name.lower().removesuffix(".gz").rpartition(".")[2]


def _opened(path: Path) -> pa.NativeFile:
    # Arrow takes an ending in capitals for a file that is not compressed.
    return pa.input_stream(path, compression="gzip" if path.suffix.lower() == ".gz" else None)


def _filled(texts: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Return texts of which the empty ones are missing, as the cells of a CSV are."""
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _missing(column: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.array(column.is_null().to_numpy(zero_copy_only=False))


def _wanted(available: Collection[str], columns: Mapping[str, str], optional: Collection[str]) -> list[str]:
    """Return the columns to read: the required ones and those of the optional ones that there are."""
    return [*columns, *(name for name in optional if name in available and name not in columns)]


def _read_csv(
    path: Path, columns: Mapping[str, str], text: Collection[str], optional: Collection[str]
) -> tuple[pa.Table, pa.Schema]:
    try:
        with pa.csv.open_csv(_opened(path), parse_options=_CSV_TEXTS) as reader:
            schema = reader.schema
        available = schema.names
        require_columns(path, available, columns)
        require_once(path, available, _wanted(available, columns, optional))
        options = pa.csv.ConvertOptions(
            include_columns=_wanted(available, columns, optional),
            column_types=dict.fromkeys(text, pa.string()),
            strings_can_be_null=True,
            null_values=_MISSING,
        )
        table = pa.csv.read_csv(_opened(path), parse_options=_CSV_TEXTS, convert_options=options)
    except pa.ArrowInvalid:
        # One thread alone counts the lines: this reading names the one that is wrong.
        pa.csv.read_csv(_opened(path), pa.csv.ReadOptions(use_threads=False), _CSV_TEXTS)
        raise
    refuse_open_quote(path, len(table))
    return table, schema


def _read_parquet(
    path: Path,
    columns: Mapping[str, str],
    text: Collection[str],  # noqa: ARG001
    optional: Collection[str],
) -> tuple[pa.Table, pa.Schema]:
    schema = pa.parquet.read_schema(path)
    require_columns(path, schema.names, columns)
    return pa.parquet.read_table(path, columns=_wanted(schema.names, columns, optional)), schema


def _read_json_lines(
    path: Path, columns: Mapping[str, str], text: Collection[str], optional: Collection[str]
) -> tuple[pa.Table, pa.Schema]:
    refuse_deep_nesting(path)
    table = pa.json.read_json(_opened(path), _JSON_BLOCKS)
    require_columns(path, table.column_names, columns)
    wanted = _wanted(table.column_names, columns, optional)
    dated = [name for name in text if name in wanted and pa.types.is_temporal(table[name].type)]
    if dated:  # read once more, leaving alone what only looks like a date
        schema = pa.schema([(name, pa.string()) for name in dated])
        table = pa.json.read_json(_opened(path), _JSON_BLOCKS, pa.json.ParseOptions(explicit_schema=schema))
    return table.select(wanted), table.schema


_CSV_TEXTS: Final = pa.csv.ParseOptions(newlines_in_values=True)
_Reader = Callable[[Path, Mapping[str, str], Collection[str], Collection[str]], tuple[pa.Table, pa.Schema]]
_JSON_BLOCKS: Final = pa.json.ReadOptions(block_size=JSON_BLOCK_BYTES)
_READERS: Final[dict[str, _Reader]] = {
    "csv": _read_csv,
    "parquet": _read_parquet,
    "pq": _read_parquet,
    "jsonl": _read_json_lines,
    "ndjson": _read_json_lines,
    "json": _read_json_lines,
}
