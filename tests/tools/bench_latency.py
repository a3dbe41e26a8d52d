"""Latency under load: from sending a transaction until a `read_committed` subscriber has its alert.

A worker process first decides some days of history, so that its online model decides and alerts. Then transactions
arrive at a steady rate. Sender and subscriber run in this process, beside the broker.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from kafka import KafkaConsumer, TopicPartition
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from tests.support.processes import WorkerProcess
from tests.support.waiting import wait_for
from worker.broker.embedded import free_port
from worker.kafka_io import topic_setup
from worker.kafka_io.bulk import BulkProducer
from worker.kafka_io.client import consumer_config
from worker.offline.dataset import Dataset
from worker.offline.replay import ReplayOptions, Timeline, replay
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic, simulate

PARTITIONS: Final = 4
HISTORY_DAYS: Final = 4
REVIEW_COST: Final = 50.0
"""Dear enough that about one transaction in a hundred is an alert: investigators take no more."""
TICK_S: Final = 0.01

Tick = list[tuple[str, int, list[bytes], list[bytes], list[int]]]
"""What the sender sends at one moment: topic, partition, keys, values, timestamps."""


class Load(NamedTuple):
    """What the worker decides while latency is measured.

    Attributes
    ----------
    rate
        Transactions a second.
    history_cards
        Cards of the history.
    settle_s
        First part of the load, in which queues fill and nothing is measured.
    measured_s
        The rest of the load.
    """

    rate: int
    history_cards: int
    settle_s: float
    measured_s: float


def latency(values: dict[str, Any], load: Load) -> dict[str, float]:
    """Measure under a load; milliseconds."""
    settings = _settings(values, load.rate)
    topic_setup.create(settings, PARTITIONS, 1)
    history = simulate(_traffic(0, HISTORY_DAYS, load.history_cards))
    replay(settings, history, ReplayOptions(frauds_only=True))
    with WorkerProcess(settings, Path(settings.worker.state_dir) / "latency") as worker:
        worker.wait_until_ready()
        _await_decided(worker, len(history))
        live = _live(load)
        ticks = _ticks(settings, live, load.rate)
        with _subscriber(settings) as seen_s:
            sent_s = _send(settings, ticks, load.rate)
            _await_decided(worker, len(history) + len(live))
            time.sleep(1.0)
    return _figures(live, seen_s, sent_s, load.settle_s)


def _settings(values: dict[str, Any], rate: int) -> Settings:
    names = ("transactions", "labels", "alerts", "decisions", "model_log", "dead_letters")
    return Settings.model_validate(
        values
        | {
            "topics": {name: f"bench.latency.{name}" for name in names},
            "transaction": FIELDS.model_dump(),
            # So large that it never binds: the load is of seconds, and a day's budget would be used up in the first.
            "costs": {"review_cost": REVIEW_COST, "alert_budget_cases_per_day": 86_400.0 * rate},
            "health": {"port": free_port()},
        }
    )


def _traffic(seed: int, days: int, cards: int) -> Traffic:
    return Traffic(
        cards=cards,
        merchants=5_000,
        days=days,
        per_card_day=3.0,
        prevalence=0.01,
        seed=seed,
        label_delay_days=0.3,
    )


def _live(load: Load) -> Dataset:
    """Return as many transactions as the load has, spread evenly from the noon after the history."""
    count = int(load.rate * (load.settle_s + load.measured_s))
    traffic = _traffic(1, 1, count // 2)
    noon_ms = traffic.start_ms + HISTORY_DAYS * MS_PER_DAY + MS_PER_DAY // 2
    return replace(
        simulate(traffic).take(np.arange(count)), event_time_ms=noon_ms + np.arange(count) * 1000 // load.rate
    )


def _ticks(settings: Settings, live: Dataset, rate: int) -> list[Tick]:
    """Return the records of every tick; made before the load begins, because the sender is not what is measured."""
    nothing = live.arrivals(frauds_only=True).take(np.arange(0))
    timeline = Timeline(settings, live, nothing, PARTITIONS)
    size = max(1, int(rate * TICK_S))
    ticks: list[Tick] = []
    for start in range(0, len(live), size):
        tick: Tick = []
        timeline.send(slice(start, start + size), lambda *record, tick=tick: tick.append(record))
        ticks.append(tick)
    return ticks


def _send(settings: Settings, ticks: list[Tick], rate: int) -> NDArray[np.float64]:
    """Send tick by tick; return when each transaction left, in seconds of this machine's clock."""
    size = max(1, int(rate * TICK_S))
    left_s = np.empty(len(ticks))
    with BulkProducer(settings) as producer:
        start_s = time.monotonic()
        for index, tick in enumerate(ticks):
            time.sleep(max(0.0, start_s + index * size / rate - time.monotonic()))
            left_s[index] = time.monotonic()
            for records in tick:
                producer.send(*records)
    return np.repeat(left_s, size)


@contextmanager
def _subscriber(settings: Settings) -> Iterator[dict[str, float]]:
    """Note when each alert is seen, by transaction id."""
    seen_s: dict[str, float] = {}
    over = threading.Event()
    consumer = KafkaConsumer(**consumer_config(settings, group=False) | {"fetch_max_wait_ms": 5})
    places = [TopicPartition(settings.topics.alerts, partition) for partition in range(PARTITIONS)]
    consumer.assign(places)
    consumer.seek_to_end(*places)
    for place in places:
        consumer.position(place)

    def listen() -> None:
        while not over.is_set():
            polled = consumer.poll(timeout_ms=20)
            now_s = time.monotonic()
            for records in polled.values():
                seen_s.update((json.loads(record.value)["transaction_id"], now_s) for record in records)

    thread = threading.Thread(target=listen, daemon=True)
    thread.start()
    try:
        yield seen_s
    finally:
        over.set()
        thread.join()
        consumer.close()


def _await_decided(worker: WorkerProcess, count: int) -> None:
    wait_for(
        lambda: worker.metric("fraud_worker_decisions_total") >= count,
        300.0,
        lambda: f"{worker.metric('fraud_worker_decisions_total'):.0f} of {count} decided",
        [worker],
    )


def _figures(
    live: Dataset, seen_s: dict[str, float], sent_s: NDArray[np.float64], settle_s: float
) -> dict[str, float]:
    row_of = {name: row for row, name in enumerate(live.transaction_id.to_pylist())}
    known = [(row_of[name], when) for name, when in seen_s.items() if name in row_of]
    rows = np.array([row for row, _ in known], np.int64)
    taken_ms = (np.array([when for _, when in known]) - sent_s[rows]) * 1000.0
    measured = taken_ms[sent_s[rows] - sent_s[0] >= settle_s]
    if not measured.size:
        raise SystemExit("no alert was seen under the load")
    p50, p99 = np.quantile(measured, [0.5, 0.99])
    decided = np.count_nonzero(sent_s - sent_s[0] >= settle_s)
    return {
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "alerted_share": measured.size / decided,
        "sent_per_second": len(live) / float(sent_s[len(live) - 1] - sent_s[0]),
    }
