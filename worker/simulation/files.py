"""Files of simulated traffic: columns with the truth, or records as on the wire."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from models.vocabulary import LabelSource
from worker.errors import SettingsError
from worker.offline.dataset import NEVER, Dataset
from worker.output_files import require_writable
from worker.progress import OnProgress, ignore_progress
from worker.settings.fields import LabelFields, TimeFormat
from worker.simulation.fraud_kinds import FraudKind
from worker.simulation.naming import Naming
from worker.simulation.simulator import Simulation

CHUNK_ROWS: Final = 100_000

_KINDS: Final = pa.array([None, *(kind.name.lower() for kind in [*FraudKind][1:])])
_SOURCES: Final = pa.array([None, *(source.name.lower() for source in [*LabelSource][1:])])


def require_data_file(path: Path, *, lines_only: bool = False) -> None:
    """Refuse a file that cannot be written, before the simulation spends its time.

    Parameters
    ----------
    path
        The ending names the format: `.parquet`, `.csv` or `.jsonl`; text may be compressed (`.csv.gz`).
    lines_only
        Whether the file must hold JSON lines.

    Raises
    ------
    SettingsError
        The ending is another one, the folder does not exist, the path is not that of a file, or the user may not write
        there.
    """
    endings = [name for name, write in _WRITERS.items() if write is _write_json_lines or not lines_only]
    if _ending(path) not in endings or path.name.lower().endswith((".parquet.gz", ".pq.gz")):
        raise SettingsError(f"{path}: the name must end in one of {', '.join('.' + it for it in endings)}")
    require_writable(str(path), path)


def holds_truth(path: Path) -> bool:
    """Return whether a file of that name holds the truth beside the transactions."""
    return _WRITERS[_ending(path)] is not _write_json_lines


def write_transactions(
    simulation: Simulation,
    path: Path,
    naming: Naming,
    progress: OnProgress = ignore_progress,
) -> None:
    """Write the transactions in order of time.

    Parquet and CSV hold the truth too (`TRUTH` of `worker.offline.undeclared`); JSON lines are records as on the
    transactions topic.

    Parameters
    ----------
    simulation
        What to write.
    path
        The file; `require_data_file` says which names are possible.
    naming
        The names of the fields.
    progress
        Counts transactions.

    Raises
    ------
    SettingsError
        The file cannot be written.
    """
    with_truth = holds_truth(path)

    def batches() -> Iterator[pa.RecordBatch]:
        for first in range(0, len(simulation), CHUNK_ROWS):
            rows = slice(first, first + CHUNK_ROWS)
            columns = _transactions(naming.of(simulation.dataset(rows)))
            if with_truth:
                columns |= _truth(simulation, rows, naming.fields.time_format)
            elif naming.fields.amount_format == "text":
                # As on the topic; a backtest reads numbers from the other files.
                columns[naming.fields.amount] = columns[naming.fields.amount].cast(pa.string())
            yield pa.RecordBatch.from_pydict(columns)
            progress(min(rows.stop, len(simulation)), len(simulation))

    with _replacing(path) as out:
        _WRITERS[_ending(path)](out, batches())


def write_labels(simulation: Simulation, path: Path, fields: LabelFields) -> int:
    """Write the labels as on the labels topic: JSON lines, in the order in which the labels become known.

    Returns
    -------
    int
        The number of labels.

    Raises
    ------
    SettingsError
        The file cannot be written.
    """
    known_ms = simulation.labels.time_ms
    rows = np.flatnonzero(known_ms != NEVER)
    rows = rows[np.argsort(known_ms[rows], kind="stable")]
    chunks = (rows[first : first + CHUNK_ROWS] for first in range(0, rows.size, CHUNK_ROWS))
    with _replacing(path) as out:
        _write_json_lines(out, (_labels(simulation, chunk, fields) for chunk in chunks))
    return rows.size


def _transactions(dataset: Dataset) -> dict[str, pa.Array]:
    fields = dataset.fields
    columns = {
        fields.transaction_id: dataset.transaction_id,
        fields.card_id: dataset.card_id,
        fields.event_time: _times(dataset.event_time_ms, fields.time_format),
        fields.amount: pa.array(dataset.amount),
    }
    if fields.currency is not None:
        columns[fields.currency] = dataset.currency
    numbers = {name: pa.array(column) for name, column in dataset.numeric.items()}
    return columns | dataset.entities | dataset.categorical | numbers


def _truth(simulation: Simulation, chosen: slice, time_format: TimeFormat) -> dict[str, pa.Array]:
    rows, labels = simulation.rows.take(chosen), simulation.labels.take(chosen)
    return {
        "is_fraud": pa.array(rows.kind != FraudKind.NONE),
        "fraud_kind": _KINDS.take(pa.array(rows.kind)),
        "label_time": _times(labels.time_ms, time_format),
        "label_source": _SOURCES.take(pa.array(labels.source)),
    }


def _labels(simulation: Simulation, chosen: NDArray[np.int64], fields: LabelFields) -> pa.RecordBatch:
    dataset, labels = simulation.dataset(chosen), simulation.labels.take(chosen)
    words = pa.array(["legit", "fraud"])
    return pa.RecordBatch.from_pydict(
        {
            fields.transaction_id: dataset.transaction_id,
            fields.card_id: dataset.card_id,
            fields.label: words.take(pa.array(dataset.is_fraud).cast(pa.int8())),
            fields.source: _SOURCES.take(pa.array(labels.source)),
            fields.label_time: _times(labels.time_ms, fields.time_format),
            fields.event_time: _times(dataset.event_time_ms, fields.time_format),
        }
    )


def _times(times_ms: NDArray[np.int64], time_format: TimeFormat) -> pa.Array:
    """Return times in a format of the settings, null where they are `NEVER`."""
    never = times_ms == NEVER
    if time_format == "epoch_s":
        return pa.array(times_ms / 1000.0, mask=never)
    whole = pa.array(times_ms, mask=never)
    if time_format == "epoch_ms":
        return whole
    written = whole.cast(pa.timestamp("ms", "UTC")).cast(pa.string())
    return pc.utf8_replace_slice(written, 10, 11, "T")


def _write_parquet(out: pa.NativeFile, batches: Iterator[pa.RecordBatch]) -> None:
    first = next(batches)
    with pa.parquet.ParquetWriter(out, first.schema, compression="zstd") as writer:
        for batch in chain([first], batches):
            writer.write_batch(batch)


def _write_csv(out: pa.NativeFile, batches: Iterator[pa.RecordBatch]) -> None:
    first = next(batches)
    # No simulated value holds a comma or a quotation mark, so none needs quotes.
    options = pa.csv.WriteOptions(quoting_style="none")
    with pa.csv.CSVWriter(out, first.schema, write_options=options) as writer:
        for batch in chain([first], batches):
            writer.write_batch(batch)


def _write_json_lines(out: pa.NativeFile, batches: Iterable[pa.RecordBatch]) -> None:
    for batch in batches:
        out.write(json_lines(batch))


def json_lines(batch: pa.RecordBatch) -> pa.Buffer:
    """Return rows as JSON, one object a line.

    The lines are joined column by column: a call for each row would take ten times as long. Texts must not need
    escaping, and no value may be missing.
    """
    parts: list[Any] = []
    lead = "{"
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        quote = '"' if pa.types.is_string(column.type) else ""
        parts += [f"{lead}{json.dumps(name)}:{quote}", column.cast(pa.string())]
        lead = f"{quote},"
    lines = pc.binary_join_element_wise(*parts, lead.rstrip(",") + "}\n", "")
    # Arrow keeps the texts of an array in one buffer, one after the other.
    return lines.buffers()[2]


_WRITERS: Final[dict[str, Callable[[pa.NativeFile, Iterator[pa.RecordBatch]], None]]] = {
    "parquet": _write_parquet,
    "pq": _write_parquet,
    "csv": _write_csv,
    "jsonl": _write_json_lines,
    "ndjson": _write_json_lines,
    "json": _write_json_lines,
}


def _ending(path: Path) -> str:
    return path.name.lower().removesuffix(".gz").rpartition(".")[2]


@contextmanager
def _replacing(path: Path) -> Iterator[pa.NativeFile]:
    """Open a file that takes its name once it is complete: an interrupted run leaves an older file as it was."""
    partial = path.with_name(f".{path.name}.partial")
    compression = "gzip" if path.suffix.lower() == ".gz" else None
    try:
        with pa.output_stream(str(partial), compression=compression) as out:
            yield out
        partial.replace(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
