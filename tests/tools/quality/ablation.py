"""What each part of the worker adds on each stream: the worker as it is, beside the worker without that part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from models import search
from models.blend import Blend
from models.differences import Differences
from models.state import ModelState
from tests.tools.quality import registry
from tests.tools.quality.curves import Interval, paired_interval
from tests.tools.quality.journal import Unit
from tests.tools.quality.measure import JudgedWindow, judged_windows
from tests.tools.quality.runs import kept_run
from tests.tools.quality.streams import Stream
from tests.tools.quality.table import figure_of
from worker.partition.task import PartitionTask
from worker.wire.decoder import TransactionColumns

WHOLE: Final = ""
"""The name of the part that leaves out nothing."""


@dataclass(frozen=True, slots=True)
class Part:
    """Something that can be left out.

    Attributes
    ----------
    instead
        What the worker does without it.
    settings
        Of the worker, by section.
    replaced
        Methods by their class and name, and what stands in for each.
    """

    instead: str
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    replaced: tuple[tuple[type, str, Callable[..., Any]], ...] = ()

    @contextmanager
    def left_out(self) -> Iterator[None]:
        """Leave it out within the context, in this process."""
        with ExitStack() as stack:
            for owner, name, other in self.replaced:
                stack.enter_context(mock.patch.object(owner, name, other))
            yield


@dataclass(frozen=True, slots=True)
class Added:
    """What one part adds on one row of the quality table.

    Attributes
    ----------
    row, part
        Names.
    whole, without
        Average precision, or savings, of the worker as it is and without the part.
    interval
        Of the first less the second.
    """

    row: str
    part: str
    whole: float
    without: float
    interval: Interval

    def __str__(self) -> str:
        low, high = self.interval.low, self.interval.high
        difference = self.whole - self.without
        return f"{self.row}: {self.whole:.3f}, {self.part} adds {difference:+.3f} [{low:+.3f}, {high:+.3f}]"


_FEATURES_OF_A_CARD: Final = (
    "card_excess",
    "card_large_count",
    "card_count_burst",
    "card_idle_hours",
    "card_distance_km",
    "card_speed_kmh",
    "card_usual_distance_km",
)
_FEATURES_OF_AN_ENTITY: Final = ("card_{}_share", "{}_fraud_share", "{}_legit_age", "{}_rate_ratio")
_features: Final = PartitionTask.features


def _without_features(
    task: PartitionTask, transactions: TransactionColumns, model: ModelState
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    matrix, first = _features(task, transactions, model)
    matrix[:, left_out_columns(model)] = np.nan
    return matrix, first


def left_out_columns(model: ModelState) -> list[int]:
    """Return which features the part `features` leaves out."""
    spec, names = model.lineage.spec, model.layout.names
    left_out = {kind.format(entity) for entity in spec.entities for kind in _FEATURES_OF_AN_ENTITY}
    return [at for at, name in enumerate(names) if name in left_out | {*_FEATURES_OF_A_CARD}]


def _simplest(*given: Any, **_: Any) -> Any:
    """Stand in for `Searcher._best`: the candidate that stays where no other is better."""
    return given[2]


def _nothing(*_: Any) -> None:
    """Stand in for what changes something."""


def _no_differences(*_: Any) -> Differences:
    """Stand in for `Differences.among`, as where fewer than two numbers are given."""
    return Differences(np.empty((0, 2), np.int16))


PARTS: Final[Mapping[str, Part]] = {
    "search": Part(
        "always the first candidates for trees and for tables, mixed by the same judged days",
        replaced=((search.Searcher, "_best", _simplest),),
    ),
    "all examples": Part("one legit decision in ten is kept to learn from", {"model": {"sample_one_in": 10}}),
    "trees": Part("tables alone decide", {"model": {"challenger": "off"}}),
    "differences": Part(
        "trees split columns alone, not differences of two",
        replaced=((Differences, "among", _no_differences),),
    ),
    "following": Part(
        "the weights of tables and trees stay from one search to the next",
        replaced=((Blend, "follow", _nothing),),
    ),
    "features": Part(
        "nothing of sprees, of bursts, of places, of how usual an entity is for the card, of its rate of traffic and "
        "of its latest labels, but for their log odds and the number of frauds",
        replaced=((PartitionTask, "features", _without_features),),
    ),
}


def judged_without(stream: Stream, part: str) -> tuple[JudgedWindow, ...]:
    """Judge the worker without a part, or whole, on a stream's first seed; raises `AbsentError` without the data."""
    chosen = PARTS[part] if part != WHOLE else Part("")
    changed, seed = stream.with_settings(chosen.settings), stream.seeds[0]
    loaded = changed.load(seed)
    with chosen.left_out():
        run = kept_run(changed, loaded, Unit(changed, seed, loaded), without=part)
    return judged_windows(changed, loaded, run.decisions, {})


def judged_without_named(name: str, part: str) -> tuple[JudgedWindow, ...]:
    """Judge on a stream of the registry, in a process that can be given only names."""
    return judged_without(registry.by_name(name), part)


def added(
    stream: Stream, whole: Sequence[JudgedWindow], without: Sequence[JudgedWindow], part: str
) -> list[Added]:
    """Compare two runs on the windows of a stream, day by day."""
    what = "savings" if stream.money_only else "ap"
    found = []
    for one, other in zip(whole, without, strict=True):
        pair = figure_of(one.worker, what), figure_of(other.worker, what), one.days
        figures = getattr(one.worker, what), getattr(other.worker, what)
        found.append(Added(one.name, part, *figures, paired_interval([pair])))
    return found


def markdown(found: Sequence[Added]) -> str:
    """Return a table: a row of the quality table a line, a part a column, the ends of its interval in brackets."""
    parts = [part for part in PARTS if any(it.part == part for it in found)]
    lines = ["| data | worker | " + " | ".join(parts) + " |", "|---|---:|" + "---:|" * len(parts)]
    for row in dict.fromkeys(it.row for it in found):
        of_row = {it.part: it for it in found if it.row == row}
        cells = [_cell(of_row[part]) if part in of_row else "-" for part in parts]
        whole = next(iter(of_row.values())).whole
        lines.append(f"| {row} | {whole:.3f} | " + " | ".join(cells) + " |")
    notes = [f"- without {part}: {PARTS[part].instead}" for part in parts]
    return "\n".join(["# What each part adds", "", *lines, "", *notes, ""])


def _cell(it: Added) -> str:
    return f"{it.whole - it.without:+.3f} [{it.interval.low:+.3f}, {it.interval.high:+.3f}]"
