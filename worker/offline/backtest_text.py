"""A backtest as text for a terminal: what was run, who decided when, what it was worth, and against an earlier run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import numpy as np
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from models.vocabulary import MS_PER_DAY, Decider
from worker.offline.alert_handling import ANSWERED_AFTER_MS
from worker.offline.backtest import BacktestResult
from worker.offline.backtest_document import Against
from worker.offline.backtest_remarks import remarks
from worker.offline.figures import Stretch
from worker.offline.report.wording import (
    MINUS,
    count,
    date,
    decimal,
    minute,
    moment,
    money,
    percent,
    rate,
)
from worker.redaction import printable

_SHORT_MS: Final = 7 * MS_PER_DAY
"""In a shorter file the day alone says little of when the cold start ends."""
_NAMES: Final = {Decider.NONE: "no one", Decider.FOREST: "isolation forest", Decider.ONLINE: "online model"}

Write = Callable[[float], str]


class _Line(NamedTuple):
    """One figure: its name in `Stretch.figures`, what it is called, and how it is written."""

    name: str
    title: str
    write: Write


def prevalence(share: float) -> str:
    """Write a share of frauds, however small."""
    return f"{percent(share)} (1 in {round(1 / share):,})" if share > 0.0 else percent(share)


def _number(value: float) -> str:
    """Write a figure without a unit: to four digits, a small one to two that count."""
    return f"{value:.2g}" if 0.0 < value < 0.01 else decimal(value, 4)


_SECTIONS: Final[dict[str, tuple[_Line, ...]]] = {
    "Decisions": (
        _Line("decisions", "decisions", count),
        _Line("n", "of known truth", count),
        _Line("frauds", "frauds among them", count),
        _Line("prevalence", "prevalence", prevalence),
        _Line("label_coverage", "label coverage", percent),
    ),
    "Ranking": (
        _Line("ap", "average precision", _number),
        _Line("roc_auc", "ROC AUC", _number),
    ),
    "Alerts": (
        _Line("recall", "recall by number", percent),
        _Line("recall_by_value", "recall by value", percent),
        _Line("precision", "precision", percent),
        _Line("f1", "F1", _number),
        _Line("alerts_per_day", "alerts a day", rate),
        _Line("cases_per_day", "cases a day", rate),
    ),
    "Cost": (
        _Line("cost_reviews", "reviews", money),
        _Line("cost_missed", "missed frauds", money),
        _Line("cost", "together", money),
        _Line("cost_none", "if it alerted on nothing", money),
        _Line("cost_all", "if it alerted on everything", money),
        _Line("savings", "savings", percent),
    ),
}
_LINES: Final = {line.name: line for lines in _SECTIONS.values() for line in lines} | {
    "decided_by_online": _Line("decided_by_online", "decided by the online model", percent)
}
_WEEKLY: Final = (
    ("decisions", "decisions"),
    ("frauds", "frauds"),
    ("prevalence", "share"),
    ("decided_by_online", "online"),
    ("ap", "AP"),
    ("recall", "recall"),
    ("recall_by_value", "by value"),
    ("precision", "precision"),
    ("cases_per_day", "cases/day"),
    ("cost", "cost"),
    ("savings", "savings"),
)


def backtest_text(result: BacktestResult, *, weeks: bool) -> Iterator[RenderableType]:
    """Yield the parts of a backtest, top to bottom.

    Parameters
    ----------
    result
        Of one run.
    weeks
        Whether the figures of each week follow.
    """
    yield _heading("Data")
    yield _indented(_data(result))
    yield _heading("Who decided when")
    yield _indented(_deciders(result))
    yield Text("")
    yield _figures(result)
    for said in remarks(result):
        yield Padding(Text(said), (1, 0, 0, 0), expand=False)
    if weeks:
        yield _heading("By week")
        yield _indented(_weeks(result))


def against_text(against: Against) -> Iterator[RenderableType]:
    """Yield the comparison with an earlier run."""
    yield _heading(f"Against {against.path}")
    if against.unequal:
        yield _indented(Text("The runs differ in more than the code; the figures may differ for that alone:"))
        for what in against.unequal:
            yield _indented(Text(f"- {printable(what)}"))
    else:
        yield _indented(Text("Both runs had the same data, labels and settings."))
    table = _table("", "earlier", "now", "difference")
    for name, earlier, now in against.differences:
        line = _LINES[name] if name in _LINES else _Line(name, name, _number)
        table.add_row(line.title, line.write(earlier), line.write(now), _change(line, now - earlier))
    yield _indented(table)


def _heading(text: str) -> Text:
    return Text(f"\n{text}", style="bold")


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2), expand=False)


def _table(*headings: str) -> Table:
    """Return a table whose first column is text and whose others are numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(headings))
    table.add_column(headings[0])
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _data(result: BacktestResult) -> Table:
    dataset, refused = result.dataset, sum(refusal.rows for refusal in result.dataset.refused)
    first_ms, last_ms = int(dataset.event_time_ms[0]), int(dataset.event_time_ms[-1])
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_row("transactions", f"{len(dataset):,}, of {len(dataset.card_id.unique()):,} cards")
    table.add_row("span", f"{moment(first_ms)} to {moment(last_ms)} UTC, {_days(last_ms - first_ms)}")
    if (result.whole.start_ms, result.whole.end_ms) != (first_ms, dataset.end_ms):
        table.add_row("judged", f"{moment(result.whole.start_ms)} to {moment(result.whole.end_ms)} UTC")
    for refusal in dataset.refused:
        table.add_row("refused", Text(printable(str(refusal))))
    repeats = len(dataset) - int(result.decisions.decided.sum())
    if repeats:
        table.add_row("repeats", f"{repeats:,} transactions of an id decided before, dropped")
    table.add_row("labels", _labels(result))
    if result.handled.declined > 0.0:
        declined = int(result.declined[result.judged.row].sum())
        table.add_row("declined", f"{declined:,} alerts: their labels did not arrive; the figures know them")
    if result.handled.answered > 0.0:
        answered = int(result.answered[result.judged.row].sum())
        table.add_row("answered", f"{answered:,} alerts, within {ANSWERED_AFTER_MS // 3_600_000} hours")
    seconds = f"{result.seconds:,.1f} s, {result.transactions_per_second:,.0f} transactions/s"
    table.add_row("run", seconds if not refused else f"{seconds}; refused rows are in no figure")
    return table


def _labels(result: BacktestResult) -> str:
    dataset = result.dataset
    if dataset.is_fraud is None or dataset.label_time_ms is None:
        return "none, so nothing can be judged: name --fraud-column, or a file by --labels"
    labelled = np.flatnonzero(dataset.labelled)
    frauds = labelled[dataset.is_fraud[labelled]]
    delay_days = (dataset.label_time_ms - dataset.event_time_ms)[frauds] / MS_PER_DAY
    parts = [f"{len(labelled):,} of the transactions"]
    if len(frauds):
        low, median, high = np.percentile(delay_days, [10, 50, 90])
        spread = "" if low == high else f" (a tenth within {delay(low)}, nine tenths within {delay(high)})"
        parts.append(f"frauds after {delay(median)} in the median{spread}")
    legits = labelled[~dataset.is_fraud[labelled]]
    if len(legits):
        days = np.median((dataset.label_time_ms - dataset.event_time_ms)[legits]) / MS_PER_DAY
        parts.append(f"{len(legits):,} of them said legit, after {delay(days)} in the median")
    if dataset.silence_is_legit:
        parts.append(
            f"{int((dataset.truth_known & ~dataset.labelled).sum()):,} without a label count as legit"
        )
    if dataset.matches is not None and dataset.matches.unmatched:
        parts.append(f"{dataset.matches.unmatched:,} find no transaction")
    return ", ".join(parts)


def delay(days: float) -> str:
    """Write how long a label takes."""
    return f"{days:.1f} days" if days >= 1.0 or days == 0.0 else f"{24.0 * days:.1f} hours"


def _deciders(result: BacktestResult) -> Table:
    judged, table = result.judged, _table("", "share", "first", "last")
    for decider in Decider:
        rows = np.flatnonzero(judged.decider == decider)
        if len(rows):
            times = [moment(int(judged.event_time_ms[row])) for row in (rows[0], rows[-1])]
            table.add_row(_NAMES[decider], percent(result.decided_by[decider.name.lower()]), *times)
    return table


def _figures(result: BacktestResult) -> Table:
    columns: dict[str, Stretch] = {"all": result.whole}
    write = date if _length_ms(result) >= _SHORT_MS else minute
    if result.cold is not None and result.steady is not None:
        columns |= {"cold start": result.cold, "steady state": result.steady}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Figures", min_width=30)
    for name, stretch in columns.items():
        heading = f"{name}\n{_within(name, stretch, write)}" if len(columns) > 1 else name
        table.add_column(heading, justify="right", no_wrap=True)
    figures = [stretch.figures() for stretch in columns.values()]
    for title, lines in _SECTIONS.items():
        table.add_row(Text(f"\n{title}", style="bold"))
        for line in lines:
            # Without any truth there is no cost: nothing is known to be missed.
            shown = (one[line.name] if one["n"] or title != "Cost" else math.nan for one in figures)
            table.add_row(f"  {line.title}", *map(line.write, shown))
    return table


def _within(name: str, stretch: Stretch, write: Write) -> str:
    if name == "all":
        return ""
    return f"until {write(stretch.end_ms)}" if name == "cold start" else f"from {write(stretch.start_ms)}"


def _length_ms(result: BacktestResult) -> int:
    return int(result.dataset.event_time_ms[-1] - result.dataset.event_time_ms[0])


def _weeks(result: BacktestResult) -> Table:
    table = _table("week from", *(heading for _, heading in _WEEKLY))
    for week in result.weeks:
        figures = week.figures()
        short = {"prevalence": percent}
        cells = (short.get(name, _write_of(name))(figures[name]) for name, _ in _WEEKLY)
        table.add_row(date(week.start_ms), *cells)
    return table


def _write_of(name: str) -> Write:
    return _LINES[name].write


def _change(line: _Line, change: float) -> str:
    if math.isnan(change):
        return line.write(change)
    if line.write in (percent, prevalence):
        return f"{100 * change:+.3g} points".replace("-", MINUS)
    return f"{'+' if change > 0 else ''}{line.write(change)}".replace("-", MINUS)


def _days(length_ms: int) -> str:
    return f"{max(length_ms, 1) / MS_PER_DAY:,.1f} days"
