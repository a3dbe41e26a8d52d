"""Transactions with their truth, as columns in order of time; `replay` sends them, `backtest` scores them.

Columns are named by the user's `[transaction]` settings; no field name of any data set is known here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY, LabelKind
from worker.errors import SettingsError
from worker.offline.file_gaps import FileGaps
from worker.offline.label_delay import LabelDelay
from worker.offline.label_file import LabelFile, LabelMatches, first_of_ids, join_labels, known_times_ms
from worker.offline.refusals import Mask, Refusal, Refusals
from worker.offline.table_files import TableFile
from worker.offline.undeclared import undeclared
from worker.settings.fields import NOT_FIELDS, TransactionFields

NEVER: Final = np.iinfo(np.int64).max
"""Label time of a row without a label."""
_MOST_REFUSED: Final = 0.5
"""A file of which a live worker would refuse a larger share is not what the settings say."""


@dataclass(frozen=True, slots=True)
class TruthColumns:
    """Where a file keeps the truth.

    Attributes
    ----------
    fraud
        Column of booleans, of 0 and 1, of fraud and legit, or of Y and N; rows with empty cells have no label.
    time
        Column of the moments at which labels became known; empty cells take the delay. None: all take it.
    empty_is_legit
        Whether rows with empty cells count as legit in figures; otherwise their truth is unknown.
    delay_days, delay_sigma, delay_seed
        From a transaction to its label: median, spread and seed of a `LabelDelay`; without a spread it is constant.
    """

    fraud: str
    time: str | None = None
    delay_days: float = 7.0
    delay_sigma: float = 0.0
    delay_seed: int = 0
    empty_is_legit: bool = False

    @property
    def delay(self) -> LabelDelay:
        """From a transaction to its label."""
        return LabelDelay(self.delay_days, self.delay_sigma, self.delay_seed)


class Labels(NamedTuple):
    """Labels in the order in which they became known; equal times keep the order of the transactions.

    `row` indexes the data set.
    """

    row: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    is_fraud: NDArray[np.bool_]


class Arrivals(NamedTuple):
    """Labels and outcomes in the order in which they became known.

    `row` indexes the data set; `kind` is a `models.vocabulary.LabelKind`.
    """

    row: NDArray[np.int64]
    time_ms: NDArray[np.int64]
    kind: NDArray[np.uint8]

    def take(self, chosen: NDArray[Any]) -> Arrivals:
        """Return those labels and outcomes, by a mask or in that order."""
        return Arrivals(self.row[chosen], self.time_ms[chosen], self.kind[chosen])


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
        When the label became known, int64 (n,); `NEVER` where there is none. None exactly when `is_fraud` is.
    label_source
        Source of the label, `models.vocabulary.LabelSource`, uint8 (n,). None: chargebacks say fraud, analysts legit.
    outcome_time_ms
        When an outcome said that someone acted, int64 (n,); `NEVER` where none did. None if there is no outcome.
    silence_is_legit
        Whether figures count a row without a label or an outcome as legit. The data set has no label of it either way.
    refused
        What the file holds beside these rows, and a live worker would refuse.
    matches
        How labels of a file of their own were joined; None without such a file.
    early_labels
        Labels that the file dates before their transaction: see `label_file.known_times_ms`.
    truth_from
        Where the truth comes from, in words.
    notes
        What a live worker would make of the same records otherwise, and what no setting names, a sentence each.
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
    outcome_time_ms: NDArray[np.int64] | None = None
    silence_is_legit: bool = False
    refused: tuple[Refusal, ...] = ()
    matches: LabelMatches | None = None
    early_labels: int = 0
    truth_from: str = "its labels"
    notes: tuple[str, ...] = ()

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
        if not self.silence_is_legit or self.is_fraud is None:
            return self.labelled
        if self.outcome_time_ms is None:
            return np.ones(len(self), np.bool_)
        return np.asarray(self.labelled | (self.outcome_time_ms == NEVER))

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return those rows, in that order."""
        columns = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(
            self, **{name: _take(column, rows) for name, column in columns.items() if name not in _SHARED}
        )

    def with_label_delay(self, days: float) -> Self:
        """Return the same transactions, every known truth becoming known `days` after its event."""
        if self.label_time_ms is None:
            return self
        delayed = self.event_time_ms + round(days * MS_PER_DAY)
        return replace(self, label_time_ms=np.where(self.label_time_ms == NEVER, NEVER, delayed))

    @property
    def end_ms(self) -> int:
        """The moment after the last transaction; where times are dates alone, the end of its day."""
        last_ms = int(self.event_time_ms[-1])
        return last_ms + (1 if (self.event_time_ms % MS_PER_DAY).any() else MS_PER_DAY)

    def arrivals(self, *, frauds_only: bool = False) -> Arrivals:
        """Return labels and outcomes in the order in which they became known; outcomes after labels of one time."""
        row, time_ms, is_fraud = self.labels(frauds_only=frauds_only)
        kind = np.where(is_fraud, np.uint8(LabelKind.FRAUD), np.uint8(LabelKind.LEGIT))
        if self.outcome_time_ms is not None:
            acted = np.flatnonzero((self.outcome_time_ms != NEVER) & self.has_a_say)
            row = np.concatenate([row, acted])
            time_ms = np.concatenate([time_ms, self.outcome_time_ms[acted]])
            kind = np.concatenate([kind, np.full(acted.size, LabelKind.OUTCOME, np.uint8)])
        order = np.argsort(time_ms, kind="stable")
        return Arrivals(row[order], time_ms[order], kind[order])

    @property
    def has_a_say(self) -> NDArray[np.bool_]:
        """Which rows' labels and outcomes reach a worker, bool (n,).

        That of a repeat would overrule what the first row of its id says, by which the decision is judged.
        """
        return first_of_ids(self.transaction_id, self.card_id)

    def labels(self, *, frauds_only: bool = False) -> Labels:
        """Return the known labels in the order in which they became known; repeats of an id have none."""
        if self.is_fraud is None or self.label_time_ms is None:
            none = np.empty(0, np.int64)
            return Labels(none, none, none.astype(np.bool_))
        known = (self.label_time_ms != NEVER) & self.has_a_say
        rows = np.flatnonzero(known & self.is_fraud if frauds_only else known)
        rows = rows[np.argsort(self.label_time_ms[rows], kind="stable")]
        return Labels(rows, self.label_time_ms[rows], self.is_fraud[rows])


_SHARED: Final = ("fields", "silence_is_legit", "refused", "matches", "early_labels", "truth_from", "notes")
"""Attributes of a `Dataset` that are no columns."""


def read_dataset(
    path: Path,
    transaction: TransactionFields,
    labels: TruthColumns | LabelFile | None = None,
    gaps: FileGaps | None = None,
    *,
    start_ms: int | None = None,
    end_ms: int | None = None,
) -> Dataset:
    """Read a file of transactions and put them in order of event time, without those that a live worker refuses.

    Parameters
    ----------
    path
        CSV, Parquet or JSON lines; see `TableFile.read`.
    transaction
        The names of the columns. Numbers in the time column are read by `time_format`.
    labels
        Where the truth is: columns of this file, or a file of its own; None for transactions without it.
    gaps
        What the file lacks; None for nothing.
    start_ms, end_ms
        Keep events from `start_ms` on and before `end_ms`, epoch milliseconds.

    Raises
    ------
    SettingsError
        The file does not read, lacks a column, a column does not hold what its name promises, a live worker would
        refuse most of its rows, or no transaction is left.
    """
    columns = labels if isinstance(labels, TruthColumns) else None
    if columns is not None:
        _refuse_truth_as_feature(transaction, columns)
    gaps = gaps or FileGaps()
    named_by, text = _columns(transaction, columns)
    may_lack = gaps.may_lack(transaction)
    required = {name: by for name, by in named_by.items() if name not in may_lack}
    file = TableFile.read(path, required, text, may_lack)
    times_ms, no_time = gaps.times_ms(file, transaction)
    whole = Dataset(
        fields=transaction,
        transaction_id=gaps.ids(file, transaction.transaction_id),
        card_id=gaps.ids(file, transaction.card_id),
        event_time_ms=times_ms,
        amount=file.numbers(transaction.amount),
        currency=file.text(transaction.currency) if transaction.currency else None,
        entities={name: file.text(name) for name in transaction.entities},
        numeric={name: file.numbers(name) for name in transaction.numeric},
        categorical={name: file.text(name) for name in transaction.categorical},
    )
    if len(whole) == 0:
        raise SettingsError(f"{path} holds no rows")
    refusals = _refusals(file, whole, no_time)
    if isinstance(labels, LabelFile):
        whole = _joined(whole, labels, _in_order(times_ms, refusals.good))
    elif labels is not None:
        whole = _with_truth(whole, file, labels)
    notes = (
        *gaps.notes(file, transaction),
        *_unlike_records(file, transaction, dated=gaps.time_step is None),
        *undeclared(file.others, transaction),
    )
    whole = replace(whole, refused=tuple(refusals.found), notes=notes)
    return whole.take(_ordered_rows(path, times_ms, refusals.good, start_ms, end_ms))


def _columns(transaction: TransactionFields, labels: TruthColumns | None) -> tuple[dict[str, str], list[str]]:
    """Return, by column, the setting that names it; and the columns that are text."""
    columns: dict[str, str] = {}
    text: list[str] = []
    for setting, value in transaction:
        if setting in NOT_FIELDS or value is None:
            continue
        names = [value] if isinstance(value, str) else list(value)
        # What is named twice, as in not_searched, is named by the first.
        columns |= dict.fromkeys((it for it in names if it not in columns), f"transaction.{setting}")
        text += names if setting not in ("event_time", "amount", "numeric") else []
    if labels is not None:
        columns[labels.fraud] = "--fraud-column"
    if labels is not None and labels.time is not None:
        columns[labels.time] = "--label-time-column"
    return columns, text


def _refuse_truth_as_feature(transaction: TransactionFields, labels: TruthColumns) -> None:
    """Refuse settings by which the worker would learn from the very answer."""
    declared, _ = _columns(transaction, None)
    for option, name in (("--fraud-column", labels.fraud), ("--label-time-column", labels.time)):
        if name in declared:
            raise SettingsError(
                f"{option} {name}: {declared[name]} names this column too, so the worker would learn from the answer; "
                f"take it out of {declared[name]}"
            )


def _refusals(file: TableFile, whole: Dataset, no_time: Mask) -> Refusals:
    """Return which rows a live worker would refuse and why; it validates the fields in this order."""
    names, refusals = whole.fields, Refusals(len(whole))
    refusals.identifier(names.transaction_id, whole.transaction_id)
    refusals.identifier(names.card_id, whole.card_id, token=names.card_id not in names.not_searched)
    refusals.time(names.event_time, whole.event_time_ms, no_time)
    refusals.amount(names.amount, whole.amount)
    if whole.currency is not None and names.currency is not None:
        refusals.text(names.currency, whole.currency)
    for name, numbers in whole.numeric.items():
        refusals.number(name, numbers)
    for name, texts in whole.categorical.items():
        refusals.text(name, texts)
    for name, texts in whole.entities.items():
        refusals.text(name, texts, token=name not in names.not_searched)
    refusals.name_lines(file.lines([it.first for it in refusals.found]))
    refused = len(whole) - int(refusals.good.sum())
    if refused > _MOST_REFUSED * len(whole):
        raise SettingsError(
            f"{file.path}: a live worker would refuse {refused:,} of {len(whole):,} rows: "
            f"{'; '.join(map(str, refusals.found))}. {refusals.remedy()}"
        )
    return refusals


def _unlike_records(file: TableFile, transaction: TransactionFields, *, dated: bool) -> Iterator[str]:
    """Yield what of a file of records is read here and refused live: a column may be cast, a record may not."""
    if not file.holds_records:
        return
    whole = [name for name in (*transaction.categorical, *transaction.entities) if file.holds_integers(name)]
    if whole and not transaction.integer_texts:
        yield (
            f"a live worker refuses records with integers in {', '.join(whole)}: set transaction.integer_texts = true"
        )
    required = [transaction.transaction_id, transaction.card_id]
    never = [name for name in required if file.holds_integers(name)]
    if never:
        yield f"a live worker refuses records with integers in {', '.join(never)}: it takes texts there"
    if dated and file.holds_dates(transaction.event_time) and transaction.time_format != "iso8601":
        yield (
            f"a live worker refuses records whose {transaction.event_time} is a text: set "
            'transaction.time_format = "iso8601"'
        )
    is_text = file.holds_texts(transaction.amount)
    if is_text != (transaction.amount_format == "text"):
        found = "text" if is_text else "number"
        yield (
            f"a live worker refuses records whose {transaction.amount} is a {found}: set "
            f'transaction.amount_format = "{found}"'
        )


def _with_truth(whole: Dataset, file: TableFile, labels: TruthColumns) -> Dataset:
    is_fraud, unknown = file.truth(labels.fraud)
    if unknown.all():
        raise SettingsError(
            f"--fraud-column {labels.fraud}: this column of {file.path} says of no transaction whether it is fraud: it "
            "is empty; name the column of 0 and 1, booleans, fraud and legit, or Y and N"
        )
    label_time_ms, early = whole.event_time_ms + labels.delay.draw_ms(whole.transaction_id), 0
    if labels.time is not None:
        # In seconds or milliseconds whatever the events are in: no setting says it of this column.
        given_ms, absent = file.label_times_ms(labels.time, None)
        if labels.delay.sigma > 0.0 and not (absent & ~unknown).any():
            raise SettingsError(
                f"--label-delay draws when labels without a time come, and each of {file.path} has a date in column "
                f"{labels.time!r}: leave one of --label-delay and --label-time-column out"
            )
        given = ~absent & ~unknown
        label_time_ms, early = known_times_ms(given_ms, whole.event_time_ms, given, label_time_ms)
    return replace(
        whole,
        is_fraud=is_fraud,
        label_time_ms=np.where(unknown, NEVER, label_time_ms),
        silence_is_legit=labels.empty_is_legit,
        early_labels=early,
        truth_from=f"column {labels.fraud!r}",
    )


def _joined(whole: Dataset, label_file: LabelFile, decided: NDArray[np.int64]) -> Dataset:
    joined = join_labels(label_file, whole.transaction_id, whole.card_id, whole.event_time_ms, decided)
    return replace(
        whole,
        is_fraud=joined.is_fraud,
        label_time_ms=np.where(joined.labelled, joined.time_ms, NEVER),
        label_source=joined.source,
        outcome_time_ms=np.where(joined.has_outcome, joined.outcome_time_ms, NEVER),
        silence_is_legit=label_file.silence_is_legit,
        matches=joined.matches,
        early_labels=joined.matches.early,
        truth_from=f"column {label_file.fields.label!r} of {label_file.path.name}",
    )


def _in_order(times_ms: NDArray[np.int64], chosen: Mask) -> NDArray[np.int64]:
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(times_ms[rows], kind="stable")]


def _ordered_rows(
    path: Path, times_ms: NDArray[np.int64], good: Mask, start_ms: int | None, end_ms: int | None
) -> NDArray[np.int64]:
    inside = good & (times_ms >= (times_ms[good].min() if start_ms is None else start_ms))
    rows = _in_order(times_ms, inside & (times_ms < (NEVER if end_ms is None else end_ms)))
    if rows.size == 0:
        first, last = np.array([times_ms[good].min(), times_ms[good].max()]).astype("datetime64[ms]")
        raise SettingsError(
            f"{path} holds no event in the time that --from and --to ask for: all lie from {first} to {last} UTC"
        )
    return rows


def _take(column: Any, rows: NDArray[np.int64]) -> Any:
    if isinstance(column, Mapping):
        return {name: _take(each, rows) for name, each in column.items()}
    if isinstance(column, pa.Array):
        return column.take(pa.array(rows))
    return None if column is None else column[rows]
