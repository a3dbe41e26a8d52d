"""Finds the moment at which nearly everything changed, before which examples mislead.

After most changes much of what was learnt stays true, and all of the memory teaches best. Where what was fraud is legit
from one night to the next, it does not: examples of before outnumber those of the new pattern for weeks.

So decisions that lost far more than the model that made them expected make a change suspected (as a rise of the error
beyond its own deviation does: Gama et al. 2004, "Learning with drift detection"). It is believed where trees that learn
only what came since lose far less, on the newest matured days, than trees that learn the whole memory.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.arrays import FloatArray
from models.blend import BoostedRows, TreeSample
from models.candidates import TREES
from models.cuts import LEAST_FRAUDS
from models.generation import TrainingRows
from models.label_delay import Ripening
from models.maturing import FEWEST_EXAMPLES
from models.search import SEARCH_ROWS
from models.threshold import Calibration, log_loss, probabilities
from models.vocabulary import MS_PER_DAY

_STEP_MS: Final = MS_PER_DAY // 4
"""Of the time in which decisions are compared with what was expected."""
_LONG_BEFORE: Final = 1 << 40
"""So many steps before the first one nothing was off either."""
_TIMES_EXPECTED: Final = 2.0
"""So many times the expected loss is suspicious, if it is more by `_SUSPICIOUS_ERRORS` standard errors."""
_SUSPICIOUS_ERRORS: Final = 4.0
_SUSPECTED_MS: Final = 28 * MS_PER_DAY
"""A change is suspected for so long. Later there is enough of the new pattern for a model to have learnt it."""
_MOST_SUSPICIONS: Final = 2
"""The newest ones."""
_LEAST_MS: Final = MS_PER_DAY
"""A burst of an hour may look like all that there is."""
_LEAST_FRAUDS: Final = 2 * LEAST_FRAUDS
"""To be learnt since the change, and to be judged after: so a search among both has enough to judge by, too."""
_LEAST_RATE: Final = 0.5
"""Where the rate of fraud has fallen to less, labels may have stopped coming for some: that teaches nothing."""
_JUDGED_MS: Final = 7 * MS_PER_DAY
"""The newest days judge, or as many as hold so many frauds; of less time since the change, its second half."""
_BLOCKS: Final = 20
"""Stretches of the judged time, whose sums of losses are taken for independent."""
_BELIEVED_ERRORS: Final = 5.0
_BELIEVED_SHARE: Final = 0.8
"""A change is believed where the loss falls below this share, and by so many standard errors.

Both are far from what streams show whose fraud grows, moves or comes in bursts, where the memory is worth keeping, and
from what they show after a change of everything, where the loss falls to a half and less by tens of standard errors.
"""


class _Judge:
    """Compares what was learnt since a moment with what was learnt since an earlier one, on the newest matured rows."""

    def __init__(
        self, time_ms: NDArray[np.int64], rows: TrainingRows, categorical: NDArray[np.bool_], seed: int
    ) -> None:
        self._time_ms, self._rows = time_ms, rows
        fraud_ms = time_ms[rows.y == 1]
        self._enough_ms = int(fraud_ms[-min(_LEAST_FRAUDS, len(fraud_ms))]) if len(fraud_ms) else 0
        self._categorical, self._seed = categorical, seed

    def losses(self, earlier_ms: int, since_ms: int) -> tuple[FloatArray, FloatArray] | None:
        """Return what each block loses by what was learnt since each moment; None where that is too little."""
        time_ms, until_ms = self._time_ms, int(self._time_ms[-1]) + 1
        judged_ms = max(min(until_ms - _JUDGED_MS, self._enough_ms), (since_ms + until_ms) // 2)
        begin, first, cut = np.searchsorted(time_ms, [earlier_ms, since_ms, judged_ms]).tolist()
        more, learnt, judged = self._between(begin, cut), self._between(first, cut), self._between(cut, None)
        frauds = min(np.count_nonzero(it.y) for it in (learnt, judged))
        if until_ms - since_ms < _LEAST_MS or len(learnt.y) < FEWEST_EXAMPLES or frauds < _LEAST_FRAUDS:
            return None
        block = (time_ms[cut:] - judged_ms) * _BLOCKS // (until_ms - judged_ms)
        by_more, by_less = (
            np.bincount(block, self._loss(it, judged), _BLOCKS).astype(np.float64) for it in (more, learnt)
        )
        return by_more, by_less

    def lost_frauds(self, earlier_ms: int, since_ms: int) -> bool:
        """Return whether far fewer are known to be fraud since a moment than were before."""
        begin, first = np.searchsorted(self._time_ms, [earlier_ms, since_ms]).tolist()
        before, after = (_rate(self._between(*it)) for it in ((begin, first), (first, None)))
        return after < _LEAST_RATE * before

    def is_empty(self, since_ms: int) -> bool:
        """Return whether too little has come since a moment to make a generation of."""
        rows = self._between(int(np.searchsorted(self._time_ms, since_ms)), None)
        return len(rows.y) < FEWEST_EXAMPLES or int(np.count_nonzero(rows.y)) < LEAST_FRAUDS

    def _between(self, first: int, end: int | None) -> TrainingRows:
        X, y, w = self._rows
        return TrainingRows(X[first:end], y[first:end], w[first:end])

    def _loss(self, learnt: TrainingRows, judged: TrainingRows) -> FloatArray:
        """Return the weighted log loss of judged rows, with the slope and intercept that suit them best."""
        sampled = BoostedRows.of(learnt, SEARCH_ROWS, self._seed)
        trees = TreeSample.of(learnt, self._categorical, sampled).fit(TREES[0], self._seed)
        logit, y, w = trees.score(judged.X), judged.y, judged.w
        fitted = Calibration.fit(logit, y == 1, w)
        # A model that ranks the wrong way round is worth nothing, not as much as its opposite.
        calibration = replace(fitted, slope=max(fitted.slope, 0.0)).expecting(float(np.dot(w, y)), logit, w)
        return w * log_loss(calibration.slope * logit + calibration.intercept, y)


def change_point_ms(
    ripening: Ripening, calibration: Calibration, categorical: NDArray[np.bool_], believed_ms: int, seed: int
) -> int:
    """Return since when examples are worth learning; 0 for all that there are.

    Parameters
    ----------
    ripening
        All examples of the memory.
    calibration
        In force: makes probabilities of the logits that the decisions had.
    categorical : bool (F,)
        Of the features.
    believed_ms
        The change that the generation in force believes in; 0 for none. It stays until the whole memory teaches better.
    seed
        Decides every sample.
    """
    mature = ripening.mature_at(ripening.now_ms)
    if not len(mature):
        return 0
    time_ms = ripening.examples.event_time_ms[mature]
    rows = ripening.known_at(ripening.now_ms, mature)
    judge = _Judge(time_ms, rows, categorical, seed)
    first_ms = int(time_ms[0])
    found_ms = max(believed_ms, first_ms)
    if judge.is_empty(found_ms):
        return 0
    for since_ms in _suspected_ms(time_ms, rows, ripening.examples.logit[mature], calibration):
        # What came before a change that is believed would lose to anything.
        is_new = since_ms > found_ms + MS_PER_DAY and not judge.lost_frauds(found_ms, since_ms)
        if is_new and _is_far_less(judge.losses(found_ms, since_ms)):
            found_ms = since_ms
    if found_ms == first_ms:
        return 0
    if found_ms > believed_ms:
        return found_ms
    losses = judge.losses(first_ms, found_ms)
    return 0 if losses is not None and losses[0].sum() < losses[1].sum() else found_ms


def _suspected_ms(
    time_ms: NDArray[np.int64], rows: TrainingRows, logit: NDArray[np.float32], calibration: Calibration
) -> list[int]:
    """Return when decisions of late began to lose far more than expected, ascending."""
    scored = np.flatnonzero(np.isfinite(logit))
    if not len(scored):
        return []
    z = np.clip(calibration.slope * logit[scored].astype(np.float64) + calibration.intercept, -30.0, 30.0)
    p, y, w = probabilities(z), rows.y[scored], rows.w[scored]
    step = time_ms[scored] // _STEP_MS
    first = int(step[0])
    step -= first
    # The loss of a row is log(1 + e^z) - y z, and y is 1 with probability p.
    excess = w * (p - y) * z
    expected, beyond, variance = (np.bincount(step, it) for it in (w * log_loss(z, p), excess, excess**2))
    off = np.flatnonzero(
        (beyond > _SUSPICIOUS_ERRORS * np.sqrt(variance)) & (beyond > (_TIMES_EXPECTED - 1.0) * expected)
    )
    begun = off[np.diff(off, prepend=-_LONG_BEFORE) > MS_PER_DAY // _STEP_MS]
    since_ms = (first + begun) * _STEP_MS
    return [int(it) for it in since_ms[since_ms > time_ms[-1] - _SUSPECTED_MS][-_MOST_SUSPICIONS:]]


def _rate(rows: TrainingRows) -> float:
    weight = float(rows.w.sum())
    return float(np.dot(rows.w, rows.y)) / weight if weight else 0.0


def _is_far_less(losses: tuple[FloatArray, FloatArray] | None) -> bool:
    """Return whether the second losses, by block, are far below the first."""
    if losses is None:
        return False
    more, less = losses
    gain = more - less
    error = float(gain.std(ddof=1)) * np.sqrt(_BLOCKS)
    return bool(less.sum() < _BELIEVED_SHARE * more.sum() and gain.sum() > _BELIEVED_ERRORS * error)
