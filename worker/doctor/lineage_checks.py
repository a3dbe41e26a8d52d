"""Check of the lineage: whether the model log was written under the settings that shape features and learning."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from models.records import Lineage
from models.state import LineageMismatchError
from worker.doctor.cluster import Cluster, Topic
from worker.doctor.finding import Finding, failed, not_checked, ok
from worker.errors import IncompatibleError
from worker.kafka_io.topic_reader import open_topic
from worker.parameters import new_model
from worker.partition.record_layouts import ModelLogDecoder, kind_of
from worker.settings.sections import Settings


def lineage(settings: Settings, cluster: Cluster) -> Finding:
    """Check that the model log begins with the lineage of these settings, or is empty."""
    topic = cluster.topics.get("model_log")
    if topic is None:
        return not_checked(f"{settings.topics.model_log} does not exist")
    with open_topic(settings, topic.name) as reader:
        return judge(settings, topic, reader.since(None))


def judge(settings: Settings, topic: Topic, records: Iterable[Any]) -> Finding:
    """Check the first record that a worker wrote; workers skip the others, and refuse a log without its beginning."""
    first = next((it for it in records if kind_of(it.headers) is not None), None)
    if first is not None:
        return compare(settings, ModelLogDecoder().decode(first.value, first.headers))
    if topic.begins.get(0, 0) > 0:
        return _headless(settings)
    return ok(f"{topic.name} is empty: the first worker begins it")


def compare(settings: Settings, first: object) -> Finding:
    """Check the first record of the model log."""
    if not isinstance(first, Lineage):
        return _headless(settings)
    try:
        new_model(settings).fold(0, first)
    except LineageMismatchError as error:
        return failed(
            f"{settings.topics.model_log} was written under other settings: {error}",
            "restore those (a fold_version is of a release: run the one that wrote the log), or start over with "
            "another kafka.group and other topics for decisions and model log",
            IncompatibleError,
        )
    return ok(
        f"{settings.topics.model_log} was written under these fields, half-lives and entity_key ({first.id})"
    )


def _headless(settings: Settings) -> Finding:
    return failed(
        f"{settings.topics.model_log} does not begin with a lineage: its first records were deleted",
        "what they held is nowhere else: restore the topic from a copy and see that nothing deletes its records "
        "(retention.ms = -1), or begin anew with new topics.model_log, topics.decisions and kafka.group",
        IncompatibleError,
    )
