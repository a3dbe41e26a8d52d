"""The made-up stream: its own calendar and truth, and what sends it at its pace."""

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
"""Records sent between two looks at whether to stop."""


class Stream:
    """Transactions in order of event time, and when the truth of each becomes known.

    Labels that become known only after the last transaction are left out: no clock would reach them.

    Parameters
    ----------
    dataset
        With its truth.
    days
        How long it is.
    start_ms
        Midnight of its first day.
    """

    def __init__(self, dataset: Dataset, days: int, start_ms: int) -> None:
        assert dataset.label_time_ms is not None
        assert dataset.is_fraud is not None
        in_time = dataset.label_time_ms <= dataset.event_time_ms[-1]
        self._label_time_ms = np.where(in_time, dataset.label_time_ms, NEVER)
        self._is_fraud = dataset.is_fraud
        self.dataset = replace(dataset, label_time_ms=self._label_time_ms)
        self.days, self.start_ms = days, start_ms
        self._rows = {name: row for row, name in enumerate(dataset.transaction_id.to_pylist())}

    def __len__(self) -> int:
        return len(self.dataset)

    def count_due(self, seconds: float) -> int:
        """Return how many transactions lie in the first so many seconds of the stream."""
        times_ms = self.dataset.event_time_ms
        return int(np.searchsorted(times_ms, times_ms[0] + 1000.0 * seconds, side="right"))

    def time_ms(self, decided: int) -> int:
        """Return the event time of the last of the first so many transactions."""
        return int(self.dataset.event_time_ms[min(decided, len(self)) - 1]) if decided > 0 else self.start_ms

    def turned_out(self, transaction_id: str, now_ms: int) -> str:
        """Return `fraud` or `legit`, or nothing while nobody can know."""
        row = self._rows.get(transaction_id)
        if row is None or self._label_time_ms[row] > now_ms:
            return ""
        return "fraud" if self._is_fraud[row] else "legit"


def simulated_stream(traffic: Traffic) -> Stream:
    """Return simulated traffic without its margins as a stream; some seconds' work."""
    dataset = simulate(traffic)
    days = traffic.days - 2 * MARGIN_DAYS
    start_ms = traffic.start_ms + MARGIN_DAYS * MS_PER_DAY
    inside = np.searchsorted(dataset.event_time_ms, [start_ms, start_ms + days * MS_PER_DAY])
    return Stream(dataset.take(np.arange(*inside)), days, start_ms)


class _Stopped(Exception):  # noqa: N818 - no error
    """The stream need not be sent any further."""


def send_stream(settings: Settings, stream: Stream, speed: float, stopping: threading.Event) -> None:
    """Send a stream, so many seconds of it in one second, until its end or until told to stop."""
    dataset = stream.dataset
    timeline = Timeline(settings, dataset, dataset.labels(), topic_setup.check(settings))
    due_s = due_times_s(timeline.times_ms, ReplayOptions(speed=speed))
    # Whoever is told to stop leaves the producer by an exception: what is on its way is given up.
    with suppress(_Stopped), BulkProducer(settings) as producer:
        for due in paced(due_s):
            for first in range(due.start, due.stop, _AT_ONCE):
                if stopping.is_set():
                    raise _Stopped
                timeline.send(slice(first, min(first + _AT_ONCE, due.stop)), producer.send)
