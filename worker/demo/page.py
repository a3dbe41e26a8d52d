"""The demo's page: `Figures` as a rich renderable, for any size of terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from worker.demo.figures import Figures, ShownAlert
from worker.demo.style import FRAME_COLUMNS, LABEL_COLUMNS, QUIET, STYLES, framed
from worker.demo.timeline import timeline
from worker.demo.wording import (
    NO_DECIDER,
    UNSETTLED,
    date,
    day_date,
    decider_in_force,
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
"""Below this width there is no room for boxes side by side."""
TALL: Final = 30
"""From this height on there is room for threshold and recall day by day."""
WIDE: Final = 96
"""From this width on there is room for the label and the time of day of an alert."""


class Page:
    """The figures of one moment."""

    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Draw the page as large as the terminal allows."""
        height = options.height or options.size.height
        if options.max_width < NARROW:
            yield _narrow(self._figures, height)
            return
        parts = _boxes(self._figures, options.max_width, tall=height >= TALL)
        used = sum(len(console.render_lines(part, options.update(height=None))) for part in parts)
        yield from parts
        # The table of alerts has two borders and a heading.
        if (rows := height - used - 3) > 0:
            yield _alerts(self._figures, rows, options.max_width)


def _narrow(figures: Figures, height: int) -> RenderableType:
    quality, latency = figures.quality, (figures.latency_p50_s, figures.latency_p99_s)
    texts = [
        f"day {figures.today + 1} of {figures.stream_days}, {date(figures.now_ms)} {hour(figures.now_ms)}",
        f"{minutes(figures.elapsed_s)} of {minutes(figures.duration_s)}, {figures.metrics_url}",
        f"{figures.decided:,} decided, {figures.per_s:,.0f}/s, lag {figures.lag:,}",
        f"{figures.alerts:,} alerts, after {' / '.join(map(milliseconds, latency))}",
        decider_in_force(figures),
        f"recall {percent(quality.recall)}, precision {percent(quality.precision)}",
        f"cost {money(figures.reviews_cost + figures.missed_cost)}, savings {percent(quality.savings)}",
    ]
    lines = [Text(line, no_wrap=True, overflow="ellipsis") for line in texts]
    rows = [
        Text.assemble(
            f"{hour(it.alert.event_time_ms)} {it.alert.amount:,.2f} ",
            (it.alert.decided_by, STYLES[it.alert.decided_by]),
            (f" {'; '.join(reasons(it.alert))}", QUIET),
            no_wrap=True,
            overflow="ellipsis",
        )
        for it in figures.newest[: max(height - len(lines) - 1, 0)]
    ]
    return Group(*lines, Text(), *rows)


def _boxes(figures: Figures, width: int, *, tall: bool) -> list[RenderableType]:
    halves = Table.grid(Column(ratio=1), Column(ratio=1), expand=True)
    halves.add_row(_money(figures), _quality(figures))
    return [_header(figures), _stream(figures), timeline(figures, width - FRAME_COLUMNS, tall=tall), halves]


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
    table.add_row(*(Text(name, style=QUIET) for name, _, _ in shown))
    table.add_row(*(Text(number, style=f"bold {style}") for _, number, style in shown))
    pace_s = figures.duration_s / figures.stream_days
    return framed(table, "Stream", Text(f"a day passes in {pace_s:.1f} s", style=QUIET))


def _pairs(rows: Sequence[tuple[str, str, str]]) -> Table:
    """Return rows of a label, a figure and a remark."""
    table = Table.grid(Column(width=LABEL_COLUMNS, no_wrap=True), Column(no_wrap=True, ratio=1), expand=True)
    for label, figure, remark in rows:
        text = Text(figure, style="bold", no_wrap=True, overflow="ellipsis")
        table.add_row(Text(label, style=QUIET), text.append(f" {remark}".rstrip(), style="not bold default"))
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
    return framed(_pairs(rows), f"Money: cost so far {money(figures.reviews_cost + figures.missed_cost)}")


def _limit(figures: Figures) -> tuple[str, str]:
    """Return the value from which the current decider alerts, and a remark on it."""
    decider = figures.hand_overs[-1].decider if figures.hand_overs else "none"
    if decider == "online":
        limit = figures.threshold_lambda * figures.review_cost
        return f"loss {limit:,.2f}", f"(λ {figures.threshold_lambda:.2f})"
    if decider == "forest" and math.isfinite(figures.forest_cut):
        return f"rank {figures.forest_cut:,.1f}", "of the forest"
    return "-", NO_DECIDER


def _quality(figures: Figures) -> RenderableType:
    quality = figures.quality
    if not quality.is_known:
        names = ("prevalence", "recall", "precision", "labelled")
        return framed(
            _pairs([(name, "-" if i else UNSETTLED, "") for i, name in enumerate(names)]), "Quality"
        )
    rows = [
        ("prevalence", percent(quality.prevalence, 2), f"{quality.frauds:,.0f} frauds"),
        ("recall", percent(quality.recall), f"({percent(quality.recall_by_value)} of value)"),
        ("precision", percent(quality.precision), f"of {quality.alerts:,.0f} alerts"),
        ("labelled", percent(quality.label_coverage), f"of {quality.decisions:,.0f} settled"),
    ]
    return framed(
        _pairs(rows), f"Quality: {quality.days} settled days to {day_date(figures, quality.last_day)[4:]}"
    )


def _alerts(figures: Figures, rows: int, width: int) -> RenderableType:
    columns = [
        Column("time", no_wrap=True, style=QUIET),
        Column("amount", no_wrap=True, justify="right"),
        Column("card", no_wrap=True, style=QUIET),
        Column("by", no_wrap=True),
        Column("prob.", no_wrap=True, justify="right"),
        Column("risk ≥ limit", no_wrap=True, justify="right"),
        *([Column("label", no_wrap=True)] if width >= WIDE else []),
        Column("mostly because of", no_wrap=True, overflow="ellipsis", ratio=1),
    ]
    table = Table(*columns, box=None, expand=True, padding=(0, 1, 0, 0), header_style=QUIET, pad_edge=False)
    for shown in figures.newest[:rows]:
        table.add_row(*_cells_of(shown, width))
    for _ in range(rows - len(figures.newest)):
        table.add_row("")
    return framed(table, "Some of the newest alerts")


def _cells_of(shown: ShownAlert, width: int) -> list[Text]:
    alert = shown.alert
    day = date(alert.event_time_ms)[4:]
    wide = width >= WIDE
    cells = [
        Text(f"{day} {hour(alert.event_time_ms)}" if wide else day),
        Text(f"{alert.amount:,.2f}"),
        Text(short_card(alert.card_id)),
        Text(alert.decided_by, style=STYLES[alert.decided_by]),
        Text("rank" if alert.probability is None else percent(alert.probability)),
        Text(risk_and_limit(alert)),
    ]
    if wide:
        cells.append(Text(shown.label or "…", style="bold red" if shown.label == "fraud" else QUIET))
    return [*cells, Text("; ".join(reasons(alert)))]
