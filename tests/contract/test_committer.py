"""One transaction a commit, over a real broker: how the committer goes around the defects of kafka-python."""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import ConsumerGroupMetadata, OffsetAndMetadata

from worker.errors import FencedError, IncompatibleError, IndefiniteError, UnreachableError
from worker.kafka_io.client import producer_config, transactional_id_of
from worker.kafka_io.committer import Committer, KafkaTransaction, Outgoing
from worker.kafka_io.consumer import ColumnarConsumer
from worker.settings.sections import KafkaSettings, Settings, WorkerSettings

if TYPE_CHECKING:
    from tests.conftest import Broker, TopicFactory

pytestmark = pytest.mark.contract

PARTITIONS = 3
DEADLINE_S = 20.0


class Place:
    """An output topic, input partitions to commit offsets of, and committers of one transactional id."""

    def __init__(self, kafka: Broker, output: str, source: str) -> None:
        self.output, self.source, self.group = output, source, f"g-{uuid.uuid4().hex[:8]}"
        self._bootstrap = kafka.bootstrap
        self._made: list[Committer] = []

    def committer(self, worker_id: str = "w1", deadline_s: float = DEADLINE_S, **config: Any) -> Committer:
        settings = Settings(
            entity_key="00" * 16,
            worker=WorkerSettings(id=worker_id),
            kafka=KafkaSettings(bootstrap=self._bootstrap, group=self.group),
        )
        self._made.append(
            Committer(producer_config(settings, transactional_id_of(settings)) | config, deadline_s)
        )
        return self._made[-1]

    def close(self) -> None:
        for committer in self._made:
            committer._producer.close(timeout=0, null_logger=False)

    def transaction(self, *values: bytes, next_offset: int = 0) -> KafkaTransaction:
        offsets = {TopicPartition(self.source, p): next_offset + p for p in range(PARTITIONS)}
        return KafkaTransaction([Outgoing(self.output, value, partition=0) for value in values], offsets)

    def empty_group(self) -> ConsumerGroupMetadata:
        """A group without members accepts offsets from any producer."""
        return ConsumerGroupMetadata(group_id=self.group)

    def visible(self, isolation_level: str = "read_committed") -> list[bytes]:
        tp = TopicPartition(self.output, 0)
        consumer = KafkaConsumer(bootstrap_servers=self._bootstrap, isolation_level=isolation_level)
        try:
            consumer.assign([tp])
            consumer.seek_to_beginning(tp)
            end = consumer.end_offsets([tp])[tp]
            values: list[bytes] = []
            while consumer.position(tp) < end:
                values += [record.value for record in consumer.poll(timeout_ms=100).get(tp, [])]
            return values
        finally:
            consumer.close()

    def committed(self) -> list[int | None]:
        consumer = KafkaConsumer(
            bootstrap_servers=self._bootstrap, group_id=self.group, isolation_level="read_committed"
        )
        try:
            return [
                consumer.committed(TopicPartition(self.source, p), timeout_ms=20_000)
                for p in range(PARTITIONS)
            ]
        finally:
            consumer.close()


@pytest.fixture
def place(kafka: Broker, topic_factory: TopicFactory) -> Iterator[Place]:
    place = Place(kafka, topic_factory("out"), topic_factory("in", PARTITIONS))
    yield place
    place.close()


def test_records_and_the_offsets_of_every_partition_become_visible_together(place: Place) -> None:
    committer = place.committer()
    committer.commit(place.transaction(b"a", b"b", next_offset=5), place.empty_group())
    committer.commit(place.transaction(b"c", next_offset=9), place.empty_group())
    assert place.visible() == [b"a", b"b", b"c"]
    assert place.committed() == [9, 10, 11]


def test_without_a_group_no_offset_is_touched(place: Place) -> None:
    place.committer().commit(place.transaction(b"opening", next_offset=5), None)
    assert place.visible() == [b"opening"]
    assert place.committed() == [None] * PARTITIONS


def test_a_record_that_cannot_be_sent_commits_nothing_of_its_transaction(place: Place) -> None:
    committer = place.committer()
    committer.commit(place.transaction(b"before", next_offset=1), place.empty_group())
    with pytest.raises(IncompatibleError, match="takes no record as large"):
        committer.commit(
            place.transaction(b"first", _incompressible(2 << 20), b"last", next_offset=7), place.empty_group()
        )
    place.committer()  # the next start: it ends what the broken one has left open
    assert place.visible() == [b"before"]
    assert place.committed() == [1, 2, 3]


def test_a_record_beyond_the_clients_own_limit_commits_nothing_either(place: Place) -> None:
    committer = place.committer()
    with pytest.raises(IncompatibleError, match="MessageSizeTooLarge"):
        committer.commit(place.transaction(b"first", bytes(9 << 20), next_offset=7), place.empty_group())
    place.committer()
    assert place.visible() == []
    assert place.committed() == [None] * PARTITIONS


def test_offsets_of_a_failed_transaction_do_not_leak_into_the_next_start(place: Place) -> None:
    """kafka-python commits the offsets of an aborted transaction with the next one of the same producer."""
    with pytest.raises(IncompatibleError):
        place.committer().commit(
            place.transaction(_incompressible(2 << 20), next_offset=70), place.empty_group()
        )
    small = KafkaTransaction(
        [Outgoing(place.output, b"next", partition=0)], {TopicPartition(place.source, 1): 4}
    )
    place.committer().commit(small, place.empty_group())
    assert place.committed() == [None, 4, None]


def test_after_an_error_the_committer_refuses_everything(place: Place) -> None:
    committer = place.committer()
    with pytest.raises(IncompatibleError):
        committer.commit(place.transaction(_incompressible(2 << 20)), place.empty_group())
    with pytest.raises(IndefiniteError, match="failed before"):
        committer.commit(place.transaction(b"once more", next_offset=3), place.empty_group())
    place.committer()
    assert place.visible() == []
    assert place.committed() == [None] * PARTITIONS


def test_a_deadline_that_passes_leaves_the_outcome_unknown(place: Place) -> None:
    committer = place.committer(deadline_s=0.5)
    committer.commit(place.transaction(b"before"), place.empty_group())
    never = threading.Event()
    committer._producer.commit_transaction = never.wait
    with pytest.raises(IndefiniteError, match=r"kafka\.commit_deadline_s = 0\.5"):
        committer.commit(place.transaction(b"hangs", next_offset=8), place.empty_group())
    with pytest.raises(IndefiniteError, match="failed before"):
        committer.commit(place.transaction(b"on top of it"), place.empty_group())
    never.set()
    place.committer()
    assert place.visible() == [b"before"]
    assert place.committed() == [0, 1, 2]


def test_the_older_of_two_committers_with_one_id_is_fenced(place: Place) -> None:
    older = place.committer()
    older.commit(place.transaction(b"older"), place.empty_group())
    newer = place.committer()
    with pytest.raises(FencedError, match=rf"transactional id '{place.group}\.w1'.*another worker\.id"):
        older.commit(place.transaction(b"fenced", next_offset=50), place.empty_group())
    newer.commit(place.transaction(b"newer", next_offset=10), place.empty_group())
    assert place.visible() == [b"older", b"newer"]
    assert place.committed() == [10, 11, 12]


def test_a_committer_that_learns_of_its_fencing_between_two_calls_says_so_too(place: Place) -> None:
    """The client's IO thread may get the error first; every later call then raises something general."""
    older = place.committer()
    place.committer()
    older._producer.begin_transaction()
    refused = older._producer.send(place.output, b"fenced", partition=0)
    with pytest.raises(KafkaError):
        refused.get(timeout=20)
    with pytest.raises(FencedError, match=rf"ProducerFenced.*transactional id '{place.group}\.w1'"):
        older.commit(place.transaction(b"fenced"), place.empty_group())
    assert place.visible() == []


def test_a_newer_committer_ends_what_the_older_has_left_open(place: Place) -> None:
    older = place.committer()
    older._producer.begin_transaction()
    older._producer.send(place.output, b"open", partition=0)
    older._producer.flush()
    place.committer().commit(place.transaction(b"newer"), place.empty_group())
    assert place.visible() == [b"newer"]
    assert place.visible("read_uncommitted") == [b"open", b"newer"]


def test_another_id_does_not_fence(place: Place) -> None:
    first, second = place.committer("w1"), place.committer("w2")
    for committer, value in ((first, b"1"), (second, b"2"), (first, b"3")):
        committer.commit(place.transaction(value), place.empty_group())
    assert place.visible() == [b"1", b"2", b"3"]


@pytest.fixture
def member(place: Place, kafka: Broker) -> Iterator[ColumnarConsumer]:
    """The only member of the group."""
    config = {
        "bootstrap_servers": kafka.bootstrap,
        "group_id": place.group,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
    }
    consumer = ColumnarConsumer(config)
    consumer.subscribe([place.source])
    while not consumer.assignment():
        consumer.poll(100)
    yield consumer
    consumer.close()


def test_a_member_commits_with_the_generation_of_its_poll_and_with_no_other(
    place: Place, member: ColumnarConsumer
) -> None:
    committer, polled = place.committer(), member.group_metadata()
    committer.commit(place.transaction(b"member", next_offset=2), polled)
    stale = polled._replace(generation_id=polled.generation_id - 1)
    with pytest.raises(FencedError, match="owns our partitions"):
        committer.commit(place.transaction(b"left behind", next_offset=9), stale)
    place.committer()
    assert place.visible() == [b"member"]
    assert place.committed() == [2, 3, 4]


def test_a_member_that_was_thrown_out_commits_nothing_even_if_nobody_has_taken_over(
    place: Place, member: ColumnarConsumer
) -> None:
    polled = member.group_metadata()
    member.close()  # the group is empty now; what the client says of itself from here on would be let through
    with pytest.raises(FencedError, match="owns our partitions"):
        place.committer().commit(place.transaction(b"thrown out", next_offset=9), polled)
    place.committer()
    assert place.visible() == []
    assert place.committed() == [None] * PARTITIONS


def _incompressible(size: int) -> bytes:
    return random.Random(0).randbytes(size)


def test_committed_offsets_wait_for_an_open_transaction_that_would_move_them(place: Place) -> None:
    """OffsetFetch with require_stable: a successor that read the old offsets would decide the same batch again."""
    committer = place.committer()
    committer.commit(place.transaction(b"a", next_offset=5), place.empty_group())
    config = {"bootstrap_servers": place._bootstrap, "group_id": place.group, "enable_auto_commit": False}
    tp = TopicPartition(place.source, 0)
    consumer = ColumnarConsumer(config | {"isolation_level": "read_committed"})
    careless = ColumnarConsumer(config | {"isolation_level": "read_uncommitted"})
    try:
        assert consumer.committed(tp) == 5
        producer = committer._producer
        producer.begin_transaction()
        producer.send(place.output, value=b"b", partition=0)
        offsets = {tp: OffsetAndMetadata(9, "", -1)}
        producer.send_offsets_to_transaction(offsets, place.empty_group())
        assert careless.committed(tp) == 5, "what a consumer without require_stable sees"
        asked: list[int] = []
        with pytest.raises(UnreachableError, match="a transaction of another worker stays open"):
            consumer.committed(tp, lambda: asked.append(1), deadline_s=2.5)
        assert len(asked) > 1
        producer.commit_transaction()
        assert consumer.committed(tp) == 9
    finally:
        consumer.close()
        careless.close()


def test_the_wait_for_committed_offsets_hears_a_signal(place: Place) -> None:
    committer = place.committer()
    producer = committer._producer
    producer.begin_transaction()
    producer.send(place.output, value=b"b", partition=0)
    tp = TopicPartition(place.source, 0)
    producer.send_offsets_to_transaction({tp: OffsetAndMetadata(9, "", -1)}, place.empty_group())
    consumer = ColumnarConsumer(
        {"bootstrap_servers": place._bootstrap, "group_id": place.group, "isolation_level": "read_committed"}
    )
    asked: list[int] = []

    def alive() -> None:
        asked.append(1)
        if len(asked) > 2:
            raise KeyboardInterrupt

    try:
        with pytest.raises(KeyboardInterrupt):
            consumer.committed(tp, alive)
    finally:
        consumer.close()
