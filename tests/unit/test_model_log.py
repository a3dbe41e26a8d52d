"""How a worker reads a model log that is not as it should be, with a scripted consumer."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import pytest
from kafka.structs import TopicPartition

from models.records import Digest, ModelRecord
from models.state import ModelState
from models.vocabulary import MS_PER_DAY
from tests.support.model_log import LINEAGE, POLICY, commit, new_state
from worker.errors import CorruptError, IncompatibleError
from worker.live.model_log import KafkaModelLog
from worker.partition.record_layouts import encode_model

OURS, OTHER = "w1", "worker-1"


class Record(NamedTuple):
    offset: int
    value: bytes
    headers: list[tuple[str, bytes]]
    topic: str = "model-log"
    partition: int = 0
    timestamp: float = time.time() * 1000


class Consumer:
    """Stands for kafka-python's; the log begins at `begin`."""

    def __init__(self, records: list[Record], begin: int = 0) -> None:
        self.records, self.begin, self.at = records, begin, begin

    def __call__(self, **config: Any) -> Consumer:
        del config
        return self

    def assign(self, tps: list[TopicPartition]) -> None:
        self.tp = tps[0]

    def seek_to_beginning(self, tp: TopicPartition) -> None:
        del tp

    def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, self.begin)

    def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, self.end)

    @property
    def end(self) -> int:
        return self.records[-1].offset + 1 if self.records else self.begin

    def position(self, tp: TopicPartition) -> int:
        del tp
        return self.at

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        del timeout_ms
        news = [record for record in self.records if record.offset >= self.at]
        self.at = self.end
        return {self.tp: news}


class Counts:
    def __init__(self) -> None:
        self.seen: list[str] = []

    def digest_differed(self) -> None:
        self.seen.append("digest")

    def stray_record(self, log: str, /) -> None:
        self.seen.append(log)


def written(*records: ModelRecord | None, first: int = 0) -> list[Record]:
    """What workers wrote, and a stray record for None."""
    payloads: list[tuple[bytes, list[tuple[str, bytes]]]] = []
    for record in records:
        payloads += [(b"stray", [("other", b"x")])] if record is None else list(encode_model(record))
    return [Record(first + row, *payload) for row, payload in enumerate(payloads)]


def opened(monkeypatch: pytest.MonkeyPatch, consumer: Consumer) -> tuple[KafkaModelLog, Counts]:
    monkeypatch.setattr("worker.live.model_log.KafkaConsumer", consumer)
    counts = Counts()
    return KafkaModelLog({}, "model-log", OURS, counts), counts


def wrong_digest(worker: str) -> ModelRecord:
    from dataclasses import replace  # noqa: PLC0415

    return replace(commit(np.random.default_rng(3), 2, digest=Digest(0, "f" * 64)), worker=worker)


def caught_up(log: KafkaModelLog) -> ModelState:
    model = new_state()
    log.catch_up(model)
    return model


@pytest.mark.parametrize("worker", [OURS, OTHER])
def test_a_digest_that_differs_stops_no_start(monkeypatch: pytest.MonkeyPatch, worker: str) -> None:
    log, counts = opened(monkeypatch, Consumer(written(LINEAGE, POLICY, wrong_digest(worker))))
    assert caught_up(log).offset == 2
    assert counts.seen == ["digest"]


def test_live_only_a_worker_that_contradicts_its_own_digest_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    consumer = Consumer(written(LINEAGE, POLICY))
    log, counts = opened(monkeypatch, consumer)
    model = caught_up(log)
    consumer.records += written(wrong_digest(OTHER), first=2)
    log.fold_into(model)
    assert (model.offset, counts.seen) == (2, ["digest"])
    consumer.records += written(wrong_digest(OURS), first=3)
    with pytest.raises(CorruptError, match="this machine folds one log to two states"):
        log.fold_into(model)


def test_a_stray_record_is_skipped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    log, counts = opened(monkeypatch, Consumer(written(None, LINEAGE, POLICY, None, commit(rng, 5))))
    model = caught_up(log)
    assert (model.traffic_seen, model.offset, counts.seen) == (5, 4, ["model_log", "model_log"])


def test_troubles_of_long_ago_raise_no_alarm_at_each_start(monkeypatch: pytest.MonkeyPatch) -> None:
    log_records = written(LINEAGE, None, POLICY, wrong_digest(OTHER))
    long_ago = [record._replace(timestamp=record.timestamp - 2 * MS_PER_DAY) for record in log_records]
    log, counts = opened(monkeypatch, Consumer(long_ago))
    assert caught_up(log).offset == 3
    log.stray("decisions", long_ago[1])
    assert counts.seen == []
    log.stray("decisions", log_records[1])
    assert counts.seen == ["decisions"]


def test_a_log_without_its_beginning_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rest = written(commit(np.random.default_rng(5), 5), first=7)
    log, _ = opened(monkeypatch, Consumer(rest, begin=7))
    with pytest.raises(
        IncompatibleError, match=r"was deleted: its first record, at offset 7, is of kind 'commit'"
    ):
        caught_up(log)


def test_an_emptied_log_is_refused_but_a_new_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    log, _ = opened(monkeypatch, Consumer([], begin=9))
    with pytest.raises(IncompatibleError, match="begins at offset 9 and holds no record"):
        caught_up(log)
    log, _ = opened(monkeypatch, Consumer([]))
    assert not caught_up(log).has_lineage
