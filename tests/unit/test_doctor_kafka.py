"""What the doctor finds in what Kafka reports; the reports are made up."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from models.vocabulary import MS_PER_DAY
from worker.doctor import broker_checks, group_checks, topic_checks
from worker.doctor.cluster import INTERNAL, Cluster, Group, Topic, TransactionState
from worker.doctor.finding import Finding, Verdict, exit_code, failed, not_checked, ok, together, warning
from worker.errors import FuseError, IncompatibleError, SettingsError, UnreachableError
from worker.settings.sections import KafkaSettings, LabelSettings, Settings, WorkerSettings

WELL_SET = {
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "cleanup.policy": "delete",
    "min.insync.replicas": "2",
    "max.message.bytes": "1048588",
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": "86400000",
}
ALL = frozenset({"READ", "WRITE", "DESCRIBE"})


def settings(**kafka: Any) -> Settings:
    where = KafkaSettings(**{"start_from": "earliest"} | kafka)
    return Settings(entity_key="00" * 16, worker=WorkerSettings(id="worker-1"), kafka=where)


def topic(name: str, **changes: Any) -> Topic:
    config = WELL_SET | changes.pop("config", {})
    fine = {"partitions": 2, "replicas": 3, "in_sync": 3, "operations": ALL, "config": config}
    offsets = {"begins": {0: 0, 1: 0}, "ends": {0: 0, 1: 0}}
    return Topic(name, **{**fine, **offsets, **changes})


def cluster(**changes: Any) -> Cluster:
    """Three brokers and the six topics, as they should be; `changes` replace topics or attributes."""
    names = settings().topics.model_dump()
    found = {role: topic(name) for role, name in names.items()}
    found["model_log"] = topic(names["model_log"], partitions=1)
    found |= {role: changes.pop(role) for role in list(changes) if role in names}
    internal = {name: Topic(name, 4, 3, 3) for name in INTERNAL}
    fine = {"brokers": 3, "version": (4, 0), "cluster_id": "c", "topics": found, "internal": internal}
    return Cluster(**{**fine, **changes})


def without(*roles: str) -> Cluster:
    whole = cluster()
    return replace(whole, topics={role: it for role, it in whole.topics.items() if role not in roles})


def assert_failed(finding: Finding, error: type[Exception], *words: str) -> None:
    assert (finding.status, finding.error) == (Verdict.FAILED, error), finding
    assert all(word in f"{finding.found} {finding.fix}" for word in words), finding


def assert_warned(finding: Finding, *words: str) -> None:
    assert finding.status is Verdict.WARNING, finding
    assert finding.fix
    assert all(word in f"{finding.found} {finding.fix}" for word in words), finding


def test_a_well_kept_kafka_is_found_well() -> None:
    kafka, well = settings(), cluster()
    findings = [
        broker_checks.version(kafka, well),
        broker_checks.internal_topics(well),
        topic_checks.existence(kafka, well),
        topic_checks.partitions(kafka, well),
        topic_checks.leaders(well),
        topic_checks.replication(well),
        topic_checks.state_retention(well),
        topic_checks.input_retention(kafka, well),
        topic_checks.cleanup(well),
        topic_checks.message_size(well),
        topic_checks.timestamps(well),
        topic_checks.permissions(kafka, well),
        group_checks.group(kafka, well),
        group_checks.transaction(kafka, well),
    ]
    assert [it for it in findings if it.status is not Verdict.OK] == []
    assert [it for it in findings if it.fix] == []


def test_a_kafka_without_the_fencing_of_offsets_is_too_old() -> None:
    assert_failed(broker_checks.version(settings(), cluster(version=(2, 4))), IncompatibleError, "2.5")
    assert broker_checks.version(settings(), cluster(version=(2, 5))).status is Verdict.OK


def test_internal_topics_that_cannot_be_made_are_the_brokers_configuration() -> None:
    config = {"transaction.state.log.replication.factor": "3", "offsets.topic.replication.factor": "1"}
    single = cluster(brokers=1, internal={}, broker_config=config)
    assert_failed(
        broker_checks.internal_topics(single),
        UnreachableError,
        "transaction.state.log.replication.factor = 3",
        "1 broker",
    )
    assert "offsets.topic" not in broker_checks.internal_topics(single).found
    assert broker_checks.internal_topics(replace(single, brokers=3)).status is Verdict.OK
    assert broker_checks.internal_topics(replace(single, broker_config={})).status is Verdict.NOT_CHECKED


def test_an_internal_topic_with_too_few_replicas_in_sync_stops_everything() -> None:
    short = Topic("__transaction_state", 4, 3, 1, config={"min.insync.replicas": "2"})
    assert_failed(
        broker_checks.internal_topics(cluster(internal={**cluster().internal, short.name: short})),
        UnreachableError,
        short.name,
    )


@pytest.mark.parametrize(
    ("kafka", "words"),
    [
        ({"transaction_timeout_ms": 900_001}, ["kafka.transaction_timeout_ms = 900001", "900000"]),
        ({"session_timeout_ms": 5_999}, ["kafka.session_timeout_ms = 5999", "6000"]),
        ({"session_timeout_ms": 300_001}, ["kafka.session_timeout_ms = 300001", "300000"]),
    ],
)
def test_time_outs_that_kafka_refuses_are_named_with_its_limits(
    kafka: dict[str, int], words: list[str]
) -> None:
    config = {
        "transaction.max.timeout.ms": "900000",
        "group.min.session.timeout.ms": "6000",
        "group.max.session.timeout.ms": "300000",
        "offsets.retention.minutes": "10080",
    }
    assert_failed(
        broker_checks.time_outs(settings(**kafka), cluster(broker_config=config)), SettingsError, *words
    )
    fine = broker_checks.time_outs(settings(), cluster(broker_config=config))
    assert (fine.status, "7 days" in fine.found) == (Verdict.OK, True)
    assert broker_checks.time_outs(settings(), cluster()).status is Verdict.NOT_CHECKED


def test_missing_topics_are_named_with_the_command_that_makes_them() -> None:
    found = topic_checks.existence(settings(), without("labels", "model_log"))
    assert_failed(found, UnreachableError, "fraud.labels.v1, fraud.model-log.v1", "topics create")
    assert "fraud.alerts.v1" not in found.found


def test_topics_that_this_client_may_not_describe_are_not_called_missing() -> None:
    hidden = replace(without("labels"), hidden=("fraud.labels.v1",))
    found = topic_checks.existence(settings(sasl_username="bob"), hidden)
    assert_failed(found, UnreachableError, "fraud.labels.v1", "'bob'")
    assert "missing" not in found.found
    unseen = replace(without("transactions"), hidden=("fraud.transactions.v1",))
    assert topic_checks.partitions(settings(), unseen) == not_checked(
        "no permission to describe fraud.transactions.v1"
    )


def test_topics_of_unequal_partitions_fail_even_if_others_are_missing() -> None:
    unequal = replace(
        without("alerts"),
        topics={**without("alerts").topics, "labels": topic("fraud.labels.v1", partitions=6)},
    )
    assert_failed(
        topic_checks.partitions(settings(), unequal),
        IncompatibleError,
        "fraud.labels.v1 has 6 partitions instead of 2",
    )
    assert topic_checks.partitions(settings(), without("transactions")).status is Verdict.NOT_CHECKED


def test_the_copies_of_topics_that_do_not_exist_are_not_checked() -> None:
    none = cluster(topics={})
    assert topic_checks.leaders(none).status is topic_checks.replication(none).status is Verdict.NOT_CHECKED


def test_partitions_without_a_leader_or_with_too_few_copies_in_sync_fail() -> None:
    assert_failed(
        topic_checks.leaders(cluster(labels=topic("l", leaderless=1))),
        UnreachableError,
        "l: 1 without a leader",
    )
    assert_failed(
        topic_checks.leaders(cluster(labels=topic("l", in_sync=1))), UnreachableError, "l: 1 in sync"
    )
    assert_warned(topic_checks.leaders(cluster(labels=topic("l", in_sync=2))), "l: 2 of 3")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (topic("l", replicas=1, in_sync=1), ["one copy only: l", "--replication 3"]),
        (topic("l", replicas=2, in_sync=2), ["two copies only: l", "--replication 3"]),
        (topic("l", replicas=2, in_sync=2, config={"min.insync.replicas": "1"}), ["two copies only: l"]),
        (topic("l", config={"min.insync.replicas": "1"}), ["may lose a commit", "min.insync.replicas = 2"]),
        (topic("l", config={"min.insync.replicas": "3"}), ["the loss of one broker stops", "lower"]),
    ],
)
def test_a_replication_that_one_broker_can_break_is_warned_of(labels: Topic, words: list[str]) -> None:
    assert_warned(topic_checks.replication(cluster(labels=labels)), *words)


@pytest.mark.parametrize("name", ["retention.ms", "retention.bytes"])
@pytest.mark.parametrize("role", ["decisions", "model_log"])
def test_a_log_of_state_that_is_not_kept_for_ever_fails(role: str, name: str) -> None:
    limited = cluster(**{role: topic("log", config={name: "604800000"})})
    assert_failed(topic_checks.state_retention(limited), IncompatibleError, f"log: {name} = 604800000", "-1")


def test_input_that_is_deleted_within_a_weekend_is_warned_of() -> None:
    brief = cluster(labels=topic("l", config={"retention.ms": str(2 * MS_PER_DAY)}))
    assert_warned(topic_checks.input_retention(settings(), brief), "l 2 days", "raise retention.ms of l")
    week = cluster(labels=topic("l", config={"retention.ms": str(7 * MS_PER_DAY)}))
    found = topic_checks.input_retention(settings(), week)
    assert (found.status, "labels.horizon_days = 60" in found.found) == (Verdict.OK, True)
    short = Settings(entity_key="00" * 16, labels=LabelSettings(horizon_days=7, negatives_after_days=1))
    assert "horizon" not in topic_checks.input_retention(short, week).found


def test_input_that_is_kept_up_to_a_size_is_warned_of() -> None:
    bounded = cluster(transactions=topic("t", config={"retention.bytes": "1073741824"}))
    words = ("t for ever", "t at most 1,073,741,824 bytes a partition", "set retention.bytes to -1")
    assert_warned(topic_checks.input_retention(settings(), bounded), *words)


def test_a_compacted_topic_fails() -> None:
    compacted = cluster(alerts=topic("a", config={"cleanup.policy": "compact,delete"}))
    assert_failed(topic_checks.cleanup(compacted), IncompatibleError, "compacts a:", "delete")


def test_a_topic_whose_producers_may_date_records_in_the_future_is_warned_of() -> None:
    unbounded = topic("t", config={"message.timestamp.after.max.ms": str((1 << 63) - 1)})
    assert_warned(topic_checks.timestamps(cluster(transactions=unbounded)), "t at any time", "86400000")
    stamped = topic("t", config={**unbounded.config, "message.timestamp.type": "LogAppendTime"})
    assert topic_checks.timestamps(cluster(transactions=stamped)).status is Verdict.OK


def test_a_topic_that_refuses_our_largest_records_fails() -> None:
    small = cluster(
        decisions=topic("d", config={"max.message.bytes": str(topic_checks.LARGEST_BATCH_BYTES - 1)})
    )
    assert_failed(
        topic_checks.message_size(small), IncompatibleError, "d: ", str(topic_checks.LARGEST_BATCH_BYTES)
    )


def test_what_kafka_does_not_show_is_not_checked() -> None:
    blind = cluster(
        topics={role: replace(it, config={}, operations=None) for role, it in cluster().topics.items()}
    )
    checks = (
        topic_checks.replication,
        topic_checks.state_retention,
        topic_checks.cleanup,
        topic_checks.message_size,
        topic_checks.timestamps,
    )
    findings = [check(blind) for check in checks]
    findings += [topic_checks.input_retention(settings(), blind), topic_checks.permissions(settings(), blind)]
    unseen = replace(blind, unknown=frozenset({"group", "transaction"}))
    findings += [group_checks.group(settings(), unseen), group_checks.transaction(settings(), unseen)]
    assert {it.status for it in findings} == {Verdict.NOT_CHECKED}


def test_each_missing_permission_is_named() -> None:
    lacking = cluster(
        labels=topic("l", operations=frozenset({"DESCRIBE"})),
        model_log=topic("m", operations=frozenset({"READ"})),
        group=Group("Stable", (), {}, frozenset({"DESCRIBE"})),
    )
    found = topic_checks.permissions(settings(group="g"), lacking)
    assert_failed(found, UnreachableError, "READ on l", "WRITE on m", "READ on group g")
    assert "READ on m" not in found.found


def test_a_missing_permission_is_named_with_the_user_to_grant_it_to(tmp_path: Path) -> None:
    lacking = cluster(labels=topic("l", operations=frozenset()), hidden=("x",))
    mutual = settings(security_protocol="SSL", ssl_cert_file=tmp_path / "us.pem")
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "bob", "sasl_password": "hush"}
    named = settings(security_protocol="SASL_SSL", **login)
    for who, words in ((mutual, "us.pem"), (named, "kafka.sasl_username = 'bob'"), (settings(), "ANONYMOUS")):
        assert_failed(topic_checks.permissions(who, lacking), UnreachableError, words)
        assert_failed(topic_checks.existence(who, lacking), UnreachableError, words)


def test_a_group_and_a_transactional_id_that_kafka_refuses_to_show_are_missing_permissions() -> None:
    refused = frozenset({"group", "transaction"})
    found = topic_checks.permissions(settings(group="g"), cluster(unknown=refused, forbidden=refused))
    assert_failed(found, UnreachableError, "READ on group g", "WRITE on transactional id g.worker-1")


@pytest.mark.parametrize(
    ("bootstrap", "protocol", "status"),
    [
        ("kafka:9092", "SSL", Verdict.OK),
        ("127.0.0.1:9092, localhost:9093", "PLAINTEXT", Verdict.OK),
        ("127.0.0.1:9092,kafka:9092", "PLAINTEXT", Verdict.WARNING),
    ],
)
def test_what_leaves_the_machine_unencrypted_is_warned_of(
    bootstrap: str, protocol: str, status: Verdict
) -> None:
    found = broker_checks.encryption(settings(bootstrap=bootstrap, security_protocol=protocol))
    assert found.status is status
    assert "password" not in found.found


def test_a_password_in_the_clear_is_warned_of() -> None:
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "bob", "sasl_password": "hush-hush"}
    found = broker_checks.encryption(
        settings(bootstrap="kafka:9092", security_protocol="SASL_PLAINTEXT", **login)
    )
    assert_warned(found, "the password and all records go to kafka:9092 unencrypted")
    assert "hush-hush" not in found.found


def committed(transactions: int, labels: int) -> dict[tuple[str, int], int]:
    names = settings().topics
    given = {names.transactions: transactions, names.labels: labels}
    return {(name, partition): offset for name, offset in given.items() for partition in (0, 1)}


def test_a_group_that_has_not_begun_needs_a_place_to_begin() -> None:
    assert "'latest'" in group_checks.group(settings(start_from="latest"), cluster()).found
    assert_failed(
        group_checks.group(settings(start_from="committed"), cluster()), IncompatibleError, "kafka.start_from"
    )


def test_a_group_without_offsets_beside_a_journal_is_the_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_checks, "holds_records", lambda _, topic: topic.name == "d")
    written = cluster(decisions=topic("d", ends={0: 5, 1: 0}))
    assert_failed(
        group_checks.group(settings(group="g"), written), IncompatibleError, "'g'", "d is not empty",
        "fraud-worker skip --partition N",
    )  # fmt: skip
    assert "start over" not in group_checks.group(settings(group="g"), written).fix
    emptied = cluster(decisions=topic("d", begins={0: 5, 1: 0}, ends={0: 5, 1: 0}))
    assert group_checks.group(settings(), emptied).status is Verdict.OK
    aborted = cluster(decisions=topic("of-an-aborted-transaction", ends={0: 5, 1: 0}))
    assert group_checks.group(settings(), aborted).status is Verdict.OK


def test_offsets_beyond_the_end_of_a_topic_fail_and_no_offset_is_advised() -> None:
    recreated = cluster(
        transactions=topic("fraud.transactions.v1", ends={0: 20, 1: 20}),
        group=Group("Empty", (), committed(20, 0) | {("fraud.transactions.v1", 0): 21}),
    )
    found = group_checks.group(settings(), recreated)
    assert_failed(
        found, IncompatibleError, "beyond the end of fraud.transactions.v1-0:", "do not set offsets"
    )
    assert "fraud-worker skip" not in found.fix


def test_offsets_of_records_that_were_deleted_unread_are_skipped_and_no_model_is_thrown_away() -> None:
    behind = cluster(
        transactions=topic("fraud.transactions.v1", begins={0: 10, 1: 0}, ends={0: 20, 1: 20}),
        labels=topic("fraud.labels.v1", begins={0: 5, 1: 7}, ends={0: 5, 1: 9}),
        group=Group("Empty", (), committed(9, 4)),
    )
    found = group_checks.group(settings(), behind)
    words = ["fraud.transactions.v1-0, fraud.labels.v1-0, fraud.labels.v1-1:"]
    words += ["`fraud-worker skip --partition 0 --transactions 10 --labels 5`"]
    words += ["`fraud-worker skip --partition 1 --labels 7`"]
    assert_failed(found, IncompatibleError, *words)
    assert "anew" not in found.fix
    assert "start over" not in found.fix


def test_a_group_is_reported_with_its_members_and_its_lag() -> None:
    ends = topic("fraud.transactions.v1", ends={0: 20, 1: 30})
    running = cluster(transactions=ends, group=Group("Stable", ("w2", "w1"), committed(15, 0)))
    assert group_checks.group(settings(), running) == ok("2 in it (w1, w2), Stable; 20 records wait")
    stopped = replace(running, group=Group("Empty", (), committed(15, 0)))
    assert_warned(
        group_checks.group(settings(), stopped), "no worker runs; 20 records wait", "fraud-worker run"
    )
    done = cluster(group=Group("Empty", (), committed(0, 0)))
    assert group_checks.group(settings(), done) == ok("no worker runs; 0 records wait")


def test_a_transaction_that_hangs_is_warned_of_and_one_under_way_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ms = 1_704_164_882_000
    monkeypatch.setattr(time, "time", lambda: now_ms / 1000)
    hanging = cluster(transaction=TransactionState("Ongoing", now_ms - 60_000))
    assert_warned(group_checks.transaction(settings(group="g"), hanging), "g.worker-1", "open for 60 s")
    under_way = cluster(transaction=TransactionState("Ongoing", now_ms))
    assert group_checks.transaction(settings(), under_way).status is Verdict.OK
    assert (
        "CompleteCommit"
        in group_checks.transaction(settings(), cluster(transaction=TransactionState("CompleteCommit"))).found
    )


def test_the_exit_code_is_that_of_the_first_cause_to_fix() -> None:
    unreachable, wrong = failed("a", "b", UnreachableError), failed("a", "b", SettingsError)
    assert exit_code([ok("fine"), warning("a", "b"), not_checked("c")]) == 0
    assert exit_code([failed("a", "b", FuseError), unreachable, failed("a", "b", IncompatibleError)]) == 3
    assert exit_code([unreachable, wrong]) == 2


def test_what_was_not_checked_for_one_reason_is_one_finding() -> None:
    findings = [
        replace(not_checked("no Kafka"), check="a"),
        ok("fine"),
        replace(not_checked("no rights"), check="b"),
        replace(not_checked("no Kafka"), check="c"),
    ]
    assert [it.found for it in together(findings)] == ["no Kafka: a, c", "no rights: b"]
