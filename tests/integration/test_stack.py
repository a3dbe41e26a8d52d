"""docker-compose.yml's Kafka: a real broker starts with these settings, and knows every one of them."""

from __future__ import annotations

import re

import pytest
import yaml
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from tests.support.repository import ROOT
from worker.broker.embedded import EmbeddedKafka, free_port

pytestmark = pytest.mark.integration

NOT_PROPERTIES = {"CLUSTER_ID", "KAFKA_HEAP_OPTS", "KAFKA_LOG_DIRS"}


def test_kafka_starts_with_the_settings_of_the_stack_and_knows_them_all() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    environment: dict[str, str] = compose["services"]["kafka"]["environment"]
    ports = {port: free_port() for port in ("9092", "29092", "9093")}

    def here(value: str) -> str:
        return re.sub(
            r"(?:kafka|127\.0\.0\.1)?:(29092|909[23])\b", lambda found: f"127.0.0.1:{ports[found[1]]}", value
        )

    # As the image makes its properties of its environment.
    properties = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): here(value)
        for name, value in environment.items()
        if name not in NOT_PROPERTIES
    }
    with EmbeddedKafka(port=ports["9092"], properties=properties) as broker:
        known = _settings_of(broker.bootstrap, properties["node.id"])
    assert {name: known.get(name) for name in properties} == properties


def _settings_of(bootstrap: str, node: str) -> dict[str, str]:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        broker = ConfigResource(ConfigResourceType.BROKER, node)
        found = admin.describe_configs([broker], config_filter="all")["broker"][node]
    return {name: setting["value"] for name, setting in found.items()}
