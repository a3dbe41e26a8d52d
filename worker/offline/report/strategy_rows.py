"""Every strategy of a comparison: the table of figures, the plot of costs, and how each ran."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from worker.offline.compare.result import Block, Comparison, Figures, Row, is_over_budget
from worker.offline.compare.strategy import Rule
from worker.offline.report import wording
from worker.offline.report.markup import NOTHING, Column, Html, Table, element, joined, plain, text
from worker.offline.report.page import figure
from worker.offline.report.plots import (
    NEUTRAL,
    Axis,
    Plot,
    Point,
    Reference,
    Series,
    Span,
)

_RULES: Final = {
    Rule.HALF: "alerts from a probability of 0.5",
    Rule.BEST_F1: "alerts from the best F1 of the tuning window",
    Rule.COST: "alerts where probability times loss pays for a review",
    Rule.CHEAPEST: "alerts from the cheapest score of the tuning window",
    None: "decides as a live worker does",
}
_LINE: Final = 18.0
"""Height of a strategy in the plot of costs."""
_NAME: Final = 34
"""Characters of a name in that plot."""
_NAME_SIZE: Final = 10.5
_LETTER: Final = 0.55
"""Mean width of a letter over its height."""


def strategy_table(result: Comparison, rows: Sequence[Row], title: str, series: dict[str, Series]) -> Html:
    """Return the figures of every strategy of a block, the cheapest first."""
    table = Table(
        f"{title}: figures of the test window. Rows of different blocks are not comparable. Where an interval reaches"
        " 0, the difference to the cheapest may be chance.",
        [
            Column("strategy"),
            Column("cost", "reviews, and the loss of missed frauds"),
            Column("above cheapest", "cost above that of the cheapest row, with its 95 % interval"),
            Column("savings", "1 less the cost over that of the better trivial policy"),
            Column("recall"),
            Column("by value", "recall, each fraud weighed by its loss"),
            Column("precision"),
            Column("F1"),
            Column("AP", "average precision"),
            Column("ROC AUC"),
            Column("cases a day"),
            Column("fit", "seconds of all fits"),
            Column("score, µs", "microseconds a transaction to score"),
        ],
    )
    for row in sorted(rows, key=cost_of):
        meaning = f"{row.family}: {row.meaning}" if row.meaning else row.family
        name = joined([lettered(row, series), *badges(result, row), element("small", text(meaning))])
        if row.figures is None:
            reason = text(f"left out: {row.left_out or 'no reason is known'}")
            table.add(name, element("span", reason, class_="reason"))
            continue
        chosen = row.strategy == result.recommendation.strategy and row.block is result.recommendation.block
        table.add(name, *map(text, _figures(row.figures)), class_="chosen" if chosen else None)
    return table.html()


def _figures(its: Figures) -> list[str]:
    return [
        wording.money(its.cost),
        f"{wording.money(its.excess)} ({wording.money(its.excess_low)} … {wording.money(its.excess_high)})",
        wording.percent(its.savings),
        wording.percent(its.recall),
        wording.percent(its.recall_by_value),
        wording.percent(its.precision),
        wording.percent(its.f1),
        wording.decimal(its.ap),
        wording.decimal(its.roc_auc),
        wording.rate(its.cases_per_day),
        wording.duration(its.fit_seconds),
        wording.rate(its.score_us),
    ]


def cost_plot(result: Comparison, block: Block, title: str, series: dict[str, Series]) -> Html:
    """Return how much more than the cheapest each strategy cost, with its interval, the cheapest on top."""
    rows = sorted(
        ((row.strategy, row.figures) for row in judged_rows(result, block) if row.figures is not None),
        key=lambda it: it[1].cost,
    )
    if len(rows) < 2:
        return NOTHING
    cheapest = rows[0][1].cost
    nothing = float(result.test.loss[result.test.fraud].sum()) - cheapest
    low, high = _shown([its for _, its in rows], nothing)
    points, spans = _marks([(series.get(name, NEUTRAL), its) for name, its in rows], low, high)
    names = [
        f"{series[name].letter}  {_shortened(name)}" if name in series else _shortened(name)
        for name, _ in rows
    ]
    bottom = 0.7 - len(rows)
    plot = Plot(
        f"excess-{block.value}",
        title,
        f"Cheapest: {rows[0][0]}. "
        + "; ".join(f"{name}: {wording.money(its.excess)} more" for name, its in rows[1:]),
        Axis("cost above the cheapest", low, high, wording.compact),
        Axis(
            "",
            bottom - 0.3,
            0.7,
            lambda y: names[min(max(round(-y), 0), len(names) - 1)],
            ticks=[-i for i in range(len(rows))],
        ),
        points=points,
        spans=spans,
        references=[
            Reference((0.0, 0.0), (bottom, 0.7)),
            *(
                [Reference((nothing, nothing), (bottom, 0.7), "alert on nothing")]
                if 0 < nothing < high
                else []
            ),
        ],
        left=_LETTER * _NAME_SIZE * max(map(len, names)) + 12.0,
        name_size=_NAME_SIZE,
        right=34.0,
        height=_LINE * len(rows) + 76.0,
    )
    caption = (
        "The marker is what was measured, its stroke the 95 % interval over days. What lies beyond the edge has its"
        " number beside it."
    )
    if 0 < nothing < high:
        caption += f" Alerting on nothing cost {wording.money(nothing)} more than the cheapest."
    return figure(plot, caption)


def _shown(rows: list[Figures], nothing: float) -> tuple[float, float]:
    """Return the ends of the axis: one ruinous strategy must not press all others against its edge."""
    ends = np.array(
        [max(it.excess, it.excess_high) if math.isfinite(it.excess_high) else it.excess for it in rows]
    )
    high = float(max(min(ends.max(), max(2.0 * np.median(ends), 1.3 * nothing)), 1e-9))
    low = min((it.excess_low for it in rows if math.isfinite(it.excess_low)), default=0.0)
    return max(min(low, 0.0), -0.5 * high), high


def _marks(rows: list[tuple[Series, Figures]], low: float, high: float) -> tuple[list[Point], list[Span]]:
    """Return a marker and a stroke for each strategy, one line below the other."""
    points, spans = [], []
    for place, (one, its) in enumerate(rows):
        y = float(-place)
        beyond = wording.compact(its.excess) if its.excess > high else ""
        points.append(Point(one, min(its.excess, high), y, beyond))
        if math.isfinite(its.excess_low) and its.excess_low < high:
            spans.append(Span(one, (max(its.excess_low, low), min(its.excess_high, high)), (y, y)))
    return points, spans


def _shortened(name: str) -> str:
    shown = plain(name)
    return shown if len(shown) <= _NAME else f"{shown[: _NAME - 1]}…"


def lettered(row: Row, series: dict[str, Series]) -> Html:
    """Return the name of a strategy, behind its letter where the plots show it."""
    one = series.get(row.strategy)
    letter = NOTHING if one is None else element("b", text(one.letter), class_="letter")
    # A long name breaks between its words.
    return joined([letter, Html(text(row.strategy).replace("_", "_<wbr>"))])


def cost_of(row: Row) -> float:
    """Return what a strategy cost, for sorting; inf where it has no figures."""
    return math.inf if row.figures is None or math.isnan(row.figures.cost) else row.figures.cost


def badges(result: Comparison, row: Row) -> list[Html]:
    """Return what a strategy is besides: recommended, the cheapest or close to it, common advice."""
    advice, cheapest = result.recommendation, result.cheapest(row.block)
    its, least = row.figures, cheapest.figures if cheapest is not None else None
    is_cheapest = its is not None and least is not None and its.cost == least.cost
    is_main = row.block is advice.block
    named = [
        ("recommended", is_main and row.strategy == advice.strategy),
        ("cheapest", is_cheapest),
        ("interval reaches 0", not is_cheapest and its is not None and its.excess_low <= 0.0),
        ("over the budget of cases", its is not None and is_over_budget(its, result.costs)),
        ("common advice", is_main and row.strategy in advice.common_advice),
    ]
    return [Html(f" {element('span', text(name), class_='badge')}") for name, holds in named if holds]


def run_table(result: Comparison) -> Html:
    """Return what each strategy learnt from, its bounds, and where it alerts."""
    table = Table(
        "How each strategy ran. Beyond a cap of rows legits are sampled, each then standing for more.",
        [
            Column("strategy"),
            Column("block"),
            Column("rows learnt"),
            Column("cap of rows"),
            Column("cap of time"),
            Column("cap of memory"),
            Column("rule", words=True),
        ],
    )
    for row in result.rows:
        caps = row.caps
        bounds = [wording.UNKNOWN] * 3
        if caps is not None:
            rows = "none" if caps.rows is None else wording.count(caps.rows)
            bounds = [rows, wording.duration(caps.seconds), wording.size(caps.memory_bytes)]
        table.add(
            text(row.strategy),
            *map(text, [row.block.value, wording.count(row.rows_learnt), *bounds, _RULES[row.rule]]),
        )
    return table.html()


def judged_rows(result: Comparison, block: Block) -> list[Row]:
    """Return the rows of a block that have figures."""
    return [row for row in result.block(block) if row.figures is not None and row.decided is not None]
