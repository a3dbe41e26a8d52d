"""Refits wait until there is enough to learn from, instead of failing over and over."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import Executor
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from threadpoolctl import threadpool_info

from models.examples import Examples
from models.ledger import LedgerDeltas, summed
from models.payoff_deltas import PayoffDeltas
from models.records import Budget, Commit, EntityEvents, Evidence, Refit
from models.refit import RefitPlan
from models.state import ModelState
from models.vocabulary import MS_PER_DAY
from tests.support.waiting import wait_for
from worker.cycle import refits as refits_module
from worker.cycle.refits import BackgroundJobs, Refits
from worker.offline.in_memory import ImmediateJobs
from worker.parameters import new_model
from worker.partition.task import PartitionTask
from worker.settings.sections import Settings

NOW_MS = 1_700_000_000_000
PLAN = RefitPlan(generation_ms=MS_PER_DAY, forest_ms=MS_PER_DAY, forest_min_rows=1_000)
HOUR_MS = 3_600_000


class Recent:
    """Stands for the owner's task; has this many recent decisions, and counts how often it was asked for them."""

    def __init__(self, model: ModelState, rows: int) -> None:
        self.rows = rows
        self.asked = 0
        self._width = len(model.layout.names)

    def believed_legit(self, count: int) -> NDArray[np.float32]:
        self.asked += 1
        return np.random.default_rng(0).normal(size=(min(self.rows, count), self._width)).astype(np.float32)

    def as_task(self) -> PartitionTask:
        return cast("PartitionTask", self)


@pytest.fixture
def model() -> ModelState:
    labels, learning = {"negatives_after_days": 0.01}, {"memory_days": 30.0}
    return new_model(Settings(entity_key="00" * 16, labels=labels, model=learning))


def commit(
    model: ModelState, clock_ms: int, transactions: int = 0, examples: Examples | None = None
) -> Commit:
    ledger: LedgerDeltas = summed([])
    return Commit(
        worker="w",
        clocks_ms={0: clock_ms},
        newest_label_ms=None,
        traffic=EntityEvents(np.ones((transactions, 1), np.uint64), np.full(transactions, clock_ms)),
        evidence=Evidence.empty(hashes=2),
        examples=Examples.empty(features=len(model.layout.names)) if examples is None else examples,
        ledger=ledger,
        payoff=PayoffDeltas.nothing(),
        budget=Budget.empty(),
    )


def examples_at(model: ModelState, time_ms: int, frauds: int, legits: int) -> Examples:
    count = frauds + legits
    rng, zeros = np.random.default_rng(1), np.zeros(count, np.float32)
    return Examples(
        rng.normal(size=(count, len(model.layout.names))).astype(np.float32),
        (np.arange(count) < frauds).astype(np.uint8),
        np.ones(count, np.float32),
        np.full(count, time_ms, np.int64),
        np.arange(count, dtype=np.uint64),
        zeros,
        zeros,
        zeros,
        np.full(count, time_ms, np.int64),
    )


def test_a_forest_waits_while_the_owners_partition_has_seen_too_little(model: ModelState) -> None:
    model.fold(0, commit(model, NOW_MS, transactions=2_000))
    refits, recent = Refits(PLAN, ImmediateJobs()), Recent(model, rows=255)
    assert refits.advance(model, recent.as_task()) == []
    recent.rows = 256
    assert refits.advance(model, recent.as_task()) == []
    assert recent.asked == 1, "asked again before a minute of event time has passed"
    model.fold(1, commit(model, NOW_MS + 60_000))
    assert [refit.kind for refit in refits.advance(model, recent.as_task())] == ["forest"]


def test_a_generation_waits_while_no_fraud_is_remembered(model: ModelState) -> None:
    model.fold(0, commit(model, NOW_MS, examples=examples_at(model, NOW_MS - MS_PER_DAY, 0, 2_000)))
    model.frauds_learnt = 200  # long ago: their examples are gone
    took_s: dict[str, float] = {}
    refits = Refits(PLAN, ImmediateJobs(), took_s.__setitem__)
    recent = Recent(model, rows=0)
    assert refits.advance(model, recent.as_task()) == []
    model.fold(1, commit(model, NOW_MS + HOUR_MS, examples=examples_at(model, NOW_MS, 200, 2_000)))
    assert [refit.kind for refit in refits.advance(model, recent.as_task())] == ["generation"]
    assert list(took_s) == ["generation"]
    assert took_s["generation"] > 0.0


def test_a_generation_is_given_the_newest_traffic_of_the_owners_partition(
    monkeypatch: pytest.MonkeyPatch, model: ModelState
) -> None:
    model.fold(0, commit(model, NOW_MS, examples=examples_at(model, NOW_MS - MS_PER_DAY, 200, 2_000)))
    given = list[NDArray[np.float32]]()
    monkeypatch.setattr(refits_module, "generation_job", lambda _model, _plan, recent: given.append(recent))
    recent = Recent(model, rows=300)
    assert Refits(PLAN, ImmediateJobs()).advance(model, recent.as_task()) == []
    assert [len(it) for it in given] == [300]


def pools() -> dict[str, int]:
    """Return how many threads each library, such as BLAS, may use for one call; on one processor it is one."""
    return {library["filepath"]: library["num_threads"] for library in threadpool_info()}


@pytest.mark.parametrize("jobs", [ImmediateJobs, BackgroundJobs])
def test_libraries_use_one_thread_within_a_job_and_as_many_as_before_after_it(
    monkeypatch: pytest.MonkeyPatch, model: ModelState, jobs: type[Executor]
) -> None:
    model.fold(0, commit(model, NOW_MS, transactions=2_000))
    refits, task = Refits(PLAN, jobs()), Recent(model, rows=0).as_task()
    before, within, finished = pools(), list[dict[str, int]](), list[Refit]()

    def job() -> Refit:
        within.append(pools())
        return Refit("forest", 0, NOW_MS, {})

    def has_finished() -> bool:
        finished.extend(refits.advance(model, task))
        return bool(finished)

    monkeypatch.setattr(refits_module, "forest_job", lambda *_: job)
    wait_for(has_finished, 30, lambda: "the job has not ended")
    assert within == [dict.fromkeys(before, 1)]
    assert pools() == before


def test_jobs_run_one_after_another_in_threads_that_do_not_keep_the_process() -> None:
    background, gate, begun = BackgroundJobs(), threading.Event(), threading.Event()

    def first() -> bool:
        begun.set()
        return gate.wait(30) and threading.current_thread().daemon

    one = background.submit(first)
    assert begun.wait(30)
    other = background.submit(threading.active_count)
    assert not one.done()
    assert not other.done()
    gate.set()
    assert one.result(30) is True
    assert other.result(30) > 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no niceness of its own")
def test_a_job_gives_way_to_the_threads_that_decide() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    of_job = (
        BackgroundJobs().submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result(30)
    )
    assert of_job == min(own + 5, 19)
    assert os.getpriority(os.PRIO_PROCESS, 0) == own


def test_what_a_job_raises_is_raised_where_its_result_is_taken() -> None:
    with pytest.raises(ZeroDivisionError):
        BackgroundJobs().submit(lambda: 1 // 0).result(30)
