"""Runs the worker on one stream and judges it, beside what the cache has of the baselines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation import average_precision, roc_auc
from models.vocabulary import Decider, Flag
from tests.tools.quality import registry
from tests.tools.quality.baselines import read_baselines, read_settings
from tests.tools.quality.curves import DayCosts, DayCurves
from tests.tools.quality.families import FAMILIES, LIGHTGBM, LIGHTGBM_CODED
from tests.tools.quality.journal import Unit
from tests.tools.quality.money import (
    day_costs,
    decided_costs,
    fixed_policy_cost,
    rule_alerts,
    worst_excess_days,
)
from tests.tools.quality.refits import stretch
from tests.tools.quality.runs import kept_run
from tests.tools.quality.streams import Loaded, Stream, Window
from worker.offline.worker_run import Decisions
from worker.settings.sections import CostSettings

NOTHING: Final = "alert on nothing"
_FEWEST_FRAUDS_A_WEEK: Final = 20
"""A week with fewer says little about its rate."""
_SETTLED_IN_DAYS: Final = 30


@dataclass(frozen=True, slots=True)
class Judged:
    """One side of a comparison on the rows of one window and seed.

    Attributes
    ----------
    name, setting
        `worker`, or a baseline's family and features, and its setting.
    ap, auc, savings
        Pooled over all days.
    curves, costs
        Of each day; `curves` is None where nothing is ranked.
    """

    name: str
    setting: str
    ap: float
    auc: float
    savings: float
    curves: DayCurves | None
    costs: DayCosts


@dataclass(frozen=True, slots=True)
class JudgedWindow:
    """The worker and its baselines on one window and seed.

    Attributes
    ----------
    name
        Of the row.
    days, rows, frauds
        How many are judged.
    worker, baselines
        All judged on the same rows.
    over_fixed
        The worker's cost over that of the best fixed policy, from 30 days after the online model first decided; NaN
        where that leaves no fraud.
    hindsight
        The best average precision of any setting of LightGBM that was scored, chosen or not; NaN without.
    """

    name: str
    days: int
    rows: int
    frauds: int
    worker: Judged
    baselines: tuple[Judged, ...]
    over_fixed: float
    hindsight: float


@dataclass(frozen=True, slots=True)
class Week:
    """The calibrated probabilities of one week beside what came of it.

    Attributes
    ----------
    week
        Counted from the first day of the stream.
    rows, frauds
        Judged rows that the online model decided.
    mean_probability, rate
        Of these rows.
    """

    week: int
    rows: int
    frauds: int
    mean_probability: float
    rate: float

    @property
    def factor(self) -> float:
        """How many times the mean probability is above, or below, the rate; NaN where too few frauds say."""
        if self.frauds < _FEWEST_FRAUDS_A_WEEK or self.mean_probability <= 0:
            return float("nan")
        ratio = self.mean_probability / self.rate
        return max(ratio, 1.0 / ratio)


@dataclass(frozen=True, slots=True)
class Measured:
    """One stream and seed.

    Attributes
    ----------
    seed, windows, weeks
        What was judged.
    rows, seconds
        Of the worker's run.
    is_kept
        Whether the run was there already.
    features_changed
        Whether the worker journals other features than those that are frozen.
    worst_excess_days
        See `tests.tools.quality.money`; NaN without an alert budget.
    generations_cpu_s
        The CPU time that each generation took to make, s.
    """

    seed: int
    windows: tuple[JudgedWindow, ...]
    weeks: tuple[Week, ...]
    rows: int
    seconds: float
    is_kept: bool
    features_changed: bool
    worst_excess_days: float
    generations_cpu_s: tuple[float, ...]


def measure_named(name: str, seed: int, changes: Mapping[str, Mapping[str, Any]]) -> Measured:
    """Measure a stream of the registry: a process can be given its name, not the functions that it holds."""
    return measure(registry.by_name(name).with_settings(changes), seed)


def measure(stream: Stream, seed: int) -> Measured:
    """Run the worker on a stream and judge it; raises `AbsentError` where the data are absent."""
    loaded = stream.load(seed)
    unit = Unit(stream, seed, loaded)
    run = kept_run(stream, loaded, unit)
    first = unit if seed == stream.seeds[0] else Unit(stream, stream.seeds[0], stream.load(stream.seeds[0]))
    baselines = read_baselines(stream, FAMILIES, unit, first)
    scored = {f"{it.family} ({it.features} features)": (it.setting, it.score) for it in baselines}
    every = [*read_settings(LIGHTGBM, unit), *read_settings(LIGHTGBM_CODED, unit)]
    return Measured(
        seed,
        judged_windows(stream, loaded, run.decisions, scored, every),
        _weeks(loaded, run.decisions),
        len(loaded.dataset),
        run.seconds,
        run.is_kept,
        run.features_changed,
        _worst_excess_days(loaded, run.decisions, stream.worker_settings(loaded).costs),
        run.generations_cpu_s,
    )


def judged_windows(
    stream: Stream,
    loaded: Loaded,
    decisions: Decisions,
    scored: Mapping[str, tuple[str, NDArray[np.float32]]],
    every: Sequence[NDArray[np.float32]] = (),
) -> tuple[JudgedWindow, ...]:
    """Judge the worker's decisions on each window of a stream.

    Parameters
    ----------
    stream, loaded, decisions
        What was decided on which data.
    scored
        Of each baseline its setting and its scores, float32 (k,), of the rows from the first judged day to the last.
    every
        The scores of those settings that the best in hindsight is looked for among.
    """
    rows = stretch(loaded, stream.first_day, stream.end_day)
    return tuple(_judge(stream, it, loaded, decisions, rows, scored, every) for it in stream.windows)


def _judge(
    stream: Stream,
    window: Window,
    loaded: Loaded,
    decisions: Decisions,
    rows: NDArray[np.int64],
    scored: Mapping[str, tuple[str, NDArray[np.float32]]],
    every: Sequence[NDArray[np.float32]],
) -> JudgedWindow:
    inside = window.holds(loaded, rows) & decisions.decided[rows]
    chosen = rows[inside]
    fraud, loss, flags = loaded.fraud[chosen], decisions.loss[chosen], decisions.flags[chosen]
    days, at = np.unique(loaded.day[chosen], return_inverse=True)
    first_of_window = (flags & Flag.FIRST_OF_WINDOW) != 0
    costs = stream.worker_settings(loaded).costs

    def judged(
        name: str,
        setting: str,
        score: NDArray[np.float64] | None,
        alerted: NDArray[np.bool_],
        opens_case: NDArray[np.bool_],
    ) -> Judged:
        cost = day_costs(fraud, alerted, opens_case, first_of_window, loss, at, costs.review_cost)
        nan = float("nan")
        return Judged(
            name,
            setting,
            nan if score is None else average_precision(fraud, score),
            nan if score is None else roc_auc(fraud, score),
            float(cost.savings(np.ones((1, days.size)))[0]),
            None if score is None else DayCurves.of(fraud, score, at),
            cost,
        )

    worker = judged(
        "worker",
        "",
        decisions.score[chosen],
        (flags & Flag.ALERTED) != 0,
        (flags & Flag.OPENS_CASE) != 0,
    )
    nothing = np.zeros(chosen.size, np.bool_)
    others = [judged(NOTHING, "", None, nothing, nothing)] if stream.money_only else []
    for name, (setting, made) in scored.items():
        score = made[inside].astype(np.float64)
        alerted, opens = rule_alerts(loaded.dataset, chosen, score, loss, costs)
        others.append(judged(name, setting, score, alerted, opens))
    hindsight = [average_precision(fraud, it[inside].astype(np.float64)) for it in every]
    return JudgedWindow(
        stream.row_name(window),
        int(days.size),
        int(chosen.size),
        int(fraud.sum()),
        worker,
        tuple(others),
        _over_fixed(loaded, decisions, window, chosen, costs),
        max(hindsight, default=math.nan),
    )


def _over_fixed(
    loaded: Loaded, decisions: Decisions, window: Window, rows: NDArray[np.int64], costs: CostSettings
) -> float:
    online = np.flatnonzero(decisions.decided & ((decisions.flags & Flag.DECIDER) == Decider.ONLINE))
    if not online.size:
        return math.nan
    first_day = max(window.first_day, int(loaded.day[online[0]]) + _SETTLED_IN_DAYS)
    # Rows whose truth is unknown are not judged, but they take their share of the budget.
    late = np.flatnonzero(decisions.decided & (loaded.day >= first_day) & (loaded.day < window.end_day))
    judged = np.isin(late, rows)
    fraud, loss = loaded.fraud[late] & judged, decisions.loss[late]
    if not fraud.any():
        return math.nan
    probability = np.nan_to_num(decisions.probability[late].astype(np.float64))
    best = fixed_policy_cost(loaded.dataset, late, judged, fraud, probability, loss, costs)
    return float(decided_costs(decisions, late, judged, fraud, costs).sum()) / best


def _worst_excess_days(loaded: Loaded, decisions: Decisions, costs: CostSettings) -> float:
    if math.isinf(costs.alert_budget_cases_per_day):
        return math.nan
    rows = np.flatnonzero(decisions.decided)
    judged, fraud, loss = loaded.judged[rows], loaded.fraud[rows], decisions.loss[rows]
    cost = decided_costs(decisions, rows, judged, fraud, costs)
    return worst_excess_days(loaded.dataset, rows, judged, fraud, loss, cost, costs)


def _weeks(loaded: Loaded, decisions: Decisions) -> tuple[Week, ...]:
    """Return every week in which the online model decided."""
    online = decisions.decided & ((decisions.flags & Flag.DECIDER) == Decider.ONLINE)
    rows = np.flatnonzero(online & loaded.judged & np.isfinite(decisions.probability))
    week = loaded.day[rows] // 7
    weeks = []
    for each in np.unique(week).tolist():
        these = rows[week == each]
        fraud = loaded.fraud[these]
        mean = float(decisions.probability[these].astype(np.float64).mean())
        weeks.append(Week(each, these.size, int(fraud.sum()), mean, float(fraud.mean())))
    return tuple(weeks)
