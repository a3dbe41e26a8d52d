"""A worker is killed repeatedly, halted and continued, or started twice: nothing is lost, nothing happens twice."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaConsumer, TopicPartition

from tests.support.processes import WorkerProcess
from tests.support.site import Site
from tests.support.traffic import alike, records_of, small_traffic
from tests.support.waiting import START_S, wait_for
from worker.errors import FencedError, IndefiniteError

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

PATIENCE_S = 20.0
"""How long to wait for an open transaction before killing anyway."""
SHORT_SESSION = {"session_timeout_ms": 6_000, "transaction_timeout_ms": 6_000}
"""The shortest that a broker allows."""
DECIDED = "fraud_worker_decisions_total"
REBALANCES = "fraud_worker_rebalances_total"


def seed_of_this_run() -> int:
    """Draw the seed of this run and print it; `FRAUD_WORKER_TEST_SEED` repeats one."""
    seed = int(os.environ.get("FRAUD_WORKER_TEST_SEED", time.time_ns() % 1_000_000))
    print(f"FRAUD_WORKER_TEST_SEED={seed}")
    return seed


class Watch:
    """Looks for an open transaction on the model log, to which every commit writes."""

    def __init__(self, site: Site) -> None:
        self._tp = TopicPartition(site.settings.topics.model_log, 0)
        self._stable, self._high = (
            KafkaConsumer(bootstrap_servers=site.settings.kafka.bootstrap, isolation_level=level)
            for level in ("read_committed", "read_uncommitted")
        )

    def end(self) -> int:
        """Return the end of the log, whether committed or not."""
        return int(self._high.end_offsets([self._tp])[self._tp])

    def open(self) -> bool:
        """Return whether a transaction is open."""
        end = self.end()
        return int(self._stable.end_offsets([self._tp])[self._tp]) < end

    def close(self) -> None:
        self._stable.close()
        self._high.close()


@contextmanager
def watching(site: Site) -> Iterator[Watch]:
    watch = Watch(site)
    try:
        yield watch
    finally:
        watch.close()


@dataclass
class Kills:
    """How many kills hit what."""

    inside: int = 0
    during_start: int = 0
    terminated: int = 0
    idle: int = 0
    to_commit_s: list[float] = field(default_factory=list)
    """From a start to its first commit."""

    @property
    def total(self) -> int:
        return self.inside + self.during_start + self.terminated + self.idle

    def __str__(self) -> str:
        slowest = max(self.to_commit_s, default=0.0)
        return (
            f"{self.total} kills: {self.inside} inside a transaction, {self.during_start} while starting, "
            f"{self.terminated} by SIGTERM, {self.idle} between transactions; "
            f"first commit after a start within {slowest:.1f} s"
        )


class How(Enum):
    """When and how a worker is ended."""

    STARTING = "while it starts"
    TERMINATED = "by SIGTERM"
    INSIDE = "inside a transaction"


def manners(times: int, rng: random.Random) -> list[How]:
    """Return how to end the worker each time, in a random order: a fifth in each of the other ways, most inside."""
    fifth = max(1, times // 5)
    found = [How.STARTING] * fifth + [How.TERMINATED] * fifth + [How.INSIDE] * (times - 2 * fifth)
    rng.shuffle(found)
    return found


def kill(worker: WorkerProcess, watch: Watch, rng: random.Random, kills: Kills, how: How) -> None:
    """Kill at a random moment."""
    started_s, end = time.monotonic(), watch.end()
    if how is How.STARTING:
        time.sleep(rng.uniform(0.5, 3.0))
        kills.during_start += 1
        worker.kill()
        return
    wait_for(lambda: watch.end() > end, START_S, lambda: "no commit", [worker], every_s=0.01)
    kills.to_commit_s.append(time.monotonic() - started_s)
    time.sleep(rng.uniform(0.0, 0.5))
    if how is How.TERMINATED:
        kills.terminated += 1
        assert worker.stop() == 0
        return
    if caught_inside(worker, watch, rng):
        kills.inside += 1
    else:
        kills.idle += 1
    worker.kill()


def caught_inside(worker: WorkerProcess, watch: Watch, rng: random.Random) -> bool:
    """Halt the worker inside a transaction; return false if none is open for too long."""
    deadline_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline_s:
        worker.assert_running()
        worker.signal(signal.SIGSTOP)
        # A request that was already on its way to the broker may still end the transaction.
        if watch.open() and watch.open() and watch.open():
            return True
        worker.signal(signal.SIGCONT)
        time.sleep(rng.uniform(0.0, 0.02))
    return False


def crash(kafka: Broker, folder: Path, times: int, transactions: int, slice_s: float) -> None:
    """Feed a stream, kill the worker so many times, let it finish, and let the oracle judge."""
    rng = random.Random(seed_of_this_run())
    # Short stretches of event time make many small commits.
    site = Site(kafka.bootstrap, folder, sections={"batch": {"max_event_time_s": slice_s}})
    days = 8
    dataset = small_traffic(seed=rng.randrange(1000), days=days, cards=transactions // (4 * days))
    records = records_of(dataset)
    label = next(record for record in records if record.topic == "labels")
    bad = [alike(label, transaction_id=f"orphan-{n}") for n in range(5)]
    bad += [records[n * 1000]._replace(value=b"{") for n in range(10)]
    site.feed(records, bad)
    kills = Kills()
    with watching(site) as watch:
        for how in manners(times, rng):
            with site.worker() as worker:
                kill(worker, watch, rng, kills, how)
        print(kills)
        with site.worker() as worker:
            site.wait_until_decided(worker)
            assert worker.stop() == 0
    site.assert_everything_once()
    model = site.folded()  # compares every digest that any of the processes has published
    assert model.traffic_seen == len(site.fed.transaction_ids)
    assert model.digests.latest is not None
    assert kills.inside >= max(1, kills.idle), f"too few kills hit an open transaction: {kills}"


def test_a_worker_killed_at_random_loses_and_repeats_nothing(kafka: Broker, tmp_path: Path) -> None:
    crash(kafka, tmp_path, times=4, transactions=16_000, slice_s=5_400.0)


@pytest.mark.faults
def test_a_worker_killed_twenty_times_loses_and_repeats_nothing(kafka: Broker, tmp_path: Path) -> None:
    crash(kafka, tmp_path, times=20, transactions=200_000, slice_s=1_080.0)


def test_of_two_processes_with_one_id_the_older_ends_fenced(kafka: Broker, tmp_path: Path) -> None:
    site = Site(kafka.bootstrap, tmp_path, 4, {"batch": {"max_event_time_s": 600.0}})
    records = records_of(small_traffic(days=4, cards=300))
    most = len(records) * 3 // 4
    site.feed(records[:most])
    elsewhere = {"state_dir": str(tmp_path / "another machine")}
    with site.worker() as older, site.worker(worker=elsewhere) as newer, site.worker() as twin:
        twin.kill()
        newer.kill()
        wait_for(lambda: older.metric(DECIDED) > 0, START_S, lambda: older.log, [older])
        twin.start()
        assert twin.wait_for_exit(60) == FencedError.exit_code
        assert "another process uses" in twin.log.splitlines()[-1]
        newer.start()
        newer.wait_until_ready()
        site.feed(records[most:])
        assert older.wait_for_exit(60) == FencedError.exit_code
        assert "worker.id" in older.log.splitlines()[-1]
        site.wait_until_decided(newer)
        assert newer.stop() == 0
    site.assert_everything_once()
    site.folded()


def test_a_busy_worker_stopped_past_its_session_is_fenced_or_restored_when_it_wakes(
    kafka: Broker, tmp_path: Path
) -> None:
    """It holds a batch that another worker has decided, or it was about to join and its tasks are outdated.

    Where it slept longer than a commit may take, it cannot know what became of its own, and ends as well.
    """
    site = Site(kafka.bootstrap, tmp_path, 4, {"batch": {"max_event_time_s": 900.0}, "kafka": SHORT_SESSION})
    records = records_of(small_traffic(days=3, cards=400))
    # Most of it first, so that the sleeper is at work when it is stopped.
    at, later = 2 * len(records) // 3, 5 * len(records) // 6
    parts = [records[:at], records[at:later], records[later:]]
    with site.worker("w1") as sleeper, site.worker("w2") as other:
        site.feed(parts[0])
        wait_for(lambda: sleeper.metric(DECIDED) > 0 and other.metric(DECIDED) > 0, START_S, lambda: "idle")
        before = sleeper.metric(REBALANCES)
        sleeper.signal(signal.SIGSTOP)
        site.feed(parts[1])
        site.wait_until_decided(other)  # all partitions: the group has thrown the sleeper out
        sleeper.signal(signal.SIGCONT)
        wait_for(lambda: was_hit(sleeper, before), START_S, lambda: sleeper.log[-4000:])
        site.feed(parts[2])
        site.wait_until_decided(other)
        ended = (None, FencedError.exit_code, IndefiniteError.exit_code)
        assert sleeper.process.poll() in ended, sleeper.log
        print(f"the sleeper ended by {sleeper.process.poll()}")
        assert other.stop() == 0
    site.assert_everything_once()
    site.folded()


def was_hit(sleeper: WorkerProcess, rebalances: float) -> bool:
    """Return whether what happened while it slept has ended the worker, or made it restore its partitions."""
    return sleeper.process.poll() is not None or sleeper.metric(REBALANCES) > rebalances


def test_an_idle_worker_stopped_past_its_session_joins_again(kafka: Broker, tmp_path: Path) -> None:
    site = Site(kafka.bootstrap, tmp_path, 4, {"kafka": SHORT_SESSION})
    records = records_of(small_traffic(days=6, cards=250))
    half = len(records) // 2
    with site.worker("w1") as sleeper, site.worker("w2") as other:
        site.feed(records[:half])
        wait_for(lambda: sleeper.metric(DECIDED) > 0 and other.metric(DECIDED) > 0, START_S, lambda: "idle")
        site.wait_until_decided(sleeper, other)
        site.wait_until_quiet(sleeper, other)
        before = other.metric(REBALANCES)
        sleeper.signal(signal.SIGSTOP)
        wait_for(lambda: other.metric(REBALANCES) > before, 60, lambda: "not taken over", [other])
        sleeper.signal(signal.SIGCONT)
        wait_for(lambda: other.metric(REBALANCES) > before + 1, 60, lambda: "not back", [sleeper, other])
        site.feed(records[half:])
        site.wait_until_decided(sleeper, other)
        assert [sleeper.stop(), other.stop()] == [0, 0]
    outcome = site.assert_everything_once()
    last = {entry.header.partition: entry.header.worker for entry in outcome.entries}
    assert sorted(last.values()) == ["w1", "w1", "w2", "w2"]
    site.folded()
