"""Transactions with their truth, as columns in order of time; `replay` sends them, `backtest` scores them.

Columns are named by the user's `[transaction]` settings; no field name of any data set is known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.errors import SettingsError
from worker.offline.table_files import TableFile
from worker.settings.sections import TransactionFields

NEVER: Final = np.iinfo(np.int64).max
"""Label time of a row whose truth is not known."""


@dataclass(frozen=True, slots=True)
class TruthColumns:
    """Where a file keeps the truth.

    Attributes
    ----------
    fraud
        Column of booleans, of 0 and 1, or of the words fraud and legit; rows with empty cells have no label.
    time
        Column of the moments at which labels became known; empty cells take the delay. None: all take it.
    delay_days
        From a transaction to its label.
    """

    fraud: str
    time: str | None = None
    delay_days: float = 7.0


class Labels(NamedTuple):
    """Labels in the order in which they became known; equal times keep the order of the transactions.

    `row` indexes the data set.
    """

    row: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    is_fraud: NDArray[np.bool_]

    def take(self, chosen: NDArray[np.int64]) -> Labels:
        """Return those labels, in that order."""
        return Labels(self.row[chosen], self.time_ms[chosen], self.is_fraud[chosen])


@dataclass(frozen=True, slots=True)
class Dataset:
    """n transactions in order of event time.

    Attributes
    ----------
    fields
        The user's names of the columns.
    transaction_id, card_id
        Text, never missing.
    event_time_ms
        Epoch milliseconds, ascending, int64 (n,).
    amount
        Finite, float64 (n,).
    currency
        Text, null where missing; None where `fields` names no such column.
    entities, categorical
        By the user's field name: text, null where missing.
    numeric
        By the user's field name: float64 (n,), NaN where missing.
    is_fraud
        The truth, bool (n,); None if no row has one.
    label_time_ms
        When the truth became known, int64 (n,); `NEVER` where it did not. None exactly when `is_fraud` is.
    label_source
        Source of the label, `models.vocabulary.LabelSource`, uint8 (n,). None: chargebacks say fraud, analysts legit.
    """

    fields: TransactionFields
    transaction_id: pa.StringArray
    card_id: pa.StringArray
    event_time_ms: NDArray[np.int64]
    amount: NDArray[np.float64]
    currency: pa.StringArray | None
    entities: dict[str, pa.StringArray]
    numeric: dict[str, NDArray[np.float64]]
    categorical: dict[str, pa.StringArray]
    is_fraud: NDArray[np.bool_] | None = None
    label_time_ms: NDArray[np.int64] | None = None
    label_source: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return int(self.event_time_ms.size)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Whether a label says the truth of each row, bool (n,)."""
        if self.label_time_ms is None:
            return np.zeros(len(self), np.bool_)
        return np.asarray(self.label_time_ms != NEVER)

    @property
    def truth_known(self) -> NDArray[np.bool_]:
        """Whether figures may use `is_fraud` of each row, bool (n,)."""
        return self.labelled

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return those rows, in that order."""
        columns = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "fields"}
        return replace(self, **{name: _take(column, rows) for name, column in columns.items()})

    def with_label_delay(self, days: float) -> Self:
        """Return the same transactions, every known truth becoming known `days` after its event."""
        if self.label_time_ms is None:
            return self
        delayed = self.event_time_ms + round(days * MS_PER_DAY)
        return replace(self, label_time_ms=np.where(self.label_time_ms == NEVER, NEVER, delayed))

    def labels(self, *, frauds_only: bool = False) -> Labels:
        """Return the known labels in the order in which they became known."""
        if self.is_fraud is None or self.label_time_ms is None:
            none = np.empty(0, np.int64)
            return Labels(none, none, none.astype(np.bool_))
        known = self.label_time_ms != NEVER
        rows = np.flatnonzero(known & self.is_fraud if frauds_only else known)
        rows = rows[np.argsort(self.label_time_ms[rows], kind="stable")]
        return Labels(rows, self.label_time_ms[rows], self.is_fraud[rows])


def read_dataset(
    path: Path,
    transaction: TransactionFields,
    labels: TruthColumns | None = None,
    *,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> Dataset:
    """Read a file of transactions and put them in order of event time.

    Parameters
    ----------
    path
        CSV, Parquet or JSON lines; see `TableFile.read`.
    transaction
        The names of the columns. Numbers in the time column are read by `time_format`.
    labels
        Where the truth is; None for a file without it.
    start_ms, end_ms
        Keep events from `start_ms` on and before `end_ms`, epoch milliseconds.

    Raises
    ------
    SettingsError
        The file does not read, lacks a column, a column does not hold what its name promises, or no
        transaction is left.
    """
    file = TableFile.read(path, *_columns(transaction, labels))
    times_ms = file.times_ms(transaction.event_time, transaction.time_format)
    is_fraud, label_time_ms = _truth(file, transaction, labels, times_ms)
    whole = Dataset(
        fields=transaction,
        transaction_id=file.identifiers(transaction.transaction_id),
        card_id=file.identifiers(transaction.card_id),
        event_time_ms=times_ms,
        amount=file.finite_numbers(transaction.amount),
        currency=file.text(transaction.currency) if transaction.currency else None,
        entities={name: file.text(name) for name in transaction.entities},
        numeric={name: file.numbers(name) for name in transaction.numeric},
        categorical={name: file.text(name) for name in transaction.categorical},
        is_fraud=is_fraud,
        label_time_ms=label_time_ms,
    )
    return whole.take(_ordered_rows(path, times_ms, start_ms, end_ms))


def _columns(transaction: TransactionFields, labels: TruthColumns | None) -> tuple[dict[str, str], list[str]]:
    """Return, by column, the setting that names it; and the columns that are text."""
    columns: dict[str, str] = {}
    text: list[str] = []
    for setting, value in transaction:
        if setting == "time_format" or value is None:
            continue
        names = [value] if isinstance(value, str) else list(value)
        columns |= dict.fromkeys(names, f"transaction.{setting}")
        text += names if setting not in ("event_time", "amount", "numeric") else []
    if labels is not None:
        columns[labels.fraud] = "--fraud-column"
    if labels is not None and labels.time is not None:
        columns[labels.time] = "--label-time-column"
    return columns, text


def _truth(
    file: TableFile, transaction: TransactionFields, labels: TruthColumns | None, times_ms: NDArray[np.int64]
) -> tuple[NDArray[np.bool_] | None, NDArray[np.int64] | None]:
    if labels is None:
        return None, None
    is_fraud, unknown = file.truth(labels.fraud)
    label_time_ms = times_ms + round(labels.delay_days * MS_PER_DAY)
    if labels.time is not None:
        given_ms, absent = file.optional_times_ms(labels.time, transaction.time_format)
        # A label's date without its hour may lie before its transaction.
        label_time_ms = np.where(absent, label_time_ms, np.maximum(given_ms, times_ms))
    return is_fraud, np.where(unknown, NEVER, label_time_ms)


def _ordered_rows(
    path: Path, times_ms: NDArray[np.int64], start_ms: int | None, end_ms: int | None
) -> NDArray[np.int64]:
    if times_ms.size == 0:
        raise SettingsError(f"{path} holds no rows")
    inside = times_ms >= (times_ms.min() if start_ms is None else start_ms)
    rows = np.flatnonzero(inside & (times_ms < (NEVER if end_ms is None else end_ms)))
    if rows.size == 0:
        first, last = times_ms[[times_ms.argmin(), times_ms.argmax()]].astype("datetime64[ms]")
        raise SettingsError(
            f"{path} holds no event in the time asked for: all lie from {first} to {last} UTC"
        )
    return rows[np.argsort(times_ms[rows], kind="stable")]


def _take(column: Any, rows: NDArray[np.int64]) -> Any:
    if isinstance(column, Mapping):
        return {name: _take(each, rows) for name, each in column.items()}
    if isinstance(column, pa.Array):
        return column.take(pa.array(rows))
    return None if column is None else column[rows]
