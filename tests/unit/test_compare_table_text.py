from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from tests.support.comparisons import comparison
from worker.offline.compare.result import Block, Severity
from worker.offline.compare.strategy import Caps
from worker.offline.compare.table_text import comparison_text
from worker.offline.report.compared import comparison_page

WHOLE = comparison()


def shown(width: int, metric: str = "cost", **changes: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width)
    for part in comparison_text(dataclasses.replace(WHOLE, **changes), metric, width):  # type: ignore[arg-type]
        console.print(part)
    return out.getvalue()


@pytest.mark.parametrize(("width", "tables"), [(170, 1), (100, 2), (80, 3)])
def test_every_figure_is_shown_at_any_width(width: int, tables: int) -> None:
    text = shown(width)
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    headings = [line for line in text.splitlines() if line.lstrip().startswith("strategy ")]
    assert len(headings) == tables * len(Block)
    for heading in (
        "AP", "ROC AUC", "recall", "by value", "precision", "F1", "cases/day", "cost", "savings",
        "above the cheapest [95 %]", "fit s", "µs/tx",
    ):  # fmt: skip
        assert sum(f" {heading}" in line for line in headings) == len(Block)


def test_no_line_ends_in_blanks_and_a_number_keeps_its_percent_sign() -> None:
    text = shown(80, "accuracy")
    prose = text.partition("\nAccuracy\n")[2]
    assert not any(line.endswith(" ") or line.lstrip().startswith("%") for line in prose.splitlines())


def test_the_recommended_row_is_marked_in_its_own_block_only() -> None:
    advised = WHOLE.recommendation
    frozen, refreshed = shown(170).split("\nRefreshed: ")
    marked = [line for line in refreshed.splitlines() if line.startswith(">  ")]
    assert [line.split()[1] for line in marked] == [advised.strategy]
    assert ">  " not in frozen


def test_what_is_missing_is_said() -> None:
    lost = [dataclasses.replace(row, figures=None, decided=None, left_out="because") for row in WHOLE.rows]
    text = shown(170, rows=tuple(lost), interrupted=True, notes=("One column is odd.",))
    assert text.count("  no strategy has figures") == len(Block)
    assert "left out: smote: because" in text
    assert "The comparison was stopped: rows are missing." in text
    assert "  note: One column is odd." in text


def test_why_the_workers_own_rows_have_no_time_to_score_is_said() -> None:
    frozen, refreshed = shown(170).split("\nRefreshed: ")
    assert "scoring has no time of its own" in " ".join(refreshed.split())
    assert "scoring has no time of its own" not in frozen


def test_a_cap_below_a_second_is_no_0_s() -> None:
    caps = Caps(rows=None, seconds=0.5, memory_bytes=1 << 30)
    rows = tuple(dataclasses.replace(row, caps=row.caps and caps) for row in WHOLE.rows)
    assert "caps: all: all rows, 0.5 s and 1 GiB a block" in shown(170, rows=rows)
    hours = tuple(
        dataclasses.replace(row, caps=row.caps and dataclasses.replace(caps, seconds=86_400)) for row in rows
    )
    assert "caps: all: all rows, 86,400 s and 1 GiB a block" in shown(170, rows=hours)


def test_classes_that_are_nearly_equal_are_called_balanced_and_a_budget_of_one_case_is_one() -> None:
    costs = dataclasses.replace(WHOLE.costs, alert_budget_cases_per_day=1.0)
    heading = shown(170, severity=Severity.BALANCED, prevalence=0.5, costs=costs)
    assert "frauds: 50 %, balanced (30 % or more)\n" in heading
    assert "budget 1 case a day\n" in heading
    assert "frauds: 1 %, moderate imbalance (1 to 10 %)\n" in shown(170)


def test_where_there_is_a_budget_what_it_does_to_thresholds_is_said() -> None:
    costs = dataclasses.replace(WHOLE.costs, alert_budget_cases_per_day=15.0)
    said = "Thresholds by cost are raised until the window that they are tuned on keeps within the budget of cases"
    for width in (170, 80):
        text = shown(width, costs=costs)
        assert said in " ".join(text.split())
        assert max(map(len, text.splitlines())) <= width
    assert said not in shown(170)
    bounded, free = (comparison_page(it) for it in (dataclasses.replace(WHOLE, costs=costs), WHOLE))
    assert said in bounded
    assert said not in free
