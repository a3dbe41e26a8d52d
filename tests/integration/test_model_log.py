"""The model log over a real broker: how far a worker has folded it before it goes on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pytest

from models.records import Lineage, ModelRecord
from models.state import ModelState
from tests.support.model_log import LINEAGE, POLICY, commit, new_state
from worker.errors import IncompatibleError
from worker.kafka_io.client import consumer_config, producer_config, transactional_id_of
from worker.kafka_io.committer import Committer, KafkaTransaction, Outgoing
from worker.live.model_log import KafkaModelLog
from worker.partition.record_layouts import encode_model
from worker.settings.sections import KafkaSettings, Settings, TopicSettings

if TYPE_CHECKING:
    from tests.conftest import Broker, TopicFactory

pytestmark = pytest.mark.integration


def _newer(model: ModelState, offset: int) -> bool:
    return model.policy_offset > offset


@pytest.fixture
def settings(kafka: Broker, topic_factory: TopicFactory) -> Settings:
    topic = topic_factory("model-log")
    where = KafkaSettings(bootstrap=kafka.bootstrap, group=topic)
    return Settings(entity_key="00" * 16, kafka=where, topics=TopicSettings(model_log=topic))


@pytest.fixture
def committer(settings: Settings) -> Iterator[Committer]:
    committer = Committer(producer_config(settings, transactional_id_of(settings)), 30.0)
    yield committer
    committer.close()


@pytest.fixture
def log(settings: Settings) -> Iterator[KafkaModelLog]:
    log = KafkaModelLog(consumer_config(settings, group=False), settings.topics.model_log)
    yield log
    log.close()


def write(committer: Committer, settings: Settings, *records: ModelRecord) -> None:
    """One transaction."""
    payloads = [payload for record in records for payload in encode_model(record)]
    outgoing = [
        Outgoing(settings.topics.model_log, value, partition=0, headers=head) for value, head in payloads
    ]
    committer.commit(KafkaTransaction(outgoing), None)


def test_an_empty_log_is_caught_up_with_at_once(log: KafkaModelLog) -> None:
    model = new_state()
    log.catch_up(model)
    assert (model.offset, model.policy_offset, model.has_lineage) == (-1, -1, False)


def test_what_was_committed_is_folded_and_a_policy_just_written_is_waited_for(
    settings: Settings, committer: Committer, log: KafkaModelLog
) -> None:
    rng = np.random.default_rng(2)
    write(committer, settings, LINEAGE, POLICY, commit(rng, 5))
    for _ in range(2):
        write(committer, settings, commit(rng, 5))
    model, beats = new_state(), []
    log.catch_up(model, lambda: beats.append(model.offset))
    # Each transaction ends with a marker, which takes an offset.
    assert (model.traffic_seen, model.offset, model.policy_offset) == (15, 6, 1)
    for frauds in range(2, 5):
        before = model.policy_offset
        policy = dataclasses.replace(POLICY, min_frauds=frauds)
        write(committer, settings, policy)
        log.fold_until(partial(_newer, model, before), model)
        assert model.policy == policy
    assert beats


def test_a_log_of_another_lineage_is_refused_with_what_differs(
    settings: Settings, committer: Committer, log: KafkaModelLog
) -> None:
    write(committer, settings, Lineage(LINEAGE.spec, LINEAGE.key_fingerprint, fraud_weight=9.5))
    with pytest.raises(IncompatibleError, match=r"fraud_weight: log 9\.5, settings 1\.0.*topics\.decisions"):
        log.catch_up(new_state())
