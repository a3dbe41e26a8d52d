"""The report of a comparison: what to do, the table behind it, and what the figures rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from models.vocabulary import MS_PER_DAY, Decider
from worker.offline.compare.recommendation import BANDS
from worker.offline.compare.result import (
    HELD_TO_BUDGET,
    OPEN_CASES,
    OURS,
    OURS_FROZEN,
    OURS_UNTIMED,
    Block,
    Comparison,
    Decided,
    Figures,
    JudgedRows,
    Row,
)
from worker.offline.compare.strategy import Rule
from worker.offline.compare.windows import days_text
from worker.offline.figures import Judged, Stretch, charge, weeks
from worker.offline.report import wording
from worker.offline.report.course import over_time, week_table
from worker.offline.report.curves import (
    Ranked,
    Reached,
    calibration,
    capacity,
    cost_over_threshold,
    precision_recall,
)
from worker.offline.report.markup import (
    NOTHING,
    Column,
    Html,
    Table,
    definitions,
    element,
    joined,
    paragraph,
    text,
)
from worker.offline.report.page import Section, figures, missing, page
from worker.offline.report.plots import MOST_SERIES, Series
from worker.offline.report.strategy_rows import (
    badges,
    cost_of,
    cost_plot,
    judged_rows,
    lettered,
    run_table,
    strategy_table,
)

_BLOCKS: Final = {
    Block.FROZEN: (
        "Frozen",
        f"Each strategy is fitted once, at the end of the train window, and then left alone. {OURS_FROZEN}",
    ),
    Block.REFRESHED: (
        "Refreshed weekly",
        "Batch models are refitted every week on 90 days, or on as many as the train window has if that is more. Online"
        f" models learn each label as it arrives. {OURS_UNTIMED}",
    ),
}
_RANKS: Final = {
    Rule.HALF: "probability",
    Rule.BEST_F1: "score",
    Rule.COST: "expected loss over review cost",
    Rule.CHEAPEST: "score",
}
_OWN_RANKS: Final = {
    "online_model": "expected loss over review cost",
    "forest": "anomaly score \N{MULTIPLICATION SIGN} amount",
}
"""What the worker's own rows compare; the whole worker divides it by the threshold of the decider."""
_CURVES: Final = 4
"""So many strategies have curves of cost, capacity and time."""
_WHOLE_WORKER: Final = "worker"
"""The row of the worker as it would run."""
_NAMES_SHOWN: Final = 200
"""A page names no more features than that."""


def comparison_page(result: Comparison) -> str:
    """Return the report as one page."""
    series = _series(result)
    ranked = {block: _ranked(result, block, series) for block in Block}
    few = ranked[result.recommendation.block][:_CURVES]
    curves = capacity(few, is_all_known=result.unjudged == 0)
    return page(
        "Ways to handle imbalance, compared",
        _lead(result),
        [
            Section("recommendation", "Recommendation", _headline(result, series), is_headline=True),
            Section("table", "Every strategy", _tables(result, series)),
            Section("precision-recall", "Precision and recall", [_precision_recall(result, ranked, series)]),
            Section("cost", "Cost over the threshold", [_which(result), cost_over_threshold(few)]),
            Section("capacity", "Capacity: what so many cases a day bring", [_which(result), curves]),
            Section("calibration", "Calibration", [_which(result), figures([calibration(few)])]),
            Section(
                "time",
                "Over time",
                [
                    _which(result),
                    over_time(
                        few,
                        "threshold",
                        "The median threshold in force, each in terms of its own rule: a probability, a score, or"
                        " expected loss over review cost.",
                    ),
                    week_table(
                        "Week by week, of the transactions of the test window whose truth is known.",
                        [(one.series, _weeks(one)) for one in few],
                    ),
                ],
            ),
            Section("setup", "What the figures rest on", _setup(result)),
        ],
    )


def _lead(result: Comparison) -> list[Html]:
    test = _test_days(result)
    facts = [
        ("source", result.source),
        ("transactions", wording.count(result.transactions)),
        ("truth known", wording.count(result.known)),
        ("frauds", wording.count(result.frauds)),
        ("prevalence", wording.percent(result.prevalence)),
        ("severity", f"{result.severity.value} ({BANDS[result.severity]})"),
        ("test window", f"{test:g} days"),
        ("tested on", f"{len(result.test):,} ({int(result.test.fraud.sum()):,} frauds)"),
        ("verdicts known after", days_text(result.delay_days)),
        ("features", f"{len(result.feature_names)} {result.features}"),
    ]
    stopped = paragraph("The comparison was stopped: rows are missing.") if result.interrupted else NOTHING
    return [definitions(facts), stopped]


def _test_days(result: Comparison) -> float:
    """Return the length of the test window, for rates a day."""
    window = next((it for it in result.windows if it.name == "test"), None)
    return (window.end_ms - window.start_ms) / MS_PER_DAY if window is not None else 1.0


def _headline(result: Comparison, series: dict[str, Series]) -> list[Html]:
    advice = result.recommendation
    words = [paragraph(it) for it in advice.paragraphs] or [missing("No strategy has figures.")]
    rows = [row for name in series for row in judged_rows(result, advice.block) if row.strategy == name]
    cards = [_card(result, row, row.figures, series) for row in rows[:_CURVES] if row.figures is not None]
    return [*words, element("div", *cards, class_="cards") if cards else NOTHING, _accuracy(result)]


def _accuracy(result: Comparison) -> Html:
    """Say why the one figure that everybody knows is not here."""
    frauds, rows = int(result.test.fraud.sum()), len(result.test)
    if rows == 0:
        return NOTHING
    return paragraph(
        f"Accuracy is nowhere on this page: a model that calls every transaction legitimate would be"
        f" {wording.percent(1.0 - frauds / rows)} accurate here, and would catch none of {frauds:,} frauds.",
        class_="quiet",
    )


def _card(result: Comparison, row: Row, its: Figures, series: dict[str, Series]) -> Html:
    facts = [
        ("cost", wording.money(its.cost)),
        ("savings", wording.percent(its.savings)),
        ("recall", wording.percent(its.recall)),
        ("by value", wording.percent(its.recall_by_value)),
        ("precision", wording.percent(its.precision)),
        ("cases a day", wording.rate(its.cases_per_day)),
    ]
    return element(
        "div",
        element("h3", lettered(row, series), *badges(result, row)),
        definitions(facts),
        paragraph(row.meaning, class_="quiet"),
        class_="card",
    )


def _tables(result: Comparison, series: dict[str, Series]) -> list[Html]:
    blocks = [(block, title, meaning) for block, (title, meaning) in _blocks(result) if result.block(block)]
    plots = [
        cost_plot(result, block, f"{title}: cost above the cheapest", series) for block, title, _ in blocks
    ]
    is_bounded = result.costs.alert_budget_cases_per_day is not None
    return [
        figures(plots),
        paragraph(OPEN_CASES, class_="quiet"),
        paragraph(HELD_TO_BUDGET, class_="quiet") if is_bounded else NOTHING,
        *(
            joined(
                [
                    element("h3", text(title)),
                    paragraph(meaning, class_="quiet"),
                    strategy_table(result, result.block(block), title, series),
                ]
            )
            for block, title, meaning in blocks
        ),
    ]


def _blocks(result: Comparison) -> list[tuple[Block, tuple[str, str]]]:
    """Return title and meaning of both blocks, that of the recommendation first."""
    return sorted(_BLOCKS.items(), key=lambda it: it[0] is not result.recommendation.block)


def _series(result: Comparison) -> dict[str, Series]:
    """Choose what the page draws: what to take, what it is held against, and the worker, by name."""
    advice = result.recommendation
    rows = sorted(judged_rows(result, advice.block), key=cost_of)
    groups = [
        [row for row in rows if row.strategy == advice.strategy],
        [row for row in rows if row.family == OURS and row.strategy == _WHOLE_WORKER],
        [row for row in rows if row.family == OURS],
        rows,
        [row for row in rows if row.strategy in advice.common_advice],
        [row for row in rows if row.family == "nothing"],
    ]
    chosen: list[Row] = []
    for row in [group[0] for group in groups if group] + rows:
        if len(chosen) < MOST_SERIES and not any(_decides_alike(row, other) for other in chosen):
            chosen.append(row)
    return {row.strategy: Series(i, row.strategy) for i, row in enumerate(chosen)}


def _decides_alike(one: Row, other: Row) -> bool:
    """Return whether two rows would be drawn on top of each other."""
    if one.strategy == other.strategy or one.decided is None or other.decided is None:
        return one.strategy == other.strategy
    return (
        len(one.decided) > 0
        and np.array_equal(one.decided.alerted, other.decided.alerted)
        and np.array_equal(one.decided.score, other.decided.score)
    )


def _ranked(result: Comparison, block: Block, series: dict[str, Series]) -> list[Ranked]:
    rows = {row.strategy: row for row in judged_rows(result, block)}
    return [
        _drawn(result, one, row, row.figures, row.decided)
        for name, one in series.items()
        if (row := rows.get(name)) is not None and row.decided is not None and row.figures is not None
    ]


def _drawn(result: Comparison, series: Series, row: Row, its: Figures, decided: Decided) -> Ranked:
    judged, days = _judged(result.test, decided), _test_days(result)
    # The curves know of the decisions of known truth alone.
    cases = int(np.count_nonzero(judged.charged))
    return Ranked(
        series=series,
        judged=judged,
        reached=Reached(
            its.recall, its.recall_by_value, its.precision, its.savings, its.cost, cases_per_day=cases / days
        ),
        rank=decided.rank,
        rank_label=_rank_label(row),
        threshold=decided.threshold,
        has_probability=bool(np.isfinite(decided.probability).any()),
        days=days,
        review_cost=result.costs.review_cost,
    )


def _weeks(one: Ranked) -> tuple[Stretch, ...]:
    # The table ranks nothing, and sorting equal scores costs next to nothing.
    return weeks(replace(one.judged, score=np.zeros(len(one.judged))), one.review_cost)


def _rank_label(row: Row) -> str:
    return (
        _RANKS[row.rule] if row.rule is not None else _OWN_RANKS.get(row.strategy, "risk over its threshold")
    )


def _judged(test: JudgedRows, decided: Decided) -> Judged:
    every = np.ones(len(test), np.bool_)
    charged = charge(test.case, decided.alerted, every)
    return Judged(
        row=np.arange(len(test)),
        event_time_ms=test.event_time_ms,
        fraud=test.fraud,
        truth_known=every,
        labelled=every,
        amount=test.amount,
        loss=test.loss,
        score=decided.score,
        probability=decided.probability.astype(np.float32),
        expected_loss=decided.probability * test.loss,
        threshold=decided.threshold,
        # Any decider but none: a strategy decides always, and its thresholds count.
        decider=np.full(len(test), Decider.ONLINE, np.uint8),
        alerted=decided.alerted,
        opens_case=charged.of_alerts,
        case=test.case,
        charged=charged.of_alerts,
        charged_for_all=charged.of_all,
    )


def _precision_recall(
    result: Comparison, ranked: Mapping[Block, Sequence[Ranked]], series: Mapping[str, Series]
) -> Html:
    others = {
        block: [
            (row.figures.recall, row.figures.precision)
            for row in judged_rows(result, block)
            if row.strategy not in series and row.figures is not None
        ]
        for block in Block
    }
    plots = [
        precision_recall(f"pr-{block.value}", title, ranked[block], others[block])
        for block, (title, _) in _blocks(result)
        if ranked[block]
    ]
    return figures(plots) if plots else missing("No strategy has figures.")


def _which(result: Comparison) -> Html:
    title = _BLOCKS[result.recommendation.block][0]
    return paragraph(
        f"Block: {title.lower()}. Letters, dashes and markers are those of the table.", class_="quiet"
    )


def _setup(result: Comparison) -> list[Html]:
    windows = Table(
        "The windows, in order of time. Training sees only labels that had arrived by the end of its window, tuning"
        " those that had arrived by the start of the test.",
        [
            Column("window"),
            Column("from"),
            Column("to"),
            Column("days"),
            Column("transactions"),
            Column("frauds seen"),
        ],
    )
    for window in result.windows:
        days = (window.end_ms - window.start_ms) / MS_PER_DAY
        cells = [wording.moment(window.start_ms), wording.moment(window.end_ms), f"{days:.3g}"]
        counts = [wording.count(window.rows), wording.count(window.frauds)]
        unused = window.rows == 0 and window.name != "test"
        windows.add(text(window.name), *map(text, [*cells, *([wording.UNKNOWN] * 2 if unused else counts)]))
    costs = result.costs
    facts = [
        ("review of a case", wording.money(costs.review_cost)),
        ("missed fraud", f"{costs.loss_fixed:,g} + {costs.loss_factor:g} \N{MULTIPLICATION SIGN} amount"),
        ("alert budget", wording.alert_budget(costs.alert_budget_cases_per_day)),
        ("seed", str(result.seed)),
    ]
    notes = element("ul", *(element("li", text(note)) for note in result.notes)) if result.notes else NOTHING
    names = paragraph("Features: " + ", ".join(result.feature_names[:_NAMES_SHOWN]), class_="quiet")
    return [
        definitions(facts),
        notes,
        windows.html(),
        run_table(result),
        names if result.feature_names else NOTHING,
    ]
