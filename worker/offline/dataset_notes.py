"""What in a file is probably not as its reader believes: named, and left as it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.offline.dataset import NEVER, Dataset
from worker.offline.day_counts import day_counts
from worker.offline.label_file import codes_of_ids, first_of_ids
from worker.redaction import printable, redact
from worker.settings.sections import Settings

_NAMED: Final = 4
_FAR: Final = 3.0
"""Rows lie far off where they are outside the middle of the events by more than so many times its length."""
_MIDDLE: Final = (1.0, 99.0)
_NO_CARDS_YET_MS: Final = 10 * 365 * MS_PER_DAY
"""No payment by card was recorded before 1980: such times are counted from another origin than 1970."""
_SEEN_ONCE: Final = 0.9
"""Cards are hardly ever seen again where there are so many for each transaction."""
_LATE: Final = 0.9
"""By the age of so many of the labelled frauds most others are labelled, too."""
_FEW: Final = 30
"""So many frauds at least say how long labels take, and so many labels up to when there are any."""
_MANY: Final = 1_000
_MANY_REPEATS: Final = 0.1
_MUCH: Final = 0.1
"""So much of the span of a file without any known truth is one that its owner keeps back."""


def what_to_know(dataset: Dataset) -> Iterator[str]:
    """Yield what a page says of its file: rows left out, labels without a transaction, and the `notes`."""
    for refusal in dataset.refused:
        yield f"left out, as a live worker refuses it: {printable(str(refusal))}"
    matches = dataset.matches
    if matches is not None and matches.unmatched:
        yield f"{matches.unmatched:,} of {matches.labels:,} labels find no transaction"
    yield from notes(dataset)


def notes(dataset: Dataset) -> Iterator[str]:
    """Yield what a reader of the figures should know of a data set, a sentence each."""
    yield from dataset.notes
    yield from _currencies(dataset)
    yield from _odd_times(dataset)
    yield from _unknown_origin(dataset)
    yield from _cards_seen_once(dataset)
    yield from day_counts(dataset)
    if dataset.early_labels:
        yield (
            f"{dataset.early_labels:,} labels are dated before their transaction: taken to have arrived with it, or, "
            "where dated more than a day before, as labels without a time; check "
            "the column of label times"
        )
    matches = dataset.matches
    if matches is not None and matches.labels and matches.undated == matches.labels:
        yield (
            "no label says when it became known: each is taken to come --label-delay-days after its payment; set "
            "label.label_time to the column that has it"
        )
    if dataset.is_fraud is None:
        return
    yield from _repeats(dataset, dataset.is_fraud)
    yield from _young_end(dataset, dataset.is_fraud)
    yield from _unknown_end(dataset)
    known = dataset.truth_known
    if known.any() and bool(dataset.is_fraud[known].all()):
        yield (
            "every transaction of known truth is a fraud, so precision, prevalence and costs say nothing: where an "
            "empty cell means legit, add --unlabelled legit"
        )
    elif not dataset.is_fraud.any():
        yield (
            "no transaction is known to be a fraud, so nothing can be learnt from labels, and neither ranking nor "
            "recall can be judged: check the column of truth, and which of its words mean fraud"
        )
    elif known.any() and not known.all() and not dataset.silence_is_legit:
        yield (
            f"of {int((~known).sum()):,} transactions the truth is not known: ranking, precision, reviews and all "
            "costs are of the others (a case is charged once if one of its alerts is of known truth), and say "
            "something of these too only where labels are a random sample; where an empty cell means legit, add "
            "--unlabelled legit"
        )


def taught_unknown(dataset: Dataset, settings: Settings) -> int:
    """Return how many rows of unknown truth the worker learns as legit, although labels say which ones are."""
    if dataset.is_fraud is None or settings.labels.silence != "legit" or dataset.silence_is_legit:
        return 0
    silent = ~dataset.labelled
    if dataset.outcome_time_ms is not None:
        silent &= dataset.outcome_time_ms == NEVER
    return int(np.count_nonzero(silent)) if (dataset.labelled & ~dataset.is_fraud).any() else 0


def _currencies(dataset: Dataset) -> Iterator[str]:
    if dataset.currency is None:
        return
    found = dataset.currency.drop_null().value_counts()
    if len(found) > 1:
        most = sorted(found.to_pylist(), key=lambda it: -it["counts"])
        named = ", ".join(redact(it["values"]) for it in most[:_NAMED])
        yield (
            f"amounts are in {len(found):,} currencies ({named}{', ...' if len(found) > _NAMED else ''}): costs and "
            "figures by value add them up as they are; convert them to one"
        )


def _odd_times(dataset: Dataset) -> Iterator[str]:
    times_ms = dataset.event_time_ms
    low, high = np.percentile(times_ms, _MIDDLE)
    margin_ms = _FAR * max(high - low, MS_PER_DAY)
    far = np.flatnonzero((times_ms < low - margin_ms) | (times_ms > high + margin_ms))
    if far.size:
        first = times_ms[far[:_NAMED]].astype("datetime64[ms]").astype("datetime64[s]")
        yield (
            f"{far.size:,} transactions lie far from all others ({', '.join(map(str, first))}"
            f"{', ...' if far.size > _NAMED else ''} UTC): what is given a day counts the time between; check the "
            "column of event times, or leave them out by --from and --to"
        )


def _unknown_origin(dataset: Dataset) -> Iterator[str]:
    last_ms = int(np.percentile(dataset.event_time_ms, _MIDDLE[1]))
    if last_ms < _NO_CARDS_YET_MS:
        last = np.datetime64(last_ms, "ms").astype("datetime64[D]")
        yield (
            f"times end about {last}, as those of a file do that counts from a day of its own: where that day "
            "is known, --time-step second with --time-origin reads true dates; where it is not, hours of the day are "
            "true only if the count began at midnight"
        )


def _cards_seen_once(dataset: Dataset) -> Iterator[str]:
    cards = len(dataset.card_id.unique())
    if cards > _SEEN_ONCE * len(dataset.card_id) and len(dataset.card_id) >= _MANY:
        yield (
            f"{cards:,} cards have {len(dataset.card_id):,} transactions: of most there is no history to learn from; "
            "where the file knows who is paid, or an account, set transaction.card_id to its column"
        )


def _young_end(dataset: Dataset, is_fraud: NDArray[np.bool_]) -> Iterator[str]:
    """Yield what to do about a file that was written when labels of its last days were on their way."""
    if dataset.label_time_ms is None:
        return
    found = np.flatnonzero(dataset.labelled & is_fraud)
    if len(found) < _FEW:
        return
    label_ms, event_ms = dataset.label_time_ms[found], dataset.event_time_ms[found]
    newest_ms = int(label_ms.max())
    usual_ms, late_ms = np.quantile(label_ms - event_ms, [0.5, _LATE])
    if usual_ms <= MS_PER_DAY or newest_ms > int(dataset.event_time_ms[-1]) + MS_PER_DAY:
        return
    end = np.datetime64(newest_ms - int(late_ms), "ms").astype("datetime64[D]")
    silent = dataset.truth_known & ~is_fraud & (dataset.event_time_ms > newest_ms - late_ms)
    if silent.any():
        yield (
            "no label comes after the last transaction, and a tenth of the frauds took longer than "
            f"{late_ms / MS_PER_DAY:.0f} days: among {int(silent.sum()):,} of the last transactions, which count as "
            f"legit, many a fraud is not known yet, and alerts on it seem false; leave them out with --to {end}"
        )


def _unknown_end(dataset: Dataset) -> Iterator[str]:
    """Yield where the truth ends, in a file such as one for a contest, whose later part is without it."""
    known = np.flatnonzero(dataset.truth_known)
    if len(known) < _FEW:
        return
    last_ms, end_ms = int(dataset.event_time_ms[known[-1]]), int(dataset.event_time_ms[-1])
    if end_ms - last_ms > _MUCH * (end_ms - int(dataset.event_time_ms[0])):
        end = np.datetime64(last_ms + MS_PER_DAY, "ms").astype("datetime64[D]")
        last = len(dataset) - int(known[-1]) - 1
        yield f"of the last {last:,} transactions no truth is known: leave them out with --to {end}"


def _repeats(dataset: Dataset, is_fraud: NDArray[np.bool_]) -> Iterator[str]:
    first = first_of_ids(dataset.transaction_id, dataset.card_id)
    if first.all():
        return
    repeats = len(first) - int(first.sum())
    if repeats > _MANY_REPEATS * len(first):
        yield (
            f"{repeats:,} of {len(first):,} rows repeat an id of their card, and the worker drops them: "
            "transaction.transaction_id has to name a column of a unique id"
        )
    _, codes = np.unique(codes_of_ids(dataset.transaction_id, dataset.card_id), return_inverse=True)
    truth = np.zeros(int(codes.max()) + 1, np.bool_)
    truth[codes[first]] = is_fraud[first]
    other = dataset.labelled & ~first & (truth[codes] != is_fraud)
    if other.any():
        yield (
            f"{int(other.sum()):,} repeats of a transaction id say otherwise than the first whether it is fraud: the "
            "worker drops repeats within batch.repeat_window, and what they say with them"
        )
