"""The decision of a batch: who decides, with what score, and whether to alert. It reads the model state alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from models.blend import Parts
from models.payoff_deltas import IDLE_FOREST_ONE_IN, level_bits
from models.threshold import forest_rank, online_ratio
from models.vocabulary import Decider, Flag

if TYPE_CHECKING:
    from models.state import ModelState

_WOULD_ALERT: Final = Flag.ALERTED | Flag.ONLINE_WOULD_ALERT | Flag.FOREST_WOULD_ALERT


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of n decided transactions.

    Attributes
    ----------
    logit, probability : float32 (n,)
        Of the online model, before and after calibration; NaN without one.
    tables_logit, trees_logit : float32 (n,)
        Of its parts, see `models.blend.Parts`; NaN without them. In shadow the trees are the challenger's.
    forest_score : float32 (n,)
        NaN where the forest did not score.
    challenger_ratio : float64 (n,)
        Expected loss by the challenger over review cost; NaN without one.
    loss : float64 (n,)
        The loss if the transaction is a missed fraud.
    ratio : float64 (n,)
        Expected loss over review cost.
    rank : float64 (n,)
        Forest score times amount.
    flags : uint16 (n,)
        The bits of `Flag` but those that need the card's history.
    legit_weight : float32 (n,)
        The weight of its example if it turns out legit: 1 where either decider would alert; of the others, one in N,
        chosen by hash, has weight N and the rest have 0. N is the largest power of two below 1 over the probability of
        fraud, and at most `ModelState.sample_one_in`.
    online_lambda, forest_cut : float
        The two thresholds in force; inf where that decider may open no case.
    joining_lambda : float
        From which on the online model alerts where the card has an open case: that costs no review and nothing of the
        alert budget.
    least_lambda : float
        What `online_lambda` would be without the alert budget.
    """

    logit: NDArray[np.float32]
    probability: NDArray[np.float32]
    tables_logit: NDArray[np.float32]
    trees_logit: NDArray[np.float32]
    forest_score: NDArray[np.float32]
    loss: NDArray[np.float64]
    ratio: NDArray[np.float64]
    rank: NDArray[np.float64]
    flags: NDArray[np.uint16]
    legit_weight: NDArray[np.float32]
    online_lambda: float
    forest_cut: float
    joining_lambda: float
    least_lambda: float
    challenger_ratio: NDArray[np.float64]

    @property
    def alerted(self) -> NDArray[np.bool_]:
        """Which of them are alerts, bool (n,)."""
        return np.asarray((self.flags & Flag.ALERTED) != 0)

    @property
    def may_join(self) -> NDArray[np.bool_]:
        """Which the model, or its challenger, alerts on only if their card has an open case, bool (n,)."""
        own, challengers = (
            (ratio >= self.joining_lambda) & (ratio < self.online_lambda)
            for ratio in (self.ratio, self.challenger_ratio)
        )
        return self._decided_online & (own | challengers)

    @property
    def joined(self) -> NDArray[np.bool_]:
        """Which of them are alerts only because their card has an open case, bool (n,)."""
        return self._decided_online & self.alerted & (self.ratio < self.online_lambda)

    def joining(self, has_case: NDArray[np.bool_]) -> Scores:
        """Return the same with those as alerts that join a case; `has_case`, bool (n,), says which of `may_join` can.

        The cases are those of the actual alerts, for the challenger too.
        """
        joins = has_case & ~self.alerted & (self.ratio >= self.joining_lambda)
        challenged = has_case & _challenged(self.challenger_ratio, self.joining_lambda, joins)
        added = _flags(joins, Flag.ALERTED | Flag.ONLINE_WOULD_ALERT)
        return replace(
            self,
            flags=self.flags | added | _flags(challenged, Flag.CHALLENGER_WOULD_ALERT),
            legit_weight=np.where(joins, np.float32(1), self.legit_weight),
        )

    @property
    def online_threshold(self) -> NDArray[np.float64]:
        """The ratio from which the online model alerted, or would have, on each of them, float64 (n,)."""
        return np.where(self.joined, self.joining_lambda, self.online_lambda)

    @property
    def _decided_online(self) -> NDArray[np.bool_]:
        return np.asarray((self.flags & Flag.DECIDER) == Decider.ONLINE)

    @property
    def forest_weight(self) -> NDArray[np.float64]:
        """How many decisions each forest score stands for, float64 (n,); 0 where the forest did not score."""
        scored = (self.flags & Flag.FOREST_SCORED) != 0
        decided = (self.flags & Flag.DECIDER) == Decider.FOREST
        return np.where(scored, np.where(decided, 1.0, IDLE_FOREST_ONE_IN), 0.0)


def decide(
    model: ModelState,
    features: NDArray[np.float32],
    amount: NDArray[np.float64],
    id_hash: NDArray[np.uint64],
    now_ms: int,
) -> Scores:
    """Decide n transactions as of the model state.

    Parameters
    ----------
    model
        This function reads it and does not change it.
    features : float32 (n, F)
    amount : float64 (n,)
    id_hash : uint64 (n,)
        Chooses the samples: every worker samples the same transactions.
    now_ms
        The partition's clock after them: the model state's clock may still be of the day before.
    """
    policy = model.policy.costs
    logit, parts = _online_scores(model, features)
    decider = _deciders(model, logit)
    parts = _challenged_parts(model, parts, features, decider)
    forest_score = _forest_score(model, features, decider, id_hash)
    probability = np.asarray(model.calibration.probability(logit.astype(np.float64)), np.float32)
    loss = policy.loss(amount)
    ratio = online_ratio(probability.astype(np.float64), loss, policy)
    rank = forest_rank(forest_score.astype(np.float64), amount)
    online_lambda, forest_cut, forest_budget_cut, joining_lambda = model.thresholds(now_ms)
    challenger_ratio = _challenger_ratio(model, parts, loss)
    online_would = ratio >= online_lambda
    forest_would = rank >= forest_budget_cut
    by_forest = (decider == Decider.FOREST) & (rank >= forest_cut)
    alerted = np.where(decider == Decider.ONLINE, online_would, by_forest)
    challenged = _challenged(challenger_ratio, online_lambda, alerted)
    flags = decider.astype(np.uint16) | level_bits(ratio)
    for chosen, flag in (
        (alerted, Flag.ALERTED),
        (online_would, Flag.ONLINE_WOULD_ALERT),
        (forest_would, Flag.FOREST_WOULD_ALERT),
        (np.isfinite(forest_score), Flag.FOREST_SCORED),
        (challenged, Flag.CHALLENGER_WOULD_ALERT),
    ):
        flags |= _flags(chosen, flag)
    return Scores(
        logit=logit,
        probability=probability,
        tables_logit=finite_logit(parts.tables),
        trees_logit=finite_logit(parts.trees),
        forest_score=forest_score,
        loss=loss,
        ratio=ratio,
        rank=rank,
        flags=flags,
        legit_weight=_legit_weight(flags, id_hash, probability, model.sample_one_in),
        online_lambda=online_lambda,
        forest_cut=forest_cut,
        joining_lambda=joining_lambda,
        least_lambda=model.payoffs.in_force.least_lambda,
        challenger_ratio=challenger_ratio,
    )


def _challenged(ratio: NDArray[np.float64], least: float, otherwise: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return what the challenger would alert on; without one, as decided."""
    return np.where(np.isfinite(ratio), ratio >= least, otherwise)


def _flags(where: NDArray[np.bool_], flag: Flag) -> NDArray[np.uint16]:
    return np.where(where, np.uint16(flag), np.uint16(0))


def _legit_weight(
    flags: NDArray[np.uint16], id_hash: NDArray[np.uint64], probability: NDArray[np.float32], most: int
) -> NDArray[np.float32]:
    """Sample legits by what they teach, which is as much as their probability of fraud (Fithian and Hastie 2014).

    One in N is kept, for the largest power of two below 1 / p, but at least one in `most`: a legit counts for no
    more than a fraud would, and one that looks half like fraud does not stand for hundreds.
    """
    likely = np.maximum(np.nan_to_num(probability.astype(np.float64)), 0.5 / most)
    one_in = np.clip(np.ldexp(1.0, -np.frexp(likely)[1]), 1, most).astype(np.uint64)
    sampled = np.where(id_hash % one_in == 0, one_in.astype(np.float32), np.float32(0))
    return np.where((flags & _WOULD_ALERT) != 0, np.float32(1), sampled)


def _online_scores(model: ModelState, features: NDArray[np.float32]) -> tuple[NDArray[np.float32], Parts]:
    """Return the logit of the online model, where it is finite, and those of its parts; NaN without one."""
    if model.online is None:
        nothing = np.full(len(features), np.nan)
        return finite_logit(nothing), Parts(nothing, nothing)
    parts = model.online.score_parts(features)
    return finite_logit(model.online.blended(parts)), parts


def finite_logit(logit: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return logits as a decision keeps them, float32 (n,): what is not finite is no score, and NaN."""
    with np.errstate(over="ignore"):
        narrow = logit.astype(np.float32)
    return np.where(np.isfinite(narrow), narrow, np.float32(np.nan))


def _challenged_parts(
    model: ModelState, parts: Parts, features: NDArray[np.float32], decider: NDArray[np.uint8]
) -> Parts:
    """Return the parts with the challenger's trees where the online model decides; without one as they are."""
    if model.challenger is None:
        return parts
    rows = np.flatnonzero(decider == Decider.ONLINE)
    trees = np.full(len(features), np.nan)
    trees[rows] = model.challenger.trees.score(features[rows])
    return parts._replace(trees=trees)


def _challenger_ratio(model: ModelState, parts: Parts, loss: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return expected loss over review cost where the online model decides and has a challenger; NaN elsewhere."""
    if model.challenger is None:
        return np.full(len(loss), np.nan)
    return online_ratio(model.challenger.probability(parts), loss, model.policy.costs)


def _deciders(model: ModelState, logit: NDArray[np.float32]) -> NDArray[np.uint8]:
    otherwise = Decider.NONE if model.forest is None else Decider.FOREST
    trusted = np.isfinite(logit) if model.online_decides else np.zeros(len(logit), np.bool_)
    return np.where(trusted, np.uint8(Decider.ONLINE), np.uint8(otherwise))


def _forest_score(
    model: ModelState, features: NDArray[np.float32], decider: NDArray[np.uint8], id_hash: NDArray[np.uint64]
) -> NDArray[np.float32]:
    score = np.full(len(features), np.nan, np.float32)
    if model.forest is not None:
        # Other bits of the hash than those that choose examples: the two samples must be independent.
        chosen = (decider == Decider.FOREST) | (
            (id_hash >> np.uint64(40)) % np.uint64(IDLE_FOREST_ONE_IN) == 0
        )
        rows = np.flatnonzero(chosen)
        score[rows] = model.forest.score(features[rows])
    return score
