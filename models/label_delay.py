"""How long frauds take to be labelled, and what silence is worth until then.

Silence of a week is learnt as legit, yet chargebacks take weeks: of the frauds of last week many are still silent.
Rates and probabilities fitted to what is known by now are too low by as much. Two corrections undo that (as the
importance weights of delayed feedback do: Ktena et al. 2019). A known fraud of an age at which a share G of all frauds
is labelled stands for 1 / G frauds. And a silent decision that the model gave the probability p of fraud is legit with
probability (1 - p) / (1 - p G): it is learnt with that weight.

G comes from the frauds in memory. Those of last week can only show short delays, so the share is built backwards, from
the longest delay to the shortest, by the hazard of each delay among the frauds old enough to show it (the product limit
in reversed time for right-truncated data: Lawless 1994).

An analyst answers an alert within hours, while a fraud that no one saw is charged back after weeks. So there are two G,
one of the frauds that were alerted and one of the missed ones: with one for both, caught frauds would stand for too
many and missed ones for too few. Where few of a kind are known, what is known of all stands in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.alert_silence import resolved
from models.arithmetic import exp
from models.bins import read_only
from models.daily_traffic import DailyTraffic
from models.examples import Examples, Verdict, begins_ms
from models.generation import TrainingRows
from models.threshold import Calibration

_HOUR_MS: Final = 3_600_000
HOURS: Final = 120 * 24
"""Every fraud counts as labelled by that age."""
_PRIOR_FRAUDS: Final = 10.0
"""Frauds without any that came late, with which each hazard begins: few labels change nothing."""
_OF_ALL: Final = 10.0
"""What all frauds say of a kind, alerted or missed, counts for as much as so many frauds of that kind."""
LEAST_SHARE: Final = 0.25
"""No fraud stands for more than four; days of which fewer are labelled say too little to judge by."""
_CLEARED: Final = 0.5
_CLEARED_LABELLED: Final = 0.9
"""From this weight of a silent alert on, and this share of labelled frauds, its entities learn it as legit, too.

Near a share that a feed has by then it would go to and fro from one generation to the next.
"""
_MOST_CHANCE: Final = 0.999
"""A decision that is all but certainly a fraud is still a little legit when nothing is said."""


@dataclass(frozen=True, slots=True)
class LabelDelays:
    """The share of frauds that are labelled by their age.

    Attributes
    ----------
    shares : float64 (2, 2880)
        Of the missed frauds and of the alerted ones, by the end of each hour of age; rising to 1.
    """

    shares: NDArray[np.float64]

    @classmethod
    def none(cls) -> LabelDelays:
        """Return what holds before any label has come: silence is believed."""
        return cls(np.ones((2, HOURS)))

    @classmethod
    def measured(cls, examples: Examples, now_ms: int, *, of_legits: bool = False) -> LabelDelays:
        """Measure the frauds among the examples, or the legits by a label, as of `now_ms`.

        Each counts for those that it stands for: of the sampled ones more come late than of those kept whole. The
        examples have all the bits of `Verdict`; a legit by a label does not say whether it was alerted.
        """
        of_kind = examples.label == 0 if of_legits else (examples.label & Verdict.FRAUD) != 0
        found = np.flatnonzero(of_kind & (examples.verdict_ms <= now_ms))
        begun_ms, alerted = examples.event_time_ms[found], verdicts(examples.label[found])[1]
        delay, age = _hours(examples.verdict_ms[found] - begun_ms), _hours(now_ms - begun_ms)
        weight = examples.weight[found].astype(np.float64)
        of_all = _shares(delay, age, _counts(weight))
        shares = []
        for kind in (~alerted, alerted):
            counts = _counts(weight[kind])
            count = counts.sum()
            own = count * _shares(delay[kind], age[kind], counts)
            shares.append((own + _OF_ALL * of_all) / (count + _OF_ALL))
        return cls(np.stack(shares))

    @property
    def maturity_ms(self) -> int:
        """The age, in whole hours, at which `LEAST_SHARE` of each kind are labelled: then silence can be corrected."""
        return max(int(np.searchsorted(of_kind, LEAST_SHARE)) for of_kind in self.shares) * _HOUR_MS

    def labelled_by(
        self, age_ms: NDArray[np.int64], alerted: NDArray[np.bool_] | bool
    ) -> NDArray[np.float64]:
        """Return the share of each age among the frauds that were alerted, or not; float64 (n,)."""
        return self.shares[np.asarray(alerted).astype(np.intp), _hours(age_ms)]


def clears_alerts(silent_weight: float, delays: LabelDelays, wait_ms: int) -> bool:
    """Return whether an alert that is silent for so long is evidence that its entities are legit.

    They hold whole payments: what is learnt must be likely, and nearly all alerted frauds labelled by then. Where
    labels take longer, many of the alerts that are still silent are frauds.
    """
    labelled = delays.labelled_by(np.array([wait_ms]), alerted=True)[0]
    return bool(silent_weight >= _CLEARED and labelled >= _CLEARED_LABELLED)


def _counts(weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights that sum to as many rows of one weight as would say as much (Kish 1965), float64 (n,)."""
    squares = float(np.square(weight).sum())
    return weight * (float(weight.sum()) / squares if squares else 0.0)


def _shares(
    delay: NDArray[np.int64], age: NDArray[np.int64], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the share labelled by the end of each hour of age, float64 (2880,), of n frauds: both in hours.

    Each of them counts for so many.
    """
    came, reached = (np.bincount(it, counts, minlength=HOURS) for it in (delay, age))
    # Of those that came within an hour's delay or sooner, the ones that are old enough for it.
    at_risk = np.cumsum(came) - (np.cumsum(reached) - reached)
    stays = np.log1p(-came / (np.maximum(at_risk, came) + _PRIOR_FRAUDS))
    after = np.cumsum(stays[::-1])[::-1] - stays
    return np.asarray(np.exp(after), np.float64)


def _hours(ms: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.clip(ms // _HOUR_MS, 0, HOURS - 1)


def chance_of_fraud(examples: Examples, calibration: Calibration) -> NDArray[np.float64]:
    """Return the probability that each decision had been given, float64 (n,).

    It is 0 where nothing had scored it, and where a label had said that it is legit before silence did.
    """
    chance = np.empty(len(examples))
    unsaid = examples.label != 0
    _chances(read_only(examples.logit), unsaid, calibration.slope, calibration.intercept, chance)
    return chance


def consistent(examples: Examples, calibration: Calibration, delays: LabelDelays, now_ms: int) -> Calibration:
    """Return the calibration with the intercept by which as many frauds are expected as the known ones stand for.

    A calibration that is too high would believe too little in silence, and so prove itself right.

    Parameters
    ----------
    examples
        Old enough that silence has spoken of them; silent alerts have their weight.
    calibration
        In force.
    delays, now_ms
        What the known frauds stand for as of now.
    """
    scored = np.isfinite(examples.logit) & (examples.weight > 0)
    weight = examples.weight[scored].astype(np.float64)
    logit = examples.logit[scored].astype(np.float64)
    fraud, alerted = verdicts(examples.label[scored])
    share = delays.labelled_by(now_ms - examples.event_time_ms[scored], alerted)
    expected = float(np.dot(weight[fraud], 1.0 / np.maximum(share[fraud], LEAST_SHARE)))
    return calibration.expecting(expected, logit, weight)


def verdicts(label: NDArray[np.uint8]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which of n labels, bits of `Verdict`, are of frauds, and which of alerts; bool (n,)."""
    return label & np.uint8(Verdict.FRAUD) > 0, label & np.uint8(Verdict.ALERTED) > 0


def belief_in_silence(chance: NDArray[np.float64], share: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probability that silent decisions are legit, float64 (n,).

    Parameters
    ----------
    chance : float64 (n,)
        Of fraud, as of the decision.
    share : float64 (n,)
        Of frauds that would be labelled by now, alerted ones or not as the decision is.
    """
    return (1.0 - chance) / (1.0 - chance * share)


def weight_online(
    examples: Examples, chance: NDArray[np.float64], delays: LabelDelays
) -> NDArray[np.float64]:
    """Return the weights with which verdicts are learnt as they come, float64 (n,).

    Parameters
    ----------
    examples
        Silent alerts have their weight.
    chance : float64 (n,)
        As of `chance_of_fraud`.
    delays
        Of frauds.
    """
    fraud, alerted = verdicts(examples.label)
    share = delays.labelled_by(examples.verdict_ms - examples.event_time_ms, alerted)
    return examples.weight.astype(np.float64) * np.where(fraud, 1.0, belief_in_silence(chance, share))


def learnt_as(
    examples: Examples,
    mature: NDArray[np.bool_],
    silent_weight: float,
    calibration: Calibration,
    delays: LabelDelays,
    now_ms: int,
) -> tuple[Examples, NDArray[np.float64]]:
    """Return examples as they are learnt (`models.alert_silence.resolved`), and the chance that each is a fraud.

    Parameters
    ----------
    examples
        With the bits of `Verdict`.
    mature : bool (n,)
        Those old enough that silence has spoken of them.
    silent_weight
        Of silent alerts.
    calibration
        In force.
    delays, now_ms
        As of `Ripening`.
    """
    known = resolved(examples, silent_weight)
    believed = consistent(known.take(mature), calibration, delays, now_ms)
    return known, chance_of_fraud(examples, believed)


@dataclass(frozen=True, slots=True)
class Ripening:
    """Examples, and what is known of them at any moment.

    Attributes
    ----------
    examples
        Silent alerts have their weight; in transaction order.
    chance : float64 (n,)
        As of `chance_of_fraud`.
    delays
        Of frauds.
    now_ms
        The clock.
    wait_ms
        The age at which a decision is mature: silence has spoken of it, and of frauds enough are labelled.
    learns_young
        Whether the labels of younger decisions are learnt: there are enough mature ones that these shift no prior.
    legit_delays
        Of all legits; None where silence says that a decision is legit.
    is_old
        Whether so much has matured that a moment of the past knew enough, too; without it the stream is young.
    silent_weight
        With which an alert is learnt as legit that no label has answered yet, see `models.alert_silence`.
    traffic
        By which verdicts of young decisions are weighed; None where nothing is learnt by silence.
    silence_ms
        The age at which silence speaks of a decision.
    """

    examples: Examples
    chance: NDArray[np.float64]
    delays: LabelDelays
    now_ms: int
    wait_ms: int
    learns_young: bool = False
    legit_delays: LabelDelays | None = None
    is_old: bool = False
    silent_weight: float = 1.0
    traffic: DailyTraffic | None = None
    silence_ms: int = 0

    @property
    def mature_rows(self) -> int:
        """How many examples are mature by now."""
        return len(self.mature_at(self.now_ms))

    def mature_at(self, now_ms: int) -> NDArray[np.int64]:
        """Return the rows that are mature at a moment."""
        return np.arange(np.searchsorted(self.examples.event_time_ms, now_ms - self.wait_ms))

    def in_order(self, now_ms: int, most: int | None = None) -> TrainingRows:
        """Return what is known at a moment, in the order in which the tables learn it; of it the newest `most` rows.

        A verdict that came sooner than `wait_ms` after its decision, by a label or by silence, is learnt among those
        that came at the same time, as it is when a worker learns online: learnt last, the newest frauds would raise
        every score that follows. Of the first days, such decisions keep their place.
        """
        event_ms, verdict_ms = self.examples.event_time_ms, self.examples.verdict_ms
        mature = len(self.mature_at(now_ms))
        if not self.learns_young:
            return self.known_at(now_ms, np.arange(mature)[-(most or mature) :])
        rows = np.arange(np.searchsorted(event_ms, now_ms))
        rows = rows[(rows < mature) | (verdict_ms[rows] < now_ms)]
        place_ms = np.minimum(event_ms[rows], verdict_ms[rows] - self.wait_ms)
        place_ms = np.where(place_ms < begins_ms(event_ms), event_ms[rows], place_ms)
        rows = rows[np.argsort(place_ms, kind="stable")]
        rows = rows[-(most or len(rows)) :]
        known = self.known_at(now_ms, rows)
        return known._replace(w=np.where(rows < mature, known.w, self._weights_online(rows)))

    def known_at(self, now_ms: int, rows: NDArray[np.int64]) -> TrainingRows:
        """Return some rows as they are known at a moment: what is labelled later is silent yet."""
        age_ms = now_ms - self.examples.event_time_ms[rows]
        is_known = self.examples.verdict_ms[rows] < now_ms
        fraud, alerted = verdicts(self.examples.label[rows])
        # One that is never labelled has its weight already: what labels say later must make no difference. Of legits,
        # only one that silence had not made legit has a label of its own: an alert, or one that someone acted on.
        by_label = (self.examples.label[rows] == 0) | (fraud & alerted)
        silent_yet = by_label & ~is_known
        fraud &= is_known
        share = self.delays.labelled_by(age_ms, alerted)
        if self.legit_delays is None:
            legit = belief_in_silence(self.chance[rows], share)
        else:
            legit = is_known / np.maximum(self.legit_delays.labelled_by(age_ms, alerted=False), LEAST_SHARE)
        weight = self.examples.weight[rows].astype(np.float64)
        weight *= np.where(fraud, 1.0 / np.maximum(share, LEAST_SHARE), legit)
        weight[silent_yet] *= self.silent_weight
        return TrainingRows(self.examples.features[rows], fraud.view(np.uint8), weight)

    def in_hindsight(self) -> Ripening:
        """Return the mature examples as if the verdicts of now had come at once, each worth what it is worth now."""
        rows = self.mature_at(self.now_ms)
        known, examples = self.known_at(self.now_ms, rows), self.examples.take(rows)
        at_once = replace(
            examples,
            label=np.where(known.y == 1, examples.label, examples.label & ~np.uint8(Verdict.FRAUD)),
            weight=known.w.astype(np.float32),
            verdict_ms=examples.event_time_ms,
        )
        return Ripening(at_once, np.zeros(len(rows)), LabelDelays.none(), self.now_ms, wait_ms=0)

    def at_times(self, time_ms: NDArray[np.int64]) -> Ripening:
        """Return the examples with other times, int64 (n,), ascending; their verdicts come at once."""
        return replace(self, examples=replace(self.examples, event_time_ms=time_ms, verdict_ms=time_ms))

    def verdicts_between(self, from_ms: int, until_ms: int) -> TrainingRows:
        """Return the rows whose verdict came then, as they are learnt online, in the order of their verdicts.

        Frauds are labelled sooner than silence speaks: in the order of transactions they would come last, and raise
        the scores that follow. A young stream holds them until silence has spoken of their time
        (`models.state.ModelState.held_from_ms`).
        """
        learnt_ms = self.examples.verdict_ms
        if not self.learns_young:
            learnt_ms = np.maximum(learnt_ms, self.examples.event_time_ms + self.wait_ms)
        rows = np.flatnonzero((learnt_ms >= from_ms) & (learnt_ms < until_ms))
        return self._learnt_online(rows[np.argsort(learnt_ms[rows], kind="stable")])

    def _learnt_online(self, rows: NDArray[np.int64]) -> TrainingRows:
        """Return some rows as a worker learns them when their verdict comes."""
        fraud, _ = verdicts(self.examples.label[rows])
        return TrainingRows(self.examples.features[rows], fraud.view(np.uint8), self._weights_online(rows))

    def _weights_online(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        # Not from features, which are most of the memory that a copy of the rows takes.
        some = replace(self.examples, features=self.examples.features[:, :0]).take(rows)
        weight = weight_online(some, self.chance[rows], self.delays)
        return weight if self.traffic is None else weight * self.traffic.weights(some, self.silence_ms)


@njit(cache=True, nogil=True)
def _chances(
    logit: NDArray[np.float32],
    unsaid: NDArray[np.bool_],
    slope: float,
    intercept: float,
    out: NDArray[np.float64],
) -> None:
    # The plain exp: folds use it.
    for i in range(len(logit)):
        z = slope * np.float64(logit[i]) + intercept
        out[i] = (
            _MOST_CHANCE / (1.0 + exp(-min(max(z, -50.0), 50.0))) if unsaid[i] and np.isfinite(z) else 0.0
        )
