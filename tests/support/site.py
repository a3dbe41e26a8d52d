"""A place of its own for each test: topics, a group and settings."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from kafka import KafkaProducer

from tests.support import oracle
from tests.support.oracle import Outcome
from tests.support.processes import RUN_WORKER, WorkerProcess
from tests.support.topics import Topics
from tests.support.traffic import Fed, InputRecord
from tests.support.waiting import DECIDE_S, OPEN_S, wait_for
from worker.broker.embedded import free_port
from worker.kafka_io import topic_setup
from worker.settings.sections import Settings
from worker.simulation import FIELDS

ENTITY_KEY: Final = "000102030405060708090a0b0c0d0e0f"

QUICK: Final[Mapping[str, Mapping[str, Any]]] = {
    "labels": {"negatives_after_days": 1.0, "horizon_days": 3.0, "max_silence_days": 2.0},
    "model": {
        "sample_one_in": 2,
        "min_frauds": 30,
        "forest_min_rows": 500,
        "generation_days": 2.0,
        "forest_days": 2.0,
        "memory_days": 10.0,
        "digest_every": 16,
    },
    "transaction": {"entities": list(FIELDS.entities), "categorical": list(FIELDS.categorical)},
    "kafka": {"start_from": "earliest"},
}
"""Settings under which a short stream shows what otherwise takes weeks."""


class Site(Topics):
    """Topics and a group that no other test uses, and the workers that read and write them.

    Parameters
    ----------
    bootstrap
        Of the broker.
    folder
        For configurations, local state and logs.
    partitions
        Of the input topics; None creates no topics.
    sections
        Settings beyond `QUICK`.
    """

    def __init__(
        self,
        bootstrap: str,
        folder: Path,
        partitions: int | None = 4,
        sections: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.tag = f"t{uuid.uuid4().hex[:10]}"
        self.folder = folder
        self.fed = Fed()
        names = ("transactions", "labels", "alerts", "decisions", "model_log", "dead_letters")
        self._values = _merged(
            QUICK,
            {"kafka": {"bootstrap": bootstrap, "group": self.tag}},
            {"topics": {name: f"{self.tag}.{name}" for name in names}},
            sections or {},
        )
        super().__init__(self.settings_of("w1"), partitions or 0)
        if partitions:
            topic_setup.create(self.settings, partitions, 1, retention_days=-1)

    def settings_of(self, worker_id: str, **sections: Mapping[str, Any]) -> Settings:
        """Return the settings of one worker."""
        own = {"worker": {"id": worker_id, "state_dir": str(self.folder / "state")}, "health": {"port": 0}}
        return Settings(entity_key=ENTITY_KEY, **_merged(self._values, own, sections))

    def worker(
        self, worker_id: str = "w1", module: str = RUN_WORKER, **sections: Mapping[str, Any]
    ) -> WorkerProcess:
        """Return a worker's process, not yet started; another module may stand in for it."""
        settings = self.settings_of(worker_id, **_merged({"health": {"port": free_port()}}, sections))
        return WorkerProcess(settings, self.folder / f"{worker_id}-{uuid.uuid4().hex[:6]}", module)

    def feed(self, records: Sequence[InputRecord], bad: Sequence[InputRecord] = ()) -> None:
        """Send records, and bad ones spread evenly between them, each to the partition of its key."""
        mixed = [((n + 0.5) / len(records), record, False) for n, record in enumerate(records)]
        mixed += [(n / len(bad), record, True) for n, record in enumerate(bad)]
        mixed.sort(key=lambda placed: placed[0])
        with _producer(self.settings) as producer:
            sent = [(record, is_bad, self._send(producer, record)) for _, record, is_bad in mixed]
            producer.flush()
        for record, is_bad, future in sent:
            at = future.get(timeout=30)
            if is_bad:
                self.fed.dead[at.topic, at.partition, at.offset] += 1
            elif record.topic == "transactions":
                self.fed.transaction_ids.add(json.loads(record.value or b"")["transaction_id"])
            else:
                label = json.loads(record.value or b"")
                self.fed.labels.append((label["transaction_id"], label["label_time"], label.get("label", "")))

    def _send(self, producer: KafkaProducer, record: InputRecord) -> Any:
        topic = getattr(self.settings.topics, record.topic)
        return producer.send(topic, record.value, record.key, timestamp_ms=record.timestamp_ms)

    def wait_until_decided(self, *workers: WorkerProcess, timeout_s: float = DECIDE_S) -> float:
        """Wait until the group has committed the end of every input partition; return how long it took, in s."""

        with self.watched_offsets() as offsets:

            def decided() -> bool:
                return all(committed == end or end == 0 for committed, end in offsets().values())

            return wait_for(decided, timeout_s, lambda: f"undecided: {offsets()}", workers)

    def wait_until_quiet(self, *workers: WorkerProcess, timeout_s: float = 60.0) -> None:
        """Wait until no worker commits any more: clocks have moved on, and decisions have matured."""
        seen: list[int] = []

        def quiet() -> bool:
            seen.append(self.commits())
            return len(seen) > 10 and len(set(seen[-10:])) == 1

        wait_for(quiet, timeout_s, lambda: f"still committing: {seen[-10:]}", workers)

    def wait_until_nothing_is_open(self) -> None:
        """Wait until the broker has ended the transactions that dead workers left open."""
        wait_for(lambda: not self.open_transaction(), OPEN_S, lambda: "a transaction stays open")

    def assert_everything_once(self) -> Outcome:
        """Fail unless the topics hold what `oracle.check` asks; return what they hold."""
        self.wait_until_nothing_is_open()
        return oracle.check(self, self.fed)


def _merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
            merged[name] = {**merged[name], **value} if both else value
    return merged


@contextmanager
def _producer(settings: Settings) -> Iterator[KafkaProducer]:
    producer = KafkaProducer(
        bootstrap_servers=settings.kafka.bootstrap, linger_ms=20, batch_size=200_000, compression_type="lz4"
    )
    try:
        yield producer
    finally:
        producer.close(null_logger=False)
