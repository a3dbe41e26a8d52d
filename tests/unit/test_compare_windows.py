from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from models.vocabulary import MS_PER_DAY
from tests.support.materials import START_MS
from worker.errors import SettingsError
from worker.offline.compare.prepared import Prepared, prepare
from worker.offline.compare.windows import (
    Delay,
    Shares,
    Verdicts,
    Windows,
    delay_of,
    learnable,
    shares_that_do,
)
from worker.offline.dataset import NEVER, Dataset
from worker.settings.sections import Settings
from worker.simulation import Traffic, simulate

WEEK = Delay(7 * MS_PER_DAY, varies=False)


def lengths(windows: Windows) -> list[int]:
    starts = dataclasses.astuple(windows)
    return [(end - start) // MS_PER_DAY for start, end in pairwise(starts)]


def over(days: int, delay: Delay = WEEK, shares: Shares | None = None) -> Windows:
    return Windows.over(START_MS + 5, START_MS + days * MS_PER_DAY - 5, delay, shares)


def test_ninety_days_are_split_as_documented() -> None:
    assert lengths(over(90)) == [15, 40, 14, 7, 14]


@pytest.mark.parametrize(("days", "delay_days"), [(30, 7), (31, 0), (60, 2.5), (183, 7), (365, 45)])
def test_windows_scale_with_the_span_and_lose_no_day(days: int, delay_days: float) -> None:
    windows = over(days, Delay(round(delay_days * MS_PER_DAY), varies=False))
    assert sum(lengths(windows)) == days
    assert lengths(windows)[3] == np.ceil(delay_days)
    assert min(lengths(windows)[:3]) >= 1
    assert windows.warm_up_ms == START_MS
    train, test = lengths(windows)[1], lengths(windows)[4]
    assert train / test == pytest.approx(40 / 14, rel=0.25)


def test_proportions_can_be_chosen() -> None:
    assert lengths(over(107, shares=Shares(10, 20, 10, 60))) == [10, 20, 10, 7, 60]


def test_a_gap_can_be_chosen_in_days() -> None:
    month = Delay(22 * MS_PER_DAY, varies=True, by_frauds=True)
    asked = Shares(15, 40, 14, 14, gap_days=7)
    assert lengths(over(90, asked.age_of(month), asked)) == [15, 40, 14, 7, 14]
    assert str(asked) == "15,40,14,7,14"
    # What is beyond 90 days goes to the other windows.
    assert lengths(over(173, asked.age_of(month), asked)) == [30, 80, 28, 7, 28]
    assert str(asked.age_of(month)) == "the gap of --windows is 7 days"


def test_a_verdict_counts_no_later_for_a_long_gap_and_no_sooner_than_labels_that_all_take_as_long() -> None:
    long = Shares(gap_days=20)
    assert long.age_of(WEEK) == WEEK
    assert lengths(over(103, WEEK, long)) == [15, 40, 14, 20, 14]
    assert long.age_of(Delay(7 * MS_PER_DAY, varies=True)) == Delay(7 * MS_PER_DAY, varies=True)
    with pytest.raises(
        SettingsError, match=r"labels take 7 days, longer than the gap of --windows = 15,40,14,3,14"
    ):
        Shares(gap_days=3).age_of(WEEK)
    assert Shares().age_of(WEEK) == WEEK


def test_less_than_thirty_days_are_refused() -> None:
    over(30)
    with pytest.raises(SettingsError, match=r"span 29 days: a comparison needs 30"):
        over(29)
    with pytest.raises(SettingsError, match=r"span 1 day: a comparison needs 30"):
        over(1)


def test_a_delay_of_one_day_is_one_day() -> None:
    day = MS_PER_DAY
    assert str(Delay(day, varies=False)) == "labels take 1 day"
    assert str(Delay(day, varies=True, by_frauds=True)) == "nine in ten fraud labels come within 1 day"
    assert str(Delay(3 * day // 2, varies=False)) == "labels take 1.5 days"


def test_a_delay_that_leaves_no_window_is_refused() -> None:
    with pytest.raises(SettingsError, match="labels take 45"):
        over(40, Delay(45 * MS_PER_DAY, varies=False))


def test_a_test_window_of_one_day_is_refused_as_its_intervals_are_over_days() -> None:
    # 42 days without the gap, of which 2 in 85 are one.
    with pytest.raises(
        SettingsError,
        match=r"test window of 1 day, .* need 2; change --windows = 15,40,28,2, or give a longer file$",
    ):
        over(49, shares=Shares(15, 40, 28, 2))
    assert lengths(over(92, shares=Shares(15, 40, 28, 2)))[-1] == 2
    # 5 days without the gap are 1, 2, 1 and 1 by the usual proportions.
    with pytest.raises(SettingsError, match=r"test window of 1 day, .* need 2; give a longer file$"):
        over(30, Delay(25 * MS_PER_DAY, varies=False))


def test_proportions_that_leave_a_window_no_day_are_named_where_they_were_chosen() -> None:
    # 83 days without the gap: 0.1 of 69.1 is a tenth of a day.
    with pytest.raises(
        SettingsError, match=r"no day for one of the windows; change --windows = 15,40,0\.1,14, or"
    ):
        over(90, shares=Shares(15, 40, 0.1, 14))
    # No proportions help where the gap alone takes all.
    with pytest.raises(SettingsError, match=r"no day for one of the windows; give a longer file$"):
        over(40, Delay(45 * MS_PER_DAY, varies=False), Shares(15, 40, 14, 14))


def test_both_classes_mature_alike_and_only_known_frauds_are_frauds() -> None:
    day = MS_PER_DAY
    times = np.array([0, 1, 2, 3]) * day
    # Fraud labelled at once, fraud labelled after 10 days, legit, fraud that is too young.
    verdicts = Verdicts(times + 5 * day, np.array([0, 11 * day, NEVER, 3 * day]))
    rows = learnable(times, verdicts, 0, 10 * day, 7 * day)
    assert rows.tolist() == [0, 1, 2]
    assert verdicts.take(rows).fraud(7 * day).tolist() == [True, False, False]
    assert verdicts.take(rows).fraud(11 * day).tolist() == [True, True, False]


def drawn(
    fraud_days: Sequence[int],
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.bool_]]]:
    times = START_MS + np.arange(90 * 100) * (MS_PER_DAY // 100)
    day = (times - START_MS) // MS_PER_DAY
    return times, (np.arange(len(times)) % 10 == 0) & np.isin(day, fraud_days)


def test_windows_count_what_a_strategy_may_use() -> None:
    times, fraud = drawn(range(90))
    verdicts = Verdicts(times + WEEK.ms, np.where(fraud, times + WEEK.ms, NEVER))
    warm_up, train, tune, gap, test = over(90).counted(times, verdicts, fraud)
    assert (warm_up.rows, gap.rows) == (0, 0)
    # The newest week of the train window is not known at its end; of the tune window all is known at the test's start.
    assert (train.rows, train.frauds) == (33 * 100 + 1, 331)
    assert (tune.rows, tune.frauds) == (1_400, 140)
    assert (test.rows, test.frauds) == (1_400, 140)


@pytest.mark.parametrize(
    ("fraud_days", "window"), [(range(60, 90), "train"), (range(55), "tune"), (range(76), "test")]
)
def test_a_window_without_frauds_is_refused(fraud_days: range, window: str) -> None:
    times, fraud = drawn(fraud_days)
    verdicts = Verdicts(times + WEEK.ms, np.where(fraud, times + WEEK.ms, NEVER))
    with pytest.raises(SettingsError, match=f"the {window} window, .* has 0 frauds") as refused:
        over(90).counted(times, verdicts, fraud)
    # The test window is judged by every label there is, however late.
    assert ("whose label had arrived in time" in str(refused.value)) == (window != "test")


def test_proportions_are_named_by_which_every_window_has_enough_frauds() -> None:
    # The usual tune window, days 55 to 69, has none; that of 5, 30, 20, 20 is days 39 to 61.
    times, fraud = drawn([*range(20, 55), *range(80, 90)])
    verdicts = Verdicts(times + WEEK.ms, np.where(fraud, times + WEEK.ms, NEVER))
    span_ms = int(times[0]), int(times[-1])
    with pytest.raises(SettingsError, match="the tune window"):
        over(90).counted(times, verdicts, fraud)
    found = shares_that_do(span_ms, WEEK, times, verdicts, fraud)
    assert found is not None
    windows = Windows.over(*span_ms, WEEK, found).counted(times, verdicts, fraud)
    assert min(it.frauds for it in windows if it.name in ("train", "tune", "test")) >= 30
    nowhere = np.zeros(len(times), np.bool_)
    assert shares_that_do(span_ms, WEEK, times, Verdicts(times, np.full(len(times), NEVER)), nowhere) is None


def test_one_class_only_is_refused() -> None:
    times, _ = drawn(range(90))
    fraud = np.ones(len(times), np.bool_)
    with pytest.raises(SettingsError, match="has 0 legitimate transactions"):
        over(90).counted(times, Verdicts(times + WEEK.ms, times + WEEK.ms), fraud)


def test_the_gap_is_the_labels_delay_or_that_of_silence_where_delays_vary() -> None:
    dataset = simulate(Traffic(cards=20, merchants=5, days=20, prevalence=0.05, label_delay_days=2.0))
    constant = dataclasses.replace(dataset, label_time_ms=dataset.event_time_ms).with_label_delay(3.0)
    assert delay_of(constant, WEEK.ms) == Delay(3 * MS_PER_DAY, varies=False)
    assert delay_of(dataset, WEEK.ms) == Delay(WEEK.ms, varies=True)
    with pytest.raises(SettingsError, match="--fraud-column"):
        delay_of(dataclasses.replace(dataset, is_fraud=None, label_time_ms=None), WEEK.ms)


def labelled_late(days: float) -> Dataset:
    """Return traffic whose frauds are labelled `days` to two days later, and whose legits after a day."""
    dataset = simulate(Traffic(cards=60, merchants=20, days=120, per_card_day=2.0, prevalence=0.06))
    assert dataset.is_fraud is not None
    taken_days = np.where(dataset.is_fraud, days + np.linspace(0.0, 2.0, len(dataset)), 1.0)
    return dataclasses.replace(
        dataset, label_time_ms=dataset.event_time_ms + (taken_days * MS_PER_DAY).astype(np.int64)
    )


def test_the_gap_is_as_long_as_nine_in_ten_fraud_labels_take_where_they_come_late() -> None:
    late = labelled_late(30.0)
    assert delay_of(late, WEEK.ms) == Delay(32 * MS_PER_DAY, varies=True, by_frauds=True)
    assert delay_of(late, 40 * MS_PER_DAY) == Delay(40 * MS_PER_DAY, varies=True)
    # The latest tenth asks for no longer gap, nor do legits that an analyst answers late.
    assert late.label_time_ms is not None
    assert late.is_fraud is not None
    frauds = np.flatnonzero(late.is_fraud)
    last = np.isin(
        np.arange(len(late)), frauds[np.linspace(0, len(frauds) - 1, len(frauds) // 12).astype(int)]
    )
    later = dataclasses.replace(
        late, label_time_ms=late.label_time_ms + np.where(last, 300, ~late.is_fraud * 50) * MS_PER_DAY
    )
    assert delay_of(later, WEEK.ms) == delay_of(late, WEEK.ms)


def test_of_the_rows_that_are_learnt_nine_in_ten_frauds_are_known_however_late_labels_come() -> None:
    late = labelled_late(30.0)
    settings = Settings(entity_key="0f" * 16, transaction=late.fields)
    prepared = prepare(settings, late, "raw", Shares(5, 70, 15, 15), own_rows=False)
    windows, truth = prepared.laid.windows, prepared.laid.truth
    for start_ms, end_ms, now_ms in (
        (windows.train_ms, windows.tune_ms, windows.tune_ms),
        (windows.tune_ms, windows.gap_ms, windows.test_ms),
    ):
        rows = learnable(late.event_time_ms, prepared.laid.verdicts, start_ms, end_ms, now_ms)
        known = prepared.laid.verdicts.take(rows).fraud(now_ms)
        assert known.sum() > 0.9 * truth[rows].sum() > 0


def test_where_late_labels_leave_too_little_that_is_said_and_windows_are_named_only_if_they_do() -> None:
    late = labelled_late(30.0)
    settings = Settings(entity_key="0f" * 16, transaction=late.fields)

    def short(days: int) -> Dataset:
        return late.take(np.flatnonzero(late.event_time_ms < late.event_time_ms[0] + days * MS_PER_DAY))

    def refused(days: int) -> str:
        with pytest.raises(SettingsError) as error:
            prepare(settings, short(days), "raw", own_rows=False)
        return str(error.value)

    nowhere = refused(70)
    assert "has 0 frauds whose label had arrived in time: a comparison needs 30 in each window" in nowhere
    assert nowhere.endswith(
        "; nine in ten fraud labels come within 32 days, and no other --windows that were tried would do: give a "
        "longer file"
    )
    named = re.findall(r"of which ([\d,]+) would do", refused(100))[0]
    prepare(settings, short(100), "raw", Shares(*map(float, named.split(","))), own_rows=False)
    assert "and nine in ten fraud labels come within 31 days: that leaves no day" in refused(32)


def labelled_soon_or_late(days: float) -> Dataset:
    """Label a third of the transactions so many days later, the others after two."""
    late = labelled_late(days)
    assert late.label_time_ms is not None
    soon = np.arange(len(late)) % 3 > 0
    label_time_ms = np.where(soon, late.event_time_ms + 2 * MS_PER_DAY, late.label_time_ms)
    return dataclasses.replace(late, label_time_ms=label_time_ms)


def test_a_gap_that_is_chosen_shorter_than_labels_take_is_said_to_cost_the_newest_frauds() -> None:
    mixed = labelled_soon_or_late(30.0)
    settings = Settings(entity_key="0f" * 16, transaction=mixed.fields)
    prepared = prepare(settings, mixed, "raw", Shares(15, 40, 14, 14, gap_days=10), own_rows=False)
    assert prepared.laid.delay.ms == 10 * MS_PER_DAY
    assert lengths(prepared.laid.windows)[3] == 10
    [note] = prepared.notes
    assert re.match(
        r"nine in ten fraud labels come within 3\d days, and the gap of --windows is 10 days: strategies le",
        note,
    )
    # Proportions that would do are named with the gap that was chosen.
    with pytest.raises(SettingsError, match=r"of which [\d.]+,[\d.]+,[\d.]+,10,[\d.]+ would do"):
        prepare(settings, mixed, "raw", Shares(15, 40, 0.5, 14, gap_days=10), own_rows=False)


def test_a_delay_that_a_setting_decides_is_named_by_it() -> None:
    with pytest.raises(SettingsError, match=r"labels\.negatives_after_days is 45: that leaves no day"):
        over(40, Delay(45 * MS_PER_DAY, varies=True))


def test_a_file_too_short_for_its_late_labels_is_compared_with_the_usual_gap_and_that_is_said() -> None:
    mixed = labelled_soon_or_late(24.0)
    settings = Settings(entity_key="0f" * 16, transaction=mixed.fields)

    def prepared_of(days: int) -> Prepared:
        part = mixed.take(np.flatnonzero(mixed.event_time_ms < mixed.event_time_ms[0] + days * MS_PER_DAY))
        return prepare(settings, part, "raw", own_rows=False)

    long, short = prepared_of(120), prepared_of(55)
    assert long.laid.delay == Delay(26 * MS_PER_DAY, varies=True, by_frauds=True)
    assert short.laid.delay == Delay(7 * MS_PER_DAY, varies=True)
    said = (
        "nine in ten fraud labels come within 25 days, for which the file is too short: the gap is of 7 days"
    )
    assert [note.startswith(said) for note in short.notes] == [True]
    assert long.notes == ()
