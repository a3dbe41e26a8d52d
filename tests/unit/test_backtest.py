from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY, Decider, Flag
from worker.offline.backtest import BacktestResult, backtest
from worker.offline.dataset import NEVER
from worker.offline.worker_run import Decisions, ranking_score
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic, simulate

TRAFFIC = Traffic(
    cards=200, merchants=30, days=16, per_card_day=2.0, prevalence=0.06, seed=3, label_delay_days=1.5
)
DATA = simulate(TRAFFIC)
MIDDLE_MS = TRAFFIC.start_ms + 11 * MS_PER_DAY
BEFORE = DATA.event_time_ms < MIDDLE_MS


def settings(**sections: Any) -> Settings:
    quick: dict[str, Any] = {
        "labels": {"negatives_after_days": 2.0, "horizon_days": 5.0, "max_silence_days": 2.0},
        "model": {"min_frauds": 30, "forest_min_rows": 400, "generation_days": 3.0, "digest_every": 32},
        "costs": {"review_cost": 3.0, "missed_fraud_fixed": 2.0, "missed_fraud_factor": 0.5},
    }
    return Settings(entity_key="0f" * 16, transaction=FIELDS, **(quick | sections))


@pytest.fixture(scope="module")
def result() -> BacktestResult:
    return backtest(settings(), DATA)


def deciders(decisions: Decisions) -> NDArray[np.uint16]:
    return decisions.flags & np.uint16(Flag.DECIDER)


def assert_same_decisions(one: Decisions, other: Decisions, rows: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(one.flags[: len(rows)][rows], other.flags[: len(rows)][rows])
    np.testing.assert_array_equal(one.score[: len(rows)][rows], other.score[: len(rows)][rows])


def test_every_transaction_is_decided_once_and_all_three_deciders_have_their_time(
    result: BacktestResult,
) -> None:
    reported: list[tuple[int, int]] = []
    again = backtest(settings(), DATA, progress=lambda decided, total: reported.append((decided, total)))
    assert reported == sorted(reported)
    assert reported[-1] == (result.transactions, len(DATA)) == (len(DATA), len(DATA))
    assert again.decisions.decided.all()
    assert np.isfinite(again.decisions.score).all()
    assert {Decider(int(one)) for one in deciders(result.decisions)} == set(Decider)


def test_two_runs_agree_to_the_bit(result: BacktestResult) -> None:
    again = backtest(settings(), DATA)
    assert_same_decisions(result.decisions, again.decisions, np.ones(len(DATA), np.bool_))
    assert result.model.digest() == again.model.digest()
    assert (result.model.version, result.evaluation) == (again.model.version, again.evaluation)


def test_what_labels_say_later_changes_no_decision_before(result: BacktestResult) -> None:
    assert DATA.is_fraud is not None
    assert DATA.label_time_ms is not None
    lied = np.where(DATA.label_time_ms >= MIDDLE_MS, ~DATA.is_fraud, DATA.is_fraud)
    other = backtest(settings(), dataclasses.replace(DATA, is_fraud=lied))
    assert_same_decisions(result.decisions, other.decisions, BEFORE)
    assert (deciders(result.decisions)[BEFORE] == Decider.ONLINE).any()
    assert (result.decisions.score[~BEFORE] != other.decisions.score[~BEFORE]).any()


def test_transactions_to_come_change_no_decision_before(result: BacktestResult) -> None:
    rng = np.random.default_rng(1)
    amount = np.where(BEFORE, DATA.amount, DATA.amount * rng.uniform(0.1, 30, len(DATA)))
    cards = np.where(BEFORE, np.arange(len(DATA)), rng.permutation(len(DATA)))
    changed = dataclasses.replace(DATA, amount=amount, card_id=DATA.card_id.take(pa.array(cards)))
    other = backtest(settings(), changed)
    assert_same_decisions(result.decisions, other.decisions, BEFORE)
    assert (result.decisions.score[~BEFORE] != other.decisions.score[~BEFORE]).any()


def test_a_data_set_that_ends_sooner_is_decided_alike_up_to_its_end(result: BacktestResult) -> None:
    shorter = backtest(settings(), DATA.take(np.flatnonzero(BEFORE)))
    assert_same_decisions(shorter.decisions, result.decisions, np.ones(shorter.transactions, np.bool_))


def test_a_repeated_transaction_is_decided_the_first_time_only() -> None:
    some = DATA.take(np.arange(300))
    names = some.transaction_id.to_pylist()
    names[200] = names[10]
    found = backtest(settings(), dataclasses.replace(some, transaction_id=pa.array(names)))
    assert np.flatnonzero(~found.decisions.decided).tolist() == [200]
    plain = backtest(settings(), some)
    assert (plain.evaluation.n, found.evaluation.n) == (300, 299)
    assert found.label_coverage == 1.0
    assert sum(found.decided_by.values()) == pytest.approx(1.0)
    assert_same_decisions(found.decisions, plain.decisions, np.arange(300) < 200)


def test_the_figures_are_those_of_the_decisions(result: BacktestResult) -> None:
    assert DATA.is_fraud is not None
    flags, fraud = result.decisions.flags, DATA.is_fraud
    alerted = (flags & Flag.ALERTED) != 0
    loss = 2.0 + 0.5 * DATA.amount
    found = result.evaluation
    assert found.n == len(DATA)
    assert found.prevalence == pytest.approx(fraud.mean())
    assert found.recall == pytest.approx((alerted & fraud).sum() / fraud.sum())
    assert found.precision == pytest.approx((alerted & fraud).sum() / alerted.sum())
    cases = np.count_nonzero(flags & Flag.OPENS_CASE)
    assert found.cost == pytest.approx(3.0 * cases + loss[fraud & ~alerted].sum())
    windows = {
        (card, at // MS_PER_DAY)
        for card, at in zip(DATA.card_id.to_pylist(), DATA.event_time_ms, strict=True)
    }
    cheapest = min(loss[fraud].sum(), 3.0 * len(windows))
    assert found.savings == pytest.approx(1 - found.cost / cheapest)
    pairs = {(card, at // MS_PER_DAY) for card, at in zip(
        DATA.card_id.filter(pa.array(alerted)).to_pylist(), DATA.event_time_ms[alerted], strict=True
    )}  # fmt: skip
    assert cases == len(pairs)
    for decider in Decider:
        share = np.mean(deciders(result.decisions) == decider)
        assert result.decided_by[decider.name.lower()] == pytest.approx(share)
    assert result.figures()["decided_by_online"] == result.decided_by["online"]
    assert result.label_coverage == 1.0


def test_only_the_stretch_asked_for_is_judged(result: BacktestResult) -> None:
    until_ms = MIDDLE_MS + MS_PER_DAY
    part = backtest(settings(), DATA, evaluate_from_ms=MIDDLE_MS, evaluate_to_ms=until_ms)
    rows = (DATA.event_time_ms >= MIDDLE_MS) & (DATA.event_time_ms < until_ms)
    assert DATA.is_fraud is not None
    assert part.evaluation.n == rows.sum()
    assert part.evaluation.prevalence == pytest.approx(DATA.is_fraud[rows].mean())
    assert part.decided_by["online"] == pytest.approx(
        np.mean(deciders(result.decisions)[rows] == Decider.ONLINE)
    )
    assert_same_decisions(part.decisions, result.decisions, np.ones(len(DATA), np.bool_))


def test_rows_whose_truth_is_never_known_are_neither_learnt_as_labels_nor_judged() -> None:
    assert DATA.label_time_ms is not None
    known = np.arange(len(DATA)) % 3 != 0
    hidden = dataclasses.replace(DATA, label_time_ms=np.where(known, DATA.label_time_ms, NEVER))
    found = backtest(settings(), hidden)
    assert found.evaluation.n == known.sum()
    assert found.label_coverage == pytest.approx(known.mean())
    assert DATA.is_fraud is not None
    lied = dataclasses.replace(hidden, is_fraud=np.where(known, DATA.is_fraud, ~DATA.is_fraud))
    assert_same_decisions(found.decisions, backtest(settings(), lied).decisions, np.ones(len(DATA), np.bool_))


def test_without_any_label_the_forest_decides_and_nothing_is_judged() -> None:
    some = dataclasses.replace(DATA.take(np.arange(2_000)), is_fraud=None, label_time_ms=None)
    found = backtest(settings(), some)
    assert found.evaluation.n == 0
    assert found.decided_by["online"] == 0.0
    assert found.decided_by["forest"] > 0.5
    assert found.model.frauds_learnt == 0
    budget = found.model.budget
    assert budget.online_elapsed_days == 0.0, "a model that is not there has not scored"
    assert budget.forest_elapsed_days > 1.0


def test_the_ranking_puts_the_online_model_above_the_forest_above_nobody() -> None:
    flags = np.array(
        [Decider.ONLINE, Decider.FOREST, Decider.NONE, Decider.FOREST, Decider.ONLINE], np.uint16
    )
    logit = np.array([-40.0, np.nan, np.nan, 9.0, 3.0], np.float32)
    forest = np.array([np.nan, 0.4, np.nan, 0.9, 0.1], np.float32)
    assert np.argsort(ranking_score(flags, logit, forest)).tolist() == [2, 1, 3, 0, 4]
