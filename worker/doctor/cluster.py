"""What Kafka says of itself, its topics and our group, asked once; and the checks of the brokers."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from kafka import KafkaAdminClient
from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.structs import TopicPartition

from worker.client import admin_config, kafka_errors_explained, wait_for_brokers
from worker.doctor.finding import Finding, failed, not_checked, ok
from worker.errors import IncompatibleError, SettingsError, UnreachableError
from worker.settings import Settings

PATIENCE_S: Final = 6.0
INTERNAL: Final = ("__consumer_offsets", "__transaction_state")
_OLDEST: Final = (2, 5)
"""The first version that fences a transaction's offsets by group metadata (KIP-447)."""
_DAY_MS: Final = 86_400_000

_Answer = TypeVar("_Answer")
_NOT_FOR_US: Final = (
    kafka_errors.AuthorizationError,
    kafka_errors.UnsupportedVersionError,
    kafka_errors.IncompatibleBrokerVersion,
)


@dataclass(frozen=True)
class Topic:
    """One topic.

    Attributes
    ----------
    partitions
        How many.
    replicas, in_sync
        Of the partition that has the fewest.
    leaderless
        How many partitions have no leader.
    operations
        What we may do with it; None where Kafka does not say.
    config
        Its configuration; empty where we may not see it.
    begins, ends
        Oldest and next offset by partition; empty where we may not see them.
    """

    name: str
    partitions: int
    replicas: int = 1
    in_sync: int = 1
    leaderless: int = 0
    operations: frozenset[str] | None = None
    config: Mapping[str, str] = field(default_factory=dict)
    begins: Mapping[int, int] = field(default_factory=dict)
    ends: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """The consumer group, as far as it exists.

    Attributes
    ----------
    members
        Static ids of those in it.
    committed
        By topic and partition.
    operations
        As of a topic.
    """

    state: str
    members: tuple[str, ...]
    committed: Mapping[tuple[str, int], int]
    operations: frozenset[str] | None = None


@dataclass(frozen=True)
class Transaction:
    """The state of our transactional id; `started_ms` is the broker's clock, -1 where none is open."""

    state: str
    started_ms: int = -1


@dataclass(frozen=True)
class Cluster:
    """All that Kafka told.

    Attributes
    ----------
    brokers
        How many.
    version
        Of the broker, as its interfaces tell.
    topics
        Those of [topics] that exist, by their name there (`transactions`, `model_log`, …).
    hidden
        Names of topics that we may not see.
    internal
        Kafka's own ones for groups and transactions, which it makes when they are first needed.
    broker_config
        Of one broker; empty where we may not see it.
    group
        None where it does not exist.
    transaction
        None where the transactional id was never used.
    unknown
        What Kafka does not tell us: `group`, `transaction`.
    per_day
        Transactions of the last 24 hours, None where nobody can tell.
    """

    brokers: int
    version: tuple[int, ...]
    cluster_id: str
    topics: Mapping[str, Topic]
    hidden: tuple[str, ...] = ()
    internal: Mapping[str, Topic] = field(default_factory=dict)
    broker_config: Mapping[str, str] = field(default_factory=dict)
    group: Group | None = None
    transaction: Transaction | None = None
    unknown: frozenset[str] = frozenset()
    per_day: float | None = None


def reach(settings: Settings) -> Cluster:
    """Ask Kafka.

    Raises
    ------
    UnreachableError
        It does not answer, or does not let us in.
    SettingsError
        `[kafka]` cannot be right.
    """
    wait_for_brokers(settings, PATIENCE_S)
    with kafka_errors_explained(settings), KafkaAdminClient(**admin_config(settings)) as admin:
        return _Interview(admin, settings).cluster()


class _Interview:
    """The questions, each of which may be one that we are not allowed."""

    def __init__(self, admin: KafkaAdminClient, settings: Settings) -> None:
        self._admin = admin
        self._settings = settings
        self._unknown: set[str] = set()

    def cluster(self) -> Cluster:
        about = self._admin.describe_cluster()
        brokers = [broker["broker_id"] for broker in about["brokers"]]
        names = self._settings.topics.model_dump()
        told = {topic["name"]: topic for topic in self._admin.describe_topics([*names.values(), *INTERNAL])}
        topics = {role: self._topic(told[name]) for role, name in names.items() if _is_there(told[name])}
        return Cluster(
            brokers=len(brokers),
            version=tuple(self._admin.get_broker_version_data(brokers[0]).broker_version),
            cluster_id=str(about["cluster_id"]),
            topics=topics,
            hidden=tuple(name for name in names.values() if _is_hidden(told[name])),
            internal={name: self._topic(told[name]) for name in INTERNAL if _is_there(told[name])},
            broker_config=self._config(ConfigResourceType.BROKER, str(brokers[0])),
            group=self._asked("group", self._group),
            transaction=self._asked("transaction", self._transaction),
            unknown=frozenset(self._unknown),
            per_day=self._per_day(topics.get("transactions")),
        )

    def _asked(self, name: str, question: Callable[[], _Answer]) -> _Answer | None:
        try:
            return question()
        except _NOT_FOR_US:
            self._unknown.add(name)
            return None

    def _topic(self, told: Mapping[str, Any]) -> Topic:
        name, partitions = told["name"], told["partitions"]
        numbers = [partition["partition_index"] for partition in partitions]
        return Topic(
            name=name,
            partitions=len(partitions),
            replicas=min(len(partition["replica_nodes"]) for partition in partitions),
            in_sync=min(len(partition["isr_nodes"]) for partition in partitions),
            leaderless=sum(partition["leader_id"] < 0 for partition in partitions),
            operations=_operations(told),
            config=self._config(ConfigResourceType.TOPIC, name),
            begins=self._offsets(name, numbers, OffsetSpec.EARLIEST),
            ends=self._offsets(name, numbers, OffsetSpec.LATEST),
        )

    def _config(self, kind: ConfigResourceType, name: str) -> dict[str, str]:
        resource = ConfigResource(kind, name)
        answer = self._asked(
            f"config of {name}", lambda: self._admin.describe_configs([resource], config_filter="all")
        )
        told = (answer or {}).get(kind.name.lower(), {}).get(name, {})
        return {key: str(value["value"]) for key, value in told.items()}

    def _offsets(self, name: str, partitions: list[int], at: OffsetSpec | int) -> dict[int, int]:
        specs = {TopicPartition(name, partition): at for partition in partitions}
        answer = self._asked(f"offsets of {name}", lambda: self._admin.list_partition_offsets(specs)) or {}
        return {tp.partition: int(found.offset) for tp, found in answer.items()}

    def _group(self) -> Group | None:
        name = self._settings.kafka.group
        # Asking for its coordinator would make Kafka create its internal topic.
        if name not in {it["group_id"] for of_one in _values(self._admin.list_groups()) for it in of_one}:
            return None
        told = self._admin.describe_groups([name])[name]
        committed = self._admin.list_group_offsets({name: None})[name]
        return Group(
            state=str(told["group_state"]),
            members=tuple(it["group_instance_id"] or it["member_id"] for it in told["members"]),
            committed={
                (tp.topic, tp.partition): int(at.offset) for tp, at in committed.items() if at.offset >= 0
            },
            operations=_operations(told),
        )

    def _transaction(self) -> Transaction | None:
        name = f"{self._settings.kafka.group}.{self._settings.worker.id}"
        listed = {it.transactional_id for of_one in self._admin.list_transactions().values() for it in of_one}
        if name not in listed:
            return None
        told = self._admin.describe_transactions([name])[name]
        return Transaction(str(told.state.value), int(told.transaction_start_time_ms))

    def _per_day(self, topic: Topic | None) -> float | None:
        if topic is None or not topic.ends:
            return None
        yesterday = int(time.time() * 1000) - _DAY_MS
        since = self._offsets(topic.name, list(topic.ends), yesterday)
        return float(sum(end - since[p] for p, end in topic.ends.items() if since.get(p, -1) >= 0))


def brokers(settings: Settings, cluster: Cluster) -> Finding:
    """They answer, and are new enough to fence a worker that has lost its partitions."""
    version = ".".join(map(str, cluster.version))
    count = f"{cluster.brokers} broker{'s' if cluster.brokers != 1 else ''}"
    found = f"Kafka {version} or newer at {settings.kafka.bootstrap}: {count}, cluster {cluster.cluster_id}"
    if cluster.version < _OLDEST:
        return failed(found, f"upgrade Kafka to {_OLDEST[0]}.{_OLDEST[1]} or newer", IncompatibleError)
    return ok(found)


def internal_topics(cluster: Cluster) -> Finding:
    """Kafka can keep groups and transactions: its own topics for them are there, or can be made."""
    missing = [name for name in INTERNAL if name not in cluster.internal]
    short = {name: topic for name, topic in cluster.internal.items() if _too_few_in_sync(topic)}
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


def _too_few_in_sync(topic: Topic) -> bool:
    return topic.in_sync < int(topic.config.get("min.insync.replicas", 1))


def _is_there(told: Mapping[str, Any]) -> bool:
    return told["error_code"] in {0, kafka_errors.LeaderNotAvailableError.errno} and bool(told["partitions"])


def _is_hidden(told: Mapping[str, Any]) -> bool:
    return bool(told["error_code"] == kafka_errors.TopicAuthorizationFailedError.errno)


def _operations(told: Mapping[str, Any]) -> frozenset[str] | None:
    operations = told.get("authorized_operations")
    return None if operations is None else frozenset(operations)


def _values(listed: Any) -> list[Any]:
    """Of a listing by broker, or of one list for all."""
    return list(listed.values()) if isinstance(listed, dict) else [listed]
