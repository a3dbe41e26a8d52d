"""In which order a commit calls kafka-python, with a producer that writes its calls down."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from kafka import ConsumerGroupMetadata, TopicPartition
from kafka.errors import MessageSizeTooLargeError, TopicAuthorizationFailedError

from worker.errors import IncompatibleError, IndefiniteError
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
    return Committer({"client_id": "w"}, deadline_s=5.0)


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
