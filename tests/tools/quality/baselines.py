"""Makes the baselines: settings chosen on earlier days, then scores of the judged rows; all of it resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
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
from tests.tools.quality.recorded import STEPS, Remade, family_of, read_recorded
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
    first_seed = stream.seeds[0]
    first_loaded = loaded if seed == first_seed else stream.load(first_seed)
    first = Unit(stream, first_seed, first_loaded)
    for at, features in enumerate(unit.stored()):
        for family in families:
            if not family.settings_for(features.categorical) or (
                stream.money_only and family is not LIGHTGBM
            ):
                continue
            # A seed may have no current features yet where the first one has: its choice on the frozen ones stands.
            chosen_on = first.stored()[min(at, len(first.stored()) - 1)]
            best = _choose(family, stream, first_seed, first_loaded, first, chosen_on, say)
            tried = stream.hindsight and seed == first_seed and family in (LIGHTGBM, LIGHTGBM_CODED)
            every = family.settings_for(features.categorical) if tried else ()
            for setting in (best, *(it for it in every if it != best)):
                _evaluate(family, setting, stream, seed, loaded, unit, features, say)


def make_recorded(stream: Stream, seed: int, say: Say) -> list[Remade]:
    """Make those bars anew that the repository keeps of a stream, on one seed, each with the setting it has."""
    loaded, unit = _journalled(stream, seed, say)
    rows, bars, found = stretch(loaded, stream.first_day, stream.end_day), read_recorded(), []
    for window in stream.windows if not stream.money_only else ():
        name, inside = stream.row_name(window), window.holds(loaded, rows)
        bar = bars.get(name, {"bar": "", "setting": ""})
        fraud, day = loaded.fraud[rows[inside]], np.unique(loaded.day[rows[inside]], return_inverse=True)[1]
        for family in (it for it in FAMILIES if it.name == family_of(bar["bar"])):
            [setting] = [it for it in family.settings if setting_name(it) == bar["setting"]]
            for features in unit.stored():
                score = _evaluate(family, setting, stream, seed, loaded, unit, features, say)[inside]
                days = DayCurves.of(fraud, score.astype(np.float64), day).joined(STEPS)
                ap = average_precision(fraud, score.astype(np.float64))
                found.append(Remade(name, features.version, ap, days))
    return found


def make_recorded_named(name: str, seed: int) -> list[Remade]:
    """Make kept bars anew of a stream of the registry, in a process that can be given only its name."""
    return make_recorded(registry.by_name(name), seed, say_at_once)


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


def _choose(
    family: Family,
    stream: Stream,
    seed: int,
    loaded: Loaded,
    unit: Unit,
    features: FeatureSet,
    say: Say,
) -> Setting:
    folder = unit.results(features)
    settings = family.settings_for(features.categorical)
    if len(settings) > 1 and stream.is_tuned:
        rows = stretch(loaded, *stream.tune_days)
        for setting in settings:
            path = _tuned(folder, family, setting)
            if path.is_file():
                continue
            started = time.perf_counter()
            made = scores(
                family,
                setting,
                stream,
                loaded,
                features.matrix,
                features.categorical,
                stream.tune_days,
                REFIT_DAYS,
            )
            ap = average_precision(loaded.fraud[rows], made.astype(np.float64))
            seconds = time.perf_counter() - started
            write_json(path, {"ap": None if np.isnan(ap) else ap, "seconds": seconds})
            say(
                f"{stream.name}, seed {seed}: {family.name} {setting_name(setting)} tunes to {ap:.4f} ({seconds:.0f} s)"
            )
    best = chosen_setting(family, stream, unit, features)
    assert best is not None
    return best


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
