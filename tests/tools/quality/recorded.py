"""The bars that the repository keeps, for a clone that has not made the baselines.

Of each row its figure, and the setting that reached it; where they were made, also what that baseline catches on each
day, so that the interval of a difference is a paired one, and the figures of other families.
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

_OTHERS: Final = "others"

Days = dict[str, list[DayCurves]]
"""What bars catch, by the name of the row; one for each seed."""


class Remade(NamedTuple):
    """A baseline made for the repository on one seed.

    Attributes
    ----------
    row, family, setting, features
        The row's name, the family's and the setting's, and the version of the features.
    rows
        How many are judged.
    ap
        Its average precision.
    days
        What it catches.
    """

    row: str
    family: str
    setting: str
    features: str
    rows: int
    ap: float
    days: DayCurves

    @property
    def name(self) -> str:
        """As the table names it."""
        return f"{self.family} ({self.features} features)"


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


def settings_of(bar: Mapping[str, Any]) -> dict[str, str]:
    """Return the setting of each family that the repository keeps of a row."""
    others = {family: it["setting"] for family, it in bar.get(_OTHERS, {}).items()}
    return {family_of(bar["bar"]): bar["setting"]} | others


def figures_of(bar: Mapping[str, Any]) -> dict[str, float]:
    """Return the figure of each family that the repository keeps of a row."""
    others = {family: float(it["figure"]) for family, it in bar.get(_OTHERS, {}).items()}
    return {family_of(bar["bar"]): float(bar["figure"])} | others


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
            bar = kept.setdefault(row["name"], {})
            setting = seeds[0]["sides"][details["bar"]]["setting"]
            _raise_bar(bar, details["bar"], setting, round(row["baseline"], 4))
            bar |= {
                "seeds": len(seeds),
                "rows": sum(it["rows"] for it in seeds),
                "frauds": sum(it["frauds"] for it in seeds),
            }
            days.pop(row["name"], None)
    _write(kept, days)


def keep(row: str, by_seed: Sequence[Sequence[Remade]]) -> list[str]:
    """Keep what was made of a row on each of its seeds, and return a line on each family.

    Of several versions of the features the best stands. A higher figure than a kept one takes its place, and that of
    another family the bar's. The bar's days are kept too, unless its new figure is far below the kept one: they would
    be those of another baseline.
    """
    kept, days, said = read_recorded(), read_recorded_days(), []
    for family in dict.fromkeys(it.family for it in by_seed[0]):
        best = _best_of(family, by_seed)
        before = figures_of(kept[row]).get(family) if row in kept else None
        if row not in kept:
            kept[row] = _first_bar(best)
            days[row] = [it.days for it in best]
        elif family == family_of(kept[row]["bar"]):
            _keep_bar(row, best, kept, days)
        else:
            _keep_other(row, best, kept, days)
        beside = "" if before is None else f" where {before:.4f} was kept"
        said.append(f"{row}: {family} {_mean_ap(best):.4f}{beside}; the bar is {kept[row]['bar']}")
    _write(kept, days)
    return said


def _best_of(family: str, by_seed: Sequence[Sequence[Remade]]) -> list[Remade]:
    """Return what a family made of each seed, of that version of the features on which its mean is the best."""
    its = [[it for it in seed if it.family == family] for seed in by_seed]
    versions = dict.fromkeys(it.features for it in its[0])
    return max(([it for seed in its for it in seed if it.features == one] for one in versions), key=_mean_ap)


def _mean_ap(made: Sequence[Remade]) -> float:
    return float(np.mean([it.ap for it in made]))


def _first_bar(made: Sequence[Remade]) -> dict[str, Any]:
    return {
        "bar": made[0].name,
        "setting": made[0].setting,
        "figure": round(_mean_ap(made), 4),
        "seeds": len(made),
        "rows": sum(it.rows for it in made),
        "frauds": int(sum(it.days.caught[-1].sum() for it in made)),
    }


def _keep_bar(row: str, made: Sequence[Remade], kept: dict[str, Any], days: Days) -> None:
    figure, ap = float(kept[row]["figure"]), _mean_ap(made)
    if figure - ap > NEAR:
        days.pop(row, None)
    else:
        days[row] = [it.days for it in made]
        kept[row]["figure"] = max(figure, round(ap, 4))


def _keep_other(row: str, made: Sequence[Remade], kept: dict[str, Any], days: Days) -> None:
    bar, ap = kept[row], round(_mean_ap(made), 4)
    if ap > float(bar["figure"]):
        _raise_bar(bar, made[0].name, made[0].setting, ap)
        days[row] = [it.days for it in made]
    elif ap > figures_of(bar).get(made[0].family, -1.0):
        bar.setdefault(_OTHERS, {})[made[0].family] = {"figure": ap, "setting": made[0].setting}


def _raise_bar(bar: dict[str, Any], name: str, setting: str, figure: float) -> None:
    """Put a baseline in the bar's place; the bar that was stays beside it where it is of another family."""
    others = bar.pop(_OTHERS, {})
    if "bar" in bar:
        others[family_of(bar["bar"])] = {"setting": bar["setting"], "figure": bar["figure"]}
    others.pop(family_of(name), None)
    bar |= {"bar": name, "setting": setting, "figure": figure}
    if others:
        bar[_OTHERS] = others


def _write(bars: Mapping[str, Any], days: Days) -> None:
    write_json(FOLDER / BARS_FILE, dict(sorted(bars.items())))
    arrays: dict[str, NDArray[Any]] = {}
    for name, seeds in sorted(days.items()):
        for at, it in enumerate(seeds):
            counts = np.diff(np.stack([it.caught, it.alerted]), axis=1, prepend=np.float32(0.0))
            arrays[f"{name}: {at}"] = counts.astype(np.min_scalar_type(int(counts.max(initial=0))))
    write_arrays(FOLDER / DAYS_FILE, arrays)
