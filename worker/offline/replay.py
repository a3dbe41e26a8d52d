"""Sends a data set through Kafka as its own past: transactions when they happened, labels when they became known.

The Kafka timestamp of a record is the record's own time, or that of sending where the replay imitates live traffic.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from models.vocabulary import LabelKind, LabelSource
from worker.errors import SettingsError
from worker.kafka_io import topic_setup
from worker.kafka_io.bulk import BulkProducer
from worker.kafka_io.partitioner import partition_of
from worker.offline.dataset import Arrivals, Dataset
from worker.progress import OnProgress, ignore_progress
from worker.settings.fields import LabelFields, TimeFormat
from worker.settings.sections import Settings

log = logging.getLogger(__name__)

CHUNK_RECORDS: Final = 20_000
TICK_S: Final = 0.02
_OUTCOME: Final = "declined"
"""A file of labels says that someone acted, and how does not matter: any outcome means the same to a worker."""
FUTURE_ALLOWED_MS: Final = 3_600_000
"""Kafka's own limit, `message.timestamp.after.max.ms`."""

Send = Callable[[str, int, list[bytes], list[bytes], list[int]], None]
"""Sends records: topic, partition, keys, values, timestamps in ms; `BulkProducer.send` is one."""


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """How to replay; without a rate or a speed, as fast as possible.

    Attributes
    ----------
    rate
        Records a second at most.
    speed
        Seconds of the data set in one second: 3600 replays an hour a second.
    frauds_only
        Send no legit labels, as a feed of chargebacks does.
    stamp_now
        Stamp records with the time of sending, as a live producer does; else with their own time.
    """

    rate: float | None = None
    speed: float | None = None
    frauds_only: bool = False
    stamp_now: bool = False


class Totals(NamedTuple):
    """Counts of the records sent.

    `labels_ahead` counts labels and outcomes that become known only after today, which are not sent.
    """

    transactions: int
    fraud_labels: int
    legit_labels: int
    outcomes: int
    labels_ahead: int
    seconds: float


def replay(
    settings: Settings,
    dataset: Dataset,
    options: ReplayOptions | None = None,
    progress: OnProgress = ignore_progress,
) -> Totals:
    """Send a data set's transactions, labels and outcomes to their topics, in the order of their times.

    Raises
    ------
    SettingsError
        The data set lies in the future.
    WorkerError
        The topics are not there, or Kafka refuses a record.
    """
    options = options or ReplayOptions()
    partitions = topic_setup.check(settings)
    now_ms = time.time_ns() // 1_000_000
    labels, ahead = _known_by(dataset.arrivals(frauds_only=options.frauds_only), now_ms)
    _refuse_future(dataset, now_ms)
    if not options.stamp_now:
        _warn_of_retention(settings, int(dataset.event_time_ms[0]), now_ms)
    timeline = Timeline(settings, dataset, labels, partitions)
    started = time.monotonic()
    with BulkProducer(settings) as producer:
        for chunk in paced(due_times_s(timeline.times_ms, options)):
            timeline.send(chunk, _stamping(producer.send) if options.stamp_now else producer.send)
            progress(chunk.stop, len(timeline))
    frauds, legits, outcomes = (
        int(np.count_nonzero(labels.kind == kind))
        for kind in (LabelKind.FRAUD, LabelKind.LEGIT, LabelKind.OUTCOME)
    )
    return Totals(len(dataset), frauds, legits, outcomes, ahead, time.monotonic() - started)


def _stamping(send_to: Send) -> Send:
    def send(topic: str, partition: int, keys: list[bytes], values: list[bytes], times_ms: list[int]) -> None:
        send_to(topic, partition, keys, values, [time.time_ns() // 1_000_000] * len(times_ms))

    return send


class Timeline:
    """Transactions, labels and outcomes as records in one order; of equal times the transaction comes first.

    Attributes
    ----------
    times_ms : int64 (n,)
        Time of each record, ascending.
    """

    def __init__(self, settings: Settings, dataset: Dataset, labels: Arrivals, partitions: int) -> None:
        times_ms = np.concatenate([dataset.event_time_ms, labels.time_ms])
        self._order = np.argsort(times_ms, kind="stable")
        self.times_ms = times_ms[self._order]
        self._settings, self._dataset, self._labels = settings, dataset, labels
        cards = dataset.card_id.dictionary_encode()
        self._card = np.asarray(cards.indices)
        self._keys = [card.encode() for card in cards.dictionary.to_pylist()]
        self._partition = np.array(
            [partition_of(key, partitions, settings.kafka.partitioner) for key in self._keys], np.int32
        )

    def __len__(self) -> int:
        return int(self._order.size)

    def send(self, chunk: slice, send_to: Send) -> None:
        """Send the records of that slice."""
        records = self._order[chunk]
        rows = records[records < len(self._dataset)]
        values = transaction_values(self._dataset, rows)
        self._send(
            self._settings.topics.transactions, rows, values, self._dataset.event_time_ms[rows], send_to
        )
        chosen = records[records >= len(self._dataset)] - len(self._dataset)
        labels = self._labels.take(chosen)
        values = label_values(self._settings.label, self._dataset, labels)
        self._send(self._settings.topics.labels, labels.row, values, labels.time_ms, send_to)

    def _send(
        self,
        topic: str,
        rows: NDArray[np.int64],
        values: list[bytes],
        times_ms: NDArray[np.int64],
        send_to: Send,
    ) -> None:
        cards = self._card[rows]
        partitions = self._partition[cards]
        for partition in np.unique(partitions):
            here = np.flatnonzero(partitions == partition)
            send_to(
                topic,
                int(partition),
                [self._keys[card] for card in cards[here]],
                [values[i] for i in here],
                times_ms[here].tolist(),
            )


def transaction_values(dataset: Dataset, rows: NDArray[np.int64]) -> list[bytes]:
    """Return those transactions as JSON under the user's field names."""
    fields, taken = dataset.fields, dataset.take(rows)
    columns: dict[str, Sequence[Any]] = {
        fields.transaction_id: taken.transaction_id.to_pylist(),
        fields.card_id: taken.card_id.to_pylist(),
        fields.event_time: _written_times(taken.event_time_ms, fields.time_format),
        fields.amount: _written_amounts(taken.amount, fields.amount_format),
    }
    if fields.currency is not None and taken.currency is not None:
        columns[fields.currency] = taken.currency.to_pylist()
    columns |= {name: column.to_pylist() for name, column in (taken.entities | taken.categorical).items()}
    columns |= {name: column.tolist() for name, column in taken.numeric.items()}
    return _json_rows(columns)


def label_values(fields: LabelFields, dataset: Dataset, labels: Arrivals) -> list[bytes]:
    """Return labels and outcomes as JSON."""
    is_outcome = labels.kind == LabelKind.OUTCOME
    outcomes, verdicts = labels.take(is_outcome), labels.take(~is_outcome)
    words = np.where(verdicts.kind == LabelKind.FRAUD, "fraud", "legit").tolist()
    said = {fields.label: words, fields.source: _sources(dataset, verdicts)}
    values = np.empty(len(is_outcome), np.object_)
    values[is_outcome] = _label_rows(
        fields, dataset, outcomes, {fields.outcome: [_OUTCOME] * len(outcomes.row)}
    )
    values[~is_outcome] = _label_rows(fields, dataset, verdicts, said)
    return list(values)


def _label_rows(
    fields: LabelFields, dataset: Dataset, labels: Arrivals, said: dict[str, list[str]]
) -> NDArray[np.object_]:
    rows = pa.array(labels.row)
    written = _json_rows(
        {
            fields.transaction_id: dataset.transaction_id.take(rows).to_pylist(),
            fields.card_id: dataset.card_id.take(rows).to_pylist(),
            **said,
            fields.label_time: _written_times(labels.time_ms, fields.time_format),
            fields.event_time: _written_times(dataset.event_time_ms[labels.row], fields.time_format),
        }
    )
    return np.array(written, np.object_)


def _sources(dataset: Dataset, labels: Arrivals) -> list[str]:
    by_truth = np.where(labels.kind == LabelKind.FRAUD, LabelSource.CHARGEBACK, LabelSource.ANALYST)
    sources = by_truth if dataset.label_source is None else dataset.label_source[labels.row]
    names: list[str] = np.array([source.name.lower() for source in LabelSource])[sources].tolist()
    return names


def due_times_s(times_ms: NDArray[np.int64], options: ReplayOptions) -> NDArray[np.float64]:
    """Return when each record may leave, in seconds from the start, float64 (n,)."""
    due_s = np.zeros(times_ms.size)
    if options.rate is not None:
        due_s = np.arange(times_ms.size) / options.rate
    if options.speed is not None and times_ms.size:
        due_s = np.maximum(due_s, (times_ms - times_ms[0]) / 1000.0 / options.speed)
    return due_s


def paced(
    due_s: NDArray[np.float64],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[slice]:
    """Yield stretches of records as they fall due, at most `CHUNK_RECORDS` long."""
    started, sent = clock(), 0
    while sent < due_s.size:
        elapsed_s = clock() - started
        due = int(np.searchsorted(due_s, elapsed_s, side="right"))
        if due == sent:
            sleep(max(float(due_s[sent]) - elapsed_s, TICK_S))
            continue
        chunk = slice(sent, min(due, sent + CHUNK_RECORDS))
        yield chunk
        sent = chunk.stop


def _json_rows(columns: dict[str, Sequence[Any]]) -> list[bytes]:
    names = list(columns)
    return [orjson.dumps(dict(zip(names, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def _written_amounts(amounts: NDArray[np.float64], amount_format: str) -> Sequence[Any]:
    if amount_format == "text":
        return [np.format_float_positional(amount, trim="-") for amount in amounts]
    numbers: list[float] = amounts.tolist()
    return numbers


def _written_times(times_ms: NDArray[np.int64], time_format: TimeFormat) -> Sequence[Any]:
    if time_format == "iso8601":
        written: list[str] = np.datetime_as_string(times_ms.astype("datetime64[ms]"), timezone="UTC").tolist()
        return written
    numbers: list[float] = (times_ms / 1000.0 if time_format == "epoch_s" else times_ms).tolist()
    return numbers


def _known_by(labels: Arrivals, now_ms: int) -> tuple[Arrivals, int]:
    known = int(np.searchsorted(labels.time_ms, now_ms, side="right"))
    return labels.take(np.arange(known)), labels.row.size - known


def _refuse_future(dataset: Dataset, now_ms: int) -> None:
    last_ms = int(dataset.event_time_ms[-1])
    if last_ms > now_ms + FUTURE_ALLOWED_MS:
        raise SettingsError(
            f"the last transaction is dated {np.datetime64(last_ms, 'ms')} UTC, in the future, which Kafka refuses: "
            "end before it with --to, or see that transaction.time_format is right"
        )


def _warn_of_retention(settings: Settings, first_ms: int, now_ms: int) -> None:
    for name, kept_ms in topic_setup.retention_ms(
        settings, [settings.topics.transactions, settings.topics.labels]
    ).items():
        if 0 <= kept_ms < now_ms - first_ms:
            log.warning(
                "topic %s keeps records for %.1f days, and these are older: Kafka will delete them within minutes; "
                "set its retention.ms to -1",
                name,
                kept_ms / 86_400_000,
            )
