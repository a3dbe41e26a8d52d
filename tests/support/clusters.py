"""What Kafka reports to the doctor, made up: a well-kept cluster, and what is to be found in others."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from worker.doctor.cluster import INTERNAL, Cluster, Topic
from worker.doctor.finding import Finding, Verdict
from worker.settings.sections import KafkaSettings, Settings, WorkerSettings

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
