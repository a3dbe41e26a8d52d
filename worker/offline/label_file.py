"""A file of labels apart from its transactions, as on the labels topic, joined by transaction id and card."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY, LabelSource
from worker.errors import SettingsError
from worker.offline.label_delay import LabelDelay
from worker.offline.table_files import TableFile
from worker.redaction import redact
from worker.settings.fields import LabelFields
from worker.wire.label_words import LabelWords

_NAMED: Final = 3
_SOURCES: Final = pa.array([source.name.lower() for source in [*LabelSource][1:]])
"""In the order of `LabelSource`, which counts from 1."""
_SAYS_FRAUD: Final = {"fraud": True, "legit": False, "reversal": False}
"""What a word of `[label.values]` means; the others mean outcomes."""


@dataclass(frozen=True, slots=True)
class LabelFile:
    """Where a file of labels is, and how it is read.

    Attributes
    ----------
    path
        CSV, Parquet or JSON lines, its columns named as in [label]. Only the transaction id and a label or an outcome
        are required, and the card where cards share ids.
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
        Labels beside another of the same transaction: those that repeat what it says, and earlier ones that say
        otherwise. They do not arrive.
    early
        Labels that are dated before their transaction: see `known_times_ms`.
    undated
        Rows that say no time.
    """

    labels: int
    outcomes: int
    unmatched: int
    examples: tuple[str, ...]
    superseded: int
    early: int = 0
    undated: int = 0


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


def known_times_ms(
    given_ms: NDArray[np.int64],
    happened_ms: NDArray[np.int64],
    given: NDArray[np.bool_],
    undated_ms: NDArray[np.int64],
) -> tuple[NDArray[np.int64], int]:
    """Return when labels became known, and how many are dated before their transaction.

    A date without an hour is known at the end of its day, and so is a midnight, unless it is that of the transaction in
    a column that has hours. No label is known before its transaction.
    One that is dated more than a day before says no time: that date stands for none, as 1970 does.

    Parameters
    ----------
    given_ms, happened_ms : int64 (m,)
        The time of each label, and of its transaction.
    given : bool (m,)
        Which of them say a time.
    undated_ms : int64 (m,)
        When each is known that says none.
    """
    is_midnight = given_ms % MS_PER_DAY == 0
    is_date = is_midnight & ((given_ms != happened_ms) | bool(is_midnight[given].all()))
    given_ms = np.where(is_date, given_ms + (MS_PER_DAY - 1), given_ms)
    says_when = given & (given_ms >= happened_ms - MS_PER_DAY)
    known_ms = np.where(says_when, np.maximum(given_ms, happened_ms), undated_ms)
    return known_ms, int(np.count_nonzero(given & (given_ms < happened_ms)))


def first_of_ids(ids: pa.StringArray, cards: pa.StringArray | None = None) -> NDArray[np.bool_]:
    """Return which rows are the first of their transaction id, on their card where cards are given, bool (n,)."""
    first = np.zeros(len(ids), np.bool_)
    first[np.unique(codes_of_ids(ids, cards), return_index=True)[1]] = True
    return first


def codes_of_ids(ids: pa.StringArray, cards: pa.StringArray | None = None) -> NDArray[np.int64]:
    """Return a number for each transaction id, on its card where cards are given, int64 (n,)."""
    codes: NDArray[np.int64] = ids.dictionary_encode().indices.to_numpy().astype(np.int64)
    if cards is None:
        return codes
    of_card = cards.dictionary_encode().indices.to_numpy()
    return np.asarray(codes * (int(of_card.max(initial=0)) + 1) + of_card, np.int64)


def join_labels(
    label_file: LabelFile,
    transaction_id: pa.StringArray,
    card_id: pa.StringArray,
    event_time_ms: NDArray[np.int64],
    decided: NDArray[np.int64],
) -> JoinedLabels:
    """Read a file of labels and join it with n transactions.

    Of several labels of one transaction, the one of the latest time counts.

    Parameters
    ----------
    label_file
        The file.
    transaction_id, card_id, event_time_ms
        Of the transactions: an id on two cards is two of them.
    decided
        The rows of those that a worker decides, in order of time: of several of one id the first has the labels.

    Raises
    ------
    SettingsError
        The file does not read, lacks a column, holds other words than those of a label, has labels of no transaction
        alone, or does not say of which card a label is although cards share ids.
    """
    fields, count = label_file.fields, len(transaction_id)
    file = TableFile.read(
        label_file.path,
        {fields.transaction_id: "label.transaction_id"},
        [fields.transaction_id, fields.card_id, fields.label, fields.outcome, fields.source],
        optional=(fields.card_id, fields.label, fields.outcome, fields.source, fields.label_time),
    )
    ids, cards = file.text(fields.transaction_id), file.text(fields.card_id)
    names_cards = cards.null_count < len(cards)
    theirs = transaction_id.take(pa.array(decided)), card_id.take(pa.array(decided))
    if not names_cards and not np.array_equal(first_of_ids(*theirs), first_of_ids(theirs[0])):
        raise SettingsError(
            f"{label_file.path} does not say of which card a label is, and several cards share a transaction id: add "
            f"a column {fields.card_id!r} (label.card_id)"
        )
    named = (ids, cards) if names_cards else (ids,)
    row = _rows_of(named, theirs[: len(named)], decided)
    if len(ids) and (row < 0).all():
        _refuse_strangers(label_file, named, (transaction_id, card_id)[: len(named)])
    own = {word: _SAYS_FRAUD.get(meaning) for word, meaning in fields.values.items()}
    is_fraud, unsaid = file.truth(fields.label, own)
    _require_words(file, fields, unsaid)
    sources = file.text(fields.source)
    source = pc.index_in(sources, value_set=_SOURCES).fill_null(-1).to_numpy() + 1
    source[(source == 0) & np.array(sources.is_valid())] = LabelSource.OTHER
    given_ms, no_time = file.label_times_ms(fields.label_time, fields.time_format, "label.time_format")
    happened_ms = event_time_ms[row]
    undated_ms = happened_ms + label_file.delay.draw_ms(ids)
    time_ms, early = known_times_ms(given_ms, happened_ms, ~no_time & (row >= 0), undated_ms)
    # In order of time, so that the latest verdict is the last one written to its row; of outcomes the first is.
    matched = np.flatnonzero(row >= 0)
    matched = matched[np.argsort(time_ms[matched], kind="stable")]
    said, outcome = matched[~unsaid[matched]], matched[unsaid[matched]][::-1]
    count_said = len(said)
    said = said[_says_something_new(row[said], is_fraud[said])]
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
            superseded=count_said - int(labelled.sum()),
            early=early,
            undated=int(np.count_nonzero(no_time)),
        ),
    )


def _rows_of(
    named: tuple[pa.StringArray, ...], own: tuple[pa.StringArray, ...], decided: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the row of each label, -1 where none of the transactions that are decided is named as it is.

    Parameters
    ----------
    named, own
        Ids and, where labels say it, cards: of the labels, and of the decided transactions in order of time.
    """
    label_key, own_key = np.zeros(len(named[0]), np.int64), np.zeros(len(own[0]), np.int64)
    is_named = np.ones(len(named[0]), np.bool_)
    for given, known in zip(named, own, strict=True):
        values = known.unique()
        at = pc.index_in(given, value_set=values, skip_nulls=True).fill_null(-1)
        code = np.array(at.to_numpy(zero_copy_only=False), np.int64)
        is_named &= code >= 0
        label_key = label_key * len(values) + code
        own_key = own_key * len(values) + pc.index_in(known, value_set=values).to_numpy()
    keys, first = np.unique(own_key, return_index=True)
    if not len(keys):
        return np.full(len(label_key), -1, np.int64)
    at = np.minimum(np.searchsorted(keys, label_key), len(keys) - 1)
    return np.where(is_named & (keys[at] == label_key), decided[first[at]], -1)


def _refuse_strangers(
    label_file: LabelFile, named: tuple[pa.StringArray, ...], own: tuple[pa.StringArray, ...]
) -> None:
    """Refuse labels none of which names a transaction, not even one that is refused itself.

    Parameters
    ----------
    label_file
        The file.
    named, own
        Ids and, where labels say it, cards: of the labels, and of all transactions.
    """
    fields, ids, everywhere = label_file.fields, named[0], np.arange(len(own[0]))
    if (_rows_of(named, own, everywhere) >= 0).any():
        return
    on_other_cards = int(np.count_nonzero(_rows_of(named[:1], own[:1], everywhere) >= 0))
    if on_other_cards:
        why = (
            f"but the ids of {on_other_cards:,} are there on other cards: {fields.card_id!r} (label.card_id) has to "
            "hold what transaction.card_id holds, the same token"
        )
    else:
        why = (
            f"first {redact(str(ids[0].as_py()))!r}: {fields.transaction_id!r} (label.transaction_id) has to hold what "
            "transaction.transaction_id holds"
        )
    raise SettingsError(f"{label_file.path}: none of its {len(ids):,} labels finds a transaction, {why}")


def _require_words(file: TableFile, fields: LabelFields, unsaid: NDArray[np.bool_]) -> None:
    """Refuse a file whose outcomes are no known words, or whose rows say neither a label nor an outcome."""
    outcomes, known = file.text(fields.outcome), LabelWords.of(fields).outcomes
    odd = [word for word in outcomes.unique().to_pylist() if word is not None and word not in known]
    if odd:
        raise SettingsError(
            f"{file.path}: column {fields.outcome!r} holds {redact(odd[0])!r}; make it one of {', '.join(known)}, or "
            "empty, or give the word a meaning in [label.values]"
        )
    acting = pa.array(
        [word for word, meaning in fields.values.items() if meaning not in _SAYS_FRAUD], pa.string()
    )
    acted = pc.is_in(pc.utf8_trim_whitespace(file.text(fields.label)), acting).to_numpy(zero_copy_only=False)
    silent = np.flatnonzero(unsaid & ~acted & np.array(outcomes.is_null()))
    if silent.size:
        raise SettingsError(
            f"{file.path}: {silent.size} rows, first {file.place(int(silent[0]) + 1)}, have neither {fields.label!r} "
            f"nor {fields.outcome!r}; set label.label to the column that says fraud or legit"
        )


def _says_something_new(row: NDArray[np.int64], is_fraud: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which labels, in order of time, say otherwise than the one before on their row: others repeat it."""
    by_row = np.argsort(row, kind="stable")
    is_new = np.ones(len(row), np.bool_)
    is_new[by_row[1:]] = (np.diff(row[by_row]) != 0) | (np.diff(is_fraud[by_row].view(np.int8)) != 0)
    return is_new


def _scattered(count: int, row: NDArray[np.int64], values: NDArray[Any]) -> NDArray[Any]:
    """Return `count` zeros with the values written to their rows, the later over the earlier."""
    column = np.zeros(count, values.dtype)
    column[row] = values
    return column
