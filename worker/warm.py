"""Runs every compiled loop, so that numba's cache holds them all: `python -m worker.warm`, when an image is built.

Simulated traffic goes the whole way, from the bytes that a broker would send to a partition restored from its journal;
records for Kafka stay in memory.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
from kafka import ConsumerGroupMetadata

from models.boosting import BoostingParams, FlatBooster
from models.column_edges import Binned
from models.linear import LinearStart
from models.state import ModelState
from worker.cycle.contracts import Finish, PartitionBatch
from worker.cycle.processor import Processor
from worker.cycle.refits import Refits
from worker.identity import Hasher
from worker.kafka_io.bulk import encode_batches
from worker.kafka_io.committer import KafkaTransaction, Outgoing
from worker.kafka_io.record_batches import RecordColumns, parse_records
from worker.live.guard import InputGuard
from worker.live.publisher import Publisher
from worker.live.restore import JournalReplay
from worker.offline.dataset import Dataset
from worker.offline.in_memory import ImmediateJobs, InboxSource, NoObserver
from worker.offline.replay import Timeline
from worker.parameters import feature_spec, new_model, policy, refit_plan, task_limits
from worker.partition.record_layouts import ModelLogDecoder, decode_journal
from worker.partition.task import PartitionTask, TaskState
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic, simulate
from worker.wire.decoder import Decoder

TRAFFIC: Final = Traffic(
    cards=300, merchants=60, days=6, per_card_day=4.0, prevalence=0.04, label_delay_days=0.5
)
CHUNK_RECORDS: Final = 3_000
# Everything that takes weeks happens within days.
_QUICK: Final = {
    "labels": {"negatives_after_days": 1.0, "horizon_days": 3.0, "max_silence_days": 2.0},
    "model": {
        "sample_one_in": 2,
        "min_frauds": 30,
        "forest_min_rows": 500,
        "generation_days": 2.0,
        "forest_days": 2.0,
        "digest_every": 16,
    },
}
# For numba, an array of one column is of another type than one of several.
_MANY: Final = FIELDS.model_copy(
    update={
        "time_format": "iso8601",
        "currency": "currency",
        "numeric": ("n1", "n2"),
        "place": ("n1", "n2"),
        "categorical": ("channel", "c2"),
        "entities": ("merchant_id", "e2"),
    }
)


def warm() -> int:
    """Run every loop; return how many transactions the restored tasks hold."""
    dataset = simulate(TRAFFIC)
    _score_trees()
    decided = 0
    for fields, partitioner in ((FIELDS, "murmur2"), (_MANY, "crc32")):
        settings = Settings.model_validate(
            {
                "entity_key": "00" * 16,
                "kafka": {"partitioner": partitioner},
                "transaction": fields.model_dump(),
                "label": {"time_format": fields.time_format},
                **_QUICK,
            }
        )
        with tempfile.TemporaryDirectory(prefix="fraud-worker-warm-") as folder:
            decided += _run(settings, _with_fields(dataset, settings), Path(folder))
    return decided


def _score_trees() -> None:
    """Score and explain trees: on so little traffic a search may find no use for any."""
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(400, 2)).astype(np.float32), rng.integers(0, 2, 400).astype(np.uint8)
    trees = FlatBooster.fit(Binned.of(X), y, np.ones(400), BoostingParams(trees=2), seed=1)
    trees.contributions(X)
    trees.score(X)
    LinearStart.fit(X, y, np.ones(400), seed=1)[0].score(X)


def _with_fields(dataset: Dataset, settings: Settings) -> Dataset:
    """Return the data set with the fields that the traffic lacks."""
    fields, channel = settings.transaction, dataset.categorical["channel"]
    return replace(
        dataset,
        fields=fields,
        currency=None if fields.currency is None else pa.array(["EUR"] * len(dataset)),
        numeric=dict.fromkeys(fields.numeric, dataset.amount % 7.0),
        categorical=dict.fromkeys(fields.categorical, channel),
        entities=dict.fromkeys(fields.entities, dataset.entities["merchant_id"]),
    )


def _run(settings: Settings, dataset: Dataset, folder: Path) -> int:
    model = new_model(settings)
    task = PartitionTask(0, feature_spec(settings), task_limits(settings), folder / "decided")
    task.move_to(TaskState.RUNNING)
    tasks = {0: task}
    kafka = _Kafka(settings)
    source = _Source(settings, dataset)
    publisher = Publisher(settings, kafka, tasks, 1, lambda: ConsumerGroupMetadata(settings.kafka.group))
    publisher.open_log([model.lineage, policy(settings)])
    refits = Refits(refit_plan(settings), ImmediateJobs())
    processor = Processor("warm", source, publisher, kafka, model, tasks, refits, NoObserver())
    while source.waiting:
        processor.run_once()
    again = PartitionTask(0, feature_spec(settings), task_limits(settings), folder / "restored")
    hasher = Hasher(settings.hash_key)
    hasher.entities(pa.array(["joined"]))  # joined columns are writable: another type for numba
    folding = JournalReplay(again, hasher, model.lineage.id)
    for record in kafka.journal:
        folding.take(*decode_journal(record.value, record.headers))
    return again.pending.next_sequence


class _Kafka:
    """Commits to memory; the model log of its own commits."""

    def __init__(self, settings: Settings) -> None:
        self._topics = settings.topics
        self._decoder = ModelLogDecoder()
        self._model_log: list[Outgoing] = []
        self._folded = 0
        self.journal: list[Outgoing] = []

    def begin(self, transaction: KafkaTransaction, group: ConsumerGroupMetadata | None) -> Finish:
        """Keep the records of both logs."""
        del group
        for record in transaction.records:
            if record.topic == self._topics.decisions:
                self.journal.append(record)
            elif record.topic == self._topics.model_log:
                self._model_log.append(record)
        return lambda: None

    def fold_into(self, model: ModelState) -> None:
        """Fold the records committed since the last call."""
        for record in self._model_log[self._folded :]:
            decoded = self._decoder.decode(record.value, record.headers)
            if decoded is not None:
                model.fold(self._folded, decoded)
            self._folded += 1


class _Source(InboxSource):
    """One partition, fetched some thousand records at a time."""

    def __init__(self, settings: Settings, dataset: Dataset) -> None:
        super().__init__(settings)
        self._topics = settings.topics
        self._decoder = Decoder(settings)
        self._guard = InputGuard(1, settings.kafka.partitioner, settings.batch)
        self._timeline = Timeline(settings, dataset, dataset.arrivals(), 1)
        self._sent, self._offsets = 0, {self._topics.transactions: 0, self._topics.labels: 0}

    @property
    def waiting(self) -> bool:
        return self._sent < len(self._timeline) or bool(self._inbox.transactions.waiting)

    def poll(self) -> list[PartitionBatch]:
        """Fetch the next records once the last ones are taken."""
        if not self._inbox.transactions.waiting and self._sent < len(self._timeline):
            chunk = slice(self._sent, min(self._sent + CHUNK_RECORDS, len(self._timeline)))
            self._timeline.send(chunk, self._fetch)
            self._sent = chunk.stop
        self._inbox.at_end = self._sent == len(self._timeline)
        return super().poll()

    def _fetch(
        self, topic: str, partition: int, keys: list[bytes], values: list[bytes], times_ms: list[int]
    ) -> None:
        # Compressed batches arrive in writable memory, others in read-only memory: two types for numba.
        kind = bytearray if self._sent % (2 * CHUNK_RECORDS) else bytes
        # A record that does not decode leaves a gap in the columns: another type again.
        values = [*values[:-1], b"{"]
        for count, first, body in encode_batches(keys, values, times_ms):
            data = np.frombuffer(kind(body), np.uint8)
            table = parse_records(
                data,
                0,
                count=count,
                base_offset=self._offsets[topic],
                last_offset_delta=count - 1,
                base_timestamp_ms=times_ms[first],
            )
            self._offsets[topic] += count
            self._put(RecordColumns.of_batches(topic, partition, [(data, table)], self._offsets[topic]))

    def _put(self, columns: RecordColumns) -> None:
        if columns.topic == self._topics.transactions:
            transactions, bad = self._decoder.transactions(columns)
            self._guard.misplaced(columns, transactions.offsets)
            self._inbox.put_transactions(transactions, bad)
        else:
            labels, bad = self._decoder.labels(columns)
            self._guard.misplaced(columns, labels.offsets)
            self._inbox.put_labels(labels, bad)


if __name__ == "__main__":
    print(f"{warm():,} transactions decided and restored")
