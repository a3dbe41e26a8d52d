"""What Kafka reports of itself, its topics and the consumer group, asked once for all checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar

from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.protocol.consumer import IsolationLevel
from kafka.structs import TopicPartition

from models.vocabulary import MS_PER_DAY
from worker.kafka_io.admin import AdminClient
from worker.kafka_io.client import admin_config, kafka_errors_explained, transactional_id_of, wait_for_brokers
from worker.settings.sections import Settings

PATIENCE_S: Final = 6.0
"""How long to wait for Kafka to answer."""
INPUT: Final = ("transactions", "labels")
"""The settings that name the topics whose offsets the group commits."""
INTERNAL: Final = ("__consumer_offsets", "__transaction_state")
"""Kafka's own topics for groups and for transactions."""

_Answer = TypeVar("_Answer")
_UNANSWERED: Final = (
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
        Number of partitions.
    replicas, in_sync
        Number of replicas, and of those in sync, of the partition that has the fewest.
    leaderless
        Number of partitions without a leader.
    operations
        What this client may do with the topic; None where Kafka does not report it.
    config
        Configuration; empty without the permission to read it.
    begins, ends
        Oldest and next offset by partition; empty without the permission to read them. The ends of the topics that the
        worker writes are those of the committed records.
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
    def min_in_sync(self) -> int:
        """How many replicas must be in sync for a write."""
        return int(self.config.get("min.insync.replicas", 1))

    @property
    def lacks_replicas(self) -> bool:
        """Whether too few replicas are in sync for a write."""
        return self.in_sync < self.min_in_sync


@dataclass(frozen=True)
class Group:
    """The consumer group.

    Attributes
    ----------
    state
        Kafka's name for its state, such as `Stable` or `Empty`.
    members
        Their static ids; the member id of a member without one.
    committed
        Committed offsets by topic and partition.
    operations
        What this client may do with the group; None where Kafka does not report it.
    """

    state: str
    members: tuple[str, ...]
    committed: Mapping[tuple[str, int], int]
    operations: frozenset[str] | None = None


@dataclass(frozen=True)
class TransactionState:
    """The state of the worker's transactional id.

    Attributes
    ----------
    state
        Kafka's name for it, such as `Ongoing` or `CompleteCommit`.
    started_ms
        When the open transaction began, by the broker's clock; -1 where none is open.
    """

    state: str
    started_ms: int = -1


@dataclass(frozen=True)
class Cluster:
    """All that Kafka reports.

    Attributes
    ----------
    brokers
        Number of brokers.
    version
        The oldest version that a broker with these interfaces can have.
    cluster_id
        Kafka's name for the cluster.
    topics
        The topics of [topics] that exist, by the name of their setting (`transactions`, `model_log`, …).
    hidden
        Names of topics that this client may not describe.
    internal
        Those of `INTERNAL` that exist: Kafka creates each when it is first needed.
    broker_config
        Configuration of one broker; empty without the permission to read it.
    group
        The consumer group; None where it does not exist.
    transaction
        State of the transactional id; None where it has never been used.
    unknown
        The questions that Kafka did not answer, such as `group` and `transaction`.
    forbidden
        Those of them that it refused for lack of a permission.
    per_day
        Transactions of the last 24 hours; None where their offsets are not known.
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
    """Ask Kafka everything that the checks need.

    Raises
    ------
    UnreachableError
        Kafka does not answer, or refuses the login.
    SettingsError
        `[kafka]` cannot be right.
    """
    wait_for_brokers(settings, PATIENCE_S)
    with kafka_errors_explained(settings), AdminClient(**admin_config(settings)) as admin:
        return _Interview(admin, settings).cluster()


class _Interview:
    """Asks Kafka one question after another, and notes those that it does not answer."""

    def __init__(self, admin: AdminClient, settings: Settings) -> None:
        self._admin = admin
        self._settings = settings
        self._unknown: set[str] = set()
        self._forbidden: set[str] = set()

    def cluster(self) -> Cluster:
        about = self._admin.describe_cluster()
        brokers = [broker["broker_id"] for broker in about["brokers"]]
        names = self._settings.topics.model_dump()
        described = {it["name"]: it for it in self._admin.describe_topics([*names.values(), *INTERNAL])}
        topics = {
            role: self._topic(described[name]) for role, name in names.items() if _exists(described[name])
        }
        internal = {name: self._topic(described[name]) for name in INTERNAL if _exists(described[name])}
        # A worker goes on meanwhile. Oldest offsets first, then its own, then the ends: so a committed offset lies
        # between the two unless records are gone. The journal's end comes before the group for the same reason.
        for role in topics.keys() - set(INPUT):
            topics[role] = self._with_ends(topics[role], IsolationLevel.READ_COMMITTED)
        group = self._asked("group", lambda: self._group(brokers))
        for role in topics.keys() & set(INPUT):
            topics[role] = self._with_ends(topics[role], IsolationLevel.READ_UNCOMMITTED)
        return Cluster(
            brokers=len(brokers),
            version=tuple(self._admin.get_broker_version_data(brokers[0]).broker_version),
            cluster_id=str(about["cluster_id"]),
            topics=topics,
            hidden=tuple(name for name in names.values() if _is_hidden(described[name])),
            internal=internal,
            broker_config=self._config(ConfigResourceType.BROKER, str(brokers[0])),
            group=group,
            transaction=self._asked("transaction", lambda: self._transaction(INTERNAL[1] in internal)),
            unknown=frozenset(self._unknown),
            forbidden=frozenset(self._forbidden),
            per_day=self._per_day(topics.get("transactions")),
        )

    def _asked(self, name: str, question: Callable[[], _Answer]) -> _Answer | None:
        """Return the answer; None, and a note, where this client or this broker gets none."""
        try:
            return question()
        except _UNANSWERED as error:
            self._unknown.add(name)
            if isinstance(error, kafka_errors.AuthorizationError):
                self._forbidden.add(name)
            return None

    def _topic(self, described: Mapping[str, Any]) -> Topic:
        name, partitions = described["name"], described["partitions"]
        numbers = [partition["partition_index"] for partition in partitions]
        return Topic(
            name=name,
            partitions=len(partitions),
            replicas=min(len(partition["replica_nodes"]) for partition in partitions),
            in_sync=min(len(partition["isr_nodes"]) for partition in partitions),
            leaderless=sum(partition["leader_id"] < 0 for partition in partitions),
            operations=_operations(described),
            config=self._config(ConfigResourceType.TOPIC, name),
            begins=self._offsets(name, numbers, OffsetSpec.EARLIEST),
        )

    def _with_ends(self, topic: Topic, isolation: IsolationLevel) -> Topic:
        partitions = list(range(topic.partitions))
        return replace(topic, ends=self._offsets(topic.name, partitions, OffsetSpec.LATEST, isolation))

    def _config(self, kind: ConfigResourceType, name: str) -> dict[str, str]:
        resource = ConfigResource(kind, name)
        answer = self._asked(
            f"config of {name}", lambda: self._admin.describe_configs([resource], config_filter="all")
        )
        config = (answer or {}).get(kind.name.lower(), {}).get(name, {})
        return {key: str(value["value"]) for key, value in config.items()}

    def _offsets(
        self,
        name: str,
        partitions: list[int],
        at: OffsetSpec | int,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[int, int]:
        specs = {TopicPartition(name, partition): at for partition in partitions}
        answer = self._asked(
            f"offsets of {name}", lambda: self._admin.list_partition_offsets(specs, isolation_level=isolation)
        )
        answer = answer or {}
        return {tp.partition: int(found.offset) for tp, found in answer.items()}

    def _group(self, brokers: list[int]) -> Group | None:
        name = self._settings.kafka.group
        # List first: a look-up of the group's coordinator would make Kafka create an internal topic.
        if name not in {it["group_id"] for it in self._admin.list_groups()}:
            # Kafka lists neither a group that does not exist nor one that this client may not see. Ask any broker,
            # without a coordinator: its error distinguishes the two.
            described = self._admin.describe_groups([name], group_coordinator_id=brokers[0])[name]
            if "Authorization" in str(described["error"]):
                raise kafka_errors.GroupAuthorizationFailedError(name)
            return None
        described = self._admin.describe_groups([name])[name]
        committed = self._admin.list_group_offsets({name: None})[name]
        return Group(
            state=str(described["group_state"]),
            members=tuple(it["group_instance_id"] or it["member_id"] for it in described["members"]),
            committed={
                (tp.topic, tp.partition): int(at.offset) for tp, at in committed.items() if at.offset >= 0
            },
            operations=_operations(described),
        )

    def _transaction(self, topic_exists: bool) -> TransactionState | None:
        if not topic_exists:  # a question would make Kafka create it
            return None
        name = transactional_id_of(self._settings)
        try:
            described = self._admin.describe_transactions([name])[name]
        except kafka_errors.TransactionalIdNotFoundError:
            return None
        return TransactionState(str(described.state.value), int(described.transaction_start_time_ms))

    def _per_day(self, topic: Topic | None) -> float | None:
        if topic is None or not topic.ends:
            return None
        yesterday = int(time.time() * 1000) - MS_PER_DAY
        since = self._offsets(topic.name, list(topic.ends), yesterday)
        return float(sum(end - since[p] for p, end in topic.ends.items() if since.get(p, -1) >= 0))


def _exists(described: Mapping[str, Any]) -> bool:
    # A topic that is so new that its partitions lack leaders exists all the same.
    return described["error_code"] in {0, kafka_errors.LeaderNotAvailableError.errno} and bool(
        described["partitions"]
    )


def _is_hidden(described: Mapping[str, Any]) -> bool:
    return bool(described["error_code"] == kafka_errors.TopicAuthorizationFailedError.errno)


def _operations(described: Mapping[str, Any]) -> frozenset[str] | None:
    operations = described.get("authorized_operations")
    return None if operations is None else frozenset(operations)
