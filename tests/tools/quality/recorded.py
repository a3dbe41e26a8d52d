"""The bars that the repository keeps, for a clone that has not made the baselines.

Of each row its figure, and the setting that reached it; where they were made, also what that baseline catches on each
day, so that the interval of a difference is a paired one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.tools.quality.cache import read_arrays, read_json, write_arrays, write_json
from tests.tools.quality.curves import DayCurves
from tests.tools.quality.streams import Stream

FOLDER: Final = Path(__file__).parent
BARS_FILE: Final = "recorded.json"
DAYS_FILE: Final = "recorded_days.npz"
NEAR: Final = 0.01
"""By so much the figures of two fits of one baseline may differ whose days are taken for alike."""
STEPS: Final = 64
"""Steps of a kept curve: it says which days are hard for the bar, whose figure is kept beside it."""

Days = dict[str, list[DayCurves]]
"""What bars catch, by the name of the row; one for each seed."""


class Remade(NamedTuple):
    """A kept bar made anew on one seed.

    Attributes
    ----------
    row, features
        The row's name, and the version of the features.
    ap
        Its average precision.
    days
        What it catches.
    """

    row: str
    features: str
    ap: float
    days: DayCurves


def read_recorded() -> dict[str, Any]:
    """Return the bars that the repository keeps, by the name of the row."""
    path = FOLDER / BARS_FILE
    return dict(read_json(path)) if path.is_file() else {}


def read_recorded_days() -> Days:
    """Return what the kept bars catch by day, of those rows where that is kept too."""
    days: Days = {}
    if (FOLDER / DAYS_FILE).is_file():
        for key, counts in sorted(read_arrays(FOLDER / DAYS_FILE).items()):
            caught, alerted = np.cumsum(counts, axis=1, dtype=np.float32)
            days.setdefault(key.rpartition(": ")[0], []).append(DayCurves(caught, alerted))
    return days


def seeds_with_bars(stream: Stream) -> tuple[int, ...]:
    """Return the seeds of which the repository keeps a bar: the first ones of the stream, or all where it keeps none.

    The worker's figures on other seeds would stand beside nothing, and a run of it takes minutes.
    """
    recorded = read_recorded()
    found = [recorded.get(stream.row_name(it), {}).get("seeds", len(stream.seeds)) for it in stream.windows]
    return stream.seeds[: max(found)]


def family_of(bar: str) -> str:
    """Return the family of a baseline's name, as `LightGBM` of `LightGBM (frozen features)`."""
    return bar.split(" (", maxsplit=1)[0]


def record(folder: Path) -> None:
    """Keep the bars of a quality.json in the repository, beside those of rows that it does not have.

    A bar that is kept already makes way for a higher one alone: worse features never lower it. Its days go with it.
    """
    made = read_json(folder / "quality.json")
    kept, days = read_recorded(), read_recorded_days()
    for row in made["rows"]:
        details, already = made["details"][row["name"]], kept.get(row["name"])
        is_higher = already is None or row["baseline"] > already["figure"]
        if is_higher and not details["bar"].endswith(", recorded"):
            seeds = details["seeds"]
            kept[row["name"]] = {
                "bar": details["bar"],
                "setting": seeds[0]["sides"][details["bar"]]["setting"],
                "figure": round(row["baseline"], 4),
                "seeds": len(seeds),
                "rows": sum(it["rows"] for it in seeds),
                "frauds": sum(it["frauds"] for it in seeds),
            }
            days.pop(row["name"], None)
    _write(kept, days)


def keep_days(row: str, by_seed: Sequence[Sequence[Remade]]) -> str:
    """Keep what the bar of a row catches by day, made anew on each of its seeds, and return what came of it.

    Of several versions of the features the best stands. A higher figure than the kept one takes its place. Where none
    comes near it, no days are kept: they would be those of another baseline.
    """
    kept, days = read_recorded(), read_recorded_days()
    versions = dict.fromkeys(it.features for it in by_seed[0])
    remade = [[it for seed in by_seed for it in seed if it.features == version] for version in versions]
    best = max(remade, key=lambda seeds: float(np.mean([it.ap for it in seeds])))
    ap, figure = float(np.mean([it.ap for it in best])), float(kept[row]["figure"])
    if figure - ap > NEAR:
        days.pop(row, None)
    else:
        days[row] = [it.days for it in best]
        kept[row]["figure"] = max(figure, round(ap, 4))
    _write(kept, days)
    return (
        f"{row}: {ap:.4f} where {figure:.4f} is kept, days {'kept' if row in days else 'not kept: too far'}"
    )


def _write(bars: Mapping[str, Any], days: Days) -> None:
    write_json(FOLDER / BARS_FILE, dict(sorted(bars.items())))
    arrays: dict[str, NDArray[Any]] = {}
    for name, seeds in sorted(days.items()):
        for at, it in enumerate(seeds):
            counts = np.diff(np.stack([it.caught, it.alerted]), axis=1, prepend=np.float32(0.0))
            arrays[f"{name}: {at}"] = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
    write_arrays(FOLDER / DAYS_FILE, arrays)
