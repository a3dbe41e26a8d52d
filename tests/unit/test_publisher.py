"""What of a cycle's outcomes goes into the Kafka transaction."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from kafka import ConsumerGroupMetadata
from kafka.structs import TopicPartition

from models.vocabulary import LabelKind
from tests.support.model_log import new_state
from tests.support.partition import labels, running_task
from worker.cycle.contracts import Finish, Outcome
from worker.kafka_io.client import consumer_config
from worker.kafka_io.committer import KafkaTransaction
from worker.live.publisher import Publisher
from worker.partition.early_labels import LabelShelf
from worker.partition.journal import Positions
from worker.partition.settling import Matured, Settling
from worker.redaction import redact_bytes
from worker.settings.sections import KafkaSettings, Settings
from worker.wire.dead_letters import original_of
from worker.wire.decoder import LabelColumns
from worker.wire.schema import DeadLetter

SETTINGS = Settings(entity_key="00" * 16)
TOPICS = SETTINGS.topics


class Kept:
    """Keeps the transactions."""

    def __init__(self) -> None:
        self.begun: list[KafkaTransaction] = []

    def begin(self, transaction: KafkaTransaction, group: ConsumerGroupMetadata | None) -> Finish:
        del group
        transaction.records = list(transaction.records)
        self.begun.append(transaction)
        return lambda: None


def outcome(partition: int, positions: Positions, *, changed: bool = False) -> Outcome:
    return Outcome(
        partition=partition, positions=positions, decided=None, labels=LabelColumns.none(), by_label=Settling(),
        matured=Matured(), bad=[], repeats=0, first_sequence=0, changed=changed,
    )  # fmt: skip


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def publisher(kept: Kept, tmp_path: Path) -> Publisher:
    tasks = {partition: running_task(tmp_path / str(partition)) for partition in (0, 1)}
    return Publisher(SETTINGS, kept, tasks, 2, lambda: ConsumerGroupMetadata("g"))


def journalled(kept: Kept) -> list[int | None]:
    return [record.partition for record in kept.begun[-1].records if record.topic == TOPICS.decisions]


def test_a_partition_is_journalled_when_its_state_or_its_positions_change(
    publisher: Publisher, kept: Kept
) -> None:
    seen = []
    for positions, changed in (
        (Positions(5, 5), False),  # the first commit of a partition: a restore must find it
        (Positions(5, 5), False),
        (Positions(6, 5), False),  # a marker was passed
        (Positions(6, 5), True),
        (Positions(6, 5), False),
    ):
        publisher.begin(
            [outcome(0, positions, changed=changed), outcome(1, Positions(1, 1))], [], new_state()
        )
        seen.append(journalled(kept))
    assert seen == [[0, 1], [], [0], [0], []]
    assert kept.begun[-1].offsets[TopicPartition(TOPICS.labels, 1)] == 1, "offsets go with every commit"


def test_an_orphan_of_another_card_has_a_reason_of_its_own(publisher: Publisher, kept: Kept) -> None:
    came = labels(("a", LabelKind.FRAUD, 1), ("b", LabelKind.FRAUD, 1))
    came = dataclasses.replace(came, value=pa.array([b"{}", b"{}"], pa.large_binary()))
    settling = Settling(orphans=np.array([0, 1]), wrong_card=np.array([1]))
    one = dataclasses.replace(outcome(0, Positions(1, 2), changed=True), labels=came, by_label=settling)
    publisher.begin([one], [], new_state())
    letters = [it.value for it in kept.begun[-1].records if it.topic == TOPICS.dead_letters]
    assert [DeadLetter.model_validate_json(it).reason for it in letters] == ["orphan_label", "wrong_card"]


def test_a_label_without_room_to_wait_for_its_day_is_a_dead_letter(publisher: Publisher, kept: Kept) -> None:
    came = labels(("a", LabelKind.FRAUD, 1), ("b", LabelKind.FRAUD, 1), first_offset=40)
    came = dataclasses.replace(came, value=pa.array([b'{"a": 1}', b'{"b": 1}'], pa.large_binary()))
    publisher.begin(
        [dataclasses.replace(outcome(0, Positions(1, 42), changed=True), overflow=came)], [], new_state()
    )
    letters = [
        DeadLetter.model_validate_json(it.value or b"")
        for it in kept.begun[-1].records
        if it.topic == TOPICS.dead_letters
    ]
    found = [(it.topic, it.partition, it.offset, it.stage, it.reason, original_of(it)) for it in letters]
    assert found == [
        (TOPICS.labels, 0, 40, "settle", "surplus", b'{"a": 1}'),
        (TOPICS.labels, 0, 41, "settle", "surplus", b'{"b": 1}'),
    ]


def test_the_dead_letter_of_a_long_label_that_waited_says_that_it_is_cut(
    publisher: Publisher, kept: Kept
) -> None:
    long = b'{"note": "4111 1111 1111 1111", "filler": "' + b"x" * 100_000 + b'"}'
    came = labels(("a", LabelKind.FRAUD, 1), ("b", LabelKind.FRAUD, 1))
    came = dataclasses.replace(came, value=pa.array([long, b"{}"], pa.large_binary()))
    shelf = LabelShelf()
    for until_ms in (1_000, 2_000):  # the second time it is cut already
        shelf.set_aside(came, until_ms)
        waited = shelf.sift(None, until_ms, np.empty(0, np.uint64)).due
        assert waited is not None
        came = waited
    settling = Settling(orphans=np.array([0, 1]))
    one = dataclasses.replace(outcome(0, Positions(1, 2), changed=True), labels=came, by_label=settling)
    publisher.begin([one], [], new_state())
    letters = [
        DeadLetter.model_validate_json(it.value or b"")
        for it in kept.begun[-1].records
        if it.topic == TOPICS.dead_letters
    ]
    assert [(it.truncated, it.original_bytes) for it in letters] == [(True, len(long)), (False, 2)]
    assert [original_of(it) for it in letters] == [redact_bytes(long)[: 64 << 10], b"{}"]
    assert [it.sha256 for it in letters] == [None, hashlib.sha256(b"{}").hexdigest()]


def test_the_group_s_patience_is_a_setting_above_any_restore() -> None:
    assert consumer_config(SETTINGS, group=True)["max_poll_interval_ms"] == 12 * 3_600_000
    short = Settings(entity_key="00" * 16, kafka=KafkaSettings(max_poll_interval_s=60.0))
    assert consumer_config(short, group=True)["max_poll_interval_ms"] == 60_000
