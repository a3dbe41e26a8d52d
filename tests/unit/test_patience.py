"""A read without progress is given up in time; one that goes on only reports."""

from __future__ import annotations

import time

import pytest

from worker.errors import UnreachableError
from worker.kafka_io.patience import Patience


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give a clock that the test sets, by its only item."""
    now_s = [1_000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now_s[0])
    return now_s


def test_a_read_that_makes_no_progress_is_given_up_and_says_what_did_not_come(clock: list[float]) -> None:
    patience = Patience(60.0)
    clock[0] += 59.0
    patience.wait("journal j-0: no progress")
    clock[0] += 2.0
    with pytest.raises(UnreachableError, match=r"^journal j-0: no progress for 60 s: no broker answers, or"):
        patience.wait("journal j-0: no progress")


def test_progress_begins_the_wait_anew(clock: list[float]) -> None:
    patience = Patience(60.0)
    for _ in range(10):
        clock[0] += 59.0
        patience.wait("a log: nothing")
        patience.progressed()


def test_a_long_read_reports_every_ten_seconds_and_a_short_one_never(clock: list[float]) -> None:
    reported_s: list[float] = []
    patience = Patience(60.0, lambda: reported_s.append(clock[0] - 1_000.0))
    for second in range(1, 31):
        clock[0] = 1_000.0 + second
        patience.progressed()
        patience.wait("a log: nothing")
    assert reported_s == [11.0, 22.0]


def test_the_error_says_what_may_be_the_matter_with_this_read(clock: list[float]) -> None:
    patience = Patience(60.0, why="the brokers are silent")
    clock[0] += 61.0
    with pytest.raises(UnreachableError, match=r"^a topic: nothing for 60 s: the brokers are silent$"):
        patience.wait("a topic: nothing")
