"""What the doctor finds in the brokers and their configuration; what these report is made up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.clusters import (
    assert_failed,
    assert_warned,
    cluster,
    settings,
)
from worker.doctor import broker_checks
from worker.doctor.cluster import Topic
from worker.doctor.finding import Verdict
from worker.errors import IncompatibleError, SettingsError, UnreachableError


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
