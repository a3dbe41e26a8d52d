"""The doctor on a real Kafka: at a site in order, and at others each with a fault of its own."""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.structs import OffsetAndMetadata, TopicPartition

from tests.conftest import Broker
from tests.support.processes import to_toml
from tests.support.site import Site
from worker.cli import main
from worker.doctor import cluster
from worker.parameters import new_model
from worker.partition.record_layouts import encode_model
from worker.settings.sections import Settings

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("own_surroundings")]

PARTITIONS = 3
FIELDS = {"transaction": {"entities": ["merchant_id"], "categorical": ["channel"], "numeric": []}}
NOW_MS = int(time.time() * 1000)
Findings = dict[str, dict[str, str]]


@pytest.fixture
def diagnose(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[[Settings], tuple[int, Findings]]:
    def run(settings: Settings) -> tuple[int, Findings]:
        config = tmp_path / "worker.toml"
        config.write_text(to_toml(settings), encoding="utf-8")
        code = main(["doctor", "--json", "--config", str(config)])
        return code, {finding["check"]: finding for finding in json.loads(capsys.readouterr().out)}

    return run


def produce(site: Site, partition_of: Callable[[bytes], int | None] = lambda _: None) -> None:
    """Send transactions and their labels; None leaves the partition to kafka-python, which chooses as Java does."""
    with KafkaProducer(bootstrap_servers=site.settings.kafka.bootstrap) as producer:
        for i in range(60):
            card = f"c{i}"
            about = {"transaction_id": f"t{i}", "card_id": card}
            bought = {**about, "event_time": NOW_MS, "amount": 9.5, "merchant_id": "m", "channel": "web"}
            label = {**about, "label": "legit", "source": "analyst", "label_time": NOW_MS}
            for topic, message in (
                (site.settings.topics.transactions, bought),
                (site.settings.topics.labels, label),
            ):
                key = card.encode()
                producer.send(topic, json.dumps(message).encode(), key, partition=partition_of(key))


def statuses(findings: Findings) -> dict[str, str]:
    return {name: it["status"] for name, it in findings.items()}


def amiss(findings: Findings) -> dict[str, str]:
    return {name: status for name, status in statuses(findings).items() if status != "ok"}


@pytest.fixture(scope="module")
def site(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Site:
    site = Site(kafka.bootstrap, tmp_path_factory.mktemp("site"), partitions=PARTITIONS, sections=FIELDS)
    produce(site)
    return site


def test_a_site_in_order_is_found_in_order_but_for_its_single_broker(site: Site, diagnose: Any) -> None:
    code, findings = diagnose(site.settings)
    assert code == 0
    assert amiss(findings) == {"replication": "warning"}
    assert "60 of 60 sampled records decode" in findings["transactions"]["found"]
    assert "all of 120 sampled keys" in findings["partitioner"]["found"]
    assert f"{site.tag} has not begun" in findings["group"]["found"]
    assert all(finding["found"] for finding in findings.values())


def test_the_doctor_disturbs_nothing(site: Site, kafka_admin: KafkaAdminClient, diagnose: Any) -> None:
    diagnose(site.settings)
    listed = kafka_admin.list_groups()
    assert site.tag not in str(listed)
    assert site.tag not in str(kafka_admin.list_transactions())


def test_a_group_without_workers_is_reported_with_its_lag(site: Site, diagnose: Any) -> None:
    group = f"{site.tag}-left"
    names, at = site.settings.topics, OffsetAndMetadata(0, "", -1)
    committed = {
        TopicPartition(topic, partition): at
        for topic in (names.transactions, names.labels)
        for partition in range(PARTITIONS)
    }
    with KafkaConsumer(bootstrap_servers=site.settings.kafka.bootstrap, group_id=group) as consumer:
        consumer.assign(committed)
        consumer.commit(committed)
    _, findings = diagnose(site.settings_of("w1", kafka={"group": group}))
    assert findings["group"]["status"] == "warning"
    assert "no worker runs; 120 records wait" in findings["group"]["found"]


def test_a_model_log_of_other_settings_fails(site: Site, diagnose: Any) -> None:
    [(value, headers)] = encode_model(new_model(site.settings).lineage)
    with KafkaProducer(bootstrap_servers=site.settings.kafka.bootstrap) as producer:
        producer.send(site.settings.topics.model_log, value, headers=headers)
    assert diagnose(site.settings)[1]["lineage"]["status"] == "ok"
    code, findings = diagnose(site.settings_of("w1", features={"half_lives_days": [2.0, 5.0, 20.0]}))
    assert (code, findings["lineage"]["status"]) == (4, "failed")
    assert "half_lives_days" in findings["lineage"]["found"]


def test_wrong_field_names_are_reported_with_those_of_the_records(site: Site, diagnose: Any) -> None:
    code, findings = diagnose(site.settings_of("w1", transaction={"amount": "eur"}))
    assert code == 8
    assert amiss(findings) == {
        "replication": "warning",
        "transactions": "failed",
        "event times": "not checked",
    }
    found = findings["transactions"]
    assert (
        "transaction.amount = 'eur': none of 60 sampled records has it; they have: transaction_id"
        in found["found"]
    )
    assert "perhaps 'amount'" in found["fix"]


def test_the_other_partitioner_is_named(kafka: Broker, tmp_path: Path, diagnose: Any) -> None:
    other = Site(kafka.bootstrap, tmp_path, partitions=PARTITIONS, sections=FIELDS)
    produce(other, lambda key: zlib.crc32(key) % PARTITIONS)
    code, findings = diagnose(other.settings)
    assert code == 4
    assert amiss(findings) == {"replication": "warning", "partitioner": "failed"}
    assert "set kafka.partitioner = 'crc32'" in findings["partitioner"]["fix"]


def test_logs_that_are_not_kept_fail(
    kafka: Broker, kafka_admin: KafkaAdminClient, tmp_path: Path, diagnose: Any
) -> None:
    brief = Site(kafka.bootstrap, tmp_path, partitions=1)
    names = brief.settings.topics
    changes = {
        names.decisions: {"retention.ms": "604800000"},
        names.labels: {"retention.ms": "3600000"},
        names.alerts: {"cleanup.policy": "compact"},
        names.model_log: {"max.message.bytes": "1000"},
    }
    kafka_admin.alter_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name, it) for name, it in changes.items()]
    )
    code, findings = diagnose(brief.settings)
    assert code == 4
    assert {
        name: it["status"]
        for name, it in findings.items()
        if name in {"kept logs", "kept input", "cleanup", "message size"}
    } == {
        "kept logs": "failed",
        "kept input": "warning",
        "cleanup": "failed",
        "message size": "failed",
    }
    assert f"{names.decisions}: retention.ms = 604800000" in findings["kept logs"]["found"]


def test_missing_topics_fail_and_the_rest_is_checked(
    kafka: Broker, kafka_admin: KafkaAdminClient, tmp_path: Path, diagnose: Any
) -> None:
    bare = Site(kafka.bootstrap, tmp_path, partitions=None)
    names = bare.settings.topics
    kafka_admin.create_topics({names.transactions: {"num_partitions": 2}}, wait_for_metadata=True)
    code, findings = diagnose(bare.settings)
    assert code == 3
    assert findings["topics"]["status"] == "failed"
    assert names.labels in findings["topics"]["found"]
    assert names.transactions not in findings["topics"]["found"]
    assert "topics create" in findings["topics"]["fix"]
    assert findings["labels"]["found"] == f"{names.labels} is missing"
    assert statuses(findings)["disk"] == "ok"


def test_without_kafka_the_machine_is_checked(
    site: Site, diagnose: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "PATIENCE_S", 0.2)
    code, findings = diagnose(site.settings_of("w1", kafka={"bootstrap": "127.0.0.1:1"}))
    assert code == 3
    assert "'127.0.0.1:1' does not answer" in findings["connection"]["found"]
    assert {findings[name]["found"] for name in ("brokers", "topics", "group")} == {"Kafka is not reached"}
    assert statuses(findings)["disk"] == "ok"


def test_a_missing_secret_fails_and_the_rest_is_checked(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "worker.toml"
    lines = to_toml(site.settings).splitlines()
    config.write_text(
        "\n".join(line for line in lines if not line.startswith("entity_key")), encoding="utf-8"
    )
    assert main(["doctor", "--config", str(config)]) == 2
    out = capsys.readouterr().out
    assert "entity_key is required" in out
    assert "60 of 60 sampled records decode" in out
    assert "entity_key is missing: lineage" in out
    assert "1 failed" in out
