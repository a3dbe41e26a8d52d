"""Decodes the bytes of a topic's records into columns; sets aside what does not decode, with its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.hashing import siphash_many
from models.vocabulary import LabelKind, LabelSource
from worker.columns import ArrowColumns
from worker.identity import Hasher
from worker.kafka_io.record_batches import RecordColumns
from worker.settings.sections import Settings
from worker.wire.combined import with_combined
from worker.wire.json_reader import RecordLayout, Table, read_table
from worker.wire.label_words import LabelWords
from worker.wire.schema import DECODE_STAGE, MAX_RECORD_BYTES, Fault, label_model, transaction_model
from worker.wire.spans import Spans, Words, find_words, gather, gather_utf8

_NAMED: Final = [source for source in LabelSource if source not in {LabelSource.NONE, LabelSource.OTHER}]
_SOURCES: Final = Words.of([source.name.lower() for source in _NAMED])


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that goes to the dead letters.

    Attributes
    ----------
    topic, partition, offset, timestamp_ms
        Where it lies in Kafka.
    stage
        The step that refused it, such as `worker.wire.schema.DECODE_STAGE`.
    reason
        One word, such as those of `worker.wire.schema.Reason`: a metric's label.
    detail
        One sentence for the operator; never quotes the value.
    value
        The record's bytes, of a long record the first ones; None for a record without a value.
    value_bytes
        Length of the whole value.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    stage: str
    reason: str
    detail: str
    value: bytes | None
    value_bytes: int


@dataclass(frozen=True, slots=True)
class _PartitionColumns(ArrowColumns):
    """Rows of one partition in offset order.

    `next_offset` is the offset behind the last record read for these rows, bad records and gaps included. `take` keeps
    it: the caller has dealt with the rows that it leaves out.
    """

    next_offset: int
    offsets: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]

    def rows(self, start: int, stop: int) -> Self:
        """Return rows `start` to `stop` (excluded) as views; `next_offset` is then the next row, if there is one."""
        chosen = self.take(slice(start, stop))
        return chosen if stop >= len(self) else replace(chosen, next_offset=int(self.offsets[stop]))


@dataclass(frozen=True, slots=True)
class TransactionColumns(_PartitionColumns):
    """Decoded transactions of one partition: n rows, E entities, N numeric and C categorical fields.

    Attributes
    ----------
    event_time_ms : int64 (n,)
    claim_ms : int64 (n,)
        The time to which each may move its partition's clock; of the decoder, its event time.
    amount : float64 (n,)
    transaction_id, card_id, currency : string (n,)
        `currency` has nulls; it is None where no such field is declared.
    id_hash, id_check : uint64 (n,)
        SipHashes of the transaction id under two keys: together, 128 bits that verify it.
    card_hash : uint64 (n,)
    entity_hash : uint64 (n, E)
        0 where the entity is missing.
    numeric : float64 (n, N)
        NaN where the value is missing.
    categorical : uint64 (n, C)
        Hashes; 0 where the value is missing.
    texts : struct (n,)
        By name, the texts of the categorical fields and of the entities that alerts carry; None where there are none.
    """

    event_time_ms: NDArray[np.int64]
    claim_ms: NDArray[np.int64]
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
    texts: pa.Array | None = None


@dataclass(frozen=True, slots=True)
class LabelColumns(_PartitionColumns):
    """Decoded labels of one partition, n rows.

    Attributes
    ----------
    label_time_ms, event_time_ms : int64 (n,)
        The event time is that of the labelled transaction; -1 where the label does not name it.
    claim_ms : int64 (n,)
        When each is due: of the decoder, its label time; of one that was set aside, later than that, in a way that says
        what it waits for (`worker.partition.early_labels`).
    kind : uint8 (n,)
        `models.vocabulary.LabelKind`.
    source : uint8 (n,)
        `models.vocabulary.LabelSource`: counted by the metrics, without effect otherwise.
    id_hash, id_check : uint64 (n,)
        Equal to those of the labelled transaction.
    card_hash : uint64 (n,)
        Likewise.
    value : large_binary (n,)
        The records' bytes: an orphan goes to the dead letters unchanged.
    """

    label_time_ms: NDArray[np.int64]
    event_time_ms: NDArray[np.int64]
    claim_ms: NDArray[np.int64]
    kind: NDArray[np.uint8]
    source: NDArray[np.uint8]
    id_hash: NDArray[np.uint64]
    id_check: NDArray[np.uint64]
    card_hash: NDArray[np.uint64]
    value: pa.Array

    @classmethod
    def none(cls) -> LabelColumns:
        """Return no labels, as of no fetch."""
        columns = {name: cls._nothing(it, it.shape(0, {})) for name, it in cls.layout().items()}
        return cls(next_offset=-1, **columns | {"value": pa.array([], pa.large_binary())})

    @property
    def value_bytes(self) -> NDArray[np.int64]:
        """Length of each value, int64 (n,)."""
        lengths: NDArray[np.int64] = pc.binary_length(self.value).fill_null(0).to_numpy(zero_copy_only=False)
        return lengths


class Decoder:
    """Decodes the records of the two input topics; it raises on no bytes.

    Parameters
    ----------
    settings
        The user's field names, and the key of the hashes.
    """

    def __init__(self, settings: Settings) -> None:
        self._key = settings.hash_key
        self._check_key = Hasher(self._key).check_key
        transaction, label = settings.transaction, settings.label
        self._fields = transaction
        self._has_currency = transaction.currency is not None
        self._numeric = [f"numeric_{i}" for i in range(len(transaction.numeric))]
        self._categorical = [f"categorical_{i}" for i in range(len(transaction.categorical))]
        self._entities = [f"entity_{i}" for i in range(len(transaction.entities))]
        self._transaction = RecordLayout.of(
            transaction_model(transaction),
            transaction.time_format,
            amount_text=transaction.amount_format == "text",
            integer_texts=transaction.integer_texts,
        )
        self._texts = dict(zip(transaction.categorical, self._categorical, strict=True)) | {
            name: attribute
            for name, attribute in zip(transaction.entities, self._entities, strict=True)
            if name in settings.alerts.fields
        }
        self._words = _EncodedWords(LabelWords.of(label))
        self._label = RecordLayout.of(
            label_model(label, transaction), label.time_format, self._words.consistent
        )

    def transactions(self, records: RecordColumns) -> tuple[TransactionColumns, list[BadRecord]]:
        """Decode transactions; the good ones keep their order."""
        table, rows, faults = read_table(records, self._transaction)
        ids = table.texts("transaction_id")
        card_hash = _hashed(table.texts("card_id"), self._key)
        entity_hash, categorical = self._hashes(table, self._entities), self._hashes(table, self._categorical)
        numeric = _beside([table.numbers(name) for name in self._numeric], len(rows), np.float64)
        event_time_ms = table.times_ms["event_time"]
        columns = TransactionColumns(
            next_offset=records.next_offset,
            offsets=records.offsets[rows],
            timestamps_ms=records.timestamps_ms[rows],
            event_time_ms=event_time_ms,
            claim_ms=event_time_ms,
            amount=table.numbers("amount"),
            transaction_id=gather_utf8(ids),
            card_id=gather_utf8(table.texts("card_id")),
            currency=gather_utf8(table.texts("currency")) if self._has_currency else None,
            id_hash=_hashed(ids, self._key),
            id_check=_hashed(ids, self._check_key),
            card_hash=card_hash,
            entity_hash=with_combined(
                self._fields, card_hash, entity_hash, categorical, numeric, event_time_ms
            ),
            numeric=numeric,
            categorical=categorical,
            texts=self._kept(table),
        )
        return columns, bad_records(records, faults)

    def labels(self, records: RecordColumns) -> tuple[LabelColumns, list[BadRecord]]:
        """Decode labels; the good ones keep their order."""
        table, rows, faults = read_table(records, self._label)
        ids = table.texts("transaction_id")
        columns = LabelColumns(
            next_offset=records.next_offset,
            offsets=records.offsets[rows],
            timestamps_ms=records.timestamps_ms[rows],
            label_time_ms=table.times_ms["label_time"],
            event_time_ms=table.times_ms["event_time"],
            claim_ms=table.times_ms["label_time"],
            kind=self._words.kinds(table),
            source=_sources(table),
            id_hash=_hashed(ids, self._key),
            id_check=_hashed(ids, self._check_key),
            card_hash=_hashed(table.texts("card_id"), self._key),
            value=gather(table.spans),
        )
        return columns, bad_records(records, faults)

    def _kept(self, table: Table) -> pa.Array | None:
        """Return the texts that alerts need: only a hash is left of any other."""
        if not self._texts:
            return None
        columns = [gather_utf8(table.texts(attribute)) for attribute in self._texts.values()]
        return pa.StructArray.from_arrays(columns, names=[*self._texts])

    def _hashes(self, table: Table, names: list[str]) -> NDArray[np.uint64]:
        hashes = [_hashed(table.texts(name), self._key) for name in names]
        return _beside(hashes, len(table), np.uint64)


def _hashed(texts: Spans, key: tuple[int, int]) -> NDArray[np.uint64]:
    return siphash_many(texts.data, texts.start, texts.length, key)


def _beside(columns: list[NDArray[Any]], n: int, dtype: type[np.generic]) -> NDArray[Any]:
    """Return columns of length n side by side, C-contiguous; shape (n, 0) for no columns."""
    return np.stack(columns, axis=1) if columns else np.empty((n, 0), dtype=dtype)


class _EncodedWords:
    """The words of labels as bytes, and what the rows of a table say in them."""

    def __init__(self, words: LabelWords) -> None:
        self._labels = Words.of([*words.labels])
        self._kinds = np.array([*words.labels.values()], np.uint8)
        self._outcomes = Words.of([*words.outcomes])
        self._reversing = Words.of(words.reversing)

    def kinds(self, table: Table) -> NDArray[np.uint8]:
        """Return the `LabelKind` of each row, uint8 (n,); a row without a label states an outcome."""
        label = find_words(table.texts("label"), self._labels)
        kinds = np.where(label >= 0, self._kinds[label], np.uint8(LabelKind.OUTCOME))
        kinds[find_words(table.texts("source"), self._reversing) >= 0] = LabelKind.REVERSAL
        return kinds

    def consistent(self, table: Table) -> NDArray[np.bool_]:
        """Return which rows fulfil what `Label` demands of its fields together, bool (n,)."""
        texts = {name: table.texts(name) for name in ("label", "outcome", "source")}
        label, outcome = (
            find_words(texts[name], words)
            for name, words in (("label", self._labels), ("outcome", self._outcomes))
        )
        kind = np.where(label >= 0, self._kinds[label], np.uint8(LabelKind.OUTCOME))
        reverses = find_words(texts["source"], self._reversing) >= 0
        fits = (label >= 0) != (outcome >= 0)
        fits &= (kind == LabelKind.OUTCOME) | (texts["source"].length >= 0)
        fits &= ~reverses | (kind == LabelKind.LEGIT) | (kind == LabelKind.REVERSAL)
        # A text that is none of the words is refused, as the model's literals refuse it.
        for name, found in (("label", label), ("outcome", outcome)):
            fits &= (found >= 0) == (texts[name].length >= 0)
        return np.asarray(fits)


def _sources(table: Table) -> NDArray[np.uint8]:
    texts = table.texts("source")
    # `find_words` numbers the names from 0, `LabelSource` from 1.
    named = find_words(texts, _SOURCES) + 1
    other = np.where(texts.length >= 0, LabelSource.OTHER, LabelSource.NONE)
    return np.where(named > 0, named, other).astype(np.uint8)


def bad_records(records: RecordColumns, faults: list[tuple[int, Fault]]) -> list[BadRecord]:
    """Return the rows that have a fault as dead letters."""
    return [
        BadRecord(
            topic=records.topic,
            partition=records.partition,
            offset=int(records.offsets[row]),
            timestamp_ms=int(records.timestamps_ms[row]),
            stage=DECODE_STAGE,
            reason=fault.reason.value,
            detail=fault.detail,
            value=records.value(row, most=MAX_RECORD_BYTES),
            value_bytes=max(0, int(records.value_length[row])),
        )
        for row, fault in faults
    ]
