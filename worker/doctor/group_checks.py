"""Checks of the consumer group and of the transactional id: where they stand, and whether they get on."""

from __future__ import annotations

import time
from typing import Final

from worker.doctor.cluster import INPUT, Cluster, Group, Topic
from worker.doctor.finding import Finding, failed, not_checked, ok, warning
from worker.errors import IncompatibleError, SettingsError
from worker.kafka_io.client import transactional_id_of
from worker.kafka_io.topic_reader import open_topic
from worker.settings.sections import Settings

_HANGING: Final = 2.0
"""How many time-outs a transaction may stay open: Kafka looks for expired ones only every 10 s (its default)."""


def group(settings: Settings, cluster: Cluster) -> Finding:
    """Check that the group has a place to read from, and that a worker reads."""
    if "group" in cluster.unknown:
        return not_checked(f"Kafka does not show kafka.group = {settings.kafka.group!r}")
    if cluster.group is None or not _committed(cluster, cluster.group):
        return _not_begun(settings, cluster)
    return (
        _beyond_the_end(cluster, cluster.group)
        or _behind_the_oldest(cluster, cluster.group)
        or _progress(cluster, cluster.group)
    )


def _committed(cluster: Cluster, group: Group) -> dict[tuple[str, int], int]:
    names = {cluster.topics[role].name for role in INPUT if role in cluster.topics}
    return {at: offset for at, offset in group.committed.items() if at[0] in names}


def _not_begun(settings: Settings, cluster: Cluster) -> Finding:
    name = settings.kafka.group
    journal = cluster.topics.get("decisions")
    if journal is not None and _may_hold_records(journal):
        if cluster.group is not None and cluster.group.members:
            return warning(
                f"{name} has no committed offsets yet, and a worker is in it: its first commit may be on its way",
                "run `fraud-worker doctor` again in a minute",
            )
        if not holds_records(settings, journal):
            return _begins(settings)
        return failed(
            f"kafka.group = {name!r} has no committed offsets, but {journal.name} is not empty",
            "set the group that wrote it; if this one did, its offsets expired or a topic was deleted. Start a worker, "
            "which tells the two apart: after the first, `fraud-worker skip --partition N`, for each partition N, sets "
            "the offsets to where the journal ends",
            IncompatibleError,
        )
    return _begins(settings)


def _begins(settings: Settings) -> Finding:
    name, start = settings.kafka.group, settings.kafka.start_from
    if start == "committed":
        return failed(
            f"kafka.group = {name!r} has not begun, and kafka.start_from = 'committed' names no place to begin",
            "set kafka.start_from = 'earliest' or 'latest' for the first start",
            SettingsError,
        )
    return ok(f"{name} has not begun; it begins at kafka.start_from = {start!r}")


def _may_hold_records(topic: Topic) -> bool:
    return any(end > topic.begins.get(partition, 0) for partition, end in topic.ends.items())


def holds_records(settings: Settings, topic: Topic) -> bool:
    """Return whether a topic holds a committed record: offsets alone may be those of a transaction that was aborted."""
    with open_topic(settings, topic.name) as reader:
        # A worker that began after the ends were read proves nothing.
        return any(it.offset < topic.ends.get(it.partition, 0) for it in reader.since(None))


def _beyond_the_end(cluster: Cluster, group: Group) -> Finding | None:
    topics = [cluster.topics[role] for role in INPUT if role in cluster.topics]
    lost = [
        f"{topic.name}-{partition}"
        for topic in topics
        for partition, end in topic.ends.items()
        if group.committed.get((topic.name, partition), end) > end
    ]
    if not lost:
        return None
    return failed(
        f"the group's offsets lie beyond the end of {', '.join(lost)}: a topic was deleted and created again, or lost "
        "records",
        "do not set offsets: records would be left out. Restore the topic, or begin anew with new topics.decisions, "
        "topics.model_log and kafka.group",
        IncompatibleError,
    )


def _behind_the_oldest(cluster: Cluster, group: Group) -> Finding | None:
    """Return what to do where records were deleted before they were read: the models outlive such a gap."""
    lost: list[str] = []
    options: dict[int, str] = {}
    for role in INPUT:
        topic = cluster.topics.get(role)
        for partition, begin in topic.begins.items() if topic else ():
            if topic and group.committed.get((topic.name, partition), begin) < begin:
                lost.append(f"{topic.name}-{partition}")
                options[partition] = f"{options.get(partition, '')} --{role} {begin}"
    if not lost:
        return None
    skips = ", ".join(f"`fraud-worker skip --partition {it}{options[it]}`" for it in sorted(options))
    return failed(
        f"the group's offsets lie before the oldest records of {', '.join(lost)}: records were deleted before they "
        "were read",
        f"stop all workers and go on behind what is gone: {skips}. Then keep the topic for longer (retention.ms)",
        IncompatibleError,
    )


def _progress(cluster: Cluster, group: Group) -> Finding:
    ends = {
        (cluster.topics[role].name, partition): end
        for role in INPUT
        if role in cluster.topics
        for partition, end in cluster.topics[role].ends.items()
    }
    lag = sum(max(0, end - group.committed.get(at, 0)) for at, end in ends.items())
    if not group.members:
        found = f"no worker runs; {lag:,} records wait"
        return warning(found, "start one: `fraud-worker run`") if lag else ok(found)
    return ok(
        f"{len(group.members)} in it ({', '.join(sorted(group.members))}), {group.state}; {lag:,} records wait"
    )


def transaction(settings: Settings, cluster: Cluster) -> Finding:
    """Check that no transaction of this worker hangs. Looking does not touch the transactional id."""
    name = transactional_id_of(settings)
    if "transaction" in cluster.unknown:
        return not_checked(f"Kafka does not show the state of transactional id {name}")
    if cluster.transaction is None:
        return ok(f"transactional id {name} has not been used yet")
    state, started_ms = cluster.transaction.state, cluster.transaction.started_ms
    age_ms = time.time() * 1000 - started_ms
    if state == "Ongoing" and started_ms >= 0 and age_ms > _HANGING * settings.kafka.transaction_timeout_ms:
        return warning(
            f"a transaction of {name} has been open for {age_ms / 1000:.0f} s: readers see nothing behind it",
            "Kafka aborts it after its time-out; if not, see `kafka-transactions.sh find-hanging`",
        )
    return ok(f"{name}: {state}")
