"""The simulated stream: its calendar and its truth, and what sends it at its speed."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import Final

import numpy as np

from models.vocabulary import MS_PER_DAY
from worker.demo.scenario import MARGIN_DAYS
from worker.kafka_io import topic_setup
from worker.kafka_io.bulk import BulkProducer
from worker.offline.dataset import NEVER, Dataset
from worker.offline.replay import ReplayOptions, Timeline, due_times_s, paced
from worker.settings.sections import Settings
from worker.simulation import Traffic, simulate

_AT_ONCE: Final = 1_000
"""Records that are sent between two checks of whether to stop."""


class Stream:
    """Transactions in order of event time, and the time at which the truth of each becomes known.

    Labels that become known after the last transaction are left out: the worker's clock would not reach them.

    Parameters
    ----------
    dataset
        The transactions with their truth.
    days
        The length of the stream.
    start_ms
        Midnight of its first day, epoch milliseconds.

    Raises
    ------
    ValueError
        The data set lacks the truth.
    """

    def __init__(self, dataset: Dataset, days: int, start_ms: int) -> None:
        if dataset.label_time_ms is None or dataset.is_fraud is None:
            raise ValueError("a stream needs the truth of its transactions")
        in_time = dataset.label_time_ms <= dataset.event_time_ms[-1]
        self._label_time_ms = np.where(in_time, dataset.label_time_ms, NEVER)
        self._is_fraud = dataset.is_fraud
        self.dataset = replace(dataset, label_time_ms=self._label_time_ms)
        self.days, self.start_ms = days, start_ms
        self._rows = {name: row for row, name in enumerate(dataset.transaction_id.to_pylist())}

    def __len__(self) -> int:
        return len(self.dataset)

    def count_due(self, seconds: float) -> int:
        """Return how many transactions lie in the first `seconds` of the stream."""
        times_ms = self.dataset.event_time_ms
        return int(np.searchsorted(times_ms, times_ms[0] + 1000.0 * seconds, side="right"))

    def time_ms(self, decided: int) -> int:
        """Return the event time of the last of the first `decided` transactions, epoch milliseconds."""
        return int(self.dataset.event_time_ms[min(decided, len(self)) - 1]) if decided > 0 else self.start_ms

    def label_of(self, transaction_id: str, now_ms: int) -> str:
        """Return `fraud` or `legit`, or an empty text before the label is known."""
        row = self._rows.get(transaction_id)
        if row is None or self._label_time_ms[row] > now_ms:
            return ""
        return "fraud" if self._is_fraud[row] else "legit"


def simulated_stream(traffic: Traffic) -> Stream:
    """Simulate traffic and return it without its margins as a stream; this takes some seconds."""
    dataset = simulate(traffic)
    days = traffic.days - 2 * MARGIN_DAYS
    start_ms = traffic.start_ms + MARGIN_DAYS * MS_PER_DAY
    inside = np.searchsorted(dataset.event_time_ms, [start_ms, start_ms + days * MS_PER_DAY])
    return Stream(dataset.take(np.arange(*inside)), days, start_ms)


class _Stopped(Exception):  # noqa: N818 - no error
    """Ends the sending of a stream."""


def send_stream(settings: Settings, stream: Stream, speed: float, stopping: threading.Event) -> None:
    """Send a stream, `speed` seconds of it in one second, until its end or until `stopping` is set."""
    dataset = stream.dataset
    timeline = Timeline(settings, dataset, dataset.arrivals(), topic_setup.check(settings))
    due_s = due_times_s(timeline.times_ms, ReplayOptions(speed=speed))
    # The producer waits for its records at the end of the `with`; an exception makes it drop them instead.
    with suppress(_Stopped), BulkProducer(settings) as producer:
        for due in paced(due_s):
            for first in range(due.start, due.stop, _AT_ONCE):
                if stopping.is_set():
                    raise _Stopped
                timeline.send(slice(first, min(first + _AT_ONCE, due.stop)), producer.send)
