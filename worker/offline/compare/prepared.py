"""Turns a data set into what strategies may see: windows, usable rows, features, and one run of the worker."""

from __future__ import annotations

import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.threshold import CostPolicy
from models.vocabulary import MS_PER_DAY
from worker.errors import SettingsError
from worker.offline.compare.leaks import Cleaned, cleaned
from worker.offline.compare.material import Material
from worker.offline.compare.ours import Watch
from worker.offline.compare.raw_features import Features, layout_of, raw_features
from worker.offline.compare.result import JudgedRows, Window
from worker.offline.compare.windows import (
    Delay,
    Shares,
    Verdicts,
    Windows,
    delay_of,
    require_days,
    what_helps,
)
from worker.offline.dataset import NEVER, Dataset
from worker.offline.dataset_notes import what_to_know
from worker.offline.table_files import FRAUD_WORDS
from worker.offline.worker_run import Decisions, WorkerRun
from worker.parameters import policy
from worker.progress import OnProgress, ignore_progress
from worker.settings.sections import Settings

_COST_OF_A_SHORT_GAP: Final = (
    "strategies learn the newest frauds as legit, where the worker allows for late labels"
)
FeatureKind = Literal["journalled", "raw"]


@dataclass(frozen=True, slots=True)
class Laid:
    """A cleaned data set with its windows.

    Attributes
    ----------
    cleaned
        The data set.
    delay, windows, counted
        The age at which a verdict counts, the boundaries, and what each window holds.
    usable : bool (n,)
        Rows whose truth is known and that repeat none.
    truth : bool (n,)
        Whether a row is a fraud by every label there is.
    verdicts
        Of all n rows.
    notes
        What the reader has to know.
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
class OwnRun:
    """What one run of the worker leaves.

    Attributes
    ----------
    decisions
        Of all rows.
    watch
        What decided at the end of the train window, and on each day of the test window.
    seconds
        What the run took.
    """

    decisions: Decisions
    watch: Watch
    seconds: float


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that a comparison needs of a data set.

    Attributes
    ----------
    laid
        The data set and its windows.
    own
        The run of the worker; None where no row and no feature needs it.
    features
        Names of the features.
    material
        What strategies may see.
    rows : int64 (n,)
        Rows of the data set that the material holds.
    tested
        Those of the test window; without a truth that is known they count as legit.
    is_judged : bool (m,)
        Where the truth is known.
    costs
        The user's costs.
    notes
        What the reader has to know.
    """

    laid: Laid
    own: OwnRun | None
    features: tuple[str, ...]
    material: Material
    rows: NDArray[np.int64]
    tested: JudgedRows
    is_judged: NDArray[np.bool_]
    costs: CostPolicy
    notes: tuple[str, ...]

    @property
    def tested_rows(self) -> NDArray[np.int64]:
        """Rows of the data set that strategies decide in the test window, int64 (m,)."""
        return self.rows[self.material.between(self.laid.windows.test_ms, self.laid.windows.end_ms)]

    @property
    def judged(self) -> JudgedRows:
        """The tested rows whose truth is known."""
        return self.tested.take(self.is_judged)

    @property
    def unjudged(self) -> int:
        """How many tested rows are of unknown truth."""
        return int(np.count_nonzero(~self.is_judged))


def prepare(
    settings: Settings,
    dataset: Dataset,
    kind: FeatureKind,
    shares: Shares | None = None,
    *,
    own_rows: bool,
    trust_columns: bool = False,
    progress: OnProgress = ignore_progress,
) -> Prepared:
    """Lay the windows, run the worker where it is needed, and collect what strategies may see.

    Parameters
    ----------
    settings
        Those of a live worker.
    dataset
        In order of event time, with its truth.
    kind
        Features that the worker journals, or the declared columns alone.
    shares
        The proportions of the windows; None for the usual ones.
    own_rows
        Whether the worker's own rows are wanted.
    trust_columns
        Keep columns that give the truth away.
    progress
        Called during the run of the worker.

    Raises
    ------
    SettingsError
        The data set is too short, or a window has too few frauds.
    """
    laid = _lay_out(settings, dataset, shares, trust_columns=trust_columns)
    dataset = laid.cleaned.dataset
    settings = settings.model_copy(update={"transaction": dataset.fields})
    needs_run = kind == "journalled" or own_rows
    own = _run_worker(settings, dataset, laid.windows, progress) if needs_run else None
    rows = np.flatnonzero(_chosen(laid, dataset, own))
    features, unseen = _features(settings, dataset, kind, own, rows)
    costs = policy(settings).costs
    material = _material(settings, dataset, laid, features, costs, rows)
    tested_rows = rows[material.between(laid.windows.test_ms, laid.windows.end_ms)]
    tested, is_judged = _tested(material, laid, tested_rows), laid.usable[tested_rows]
    notes = (*laid.notes, *unseen)
    return Prepared(laid, own, features.names, material, rows, tested, is_judged, costs, notes)


def _lay_out(settings: Settings, dataset: Dataset, shares: Shares | None, *, trust_columns: bool) -> Laid:
    negatives_after_ms = policy(settings).negatives_after_ms
    clean = cleaned(dataset, negatives_after_ms, trust_columns=trust_columns)
    require_days(*(int(clean.dataset.event_time_ms[at]) for at in (0, -1)))
    delay = delay_of(clean.dataset, negatives_after_ms)
    age = delay if shares is None else shares.age_of(delay)
    try:
        laid = _by_delay(clean, age, shares)
        return replace(laid, notes=(*laid.notes, _cut_short(delay, age))) if age.is_chosen else laid
    except SettingsError:
        if not age.by_frauds:
            raise
        shorter = Delay(negatives_after_ms, varies=True)
        with suppress(SettingsError):
            laid = _by_delay(clean, shorter, shares)
            return replace(laid, notes=(*laid.notes, _too_short_for(delay, shorter)))
        raise


def _cut_short(delay: Delay, chosen: Delay) -> str:
    return f"{delay}, and {chosen}: {_COST_OF_A_SHORT_GAP}"


def _too_short_for(delay: Delay, shorter: Delay) -> str:
    return (
        f"{delay}, for which the file is too short: the gap is of {shorter.ms / MS_PER_DAY:g} days "
        f"(labels.negatives_after_days), so that {_COST_OF_A_SHORT_GAP}; a longer file compares better"
    )


def _by_delay(clean: Cleaned, delay: Delay, shares: Shares | None) -> Laid:
    """Lay the windows out so that a verdict counts from an age of `delay` on."""
    dataset, notes = clean.dataset, list(clean.notes)
    times_ms, truth, known = dataset.event_time_ms, dataset.is_fraud, dataset.truth_known
    if truth is None or dataset.label_time_ms is None:
        truth, label_ms = np.zeros(len(dataset), np.bool_), np.full(len(dataset), NEVER)
    else:
        label_ms = dataset.label_time_ms
    if not (known & ~truth).any():
        dataset = replace(dataset, silence_is_legit=True)
        known = dataset.truth_known
        notes.append(
            "labels name frauds alone: a transaction without a label or an outcome counts as legitimate"
        )
    notes = [*what_to_know(dataset), *notes]
    truth = truth & known
    span_ms = int(times_ms[0]), int(times_ms[-1])
    windows = Windows.over(*span_ms, delay, shares)
    matures_ms = np.where(
        _chosen_by_label(dataset, known), np.maximum(times_ms + delay.ms, label_ms), times_ms + delay.ms
    )
    _require_both_classes(dataset, known, truth)
    verdicts = Verdicts(np.where(known, matures_ms, NEVER), np.where(truth, label_ms, NEVER))
    usable = known & clean.first
    rows = times_ms[usable], verdicts.take(usable), truth[usable]
    try:
        counted = windows.counted(*rows)
    except SettingsError as error:
        raise SettingsError(
            f"{error}; {what_helps(span_ms, delay, *rows, shares and shares.gap_days)}"
        ) from None
    return Laid(clean, delay, windows, counted, usable, truth, verdicts, tuple(notes))


def _require_both_classes(dataset: Dataset, known: NDArray[np.bool_], truth: NDArray[np.bool_]) -> None:
    """Refuse a file of one class with the column that says so: no other windows would help."""
    frauds, count = int(np.count_nonzero(truth)), int(np.count_nonzero(known))
    if 0 < frauds < count:
        return
    lacks, those = ("legitimate transaction", "each") if frauds else ("fraud at all", "none")
    raise SettingsError(
        f"the file has no {lacks}: by {dataset.truth_from} {those} of the {count:,} transactions whose truth is known "
        f"is a fraud, of which the words are {', '.join(FRAUD_WORDS)}; a comparison needs both classes"
    )


def _chosen_by_label(dataset: Dataset, known: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which rows are used only because a label came: before it, nobody could have chosen them.

    Where every row is used, a row without a label so far is legit by silence; so it is beside outcomes.
    """
    if known.all():
        return np.zeros(len(dataset), np.bool_)
    if not dataset.silence_is_legit:
        return dataset.labelled
    acted = dataset.outcome_time_ms
    return dataset.labelled if acted is None else dataset.labelled & (acted != NEVER)


def _run_worker(settings: Settings, dataset: Dataset, windows: Windows, progress: OnProgress) -> OwnRun:
    watch = Watch(windows.tune_ms, windows.test_ms, windows.end_ms)
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="fraud-worker-compare-") as folder:
        decisions = WorkerRun(settings, dataset, Path(folder)).to_the_end(progress, watch.moments())
    return OwnRun(decisions, watch, time.perf_counter() - started_s)


def _chosen(laid: Laid, dataset: Dataset, own: OwnRun | None) -> NDArray[np.bool_]:
    """Return the rows from the train window on that strategies see: usable ones, and all from the tune window on.

    Those of unknown truth open cases too, but nothing is learnt of them or judged by them.
    """
    scored = laid.cleaned.first & (dataset.event_time_ms >= laid.windows.tune_ms)
    chosen = scored | (laid.usable & (dataset.event_time_ms >= laid.windows.train_ms))
    return chosen if own is None else chosen & own.decisions.decided


def _features(
    settings: Settings, dataset: Dataset, kind: FeatureKind, own: OwnRun | None, rows: NDArray[np.int64]
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
    laid: Laid,
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
        budget_cases_per_day=costs.alert_budget_cases_per_day,
    )


def _tested(material: Material, laid: Laid, rows: NDArray[np.int64]) -> JudgedRows:
    test = material.between(laid.windows.test_ms, laid.windows.end_ms)
    return JudgedRows(
        fraud=laid.truth[rows],
        loss=material.loss[test],
        amount=material.amount[test],
        event_time_ms=material.event_time_ms[test],
        case=material.case[test],
    )
