"""Which alerts open a case and which join one."""

import numpy as np

from worker.partition.cases import CaseBook

WINDOW_MS = 1_000


def test_an_alert_opens_a_case_unless_its_card_has_one_in_the_window() -> None:
    book = CaseBook()
    card = np.array([1, 1, 2, 1, 2], np.uint64)
    time_ms = np.array([0, 10, 20, 1_000, 1_010])
    alerted = np.array([True, True, False, True, True])
    assert book.open(card, time_ms, alerted, WINDOW_MS).tolist() == [True, False, False, True, True]
    assert not book.open(card[:1], time_ms[:1], alerted[:1], WINDOW_MS).any(), (
        "an older window is kept for a while"
    )


def test_what_may_join_a_case_joins_it_only_after_the_alert_that_opens_it() -> None:
    book = CaseBook()
    book.open(np.array([7], np.uint64), np.array([5]), np.array([True]), WINDOW_MS)
    #               before  opens  after  another  opened by an earlier batch  the next window
    card = np.array([1, 1, 1, 2, 7, 7], np.uint64)
    time_ms = np.array([10, 20, 30, 40, 50, 1_050])
    alerted = np.array([False, True, False, False, False, False])
    has_case = book.has_case(card, time_ms, alerted, ~alerted, WINDOW_MS)
    assert has_case.tolist() == [False, False, True, False, True, False]


def test_an_alert_that_opens_a_case_finds_none_and_the_next_one_finds_it() -> None:
    card, time_ms, alerted = np.array([4, 4], np.uint64), np.array([10, 20]), np.ones(2, np.bool_)
    assert CaseBook().has_case(card, time_ms, alerted, alerted, WINDOW_MS).tolist() == [False, True]


def test_a_case_is_open_in_its_own_window_alone() -> None:
    book = CaseBook()
    card, time_ms = np.array([5, 5, 5], np.uint64), np.array([990, 1_010, 995])
    alerted = np.array([True, False, False])
    assert book.has_case(card, time_ms, alerted, ~alerted, WINDOW_MS).tolist() == [False, False, True]


def test_what_joins_opens_no_case_for_others_to_join() -> None:
    book = CaseBook()
    card, time_ms = np.array([3, 3], np.uint64), np.array([10, 20])
    nothing = np.zeros(2, np.bool_)
    assert not book.has_case(card, time_ms, nothing, ~nothing, WINDOW_MS).any()
    assert not book.has_case(card, time_ms, nothing, nothing, WINDOW_MS).any()


def test_asking_what_joins_opens_nothing() -> None:
    book = CaseBook()
    card, time_ms, alerted = np.array([4], np.uint64), np.array([10]), np.array([True])
    book.has_case(card, time_ms, alerted, ~alerted, WINDOW_MS)
    book.has_case(
        np.repeat(card, 2), np.repeat(time_ms, 2), np.array([True, False]), np.array([False, True]), WINDOW_MS
    )
    assert book.open(card, time_ms, alerted, WINDOW_MS).tolist() == [True]
