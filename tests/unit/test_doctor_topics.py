"""What the doctor finds in the topics and their permissions; what Kafka reports is made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from models.vocabulary import MS_PER_DAY
from tests.support.clusters import (
    assert_failed,
    assert_warned,
    cluster,
    settings,
    topic,
    without,
)
from worker.doctor import topic_checks
from worker.doctor.cluster import Group, Topic
from worker.doctor.finding import Verdict, not_checked
from worker.errors import IncompatibleError, UnreachableError
from worker.settings.sections import LabelSettings, Settings


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
