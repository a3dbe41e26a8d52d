"""Model parts learnt off the hot path: when each is due, and how it is made. Results become model-log records."""

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
_FIRST_EXAMPLES: Final = 1_000
_GROWTH: Final = 2


@dataclass(frozen=True, slots=True)
class RefitPlan:
    """How often each part is made anew, in event time.

    Attributes
    ----------
    generation_ms, forest_ms
        Between two of each.
    memory_ms
        How far back a generation learns.
    forest_min_rows
        Below it no forest is fitted.
    """

    generation_ms: int
    forest_ms: int
    memory_ms: int
    forest_min_rows: int


Job = Callable[[], Refit]


def generation_due(model: ModelState, plan: RefitPlan) -> bool:
    """Whether a new generation should be begun.

    The first needs examples of both kinds; while frauds are few, it is redone whenever their number has doubled.
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
    """Whether a new forest should be fitted; while traffic is young, whenever it has doubled."""
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
    """Take what a generation needs out of the state now; the job itself may run in any thread.

    None where no fraud was learnt within `memory_ms`, as after a long silence of the labels: better the generation in
    force than one that has never seen a fraud.

    Bin edges are redrawn without labels, and weights are learnt from zero over the last `memory_ms` of examples in
    transaction order; the calibration is fitted on the scores those examples had when they were decided.
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
    """Fit an isolation forest on `rows`, float32 [n, F], recent traffic believed legitimate; None if they are too few.

    They come from one partition, which may hold few of the transactions that made the forest due.
    """
    if len(rows) < MINIMUM_ROWS:
        return None
    cut_offset, clock_ms = model.offset, model.clock_ms or 0

    def job() -> Refit:
        # The seed is the log's own offset: no randomness comes from outside.
        forest = FlatForest.fit(rows, seed=max(cut_offset, 0))
        return Refit("forest", cut_offset, clock_ms, forest.arrays())

    return job
