"""Checks of the six topics: existence, partitions, replicas, retention, sizes, timestamps, permissions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from models.vocabulary import MS_PER_DAY
from worker.doctor.cluster import Cluster, Group, Topic
from worker.doctor.finding import Finding, failed, not_checked, ok, refused, warning
from worker.errors import IncompatibleError, UnreachableError
from worker.kafka_io.client import transactional_id_of
from worker.kafka_io.topic_setup import FOR_EVER, LATEST_AHEAD, refuse_misfits
from worker.partition.record_layouts import PIECE_BYTES
from worker.settings.sections import Settings

LARGEST_BATCH_BYTES: Final = PIECE_BYTES + (64 << 10)
"""No record that a worker writes is larger, nor is a batch of several."""
_ABSENCE_DAYS: Final = 3
"""How long a worker may be away: a long weekend."""
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
_MORE_COPIES: Final = (
    "`topics create --replication 3` before the first start; later give the topics more replicas with Kafka's own "
    "kafka-reassign-partitions.sh, and delete none: what they hold is nowhere else"
)
_NO_LIMIT: Final = (1 << 63) - 1
_NO_TOPIC: Final = "none of the topics exists, as far as Kafka shows"
_NO_CONFIG: Final = "no permission to read the topics' configuration (DESCRIBE_CONFIGS on them)"


def existence(settings: Settings, cluster: Cluster) -> Finding:
    """Check that all six exist."""
    names = settings.topics.model_dump()
    if cluster.hidden:
        found = f"no permission to describe {', '.join(cluster.hidden)}"
        return failed(found, f"grant it to {_principal(settings)}", UnreachableError)
    missing = [name for role, name in names.items() if role not in cluster.topics]
    if missing:
        fix = "run `fraud-worker topics create`, or correct the names in [topics]"
        return failed(f"missing: {', '.join(missing)}", fix, UnreachableError)
    return ok(", ".join(names.values()))


def absence(name: str, cluster: Cluster) -> str:
    """Return why nothing is known of a topic."""
    return f"no permission to describe {name}" if name in cluster.hidden else f"{name} is missing"


def partitions(settings: Settings, cluster: Cluster) -> Finding:
    """Check that transactions, labels, alerts and decisions have equally many partitions, the model log one."""
    counts = {topic.name: topic.partitions for topic in cluster.topics.values()}
    of_input = cluster.topics.get("transactions")
    if of_input is None:
        return not_checked(absence(settings.topics.transactions, cluster))
    try:
        refuse_misfits(counts, of_input.partitions, settings.topics)
    except IncompatibleError as error:
        return refused(error)
    return ok(f"{of_input.partitions} in each topic that is keyed by card, 1 in {settings.topics.model_log}")


def leaders(cluster: Cluster) -> Finding:
    """Check that every partition has a leader and enough replicas in sync."""
    if not cluster.topics:
        return not_checked(_NO_TOPIC)
    leaderless = [
        f"{it.name}: {it.leaderless} without a leader" for it in cluster.topics.values() if it.leaderless
    ]
    few = [
        f"{it.name}: {it.in_sync} in sync, min.insync.replicas = {it.min_in_sync}"
        for it in cluster.topics.values()
        if it.lacks_replicas
    ]
    if leaderless or few:
        return failed("; ".join(leaderless + few), "start the missing brokers", UnreachableError)
    behind = [
        f"{it.name}: {it.in_sync} of {it.replicas}"
        for it in cluster.topics.values()
        if it.in_sync < it.replicas
    ]
    if behind:
        return warning(f"replicas in sync: {', '.join(behind)}", "find out why brokers are away or behind")
    return ok("all partitions have a leader, all replicas are in sync")


def replication(cluster: Cluster) -> Finding:
    """Check that the loss of one broker loses no record and stops no write."""
    if not cluster.topics:
        return not_checked(_NO_TOPIC)
    single = [topic.name for topic in cluster.topics.values() if topic.replicas == 1]
    if single:
        return warning(
            f"one copy only: {', '.join(single)}: lost with its broker's disk",
            f"fine for a trial; otherwise {_MORE_COPIES}",
        )
    pairs = [topic.name for topic in cluster.topics.values() if topic.replicas == 2]
    if pairs:
        return warning(
            f"two copies only: {', '.join(pairs)}: without one broker either nothing is written or one copy is left",
            f"{_MORE_COPIES}, and set min.insync.replicas = 2",
        )
    seen = [topic for topic in cluster.topics.values() if topic.config]
    return _in_sync(seen) if seen else not_checked(_NO_CONFIG)


def _in_sync(seen: list[Topic]) -> Finding:
    """Check how many replicas must be in sync for a write, in topics of three or more."""
    tight = [topic.name for topic in seen if topic.min_in_sync >= topic.replicas]
    if tight:
        return warning(
            f"the loss of one broker stops writing to {', '.join(tight)}", "lower min.insync.replicas by one"
        )
    loose = [topic.name for topic in seen if topic.min_in_sync == 1]
    if loose:
        return warning(
            f"min.insync.replicas = 1: one broker's loss may lose a commit: {', '.join(loose)}",
            "set min.insync.replicas = 2 on them",
        )
    return ok(f"{min(topic.replicas for topic in seen)} copies")


def state_retention(cluster: Cluster) -> Finding:
    """Check that the logs that state is rebuilt from are kept for ever."""
    logs = _configured(cluster, _STATE)
    if not logs:
        return not_checked(_NO_CONFIG)
    limited = [
        f"{topic.name}: {name} = {topic.config[name]}"
        for topic in logs
        for name in ("retention.ms", "retention.bytes")
        if int(topic.config.get(name, FOR_EVER)) != FOR_EVER
    ]
    if limited:
        fix = "set them to -1: no worker can start once a record is deleted"
        return failed(f"state is rebuilt from these logs, but {', '.join(limited)}", fix, IncompatibleError)
    return ok(" and ".join(topic.name for topic in logs) + " are kept for ever")


def input_retention(settings: Settings, cluster: Cluster) -> Finding:
    """Check that the input is kept until a worker that was away has read it."""
    topics = _configured(cluster, _INPUT)
    if not topics:
        return not_checked(_NO_CONFIG)
    days = {topic.name: _days(int(topic.config.get("retention.ms", FOR_EVER))) for topic in topics}
    bounds = {topic.name: int(topic.config.get("retention.bytes", FOR_EVER)) for topic in topics}
    bounded = [
        f"{name} at most {size:,} bytes a partition" for name, size in bounds.items() if size != FOR_EVER
    ]
    found = "kept: " + ", ".join([*(f"{name} {_days_text(kept)}" for name, kept in days.items()), *bounded])
    short = [name for name, kept in days.items() if kept < _ABSENCE_DAYS]
    if short:
        return warning(
            f"{found}. A worker that is away for longer misses what is deleted meanwhile",
            f"raise retention.ms of {', '.join(short)} to {_ABSENCE_DAYS} days or more",
        )
    if bounded:
        return warning(
            f"{found}. How long that lasts depends on the traffic; a worker that is away may miss records",
            "set retention.bytes to -1 on them, so that retention.ms alone decides",
        )
    horizon = settings.labels.horizon_days
    if min(days.values()) < horizon:
        # A remark, no warning: a running worker keeps the decisions that wait for labels in its own logs.
        found += f"; less than labels.horizon_days = {horizon:g}, so a new group cannot learn from all of it"
    return ok(found)


def cleanup(cluster: Cluster) -> Finding:
    """Check that no topic is compacted."""
    topics = _configured(cluster, tuple(_MAY))
    if not topics:
        return not_checked(_NO_CONFIG)
    compacted = [topic.name for topic in topics if "compact" in topic.config.get("cleanup.policy", "")]
    if compacted:
        found = f"cleanup.policy compacts {', '.join(compacted)}: of a card's records only the last one stays"
        return failed(found, "set cleanup.policy = delete on them", IncompatibleError)
    return ok("cleanup.policy = delete")


def message_size(cluster: Cluster) -> Finding:
    """Check that the brokers accept the largest batches that a worker writes."""
    topics = _configured(cluster, _WRITTEN)
    if not topics:
        return not_checked(_NO_CONFIG)
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
    """Check that no producer can date a record of the input far in the future."""
    topics = _configured(cluster, _INPUT)
    if not topics:
        return not_checked(_NO_CONFIG)
    kinds = {topic.name: topic.config.get("message.timestamp.type", "CreateTime") for topic in topics}
    unbounded = [
        topic.name
        for topic in topics
        if kinds[topic.name] == "CreateTime" and int(topic.config.get(LATEST_AHEAD, _NO_LIMIT)) > MS_PER_DAY
    ]
    if unbounded:
        return warning(
            f"producers may date records of {', '.join(unbounded)} at any time in the future; a worker takes none for "
            "later than tomorrow",
            f"set {LATEST_AHEAD} = {MS_PER_DAY} on them, or message.timestamp.type = LogAppendTime",
        )
    clocks = {"CreateTime": "the producers' clocks", "LogAppendTime": "the brokers' clocks"}
    return ok(", ".join(f"{name}: {kind} ({clocks.get(kind, kind)})" for name, kind in kinds.items()))


def permissions(settings: Settings, cluster: Cluster) -> Finding:
    """Check that this client may read and write what a worker reads and writes."""
    known = {role: topic for role, topic in cluster.topics.items() if topic.operations is not None}
    if not known and not cluster.forbidden:
        return not_checked("Kafka does not report permissions")
    lacking = [
        f"{' and '.join(sorted(missing))} on {topic.name}"
        for role, topic in known.items()
        if (missing := _MAY[role] - (topic.operations or set()))
    ]
    if "group" in cluster.forbidden or not _may_read(cluster.group):
        lacking.append(f"READ on group {settings.kafka.group}")
    if "transaction" in cluster.forbidden:
        lacking.append(f"WRITE on transactional id {transactional_id_of(settings)}")
    if lacking:
        fix = f"grant it to {_principal(settings)}"
        return failed(f"not permitted: {', '.join(lacking)}", fix, UnreachableError)
    return ok(
        f"topics and group; Kafka checks WRITE on transactional id {transactional_id_of(settings)} only when it is used"
    )


def _principal(settings: Settings) -> str:
    """Return the user that Kafka takes this client for."""
    kafka = settings.kafka
    if kafka.sasl_username is not None:
        return f"kafka.sasl_username = {kafka.sasl_username!r}"
    if kafka.ssl_cert_file is not None:
        return f"the name in kafka.ssl_cert_file = {str(kafka.ssl_cert_file)!r}"
    return "User:ANONYMOUS, or log in: kafka.security_protocol"


def _may_read(group: Group | None) -> bool:
    # Without a group, or a report, nothing speaks against it.
    return group is None or group.operations is None or "READ" in group.operations


def _configured(cluster: Cluster, roles: tuple[str, ...]) -> list[Topic]:
    return [topic for topic in _present(cluster, roles) if topic.config]


def _present(cluster: Cluster, roles: tuple[str, ...]) -> Iterator[Topic]:
    return (cluster.topics[role] for role in roles if role in cluster.topics)


def _days(retention_ms: int) -> float:
    return float("inf") if retention_ms == FOR_EVER else retention_ms / MS_PER_DAY


def _days_text(days: float) -> str:
    return "for ever" if days == float("inf") else f"{days:.3g} days"
