"""What a stream of the quality table is; `registry` lists them all."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.offline.dataset import NEVER, Dataset
from worker.settings.fields import TransactionFields
from worker.settings.sections import Settings

ENTITY_KEY = "000102030405060708090a0b0c0d0e0f"

PROTOCOL = 1
"""Raised when baselines learn otherwise: what the cache has of them is then made anew."""

Rows = Callable[[Dataset], NDArray[np.bool_]]


class AbsentError(Exception):
    """The data of a stream are not on this machine; the message names what is missing."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """One stream with one seed.

    Attributes
    ----------
    dataset
        Its `is_fraud` and `label_time_ms` are what the worker and the baselines learn from.
    judged : bool (n,)
        The rows whose truth, `dataset.is_fraud`, is known and judged. A row may be judged whose label never arrives.
    entity_key
        Of the worker: it chooses which legits are kept as examples.
    """

    dataset: Dataset
    judged: NDArray[np.bool_]
    entity_key: str = ENTITY_KEY

    @property
    def fraud(self) -> NDArray[np.bool_]:
        """The truth, bool (n,); without meaning where not `judged`."""
        assert self.dataset.is_fraud is not None
        return self.dataset.is_fraud

    @property
    def label_time_ms(self) -> NDArray[np.int64]:
        """When each label arrives, int64 (n,); `NEVER` for silence."""
        assert self.dataset.label_time_ms is not None
        return self.dataset.label_time_ms

    @property
    def start_ms(self) -> int:
        """Midnight of the first day."""
        return int(self.dataset.event_time_ms[0]) // MS_PER_DAY * MS_PER_DAY

    @property
    def day(self) -> NDArray[np.int64]:
        """The day of each row, counted from the first day, int64 (n,)."""
        return (self.dataset.event_time_ms - self.start_ms) // MS_PER_DAY

    def key(self) -> str:
        """Return a digest of all that the worker reads and of what is judged."""
        digest = hashlib.blake2b(digest_size=16)
        if self.entity_key != ENTITY_KEY:
            digest.update(self.entity_key.encode())
        data = self.dataset
        numbers: list[NDArray[Any]] = [data.event_time_ms, data.amount, *data.numeric.values()]
        numbers += [self.judged, self.fraud, self.label_time_ms]
        for array in numbers:
            digest.update(np.ascontiguousarray(array).data)
        for name, text in {"card": data.card_id, **data.entities, **data.categorical}.items():
            coded = text.dictionary_encode()
            digest.update(repr((name, coded.dictionary.to_pylist())).encode())
            digest.update(coded.indices.fill_null(-1).to_numpy().data)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Window:
    """The evaluation days of one row of the table, counted from the first day of the stream.

    Attributes
    ----------
    first_day, end_day
        From the first one on and before the second.
    name
        What the row adds to the stream's name.
    rows
        Chooses among the rows of those days; None for all.
    published
        Figures of others on the same rows, for the Markdown table.
    """

    first_day: int
    end_day: int
    name: str = ""
    rows: Rows | None = None
    published: str = ""

    def holds(self, loaded: Loaded, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of some rows it judges, bool (k,)."""
        day = loaded.day[rows]
        held = (day >= self.first_day) & (day < self.end_day)
        return held if self.rows is None else held & self.rows(loaded.dataset)[rows]


@dataclass(frozen=True, slots=True)
class Stream:
    """One data set of the table, with its protocol.

    Attributes
    ----------
    name
        What rows begin with.
    about
        Where the data come from and how they become transactions and event time.
    load
        Makes the stream of a seed; raises `AbsentError`.
    tune_days
        First day and end of the days on which the settings of a baseline are chosen: before every window. Without a day
        between them the first setting is taken.
    windows
        What is judged; one row each.
    seeds
        A row is the mean over them.
    same_days
        Whether the seeds are entity keys of the worker over the same data, rather than other data.
    settings
        Sections of the worker's settings beside `transaction`.
    matured_days
        A baseline learns from rows at least this old, of either class: as long as the delay where that is constant,
        else as long as silence takes to mean legit.
    silence_is_legit
        Whether a baseline learns rows as legit whose label has not arrived; otherwise it leaves them out.
    money_only
        So few frauds that only savings are judged.
    hindsight
        Whether every setting of LightGBM is scored, to show what the best choice would have reached.
    """

    name: str
    about: str
    load: Callable[[int], Loaded]
    tune_days: tuple[int, int]
    windows: tuple[Window, ...]
    seeds: tuple[int, ...] = (0,)
    same_days: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    matured_days: float = 7.0
    silence_is_legit: bool = True
    money_only: bool = False
    hindsight: bool = False

    def __post_init__(self) -> None:
        if self.tune_days[1] > self.first_day:
            raise ValueError(f"{self.name}: settings would be chosen on days that are judged")

    @property
    def is_tuned(self) -> bool:
        """Whether there are days to choose settings on, and frauds to choose them by."""
        return self.tune_days[0] < self.tune_days[1] and not self.money_only

    @property
    def first_day(self) -> int:
        """The first day that any window judges."""
        return min(window.first_day for window in self.windows)

    @property
    def end_day(self) -> int:
        """The day before which all windows end."""
        return max(window.end_day for window in self.windows)

    @property
    def slug(self) -> str:
        """The name as part of a path."""
        return re.sub(r"[^a-z0-9.]+", "-", self.name.lower()).strip("-")

    def protocol_key(self) -> str:
        """Return a digest of what a baseline may learn and what it scores, beside the data."""
        protocol = (self.tune_days, self.first_day, self.end_day, self.matured_days, self.silence_is_legit)
        return hashlib.blake2b(repr((PROTOCOL, protocol)).encode(), digest_size=4).hexdigest()

    def row_name(self, window: Window) -> str:
        """Return the name of a row of the table."""
        name = f"{self.name}, {window.name}" if window.name else self.name
        return f"{name} (savings)" if self.money_only else name

    def with_settings(self, changes: Mapping[str, Mapping[str, Any]]) -> Stream:
        """Return the stream with other settings of the worker, by section."""
        others = {it: values for it, values in changes.items() if it != "transaction"}
        merged = {it: {**self.settings.get(it, {}), **others.get(it, {})} for it in {*self.settings, *others}}
        fields = changes.get("transaction")
        load = self.load if fields is None else partial(_load_declared, self.load, fields)
        return replace(self, settings=merged, load=load)

    def worker_settings(self, loaded: Loaded) -> Settings:
        """Return the settings of the worker on this stream."""
        return Settings(entity_key=loaded.entity_key, transaction=loaded.dataset.fields, **self.settings)


def _load_declared(load: Callable[[int], Loaded], changes: Mapping[str, Any], seed: int) -> Loaded:
    """Load a stream whose fields are declared otherwise."""
    loaded = load(seed)
    fields = TransactionFields.model_validate({**loaded.dataset.fields.model_dump(), **changes})
    return replace(loaded, dataset=replace(loaded.dataset, fields=fields))


def labels_at(event_time_ms: NDArray[np.int64], delay_days: NDArray[np.float64] | float) -> NDArray[np.int64]:
    """Return label times from delays, `NEVER` where a delay is NaN."""
    delay = np.broadcast_to(np.asarray(delay_days, np.float64), event_time_ms.shape)
    ms = np.round(np.nan_to_num(delay) * MS_PER_DAY).astype(np.int64)
    return np.where(np.isnan(delay), NEVER, event_time_ms + ms)
