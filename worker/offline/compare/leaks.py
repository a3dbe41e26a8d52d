"""What in a data set knows more than a live worker would: found, put right where possible, and named to the reader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.evaluation import average_precision, roc_auc
from models.vocabulary import MS_PER_MINUTE
from worker.offline.dataset import Dataset
from worker.offline.label_file import first_of_ids
from worker.redaction import redact

TOO_GOOD: Final = 0.99
"""Average precision of one column alone from which on it must have been filled in after the fact."""
_SUSPECT_AP: Final = 0.9
_SUSPECT_AUC: Final = 0.98
_LEAST_AUC: Final = 0.9
"""Figures of one column alone from which on it is named: it may be a good score, or filled in after the fact.

Where most rows are fraud, the average precision of noise is as high: to be named for it or left out, a column must
reach the least ROC AUC, too.
"""
_SUSPECT_SHARE: Final = 0.99
_LEAST_FRAUDS: Final = 30
"""So many frauds, and nearly nothing else, where a column is filled in (or empty): it is named, too."""
_TIMES_FEWER: Final = 10
"""So many times fewer legits than among all rows: where nearly all are fraud, most of what a column holds is."""
_MOST_VALUES: Final = 100
"""A text of more values separates any rows by chance; those that occur once count as one."""


_LOOKED_AT: Final = 100_000
"""So many rows show whether a column alone separates the classes, where all would take as long as the backtest."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A data set without what it could not have known.

    Attributes
    ----------
    dataset
        Without the columns that give the truth away, and without copies of rows under other ids where times name
        seconds; label times that lie before their transaction are moved.
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

    Columns are judged by every label, those of the test too: that takes columns away, and no figure gains by it.

    Parameters
    ----------
    dataset
        With its truth.
    default_delay_ms
        When a label that came before its transaction is taken to have come.
    trust_columns
        Keep columns that give the truth away, and name none.
    """
    dataset, notes = _without_copies(dataset)
    if not trust_columns:
        dataset, found = _without_giveaways(dataset)
        notes += found
    dataset, moved = _with_possible_label_times(dataset, default_delay_ms)
    if moved:
        notes.append(
            f"{moved:,} labels are dated at or before their transaction: taken to have arrived "
            f"{default_delay_ms / 86_400_000:g} days after it"
        )
    first = first_of_ids(dataset.transaction_id, dataset.card_id)
    repeats = int(np.count_nonzero(~first))
    if repeats:
        notes.append(f"{repeats:,} transactions repeat an earlier transaction id: left out")
    return Cleaned(dataset, first, tuple(notes))


def _without_copies(dataset: Dataset) -> tuple[Dataset, list[str]]:
    """Leave out rows that equal an earlier one under an id of their own, where times show that they are copies."""
    copies = _copies(dataset)
    if not copies.any():
        return dataset, []
    frauds = 0 if dataset.is_fraud is None else int(np.count_nonzero(dataset.is_fraud & copies))
    equal = (
        f"{int(copies.sum()):,} transactions ({frauds:,} of them frauds) have the card, time, amount and "
        "all declared fields of another one under an id of their own"
    )
    if _times_name_seconds(dataset):
        left = dataset.take(np.flatnonzero(~copies))
        return left, [f"{equal}: left out, as copies that oversampling makes"]
    return dataset, [
        f"{equal}: kept, for times without seconds do not part copies from payments; where oversampling made "
        "them, compare the file from before it"
    ]


def _times_name_seconds(dataset: Dataset) -> bool:
    """Return whether most times are no whole days, hours or minutes, within which a card may pay the same again."""
    return float(np.mean(dataset.event_time_ms % MS_PER_MINUTE != 0)) > 0.5


def _copies(dataset: Dataset) -> NDArray[np.bool_]:
    """Return which rows equal an earlier one in everything but their id, bool (n,); repeats of an id are none."""
    rows = np.flatnonzero(first_of_ids(dataset.transaction_id, dataset.card_id))
    group = np.zeros(len(rows), np.int64)
    for column in _everything_but_ids(dataset):
        _, code = np.unique(column[rows], return_inverse=True)
        _, group, sizes = np.unique(
            group * (code.max(initial=0) + 1) + code, return_inverse=True, return_counts=True
        )
        # Few rows are alike in card and time already, so that the other columns take no time.
        alike = sizes[group] > 1
        rows, group = rows[alike], group[alike]
    copies = np.zeros(len(dataset), np.bool_)
    copies[rows] = True
    copies[rows[np.unique(group, return_index=True)[1]]] = False
    return copies


def _everything_but_ids(dataset: Dataset) -> Iterator[NDArray[np.generic]]:
    yield _codes(dataset.card_id)
    yield dataset.event_time_ms
    yield dataset.amount
    if dataset.is_fraud is not None:
        yield dataset.is_fraud
        yield dataset.labelled
    yield from dataset.numeric.values()
    texts = [*dataset.entities.values(), *dataset.categorical.values()]
    yield from map(_codes, texts if dataset.currency is None else [*texts, dataset.currency])


def _codes(texts: pa.StringArray) -> NDArray[np.int64]:
    """Return a number for each text, and -1 where it is missing."""
    codes = texts.dictionary_encode().indices.fill_null(-1)
    return np.asarray(codes.to_numpy(zero_copy_only=False), np.int64)


class _Alone(NamedTuple):
    """How one column alone tells fraud from legit; `share` is that of `frauds` where it is as `state` says."""

    name: str
    ap: float
    auc: float
    of_frauds: int
    share: float
    frauds: int
    state: str

    @property
    def is_suspect(self) -> bool:
        pure = self.share >= _SUSPECT_SHARE and self.frauds >= _LEAST_FRAUDS
        return pure or self._ranks

    @property
    def tells_all(self) -> bool:
        return self.ap >= TOO_GOOD and self.auc >= _LEAST_AUC

    @property
    def _ranks(self) -> bool:
        # Of many columns of noise, one ranks a handful of frauds as high.
        by_precision = self.ap >= _SUSPECT_AP and self.auc >= _LEAST_AUC
        return self.of_frauds >= _LEAST_FRAUDS and (by_precision or self.auc >= _SUSPECT_AUC)

    def words(self) -> str:
        if self._ranks:
            found = f"alone reaches an average precision of {self.ap:.3f} (ROC AUC {self.auc:.3f})"
        else:
            found = f"is {self.state} for {self.frauds:,} frauds and hardly a legit transaction"
        return f"column {self.name!r} {found}: make sure that it is known when a transaction is decided"


def suspects(dataset: Dataset) -> list[str]:
    """Return a sentence on each column that alone nearly separates the classes, by some of the rows at most."""
    return [it.words() for it in _judged_columns(dataset, _LOOKED_AT) if it.is_suspect]


def _judged_columns(dataset: Dataset, most_rows: int | None = None) -> list[_Alone]:
    rows = np.flatnonzero(dataset.truth_known)
    if most_rows is not None:
        rows = rows[:: max(len(rows) // most_rows, 1)]
    if dataset.is_fraud is None or len(rows) == 0:
        return []
    fraud = dataset.is_fraud[rows]
    if not fraud.any() or fraud.all():
        return []
    return [_alone(name, fraud, scores, states) for name, scores, states in _columns(dataset, fraud, rows)]


def _without_giveaways(dataset: Dataset) -> tuple[Dataset, list[str]]:
    """Leave out the columns that alone separate the classes, and name those that nearly do."""
    judged = _judged_columns(dataset)
    names = [it.name for it in judged if it.tells_all and it.name != dataset.fields.amount]
    notes = [
        f"column {name!r} alone tells fraud from legit, so it was filled in once the truth was known: left out "
        "(--trust-columns keeps it)"
        for name in names
    ]
    notes += [it.words() for it in judged if it.name not in names and it.is_suspect]
    return _without(dataset, names), notes


_Scores = list[NDArray[np.float64]]


class _States(NamedTuple):
    """What a column is in each row, int64 (n,), as places in a list of words; the first one is `missing`."""

    of_row: NDArray[np.int64]
    words: list[str]


def _columns(
    dataset: Dataset, fraud: NDArray[np.bool_], rows: NDArray[np.int64]
) -> Iterator[tuple[str, _Scores, _States]]:
    """Yield each column by name, as scores of the rows, the last of them whether it is filled in, and its states."""
    yield dataset.fields.amount, _by_value(dataset.amount[rows]), _filled(np.isfinite(dataset.amount[rows]))
    for name, values in dataset.numeric.items():
        yield name, _by_value(values[rows]), _numbers(values[rows])
    for name, texts in dataset.categorical.items():
        yield name, _by_category(_codes(texts)[rows], fraud), _texts(texts.take(pa.array(rows)))
    # What an entity did is learnt as it happens; only that it is named at all can be known too early.
    for name, texts in dataset.entities.items():
        present = _codes(texts)[rows] >= 0
        yield name, [present.astype(np.float64)], _filled(present)


def _filled(present: NDArray[np.bool_]) -> _States:
    return _States(present.astype(np.int64), ["missing", "filled in"])


def _numbers(values: NDArray[np.float64]) -> _States:
    """Tell numbers apart where there are few; of others, which are there at all."""
    present = np.isfinite(values)
    found, code = np.unique(values[present], return_inverse=True)
    if len(found) > _MOST_VALUES:
        return _filled(present)
    of_row = np.zeros(len(values), np.int64)
    of_row[present] = code + 1
    return _States(of_row, ["missing", *(f"{it:g}" for it in found.tolist())])


def _texts(texts: pa.StringArray) -> _States:
    coded = texts.dictionary_encode()
    if len(coded.dictionary) > _MOST_VALUES:
        return _filled(np.asarray(texts.is_valid()))
    names = [repr(redact(it)) for it in coded.dictionary.to_pylist()]
    return _States(np.asarray(coded.indices.fill_null(-1)).astype(np.int64) + 1, ["missing", *names])


def _by_value(values: NDArray[np.float64]) -> _Scores:
    present = np.isfinite(values)
    lowest = float(values[present].min()) if present.any() else 0.0
    filled = np.where(present, values, np.nextafter(lowest, -np.inf))
    return [filled, -filled, present.astype(np.float64)]


def _by_category(codes: NDArray[np.int64], fraud: NDArray[np.bool_]) -> _Scores:
    _, code, sizes = np.unique(codes, return_inverse=True, return_counts=True)
    # A reference of its own for each fraud says no more than that there is one.
    _, code = np.unique(np.where(sizes[code] > 1, code, -1), return_inverse=True)
    present = (codes >= 0).astype(np.float64)
    if code.max() >= _MOST_VALUES:
        return [present]
    return [(np.bincount(code, fraud) / np.bincount(code))[code], present]


def _alone(name: str, fraud: NDArray[np.bool_], scores: _Scores, states: _States) -> _Alone:
    ap, auc = (
        max(measure(fraud, it) for it in (*scores, 1.0 - scores[-1]))
        for measure in (average_precision, roc_auc)
    )
    count = len(states.words)
    rows, frauds = (np.bincount(states.of_row, weight, count) for weight in (None, fraud))
    words = states.words
    if count > 2:
        # Several values, of which each may have few frauds: together they are what is not missing, the first state.
        rows, frauds = np.append(rows, rows[1:].sum()), np.append(frauds, frauds[1:].sum())
        words = [*words, "filled in"]
    # One state of all rows says nothing, nor does one of a handful of frauds, or of as many legits as others.
    few_legits = (rows - frauds) * _TIMES_FEWER <= rows * float(np.mean(~fraud))
    says = (frauds >= _LEAST_FRAUDS) & (rows < len(fraud)) & few_legits
    share = np.where(says, frauds / np.maximum(rows, 1), 0.0)
    at = int(share.argmax())
    return _Alone(name, ap, auc, int(fraud.sum()), float(share[at]), int(frauds[at]), words[at])


def _without(dataset: Dataset, names: list[str]) -> Dataset:
    if not names:
        return dataset
    fields = dataset.fields
    kept = {
        kind: tuple(name for name in getattr(fields, kind) if name not in names)
        for kind in ("numeric", "categorical", "entities")
    }
    # What is joined of a column that is gone goes with it.
    combined = tuple(name for name in fields.combined if not set(name.split("+")) & set(names))
    place = () if set(fields.place) & set(names) else fields.place
    ages = tuple(name for name in fields.ages if name not in names)
    return replace(
        dataset,
        fields=fields.model_copy(update={**kept, "combined": combined, "place": place, "ages": ages}),
        entities={name: dataset.entities[name] for name in kept["entities"]},
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
    # Who reads a file takes early labels to come with their transaction, where not much earlier: here they come later.
    left = max(dataset.early_labels - int(early.sum()), 0)
    return replace(dataset, label_time_ms=moved_ms, early_labels=left), int(early.sum())
