"""States of a running worker that leave its decisions right but that a person should hear of.

Each is logged once when it begins and once when it ends; the metrics show it all the while.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from models.payoff import InForce
from models.records import Policy
from worker.moments import moment
from worker.parameters import by_setting, policy
from worker.settings.sections import Settings
from worker.telemetry.health import WorkerStatus

log = logging.getLogger(__name__)

_QUIET_S: Final = 600.0
"""A state that comes and goes is logged at most once in this time."""
_LABELS: Final = "labels of partition "
_AHEAD_MS: Final = 600_000
"""Labels always run a little ahead of the transactions; beyond this they are dated in the future."""
STANDSTILL_S: Final = 10.0
"""A rebalance in which every member answers takes less."""
CUT_OFF_S: Final = 5.0
"""After a long step of its own a worker hears from Kafka sooner: heartbeats are at most 3 s apart."""


@dataclass(frozen=True, slots=True)
class WaitingLabels:
    """The labels of one partition that were read and are not due yet.

    Attributes
    ----------
    count
        How many.
    first_due_ms
        When the first of them is due; 0 where none waits.
    clock_ms
        The partition's clock.
    read_all
        Whether all transactions are decided: then the clock does not move on by itself.
    """

    count: int
    first_due_ms: int
    clock_ms: int
    read_all: bool

    @property
    def ahead_ms(self) -> int:
        """How far the first label lies ahead of the clock; 0 where none waits."""
        return max(0, self.first_due_ms - self.clock_ms) if self.count else 0


@dataclass(frozen=True)
class Facts:
    """What the states follow from, after one cycle.

    Attributes
    ----------
    feed_halted
        Whether labels have been silent for so long that nothing matures.
    newest_label_ms
        Time of the newest label; None before the first.
    clock_ms
        The model's clock; None before the first transaction.
    online_lambda
        The online model's threshold in force, in reviews.
    policy
        What matured days have chosen.
    forest_is_limited
        Whether the isolation forest has spent most of its credit, or matured days speak against its alerts.
    held_back
        How many alerts of this cycle the budget held back.
    dated_ahead
        How many transactions of this cycle are dated too far ahead to move the clock.
    waiting
        By partition, the labels that wait.
    day_closed_ms
        The end of the newest closed day; None before the first.
    day_is_unlabelled
        Whether that day closed without a single label.
    """

    feed_halted: bool
    newest_label_ms: int | None
    clock_ms: int | None
    online_lambda: float
    policy: InForce
    forest_is_limited: bool
    held_back: int
    dated_ahead: int
    waiting: Mapping[int, WaitingLabels]
    day_closed_ms: int | None
    day_is_unlabelled: bool


class Conditions:
    """Logs the states as they begin and end.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._logged_s: dict[str, float] = {}
        self._holding: dict[str, object] = {}
        self._held_back = 0
        self._dated_ahead = 0

    def observe(self, facts: Facts) -> None:
        """Take note of the facts after one cycle."""
        self._held_back += facts.held_back
        self._feed(facts)
        self._budget(facts)
        self._policy(facts.policy)
        self._credit(facts)
        self._dates(facts)
        # A partition that another worker has now takes its state with it.
        owned = {_labels_of(partition) for partition in facts.waiting}
        for gone in {state for state in self._holding if state.startswith(_LABELS)} - owned:
            del self._holding[gone]
        for partition, waiting in facts.waiting.items():
            self._future(partition, waiting)
        self._day(facts)

    def _changes(self, state: str, holds: object) -> bool:
        """Return whether the state differs from the one logged, and the log may say so by now.

        `holds` is false where there is nothing to say, and else says what is the case.
        """
        if holds == self._holding.get(state, False):
            return False
        now_s = self._clock()
        if now_s - self._logged_s.get(state, -_QUIET_S) < _QUIET_S:
            return False
        self._logged_s[state] = now_s
        self._holding[state] = holds
        return True

    def _feed(self, facts: Facts) -> None:
        if not self._changes("label feed", facts.feed_halted):
            return
        if facts.feed_halted:
            newest = (
                "none has come"
                if facts.newest_label_ms is None
                else f"the newest is of {moment(facts.newest_label_ms)}"
            )
            log.warning(
                "the label feed is silent for longer than labels.max_silence_days (%s; the transactions have "
                "reached %s): nothing matures, so the model learns no legit decision and no day closes",
                newest,
                moment(facts.clock_ms),
            )
        else:
            log.info("labels come again: decisions mature")

    def _budget(self, facts: Facts) -> None:
        binds = facts.online_lambda > facts.policy.least_lambda
        if not self._changes("budget", binds):
            return
        if binds:
            log.warning(
                "costs.alert_budget_cases_per_day binds: the online model alerts from an expected loss of %.2f "
                "reviews on instead of %g; %d alerts held back",
                facts.online_lambda,
                facts.policy.least_lambda,
                self._held_back,
            )
        else:
            log.info("the alert budget binds no more; it held back %d alerts", self._held_back)
        self._held_back = 0

    def _policy(self, policy: InForce) -> None:
        usual = policy.least_lambda == 1.0 and not policy.forest_decides
        if not self._changes("policy", not usual and (policy.least_lambda, policy.forest_decides)):
            return
        if usual:
            log.info("the online model alerts from an expected loss of one review on again")
        elif policy.forest_decides:
            log.warning(
                "on matured days the isolation forest has brought more than the online model: it decides"
            )
        elif policy.least_lambda == inf:
            log.warning(
                "on matured days the alerts have cost more than they stopped: the online model alerts on nothing until "
                "they would pay again. Are costs.review_cost and costs.missed_fraud_fixed right?"
            )
        else:
            log.warning(
                "on matured days another threshold has brought more: the online model alerts from an expected loss of "
                "%g reviews on instead of 1",
                policy.least_lambda,
            )

    def _credit(self, facts: Facts) -> None:
        if not self._changes("credit", facts.forest_is_limited):
            return
        if facts.forest_is_limited:
            log.warning(
                "the isolation forest's alerts have cost nearly two days of costs.alert_budget_cases_per_day more than "
                "they stopped, or matured days say that they do not pay: it raises few or none until they do"
            )
        else:
            log.info("the isolation forest may raise alerts again")

    def _dates(self, facts: Facts) -> None:
        self._dated_ahead += facts.dated_ahead
        if not self._changes("dates", bool(facts.dated_ahead)):
            return
        if facts.dated_ahead:
            log.warning(
                "transactions are dated a day or more ahead of the others in their partition: they are decided as of "
                "the clock, %s, and do not move it. See to their producer's clock",
                moment(facts.clock_ms),
            )
        else:
            log.info("no transaction is dated far ahead any more; %d were", self._dated_ahead)

    def _future(self, partition: int, waiting: WaitingLabels) -> None:
        holds = waiting.read_all and waiting.ahead_ms > _AHEAD_MS
        if not self._changes(_labels_of(partition), holds):
            return
        if holds:
            log.warning(
                "partition %d: %d labels wait for their label_time, the first for %s; the transactions have reached %s",
                partition,
                waiting.count,
                moment(waiting.first_due_ms),
                moment(waiting.clock_ms),
            )
        else:
            log.info("partition %d: no label waits for a time in the future", partition)

    def _day(self, facts: Facts) -> None:
        if not self._changes("day", facts.day_is_unlabelled):
            return
        day = "none" if facts.day_closed_ms is None else moment(facts.day_closed_ms - 1)[:10]
        if facts.day_is_unlabelled:
            log.warning(
                "the day %s closed without a label: its recall, precision and cost are those of silence. Do labels "
                "come, and do they find their decisions?",
                day,
            )
        else:
            log.info("the day %s closed with labels", day)


class _Lasting:
    """A state that counts once it has lasted for so long.

    Parameters
    ----------
    least_s
        For how long.
    clock
        Monotonic seconds.
    """

    def __init__(self, least_s: float, clock: Callable[[], float]) -> None:
        self._least_s = least_s
        self._clock = clock
        self._since_s: float | None = None
        self._counts = False

    def begins(self) -> float | None:
        """Note that the state holds; return for how long it has, s, the first time that it counts."""
        now_s = self._clock()
        self._since_s = now_s if self._since_s is None else self._since_s
        if self._counts or now_s - self._since_s < self._least_s:
            return None
        self._counts = True
        return now_s - self._since_s

    def ends(self) -> float | None:
        """Note that the state does not hold; return for how long it has held, s, if it counted."""
        held_s = self._clock() - self._since_s if self._counts and self._since_s is not None else None
        self._since_s, self._counts = None, False
        return held_s


class Standstill:
    """Says so where a rebalance lasts: until every member has joined, no worker of the group decides anything.

    The end of the rebalance, and not this class, makes the worker ready again.

    Parameters
    ----------
    status
        Is set to not ready once the worker has stood still for `STANDSTILL_S`.
    clock
        Monotonic seconds.
    """

    def __init__(self, status: WorkerStatus, clock: Callable[[], float] = time.monotonic) -> None:
        self._status = status
        self._lasting = _Lasting(STANDSTILL_S, clock)

    def observe(self, *, stands: bool) -> None:
        """Take note after one cycle of whether the worker stands still."""
        if not stands:
            if (held_s := self._lasting.ends()) is not None:
                log.info("the group has rebalanced, after %.0f s", held_s)
        elif (holds_s := self._lasting.begins()) is not None:
            self._status.not_ready("the group rebalances: it waits for a worker that has not joined yet")
            log.warning(
                "the group has been rebalancing for %.0f s, and decides nothing meanwhile: it waits for a worker that "
                "has not joined yet. Does one restore, or hang? Kafka gives it kafka.max_poll_interval_s",
                holds_s,
            )


class CutOff:
    """Says so where Kafka no longer answers: the client looks for it without end, and finds no transaction meanwhile.

    Parameters
    ----------
    status
        Is not ready once the worker has been cut off for `CUT_OFF_S`.
    clock
        Monotonic seconds.
    """

    def __init__(self, status: WorkerStatus, clock: Callable[[], float] = time.monotonic) -> None:
        self._status = status
        self._lasting = _Lasting(CUT_OFF_S, clock)

    def observe(self, *, is_cut_off: bool) -> None:
        """Take note after one cycle of whether Kafka answers."""
        if not is_cut_off:
            if (held_s := self._lasting.ends()) is not None:
                self._status.cut_off(is_cut_off=False)
                log.info("Kafka answers again, after %.0f s", held_s)
        elif self._lasting.begins() is not None:
            self._status.cut_off(is_cut_off=True)
            log.warning(
                "Kafka does not answer any more: no transaction is decided until it does. Is a broker down, or the "
                "network?"
            )


class OtherSettings:
    """Says so where another worker's costs, horizons or bounds are in force: the newest start decides for the group.

    Only a start changes them, so that each change is logged, and no clock is needed.

    Parameters
    ----------
    settings
        This worker's.
    show
        Called with each change: whether those in force differ from these.
    """

    def __init__(self, settings: Settings, show: Callable[[bool], None]) -> None:
        self._group = settings.kafka.group
        self._own = self._seen = policy(settings)
        self._show = show

    def observe(self, in_force: Policy) -> None:
        """Take note after one cycle of the policy in force."""
        if in_force == self._seen:
            return
        self._seen = in_force
        self._show(in_force != self._own)
        if in_force == self._own:
            log.info("this worker's settings are in force again")
            return
        own = by_setting(self._own)
        differing = [
            f"{name} = {value} (here {own[name]})"
            for name, value in by_setting(in_force).items()
            if value != own[name]
        ]
        log.warning(
            "settings of another worker, which started later, are in force: %s. Give all workers of kafka.group = %r "
            "the same settings: the newest start decides for all of them",
            "; ".join(differing),
            self._group,
        )


def _labels_of(partition: int) -> str:
    return f"{_LABELS}{partition}"
