"""A data set as the columns that the decoder would make of its records."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.vocabulary import LabelSource
from worker.identity import Hasher
from worker.offline.dataset import Dataset
from worker.wire.combined import with_combined
from worker.wire.decoder import LabelColumns, TransactionColumns


def transaction_columns(dataset: Dataset, hasher: Hasher) -> TransactionColumns:
    """Return the data set as the decoder would read it from one partition."""
    count = len(dataset)
    card_hash = hasher.entities(dataset.card_id)
    entity_hash, categorical = (
        _matrix([hasher.entities(values) for values in texts.values()], count, np.uint64)
        for texts in (dataset.entities, dataset.categorical)
    )
    numeric = _matrix(list(dataset.numeric.values()), count, np.float64)
    return TransactionColumns(
        next_offset=count,
        offsets=np.arange(count),
        timestamps_ms=dataset.event_time_ms,
        event_time_ms=dataset.event_time_ms,
        claim_ms=dataset.event_time_ms,
        amount=dataset.amount,
        transaction_id=dataset.transaction_id,
        card_id=dataset.card_id,
        currency=dataset.currency,
        id_hash=hasher.entities(dataset.transaction_id),
        id_check=hasher.checks(dataset.transaction_id),
        card_hash=card_hash,
        entity_hash=with_combined(
            dataset.fields, card_hash, entity_hash, categorical, numeric, dataset.event_time_ms
        ),
        numeric=numeric,
        categorical=categorical,
    )


def label_columns(dataset: Dataset, transactions: TransactionColumns) -> LabelColumns:
    """Return the labels and outcomes of the data set, as of `Dataset.arrivals`, as the decoder would read them."""
    row, time_ms, kind = dataset.arrivals()
    return labels_of(transactions, row, time_ms, kind)


def labels_of(
    transactions: TransactionColumns,
    row: NDArray[np.int64],
    time_ms: NDArray[np.int64],
    kind: NDArray[np.uint8],
) -> LabelColumns:
    """Return m labels of transactions chosen by row, as the decoder would read them.

    Parameters
    ----------
    transactions
        The whole data set.
    row, time_ms : int64 (m,)
        The transaction of each label, and when it became known.
    kind : uint8 (m,)
        `models.vocabulary.LabelKind`.
    """
    count = len(row)
    return LabelColumns(
        next_offset=count,
        offsets=np.arange(count),
        timestamps_ms=time_ms,
        label_time_ms=time_ms,
        event_time_ms=transactions.event_time_ms[row],
        claim_ms=time_ms,
        kind=kind,
        source=np.full(count, LabelSource.NONE, np.uint8),
        id_hash=transactions.id_hash[row],
        id_check=transactions.id_check[row],
        card_hash=transactions.card_hash[row],
        value=pa.nulls(count, pa.large_binary()),
    )


def _matrix(columns: list[NDArray[Any]], count: int, dtype: type[np.generic]) -> NDArray[Any]:
    return np.column_stack(columns) if columns else np.empty((count, 0), dtype)
