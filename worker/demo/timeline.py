"""The part of the demo's page that shows deciders, threshold and recall day by day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.text import Text

from worker.demo.figures import DECIDERS, Figures
from worker.demo.style import LABEL_COLUMNS, QUIET, STYLES, framed
from worker.demo.wording import NAMES, UNSETTLED, day_date, decider_in_force, percent

_CELLS: Final = {"none": "·", "forest": "▒", "online": "█"}
_RULES: Final = {"none": "╌", "forest": "┅", "online": "━"}
_BARS: Final = "▁▂▃▄▅▆▇█"


def timeline(figures: Figures, room: int, *, tall: bool) -> RenderableType:
    """Return the frame that shows who decides now and who decided on each day.

    Parameters
    ----------
    figures
        What to show.
    room
        Columns inside the frame.
    tall
        Whether there is room for the threshold and the recall of each day.
    """
    lines = [_shares(figures, room), _strip(figures, room)]
    if tall:
        lines += [_thresholds(figures, room), _recalls(figures, room), _axis(figures, room)]
    # Each part has a style of its own; a style of the joined text would override them.
    legend = Text("  ").join(
        Text.assemble((_CELLS[name], STYLES[name]), (f" {NAMES[name]}", QUIET)) for name in DECIDERS
    )
    return framed(Group(*lines), f"Who decides: {decider_in_force(figures)}", legend)


def _shares(figures: Figures, room: int) -> Text:
    line = _labelled("now")
    if figures.shares:
        shares = [figures.shares[name] for name in DECIDERS]
        for name, columns in zip(DECIDERS, _whole(shares, room // 4), strict=True):
            line.append(_RULES[name] * columns, style=STYLES[name])
    texts = [f"{NAMES[name]} {percent(share)}" for name, share in figures.shares.items() if share >= 0.005]
    return line.append(f" {', '.join(texts)}", style="bold default")


def _whole(shares: Sequence[float], columns: int) -> list[int]:
    """Return the columns of each share; rounded sums make them add up."""
    ends = [round(sum(shares[: i + 1]) * columns) for i in range(len(shares))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _strip(figures: Figures, room: int) -> Text:
    line = _labelled("by day")
    for day in figures.history:
        line.append(_CELLS[day.decider] * _cell(figures, room), style=STYLES[day.decider])
    return line


def _thresholds(figures: Figures, room: int) -> Text:
    finite = [day.threshold for day in figures.history if math.isfinite(day.threshold)]
    top = max([2.0, *finite])
    heights = [_height(day.threshold, 1.0, top) for day in figures.history]
    return _drawn("threshold λ", heights, _cell(figures, room), "magenta")


def _recalls(figures: Figures, room: int) -> Text:
    settled = max((i for i, day in enumerate(figures.history) if not math.isnan(day.recall)), default=-1)
    heights = [_height(day.recall, 0.0, 1.0) for day in figures.history[: settled + 1]]
    line = _drawn("recall", heights, _cell(figures, room), "cyan")
    return line if settled >= 0 else line.append(UNSETTLED, style=QUIET)


def _height(value: float, bottom: float, top: float) -> int:
    if math.isnan(value):
        return -1
    return round(min(max((value - bottom) / (top - bottom), 0.0), 1.0) * (len(_BARS) - 1))


def _drawn(label: str, heights: Sequence[int], cell: int, style: str) -> Text:
    line = _labelled(label)
    line.append("".join((" " if height < 0 else _BARS[height]) * cell for height in heights), style=style)
    return line


def _axis(figures: Figures, room: int) -> Text:
    cell, every = _cell(figures, room), 10
    marks = [day_date(figures, day).ljust(every * cell) for day in range(0, figures.stream_days, every)]
    return _labelled("").append("".join(marks)[: figures.stream_days * cell], style=QUIET)


def _labelled(label: str) -> Text:
    return Text(label.ljust(LABEL_COLUMNS), style=QUIET, no_wrap=True, overflow="crop")


def _cell(figures: Figures, room: int) -> int:
    """Return the columns of one day."""
    return max((room - LABEL_COLUMNS) // figures.stream_days, 1)
