"""What a worker refuses at its start, with which message, and what it waits for instead."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaAdminClient

from tests.support.site import Site
from tests.support.traffic import records_of, small_traffic
from tests.support.waiting import DECIDE_S, START_S, wait_for
from worker.broker.embedded import free_port
from worker.errors import IncompatibleError
from worker.kafka_io import topic_setup

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration


def refusal(site: Site, **sections: Any) -> tuple[int, str]:
    """Return the exit code of a worker that cannot start, and the last line of its log."""
    with site.worker(**sections) as worker:
        code = worker.wait_for_exit(START_S)
    lines = worker.log.splitlines()
    assert "Traceback" not in worker.log
    return code, lines[-1]


def test_missing_topics_are_named(kafka: Broker, tmp_path: Path) -> None:
    code, message = refusal(Site(kafka.bootstrap, tmp_path, None))
    assert code == 3
    assert "lacks the topics" in message
    assert "topics create" in message


def test_unequal_numbers_of_partitions_are_refused(
    kafka: Broker, kafka_admin: KafkaAdminClient, tmp_path: Path
) -> None:
    site = Site(kafka.bootstrap, tmp_path, None)
    kafka_admin.create_topics({site.settings.topics.labels: {"num_partitions": 3}}, wait_for_metadata=True)
    with pytest.raises(IncompatibleError):
        topic_setup.create(site.settings, 2, 1)
    names = dict.fromkeys(site.settings.topics.model_dump().values(), 2)
    names |= {site.settings.topics.model_log: 1}
    names.pop(site.settings.topics.labels)
    kafka_admin.create_topics({n: {"num_partitions": c} for n, c in names.items()}, wait_for_metadata=True)
    code, message = refusal(site)
    assert code == 4
    assert f"{site.settings.topics.labels} has 3 partitions instead of 2" in message


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("session_timeout_ms", "group.max.session.timeout.ms"),
        ("transaction_timeout_ms", "transaction.max.timeout.ms"),
    ],
)
def test_a_timeout_that_the_broker_does_not_allow_is_named_with_its_bound(
    name: str, bound: str, kafka: Broker, tmp_path: Path
) -> None:
    code, message = refusal(Site(kafka.bootstrap, tmp_path, 1), kafka={name: 3_000_000})
    assert code == 2
    assert f"kafka.{name} = 3000000 is " in message
    assert bound in message


def test_a_first_start_must_be_declared(kafka: Broker, tmp_path: Path) -> None:
    site = Site(kafka.bootstrap, tmp_path, 1)
    code, message = refusal(site, kafka={"start_from": "committed"})
    assert code == 2
    assert "kafka.start_from" in message


def test_the_wrong_partitioner_is_refused_before_anything_is_decided(kafka: Broker, tmp_path: Path) -> None:
    site = Site(kafka.bootstrap, tmp_path, 4)
    site.feed(records_of(small_traffic(days=2, cards=300)))
    code, message = refusal(site, kafka={"partitioner": "crc32"})
    assert code == 4
    assert "kafka.partitioner" in message
    assert site.decisions() == []


def test_settings_that_contradict_the_logs_are_refused(
    kafka: Broker, kafka_admin: KafkaAdminClient, tmp_path: Path
) -> None:
    site = Site(kafka.bootstrap, tmp_path, 2)
    site.feed(records_of(small_traffic(days=1, cards=100)))
    with site.worker() as worker:
        site.wait_until_decided(worker, timeout_s=START_S + DECIDE_S)
        assert worker.stop() == 0
    code, message = refusal(site, features={"half_lives_days": [1.0, 5.0, 21.0]})
    assert code == 4
    assert "half_lives_days" in message
    assert "21.0" in message
    new, empty = f"{site.tag}.model_log.2", f"{site.tag}.model_log.3"
    kafka_admin.create_topics({n: {"num_partitions": 1} for n in (new, empty)}, wait_for_metadata=True)
    code, message = refusal(site, features={"half_lives_days": [1.0, 5.0, 21.0]}, topics={"model_log": new})
    assert code == 4
    assert "is of lineage" in message
    assert "topics.decisions" in message
    code, message = refusal(site, topics={"model_log": empty})
    assert code == 4
    assert "topics.model_log ends at" in message
    code, message = refusal(site, kafka={"group": f"{site.tag}-other"})
    assert code == 4
    assert "kafka.group" in message
    site.assert_everything_once()
    names = site.settings.topics
    grown = (names.transactions, names.labels, names.alerts, names.decisions)
    kafka_admin.create_partitions(dict.fromkeys(grown, 3))
    wait_for(lambda: topic_setup.check(site.settings) == 3, 20, lambda: "the topics do not grow")
    code, message = refusal(site)
    assert code == 4
    assert "was written for 2 partitions, the topics have 3 now" in message


def test_a_topic_that_was_created_again_and_has_outgrown_the_old_one_is_refused(
    kafka: Broker, kafka_admin: KafkaAdminClient, tmp_path: Path
) -> None:
    site = Site(kafka.bootstrap, tmp_path, 1)
    site.feed(records_of(small_traffic(days=1, cards=60)))
    with site.worker() as worker:
        site.wait_until_decided(worker, timeout_s=START_S + DECIDE_S)
        assert worker.stop() == 0
    name = site.settings.topics.transactions
    kafka_admin.delete_topics([name])
    wait_for(lambda: name not in kafka_admin.list_topics(), 20, lambda: "the topic stays")
    kafka_admin.create_topics({name: {"num_partitions": 1}}, wait_for_metadata=True)
    site.feed(
        [it for it in records_of(small_traffic(seed=9, days=3, cards=60)) if it.topic == "transactions"]
    )
    code, message = refusal(site)
    assert code == 4
    assert "partition 0, holds another transaction at offset" in message
    assert "Do not set offsets" in message


def test_a_worker_waits_for_an_absent_broker_and_ends_on_sigterm(kafka: Broker, tmp_path: Path) -> None:
    del kafka
    site = Site(f"127.0.0.1:{free_port()}", tmp_path, None)
    with site.worker() as worker:
        wait_for(lambda: "waiting for Kafka at" in worker.log, START_S, lambda: worker.log, [worker])
        status, ready = worker.get("/readyz")
        assert status == 503
        assert site.settings.kafka.bootstrap in json.loads(ready)["reason"]
        assert worker.get("/healthz")[0] == 200
        assert worker.stop() == 0
