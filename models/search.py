"""Chooses how a generation is made, by days that the candidates have not seen.

The examples of matured days are cut at moments of the past. At each cut every candidate learns what lies before it and
is judged on the days after it by weighted log loss: as a generation meets the days after its own making. Trees learn
nothing of the time that labels need, tables only what has a verdict by then, where a generation does. Larger trees are
chosen where their loss is lower, once each has the slope and intercept that suit these days; then slopes, too, and last
differences of columns, where these are better by more than one standard error (Breiman et al. 1984), so that noise
moves little. Tables are judged by what they bring beside these trees, and chosen in place of the default ones likewise.
From the logits on those days come the weights of tables and trees, and slope and intercept, which make a probability of
them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.blend import Blend, BoostedRows, Mix, TableSample, Trees, TreeSample, build_blend
from models.boosting import BoostingParams
from models.candidates import (
    FOR_FEW_FRAUDS,
    FOR_MANY_FRAUDS,
    FOR_NEARLY_NO_FRAUDS,
    TABLES,
    TREES,
    Choice,
    Shadow,
    with_differences,
    with_slopes,
)
from models.challenger import Challenger
from models.cuts import Cut, draw_cuts
from models.differences import Differences
from models.feature_layout import FeatureLayout
from models.generation import TrainingRows
from models.label_delay import Ripening
from models.online import LogisticParams
from models.stacking import blended_logit, fit_mix
from models.threshold import Calibration, log_loss, probabilities
from models.vocabulary import MS_PER_DAY, ChallengerMode

SEARCH_ROWS: Final = 60_000
"""The most rows that trees are fitted to in a search."""
_ORDER_ROWS: Final = 10_000
"""The most rows, the newest, by which columns are put in order for the tables."""
_TABLE_ROWS: Final = 100_000
"""The most rows that tables learn in a search, the newest."""
BOOSTED_ROWS: Final = 120_000
"""The most rows that trees are fitted to at the end: all frauds up to half of them, the legits sampled and weighted."""
_MANY_FRAUDS: Final = 3_000
"""From so many on, larger trees are candidates."""
_Score = Callable[[NDArray[np.float32]], NDArray[np.float64]]


class Found(NamedTuple):
    """A choice, and what the search behind it knew.

    Attributes
    ----------
    choice
        As it is recorded.
    certainty
        How many verdicts its weights and calibration were fitted to, each counted by p (1 - p). Those of models that
        knew less than the generation does count for less.
    judged
        The rows that it was judged by; None for a choice that stays in force without a search.
    known_share
        Of the mature rows, how many its models knew.
    """

    choice: Choice
    certainty: float
    judged: TrainingRows | None = None
    known_share: float = 1.0


class Built(NamedTuple):
    """A generation, the calibration of its logit, and how many verdicts stand behind both (`Found.certainty`)."""

    blend: Blend
    calibration: Calibration
    certainty: float
    challenger: Challenger | None = None

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return blend and challenger as arrays of numbers, by name."""
        return self.blend.arrays() | ({} if self.challenger is None else self.challenger.arrays())


class _Judged(NamedTuple):
    """Which of `TREES` or `TABLES`, and their logits on the judged rows."""

    at: int
    logit: NDArray[np.float64]


class Searcher:
    """Searches over the examples of one generation.

    Parameters
    ----------
    ripening
        Examples of matured days, and the young ones that have a verdict. What trees learn and what they are judged on
        lie its `wait_ms` apart: so long do labels take. Where it `learns_young`, tables learn the verdicts in between.
    layout
        Of the features.
    fraud_weight
        Class weight of the lineage.
    seed
        Decides every sample.
    challenger
        What trees may do.
    recent : float32 (n, F)
        Features of the traffic of now, whose labels are not known yet; None where there is none.
    """

    def __init__(
        self,
        ripening: Ripening,
        layout: FeatureLayout,
        fraud_weight: float,
        seed: int,
        challenger: ChallengerMode = ChallengerMode.CHOOSE,
        recent: NDArray[np.float32] | None = None,
    ) -> None:
        self._challenger = challenger
        self._recent = recent
        self._ripening = ripening
        mature = ripening.mature_at(ripening.now_ms)
        self._time_ms = ripening.examples.event_time_ms[mature]
        self._rows = ripening.known_at(ripening.now_ms, mature)
        self._names, self._categorical, self._given = layout.names, layout.categorical, layout.given
        self._fraud_weight, self._seed = fraud_weight, seed
        self._plain_order = np.arange(len(layout.names), dtype=np.int16)
        self._tree_samples: dict[tuple[int, bool], TreeSample] = {}
        self._differences: Differences
        self._table_samples: dict[tuple[object, ...], TableSample] = {}

    def search(self) -> Found:
        """Judge all candidates."""
        cuts = self._cuts()
        if not cuts:
            return self.default()
        trees, order = self._chosen_trees(cuts)
        beside = trees.logit if self._challenger is ChallengerMode.CHOOSE else None
        tables = self._chosen_tables(cuts, order, beside)
        self._tree_samples.clear()
        self._table_samples.clear()
        rows = self._judged_rows(cuts)
        y, w = rows.y, rows.w
        mix, calibration = fit_mix(tables.logit, beside, y == 1, w)
        blended = blended_logit(tables.logit, beside, mix, calibration)
        choice = Choice(
            tables.at,
            trees.at if mix.trees > 0.0 else -1,
            mix,
            order,
            calibration,
            _mean_loss(tables.logit, y, w),
            _mean_loss(trees.logit, y, w),
            _mean_loss(blended, y, w),
            rows=len(self._rows.y),
            known_frauds=round(np.mean([_frauds(cut.known, SEARCH_ROWS) for cut in cuts])),
            shadow=self._shadow(tables, trees, y, w),
        )
        known_share = len(cuts[-1].known.y) / len(self._rows.y)
        return Found(choice, _certainty(blended, w) * known_share, rows, known_share)

    def default(self) -> Found:
        """Return the choice where too few frauds are known to judge anything: tables alone."""
        return Found(Choice(FOR_NEARLY_NO_FRAUDS, -1, Mix(), self._plain_order), 0.0)

    def newest_rows(self, most: int) -> TrainingRows:
        """Return the newest mature rows."""
        return self._rows.take(np.arange(len(self._rows.y))[-most:])

    def build(self, found: Found) -> Built:
        """Make the generation of all examples.

        Where nothing was judged, it is calibrated by the newest quarter of what it learns, scored row by row before it
        has learnt the row.
        """
        choice, trees = found.choice, None
        if choice.trees_at >= 0 or choice.shadow is not None:
            size = choice.size(_frauds(self._rows, BOOSTED_ROWS))
            sampled = BoostedRows.of(self._rows, BOOSTED_ROWS, self._seed)
            its = TreeSample.of(self._rows, self._categorical, sampled, self._recent)
            if size.differences:
                its = its.with_differences(Differences.among(choice.order, self._given))
            trees = its.fit(size, self._seed)
        learnt = self._ripening.in_order(self._ripening.now_ms)
        tables = self._table_params(choice.tables_at)
        sample = TableSample.of(learnt, self._categorical, choice.order, tables)
        deciding = trees if choice.trees_at >= 0 else None
        blend, before = build_blend(sample, self._names, tables, choice.mix, deciding)
        shadow = None
        if trees is not None and choice.shadow is not None:
            shadow = _levelled_challenger(Challenger(trees, choice.shadow.mix), blend, found)
        if choice.calibration is not None:
            calibration = _levelled(blend.score_batch, choice.calibration, found)
            return Built(blend, calibration, found.certainty, shadow)
        newest = slice(len(before) - len(before) // 4, None)
        logit, y, w = before[newest], learnt.y[newest], learnt.w[newest]
        calibration = Calibration.fit(logit, y == 1, w)
        return Built(blend, calibration, _certainty(calibration.slope * logit + calibration.intercept, w))

    def _shadow(
        self, tables: _Judged, trees: _Judged, y: NDArray[np.uint8], w: NDArray[np.float64]
    ) -> Shadow | None:
        """Weigh trees beside the tables that decide without them; None where they would weigh nothing."""
        if self._challenger is not ChallengerMode.SHADOW:
            return None
        mix, calibration = fit_mix(tables.logit, trees.logit, y == 1, w)
        # Its logit is not calibrated any more.
        slope, intercept = calibration.slope, calibration.intercept
        its = Mix(slope * mix.tables, slope * mix.trees, intercept)
        return Shadow(trees.at, its) if mix.trees > 0.0 else None

    def _chosen_trees(self, cuts: list[Cut]) -> tuple[_Judged, NDArray[np.int16]]:
        """Choose trees whose loss is lower, and by the first ones the order of the columns for the tables.

        Larger ones need not be better by more than noise: a generation knows more frauds than the cuts do, and what is
        best for more frauds is rather larger. Then comes whether they start from slopes: a choice among all sizes with
        and without would be one of chance where most are alike. Last comes whether they split differences, which must
        be better by more than noise.
        """
        are_many = np.count_nonzero(self._rows.y) >= _MANY_FRAUDS
        first, *larger = FOR_MANY_FRAUDS if are_many else FOR_FEW_FRAUDS
        fits = [self._trees(cut, TREES[first]) for cut in cuts]
        # The tables cross the first columns only: those that matter to the trees, not those declared first.
        # What the trees have learnt would say too much: of its own categories they know the label.
        order = _order(fits[-1], self._rows.X[cuts[-1].judged[-_ORDER_ROWS:]])
        self._differences = Differences.among(order, self._given)
        smallest = _Judged(first, self._logits(cuts, fits))

        def judged(some: list[Cut], at: int) -> NDArray[np.float64]:
            return self._logits(some, [self._trees(cut, TREES[at]) for cut in some])

        candidates = [] if self._challenger is ChallengerMode.OFF else larger
        chosen = self._best(cuts, smallest, candidates, judged, self._calibrated, beyond_noise=False)
        sloped = with_slopes(chosen.at) if candidates else []
        chosen = self._best(cuts, chosen, sloped, judged, self._calibrated, beyond_noise=False)
        paired = with_differences(chosen.at) if candidates and len(self._differences.pairs) else []
        return self._best(cuts, chosen, paired, judged, self._calibrated, beyond_noise=True), order

    def _calibrated(self, cuts: list[Cut], logit: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the logits of trees with the slope and intercept that suit the judged days: the mix has its own.

        Large trees are too sure of themselves, and as they are they would lose to small ones that rank worse.
        """
        rows = self._judged_rows(cuts)
        calibration = Calibration.fit(logit, rows.y == 1, rows.w)
        if calibration.slope < 0.0:
            # What ranks the wrong way round is worth nothing, as to the mix, and not as much as its opposite.
            frauds = float(np.dot(rows.w, rows.y))
            calibration = replace(calibration, slope=0.0).expecting(frauds, logit, rows.w)
        return calibration.slope * logit + calibration.intercept

    def _chosen_tables(
        self, cuts: list[Cut], order: NDArray[np.int16], beside: NDArray[np.float64] | None
    ) -> _Judged:
        """Choose the default tables, or others that beside the trees are better by more than noise.

        What is best alone need not be beside trees, which do not learn from day to day: so they are compared as the mix
        would use them. While frauds are few its prior holds both weights near one half, so that the scale of a logit
        counts, too.

        Parameters
        ----------
        cuts
            The newest one last.
        order
            Columns as the tables take them.
        beside : float64 (n,) or None
            The logits of the trees on the days of all cuts; None where there are no trees.
        """

        def judged(some: list[Cut], at: int) -> NDArray[np.float64]:
            return self._judged_tables(some, at, order)

        def blended(some: list[Cut], logit: NDArray[np.float64]) -> NDArray[np.float64]:
            rows = self._judged_rows(some)
            trees = None if beside is None else beside[-len(logit) :]
            return blended_logit(logit, trees, *fit_mix(logit, trees, rows.y == 1, rows.w))

        default, others = _Judged(0, judged(cuts, 0)), list(range(1, len(TABLES)))
        return self._best(cuts, default, others, judged, blended, beyond_noise=True)

    def _best(
        self,
        cuts: list[Cut],
        simplest: _Judged,
        others: list[int],
        judged: Callable[[list[Cut], int], NDArray[np.float64]],
        used: Callable[[list[Cut], NDArray[np.float64]], NDArray[np.float64]],
        *,
        beyond_noise: bool,
    ) -> _Judged:
        """Return the first candidate that is better on all days, of those that are on the newest ones, the best first.

        The simplest one stays where none is. So only few are made at all cuts. None hides another: what is best on a
        few days may be that by chance, and the next best may be better on all.

        Parameters
        ----------
        cuts
            The newest one last.
        simplest, others
            The candidate that stays where no other is better, and the places of the others.
        judged
            Makes the logits of the candidate at a place on the days of some cuts.
        used
            Makes of these the logits by which it is compared.
        beyond_noise
            Whether to be better on all days means by more than one standard error.
        """
        newest, rows = cuts[-1:], slice(-len(cuts[-1].judged), None)
        to_beat, better = used(newest, simplest.logit[rows]), []
        for at in others:
            found = _Judged(at, judged(newest, at))
            gain = float(self._gains(newest, used(newest, found.logit), to_beat).sum())
            if gain > 0.0:
                better.append((gain, found))
        to_beat = used(cuts, simplest.logit)
        for _, (at, newest_logit) in sorted(better, key=lambda it: -it[0]):
            logit = np.concatenate([judged(cuts[:-1], at), newest_logit])
            gains = self._gains(cuts, used(cuts, logit), to_beat)
            if float(gains.sum()) > (_noise(gains) if beyond_noise else 0.0):
                return _Judged(at, logit)
        return simplest

    def _gains(
        self, cuts: list[Cut], found: NDArray[np.float64], best: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return by how much logits lower the weighted log loss of each day, float64 (days,)."""
        judged = np.concatenate([cut.judged for cut in cuts])
        y, w, day = self._rows.y[judged], self._rows.w[judged], self._time_ms[judged] // MS_PER_DAY
        gain = w * (log_loss(best, y) - log_loss(found, y))
        return np.asarray(np.bincount(np.unique(day, return_inverse=True)[1], gain), np.float64)

    def _judged_rows(self, cuts: list[Cut]) -> TrainingRows:
        return self._rows.take(np.concatenate([cut.judged for cut in cuts]))

    def _logits(self, cuts: list[Cut], fits: list[Trees]) -> NDArray[np.float64]:
        logits = [fit.score(self._rows.X[cut.judged]) for fit, cut in zip(fits, cuts, strict=True)]
        return np.concatenate([np.empty(0), *logits])

    def _cuts(self) -> list[Cut]:
        return draw_cuts(self._ripening, self._time_ms, self._rows.y)

    def _table_params(self, at: int) -> LogisticParams:
        return {**TABLES[at], "fraud_weight": self._fraud_weight}

    def _judged_tables(self, cuts: list[Cut], at: int, order: NDArray[np.int16]) -> NDArray[np.float64]:
        """Return the logits of tables on the judged rows of all cuts, learning day by day what becomes known."""
        logits, params = [], self._table_params(at)
        for cut in cuts:
            blend, _ = build_blend(self._table_sample(cut, params, order), self._names, params)
            day = (self._time_ms[cut.judged] - cut.at_ms) // MS_PER_DAY
            for each in range(int(day[-1]) + 1):
                logits.append(blend.score_batch(self._rows.X[cut.judged[day == each]]))
                begun_ms = cut.at_ms + each * MS_PER_DAY
                blend.learn_batch(*cut.ripening.verdicts_between(begun_ms, begun_ms + MS_PER_DAY))
        return np.concatenate([np.empty(0), *logits])

    def _table_sample(self, cut: Cut, params: LogisticParams, order: NDArray[np.int16]) -> TableSample:
        """Return the rows that tables learn at a cut, made once for all that have as many bins."""
        key = cut.at_ms, params.get("main_bins"), params.get("cross_bins"), order.tobytes()
        if key not in self._table_samples:
            rows = cut.ripening.in_order(cut.at_ms, _TABLE_ROWS)
            self._table_samples[key] = TableSample.of(rows, self._categorical, order, params)
        return self._table_samples[key]

    def _trees(self, cut: Cut, size: BoostingParams) -> Trees:
        """Fit trees to what is known at a cut, sampled once for all sizes."""
        if (cut.at_ms, False) not in self._tree_samples:
            sampled = BoostedRows.of(cut.known, SEARCH_ROWS, self._seed)
            self._tree_samples[cut.at_ms, False] = TreeSample.of(cut.known, self._categorical, sampled)
        if (cut.at_ms, size.differences) not in self._tree_samples:
            plain = self._tree_samples[cut.at_ms, False]
            self._tree_samples[cut.at_ms, True] = plain.with_differences(self._differences)
        return self._tree_samples[cut.at_ms, size.differences].fit(size, self._seed)


def _noise(gains: NDArray[np.float64]) -> float:
    """Return the standard error of a sum over days; that of a single day is not known."""
    return float(gains.std(ddof=1) * np.sqrt(len(gains))) if len(gains) > 1 else float("inf")


def _levelled(score: _Score, calibration: Calibration, found: Found) -> Calibration:
    """Move the intercept towards the one with which the generation expects as many frauds as the judged days have.

    The models of the cuts knew but a share of what the generation has learnt. While features still grow, as in the
    first weeks, they expect too few frauds, and the intercept that mends this would make the generation expect too
    many. So its own, of days that it has learnt, counts for the share that they did not know.
    """
    if found.judged is None:
        return calibration
    X, y, w = found.judged
    own = calibration.expecting(float(np.dot(w, y)), score(X), w).intercept
    return replace(calibration, intercept=own + found.known_share * (calibration.intercept - own))


def _levelled_challenger(challenger: Challenger, blend: Blend, found: Found) -> Challenger:
    """Move its offset as the intercept of what decides is moved."""
    shift = _levelled(
        lambda X: challenger.score(blend.score_parts(X)._replace(trees=challenger.trees.score(X))),
        Calibration(),
        found,
    ).intercept
    return replace(challenger, mix=replace(challenger.mix, offset=challenger.mix.offset + shift))


def _certainty(logit: NDArray[np.float64], w: NDArray[np.float64]) -> float:
    p = probabilities(logit)
    return float(np.dot(w, p * (1.0 - p)))


def _order(trees: Trees, X: NDArray[np.float32]) -> NDArray[np.int16]:
    """Return the columns by their part in the logits of trees, the greatest first."""
    part = np.abs(trees.contributions(X)).mean(axis=0)
    return np.argsort(-part, kind="stable").astype(np.int16)


def _frauds(rows: TrainingRows, most: int) -> int:
    """Return how many frauds such a sample has."""
    return min(int(np.count_nonzero(rows.y)), most // 2)


def _mean_loss(logit: NDArray[np.float64], y: NDArray[np.uint8], w: NDArray[np.float64]) -> float:
    return float(np.average(log_loss(logit, y), weights=w))
