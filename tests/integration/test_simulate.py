from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.conftest import RunningBroker
from tests.support.processes import to_toml
from tests.support.site import Site
from worker.broker.embedded import EmbeddedKafka
from worker.cli import main
from worker.kafka_io.partitioner import partition_of
from worker.simulation import FIELDS

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("own_surroundings")]

PARTITIONS = 3
SMALL = [
    "--cards",
    "200",
    "--merchants",
    "60",
    "--days",
    "20",
    "--prevalence",
    "0.05",
    "--legit-labels",
    "0.02",
]


def test_transactions_and_labels_arrive_as_from_live_producers(
    kafka: EmbeddedKafka | RunningBroker, tmp_path: Path
) -> None:
    site = Site(kafka.bootstrap, tmp_path, PARTITIONS)
    config = tmp_path / "worker.toml"
    config.write_text(to_toml(site.settings), encoding="utf-8")
    before_ms = time.time_ns() // 1_000_000
    assert main(["simulate", "--to-kafka", "--config", str(config), *SMALL]) == 0
    after_ms = time.time_ns() // 1_000_000
    sent, sent_labels = ([*site.read(topic)] for topic in ("transactions", "labels"))
    for record in (*sent, *sent_labels):
        card = orjson.loads(record.value)["card_id"]
        assert record.key.decode() == card
        assert record.partition == partition_of(record.key, PARTITIONS, "murmur2")
        assert before_ms <= record.timestamp <= after_ms
    transactions: dict[str, Any] = {
        one["transaction_id"]: one for one in (orjson.loads(it.value) for it in sent)
    }
    assert 6_000 < len(sent) == len(transactions) < 10_000
    assert {*FIELDS.entities, *FIELDS.categorical, *FIELDS.numeric} <= transactions.popitem()[1].keys()
    labels = [orjson.loads(it.value) for it in sent_labels]
    frauds = [one for one in labels if one["label"] == "fraud"]
    assert 0.5 < len(frauds) / (0.05 * len(sent)) < 1.0  # the chargebacks of the last days lie ahead of today
    assert {one["source"] for one in frauds} == {"chargeback", "customer", "early_warning"}
    assert {one["source"] for one in labels if one["label"] == "legit"} == {"analyst"}
    for label in labels:
        assert label["event_time"] <= label["label_time"] <= after_ms
