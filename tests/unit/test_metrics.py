from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from models.ledger import Ledger, Truth, decided_deltas, settled_deltas, summed
from models.payoff import NAMES, InForce
from models.vocabulary import MS_PER_DAY, Decider, Flag, LabelEffect, LabelKind, LabelSource
from worker.telemetry import metrics as metrics_module
from worker.telemetry.health import StatusSnapshot, WorkerStatus
from worker.telemetry.metrics import Metrics

NOTHING = np.zeros(0)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(
        version="1.2.3",
        status=lambda: StatusSnapshot(age_s=4.5, ready=True, reason=""),
        dead_letter_reasons={"decode": ["not_json", "no_amount"], "join": ["orphan"]},
    )


def families(metrics: Metrics) -> list[Metric]:
    return list(text_string_to_metric_families(metrics.render().decode()))


def samples(metrics: Metrics) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in families(metrics):
        for sample in family.samples:
            yield sample.name.removeprefix("fraud_worker_"), sample.labels, sample.value


def value(metrics: Metrics, name: str, **labels: str) -> float:
    (found,) = [it[2] for it in samples(metrics) if it[0] == name and it[1] == labels]
    return found


def test_labels_are_counted_by_a_bounded_class_and_by_whether_they_join(metrics: Metrics) -> None:
    source = np.array([LabelSource.OTHER, LabelSource.OTHER, LabelSource.NONE], np.uint8)
    kind = np.array([LabelKind.FRAUD, LabelKind.FRAUD, LabelKind.OUTCOME], np.uint8)
    metrics.label_classes(source, kind, np.array([True, False, False]))
    metrics.undecoded(transactions=1, labels=5)
    name = "labels_by_class_total"
    assert value(metrics, name, source="other", kind="fraud", joined="yes") == 1
    assert value(metrics, name, source="other", kind="fraud", joined="no") == 1
    assert value(metrics, name, source="none", kind="outcome", joined="no") == 1
    assert len([it for it in samples(metrics) if it[0] == name]) == 2 * len(LabelKind) * len(LabelSource)
    assert value(metrics, "undecoded_total", topic="labels") == 5
    assert value(metrics, "undecoded_total", topic="transactions") == 1


def test_waiting_labels_and_what_the_budget_holds_back_have_metrics(metrics: Metrics) -> None:
    metrics.waiting_labels({0: (5, 60.0), 1: (0, 0.0)})
    metrics.waiting_labels({1: (7, 3.0)})
    metrics.watched_for_drift(["amount", "hour"])
    metrics.drifted(["amount", "score", "amount"])
    assert value(metrics, "drift_total", of="hour") == 0
    assert value(metrics, "drift_total", of="amount") == 2
    metrics.postponed_labels(4, np.bincount([LabelSource.ANALYST], minlength=len(LabelSource)))
    assert value(metrics, "postponed_labels") == 4
    assert value(metrics, "rationed_labels", source="analyst") == 1
    assert value(metrics, "rationed_labels", source="chargeback") == 0
    assert value(metrics, "waiting_labels", partition="1") == 7
    assert value(metrics, "waiting_labels_ahead_seconds", partition="1") == 3
    assert [it[1] for it in samples(metrics) if it[0] == "waiting_labels"] == [{"partition": "1"}]
    metrics.held_back(3, binds=True)
    metrics.held_back(2, binds=False)
    assert value(metrics, "budget_held_back_total") == 5
    assert value(metrics, "budget_binding") == 0


def test_settings_of_another_worker_in_force_have_a_gauge(metrics: Metrics) -> None:
    for differs in (False, True, False):
        metrics.policy_differs(differs)
        assert value(metrics, "policy_differs") == differs


def test_transactions_dated_far_ahead_are_counted(metrics: Metrics) -> None:
    metrics.dated_ahead(2)
    metrics.dated_ahead(0)
    assert value(metrics, "transactions_dated_ahead_total") == 2


def test_the_table_of_the_module_names_exactly_what_is_exposed(metrics: Metrics) -> None:
    metrics.lag({("t", 0): 1})
    metrics.waiting_labels({0: (1, 1.0)})
    metrics.drifted(["amount"])
    _, _, table, _ = re.split(r"^=.*=$", metrics_module.__doc__ or "", flags=re.MULTILINE)
    rows = {line.split()[0] for line in table.strip().splitlines()}
    exposed: dict[str, set[str]] = {}
    for family in families(metrics):
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        name = family.name.removeprefix("fraud_worker_") + suffix
        exposed[name] = set().union(*(sample.labels for sample in family.samples)) - {"le"}
    assert rows == set(exposed)
    for line in (metrics_module.__doc__ or "").splitlines():
        if line[:35].strip() in exposed:
            labels = {label.strip() for label in line[36:63].split(",") if label.strip()}
            assert labels == exposed[line[:35].strip()], line


def test_every_name_has_the_prefix_and_a_help_text(metrics: Metrics) -> None:
    for family in families(metrics):
        assert family.name.startswith("fraud_worker_")
        assert family.documentation.endswith(".")


def test_no_series_says_when_it_was_created_and_none_is_accuracy(metrics: Metrics) -> None:
    text = metrics.render().decode()
    assert "_created" not in text
    assert "accuracy" not in text


def test_all_combinations_of_labels_exist_from_the_start(metrics: Metrics) -> None:
    names = [name for name, _, _ in samples(metrics)]
    assert names.count("decisions_total") == 3 * 2
    assert names.count("labelled_decisions_by_arrival_total") == 3 * 2 * 2
    assert names.count("labels_total") == len(LabelEffect)
    assert names.count("cohort_recall") == 3
    assert names.count("dead_letters_total") == 3 + 2 + 1
    assert all(count == 0.0 for name, _, count in samples(metrics) if name.endswith("_total"))


def test_two_workers_of_one_process_share_nothing(metrics: Metrics) -> None:
    other = Metrics(version="1", status=WorkerStatus().snapshot, dead_letter_reasons={})
    metrics.repeated(3)
    assert value(other, "repeats_total") == 0.0
    assert value(other, "ready") == 0.0, "it has only begun to start"


def test_decisions_are_counted_by_their_flags(metrics: Metrics) -> None:
    alert, challenger = Flag.ALERTED, Flag.CHALLENGER_WOULD_ALERT
    flags = np.array(
        [
            Decider.ONLINE | challenger,
            Decider.ONLINE | alert | challenger | Flag.OPENS_CASE,
            Decider.ONLINE | alert,
            Decider.FOREST | alert | challenger | Flag.OPENS_CASE,
            Decider.NONE,
            Decider.NONE | Flag.ONLINE_WOULD_ALERT,
            Decider.ONLINE | Flag.FOREST_SCORED,
            Decider.ONLINE | challenger | Flag.FIRST_OF_WINDOW,
        ],
        np.uint16,
    )
    metrics.decisions.decided(flags, review_cost=5.0)
    assert value(metrics, "decisions_total", decided_by="online", decision="pass") == 3
    assert value(metrics, "decisions_total", decided_by="online", decision="alert") == 2
    assert value(metrics, "decisions_total", decided_by="forest", decision="alert") == 1
    assert value(metrics, "decisions_total", decided_by="none", decision="pass") == 2
    assert (value(metrics, "alerts_total"), value(metrics, "cases_total")) == (3, 2)
    assert value(metrics, "challenger_disagreements_total", challenger="alert") == 2
    assert value(metrics, "challenger_disagreements_total", challenger="pass") == 1
    assert value(metrics, "review_cost_total") == 10.0
    assert value(metrics, "decider_share", decided_by="online") == 5 / 8
    metrics.decisions.decided(flags[:0], review_cost=5.0)
    assert value(metrics, "decider_share", decided_by="online") == 5 / 8


def test_labels_are_counted_when_they_arrive(metrics: Metrics) -> None:
    metrics.labels_arrived(
        np.array([LabelEffect.MATCHED, LabelEffect.MATCHED, LabelEffect.REVERSED], np.uint8)
    )
    metrics.labelled(
        flags=np.array([Decider.ONLINE | Flag.ALERTED, Decider.ONLINE, Decider.FOREST], np.uint16),
        fraud=np.array([True, True, False]),
        loss=np.array([100.0, 30.0, 7.0]),
        delay_s=np.array([86_400.0, 86_401.0, -5.0]),
    )
    name = "labelled_decisions_by_arrival_total"
    assert value(metrics, "labels_total", effect="matched") == 2
    assert value(metrics, "labels_total", effect="reversed") == 1
    assert value(metrics, name, decided_by="online", decision="alert", label="fraud") == 1
    assert value(metrics, name, decided_by="online", decision="pass", label="fraud") == 1
    assert value(metrics, name, decided_by="forest", decision="pass", label="legit") == 1
    assert value(metrics, "missed_fraud_cost_by_arrival_total") == 30.0
    assert value(metrics, "label_delay_seconds_bucket", le="43200.0") == 1
    assert value(metrics, "label_delay_seconds_bucket", le="86400.0") == 2
    assert value(metrics, "label_delay_seconds_count") == 3


def test_a_histogram_counts_a_value_on_a_bound_below_it(metrics: Metrics) -> None:
    rng = np.random.default_rng(3)
    latency = np.concatenate([rng.exponential(0.1, 1_000), [0.1, 0.1, math.nan, math.inf]])
    metrics.committed(transactions=500, scoring_s=0.004, commit_s=0.02, latency_s=latency)
    finite = latency[np.isfinite(latency)]
    for bound in (0.05, 0.1, 0.25, 30.0):
        found = value(metrics, "end_to_end_latency_seconds_bucket", le=str(bound))
        assert found == sum(1 for it in finite.tolist() if it <= bound)
    assert value(metrics, "end_to_end_latency_seconds_bucket", le="+Inf") == 1_002
    assert value(metrics, "end_to_end_latency_seconds_sum") == pytest.approx(finite.sum())
    assert value(metrics, "batch_transactions_bucket", le="300.0") == 0
    assert value(metrics, "batch_transactions_bucket", le="1000.0") == 1
    assert value(metrics, "commit_duration_seconds_sum") == 0.02


def test_a_commit_without_transactions_has_no_scoring_time(metrics: Metrics) -> None:
    metrics.committed(transactions=0, scoring_s=0.0, commit_s=0.02, latency_s=NOTHING)
    assert value(metrics, "scoring_seconds_count") == 0
    assert value(metrics, "batch_transactions_count") == 1


@pytest.mark.parametrize(
    ("stage", "reason", "counted_as"),
    [
        ("decode", "no_amount", ("decode", "no_amount")),
        ("decode", "4111111111111111", ("decode", "other")),
        ("made up", "not_json", ("other", "other")),
    ],
)
def test_reasons_of_dead_letters_are_bounded(
    metrics: Metrics, stage: str, reason: str, counted_as: tuple[str, str]
) -> None:
    metrics.dead_lettered(stage, reason, 3)
    assert value(metrics, "dead_letters_total", stage=counted_as[0], reason=counted_as[1]) == 3


def test_the_lag_of_a_lost_partition_vanishes(metrics: Metrics) -> None:
    metrics.lag({("transactions", 0): 7, ("transactions", 1): 0})
    metrics.lag({("transactions", 1): 4, ("labels", 1): 2})
    found = {
        (labels["topic"], labels["partition"]): lag
        for name, labels, lag in samples(metrics)
        if name == "lag_records"
    }
    assert found == {("transactions", "1"): 4.0, ("labels", "1"): 2.0}


def test_the_closed_days_are_published_by_window(metrics: Metrics) -> None:
    ledger = Ledger()
    for day, flags in ((19_000, Decider.ONLINE), (19_001, Decider.ONLINE | Flag.ALERTED | Flag.OPENS_CASE)):
        times = np.full(1, day * MS_PER_DAY, np.int64)
        settled = settled_deltas(
            event_time_ms=times,
            flags=np.array([flags], np.uint16),
            loss=np.array([80.0]),
            truth=np.array([Truth.FRAUD], np.uint8),
            labelled=np.array([True]),
            sign=np.ones(1, np.int8),
        )
        ledger.fold(summed([settled, decided_deltas(times)]))
    assert math.isnan(value(metrics, "cohort_recall", window="1d"))
    ledger.close(19_002 * MS_PER_DAY, None)
    metrics.cohorts(ledger, review_cost=5.0)
    assert value(metrics, "cohort_recall", window="1d") == 1.0
    assert value(metrics, "cohort_recall", window="7d") == 0.5
    assert value(metrics, "cohort_cost", window="1d") == 5.0
    assert value(metrics, "cohort_cost", window="30d") == 85.0
    assert math.isnan(value(metrics, "cohort_savings", window="7d"))
    assert [value(metrics, "cohort_closed", window=window) for window in ("1d", "7d")] == [1.0, 2.0]
    assert value(metrics, "cohort_end_timestamp_seconds") == 19_002 * 86_400.0
    assert value(metrics, "cohort_changes_after_close", truth="fraud") == 0.0


def test_other_gauges_show_what_they_were_given(metrics: Metrics) -> None:
    metrics.matured(5, 4, 3)
    metrics.waiting(pending=12, feed_halted=True)
    metrics.rebalanced()
    metrics.evicted(cards=2, entities=9, card_values=5)
    metrics.model.state(
        log_offset=90,
        generation_offset=40,
        frauds_learnt=120,
        prevalence=0.004,
        threshold_lambda=1.5,
        forest_cut=math.inf,
    )
    metrics.model.mix(0.3, 0.8)
    metrics.model.generation({"tables": 0.02, "trees": 0.01, "both": 0.009}, 0.5, 9_000)
    chosen = InForce(0.25, forest_decides=False, forest_vouched=-1)
    metrics.model.policy(chosen, 57.0, 10.0 * np.arange(len(NAMES), dtype=np.float64))
    shown = {name: found for name, labels, found in samples(metrics) if not labels}
    assert [value(metrics, "model_mix", part=part) for part in ("tables", "trees")] == [0.3, 0.8]
    assert value(metrics, "model_judged_loss", part="both") == 0.009
    assert (shown["model_silent_alert_weight"], shown["model_change_timestamp_seconds"]) == (0.5, 9.0)
    assert shown["pending_decisions"] == 12
    assert shown["label_feed_halted"] == shown["rebalances_total"] == 1
    assert (shown["model_log_offset"], shown["model_generation_offset"]) == (90, 40)
    assert (shown["model_frauds_learnt"], shown["model_prevalence"]) == (120, 0.004)
    assert (shown["model_threshold_lambda"], shown["model_forest_cut"]) == (1.5, math.inf)
    assert (shown["model_policy_lambda"], shown["model_policy_forest"]) == (0.25, 0)
    assert shown["model_forest_cases_per_day"] == 57.0
    assert value(metrics, "model_policy_gain", policy="rule from 1") == 30.0
    assert value(metrics, "model_policy_gain", policy="forest") == 80.0
    assert (shown["last_poll_age_seconds"], shown["ready"]) == (4.5, 1)
    assert value(metrics, "matured_total", outcome="unresolved") == 3
    assert value(metrics, "evictions_total", table="entities") == 9
    assert value(metrics, "evictions_total", table="card_values") == 5
    assert value(metrics, "build_info", version="1.2.3") == 1


def test_promtool_finds_nothing_to_mend(metrics: Metrics) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("CI") != "true", "CI must have promtool (Debian package prometheus)"
        pytest.skip("promtool is not installed (Debian package prometheus)")
    metrics.lag({("t", 0): 1})
    result = subprocess.run(
        [promtool, "check", "metrics"], input=metrics.render(), capture_output=True, timeout=60, check=False
    )
    assert (result.returncode, result.stdout + result.stderr) == (0, b"")
