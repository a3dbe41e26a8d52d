"""Runs refits off the hot path and hands their results to the next commit."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Literal

from models.records import Refit
from models.refit import FOREST_ROWS, Job, RefitPlan, forest_due, forest_job, generation_due, generation_job
from models.state import ModelState
from worker.task import PartitionTask

Kind = Literal["generation", "forest"]


class Refits:
    """Begins due refits and collects finished ones; only the owner of partition 0 calls it.

    Parameters
    ----------
    plan
        How often.
    executor
        Where jobs run; a backtest runs them at once.
    """

    def __init__(self, plan: RefitPlan, executor: Executor) -> None:
        self._plan = plan
        self._executor = executor
        self._running: dict[Kind, Future[Refit]] = {}
        self._published_ms: dict[Kind, int] = {}

    def advance(self, model: ModelState, task: PartitionTask) -> list[Refit]:
        """Begin what is due, and return what has finished since the last call."""
        if forest_due(model, self._plan):
            self._begin("forest", lambda: forest_job(model, task.believed_legit(FOREST_ROWS)), model)
        if generation_due(model, self._plan):
            self._begin("generation", lambda: generation_job(model, self._plan), model)
        return self._finished()

    def _begin(self, kind: Kind, prepare: Callable[[], Job], model: ModelState) -> None:
        folded_ms = _folded_ms(model, kind)
        in_the_log = self._published_ms.get(kind)
        if kind in self._running or (
            in_the_log is not None and (folded_ms is None or folded_ms < in_the_log)
        ):
            return
        self._running[kind] = self._executor.submit(prepare())

    def _finished(self) -> list[Refit]:
        finished = []
        for kind in [kind for kind, future in self._running.items() if future.done()]:
            refit = self._running.pop(kind).result()
            self._published_ms[kind] = refit.clock_ms
            finished.append(refit)
        return finished


def _folded_ms(model: ModelState, kind: Kind) -> int | None:
    """The clock of the part in force; None before the first."""
    if kind == "forest":
        return None if model.forest_fitted is None else model.forest_fitted[0]
    return None if model.generation is None else model.generation[1]
