"""What Kafka says of itself, its topics and our group, asked once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.structs import TopicPartition

from worker.kafka_io.admin import AdminClient
from worker.kafka_io.client import admin_config, kafka_errors_explained, wait_for_brokers
from worker.settings.sections import Settings

PATIENCE_S: Final = 6.0
INTERNAL: Final = ("__consumer_offsets", "__transaction_state")
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

    @property
    def lacks_replicas(self) -> bool:
        """Whether so few replicas are in sync that nothing can be written."""
        return self.in_sync < int(self.config.get("min.insync.replicas", 1))


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
class TransactionState:
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
    forbidden
        Those of them that it does not tell because we lack the right.
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
    transaction: TransactionState | None = None
    unknown: frozenset[str] = frozenset()
    forbidden: frozenset[str] = frozenset()
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
    with kafka_errors_explained(settings), AdminClient(**admin_config(settings)) as admin:
        return _Interview(admin, settings).cluster()


class _Interview:
    """The questions, each of which may be one that we are not allowed."""

    def __init__(self, admin: AdminClient, settings: Settings) -> None:
        self._admin = admin
        self._settings = settings
        self._unknown: set[str] = set()
        self._forbidden: set[str] = set()

    def cluster(self) -> Cluster:
        about = self._admin.describe_cluster()
        brokers = [broker["broker_id"] for broker in about["brokers"]]
        names = self._settings.topics.model_dump()
        told = {topic["name"]: topic for topic in self._admin.describe_topics([*names.values(), *INTERNAL])}
        topics = {role: self._topic(told[name]) for role, name in names.items() if _is_there(told[name])}
        internal = {name: self._topic(told[name]) for name in INTERNAL if _is_there(told[name])}
        return Cluster(
            brokers=len(brokers),
            version=tuple(self._admin.get_broker_version_data(brokers[0]).broker_version),
            cluster_id=str(about["cluster_id"]),
            topics=topics,
            hidden=tuple(name for name in names.values() if _is_hidden(told[name])),
            internal=internal,
            broker_config=self._config(ConfigResourceType.BROKER, str(brokers[0])),
            group=self._asked("group", lambda: self._group(brokers)),
            transaction=self._asked("transaction", lambda: self._transaction(INTERNAL[1] in internal)),
            unknown=frozenset(self._unknown),
            forbidden=frozenset(self._forbidden),
            per_day=self._per_day(topics.get("transactions")),
        )

    def _asked(self, name: str, question: Callable[[], _Answer]) -> _Answer | None:
        try:
            return question()
        except _NOT_FOR_US as error:
            self._unknown.add(name)
            if isinstance(error, kafka_errors.AuthorizationError):
                self._forbidden.add(name)
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

    def _group(self, brokers: list[int]) -> Group | None:
        name = self._settings.kafka.group
        # Looking for its coordinator would make Kafka create an internal topic.
        if name not in {it["group_id"] for it in self._admin.list_groups()}:
            # Neither a group that does not exist nor one that is none of our business is listed.
            told = self._admin.describe_groups([name], group_coordinator_id=brokers[0])[name]
            if "Authorization" in str(told["error"]):
                raise kafka_errors.GroupAuthorizationFailedError(name)
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

    def _transaction(self, is_kept: bool) -> TransactionState | None:
        if not is_kept:  # and asking would make Kafka create its internal topic
            return None
        name = f"{self._settings.kafka.group}.{self._settings.worker.id}"
        try:
            told = self._admin.describe_transactions([name])[name]
        except kafka_errors.TransactionalIdNotFoundError:
            return None
        return TransactionState(str(told.state.value), int(told.transaction_start_time_ms))

    def _per_day(self, topic: Topic | None) -> float | None:
        if topic is None or not topic.ends:
            return None
        yesterday = int(time.time() * 1000) - _DAY_MS
        since = self._offsets(topic.name, list(topic.ends), yesterday)
        return float(sum(end - since[p] for p, end in topic.ends.items() if since.get(p, -1) >= 0))


def _is_there(told: Mapping[str, Any]) -> bool:
    return told["error_code"] in {0, kafka_errors.LeaderNotAvailableError.errno} and bool(told["partitions"])


def _is_hidden(told: Mapping[str, Any]) -> bool:
    return bool(told["error_code"] == kafka_errors.TopicAuthorizationFailedError.errno)


def _operations(told: Mapping[str, Any]) -> frozenset[str] | None:
    operations = told.get("authorized_operations")
    return None if operations is None else frozenset(operations)
