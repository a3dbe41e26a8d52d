"""Alerts as people and their tools read them."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from worker.moments import moment
from worker.view.alert_text import alert_text, one_line, read_alert
from worker.wire.schema import Alert

REASONS: list[dict[str, Any]] = [
    {"feature": "amount", "text": "amount", "value": 950.0, "contribution": 2.5},
    {"feature": "hour", "text": "hour of day (UTC)", "value": None, "contribution": 0.25},
    {"feature": "other_features", "text": "all other features", "value": None, "contribution": -0.5},
]
VALUES: dict[str, Any] = {
    "schema_version": 1,
    "alert_id": "0123456789abcdef0123456789abcdef",
    "transaction_id": "t-1",
    "card_id": "card-0000176",
    "case_id": "fedcba9876543210fedcba9876543210",
    "event_time_ms": 1_704_164_882_123,
    "amount": 1950.5,
    "currency": "EUR",
    "decided_by": "online",
    "probability": 0.125,
    "forest_score": None,
    "forest_rank": None,
    "expected_loss": 244.4375,
    "threshold": 5.0,
    "loss": 1955.5,
    "review_cost": 5.0,
    "reasons": REASONS,
    "reference": -4.0,
    "model_version": "7f4cd0bdbff4c3cc-48",
}
FOREST: dict[str, Any] = {
    "decided_by": "forest",
    "probability": None,
    "expected_loss": None,
    "forest_score": 0.55,
    "forest_rank": 1072.8,
    "threshold": 35.94,
}


def wire(**changes: Any) -> bytes:
    return json.dumps(VALUES | changes).encode()


def text_of(**changes: Any) -> str:
    alert = read_alert(wire(**changes))
    assert isinstance(alert, Alert), alert
    return alert_text(alert).plain


def test_an_alert_is_shown_with_its_sentences_and_the_fields_that_it_carries() -> None:
    reasons = [{**REASONS[0], "sentence": "3.1 times this card's usual amount"}, *REASONS[1:]]
    shown = text_of(reasons=reasons, fields={"merchant_id": "m-\x1b1", "age": 31.5, "channel": None})
    assert "3.1 times this card's usual amount\n" in shown
    assert "amount = 950" not in shown
    assert r"merchant_id m-\x1b1, age 31.5, channel -" in shown


def test_an_alert_of_the_online_model_is_a_few_lines() -> None:
    assert text_of().splitlines() == [
        "2024-01-02 03:08:02Z  1,950.50 EUR  card card-0000176  transaction t-1",
        "    online: probability 12.50%, expected loss 244.44 (alerts from 5.00)",
        "     +2.500  amount = 950",
        "     +0.250  hour of day (UTC)",
        "    case fedcba9..6543210  alert 0123456..9abcdef  model 7f4cd0bdbff4c3cc-48",
    ]


def test_an_alert_that_only_its_open_case_makes_says_so() -> None:
    assert "(alerts from 1.25 in an open case)" in text_of(threshold=1.25, joins_case=True)


def test_an_alert_of_the_forest_shows_its_rank_and_no_probability() -> None:
    text = text_of(**FOREST)
    assert "forest: anomaly score 0.55, rank 1,072.8 (alerts from 35.9)" in text
    assert "probability" not in text


def test_a_missing_score_is_shown_as_unknown() -> None:
    assert "anomaly score unknown, rank unknown" in text_of(
        **FOREST | {"forest_score": None, "forest_rank": None}
    )


def test_of_reasons_that_all_speak_against_the_alert_the_first_is_shown() -> None:
    against = [reason | {"contribution": -number} for number, reason in enumerate(REASONS, 1)]
    assert [line for line in text_of(reasons=against).splitlines() if "= " in line] == [
        "     -1.000  amount = 950"
    ]


def test_foreign_text_neither_steers_the_terminal_nor_is_read_as_markup() -> None:
    hostile = "[red]\x1b[2Jx"
    reason = {"feature": "f", "text": hostile, "value": hostile, "contribution": 1.0}
    alert = read_alert(wire(card_id=hostile, currency=hostile[-8:], reasons=[reason]))
    assert isinstance(alert, Alert)
    screen = io.StringIO()
    Console(file=screen, force_terminal=True, color_system="truecolor").print(
        alert_text(alert), soft_wrap=True
    )
    assert "[red]" in screen.getvalue()
    assert "\x1b[2J" not in screen.getvalue()
    assert r"\x1b[2J" in screen.getvalue()


def test_a_time_that_no_calendar_holds_is_shown_as_it_is() -> None:
    assert moment(10**18) == "1000000000000000000 ms"


def test_a_time_is_shown_in_utc_and_none_in_words() -> None:
    assert (moment(1_704_067_205_999), moment(None)) == ("2024-01-01 00:00:05Z", "no time yet")


def test_an_alert_of_a_later_version_of_the_worker_is_read() -> None:
    later = [reason | {"since": "v9"} for reason in REASONS]
    assert isinstance(read_alert(wire(channel="web", reasons=later)), Alert)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "no value"),
        (b"\xff", "Invalid JSON"),
        (b"[]", "object"),
        (b"{}", "alert_id: Field required"),
        (wire(schema_version=2), "schema_version"),
        (wire(decided_by="oracle"), "decided_by"),
    ],
)
def test_what_is_no_alert_is_refused_in_a_few_words(value: bytes | None, words: str) -> None:
    refusal = read_alert(value)
    assert isinstance(refusal, str)
    assert words in refusal


def test_a_line_of_json_is_the_value_itself() -> None:
    for value in (wire(), b'{"b": 1.0,  "a": "caf\xc3\xa9"}', b"17"):
        assert one_line(value) == value


def test_json_that_spans_lines_or_holds_control_characters_becomes_one_equal_line() -> None:
    for value in (b'{\n "a": 1\n}', b'{"a": "\xc2\x9b31m"}', '{"a": "\u202e"}'.encode()):
        line = one_line(value)
        assert line is not None
        assert json.loads(line) == json.loads(value)
        assert line.decode().isprintable()


@pytest.mark.parametrize("value", [None, b"", b"{", b"\xff", b"[" * 1_010 + b'"\x7f"' + b"]" * 1_010])
def test_what_is_not_json_is_no_line(value: bytes | None) -> None:
    assert one_line(value) is None
