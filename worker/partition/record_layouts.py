"""Arrow layouts of the journal and the model log, which no other module knows.

Journal: an entry is one or more records, each an Arrow stream of one batch: decision rows, then settlements, then
labels set aside and offsets of those released; the last carries the header in its metadata. Model log: a commit is a
one-row batch of lists; lineage and policy are JSON; a refit is a table of named arrays, cut into pieces.

Every record carries `kind` and `version` in its Kafka headers.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from operator import index as whole_number
from typing import Any, Final, Literal, cast

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from models.examples import Examples
from models.feature_layout import FeatureSpec
from models.ledger import LedgerDeltas, summed
from models.payoff_deltas import PayoffDeltas
from models.records import Budget, Commit, Digest, EntityEvents, Evidence, Lineage, ModelRecord, Policy, Refit
from models.threshold import BINS
from worker.errors import CorruptError
from worker.partition.early_labels import Released
from worker.partition.journal import DecisionRows, JournalEntry, JournalHeader, JournalPart, Settlements
from worker.wire.decoder import LabelColumns

VERSION: Final = b"11"
MAX_ROWS: Final = 10_000
PIECE_BYTES: Final = 700_000
"""Before compression: every record stays well below the broker's default of 1 MiB."""

Payload = tuple[bytes, list[tuple[str, bytes]]]
"""A record's value and its Kafka headers."""
_FAULTS: Final = (
    ArithmeticError, AttributeError, LookupError, OSError, StopIteration, TypeError, ValueError, pa.ArrowException,
)  # fmt: skip
"""What Arrow, JSON and numpy may raise over bytes that no worker wrote."""
_NUMBERS: Final = re.compile(r"\|[iu]1|<[iuf][248]")


def encode_journal(entry: JournalEntry) -> list[Payload]:
    """Return the records of one entry, in the order in which the worker must send them."""
    pieces: list[tuple[bytes, Any]] = []
    for kind, rows in (
        (b"rows", entry.rows),
        (b"settlements", entry.settlements),
        (b"early", entry.early),
        (b"released", entry.released),
    ):
        step = max(1, min(MAX_ROWS, PIECE_BYTES // rows.row_bytes))
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
) -> tuple[JournalPart, JournalHeader | None]:
    """Decode one record of the journal, and the header if the record closes an entry.

    Raises
    ------
    CorruptError
        The record was not written by `encode_journal`.
    """
    kind = _kind(headers)
    try:
        batch, metadata = _read(value)
        rows: JournalPart
        match kind:
            case "rows":
                ids = _texts(batch, "transaction_id")
                rows = DecisionRows(transaction_id=ids, **_arrays(batch, _NO_DECISIONS))
            case "settlements":
                rows = Settlements(**_arrays(batch, _NO_SETTLEMENTS))
            case "early":
                labels = _arrays(batch, _NO_LABELS)
                rows = LabelColumns(next_offset=-1, value=_bytes(batch, "value"), **labels)
            case "released":
                rows = Released(**_arrays(batch, _NO_RELEASED))
            case _:
                raise CorruptError(f"journal record of unknown kind {kind!r}: written by a newer worker?")
        header = metadata.get(b"header")
        return rows, None if header is None else JournalHeader.from_json(header)
    except _FAULTS as error:
        raise CorruptError(f"journal record of kind {kind!r} does not decode: {error}") from None


def encode_model(record: ModelRecord) -> Iterator[Payload]:
    """Yield the records of the model log that carry `record`."""
    match record:
        case Lineage():
            yield orjson.dumps(record.describe()), _headers(b"lineage")
        case Policy():
            yield orjson.dumps(record.to_json()), _headers(b"policy")
        case Commit():
            for piece in record.split(PIECE_BYTES):
                yield _encode_commit(piece), _headers(b"commit")
        case Refit():
            yield from _encode_refit(record)


def kind_of(headers: Sequence[tuple[str, bytes]]) -> str | None:
    """Return the kind of a record of either log; None for a stray record, which no worker wrote.

    A stray record says nothing to any worker: all skip it alike. One of an unknown kind may be a newer worker's.
    """
    kind = dict(headers).get("kind")
    return None if kind is None else kind.decode(errors="replace")


class ModelLogDecoder:
    """Turns the model log's records back into what was written; joins the pieces of refits."""

    def __init__(self) -> None:
        self._pieces: dict[bytes, list[bytes]] = {}

    def decode(self, value: bytes, headers: Sequence[tuple[str, bytes]]) -> ModelRecord | None:
        """Return the record, or None for a refit of which more pieces are to come.

        Raises
        ------
        CorruptError
            `encode_model` did not write the record.
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
        except _FAULTS as error:
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


def _headers(kind: bytes) -> list[tuple[str, bytes]]:
    return [("kind", kind), ("version", VERSION)]


def _kind(headers: Sequence[tuple[str, bytes]]) -> str:
    found = dict(headers)
    if found.get("version") != VERSION:
        raise CorruptError(
            f"record of version {found.get('version')!r}, this worker reads {VERSION!r}: run the version that "
            "wrote it, or begin anew with new topics.model_log, topics.decisions and kafka.group"
        )
    return (found.get("kind") or b"").decode(errors="replace")


def _stream(batch: pa.RecordBatch, metadata: Mapping[bytes, bytes]) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema.with_metadata(metadata)) as writer:
        writer.write_batch(batch)
    return cast("bytes", sink.getvalue().to_pybytes())


def _read(value: bytes) -> tuple[pa.RecordBatch, dict[bytes, bytes]]:
    with pa.ipc.open_stream(value) as reader:
        batch: pa.RecordBatch = reader.read_next_batch()
        # Arrow trusts the offsets that it reads: without this check a forged batch reads beyond its buffers.
        batch.validate(full=True)
        return batch, reader.schema.metadata or {}


def _batch(rows: JournalPart) -> pa.RecordBatch:
    names = list(rows.layout())
    return pa.RecordBatch.from_arrays([_arrow(getattr(rows, name)) for name in names], names=names)


def _arrow(values: NDArray[Any] | pa.Array) -> pa.Array:
    if not isinstance(values, np.ndarray):
        return values
    if values.ndim == 1:
        return pa.array(values)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(values).reshape(-1)), values.shape[1]
    )


def _texts(batch: pa.RecordBatch, name: str) -> pa.Array:
    column = batch.column(name)
    if not pa.types.is_string(column.type) or column.null_count:
        raise CorruptError(f"{name} holds {column.null_count} nulls of {column.type}")
    return column


def _bytes(batch: pa.RecordBatch, name: str) -> pa.Array:
    column = batch.column(name)
    if not pa.types.is_large_binary(column.type):
        raise CorruptError(f"{name} is of type {column.type}")
    return column


def _numpy(column: pa.Array) -> NDArray[Any]:
    if pa.types.is_fixed_size_list(column.type):
        return cast("NDArray[Any]", column.flatten().to_numpy().reshape(len(column), column.type.list_size))
    return cast("NDArray[Any]", column.to_numpy(zero_copy_only=False))


def _arrays(batch: pa.RecordBatch, like: Any) -> dict[str, NDArray[Any]]:
    """Return the columns of numbers by field name, once each is of the type that `like` has."""
    columns = {name: getattr(like, name) for name in like.layout()}
    return {
        name: _checked(name, _numpy(batch.column(name)), column)
        for name, column in columns.items()
        if isinstance(column, np.ndarray)
    }


def _checked(name: str, values: NDArray[Any], like: NDArray[Any]) -> NDArray[Any]:
    if (values.dtype, values.ndim) != (like.dtype, like.ndim):
        raise CorruptError(f"{name} is of type {values.dtype} with {values.ndim} dimensions")
    return values


_NO_DECISIONS: Final = DecisionRows.empty(hashes=0, features=0)
_NO_SETTLEMENTS: Final = Settlements.empty()
_NO_LABELS: Final = LabelColumns.none()
_NO_RELEASED: Final = Released.empty()
_SECTIONS: Final[dict[str, EntityEvents | Evidence | Examples | LedgerDeltas | PayoffDeltas]] = {
    "traffic": EntityEvents.empty(entities=0),
    "evidence": Evidence.empty(hashes=0),
    "examples": Examples.empty(features=0),
    "ledger": summed([]),
    "payoff": PayoffDeltas.nothing(),
}
"""The parts of a commit, by name: each field is a column of its own, and all of a part are as long as one another."""
_OF_THEIR_OWN_LENGTH: Final = ("decided_day", "decided_count")


def _encode_commit(commit: Commit) -> bytes:
    columns = {
        f"{name}.{field.name}": getattr(getattr(commit, name), field.name)
        for name, like in _SECTIONS.items()
        for field in fields(like)
    }
    columns["budget.online"], columns["budget.forest"] = commit.budget.online, commit.budget.forest
    metadata = {
        "worker": commit.worker,
        "clocks_ms": {str(partition): clock for partition, clock in commit.clocks_ms.items()},
        "newest_label_ms": commit.newest_label_ms,
        "digest": None if commit.digest is None else [commit.digest.offset, commit.digest.value],
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
    sections: dict[str, Any] = {
        name: type(like)(**_section(batch, name, like, about["widths"])) for name, like in _SECTIONS.items()
    }
    newest, digest = about["newest_label_ms"], about["digest"]
    online, forest = (
        _checked(name, _flat(batch, f"budget.{name}").reshape(BINS), np.empty(0))
        for name in ("online", "forest")
    )
    return Commit(
        worker=about["worker"],
        clocks_ms={
            int(partition): whole_number(clock_ms) for partition, clock_ms in about["clocks_ms"].items()
        },
        newest_label_ms=None if newest is None else whole_number(newest),
        digest=None if digest is None else Digest(whole_number(digest[0]), digest[1]),
        budget=Budget(online, forest, whole_number(about["alerts"]), whole_number(about["cases"])),
        **sections,
    )


def _section(batch: pa.RecordBatch, name: str, like: Any, widths: Any) -> dict[str, NDArray[Any]]:
    names = [field.name for field in fields(like)]
    arrays = {field: _flat(batch, f"{name}.{field}") for field in names}
    rows = {field: len(values) for field, values in arrays.items() if getattr(like, field).ndim == 1}
    length = rows[next(field for field in names if field in rows)]
    for field, values in arrays.items():
        if field not in rows:
            # The other columns give the length: a matrix without entities holds no value to count.
            arrays[field] = values.reshape(length, whole_number(widths[f"{name}.{field}"]))
        _checked(f"{name}.{field}", arrays[field], getattr(like, field))
    own = {rows.pop(field) for field in _OF_THEIR_OWN_LENGTH if field in rows}
    if len(set(rows.values())) > 1 or len(own) > 1:
        raise CorruptError(f"columns of {name} differ in length: {rows}, {own}")
    return arrays


def _flat(batch: pa.RecordBatch, name: str) -> NDArray[Any]:
    column = batch.column(name)
    if len(column) != 1 or not pa.types.is_large_list(column.type):
        raise CorruptError(f"{name} is {len(column)} rows of {column.type}, not one list")
    return cast("NDArray[Any]", column[0].values.to_numpy())


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
    if _NUMBERS.fullmatch(row["dtype"]) is None:
        raise CorruptError(f"array {row['name']!r} does not hold numbers")
    return np.frombuffer(row["data"], np.dtype(row["dtype"])).reshape(row["shape"]).copy()


def _decode_lineage(values: Mapping[str, Any]) -> Lineage:
    names = [field.name for field in fields(FeatureSpec)]
    spec = FeatureSpec(**{name: tuple(values[name]) for name in names if name in values})
    return Lineage(spec, values["key_fingerprint"], values["fraud_weight"], values["fold_version"])
