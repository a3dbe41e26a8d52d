"""Parts of the model learnt off the hot path: when each is due, and the job that makes it. Results become records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.anomaly import MINIMUM_ROWS, FlatForest
from models.online import build_generation
from models.records import Refit
from models.state import ModelState
from models.threshold import Calibration

FOREST_ROWS: Final = 16_384
"""The most rows that a forest is fitted on: once traffic exceeds them, its growth makes no forest due."""
_FIRST_EXAMPLES: Final = 1_000
_GROWTH: Final = 2


@dataclass(frozen=True, slots=True)
class RefitPlan:
    """How often each part is made anew, in event time.

    Attributes
    ----------
    generation_ms, forest_ms
        The time between two generations, and between two forests.
    memory_ms
        How far back a generation learns.
    forest_min_rows
        How many transactions must have been folded before the first forest.
    """

    generation_ms: int
    forest_ms: int
    memory_ms: int
    forest_min_rows: int


Job = Callable[[], Refit]


def generation_due(model: ModelState, plan: RefitPlan) -> bool:
    """Return whether a new generation is due.

    The first one needs enough examples and enough frauds. After that, one is due when the last is old or when the
    number of frauds has doubled, which is often while they are few.
    """
    clock_ms = model.clock_ms
    if clock_ms is None:
        return False
    if model.generation is None:
        return len(model.examples) >= _FIRST_EXAMPLES and model.frauds_learnt >= model.policy.min_frauds
    begun = model.generation
    return (
        clock_ms >= begun.clock_ms + plan.generation_ms
        or model.frauds_learnt >= _GROWTH * begun.frauds_learnt
    )


def forest_due(model: ModelState, plan: RefitPlan) -> bool:
    """Return whether a new forest is due: the last is old, or traffic, while there is little, has doubled."""
    clock_ms = model.clock_ms
    if clock_ms is None or model.traffic_seen < plan.forest_min_rows:
        return False
    if model.forest_fitted is None:
        return True
    fitted = model.forest_fitted
    return clock_ms >= fitted.clock_ms + plan.forest_ms or (
        fitted.traffic_seen < FOREST_ROWS and model.traffic_seen >= _GROWTH * fitted.traffic_seen
    )


def generation_job(model: ModelState, plan: RefitPlan) -> Job | None:
    """Copy what a generation needs out of the state; the job itself may run in any thread.

    The job redraws the bin edges without labels, and learns weights from zero over the last `memory_ms` of examples in
    transaction order. It fits the calibration on the scores that those examples had when they were decided.

    Returns
    -------
    Job or None
        None where no fraud was learnt within `memory_ms`, as after a long silence of the labels: the generation in
        force is better than one that has seen no fraud.
    """
    examples, _ = model.examples.snapshot()
    cut_offset, clock_ms = model.offset, model.clock_ms or 0
    if not np.any(examples.label[examples.event_time_ms >= clock_ms - plan.memory_ms]):
        return None
    names, categorical = model.layout.names, model.layout.categorical
    fraud_weight = model.lineage.fraud_weight

    def job() -> Refit:
        recent = examples.for_generation(clock_ms - plan.memory_ms)
        weight = recent.weight.astype(np.float64)
        online = build_generation(
            recent.features, recent.label, weight, names, categorical, {"fraud_weight": fraud_weight}
        )
        scored = np.isfinite(recent.logit)
        calibration = Calibration.fit(
            recent.logit[scored].astype(np.float64), recent.label[scored] == 1, weight[scored]
        )
        numbers = np.array([calibration.slope, calibration.intercept])
        return Refit("generation", cut_offset, clock_ms, {**online.arrays(), "calibration": numbers})

    return job


def forest_job(model: ModelState, rows: NDArray[np.float32]) -> Job | None:
    """Return the job that fits an isolation forest; None if the rows are too few.

    Parameters
    ----------
    model
        Of which the job takes offset and clock.
    rows : float32 (n, F)
        Recent traffic that nothing speaks against. It comes from one partition, which may hold few of the transactions
        that made the forest due.
    """
    if len(rows) < MINIMUM_ROWS:
        return None
    cut_offset, clock_ms = model.offset, model.clock_ms or 0

    def job() -> Refit:
        # The seed is the log's offset: no chance comes from outside.
        forest = FlatForest.fit(rows, seed=max(cut_offset, 0))
        return Refit("forest", cut_offset, clock_ms, forest.arrays())

    return job
