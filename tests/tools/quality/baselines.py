"""Makes the baselines: settings chosen on earlier days, then scores of the judged rows; all of it resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.evaluation import average_precision
from tests.tools.quality import registry
from tests.tools.quality.cache import read_arrays, read_json, write_arrays, write_json
from tests.tools.quality.curves import DayCurves
from tests.tools.quality.families import FAMILIES, LIGHTGBM, LIGHTGBM_CODED, Family, Setting, setting_name
from tests.tools.quality.journal import FeatureSet, Unit, features_of, run_worker
from tests.tools.quality.progress import say as say_at_once
from tests.tools.quality.recorded import STEPS, Remade, read_recorded, settings_of
from tests.tools.quality.refits import REFIT_DAYS, scores, stretch
from tests.tools.quality.streams import Loaded, Stream

Say = Callable[[str], None]


class Baseline(NamedTuple):
    """What one family scored on one stream and seed.

    Attributes
    ----------
    family, setting, features
        The family's name, the setting's, and the version of the features.
    score : float32 (k,)
        Of the judged rows from the first window's first day to the last one's end.
    """

    family: str
    setting: str
    features: str
    score: NDArray[np.float32]


def make_baselines(stream: Stream, seed: int, families: Sequence[Family], say: Say) -> None:
    """Make whatever the cache lacks of a stream and seed; settings are chosen with the stream's first seed."""
    loaded, unit = _journalled(stream, seed, say)
    choices = _Choices(stream, seed, loaded, unit, say)
    for at, features in enumerate(unit.stored()):
        for family in families:
            if not family.settings_for(features.categorical) or (
                stream.money_only and family is not LIGHTGBM
            ):
                continue
            best = choices.of(family, at)
            tried = stream.hindsight and seed == stream.seeds[0] and family in (LIGHTGBM, LIGHTGBM_CODED)
            every = family.settings_for(features.categorical) if tried else ()
            for setting in (best, *(it for it in every if it != best)):
                _evaluate(family, setting, stream, seed, loaded, unit, features, say)


def make_recorded(
    stream: Stream, seed: int, families: Sequence[Family], say: Say, *, others: bool = False
) -> list[Remade]:
    """Make those baselines anew that the repository keeps of a stream, on one seed, each with the setting it has.

    Parameters
    ----------
    families
        Only these.
    others
        Also those of which the repository keeps nothing, each with the setting that is chosen.
    """
    loaded, unit = _journalled(stream, seed, say)
    choices = _Choices(stream, seed, loaded, unit, say)
    rows, bars, found = stretch(loaded, stream.first_day, stream.end_day), read_recorded(), []
    for window in stream.windows if not stream.money_only else ():
        name, inside = stream.row_name(window), window.holds(loaded, rows)
        kept = settings_of(bars[name]) if name in bars else {}
        fraud, day = loaded.fraud[rows[inside]], np.unique(loaded.day[rows[inside]], return_inverse=True)[1]
        wanted = [it for it in families if others or it.name in kept]
        for family, (at, features) in product(wanted, enumerate(unit.stored())):
            settings = family.settings_for(features.categorical)
            if not settings:
                continue
            again = [it for it in settings if setting_name(it) == kept.get(family.name)]
            setting = again[0] if again else choices.of(family, at)
            made = _evaluate(family, setting, stream, seed, loaded, unit, features, say)
            score = made[inside].astype(np.float64)
            days = DayCurves.of(fraud, score, day).joined(STEPS)
            its = name, family.name, setting_name(setting), features.version, fraud.size
            found.append(Remade(*its, average_precision(fraud, score), days))
    return found


def make_recorded_named(name: str, seed: int, families: Sequence[str], others: bool) -> list[Remade]:
    """Make them of a stream of the registry, in a process that can be given only names."""
    chosen = [it for it in FAMILIES if it.name in families]
    return make_recorded(registry.by_name(name), seed, chosen, say_at_once, others=others)


def _journalled(stream: Stream, seed: int, say: Say) -> tuple[Loaded, Unit]:
    """Return a stream and its folder, in which there are features."""
    loaded = stream.load(seed)
    unit = Unit(stream, seed, loaded)
    if not unit.stored():
        say(f"{stream.name}, seed {seed}: the worker journals its features")
        unit.keep(features_of(stream, loaded, run_worker(stream, loaded)[0]))
    return loaded, unit


def chosen_setting(family: Family, stream: Stream, unit: Unit, features: FeatureSet) -> Setting | None:
    """Return the setting that was best on the days before the evaluation; None while it is not known."""
    settings = family.settings_for(features.categorical)
    if len(settings) <= 1 or not stream.is_tuned:
        return next(iter(settings), None)
    tuned = [_tuned(unit.results(features), family, setting) for setting in settings]
    if not all(path.is_file() for path in tuned):
        return None
    found = [read_json(path)["ap"] for path in tuned]
    best = int(np.nanargmax([-1.0 if it is None else it for it in found]))
    return settings[best]


def read_baselines(stream: Stream, families: Sequence[Family], unit: Unit, first: Unit) -> list[Baseline]:
    """Return what the cache has of a stream and seed; `first` is the unit of its first seed, which chose."""
    found = []
    for features, chosen_on in zip(unit.stored(), first.stored(), strict=False):
        for family in families:
            setting = chosen_setting(family, stream, first, chosen_on)
            if setting is None:
                continue
            path = _scored(unit.results(features), family, setting)
            if path.is_file():
                name = setting_name(setting)
                found.append(Baseline(family.name, name, features.version, read_arrays(path)["score"]))
    return found


def read_settings(family: Family, unit: Unit) -> list[NDArray[np.float32]]:
    """Return what every setting scored that the cache has, chosen or not."""
    paths = [
        _scored(unit.results(features), family, setting)
        for features in unit.stored()
        for setting in family.settings
    ]
    return [read_arrays(path)["score"] for path in paths if path.is_file()]


class _Choices:
    """The settings that are best on the days before the evaluation, of a stream's first seed."""

    def __init__(self, stream: Stream, seed: int, loaded: Loaded, unit: Unit, say: Say) -> None:
        self._stream, self._say = stream, say
        self._known = {seed: (loaded, unit)}

    def of(self, family: Family, at: int) -> Setting:
        """Return a family's setting on the features of that place among the stored ones."""
        # A seed may have no current features yet where another one has: its choice on the frozen ones stands.
        _, unit = self._first()
        stored = unit.stored()
        features = stored[min(at, len(stored) - 1)]
        settings = family.settings_for(features.categorical)
        if len(settings) > 1 and self._stream.is_tuned:
            for setting in settings:
                self._tune(family, setting, features)
        best = chosen_setting(family, self._stream, unit, features)
        assert best is not None
        return best

    def _first(self) -> tuple[Loaded, Unit]:
        seed = self._stream.seeds[0]
        if seed not in self._known:
            self._known[seed] = _journalled(self._stream, seed, self._say)
        return self._known[seed]

    def _tune(self, family: Family, setting: Setting, features: FeatureSet) -> None:
        stream, (loaded, unit) = self._stream, self._first()
        path = _tuned(unit.results(features), family, setting)
        if path.is_file():
            return
        started = time.perf_counter()
        matrix, categorical = features.matrix, features.categorical
        made = scores(family, setting, stream, loaded, matrix, categorical, stream.tune_days, REFIT_DAYS)
        rows = stretch(loaded, *stream.tune_days)
        ap = average_precision(loaded.fraud[rows], made.astype(np.float64))
        seconds = time.perf_counter() - started
        write_json(path, {"ap": None if np.isnan(ap) else ap, "seconds": seconds})
        self._say(
            f"{stream.name}, seed {stream.seeds[0]}: {family.name} {setting_name(setting)} tunes to {ap:.4f}"
            f" ({seconds:.0f} s)"
        )


def _evaluate(
    family: Family,
    setting: Setting,
    stream: Stream,
    seed: int,
    loaded: Loaded,
    unit: Unit,
    features: FeatureSet,
    say: Say,
) -> NDArray[np.float32]:
    path = _scored(unit.results(features), family, setting)
    if path.is_file():
        return read_arrays(path)["score"]
    started = time.perf_counter()
    days = (stream.first_day, stream.end_day)
    made = scores(family, setting, stream, loaded, features.matrix, features.categorical, days, REFIT_DAYS)
    seconds = time.perf_counter() - started
    write_arrays(path, {"score": made, "seconds": np.array(seconds)})
    rows = stretch(loaded, *days)
    ap = average_precision(loaded.fraud[rows], made.astype(np.float64))
    say(
        f"{stream.name}, seed {seed}: {family.name} {setting_name(setting)} scores {ap:.4f} ({seconds:.0f} s)"
    )
    return made


def _tuned(folder: Path, family: Family, setting: Setting) -> Path:
    return folder / f"{_file_name(family, setting)}.tuned.json"


def _scored(folder: Path, family: Family, setting: Setting) -> Path:
    return folder / f"{_file_name(family, setting)}.npz"


def _file_name(family: Family, setting: Setting) -> str:
    return f"{family.name.replace(' ', '-')}_{setting_name(setting)}_rows={family.most_rows}"
