"""Parts of the model learnt off the hot path: when each is due, and the job that makes it. Results become records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.anomaly import MINIMUM_ROWS, FlatForest
from models.candidates import Choice
from models.change_point import change_point_ms
from models.maturing import FEWEST_EXAMPLES, Memory
from models.records import Refit
from models.search import Found, Searcher
from models.state import ModelState
from models.vocabulary import ChallengerMode

FOREST_ROWS: Final = 16_384
"""The most rows that a forest is fitted on: once traffic exceeds them, its growth makes no forest due."""
_SHORTEST_MS: Final = 3_600_000
"""Between the first two generations."""
_TIME_GROWTH: Final = 1.5
"""A generation is due at so many times the matured time of the one in force: trees of a young stream age fast."""
_GROWTH: Final = 2
"""So many times the frauds make a generation due, and so much traffic a forest."""
_SEARCH_EVERY: Final = 4
"""Generations from one search to the next; a search costs several times as much as making a generation."""
_CHEAP_ROWS: Final = 20_000
"""With no more examples than this, every generation searches."""
_GROWN: Final = 1.5
"""With so many times the examples of the last search, a generation searches: its mix suits models that know less."""
_FOLLOWED_ROWS: Final = 10_000
"""The newest mature rows, which say how sure the mix of tables and trees is."""


@dataclass(frozen=True, slots=True)
class RefitPlan:
    """When each part is made anew at the latest, in event time.

    Attributes
    ----------
    generation_ms, forest_ms
        The longest time between two generations, and between two forests: young ones are replaced sooner.
    forest_min_rows
        How many transactions must have been folded before the first forest.
    challenger
        What boosted trees may do beside the tables.
    """

    generation_ms: int
    forest_ms: int
    forest_min_rows: int
    challenger: ChallengerMode = ChallengerMode.CHOOSE


Job = Callable[[], Refit]


def generation_due(model: ModelState, plan: RefitPlan) -> bool:
    """Return whether a new generation is due.

    The first one needs enough frauds, and enough examples old enough to be learnt from: where traffic is dense,
    those of minutes. Its job waits until so many frauds are old enough, too. After that, one is due when half as
    much time again has matured as the last one was made of, at the latest when the last is old, and when the number
    of frauds has doubled. After a change of everything the time that has matured is that since the change.
    """
    clock_ms, begun = model.clock_ms, model.generation
    if clock_ms is None:
        return False
    wait_ms = model.policy.negatives_after_ms
    if begun is None:
        return (
            model.frauds_learnt >= model.policy.min_frauds
            and model.examples.count_before(clock_ms - wait_ms) >= FEWEST_EXAMPLES
        )
    matured_ms = begun.clock_ms - wait_ms - max(model.first_clock_ms or 0, begun.change_ms)
    grown_ms = max(int((_TIME_GROWTH - 1.0) * matured_ms), _SHORTEST_MS)
    return (
        clock_ms >= begun.clock_ms + min(grown_ms, plan.generation_ms)
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


def generation_job(
    model: ModelState, plan: RefitPlan, recent: NDArray[np.float32] | None = None
) -> Job | None:
    """Copy what a generation needs out of the state; the job itself may run in any thread.

    It searches at the first generation, at every fourth, while examples are few, once they have grown by half, and
    where it finds that everything has changed (`models.change_point`): then it learns only what came since. In between
    it makes the next generation by the recipe in force, with the weights that its mix has reached.

    Parameters
    ----------
    recent : float32 (n, F)
        Features of the newest traffic, of which no verdict is known yet: it says which categories are frequent now.

    Returns
    -------
    Job or None
        None where no fraud of the memory is mature, as after a long silence of the labels: the generation in force is
        better than one that has seen no fraud. None as well before the first generation, while too few are.
    """
    memory = Memory.of(model)
    if memory.mature_frauds() < (model.policy.min_frauds if model.online is None else 1):
        return None
    cut_offset, lineage, layout = model.offset, model.lineage, model.layout
    recipe = _recipe(model, plan.challenger)
    believed_ms = 0 if model.generation is None else model.generation.change_ms

    def job() -> Refit:
        ripe = memory.ripen()
        change_ms = change_point_ms(
            ripe.ripening, memory.calibration, layout.categorical, believed_ms, seed=max(cut_offset, 0)
        )
        if change_ms:
            ripe = memory.ripen(change_ms)
        # The seed is the log's offset: no chance comes from outside.
        searcher = Searcher(
            ripe.ripening,
            layout,
            lineage.fraud_weight,
            seed=max(cut_offset, 0),
            challenger=plan.challenger,
            recent=recent,
        )
        found = recipe
        if (
            found is None
            or change_ms != believed_ms
            or not _may_stay(found.choice, ripe.ripening.mature_rows, plan.challenger)
        ):
            found = searcher.search()
        built = searcher.build(found)
        newest = searcher.newest_rows(_FOLLOWED_ROWS)
        calibration = built.calibration
        built.blend.begin_to_follow(
            newest.X, newest.w, calibration, built.certainty, balance_alone=not ripe.come_at_once
        )
        arrays = {**built.arrays(), **found.choice.arrays(), **ripe.arrays()}
        arrays["change_ms"] = np.array([change_ms], np.int64)
        arrays["calibration"] = np.array([calibration.slope, calibration.intercept])
        return Refit("generation", cut_offset, memory.clock_ms, arrays)

    return job


def _recipe(model: ModelState, challenger: ChallengerMode) -> Found | None:
    """Return the choice in force, a generation older, with the weights that it has reached; None before any."""
    choice, online, beside = model.choice, model.online, model.challenger
    if choice is None or online is None:
        return None
    shadow = None
    if challenger is ChallengerMode.SHADOW and choice.shadow is not None and beside is not None:
        shadow = choice.shadow._replace(mix=beside.mix)
    reached = replace(
        choice, mix=online.mix, calibration=model.calibration, shadow=shadow, age=choice.age + 1
    )
    return Found(reached, online.certainty(model.calibration))


def _may_stay(choice: Choice, mature_rows: int, challenger: ChallengerMode) -> bool:
    """Return whether a choice of so many generations ago fits the examples of now, and what trees may do now.

    What trees may do more waits for the next search.
    """
    return (
        choice.has_judged
        and choice.age < _SEARCH_EVERY
        and _CHEAP_ROWS < mature_rows < _GROWN * choice.rows
        and (challenger is ChallengerMode.CHOOSE or choice.trees_at < 0)
    )


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
