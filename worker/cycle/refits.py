"""Runs refits off the hot path and hands their results to the next commit."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, Final, Literal

from threadpoolctl import threadpool_limits

from models.records import Refit
from models.refit import FOREST_ROWS, Job, RefitPlan, forest_due, forest_job, generation_due, generation_job
from models.state import ModelState
from worker.partition.task import PartitionTask

RefitKind = Literal["generation", "forest"]
OnRefit = Callable[[RefitKind, float], None]
"""Hears of each refit that is done, and how many seconds of CPU it took."""
_RETRY_MS: Final[dict[RefitKind, int]] = {"generation": 3_600_000, "forest": 60_000}
"""After how much event time a job is prepared again that had too little to learn from; few rows are soon looked at."""
_NICENESS: Final = 5
"""Of a thread that refits: a quarter of a processor that decisions want, too. With much less, a worker that catches up
would have decided weeks of traffic by the forest before its first online model came."""


class BackgroundJobs(Executor):
    """Runs one job at a time in daemon threads: a process that ends does not wait for a result.

    On Linux the threads give way to all others, those of a broker on the same machine included.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn` once the jobs before it have ended."""
        future: Future[Any] = Future()
        threading.Thread(target=self._run, args=(future, fn, args, kwargs), name="refit", daemon=True).start()
        return future

    def _run(
        self, future: Future[Any], fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if sys.platform == "linux":
            os.nice(_NICENESS)  # of this thread alone; on other systems it would be the whole process
        with self._turn:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:  # noqa: BLE001 - the future raises it
                future.set_exception(error)


class Refits:
    """Begins due refits and collects finished ones; only the owner of partition 0 calls it.

    Parameters
    ----------
    plan
        How often each part is refitted.
    executor
        Runs the jobs; that of a backtest runs each at once.
    on_refit
        Hears of each that is done.
    """

    def __init__(self, plan: RefitPlan, executor: Executor, on_refit: OnRefit = lambda _, __: None) -> None:
        self._plan = plan
        self._executor = executor
        self._on_refit = on_refit
        self._running: dict[RefitKind, Future[tuple[Refit, float]]] = {}
        self._published_ms: dict[RefitKind, int] = {}
        self._impossible_ms: dict[RefitKind, int] = {}

    def advance(self, model: ModelState, task: PartitionTask) -> list[Refit]:
        """Begin the refits that are due; return those that finished since the last call."""
        if forest_due(model, self._plan):
            self._begin("forest", lambda: forest_job(model, task.believed_legit(FOREST_ROWS)), model)
        if generation_due(model, self._plan):
            self._begin(
                "generation",
                lambda: generation_job(model, self._plan, task.believed_legit(FOREST_ROWS)),
                model,
            )
        return self._finished()

    def _begin(self, kind: RefitKind, prepare: Callable[[], Job | None], model: ModelState) -> None:
        if kind in self._running or self._is_in_the_log(kind, model) or self._was_impossible(kind, model):
            return
        job = prepare()
        if job is None:
            self._impossible_ms[kind] = model.clock_ms or 0
            return
        self._running[kind] = self._executor.submit(_timed, job)

    def _is_in_the_log(self, kind: RefitKind, model: ModelState) -> bool:
        """Return whether the last published refit is not folded yet."""
        published_ms, folded_ms = self._published_ms.get(kind), _folded_ms(model, kind)
        return published_ms is not None and (folded_ms is None or folded_ms < published_ms)

    def _was_impossible(self, kind: RefitKind, model: ModelState) -> bool:
        """Return whether there was too little to learn from a short while ago."""
        tried_ms = self._impossible_ms.get(kind)
        return tried_ms is not None and (model.clock_ms or 0) < tried_ms + _RETRY_MS[kind]

    def _finished(self) -> list[Refit]:
        finished = []
        for kind in [kind for kind, future in self._running.items() if future.done()]:
            refit, cpu_s = self._running.pop(kind).result()
            self._on_refit(kind, cpu_s)
            self._published_ms[kind] = refit.clock_ms
            finished.append(refit)
        return finished


def _timed(job: Job) -> tuple[Refit, float]:
    """Run a job, and return the CPU seconds of its thread: it uses no other.

    BLAS would share long sums among threads of its own. They would take the processors that decide transactions, their
    time would not count, and the last bits of a sum would depend on how many processors there are. Until the job ends,
    the limit holds for the BLAS of the whole process.
    """
    with threadpool_limits(1):
        began_s = time.thread_time()
        return job(), time.thread_time() - began_s


def _folded_ms(model: ModelState, kind: RefitKind) -> int | None:
    """Return the clock of the part in force; None before the first."""
    if kind == "forest":
        return None if model.forest_fitted is None else model.forest_fitted.clock_ms
    return None if model.generation is None else model.generation.clock_ms
