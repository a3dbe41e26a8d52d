"""The six topics: created once, checked at every start, never altered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from kafka import errors as kafka_errors
from kafka.admin import ConfigResource, ConfigResourceType

from models.vocabulary import MS_PER_DAY
from worker.errors import IncompatibleError, UnreachableError
from worker.kafka_io.admin import AdminClient
from worker.kafka_io.client import admin_config, kafka_errors_explained
from worker.settings.sections import Settings, TopicSettings

BROKERS_DEFAULT: Final = -1
FOR_EVER: Final = -1

LATEST_AHEAD: Final = "message.timestamp.after.max.ms"
_STAMPED_BY_BROKER: Final = {"message.timestamp.type": "LogAppendTime"}
_STAMPED_BY_PRODUCER: Final = {LATEST_AHEAD: str(MS_PER_DAY)}
"""Kafka refuses what producers date more than a day ahead."""
_DONE: Final = (kafka_errors.NoError.errno, kafka_errors.TopicAlreadyExistsError.errno)


class TopicReport(NamedTuple):
    """A topic that `create` found or created."""

    name: str
    partitions: int
    created: bool


def create(
    settings: Settings,
    partitions: int,
    replication: int = BROKERS_DEFAULT,
    retention_days: float | None = None,
    *,
    stamped_by_broker: bool = False,
) -> list[TopicReport]:
    """Create the topics that do not exist yet; report the others and leave them as they are.

    The journal and the model log are kept for ever, because state is rebuilt from them.

    Parameters
    ----------
    settings
        Names of the topics and address of Kafka.
    partitions
        Of transactions, labels, alerts and decisions; the model log and the dead letters get one.
    replication
        Copies of each partition; -1 leaves it to the broker.
    retention_days
        How long the other four topics keep a record, counted from its own timestamp; -1 is for ever, None
        leaves it to the broker.
    stamped_by_broker
        Whether the broker stamps transactions and labels with the time of their arrival, instead of the producer's
        timestamps: then a stream that replays the past has true latencies, and retention does not treat it as old.

    Raises
    ------
    IncompatibleError
        Topics that exist have other numbers of partitions; no topic is created then.
    UnreachableError
        Kafka does not answer.
    """
    names = settings.topics
    wanted = dict.fromkeys(names.model_dump().values(), partitions)
    wanted |= {names.model_log: 1, names.dead_letters: 1}
    with _admin(settings) as admin:
        before = _partitions(admin, names)
        refuse_misfits(before, partitions, names)
        missing = {name: count for name, count in wanted.items() if name not in before}
        configs = _retention(names, retention_days)
        stamp = _STAMPED_BY_BROKER if stamped_by_broker else _STAMPED_BY_PRODUCER
        for name in (names.transactions, names.labels):
            configs[name] = {**configs.get(name, {}), **stamp}
        try:
            _make(admin, missing, replication, configs)
        except kafka_errors.InvalidConfigurationError:
            if stamped_by_broker:
                raise
            # Kafka before 3.6 does not know the limit; a worker has one of its own.
            _make(admin, missing, replication, _without(_STAMPED_BY_PRODUCER, configs))
        after = _partitions(admin, names)
    refuse_misfits(after, partitions, names)
    return [TopicReport(name, after[name], name in missing) for name in wanted]


def delete(settings: Settings) -> None:
    """Delete those of the six topics that exist, with everything in them.

    Raises
    ------
    UnreachableError
        Kafka does not answer, or refuses permission.
    """
    with _admin(settings) as admin:
        found = _partitions(admin, settings.topics)
        if found:
            admin.delete_topics(list(found))


def check(settings: Settings) -> int:
    """Return the number of partitions, P, once all six topics are there and agree on it.

    Raises
    ------
    UnreachableError
        Topics are missing, or Kafka does not answer.
    IncompatibleError
        The numbers of partitions do not fit together.
    """
    names = settings.topics
    with _admin(settings) as admin:
        found = _partitions(admin, names)
    missing = [name for name in names.model_dump().values() if name not in found]
    if missing:
        raise UnreachableError(
            f"Kafka at kafka.bootstrap = {settings.kafka.bootstrap!r} lacks the topics {', '.join(missing)}: "
            "run `fraud-worker topics create`, or correct the names in [topics]"
        )
    refuse_misfits(found, found[names.transactions], names)
    return found[names.transactions]


def retention_ms(settings: Settings, names: Sequence[str]) -> dict[str, int]:
    """Return how long these topics keep a record, in ms from its timestamp; -1 is for ever.

    Topics whose records carry the time of their arrival are left out. The result is empty if the broker forbids the
    question.
    """
    wanted = ["retention.ms", "message.timestamp.type"]
    resources = [ConfigResource(ConfigResourceType.TOPIC, name, wanted) for name in names]
    with _admin(settings) as admin:
        try:
            answer = admin.describe_configs(resources, config_filter="all")["topic"]
        except kafka_errors.AuthorizationError:
            return {}
    return {
        name: int(answer[name]["retention.ms"]["value"])
        for name in names
        if answer[name]["message.timestamp.type"]["value"] != "LogAppendTime"
    }


@contextmanager
def _admin(settings: Settings) -> Iterator[AdminClient]:
    with kafka_errors_explained(settings), AdminClient(**admin_config(settings)) as admin:
        yield admin


def _partitions(admin: AdminClient, names: TopicSettings) -> dict[str, int]:
    """Return the number of partitions of those topics that exist."""
    found = {}
    for topic in admin.describe_topics(list(names.model_dump().values())):
        error = kafka_errors.for_code(topic["error_code"])
        if error is kafka_errors.NoError:
            found[topic["name"]] = len(topic["partitions"])
        elif error is not kafka_errors.UnknownTopicOrPartitionError:
            raise error(topic["name"])
    return found


def refuse_misfits(found: Mapping[str, int], partitions: int, names: TopicSettings) -> None:
    """Check the numbers of partitions, by topic.

    Raises
    ------
    IncompatibleError
        Names the topics whose numbers do not fit, and what to do.
    """
    by_card = (names.transactions, names.labels, names.alerts, names.decisions)
    wanted = dict.fromkeys(by_card, partitions) | {names.model_log: 1}
    misfits = [
        f"{name} has {found[name]} partitions instead of {count}"
        for name, count in wanted.items()
        if found.get(name, count) != count
    ]
    if misfits:
        raise IncompatibleError(
            f"{'; '.join(misfits)}. Transactions, labels, alerts and decisions need the same number, the model log "
            "needs 1. Pass the existing number (`topics create --partitions`), or name new topics in [topics]; a topic "
            "in use cannot be changed"
        )


def _retention(names: TopicSettings, days: float | None) -> dict[str, dict[str, str]]:
    for_ever = {"retention.ms": str(FOR_EVER), "retention.bytes": str(FOR_EVER), "cleanup.policy": "delete"}
    kept = {names.decisions: for_ever, names.model_log: for_ever}
    if days is None:
        return kept
    limited = {"retention.ms": str(FOR_EVER if days == FOR_EVER else int(days * MS_PER_DAY))}
    others = (names.transactions, names.labels, names.alerts, names.dead_letters)
    return kept | dict.fromkeys(others, limited)


def _without(
    some: Mapping[str, str], configs: Mapping[str, Mapping[str, str]]
) -> dict[str, Mapping[str, str]]:
    return {
        topic: {name: value for name, value in config.items() if name not in some}
        for topic, config in configs.items()
    }


def _make(
    admin: AdminClient,
    missing: Mapping[str, int],
    replication: int,
    configs: Mapping[str, Mapping[str, str]],
) -> None:
    topics = {
        name: {"num_partitions": count, "replication_factor": replication, "configs": configs.get(name, {})}
        for name, count in missing.items()
    }
    if not topics:
        return
    for answer in admin.create_topics(topics, raise_errors=False)["topics"]:
        if answer["error_code"] not in _DONE:  # another process may have created it meanwhile
            raise kafka_errors.for_code(answer["error_code"])(f"{answer['name']}: {answer['error_message']}")
    admin.wait_for_topics(list(missing))
