from __future__ import annotations

import math
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from tests.support.demo_figures import UNSETTLED, alert, at_the_start, figures
from worker.demo.display import LineDisplay
from worker.demo.plain import status_lines
from worker.demo.summary import summary_paragraphs
from worker.demo.wording import milliseconds, minutes, money, percent, reasons, short_card


def test_the_summary_says_what_was_caught_and_what_it_cost() -> None:
    text = " ".join(summary_paragraphs(figures(decided=182_676)))
    for part in (
        "182,676 of 182,676 payments were decided in 1:09.",
        "No model decided at first, from Tue 2 Jan on the isolation forest, from Mon 8 Jan on the online model.",
        "In the 15 newest days whose labels have settled (up to Wed 17 Jan), 700 of 70,000 payments were fraud",
        "1,000 alerts in 800 cases; 420 of these alerts were fraud (precision 42 %)",  # 0.6 * 700
        "It caught 60 % of the frauds and 80 % of the money in them.",
        "Reviewing cost 4,000 and missed fraud 26,000, together 30,000.",  # 800 * 5
        "Without any alert it would have been 120,000: 75 % saved.",
        "A worker that never alerts would be right 99.00 % of the time and catch nothing",
        "alerts tail",
        "Point it at your Kafka",
    ):
        assert part in text, part
    assert "waiting" not in text


def test_a_summary_before_labels_settle_says_so() -> None:
    text = " ".join(summary_paragraphs(figures(quality=UNSETTLED)))
    assert "1,204 alerts in 987 cases" in text
    assert "not known yet" in text
    assert "nan" not in text.lower()


def test_a_summary_of_what_could_not_keep_up_says_what_waits() -> None:
    text = " ".join(summary_paragraphs(figures(lag=5_000)))
    assert "It ended on day 23 of 40, with 5,000 payments waiting." in text


@pytest.mark.parametrize("seen", [None, at_the_start()])
def test_a_summary_of_nothing_is_short(seen: Any) -> None:
    assert summary_paragraphs(seen) == ["Stopped before the first transaction was decided."]


def test_the_lines_say_how_things_stand() -> None:
    text = "\n".join(status_lines(figures()))
    for part in (
        "Day 23 of 40 (Tue 23 Jan 14:05), 1:09 of 2:00: 98,211 decided, 1,498/s, lag 37",
        "isolation forest 25 %, online model 75 %",
        "p50 61 ms, p99 140 ms",
        "cost so far 28,082",
        "settled days: 15, prevalence 1.00 %, recall 60 % (80 % by value), precision 42 %, savings 75 %, labelled 97 %",
    ):
        assert part in text, part
    assert "accura" not in text


def test_the_lines_name_what_is_not_known() -> None:
    text = "\n".join(status_lines(at_the_start()))
    assert "prevalence, recall, precision, savings: known once labels settle" in text
    assert "nan" not in text.lower()


def test_lines_show_a_status_once_and_the_first_alerts_of_each_decider() -> None:
    out = StringIO()
    display = LineDisplay(Console(file=out, width=80, _environ={}))
    display.show_stage("Starting")
    display.show_stage("Starting")
    for _ in range(3):
        display.show_figures(figures(), [alert(), alert("forest"), alert(card_id="[b]card\x1b[2J")] * 2)
    text = out.getvalue()
    assert text.count("Starting") == 1
    assert text.count("98,211 decided") == 1
    assert text.count("online model decides") == 1
    assert text.count("online: probability") == 3
    assert text.count("forest: anomaly score") == 3
    assert "\x1b" not in text
    assert r"[b]card\x1b[2J" in text


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (percent(0.1234, 1), "12.3 %"),
        (percent(math.nan), "-"),
        (money(1_234.5), "1,234"),
        (money(math.nan), "-"),
        (milliseconds(0.0456), "46 ms"),
        (milliseconds(2.04), "2.0 s"),
        (milliseconds(math.nan), "-"),
        (minutes(125.9), "2:05"),
        (short_card("short"), "short"),
        (short_card("card-0001234"), "…001234"),
        (short_card("4111111111111111"), "…**1111"),
    ],
)
def test_figures_are_written_alike_everywhere(written: str, expected: str) -> None:
    assert written == expected


def test_only_what_speaks_for_an_alert_is_a_reason() -> None:
    assert reasons(alert()) == ["amount", "shop: latest frauds"]
