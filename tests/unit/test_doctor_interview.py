"""The order of the doctor's questions: a worker that commits between two of them must not look like a fault."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from kafka.structs import TopicPartition

from worker.doctor import group_checks
from worker.doctor.cluster import Cluster, _Interview
from worker.doctor.finding import Verdict
from worker.settings.sections import KafkaSettings, Settings

SETTINGS = Settings(entity_key="00" * 16, kafka=KafkaSettings(start_from="earliest"))
STEP = 100


class BusyKafka:
    """An admin client of a Kafka in which every question takes so long that producers and the worker go on.

    Parameters
    ----------
    members
        How many workers are in the group.
    """

    def __init__(self, members: int = 1) -> None:
        self._offset = 1000
        self._members = members

    def describe_cluster(self) -> Any:
        return {"brokers": [{"broker_id": 0}], "cluster_id": "c"}

    def describe_topics(self, names: list[str]) -> Any:
        partition = {"partition_index": 0, "replica_nodes": [0], "isr_nodes": [0], "leader_id": 0}
        return [{"name": name, "error_code": 0, "partitions": [partition]} for name in names]

    def get_broker_version_data(self, broker: int) -> Any:
        del broker
        return SimpleNamespace(broker_version=(4, 0))

    def describe_configs(self, resources: Any, config_filter: str) -> Any:
        del resources, config_filter
        return {}

    def list_partition_offsets(self, specs: dict[TopicPartition, Any], **options: Any) -> Any:
        del options
        self._offset += STEP
        (at,) = set(specs.values())
        # Retention deletes as fast as the worker reads; producers are ten records ahead of it.
        offset = self._offset if getattr(at, "name", "") == "EARLIEST" else self._offset + 10
        return {tp: SimpleNamespace(offset=offset) for tp in specs}

    def list_groups(self) -> Any:
        return [{"group_id": SETTINGS.kafka.group}]

    def describe_groups(self, names: list[str], **options: Any) -> Any:
        del options
        members = [{"group_instance_id": f"w{i}", "member_id": "m"} for i in range(self._members)]
        return {name: {"error": None, "group_state": "Stable", "members": members} for name in names}

    def list_group_offsets(self, groups: dict[str, Any]) -> Any:
        self._offset += STEP
        topics = (SETTINGS.topics.transactions, SETTINGS.topics.labels)
        committed = {TopicPartition(topic, 0): SimpleNamespace(offset=self._offset) for topic in topics}
        return dict.fromkeys(groups, committed)

    def describe_transactions(self, names: list[str]) -> Any:
        state = SimpleNamespace(state=SimpleNamespace(value="Ongoing"), transaction_start_time_ms=-1)
        return dict.fromkeys(names, state)


def interviewed(kafka: Any) -> Cluster:
    return _Interview(kafka, SETTINGS).cluster()


def test_a_busy_worker_whose_offsets_move_on_between_two_questions_is_no_fault() -> None:
    finding = group_checks.group(SETTINGS, interviewed(BusyKafka()))
    assert finding.status is Verdict.OK, finding


class JustBegunKafka(BusyKafka):
    """The group commits for the first time just after the doctor has asked for its offsets."""

    def list_group_offsets(self, groups: dict[str, Any]) -> Any:
        return {name: {} for name in groups}


def test_a_worker_whose_first_commit_is_on_its_way_is_not_advised_to_start_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(group_checks, "holds_records", lambda *_: True)
    finding = group_checks.group(SETTINGS, interviewed(JustBegunKafka()))
    assert finding.status is Verdict.WARNING, finding
    assert "start over" not in f"{finding.found} {finding.fix}"
    stopped = group_checks.group(SETTINGS, interviewed(JustBegunKafka(members=0)))
    assert stopped.status is Verdict.FAILED
