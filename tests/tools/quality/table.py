"""The table: every row judged over the seeds of its stream, as JSON and as Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.tools.quality.cache import write_json
from tests.tools.quality.curves import DayCurves, Figure, Interval, once, paired_interval
from tests.tools.quality.families import FAMILIES
from tests.tools.quality.measure import Judged, JudgedWindow, Measured
from tests.tools.quality.recorded import NEAR, family_of, figures_of
from tests.tools.quality.streams import Stream, Window

AP_MARGIN: Final = 0.02
SAVINGS_MARGIN: Final = 0.10
"""A policy may cost a tenth more than the best one."""
_CALIBRATED_WITHIN: Final = 2.0


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table, the mean over the seeds.

    Attributes
    ----------
    stream, window, name
        What is judged.
    by_seed
        The window as judged for each seed.
    bar
        The name of the baseline that the worker is held to; None where the cache has none.
    worker, baseline
        Their figures: average precision, or savings.
    interval
        Of the worker's figure less the baseline's.
    passes
        Whether the lower bound lies above the margin.
    kept
        The figures of those families of which the repository keeps one.
    """

    stream: Stream
    window: Window
    name: str
    by_seed: tuple[JudgedWindow, ...]
    bar: str | None
    worker: float
    baseline: float
    interval: Interval
    passes: bool
    kept: Mapping[str, float] = field(default_factory=dict)

    @property
    def judged_by(self) -> str:
        """The figure that it passes by."""
        return _judged_by(self.stream)

    def figure(self, baseline: str | None, what: str) -> float:
        """Return the mean figure of the worker (None) or of a baseline; NaN where a seed has none."""
        found = [getattr(_side(it, baseline), what, math.nan) for it in self.by_seed]
        return float(np.mean(found))

    def best(self, family: str, what: str) -> float:
        """Return the best mean figure of a family, of whatever features; NaN where a seed has none."""
        names = {it.name for it in self.by_seed[0].baselines if it.name.startswith(f"{family} (")}
        found = [self.figure(name, what) for name in names]
        if what == self.judged_by and family in self.kept:
            found.append(self.kept[family])
        return max((it for it in found if not math.isnan(it)), default=math.nan)


def _judged_by(stream: Stream) -> str:
    return "savings" if stream.money_only else "ap"


def _side(window: JudgedWindow, baseline: str | None) -> Judged | None:
    if baseline is None:
        return window.worker
    return next((it for it in window.baselines if it.name == baseline), None)


def judge(
    stream: Stream,
    window: Window,
    by_seed: Sequence[JudgedWindow],
    recorded: Mapping[str, Any] | None = None,
    recorded_days: Sequence[DayCurves] = (),
) -> Row:
    """Hold the worker to the best baseline that every seed has, of those seeds that have any.

    Where `recorded` has a higher figure, or the cache none, that is the bar, of its first seeds. Its days are those of
    the same baseline in the cache, else `recorded_days`, raised to the recorded figure; without either, only the
    worker's days are resampled.
    """
    with_any = [it for it in by_seed if any(side.curves for side in it.baselines)]
    what = _judged_by(stream)
    seeds = with_any or by_seed[: len(by_seed) if recorded is None else recorded["seeds"]]
    means = _means(seeds, what)
    bar: str | None = max(means, key=means.__getitem__, default=None)
    baseline, pair_with = means.get(bar or "", math.nan), bar
    # The kept figure is rounded.
    if recorded is not None and not round(baseline, 4) >= float(recorded["figure"]):
        pair_with = _same_as(recorded, seeds, means)
        bar, baseline = f"{recorded['bar']}, recorded", float(recorded["figure"])
        seeds = seeds if pair_with else by_seed[: recorded["seeds"]]
    worker = float(np.mean([getattr(it.worker, what) for it in seeds]))
    found = stream, window, by_seed[0].name, tuple(seeds)
    if bar is None:
        return Row(*found, None, worker, math.nan, Interval(math.nan, math.nan, math.nan), passes=False)
    sides = [_side(it, pair_with) for it in seeds] if pair_with else []
    figures = [figure_of(it, what) for it in sides] or _of_the_same_days(recorded_days, seeds)
    pairs = [
        (figure_of(it.worker, what), its, it.days)
        for it, its in zip(seeds, _raised(figures, seeds, baseline), strict=True)
    ]
    interval = paired_interval(pairs, same_days=stream.same_days)
    margin = SAVINGS_MARGIN if stream.money_only else AP_MARGIN
    kept = figures_of(recorded) if recorded else {}
    return Row(*found, bar, worker, baseline, interval, interval.low > -margin, kept)


def _means(by_seed: Sequence[JudgedWindow], what: str) -> dict[str, float]:
    """Return the mean figure of each baseline that every seed has."""
    names = [it.name for it in by_seed[0].baselines if all(_side(seed, it.name) for seed in by_seed)]
    means = {name: float(np.mean([getattr(_side(it, name), what) for it in by_seed])) for name in names}
    return {name: mean for name, mean in means.items() if not math.isnan(mean)}


def _same_as(
    recorded: Mapping[str, Any], by_seed: Sequence[JudgedWindow], means: Mapping[str, float]
) -> str | None:
    """Return the baseline like the recorded one, of as many seeds and nearly its figure; None where there is none."""
    family = family_of(recorded["bar"])
    for name in means:
        sides = [_side(it, name) for it in by_seed]
        alike = all(side is not None and side.setting == recorded["setting"] for side in sides)
        is_near = recorded["figure"] - means[name] <= NEAR
        if family_of(name) == family and alike and is_near and len(by_seed) == recorded["seeds"]:
            return name
    return None


def _of_the_same_days(kept: Sequence[DayCurves], by_seed: Sequence[JudgedWindow]) -> list[Figure]:
    """Return the figures of the bar's kept days; none where they are not the days of the windows."""
    is_alike = [it.caught.shape[1] for it in kept] == [it.days for it in by_seed]
    return [it.average_precision for it in kept] if is_alike else []


def _raised(figures: Sequence[Figure], by_seed: Sequence[JudgedWindow], bar: float) -> list[Figure]:
    """Return the figures of a baseline on each seed, raised from their mean to the bar; the bar alone without any."""
    if not figures:
        return [lambda draws: np.full(len(draws), bar)] * len(by_seed)
    mean = float(np.mean([its(once(it.days))[0] for its, it in zip(figures, by_seed, strict=True)]))
    return [lambda draws, its=its: its(draws) + (bar - mean) for its in figures]  # type: ignore[misc]


def figure_of(side: Judged | None, what: str) -> Figure:
    """Return the average precision or the savings of one side as a function of resampled days."""
    assert side is not None
    if what == "savings":
        return side.costs.savings
    assert side.curves is not None
    return side.curves.average_precision


def write(
    folder: Path,
    rows: Sequence[Row],
    measured: dict[str, list[Measured]],
    skipped: Sequence[tuple[str, str]],
    seconds: float,
) -> None:
    """Write quality.json and quality.md.

    Parameters
    ----------
    folder
        For both files.
    rows
        What was judged.
    measured
        By stream, its seeds.
    skipped
        Names and reasons.
    seconds
        Wall clock of the whole.
    """
    held = [row for row in rows if row.bar is not None]
    write_json(
        folder / "quality.json",
        {
            "rows": [
                {
                    "name": row.name,
                    "worker": row.worker,
                    "baseline": row.baseline,
                    "low": row.interval.low,
                    "high": row.interval.high,
                    "passes": row.passes,
                }
                for row in held
            ],
            "skipped": [{"name": name, "why": why} for name, why in skipped],
            "details": {row.name: _details(row) for row in rows},
            "weeks": {name: _weeks(seeds) for name, seeds in measured.items()},
            "seconds": seconds,
        },
    )
    (folder / "quality.md").write_text(markdown(rows, measured, skipped), encoding="utf-8")


def _details(row: Row) -> dict[str, Any]:
    def sides(window: JudgedWindow) -> dict[str, Any]:
        return {
            it.name: {
                "setting": it.setting,
                "ap": _number(it.ap),
                "auc": _number(it.auc),
                "savings": _number(it.savings),
            }
            for it in (window.worker, *window.baselines)
        }

    return {
        "bar": row.bar,
        "seeds": [
            {
                "days": it.days,
                "rows": it.rows,
                "frauds": it.frauds,
                "over_fixed": _number(it.over_fixed),
                "sides": sides(it),
            }
            for it in row.by_seed
        ],
    }


def _weeks(seeds: Iterable[Measured]) -> list[list[dict[str, Any]]]:
    return [
        [
            {
                "week": it.week,
                "rows": it.rows,
                "frauds": it.frauds,
                "mean_probability": it.mean_probability,
                "rate": it.rate,
            }
            for it in seed.weeks
        ]
        for seed in seeds
    ]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def markdown(
    rows: Sequence[Row], measured: dict[str, list[Measured]], skipped: Sequence[tuple[str, str]]
) -> str:
    """Return the table as Markdown."""
    families = [family.name for family in FAMILIES]
    lines = [
        "# Quality",
        "",
        "Average precision, pooled over the evaluation days, mean over the seeds. The bar is the best baseline that",
        "every seed has; the interval of worker less bar is a paired bootstrap over days (95 %). A row passes where",
        f"its lower bound is above -{AP_MARGIN:g}, or above -{SAVINGS_MARGIN:g} where savings are judged.",
        "",
        _line(
            [
                "data",
                "seeds",
                "rows",
                "fraud",
                "worker",
                *families,
                "bar",
                "difference",
                "passes",
                "published",
            ]
        ),
        _line(["---", *["---:"] * (5 + len(families)), "---:", "---:", "---", "---"]),
    ]
    lines += [_row_line(row, families) for row in rows]
    lines += [
        "",
        "Savings beside those of the cost rule on LightGBM's probabilities, which spends each day's budget on the best",
        "cases of the day; the worker's cost over that of the best fixed policy, from 30 days after the online model",
        "first decided; by how many days of the review budget its cost so far was above that of alerting on nothing,",
        "or on everything that the budget allows, at the worst moment; area under the ROC curve; weeks whose mean",
        "calibrated probability is off by more than a factor of 2 from the rate of fraud, and the worst factor (weeks",
        "with 20 frauds or more); time a row, learning included; CPU time to make a generation, mean and most.",
        "",
        _line(
            [
                "data",
                "savings",
                "LightGBM",
                "over fixed",
                "at worst, days",
                "ROC AUC",
                "LightGBM",
                "weeks off",
                "worst factor",
                "µs a row",
                "s a generation",
            ]
        ),
        _line(["---", *["---:"] * 10]),
    ]
    lines += [_second_line(row, measured[row.stream.name]) for row in rows]
    lines += [
        "",
        "## Baselines",
        "",
        "The setting of the bar, chosen on earlier days; where others were scored too, ",
    ]
    lines += ["what LightGBM would have reached with the best one.", ""]
    lines += [_line(["data", "bar", "setting", "best in hindsight"]), _line(["---", "---", "---", "---:"])]
    for row in rows:
        side = _side(row.by_seed[0], row.bar) if row.bar else None
        setting = side.setting.replace("_", " ") if side else ""
        hindsight = _figure_text(row.by_seed[0].hindsight) if row.stream.hindsight else "-"
        lines.append(_line([row.name, row.bar or "none in the cache", setting, hindsight]))
    lines += ["", "## Data", ""]
    lines += [
        f"- {stream.name}: {stream.about}" for stream in {it.stream.name: it.stream for it in rows}.values()
    ]
    if skipped:
        lines += ["", "## Left out", "", *(f"- {name}: {why}" for name, why in skipped)]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _row_line(row: Row, families: Sequence[str]) -> str:
    what = row.judged_by
    rows = sum(it.rows for it in row.by_seed)
    frauds = sum(it.frauds for it in row.by_seed)
    interval = row.interval
    bounds = f"{interval.difference:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]" if row.bar else "-"
    return _line(
        [
            row.name,
            f"{len(row.by_seed)}",
            f"{rows:,}",
            f"{100 * frauds / rows:.3g} %",
            f"{row.worker:.3f}",
            *(_figure_text(row.best(family, what)) for family in families),
            _figure_text(row.baseline),
            bounds,
            "yes" if row.passes else "no" if row.bar else "-",
            row.window.published,
        ]
    )


def _second_line(row: Row, seeds: Sequence[Measured]) -> str:
    factors = [week.factor for seed in seeds for week in seed.weeks if not math.isnan(week.factor)]
    off = sum(factor > _CALIBRATED_WITHIN for factor in factors)
    cpu_s = [it for seed in seeds for it in seed.generations_cpu_s]
    micros = 1e6 * sum(it.seconds for it in seeds) / sum(it.rows for it in seeds)
    return _line(
        [
            row.name,
            _figure_text(row.figure(None, "savings")),
            _figure_text(row.best("LightGBM", "savings")),
            _figure_text(float(np.mean([it.over_fixed for it in row.by_seed]))),
            _figure_text(max(it.worst_excess_days for it in seeds)),
            _figure_text(row.figure(None, "auc")),
            _figure_text(row.best("LightGBM", "auc")),
            f"{off} of {len(factors)}",
            f"{max(factors):.2f}" if factors else "-",
            f"{micros:.0f}",
            f"{np.mean(cpu_s):.1f}, {max(cpu_s):.1f}" if cpu_s else "-",
        ]
    )


def _figure_text(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
