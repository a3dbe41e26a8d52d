"""How much traffic each day had, of late: what an early verdict is weighed by.

Frauds are labelled days before silence speaks of the legits of their time, so a worker that learns verdicts as they
come learns the frauds of today beside the legits of a week ago. While traffic is as it was, as many of both come as on
any day. In a week of three times the traffic the frauds are three times too many, and every probability rises; in the
week after, the legits are. So a fraud counts for as many as the traffic from which the legits come, over that of its
own day. What a label says after silence has spoken of the legits of its day counts as it is: they have been learnt.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples, Verdict
from models.vocabulary import MS_PER_DAY

_DAYS: Final = 512
"""So many are remembered."""
_MOST: Final = 4.0
"""A weight and its inverse are at most this: of a day of nearly no traffic, a fraud is no more than a few."""


class DailyTraffic:
    """The transactions of each day of event time.

    A fold: `fold` alone changes it.
    """

    def __init__(self) -> None:
        self._newest_day = -1
        self._counts = np.zeros(_DAYS, np.int64)

    def fold(self, event_time_ms: NDArray[np.int64], clock_ms: int) -> None:
        """Add the transactions of one commit; one dated ahead of the clock counts as of the clock."""
        day = np.minimum(event_time_ms, clock_ms) // MS_PER_DAY
        newest_day = max(self._newest_day, clock_ms // MS_PER_DAY)
        begun = newest_day - self._newest_day
        self._counts[np.arange(newest_day - min(begun, _DAYS) + 1, newest_day + 1) % _DAYS] = 0
        self._newest_day = newest_day
        np.add.at(self._counts, day[day > newest_day - _DAYS] % _DAYS, 1)

    def snapshot(self) -> DailyTraffic:
        """Return a copy that no fold changes."""
        copy = DailyTraffic()
        copy._newest_day, copy._counts = self._newest_day, self._counts.copy()
        return copy

    def weights(self, examples: Examples, silence_ms: int) -> NDArray[np.float64]:
        """Return for how many each verdict counts beside what silence says at its time, float64 (k,).

        Parameters
        ----------
        examples
            What a label named before silence spoke of its day is weighed, frauds and legits alike.
        silence_ms
            The age at which silence speaks of a decision.
        """
        event_ms, verdict_ms = examples.event_time_ms, examples.verdict_ms
        fraud = (examples.label & Verdict.FRAUD) != 0
        early = (fraud | (examples.label == 0)) & (verdict_ms - event_ms < silence_ms)
        # Of the day under way not all has been seen: the day before is as near.
        its = self._of(np.minimum(event_ms // MS_PER_DAY, verdict_ms // MS_PER_DAY - 1))
        beside = self._of((verdict_ms - silence_ms) // MS_PER_DAY)
        known = early & (its > 0) & (beside > 0)
        return np.where(known, np.clip(beside / np.maximum(its, 1), 1.0 / _MOST, _MOST), 1.0)

    def _of(self, day: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the transactions of some days; 0 of days that are not remembered."""
        known = (day > self._newest_day - _DAYS) & (day <= self._newest_day) & (day >= 0)
        return np.where(known, self._counts[day % _DAYS], 0)

    def arrays(self) -> dict[str, NDArray[np.int64]]:
        """Return the numbers that the state consists of, by name."""
        return {"counts": self._counts, "newest_day": np.array([self._newest_day])}
