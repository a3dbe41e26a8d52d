"""Drives real workers against a real Kafka, and knows what must come of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import numpy as np
from kafka import KafkaConsumer, KafkaProducer
from kafka.structs import TopicPartition

from models.records import Commit, ModelRecord
from models.state import ModelState
from models.vocabulary import Flag
from worker.broker.embedded import free_port
from worker.kafka_io import topic_setup
from worker.local_http import ask
from worker.offline.dataset import Dataset
from worker.offline.replay import label_values, transaction_values
from worker.parameters import new_model
from worker.partition.codec import ModelLogDecoder, decode_journal
from worker.partition.journal import DecisionRows, JournalHeader
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic, simulate
from worker.wire.schema import Alert, DeadLetter

ROOT: Final = Path(__file__).parents[2]
ENTITY_KEY: Final = "000102030405060708090a0b0c0d0e0f"
START_S: Final = 120.0
"""How long a start may take: the first one compiles."""
DECIDE_S: Final = 240.0
OPEN_S: Final = 40.0
"""Transaction time-out, and how often a broker looks for transactions that have run into it."""
STOP_S: Final = 10.0
"""SIGTERM is answered within this."""

# Everything that takes weeks happens within days, so that a short stream sees it happen.
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


class Given(NamedTuple):
    """One record to send; `to` is `transactions` or `labels`."""

    to: str
    key: bytes | None
    value: bytes | None
    timestamp_ms: int


Coordinates = tuple[str, int, int]
"""Topic, partition, offset."""


@dataclass
class Fed:
    """What was sent, as far as the oracle must know it."""

    transaction_ids: set[str] = field(default_factory=set)
    dead: Counter[Coordinates] = field(default_factory=Counter)


def small_traffic(seed: int = 7, days: int = 6, cards: int = 400, per_card_day: float = 4.0) -> Dataset:
    """About `cards * days * per_card_day` transactions, 4 % fraud, labelled half a day later."""
    return simulate(
        Traffic(
            cards=cards,
            merchants=60,
            days=days,
            per_card_day=per_card_day,
            prevalence=0.04,
            seed=seed,
            label_delay_days=0.5,
        )
    )


def records_of(site: Site, dataset: Dataset, legit_one_in: int = 10) -> list[Given]:
    """The records of a data set in the order of their times: all frauds are labelled, legits 1 in n.

    Labels that become known only after the last transaction are left out: nobody's clock would reach them.
    """
    rows = np.arange(len(dataset))
    values = transaction_values(dataset, rows)
    keys = [card.encode() for card in dataset.card_id.to_pylist()]
    given = [Given("transactions", keys[row], values[row], int(dataset.event_time_ms[row])) for row in rows]
    labels = dataset.labels()
    known = labels.time_ms <= dataset.event_time_ms[-1]
    known &= labels.is_fraud | (labels.row % legit_one_in == 0)
    labels = type(labels)(*(column[known] for column in labels))
    texts = label_values(site.settings.label, dataset, labels)
    given += [
        Given("labels", keys[row], value, int(time_ms))
        for row, value, time_ms in zip(labels.row, texts, labels.time_ms, strict=True)
    ]
    return sorted(given, key=lambda record: record.timestamp_ms)


class Site:
    """Topics and a group of its own on a broker, and everything a test asks of them.

    Parameters
    ----------
    bootstrap
        Of the broker.
    folder
        For configurations, local state and logs.
    partitions
        Of the input topics; None makes no topics.
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
        self.partitions = partitions or 0
        names = ("transactions", "labels", "alerts", "decisions", "model_log", "dead_letters")
        self._values = _merged(
            QUICK,
            {"kafka": {"bootstrap": bootstrap, "group": self.tag}},
            {"topics": {name: f"{self.tag}.{name}" for name in names}},
            sections or {},
        )
        self.settings = self.settings_of("w1")
        self.fed = Fed()
        if partitions:
            topic_setup.create(self.settings, partitions, 1, retention_days=-1)

    def settings_of(self, worker_id: str, **sections: Mapping[str, Any]) -> Settings:
        """Settings of one worker."""
        own = {"worker": {"id": worker_id, "state_dir": str(self.folder / "state")}, "health": {"port": 0}}
        return Settings(entity_key=ENTITY_KEY, **_merged(self._values, own, sections))

    def worker(self, worker_id: str = "w1", **sections: Mapping[str, Any]) -> WorkerProcess:
        """A worker's process, not yet started."""
        settings = self.settings_of(worker_id, **_merged({"health": {"port": free_port()}}, sections))
        return WorkerProcess(settings, self.folder / f"{worker_id}-{uuid.uuid4().hex[:6]}")

    def feed(self, records: Sequence[Given], bad: Sequence[Given] = ()) -> None:
        """Send records, and bad ones spread between them, each to the partition of its key."""
        step = max(1, len(records) // (len(bad) + 1))
        mixed: list[tuple[Given, bool]] = []
        for at, record in enumerate(records):
            if at % step == 0 and at // step < len(bad):
                mixed.append((bad[at // step], True))
            mixed.append((record, False))
        mixed += [(record, True) for record in bad[-(-len(records) // step) :]]
        with _producer(self.settings) as producer:
            sent = [(record, is_bad, self._send(producer, record)) for record, is_bad in mixed]
            producer.flush()
        for record, is_bad, future in sent:
            at = future.get(timeout=30)
            if is_bad:
                self.fed.dead[at.topic, at.partition, at.offset] += 1
            elif record.to == "transactions":
                self.fed.transaction_ids.add(json.loads(record.value or b"")["transaction_id"])

    def _send(self, producer: KafkaProducer, record: Given) -> Any:
        topic = getattr(self.settings.topics, record.to)
        return producer.send(topic, record.value, record.key, timestamp_ms=record.timestamp_ms)

    # What the topics hold

    def read(self, name: str) -> list[Any]:
        """Every committed record of one of the six topics, partition by partition."""
        topic = getattr(self.settings.topics, name)
        with _reader(self.settings) as consumer:
            tps = [TopicPartition(topic, p) for p in sorted(consumer.partitions_for_topic(topic) or ())]
            consumer.assign(tps)
            consumer.seek_to_beginning(*tps)
            ends = consumer.end_offsets(tps)
            found: dict[TopicPartition, list[Any]] = {tp: [] for tp in tps}
            deadline_s = time.monotonic() + 60
            while any(consumer.position(tp) < ends[tp] for tp in tps):
                assert time.monotonic() < deadline_s, f"{topic} cannot be read to its end"
                for tp, records in consumer.poll(timeout_ms=200).items():
                    found[tp] += records
        return [record for tp in tps for record in found[tp]]

    def decisions(self) -> list[Journalled]:
        """The journal, entry by entry."""
        entries: list[Journalled] = []
        # A fetch may end inside an entry of one partition, and go on with another's.
        rows: dict[int, list[DecisionRows]] = {partition: [] for partition in range(self.partitions)}
        for record in self.read("decisions"):
            piece, header = decode_journal(record.value, record.headers)
            if isinstance(piece, DecisionRows):
                rows[record.partition].append(piece)
            if header is not None:
                assert header.partition == record.partition
                entries.append(Journalled(header, rows[record.partition]))
                rows[record.partition] = []
        assert not any(rows.values()), "a journal ends inside an entry"
        return entries

    def alerts(self) -> list[Alert]:
        """The alerts, validated."""
        return [Alert.model_validate_json(record.value) for record in self.read("alerts")]

    def dead_letters(self) -> list[DeadLetter]:
        """The dead letters, validated."""
        return [DeadLetter.model_validate_json(record.value) for record in self.read("dead_letters")]

    def model_log(self) -> list[tuple[int, ModelRecord]]:
        """The model log's records by the offset at which they take force."""
        decoder = ModelLogDecoder()
        decoded = [(r.offset, decoder.decode(r.value, r.headers)) for r in self.read("model_log")]
        return [(offset, record) for offset, record in decoded if record is not None]

    def folded(self, until: int | None = None) -> ModelState:
        """A model state folded from the log, up to an offset; a published digest that differs raises."""
        model = new_model(self.settings)
        for offset, record in self.model_log():
            if until is None or offset <= until:
                model.fold(offset, record)
        return model

    # How far the group has come

    def offsets(self) -> dict[TopicPartition, tuple[int, int]]:
        """Committed and end offsets of every input partition; a committed one of -1 is none."""
        names = self.settings.topics
        with _reader(self.settings, group_id=self.settings.kafka.group) as consumer:
            tps = [
                TopicPartition(topic, p)
                for topic in (names.transactions, names.labels)
                for p in range(self.partitions)
            ]
            ends = consumer.end_offsets(tps)
            committed = {tp: consumer.committed(tp, timeout_ms=30_000) for tp in tps}
        return {tp: (-1 if (at := committed[tp]) is None else at, ends[tp]) for tp in tps}

    def wait_until_decided(self, *workers: WorkerProcess, timeout_s: float = DECIDE_S) -> float:
        """Wait until the group has committed the end of every input partition; how long it took, in seconds."""

        def decided() -> bool:
            return all(committed == end or end == 0 for committed, end in self.offsets().values())

        return wait_for(decided, timeout_s, lambda: f"undecided: {self.offsets()}", workers)

    def commits(self) -> int:
        """How far the model log has been written, open transactions included: grows with every commit begun."""
        tp = TopicPartition(self.settings.topics.model_log, 0)
        with _reader(self.settings, isolation_level="read_uncommitted") as consumer:
            return int(consumer.end_offsets([tp])[tp])

    def wait_until_quiet(self, *workers: WorkerProcess, timeout_s: float = 60.0) -> None:
        """Wait until nothing is committed any more: clocks have moved on, and decisions matured."""
        seen: list[int] = []

        def quiet() -> bool:
            seen.append(self.commits())
            return len(seen) > 10 and len(set(seen[-10:])) == 1

        wait_for(quiet, timeout_s, lambda: f"still committing: {seen[-10:]}", workers)

    def open_transaction(self) -> bool:
        """Whether a transaction is open in any topic that workers write: readers see nothing behind it."""
        names = self.settings.topics
        outputs = (names.decisions, names.alerts, names.model_log, names.dead_letters)
        with (
            _reader(self.settings) as stable,
            _reader(self.settings, isolation_level="read_uncommitted") as all_of_it,
        ):
            tps = [
                TopicPartition(topic, p)
                for topic in outputs
                for p in stable.partitions_for_topic(topic) or ()
            ]
            ends = all_of_it.end_offsets(tps)
            return bool(stable.end_offsets(tps) != ends)

    def wait_until_nothing_is_open(self) -> None:
        """Wait until the transactions of those that ended in the middle have run into their time-out."""
        wait_for(lambda: not self.open_transaction(), OPEN_S, lambda: "a transaction stays open")

    # The oracle

    def assert_everything_once(self) -> Outcome:
        """Every transaction decided once, alerts and dead letters exactly the due ones, nothing left open."""
        self.wait_until_nothing_is_open()
        entries, alerts, dead = self.decisions(), self.alerts(), self.dead_letters()
        decided = Counter(name for entry in entries for name in entry.transaction_ids)
        assert {name: n for name, n in decided.items() if n != 1} == {}
        assert set(decided) == self.fed.transaction_ids
        flagged = [name for entry in entries for name in entry.alerted_ids]
        assert Counter(alert.transaction_id for alert in alerts) == Counter(flagged)
        assert len({alert.alert_id for alert in alerts}) == len(alerts)
        assert not _unexpected(dead, self.fed.dead)
        assert Counter((it.topic, it.partition, it.offset) for it in dead) == self.fed.dead
        for tp, (committed, end) in self.offsets().items():
            assert committed == end or end == 0, tp
        self._assert_journal_is_gapless(entries)
        self._assert_nothing_is_learnt_twice(entries)
        return Outcome(entries, alerts, dead)

    def _assert_journal_is_gapless(self, entries: Sequence[Journalled]) -> None:
        following: dict[int, int] = {}
        last: dict[int, JournalHeader] = {}
        for entry in entries:
            partition = entry.header.partition
            assert entry.header.first_sequence == following.get(partition, 0), (
                entry.header,
                last.get(partition),
            )
            following[partition] = entry.header.first_sequence + len(entry.transaction_ids)
            last[partition] = entry.header
        for tp, (committed, _) in self.offsets().items():
            header = last.get(tp.partition)
            if header is not None:
                is_label = tp.topic == self.settings.topics.labels
                assert committed == (header.next_label_offset if is_label else header.next_transaction_offset)

    def _assert_nothing_is_learnt_twice(self, entries: Sequence[Journalled]) -> None:
        """A decision adds one to its card's evidence, at most; what it moves later adds up to nothing."""
        decisions: Counter[int] = Counter()
        for entry in entries:
            for rows in entry.rows:
                decisions.update(rows.entities[:, 0].tolist())
        learnt: Counter[int] = Counter()
        for _, record in self.model_log():
            if isinstance(record, Commit):
                added = record.evidence.frauds.astype(int) + record.evidence.legits
                for card, count in zip(record.evidence.hashes[:, 0].tolist(), added.tolist(), strict=True):
                    learnt[card] += count
        assert learnt.total() > 0 or len(decisions) == 0, "nothing was learnt"
        assert {card: count for card, count in learnt.items() if not 0 <= count <= decisions[card]} == {}


class Journalled:
    """One entry of the journal."""

    def __init__(self, header: JournalHeader, rows: list[DecisionRows]) -> None:
        self.header = header
        self.rows = rows

    @property
    def transaction_ids(self) -> list[str]:
        """Decided here, in order."""
        return [name for rows in self.rows for name in rows.transaction_id.to_pylist()]

    @property
    def alerted_ids(self) -> list[str]:
        """Those with an alert."""
        flags = [flag for rows in self.rows for flag in rows.flags]
        return [name for name, flag in zip(self.transaction_ids, flags, strict=True) if flag & Flag.ALERTED]


class Outcome(NamedTuple):
    """What the topics held when the oracle was asked."""

    entries: list[Journalled]
    alerts: list[Alert]
    dead_letters: list[DeadLetter]


class WorkerProcess:
    """A worker in a process of its own; as a context manager it is killed at the end, should it still run.

    Parameters
    ----------
    settings
        Written to a TOML file that the process reads.
    folder
        Of that file and of the process's log.
    """

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self._folder = folder
        folder.mkdir(parents=True)
        self._config = folder / "worker.toml"
        self._config.write_text(to_toml(settings), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it; returns at once."""
        with (self._folder / "log").open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.run_worker", str(self._config)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The running, or ended, process."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def log(self) -> str:
        """All it has said."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def messages(self) -> list[str]:
        """The messages of its log, without the fields."""
        lines = [line for line in self.log.splitlines() if line.startswith("{")]
        return [json.loads(line)["message"] for line in lines]

    def get(self, path: str) -> tuple[int, str]:
        """Ask one of its endpoints: status and body; status 0 while it does not listen."""
        health = self.settings.health
        answer = ask(health.host, health.port, path, timeout_s=5)
        return (0, "") if answer is None else (answer.status, answer.text)

    def metric(self, name: str) -> float:
        """Sum of a metric's samples over its labels."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        )

    def wait_until_ready(self, timeout_s: float = START_S) -> float:
        """Wait until it decides; how long it took, in seconds."""
        return wait_for(
            lambda: self.get("/readyz")[0] == 200, timeout_s, lambda: self.get("/readyz")[1], [self]
        )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self.process.terminate()
        return self.wait_for_exit(STOP_S)

    def wait_for_exit(self, timeout_s: float) -> int:
        """Its exit code once it has ended."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s:\n{self.log[-4000:]}") from None

    def assert_running(self) -> None:
        """Fail with its log if it has ended."""
        code = self.process.poll()
        assert code is None, f"ended with code {code}:\n{self.log[-4000:]}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _unexpected(letters: Sequence[DeadLetter], planted: Counter[Coordinates]) -> list[DeadLetter]:
    return [it for it in letters if (it.topic, it.partition, it.offset) not in planted]


def wait_for(
    reached: Callable[[], bool],
    timeout_s: float,
    explain: Callable[[], str],
    workers: Sequence[WorkerProcess] = (),
    every_s: float = 0.1,
) -> float:
    """Wait until something is so, as long as the workers run; how long it took, in seconds."""
    started_s = time.monotonic()
    while not reached():
        for worker in workers:
            worker.assert_running()
        waited_s = time.monotonic() - started_s
        logs = "".join(worker.log[-3000:] for worker in workers) if waited_s > timeout_s else ""
        assert waited_s <= timeout_s, f"not within {timeout_s} s: {explain()}\n{logs}"
        time.sleep(every_s)
    return time.monotonic() - started_s


def to_toml(settings: Settings) -> str:
    """The settings as a file says them; JSON's values are TOML's but for null, which is left out."""
    values = settings.model_dump(mode="json")
    if settings.kafka.sasl_password is not None:
        values["kafka"]["sasl_password"] = settings.kafka.sasl_password.get_secret_value()
    lines = [f'entity_key = "{settings.entity_key.get_secret_value()}"']
    for name, section in values.items():
        if isinstance(section, dict):
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in section.items() if value is not None]
    return "\n".join(lines) + "\n"


def alike(record: Given, **changes: Any) -> Given:
    """A transaction or label like another, with some fields changed."""
    value = json.loads(record.value or b"{}") | changes
    return replace_value(record, json.dumps(value).encode())


def replace_value(record: Given, value: bytes | None) -> Given:
    """The same record with another value."""
    return record._replace(value=value)


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


@contextmanager
def _reader(settings: Settings, **config: Any) -> Iterator[KafkaConsumer]:
    committed = {"isolation_level": "read_committed", "enable_auto_commit": False}
    consumer = KafkaConsumer(bootstrap_servers=settings.kafka.bootstrap, **(committed | config))
    try:
        yield consumer
    finally:
        consumer.close()
