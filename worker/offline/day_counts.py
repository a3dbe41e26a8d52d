"""Numbers of a file that count days since a date which stays, though nobody has declared them as `transaction.ages`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.feature_layout import counted_from
from models.vocabulary import MS_PER_DAY
from worker.offline.dataset import Dataset
from worker.redaction import redact
from worker.settings.report import as_toml

_OF_A_CARD: Final = 30
"""Of so many payments of a card: among thousands, many agree on anything by chance."""
_MOST: Final = 100_000
"""So many payments are looked at: a file may have hundreds of numbers, and its reader waits."""
_FEWEST: Final = 100
"""So many pairs of payments must agree on a date."""
_CLEARLY: Final = 3.0
"""So many times as many agree on a date as on the number itself, or on a date to which it would count down."""
_CLOCK: Final = 0.95
"""What goes so closely with time, as a correlation, is a clock: it counts for all alike."""
_SHARED: Final = 1.5
"""Of so many dates in the mean, a card is of more than one account."""


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    pairs: int
    dates_a_card: float


def day_counts(dataset: Dataset) -> Iterator[str]:
    """Yield which numbers count days, with the settings by which the worker learns from their dates."""
    fields = dataset.fields
    names = [it for it in fields.numeric if it not in fields.ages]
    if not names:
        return
    card, rows = _first_payments(dataset)
    found = [it for name in names if (it := _found(dataset, name, card, rows)) is not None]
    if not found:
        return
    listed = as_toml([*fields.ages, *(redact(it.name) for it in found)])
    said = ", ".join(redact(it.name) for it in found) + (": each counts" if len(found) > 1 else ": counts")
    yield (
        f"{said} days since a date that stays, as payments of one card on different days show; to learn from the date "
        f"write below [transaction] ages = {listed}{_as_entity(dataset, found)}"
    )


def _as_entity(dataset: Dataset, found: list[_Found]) -> str:
    most = max(found, key=lambda it: it.pairs)
    if most.dates_a_card < _SHARED:
        return ""
    fields = dataset.fields
    joined = f"{redact(fields.card_id)}+{redact(most.name)}"
    entities = as_toml([*fields.entities, *fields.combined, joined])
    return (
        f"; a card has {most.dates_a_card:.1f} dates in the mean, as where accounts share its number, so entities = "
        f"{entities} gives each account a history of its own"
    )


def _first_payments(dataset: Dataset) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the card's code and the row of the first payments of each card, as many as are looked at, int64 (k,)."""
    coded = dataset.card_id.dictionary_encode()
    card = coded.indices.to_numpy().astype(np.int64)
    order = np.argsort(card, kind="stable")
    starts = np.searchsorted(card[order], np.arange(len(coded.dictionary)))
    nth = np.arange(len(card)) - starts[card[order]]
    rows = order[nth < _OF_A_CARD]
    # Whole cards: those that come first in the file.
    rows = rows[card[rows] < card[rows[_MOST]]] if len(rows) > _MOST else rows
    return card[rows], rows


def _found(dataset: Dataset, name: str, card: NDArray[np.int64], rows: NDArray[np.int64]) -> _Found | None:
    number, time_ms = dataset.numeric[name][rows], dataset.event_time_ms[rows]
    # Nought agrees with nought: new accounts share no date for that.
    date = counted_from(number[:, None], time_ms)[:, 0]
    usable = np.isfinite(date) & (number >= 1.0)
    if np.count_nonzero(usable) < _FEWEST:
        return None
    card, number, time_ms, date = card[usable], number[usable], time_ms[usable], date[usable]
    day = time_ms // MS_PER_DAY
    if np.ptp(number) == 0 or np.ptp(day) == 0 or np.corrcoef(number, time_ms)[0, 1] > _CLOCK:
        return None
    pairs = _agreeing(card, date, day)
    if pairs < _FEWEST:
        return None
    counted_down = np.floor(time_ms / MS_PER_DAY + number)
    if pairs < _CLEARLY * max(_agreeing(card, np.floor(number), day), _agreeing(card, counted_down, day)):
        return None
    return _Found(name, pairs, _dates(card, date) / len(np.unique(card)))


def _dates(card: NDArray[np.int64], date: NDArray[np.float64]) -> int:
    """Return how many dates all cards have: two days in a row are one, for a number of whole days is rounded."""
    order = np.lexsort([date, card])
    return 1 + int(np.count_nonzero((np.diff(card[order]) != 0) | (np.diff(date[order]) > 1.0)))


def _agreeing(card: NDArray[np.int64], value: NDArray[np.float64], day: NDArray[np.int64]) -> int:
    """Return how many pairs of payments of one card on different days have one value."""
    return _pairs(card, value) - _pairs(card, value, day)


def _pairs(*keys: NDArray[Any]) -> int:
    order = np.lexsort(keys)
    same = np.logical_and.reduce([np.diff(it[order]) == 0 for it in keys])
    ends = np.flatnonzero(np.concatenate([~same, [True]]))
    counts = np.diff(np.concatenate([[-1], ends])).astype(np.int64)
    return int((counts * (counts - 1) // 2).sum())
