"""From the bytes of a topic's records to columns; what does not decode is set aside with its reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that goes to the dead letters.

    Attributes
    ----------
    topic, partition, offset, timestamp_ms
        Where it lies in Kafka.
    stage
        The step that refused it; `decode` here.
    reason
        A short slug of `worker.schema.Reason`: a metric's label.
    detail
        One sentence for the operator; never holds the value itself.
    value
        The record's bytes; None for a record without a value.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    stage: str
    reason: str
    detail: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class _Columns:
    """Rows of one partition in offset order: every array has one entry a row.

    `next_offset` is the offset behind the last record read for these rows, bad ones and gaps included.
    """

    partition: int
    next_offset: int
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.offsets.size)

    def slice(self, start: int, stop: int) -> Self:
        """Take the rows start .. stop - 1 without copying; `next_offset` is then the first row left out."""
        stop = min(stop, len(self))
        cut: dict[str, Any] = {name: array[start:stop] for name, array in self._arrays().items()}
        if stop < len(self):
            cut["next_offset"] = int(self.offsets[stop])
        return replace(self, **cut)

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """Join parts of one partition that follow one another; at least one."""
        joined: dict[str, Any] = {
            name: _joined([part._arrays()[name] for part in parts]) for name in parts[0]._arrays()
        }
        return replace(parts[-1], **joined)

    def _arrays(self) -> dict[str, Any]:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray | pa.Array)}


def _joined(arrays: list[Any]) -> Any:
    return pa.concat_arrays(arrays) if isinstance(arrays[0], pa.Array) else np.concatenate(arrays)


@dataclass(frozen=True, slots=True)
class TransactionColumns(_Columns):
    """Decoded transactions of one partition: n rows, E entities, N numeric and C categorical fields.

    Attributes
    ----------
    event_time_ms, amount
        int64 and float64 of shape (n,).
    transaction_id, card_id, currency
        Arrow strings of length n; `currency` has nulls, or is None where no such field is declared.
    id_hash, id_check
        uint64 (n,): SipHashes of the transaction id under two keys; together 128 bits that verify it.
    card_hash, entity_hash, categorical
        uint64 of shape (n,), (n, E) and (n, C); 0 = missing.
    numeric
        float64 (n, N); NaN = missing.
    """

    event_time_ms: NDArray[np.int64]
    amount: NDArray[np.float64]
    transaction_id: pa.Array
    card_id: pa.Array
    currency: pa.Array | None
    id_hash: NDArray[np.uint64]
    id_check: NDArray[np.uint64]
    card_hash: NDArray[np.uint64]
    entity_hash: NDArray[np.uint64]
    numeric: NDArray[np.float64]
    categorical: NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class LabelColumns(_Columns):
    """Decoded labels of one partition, n rows.

    Attributes
    ----------
    label_time_ms, event_time_ms
        int64 (n,); the event time is that of the labelled transaction, -1 where the label does not say it.
    kind, source
        uint8 (n,): `models.vocabulary.LabelKind` and `worker.schema.LabelSource`.
    id_hash, id_check, card_hash
        uint64 (n,), equal to those of the transaction that is labelled.
    transaction_id
        Arrow strings of length n.
    value
        The records' bytes, Arrow large binary: an orphan is dead-lettered as it came.
    """

    label_time_ms: NDArray[np.int64]
    event_time_ms: NDArray[np.int64]
    kind: NDArray[np.uint8]
    source: NDArray[np.uint8]
    id_hash: NDArray[np.uint64]
    id_check: NDArray[np.uint64]
    card_hash: NDArray[np.uint64]
    transaction_id: pa.Array
    value: pa.Array
