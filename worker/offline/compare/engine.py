"""Fits, tunes and scores one strategy in both blocks: frozen before the test window, and refreshed through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.offline.compare.material import Material
from worker.offline.compare.result import Block, Decided
from worker.offline.compare.rules import Alerting, with_joins
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import LeftOutError, Model, OnlineModel, Strategy
from worker.offline.compare.windows import Windows, learnable

REFIT_MS: Final = 7 * MS_PER_DAY
MEMORY_MS: Final = 90 * MS_PER_DAY
"""A refit learns from so much time, as the worker does by default, or from the train window's length if it is more."""
_HOUR_MS: Final = MS_PER_DAY // 24
_LARGEST_SEED: Final = 2**32 - 1
_NO_END: Final = np.iinfo(np.int64).max
_Scores = Callable[[int], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Tried:
    """What a strategy did in one block.

    Attributes
    ----------
    block
        Which one.
    decided
        Of the rows from the test window on.
    fit_seconds
        Of all fits.
    score_us
        Microseconds a transaction to score.
    rows_learnt
        Of the last fit, after sampling.
    """

    block: Block
    decided: Decided
    fit_seconds: float
    score_us: float
    rows_learnt: int


def try_out(material: Material, strategy: Strategy, seed: int) -> Iterator[Tried]:
    """Run a strategy through the frozen block, then through the refreshed one.

    Parameters
    ----------
    material
        What it may see.
    strategy
        With a batch model or an online model.
    seed
        Decides everything random.

    Yields
    ------
    Tried
        Each block as soon as it is done.

    Raises
    ------
    LeftOutError
        The strategy cannot be run on this data.
    """
    if strategy.make is not None:
        return _Batch(material, strategy, seed, strategy.make).blocks()
    if strategy.make_online is not None:
        return _Online(material, strategy, seed, strategy.make_online).blocks()
    raise LeftOutError("it has no model")


def capped(sample: Sample, rows: int | None, seed: int) -> Sample:
    """Return at most so many rows: sampled legits, each then standing for 1/rate.

    Frauds are sampled too where they alone are more than half of the rows allowed.
    """
    if rows is None or len(sample) <= rows:
        return sample
    rng = np.random.default_rng([seed, len(sample)])
    frauds, legits = np.flatnonzero(sample.fraud), np.flatnonzero(~sample.fraud)
    kept_frauds = min(len(frauds), max(rows // 2, rows - len(legits)))
    kept_legits = min(len(legits), rows - kept_frauds)
    chosen, weight = np.zeros(len(sample), np.bool_), sample.weight.copy()
    for candidates, kept in ((frauds, kept_frauds), (legits, kept_legits)):
        chosen[rng.permutation(candidates)[:kept]] = True
        weight[candidates] *= len(candidates) / max(kept, 1)
    columns = {name: getattr(sample, name) for name in Sample.layout()}
    return Sample(**{**columns, "weight": weight}, categorical=sample.categorical).take(
        np.flatnonzero(chosen)
    )


class _Run:
    """What batch and online strategies share: rows from the tuning window on, and how they are scored and decided.

    Thresholds are tuned on the scores of a model that had not learnt the rows.
    """

    def __init__(self, material: Material, strategy: Strategy, seed: int) -> None:
        self.material, self.windows, self.strategy = material, material.windows, strategy
        self.seed = seed % _LARGEST_SEED
        self.scored = material.between(self.windows.tune_ms, self.windows.end_ms)
        self.times_ms = material.event_time_ms[self.scored]
        self.fit_seconds, self.score_seconds, self.rows_scored, self.rows_learnt = 0.0, 0.0, 0, 0

    def train_rows(self, now_ms: int) -> NDArray[np.int64]:
        """Return the rows up to `MEMORY_MS` ago, but none of the warm-up, whose verdicts have matured by now."""
        memory_ms = max(self.windows.train_length_ms, MEMORY_MS)
        start_ms = max(self.windows.train_ms, now_ms - memory_ms)
        return learnable(self.material.event_time_ms, self.material.verdicts, start_ms, now_ms, now_ms)

    def score(self, model: Model | OnlineModel, rows: slice) -> NDArray[np.float64]:
        """Score rows of `scored`; raises LeftOutError unless each gets a finite number."""
        first = self.scored.start
        sample = self.material.to_score(slice(first + rows.start, first + rows.stop))
        if len(sample) == 0:
            return np.zeros(0)
        started_s = time.perf_counter()
        scores = np.asarray(model.score(sample), np.float64)
        self.score_seconds += time.perf_counter() - started_s
        self.rows_scored += len(sample)
        if scores.shape != (len(sample),):
            raise LeftOutError(f"it gave scores of shape {scores.shape} for {len(sample)} transactions")
        if not np.isfinite(scores).all():
            raise LeftOutError(f"it gave {np.count_nonzero(~np.isfinite(scores))} scores that are not finite")
        return scores

    def tuning(self, now_ms: int) -> tuple[int, int]:
        """Return the newest stretch of time that has matured, as long as the tuning window."""
        end_ms = now_ms - (self.windows.test_ms - self.windows.gap_ms)
        return end_ms - self.windows.tune_length_ms, end_ms

    def alerting(self, scores: NDArray[np.float64], now_ms: int) -> Alerting:
        """Settle the threshold on the rows of `tuning`, within the budget of cases."""
        start_ms, end_ms = self.tuning(now_ms)
        rows = learnable(self.material.event_time_ms, self.material.verdicts, start_ms, end_ms, now_ms)
        strategy, budget = self.strategy, self.material.budget_cases_per_day
        alerting = Alerting.settled(
            strategy.rule,
            scores[rows - self.scored.start],
            self.material.known_by(rows, now_ms),
            self.material.review_cost,
            is_probability=strategy.is_probability,
        )
        if budget is None:
            return alerting
        # Whether their truth is known or not, cases have to be reviewed.
        tuned = self.rows(start_ms, end_ms)
        loss, case = self.material.loss[self.scored][tuned], self.material.case[self.scored][tuned]
        return alerting.within(budget * (end_ms - start_ms) / MS_PER_DAY, scores[tuned], loss, case)

    def decide(self, weeks: list[int], tuned_on: _Scores, scores: _Scores) -> Decided:
        """Decide the test rows, the threshold being settled anew at the beginning of each of the weeks.

        Parameters
        ----------
        weeks
            Their beginnings.
        tuned_on, scores
            Return scores for a week, float64 (n,) as `scored`: those of the rows of `tuning`, and those of the week's.
        """
        parts, loss = [], self.material.loss[self.scored]
        alerting: Alerting | None = None
        for start_ms, end_ms in zip(weeks, [*weeks[1:], self.windows.end_ms], strict=True):
            rows = self.rows(start_ms, end_ms)
            try:
                alerting = self.alerting(tuned_on(start_ms), start_ms)
            except LeftOutError:
                # A week that has too little to tune on keeps the threshold of the week before.
                if alerting is None:
                    raise
            parts.append(alerting.decide(scores(start_ms)[rows], loss[rows]))
        case = self.material.case[self.scored][self.rows(weeks[0], self.windows.end_ms)]
        return with_joins(Decided.concatenate(parts), self.strategy.rule, case)

    def rows(self, start_ms: int, end_ms: int) -> slice:
        """Return the rows of `scored` in a stretch of time."""
        start, end = np.searchsorted(self.times_ms, [start_ms, end_ms])
        return slice(int(start), int(end))

    def weeks(self) -> list[int]:
        """Return when models and thresholds are refreshed: at the start of the test window, then every week."""
        return list(range(self.windows.test_ms, self.windows.end_ms, REFIT_MS))

    def tried(self, block: Block, decided: Decided) -> Tried:
        """Return what was done since the last call."""
        score_us = 1e6 * self.score_seconds / max(self.rows_scored, 1)
        done = Tried(block, decided, self.fit_seconds, score_us, self.rows_learnt)
        self.fit_seconds, self.score_seconds, self.rows_scored = 0.0, 0.0, 0
        return done


class _Batch(_Run):
    """A model that is fitted as a whole."""

    def __init__(self, material: Material, strategy: Strategy, seed: int, make: Callable[[], Model]) -> None:
        super().__init__(material, strategy, seed)
        self._make = make

    def blocks(self) -> Iterator[Tried]:
        frozen = self._scored_by(
            self._fitted(self.windows.tune_ms), self.windows.tune_ms, self.windows.end_ms
        )
        yield self.tried(
            Block.FROZEN, self.decide([self.windows.test_ms], lambda _: frozen, lambda _: frozen)
        )
        yield self.tried(Block.REFRESHED, self.decide(self.weeks(), self._held_out, self._in_use))

    def _in_use(self, now_ms: int) -> NDArray[np.float64]:
        """Return scores of the week that begins, by a model that has learnt all that has matured."""
        return self._scored_by(self._fitted(now_ms), now_ms, now_ms + REFIT_MS)

    def _held_out(self, now_ms: int) -> NDArray[np.float64]:
        """Return scores of the rows to tune on, by the model of a tuning window's length ago, which has learnt none.

        It has learnt from nearly as much as the one in use, so that the scores of both are alike: the fewer rows a
        model learns, the further off its probabilities are. One fitted before the first of these rows would lack the
        verdicts of another delay of the labels: thresholds from its scores cost more, though its scores are as old.
        """
        start_ms, end_ms = self.tuning(now_ms)
        model = self._fitted(now_ms - self.windows.tune_length_ms, before_ms=start_ms)
        return self._scored_by(model, start_ms, end_ms)

    def _scored_by(self, model: Model, start_ms: int, end_ms: int) -> NDArray[np.float64]:
        """Return the scores of a stretch of time, NaN elsewhere."""
        scores, rows = np.full(len(self.times_ms), np.nan), self.rows(start_ms, end_ms)
        scores[rows] = self.score(model, rows)
        return scores

    def _fitted(self, now_ms: int, before_ms: int = _NO_END) -> Model:
        rows = self.train_rows(now_ms)
        rows = rows[self.material.event_time_ms[rows] < before_ms]
        train = self.material.known_by(rows, now_ms)
        train = capped(train, self.strategy.caps.rows, self.seed)
        if not train.fraud.any() or train.fraud.all():
            raise LeftOutError("the training window has only one class")
        model = self._make()
        started_s = time.perf_counter()
        model.fit(train, self.seed)
        self.fit_seconds += time.perf_counter() - started_s
        self.rows_learnt = len(train)
        return model


@dataclass(frozen=True, slots=True)
class _Arrivals:
    """The verdicts of a run in the order in which they can be learnt.

    As by the worker, a fraud is learnt when its label arrives, and a row by then without one when it matures, as legit.
    A fraud label that comes later still has it learnt again, as fraud.

    Attributes
    ----------
    time_ms, row : int64 (m,)
    fraud : bool (m,)
    weight : float64 (m,)
    """

    time_ms: NDArray[np.int64]
    row: NDArray[np.int64]
    fraud: NDArray[np.bool_]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, material: Material, cap: int | None, seed: int) -> _Arrivals:
        """Collect them; beyond `cap` legits are sampled, and frauds where they alone are more than half of it."""
        matures_ms, fraud_ms, end_ms = material.matures_ms, material.fraud_ms, material.windows.end_ms
        # A label dated at or before its transaction is known once that has been decided.
        fraud_ms = np.maximum(fraud_ms, material.event_time_ms)
        said = np.flatnonzero(fraud_ms < end_ms)
        silent = np.flatnonzero((matures_ms < fraud_ms) & (matures_ms < end_ms))
        time_ms, row = np.concatenate([fraud_ms[said], matures_ms[silent]]), np.concatenate([said, silent])
        fraud = np.arange(len(row)) < len(said)
        # The draw of a row is its own: no label that comes later changes which rows were learnt before.
        draw = np.random.default_rng([seed, len(material)]).random(len(material))[row]
        of_legits, of_frauds = _rates(time_ms, fraud, cap, material.windows)
        rate = np.where(fraud, of_frauds, of_legits)
        weight = np.where(draw < rate, 1.0 / rate, 0.0)
        order = np.lexsort((row, time_ms))
        order = order[weight[order] > 0.0]
        return cls(time_ms[order], row[order], fraud[order], weight[order])


def _rates(
    time_ms: NDArray[np.int64], fraud: NDArray[np.bool_], cap: int | None, windows: Windows
) -> tuple[float, float]:
    """Return the shares of legits and of frauds to learn, so that all of a run are about `cap`.

    How many come until the end is taken from those that had come by the end of the train window.
    """
    known = time_ms < windows.tune_ms
    if cap is None or not known.any():
        return 1.0, 1.0
    since_ms = int(time_ms.min())
    growth = (windows.end_ms - since_ms) / max(windows.tune_ms - since_ms, 1)
    frauds, legits = growth * (known & fraud).sum(), growth * (known & ~fraud).sum()
    if frauds + legits <= cap:
        return 1.0, 1.0
    of_frauds = min(1.0, max(cap / 2, cap - legits) / max(frauds, 1.0))
    return min(1.0, (cap - frauds * of_frauds) / max(legits, 1.0)), of_frauds


class _Online(_Run):
    """A model that learns each verdict as it arrives."""

    def __init__(
        self, material: Material, strategy: Strategy, seed: int, make: Callable[[int], OnlineModel]
    ) -> None:
        super().__init__(material, strategy, seed)
        self._model = make(seed)
        self._arrivals = _Arrivals.of(material, strategy.caps.rows, self.seed)
        self._learnt = 0

    def blocks(self) -> Iterator[Tried]:
        self._learn_until(self.windows.tune_ms)
        frozen = self.score(self._model, slice(0, len(self.times_ms)))
        yield self.tried(
            Block.FROZEN, self.decide([self.windows.test_ms], lambda _: frozen, lambda _: frozen)
        )
        # One model does for both blocks: scoring changes nothing, so that the frozen block is scored before more is
        # learnt.
        scores = np.full(len(self.times_ms), np.nan)
        for start_ms in range(self.windows.tune_ms, self.windows.end_ms, _HOUR_MS):
            rows = self.rows(start_ms, start_ms + _HOUR_MS)
            scores[rows] = self.score(self._model, rows)
            self._learn_until(start_ms + _HOUR_MS)
        yield self.tried(Block.REFRESHED, self.decide(self.weeks(), lambda _: scores, lambda _: scores))

    def _learn_until(self, now_ms: int) -> None:
        arrivals = self._arrivals
        # What arrives at that very moment may be of a transaction of it, which is not scored yet.
        end = int(np.searchsorted(arrivals.time_ms, now_ms, side="left"))
        chosen = slice(self._learnt, end)
        if end == self._learnt:
            return
        sample = self.material.known_by(arrivals.row[chosen], now_ms)
        sample = replace(sample, fraud=arrivals.fraud[chosen], weight=arrivals.weight[chosen])
        started_s = time.perf_counter()
        self._model.learn(sample)
        self.fit_seconds += time.perf_counter() - started_s
        self._learnt = self.rows_learnt = end
