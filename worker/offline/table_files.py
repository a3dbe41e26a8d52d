"""Files of rows read as checked columns; every error names the file, the column and what would be right."""

from __future__ import annotations

import re
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
from worker.settings.sections import TimeFormat

SECONDS_END: Final = 100_000_000_000
"""Numbers below are seconds (until the year 5138), numbers from it on milliseconds (since 1973)."""

_TRUTH: Final = {"true": True, "fraud": True, "1": True, "false": False, "legit": False, "0": False}

# "NA" is a country, so it is not a missing value here.
_MISSING: Final = ["", "null", "NULL", "NaN", "nan"]


@dataclass(frozen=True, slots=True)
class TableFile:
    """The columns of one file.

    Attributes
    ----------
    path
        Where it was read from.
    table
        Only the columns that were asked for.
    """

    path: Path
    table: pa.Table

    @classmethod
    def read(cls, path: Path, columns: Mapping[str, str], text: Collection[str]) -> Self:
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

        Raises
        ------
        SettingsError
            The file does not read or lacks a column.
        """
        reader = _READERS.get(path.name.lower().removesuffix(".gz").rpartition(".")[2])
        if reader is None:
            raise SettingsError(
                f"{path}: the name must end in one of {', '.join('.' + it for it in _READERS)}"
            )
        if not path.is_file():
            raise SettingsError(f"{path}: there is no such file")
        try:
            return cls(path, reader(path, columns, text))
        except OSError as error:
            raise SettingsError(str(error)) from None
        except pa.ArrowInvalid as error:
            raise SettingsError(f"{path} does not read: {_without_row(error)}") from None

    def text(self, name: str) -> pa.StringArray:
        """Return a column as text, null where missing."""
        return self._cast(name, self.table[name], pa.string(), "text")

    def identifiers(self, name: str) -> pa.StringArray:
        """Return a column as text that is never missing."""
        column = self.text(name)
        self._require(name, ~_missing(column), "is empty")
        return column

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as numbers, NaN where missing."""
        column = self.table[name]
        if pa.types.is_boolean(column.type):
            column = column.cast(pa.int8())
        numbers = self._cast(name, column, pa.float64(), "numbers")
        return np.array(numbers.fill_null(np.nan).to_numpy(zero_copy_only=False))

    def finite_numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as numbers that are never missing."""
        numbers = self.numbers(name)
        self._require(name, np.isfinite(numbers), "is empty or not a finite number")
        return numbers

    def times_ms(self, name: str, time_format: TimeFormat) -> NDArray[np.int64]:
        """Return a column as epoch milliseconds that are never missing."""
        times, missing = self.optional_times_ms(name, time_format)
        self._require(name, ~missing, "is empty")
        return times

    def optional_times_ms(
        self, name: str, time_format: TimeFormat
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return a column as epoch milliseconds, and where it is missing.

        Time stamps, dates and ISO 8601 count as UTC unless they say otherwise; numbers follow `time_format`.
        """
        column = self.table[name]
        if not pa.types.is_temporal(column.type):
            is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
            column = self._epochs(name, time_format) if is_number else self._iso_8601(name, column)
        kind = pa.timestamp("ns", getattr(column.type, "tz", None))
        instants = self._cast(name, column, kind, "times").cast(pa.int64())
        missing = _missing(instants)
        return np.array(instants.fill_null(0).to_numpy()) // 1_000_000, missing

    def truth(self, name: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Return a column of booleans, of 0 and 1 or of `fraud` and `legit`, and where it is missing."""
        column = self.table[name]
        if pa.types.is_floating(column.type):
            column = pc.if_else(pc.is_nan(column), None, column)
        words = pc.utf8_lower(pc.utf8_trim_whitespace(self._cast(name, column, pa.string(), "truth")))
        odd = [word for word in words.unique().to_pylist() if word is not None and word not in _TRUTH]
        if odd:
            raise self._error(name, f"holds {odd[0]!r}; make it one of {', '.join(_TRUTH)}, or empty")
        frauds = pa.array([word for word, is_fraud in _TRUTH.items() if is_fraud])
        return pc.is_in(words, frauds).to_numpy(zero_copy_only=False), _missing(words)

    def _epochs(self, name: str, time_format: TimeFormat) -> pa.ChunkedArray:
        in_seconds = time_format == "epoch_s"
        numbers = self.numbers(name)
        latest = np.nanmax(numbers, initial=0.0)
        if in_seconds != (latest < SECONDS_END):
            better = "epoch_ms" if in_seconds else "epoch_s"
            raise self._error(name, f'holds {latest:.0f}: set transaction.time_format = "{better}"')
        # Whole milliseconds first: a float64 does not hold today's nanoseconds.
        instants = np.round(np.nan_to_num(numbers) * (1000.0 if in_seconds else 1.0)).astype("datetime64[ms]")
        return pa.chunked_array([pa.array(instants, mask=np.isnan(numbers))])

    def _iso_8601(self, name: str, column: pa.ChunkedArray) -> pa.ChunkedArray:
        for zone in (None, "UTC"):
            try:
                return column.cast(pa.timestamp("ns", zone))
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                continue
        raise self._error(name, "does not hold ISO 8601 times, all with or all without an offset")

    def _cast(self, name: str, column: pa.ChunkedArray, kind: pa.DataType, what: str) -> pa.Array:
        try:
            return column.cast(kind).combine_chunks()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise self._error(name, f"does not hold {what}: {_without_row(error)}") from None

    def _require(self, name: str, good: NDArray[np.bool_], otherwise: str) -> None:
        bad = np.flatnonzero(~good)
        if bad.size:
            raise self._error(name, f"{otherwise} in {bad.size} rows, first in row {bad[0] + 1}")

    def _error(self, name: str, what: str) -> SettingsError:
        return SettingsError(f"{self.path}: column {name!r} {what}")


def _missing(column: pa.Array | pa.ChunkedArray) -> NDArray[np.bool_]:
    return np.array(column.is_null().to_numpy(zero_copy_only=False))


def _require_columns(path: Path, available: Collection[str], columns: Mapping[str, str]) -> None:
    for name, named_by in columns.items():
        if name not in available:
            raise SettingsError(
                f"{path} lacks column {name!r}, which {named_by} names; it has {', '.join(available)}"
            )


def _read_csv(path: Path, columns: Mapping[str, str], text: Collection[str]) -> pa.Table:
    with pa.csv.open_csv(path) as reader:
        _require_columns(path, reader.schema.names, columns)
    options = pa.csv.ConvertOptions(
        include_columns=list(columns),
        column_types=dict.fromkeys(text, pa.string()),
        strings_can_be_null=True,
        null_values=_MISSING,
    )
    return pa.csv.read_csv(path, convert_options=options)


def _read_parquet(path: Path, columns: Mapping[str, str], text: Collection[str]) -> pa.Table:  # noqa: ARG001
    _require_columns(path, pa.parquet.read_schema(path).names, columns)
    return pa.parquet.read_table(path, columns=list(columns))


def _read_json_lines(path: Path, columns: Mapping[str, str], text: Collection[str]) -> pa.Table:
    table = pa.json.read_json(path, _JSON_BLOCKS)
    _require_columns(path, table.column_names, columns)
    dated = [name for name in text if pa.types.is_temporal(table[name].type)]
    if dated:  # read once more, leaving alone what only looks like a date
        schema = pa.schema([(name, pa.string()) for name in dated])
        table = pa.json.read_json(path, _JSON_BLOCKS, pa.json.ParseOptions(explicit_schema=schema))
    return table.select(list(columns))


_JSON_BLOCKS: Final = pa.json.ReadOptions(block_size=16 << 20)
_READERS: Final[dict[str, Callable[[Path, Mapping[str, str], Collection[str]], pa.Table]]] = {
    "csv": _read_csv,
    "parquet": _read_parquet,
    "pq": _read_parquet,
    "jsonl": _read_json_lines,
    "ndjson": _read_json_lines,
    "json": _read_json_lines,
}


def _without_row(error: Exception) -> str:
    """Drop the row that Arrow quotes: it may hold a card number."""
    return re.sub(r"(got \d+):.*", r"\1", str(error), flags=re.DOTALL)
