"""The whole of a comparison: the worker, every strategy in a process of its own, the table, the recommendation."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from models.vocabulary import MS_PER_DAY
from worker.offline.compare.figures import beside_the_cheapest, figures_of
from worker.offline.compare.isolated import Finished, OnChange, Results, ignore_change, run_isolated
from worker.offline.compare.ours import Deciding, OwnRow, OwnView, frozen_view, refreshed_view
from worker.offline.compare.prepared import FeatureKind, OwnRun, Prepared, prepare
from worker.offline.compare.recommendation import recommend
from worker.offline.compare.result import OURS, Block, Comparison, Decided, Row, Severity
from worker.offline.compare.strategy import LeftOutError, Strategy
from worker.offline.compare.windows import Shares
from worker.offline.dataset import Dataset
from worker.progress import OnProgress, ignore_progress
from worker.settings.sections import Settings


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
    run
        Runs the strategies: each in a process of its own, but where a test runs them otherwise.
    """

    strategies: Sequence[Strategy]
    own_rows: Sequence[OwnRow]
    features: FeatureKind = "journalled"
    shares: Shares | None = None
    seed: int = 42
    jobs: int = 1
    trust_columns: bool = False
    run: Callable[..., Results] = run_isolated


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
    prepared = prepare(
        settings,
        dataset,
        options.features,
        options.shares,
        own_rows=bool(options.own_rows),
        trust_columns=options.trust_columns,
        progress=progress,
    )
    with tempfile.TemporaryDirectory(prefix="fraud-worker-compare-") as folder:
        prepared.material.save(Path(folder))
        results = options.run(
            Path(folder), options.strategies, seed=options.seed, jobs=options.jobs, on_change=on_change
        )
    laid = prepared.laid
    rows = _Table(prepared, options).rows(results)
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
        feature_names=prepared.features,
        costs=prepared.costs,
        seed=options.seed,
        test=prepared.judged,
        rows=tuple(rows),
        recommendation=recommend(rows, prepared.costs, severity, laid.windows.test_days),
        notes=(*prepared.notes, *_unjudged(prepared)),
        interrupted=results.interrupted,
        unjudged=prepared.unjudged,
    )


def _unjudged(prepared: Prepared) -> list[str]:
    """Say which figures are of all transactions where the truth of some is unknown."""
    if not prepared.unjudged:
        return []
    return [
        f"cases a day, which the budget bounds, are of all {len(prepared.tested):,} test transactions; the other "
        f"figures are of the {len(prepared.judged):,} whose truth is known"
    ]


@dataclass(frozen=True, slots=True)
class _Table:
    """Makes the rows of the table."""

    prepared: Prepared
    options: Options

    def rows(self, results: Results) -> list[Row]:
        """Return the rows of both blocks."""
        windows, complete = self.prepared.laid.windows, list[Row]()
        for block in Block:
            rows = [self._row(it, results.finished[it.name], block) for it in self.options.strategies]
            if self.prepared.own is not None and self.options.own_rows:
                rows += self._own_rows(self.prepared.own, block)
            complete += beside_the_cheapest(
                rows,
                self.prepared.judged,
                self.prepared.costs.review_cost,
                windows.test_ms,
                windows.test_days,
                self.options.seed,
            )
        return complete

    def _row(self, strategy: Strategy, finished: Finished, block: Block) -> Row:
        row = Row(strategy.name, strategy.family, strategy.meaning, block, strategy.rule, strategy.caps)
        tried = finished.blocks.get(block)
        if tried is None:
            return replace(row, left_out=finished.reason)
        row = replace(row, rows_learnt=tried.rows_learnt)
        return self._judged(row, tried.decided, tried.fit_seconds, tried.score_us)

    def _own_rows(self, own: OwnRun, block: Block) -> list[Row]:
        decisions, watch = own.decisions.take(self.prepared.tested_rows), own.watch
        tested, costs = self.prepared.tested, self.prepared.costs
        started_s = time.perf_counter()
        if block is Block.FROZEN and watch.frozen is not None:
            deciding = self._tuned(watch.frozen, own)
            view = frozen_view(deciding, decisions.features, tested.loss, tested.amount, tested.case, costs)
            score_us = 1e6 * (time.perf_counter() - started_s) / max(len(decisions), 1)
            return [
                self._own_row(it, view, block, watch.seconds_to_freeze, score_us)
                for it in self.options.own_rows
            ]
        view = refreshed_view(decisions, watch.days, tested.event_time_ms, tested.amount, costs)
        return [self._own_row(it, view, block, own.seconds, np.nan) for it in self.options.own_rows]

    def _tuned(self, frozen: Deciding, own: OwnRun) -> Deciding:
        material, windows, costs = self.prepared.material, self.prepared.laid.windows, self.prepared.costs
        tuned = material.between(windows.tune_ms, windows.gap_ms)
        rows, budget = np.arange(tuned.start, tuned.stop), costs.alert_budget_cases_per_day
        return frozen.tuned(
            own.decisions.features[self.prepared.rows[rows]],
            material.known_by(rows, windows.test_ms),
            material.verdicts.take(rows).mature(windows.test_ms),
            costs,
            None if budget is None else budget * windows.tune_length_ms / MS_PER_DAY,
        )

    def _own_row(self, own: OwnRow, view: OwnView, block: Block, fit_seconds: float, score_us: float) -> Row:
        row = Row(own.name, OURS, own.meaning, block)
        try:
            decided = own.decide(view)
        except LeftOutError as reason:
            return replace(row, left_out=str(reason))
        return self._judged(row, decided, fit_seconds, score_us)

    def _judged(self, row: Row, tested: Decided, fit_seconds: float, score_us: float) -> Row:
        """Return the row with its decisions whose truth is known, and their figures."""
        decided = tested.take(self.prepared.is_judged)
        figures = figures_of(
            self.prepared.judged,
            decided,
            self.prepared.costs.review_cost,
            self.prepared.laid.windows.test_days,
            fit_seconds=fit_seconds,
            score_us=score_us,
            opened=len(np.unique(self.prepared.tested.case[tested.alerted])),
        )
        return replace(row, figures=figures, decided=decided)
