"""How much comes in a day, of late: what the sampling of the examples follows."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arithmetic import exp2
from models.vocabulary import MS_PER_DAY

_HALF_LIFE_DAYS: Final = 7.0
_DAYS_PER_E_FOLD: Final = _HALF_LIFE_DAYS * 1.4426950408889634
"""Half-life / ln 2: the integral of the decay over all time."""
_LEAST_DAYS: Final = 0.25
"""Before so much event time, the traffic of a first hour is not taken for that of all hours."""

_GROWS: Final = 4.0
"""A stream is prepared for so many times what has come: the buffer of the examples halves at most once until then."""


class Amounts(NamedTuple):
    """Numbers of one commit, or of a day.

    Attributes
    ----------
    decisions
        That may become examples.
    whole
        Of these, what is never sampled: frauds, and what would have been alerted.
    legit_examples, fraud_examples
        What became examples.
    """

    decisions: float
    whole: float
    legit_examples: float
    fraud_examples: float


class Inflow:
    """Sums that decay with a half-life of a week of event time, over the time that decays alike.

    A fold: `fold` alone changes it.
    """

    def __init__(self) -> None:
        self._sums = np.zeros(len(Amounts._fields))
        self._elapsed_days = 0.0
        self._clock_ms: int | None = None
        self._decisions = 0.0

    def fold(self, added: Amounts, clock_ms: int) -> None:
        """Add what one commit brought at a clock; a clock behind the newest one adds no time."""
        newest_ms = clock_ms if self._clock_ms is None else max(clock_ms, self._clock_ms)
        passed_ms = 0 if self._clock_ms is None else newest_ms - self._clock_ms
        # A pause counts as time, too: traffic that is dated by the month looks like one. After a real pause the rate is
        # too low for some days, in which the buffer of the examples makes room by itself.
        # The plain exp2: the rate must be the same in every worker.
        decay = exp2(-passed_ms / MS_PER_DAY / _HALF_LIFE_DAYS)
        self._sums = self._sums * decay + np.array(added)
        self._decisions += added.decisions
        # The integral of the decay over the time passed: so a constant stream has a constant rate.
        self._elapsed_days = self._elapsed_days * decay + (1.0 - decay) * _DAYS_PER_E_FOLD
        self._clock_ms = newest_ms

    def a_day(self) -> Amounts:
        """Return the rates per day of event time."""
        return Amounts(*(self._sums / max(self._elapsed_days, _LEAST_DAYS)).tolist())

    def within(self, days: float) -> Amounts:
        """Return what a time of so many days is to hold: as the rates say, but so few times what has come at all.

        Of a stream that began yesterday no one knows that it will go on for months.
        """
        a_day = self.a_day()
        known = min(days * a_day.decisions, _GROWS * self._decisions) / max(a_day.decisions, 1e-300)
        return Amounts(*(known * amount for amount in a_day))

    def numbers(self) -> NDArray[np.float64]:
        """Return the numbers that the state consists of."""
        return np.array([*self._sums, self._elapsed_days, self._decisions])
