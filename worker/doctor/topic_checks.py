"""Checks of the six topics: there, alike in partitions, replicated, kept long enough, large enough."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from models.vocabulary import MS_PER_DAY
from worker.doctor.cluster import Cluster, Group, Topic
from worker.doctor.finding import Finding, failed, not_checked, ok, refused, warning
from worker.errors import IncompatibleError, UnreachableError
from worker.kafka_io.topic_setup import FOR_EVER, refuse_misfits
from worker.partition.codec import PIECE_BYTES
from worker.settings.sections import Settings

LARGEST_BATCH_BYTES: Final = PIECE_BYTES + (64 << 10)
"""No record of ours is larger, nor a batch of several."""
_ABSENCE_DAYS: Final = 3
"""A worker may well be away over a long weekend."""
_WRITTEN: Final = ("alerts", "decisions", "model_log", "dead_letters")
_STATE: Final = ("decisions", "model_log")
_INPUT: Final = ("transactions", "labels")
_MAY: Final = {
    "transactions": {"READ"},
    "labels": {"READ"},
    "alerts": {"WRITE"},
    "decisions": {"READ", "WRITE"},
    "model_log": {"READ", "WRITE"},
    "dead_letters": {"WRITE"},
}
_NONE: Final = "none of the topics can be seen"
_UNSEEN: Final = "we may not see the topics' configuration (DESCRIBE_CONFIGS on them)"


def existence(settings: Settings, cluster: Cluster) -> Finding:
    """All six exist."""
    names = settings.topics.model_dump()
    if cluster.hidden:
        found = f"Kafka does not let us see {', '.join(cluster.hidden)}"
        fix = f"permit {_who(settings)} to describe them"
        return failed(found, fix, UnreachableError)
    missing = [name for role, name in names.items() if role not in cluster.topics]
    if missing:
        fix = "run `fraud-worker topics create`, or mend the names in [topics]"
        return failed(f"missing: {', '.join(missing)}", fix, UnreachableError)
    return ok(", ".join(names.values()))


def absence(name: str, cluster: Cluster) -> str:
    """Say why nothing is known of a topic."""
    return f"Kafka does not let us see {name}" if name in cluster.hidden else f"{name} is missing"


def partitions(settings: Settings, cluster: Cluster) -> Finding:
    """Transactions, labels, alerts and decisions have the same number, the model log has one."""
    counts = {topic.name: topic.partitions for topic in cluster.topics.values()}
    of_input = cluster.topics.get("transactions")
    if of_input is None:
        return not_checked(absence(settings.topics.transactions, cluster))
    try:
        refuse_misfits(counts, of_input.partitions, settings.topics)
    except IncompatibleError as error:
        return refused(error)
    return ok(f"{of_input.partitions} in all that go by card, 1 in {settings.topics.model_log}")


def leaders(cluster: Cluster) -> Finding:
    """Every partition has a leader and enough replicas in sync."""
    if not cluster.topics:
        return not_checked(_NONE)
    gone = [f"{it.name}: {it.leaderless} without a leader" for it in cluster.topics.values() if it.leaderless]
    few = [
        f"{it.name}: {it.in_sync} in sync, min.insync.replicas = {it.config['min.insync.replicas']}"
        for it in cluster.topics.values()
        if it.lacks_replicas
    ]
    if gone or few:
        return failed("; ".join(gone + few), "start the missing brokers", UnreachableError)
    behind = [
        f"{it.name}: {it.in_sync} of {it.replicas}"
        for it in cluster.topics.values()
        if it.in_sync < it.replicas
    ]
    if behind:
        return warning(f"replicas in sync: {', '.join(behind)}", "see why brokers are away or behind")
    return ok("all partitions have a leader, all replicas are in sync")


def replication(cluster: Cluster) -> Finding:
    """Neither one broker's loss nor one broker's absence does harm."""
    if not cluster.topics:
        return not_checked(_NONE)
    single = [topic.name for topic in cluster.topics.values() if topic.replicas == 1]
    if single:
        return warning(
            f"one copy only: {', '.join(single)}: lost with its broker",
            "fine to try things out; else make the topics anew with `topics create --replication 3`",
        )
    pairs = [topic.name for topic in cluster.topics.values() if topic.replicas == 2]
    if pairs:
        return warning(
            f"two copies only: {', '.join(pairs)}: with one broker away either nothing is written or one copy is left",
            "make the topics anew with `topics create --replication 3`, and set min.insync.replicas = 2",
        )
    seen = [topic for topic in cluster.topics.values() if topic.config]
    return _in_sync(seen) if seen else not_checked(_UNSEEN)


def _in_sync(seen: list[Topic]) -> Finding:
    """Look at how many copies a write waits for, where there are three or more."""
    least = {topic.name: int(topic.config.get("min.insync.replicas", 1)) for topic in seen}
    tight = [topic.name for topic in seen if least[topic.name] >= topic.replicas]
    if tight:
        return warning(
            f"one broker away stops writing to {', '.join(tight)}", "lower min.insync.replicas by one"
        )
    loose = [name for name, count in least.items() if count == 1]
    if loose:
        return warning(
            f"min.insync.replicas = 1: a commit may be lost with one broker: {', '.join(loose)}",
            "set min.insync.replicas = 2 on them",
        )
    return ok(f"{min(topic.replicas for topic in seen)} copies")


def state_retention(cluster: Cluster) -> Finding:
    """The logs that state is rebuilt from are kept for ever."""
    logs = _configured(cluster, _STATE)
    if not logs:
        return not_checked(_UNSEEN)
    limited = [
        f"{topic.name}: {name} = {topic.config[name]}"
        for topic in logs
        for name in ("retention.ms", "retention.bytes")
        if int(topic.config.get(name, FOR_EVER)) != FOR_EVER
    ]
    if limited:
        fix = "set them to -1: once a record is deleted, no worker can start"
        return failed(f"state is rebuilt from these logs, but {', '.join(limited)}", fix, IncompatibleError)
    return ok(" and ".join(topic.name for topic in logs) + " are kept for ever")


def input_retention(settings: Settings, cluster: Cluster) -> Finding:
    """What is not read yet waits long enough; what labels refer to can be replayed."""
    topics = _configured(cluster, _INPUT)
    if not topics:
        return not_checked(_UNSEEN)
    days = {topic.name: _days(int(topic.config.get("retention.ms", FOR_EVER))) for topic in topics}
    bounds = {topic.name: int(topic.config.get("retention.bytes", FOR_EVER)) for topic in topics}
    bounded = [
        f"{name} at most {size:,} bytes a partition" for name, size in bounds.items() if size != FOR_EVER
    ]
    told = "kept: " + ", ".join([*(f"{name} {_told_days(kept)}" for name, kept in days.items()), *bounded])
    short = [name for name, kept in days.items() if kept < _ABSENCE_DAYS]
    if short:
        return warning(
            f"{told}. A worker that is away for longer loses what it has not read",
            f"raise retention.ms of {', '.join(short)} to {_ABSENCE_DAYS} days or more",
        )
    if bounded:
        return warning(
            f"{told}. How long that is depends on the traffic; what a worker that is away has not read may go",
            "set retention.bytes to -1 on them, so that retention.ms alone counts",
        )
    horizon = settings.labels.horizon_days
    if min(days.values()) < horizon:
        # Decisions wait for their labels in the worker's own logs.
        told += f"; shorter than labels.horizon_days = {horizon:g}, so none can begin anew from them"
    return ok(told)


def cleanup(cluster: Cluster) -> Finding:
    """No topic is compacted."""
    topics = _configured(cluster, tuple(_MAY))
    if not topics:
        return not_checked(_UNSEEN)
    compacted = [topic.name for topic in topics if "compact" in topic.config.get("cleanup.policy", "")]
    if compacted:
        found = f"cleanup.policy compacts {', '.join(compacted)}: a card's records replace one another"
        return failed(found, "set cleanup.policy = delete on them", IncompatibleError)
    return ok("cleanup.policy = delete")


def message_size(cluster: Cluster) -> Finding:
    """The brokers take our largest records."""
    topics = _configured(cluster, _WRITTEN)
    if not topics:
        return not_checked(_UNSEEN)
    small = [
        f"{topic.name}: {topic.config['max.message.bytes']}"
        for topic in topics
        if int(topic.config.get("max.message.bytes", LARGEST_BATCH_BYTES)) < LARGEST_BATCH_BYTES
    ]
    if small:
        fix = f"set max.message.bytes to at least {LARGEST_BATCH_BYTES}; Kafka's own default is 1048588"
        return failed(
            f"max.message.bytes is too small for what a worker writes: {', '.join(small)}",
            fix,
            IncompatibleError,
        )
    return ok(f"max.message.bytes admits batches of {LARGEST_BATCH_BYTES} bytes")


def timestamps(cluster: Cluster) -> Finding:
    """Whose clock the records of the input carry."""
    topics = _configured(cluster, _INPUT)
    if not topics:
        return not_checked(_UNSEEN)
    kinds = {topic.name: topic.config.get("message.timestamp.type", "CreateTime") for topic in topics}
    clocks = {"CreateTime": "the producers' clocks", "LogAppendTime": "the brokers' clocks"}
    return ok(", ".join(f"{name}: {kind} ({clocks.get(kind, kind)})" for name, kind in kinds.items()))


def permissions(settings: Settings, cluster: Cluster) -> Finding:
    """We may read and write what a worker reads and writes."""
    known = {role: topic for role, topic in cluster.topics.items() if topic.operations is not None}
    if not known and not cluster.forbidden:
        return not_checked("Kafka does not say what we may do")
    transactional = f"{settings.kafka.group}.{settings.worker.id}"
    lacking = [
        f"{' and '.join(sorted(missing))} on {topic.name}"
        for role, topic in known.items()
        if (missing := _MAY[role] - (topic.operations or set()))
    ]
    if "group" in cluster.forbidden or not _may_read(cluster.group):
        lacking.append(f"READ on group {settings.kafka.group}")
    if "transaction" in cluster.forbidden:
        lacking.append(f"WRITE on transactional id {transactional}")
    if lacking:
        fix = f"permit it to {_who(settings)}"
        return failed(f"not permitted: {', '.join(lacking)}", fix, UnreachableError)
    return ok(f"topics and group; WRITE on transactional id {transactional} shows only when it is used")


def _who(settings: Settings) -> str:
    """Whom Kafka takes us for."""
    kafka = settings.kafka
    if kafka.sasl_username is not None:
        return f"kafka.sasl_username = {kafka.sasl_username!r}"
    if kafka.ssl_cert_file is not None:
        return f"the name in kafka.ssl_cert_file = {str(kafka.ssl_cert_file)!r}"
    return "User:ANONYMOUS, or log in: kafka.security_protocol"


def _may_read(group: Group | None) -> bool:
    """Unless Kafka says otherwise."""
    return group is None or group.operations is None or "READ" in group.operations


def _configured(cluster: Cluster, roles: tuple[str, ...]) -> list[Topic]:
    return [topic for topic in _present(cluster, roles) if topic.config]


def _present(cluster: Cluster, roles: tuple[str, ...]) -> Iterator[Topic]:
    return (cluster.topics[role] for role in roles if role in cluster.topics)


def _days(retention_ms: int) -> float:
    return float("inf") if retention_ms == FOR_EVER else retention_ms / MS_PER_DAY


def _told_days(days: float) -> str:
    return "for ever" if days == float("inf") else f"{days:.3g} days"
