"""The clock of one partition: a watermark that no single record can move far.

A clock that follows the newest event time is at the mercy of one faulty date: a record of next year would end all
waiting for labels at once, in every partition, and for good. So a transaction *claims* a time, and a claim within a day
of the clock moves it. One further ahead is decided like any other, but it takes the clock's time and is only noted.
The clock jumps where time has really passed: where most of the transactions fetched after the claim are as far ahead,
where 1,024 more of them than of the others have come, or where the partition falls quiet after some of them, or after
one of today or within a week, but not of the future; or where a file ends. It jumps to the lowest of the times noted.

What it cannot stop is a majority: a backlog most of whose records are dated in the future.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY, NEVER_MS

_NOTHING_NOTED: Final = np.iinfo(np.int64).max
MANY_FAR: Final = 1_024
"""So many claims far ahead, net of ordinary ones, move the clock; and so many rows ahead are looked at."""
FEW_FAR: Final = 3
"""So many claims far ahead, with none older after them, are believed once nothing more comes."""
LONGEST_GAP_MS: Final = 7 * MS_PER_DAY
_HOUR_MS: Final = 3_600_000
LEAST_AHEAD: Final = 32
"""A look ahead at fewer rows proves nothing, while more may come."""
# What the loop changes.
_CLOCK, _FAR, _LOWEST, _OLDER_SINCE = range(4)


class Watermark:
    """The clock of one partition as of the last row fetched.

    A restart begins with the journalled clock and without what was noted: a jump then takes as many records again.

    Parameters
    ----------
    clock_ms
        Where it begins; `NEVER_MS` before the first transaction.
    """

    def __init__(self, clock_ms: int = NEVER_MS) -> None:
        self._state = np.array([clock_ms, 0, _NOTHING_NOTED, 0], np.int64)

    @property
    def clock_ms(self) -> int:
        """The clock."""
        return int(self._state[_CLOCK])

    def advance(self, claim_ms: NDArray[np.int64], *, are_last: bool = False) -> NDArray[np.int64]:
        """Take the claims of one fetch; return the time that each row may have, int64 (n,).

        It is the claim itself, or the clock's time where that lies too far ahead. Where no more will come, as from a
        file (`are_last`), a few at the end are believed, as where a partition falls quiet.
        """
        if not len(claim_ms):
            return claim_ms
        if self.clock_ms == NEVER_MS:
            self._state[_CLOCK] = _beginning(claim_ms)
        allowed_ms = np.empty_like(claim_ms)
        least_ahead = FEW_FAR if are_last else LEAST_AHEAD
        _advance(np.ascontiguousarray(claim_ms), self._state, least_ahead, allowed_ms)
        return allowed_ms

    def follow(self, clock_ms: int) -> None:
        """Move to the partition's clock, where a quiet partition has been moved on."""
        self._state[_CLOCK] = max(self.clock_ms, clock_ms)

    def fall_quiet(self, wall_ms: int) -> int:
        """Return the clock of a partition to which nothing comes, as of now, `wall_ms`.

        What came last and was far ahead is believed if it was no single record; and a single one if it is of today, or
        of the past and ahead by no more than a stretch without traffic may last.
        """
        far, lowest_ms = int(self._state[_FAR]), int(self._state[_LOWEST])
        # A single record of the future proves that its date is wrong, not that time has passed.
        has_come = lowest_ms <= wall_ms + _HOUR_MS
        is_near = wall_ms - MS_PER_DAY <= lowest_ms or lowest_ms <= self.clock_ms + LONGEST_GAP_MS
        is_likely = far >= FEW_FAR or (has_come and is_near)
        if far and not self._state[_OLDER_SINCE] and is_likely:
            self._state[_CLOCK] = max(self.clock_ms, lowest_ms)
            self._state[_FAR], self._state[_LOWEST] = 0, _NOTHING_NOTED
        return self.clock_ms


def _beginning(claim_ms: NDArray[np.int64]) -> int:
    """Return where time begins: with the first row, unless its date is faulty.

    It is where it lies beyond the middle of all, or a day before the second row and the third, which do not. Of three
    rows two decide, of two the earlier one.
    """
    first, usual, middle = int(claim_ms[0]), _lower_median(claim_ms[:3]), _lower_median(claim_ms)
    return min(usual if first < usual - MS_PER_DAY and usual <= middle else first, middle)


def _lower_median(times_ms: NDArray[np.int64]) -> int:
    return int(np.sort(times_ms)[(len(times_ms) - 1) // 2])


@njit(cache=True, nogil=True)
def _advance(
    claim: NDArray[np.int64], state: NDArray[np.int64], least_ahead: int, allowed: NDArray[np.int64]
) -> None:
    for i in range(len(claim)):
        if state[_FAR] and state[_LOWEST] <= state[_CLOCK] + MS_PER_DAY:
            # The clock has come to what was noted.
            state[_FAR], state[_LOWEST] = 0, _NOTHING_NOTED
        if claim[i] > state[_CLOCK] + MS_PER_DAY:
            state[_FAR] += 1
            state[_OLDER_SINCE] = 0
            state[_LOWEST] = min(state[_LOWEST], claim[i])
            lowest = _lowest_of_most(claim[i : i + MANY_FAR], state[_CLOCK] + MS_PER_DAY, least_ahead)
            if lowest == _NOTHING_NOTED and state[_FAR] >= MANY_FAR:
                lowest = state[_LOWEST]
            if lowest != _NOTHING_NOTED:
                state[_CLOCK], state[_FAR], state[_LOWEST] = lowest, 0, _NOTHING_NOTED
        elif state[_FAR]:
            state[_FAR] -= 1
            state[_OLDER_SINCE] = 1
            if not state[_FAR]:
                state[_LOWEST] = _NOTHING_NOTED
        if claim[i] > state[_CLOCK] + MS_PER_DAY:
            allowed[i] = state[_CLOCK]
        else:
            state[_CLOCK] = max(state[_CLOCK], claim[i])
            allowed[i] = claim[i]


@njit(cache=True, nogil=True)
def _lowest_of_most(ahead: NDArray[np.int64], limit_ms: int, least_ahead: int) -> int:
    """Return the lowest claim beyond the limit, if most claims and a few at least are; else that nothing is noted."""
    far, lowest = 0, _NOTHING_NOTED
    for i in range(len(ahead)):
        if ahead[i] > limit_ms:
            far += 1
            lowest = min(lowest, ahead[i])
    is_enough = len(ahead) >= least_ahead and far >= FEW_FAR
    return lowest if is_enough and 2 * far > len(ahead) else _NOTHING_NOTED
