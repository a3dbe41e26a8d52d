from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from models.ledger import (
    CELLS,
    CLOSED_DAYS_KEPT,
    Cohort,
    Ledger,
    LedgerDeltas,
    Truth,
    decided_deltas,
    settled_deltas,
    summed,
)
from models.state import ModelState
from models.vocabulary import MS_PER_DAY, Decider, Flag
from tests.support.model_log import POLICY, commit, new_state

DAY = 19_000
REVIEW = 5.0
LATER = (DAY + 1_000) * MS_PER_DAY


def settle(ledger: Ledger, day: int, rows: list[tuple[int, float, Truth]], sign: int = 1) -> None:
    """Settle rows of (flags, loss, truth) by label."""
    n = len(rows)
    ledger.fold(
        settled_deltas(
            event_time_ms=np.full(n, day * MS_PER_DAY + 5, np.int64),
            flags=np.array([row[0] for row in rows], np.uint16),
            loss=np.array([row[1] for row in rows]),
            truth=np.array([row[2] for row in rows], np.uint8),
            labelled=np.ones(n, bool),
            sign=np.full(n, sign, np.int8),
        )
    )


def decide(ledger: Ledger, day: int, count: int) -> None:
    ledger.fold(decided_deltas(np.full(count, day * MS_PER_DAY + 7, np.int64)))


ALERT = int(Flag.ALERTED | Flag.ONLINE_WOULD_ALERT | Decider.ONLINE)
CASE = ALERT | int(Flag.OPENS_CASE | Flag.FIRST_OF_WINDOW)
PASS = int(Decider.ONLINE)
FIRST = PASS | int(Flag.FIRST_OF_WINDOW)


def test_the_fraud_of_a_day_is_what_labels_have_said_so_far() -> None:
    ledger = Ledger()
    decide(ledger, DAY, 7)
    settle(ledger, DAY, [(CASE, 100.0, Truth.FRAUD), (PASS, 60.0, Truth.FRAUD), (PASS, 50.0, Truth.LEGIT)])
    assert ledger.fraud_of_day(DAY) == (2.0, 7)
    settle(ledger, DAY, [(PASS, 60.0, Truth.FRAUD)], sign=-1)
    assert ledger.fraud_of_day(DAY) == (1.0, 7)
    assert ledger.fraud_of_day(DAY + 1) == (0.0, 0)


def test_a_closed_day_by_hand() -> None:
    ledger = Ledger()
    decide(ledger, DAY, 7)
    settle(
        ledger,
        DAY,
        [
            (CASE, 100.0, Truth.FRAUD),
            (ALERT, 60.0, Truth.FRAUD),
            (CASE, 50.0, Truth.LEGIT),
            (CASE, 10.0, Truth.UNRESOLVED),
            (FIRST, 40.0, Truth.FRAUD),
            (FIRST, 20.0, Truth.LEGIT),
            (PASS, 20.0, Truth.LEGIT),
        ],
    )
    assert ledger.close((DAY + 1) * MS_PER_DAY, None) == 1
    cohort = ledger.window(1, REVIEW)
    assert (cohort.decisions, cohort.settled, cohort.frauds) == (7, 7, 3)
    assert (cohort.alerts, cohort.cases) == (4, 3)
    assert cohort.prevalence == pytest.approx(3 / 6)
    assert cohort.label_coverage == 1.0
    assert cohort.recall == pytest.approx(2 / 3)
    assert cohort.recall_by_value == pytest.approx(160 / 200)
    assert cohort.precision == pytest.approx(2 / 3)
    assert cohort.f1 == pytest.approx(2 / 3)
    assert cohort.cost == pytest.approx(3 * 5 + 40)
    assert cohort.cost_none == pytest.approx(200.0)
    assert cohort.cost_all == pytest.approx(5 * 5)
    assert cohort.savings == pytest.approx(1 - 55 / 25)
    assert cohort.online_cost == pytest.approx(cohort.cost)


def random_rows(n: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    decider = rng.integers(0, 3, n)
    alerted = (rng.random(n) < 0.2) & (decider > 0)
    bits = (
        (alerted, Flag.ALERTED),
        (rng.random(n) < 0.2, Flag.ONLINE_WOULD_ALERT),
        (rng.random(n) < 0.3, Flag.CHALLENGER_WOULD_ALERT),
        (rng.random(n) < 0.5, Flag.FIRST_OF_WINDOW),
        (alerted & (rng.random(n) < 0.7), Flag.OPENS_CASE),
    )
    flags = decider.astype(np.uint16)
    for where, bit in bits:
        flags |= np.where(where, np.uint16(bit), np.uint16(0))
    return {
        "event_time_ms": (DAY * MS_PER_DAY + rng.integers(0, 5 * MS_PER_DAY, n)).astype(np.int64),
        "flags": flags,
        "loss": rng.exponential(50.0, n),
        "truth": rng.integers(0, 3, n).astype(np.uint8),
        "labelled": rng.random(n) < 0.4,
        "sign": np.ones(n, np.int8),
    }


def test_the_ledger_equals_a_count_over_the_rows() -> None:
    rows = random_rows(5_000, seed=1)
    ledger = Ledger()
    for part in np.array_split(np.random.default_rng(2).permutation(5_000), 13):
        some = {name: column[part] for name, column in rows.items()}
        ledger.fold(summed([settled_deltas(**some), decided_deltas(some["event_time_ms"])]))
    ledger.close(LATER, None)
    cohort = ledger.window(2, REVIEW)

    last_two = rows["event_time_ms"] // MS_PER_DAY >= DAY + 3
    flags, loss, truth = (rows[name][last_two] for name in ("flags", "loss", "truth"))
    alerted, fraud, legit = (flags & Flag.ALERTED) != 0, truth == Truth.FRAUD, truth == Truth.LEGIT
    online = (flags & Flag.ONLINE_WOULD_ALERT) != 0
    cases, alerts = ((flags & Flag.OPENS_CASE) != 0).sum(), alerted.sum()
    none, everything = loss[fraud].sum(), REVIEW * ((flags & Flag.FIRST_OF_WINDOW) != 0).sum()
    recall = alerted[fraud].mean()
    precision = fraud[alerted & (fraud | legit)].mean()
    cost = REVIEW * cases + loss[fraud & ~alerted].sum()
    assert (cohort.days, cohort.decisions, cohort.settled) == (2, last_two.sum(), last_two.sum())
    assert (cohort.frauds, cohort.alerts, cohort.cases) == (fraud.sum(), alerts, cases)
    assert cohort.prevalence == pytest.approx(fraud.sum() / (fraud | legit).sum())
    assert cohort.label_coverage == pytest.approx(rows["labelled"][last_two].mean())
    assert cohort.recall == pytest.approx(recall)
    assert cohort.recall_by_value == pytest.approx(loss[fraud & alerted].sum() / none)
    assert cohort.precision == pytest.approx(precision)
    assert cohort.f1 == pytest.approx(2 * precision * recall / (precision + recall))
    assert cohort.cost == pytest.approx(cost)
    assert cohort.savings == pytest.approx(1 - cost / min(none, everything))
    expected = REVIEW * online.sum() * cases / alerts + loss[fraud & ~online].sum()
    assert cohort.online_cost == pytest.approx(expected)
    challenger = (flags & Flag.CHALLENGER_WOULD_ALERT) != 0
    expected = REVIEW * challenger.sum() * cases / alerts + loss[fraud & ~challenger].sum()
    assert cohort.challenger_cost == pytest.approx(expected)
    assert ledger.total(REVIEW).settled == 5_000


def test_the_number_of_a_cell_fits_a_byte() -> None:
    assert 1 + np.iinfo(np.uint8).max >= CELLS


def test_nothing_is_published_while_a_day_is_open() -> None:
    ledger = Ledger()
    decide(ledger, DAY, 2)
    settle(ledger, DAY, [(CASE, 1.0, Truth.FRAUD)])
    assert ledger.close((DAY + 1) * MS_PER_DAY, None) == 0
    cohort = ledger.window(30, REVIEW)
    assert (cohort.days, cohort.settled, cohort.cost) == (0, 0, 0.0)
    undefined = (cohort.recall, cohort.precision, cohort.f1, cohort.prevalence, cohort.label_coverage)
    assert all(math.isnan(value) for value in (*undefined, cohort.savings, cohort.recall_by_value))


def test_days_that_close_without_a_label_are_counted() -> None:
    ledger = Ledger()
    for day in (DAY, DAY + 1):
        decide(ledger, day, 2)
    settle(ledger, DAY, [(PASS, 20.0, Truth.LEGIT), (PASS, 20.0, Truth.FRAUD)])
    silent = settled_deltas(
        event_time_ms=np.full(2, (DAY + 1) * MS_PER_DAY + 5, np.int64),
        flags=np.full(2, PASS, np.uint16),
        loss=np.full(2, 20.0),
        truth=np.full(2, Truth.LEGIT, np.uint8),
        labelled=np.zeros(2, bool),
        sign=np.ones(2, np.int8),
    )
    ledger.fold(silent)
    assert ledger.unlabelled_days(30) == 0, "none is closed"
    assert ledger.close(LATER, None) == 2
    assert (ledger.unlabelled_days(1), ledger.unlabelled_days(30)) == (1, 1)


def test_a_settled_day_stays_open_until_it_is_over() -> None:
    ledger = Ledger()
    decide(ledger, DAY, 1)
    settle(ledger, DAY, [(CASE, 1.0, Truth.FRAUD)])
    assert ledger.close((DAY + 1) * MS_PER_DAY - 1, None) == 0
    assert ledger.close((DAY + 1) * MS_PER_DAY, None) == 1
    assert ledger.close((DAY + 1) * MS_PER_DAY, None) == 0


def end_of(day: int) -> int:
    return (day + 1) * MS_PER_DAY


def test_rows_that_never_settle_hold_a_day_open_until_silence_has_settled_a_later_one() -> None:
    ledger = Ledger()
    decide(ledger, DAY, 3)
    settle(ledger, DAY, [(CASE, 1.0, Truth.FRAUD)])
    decide(ledger, DAY + 1, 200)
    settle(ledger, DAY + 1, [(PASS, 1.0, Truth.LEGIT)] * 197)
    assert ledger.close(LATER, end_of(DAY + 1)) == 0, "a hundredth and a half of the later day is open"
    settle(ledger, DAY + 1, [(PASS, 1.0, Truth.LEGIT)])
    assert ledger.close(LATER, None) == 0
    assert ledger.close(LATER, end_of(DAY + 1) - 1) == 0, "labels alone may have settled it"
    assert ledger.close(LATER, end_of(DAY + 1)) == 1
    assert (ledger.window(1, REVIEW).decisions, ledger.window(1, REVIEW).settled) == (3, 1)


def test_the_horizon_closes_no_day_that_silence_has_yet_to_settle() -> None:
    ledger = Ledger()
    for day in range(DAY, DAY + 20):
        decide(ledger, day, 3)
        settle(ledger, day, [(CASE, 1.0, Truth.FRAUD)])
    assert ledger.close(LATER, end_of(DAY + 30)) == 0
    for day in range(DAY, DAY + 20):
        settle(ledger, day, [(PASS, 1.0, Truth.LEGIT)] * 2)
        assert ledger.close(LATER, end_of(DAY + 30)) == 1
    assert (ledger.total(REVIEW).decisions, ledger.total(REVIEW).settled) == (60, 60)


def test_a_day_closes_a_year_past_the_horizon_whatever_is_open() -> None:
    ledger = Ledger()
    decide(ledger, DAY, 3)
    assert ledger.close(LATER, None) == 0
    assert ledger.close(LATER, end_of(DAY + 365) - 1) == 0
    assert ledger.close(LATER, end_of(DAY + 365)) == 1


def fold_money(state: ModelState, day: int, deltas: list[LedgerDeltas], newest_label_ms: int | None) -> None:
    """Fold a commit at the end of a day that changes the ledger alone."""
    record = commit(np.random.default_rng(0), 0, clocks_ms={0: end_of(day)})
    record = dataclasses.replace(record, ledger=summed(deltas), newest_label_ms=newest_label_ms)
    state.fold(state.offset + 1, record)


@pytest.mark.parametrize("newest_label_ms", [None, end_of(DAY + 1)])
def test_no_day_closes_on_its_frauds_alone_while_the_label_feed_is_silent(
    newest_label_ms: int | None,
) -> None:
    state = new_state(policy=dataclasses.replace(POLICY, horizon_ms=10 * MS_PER_DAY))
    for day in range(DAY, DAY + 40):
        times_ms = np.full(100, day * MS_PER_DAY + 7, np.int64)
        # The last day but two is settled by labels alone: it proves nothing of silence.
        count = 100 if day == DAY + 37 else 2
        frauds = settled_deltas(
            event_time_ms=times_ms[:count],
            flags=np.full(count, CASE, np.uint16),
            loss=np.ones(count),
            truth=np.full(count, Truth.FRAUD, np.uint8),
            labelled=np.ones(count, np.bool_),
            sign=np.ones(count, np.int8),
        )
        fold_money(state, day, [decided_deltas(times_ms), frauds], newest_label_ms)
    assert state.ledger.closed_days == 1, "the one that is settled"


def test_no_day_closes_for_a_lower_horizon_before_the_partitions_have_settled_it() -> None:
    state = new_state(policy=POLICY)
    for day in range(DAY, DAY + 25):
        decided = decided_deltas(np.full(100, day * MS_PER_DAY + 7, np.int64))
        fold_money(state, day, [decided], newest_label_ms=end_of(day))
    state.fold(state.offset + 1, dataclasses.replace(POLICY, horizon_ms=10 * MS_PER_DAY))
    fold_money(state, DAY + 25, [], newest_label_ms=end_of(DAY + 25))
    assert state.ledger.closed_days == 0


def test_a_closed_day_stays_as_published_and_what_comes_later_is_counted_apart() -> None:
    ledger = Ledger()
    decide(ledger, DAY, 1)
    settle(ledger, DAY, [(PASS, 80.0, Truth.LEGIT)])
    ledger.close((DAY + 1) * MS_PER_DAY, None)
    published = str(ledger.window(1, REVIEW))
    settle(ledger, DAY, [(PASS, 80.0, Truth.LEGIT)], sign=-1)
    settle(ledger, DAY, [(PASS, 80.0, Truth.FRAUD)])
    decide(ledger, DAY, 5)
    assert str(ledger.window(1, REVIEW)) == published
    assert ledger.after_close == {Truth.FRAUD: 1.0, Truth.LEGIT: -1.0, Truth.UNRESOLVED: 0.0}


def test_a_changed_truth_moves_a_decision_of_an_open_day() -> None:
    ledger = Ledger()
    decide(ledger, DAY, 1)
    settle(ledger, DAY, [(PASS, 80.0, Truth.LEGIT)])
    settle(ledger, DAY, [(PASS, 80.0, Truth.LEGIT)], sign=-1)
    settle(ledger, DAY, [(PASS, 80.0, Truth.FRAUD)])
    ledger.close((DAY + 1) * MS_PER_DAY, None)
    cohort = ledger.window(1, REVIEW)
    assert (cohort.settled, cohort.frauds, cohort.cost_none) == (1, 1, 80.0)


def test_the_idle_forest_is_judged_by_the_rows_it_scored() -> None:
    scored, would = int(Flag.FOREST_SCORED), int(Flag.FOREST_SCORED | Flag.FOREST_WOULD_ALERT)
    rows = [(PASS | scored, 40.0, Truth.LEGIT)] * 6 + [(PASS, 40.0, Truth.LEGIT)] * 42
    rows += [(CASE | would, 30.0, Truth.FRAUD), (CASE | scored, 10.0, Truth.FRAUD)]
    rows += [(CASE, 40.0, Truth.FRAUD)] * 14
    ledger = Ledger()
    decide(ledger, DAY, len(rows))
    settle(ledger, DAY, rows)
    ledger.close((DAY + 1) * MS_PER_DAY, None)
    # Of 64 rows it scored 8 and would have alerted on 1: on 8 in all. Of the 40 lost in the frauds it scored
    # it would have missed 10, a quarter: so a quarter of 600 in all.
    assert ledger.window(1, REVIEW).forest_cost == pytest.approx(8 * 5 + 150)


def test_a_forest_that_scored_nothing_has_no_cost() -> None:
    ledger = Ledger()
    decide(ledger, DAY, 1)
    settle(ledger, DAY, [(PASS, 80.0, Truth.FRAUD)])
    ledger.close((DAY + 1) * MS_PER_DAY, None)
    assert math.isnan(ledger.window(1, REVIEW).forest_cost)


def test_before_the_first_forest_every_fraud_is_lost_on_its_account() -> None:
    ledger = Ledger()
    decide(ledger, DAY, 2)
    settle(ledger, DAY, [(int(Decider.NONE), 80.0, Truth.FRAUD), (int(Decider.NONE), 9.0, Truth.LEGIT)])
    ledger.close((DAY + 1) * MS_PER_DAY, None)
    cohort = ledger.window(1, REVIEW)
    assert (cohort.forest_cost, cohort.online_cost, cohort.cost) == (80.0, 80.0, 80.0)


def test_old_closed_days_are_merged_and_never_open_again() -> None:
    ledger, extra = Ledger(), 40
    assert ledger.closed_until_ms is None
    for day in range(DAY, DAY + CLOSED_DAYS_KEPT + extra):
        decide(ledger, day, 1)
        settle(ledger, day, [(CASE, 10.0, Truth.FRAUD)])
        ledger.close((day + 1) * MS_PER_DAY, None)
    assert len(ledger.arrays()["days"]) == CLOSED_DAYS_KEPT
    total = ledger.total(REVIEW)
    assert (total.days, total.decisions, total.frauds) == (CLOSED_DAYS_KEPT + extra,) * 3
    assert ledger.window(7, REVIEW).frauds == 7
    settle(ledger, DAY - 500, [(CASE, 10.0, Truth.FRAUD)])
    settle(ledger, DAY + 3, [(CASE, 10.0, Truth.FRAUD)])
    assert ledger.after_close[Truth.FRAUD] == 2.0
    assert str(ledger.total(REVIEW)) == str(total)
    assert ledger.closed_until_ms == (DAY + CLOSED_DAYS_KEPT + extra) * MS_PER_DAY


def test_an_open_day_is_not_merged_with_closed_ones_around_it() -> None:
    ledger = Ledger()
    decide(ledger, DAY, 2)
    settle(ledger, DAY, [(CASE, 10.0, Truth.FRAUD)])
    for day in range(DAY + 1, DAY + CLOSED_DAYS_KEPT + 10):
        decide(ledger, day, 1)
        settle(ledger, day, [(CASE, 10.0, Truth.FRAUD)])
        ledger.close((day + 1) * MS_PER_DAY, None)
    assert ledger.closed_days == CLOSED_DAYS_KEPT + 9
    settle(ledger, DAY, [(CASE, 10.0, Truth.FRAUD)])
    ledger.close(LATER, None)
    assert ledger.total(REVIEW).frauds == CLOSED_DAYS_KEPT + 11


def test_days_far_apart_are_summed_like_neighbours() -> None:
    times = np.array([0, 40_000, 0, 2**40], np.int64) * MS_PER_DAY
    deltas = decided_deltas(times)
    assert deltas.decided_day.tolist() == [0, 40_000, 2**31 - 1]
    assert deltas.decided_count.tolist() == [2, 1, 1]


def test_deltas_have_one_row_per_day_and_cell() -> None:
    rows = random_rows(2_000, seed=3)
    deltas = settled_deltas(**rows)
    assert len(set(zip(deltas.day.tolist(), deltas.cell.tolist(), strict=True))) == len(deltas.day)
    assert deltas.sums[:, 0].sum() == 2_000
    assert (deltas.sums[:, 0] > 0).all()


def test_parts_are_summed_by_day_and_cell_so_that_many_are_no_larger_than_one() -> None:
    parts = [settled_deltas(**random_rows(200, seed)) for seed in range(8)]
    parts += [decided_deltas(random_rows(200, seed)["event_time_ms"]) for seed in range(8)]
    joined = summed(parts)
    expected: dict[tuple[int, int], list[float]] = {}
    counts: dict[int, int] = {}
    for part in parts:
        for day, cell, sums in zip(part.day.tolist(), part.cell.tolist(), part.sums.tolist(), strict=True):
            so_far = expected.get((day, cell), [0.0] * len(sums))
            expected[day, cell] = [one + other for one, other in zip(so_far, sums, strict=True)]
        for day, count in zip(part.decided_day.tolist(), part.decided_count.tolist(), strict=True):
            counts[day] = counts.get(day, 0) + count
    assert len(joined.day) == len(expected)
    for day, cell, sums in zip(joined.day.tolist(), joined.cell.tolist(), joined.sums.tolist(), strict=True):
        assert sums == pytest.approx(expected[day, cell])
    assert dict(zip(joined.decided_day.tolist(), joined.decided_count.tolist(), strict=True)) == counts


def test_no_rows_are_no_deltas() -> None:
    nothing = summed([])
    ledger = Ledger()
    ledger.fold(nothing)
    assert (len(nothing.day), len(nothing.decided_day), nothing.sums.shape) == (0, 0, (0, 5))
    assert [str(it.dtype) for it in (nothing.sums, nothing.decided_count)] == ["float64", "int64"]
    assert len(ledger.arrays()["days"]) == 0


def test_a_decider_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid entry"):
        settle(Ledger(), DAY, [(3, 1.0, Truth.FRAUD)])


def test_accuracy_is_never_reported() -> None:
    assert not [name for name in Cohort.__dataclass_fields__ if "accuracy" in name]
