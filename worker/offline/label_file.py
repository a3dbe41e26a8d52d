"""A file of labels apart from its transactions, as on the labels topic, joined by transaction id."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.vocabulary import LabelSource
from worker.errors import SettingsError
from worker.offline.label_delay import LabelDelay
from worker.offline.table_files import TableFile
from worker.redaction import redact
from worker.settings.fields import OUTCOME_WORDS, LabelFields

_NAMED: Final = 3
_SOURCES: Final = pa.array([source.name.lower() for source in [*LabelSource][1:]])
"""In the order of `LabelSource`, which counts from 1."""


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Where a file of labels is, and how it is read.

    Attributes
    ----------
    path
        CSV, Parquet or JSON lines, its columns named as in [label]. Only the transaction id and a label or an outcome
        are required.
    fields
        The names of the columns.
    delay
        From a transaction to its label, where the file names no time.
    silence_is_legit
        Whether a transaction without a label or an outcome counts as legit in figures; otherwise its truth is unknown.
        Either way no label of it arrives.
    """

    path: Path
    fields: LabelFields
    delay: LabelDelay = field(default_factory=LabelDelay)
    silence_is_legit: bool = True


class LabelMatches(NamedTuple):
    """How the labels of a file were joined.

    Attributes
    ----------
    labels, outcomes
        Rows of the file, the outcomes included; rows that say an outcome.
    unmatched, examples
        Rows of no transaction, and the first of their ids, card numbers struck out.
    superseded
        Labels that a later label of the same transaction overrules. They do not arrive.
    """

    labels: int
    outcomes: int
    unmatched: int
    examples: tuple[str, ...]
    superseded: int


class JoinedLabels(NamedTuple):
    """What the labels of a file say of n transactions.

    Attributes
    ----------
    labelled, is_fraud : bool (n,)
        Whether there is a label, and what it says.
    time_ms : int64 (n,)
        When the label became known; 0 without one.
    source : uint8 (n,)
        `models.vocabulary.LabelSource`.
    has_outcome : bool (n,)
        Whether an outcome says that someone acted.
    outcome_time_ms : int64 (n,)
        When it became known; 0 without one.
    matches
        How many labels found their transaction.
    """

    labelled: NDArray[np.bool_]
    is_fraud: NDArray[np.bool_]
    time_ms: NDArray[np.int64]
    source: NDArray[np.uint8]
    has_outcome: NDArray[np.bool_]
    outcome_time_ms: NDArray[np.int64]
    matches: LabelMatches


def join_labels(
    label_file: LabelFile, transaction_id: pa.StringArray, event_time_ms: NDArray[np.int64]
) -> JoinedLabels:
    """Read a file of labels and join it with n transactions.

    Of several labels of one transaction, the one of the latest time counts.

    Raises
    ------
    SettingsError
        The file does not read, lacks a column, or holds other words than those of a label.
    """
    fields, count = label_file.fields, len(transaction_id)
    file = TableFile.read(
        label_file.path,
        {fields.transaction_id: "label.transaction_id"},
        [fields.transaction_id, fields.label, fields.outcome, fields.source],
        optional=(fields.label, fields.outcome, fields.source, fields.label_time),
    )
    ids = file.text(fields.transaction_id)
    row = (
        pc.index_in(ids, value_set=transaction_id, skip_nulls=True)
        .fill_null(-1)
        .to_numpy(zero_copy_only=False)
    )
    own = {
        word: meaning == "fraud"
        for word, meaning in fields.values.items()
        if meaning in {"fraud", "legit", "reversal"}
    }
    is_fraud, unsaid = file.truth(fields.label, own)
    _require_words(file, fields, unsaid)
    sources = file.text(fields.source)
    source = pc.index_in(sources, value_set=_SOURCES).fill_null(-1).to_numpy() + 1
    source[(source == 0) & np.array(sources.is_valid())] = LabelSource.OTHER
    given_ms, no_time = file.optional_times_ms(fields.label_time, fields.time_format)
    happened_ms = event_time_ms[row]
    # A label's date without its hour may lie before its transaction.
    time_ms = np.where(
        no_time, happened_ms + label_file.delay.draw_ms(ids), np.maximum(given_ms, happened_ms)
    )
    # In order of time, so that the latest is the last one written to its row.
    matched = np.flatnonzero(row >= 0)
    matched = matched[np.argsort(time_ms[matched], kind="stable")]
    said, outcome = matched[~unsaid[matched]], matched[unsaid[matched]]
    labelled = _scattered(count, row[said], np.ones(len(said), np.bool_))
    unmatched = np.flatnonzero(row < 0)
    return JoinedLabels(
        labelled=labelled,
        is_fraud=_scattered(count, row[said], is_fraud[said]),
        time_ms=_scattered(count, row[said], time_ms[said]),
        source=_scattered(count, row[said], source[said].astype(np.uint8)),
        has_outcome=_scattered(count, row[outcome], np.ones(len(outcome), np.bool_)),
        outcome_time_ms=_scattered(count, row[outcome], time_ms[outcome]),
        matches=LabelMatches(
            labels=len(ids),
            outcomes=int(unsaid.sum()),
            unmatched=len(unmatched),
            examples=tuple(redact(str(ids[int(one)].as_py())) for one in unmatched[:_NAMED]),
            superseded=len(said) - int(labelled.sum()),
        ),
    )


def _require_words(file: TableFile, fields: LabelFields, unsaid: NDArray[np.bool_]) -> None:
    """Refuse a file whose outcomes are no known words, or whose rows say neither a label nor an outcome."""
    outcomes = file.text(fields.outcome)
    words = [word for word in outcomes.unique().to_pylist() if word is not None]
    odd = [word for word in words if word not in OUTCOME_WORDS]
    if odd:
        raise SettingsError(
            f"{file.path}: column {fields.outcome!r} holds {redact(odd[0])!r}; "
            f"make it one of {', '.join(OUTCOME_WORDS)}, or empty"
        )
    silent = np.flatnonzero(unsaid & np.array(outcomes.is_null()))
    if silent.size:
        raise SettingsError(
            f"{file.path}: {silent.size} rows, first {file.place(int(silent[0]) + 1)}, have neither {fields.label!r} "
            f"nor {fields.outcome!r}; set label.label to the column that says fraud or legit"
        )


def _scattered(count: int, row: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
    """Return `count` zeros with the values written to their rows, the later over the earlier."""
    column = np.zeros(count, values.dtype)
    column[row] = values
    return column
