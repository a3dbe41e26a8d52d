from __future__ import annotations

import time
import uuid

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from tests.conftest import RunningBroker
from worker.broker.embedded import EmbeddedKafka
from worker.errors import IncompatibleError, UnreachableError, WorkerError
from worker.kafka_io import topic_setup
from worker.settings.sections import KafkaSettings, Settings, TopicSettings

pytestmark = pytest.mark.integration


@pytest.fixture
def settings(kafka: EmbeddedKafka | RunningBroker) -> Settings:
    tag = uuid.uuid4().hex[:8]
    names = {name: f"{name}-{tag}" for name in TopicSettings.model_fields}
    return Settings(
        entity_key="00" * 16, kafka=KafkaSettings(bootstrap=kafka.bootstrap), topics=TopicSettings(**names)
    )


def config_of(admin: KafkaAdminClient, topic: str, name: str) -> str:
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic, [name])]
    return str(admin.describe_configs(asked, config_filter="all")["topic"][topic][name]["value"])


def test_create_makes_six_topics_of_the_right_size_and_check_finds_them(
    settings: Settings, kafka_admin: KafkaAdminClient
) -> None:
    made = topic_setup.create(settings, partitions=3)
    assert all(report.created for report in made)
    found = kafka_admin.describe_topics(list(settings.topics.model_dump().values()))
    assert {topic["name"]: len(topic["partitions"]) for topic in found} == {
        settings.topics.transactions: 3,
        settings.topics.labels: 3,
        settings.topics.alerts: 3,
        settings.topics.decisions: 3,
        settings.topics.model_log: 1,
        settings.topics.dead_letters: 1,
    }
    assert topic_setup.check(settings) == 3


def test_the_journal_and_the_model_log_are_kept_for_ever_and_the_rest_as_asked(
    settings: Settings, kafka_admin: KafkaAdminClient
) -> None:
    topic_setup.create(settings, partitions=1, retention_days=2.5)
    assert config_of(kafka_admin, settings.topics.decisions, "retention.ms") == "-1"
    assert config_of(kafka_admin, settings.topics.model_log, "retention.ms") == "-1"
    assert config_of(kafka_admin, settings.topics.model_log, "retention.bytes") == "-1"
    assert config_of(kafka_admin, settings.topics.transactions, "retention.ms") == "216000000"
    assert topic_setup.retention_ms(settings, [settings.topics.labels, settings.topics.decisions]) == {
        settings.topics.labels: 216_000_000,
        settings.topics.decisions: -1,
    }


def test_no_producer_may_date_its_records_more_than_a_day_ahead(
    settings: Settings, kafka_admin: KafkaAdminClient
) -> None:
    topic_setup.create(settings, partitions=1)
    names = settings.topics
    for name in (names.transactions, names.labels):
        assert config_of(kafka_admin, name, "message.timestamp.after.max.ms") == "86400000"


def test_the_broker_stamps_what_is_sent_where_that_is_wanted(
    settings: Settings, kafka_admin: KafkaAdminClient
) -> None:
    topic_setup.create(settings, partitions=1, stamped_by_broker=True)
    names = settings.topics
    stamped = (names.transactions, names.labels, names.alerts, names.decisions)
    assert [config_of(kafka_admin, name, "message.timestamp.type") for name in stamped] == [
        "LogAppendTime", "LogAppendTime", "CreateTime", "CreateTime"
    ]  # fmt: skip
    assert config_of(kafka_admin, names.decisions, "retention.ms") == "-1"


def test_delete_takes_away_what_there_is_and_nothing_else(
    settings: Settings, kafka_admin: KafkaAdminClient
) -> None:
    before = set(kafka_admin.list_topics())
    topic_setup.delete(settings)  # there is none
    topic_setup.create(settings, partitions=1)
    topic_setup.delete(settings)
    # A broker may list a topic for a moment after it has answered that it deleted it.
    for _ in range(100):
        if set(kafka_admin.list_topics()) == before:
            break
        time.sleep(0.1)
    assert set(kafka_admin.list_topics()) == before


def test_create_again_reports_the_topics_and_changes_nothing(
    settings: Settings, kafka_admin: KafkaAdminClient
) -> None:
    topic_setup.create(settings, partitions=2, retention_days=1)
    again = topic_setup.create(settings, partitions=2, retention_days=9)
    assert [(report.partitions, report.created) for report in again] == [
        (2, False), (2, False), (2, False), (2, False), (1, False), (1, False)
    ]  # fmt: skip
    assert config_of(kafka_admin, settings.topics.transactions, "retention.ms") == "86400000"


def test_create_adds_only_what_is_missing(settings: Settings, kafka_admin: KafkaAdminClient) -> None:
    there = settings.topics.transactions
    kafka_admin.create_topics({there: {"num_partitions": 4}}, wait_for_metadata=True)
    made = topic_setup.create(settings, partitions=4)
    assert [report.name for report in made if not report.created] == [there]


def test_create_refuses_unequal_partitions_and_makes_nothing(
    settings: Settings, kafka_admin: KafkaAdminClient
) -> None:
    kafka_admin.create_topics({settings.topics.labels: {"num_partitions": 6}}, wait_for_metadata=True)
    with pytest.raises(IncompatibleError, match=f"{settings.topics.labels} has 6 partitions instead of 4"):
        topic_setup.create(settings, partitions=4)
    assert settings.topics.alerts not in kafka_admin.list_topics()


def test_check_names_the_missing_topics_and_the_remedy(
    settings: Settings, kafka_admin: KafkaAdminClient
) -> None:
    others = {
        settings.topics.transactions: {"num_partitions": 1},
        settings.topics.labels: {"num_partitions": 1},
    }
    kafka_admin.create_topics(others, wait_for_metadata=True)
    with pytest.raises(UnreachableError, match="topics create") as raised:
        topic_setup.check(settings)
    assert settings.topics.alerts in str(raised.value)
    assert settings.topics.labels not in str(raised.value)


@pytest.mark.parametrize(("odd", "count"), [("decisions", 3), ("model_log", 2)])
def test_check_refuses_numbers_of_partitions_that_do_not_fit(
    settings: Settings, kafka_admin: KafkaAdminClient, odd: str, count: int
) -> None:
    sizes = {name: {"num_partitions": 1} for name in settings.topics.model_dump().values()}
    sizes[getattr(settings.topics, odd)] = {"num_partitions": count}
    kafka_admin.create_topics(sizes, wait_for_metadata=True)
    with pytest.raises(IncompatibleError, match=f"{odd}-.* has {count} partitions instead of 1"):
        topic_setup.check(settings)


def test_dead_letters_may_have_any_number_of_partitions(
    settings: Settings, kafka_admin: KafkaAdminClient
) -> None:
    kafka_admin.create_topics({settings.topics.dead_letters: {"num_partitions": 5}}, wait_for_metadata=True)
    topic_setup.create(settings, partitions=2)
    assert topic_setup.check(settings) == 2


def test_a_replication_that_the_cluster_cannot_give_is_reported_in_the_brokers_words(
    settings: Settings,
) -> None:
    with pytest.raises(WorkerError, match="InvalidReplicationFactorError"):
        topic_setup.create(settings, partitions=1, replication=7)
