"""The dashboard and the recording rules query series that exist, in the form that Grafana's own linter wants."""

from __future__ import annotations

import json
import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.dashboard import (
    DEPLOY,
    RULES,
    Query,
    alerts,
    dashboard,
    panels,
    queries,
    rules,
    series_of,
    tool,
)
from tests.support.repository import ROOT
from worker.telemetry.health import WorkerStatus
from worker.telemetry.metrics import Metrics

QUERIES = sorted(set(queries()))
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
RATE = re.compile(r"\b(?:rate|irate|increase)\(")
VARIABLES = {variable["name"]: variable for variable in dashboard()["templating"]["list"]}
ANNOTATIONS = dashboard()["annotations"]["list"]


def exposed() -> dict[str, str]:
    """Return every series of a worker's /metrics, with the type of its metric."""
    metrics = Metrics(
        version="1", status=WorkerStatus().snapshot, dead_letter_reasons={"decode": ["not_json"]}
    )
    metrics.lag({("t", 0): 1})
    metrics.waiting_labels({0: (1, 1.0)})
    metrics.drifted(["amount"])
    families = text_string_to_metric_families(metrics.render().decode())
    return {sample.name: family.type for family in families for sample in family.samples}


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def by_title(items: list[Any]) -> list[Any]:
    return [pytest.param(item, id=item["title"]) for item in items]


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.panel)
def test_a_panel_asks_only_for_what_is_there(query: Query) -> None:
    known = set(exposed()) | {rule["record"] for rule in rules()}
    assert series_of(query.expr) <= known
    assert series_of(query.expr)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_an_alert_asks_only_for_what_is_there_and_says_what_to_do(rule: dict[str, Any]) -> None:
    assert series_of(rule["expr"]) <= set(exposed())
    assert series_of(rule["expr"])
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert {"summary", "description"} == set(rule["annotations"])


def test_what_is_wrong_with_the_logs_reaches_a_person_and_has_a_panel() -> None:
    wrong = {"fraud_worker_digest_mismatches_total", "fraud_worker_stray_records_total"}
    assert wrong <= {name for rule in alerts() for name in series_of(rule["expr"])}
    assert wrong <= {name for query in QUERIES for name in series_of(query.expr)}


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["record"])
def test_a_rule_asks_only_for_what_is_there(rule: dict[str, str]) -> None:
    assert series_of(rule["expr"]) <= set(exposed())
    assert series_of(rule["expr"])


def test_annotations_ask_only_for_what_is_there() -> None:
    assert ANNOTATIONS
    for annotation in ANNOTATIONS:
        assert series_of(annotation["expr"]) <= set(exposed())
        assert annotation["datasource"] == DATASOURCE


def test_every_recorded_series_is_named_by_the_convention_and_shown() -> None:
    shown = {name for query in QUERIES for name in series_of(query.expr)}
    for rule in rules():
        assert re.fullmatch(r"[a-z_]+:fraud_worker_[a-z_]+:(?:rate|increase)\d+[mhd]", rule["record"])
        assert rule["record"] in shown
        assert "/" not in rule["expr"], "numerators and denominators are recorded apart"


@pytest.mark.parametrize("panel", by_title(panels()))
def test_a_panel_says_what_it_shows(panel: dict[str, Any]) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert defaults["unit"]
    assert defaults["thresholds"]["steps"]
    assert panel["datasource"] == DATASOURCE
    assert panel["targets"]
    assert all(target["datasource"] == DATASOURCE and target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.panel)
def test_every_series_of_a_query_is_of_the_chosen_workers(query: Query) -> None:
    selectors = re.findall(r"\{([^{}]*)\}", query.expr)
    names = series_of(query.expr) | set(re.findall(r"\bup\b", query.expr))
    assert len(selectors) >= len(names)
    for selector in selectors:
        assert 'job=~"$job", instance=~"$instance"' in selector


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.panel)
def test_counters_are_rated_over_the_interval_of_the_screen(query: Query) -> None:
    kinds = exposed()
    counters = {name for name in series_of(query.expr) if kinds.get(name) in {"counter", "histogram"}}
    for name in counters:
        assert re.search(rf"(?:rate|increase)\({name}\{{[^}}]*\}}\[\$__rate_interval\]\)", query.expr)
    assert len(RATE.findall(query.expr)) == query.expr.count("[$__rate_interval]")
    others = query.expr.count("[") - query.expr.count("[$__rate_interval]")
    assert others == query.expr.count("present_over_time("), "which is of no counter"


def test_the_variables_are_those_that_the_linter_wants() -> None:
    assert list(VARIABLES) == ["datasource", "job", "instance"]
    assert VARIABLES["datasource"]["query"] == "prometheus"
    for name in ("job", "instance"):
        variable = VARIABLES[name]
        assert (variable["type"], variable["multi"], variable["allValue"]) == ("query", True, ".+")
        assert variable["refresh"] == 2, "when the time range changes"
        assert variable["datasource"] == DATASOURCE
        assert variable["definition"].startswith("label_values(fraud_worker_build_info")


def test_the_dashboard_has_fixed_ids_and_is_not_edited_in_place() -> None:
    board = dashboard()
    assert (board["uid"], board["editable"]) == ("fraud-worker", False)
    assert {"panels", "templating", "schemaVersion"} <= set(board), "the classic format"
    assert "elements" not in board
    assert [it for it, count in Counter(panel["id"] for panel in board["panels"]).items() if count > 1] == []
    source = (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    assert f"uid: {VARIABLES['datasource']['current']['value']}\n" in source


def test_panels_lie_beside_each_other_and_not_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


def first_row() -> list[dict[str, Any]]:
    """Return the panels of the first row."""
    row, *others = sorted(
        dashboard()["panels"], key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"])
    )
    assert row["type"] == "row"
    end = min(panel["gridPos"]["y"] for panel in others if panel["type"] == "row")
    return [panel for panel in others if panel["gridPos"]["y"] < end]


def test_recall_and_savings_come_first_and_what_people_look_at_are_figures() -> None:
    titles = [panel["title"] for panel in first_row()]
    assert titles[0].startswith("Recall")
    assert titles[2].startswith("Savings")
    assert {"Workers up", "Lag now", "Label feed now"} <= set(titles)
    assert {panel["type"] for panel in first_row()} == {"stat"}


def test_a_figure_leads_to_the_panel_that_shows_its_past() -> None:
    ids = {panel["id"]: panel for panel in panels()}
    for panel in first_row():
        [link] = panel["links"]
        assert panel["fieldConfig"]["defaults"]["links"] == [link]
        target = re.fullmatch(
            r"/d/fraud-worker\?viewPanel=(\d+)&\$\{__url_time_range\}&\$\{__all_variables\}", link["url"]
        )
        assert target, link
        assert link["title"] == ids[int(target[1])]["title"]


def steps_of(title: str) -> dict[float | None, str]:
    [panel] = [panel for panel in panels() if panel["title"] == title]
    return {step["value"]: step["color"] for step in panel["fieldConfig"]["defaults"]["thresholds"]["steps"]}


def test_no_worker_is_red_and_one_is_green() -> None:
    assert steps_of("Workers up") == {None: "red", 1: "green"}
    assert steps_of("Savings, last 30 closed days") == {None: "red", 0: "green"}


def test_what_an_alert_speaks_of_is_on_the_dashboard() -> None:
    asked = {series for rule in alerts() for series in series_of(rule["expr"])}
    assert asked <= {series for query in QUERIES for series in series_of(query.expr)}


def test_there_is_no_accuracy_and_what_counts_by_arrival_says_so() -> None:
    assert "accuracy" not in json.dumps(dashboard()).lower()
    for panel in panels():
        if any("by_arrival" in target["expr"] for target in panel["targets"]):
            assert "arrival" in panel["title"]
            assert "arriv" in panel["description"]


def evaluate(
    folder: Path, expr: str, series: dict[str, str], expected: dict[str, list[dict[str, Any]]]
) -> None:
    """Compare what an expression gives for all jobs at these times with the expected, on series sampled every 15 s."""
    asked = Query("", expr.replace("$job", VARIABLES["job"]["allValue"])).filled_in
    tests = [{"expr": asked, "eval_time": time, "exp_samples": samples} for time, samples in expected.items()]
    input_series = [{"series": name, "values": values} for name, values in series.items()]
    path = folder / "test.yml"
    path.write_text(
        json.dumps({"tests": [{"interval": "15s", "input_series": input_series, "promql_expr_test": tests}]}),
        encoding="utf-8",
    )
    run(tool("promtool", "prometheus"), "test", "rules", str(path))


def test_workers_up_are_workers_alone_and_one_that_went_down_is_missed(tmp_path: Path) -> None:
    decide, expr = sorted(query.expr for query in QUERIES if query.panel == "Workers up")
    series = {
        'up{job="workers", instance="a"}': "1x20",
        'up{job="workers", instance="b"}': "1x4 0x15",
        'fraud_worker_build_info{job="workers", instance="a", version="1"}': "1x4 stale",
        'fraud_worker_build_info{job="workers", instance="a", version="2"}': "_x5 1x14",
        'fraud_worker_build_info{job="workers", instance="b", version="1"}': "1x4 stale",
        'up{job="prometheus", instance="a"}': "1x20",
        'fraud_worker_ready{job="workers", instance="a"}': "1x4 0x15",
        'fraud_worker_ready{job="workers", instance="b"}': "1x4 stale",
    }
    evaluate(tmp_path, expr, series, {"1m": [{"value": 2}], "3m": [{"value": 1}]})
    evaluate(tmp_path, decide, series, {"1m": [{"value": 2}], "3m": [{"value": 0}]})


def test_it_is_marked_when_the_forest_begins_to_decide_and_not_while_it_does(tmp_path: Path) -> None:
    [expr] = [it["expr"] for it in ANNOTATIONS if it["name"] == "Isolation forest begins to decide"]
    share = 'fraud_worker_decider_share{job="workers", instance="a", decided_by="%s"}'
    series = {share % "forest": "0x7 1x8 0x15", share % "online": "0x15 1x15"}
    begun = {"labels": share % "forest", "value": 1}
    evaluate(tmp_path, expr, series, {"1m": [], "2m15s": [begun], "3m30s": [], "5m": []})


def test_a_new_generation_is_marked_and_a_restart_is_not(tmp_path: Path) -> None:
    [expr] = [it["expr"] for it in ANNOTATIONS if it["name"] == "New model generation"]
    offset = 'fraud_worker_model_generation_offset{job="workers", instance="a"}'
    begun = [{"labels": '{job="workers", instance="a"}', "value": 20.0}]
    series = {offset: "5x7 25x8 stale NaN 25x20"}
    evaluate(tmp_path, expr, series, {"1m": [], "2m": begun, "4m30s": [], "6m": []})


def test_promtool_finds_nothing_in_configuration_and_rules(tmp_path: Path) -> None:
    promtool = tool("promtool", "prometheus")
    run(promtool, "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    run(promtool, "check", "rules", "--lint=all", "--lint-fatal", *map(str, RULES))
    run(promtool, "test", "rules", *map(str, sorted((ROOT / "tests" / "prometheus").glob("*.yml"))))
    # A rule of each query: promtool has no other way to read one.
    asked = [*QUERIES, *(Query(it["name"], it["expr"]) for it in ANNOTATIONS)]
    found = [{"record": f"q:{number}", "expr": query.filled_in} for number, query in enumerate(asked)]
    path = tmp_path / "queries.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": found}]}), encoding="utf-8")
    run(promtool, "check", "rules", str(path))
