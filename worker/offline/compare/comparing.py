"""The whole of a comparison: one run of the worker, every strategy in a process of its own, the table in the end."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.threshold import CostPolicy
from models.vocabulary import MS_PER_DAY
from worker.offline.compare.figures import beside_the_cheapest, figures_of
from worker.offline.compare.isolated import REGISTRY, Finished, OnChange, Results, ignore_change, run_isolated
from worker.offline.compare.leaks import Cleaned, cleaned
from worker.offline.compare.material import Material
from worker.offline.compare.ours import OwnRow, OwnView, Watch, frozen_view, refreshed_view
from worker.offline.compare.raw_features import Features, layout_of, raw_features
from worker.offline.compare.recommendation import recommend
from worker.offline.compare.result import OURS, Block, Comparison, JudgedRows, Row, Severity, Window
from worker.offline.compare.strategy import LeftOutError, Strategy
from worker.offline.compare.windows import Delay, Shares, Verdicts, Windows, delay_of
from worker.offline.dataset import NEVER, Dataset
from worker.offline.worker_run import Decisions, WorkerRun
from worker.parameters import policy
from worker.progress import OnProgress, ignore_progress
from worker.settings.sections import Settings

FeatureKind = Literal["journalled", "raw"]


@dataclass(frozen=True, slots=True)
class Options:
    """How to compare.

    Attributes
    ----------
    strategies, own_rows
        Which rows the table has.
    features
        Those that the worker journals at decision time, or the declared columns alone.
    shares
        The proportions of the windows; None for the usual ones.
    seed
        Decides everything random.
    jobs
        How many strategies run at a time.
    trust_columns
        Keep columns that give the truth away.
    registry
        As in `run_isolated`.
    """

    strategies: Sequence[Strategy]
    own_rows: Sequence[OwnRow]
    features: FeatureKind = "journalled"
    shares: Shares | None = None
    seed: int = 42
    jobs: int = 1
    trust_columns: bool = False
    registry: str = REGISTRY


@dataclass(frozen=True, slots=True)
class _Laid:
    """A cleaned data set with its windows.

    Attributes
    ----------
    usable : bool (n,)
        Rows whose truth is known and that repeat none.
    truth : bool (n,)
    verdicts
        Of all n rows.
    """

    cleaned: Cleaned
    delay: Delay
    windows: Windows
    counted: tuple[Window, ...]
    usable: NDArray[np.bool_]
    truth: NDArray[np.bool_]
    verdicts: Verdicts
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _OwnRun:
    """What one run of the worker leaves."""

    decisions: Decisions
    watch: Watch
    seconds: float


def compare(
    settings: Settings,
    dataset: Dataset,
    options: Options,
    source: str,
    *,
    progress: OnProgress = ignore_progress,
    on_change: OnChange = ignore_change,
) -> Comparison:
    """Compare strategies with the worker on a data set.

    Parameters
    ----------
    settings
        Those of a live worker; its costs decide.
    dataset
        In order of event time, with its truth.
    options
        How to compare.
    source
        Name of the data for the reader.
    progress
        Called during the run of the worker.
    on_change
        Called while strategies run.

    Raises
    ------
    SettingsError
        The data set is too short, or a window has too few frauds.
    """
    laid = _lay_out(settings, dataset, options)
    dataset = laid.cleaned.dataset
    settings = settings.model_copy(update={"transaction": dataset.fields})
    needs_run = options.features == "journalled" or bool(options.own_rows)
    own = _run_worker(settings, dataset, laid.windows, progress) if needs_run else None
    rows = np.flatnonzero(_chosen(laid, dataset, own))
    features, unseen = _features(settings, dataset, options.features, own, rows)
    costs = policy(settings).costs
    material = _material(settings, dataset, laid, features, costs, rows)
    judged_rows = rows[material.between(laid.windows.test_ms, laid.windows.end_ms)]
    judged = _judged(material, laid, judged_rows)
    with tempfile.TemporaryDirectory(prefix="fraud-worker-compare-") as folder:
        material.save(Path(folder))
        results = run_isolated(
            Path(folder),
            options.strategies,
            seed=options.seed,
            jobs=options.jobs,
            on_change=on_change,
            registry=options.registry,
        )
    table = _Table(laid.windows, judged, costs, options)
    complete = table.rows(results, own, judged_rows)
    known = int(np.count_nonzero(laid.usable))
    frauds = int(np.count_nonzero(laid.truth & laid.usable))
    severity = Severity.of(frauds / known)
    return Comparison(
        source=source,
        transactions=len(dataset),
        known=known,
        frauds=frauds,
        prevalence=frauds / known,
        severity=severity,
        windows=laid.counted,
        delay_days=laid.delay.ms / MS_PER_DAY,
        delay_varies=laid.delay.varies,
        features=options.features,
        feature_names=features.names,
        costs=costs,
        seed=options.seed,
        test=judged,
        rows=tuple(complete),
        recommendation=recommend(complete, costs, severity),
        notes=(*laid.notes, *unseen),
        interrupted=results.interrupted,
    )


def _lay_out(settings: Settings, dataset: Dataset, options: Options) -> _Laid:
    negatives_after_ms = policy(settings).negatives_after_ms
    clean = cleaned(dataset, negatives_after_ms, trust_columns=options.trust_columns)
    dataset, notes = clean.dataset, list(clean.notes)
    delay = delay_of(dataset, negatives_after_ms)
    times_ms, truth, known = dataset.event_time_ms, dataset.is_fraud, dataset.truth_known
    if truth is None or dataset.label_time_ms is None:
        truth, label_ms = np.zeros(len(dataset), np.bool_), np.full(len(dataset), NEVER)
    else:
        label_ms = dataset.label_time_ms
    if not (known & ~truth).any():
        known = np.ones(len(dataset), np.bool_)
        notes.append("labels name frauds alone: a transaction without a label counts as legitimate")
    truth = truth & known
    windows = Windows.over(int(times_ms[0]), int(times_ms[-1]), delay, options.shares)
    verdicts = Verdicts(times_ms + delay.ms, np.where(truth, label_ms, NEVER))
    usable = known & clean.first
    counted = windows.counted(times_ms[usable], verdicts.take(usable), truth[usable])
    return _Laid(clean, delay, windows, counted, usable, truth, verdicts, tuple(notes))


def _run_worker(settings: Settings, dataset: Dataset, windows: Windows, progress: OnProgress) -> _OwnRun:
    watch = Watch(windows.test_ms, windows.end_ms)
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fraud-worker-compare-") as folder:
        decisions = WorkerRun(settings, dataset, Path(folder)).to_the_end(progress, watch.moments())
    return _OwnRun(decisions, watch, time.perf_counter() - started_s)


def _chosen(laid: _Laid, dataset: Dataset, own: _OwnRun | None) -> NDArray[np.bool_]:
    """Return the rows that strategies learn and are judged by: usable ones from the train window on."""
    chosen = laid.usable & (dataset.event_time_ms >= laid.windows.train_ms)
    return chosen if own is None else chosen & own.decisions.decided


def _features(
    settings: Settings, dataset: Dataset, kind: FeatureKind, own: _OwnRun | None, rows: NDArray[np.int64]
) -> tuple[Features, tuple[str, ...]]:
    """Return the features of some rows without columns that are always missing, and a note on those."""
    if kind == "raw" or own is None:
        features = raw_features(settings, dataset)
        features = features._replace(values=features.values[rows])
    else:
        layout = layout_of(settings)
        features = Features(own.decisions.features[rows], layout.names, layout.categorical)
    values = features.values
    values[~np.isfinite(values)] = np.nan
    seen = np.count_nonzero(~np.isnan(values), axis=0) > 0
    notes = tuple(
        f"feature {name!r} is always missing: left out"
        for name, there in zip(features.names, seen, strict=True)
        if not there
    )
    return features.only(seen), notes


def _material(
    settings: Settings,
    dataset: Dataset,
    laid: _Laid,
    features: Features,
    costs: CostPolicy,
    rows: NDArray[np.int64],
) -> Material:
    amount, times_ms = dataset.amount[rows], dataset.event_time_ms[rows]
    card = dataset.card_id.dictionary_encode().indices.to_numpy()[rows].astype(np.int64)
    window = times_ms // policy(settings).case_window_ms
    window -= window.min(initial=0)
    _, case = np.unique(card * (window.max(initial=0) + 1) + window, return_inverse=True)
    return Material(
        features=features.values,
        amount=amount,
        loss=costs.loss(amount),
        event_time_ms=times_ms,
        case=case.astype(np.int64),
        matures_ms=laid.verdicts.matures_ms[rows],
        fraud_ms=laid.verdicts.fraud_ms[rows],
        categorical=features.categorical,
        windows=laid.windows,
        review_cost=costs.review_cost,
    )


def _judged(material: Material, laid: _Laid, rows: NDArray[np.int64]) -> JudgedRows:
    test = material.between(laid.windows.test_ms, laid.windows.end_ms)
    return JudgedRows(
        fraud=laid.truth[rows],
        loss=material.loss[test],
        amount=material.amount[test],
        event_time_ms=material.event_time_ms[test],
        case=material.case[test],
    )


@dataclass(frozen=True, slots=True)
class _Table:
    """Makes the rows of the table."""

    windows: Windows
    judged: JudgedRows
    costs: CostPolicy
    options: Options

    def rows(self, results: Results, own: _OwnRun | None, judged_rows: NDArray[np.int64]) -> list[Row]:
        """Return the rows of both blocks."""
        complete: list[Row] = []
        for block in Block:
            rows = [self._row(it, results.finished[it.name], block) for it in self.options.strategies]
            if own is not None:
                rows += self._own_rows(own, block, judged_rows)
            complete += beside_the_cheapest(
                rows,
                self.judged,
                self.costs.review_cost,
                self.windows.test_ms,
                self.windows.test_days,
                self.options.seed,
            )
        return complete

    def _row(self, strategy: Strategy, finished: Finished, block: Block) -> Row:
        row = Row(strategy.name, strategy.family, strategy.meaning, block, strategy.rule, strategy.caps)
        tried = finished.blocks.get(block)
        if tried is None:
            return replace(row, left_out=finished.reason)
        worth = figures_of(
            self.judged,
            tried.decided,
            self.costs.review_cost,
            self.windows.test_days,
            fit_seconds=tried.fit_seconds,
            score_us=tried.score_us,
        )
        return replace(row, rows_learnt=tried.rows_learnt, figures=worth, decided=tried.decided)

    def _own_rows(self, own: _OwnRun, block: Block, judged_rows: NDArray[np.int64]) -> list[Row]:
        decisions, watch = own.decisions.take(judged_rows), own.watch
        started_s = time.perf_counter()
        if block is Block.FROZEN and watch.frozen is not None:
            judged = self.judged
            view = frozen_view(watch.frozen, decisions.features, judged.loss, judged.amount, self.costs)
            fit_seconds = watch.seconds_to_test
        else:
            view = refreshed_view(
                decisions, watch.days, self.judged.event_time_ms, self.judged.amount, self.costs
            )
            fit_seconds = own.seconds
        score_us = 1e6 * (time.perf_counter() - started_s) / max(len(decisions), 1)
        return [self._own_row(it, view, block, fit_seconds, score_us) for it in self.options.own_rows]

    def _own_row(self, own: OwnRow, view: OwnView, block: Block, fit_seconds: float, score_us: float) -> Row:
        row = Row(own.name, OURS, own.meaning, block)
        try:
            decided = own.decide(view)
        except LeftOutError as reason:
            return replace(row, left_out=str(reason))
        worth = figures_of(
            self.judged,
            decided,
            self.costs.review_cost,
            self.windows.test_days,
            fit_seconds=fit_seconds,
            score_us=score_us if block is Block.FROZEN else np.nan,
        )
        return replace(row, figures=worth, decided=decided)
