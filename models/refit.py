"""Parts of the model learnt off the hot path: when each is due, and the job that makes it. Results become records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.alert_silence import silent_weight
from models.anomaly import MINIMUM_ROWS, FlatForest
from models.candidates import Choice
from models.examples import Examples, Verdict
from models.label_delay import LEAST_SHARE, LabelDelays, Ripening, learnt_as
from models.records import Refit
from models.search import Found, Searcher
from models.state import ModelState
from models.vocabulary import ChallengerMode

FOREST_ROWS: Final = 16_384
"""The most rows that a forest is fitted on: once traffic exceeds them, its growth makes no forest due."""
_FIRST_EXAMPLES: Final = 1_000
_SHORTEST_MS: Final = 3_600_000
"""Between the first two generations."""
_GROWTH: Final = 2
_SEARCH_EVERY: Final = 4
"""Generations from one search to the next; a search costs several times as much as making a generation."""
_CHEAP_ROWS: Final = 20_000
"""With no more examples than this, every generation searches."""
_GROWN: Final = 1.5
"""With so many times the examples of the last search, a generation searches: its mix suits models that know less."""
_FOLLOWED_ROWS: Final = 10_000
"""The newest mature rows, which say how sure the mix of tables and trees is."""
_STEADY: Final = 4
"""The mature rows of a steady stream span so many times the wait of silence."""
_FULL: Final = 0.75
"""Mature rows that span so much of what the memory can hold are as many as there will be."""
_COMMIT_SPANS_MS: Final = 3_600_000
"""A verdict's time is the clock of its commit, which spans up to an hour in a replay."""
_SOON: Final = LEAST_SHARE / 2
"""Legits come as soon as frauds where so many have a verdict by the age at which `LEAST_SHARE` of the frauds do."""


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
    those of minutes. Its job waits until so many frauds are old enough, too. After that, one is due when as much
    time again has matured as the last one was made of, at the latest when the last is old, and when the number of
    frauds has doubled.
    """
    clock_ms, begun = model.clock_ms, model.generation
    if clock_ms is None:
        return False
    wait_ms = model.policy.negatives_after_ms
    if begun is None:
        return (
            model.frauds_learnt >= model.policy.min_frauds
            and model.examples.count_before(clock_ms - wait_ms) >= _FIRST_EXAMPLES
        )
    matured_ms = begun.clock_ms - wait_ms - (model.first_clock_ms or 0)
    return (
        clock_ms >= begun.clock_ms + min(max(matured_ms, _SHORTEST_MS), plan.generation_ms)
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

    What is measured comes from mature examples: older than `negatives_after`, and old enough that silence can be
    corrected. Frauds are labelled within days and silence matures later, so that younger ones are nearly all fraud. The
    job searches at the first generation, at every fourth, while examples are few, and once they have grown by half; in
    between, it makes the next generation by the recipe in force, with the weights that its mix has reached.

    Returns
    -------
    Job or None
        None where no fraud of the memory is mature, as after a long silence of the labels: the generation in force is
        better than one that has seen no fraud. None as well before the first generation, while too few are.
    """
    examples, _ = model.examples.snapshot()
    cut_offset, clock_ms, policy = model.offset, model.clock_ms or 0, model.policy
    since_ms, known_ms = clock_ms - policy.memory_ms, clock_ms
    if policy.silence_is_legit and model.newest_label_ms is not None:
        # Of days on which the feed of labels was silent only the frauds are known that came before it fell silent.
        known_ms = min(clock_ms, model.newest_label_ms + policy.max_silence_ms)
    mature_ms = known_ms - policy.negatives_after_ms
    mature = (examples.event_time_ms >= since_ms) & (examples.event_time_ms < mature_ms)
    least_frauds = policy.min_frauds if model.online is None else 1
    if np.count_nonzero(examples.label[mature] & Verdict.FRAUD) < least_frauds:
        return None
    names, categorical = model.layout.names, model.layout.categorical
    fraud_weight, calibration = model.lineage.fraud_weight, model.calibration
    earlier, certainty = _recipe(model, plan.challenger)

    def job() -> Refit:
        recent = examples.for_generation(since_ms)
        delays = LabelDelays.measured(recent, known_ms)
        legit_delays = None if policy.silence_is_legit else LabelDelays.measured(recent, known_ms, 0)
        maturity_ms = [it.maturity_ms for it in (delays, legit_delays) if it is not None]
        wait_ms = max(policy.negatives_after_ms, *maturity_ms)
        mature = recent.event_time_ms < known_ms - wait_ms
        if not _is_enough(recent.label[mature], policy.min_frauds):
            # Delays are not known yet, as when the first labels come all at once.
            wait_ms, mature = policy.negatives_after_ms, recent.event_time_ms < mature_ms
        old = recent.take(mature)
        silent = silent_weight(old, calibration)
        # By then as many young frauds come as in any week: beside all the mature rows they shift no prior.
        longest_ms = min(_STEADY * wait_ms, _FULL * (policy.memory_ms - wait_ms))
        is_old = _spans(old) >= longest_ms or _legits_come_as_soon(old, delays)
        steady = is_old and known_ms == clock_ms
        chosen = (mature | steady) & ((recent.label != Verdict.ALERTED) | (silent > 0.0))
        known, chance = learnt_as(recent.take(chosen), mature[chosen], silent, calibration, delays, known_ms)
        # A moment later than the clock, so that the verdicts of the newest commit are known.
        ripening = Ripening(known, chance, delays, known_ms + 1, wait_ms + 1, steady, legit_delays)
        searcher = Searcher(ripening, names, categorical, fraud_weight, max(cut_offset, 0), plan.challenger)
        rows = int(np.count_nonzero(mature[chosen]))
        keeps = (
            earlier is not None
            and earlier.has_judged
            and earlier.age < _SEARCH_EVERY - 1
            and _CHEAP_ROWS < rows < _GROWN * earlier.rows
            and _may_stay(earlier, plan.challenger)
        )
        if earlier is None or not keeps:
            found = searcher.search()
        else:
            found = Found(replace(earlier, age=earlier.age + 1), certainty)
        built = searcher.build(found)
        numbers = built.calibration
        newest = searcher.newest_rows(_FOLLOWED_ROWS)
        built.blend.begin_to_follow(
            newest.X, newest.w, numbers, built.certainty, balance_alone=not _come_at_once(recent)
        )
        arrays = {**built.arrays(), **found.choice.arrays()}
        arrays["calibration"] = np.array([numbers.slope, numbers.intercept])
        arrays["silent_weight"] = np.array([silent])
        # The job has learnt the decisions before; of a young stream, later ones are learnt as they grow old.
        arrays["held_from_ms"] = np.array([-1 if is_old else known_ms - wait_ms], np.int64)
        arrays["label_delays"] = delays.shares if legit_delays is None else LabelDelays.none().shares
        return Refit("generation", cut_offset, clock_ms, arrays)

    return job


def _recipe(model: ModelState, challenger: ChallengerMode) -> tuple[Choice | None, float]:
    """Return the choice in force with the weights that it has reached, and how many verdicts stand behind these."""
    choice, online, beside = model.choice, model.online, model.challenger
    if choice is None or online is None:
        return choice, 0.0
    shadow = None
    if challenger is ChallengerMode.SHADOW and choice.shadow is not None and beside is not None:
        shadow = choice.shadow._replace(mix=beside.mix)
    recipe = replace(choice, mix=online.mix, calibration=model.calibration, shadow=shadow)
    return recipe, online.certainty(model.calibration)


def _may_stay(earlier: Choice, challenger: ChallengerMode) -> bool:
    """Return whether an earlier choice fits what trees may do now; what they may do more waits for the next search."""
    return challenger is ChallengerMode.CHOOSE or earlier.trees_at < 0


def _is_enough(labels: NDArray[np.uint8], frauds: int) -> bool:
    """Return whether a generation may be made of mature examples with these labels."""
    return len(labels) >= _FIRST_EXAMPLES and int(np.count_nonzero(labels & Verdict.FRAUD)) >= frauds


def _legits_come_as_soon(mature: Examples, delays: LabelDelays) -> bool:
    """Return whether the early verdicts, by a label or by silence, are of legits as much as of frauds."""
    legit = mature.take(np.flatnonzero(mature.label & Verdict.FRAUD == 0))
    soon = legit.verdict_ms - legit.event_time_ms <= delays.maturity_ms + _COMMIT_SPANS_MS
    return float(legit.weight[soon].sum()) >= _SOON * float(legit.weight.sum())


def _come_at_once(recent: Examples) -> bool:
    """Return whether most verdicts are of decisions within the event time of one commit."""
    soon = recent.verdict_ms - recent.event_time_ms <= _COMMIT_SPANS_MS
    return float(recent.weight[soon].sum()) > 0.5 * float(recent.weight.sum())


def _spans(rows: Examples) -> int:
    return int(rows.event_time_ms[-1] - rows.event_time_ms[0])


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
