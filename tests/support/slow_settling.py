"""The oracle of settling: labels and silence, one decision after another, written from the design alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from models.ledger import ForestView, Truth
from models.records import Policy
from models.vocabulary import MS_PER_DAY, Decider, Flag, LabelEffect, LabelKind, Status

Example = tuple[int, int, float, int]
"""Sequence, label, weight, event time."""


@dataclass
class SlowDecision:
    """One decision and what is known of it."""

    sequence: int
    event_time_ms: int
    clock_ms: int
    loss: float
    legit_weight: float
    """Both by the policy of the decision."""
    flags: Flag
    entities: tuple[int, ...]
    status: Status = Status.WAITING
    acted: bool = False
    label_time_ms: int = 0
    evidence: tuple[str, int] | None = None
    """The verdict that its entities have learnt, and when."""

    def example(self, *, fraud: bool, weight: float) -> Example:
        label = 3 if fraud and self.flags & Flag.ALERTED else int(fraud)
        return self.sequence, label, weight, self.event_time_ms


class SlowSettling:
    """All decisions of a partition by their transaction id."""

    def __init__(self, policy: Policy, *, clears_alerts: bool = False) -> None:
        self.policy = policy
        self.clears_alerts = clears_alerts
        self.decisions: dict[str, SlowDecision] = {}
        self.newest_label_ms: int | None = None
        self.examples: list[Example] = []
        self._silent: set[int] = set()

    def label(self, name: str, kind: LabelKind, time_ms: int, clock_ms: int) -> LabelEffect:
        """Apply one label; a decision's evidence is learnt at `clock_ms`."""
        if kind is not LabelKind.OUTCOME:
            self.newest_label_ms = max(time_ms, self.newest_label_ms or time_ms)
        decision = self.decisions.get(name)
        if decision is None:
            return LabelEffect.ORPHAN
        if kind is LabelKind.OUTCOME:
            taught = decision.sequence in self._silent and not decision.acted
            decision.acted = True
            if taught and decision.status in (Status.WAITING, Status.UNRESOLVED):
                self.examples.append(decision.example(fraud=False, weight=0.0))
                decision.evidence = None
            if decision.status is Status.PROVISIONAL:
                self._waits_again(decision)
            return LabelEffect.NOTED
        later = time_ms > decision.label_time_ms
        if kind is LabelKind.FRAUD:
            effect, after = self._after_fraud(decision.status, later)
        else:
            effect, after = self._after_legit(decision.status, later, reversal=kind is LabelKind.REVERSAL)
        if after is not decision.status:
            self._becomes(decision, after, time_ms, clock_ms)
        elif effect is LabelEffect.DUPLICATE:
            decision.label_time_ms = max(time_ms, decision.label_time_ms)
        return effect

    @staticmethod
    def _after_fraud(status: Status, later: bool) -> tuple[LabelEffect, Status]:
        if status is Status.FRAUD or (status is Status.LEGIT and not later):
            return LabelEffect.DUPLICATE, status
        effects = {
            Status.WAITING: LabelEffect.MATCHED,
            Status.PROVISIONAL: LabelEffect.LATE,
            Status.LEGIT: LabelEffect.CONTRADICTING,
        }
        return effects.get(status, LabelEffect.AFTER_HORIZON), Status.FRAUD

    @staticmethod
    def _after_legit(status: Status, later: bool, *, reversal: bool) -> tuple[LabelEffect, Status]:
        if status is Status.FRAUD:
            effect = LabelEffect.REVERSED if reversal else LabelEffect.CONTRADICTING
            return (effect, Status.LEGIT) if later else (LabelEffect.DUPLICATE, status)
        if reversal:
            return LabelEffect.ORPHAN, status
        if status in (Status.WAITING, Status.PROVISIONAL):
            return LabelEffect.MATCHED, Status.LEGIT
        return LabelEffect.DUPLICATE if status is Status.LEGIT else LabelEffect.AFTER_HORIZON, status

    def _becomes(self, decision: SlowDecision, status: Status, time_ms: int, clock_ms: int) -> None:
        before, decision.status, decision.label_time_ms = decision.status, status, time_ms
        if status is Status.FRAUD:
            decision.evidence = ("fraud", clock_ms)
            self.examples.append(decision.example(fraud=True, weight=1.0))
        elif before is not Status.PROVISIONAL:
            if decision.evidence is None or before is Status.FRAUD:
                decision.evidence = ("legit", clock_ms)
            weight = 1.0 if before is Status.FRAUD else decision.legit_weight
            if weight:
                self.examples.append(decision.example(fraud=False, weight=weight))

    def _waits_again(self, decision: SlowDecision) -> None:
        """Take back what silence has taught: an example without weight replaces the one learnt."""
        decision.status, decision.evidence = Status.WAITING, None
        if decision.legit_weight:
            self.examples.append(decision.example(fraud=False, weight=0.0))

    def silence(self, clock_ms: int, newest_anywhere_ms: int | None = None) -> tuple[int, int]:
        """Apply silence; return how many became finally legit, and unresolved."""
        known = [time_ms for time_ms in (self.newest_label_ms, newest_anywhere_ms) if time_ms is not None]
        if not known:
            return 0, 0
        now_ms = min(clock_ms, max(known) + self.policy.max_silence_ms)
        for decision in self.decisions.values() if self.policy.silence_is_legit else ():
            no_one_acted = not decision.acted and not decision.flags & Flag.ALERTED
            old = decision.clock_ms <= now_ms - self.policy.negatives_after_ms
            if old and no_one_acted and decision.status is Status.WAITING:
                decision.status, decision.evidence = Status.PROVISIONAL, ("legit", clock_ms)
                if decision.legit_weight:
                    self.examples.append(
                        (decision.sequence, 4, decision.legit_weight, decision.event_time_ms)
                    )
        for decision in self.decisions.values() if self.policy.silence_is_legit else ():
            old = decision.clock_ms <= now_ms - self.policy.negatives_after_ms
            silent = decision.status is Status.WAITING and decision.flags & Flag.ALERTED
            if old and silent and not decision.acted and decision.sequence not in self._silent:
                self.examples.append((decision.sequence, 2, 1.0, decision.event_time_ms))
                self._silent.add(decision.sequence)
                if self.clears_alerts:
                    decision.evidence = ("legit", clock_ms)
        final = Counter[Status]()
        for decision in self.decisions.values():
            if decision.clock_ms <= now_ms - self.policy.horizon_ms:
                before = decision.status
                if before is Status.PROVISIONAL:
                    decision.status = Status.FINAL_LEGIT
                elif before is Status.WAITING:
                    decision.status = Status.UNRESOLVED
                final[decision.status] += before is not decision.status
        return final[Status.FINAL_LEGIT], final[Status.UNRESOLVED]

    def evidence(self) -> dict[tuple[int, int, int], tuple[int, int]]:
        """Return frauds and legits in force, by place and hash of the entity and the time they were learnt."""
        total: dict[tuple[int, int, int], tuple[int, int]] = {}
        for decision in self.decisions.values():
            if decision.evidence is not None:
                verdict, at_ms = decision.evidence
                for place, entity in enumerate(decision.entities):
                    frauds, legits = total.get((place, entity, at_ms), (0, 0))
                    key = (place, entity, at_ms)
                    total[key] = (frauds + (verdict == "fraud"), legits + (verdict == "legit"))
        return total

    def payoff(self) -> dict[tuple[int, str], tuple[float, ...]]:
        """Return sums by day, of alerting on everything and of the forest.

        Cases, silent cases, and losses stopped of frauds that were alerted and of missed ones.
        """
        total: dict[tuple[int, str], tuple[float, ...]] = {}
        for decision in self.decisions.values():
            flags, day = decision.flags, min(decision.event_time_ms, decision.clock_ms) // MS_PER_DAY
            by_forest = int(flags & Flag.DECIDER) == Decider.FOREST
            known = decision.status not in (Status.WAITING, Status.UNRESOLVED)
            silent = not known and decision.sequence in self._silent and not decision.acted
            for policy, would, opens, stands_for in (
                ("all", True, bool(flags & Flag.FIRST_OF_WINDOW), 1),
                (
                    "forest",
                    bool(flags & Flag.FOREST_WOULD_ALERT),
                    bool(flags & Flag.OPENS_FOREST_CASE),
                    1 if by_forest else 8,
                ),
                ("own", by_forest and bool(flags & Flag.ALERTED), False, 1),
            ):
                if policy == "own" and not flags & Flag.FOREST_WOULD_ALERT:
                    continue
                stopped = stands_for * decision.loss * (would and decision.status is Status.FRAUD)
                alerted = bool(flags & Flag.ALERTED)
                row = (
                    stands_for * float(opens and known),
                    stands_for * float(opens and silent),
                    stopped * alerted,
                    stopped * (not alerted),
                )
                before = total.get((day, policy), (0.0,) * 4)
                total[day, policy] = tuple(sum(pair) for pair in zip(before, row, strict=True))
        return {key: sums for key, sums in total.items() if any(sums)}

    def ledger(self) -> dict[tuple[int, ...], tuple[float, ...]]:
        """Return sums of the settled decisions by day and cell: count, loss, cases, windows, settled by a label."""
        truths = {
            Status.FRAUD: (Truth.FRAUD, True),
            Status.LEGIT: (Truth.LEGIT, True),
            Status.FINAL_LEGIT: (Truth.LEGIT, False),
            Status.UNRESOLVED: (Truth.UNRESOLVED, False),
        }
        total: dict[tuple[int, ...], tuple[float, ...]] = {}
        for decision in self.decisions.values():
            if decision.status in truths:
                truth, labelled = truths[decision.status]
                key = (
                    min(decision.event_time_ms, decision.clock_ms) // MS_PER_DAY,
                    *cell(decision.flags),
                    truth,
                )
                row = (
                    1.0,
                    decision.loss,
                    float(bool(decision.flags & Flag.OPENS_CASE)),
                    float(bool(decision.flags & Flag.FIRST_OF_WINDOW)),
                    float(labelled),
                )
                before = total.get(key, (0.0,) * len(row))
                total[key] = tuple(one + other for one, other in zip(before, row, strict=True))
        return total


def cell(flags: Flag) -> tuple[int, int, int, int, int]:
    """Return decider, alerted, would the online model alert, what the forest would do, would the challenger alert."""
    view = ForestView.UNSCORED
    if flags & Flag.FOREST_SCORED:
        view = ForestView.WOULD_ALERT if flags & Flag.FOREST_WOULD_ALERT else ForestView.WOULD_PASS
    online = int(bool(flags & Flag.ONLINE_WOULD_ALERT))
    challenger = int(bool(flags & Flag.CHALLENGER_WOULD_ALERT))
    return Decider(int(flags & Flag.DECIDER)), int(bool(flags & Flag.ALERTED)), online, view, challenger
