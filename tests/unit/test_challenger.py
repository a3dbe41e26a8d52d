"""Trees in shadow: they decide nothing, and what they would have decided is known."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import numpy as np
import pytest
from numpy.typing import NDArray

from models import refit as refit_module
from models.blend import Mix, Parts
from models.candidates import TREES, Shadow
from models.challenger import Challenger
from models.decision import Scores, decide
from models.records import Refit
from models.refit import RefitPlan, generation_job
from models.search import Found, Searcher
from models.state import ModelState
from models.threshold import CostPolicy
from models.vocabulary import MS_PER_DAY, ChallengerMode, Flag
from tests.support.model_log import DIGEST_EVERY, FEATURES, LINEAGE, POLICY, START_MS, fold_days
from tests.support.scripted_blend import column, scripted

COSTS = CostPolicy(review_cost=4.0, loss_fixed=0.0, loss_factor=1.0, alert_budget_cases_per_day=None)
FREE = dataclasses.replace(POLICY, costs=COSTS)
TREES_ALONE = Mix(0.0, 1.0)
WOULD = Flag.CHALLENGER_WOULD_ALERT


def plan(challenger: ChallengerMode) -> RefitPlan:
    return RefitPlan(7 * MS_PER_DAY, 5 * MS_PER_DAY, 500, challenger)


def stream() -> ModelState:
    """Return a state with examples of forty days, all but the last seven mature."""
    state = ModelState(LINEAGE, dataclasses.replace(FREE, memory_ms=90 * MS_PER_DAY), DIGEST_EVERY)
    fold_days(state, np.random.default_rng(5), days=40, a_day=120, frauds=0.2, with_labels=True)
    return state


def refit(state: ModelState, challenger: ChallengerMode) -> Refit:
    job = generation_job(state, plan(challenger))
    assert job is not None
    return job()


@pytest.fixture(scope="module")
def shadowed() -> tuple[ModelState, Refit]:
    state = stream()
    record = refit(state, ChallengerMode.SHADOW)
    state.fold(state.offset + 1, record)
    return state, record


def test_what_decides_is_the_same_with_a_challenger_in_shadow_as_without_trees(
    shadowed: tuple[ModelState, Refit],
) -> None:
    alone = refit(stream(), ChallengerMode.OFF)
    beside = {name: array for name, array in shadowed[1].arrays.items() if not name.startswith("challenger.")}
    assert set(beside) - set(alone.arrays) == {"shadow"}
    for name, array in alone.arrays.items():
        if name != "losses":  # those of the trees that were judged differ
            np.testing.assert_array_equal(array, beside[name], name)


def test_the_probability_is_that_of_trees_beside_the_tables_in_force(
    shadowed: tuple[ModelState, Refit],
) -> None:
    state, _ = shadowed
    assert state.online is not None
    assert state.challenger is not None
    assert state.choice is not None
    assert state.online.trees is None
    X = np.random.default_rng(2).normal(size=(50, FEATURES)).astype(np.float32)
    mix = state.challenger.mix
    logit = mix.tables * state.online.tables.score_batch(X[:, state.online.order])
    logit += mix.trees * state.challenger.trees.score(X) + mix.offset
    parts = Parts(state.online.score_parts(X).tables, state.challenger.trees.score(X))
    np.testing.assert_allclose(state.challenger.probability(parts), 1 / (1 + np.exp(-logit)), rtol=1e-12)
    assert mix.trees > 0.0
    assert state.choice.shadow == Shadow.from_array(shadowed[1].arrays["shadow"])
    assert state.choice.shadow is not None
    assert dataclasses.replace(state.choice.shadow.mix, offset=mix.offset) == mix


def test_a_generation_without_a_search_keeps_the_challenger_unless_trees_may_do_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(refit_module, "_CHEAP_ROWS", 0)
    state = stream()
    first = refit(state, ChallengerMode.SHADOW)
    state.fold(state.offset + 1, first)
    searches = 0
    search = Searcher.search

    def counted(searcher: Searcher) -> Found:
        nonlocal searches
        searches += 1
        return search(searcher)

    monkeypatch.setattr(Searcher, "search", counted)
    kept = refit(state, ChallengerMode.SHADOW)
    assert searches == 0
    assert kept.arrays["shadow"].tolist() == [first.arrays["shadow"][0], *first.arrays["challenger.mix"]]
    np.testing.assert_array_equal(kept.arrays["challenger.mix"], first.arrays["challenger.mix"])
    for other in (ChallengerMode.OFF, ChallengerMode.CHOOSE):
        changed = refit(state, other)
        assert not any(name.startswith(("challenger.", "shadow")) for name in changed.arrays)
    assert searches == 0
    state.fold(state.offset + 1, changed)
    assert state.challenger is None


def test_the_digest_covers_the_challenger(shadowed: tuple[ModelState, Refit]) -> None:
    state, record = stream(), shadowed[1]
    arrays = {name: array.copy() for name, array in record.arrays.items()}
    arrays["challenger.mix"][0] += 1e-9
    state.fold(state.offset + 1, dataclasses.replace(record, arrays=arrays))
    assert state.digest() != shadowed[0].digest()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("challenger.mix", np.array([np.nan, 1.0, 0.0])),
        ("challenger.mix", np.array([-1.0, 1.0, 0.0])),
        ("challenger.mix", np.array([1.0, 1.0])),
        ("shadow", np.array([float(len(TREES)), 1.0, 1.0, 0.0])),
        ("shadow", np.array([0.5, 1.0, 1.0, 0.0])),
        ("shadow", np.array([1.0, 1.0])),
    ],
)
def test_a_record_that_no_search_writes_is_refused(
    name: str, value: NDArray[Any], shadowed: tuple[ModelState, Refit]
) -> None:
    state, record = stream(), shadowed[1]
    with pytest.raises(ValueError, match=r"mix|shadow"):
        state.fold(state.offset + 1, dataclasses.replace(record, arrays={**record.arrays, name: value}))


class Column:
    """Trees whose logit is a feature."""

    def __init__(self, at: int) -> None:
        self.score = column(at)


def scored(
    online: list[float],
    trees: list[float],
    mix: Mix | None = TREES_ALONE,
    frauds: int = POLICY.min_frauds,
) -> Scores:
    """Decide transactions of 8.0, at odds of 1 to 1 just worth a review."""
    state = ModelState(LINEAGE, FREE, DIGEST_EVERY)
    state.online = scripted(column(0))
    state.challenger = None if mix is None else Challenger(cast("Any", Column(1)), mix)
    state.frauds_learnt = frauds
    features = np.zeros((len(online), FEATURES), np.float32)
    features[:, 0], features[:, 1] = online, trees
    hashes = np.full(len(online), 8 << 40 | 1, np.uint64)
    return decide(state, features, np.full(len(online), 8.0), hashes, START_MS + MS_PER_DAY)


def would(scores: Scores) -> list[bool]:
    return [bool(flags & WOULD) for flags in scores.flags.tolist()]


def test_the_challenger_would_alert_iff_its_expected_loss_reaches_the_threshold_in_force() -> None:
    scores = scored([-0.1, -0.1, 0.1, 0.1], [-0.1, 0.1, -0.1, 0.1])
    assert scores.alerted.tolist() == [False, False, True, True]
    assert would(scores) == [False, True, False, True]
    # Half of the tables, a quarter of the trees and an offset: -0.05 + 0.025 + 0.01 and 0.05 - 0.025 + 0.01.
    assert would(scored([-0.1, 0.1], [0.1, -0.1], Mix(0.5, 0.25, 0.01))) == [False, True]


def test_the_logit_of_the_trees_in_shadow_is_kept_beside_that_of_the_tables() -> None:
    scores = scored([-0.5, 0.5], [2.0, -3.0])
    assert (scores.tables_logit.tolist(), scores.trees_logit.tolist()) == ([-0.5, 0.5], [2.0, -3.0])
    np.testing.assert_array_equal(scores.logit, scores.tables_logit)
    for unchallenged in (scored([9.0], [9.0], frauds=POLICY.min_frauds - 1), scored([9.0], [9.0], mix=None)):
        assert np.isnan(unchallenged.trees_logit).all()


def test_without_a_challenger_or_another_decider_the_bit_says_what_was_decided() -> None:
    scores = scored([-0.1, 0.1], [9.0, -9.0], mix=None)
    assert would(scores) == [False, True]
    untrusted = scored([9.0], [9.0], frauds=POLICY.min_frauds - 1)
    assert would(untrusted) == untrusted.alerted.tolist() == [False]


def test_an_alert_of_the_challenger_joins_the_cases_of_actual_alerts_and_makes_none() -> None:
    # A tenth of a review is reached at a probability of 1/20, a logit of -2.94.
    online, trees = [-1.0, -9.0, -9.0, 0.1, 0.1, 0.1, -1.0], [-9.0, -1.0, -1.0, -1.0, -1.0, -9.0, -1.0]
    scores = scored(online, trees)
    assert scores.may_join.tolist() == [True, True, True, True, True, False, True]
    joined = scores.joining(np.array([True, True, False, True, False, False, True]))
    assert joined.alerted.tolist() == [True, False, False, True, True, True, True]
    # The fifth opens the case itself, which the challenger would not have done.
    assert would(joined) == [False, True, False, True, False, False, True]
    sampled = scores.legit_weight[1]
    assert joined.legit_weight.tolist() == [1.0, sampled, sampled, 1.0, 1.0, 1.0, 1.0]
    assert sampled != 1.0
    assert would(scored([-1.0, -1.0], [0, 0], mix=None).joining(np.array([True, False]))) == [True, False]


def test_what_the_challenger_would_alert_changes_no_example() -> None:
    assert scored([-9.0], [9.0]).legit_weight.tolist() == scored([-9.0], [-9.0]).legit_weight.tolist()
