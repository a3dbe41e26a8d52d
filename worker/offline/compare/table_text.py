"""A comparison as text for a terminal: what was compared, the table of each block, the recommendation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from models.threshold import CostPolicy
from models.vocabulary import MS_PER_DAY
from worker.offline.compare.isolated import memory_text, time_text
from worker.offline.compare.recommendation import BANDS, accuracy_explained
from worker.offline.compare.result import (
    HELD_TO_BUDGET,
    OPEN_CASES,
    OURS_FROZEN,
    OURS_UNTIMED,
    Block,
    Comparison,
    Figures,
    Row,
    Severity,
    Window,
    is_over_budget,
)
from worker.offline.compare.strategy import Caps
from worker.offline.compare.windows import days_text

if TYPE_CHECKING:
    from worker.offline.compare.mistakes import Mistake

ACCURACY: Final = "accuracy"
WIDTH_ELSEWHERE: Final = 170
"""A table with every column fits; a narrower terminal gets several tables a block."""
_PROSE_WIDTH: Final = 110

_TITLES: Final = {
    Block.FROZEN: "Frozen: fitted once before the test window, then left alone",
    Block.REFRESHED: "Refreshed: batch models refitted every week, online models learning as labels arrive",
}


class _Column(NamedTuple):
    heading: str
    text: Callable[[Figures], str]


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.1f} %"


def _number(digits: int) -> Callable[[float], str]:
    return lambda value: "-" if math.isnan(value) else f"{value:,.{digits}f}"


def _excess(figures: Figures) -> str:
    if figures.excess == 0.0:
        return "cheapest"
    low, high = _number(0)(figures.excess_low), _number(0)(figures.excess_high)
    return f"{figures.excess:+,.0f} [{low} to {high}]"


_CATCHES: Final = (
    _Column("AP", lambda it: _number(3)(it.ap)),
    _Column("ROC AUC", lambda it: _number(3)(it.roc_auc)),
    _Column("recall", lambda it: _share(it.recall)),
    _Column("by value", lambda it: _share(it.recall_by_value)),
    _Column("precision", lambda it: _share(it.precision)),
    _Column("F1", lambda it: _number(3)(it.f1)),
)
_COSTS: Final = (
    _Column("cost", lambda it: _number(0)(it.cost)),
    _Column("savings", lambda it: _share(it.savings)),
    _Column("above the cheapest [95 %]", _excess),
)
_WORK: Final = (
    _Column("cases/day", lambda it: _number(1)(it.cases_per_day)),
    _Column("fit s", lambda it: _number(1)(it.fit_seconds)),
    _Column("µs/tx", lambda it: _number(1)(it.score_us)),
)
_LAYOUTS: Final = (((*_CATCHES, *_COSTS, *_WORK),), (_CATCHES, (*_COSTS, *_WORK)), (_CATCHES, _COSTS, _WORK))
"""The tables of a block: one where it fits, else two, else three."""


def comparison_text(comparison: Comparison, metric: str, width: int) -> Iterator[RenderableType]:
    """Yield the parts of a comparison, top to bottom.

    Parameters
    ----------
    comparison
        Of one data set.
    metric
        Name of the figure that the rows are ordered by, the best first; `accuracy` orders nothing, it is explained.
    width
        Of the terminal.
    """
    yield from _heading(comparison)
    for block in Block:
        yield from _block(comparison, block, "cost" if metric == ACCURACY else metric, width)
    yield from _legend(comparison.costs, width)
    yield from _left_out(comparison.rows, width)
    if metric == ACCURACY:
        yield Text("\nAccuracy", style="bold")
        yield _prose(accuracy_explained(comparison), width)
    yield Text("\nRecommendation", style="bold")
    for paragraph in comparison.recommendation.paragraphs:
        yield _prose(paragraph, width)
    if comparison.interrupted:
        yield Text("\nThe comparison was stopped: rows are missing.", style="bold yellow")


def mistakes_text(
    made: Sequence[Mistake], source: str, notes: Sequence[str], width: int
) -> Iterator[RenderableType]:
    """Yield the classic mistakes: what each reported, and what counts instead.

    Parameters
    ----------
    made
        The mistakes.
    source
        Name of the data.
    notes
        What the reader has to know.
    width
        Of the terminal.
    """
    yield Text(f"The classic mistakes on {source}, with raw features", style="bold")
    for note in notes:
        yield Text(f"  note: {note}", style="yellow")
    for mistake in made:
        yield Text(f"\n{mistake.name}", style="bold")
        if mistake.reported_as:
            figures = Text("  ")
            figures.append(f"{mistake.reported_as} {_share(mistake.reported)}", style="red")
            figures.append("   honest: ")
            figures.append(f"{mistake.honest_as} {_share(mistake.honest)}", style="green")
            yield figures
        yield _prose(mistake.words, width)


def _prose(text: str, width: int) -> Text:
    """Return a paragraph, wrapped; a number keeps its percent sign."""
    kept = text.replace(" %", "\u00a0%")
    lines = wrap(kept, min(width, _PROSE_WIDTH) - 2, break_on_hyphens=False)
    return Text("\n".join(f"  {line}" for line in lines).replace("\u00a0", " "))


def _heading(comparison: Comparison) -> Iterator[RenderableType]:
    severity = comparison.severity
    imbalance = "" if severity is Severity.BALANCED else " imbalance"
    yield Text(f"{comparison.source}", style="bold")
    yield Text(
        f"  {comparison.transactions:,} transactions, {comparison.known:,} with known truth, "
        f"{comparison.frauds:,} frauds: {100 * comparison.prevalence:.3g} %, {severity.value}{imbalance} "
        f"({BANDS[severity]})"
    )
    days = days_text(comparison.delay_days)
    yield Text(
        f"  label delays vary: a verdict counts after {days}, whatever its class (labels.negatives_after_days, or what "
        "nine in ten fraud labels take if that is longer, but no longer than a gap of --windows)"
        if comparison.delay_varies
        else f"  labels arrive after {days}"
    )
    costs = comparison.costs
    budget = costs.alert_budget_cases_per_day
    yield Text(
        f"  a review costs {costs.review_cost:g}, a missed fraud {costs.loss_fixed:g} + {costs.loss_factor:g} x "
        + "amount; "
        + (
            "no budget of cases"
            if budget is None
            else f"budget {budget:g} {'case' if budget == 1.0 else 'cases'} a day"
        )
    )
    yield Text(
        f"  features: {comparison.features}, {len(comparison.feature_names)} of them; seed {comparison.seed}"
    )
    for note in comparison.notes:
        yield Text(f"  note: {note}", style="yellow")
    yield Text()
    yield Padding(_windows(comparison.windows), (0, 0, 0, 2), expand=False)


def _windows(windows: Sequence[Window]) -> Table:
    table = Table("window", "from (UTC)", "to", box=None, pad_edge=False, header_style="bold")
    for heading in ("days", "rows", "frauds"):
        table.add_column(heading, justify="right")
    for window in windows:
        unused = window.rows == 0
        table.add_row(
            window.name,
            _day(window.start_ms) if window.end_ms > window.start_ms else "-",
            _day(window.end_ms - MS_PER_DAY) if window.end_ms > window.start_ms else "-",
            f"{(window.end_ms - window.start_ms) // MS_PER_DAY}",
            "-" if unused else f"{window.rows:,}",
            "-" if unused else f"{window.frauds:,}",
        )
    return table


def _day(time_ms: int) -> str:
    return str(np.datetime64(time_ms, "ms").astype("datetime64[D]"))


def _block(comparison: Comparison, block: Block, metric: str, width: int) -> Iterator[RenderableType]:
    rows = [(row, row.figures) for row in comparison.block(block) if row.figures is not None]
    yield Text(f"\n{_TITLES[block]}", style="bold")
    if not rows:
        yield Text("  no strategy has figures")
        return
    descending = -1.0 if metric != "cost" else 1.0
    rows.sort(key=lambda it: np.nan_to_num(descending * getattr(it[1], metric), nan=np.inf))
    advised = comparison.recommendation
    chosen = advised.strategy if advised.block is block else None
    ruler = Console(width=10 * WIDTH_ELSEWHERE)
    for layout in _LAYOUTS:
        tables = [_table(rows, columns, chosen, comparison.costs) for columns in layout]
        if max(ruler.measure(table).maximum for table in tables) <= width:
            break
    yield from tables
    if any(row.rule is None for row, _ in rows):
        said = OURS_FROZEN if block is Block.FROZEN else OURS_UNTIMED
        yield Text("\n".join(f"  {line}" for line in wrap(said, width - 2)), style="dim")


def _table(
    rows: Sequence[tuple[Row, Figures]], columns: Sequence[_Column], chosen: str | None, costs: CostPolicy
) -> RenderableType:
    table = Table("", box=None, pad_edge=False, header_style="bold")
    table.add_column("strategy", no_wrap=True, overflow="ellipsis", min_width=20)
    for column in columns:
        table.add_column(column.heading, justify="right", no_wrap=True)
    for row, figures in rows:
        mark = ">" if row.strategy == chosen else "~" if figures.excess_low <= 0.0 else ""
        mark += "!" if is_over_budget(figures, costs) else ""
        style = "bold" if row.strategy == chosen else ""
        table.add_row(mark, row.strategy, *(it.text(figures) for it in columns), style=style)
    return table


def _legend(costs: CostPolicy, width: int) -> Iterator[RenderableType]:
    legend = "\n> recommended   ~ the interval of its difference to the cheapest includes 0"
    yield Text(f"{legend}   ! opens more cases a day than the budget", style="dim")
    said = [OPEN_CASES] if costs.alert_budget_cases_per_day is None else [OPEN_CASES, HELD_TO_BUDGET]
    yield Text("\n".join(line for it in said for line in wrap(it, width)), style="dim")


def _left_out(rows: Sequence[Row], width: int) -> Iterator[RenderableType]:
    caps: dict[Caps, list[str]] = {}
    for row in rows:
        if row.caps is not None and row.strategy not in caps.setdefault(row.caps, []):
            caps[row.caps].append(row.strategy)
    usual = max(caps, key=lambda it: len(caps[it]), default=None)
    for cap, names in sorted(caps.items(), key=lambda it: it[0] is usual):
        who = "others" if cap is usual and len(caps) > 1 else "all" if cap is usual else ", ".join(names)
        learnt = "all rows" if cap.rows is None else f"{cap.rows:,} rows to learn from"
        limits = f"{learnt}, {time_text(cap)} and {memory_text(cap)} a block"
        yield Text("\n  ".join(wrap(f"caps: {who}: {limits}", min(width, _PROSE_WIDTH) - 2)), style="dim")
    reasons: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.left_out is not None:
            reasons.setdefault((row.strategy, row.left_out), []).append(row.block.value)
    for (name, reason), blocks in reasons.items():
        where = "" if len(blocks) == len(Block) else f" ({blocks[0]})"
        text = wrap(f"left out: {name}{where}: {reason}", min(width, _PROSE_WIDTH) - 2)
        yield Text("\n  ".join(text), style="yellow")
