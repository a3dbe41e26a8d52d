"""The demo's page: `Figures` as something that rich can draw, for any size of terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from worker.demo.figures import DECIDERS, Figures, ShownAlert
from worker.demo.wording import (
    NAMES,
    UNSETTLED,
    date,
    day_date,
    hour,
    milliseconds,
    minutes,
    money,
    percent,
    reasons,
    risk_and_limit,
    short_card,
)

NARROW: Final = 76
"""Below it there is no room for boxes side by side."""
TALL: Final = 30
"""From it on there is room for the history."""
WIDE: Final = 96
_STYLES: Final = {"none": "bright_black", "forest": "yellow", "online": "green"}
_CELLS: Final = {"none": "·", "forest": "▒", "online": "█"}
_RULES: Final = {"none": "╌", "forest": "┅", "online": "━"}
_BARS: Final = "▁▂▃▄▅▆▇█"
_QUIET: Final = "bright_black"
_LABEL_COLUMNS: Final = 12
_FRAME_COLUMNS: Final = 4


class Page:
    """The figures of one moment."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Draw it, as large as there is room for."""
        height = options.height or options.size.height
        if options.max_width < NARROW:
            yield _narrow(self._figures, height)
            return
        parts = _boxes(self._figures, options.max_width, tall=height >= TALL)
        used = sum(len(console.render_lines(part, options.update(height=None))) for part in parts)
        yield from parts
        # Two borders and the heading.
        if (rows := height - used - 3) > 0:
            yield _alerts(self._figures, rows, options.max_width)


def _narrow(figures: Figures, height: int) -> RenderableType:
    quality, latency = figures.quality, (figures.latency_p50_s, figures.latency_p99_s)
    told = [
        f"day {figures.today + 1} of {figures.stream_days}, {date(figures.now_ms)} {hour(figures.now_ms)}",
        f"{minutes(figures.elapsed_s)} of {minutes(figures.duration_s)}, {figures.metrics_url}",
        f"{figures.decided:,} decided, {figures.per_s:,.0f}/s, lag {figures.lag:,}",
        f"{figures.alerts:,} alerts, after {' / '.join(map(milliseconds, latency))}",
        _in_force(figures),
        f"recall {percent(quality.recall)}, precision {percent(quality.precision)}",
        f"cost {money(figures.reviews_cost + figures.missed_cost)}, savings {percent(quality.savings)}",
    ]
    lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in told]
    rows = [
        Text.assemble(
            f"{hour(it.alert.event_time_ms)} {it.alert.amount:,.2f} ",
            (it.alert.decided_by, _STYLES[it.alert.decided_by]),
            (f" {'; '.join(reasons(it.alert))}", _QUIET),
            no_wrap=True,
            overflow="ellipsis",
        )
        for it in figures.newest[: max(height - len(lines) - 1, 0)]
    ]
    return Group(*lines, Text(), *rows)


def _boxes(figures: Figures, width: int, *, tall: bool) -> list[RenderableType]:
    halves = Table.grid(Column(ratio=1), Column(ratio=1), expand=True)
    halves.add_row(_money(figures), _quality(figures))
    return [_header(figures), _stream(figures), _deciders(figures, width - _FRAME_COLUMNS, tall=tall), halves]


def _box(content: RenderableType, title: str, note: Text | None = None) -> Panel:
    return Panel(
        content,
        title=Text(title, style="bold default"),
        title_align="left",
        subtitle=note,
        subtitle_align="right",
        box=box.ROUNDED,
        border_style=_QUIET,
    )


def _header(figures: Figures) -> RenderableType:
    table = Table.grid(
        Column(no_wrap=True), Column(ratio=1), Column(no_wrap=True, justify="right"), expand=True
    )
    table.padding = (0, 1)
    day = f"day {figures.today + 1} of {figures.stream_days}, {date(figures.now_ms)} {hour(figures.now_ms)}"
    bar = ProgressBar(figures.duration_s, figures.elapsed_s, complete_style="green", finished_style="green")
    spent = f"{minutes(figures.elapsed_s)} of {minutes(figures.duration_s)}"
    title = Text.assemble(("fraud-worker", "bold green"), (" demo", "bold"))
    table.add_row(title, "", Text(figures.metrics_url, style="cyan"))
    table.add_row(Text(day), bar, Text(spent))
    return table


def _stream(figures: Figures) -> RenderableType:
    latency = f"{milliseconds(figures.latency_p50_s)} / {milliseconds(figures.latency_p99_s)}"
    shown = [
        ("decided", f"{figures.decided:,}", ""),
        ("per second", f"{figures.per_s:,.0f}", ""),
        ("lag", f"{figures.lag:,}", "red" if figures.lag > 3 * max(figures.per_s, 1_000.0) else ""),
        ("append to alert, p50 / p99", latency, ""),
        ("alerts", f"{figures.alerts:,}", ""),
        ("cases", f"{figures.cases:,}", ""),
    ]
    table = Table.grid(*(Column(no_wrap=True) for _ in shown), expand=True, padding=(0, 2, 0, 0))
    table.add_row(*(Text(name, style=_QUIET) for name, _, _ in shown))
    table.add_row(*(Text(number, style=f"bold {style}") for _, number, style in shown))
    pace_s = figures.duration_s / figures.stream_days
    return _box(table, "Stream", Text(f"a day passes in {pace_s:.1f} s", style=_QUIET))


def _deciders(figures: Figures, room: int, *, tall: bool) -> RenderableType:
    lines = [_shares(figures, room), _strip(figures, room)]
    if tall:
        lines += [_thresholds(figures, room), _recalls(figures, room), _axis(figures, room)]
    # A style of the whole would cover those of its parts.
    legend = Text("  ").join(
        Text.assemble((_CELLS[name], _STYLES[name]), (f" {NAMES[name]}", _QUIET)) for name in DECIDERS
    )
    return _box(Group(*lines), f"Who decides: {_in_force(figures)}", legend)


def _in_force(figures: Figures) -> str:
    """Who decides, since when, and what a change waits for."""
    if not figures.hand_overs:
        return "waiting for the first transactions"
    latest = figures.hand_overs[-1]
    name = NAMES[latest.decider]
    if latest.decider == "none":
        return f"{name}, until a forest has seen some traffic"
    if latest.decider == "forest":
        return f"{name}, until {figures.frauds_needed} frauds are learnt ({figures.frauds_learnt} so far)"
    return f"{name}, since {date(latest.at_ms)}, {hour(latest.at_ms)}"


def _shares(figures: Figures, room: int) -> Text:
    line = _labelled("now")
    if figures.shares:
        shares = [figures.shares[name] for name in DECIDERS]
        for name, columns in zip(DECIDERS, _whole(shares, room // 4), strict=True):
            line.append(_RULES[name] * columns, style=_STYLES[name])
    told = [f"{NAMES[name]} {percent(share)}" for name, share in figures.shares.items() if share >= 0.005]
    return line.append(f" {', '.join(told)}", style="bold default")


def _whole(shares: Sequence[float], columns: int) -> list[int]:
    """Share whole columns out; the rounding adds up."""
    ends = [round(sum(shares[: i + 1]) * columns) for i in range(len(shares))]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def _strip(figures: Figures, room: int) -> Text:
    line = _labelled("by day")
    for day in figures.history:
        line.append(_CELLS[day.decider] * _cell(figures, room), style=_STYLES[day.decider])
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
    return line if settled >= 0 else line.append(UNSETTLED, style=_QUIET)


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
    return _labelled("").append("".join(marks)[: figures.stream_days * cell], style=_QUIET)


def _labelled(label: str) -> Text:
    return Text(label.ljust(_LABEL_COLUMNS), style=_QUIET, no_wrap=True, overflow="crop")


def _cell(figures: Figures, room: int) -> int:
    """Columns of one day."""
    return max((room - _LABEL_COLUMNS) // figures.stream_days, 1)


def _pairs(rows: Sequence[tuple[str, str, str]]) -> Table:
    """Rows of a label, a figure and a remark."""
    table = Table.grid(Column(width=_LABEL_COLUMNS, no_wrap=True), Column(no_wrap=True, ratio=1), expand=True)
    for label, figure, remark in rows:
        told = Text(figure, style="bold", no_wrap=True, overflow="ellipsis")
        table.add_row(Text(label, style=_QUIET), told.append(f" {remark}".rstrip(), style="not bold default"))
    return table


def _money(figures: Figures) -> RenderableType:
    quality = figures.quality
    savings = (UNSETTLED, "")
    if quality.is_known:
        savings = percent(quality.savings), f"of {money(quality.cost_none)} at risk"
    rows = [
        ("reviews", money(figures.reviews_cost), ""),
        ("missed", money(figures.missed_cost), "labelled so far"),
        ("savings", *savings),
        ("alerts from", *_limit(figures)),
    ]
    return _box(_pairs(rows), f"Money: cost so far {money(figures.reviews_cost + figures.missed_cost)}")


def _limit(figures: Figures) -> tuple[str, str]:
    """What an alert is raised from, in the terms of whoever decides."""
    decider = figures.hand_overs[-1].decider if figures.hand_overs else "none"
    if decider == "online":
        limit = figures.threshold_lambda * figures.review_cost
        return f"loss {limit:,.2f}", f"(λ {figures.threshold_lambda:.2f})"
    if decider == "forest" and math.isfinite(figures.forest_cut):
        return f"rank {figures.forest_cut:,.1f}", "of the forest"
    return "-", "nobody decides yet"


def _quality(figures: Figures) -> RenderableType:
    quality = figures.quality
    if not quality.is_known:
        names = ("prevalence", "recall", "precision", "labelled")
        return _box(_pairs([(name, "-" if i else UNSETTLED, "") for i, name in enumerate(names)]), "Quality")
    rows = [
        ("prevalence", percent(quality.prevalence, 2), f"{quality.frauds:,.0f} frauds"),
        ("recall", percent(quality.recall), f"({percent(quality.recall_by_value)} of value)"),
        ("precision", percent(quality.precision), f"of {quality.alerts:,.0f} alerts"),
        ("labelled", percent(quality.label_coverage), f"of {quality.decisions:,.0f} settled"),
    ]
    return _box(
        _pairs(rows), f"Quality: {quality.days} settled days to {day_date(figures, quality.last_day)[4:]}"
    )


def _alerts(figures: Figures, rows: int, width: int) -> RenderableType:
    columns = [
        Column("time", no_wrap=True, style=_QUIET),
        Column("amount", no_wrap=True, justify="right"),
        Column("card", no_wrap=True, style=_QUIET),
        Column("by", no_wrap=True),
        Column("prob.", no_wrap=True, justify="right"),
        Column("risk ≥ limit", no_wrap=True, justify="right"),
        *([Column("label", no_wrap=True)] if width >= WIDE else []),
        Column("mostly because of", no_wrap=True, overflow="ellipsis", ratio=1),
    ]
    table = Table(*columns, box=None, expand=True, padding=(0, 1, 0, 0), header_style=_QUIET, pad_edge=False)
    for shown in figures.newest[:rows]:
        table.add_row(*_cells_of(shown, width))
    for _ in range(rows - len(figures.newest)):
        table.add_row("")
    return _box(table, "Some of the newest alerts")


def _cells_of(shown: ShownAlert, width: int) -> list[Text]:
    alert = shown.alert
    day = date(alert.event_time_ms)[4:]
    wide = width >= WIDE
    cells = [
        Text(f"{day} {hour(alert.event_time_ms)}" if wide else day),
        Text(f"{alert.amount:,.2f}"),
        Text(short_card(alert.card_id)),
        Text(alert.decided_by, style=_STYLES[alert.decided_by]),
        Text("rank" if alert.probability is None else percent(alert.probability)),
        Text(risk_and_limit(alert)),
    ]
    if wide:
        cells.append(
            Text(shown.turned_out or "…", style="bold red" if shown.turned_out == "fraud" else _QUIET)
        )
    return [*cells, Text("; ".join(reasons(alert)))]
