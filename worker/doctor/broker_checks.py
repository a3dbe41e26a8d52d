"""Checks of the brokers: encrypted, new enough, able to keep groups and transactions, patient enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from worker.doctor.cluster import INTERNAL, Cluster
from worker.doctor.finding import Finding, failed, not_checked, ok, warning
from worker.errors import IncompatibleError, SettingsError, UnreachableError
from worker.settings.sections import Settings

_OLDEST: Final = (2, 5)
"""The first version that fences a transaction's offsets by group metadata (KIP-447)."""
_LOCAL: Final = {"127.0.0.1", "localhost", "::1", "[::1]"}


def encryption(settings: Settings) -> Finding:
    """Nobody on the way reads along."""
    protocol, bootstrap = settings.kafka.security_protocol, settings.kafka.bootstrap
    if protocol.endswith("SSL"):
        return ok(f"kafka.security_protocol = {protocol!r}")
    hosts = {address.strip().rpartition(":")[0] for address in bootstrap.split(",")}
    if hosts <= _LOCAL:
        return ok(f"kafka.security_protocol = {protocol!r}: nothing is encrypted, nor leaves this machine")
    what = "the password and all records" if protocol.startswith("SASL") else "all records"
    return warning(
        f"kafka.security_protocol = {protocol!r}: {what} go to {bootstrap} unencrypted",
        "use 'SSL' or 'SASL_SSL' unless the network is trusted",
    )


def version(settings: Settings, cluster: Cluster) -> Finding:
    """They answer, and are new enough to fence a worker that has lost its partitions."""
    number = ".".join(map(str, cluster.version))
    count = f"{cluster.brokers} broker{'s' if cluster.brokers != 1 else ''}"
    found = f"Kafka {number} or newer at {settings.kafka.bootstrap}: {count}, cluster {cluster.cluster_id}"
    if cluster.version < _OLDEST:
        return failed(found, f"upgrade Kafka to {_OLDEST[0]}.{_OLDEST[1]} or newer", IncompatibleError)
    return ok(found)


def internal_topics(cluster: Cluster) -> Finding:
    """Kafka can keep groups and transactions: its own topics for them are there, or can be made."""
    missing = [name for name in INTERNAL if name not in cluster.internal]
    short = {name: topic for name, topic in cluster.internal.items() if topic.lacks_replicas}
    if short:
        told = ", ".join(f"{name} has {topic.in_sync} replica in sync" for name, topic in short.items())
        return failed(
            f"{told}, fewer than its min.insync.replicas", "start the missing brokers", UnreachableError
        )
    if not missing:
        return ok(f"{' and '.join(INTERNAL)} are there")
    if not cluster.broker_config:
        return not_checked(
            f"{', '.join(missing)}: not there yet, and we may not see the broker's configuration"
        )
    return _can_be_made(missing, cluster)


def _can_be_made(missing: list[str], cluster: Cluster) -> Finding:
    settings = {
        "__consumer_offsets": "offsets.topic.replication.factor",
        "__transaction_state": "transaction.state.log.replication.factor",
    }
    wanted = {settings[name]: int(cluster.broker_config.get(settings[name], 1)) for name in missing}
    beyond = [f"{name} = {copies}" for name, copies in wanted.items() if copies > cluster.brokers]
    if beyond:
        return failed(
            f"Kafka cannot make {', '.join(missing)}: {', '.join(beyond)} with {cluster.brokers} broker(s)",
            "start as many brokers, or lower it in the brokers' configuration (1 for a single one)",
            UnreachableError,
        )
    return ok(f"{', '.join(missing)}: made by Kafka when first needed")


def time_outs(settings: Settings, cluster: Cluster) -> Finding:
    """Kafka allows the time-outs that are set."""
    if not cluster.broker_config:
        return not_checked("we may not see the broker's configuration (DESCRIBE_CONFIGS on the cluster)")
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
            found, "set one within, or change group.*.session.timeout.ms on the brokers", SettingsError
        )
    kept = allowed.get("offsets.retention.minutes")
    told = f"; offsets of a group without members are kept for {kept / 1440:g} days" if kept else ""
    return ok(f"session {kafka.session_timeout_ms} ms, transaction {kafka.transaction_timeout_ms} ms{told}")


def _numbers(config: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(name, text) for name, text in config.items() if text.removeprefix("-").isdecimal()]
