from __future__ import annotations

import dataclasses
import itertools
import json
from typing import Any

import numpy as np
import pytest

from models.ledger import decided_deltas, settled_deltas, summed
from models.payoff_deltas import PayoffDeltas, settled_payoffs
from models.records import Budget, Commit, Digest, EntityEvents, Evidence, ModelRecord, Policy, Refit
from models.refit import RefitPlan, generation_job
from models.state import ModelState
from models.threshold import CostPolicy
from models.vocabulary import MS_PER_DAY, Decider, Flag
from tests.support.model_log import EAGER, LINEAGE, POLICY, START_MS, commit, new_state
from worker.doctor.topic_checks import LARGEST_BATCH_BYTES
from worker.partition.record_layouts import encode_model

COUNTS = [
    (0, 0, 0),
    (50, 0, 0),
    (0, 50, 0),
    (0, 0, 50),
    (50, 1, 1),
    (21, 47, 12),
    (10, 10, 10),
    (11, 9, 31),
    (3, 61, 0),
]


@pytest.fixture(scope="module")
def generation() -> Refit:
    """An online model, so that commits are learnt from."""
    state = new_state(policy=EAGER)
    state.fold(0, commit(np.random.default_rng(3), 60))
    job = generation_job(state, RefitPlan(MS_PER_DAY, MS_PER_DAY, 256))
    assert job is not None
    return job()


def folded(generation: Refit, records: list[Commit]) -> ModelState:
    state = new_state()
    log: list[ModelRecord] = [generation, *records]
    for offset, record in enumerate(log):
        state.fold(offset, record)
    return state


@pytest.mark.parametrize("counts", COUNTS)
def test_a_split_commit_folds_to_the_same_state_to_the_bit(
    generation: Refit, counts: tuple[int, int, int]
) -> None:
    before = commit(np.random.default_rng(0), 30)
    whole = commit(np.random.default_rng(1), from_ms=START_MS + MS_PER_DAY // 2, counts=counts)
    pieces = list(whole.split(300))
    assert (len(pieces) > 1) == any(counts)
    assert folded(generation, [before, *pieces]).digest() == folded(generation, [before, whole]).digest()


@pytest.mark.parametrize("counts", COUNTS)
def test_pieces_hold_every_row_once_and_are_alike_in_bytes(counts: tuple[int, int, int]) -> None:
    whole = commit(np.random.default_rng(1), counts=counts)
    pieces = list(whole.split(300))
    sizes = [sum(array_bytes(p, kind) for kind in ("traffic", "evidence", "examples")) for p in pieces]
    longest = max(array_bytes(whole, "examples") // max(len(whole.examples), 1), 32)
    assert all(abs(size - 300) < longest for size in sizes[:-1])
    assert sizes[-1] < 300 + longest
    for kind in ("traffic", "evidence", "examples"):
        expected = getattr(whole, kind)
        for field in dataclasses.fields(expected):
            joined = np.concatenate([getattr(getattr(piece, kind), field.name) for piece in pieces])
            np.testing.assert_array_equal(joined, getattr(expected, field.name))


def array_bytes(piece: Commit, kind: str) -> int:
    part = getattr(piece, kind)
    return sum(getattr(part, field.name).nbytes for field in dataclasses.fields(part))


def test_money_and_the_digest_are_in_the_first_piece_and_clocks_in_every_one() -> None:
    whole = commit(np.random.default_rng(1), counts=(30, 5, 0), digest=Digest(7, "abc"))
    first, *rest = whole.split(300)
    assert len(rest) > 1
    assert (first.ledger, first.budget, first.digest) == (whole.ledger, whole.budget, Digest(7, "abc"))
    for piece in rest:
        assert len(piece.ledger.day) == len(piece.ledger.decided_day) == 0
        assert not piece.budget.online.any()
        assert not piece.budget.forest.any()
        assert (piece.budget.alerts, piece.budget.cases, piece.digest) == (0, 0, None)
        assert (piece.clocks_ms, piece.newest_label_ms) == (whole.clocks_ms, whole.newest_label_ms)


def of_many_days(days: int) -> Commit:
    """Return a commit that decides and settles payments of so many days, as an upload of a century would."""
    rng, count = np.random.default_rng(5), 4 * days
    times_ms = START_MS - MS_PER_DAY * rng.permutation(np.repeat(np.arange(days), 4)).astype(np.int64)
    flags = rng.choice(
        np.array([Decider.ONLINE, Decider.FOREST | Flag.ALERTED | Flag.OPENS_CASE], np.uint16), count
    )
    loss, signs = rng.uniform(1.0, 9.0, count), np.ones((3, count), np.int8)
    settled = settled_deltas(
        event_time_ms=times_ms,
        flags=flags,
        loss=loss,
        truth=rng.integers(0, 2, count).astype(np.uint8),
        labelled=np.ones(count, np.bool_),
        sign=np.ones(count, np.int8),
    )
    payoff = settled_payoffs(times_ms, flags, rng.normal(size=count).astype(np.float32), loss, signs)
    ledger = summed([settled, decided_deltas(times_ms[: count // 2])])
    return dataclasses.replace(commit(rng, 20), ledger=ledger, payoff=PayoffDeltas.summed([payoff]))


def test_money_of_thousands_of_days_is_cut_between_days_and_folds_alike(generation: Refit) -> None:
    whole = of_many_days(3_000)
    before = commit(np.random.default_rng(0), 30)
    cut, at_once = (folded(generation, [before, *it]) for it in (whole.split(700_000), [whole]))
    assert cut.ledger.closed_days == at_once.ledger.closed_days > 2_900
    np.testing.assert_allclose(
        dataclasses.astuple(cut.ledger.total(5.0)), dataclasses.astuple(at_once.ledger.total(5.0)), rtol=1e-12
    )
    newest, same = (dataclasses.astuple(it.ledger.window(30, 5.0)) for it in (cut, at_once))
    np.testing.assert_array_equal(newest, same)
    assert cut.payoffs.in_force == at_once.payoffs.in_force
    pieces = list(whole.split(700_000))
    assert len(pieces) > 10
    assert sum(len(it.traffic) for it in pieces) == len(whole.traffic)
    seen = [
        {*it.ledger.day.tolist(), *it.ledger.decided_day.tolist(), *it.payoff.day.tolist()} for it in pieces
    ]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 3_000, "all of a day is in one piece"
    sizes = [len(value) for value, _ in encode_model(whole)]
    assert max(sizes) < LARGEST_BATCH_BYTES


def test_an_empty_commit_is_one_piece() -> None:
    assert len(list(commit(np.random.default_rng(1), 0).split(300))) == 1


def changed(spec: dict[str, Any], **others: Any) -> str:
    return dataclasses.replace(LINEAGE, spec=dataclasses.replace(LINEAGE.spec, **spec), **others).id


def test_the_lineage_changes_with_everything_that_shapes_features_or_learning() -> None:
    ids = [
        LINEAGE.id,
        changed({"numeric": ("age", "balance")}),
        changed({"numeric": ()}),
        changed({"categorical": ("age",), "numeric": ("channel",)}),
        changed({"entities": ("device", "merchant")}),
        changed({"entities": ()}),
        changed({"half_lives_days": (1.0, 5.0, 21.0)}),
        changed({}, key_fingerprint="fedcba9876543210"),
        changed({}, fraud_weight=2.0),
        changed({}, fold_version=LINEAGE.fold_version + 1),
    ]
    assert all(one != other for one, other in itertools.combinations(ids, 2))


def test_equal_settings_are_one_lineage_whichever_process_asks() -> None:
    assert changed({}) == LINEAGE.id
    assert len(LINEAGE.id) == 16
    assert int(LINEAGE.id, 16) >= 0


def test_the_description_of_a_lineage_survives_json() -> None:
    assert json.loads(json.dumps(LINEAGE.describe())) == LINEAGE.describe()


@pytest.mark.parametrize("budget", [None, 12.5])
def test_a_policy_survives_json(budget: float | None) -> None:
    costs = CostPolicy(0.1 + 0.2, 1 / 3, 1e-9, budget)
    policy = dataclasses.replace(POLICY, costs=costs, min_frauds=17)
    again = Policy.from_json(json.loads(json.dumps(policy.to_json())))
    assert again == policy
    assert isinstance(again.costs, CostPolicy)


def test_a_policy_that_lacks_a_value_or_has_one_too_many_is_refused() -> None:
    values = POLICY.to_json()
    with pytest.raises(TypeError):
        Policy.from_json({name: value for name, value in values.items() if name != "horizon_ms"})
    with pytest.raises(TypeError):
        Policy.from_json({**values, "unheard_of": 1})


def test_parts_of_evidence_are_joined_in_their_order_and_none_is_empty() -> None:
    rng = np.random.default_rng(2)
    one, other = commit(rng, 3).evidence, commit(rng, 4).evidence
    joined = Evidence.concatenate([one, other], hashes=3)
    np.testing.assert_array_equal(joined.hashes, np.concatenate([one.hashes, other.hashes]))
    np.testing.assert_array_equal(joined.frauds, np.concatenate([one.frauds, other.frauds]))
    empty = Evidence.concatenate([], hashes=3)
    assert (len(empty), empty.hashes.shape, empty.frauds.dtype.str) == (0, (0, 3), "|i1")


def test_nothing_decided_is_no_traffic_and_no_budget() -> None:
    assert EntityEvents.empty(entities=2).entities.shape == (0, 2)
    assert Budget.empty().online.sum() == 0.0
