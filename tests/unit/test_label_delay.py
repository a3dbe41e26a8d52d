from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from numpy.typing import NDArray

from models.alert_silence import resolved
from models.examples import Examples, Verdict
from models.label_delay import (
    HOURS,
    LabelDelays,
    Ripening,
    belief_in_silence,
    chance_of_fraud,
    clears_alerts,
    consistent,
    learnt_as,
    weight_online,
)
from models.threshold import Calibration
from models.vocabulary import MS_PER_DAY

HOUR_MS = MS_PER_DAY // 24
DAY_HOURS = 24


def examples(
    event_day: NDArray[np.float64],
    verdict_day: NDArray[np.float64],
    label: NDArray[np.uint8] | int,
    logit: float = 0.0,
) -> Examples:
    count = len(event_day)
    return dataclasses.replace(
        Examples.empty(features=1),
        features=np.zeros((count, 1), np.float32),
        label=np.broadcast_to(np.asarray(label, np.uint8), (count,)).copy(),
        weight=np.ones(count, np.float32),
        event_time_ms=(event_day * MS_PER_DAY).astype(np.int64),
        key=np.arange(count, dtype=np.uint64),
        logit=np.full(count, logit, np.float32),
        tables_logit=np.full(count, np.nan, np.float32),
        trees_logit=np.full(count, np.nan, np.float32),
        verdict_ms=(verdict_day * MS_PER_DAY).astype(np.int64),
    )


def seen_by(now_day: float, mean_days: float, count: int = 60_000, seed: int = 1) -> Examples:
    """Frauds of steady traffic with exponential delays, of which only those labelled by now are known."""
    rng = np.random.default_rng(seed)
    begun = rng.random(count) * now_day
    labelled = begun + rng.exponential(mean_days, count)
    known = labelled < now_day
    return examples(begun[known], labelled[known], Verdict.FRAUD)


@pytest.mark.parametrize("now_day", [40.0, 90.0])
def test_the_share_labelled_by_an_age_is_that_of_the_delays_though_long_ones_are_not_all_seen_yet(
    now_day: float,
) -> None:
    delays = LabelDelays.measured(seen_by(now_day, mean_days=6.0), round(now_day * MS_PER_DAY))
    for day in (1, 3, 7, 14, 28):
        age_ms = np.array([day * MS_PER_DAY - 1])
        assert delays.labelled_by(age_ms, alerted=False)[0] == pytest.approx(
            1.0 - np.exp(-day / 6.0), abs=0.02
        ), day


def test_those_that_are_kept_whole_and_labelled_at_once_do_not_outnumber_the_sampled_ones() -> None:
    """Alerts are answered within the hour; of the others 1 in 50 is kept, each standing for 50."""
    quick, slow = seen_by(90.0, mean_days=0.02, count=3_000), seen_by(90.0, mean_days=10.0, count=3_000)
    both = Examples.concatenate([quick, dataclasses.replace(slow, weight=np.full(len(slow), 50, np.float32))])
    share = LabelDelays.measured(both, 90 * MS_PER_DAY).labelled_by(
        np.array([7 * MS_PER_DAY - 1]), alerted=False
    )[0]
    truth = (1.0 + 50.0 * (1.0 - np.exp(-0.7))) / 51.0
    assert share == pytest.approx(truth, abs=0.03)
    assert truth + 0.2 < (1.0 + (1.0 - np.exp(-0.7))) / 2.0


def test_equal_weights_say_what_no_weights_do() -> None:
    seen = seen_by(40.0, mean_days=6.0, count=500)
    once = LabelDelays.measured(seen, 40 * MS_PER_DAY)
    eight = dataclasses.replace(seen, weight=np.full(len(seen), 8, np.float32))
    np.testing.assert_allclose(LabelDelays.measured(eight, 40 * MS_PER_DAY).shares, once.shares, rtol=1e-12)


def test_labels_after_the_moment_that_all_partitions_have_reached_are_not_counted() -> None:
    """A partition lags by three weeks: by then more labels are known of some of the days than of others."""
    seen, until_ms = seen_by(90.0, mean_days=6.0), 69 * MS_PER_DAY
    by_then = seen.take(seen.verdict_ms <= until_ms)
    expected = LabelDelays.measured(by_then, until_ms).shares
    np.testing.assert_array_equal(LabelDelays.measured(seen, until_ms).shares, expected)


def test_the_naive_share_of_the_delays_seen_would_have_been_too_high() -> None:
    seen = seen_by(20.0, mean_days=12.0)
    delay = seen.verdict_ms - seen.event_time_ms
    naive = np.mean(delay < 7 * MS_PER_DAY)
    measured = LabelDelays.measured(seen, 20 * MS_PER_DAY).labelled_by(
        np.array([7 * MS_PER_DAY - 1]), alerted=False
    )[0]
    among_20_days = (1.0 - np.exp(-7 / 12)) / (1.0 - np.exp(-20 / 12))
    assert naive > among_20_days + 0.1
    assert measured == pytest.approx(among_20_days, abs=0.03)


def test_labels_that_all_come_at_one_age_leave_every_older_decision_as_it_is() -> None:
    begun = np.linspace(0.0, 60.0, 2_000)
    delays = LabelDelays.measured(examples(begun, begun + 7.01, Verdict.FRAUD), round(67.1 * MS_PER_DAY))
    ages = np.array([7 * MS_PER_DAY + HOUR_MS, 30 * MS_PER_DAY, 400 * MS_PER_DAY])
    assert delays.labelled_by(ages, alerted=False).tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_few_labels_change_nothing() -> None:
    few = examples(np.zeros(2), np.array([1.0, 20.0]), Verdict.FRAUD)
    shares = LabelDelays.measured(few, 30 * MS_PER_DAY).shares
    assert (shares.shape, shares.min() > 0.8) == ((2, HOURS), True)
    assert LabelDelays.measured(few.take(slice(0, 0)), 0).shares.tolist() == [[1.0] * HOURS] * 2


def answered_alerts(now_day: float, alerted_share: float = 0.5, count: int = 60_000) -> Examples:
    """Frauds of steady traffic: alerts are answered in a quarter of a day, the missed are charged back in 14 days."""
    rng = np.random.default_rng(2)
    begun, alerted = rng.random(count) * now_day, rng.random(count) < alerted_share
    known_at = begun + np.where(alerted, 0.25, rng.exponential(14.0, count))
    label = np.where(alerted, Verdict.FRAUD | Verdict.ALERTED, Verdict.FRAUD).astype(np.uint8)
    known = known_at < now_day
    return examples(begun[known], known_at[known], label[known])


def test_alerts_that_are_answered_at_once_do_not_hide_how_late_the_missed_frauds_are() -> None:
    now_ms = 90 * MS_PER_DAY
    delays = LabelDelays.measured(answered_alerts(90.0), now_ms)
    week_ms = np.full(2, 7 * MS_PER_DAY - 1)
    missed, caught = delays.labelled_by(week_ms, np.array([False, True]))
    assert missed == pytest.approx(1.0 - np.exp(-0.5), abs=0.02)
    assert caught == pytest.approx(1.0, abs=0.01)
    # So many frauds as there are: the known ones of a week of age, each with what it stands for.
    seen = answered_alerts(90.0)
    young = seen.take((seen.event_time_ms >= 82 * MS_PER_DAY) & (seen.event_time_ms < 83 * MS_PER_DAY))
    ripening = Ripening(young, np.zeros(len(young)), delays, now_ms, 0)
    _, _, w = ripening.known_at(now_ms, np.arange(len(young)))
    assert w.sum() == pytest.approx(60_000 / 90, rel=0.1)
    assert w[young.label == Verdict.FRAUD].sum() == pytest.approx(w.sum() / 2, rel=0.15)


@pytest.mark.parametrize(("answered", "low", "high"), [(0, 0.35, 0.43), (5, 0.5, 0.75), (60, 0.88, 0.99)])
def test_the_fewer_alerted_frauds_are_known_the_more_is_believed_of_them_what_all_say(
    answered: int, low: float, high: float
) -> None:
    given = answered_alerts(90.0)
    chosen = np.r_[
        np.flatnonzero(given.label & Verdict.ALERTED)[:answered], np.flatnonzero(given.label == Verdict.FRAUD)
    ]
    delays = LabelDelays.measured(given.take(chosen), 90 * MS_PER_DAY)
    week_ms = np.array([7 * MS_PER_DAY - 1])
    missed = delays.labelled_by(week_ms, alerted=False)[0]
    assert missed == pytest.approx(1.0 - np.exp(-0.5), abs=0.02)
    assert low < delays.labelled_by(week_ms, alerted=True)[0] < high
    assert (answered > 0) == (delays.shares[0] != pytest.approx(delays.shares[1]))


def test_silence_is_corrected_once_a_quarter_of_either_kind_is_labelled() -> None:
    delays = LabelDelays.measured(answered_alerts(90.0), 90 * MS_PER_DAY)
    # A quarter of exponential delays of 14 days in the mean.
    assert delays.maturity_ms / MS_PER_DAY == pytest.approx(14.0 * np.log(4.0 / 3.0), abs=0.4)


def test_silence_of_a_week_on_an_alert_says_more_than_on_any_other_decision() -> None:
    delays = LabelDelays.measured(answered_alerts(90.0), 90 * MS_PER_DAY)
    silent = examples(np.zeros(2), np.full(2, 7.0), np.array([Verdict.SILENT, Verdict.ALERTED], np.uint8))
    unseen, alerted = weight_online(silent, np.array([0.5, 0.5]), delays)
    assert alerted == pytest.approx(1.0, abs=0.02)
    # Half are frauds, of which exp(-1/2) are silent yet.
    assert unseen == pytest.approx(0.5 / (0.5 + 0.5 * np.exp(-0.5)), abs=0.02)


def test_silence_is_believed_by_bayes_rule() -> None:
    # Of 100 decisions at one half, 50 are frauds; 30 of these are labelled: 50 of the 70 silent ones are legit.
    assert belief_in_silence(np.array([0.5]), np.array([0.6]))[0] == pytest.approx(50 / 70)
    assert belief_in_silence(np.array([0.0, 0.3]), np.array([0.1, 1.0])).tolist() == [1.0, 1.0]


def test_only_what_silence_calls_legit_is_doubted() -> None:
    label = np.array([0, Verdict.SILENT, Verdict.ALERTED, Verdict.FRAUD], np.uint8)
    given = examples(np.zeros(4), np.zeros(4), label, logit=np.log(3.0))
    chance = chance_of_fraud(given, Calibration())
    assert chance.tolist() == pytest.approx([0.0, 0.75, 0.75, 0.75], rel=2e-3)
    unscored = dataclasses.replace(given, logit=np.full(4, np.nan, np.float32))
    assert chance_of_fraud(unscored, Calibration()).tolist() == [0.0] * 4


def test_an_alert_without_an_answer_yet_weighs_the_same_whatever_labels_say_of_it_later() -> None:
    begun, labelled = np.zeros(4), np.array([30.0, 7.0, 30.0, 30.0])
    # Of legits by a label that comes after silence, silence has said nothing: they are alerts, or someone acted.
    label = np.array([Verdict.FRAUD | Verdict.ALERTED, Verdict.ALERTED, Verdict.FRAUD, 0], np.uint8)
    given = resolved(examples(begun, labelled, label), 0.3)
    ripening = Ripening(
        given, np.zeros(4), LabelDelays.none(), 60 * MS_PER_DAY, 7 * MS_PER_DAY, silent_weight=0.3
    )
    _, y, w = ripening.known_at(10 * MS_PER_DAY, np.arange(4))
    assert y.tolist() == [0, 0, 0, 0]
    # A fraud that was not alerted is silence like any other.
    assert w.tolist() == pytest.approx([0.3, 0.3, 1.0, 0.3])
    _, y, w = ripening.known_at(60 * MS_PER_DAY, np.arange(4))
    assert (y.tolist(), w.tolist()) == ([1, 0, 1, 0], pytest.approx([1.0, 0.3, 1.0, 1.0]))


def test_a_fraud_labelled_after_a_moment_is_silent_at_that_moment_and_a_known_one_stands_for_others() -> None:
    # Half the frauds are labelled within a day, all by the tenth.
    shares = np.ones((2, HOURS))
    shares[:, : 10 * DAY_HOURS] = 0.5
    begun, labelled = np.array([0.0, 0.0, 0.0]), np.array([1.0, 9.0, 7.0])
    known = examples(begun, labelled, np.array([1, 1, 0], np.uint8))
    ripening = Ripening(known, np.array([0.9, 0.5, 0.5]), LabelDelays(shares), 20 * MS_PER_DAY, 0)
    every = np.arange(3)
    _, y, w = ripening.known_at(5 * MS_PER_DAY, every)
    assert y.tolist() == [1, 0, 0]
    # A silent one of chance one half: 50 of the 75 that are silent are legit.
    assert w.tolist() == pytest.approx([2.0, 50 / 75, 50 / 75])
    _, y, w = ripening.known_at(20 * MS_PER_DAY, every)
    assert (y.tolist(), w.tolist()) == ([1, 1, 0], [1.0, 1.0, 1.0])


def test_a_calibration_that_is_far_too_high_does_not_prove_itself_right() -> None:
    rng = np.random.default_rng(3)
    logit = rng.normal(-3.0, 1.0, 20_000)
    fraud = rng.random(20_000) < 1.0 / (1.0 + np.exp(-logit))
    given = dataclasses.replace(
        examples(np.zeros(20_000), np.full(20_000, 8.0), fraud.astype(np.uint8)),
        logit=logit.astype(np.float32),
    )
    found = consistent(given, Calibration(1.0, 4.0), LabelDelays.none(), 30 * MS_PER_DAY)
    assert found.slope == 1.0
    assert found.intercept == pytest.approx(0.0, abs=0.1)
    nothing = given.take(slice(0, 0))
    assert consistent(nothing, Calibration(1.0, 4.0), LabelDelays.none(), 0) == Calibration(1.0, 4.0)


def test_where_half_the_frauds_are_silent_yet_the_corrected_rate_is_the_true_one() -> None:
    rng = np.random.default_rng(4)
    count, now = 200_000, 30.0
    begun = rng.random(count) * now
    chance = rng.beta(0.5, 9.5, count)
    fraud = rng.random(count) < chance
    labelled = np.where(fraud, begun + rng.exponential(10.0, count), np.inf)
    known = labelled < now
    mature = begun < now - 7.0
    label = np.where(known, Verdict.FRAUD, Verdict.SILENT).astype(np.uint8)
    verdict = np.where(known, labelled, np.minimum(begun + 7.0, now))
    logit = np.log(np.clip(chance, 1e-9, 1.0) / np.clip(1.0 - chance, 1e-9, 1.0))
    given = dataclasses.replace(examples(begun, verdict, label), logit=logit.astype(np.float32))
    delays = LabelDelays.measured(given, round(now * MS_PER_DAY))
    now_ms = round(now * MS_PER_DAY)
    learnt, suspected = learnt_as(
        given.take(mature), np.ones(int(mature.sum()), np.bool_), 0.0, Calibration(), delays, now_ms
    )
    ripening = Ripening(learnt, suspected, delays, now_ms, 0)
    _, y, w = ripening.known_at(ripening.now_ms, np.arange(int(mature.sum())))
    truth = fraud[mature].mean()
    assert (y.mean() / truth) < 0.85, "as it looks"
    # What is labelled after 30 days cannot be known yet: a share of exp(-3) of the frauds.
    assert np.average(y, weights=w) / truth == pytest.approx(1.0, abs=0.1)


def test_what_was_told_on_a_day_is_learnt_as_a_worker_learns_it_online() -> None:
    shares = np.ones((2, HOURS))
    shares[:, : 10 * DAY_HOURS] = 0.5
    known = examples(np.zeros(4), np.array([7.0, 7.5, 8.0, 6.9]), np.array([1, 0, 0, 0], np.uint8))
    ripening = Ripening(known, np.array([0.9, 0.5, 0.5, 0.5]), LabelDelays(shares), 20 * MS_PER_DAY, 0)
    _, y, w = ripening.verdicts_between(7 * MS_PER_DAY, 8 * MS_PER_DAY)
    assert (y.tolist(), w.tolist()) == ([1, 0], pytest.approx([1.0, 0.5 / 0.75]))


def test_in_hindsight_the_verdicts_of_now_came_at_once_and_what_is_not_mature_is_left_out() -> None:
    # Half the frauds are labelled within 18 days, then all. At day 20 the silence of day 6 is doubted, day 15 is young.
    shares = np.ones((2, HOURS))
    shares[:, : 18 * DAY_HOURS] = 0.5
    known = examples(
        np.array([0.0, 3.0, 6.0, 15.0]), np.array([7.0, 12.0, 13.0, 16.0]), np.array([0, 1, 0, 1], np.uint8)
    )
    known = dataclasses.replace(known, features=np.arange(4, dtype=np.float32)[:, None])
    now = Ripening(known, np.full(4, 0.5), LabelDelays(shares), 20 * MS_PER_DAY, 7 * MS_PER_DAY)
    then = now.in_hindsight()
    X, y, w = then.in_order(4 * MS_PER_DAY)
    assert (X.ravel().tolist(), y.tolist()) == ([0, 1], [0, 1])
    # The fraud is 17 days old and stands for two; silence of 20 days is believed.
    assert w.tolist() == pytest.approx([1.0, 2.0])
    X, y, w = then.verdicts_between(6 * MS_PER_DAY, 20 * MS_PER_DAY)
    assert (X.ravel().tolist(), y.tolist(), w.tolist()) == ([2], [0], pytest.approx([0.5 / 0.75]))
    assert then.mature_at(20 * MS_PER_DAY).tolist() == [0, 1, 2]
    assert now.known_at(4 * MS_PER_DAY, np.arange(2)).y.tolist() == [0, 0]


def test_verdicts_of_a_day_are_learnt_as_they_came_not_frauds_last() -> None:
    # A fraud of day 6 is known on day 7; silence about days 0 and 1 speaks on days 7 and 8.
    known = examples(np.array([0.0, 1.0, 6.0]), np.array([7.6, 8.2, 7.3]), np.array([0, 0, 1], np.uint8))
    ripening = Ripening(known, np.zeros(3), LabelDelays.none(), 20 * MS_PER_DAY, 0)
    _, y, _ = ripening.verdicts_between(7 * MS_PER_DAY, 9 * MS_PER_DAY)
    assert y.tolist() == [1, 0, 0]


@pytest.mark.parametrize(("young", "soon", "later"), [(False, [0, 0], [1]), (True, [1, 0, 0], [])])
def test_tables_of_a_young_stream_are_judged_as_they_learn_once_silence_has_spoken_of_a_time(
    young: bool, soon: list[int], later: list[int]
) -> None:
    # A fraud of day 6 is known on day 7, and silence about its time speaks on day 13.
    known = examples(np.array([0.0, 1.0, 6.0]), np.array([7.6, 8.2, 7.3]), np.array([0, 0, 1], np.uint8))
    ripening = Ripening(
        known, np.zeros(3), LabelDelays.none(), 20 * MS_PER_DAY, 7 * MS_PER_DAY, learns_young=young
    )
    assert ripening.verdicts_between(7 * MS_PER_DAY, 9 * MS_PER_DAY).y.tolist() == soon
    assert ripening.verdicts_between(13 * MS_PER_DAY, 14 * MS_PER_DAY).y.tolist() == later


def test_a_fraud_stands_among_the_decisions_on_which_silence_spoke_when_its_label_came() -> None:
    # Silence takes 7 days: at day 20 decisions up to day 13 are mature. Labelled are the fraud of day 11.8 on day 18.2,
    # that of day 15 on day 18, and that of day 16 on day 21.
    begun = np.array([10.0, 11.5, 11.8, 12.5, 15.0, 16.0])
    verdict = np.array([17.0, 18.5, 18.2, 19.5, 18.0, 21.0])
    known = examples(begun, verdict, np.array([0, 0, 1, 0, 1, 1], np.uint8))
    known = dataclasses.replace(known, features=np.arange(6, dtype=np.float32)[:, None])
    ripening = Ripening(
        known, np.zeros(6), LabelDelays.none(), 20 * MS_PER_DAY, 7 * MS_PER_DAY, learns_young=True
    )
    X, y, w = ripening.in_order(20 * MS_PER_DAY)
    # By their labels the young fraud takes the place of day 11, the mature one of day 11.2.
    assert (X[:, 0].tolist(), y.tolist(), w.tolist()) == ([0, 4, 2, 1, 3], [0, 1, 1, 0, 0], [1.0] * 5)
    assert ripening.in_order(20 * MS_PER_DAY, 2).X[:, 0].tolist() == [1, 3]
    X, *_ = dataclasses.replace(ripening, learns_young=False).in_order(20 * MS_PER_DAY)
    assert X[:, 0].tolist() == [0, 1, 2, 3]


def test_the_frauds_of_steady_traffic_lie_evenly_in_the_order_of_learning() -> None:
    """Each is labelled after a day: placed by their transactions, young ones would double those of the last week."""
    rng = np.random.default_rng(9)
    begun = np.sort(rng.random(40_000) * 60.0)
    fraud = rng.random(40_000) < 0.1
    verdict = begun + np.where(fraud, 1.0, 7.0)
    known = examples(begun[verdict < 60.0], verdict[verdict < 60.0], fraud[verdict < 60.0].astype(np.uint8))
    ripening = Ripening(
        known, np.zeros(len(known)), LabelDelays.none(), 60 * MS_PER_DAY, 7 * MS_PER_DAY, learns_young=True
    )
    _, y, _ = ripening.in_order(60 * MS_PER_DAY)
    last_weeks = [y[len(y) - (back + 1) * 4_000 : len(y) - back * 4_000].mean() for back in range(6)]
    assert last_weeks == pytest.approx([0.1] * 6, abs=0.02)


def test_days_are_told_once_a_quarter_of_their_frauds_are_labelled() -> None:
    begun = np.linspace(0.0, 60.0, 20_000)
    delay = np.tile([5.5, 20.5, 30.5, 40.5, 45.5], 4_000)
    now = 60.0
    known = begun + delay < now
    delays = LabelDelays.measured(
        examples(begun[known], (begun + delay)[known], Verdict.FRAUD), round(now * MS_PER_DAY)
    )
    assert delays.maturity_ms == round(20.5 * MS_PER_DAY)
    assert LabelDelays.none().maturity_ms == 0


def test_where_silence_means_nothing_legits_that_are_confirmed_late_stand_for_the_ones_to_come() -> None:
    rng = np.random.default_rng(8)
    begun = np.sort(rng.random(60_000) * 60.0)
    fraud = rng.random(60_000) < 0.1
    verdict = begun + np.where(fraud, 1.0, rng.uniform(1.0, 31.0, 60_000))
    is_known = verdict < 60.0
    given = examples(begun[is_known], verdict[is_known], fraud[is_known].astype(np.uint8))
    now_ms = 60 * MS_PER_DAY
    frauds, legits = (LabelDelays.measured(given, now_ms, of_legits=it) for it in (False, True))
    old = np.flatnonzero(given.event_time_ms < now_ms - legits.maturity_ms)
    ripening = Ripening(given, np.zeros(len(given)), frauds, now_ms, 0, legit_delays=legits)
    _, y, w = ripening.known_at(now_ms, old)
    assert y.mean() > 0.115, "as it looks: the legits of the newest days are to come"
    assert np.average(y, weights=w) == pytest.approx(0.1, abs=0.005)


def test_where_silence_means_nothing_a_verdict_that_is_yet_to_come_is_no_example() -> None:
    known = examples(np.zeros(3), np.array([1.0, 9.0, 7.0]), np.array([1, 1, 0], np.uint8))
    ripening = Ripening(
        known, np.zeros(3), LabelDelays.none(), 20 * MS_PER_DAY, 0, legit_delays=LabelDelays.none()
    )
    _, y, w = ripening.known_at(8 * MS_PER_DAY, np.arange(3))
    assert (y.tolist(), w.tolist()) == ([1, 0, 0], [1.0, 0.0, 1.0])


def test_a_row_dated_long_before_all_others_moves_no_fraud_of_the_first_days() -> None:
    """Each day 50 legits, of which silence speaks after a week, and on the second day a fraud labelled a day later."""
    event_day = np.concatenate([[-40.0], np.repeat(np.arange(10.0), 50), [1.5]])
    order = np.argsort(event_day, kind="stable")
    fraud = order == len(event_day) - 1
    verdict_day = event_day[order] + np.where(fraud, 1.0, 7.0)
    label = np.where(fraud, Verdict.FRAUD, Verdict.SILENT).astype(np.uint8)
    known = examples(event_day[order], verdict_day, label)
    wait_ms = 7 * MS_PER_DAY + 1
    ripening = Ripening(
        known, np.zeros(len(known)), LabelDelays.none(), 30 * MS_PER_DAY, wait_ms, learns_young=True
    )
    _, y, _ = ripening.in_order(30 * MS_PER_DAY)
    assert np.flatnonzero(y).tolist() == [1 + 2 * 50]


@pytest.mark.parametrize(
    ("weight", "labelled", "clears"),
    [(0.49, 1.0, False), (0.5, 1.0, True), (1.0, 0.9, True), (1.0, 0.89, False), (0.0, 0.5, False)],
)
def test_a_silent_alert_is_evidence_once_it_is_rather_legit_than_blocked_or_labelled_late(
    weight: float, labelled: float, clears: bool
) -> None:
    week = 7 * 24
    shares = np.ones((2, HOURS))
    shares[0, :2_000] = 0.1  # of the missed frauds: they were not alerted
    shares[1, : week + 1] = labelled
    assert clears_alerts(weight, LabelDelays(shares), week * 3_600_000) is clears
    assert clears_alerts(1.0, LabelDelays.none(), 0) is True
