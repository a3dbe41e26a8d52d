"""Scores of a baseline on a stretch of days, none of which knew a label before it arrived."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from tests.tools.quality.families import Family, Setting, Training
from tests.tools.quality.streams import Loaded, Stream
from tests.tools.quality.training import DenseCodes, Verdicts, verdicts_at
from worker.offline.dataset import NEVER

MEMORY_DAYS = 90.0
REFIT_DAYS = 7
MOST_CATEGORIES = 2_000
_FEWEST_FRAUDS = 2


def stretch(loaded: Loaded, first_day: int, end_day: int) -> NDArray[np.int64]:
    """Return the judged rows of those days, int64 (k,)."""
    day = loaded.day
    return np.flatnonzero((day >= first_day) & (day < end_day) & loaded.judged)


def scores(
    family: Family,
    setting: Setting,
    stream: Stream,
    loaded: Loaded,
    features: NDArray[np.float32],
    categorical: NDArray[np.bool_],
    days: tuple[int, int],
    refit_days: int,
) -> NDArray[np.float32]:
    """Return the probability of fraud of the judged rows of those days, float32 (k,).

    Parameters
    ----------
    family, setting
        The baseline.
    stream, loaded
        What it learns from.
    features : float32 (n, F)
        Of all rows of the stream, each as of its decision.
    categorical : bool (F,)
    days
        The first day and the end of the stretch; the first refit is on the first day.
    refit_days
        From one refit to the next; without meaning for an online family.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if family.fit is None:
            return _online(family, setting, stream, loaded, features, categorical, days)
        return _refitted(family, setting, stream, loaded, features, categorical, days, refit_days)


def _refitted(
    family: Family,
    setting: Setting,
    stream: Stream,
    loaded: Loaded,
    features: NDArray[np.float32],
    categorical: NDArray[np.bool_],
    days: tuple[int, int],
    refit_days: int,
) -> NDArray[np.float32]:
    assert family.fit is not None
    scored = []
    for day in range(days[0], days[1], refit_days):
        rows = stretch(loaded, day, min(day + refit_days, days[1]))
        if not rows.size:
            continue
        known = verdicts_at(
            loaded,
            loaded.start_ms + day * MS_PER_DAY,
            MEMORY_DAYS,
            stream.matured_days,
            silence_is_legit=stream.silence_is_legit,
        )
        known = known.sampled(family.most_rows, np.random.default_rng(day))
        if np.count_nonzero(known.fraud) < _FEWEST_FRAUDS or known.fraud.all():
            scored.append(np.zeros(rows.size, np.float32))
            continue
        learnt = np.asarray(features[known.row])
        codes = DenseCodes(learnt, categorical, MOST_CATEGORIES)
        training = Training(codes.of(learnt), known.fraud, known.weight, categorical, seed=day)
        fitted = family.fit(training, setting)
        scored.append(fitted(codes.of(np.asarray(features[rows]))).astype(np.float32))
    return np.concatenate(scored)


def _online(
    family: Family,
    setting: Setting,
    stream: Stream,
    loaded: Loaded,
    features: NDArray[np.float32],
    categorical: NDArray[np.bool_],
    days: tuple[int, int],
) -> NDArray[np.float32]:
    """Learn each verdict as it arrives, and score the rows in between."""
    assert family.online is not None
    model = family.online(setting, categorical, 0)
    rows = stretch(loaded, *days)
    scored_ms = loaded.dataset.event_time_ms[rows]
    arrived_ms, verdicts = _arrivals(stream, loaded, family.most_rows)
    out = np.empty(rows.size, np.float32)
    learnt = 0
    # In blocks of rows: the mapped features are read once a block.
    for first in range(0, rows.size, 4_096):
        block = np.asarray(features[rows[first : first + 4_096]])
        for at, row in enumerate(block):
            end = int(np.searchsorted(arrived_ms, scored_ms[first + at]))
            while learnt < end:
                model.learn(
                    np.asarray(features[verdicts.row[learnt]]),
                    bool(verdicts.fraud[learnt]),
                    float(verdicts.weight[learnt]),
                )
                learnt += 1
            out[first + at] = model.score(row)
    return out


def _arrivals(stream: Stream, loaded: Loaded, most: int) -> tuple[NDArray[np.int64], Verdicts]:
    """Return the verdicts of a stream in the order in which they arrive, and their times.

    A label arrives at its time, a legit by silence once the row has matured. A fraud that is labelled later than that
    was taken for legit before.
    """
    count = len(loaded.dataset)
    silent_ms = loaded.dataset.event_time_ms + round(
        stream.worker_settings(loaded).labels.negatives_after_days * MS_PER_DAY
    )
    labelled_ms = loaded.label_time_ms
    row = np.arange(count)
    sampled = Verdicts(row, loaded.fraud, np.ones(count)).sampled(most, np.random.default_rng(0))
    kept = sampled.row
    by_label = labelled_ms[kept] <= silent_ms[kept]
    first_ms = np.where(by_label, labelled_ms[kept], silent_ms[kept])
    first = np.flatnonzero(by_label | stream.silence_is_legit)
    late = sampled.fraud | (not stream.silence_is_legit)
    later = np.flatnonzero(late & ~by_label & (labelled_ms[kept] != NEVER))
    at = np.concatenate([first, later])
    all_ms = np.concatenate([first_ms[first], labelled_ms[kept[later]]])
    fraud = np.concatenate([(sampled.fraud & by_label)[first], sampled.fraud[later]])
    order = np.argsort(all_ms, kind="stable")
    at, fraud = at[order], fraud[order]
    return all_ms[order], Verdicts(kept[at], fraud, sampled.weight[at])
