"""Arrow layouts of the journal and the model log; the only module that knows them.

Journal: an entry is one or more records, each an Arrow stream of one batch: decision rows, then settlements; the last
carries the header in its metadata. Model log: a commit is a one-row batch of lists; lineage and policy are JSON; a
refit is a table of named arrays, cut into pieces.

Every record carries `kind` and `version` in its Kafka headers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final, Literal, cast

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from models.examples import Examples
from models.features import FeatureSpec
from models.ledger import LedgerDeltas
from models.records import Budget, Commit, Evidence, Lineage, ModelRecord, Policy, Refit, Traffic
from worker.errors import CorruptError
from worker.journal import DecisionRows, JournalEntry, JournalHeader, Settlements

VERSION: Final = b"1"
MAX_ROWS: Final = 10_000
PIECE_BYTES: Final = 700_000
"""Before compression: every record stays well below the broker's default of 1 MiB."""

Payload = tuple[bytes, list[tuple[str, bytes]]]
"""A record's value and its Kafka headers."""
_MATRICES: Final = ("entities", "features", "hashes")


def encode_journal(entry: JournalEntry) -> list[Payload]:
    """The records of one entry, in the order they must be sent."""
    pieces: list[tuple[bytes, Any]] = []
    for kind, rows in ((b"rows", entry.rows), (b"settlements", entry.settlements)):
        step = _rows_per_record(rows)
        pieces += [(kind, rows.rows(start, start + step)) for start in range(0, len(rows), step)]
    if not pieces:
        pieces.append((b"settlements", entry.settlements))
    metadata: list[dict[bytes, bytes]] = [{} for _ in pieces]
    metadata[-1] = {b"header": entry.header.to_json()}
    return [
        (_stream(_batch(rows), about), _headers(kind))
        for (kind, rows), about in zip(pieces, metadata, strict=True)
    ]


def decode_journal(
    value: bytes, headers: Sequence[tuple[str, bytes]]
) -> tuple[DecisionRows | Settlements, JournalHeader | None]:
    """One record of the journal, and the header if it closes an entry.

    Raises
    ------
    CorruptError
        The record was not written by `encode_journal`.
    """
    kind = _kind(headers)
    batch, metadata = _read(value)
    header = metadata.get(b"header")
    rows: DecisionRows | Settlements
    if kind == "rows":
        rows = DecisionRows(
            transaction_id=_column(batch, "transaction_id"), **_arrays(batch, DecisionRows, skip=1)
        )
    elif kind == "settlements":
        rows = Settlements(**_arrays(batch, Settlements))
    else:
        raise CorruptError(f"journal record of unknown kind {kind!r}: written by a newer worker?")
    return rows, None if header is None else JournalHeader.from_json(header)


def encode_model(record: ModelRecord) -> Iterator[Payload]:
    """The records of the model log that carry `record`."""
    match record:
        case Lineage():
            yield orjson.dumps(record.describe()), _headers(b"lineage")
        case Policy():
            yield orjson.dumps(record.to_json()), _headers(b"policy")
        case Commit():
            sections = (record.traffic, record.evidence, record.examples)
            for piece in record.split(min(_rows_per_record(section, 3) for section in sections)):
                yield _encode_commit(piece), _headers(b"commit")
        case Refit():
            yield from _encode_refit(record)


class ModelLogDecoder:
    """Turns the model log's records back into what was written; joins the pieces of refits."""

    def __init__(self) -> None:
        self._pieces: dict[bytes, list[bytes]] = {}

    def decode(self, value: bytes, headers: Sequence[tuple[str, bytes]]) -> ModelRecord | None:
        """The record, or None for a refit of which more pieces are to come.

        Raises
        ------
        CorruptError
            The record was not written by `encode_model`.
        """
        kind = _kind(headers)
        try:
            match kind:
                case "lineage":
                    return _decode_lineage(orjson.loads(value))
                case "policy":
                    return Policy.from_json(orjson.loads(value))
                case "commit":
                    return _decode_commit(value)
                case "refit":
                    return self._refit(value, dict(headers))
        except (KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise CorruptError(f"model-log record of kind {kind!r} does not decode: {error}") from None
        raise CorruptError(f"model-log record of unknown kind {kind!r}: written by a newer worker?")

    def _refit(self, value: bytes, headers: dict[str, bytes]) -> Refit | None:
        key, index, total = headers["refit"], int(headers["piece"]), int(headers["pieces"])
        pieces = self._pieces.setdefault(key, [])
        if index != len(pieces):
            raise CorruptError(f"refit {key.decode()}: piece {index} came where {len(pieces)} was due")
        pieces.append(value)
        if index + 1 < total:
            return None
        return _decode_refit(b"".join(self._pieces.pop(key)))


def _rows_per_record(rows: Any, sharing: int = 1) -> int:
    """How many rows fit, when `sharing` sections of as many rows go into one record."""
    row_bytes = sum(getattr(rows, field.name).nbytes for field in fields(rows)) / max(len(rows), 1)
    return max(1, min(MAX_ROWS, int(PIECE_BYTES / sharing / max(row_bytes, 1))))


def _headers(kind: bytes) -> list[tuple[str, bytes]]:
    return [("kind", kind), ("version", VERSION)]


def _kind(headers: Sequence[tuple[str, bytes]]) -> str:
    found = dict(headers)
    if found.get("version") != VERSION:
        raise CorruptError(
            f"record of version {found.get('version')!r}, this worker reads {VERSION!r}: use a newer one"
        )
    return found.get("kind", b"").decode()


def _stream(batch: pa.RecordBatch, metadata: Mapping[bytes, bytes]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema.with_metadata(metadata)) as writer:
        writer.write_batch(batch)
    return cast("bytes", sink.getvalue().to_pybytes())


def _read(value: bytes) -> tuple[pa.RecordBatch, dict[bytes, bytes]]:
    try:
        with pa.ipc.open_stream(value) as reader:
            return reader.read_next_batch(), reader.schema.metadata or {}
    except (pa.ArrowException, StopIteration, OSError) as error:
        raise CorruptError(f"record is no Arrow stream: {error}") from None


def _batch(rows: DecisionRows | Settlements) -> pa.RecordBatch:
    names = [field.name for field in fields(rows)]
    return pa.RecordBatch.from_arrays([_arrow(getattr(rows, name)) for name in names], names=names)


def _arrow(values: NDArray[Any] | pa.Array) -> pa.Array:
    if not isinstance(values, np.ndarray):
        return values
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1]
    )


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    try:
        return batch.column(name)
    except KeyError:
        raise CorruptError(f"record lacks the column {name!r}") from None


def _numpy(column: pa.Array) -> NDArray[Any]:
    if pa.types.is_fixed_size_list(column.type):
        return cast("NDArray[Any]", column.flatten().to_numpy().reshape(-1, column.type.list_size))
    return cast("NDArray[Any]", column.to_numpy(zero_copy_only=False))


def _arrays(batch: pa.RecordBatch, of: type[Any], skip: int = 0) -> dict[str, NDArray[Any]]:
    return {field.name: _numpy(_column(batch, field.name)) for field in fields(of)[skip:]}


_SECTIONS: Final[tuple[tuple[str, type[Any]], ...]] = (
    ("traffic", Traffic),
    ("evidence", Evidence),
    ("examples", Examples),
    ("ledger", LedgerDeltas),
)


def _encode_commit(commit: Commit) -> bytes:
    columns = {
        f"{name}.{field.name}": getattr(getattr(commit, name), field.name)
        for name, of in _SECTIONS
        for field in fields(of)
    }
    columns["budget.online"], columns["budget.forest"] = commit.budget.online, commit.budget.forest
    metadata = {
        "worker": commit.worker,
        "clocks_ms": {str(partition): clock for partition, clock in commit.clocks_ms.items()},
        "newest_label_ms": commit.newest_label_ms,
        "digest": commit.digest,
        "alerts": commit.budget.alerts,
        "cases": commit.budget.cases,
        "widths": {name: values.shape[1] for name, values in columns.items() if values.ndim == 2},
    }
    arrays = [_one_list(values) for values in columns.values()]
    batch = pa.RecordBatch.from_arrays(arrays, names=list(columns))
    return _stream(batch, {b"commit": orjson.dumps(metadata)})


def _one_list(values: NDArray[Any]) -> pa.Array:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    return pa.LargeListArray.from_arrays(pa.array([0, len(flat)], pa.int64()), flat)


def _decode_commit(value: bytes) -> Commit:
    batch, metadata = _read(value)
    about = orjson.loads(metadata[b"commit"])
    sections = {name: of(**_section(batch, name, of, about["widths"])) for name, of in _SECTIONS}
    online, forest = (_flat(batch, f"budget.{name}") for name in ("online", "forest"))
    return Commit(
        worker=about["worker"],
        clocks_ms={int(partition): clock for partition, clock in about["clocks_ms"].items()},
        newest_label_ms=about["newest_label_ms"],
        digest=tuple(about["digest"]) if about["digest"] else None,
        budget=Budget(online, forest, about["alerts"], about["cases"]),
        **sections,
    )


def _section(
    batch: pa.RecordBatch, name: str, of: type[Any], widths: Mapping[str, int]
) -> dict[str, NDArray[Any]]:
    arrays = {field.name: _flat(batch, f"{name}.{field.name}") for field in fields(of)}
    return {
        field: values.reshape(-1, widths[f"{name}.{field}"]) if f"{name}.{field}" in widths else values
        for field, values in arrays.items()
    }


def _flat(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    return cast("NDArray[Any]", _column(batch, name).values.to_numpy())


def _encode_refit(refit: Refit) -> Iterator[Payload]:
    names = list(refit.arrays)
    arrays = [np.ascontiguousarray(refit.arrays[name]) for name in names]
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(names),
            pa.array([values.dtype.str for values in arrays]),
            pa.array([list(values.shape) for values in arrays], pa.list_(pa.int64())),
            pa.array([values.tobytes() for values in arrays], pa.large_binary()),
        ],
        names=["name", "dtype", "shape", "data"],
    )
    about = {"kind": refit.kind, "cut_offset": refit.cut_offset, "clock_ms": refit.clock_ms}
    whole = _stream(batch, {b"refit": orjson.dumps(about)})
    key = hashlib.sha256(whole).hexdigest()[:16].encode()
    pieces = [whole[start : start + PIECE_BYTES] for start in range(0, len(whole), PIECE_BYTES)]
    for index, piece in enumerate(pieces):
        numbers = [("piece", str(index).encode()), ("pieces", str(len(pieces)).encode())]
        yield piece, [*_headers(b"refit"), ("refit", key), *numbers]


def _decode_refit(value: bytes) -> Refit:
    batch, metadata = _read(value)
    about = orjson.loads(metadata[b"refit"])
    arrays = {row["name"]: _array(row) for row in batch.to_pylist()}
    kind = cast("Literal['generation', 'forest']", about["kind"])
    return Refit(kind, about["cut_offset"], about["clock_ms"], arrays)


def _array(row: Mapping[str, Any]) -> NDArray[Any]:
    dtype = np.dtype(row["dtype"])
    if dtype.hasobject:
        raise CorruptError(f"array {row['name']!r} holds objects")
    return np.frombuffer(row["data"], dtype).reshape(row["shape"]).copy()


def _decode_lineage(values: Mapping[str, Any]) -> Lineage:
    names = [field.name for field in fields(FeatureSpec)]
    spec = FeatureSpec(**{name: tuple(values[name]) for name in names})
    return Lineage(spec, values["key_fingerprint"], values["fraud_weight"], values["fold_version"])
