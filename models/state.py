"""The model state: a fold of the model log, bit-identical in every worker that has folded the same offsets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.alert_silence import resolved
from models.anomaly import FlatForest
from models.blend import Blend, Parts
from models.candidates import Choice
from models.challenger import Challenger
from models.daily_traffic import DailyTraffic
from models.digest import DigestHistory, digest_of
from models.example_buffer import FILLED, ExampleBuffer
from models.examples import Examples, Verdict
from models.feature_layout import FeatureLayout
from models.features import SharedAggregates
from models.inflow import Amounts, Inflow
from models.label_delay import LabelDelays, chance_of_fraud, verdicts, weight_online
from models.ledger import Ledger
from models.payoff import CREDIT_SHARE, Matured, Payoffs
from models.payoff_deltas import JOINS_FROM
from models.records import Commit, Digest, Lineage, ModelRecord, Policy, Refit
from models.threshold import SHORTEST_DAYS, AlertBudget, Calibration, Thresholds
from models.vocabulary import MS_PER_DAY

_WOULD_ALERT: Final = 2.0
"""Rows that either decider would alert on, for each alert: what is not alerted but would be, is kept whole, too."""
_MOST_WHOLE: Final = 0.5
"""The share of the buffer's room that is left to what is kept whole: beyond that, the buffer samples it."""
_MANY_FRAUDS: Final = 0.1
"""Frauds that fill so much of the buffer are many: then of as many examples the newest are worth most."""
_REACH_DAYS: Final = 42.0
"""So far back, and by the wait of silence, it must reach all the same: three weeks that a search judges, and as many
before them to learn from."""


class LineageMismatchError(Exception):
    """The log was written under another lineage; the message names what differs."""


@dataclass(frozen=True, slots=True)
class GenerationStart:
    """When the generation in force began.

    Attributes
    ----------
    offset, clock_ms
        Of its record, and the model log's clock when its job was made.
    frauds_learnt
        How many frauds the state had learnt.
    change_ms
        Since when it has learnt, because everything changed then (`models.change_point`); 0 for all of the memory.
    """

    offset: int
    clock_ms: int
    frauds_learnt: int
    change_ms: int = 0


@dataclass(frozen=True, slots=True)
class ForestStart:
    """When the forest in force began.

    Attributes
    ----------
    clock_ms
        The model log's clock when its job was made.
    traffic_seen
        How many transactions the state had folded.
    """

    clock_ms: int
    traffic_seen: int


class ModelState:
    """Everything that all workers agree on; `fold` alone changes it.

    It holds the aggregates of shared entities, the label evidence, the online model with its calibration, the
    isolation forest, the alert budget, the cost ledger, and the examples for the next generation.

    Parameters
    ----------
    lineage
        Of this worker's settings; a fold rejects a log of another lineage.
    policy
        In force until the log carries one.
    digest_every
        How many log offsets lie between two digests.
    """

    def __init__(self, lineage: Lineage, policy: Policy, digest_every: int) -> None:
        self.lineage = lineage
        self.policy = policy
        self.layout = FeatureLayout.from_spec(lineage.spec)
        self.shared = SharedAggregates(lineage.spec, policy.max_entities)
        self.examples = ExampleBuffer(policy.max_examples, len(self.layout.names))
        self.inflow = Inflow()
        self.daily_traffic = DailyTraffic()
        self.budget = AlertBudget()
        self.ledger = Ledger()
        self.payoffs = Payoffs()
        self.online: Blend | None = None
        self.challenger: Challenger | None = None
        self.choice: Choice | None = None
        self.calibration = Calibration()
        self.silent_weight = 0.0
        """With which a silent alert is learnt as legit; see `models.alert_silence`."""
        self.delays = LabelDelays.none()
        """Of the frauds' labels, as of the generation in force."""
        self.legit_delays: LabelDelays | None = None
        """Of the legits' labels, where silence is unknown; None where it is legit."""
        self.held_from_ms: int | None = None
        """Verdicts on decisions since then are held until silence speaks of them; None while each is learnt at once."""
        self.forest: FlatForest | None = None
        self.clocks_ms: dict[int, int] = {}
        self.newest_label_ms: int | None = None
        self.frauds_learnt = 0
        self.weight_learnt = 0.0
        self.traffic_seen = 0
        self.first_clock_ms: int | None = None
        """Of the first commit."""
        self.generation: GenerationStart | None = None
        self.forest_fitted: ForestStart | None = None
        self.offset = -1
        self.has_lineage = False
        self.policy_offset = -1
        """The offset of the policy in force; -1 while the log carries none."""
        self._lineage_id = lineage.id
        self._sample_one_in = 1
        self._digest_every = digest_every
        self.digests = DigestHistory()

    @property
    def version(self) -> str:
        """The name of this state: it gives the point of the log up to which a fold rebuilds it."""
        return f"{self._lineage_id}-{self.offset}"

    @property
    def clock_ms(self) -> int | None:
        """The highest clock of any partition; None before the first commit."""
        return max(self.clocks_ms.values(), default=None)

    @property
    def online_is_trusted(self) -> bool:
        """Whether the online model decides: it exists, has learnt enough frauds, and the rate of its scores is known.

        Until it has scored for an hour of event time, the rate is not known, and so not what a budget allows.
        """
        if self.online is None or self.frauds_learnt < self.policy.min_frauds:
            return False
        unlimited = self.policy.costs.alert_budget_cases_per_day is None
        return unlimited or self.budget.online_elapsed_days >= SHORTEST_DAYS

    @property
    def sample_one_in(self) -> int:
        """Legit decisions kept as examples: at least 1 in n. The policy's, or what traffic and memory allow."""
        fixed = self.policy.sample_one_in
        return self._sample_one_in if fixed is None else fixed

    @property
    def prevalence(self) -> float:
        """The share of frauds among all decisions learnt so far; NaN before the first."""
        return self.frauds_learnt / self.weight_learnt if self.weight_learnt else float("nan")

    @property
    def online_decides(self) -> bool:
        """Whether the online model decides: it is trusted, and the forest has not brought more."""
        return self.online_is_trusted and not self.payoffs.in_force.forest_decides

    def thresholds(self, now_ms: int | None = None) -> Thresholds:
        """Return the thresholds in force as of the clock, or as of `now_ms` where that is later."""
        budget, costs = self.budget, self.policy.costs
        least = self.payoffs.in_force.least_lambda
        return Thresholds(
            budget.online_lambda(costs, now_ms, least),
            budget.forest_cut(costs, now_ms, self.forest_cases_per_day),
            budget.forest_cut(costs, now_ms),
            JOINS_FROM if np.isfinite(least) else np.inf,
        )

    @property
    def forest_cases_per_day(self) -> float:
        """How many cases a day the forest may open; 0 without a budget: then it never alerts."""
        wait_days = self.policy.negatives_after_ms / MS_PER_DAY
        usual_cases = self.budget.cases_of(CREDIT_SHARE)
        return self.payoffs.forest_cases_per_day(self.policy.costs, wait_days, usual_cases)

    def fold(self, offset: int, record: ModelRecord) -> None:
        """Fold the log's next record.

        Parameters
        ----------
        offset
            Of the record; greater than any folded before.
        record
            As a worker wrote it.

        Raises
        ------
        LineageMismatchError
            If the log contradicts this state: the worker must stop.
        """
        match record:
            case Lineage():
                self._fold_lineage(record)
            case Policy():
                self._fold_policy(offset, record)
            case Commit():
                self._fold_commit(offset, record)
            case Refit():
                self._fold_refit(offset, record)
        # Transaction markers take offsets too, so a multiple of `digest_every` may be no record's offset.
        due = offset // self._digest_every > self.offset // self._digest_every
        self.offset = offset
        if due:
            self.digests.remember(Digest(offset, self.digest()))

    def digest(self) -> str:
        """Return a hash of every number of the state, see `digest_of`; of the examples count and weight only."""
        return digest_of(self._parts())

    def _parts(self) -> list[tuple[str, Mapping[str, NDArray[np.generic]]]]:
        counts = np.array(
            [
                self.frauds_learnt, self.traffic_seen, len(self.examples), self.newest_label_ms or -1,
                self._sample_one_in, self.first_clock_ms or -1, -1 if self.held_from_ms is None else self.held_from_ms,
                *self.examples.kept_one_in, self.examples.complete_from_ms,
            ]
        )  # fmt: skip
        clocks = np.array(sorted(self.clocks_ms.items()), np.int64)
        numbers = np.array(
            [
                self.calibration.slope,
                self.calibration.intercept,
                self.silent_weight,
                self.weight_learnt,
                *self.inflow.numbers(),
            ]
        )
        starts = [start for start in (self.generation, self.forest_fitted) if start is not None]
        offsets = np.array([*(number for start in starts for number in astuple(start)), self.policy_offset])
        # Until the log carries a policy, each worker uses that of its own settings: the digest leaves it out.
        policy = json.dumps(self.policy.to_json() if self.policy_offset >= 0 else None, sort_keys=True)
        return [
            ("shared", self.shared.arrays()),
            ("daily traffic", self.daily_traffic.arrays()),
            ("budget", self.budget.arrays()),
            ("ledger", self.ledger.arrays()),
            ("payoffs", self.payoffs.arrays()),
            ("online", self.online.arrays() if self.online is not None else {}),
            ("challenger", self.challenger.arrays() if self.challenger is not None else {}),
            ("choice", self.choice.arrays() if self.choice is not None else {}),
            ("forest", self.forest.arrays() if self.forest is not None else {}),
            ("delays", {"shares": self.delays.shares}),
            ("legit delays", {} if self.legit_delays is None else {"shares": self.legit_delays.shares}),
            ("state", {"counts": counts, "clocks": clocks, "numbers": numbers, "offsets": offsets}),
            ("policy", {"json": np.frombuffer(policy.encode(), np.uint8)}),
        ]

    def _fold_lineage(self, theirs: Lineage) -> None:
        self.has_lineage = True
        ours, written = self.lineage.describe(), theirs.describe()
        differing = [name for name in {**ours, **written} if ours.get(name) != written.get(name)]
        if differing:
            raise LineageMismatchError(
                "; ".join(
                    f"{name}: log {written.get(name)!r}, settings {ours.get(name)!r}" for name in differing
                )
            )

    def _fold_policy(self, offset: int, policy: Policy) -> None:
        if self.policy_offset >= 0 and not policy.compares_like(self.policy):
            self.payoffs.begin_again(self.clock_ms or 0)
        self.policy, self.policy_offset = policy, offset
        self.shared.bound(policy.max_entities)
        self.examples.bound(policy.max_examples)

    def _fold_commit(self, offset: int, commit: Commit) -> None:
        self.digests.compare(commit.worker, commit.digest)
        for partition, clock_ms in commit.clocks_ms.items():
            self.clocks_ms[partition] = max(clock_ms, self.clocks_ms.get(partition, clock_ms))
        if commit.newest_label_ms is not None:
            self.newest_label_ms = max(commit.newest_label_ms, self.newest_label_ms or commit.newest_label_ms)
        traffic, evidence, examples = commit.traffic, commit.evidence, commit.examples
        self.traffic_seen += len(traffic)
        self.shared.fold_transactions(traffic.entities, traffic.event_time_ms)
        self.shared.fold_evidence(
            evidence.hashes,
            evidence.frauds.astype(np.float64),
            evidence.legits.astype(np.float64),
            evidence.at_ms,
        )
        self.daily_traffic.fold(traffic.event_time_ms, self.clock_ms or 0)
        self._keep(commit, offset)
        self.frauds_learnt += int(np.count_nonzero(examples.label & Verdict.FRAUD))
        self.weight_learnt += _said(examples)
        self._learn(examples, offset)
        self._fold_money(commit)

    def _learn(self, examples: Examples, since_offset: int) -> None:
        """Learn what the log has from an offset on; of a young stream what has grown old enough by now.

        While a stream is young, its features grow as entities become known: frauds that are labelled within days would
        come before the legits of their time, and say that what is new is fraud.
        """
        if self.held_from_ms is not None:
            ripe_ms = max(self.verdicts_until_ms or self.held_from_ms, self.held_from_ms)
            held = self.examples.of_times(self.held_from_ms, ripe_ms, since_offset)
            # Of a verdict that was overruled while it was held nothing is learnt.
            self._learn_now(held.last_verdicts())
            self.held_from_ms = ripe_ms
            examples = examples.take(np.flatnonzero(examples.event_time_ms < ripe_ms))
        self._learn_now(examples)

    def _learn_now(self, examples: Examples) -> None:
        if self.online is not None and len(examples):
            known = resolved(examples, self.silent_weight)
            # What silence is worth until a fraud is labelled: nothing where it is unknown.
            delays = self.delays if self.legit_delays is None else LabelDelays.none()
            weight = weight_online(known, chance_of_fraud(known, self.calibration), delays)
            if self.legit_delays is None:
                weight *= self.daily_traffic.weights(known, self.policy.negatives_after_ms)
            label = verdicts(known.label)[0].view(np.uint8)
            self.online.learn_batch(known.features, label, weight)
            parts = Parts(known.tables_logit.astype(np.float64), known.trees_logit.astype(np.float64))
            self.online.follow(parts, label, weight, self.calibration)

    def _keep(self, commit: Commit, offset: int) -> None:
        """Keep the commit's examples, and set the sampling rates so that those of the memory fit."""
        clock_ms, examples = self.clock_ms, commit.examples
        if clock_ms is None:
            return
        self.first_clock_ms = clock_ms if self.first_clock_ms is None else self.first_clock_ms
        frauds = int(np.count_nonzero(examples.label & Verdict.FRAUD))
        # Where silence is learnt all traffic becomes examples; otherwise only what labels name does.
        decisions = len(commit.traffic) if self.policy.silence_is_legit else _said(examples)
        whole = frauds + _WOULD_ALERT * commit.budget.alerts
        self.inflow.fold(Amounts(decisions, whole, len(examples) - frauds, frauds), clock_ms)
        a_day, days = self.inflow.a_day(), self._days_kept()
        since_ms = clock_ms - round(days * MS_PER_DAY)
        self.examples.append(examples, offset, since_ms, self.policy.min_frauds)
        self.examples.keep_more((days * a_day.legit_examples, days * a_day.fraud_examples), since_ms)
        memory = self.inflow.within(self.policy.memory_ms / MS_PER_DAY)
        self._sample_one_in = self._rate(memory.decisions, memory.whole)

    def _days_kept(self) -> float:
        """Return of how many days a full buffer keeps the examples, or a sample of them."""
        memory_days = self.policy.memory_ms / MS_PER_DAY
        wait_ms = max(self.policy.negatives_after_ms, self.delays.maturity_ms)
        reach_days = min(memory_days, wait_ms / MS_PER_DAY + _REACH_DAYS)
        _, frauds_one_in = self.examples.kept_one_in.tolist()
        frauds = reach_days * self.inflow.a_day().fraud_examples / frauds_one_in
        return reach_days if frauds >= _MANY_FRAUDS * self.policy.max_examples else memory_days

    def _rate(self, decisions: float, whole: float) -> int:
        """Return 1 in how many legits are sampled so that they fit beside what is kept whole of the memory."""
        room = FILLED * self.policy.max_examples
        if decisions <= room:
            return 1
        room -= min(whole, _MOST_WHOLE * room)
        rate = 1
        # Powers of two: a hash that is sampled at one rate is sampled at every denser one too.
        while rate * room < decisions:
            rate *= 2
        return rate

    def _fold_money(self, commit: Commit) -> None:
        self.ledger.fold(commit.ledger)
        self.payoffs.fold(commit.payoff, self.policy.costs)
        self._choose_policy()
        if commit.clocks_ms:
            clock_ms = max(commit.clocks_ms.values())
            budget = commit.budget
            self.budget.fold(budget.online, budget.forest, budget.alerts, budget.cases, clock_ms)
            until_ms, policy = self.verdicts_until_ms, self.policy
            final_ms = None if until_ms is None else until_ms + policy.negatives_after_ms - policy.horizon_ms
            self.ledger.close(min(self.clocks_ms.values()), final_ms)

    @property
    def verdicts_until_ms(self) -> int | None:
        """Up to when the verdicts on decisions are in, but for frauds that are labelled late; None before any."""
        if not self.clocks_ms or self.newest_label_ms is None:
            return None
        known_ms = min(*self.clocks_ms.values(), self.newest_label_ms + self.policy.max_silence_ms)
        return known_ms - self.policy.negatives_after_ms

    def _choose_policy(self) -> None:
        until_ms, clock_ms = self.verdicts_until_ms, self.clock_ms
        if until_ms is not None and clock_ms is not None:
            known_ms = until_ms + self.policy.negatives_after_ms
            legit_delays = self.legit_delays or LabelDelays.none()
            matured = Matured(clock_ms, until_ms, known_ms, self.delays, legit_delays, self.silent_weight)
            self.payoffs.choose(matured, self.policy.costs)

    def _begun_ms(self, refit: Refit) -> int:
        """Return the clock of the part in force that `refit` would replace; its own where there is none."""
        if refit.kind == "forest":
            return refit.clock_ms if self.forest_fitted is None else self.forest_fitted.clock_ms
        return refit.clock_ms if self.generation is None else self.generation.clock_ms

    def _fold_refit(self, offset: int, refit: Refit) -> None:
        # The owner of partition 0 may change while a job runs: its result may be older than the part in force.
        if refit.clock_ms < self._begun_ms(refit):
            return
        arrays = refit.arrays
        if refit.kind == "forest":
            self.forest = FlatForest.from_arrays(arrays)
            self.forest_fitted = ForestStart(refit.clock_ms, self.traffic_seen)
            return
        self.silent_weight = float(arrays["silent_weight"][0])
        self.delays = LabelDelays(np.asarray(arrays["label_delays"], np.float64))
        legit_shares = arrays.get("legit_delays")
        self.legit_delays = (
            None if legit_shares is None else LabelDelays(np.asarray(legit_shares, np.float64))
        )
        held_from_ms = int(arrays["held_from_ms"][0])
        self.held_from_ms = None if held_from_ms < 0 else held_from_ms
        slope, intercept = arrays["calibration"]
        self.calibration = Calibration(float(slope), float(intercept))
        self.online = Blend.from_arrays(arrays)
        self.challenger = Challenger.from_record(arrays, len(self.layout.names))
        self.choice = Choice.from_arrays(arrays, self.online.mix, self.online.order)
        change_ms = int(arrays["change_ms"][0])
        self.generation = GenerationStart(offset, refit.clock_ms, self.frauds_learnt, change_ms)
        # The job has not seen the examples that were folded while it ran.
        self._learn(self.examples.since(refit.cut_offset), refit.cut_offset + 1)


def _said(examples: Examples) -> float:
    """Return how many decisions the examples stand for; silence after an alert says nothing of one.

    Weights are whole numbers, so their sum is exact in any order.
    """
    said = examples.label != Verdict.ALERTED
    return float(examples.weight.sum(dtype=np.float64, where=said))
