from __future__ import annotations

import inspect
import logging
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, errors
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import TopicPartition
from pydantic import SecretStr

from worker.errors import (
    CorruptError,
    FencedError,
    IncompatibleError,
    SettingsError,
    UnreachableError,
    WorkerError,
)
from worker.kafka_io.client import (
    admin_config,
    consumer_config,
    explain_kafka_error,
    kafka_errors_explained,
    producer_config,
    transactional_id_of,
    wait_for_brokers,
)
from worker.settings.sections import KafkaSettings, Settings, WorkerSettings

PASSWORD = "hush-hush"
NOWHERE = "127.0.0.1:1"
LABELS, MODEL_LOG, JOURNAL = (
    TopicPartition(f"fraud.{name}.v1", 0) for name in ("labels", "model-log", "decisions")
)


def settings(**kafka: Any) -> Settings:
    return Settings(
        entity_key="00" * 16,
        worker=WorkerSettings(id="w7"),
        kafka=KafkaSettings(**{"bootstrap": NOWHERE} | kafka),
    )


def test_every_argument_is_one_that_kafka_python_knows() -> None:
    assert set(admin_config(settings())) <= set(KafkaAdminClient.DEFAULT_CONFIG)
    assert set(producer_config(settings(), "g.w")) <= set(KafkaProducer.DEFAULT_CONFIG)
    for group in (False, True):
        assert set(consumer_config(settings(), group=group)) <= set(KafkaConsumer.DEFAULT_CONFIG)


def test_a_consumer_reads_committed_records_and_moves_nothing_by_itself() -> None:
    config = consumer_config(settings(group="g", session_timeout_ms=6_000), group=True)
    assert (config["isolation_level"], config["auto_offset_reset"]) == ("read_committed", "none")
    assert (config["enable_auto_commit"], config["allow_auto_create_topics"]) == (False, False)
    assert (config["group_id"], config["group_instance_id"]) == ("g", "w7")
    assert config["partition_assignment_strategy"] == [RangePartitionAssignor]
    assert (config["session_timeout_ms"], config["heartbeat_interval_ms"]) == (6_000, 2_000)


def test_a_consumer_outside_the_group_does_not_join_it() -> None:
    config = consumer_config(settings(), group=False)
    assert "group_id" not in config
    assert "group_instance_id" not in config


def test_the_workers_producer_is_transactional_under_an_id_of_its_group_and_worker() -> None:
    its = settings(group="g", transaction_timeout_ms=7_000)
    config = producer_config(its, transactional_id_of(its))
    assert (config["transactional_id"], config["transaction_timeout_ms"]) == ("g.w7", 7_000)
    assert config["retry_backoff_ms"] == 5
    assert config["batch_size"] < 1_048_576
    assert "transactional_id" not in producer_config(settings(), transactional_id=None)


def test_credentials_and_certificates_are_passed_on(tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    config = admin_config(
        settings(
            bootstrap="a:1, b:2",
            security_protocol="SASL_SSL",
            sasl_mechanism="PLAIN",
            sasl_username="alice",
            sasl_password=SecretStr(PASSWORD),
            ssl_ca_file=authority,
        )
    )
    assert config["bootstrap_servers"] == ["a:1", "b:2"]
    assert (config["sasl_plain_username"], config["sasl_plain_password"]) == ("alice", PASSWORD)
    assert (config["security_protocol"], config["ssl_cafile"]) == ("SASL_SSL", str(authority))


def test_a_certificate_file_that_is_not_there_is_named() -> None:
    with pytest.raises(
        SettingsError, match=r"kafka\.ssl_ca_file = '/nowhere/ca\.pem': there is no such file"
    ):
        admin_config(settings(ssl_ca_file=Path("/nowhere/ca.pem")))


def test_every_error_of_the_library_becomes_one_of_ours_with_its_name_in_it() -> None:
    theirs = [
        it for _, it in inspect.getmembers(errors, inspect.isclass) if issubclass(it, errors.KafkaError)
    ]
    assert len(theirs) > 100
    for kind in theirs:
        error: Any = kind.__new__(kind)
        ours = explain_kafka_error(error, settings())
        assert isinstance(ours, WorkerError)
        assert kind.__name__ in str(ours)


@pytest.mark.parametrize(
    ("theirs", "ours", "remedy"),
    [
        (errors.CorruptRecordError("crc"), CorruptError, "`fraud-worker skip`"),
        (errors.SaslAuthenticationFailedError("no"), UnreachableError, "kafka.sasl_username = 'alice'"),
        (errors.TopicAuthorizationFailedError({"t"}), UnreachableError, "permit it to kafka.sasl_username"),
        (errors.UnknownTopicOrPartitionError("t-0"), UnreachableError, "run `fraud-worker topics create`"),
        (errors.KafkaConnectionError("111 ECONNREFUSED"), UnreachableError, "(KafkaConnectionError: 111 ECONNREFUSED)"),
        (errors.KafkaConnectionError("socket disconnected"), UnreachableError, "check kafka.sasl_mechanism = 'PLAIN'"),
        (errors.KafkaTimeoutError(), UnreachableError, f"kafka.bootstrap = '{NOWHERE}'"),
        (errors.FencedInstanceIdError(), FencedError, "worker.id = 'w7'"),
        (errors.ProducerFencedError(), FencedError, "worker.id = 'w7'"),
        (errors.NoOffsetForPartitionError(), IncompatibleError, "kafka.start_from = 'earliest' or 'latest'"),
        (errors.OffsetOutOfRangeError({LABELS: 7}), IncompatibleError, "`fraud-worker skip`"),
        (errors.OffsetOutOfRangeError({MODEL_LOG: 7}), IncompatibleError, "retention.ms = -1"),
        (errors.NoOffsetForPartitionError({JOURNAL}), IncompatibleError, "retention.ms = -1"),
        (errors.LogTruncationError("t-0"), IncompatibleError, "unclean.leader.election.enable"),
        (errors.InvalidSessionTimeoutError(), SettingsError, "kafka.session_timeout_ms = 10000 is not within"),
        (errors.InvalidTransactionTimeoutError(), SettingsError, "kafka.transaction_timeout_ms = 10000 is more than"),
        (errors.InvalidConfigurationError("x"), WorkerError, "answers InvalidConfigurationError: x"),
    ],
)  # fmt: skip
def test_errors_say_what_to_do(theirs: Exception, ours: type[WorkerError], remedy: str) -> None:
    worker_settings = settings(
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        sasl_username="alice",
        sasl_password=SecretStr(PASSWORD),
    )
    with pytest.raises(WorkerError) as raised, kafka_errors_explained(worker_settings):
        raise theirs
    assert type(raised.value) is ours
    assert remedy in str(raised.value)
    assert PASSWORD not in str(raised.value)


def test_an_absent_broker_is_waited_for_and_then_named(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogger("kafka").handlers[:]
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:1' does not answer \(KafkaConnectionError"):
        wait_for_brokers(settings(), timeout_s=0.3)
    assert not [record for record in caplog.records if record.name.startswith("kafka")]
    assert logging.getLogger("kafka").handlers == before
    assert logging.getLogger("kafka").propagate


class Attempts:
    """Replaces the admin client: each attempt logs its failures, and succeeds if there are none."""

    def __init__(self, *failures: list[Exception]) -> None:
        self.failures = list(failures)

    def __call__(self, **_: Any) -> Attempts:
        for failure in self.failures.pop(0) if self.failures else []:
            logging.getLogger("kafka.net.connection").error("%s: lost: %s", self, failure)
        if self.failures:
            raise errors.KafkaTimeoutError("Unable to bootstrap")
        return self

    def close(self) -> None:
        self.closed = True


def test_tls_where_none_is_expected_names_the_protocol() -> None:
    error = explain_kafka_error(errors.InvalidReceiveError("Invalid frame length: 352518912"), settings())
    assert isinstance(error, UnreachableError)
    assert "check that it listens with kafka.security_protocol = 'PLAINTEXT'" in str(error)


def test_a_wait_is_logged_with_its_reason_once_not_at_every_attempt(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts = Attempts([errors.KafkaConnectionError("111 ECONNREFUSED")], [], [], [])
    monkeypatch.setattr("worker.kafka_io.client.AdminClient", attempts)
    with caplog.at_level(logging.WARNING):
        wait_for_brokers(settings(), timeout_s=60)
    assert attempts.closed
    assert [record.getMessage() for record in caplog.records if record.name == "worker.kafka_io.client"] == [
        f"waiting for Kafka at {NOWHERE}: KafkaConnectionError: 111 ECONNREFUSED"
    ]


def test_a_refusal_ends_the_wait_at_once_whatever_else_went_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = errors.SaslAuthenticationFailedError("wrong password")
    attempts = Attempts([refused, errors.KafkaConnectionError("socket disconnected")], [], [])
    monkeypatch.setattr("worker.kafka_io.client.AdminClient", attempts)
    with pytest.raises(UnreachableError, match=r"refuses the credentials .*wrong password"):
        wait_for_brokers(settings(), timeout_s=60)
    assert len(attempts.failures) == 2


def handshake_failure(answer: bytes) -> Exception:
    """The error that kafka-python raises, with OpenSSL's message, for this answer to a TLS greeting."""
    incoming = ssl.MemoryBIO()
    incoming.write(answer)
    incoming.write_eof()
    with pytest.raises(ssl.SSLError) as failed:
        ssl.create_default_context().wrap_bio(
            incoming, ssl.MemoryBIO(), server_hostname="broker"
        ).do_handshake()
    failure: Exception = errors.KafkaConnectionError(f"Handshake failed: {failed.value}")
    return failure


CLOSED = errors.KafkaConnectionError(
    "Handshake failed: TLS/SSL connection has been closed (EOF) (_ssl.c:992)"
)
"""What some builds of Python say of it, whatever the one says that runs this."""


@pytest.mark.parametrize("cut_off", [handshake_failure(b""), CLOSED])
def test_a_handshake_that_was_cut_off_is_waited_for(
    cut_off: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A balancer without a broker behind it does this, and a broker that shuts down."""
    attempts = Attempts([cut_off], [cut_off], [])
    monkeypatch.setattr("worker.kafka_io.client.AdminClient", attempts)
    wait_for_brokers(settings(security_protocol="SSL"), timeout_s=60)
    assert attempts.closed
    monkeypatch.setattr("worker.kafka_io.client.AdminClient", Attempts([cut_off], []))
    with pytest.raises(UnreachableError, match=r"do not agree on TLS .*EOF.*kafka\.ssl_ca_file"):
        wait_for_brokers(settings(security_protocol="SSL"), timeout_s=0)


def test_a_handshake_that_was_refused_ends_the_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fatal_alert = bytes([21, 3, 3, 0, 2, 2, 48])  # unknown certificate authority
    for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", fatal_alert):
        attempts = Attempts([handshake_failure(answer)], [], [])
        monkeypatch.setattr("worker.kafka_io.client.AdminClient", attempts)
        with pytest.raises(UnreachableError, match="do not agree on TLS"):
            wait_for_brokers(settings(security_protocol="SSL"), timeout_s=60)
        assert len(attempts.failures) == 2
