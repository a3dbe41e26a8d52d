"""When a change of everything is believed, and what a generation learns then."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from models import change_point
from models.change_point import change_point_ms
from models.examples import Examples
from models.generation import TrainingRows
from models.label_delay import LabelDelays, Ripening
from models.threshold import Calibration
from models.vocabulary import MS_PER_DAY

PLAIN = Calibration()
CATEGORICAL = np.zeros(2, np.bool_)
A_DAY = 2_000
SURE = 3.0
"""The logit, or its negative, that decisions had."""
Days = NDArray[np.float64]
Pattern = Callable[[Days, NDArray[np.float32]], NDArray[np.bool_]]


def chance(right: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return labels that are as sure as a logit of `SURE` says."""
    wrong: NDArray[np.bool_] = rng.random(len(right)) > 1.0 / (1.0 + np.exp(-SURE))
    return right ^ wrong


def stream(until_day: float, pattern: Pattern, model: Pattern, seed: int = 3) -> Ripening:
    """Return the examples of days of even traffic, all of them mature, and what decided them.

    Parameters
    ----------
    until_day
        The first is day 100.
    pattern
        Which are rather fraud, by the days and two features of normal noise.
    model
        The same as the model in force thought it was.
    """
    rng = np.random.default_rng(seed)
    days = 100.0 + np.arange(int((until_day - 100.0) * A_DAY)) / A_DAY
    X = rng.normal(size=(len(days), 2)).astype(np.float32)
    logit = np.where(model(days, X), SURE, -SURE).astype(np.float32)
    time_ms = np.round(days * MS_PER_DAY).astype(np.int64)
    examples = Examples(
        features=X, label=chance(pattern(days, X), rng).astype(np.uint8), weight=np.ones(len(days), np.float32),
        event_time_ms=time_ms, key=np.arange(len(days), dtype=np.uint64), logit=logit, tables_logit=logit,
        trees_logit=logit, verdict_ms=time_ms,
    )  # fmt: skip
    return Ripening(examples, np.zeros(len(days)), LabelDelays.none(), int(time_ms[-1]) + 1, 0, is_old=True)


def first_is_high(_: Days, X: NDArray[np.float32]) -> NDArray[np.bool_]:
    return X[:, 0] > 0.0


def turned_on(day: float) -> Pattern:
    """Return the pattern that is the opposite from a day on."""
    return lambda days, X: (X[:, 0] > 0.0) ^ (days >= day)


def found_day(known: Ripening, believed_day: float = 0.0) -> float:
    """Return the day of the change; 0 for none."""
    return change_point_ms(known, PLAIN, CATEGORICAL, round(believed_day * MS_PER_DAY), 7) / MS_PER_DAY


def test_a_change_of_everything_is_believed_from_the_quarter_of_a_day_on_in_which_it_began() -> None:
    assert found_day(stream(114.0, turned_on(112.25), first_is_high)) == 112.25


def test_nothing_is_fitted_while_decisions_lose_what_they_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_point._Judge, "losses", None)
    assert found_day(stream(114.0, first_is_high, first_is_high)) == 0.0


def test_a_model_that_is_wrong_though_the_pattern_stays_is_no_change() -> None:
    """A bad generation loses far more than it expects, too: the whole memory teaches as well as its last days."""
    assert found_day(stream(114.0, first_is_high, turned_on(112.25))) == 0.0


def test_of_two_changes_the_newest_is_believed() -> None:
    def twice(days: Days, X: NDArray[np.float32]) -> NDArray[np.bool_]:
        now = np.where(days < 117.0, X[:, 0], X[:, 1])
        return np.where(days < 110.0, -X[:, 0], now) > 0.0

    def once(days: Days, X: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.where(days < 114.0, -X[:, 0], X[:, 0]) > 0.0

    assert found_day(stream(119.0, twice, once)) == 117.0


def test_a_jump_of_the_base_rate_alone_is_no_change_of_everything() -> None:
    """From a day on three in four of those that looked safe are fraud, too, whatever their features are."""

    def more(days: Days, X: NDArray[np.float32]) -> NDArray[np.bool_]:
        by_chance = np.random.default_rng(8).random(len(days)) < 0.75
        return (X[:, 0] > 0.0) | ((days >= 112.0) & by_chance)

    assert found_day(stream(116.0, more, first_is_high)) == 0.0


def test_labels_that_stop_coming_for_most_frauds_are_no_change() -> None:
    """What was nearly always fraud is legit from then on, as far as anyone knows, but for a fifth."""

    def fewer(days: Days, X: NDArray[np.float32]) -> NDArray[np.bool_]:
        return (X[:, 0] > 0.0) & ((days < 112.0) | (X[:, 1] > 0.84))

    def other(days: Days, X: NDArray[np.float32]) -> NDArray[np.bool_]:
        return np.where(days < 112.0, X[:, 0] > 0.0, (X[:, 0] < 0.0) & (X[:, 1] > -0.25))

    assert found_day(stream(116.0, fewer, first_is_high)) == 0.0
    assert found_day(stream(116.0, other, first_is_high)) == 112.0


def test_a_later_suspicion_is_judged_by_what_came_since_the_change_that_is_believed() -> None:
    """What came before that change would lose to any days since it, and so to those of a bad generation."""

    def bad_for_days(days: Days, X: NDArray[np.float32]) -> NDArray[np.bool_]:
        return (X[:, 0] > 0.0) ^ (days >= 110.0) ^ ((days >= 118.0) & (days < 119.0))

    known = stream(124.0, turned_on(110.0), bad_for_days)
    assert found_day(known, believed_day=110.0) == 110.0
    assert found_day(known) == 118.0


def test_a_burst_of_less_than_a_day_is_no_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change_point, "FEWEST_EXAMPLES", 100)
    assert found_day(stream(112.99, turned_on(112.0), first_is_high)) == 0.0
    assert found_day(stream(113.01, turned_on(112.0), first_is_high)) == 112.0


def test_a_belief_without_enough_to_make_a_generation_of_goes() -> None:
    """As where labels are found to take longer, so that what came since is not mature any more."""
    known = stream(110.6, first_is_high, first_is_high)
    assert found_day(known, believed_day=110.0) == 110.0
    assert found_day(known, believed_day=110.2) == 0.0
    assert found_day(known, believed_day=111.0) == 0.0


def test_a_change_is_believed_once_a_thousand_examples_of_the_new_pattern_can_be_learnt() -> None:
    """Of the time since the change the second half judges: of 2,000 examples 1,000 are learnt."""
    assert found_day(stream(112.99, turned_on(112.0), first_is_high)) == 0.0
    assert found_day(stream(113.01, turned_on(112.0), first_is_high)) == 112.0


def test_what_is_believed_stays_while_the_whole_memory_teaches_worse() -> None:
    """Decisions have been right for longer than a change is suspected."""

    def learnt_soon(days: Days, X: NDArray[np.float32]) -> NDArray[np.bool_]:
        return (X[:, 0] > 0.0) ^ (days >= 111.0)

    known = stream(143.0, turned_on(110.0), learnt_soon)
    assert found_day(known) == 0.0
    assert found_day(known, believed_day=110.0) == 110.0


def test_what_is_believed_goes_where_the_whole_memory_teaches_better(monkeypatch: pytest.MonkeyPatch) -> None:
    known = stream(114.0, first_is_high, first_is_high)
    losses = {False: (np.ones(20), np.full(20, 1.01)), True: (np.full(20, 1.01), np.ones(20))}
    for recent_is_better, found in losses.items():
        monkeypatch.setattr(change_point._Judge, "losses", lambda *_, found=found: found)
        assert (found_day(known, believed_day=110.0) == 110.0) is recent_is_better


def test_a_change_before_all_of_the_memory_needs_no_belief() -> None:
    assert found_day(stream(114.0, first_is_high, first_is_high), believed_day=99.0) == 0.0


def test_without_examples_and_without_scores_there_is_no_change() -> None:
    known = stream(114.0, turned_on(112.0), first_is_high)
    unscored = dataclasses.replace(known.examples, logit=np.full(len(known.examples), np.nan, np.float32))
    assert found_day(dataclasses.replace(known, examples=unscored)) == 0.0
    assert found_day(dataclasses.replace(known, now_ms=99 * MS_PER_DAY)) == 0.0


@pytest.mark.parametrize(
    ("recent", "whole", "believed"),
    [
        (np.ones(20), np.full(20, 1.26), True),
        (np.ones(20), np.full(20, 1.24), False),
        # The gain of 20 is 4.5 times its error of sqrt(20), and 5.02 times.
        (np.full(20, 0.5), 1.5 + np.tile([-1.0, 1.0], 10) * np.sqrt(0.95), False),
        (np.full(20, 0.5), 1.5 + np.tile([-1.0, 1.0], 10) * 0.89 * np.sqrt(0.95), True),
    ],
)
def test_a_change_is_believed_where_the_loss_falls_below_four_fifths_and_by_five_errors(
    recent: NDArray[np.float64], whole: NDArray[np.float64], believed: bool
) -> None:
    assert change_point._is_far_less((whole, recent)) is believed


def learnt_and_judged(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Return a list of how many rows are learnt and judged, filled as they are."""
    rows: list[tuple[int, int]] = []

    def noted(_: object, learnt: TrainingRows, judged: TrainingRows) -> NDArray[np.float64]:
        rows.append((len(learnt.y), len(judged.y)))
        return np.zeros(len(judged.y))

    monkeypatch.setattr(change_point._Judge, "_loss", noted)
    return rows


def test_both_learn_nothing_of_the_judged_days(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three days since the change the newest one and a half judge, of twenty the newest week."""
    found = learnt_and_judged(monkeypatch)
    for since, until, days in ((111.0, 114.0, (1.5, 12.5, 1.5)), (104.0, 124.0, (13.0, 17.0, 7.0))):
        found.clear()
        found_day(stream(until, first_is_high, first_is_high), believed_day=since)
        recent, whole, judged = (round(it * A_DAY) for it in days)
        assert found == [(whole, judged), (recent, judged)]


def test_where_fraud_is_rare_as_many_days_judge_as_hold_sixty_frauds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Row 36,000 of 60,000 is the sixtieth fraud from the end, where each 400th is one; the change is row 6,000."""
    found = learnt_and_judged(monkeypatch)
    known = stream(130.0, first_is_high, first_is_high)
    label = (np.arange(60_000) % 400 == 0).astype(np.uint8)
    rare = dataclasses.replace(known, examples=dataclasses.replace(known.examples, label=label))
    found_day(rare, believed_day=103.0)
    assert found[-2:] == [(36_000, 24_000), (30_000, 24_000)]


def judge_of(time_ms: NDArray[np.int64], label: NDArray[np.bool_]) -> change_point._Judge:
    rows = TrainingRows(
        np.zeros((len(label), 2), np.float32), label.astype(np.uint8), np.ones(len(label), np.float64)
    )
    return change_point._Judge(time_ms, rows, CATEGORICAL, 7)


@pytest.mark.parametrize(
    ("learnt", "judged", "is_enough"), [(60, 60, True), (59, 60, False), (60, 59, False)]
)
def test_sixty_frauds_must_be_learnt_and_judged(
    monkeypatch: pytest.MonkeyPatch, learnt: int, judged: int, is_enough: bool
) -> None:
    learnt_and_judged(monkeypatch)
    time_ms = np.arange(4_000, dtype=np.int64) * (MS_PER_DAY // 2_000)
    label = np.zeros(4_000, np.bool_)
    label[:learnt] = label[2_000 : 2_000 + judged] = True
    assert (judge_of(time_ms, label).losses(0, 0) is not None) is is_enough


@pytest.mark.parametrize(("rows", "is_enough"), [(2_000, True), (1_998, False)])
def test_a_thousand_examples_must_be_learnt(
    monkeypatch: pytest.MonkeyPatch, rows: int, is_enough: bool
) -> None:
    """The later half of two days judges."""
    learnt_and_judged(monkeypatch)
    time_ms = np.linspace(0, 2 * MS_PER_DAY - 1, rows).astype(np.int64)
    assert (judge_of(time_ms, np.arange(rows) % 4 == 0).losses(0, 0) is not None) is is_enough


@pytest.mark.parametrize(("frauds", "stays"), [(30, True), (29, False)])
def test_a_belief_needs_thirty_frauds_to_make_a_generation_of(frauds: int, stays: bool) -> None:
    known = stream(101.0, first_is_high, first_is_high)
    label = np.zeros(2_000, np.uint8)
    label[[*range(50), *range(1_000, 1_000 + frauds)]] = 1
    known = dataclasses.replace(known, examples=dataclasses.replace(known.examples, label=label))
    assert (found_day(known, believed_day=100.5) == 100.5) is stays


def test_a_suspicion_within_a_day_of_the_change_that_is_believed_is_of_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[tuple[int, int]] = []

    def noted(_: object, earlier_ms: int, since_ms: int) -> None:
        asked.append((earlier_ms, since_ms))

    monkeypatch.setattr(change_point._Judge, "losses", noted)
    known = stream(114.0, turned_on(112.0), first_is_high)
    for believed_day, judged in ((110.75, 2), (111.0, 1), (111.25, 1)):
        asked.clear()
        assert found_day(known, believed_day) == believed_day
        assert len(asked) == judged


HELD = Calibration(2.0, -1.0)
"""Makes -3 of the logit -1: the probability of fraud is 0.0474, and the expected loss 0.1909."""


def suspected_days(rows: list[int], frauds: list[int]) -> list[float]:
    """Return when something is suspected, where each quarter of a day has so many rows and frauds, all of logit -1."""
    step = np.repeat(np.arange(len(rows)), rows)
    label = np.concatenate([np.arange(n) < k for n, k in zip(rows, frauds, strict=True)]).astype(np.uint8)
    known = TrainingRows(np.zeros((len(step), 2), np.float32), label, np.ones(len(step)))
    time_ms = step.astype(np.int64) * MS_PER_DAY // 4
    found = change_point._suspected_ms(time_ms, known, np.full(len(step), -1.0, np.float32), HELD)
    return [it / MS_PER_DAY for it in found]


@pytest.mark.parametrize(
    ("rows", "frauds", "is_suspected"),
    [
        # Beyond what is expected, in rows: (k - 0.0474 n) 3. That is 1.75 and 2.14 times the expected loss of 190.9.
        (1_000, 95, False),
        (1_000, 120, True),
        # Its square error: 8.17 k + 0.02 (n - k). So 2.6 and 5.1 errors.
        (100, 14, False),
        (400, 56, True),
    ],
)
def test_twice_the_expected_loss_is_suspicious_by_four_errors(
    rows: int, frauds: int, is_suspected: bool
) -> None:
    assert suspected_days([1_000, 1_000, rows], [47, 47, frauds]) == ([0.5] if is_suspected else [])


def test_of_what_is_suspected_the_newest_two_of_four_weeks_count() -> None:
    def bad_on(*steps: int) -> list[float]:
        frauds = np.full(160, 9)
        frauds[list(steps)] = 60
        return suspected_days([200] * 160, frauds.tolist())

    assert bad_on(60, 80, 81, 82, 86, 100) == [80 / 4, 100 / 4]
    assert bad_on(60, 80, 85, 100) == [85 / 4, 100 / 4]
    # The newest row is of step 159: four weeks are 112 steps.
    assert bad_on(47, 100) == [100 / 4]
    assert bad_on(48, 100) == [48 / 4, 100 / 4]
