"""Checks of the brokers: encryption, version, internal topics, time-outs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from worker.doctor.cluster import INTERNAL, Cluster
from worker.doctor.finding import Finding, failed, not_checked, ok, warning
from worker.errors import IncompatibleError, SettingsError, UnreachableError
from worker.settings.sections import Settings

_OLDEST: Final = (2, 5)
"""The first version that fences a transaction's offsets by group metadata (KIP-447): exactly once rests on it."""
_LOCAL: Final = {"127.0.0.1", "localhost", "::1", "[::1]"}
_NO_CONFIG: Final = "no permission to read the brokers' configuration (DESCRIBE_CONFIGS on the cluster)"


def encryption(settings: Settings) -> Finding:
    """Check that the connection is encrypted, or stays on this machine."""
    protocol, bootstrap = settings.kafka.security_protocol, settings.kafka.bootstrap
    if protocol.endswith("SSL"):
        return ok(f"kafka.security_protocol = {protocol!r}")
    hosts = {address.strip().rpartition(":")[0] for address in bootstrap.split(",")}
    if hosts <= _LOCAL:
        return ok(
            f"kafka.security_protocol = {protocol!r}: not encrypted, but all brokers are on this machine"
        )
    what = "the password and all records" if protocol.startswith("SASL") else "all records"
    return warning(
        f"kafka.security_protocol = {protocol!r}: {what} go to {bootstrap} unencrypted",
        "use 'SSL' or 'SASL_SSL' unless the network is trusted",
    )


def version(settings: Settings, cluster: Cluster) -> Finding:
    """Check that the brokers are new enough to fence a worker that has lost its partitions."""
    number = ".".join(map(str, cluster.version))
    count = f"{cluster.brokers} broker{'s' if cluster.brokers != 1 else ''}"
    found = f"Kafka {number} or newer at {settings.kafka.bootstrap}: {count}, cluster {cluster.cluster_id}"
    if cluster.version < _OLDEST:
        return failed(found, f"upgrade Kafka to {_OLDEST[0]}.{_OLDEST[1]} or newer", IncompatibleError)
    return ok(found)


def internal_topics(cluster: Cluster) -> Finding:
    """Check that Kafka's own topics for groups and transactions exist and take writes, or can be created."""
    missing = [name for name in INTERNAL if name not in cluster.internal]
    short = [
        f"{name} has {topic.in_sync}, min.insync.replicas = {topic.min_in_sync}"
        for name, topic in cluster.internal.items()
        if topic.lacks_replicas
    ]
    if short:
        found = f"too few replicas in sync: {'; '.join(short)}"
        return failed(found, "start the missing brokers", UnreachableError)
    if not missing:
        return ok(f"{' and '.join(INTERNAL)} exist")
    if not cluster.broker_config:
        return not_checked(f"{' and '.join(missing)} not created yet, and {_NO_CONFIG}")
    return _creatable(missing, cluster)


def _creatable(missing: list[str], cluster: Cluster) -> Finding:
    """Check that there are as many brokers as Kafka wants copies of its own topics."""
    settings = {
        "__consumer_offsets": "offsets.topic.replication.factor",
        "__transaction_state": "transaction.state.log.replication.factor",
    }
    wanted = {settings[name]: int(cluster.broker_config.get(settings[name], 1)) for name in missing}
    beyond = [f"{name} = {copies}" for name, copies in wanted.items() if copies > cluster.brokers]
    if beyond:
        return failed(
            f"Kafka cannot create {', '.join(missing)}: {', '.join(beyond)} with {cluster.brokers} broker(s)",
            "start as many brokers, or lower the factor in the brokers' configuration (1 for a single broker)",
            UnreachableError,
        )
    return ok(f"{' and '.join(missing)}: Kafka creates them when they are first needed")


def time_outs(settings: Settings, cluster: Cluster) -> Finding:
    """Check that Kafka allows the time-outs of the settings."""
    if not cluster.broker_config:
        return not_checked(_NO_CONFIG)
    kafka, allowed = settings.kafka, {name: int(text) for name, text in _numbers(cluster.broker_config)}
    highest = allowed.get("transaction.max.timeout.ms", kafka.transaction_timeout_ms)
    low = allowed.get("group.min.session.timeout.ms", kafka.session_timeout_ms)
    high = allowed.get("group.max.session.timeout.ms", kafka.session_timeout_ms)
    if kafka.transaction_timeout_ms > highest:
        found = f"kafka.transaction_timeout_ms = {kafka.transaction_timeout_ms}, Kafka allows up to {highest}"
        return failed(found, "lower it, or raise transaction.max.timeout.ms on the brokers", SettingsError)
    if not low <= kafka.session_timeout_ms <= high:
        found = f"kafka.session_timeout_ms = {kafka.session_timeout_ms}, Kafka allows {low} to {high}"
        return failed(
            found, "set a value between, or change group.*.session.timeout.ms on the brokers", SettingsError
        )
    kept = allowed.get("offsets.retention.minutes")
    found = f"session {kafka.session_timeout_ms} ms, transaction {kafka.transaction_timeout_ms} ms"
    if kept:
        found += f"; Kafka keeps the offsets of a group without members for {kept / 1440:g} days"
    return ok(found)


def _numbers(config: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, text) for name, text in config.items() if text.removeprefix("-").isdecimal()]
