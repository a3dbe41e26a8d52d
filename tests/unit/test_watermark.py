from __future__ import annotations

import numpy as np
import pytest

from models.vocabulary import MS_PER_DAY, NEVER_MS
from worker.cycle.watermark import LEAST_AHEAD, MANY_FAR, Watermark

DAY = MS_PER_DAY
START = 1_700_000_000_000
YEARS = 20 * 365 * DAY


def times(*days: float) -> np.ndarray:
    return np.array([START + round(day * DAY) for day in days], np.int64)


def steady(from_day: float, count: int, step_days: float = 0.001) -> np.ndarray:
    return START + ((from_day + step_days * np.arange(count)) * DAY).astype(np.int64)


def day(ms: int) -> float:
    return (ms - START) / DAY


def test_a_claim_within_a_day_moves_the_clock_and_a_late_one_keeps_its_own_time() -> None:
    mark = Watermark(START)
    assert mark.advance(times(0.5, 0.2, 1.4, 1.3)).tolist() == times(0.5, 0.2, 1.4, 1.3).tolist()
    assert mark.clock_ms == START + round(1.4 * DAY)


@pytest.mark.parametrize("count", [1, 5, 100, 3_000])
def test_one_record_of_the_far_future_takes_the_clocks_time_and_moves_nothing(count: int) -> None:
    mark = Watermark(START)
    honest = steady(0.0, count)
    claims = np.insert(honest, count // 2, START + YEARS)
    allowed = mark.advance(claims)
    assert np.delete(allowed, count // 2).tolist() == honest.tolist()
    assert allowed[count // 2] == (honest[count // 2 - 1] if count > 1 else START)
    assert mark.clock_ms == honest[-1]
    assert mark.advance(steady(1.0, 3)).tolist() == steady(1.0, 3).tolist()


def test_records_dated_nine_months_ahead_in_a_backlog_leave_its_days_as_they_are() -> None:
    rng = np.random.default_rng(1)
    honest = np.sort(START + (rng.random(20_000) * 60 * DAY).astype(np.int64))
    claims = honest.copy()
    claims[rng.choice(20_000, 400, replace=False)] += 270 * DAY
    mark = Watermark(int(honest[0]))
    for part in np.array_split(claims, 17):
        mark.advance(part)
    assert mark.clock_ms == honest[claims == honest][-1]


@pytest.mark.parametrize("gap_days", [3.0, 400.0])
def test_a_gap_in_the_data_is_crossed_at_its_first_record(gap_days: float) -> None:
    mark = Watermark(START)
    claims = np.concatenate([steady(0.0, 50), steady(gap_days, LEAST_AHEAD)])
    assert mark.advance(claims).tolist() == claims.tolist()


def test_a_gap_before_the_last_rows_of_all_is_crossed_but_not_for_one_or_two_of_them() -> None:
    claims = np.concatenate([steady(0.0, 200), steady(4.0, 25)])
    assert Watermark(START).advance(claims, are_last=True).tolist() == claims.tolist()
    for odd in (1, 2):
        claims = np.concatenate([steady(0.0, 200), steady(4.0, odd)])
        mark = Watermark(START)
        assert mark.advance(claims, are_last=True)[-1] == claims[199]
        assert mark.clock_ms == claims[199]
    for tail in (times(9.0, 0.3, 9.0), times(9.0, 9.0, 0.3)):
        mark = Watermark(START)
        mark.advance(np.concatenate([steady(0.0, 200), tail]), are_last=True)
        assert mark.clock_ms == times(0.3)[0]
    live = Watermark(START)
    live.advance(np.concatenate([steady(0.0, 200), steady(4.0, 25)]))
    assert live.clock_ms == steady(0.0, 200)[-1], "more may come, as old as those before"


def test_a_replay_of_years_old_data_begins_where_the_data_do() -> None:
    old = START - YEARS + np.arange(1_000) * 3_600_000
    assert Watermark().advance(old).tolist() == old.tolist()


@pytest.mark.parametrize("rows", [3, 31, 1_000])
def test_a_faulty_first_date_of_the_past_does_not_either(rows: int) -> None:
    times = np.arange(rows, dtype=np.int64) * 1_000 + START
    times[0] = 86_400_000
    assert Watermark().advance(times)[1:].tolist() == times[1:].tolist()
    late = Watermark()
    late.advance(times)
    assert late.clock_ms == times[-1]


def test_two_dates_of_the_future_among_the_first_rows_of_a_backlog_do_not_move_its_beginning() -> None:
    times = np.arange(60, dtype=np.int64) * 600_000 + START
    times[1:3] = START + YEARS
    allowed = Watermark().advance(times)
    # What lies too far ahead has the clock's time.
    assert allowed[:3].tolist() == [START] * 3
    assert allowed[3:].tolist() == times[3:].tolist()


def test_a_backlog_of_weeks_begins_with_its_first_row() -> None:
    times = np.arange(50, dtype=np.int64) * 86_400_000 + START
    assert Watermark().advance(times).tolist() == times.tolist()


def test_one_faulty_first_date_does_not_decide_where_time_begins() -> None:
    ahead = Watermark()
    allowed = ahead.advance(np.concatenate([[START + YEARS], steady(0.0, 201)]))
    assert day(ahead.clock_ms) == pytest.approx(0.2)
    assert allowed.max() == ahead.clock_ms
    behind = Watermark()
    behind.advance(np.concatenate([[0], steady(0.0, 201)]))
    assert day(behind.clock_ms) == pytest.approx(0.2)


def test_records_that_come_one_by_one_after_an_outage_move_the_clock_once_they_are_many() -> None:
    mark = Watermark(START)
    for at in range(MANY_FAR - 1):
        assert mark.advance(steady(3.0 + at * 1e-4, 1))[0] == START
    late = steady(3.2, 1)
    assert mark.advance(late).tolist() == late.tolist()


def test_ordinary_records_take_far_ones_back_one_by_one() -> None:
    mark = Watermark(START)
    for _ in range(10 * MANY_FAR):
        mark.advance(times(500.0))
        mark.advance(times(0.0))
    assert mark.clock_ms == START


def test_a_whole_producer_gone_wrong_moves_the_clock_only_as_a_majority() -> None:
    rng = np.random.default_rng(2)
    wrong = rng.random(20_000) < 0.4
    claims = np.where(wrong, START + YEARS, steady(0.0, 20_000, 1e-5))
    mark = Watermark(START)
    mark.advance(claims)
    assert day(mark.clock_ms) < 1.0
    most = Watermark(START)
    most.advance(np.where(~wrong, START + YEARS, steady(0.0, 20_000, 1e-5)))
    assert day(most.clock_ms) > 365.0, "what it cannot stop"


LONG_AGO = START + YEARS


def test_a_partition_that_falls_quiet_believes_some_records_that_came_last() -> None:
    mark = Watermark(START)
    mark.advance(times(19.0, 17.0))
    assert mark.fall_quiet(LONG_AGO) == START, "two may be strays"
    mark.advance(times(18.0))
    assert day(mark.fall_quiet(LONG_AGO)) == 17.0
    assert mark.advance(times(17.5)).tolist() == times(17.5).tolist()


def test_a_partition_that_falls_quiet_believes_one_record_after_a_week_without_any() -> None:
    for claim, expected in ((7.0, 7.0), (7.1, 0.0)):
        mark = Watermark(START)
        mark.advance(times(claim))
        assert day(mark.fall_quiet(LONG_AGO)) == expected, claim


def test_a_partition_that_falls_quiet_believes_one_record_of_today_but_none_of_tomorrow() -> None:
    for claim, expected in ((17.0, 17.0), (17.9, 17.9), (18.5, 0.0), (16.9, 0.0)):
        mark = Watermark(START)
        mark.advance(times(claim))
        assert day(mark.fall_quiet(START + round(17.95 * DAY))) == pytest.approx(expected), claim


def test_a_partition_that_falls_quiet_believes_no_single_record_of_the_future_even_within_a_week() -> None:
    now_ms, tomorrow = START + DAY // 2, 1.5  # no record counts as later than a day from now
    mark = Watermark(START)
    mark.advance(times(tomorrow))
    assert mark.fall_quiet(now_ms) == START
    assert mark.advance(times(0.5)).tolist() == times(0.5).tolist()
    several = Watermark(START)
    several.advance(times(tomorrow, tomorrow, tomorrow))
    assert day(several.fall_quiet(now_ms)) == tomorrow, "what it cannot stop"


def test_a_stray_date_that_honest_records_followed_is_not_believed_in_the_quiet() -> None:
    mark = Watermark(START)
    mark.advance(times(0.1, 7_000.0, 7_000.0, 7_000.0, 7_000.0, 0.2))
    assert day(mark.fall_quiet(LONG_AGO)) == pytest.approx(0.2)
    assert Watermark().fall_quiet(LONG_AGO) == NEVER_MS


def test_what_was_noted_before_the_clock_moved_on_never_sets_it_back() -> None:
    mark = Watermark(START)
    mark.advance(times(2.0, 2.0, 0.1))
    mark.follow(START + 10 * DAY)
    for _ in range(MANY_FAR):
        mark.advance(times(15.0))
    assert day(mark.clock_ms) == 15.0


def test_the_watermark_follows_the_clock_of_a_partition_that_was_moved_on() -> None:
    mark = Watermark(START)
    mark.follow(START + 30 * DAY)
    assert mark.advance(times(30.5)).tolist() == times(30.5).tolist()
    mark.follow(START)
    assert day(mark.clock_ms) == 30.5
