"""Moments of the past at which the candidates of a search are judged: what is learnt there, and the days after it."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.examples import begins_ms
from models.generation import TrainingRows
from models.label_delay import Ripening
from models.vocabulary import MS_PER_DAY

CUTS: Final = 3
LEAST_FRAUDS: Final = 30
"""Frauds that must lie before a cut, and in the days after all cuts, for a judgement to mean anything."""
_JUDGED_DAYS: Final = 7.0
"""The days after a cut, as many as a generation is in force."""
_JUDGED_SHARE: Final = 0.35
"""Of the span of the examples, at most so much is judged; the rest is always learnt."""
_JUDGED_SHARE_IN_HINDSIGHT: Final = 0.5
"""The same where there are so few examples that the judged ones must be many to say anything."""
_LEAST_KNOWN_SHARE: Final = 0.5
"""Where a cut knows less of what a generation knows, its trees are too poor to say what the generation's are worth."""


class Cut(NamedTuple):
    """A moment at which candidates learn and from which on they are judged.

    Attributes
    ----------
    at_ms
        The moment.
    ripening
        What is known, and when: as it was then or, of a young stream, in hindsight.
    known
        The mature rows as they are known at the cut.
    judged : int64 (k,)
        Which of the mature rows are judged, all after the cut.
    """

    at_ms: int
    ripening: Ripening
    known: TrainingRows
    judged: NDArray[np.int64]


def draw_cuts(ripening: Ripening, time_ms: NDArray[np.int64], y: NDArray[np.uint8]) -> list[Cut]:
    """Return the cuts to judge at, the newest one last; none where too few frauds are known to judge anything.

    Labels take their time, so that a cut knows nothing of the days before it. A young stream has few others, and where
    fraud is rare too few frauds lie before them: there cuts know in hindsight, as if labels came at once. Order in time
    still holds. Rows of one time, such as the first day of a month, are taken as if they had come one by one.

    Parameters
    ----------
    ripening
        As of now.
    time_ms : int64 (n,)
        Of the mature rows, ascending.
    y : uint8 (n,)
        What is known of them by now: 1 is fraud.
    """
    if not len(time_ms):
        return []
    cuts = _cuts_of(ripening, time_ms, y, _JUDGED_SHARE)
    if cuts and (ripening.is_old or len(cuts[-1].known.y) >= _LEAST_KNOWN_SHARE * len(y)):
        return cuts
    known = ripening.in_hindsight()
    if begins_ms(time_ms) == time_ms[-1]:
        time_ms = time_ms[-1] - len(time_ms) + 1 + np.arange(len(time_ms))
        known = known.at_times(time_ms)
    return _cuts_of(known, time_ms, y, _JUDGED_SHARE_IN_HINDSIGHT) or cuts


def _cuts_of(
    ripening: Ripening, time_ms: NDArray[np.int64], y: NDArray[np.uint8], judged_share: float
) -> list[Cut]:
    first_ms, last_ms = begins_ms(time_ms), int(time_ms[-1])
    judged_ms = int(min(_JUDGED_DAYS * MS_PER_DAY, judged_share / CUTS * (last_ms - first_ms)))
    cuts = []
    for back in range(CUTS, 0, -1):
        at_ms = last_ms + 1 - back * judged_ms
        judged = np.flatnonzero((time_ms >= at_ms) & (time_ms < at_ms + judged_ms))
        known = ripening.known_at(at_ms, ripening.mature_at(at_ms))
        if np.count_nonzero(known.y) >= LEAST_FRAUDS and judged.size:
            cuts.append(Cut(at_ms, ripening, known, judged))
    frauds = sum(int(np.count_nonzero(y[cut.judged])) for cut in cuts)
    return cuts if frauds >= LEAST_FRAUDS else []
