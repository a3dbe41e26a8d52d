"""What of the examples a generation may learn and be judged by, as of the moment at which it is made.

What is measured comes from mature examples: older than `negatives_after`, and old enough that silence can be corrected.
Frauds are labelled within days and silence matures later, so that younger ones are nearly all fraud.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models.alert_silence import silent_weight
from models.daily_traffic import DailyTraffic
from models.examples import Examples, Verdict, begins_ms
from models.label_delay import LEAST_SHARE, LabelDelays, Ripening, learnt_as
from models.records import Policy
from models.state import ModelState
from models.threshold import Calibration

FEWEST_EXAMPLES: Final = 1_000
"""Fewer make no first generation, and no change of everything is believed by fewer."""
_STEADY: Final = 4
"""The mature rows of a steady stream span so many times the wait of silence."""
_FULL: Final = 0.75
"""Mature rows that span so much of what the memory can hold are as many as there will be."""
_COMMIT_SPANS_MS: Final = 3_600_000
"""A verdict's time is the clock of its commit, which spans up to an hour in a replay."""
_SOON: Final = LEAST_SHARE / 2
"""Legits come as soon as frauds where so many have a verdict by the age at which `LEAST_SHARE` of the frauds do."""


class Ripe(NamedTuple):
    """The examples of a generation, and what was found of them.

    Attributes
    ----------
    ripening
        As they are learnt.
    held_from_ms
        From which event time on nothing is learnt yet, because the stream is young; -1 for none of that.
    come_at_once
        Whether most verdicts are of decisions within the event time of one commit.
    """

    ripening: Ripening
    held_from_ms: int
    come_at_once: bool

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what the record of the generation says of them, by name."""
        legit = self.ripening.legit_delays
        return {
            "silent_weight": np.array([self.ripening.silent_weight]),
            "held_from_ms": np.array([self.held_from_ms], np.int64),
            "label_delays": self.ripening.delays.shares,
            # Where silence is legit it is so at once for all.
            **({} if legit is None else {"legit_delays": legit.shares}),
        }


class Memory(NamedTuple):
    """What a generation is made of, copied out of the state.

    Attributes
    ----------
    examples
        In log order.
    clock_ms
        Of the model.
    known_ms
        Of later moments no label is known, or not all: the clock, or before it where the feed of labels has fallen
        silent, or where a partition lags whose frauds are labelled and whose legits have not matured.
    since_ms
        Older examples are not learnt.
    policy, calibration
        In force.
    traffic
        Of each day.
    """

    examples: Examples
    clock_ms: int
    known_ms: int
    since_ms: int
    policy: Policy
    calibration: Calibration
    traffic: DailyTraffic

    @classmethod
    def of(cls, model: ModelState) -> Self:
        """Copy it."""
        clock_ms, policy = model.clock_ms or 0, model.policy
        slowest_ms = min(model.clocks_ms.values(), default=clock_ms)
        known_ms = clock_ms if clock_ms - slowest_ms <= _COMMIT_SPANS_MS else slowest_ms
        examples = model.examples.snapshot()[0]
        if policy.silence_is_legit and model.newest_label_ms is not None:
            halted_ms = model.newest_label_ms + policy.max_silence_ms
            if halted_ms < known_ms:
                known_ms = halted_ms
                # What has a verdict is known, though the clock was far ahead of the labels when they came.
                np.minimum(examples.verdict_ms, known_ms, out=examples.verdict_ms)
        since_ms = _since_ms(examples, clock_ms, known_ms, policy, is_first=model.online is None)
        # Of older transactions the verdicts on frauds have gone before those on legits.
        since_ms = max(since_ms, model.examples.complete_from_ms)
        traffic = model.daily_traffic.snapshot()
        return cls(examples, clock_ms, known_ms, since_ms, policy, model.calibration, traffic)

    def mature_frauds(self) -> int:
        """Return how many verdicts of fraud there are on decisions of which silence has spoken."""
        until_ms = self.known_ms - self.policy.negatives_after_ms
        return int(np.count_nonzero(_fraud_times_ms(self.examples, until_ms) >= self.since_ms))

    def ripen(self, change_ms: int = 0) -> Ripe:
        """Return the last verdicts of the memory, or of decisions since everything changed, as they are learnt by now.

        Of a steady stream, old enough, the young ones are among them that a label or silence has spoken of: as many
        frauds come by then as in any week, and beside all the mature rows they shift no prior. After a change of
        everything the stream is young again, but for what is known of the delays of labels.

        Parameters
        ----------
        change_ms
            As of `models.change_point`; 0 for no such moment.
        """
        recent = self.examples.for_generation(self.since_ms)
        delays = LabelDelays.measured(recent, self.known_ms)
        legit_delays = (
            None
            if self.policy.silence_is_legit
            else LabelDelays.measured(recent, self.known_ms, of_legits=True)
        )
        wait_ms = self._wait_ms(recent, delays, legit_delays)
        mature = recent.event_time_ms < self.known_ms - wait_ms
        old = recent.take(mature)
        silent = silent_weight(old, self.calibration)
        if change_ms:
            since = recent.event_time_ms >= change_ms
            recent, mature = recent.take(since), mature[since]
            old = recent.take(mature)
        longest_ms = min(_STEADY * wait_ms, _FULL * (self.policy.memory_ms - wait_ms))
        spans = _spans(old) >= longest_ms
        is_steady = spans or legits_come_as_soon(old, delays)
        learns_young = is_steady and self.known_ms == self.clock_ms
        chosen = (mature | learns_young) & ((recent.label != Verdict.ALERTED) | (silent > 0.0))
        known, chance = learnt_as(
            recent.take(chosen), mature[chosen], silent, self.calibration, delays, self.known_ms
        )
        # A moment later than the clock, so that the verdicts of the newest commit are known.
        ripening = Ripening(
            known,
            chance,
            delays,
            now_ms=self.known_ms + 1,
            wait_ms=wait_ms + 1,
            learns_young=learns_young,
            legit_delays=legit_delays,
            is_old=spans,
            silent_weight=silent,
            traffic=self.traffic if self.policy.silence_is_legit else None,
            silence_ms=self.policy.negatives_after_ms,
        )
        # The generation has learnt the decisions before; of a young stream, later ones are learnt as they grow old.
        held_from_ms = -1 if is_steady else self.known_ms - wait_ms
        return Ripe(ripening, held_from_ms, _come_at_once(recent))

    def _wait_ms(self, recent: Examples, delays: LabelDelays, legit_delays: LabelDelays | None) -> int:
        """Return the age at which an example is mature."""
        maturity_ms = [it.maturity_ms for it in (delays, legit_delays) if it is not None]
        wait_ms = max(self.policy.negatives_after_ms, *maturity_ms)
        mature = recent.label[recent.event_time_ms < self.known_ms - wait_ms]
        enough_frauds = np.count_nonzero(mature & Verdict.FRAUD) >= self.policy.min_frauds
        # With fewer, delays are not known yet, as when the first labels come all at once.
        return wait_ms if enough_frauds and len(mature) >= FEWEST_EXAMPLES else self.policy.negatives_after_ms


def _since_ms(examples: Examples, clock_ms: int, known_ms: int, policy: Policy, *, is_first: bool) -> int:
    """Return from when on examples are learnt: the memory, or longer where frauds are few.

    Where a first generation would never find enough frauds within the memory, because there are fewer than one in two
    days or because labels come later than that, older ones say more than none. Later generations reach back as far
    while there is any fraud within their memory: after a long silence of the labels the one in force stays.
    """
    since_ms = clock_ms - policy.memory_ms
    times_ms = np.sort(_fraud_times_ms(examples, known_ms - policy.negatives_after_ms))
    if not times_ms.size or not (is_first or times_ms[-1] >= since_ms):
        return since_ms
    return min(since_ms, int(times_ms[-min(policy.min_frauds, times_ms.size)]))


def _fraud_times_ms(examples: Examples, until_ms: int) -> NDArray[np.int64]:
    """Return the event times of verdicts of fraud on decisions before `until_ms`, int64 (k,)."""
    fraud = (examples.label & Verdict.FRAUD) != 0
    return np.asarray(examples.event_time_ms[fraud & (examples.event_time_ms < until_ms)])


def legits_come_as_soon(mature: Examples, delays: LabelDelays) -> bool:
    """Return whether the early verdicts, by a label or by silence, are of legits as much as of frauds."""
    legit = mature.take(np.flatnonzero(mature.label & Verdict.FRAUD == 0))
    soon = legit.verdict_ms - legit.event_time_ms <= delays.maturity_ms + _COMMIT_SPANS_MS
    return float(legit.weight[soon].sum()) >= _SOON * float(legit.weight.sum())


def _come_at_once(recent: Examples) -> bool:
    soon = recent.verdict_ms - recent.event_time_ms <= _COMMIT_SPANS_MS
    return float(recent.weight[soon].sum()) > 0.5 * float(recent.weight.sum())


def _spans(rows: Examples) -> int:
    return int(rows.event_time_ms[-1]) - begins_ms(rows.event_time_ms)
