"""Fills the metrics and logs what changed; nothing here changes a decision."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.drift import BASE_RATE, SCORE, DriftWatch
from models.maturing import FEWEST_EXAMPLES
from models.state import GenerationStart, ModelState
from models.vocabulary import MS_PER_DAY, Decider, Flag, LabelEffect, LabelSource
from worker.cycle.contracts import Decided, Outcome, StepTimes
from worker.live.conditions import Conditions, Facts, WaitingLabels
from worker.live.source import KafkaSource
from worker.live.unused_labels import SETTLE_STAGE, UNUSED, unused_labels
from worker.moments import moment
from worker.partition.task import PartitionTask
from worker.settings.sections import TopicSettings
from worker.telemetry.metrics import LABELS, TRANSACTIONS, Metrics

log = logging.getLogger(__name__)

_COUNTED = np.array(
    [LabelEffect.MATCHED, LabelEffect.LATE, LabelEffect.CONTRADICTING, LabelEffect.REVERSED], np.uint8
)


class MetricsObserver:
    """Fills `worker.telemetry.metrics` from the outcomes of a live worker's cycles.

    Parameters
    ----------
    metrics
        The metrics to fill.
    model, tasks, source
        Read, never changed.
    topics
        Names of the input topics, for bad records and the log.
    """

    def __init__(
        self,
        metrics: Metrics,
        model: ModelState,
        tasks: Mapping[int, PartitionTask],
        source: KafkaSource,
        topics: TopicSettings,
    ) -> None:
        self._metrics = metrics
        self._model = model
        self._tasks = tasks
        self._source = source
        self._topics = topics
        self._rebalances = 0
        self._evicted: dict[PartitionTask, NDArray[np.int64]] = {}
        """What each task has evicted, its restore included: that repeats what was counted when it happened."""
        self._shared_evicted = model.shared.evictions
        self._closed_days = -1
        self._decider: Decider | None = None
        self._generation: GenerationStart | None = None
        self._dead_letters_logged: set[str] = set()
        self._surplus_logged: dict[int, int] = {}
        self._drift = DriftWatch(model.layout.names, model.layout.dates)
        metrics.watched_for_drift([*model.layout.names, SCORE, BASE_RATE])
        self._conditions = Conditions()
        self._day_is_unlabelled = False

    def observe(self, outcomes: list[Outcome], times: StepTimes) -> None:
        """Take note of one finished cycle."""
        for outcome in outcomes:
            self._observe_partition(outcome)
        decided = [outcome.decided for outcome in outcomes if outcome.decided is not None]
        if decided:
            self._log_decider(np.concatenate([one.scores.flags for one in decided]) & Flag.DECIDER)
        if any(outcome.changed for outcome in outcomes):
            count = sum(len(one.rows) for one in decided)
            self._metrics.committed(count, times.decide_s, times.commit_s, self._alert_latency_s(outcomes))
        self._observe_state(_held_back(decided), _dated_ahead(decided))
        self._observe_drift(outcomes)

    def _log_decider(self, deciders: NDArray[np.integer[Any]]) -> None:
        """Log each change of the decider: it explains why alerts come, or do not come yet."""
        decider = Decider(int(np.bincount(deciders).argmax()))
        if decider == self._decider:
            return
        self._decider = decider
        learnt, needed = self._model.frauds_learnt, self._model.policy.min_frauds
        match decider:
            case Decider.NONE:
                log.info("no decider yet: the isolation forest waits for model.forest_min_rows transactions")
            case Decider.FOREST:
                log.info(
                    "the isolation forest decides; labelled frauds: %d; model.min_frauds = %d of them, and %d examples "
                    "in all, must be older than labels.negatives_after_days",
                    learnt,
                    needed,
                    FEWEST_EXAMPLES,
                )
            case Decider.ONLINE:
                log.info("the online model decides; frauds learnt: %d", learnt)

    def _observe_generation(self) -> None:
        """Log what each generation was made of, and how its parts did on days that they had not seen."""
        model, choice = self._model, self._model.choice
        generation = model.generation
        if choice is None or model.online is None or generation is None or generation == self._generation:
            return
        self._generation = generation
        losses = {"tables": choice.tables_loss, "trees": choice.trees_loss, "both": choice.blend_loss}
        self._metrics.model.generation(losses, model.silent_weight, generation.change_ms)
        log.info(
            "a generation takes force: %.2f of %s, and %.2f of %s; judged log loss %.5f, %.5f, together %.5f; "
            "an alert that no label answers weighs %.2f%s%s",
            choice.mix.tables,
            model.online.tables.in_words,
            choice.mix.trees,
            model.online.trees_in_words,
            *losses.values(),
            model.silent_weight,
            "" if model.challenger is None else f"; {model.challenger.in_words}",
            f"; everything changed at {moment(generation.change_ms)}, and it has learnt what came since"
            if generation.change_ms
            else "",
        )

    def _observe_partition(self, outcome: Outcome) -> None:
        metrics, policy = self._metrics, self._model.policy
        if outcome.decided is not None:
            metrics.decisions.decided(outcome.decided.rows.flags, policy.costs.review_cost)
        if outcome.repeats:
            metrics.repeated(outcome.repeats)
        for record in outcome.bad:
            metrics.dead_lettered(record.stage, record.reason)
        of_labels = sum(record.topic == self._topics.labels for record in outcome.bad)
        metrics.undecoded(len(outcome.bad) - of_labels, of_labels)
        if len(outcome.labels):
            self._observe_labels(outcome)
        self._observe_unused(outcome)
        if len(outcome.surplus) or len(outcome.overflow):
            self._observe_surplus(outcome)
        provisional, final = outcome.matured.provisional, outcome.matured.final
        metrics.matured(provisional.provisionally_legit, final.finally_legit, final.unresolved)

    def _observe_labels(self, outcome: Outcome) -> None:
        labels, settling = outcome.labels, outcome.by_label
        joined, answered = np.ones((2, len(labels)), np.bool_)
        joined[settling.orphans], answered[settling.postponed] = False, False
        self._metrics.label_classes(labels.source[answered], labels.kind[answered], joined[answered])
        orphans = len(settling.orphans) - int(np.count_nonzero(settling.label_effects == LabelEffect.ORPHAN))
        self._metrics.labels_arrived(settling.label_effects)
        self._metrics.labels_arrived(np.full(orphans, LabelEffect.ORPHAN, np.uint8))
        counted = np.isin(settling.label_effects, _COUNTED)
        # Past the horizon a fraud changes the truth, and a legit nothing.
        counted |= (settling.label_effects == LabelEffect.AFTER_HORIZON) & settling.label_truth
        self._metrics.labelled(
            settling.label_flags[counted],
            settling.label_truth[counted],
            settling.label_loss[counted],
            settling.label_delay_ms[counted] / 1000.0,
        )

    def _observe_surplus(self, outcome: Outcome) -> None:
        """Count labels that are too many for their source's day, each once, and log each source once a day."""
        parts = outcome.surplus, outcome.overflow
        offsets, source = (
            np.concatenate([getattr(it, name) for it in parts]) for name in ("offsets", "source")
        )
        self._metrics.surplus_labels(source[~np.isin(offsets, outcome.released.offsets)])
        day = self._tasks[outcome.partition].clock_ms // MS_PER_DAY
        for code in np.unique(source).tolist():
            # Not where the days differ: around midnight the clocks of partitions are of two.
            if day > self._surplus_logged.get(code, -1):
                self._surplus_logged[code] = day
                log.warning(
                    "labels of source %s: many more in a day than usual (labels.times_usual); the rest waits for the "
                    "next day, and is learnt day by day if that lasts: find out whether they are right",
                    LabelSource(code).name.lower(),
                )

    def _observe_unused(self, outcome: Outcome) -> None:
        for reason, _, rows in unused_labels(outcome):
            self._metrics.dead_lettered(SETTLE_STAGE, reason, len(rows))
            if reason not in self._dead_letters_logged:
                self._dead_letters_logged.add(reason)
                where = f"{self._topics.labels}, partition {outcome.partition}"
                log.warning(
                    "%s: %s goes to the dead letters: %s (logged once)", where, reason, UNUSED[reason]
                )

    def _alert_latency_s(self, outcomes: list[Outcome]) -> NDArray[np.float64]:
        now_ms = time.time() * 1000.0
        decided = [outcome.decided for outcome in outcomes if outcome.decided is not None]
        appended = [one.transactions.timestamps_ms[one.scores.alerted] for one in decided]
        return np.asarray((now_ms - np.concatenate(appended)) / 1000.0) if appended else np.empty(0)

    def _observe_state(self, held_back: int, dated_ahead: int) -> None:
        metrics, model = self._metrics, self._model
        online_lambda, forest_cut, *_ = model.thresholds()
        self._observe_model(online_lambda, forest_cut)
        # Before the online model decides, its threshold holds nothing back.
        policy = model.payoffs.in_force
        in_force = online_lambda if model.online_decides else policy.least_lambda
        metrics.held_back(held_back, binds=in_force > policy.least_lambda)
        metrics.dated_ahead(dated_ahead)
        halted, waiting = self._observe_waiting()
        self._conditions.observe(
            Facts(
                feed_halted=halted,
                newest_label_ms=model.newest_label_ms,
                clock_ms=model.clock_ms,
                online_lambda=in_force,
                policy=policy,
                forest_is_limited=model.payoffs.forest_is_limited(model.policy.costs),
                held_back=held_back,
                dated_ahead=dated_ahead,
                waiting=waiting,
                day_closed_ms=model.ledger.closed_until_ms,
                day_is_unlabelled=self._day_is_unlabelled,
            )
        )
        metrics.lag(self._lag())
        self._count_changes()
        self._count_evictions()

    def _observe_model(self, online_lambda: float, forest_cut: float) -> None:
        gauges, model = self._metrics.model, self._model
        gauges.state(
            log_offset=model.offset,
            generation_offset=-1 if model.generation is None else model.generation.offset,
            frauds_learnt=model.frauds_learnt,
            prevalence=model.prevalence,
            threshold_lambda=online_lambda,
            forest_cut=forest_cut,
        )
        if model.online is not None:
            gauges.mix(model.online.mix.tables, model.online.mix.trees)
        gauges.policy(model.payoffs.in_force, model.forest_cases_per_day, model.payoffs.daily_gain)
        self._observe_generation()

    def _observe_waiting(self) -> tuple[bool, dict[int, WaitingLabels]]:
        """Show what waits; return whether a label feed has halted, and the labels that wait, by partition."""
        metrics, tasks = self._metrics, self._tasks
        halted = any(task.feed_halted(self._model) for task in tasks.values())
        metrics.waiting(sum(task.waiting for task in tasks.values()), halted)
        waiting = {
            partition: self._source.waiting_labels(partition, task.clock_ms, task.shelf)
            for partition, task in tasks.items()
            if partition in self._source.owned
        }
        metrics.waiting_labels({at: (it.count, it.ahead_ms / 1000.0) for at, it in waiting.items()})
        shelves = [task.shelf for task in tasks.values()]
        by_source = sum((it.rationed_by_source for it in shelves), np.zeros(len(LabelSource), np.int64))
        metrics.postponed_labels(sum(it.postponed for it in shelves), by_source)
        return halted, waiting

    def _count_changes(self) -> None:
        """Count rebalances since the last cycle, and publish the days that have closed since."""
        metrics, model = self._metrics, self._model
        while self._rebalances < self._source.rebalances:
            metrics.rebalanced()
            self._rebalances += 1
        if (closed := model.ledger.closed_days) != self._closed_days:
            self._closed_days = closed
            metrics.cohorts(model.ledger, model.policy.costs.review_cost)
            self._day_is_unlabelled = model.ledger.unlabelled_days(1) > 0

    def _count_evictions(self) -> None:
        """Count what was evicted since the last cycle."""
        now = {it: np.array([it.cards.evictions, it.cards.value_evictions]) for it in self._tasks.values()}
        new = [now[task] - before for task, before in self._evicted.items() if task in now]
        of_cards, of_values = sum(new, np.zeros(2, np.int64)).tolist()
        shared = self._model.shared.evictions
        self._metrics.evicted(of_cards, shared - self._shared_evicted, of_values)
        self._evicted, self._shared_evicted = now, shared

    def _observe_drift(self, outcomes: list[Outcome]) -> None:
        model, watch = self._model, self._drift
        changed = []
        for outcome in outcomes:
            if outcome.decided is not None:
                rows, clock_ms = outcome.decided.rows, self._tasks[outcome.partition].clock_ms
                changed += watch.decided(rows.features, rows.probability, clock_ms)
        if model.verdicts_until_ms is not None:
            day = model.verdicts_until_ms // MS_PER_DAY - 1
            changed += watch.matured(day, *model.ledger.fraud_of_day(day))
        if changed:
            self._metrics.drifted(changed)
            log.warning(
                "drift: %s changed within the last days. Does the traffic differ, a producer, or fraud itself?",
                ", ".join(changed),
            )

    def _lag(self) -> dict[tuple[str, int], int]:
        """Return how much waits in each partition; nothing while no broker says so."""
        lags = {}
        for partition in set() if self._source.is_cut_off else self._source.owned:
            lag = self._source.lag(partition)
            lags[TRANSACTIONS, partition] = lag.transactions
            lags[LABELS, partition] = lag.labels
        return lags


def _dated_ahead(decided: list[Decided]) -> int:
    """Return how many transactions are dated a day or more after the time that the watermark allows them."""
    return sum(
        int(np.count_nonzero(one.transactions.event_time_ms - one.transactions.claim_ms > MS_PER_DAY))
        for one in decided
    )


def _held_back(decided: list[Decided]) -> int:
    """Return how many online decisions would be alerts if the budget did not raise the threshold."""
    count = 0
    for one in decided:
        scores = one.scores
        online = (scores.flags & Flag.DECIDER) == Decider.ONLINE
        count += int(np.count_nonzero(online & (scores.ratio >= scores.least_lambda) & ~scores.alerted))
    return count
