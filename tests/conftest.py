"""Fixtures of all tests: a real Kafka broker, and topics of its own for each test."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pytest
from kafka import KafkaAdminClient

from tests.tools.quality.cache import CACHE_VARIABLE
from worker.broker.embedded import EmbeddedKafka
from worker.settings.mistakes import ENV_PREFIX

# A broker of a test is young and ends young: what makes one fast for hours would cost as much as the test.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")


@pytest.fixture
def own_surroundings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Remove settings from the environment; afterwards undo the logging that a command has set up."""
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX.rstrip("_"))]:
        monkeypatch.delenv(name)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("kafka").setLevel(logging.NOTSET)
    logging.getLogger("kafka.net.selector").setLevel(logging.NOTSET)


@pytest.fixture
def own_quality_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the quality table a cache of the test's own."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


class Broker(Protocol):
    """A broker that tests may use but not stop."""

    @property
    def bootstrap(self) -> str:
        """Its address."""
        ...


@dataclass(frozen=True)
class RunningBroker:
    """A broker that ran before the tests."""

    bootstrap: str


class TopicFactory(Protocol):
    """Creates a topic with a new name and returns the name."""

    def __call__(self, prefix: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str: ...


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """Start one broker for the whole session, or use the one that `FRAUD_WORKER_TEST_BOOTSTRAP` names."""
    given = os.environ.get("FRAUD_WORKER_TEST_BOOTSTRAP")
    if given:
        yield RunningBroker(given)
        return
    with EmbeddedKafka() as broker:
        yield broker


@pytest.fixture(scope="session")
def kafka_admin(kafka: Broker) -> Iterator[KafkaAdminClient]:
    """Return an admin client of the session's broker."""
    with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
        yield admin


@pytest.fixture(scope="session")
def topic_factory(kafka_admin: KafkaAdminClient) -> TopicFactory:
    """Create topics with `topic_factory(prefix, partitions, config) -> name`; every name is new."""

    def create(prefix: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        name = f"{prefix}-{uuid.uuid4().hex[:12]}"
        options = {"num_partitions": partitions, "replication_factor": 1, "configs": dict(config or {})}
        kafka_admin.create_topics({name: options}, wait_for_metadata=True)
        return name

    return create
