"""What a kept bar owes to the day of the week on which it is refitted.

A weekly refit is lucky or not with what happens between two of them. A worker that learns day by day has no such day to
choose, so a bar that only one of them reaches says less than one that all do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation import average_precision
from tests.tools.quality.families import FAMILIES, Family, Setting, setting_name
from tests.tools.quality.journal import FeatureSet, Unit
from tests.tools.quality.recorded import family_of, read_recorded
from tests.tools.quality.refits import REFIT_DAYS, scores, stretch
from tests.tools.quality.streams import Loaded, Stream


@dataclass(frozen=True, slots=True)
class Weekdays:
    """One bar on one seed.

    Attributes
    ----------
    row, seed
        What is judged.
    weekly
        Average precision with the first refit so many days before the first judged day, from none to six.
    daily
        The same, refitted every day.
    """

    row: str
    seed: int
    weekly: tuple[float, ...]
    daily: float

    def __str__(self) -> str:
        weekly = ", ".join(f"{it:.3f}" for it in self.weekly)
        return f"{self.row}, seed {self.seed}: refitted weekly {weekly}; daily {self.daily:.3f}"


def of_stream(stream: Stream, seed: int) -> list[Weekdays]:
    """Refit the kept bars of a stream on each day of the week, and daily, on the newest features of the cache."""
    loaded = stream.load(seed)
    stored = Unit(stream, seed, loaded).stored()
    bars, found = read_recorded(), []
    for window in stream.windows if stored and not stream.money_only else ():
        name = stream.row_name(window)
        rows = stretch(loaded, stream.first_day, stream.end_day)
        rows = rows[window.holds(loaded, rows)]
        for family, setting in _of_bar(bars.get(name, {"bar": "", "setting": ""})):
            made = [
                _ap(family, setting, stream, loaded, stored[-1], rows, before, every)
                for before, every in (*((it, REFIT_DAYS) for it in range(REFIT_DAYS)), (0, 1))
            ]
            found.append(Weekdays(name, seed, tuple(made[:-1]), made[-1]))
    return found


def _of_bar(bar: dict[str, str]) -> list[tuple[Family, Setting]]:
    return [
        (family, setting)
        for family in FAMILIES
        for setting in family.settings
        if family.name == family_of(bar["bar"]) and setting_name(setting) == bar["setting"]
    ]


def _ap(
    family: Family,
    setting: Setting,
    stream: Stream,
    loaded: Loaded,
    features: FeatureSet,
    rows: NDArray[np.int64],
    before: int,
    every: int,
) -> float:
    days = (stream.first_day - before, stream.end_day)
    made = scores(family, setting, stream, loaded, features.matrix, features.categorical, days, every)
    its = np.isin(stretch(loaded, *days), rows)
    return average_precision(loaded.fraud[rows], made[its].astype(np.float64))
