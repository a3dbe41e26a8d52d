from __future__ import annotations

import importlib.util
import math
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.working_points import WorkingPoints
from tests.support.comparisons import COSTS, STRENGTHS, comparison
from tests.support.pages import assert_keeps_its_promises, read, sections
from worker.errors import SettingsError
from worker.offline.backtest import BacktestResult, backtest
from worker.offline.compare.mistakes import Mistake
from worker.offline.compare.result import OURS, Block, Comparison, Decided, Figures, Row
from worker.offline.compare.strategy import Caps, Rule
from worker.offline.dataset import NEVER
from worker.offline.figures import days, weeks
from worker.offline.label_file import LabelMatches
from worker.offline.refusals import Refusal
from worker.offline.report import backtested as backtested_page
from worker.offline.report import compared as compared_page
from worker.offline.report import require_page, wording, write_backtest, write_comparison, write_mistakes
from worker.offline.report.compared import comparison_page
from worker.offline.report.course import course
from worker.offline.report.curves import Ranked, recall_and_precision
from worker.offline.report.markup import NOTHING, Html
from worker.offline.report.plots import MOST_SERIES
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic, simulate

COMPARE_SECTIONS = {
    "recommendation", "table", "precision-recall", "cost", "capacity", "calibration", "time", "setup",
}  # fmt: skip
BACKTEST_SECTIONS = {
    "money", "course", "ranking", "cost", "capacity", "time", "misses", "reasons", "explained", "setup",
}  # fmt: skip
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "$\\frac{1}{0}$ & %s {0} $title",
    "rev\u202eersed \x1b[31m\nline",
    "\u7d22\u5f15 \N{GRINNING FACE}",
    "card 4111 1111 1111 1111",
)


def settings(**sections: Any) -> Settings:
    quick: dict[str, Any] = {
        "labels": {"negatives_after_days": 2.0, "horizon_days": 5.0, "max_silence_days": 2.0},
        "model": {"min_frauds": 30, "forest_min_rows": 400, "generation_days": 30.0},
        "costs": {"review_cost": 3.0, "missed_fraud_fixed": 2.0, "missed_fraud_factor": 0.5},
    }
    return Settings(entity_key="0f" * 16, transaction=FIELDS, **(quick | sections))


TRAFFIC = Traffic(
    cards=150, merchants=30, days=16, per_card_day=2.0, prevalence=0.06, seed=3, label_delay_days=1.5
)


@pytest.fixture(scope="module")
def backtested() -> BacktestResult:
    return backtest(settings(), simulate(TRAFFIC))


def compared(result: Comparison, folder: Path) -> str:
    write_comparison(result, folder / "report.html")
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_report_of_a_comparison_has_every_section_and_keeps_its_promises(tmp_path: Path) -> None:
    left_out = Row("smote_nc", "resampling", "", Block.FROZEN, Rule.HALF, Caps(), left_out="too few frauds")
    result = comparison(left_out=[left_out])
    page = compared(result, tmp_path)
    root = assert_keeps_its_promises(page)
    found = sections(root)
    assert set(found) == COMPARE_SECTIONS
    assert all(found[name].all("svg") for name in COMPARE_SECTIONS - {"recommendation", "setup"})
    table = found["table"].text
    assert all(name in table for name, _ in STRENGTHS)
    assert "left out: too few frauds" in table
    assert page.lower().count("accuracy") == 1
    assert "tuning those that had arrived by the start of the test" in found["setup"].text
    assert "scoring has no time of its own" in table
    # Of the plots a reader hears what was reached.
    assert "Working points: worker: recall" in found["precision-recall"].all("desc")[0].text


def test_the_rows_of_a_block_stand_by_cost_with_their_family() -> None:
    left_out = Row("smote_nc", "resampling", "", Block.FROZEN, Rule.HALF, Caps(), left_out="too few frauds")
    result = comparison(left_out=[left_out])
    page = comparison_page(result)
    table = page.partition('id="table"')[2].partition("<h3>Frozen")[2].partition("</table>")[0]
    costs = {row.strategy: row.figures.cost for row in result.block(Block.FROZEN) if row.figures}
    order = sorted([*costs, "smote_nc"], key=lambda name: costs.get(name, math.inf))
    shown = re.findall(r'<th scope="row">(.*?)</th>', table, re.DOTALL)
    names = [re.sub("<[^>]*>", "", it.replace("<wbr>", "")) for it in shown]
    assert [max((name for name in order if name in it), key=len) for it in names] == order
    assert "weights: what class-weights does" in table


def test_equal_results_give_equal_pages() -> None:
    small = comparison(rows=400, strengths={("worker", OURS): 2.0})
    assert comparison_page(small) == comparison_page(small)


def test_what_others_wrote_is_escaped_and_card_numbers_are_struck_out(tmp_path: Path) -> None:
    names = {(name, "any"): 2.0 for name in HOSTILE}
    result = comparison(rows=1_500, strengths=names)
    result = replace(
        result,
        source=HOSTILE[0],
        notes=HOSTILE,
        feature_names=HOSTILE,
        rows=tuple(replace(row, meaning=row.strategy) for row in result.rows),
        recommendation=replace(result.recommendation, paragraphs=HOSTILE),
    )
    page = compared(result, tmp_path)
    root = assert_keeps_its_promises(page)
    assert "&lt;script&gt;alert(1)" in page
    assert HOSTILE[2] in root.text
    assert "\\u202e" in page
    assert "\\x1b[31m\\n" in page
    assert not re.search("[\u202e\x1b]", page)
    assert "4111" not in page
    assert "card **** **** **** 1111" in page


def nan_figures() -> Figures:
    return Figures(**{it.name: math.nan for it in fields(Figures)})


def without_decisions(row: Row) -> Row:
    return replace(row, left_out="it took too long", figures=None, decided=None)


def without_interval(row: Row) -> Row:
    assert row.figures is not None
    return replace(row, figures=replace(row.figures, excess_low=math.nan, excess_high=math.nan))


def with_nan(row: Row) -> Row:
    assert row.decided is not None
    unknown = np.full(len(row.decided), np.nan)
    its = replace(row.decided, probability=unknown, rank=unknown, threshold=np.full(len(row.decided), np.inf))
    return replace(row, figures=nan_figures(), decided=its)


@pytest.mark.parametrize(
    "case", ["one strategy", "no frauds", "nan", "no intervals", "no figures", "no rows", "equal scores"]
)
def test_odd_results_give_a_whole_page(case: str, tmp_path: Path) -> None:
    one = {("worker", OURS): 2.0}
    match case:
        case "one strategy":
            result = comparison(rows=300, strengths=one)
        case "no frauds":
            result = comparison(rows=300, prevalence=0.0, strengths=one)
        case "nan":
            result = comparison(rows=300, strengths=one)
            result = replace(result, prevalence=math.nan, rows=tuple(map(with_nan, result.rows)))
        case "no intervals":
            result = comparison(rows=300)
            result = replace(result, rows=tuple(map(without_interval, result.rows)))
        case "no figures":
            result = comparison(rows=300, strengths=one)
            advice = replace(result.recommendation, strategy=None, cheapest=None, paragraphs=())
            rows = tuple(map(without_decisions, result.rows))
            result = replace(result, rows=rows, recommendation=advice, notes=(), interrupted=True)
        case "no rows":
            result = comparison(rows=300, strengths=one)
            rows = tuple(
                replace(row, figures=nan_figures(), decided=row.decided and row.decided.take(slice(0)))
                for row in result.rows
            )
            result = replace(result, test=result.test.take(slice(0)), rows=rows, windows=())
        case _:
            result = comparison(rows=300, strengths=one)
            half = np.full(300, 0.5)
            flat = Decided(half, half, half, half, np.ones(300, np.bool_))
            result = replace(result, rows=tuple(replace(row, decided=flat) for row in result.rows))
    found = sections(assert_keeps_its_promises(compared(result, tmp_path)))
    assert set(found) == COMPARE_SECTIONS
    assert all(len(section.text) > 20 for section in found.values())


def test_a_page_of_many_rows_and_strategies_stays_small(tmp_path: Path) -> None:
    names = {(f"strategy_{i}", f"family_{i // 5}"): 0.5 + 0.05 * i for i in range(40)}
    result = comparison(rows=6_000, prevalence=0.1, strengths=names)
    page = compared(result, tmp_path)
    assert_keeps_its_promises(page)
    # Thinned curves are as large however many rows there are.
    assert len(page) < 700_000


def test_every_strategy_has_its_working_point_beside_the_curves_of_a_few(tmp_path: Path) -> None:
    def points_of(strategies: int) -> list[int]:
        names = {(f"strategy_{i}", f"family_{i // 5}"): 0.5 + 0.05 * i for i in range(strategies)}
        page = compared(comparison(rows=6_000, prevalence=0.1, strengths=names), tmp_path)
        plots = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
        return [plot.count("<use") for plot in plots if "Precision against recall" in plot]

    few, many = points_of(MOST_SERIES), points_of(30)
    assert len(few) == len(many) == 2
    assert [a - b for a, b in zip(many, few, strict=True)] == [30 - MOST_SERIES] * 2


def test_the_report_of_a_backtest_has_every_section_and_keeps_its_promises(
    backtested: BacktestResult, tmp_path: Path
) -> None:
    write_backtest(backtested, tmp_path / "report.html", "payments.csv")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    found = sections(assert_keeps_its_promises(page))
    assert set(found) == BACKTEST_SECTIONS
    assert len(found["explained"].all("article")) == len(backtested.explained) == 10
    assert "the amount is" in found["explained"].text, "in an analyst's words"
    assert backtested.costliest_misses[0].transaction_id in found["misses"].text
    assert f"{backtested.evaluation.cost:,.0f}" in found["money"].text
    assert page.lower().count("accuracy") == 1


def test_the_page_of_a_backtest_says_what_its_file_lacks_and_what_is_odd_in_it(
    backtested: BacktestResult,
) -> None:
    odd = replace(
        backtested.dataset,
        refused=(Refusal("amount", "missing_field", 3, 7),),
        notes=("shop is cast",),
        matches=LabelMatches(labels=90, outcomes=0, unmatched=4, examples=("x",), superseded=0),
    )
    page = backtested_page.backtest_page(replace(backtested, dataset=odd), "payments.csv")
    setup = sections(assert_keeps_its_promises(page))["setup"]
    assert [it.text for it in setup.all("li")] == [
        "left out, as a live worker refuses it: amount: missing_field in 3 rows, first in row 7",
        "4 of 90 labels find no transaction",
        "shop is cast",
    ]
    # Refused rows are in the file too.
    assert "transactions read" in setup.text


def test_the_marker_of_a_backtest_costs_what_its_curve_charges_for_the_same_alerts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A third of the truth is not known, and the steady state begins amid the cases of a day."""
    data = simulate(TRAFFIC)
    label_ms = data.label_time_ms
    assert label_ms is not None
    some = replace(data, label_time_ms=np.where(np.arange(len(data)) % 3 == 0, NEVER, label_ms))
    drawn: list[Ranked] = []

    def keep(shown: list[Ranked], **_: bool) -> Html:
        drawn.extend(shown)
        return NOTHING

    for plot in ("capacity", "cost_over_threshold"):
        monkeypatch.setattr(backtested_page, plot, keep)
    backtested_page.backtest_page(backtest(settings(), some), "file")
    assert len(drawn) == 4
    for one in drawn:
        its, review_cost = one.judged, one.review_cost
        swept = WorkingPoints.of(its.fraud, its.alerted.astype(np.float64), its.loss, its.case)
        assert one.reached.cases_per_day == pytest.approx(swept.cases[1] / one.days)
        assert one.reached.cost == pytest.approx(swept.cost(review_cost)[1])
        assert one.reached.savings == pytest.approx(swept.savings(review_cost)[1])


def test_the_cases_a_day_of_a_capacity_are_said_to_be_of_known_truth_where_some_is_unknown(
    backtested: BacktestResult,
) -> None:
    def axes(result: BacktestResult) -> set[str]:
        found = sections(read(backtested_page.backtest_page(result, "file")))["capacity"]
        return {it.text for it in found.all("text") if "cases a day" in it.text}

    assert axes(backtested) == {"cases a day"}
    data = simulate(TRAFFIC)
    assert data.label_time_ms is not None
    some = replace(data, label_time_ms=np.where(np.arange(len(data)) % 3 == 0, NEVER, data.label_time_ms))
    assert axes(backtest(settings(), some)) == {"cases a day of known truth"}


def test_the_capacity_of_a_comparison_is_of_known_truth_and_its_markers_lie_at_those_cases() -> None:
    result = comparison(rows=1_500)
    rows = tuple(
        replace(it, figures=it.figures and replace(it.figures, cases_per_day=4.0 * it.figures.cases_per_day))
        for it in result.rows
    )
    some = replace(result, rows=rows, unjudged=4_500)
    whole, known = (
        compared_page._ranked(it, Block.REFRESHED, compared_page._series(it)) for it in (result, some)
    )
    assert [it.reached for it in known] == [it.reached for it in whole]
    for it, label in ((result, "cases a day"), (some, "cases a day of known truth")):
        found = sections(read(comparison_page(it)))["capacity"].all("text")
        assert {axis.text for axis in found if "cases a day" in axis.text} == {label}


def test_a_backtest_without_labels_gives_a_whole_page(tmp_path: Path) -> None:
    traffic = Traffic(cards=30, merchants=5, days=3, per_card_day=2.0, prevalence=0.06, seed=3)
    data = replace(simulate(traffic), is_fraud=None, label_time_ms=None)
    write_backtest(backtest(settings(), data), tmp_path / "report.html", "payments.csv")
    root = assert_keeps_its_promises((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "name the column of the labels" in sections(root)["money"].text


def test_the_report_of_the_mistakes_has_each_beside_the_honest_figure(tmp_path: Path) -> None:
    nan, path = float("nan"), tmp_path / "report.html"
    made = [
        Mistake("accuracy as the metric", "accuracy", 0.984, "recall", 0.0, "It catches <none>."),
        Mistake("one method only", "", nan, "", nan, "Not shown: too few frauds."),
    ]
    write_mistakes(made, path, "payments.csv", ["a note"])
    found = sections(assert_keeps_its_promises(path.read_text(encoding="utf-8")))
    assert list(found) == ["mistakes", "mistake-1", "mistake-2"]
    cells = [[cell.text for cell in row.all("td")] for row in found["mistakes"].all("tr")[1:]]
    assert [[" ".join(text.split()) for text in row] for row in cells] == [
        ["98.4 % accuracy", "0.0 % recall"],
        [wording.UNKNOWN, wording.UNKNOWN],
    ]
    assert "It catches <none>." in found["mistake-1"].text


def test_without_matplotlib_the_error_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else 1 / 0)
    with pytest.raises(SettingsError, match=r"fraud-worker\[compare\]"):
        write_comparison(comparison(rows=100), tmp_path / "report.html")


def test_a_file_that_cannot_be_written_is_an_error_of_its_setting(tmp_path: Path) -> None:
    result = comparison(rows=100, strengths={("worker", OURS): 2.0})
    with pytest.raises(SettingsError, match="--report"):
        write_comparison(result, tmp_path)
    with pytest.raises(SettingsError, match="there is no folder"):
        require_page(tmp_path / "none" / "report.html")
    with pytest.raises(SettingsError, match=r"end its name in \.html"):
        require_page(tmp_path / "report.pdf")


def test_a_page_that_is_a_folder_or_that_nobody_may_write_is_refused_before_the_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, locked = tmp_path / "folder.html", tmp_path / "locked.html"
    folder.mkdir()
    locked.touch()
    with pytest.raises(SettingsError, match=r"--report = .*folder\.html'.*is a folder"):
        require_page(folder)
    # The user of the tests may be root, who may write everything.
    monkeypatch.setattr("os.access", lambda path, _mode: path != locked)
    with pytest.raises(SettingsError, match=r"--report = .*locked\.html'.*cannot be written"):
        require_page(locked)
    require_page(tmp_path / "new.html")
    monkeypatch.setattr("os.access", lambda path, _mode: path != tmp_path)
    with pytest.raises(SettingsError, match=r"--report = .*new\.html'.*cannot be written"):
        require_page(tmp_path / "new.html")
    require_page(locked)


def test_recall_and_precision_are_those_of_every_threshold_at_a_fraud() -> None:
    rng = np.random.default_rng(5)
    fraud, score = rng.random(500) < 0.1, np.round(rng.normal(size=500), 1)
    swept = WorkingPoints.of(fraud, score, np.ones(500), np.arange(500))
    at_frauds = np.isin(swept.threshold, score[fraud])
    recall, precision = recall_and_precision(fraud, score)
    np.testing.assert_allclose(recall, swept.recall[at_frauds])
    np.testing.assert_allclose(precision, swept.precision[at_frauds])


def test_the_course_of_weeks_adds_up_the_days(backtested: BacktestResult) -> None:
    judged = backtested.judged
    by_day = course(days(judged, COSTS.review_cost))
    assert by_day.name == "day"
    # As if every day lay three days apart.
    stretched = replace(
        judged, event_time_ms=judged.event_time_ms + 2 * (judged.event_time_ms // 86_400_000) * 86_400_000
    )
    by_week = course(days(stretched, COSTS.review_cost))
    expected = weeks(stretched, COSTS.review_cost)
    assert by_week.name == "week"
    assert by_week.start_ms.tolist() == [week.start_ms for week in expected]
    np.testing.assert_allclose(by_week.savings, [week.evaluation.savings for week in expected])
    np.testing.assert_allclose(by_week.cases[:-1], [week.cases_per_day for week in expected[:-1]])
    np.testing.assert_allclose(by_week.prevalence, [week.evaluation.prevalence for week in expected])
    np.testing.assert_allclose(by_week.decided_by_online, [week.decided_by["online"] for week in expected])
