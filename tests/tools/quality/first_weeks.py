"""A stream's first weeks, which the table does not judge: what the worker ranks, costs and expects in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation import average_precision
from models.vocabulary import Decider, Flag
from tests.tools.quality import registry
from tests.tools.quality.journal import run_worker
from tests.tools.quality.money import decided_costs
from tests.tools.quality.streams import Loaded, Stream
from worker.offline.worker_run import Decisions
from worker.settings.sections import CostSettings

_DAYS: Final = 36
"""So much of a stream is run: the last week's decisions lie before its end."""
_WEEKS: Final = range(1, 5)
"""In the week before, nothing is labelled or mature."""


@dataclass(frozen=True, slots=True)
class YoungWeek:
    """One week of a stream.

    Attributes
    ----------
    stream, week
        The first week is 0.
    frauds
        Among the judged rows.
    ap
        Of the decision-time scores; NaN without frauds.
    cost, nothing
        What the decisions cost, and what alerting on nothing would have.
    online_share
        Of the judged rows, how many the online model decided.
    expected
        Its mean probability over the rate of fraud among these rows; NaN without frauds.
    """

    stream: str
    week: int
    frauds: int
    ap: float
    cost: float
    nothing: float
    online_share: float
    expected: float


def young_weeks(stream: Stream, seed: int) -> list[YoungWeek]:
    """Run the worker on a stream's first weeks, and judge each; raises `AbsentError` without the data."""
    loaded = _beginning(stream.load(seed))
    decisions, _ = run_worker(stream, loaded)
    costs = stream.worker_settings(loaded).costs
    return [_judged(stream.name, week, loaded, decisions, costs) for week in _WEEKS]


def young_weeks_of_named(name: str, changes: Mapping[str, Mapping[str, Any]]) -> list[YoungWeek]:
    """Judge the first seed of a stream of the registry, in a process that can be given only names."""
    stream = registry.by_name(name).with_settings(changes)
    return young_weeks(stream, stream.seeds[0])


def markdown(found: Sequence[YoungWeek]) -> str:
    """Return a table with a line a stream, and of each week its figures."""
    heads = [f"days {7 * week + 1}-{7 * week + 7}" for week in _WEEKS]
    lines = [f"| data | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for name in dict.fromkeys(it.stream for it in found):
        lines.append(f"| {name} | {' | '.join(_cell(it) for it in found if it.stream == name)} |")
    note = (
        "Of each week: average precision; cost over that of alerting on nothing; the share of the rows that the online "
        "model decided, and its mean probability over their rate of fraud."
    )
    return "\n".join(["# The first weeks", "", note, "", *lines, ""])


def _beginning(loaded: Loaded) -> Loaded:
    rows = np.flatnonzero(loaded.day < _DAYS)
    return replace(loaded, dataset=loaded.dataset.take(rows), judged=loaded.judged[rows])


def _judged(name: str, week: int, loaded: Loaded, decisions: Decisions, costs: CostSettings) -> YoungWeek:
    rows = np.flatnonzero((loaded.day // 7 == week) & loaded.judged & decisions.decided)
    fraud, flags, loss = loaded.fraud[rows], decisions.flags[rows], decisions.loss[rows]
    is_online = ((flags & Flag.DECIDER) == Decider.ONLINE) & np.isfinite(decisions.probability[rows])
    return YoungWeek(
        name,
        week,
        int(fraud.sum()),
        average_precision(fraud, decisions.score[rows]) if fraud.any() else np.nan,
        float(decided_costs(decisions, rows, loaded.judged[rows], fraud, costs).sum()),
        float(loss[fraud].sum()),
        float(is_online.mean()) if rows.size else 0.0,
        _expected(decisions.probability[rows][is_online], fraud[is_online]),
    )


def _expected(probability: NDArray[np.float32], fraud: NDArray[np.bool_]) -> float:
    return float(probability.astype(np.float64).sum() / fraud.sum()) if fraud.any() else np.nan


def _cell(it: YoungWeek) -> str:
    return " ".join(_figures(it))


def _figures(it: YoungWeek) -> Iterator[str]:
    yield f"{it.ap:.3f}"
    yield f"{it.cost / it.nothing:.0%}" if it.nothing else "-"
    yield f"{it.online_share:.0%}"
    yield f"x{it.expected:.2f}" if it.online_share else "-"
