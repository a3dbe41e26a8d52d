"""What in a data set knows more than a live worker would: found, put right where possible, and named to the reader."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.evaluation import average_precision
from worker.offline.dataset import Dataset

TOO_GOOD: Final = 0.99
"""Average precision of one column alone from which on it must have been filled in after the fact."""
_MOST_VALUES: Final = 100
"""A text of more values separates any rows by chance."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A data set without what it could not have known.

    Attributes
    ----------
    dataset
        Without the columns that give the truth away; label times that lie before their transaction are moved.
    first : bool (n,)
        False for a repeat of a transaction id.
    notes
        What was found, one sentence each.
    """

    dataset: Dataset
    first: NDArray[np.bool_]
    notes: tuple[str, ...]


def cleaned(dataset: Dataset, default_delay_ms: int, *, trust_columns: bool) -> Cleaned:
    """Look for columns, label times and repeats that would make any figure too good.

    Parameters
    ----------
    dataset
        With its truth.
    default_delay_ms
        When a label that came before its transaction is taken to have come.
    trust_columns
        Keep columns that give the truth away.
    """
    notes: list[str] = []
    known = dataset.truth_known
    if not trust_columns and dataset.is_fraud is not None and known.any():
        names = _giveaways(dataset, dataset.is_fraud[known], known)
        dataset = _without(dataset, names)
        notes += [
            f"column {name!r} alone tells fraud from legit, so it was filled in once the truth was known: left out "
            "(--trust-columns keeps it)"
            for name in names
        ]
    dataset, moved = _with_possible_label_times(dataset, default_delay_ms)
    if moved:
        notes.append(
            f"{moved:,} labels are dated at or before their transaction: taken to have arrived "
            f"{default_delay_ms / 86_400_000:g} days after it"
        )
    first = first_of_ids(dataset.transaction_id)
    repeats = int(np.count_nonzero(~first))
    if repeats:
        notes.append(f"{repeats:,} transactions repeat an earlier transaction id: left out")
    return Cleaned(dataset, first, tuple(notes))


def first_of_ids(ids: pa.StringArray) -> NDArray[np.bool_]:
    """Return which rows are the first of their transaction id, bool (n,)."""
    codes = ids.dictionary_encode().indices.to_numpy()
    first = np.zeros(len(codes), np.bool_)
    first[np.unique(codes, return_index=True)[1]] = True
    return first


def _giveaways(dataset: Dataset, fraud: NDArray[np.bool_], known: NDArray[np.bool_]) -> list[str]:
    if not fraud.any() or fraud.all():
        return []
    rows = np.flatnonzero(known)
    found = [name for name, values in dataset.numeric.items() if _separates(fraud, values[rows])]
    for name, texts in dataset.categorical.items():
        codes = texts.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)[rows]
        _, code = np.unique(codes, return_inverse=True)
        if code.max() < _MOST_VALUES:
            shares = np.bincount(code, fraud) / np.bincount(code)
            if _separates(fraud, shares[code]):
                found.append(name)
    return found


def _separates(fraud: NDArray[np.bool_], values: NDArray[np.float64]) -> bool:
    present = np.isfinite(values)
    lowest = float(values[present].min()) if present.any() else 0.0
    filled = np.where(present, values, lowest - 1.0)
    candidates = (filled, -filled, present.astype(np.float64), (~present).astype(np.float64))
    return max(average_precision(fraud, candidate) for candidate in candidates) >= TOO_GOOD


def _without(dataset: Dataset, names: list[str]) -> Dataset:
    if not names:
        return dataset
    fields = dataset.fields
    kept = {
        kind: tuple(name for name in getattr(fields, kind) if name not in names)
        for kind in ("numeric", "categorical")
    }
    return replace(
        dataset,
        fields=fields.model_copy(update=kept),
        numeric={name: dataset.numeric[name] for name in kept["numeric"]},
        categorical={name: dataset.categorical[name] for name in kept["categorical"]},
    )


def _with_possible_label_times(dataset: Dataset, default_delay_ms: int) -> tuple[Dataset, int]:
    """Move labels that came before their transaction; where all labels come at once, that is their delay."""
    if dataset.label_time_ms is None:
        return dataset, 0
    early = dataset.labelled & (dataset.label_time_ms <= dataset.event_time_ms)
    if not early.any() or early.sum() == dataset.labelled.sum():
        return dataset, 0
    moved_ms = np.where(early, dataset.event_time_ms + default_delay_ms, dataset.label_time_ms)
    return replace(dataset, label_time_ms=moved_ms), int(early.sum())
