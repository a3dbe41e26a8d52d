"""Faults of the network and of the broker, and workers that come and go.

Of each fault of the network and the broker a short run is one of the ordinary tests; `make faults` has the long ones.
"""

from __future__ import annotations

import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaAdminClient

from tests.integration.test_crash import REBALANCES, SHORT_SESSION, seed_of_this_run, was_hit
from tests.support.oracle import Outcome
from tests.support.processes import WorkerProcess
from tests.support.proxy import END_TXN, KafkaProxy
from tests.support.site import Site
from tests.support.traffic import records_of, small_traffic
from tests.support.waiting import DECIDE_S, START_S, wait_for
from worker.broker.embedded import EmbeddedKafka, free_port
from worker.errors import FencedError, IndefiniteError, UnreachableError

pytestmark = pytest.mark.integration

LONG = pytest.mark.faults

RESTARTED = {FencedError.exit_code, IndefiniteError.exit_code, UnreachableError.exit_code}
"""Exit codes after which a supervisor starts the worker again."""
RECOVERED_S = 45.0
"""From the end of a fault to the next commit: the commit's deadline or the session's, a start, and some more."""
DECIDED = "fraud_worker_decisions_total"
MANY_COMMITS: Mapping[str, Mapping[str, Any]] = {"batch": {"max_event_time_s": 900.0}}


class Supervised:
    """A worker with a supervisor, which starts it again when a fault has ended it."""

    def __init__(self, site: Site, worker_id: str = "w1", **sections: Any) -> None:
        self._site, self._id, self._sections = site, worker_id, sections
        self.process = self._new()
        self.ends: list[int] = []
        self._earlier = 0

    @property
    def troubles(self) -> int:
        """How many connections its processes have lost, and how many of them that has ended."""
        return self._earlier + self.process.log.count("Connection lost")

    def _new(self) -> WorkerProcess:
        return self._site.worker(self._id, **self._sections).start()

    def look_after(self) -> None:
        """Start it again if it has ended."""
        code = self.process.process.poll()
        if code is None:
            return
        assert code in RESTARTED, self.process.log[-4000:]
        self._earlier = self.troubles + 1
        self.ends.append(code)
        self.process = self._new()

    def __enter__(self) -> Supervised:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self.process.process.poll() is None:
            self.process.kill()


def finish(site: Site, workers: list[Supervised], timeout_s: float = DECIDE_S) -> Outcome:
    """Look after the workers until everything is decided, stop them, let the oracle judge, and return what it saw."""

    def decided() -> bool:
        for worker in workers:
            worker.look_after()
        return all(committed == end or end == 0 for committed, end in site.offsets().values())

    def listen() -> bool:
        for worker in workers:
            worker.look_after()
        return all(worker.process.get("/healthz")[0] == 200 for worker in workers)

    wait_for(decided, timeout_s, lambda: f"undecided: {site.offsets()}", every_s=0.5)
    # One that was just started again does not hear SIGTERM yet.
    wait_for(listen, START_S, lambda: "a worker does not listen")
    assert [worker.process.stop() for worker in workers] == [0] * len(workers)
    outcome = site.assert_everything_once()
    site.folded()
    return outcome


@contextmanager
def proxied_broker() -> Iterator[tuple[EmbeddedKafka, KafkaProxy]]:
    """A broker with a second listener that only the proxy's clients use."""
    port, controller, inner, outer = (free_port() for _ in range(4))
    host = "127.0.0.1"
    listeners = f"PLAINTEXT://{host}:{port},PROXIED://{host}:{inner},CONTROLLER://{host}:{controller}"
    properties = {
        "listeners": listeners,
        "advertised.listeners": f"PLAINTEXT://{host}:{port},PROXIED://{host}:{outer}",
        "controller.quorum.voters": f"1@{host}:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    }
    with KafkaProxy(outer, inner) as proxy, EmbeddedKafka(port=port, properties=properties) as broker:
        yield broker, proxy


@pytest.mark.parametrize(("days", "at_least"), [(1, 5), pytest.param(8, 50, marks=LONG)])
def test_a_lost_answer_to_a_commit_neither_loses_nor_repeats(
    tmp_path: Path, days: int, at_least: int
) -> None:
    rng = random.Random(seed_of_this_run())
    with proxied_broker() as (broker, proxy):
        site = Site(broker.bootstrap, tmp_path, 4, MANY_COMMITS)
        site.feed(records_of(small_traffic(days=days, cards=600)))
        with Supervised(site, kafka={"bootstrap": proxy.address}) as worker:
            worker.process.wait_until_ready()
            proxy.loses = lambda api_key: api_key == END_TXN and rng.random() < 0.2
            finish(site, [worker])
            print(f"{proxy.lost} answers lost, the worker ended by {worker.ends}")
        assert proxy.lost >= at_least


@pytest.mark.parametrize(
    ("lasting_s", "times", "days", "slice_s"),
    [
        (0.5, 1, 1, 480.0),
        *(pytest.param(lasting_s, 3, 8, 120.0, marks=LONG) for lasting_s in (0.5, 5.0, 15.0)),
    ],
)
def test_a_cut_network_only_delays(
    tmp_path: Path, lasting_s: float, times: int, days: int, slice_s: float
) -> None:
    rng = random.Random(seed_of_this_run())
    recovered_s: list[float] = []
    with proxied_broker() as (broker, proxy):
        site = Site(broker.bootstrap, tmp_path, 4, {"batch": {"max_event_time_s": slice_s}})
        site.feed(records_of(small_traffic(days=days, cards=600)))
        with Supervised(site, kafka={"bootstrap": proxy.address}) as worker:
            for _ in range(times):
                wait_for(lambda: _decides(worker), START_S, lambda: worker.process.log[-2000:], every_s=0.2)
                time.sleep(rng.uniform(0.0, 1.0))
                assert proxy.cut() > 0, "no connection was open"
                time.sleep(lasting_s)
                proxy.restore()
                recovered_s.append(_until_next_commit(site, worker))
            print(
                f"commits again after {[round(s, 1) for s in recovered_s]} s, the worker ended by {worker.ends}"
            )
            finish(site, [worker])


def _until_next_commit(site: Site, worker: Supervised) -> float:
    end = site.commits()

    def goes_on() -> bool:
        worker.look_after()
        return site.commits() > end

    return wait_for(goes_on, RECOVERED_S, lambda: worker.process.log[-2000:])


def _decides(worker: Supervised) -> bool:
    worker.look_after()
    return worker.process.metric(DECIDED) > 0


@pytest.mark.parametrize(
    ("how", "times", "days", "slice_s"),
    [("kill", 1, 2, 900.0), *(pytest.param(how, 3, 8, 300.0, marks=LONG) for how in ("kill", "stop"))],
)
def test_a_broker_that_goes_and_comes_back_only_delays(
    tmp_path: Path, how: str, times: int, days: int, slice_s: float
) -> None:
    rng = random.Random(seed_of_this_run())
    quick = {"broker.session.timeout.ms": "2000", "broker.heartbeat.interval.ms": "500"}
    recovered_s: list[float] = []
    with EmbeddedKafka(properties=quick) as broker:
        site = Site(broker.bootstrap, tmp_path, 4, {"batch": {"max_event_time_s": slice_s}})
        site.feed(records_of(small_traffic(days=days, cards=600)))
        with Supervised(site) as worker:
            for _ in range(times):
                wait_for(lambda: _decides(worker), START_S, lambda: worker.process.log[-2000:], every_s=0.2)
                time.sleep(rng.uniform(0.0, 1.0))
                before = worker.troubles
                (broker.kill if how == "kill" else broker.stop)()
                time.sleep(rng.uniform(0.0, 5.0))
                broker.start()
                recovered_s.append(_until_next_commit(site, worker))
                assert worker.troubles > before, "the worker has not noticed"
            print(
                f"commits again after {[round(s, 1) for s in recovered_s]} s, the worker ended by {worker.ends}"
            )
            finish(site, [worker])


@LONG
def test_workers_come_and_go_at_random(tmp_path: Path) -> None:
    rng = random.Random(seed_of_this_run())
    with EmbeddedKafka() as broker, ExitStack() as stack:
        site = Site(broker.bootstrap, tmp_path, 6, {"kafka": SHORT_SESSION, **MANY_COMMITS})
        records = records_of(small_traffic(days=12, cards=800))
        workers = [stack.enter_context(Supervised(site, f"w{n}")) for n in range(3)]
        rounds = 12
        for n in range(rounds):
            site.feed(records[n * len(records) // rounds : (n + 1) * len(records) // rounds])
            one = rng.choice(workers)
            one.look_after()
            if rng.random() < 0.5:
                one.process.kill()
            else:
                one.process.process.terminate()
                one.process.wait_for_exit(START_S)
            time.sleep(rng.choice([0.0, 3.0, 8.0]))
            one.process = one._new()
        outcome = finish(site, workers)
    owners: defaultdict[int, set[str]] = defaultdict(set)
    for entry in outcome.entries:
        owners[entry.header.partition].add(entry.header.worker)
    # Not each must: the assignor gives the first partitions to the first of the workers that are there.
    assert any(len(of_one) > 1 for of_one in owners.values()), f"no partition ever moved: {dict(owners)}"


@LONG
def test_a_worker_stopped_while_the_group_rebalances_is_fenced_or_restored(tmp_path: Path) -> None:
    """Membership lost in the middle of a join: the client does not report it, and the tasks are outdated."""
    rng = random.Random(seed_of_this_run())
    with EmbeddedKafka() as broker:
        sites = [
            Site(broker.bootstrap, tmp_path / str(n), 4, {"kafka": SHORT_SESSION, **MANY_COMMITS})
            for n in range(6)
        ]
        hits = [stop_in_a_rebalance(site, seed, rng) for seed, site in enumerate(sites)]
    assert any(hits), "no worker was stopped while the group rebalanced"


def stop_in_a_rebalance(site: Site, seed: int, rng: random.Random) -> bool:
    """Stop a worker past its session while another joins; return whether the group still waited for it by then."""
    records = records_of(small_traffic(seed=seed, days=6, cards=300))
    thirds = [records[n * len(records) // 3 : (n + 1) * len(records) // 3] for n in range(3)]
    site.feed(thirds[0])
    with Supervised(site, "w1") as sleeper:
        wait_for(lambda: _decides(sleeper), START_S, lambda: sleeper.process.log[-2000:])
        before = sleeper.process.metric(REBALANCES)
        with Supervised(site, "w2") as other:
            wait_for(lambda: rebalances(site), START_S, lambda: "the other does not join", every_s=0.0)
            time.sleep(rng.uniform(0.0, 1.0))
            sleeper.process.signal(signal.SIGSTOP)
            hit = rebalances(site)
            site.feed(thirds[1])
            site.wait_until_decided(other.process)  # all partitions: the group has thrown the sleeper out
            sleeper.process.signal(signal.SIGCONT)
            wait_for(lambda: was_hit(sleeper.process, before), START_S, lambda: sleeper.process.log[-2000:])
            site.feed(thirds[2])
            finish(site, [sleeper, other])
            print(f"{'while the group rebalanced' if hit else 'after'}: the sleeper ended by {sleeper.ends}")
    return hit


def rebalances(site: Site) -> bool:
    """Return whether the group waits for members to join."""
    group = site.settings.kafka.group
    admin = KafkaAdminClient(bootstrap_servers=site.settings.kafka.bootstrap)
    try:
        return bool(admin.describe_groups([group])[group]["group_state"] != "Stable")
    finally:
        admin.close()
