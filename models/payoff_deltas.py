"""What the verdicts of a commit say of every policy of alerting, by day of event time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arrays import FloatArray, IntArray
from models.columns import Columns, Wide
from models.vocabulary import BEFORE_SHIFT, LEVEL_SHIFT, MS_PER_DAY, Decider, Flag

LAMBDAS: Final = (0.0, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 32.0)
"""The multiples of the review cost from which the rule may alert; a decision's *level* counts those it reaches."""
JOINS_FROM: Final = LAMBDAS[1]
"""From so many reviews of expected loss on an alert joins an open case: it costs none, and nothing of the budget."""
FOREST: Final = len(LAMBDAS)
"""The place of the isolation forest among the policies, behind the rule at each of `LAMBDAS`."""
POLICIES: Final = FOREST + 2
AS_DECIDED: Final = FOREST + 1
"""In the sums, the place of a policy that brings nothing is that of the alerts which the forest did raise."""
CASES, SILENT, CAUGHT, MISSED, CLAIMED, CLAIMED_SILENT, CLAIMED_MISSED, FRAUDS = range(8)
SUMS: Final = 8
IDLE_FOREST_ONE_IN: Final = 8
"""The forest is the dearest step: while it does not decide, it scores one row in so many, chosen by hash."""


def level_bits(ratio: FloatArray) -> NDArray[np.uint16]:
    """Return the level of each ratio of expected loss to review cost, as `Flag.LEVEL` has it; NaN has level 0."""
    reached = np.searchsorted(np.array(LAMBDAS[1:]), ratio, side="right")
    return np.where(np.isnan(ratio), 0, reached << LEVEL_SHIFT).astype(np.uint16)


@dataclass(frozen=True, slots=True)
class PayoffDeltas(Columns):
    """What one commit adds to the days of event time that it touches.

    Attributes
    ----------
    day : int32 (k,)
        ``event_time_ms // 86_400_000``.
    cases, silent, caught, missed : float64 (k, 10)
        By policy (the rule at each of `LAMBDAS`, the forest, the forest's own alerts while it decided): cases opened
        by decisions with a verdict, cases opened by alerts that no one has answered, and losses stopped, by alerts
        that join a case included: of frauds that the worker alerted on, and of those that it missed.
    claimed, claimed_silent, claimed_missed : float64 (k, 10)
        By policy of the rule, the frauds that the probabilities of its decisions claim at least, in units of the review
        cost: of alerts with a verdict, of alerts that no one has answered, and of what the worker did not alert on.
    frauds : float64 (k, 10)
        By policy of the rule, how many of its decisions are fraud.
    """

    day: NDArray[np.int32]
    cases: Annotated[FloatArray, Wide("policies")]
    silent: Annotated[FloatArray, Wide("policies")]
    caught: Annotated[FloatArray, Wide("policies")]
    missed: Annotated[FloatArray, Wide("policies")]
    claimed: Annotated[FloatArray, Wide("policies")]
    claimed_silent: Annotated[FloatArray, Wide("policies")]
    claimed_missed: Annotated[FloatArray, Wide("policies")]
    frauds: Annotated[FloatArray, Wide("policies")]

    @property
    def sums(self) -> FloatArray:
        """All of them, float64 (k, 8, 10)."""
        return np.stack([getattr(self, name) for name in self.layout() if name != "day"], axis=1)

    @classmethod
    def nothing(cls) -> PayoffDeltas:
        """Return what a commit without a decision or a verdict adds."""
        return cls.empty(policies=POLICIES)

    @classmethod
    def summed(cls, parts: list[PayoffDeltas]) -> PayoffDeltas:
        """Sum all parts into one, a row each day: a commit is no larger for having many partitions."""
        joined = cls.concatenate(parts, policies=POLICIES)
        days, at = np.unique(joined.day, return_inverse=True)
        sums = np.zeros((len(days), SUMS, POLICIES))
        np.add.at(sums, at, joined.sums)
        return cls(days.astype(np.int32), *sums.swapaxes(0, 1))


def decided_payoffs(event_time_ms: IntArray, flags: NDArray[np.uint16]) -> PayoffDeltas:
    """Count the cases that the forest's own alerts open, as they are decided; arrays of n decisions."""
    own = ((flags & Flag.OPENS_CASE) != 0) & ((flags & Flag.DECIDER) == Decider.FOREST)
    if not own.any():
        return PayoffDeltas.nothing()
    days, at = np.unique(event_time_ms[own] // MS_PER_DAY, return_inverse=True)
    sums = np.zeros((SUMS, len(days), POLICIES))
    sums[CASES, :, AS_DECIDED] = np.bincount(at)
    return PayoffDeltas(days.astype(np.int32), *sums)


def settled_payoffs(
    event_time_ms: IntArray,
    flags: NDArray[np.uint16],
    logit: NDArray[np.float32],
    loss: FloatArray,
    signs: NDArray[np.int8],
) -> PayoffDeltas:
    """Sum what the verdicts on n decisions say of every policy.

    Parameters
    ----------
    event_time_ms, flags, logit, loss
        Of the decisions; those without a finite logit say nothing of the rule.
    signs : int8 (3, n)
        What counts once more (1) or no longer (-1): the cases that the decision would have opened, once a verdict is
        known; the same of an alert that no one has answered; the loss, of a fraud.
    """
    days, at = np.unique(event_time_ms // MS_PER_DAY, return_inverse=True)
    sums = np.zeros((SUMS, len(days), POLICIES))
    _sum(at, flags, np.isfinite(logit), loss, signs, sums)
    return PayoffDeltas(days.astype(np.int32), *sums)


@njit(cache=True, nogil=True)
def _sum(
    at: IntArray,
    flags: NDArray[np.uint16],
    scored: NDArray[np.bool_],
    loss: FloatArray,
    signs: NDArray[np.int8],
    sums: FloatArray,
) -> None:
    for i in range(len(at)):
        flag, day = flags[i], at[i]
        case, silent, stopped = float(signs[0, i]), float(signs[1, i]), signs[2, i] * loss[i]
        of, claimed = (CAUGHT, CLAIMED) if flag & _ALERTED else (MISSED, CLAIMED_MISSED)
        if scored[i]:
            before = (flag & _LEVEL_BEFORE) >> BEFORE_SHIFT
            level = (flag & _LEVEL) >> LEVEL_SHIFT
            # The level says that probability times loss is at least so many reviews.
            claim = _LOWEST[level] / loss[i] if level else 0.0
            for k in range(level + 1):
                opens = k > before if k > 0 else (flag & _FIRST_OF_WINDOW) != 0
                if opens:
                    sums[CASES, day, k] += case
                    sums[SILENT, day, k] += silent
                sums[of, day, k] += stopped
                sums[claimed, day, k] += case * claim
                sums[CLAIMED_SILENT, day, k] += silent * claim
                sums[FRAUDS, day, k] += signs[2, i]
            if level >= _JOINING_LEVEL:
                for k in range(level + 1, before + 1):
                    sums[of, day, k] += stopped
        if flag & _FOREST_WOULD:
            by_forest = (flag & _DECIDER) == _BY_FOREST
            stands_for = 1.0 if by_forest else float(IDLE_FOREST_ONE_IN)
            if flag & _OPENS_FOREST_CASE:
                sums[CASES, day, FOREST] += stands_for * case
                sums[SILENT, day, FOREST] += stands_for * silent
            sums[of, day, FOREST] += stands_for * stopped
            if by_forest and flag & _ALERTED:
                sums[CAUGHT, day, AS_DECIDED] += stopped


_JOINING_LEVEL: Final = LAMBDAS.index(JOINS_FROM)
_LOWEST: Final = np.array(LAMBDAS)
# Compiled loops take plain numbers for the bits of an enumeration.
_FIRST_OF_WINDOW: Final = int(Flag.FIRST_OF_WINDOW)
_FOREST_WOULD: Final = int(Flag.FOREST_WOULD_ALERT)
_OPENS_FOREST_CASE: Final = int(Flag.OPENS_FOREST_CASE)
_ALERTED: Final = int(Flag.ALERTED)
_DECIDER: Final = int(Flag.DECIDER)
_LEVEL: Final = int(Flag.LEVEL)
_LEVEL_BEFORE: Final = int(Flag.LEVEL_BEFORE)
_BY_FOREST: Final = int(Decider.FOREST)
