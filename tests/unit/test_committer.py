"""In which order a commit calls kafka-python, with a producer that writes its calls down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kafka import ConsumerGroupMetadata, TopicPartition
from kafka.errors import (
    CoordinatorNotAvailableError,
    InvalidTransactionTimeoutError,
    KafkaError,
    MessageSizeTooLargeError,
    TopicAuthorizationFailedError,
)

from worker.errors import IncompatibleError, IndefiniteError, UnreachableError
from worker.kafka_io.committer import Committer, KafkaTransaction, Outgoing


class Producer:
    """Stands for kafka-python's producer."""

    calls: list[str]
    failure: Exception | None = None

    def __init__(self, **config: Any) -> None:
        del config
        Producer.calls = []

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self.calls.append(name)

    def send(self, topic: str, **record: Any) -> Producer:
        del topic, record
        self.calls.append("send")
        return self

    def get(self, timeout: float) -> None:
        del timeout
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def committer(monkeypatch: pytest.MonkeyPatch) -> Committer:
    monkeypatch.setattr("worker.kafka_io.committer.KafkaProducer", Producer)
    monkeypatch.setattr(Producer, "failure", None)
    return Committer({"transactional_id": "g.w"}, deadline_s=5.0)


def records() -> Iterator[Outgoing]:
    for number in range(2):
        Producer.calls.append("encode")
        yield Outgoing("t", b"%d" % number)


OFFSETS = {TopicPartition("in", 0): 1}
GROUP = ConsumerGroupMetadata("g")


def test_everything_is_encoded_before_the_transaction_begins(committer: Committer) -> None:
    committer.commit(KafkaTransaction(records(), OFFSETS), GROUP)
    assert Producer.calls == [
        "init_transactions", "encode", "encode", "begin_transaction", "send", "send", "flush",
        "send_offsets_to_transaction", "commit_transaction",
    ]  # fmt: skip


def test_no_offset_is_sent_before_every_record_is_written(
    committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Producer, "failure", MessageSizeTooLargeError())
    with pytest.raises(IncompatibleError, match="MessageSizeTooLarge"):
        committer.commit(KafkaTransaction(records(), OFFSETS), GROUP)
    assert "send_offsets_to_transaction" not in Producer.calls


def test_what_kafka_forbids_is_no_unknown_outcome(
    committer: Committer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor starts a worker again after an unknown outcome: that would go on for ever."""
    monkeypatch.setattr(Producer, "failure", TopicAuthorizationFailedError("dead-letters"))
    with pytest.raises(TopicAuthorizationFailedError, match="dead-letters"):
        committer.commit(KafkaTransaction(records(), OFFSETS), GROUP)
    assert "commit_transaction" not in Producer.calls
    with pytest.raises(IndefiniteError, match="only a new process"):
        committer.commit(KafkaTransaction(records(), OFFSETS), GROUP)


def refused(monkeypatch: pytest.MonkeyPatch, init: Callable[[], None]) -> Exception:
    """Return why no committer is made, where this happens when it asks for its transactional id."""
    monkeypatch.setattr("worker.kafka_io.committer.KafkaProducer", Producer)
    monkeypatch.setattr(Producer, "init_transactions", lambda _: init(), raising=False)
    with pytest.raises(Exception) as raised:  # noqa: PT011 - each test says which one
        Committer({"transactional_id": "g.w"}, deadline_s=0.05)
    return raised.value


def failing(error: Exception) -> Callable[[], None]:
    def init() -> None:
        raise error

    return init


def test_no_commit_is_in_doubt_before_kafka_has_granted_the_transactional_id(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = threading.Event()
    silent = refused(monkeypatch, lambda: (answer.wait(), None)[1])
    answer.set()
    unavailable = refused(monkeypatch, failing(CoordinatorNotAvailableError()))
    for error, reason in (
        (silent, "no answer within kafka.commit_deadline_s = 0.05"),
        (unavailable, "CoordinatorNotAvailableError"),
    ):
        assert isinstance(error, UnreachableError)
        assert f"Kafka does not grant transactional id 'g.w' ({reason}" in str(error)
        assert "commit may" not in str(error)


def test_a_transaction_timeout_beyond_the_brokers_is_kafkas_own_error_for_the_setting(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # So kafka-python 3.0 puts it.
    mentioned = KafkaError(
        "Unexpected error in InitProducerIdResponse: [Error 50] InvalidTransactionTimeoutError"
    )
    error = refused(monkeypatch, failing(mentioned))
    assert isinstance(error, InvalidTransactionTimeoutError)
