"""Every metric of the worker; all begin with ``fraud_worker_`` and exist from the start, at zero or NaN.

=================================== =========================== ===========================================
name                                labels                      what it shows
=================================== =========================== ===========================================
decisions_total                     decided_by, decision        transactions decided
alerts_total                                                    alerts written
cases_total                                                     cases opened; an alert may join an open one
decider_share                       decided_by                  of the latest commit's decisions
challenger_disagreements_total      challenger                  decisions in which the challenger would differ
repeats_total                                                   repeated transactions dropped
dead_letters_total                  stage, reason               records that could not be used
labels_total                        effect                      what incoming labels did
labels_by_class_total               source, kind, joined        labels that found a decision, and that did not
undecoded_total                     topic                       records of an input topic that do not decode
labelled_decisions_by_arrival_total decided_by, decision, label decisions labelled, when the label came
matured_total                       outcome                     decisions settled by silence
label_delay_seconds                                             from a transaction to its label
label_feed_halted                                               1: labels are silent, nothing matures
pending_decisions                                               decisions that are younger than the horizon
review_cost_total                                               charged for the cases opened
missed_fraud_cost_by_arrival_total                              lost in missed frauds, when the label came
cohort_end_timestamp_seconds                                    where the newest closed day ends
cohort_closed                       window                      closed days in the window, fewer at first
cohort_decisions                    window                      decisions of the closed days
cohort_settled                      window                      of them settled
cohort_frauds                       window                      of them frauds
cohort_alerts                       window                      of them alerted
cohort_cases                        window                      cases that these alerts opened
cohort_prevalence                   window                      frauds among those of known truth
cohort_label_coverage               window                      settled by a label among settled
cohort_recall                       window                      frauds alerted, by number
cohort_recall_by_value              window                      frauds alerted, by loss
cohort_precision                    window                      frauds among alerts of known truth
cohort_f1                           window                      harmonic mean of recall and precision
cohort_cost                         window                      realised: reviews and missed frauds
cohort_cost_none                    window                      had nothing been alerted
cohort_cost_all                     window                      had everything been alerted
cohort_savings                      window                      1 - cost / the cheaper of those two
cohort_online_cost                  window                      had the online model alone decided
cohort_forest_cost                  window                      had the isolation forest alone decided
cohort_challenger_cost              window                      had the challenger stood for the online model
cohort_unlabelled                   window                      closed days without a single label
cohort_changes_after_close          truth                       labels too late for a closed cohort, net
scoring_seconds                                                 features to settled labels, one commit
end_to_end_latency_seconds                                      transaction appended to alert committed
commit_duration_seconds                                         what a cycle waits for its Kafka transaction
batch_transactions                                              transactions in one commit
refit_cpu_seconds                   part                        to make a generation or a forest, in the background
lag_records                         topic, partition            records not read yet
waiting_labels                      partition                   labels read whose label_time is not reached
waiting_labels_ahead_seconds        partition                   from the clock to the first of them
postponed_labels                                                labels that wait for their transaction, or the next day
surplus_labels_total                source                      labels beyond what a source may teach in a day
rationed_labels                     source                      of them those that wait for the next day
budget_binding                                                  1: the budget raises the online threshold
budget_held_back_total                                          online alerts that the budget held back
transactions_dated_ahead_total                                  decided, but too far ahead to move the clock
rebalances_total                                                changes of the partitions owned
last_poll_age_seconds                                           since the poll loop moved, at the scrape
ready                                                           1: the worker decides, as /readyz says
model_log_offset                                                the version: last offset folded
model_generation_offset                                         where the generation took force
model_mix                           part                        weights of tables and trees in the logit, as of now
model_judged_loss                   part                        log loss on unseen days, at the last search
model_silent_alert_weight                                       with which silent alerts are learnt as legit
model_change_timestamp_seconds                                  since when it has learnt, as all changed; or 0
model_frauds_learnt                                             by the online model
model_prevalence                                                share of frauds among decisions learnt
model_threshold_lambda                                          alert from lambda times the review cost on
model_forest_cut                                                rank from which the forest alerts
model_policy_lambda                                             what matured days chose, before the budget
model_policy_forest                                             1: they chose the isolation forest
model_forest_cases_per_day                                      that the forest may open, on credit or earned
model_policy_gain                   policy                      what a policy brought a day, on matured days
policy_differs                                                  1: another worker's settings are in force
evictions_total                     table                       rows forgotten for lack of room
drift_total                         of                          changes of a feature, score, base_rate found
digest_mismatches_total                                         other states of other workers, of the last day
stray_records_total                 log                         that no worker wrote, of the last day
start_time_seconds                                              when the worker started, Unix time
build_info                          version                     always 1
=================================== =========================== ===========================================

The windows (1d, 7d, 30d) are the newest closed days of event time. Series "by arrival" count when the label came: a new
fraud pattern first *raises* recall there, as caught frauds are labelled first. No label names cards or transactions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Info,
    Summary,
    disable_created_metrics,
    generate_latest,
)

from models.ledger import Ledger
from models.vocabulary import Decider, Flag, LabelEffect, LabelKind, LabelSource
from worker.telemetry.cohort_gauges import CohortGauges
from worker.telemetry.decision_counters import DECIDERS, DECISIONS, DecisionCounters
from worker.telemetry.health import StatusSnapshot
from worker.telemetry.instruments import ArrayHistogram, CounterGrid
from worker.telemetry.model_gauges import ModelGauges

PREFIX: Final = "fraud_worker"
"""Begins every metric's name."""
OTHER: Final = "other"
"""Stage or reason of dead letters that the table of reasons does not name: the number of series stays bounded."""
LOGS: Final = ("model_log", "decisions")
TRANSACTIONS: Final = "transactions"
LABELS: Final = "labels"
"""What the input topics are called here, whatever their names."""
_LATENCY_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_DURATION_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_BATCH: Final = (1.0, 10.0, 100.0, 300.0, 1000.0, 3000.0, 10000.0, 20000.0, 50000.0)
_DELAY_DAYS: Final = (0.125, 0.25, 0.5, 1, 2, 3, 5, 7, 10, 14, 21, 30, 45, 60, 90, 120)


class Metrics:
    """The worker's metrics in a registry of their own, updated once a commit; `render` runs in another thread.

    Parameters
    ----------
    version
        Of the worker, for `build_info`.
    status
        Returns the worker's status; called at every scrape.
    dead_letter_reasons
        The reasons of each stage; any other is counted as `other`.
    """

    def __init__(
        self,
        *,
        version: str,
        status: Callable[[], StatusSnapshot],
        dead_letter_reasons: Mapping[str, Sequence[str]],
    ) -> None:
        # Prometheus' client adds a series with the time of creation to every counter, which would double their number.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self.decisions = DecisionCounters(self._counter, self._counters, self._gauge)
        self._build_records(dead_letter_reasons)
        self._build_labels()
        self._build_runtime(status)
        self.model = ModelGauges(self._gauge)
        self._build_logs()
        build = Info("build", "The worker's version.", namespace=PREFIX, registry=self._registry)
        build.info({"version": version})
        self._gauge("start_time_seconds", "When the worker started, Unix time.").set_to_current_time()

    def _build_records(self, dead_letter_reasons: Mapping[str, Sequence[str]]) -> None:
        self._binding = self._gauge("budget_binding", "1 while the budget raises the online threshold.")
        self._held_back = self._counter("budget_held_back_total", "Online alerts that the budget held back.")
        changes = "Changes found of a feature, of the score, of the rate of fraud."
        self._drift = self._counter("drift_total", changes, "of")
        self._dated_ahead = self._counter(
            "transactions_dated_ahead_total", "Transactions dated too far ahead to move the clock."
        )
        self._repeats = self._counter("repeats_total", "Repeated transactions dropped.")
        letters = self._counter("dead_letters_total", "Records that could not be used.", "stage", "reason")
        self._undecoded = self._counters(
            "undecoded_total", "Records of an input topic that do not decode.", topic=(TRANSACTIONS, LABELS)
        )
        self._dead_letters = {
            (stage, reason): letters.labels(stage, reason)
            for stage, reasons in {**dead_letter_reasons, OTHER: ()}.items()
            for reason in (*reasons, OTHER)
        }

    def _build_labels(self) -> None:
        effects = tuple(effect.name.lower() for effect in LabelEffect)
        sources = tuple(source.name.lower() for source in LabelSource)
        self._labels = self._counters("labels_total", "What incoming labels did.", effect=effects)
        self._label_classes = self._counters(
            "labels_by_class_total",
            "Labels that found a decision, and that did not.",
            source=sources,
            kind=[kind.name.lower() for kind in LabelKind],
            joined=("no", "yes"),
        )
        surplus = "Labels beyond what a source may teach in a day."
        self._surplus = self._counters("surplus_labels_total", surplus, source=sources)
        self._labelled = self._counters(
            "labelled_decisions_by_arrival_total",
            "Decisions labelled, counted when the label arrived.",
            decided_by=DECIDERS,
            decision=DECISIONS,
            label=("legit", "fraud"),
        )
        self._missed_cost = self._counter(
            "missed_fraud_cost_by_arrival_total",
            "Lost in frauds not alerted, counted when the label arrived.",
        )
        delays_s = [86_400.0 * days for days in _DELAY_DAYS]
        self._label_delay = self._histogram("label_delay_seconds", "From event to label.", delays_s)
        outcomes = ("provisional_legit", "final_legit", "unresolved")
        self._matured = self._counters("matured_total", "Decisions settled by silence.", outcome=outcomes)
        self._halted = self._gauge("label_feed_halted", "1 while labels are silent, so nothing matures.")
        self._pending = self._gauge("pending_decisions", "Decisions that are younger than the horizon.")
        self._cohorts = CohortGauges(self._gauge)

    def _build_runtime(self, status: Callable[[], StatusSnapshot]) -> None:
        self._scoring = self._histogram(
            "scoring_seconds", "Features, decisions and settling of one commit.", _DURATION_S
        )
        self._latency = self._histogram(
            "end_to_end_latency_seconds", "From a transaction's append to its alert's commit.", _LATENCY_S
        )
        self._commit = self._histogram("commit_duration_seconds", "A cycle's wait for Kafka.", _DURATION_S)
        self._batch = self._histogram("batch_transactions", "Transactions in one commit.", _BATCH)
        text = "CPU time to make it, off the hot path."
        refits = Summary("refit_cpu_seconds", text, ["part"], PREFIX, registry=self._registry)
        self._refits = {part: refits.labels(part) for part in ("generation", "forest")}
        self._lag = self._gauge("lag_records", "Records of a partition not read yet.", "topic", "partition")
        self._lagging: set[tuple[str, int]] = set()
        self._waiting = self._gauge(
            "waiting_labels", "Labels read whose label_time is not reached.", "partition"
        )
        self._waiting_ahead = self._gauge(
            "waiting_labels_ahead_seconds", "From the clock to the first label that waits.", "partition"
        )
        self._postponed = self._gauge(
            "postponed_labels", "Labels waiting for their transaction or the next day."
        )
        rationed = self._gauge("rationed_labels", "Labels of a source that wait for the next day.", "source")
        self._rationed = [rationed.labels(source.name.lower()) for source in LabelSource]
        self._with_waiting: set[int] = set()
        self._rebalances = self._counter("rebalances_total", "Changes of the partitions owned.")
        poll_age = self._gauge("last_poll_age_seconds", "Since the poll loop last moved.")
        poll_age.set_function(lambda: status().age_s)
        self._gauge("ready", "1 while the worker decides, as /readyz says.").set_function(
            lambda: status().ready
        )
        self._evictions = self._counters(
            "evictions_total", "Rows forgotten for lack of room.", table=("cards", "entities", "card_values")
        )

    def _build_logs(self) -> None:
        self._mismatches = self._counter(
            "digest_mismatches_total", "Digests of other workers that differ from this worker's."
        )
        strays = self._counter("stray_records_total", "Records of a log that no worker wrote.", "log")
        self._strays = {log: strays.labels(log) for log in LOGS}
        self._policy_differs = self._gauge(
            "policy_differs", "1 while settings of another worker are in force."
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(name, text, labels, namespace=PREFIX, registry=self._registry)

    def _counters(self, name: str, text: str, **labels: Sequence[str]) -> CounterGrid:
        return CounterGrid(self._registry, f"{PREFIX}_{name}", text, **labels)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(name, text, labels, namespace=PREFIX, registry=self._registry)

    def _histogram(self, name: str, text: str, bounds: Sequence[float]) -> ArrayHistogram:
        return ArrayHistogram(self._registry, f"{PREFIX}_{name}", text, bounds)

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def dead_lettered(self, stage: str, reason: str, count: int = 1) -> None:
        """Count records that went to the dead letters."""
        known = self._dead_letters
        key = next(it for it in ((stage, reason), (stage, OTHER), (OTHER, OTHER)) if it in known)
        known[key].inc(count)

    def refitted(self, part: str, cpu_s: float) -> None:
        """Count a generation or a forest that was made."""
        self._refits[part].observe(cpu_s)

    def repeated(self, count: int) -> None:
        """Count transactions dropped as repeats."""
        self._repeats.inc(count)

    def labels_arrived(self, effects: NDArray[np.uint8]) -> None:
        """Count what labels did.

        Parameters
        ----------
        effects : uint8 (n,)
            `LabelEffect` of each label.
        """
        self._labels.add(np.bincount(effects, minlength=len(LabelEffect)))

    def label_classes(
        self, source: NDArray[np.uint8], kind: NDArray[np.uint8], joined: NDArray[np.bool_]
    ) -> None:
        """Count labels by who sent them and what they say.

        Parameters
        ----------
        source, kind : uint8 (n,)
            `LabelSource` and `LabelKind`; a source without a name there is counted as `other`.
        joined : bool (n,)
            Whether the label found a decision; else it is a dead letter.
        """
        cell = (source.astype(np.int64) * len(LabelKind) + kind) * 2 + joined
        self._label_classes.add(np.bincount(cell, minlength=2 * len(LabelKind) * len(LabelSource)))

    def undecoded(self, transactions: int, labels: int) -> None:
        """Count the records of each input topic that do not decode."""
        self._undecoded.add(np.array([transactions, labels]))

    def labelled(
        self,
        flags: NDArray[np.uint16],
        fraud: NDArray[np.bool_],
        loss: NDArray[np.float64],
        delay_s: NDArray[np.float64],
    ) -> None:
        """Count decisions that a label settled, or settled anew.

        Parameters
        ----------
        flags : uint16 (n,)
            `Flag` as of the decision.
        fraud : bool (n,)
            Whether the label is fraud.
        loss : float64 (n,)
            What missing the transaction costs, if it is a fraud.
        delay_s : float64 (n,)
            Label time less event time.
        """
        alerted = (flags & Flag.ALERTED) != 0
        cell = 4 * (flags & Flag.DECIDER).astype(np.int64) + 2 * alerted + fraud
        self._labelled.add(np.bincount(cell, minlength=4 * len(Decider)))
        self._missed_cost.inc(float(loss[fraud & ~alerted].sum()))
        self._label_delay.observe(delay_s)

    def digest_differed(self) -> None:
        """Count a digest of another worker that differs from ours."""
        self._mismatches.inc()

    def stray_record(self, log: str) -> None:
        """Count a record of a log, one of `LOGS`, that no worker wrote."""
        self._strays[log].inc()

    def policy_differs(self, differs: bool) -> None:
        """Set whether costs, horizons or bounds in force are not those of this worker's settings."""
        self._policy_differs.set(differs)

    def matured(self, provisional_legit: int, final_legit: int, unresolved: int) -> None:
        """Count decisions that silence settled."""
        self._matured.add(np.array([provisional_legit, final_legit, unresolved]))

    def waiting(self, pending: int, feed_halted: bool) -> None:
        """Set how many decisions are kept for labels, and whether the label feed's silence has halted maturing."""
        self._pending.set(pending)
        self._halted.set(feed_halted)

    def cohorts(self, ledger: Ledger, review_cost: float) -> None:
        """Publish the ledger's closed days; needed only when a day has closed or a model was restored."""
        self._cohorts.publish(ledger, review_cost)

    def committed(
        self, transactions: int, scoring_s: float, commit_s: float, latency_s: NDArray[np.float64]
    ) -> None:
        """Record the times of one commit.

        Parameters
        ----------
        transactions
            How many it decided.
        scoring_s, commit_s
            How long features, decisions and settling took, and how long the Kafka transaction.
        latency_s : float64 (alerts,)
            Of each alert, from the broker's append of the transaction to the commit.
        """
        self._batch.observe(np.array([transactions], np.float64))
        self._scoring.observe(np.array([scoring_s] if transactions else []))
        self._commit.observe(np.array([commit_s]))
        self._latency.observe(latency_s)

    def lag(self, records: Mapping[tuple[str, int], int]) -> None:
        """Set the lag of every owned (topic, partition)."""
        # A partition lost to another worker would keep its last lag here for ever.
        for topic, partition in self._lagging - records.keys():
            self._lag.remove(topic, str(partition))
        self._lagging = set(records)
        for (topic, partition), lag in records.items():
            self._lag.labels(topic, str(partition)).set(lag)

    def waiting_labels(self, waiting: Mapping[int, tuple[int, float]]) -> None:
        """Set, of every owned partition, how many labels wait and how many seconds the first is ahead of the clock."""
        for partition in self._with_waiting - waiting.keys():
            self._waiting.remove(str(partition))
            self._waiting_ahead.remove(str(partition))
        self._with_waiting = set(waiting)
        for partition, (count, ahead_s) in waiting.items():
            self._waiting.labels(str(partition)).set(count)
            self._waiting_ahead.labels(str(partition)).set(ahead_s)

    def surplus_labels(self, source: NDArray[np.uint8]) -> None:
        """Count labels, by `LabelSource`, that are not applied today, since their source has taught enough."""
        self._surplus.add(np.bincount(source, minlength=len(LabelSource)))

    def postponed_labels(self, count: int, rationed: NDArray[np.int64]) -> None:
        """Set how many labels wait for their transaction to be decided or for the next day.

        Parameters
        ----------
        count
            Of both.
        rationed : int64 (sources,)
            Those of each `LabelSource` that wait for the next day.
        """
        self._postponed.set(count)
        for gauge, waiting in zip(self._rationed, rationed.tolist(), strict=True):
            gauge.set(waiting)

    def held_back(self, count: int, *, binds: bool) -> None:
        """Count online alerts that the budget held back, and set whether it raises the threshold."""
        self._held_back.inc(count)
        self._binding.set(binds)

    def dated_ahead(self, count: int) -> None:
        """Count transactions whose event time lies a day or more after the time that they were given."""
        self._dated_ahead.inc(count)

    def watched_for_drift(self, names: Sequence[str]) -> None:
        """Begin the counters of what is watched at 0: a rate sees no first change of a series that begins with it."""
        for name in names:
            self._drift.labels(name)

    def drifted(self, names: Sequence[str]) -> None:
        """Count, for each of these features, the score or the rate of fraud, that it has changed."""
        for name in names:
            self._drift.labels(name).inc()

    def rebalanced(self) -> None:
        """Count a change of the partitions owned."""
        self._rebalances.inc()

    def evicted(self, cards: int, entities: int, card_values: int) -> None:
        """Count rows forgotten since the last call; `card_values` are which values a card has used."""
        self._evictions.add(np.array([cards, entities, card_values]))
