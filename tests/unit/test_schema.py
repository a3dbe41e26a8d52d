"""The messages on the wire: limits, times, what a label may say, and what a dead letter shows."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from pydantic import ValidationError

from worker.settings.fields import LabelFields, TimeFormat, TransactionFields
from worker.wire.schema import (
    MAX_ORIGINAL_BYTES,
    MAX_RECORD_BYTES,
    Alert,
    AlertReason,
    DeadLetter,
    Reason,
    explain_record,
    label_model,
    transaction_model,
)

CARD = "4111 1111 1111 1111"
TRANSACTION = {"transaction_id": "t1", "card_id": "c1", "event_time": 1_700_000_000_000, "amount": 12.5}
LABEL = {"transaction_id": "t1", "card_id": "c1", "label_time": 1_700_000_000_000}


def read_transaction(change: dict[str, Any], **fields: Any) -> Any:
    message = {**TRANSACTION, **change}
    return transaction_model(TransactionFields(**fields)).model_validate_json(json.dumps(message))


def reason_of(change: dict[str, Any], **fields: Any) -> Reason:
    with pytest.raises(ValidationError) as caught:
        read_transaction(change, **fields)
    return explain_record(caught.value).reason


def read_label(change: dict[str, Any]) -> Any:
    return label_model(LabelFields()).model_validate_json(json.dumps({**LABEL, **change}))


def test_a_transaction_is_read_under_the_users_field_names() -> None:
    fields = TransactionFields(
        transaction_id="tx",
        card_id="pan token",
        event_time="at",
        amount="€",
        currency="ccy",
        numeric=("model_x",),
        categorical=("copy",),
        entities=("merchant", "class"),
    )
    text = '{"tx": "a", "pan token": "b", "at": 5, "€": 7, "ccy": "EUR", "model_x": 1, "copy": "k", "class": "d"}'
    read: Any = transaction_model(fields).model_validate_json(text)
    assert (read.transaction_id, read.card_id, read.event_time, read.amount) == ("a", "b", 5, 7.0)
    assert (read.currency, read.numeric_0, read.categorical_0) == ("EUR", 1.0, "k")
    assert (read.entity_0, read.entity_1) == (None, "d")


def test_the_json_schema_carries_the_users_names_and_the_limits() -> None:
    schema = transaction_model(TransactionFields(amount="value", time_format="iso8601")).model_json_schema()
    assert schema["required"] == ["transaction_id", "card_id", "event_time", "value"]
    assert schema["properties"]["value"]["maximum"] == 1e12
    assert schema["properties"]["event_time"]["format"] == "date-time"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"transaction_id": ""}, Reason.BAD_TEXT),
        ({"transaction_id": "x" * 129}, Reason.BAD_TEXT),
        ({"transaction_id": "a\x00b"}, Reason.BAD_TEXT),
        ({"transaction_id": "a\x85b"}, Reason.BAD_TEXT),
        ({"transaction_id": 5}, Reason.WRONG_TYPE),
        ({"card_id": None}, Reason.WRONG_TYPE),
        ({"card_id": CARD}, Reason.CARD_NUMBER),
        ({"merchant_id": CARD}, Reason.CARD_NUMBER),
        ({"merchant_id": "m" * 257}, Reason.BAD_TEXT),
        ({"amount": -0.01}, Reason.OUT_OF_RANGE),
        ({"amount": 1.1e12}, Reason.OUT_OF_RANGE),
        ({"amount": 1e308}, Reason.OUT_OF_RANGE),
        ({"amount": float("nan")}, Reason.NOT_FINITE),
        ({"amount": float("inf")}, Reason.NOT_FINITE),
        ({"amount": True}, Reason.WRONG_TYPE),
        ({"amount": "12.5"}, Reason.WRONG_TYPE),
        ({"event_time": -1}, Reason.OUT_OF_RANGE),
        ({"event_time": 4_102_444_800_000}, Reason.OUT_OF_RANGE),
        ({"event_time": 1.7e12}, Reason.WRONG_TYPE),
        ({"event_time": True}, Reason.WRONG_TYPE),
    ],
)
def test_a_field_beyond_its_limits_is_refused_with_the_reason(change: dict[str, Any], reason: Reason) -> None:
    assert reason_of(change) == reason


@pytest.mark.parametrize(
    "change",
    [
        {"transaction_id": "é" * 128},
        {"transaction_id": CARD},
        {"card_id": "4111 1111 1111 1112"},
        {"merchant_id": None},
        {"merchant_id": ""},
        {"amount": 0},
        {"amount": 1e12},
        {"event_time": 0},
        {"event_time": 4_102_444_799_999},
        {"unknown": {"nested": [1, {"x": None}]}},
    ],
)
def test_a_field_at_its_limits_is_accepted(change: dict[str, Any]) -> None:
    read_transaction(change)


def test_a_number_that_no_32_bit_float_holds_is_refused() -> None:
    assert reason_of({"age": 3.5e38}, numeric=("age",)) == Reason.OUT_OF_RANGE
    assert read_transaction({"age": -3e38}, numeric=("age",)).numeric_0 == -3e38


@pytest.mark.parametrize(
    ("time_format", "value", "milliseconds"),
    [
        ("epoch_ms", 1_700_000_000_123, 1_700_000_000_123),
        ("epoch_s", 1_700_000_000, 1_700_000_000_000),
        ("epoch_s", 1_700_000_000.123, 1_700_000_000_123),
        ("iso8601", "2023-11-14T22:13:20Z", 1_700_000_000_000),
        ("iso8601", "2023-11-14 22:13:20", 1_700_000_000_000),
        ("iso8601", "2023-11-15T00:13:20.123999+02:00", 1_700_000_000_123),
        ("iso8601", "2023-11-14T16:43:20.5-05:30", 1_700_000_000_500),
        ("iso8601", "1970-01-01T00:00:00Z", 0),
        ("iso8601", "2000-02-29T00:00:00Z", 951_782_400_000),
    ],
)
def test_every_time_format_ends_in_epoch_milliseconds(
    time_format: TimeFormat, value: object, milliseconds: int
) -> None:
    assert read_transaction({"event_time": value}, time_format=time_format).event_time == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1700000000",
        "2023-11-14",
        "20231114T221320Z",
        "2023-11-14T22:13Z",
        "2023-11-14T22:13:20.Z",
        "2023-11-14T22:13:20.1234567890Z",
        "2023-11-14T22:13:20+0200",
        "2023-11-14T22:13:20+24:00",
        "2023-11-14T24:00:00Z",
        "2023-11-14T23:59:60Z",
        "2023-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "٢٠٢٣-11-14T22:13:20Z",
        " 2023-11-14T22:13:20Z",
        "2023-11-14T22:13:20Z\n",
    ],
)
def test_a_text_that_is_no_iso_time_is_refused(text: str) -> None:
    assert reason_of({"event_time": text}, time_format="iso8601") == Reason.BAD_TIME


@pytest.mark.parametrize(
    "text", ["1969-12-31T23:59:59.999Z", "1970-01-01T00:30:00+01:00", "2100-01-01T00:00:00Z"]
)
def test_an_iso_time_outside_our_era_is_refused(text: str) -> None:
    assert reason_of({"event_time": text}, time_format="iso8601") == Reason.OUT_OF_RANGE


@pytest.mark.parametrize(
    "change",
    [
        {"label": "fraud", "source": "chargeback"},
        {"label": "legit", "source": "analyst"},
        {"label": "legit", "source": "reversal"},
        {"outcome": "declined"},
        {"outcome": "not_reviewed", "source": "analyst"},
    ],
)
def test_a_label_that_says_one_thing_is_read(change: dict[str, Any]) -> None:
    read = read_label(change)
    assert {name: getattr(read, name) for name in change} == change


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"source": "chargeback"},
        {"label": "fraud"},
        {"label": "fraud", "outcome": "declined", "source": "analyst"},
        {"label": "fraud", "source": "reversal"},
        {"outcome": "declined", "source": "reversal"},
        {"label": "Fraud", "source": "analyst"},
        {"outcome": "accepted"},
        {"label": "fraud", "source": "pending_reversal_of_a_label", "outcome": "blocked"},
    ],
)
def test_a_label_that_says_nothing_or_two_things_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        read_label(change)
    assert explain_record(caught.value).reason == Reason.BAD_LABEL


@pytest.mark.parametrize("source", ["issuer", "rumour", "x", "é" * 64])
def test_a_label_may_come_from_any_source(source: str) -> None:
    assert read_label({"label": "fraud", "source": source}).source == source


@pytest.mark.parametrize("source", ["", "x" * 65, "a\x00b"])
def test_a_source_is_a_short_text(source: str) -> None:
    with pytest.raises(ValidationError) as caught:
        read_label({"label": "fraud", "source": source})
    assert explain_record(caught.value).reason == Reason.BAD_TEXT


def test_an_explanation_names_the_field_and_never_quotes_the_value() -> None:
    with pytest.raises(ValidationError) as caught:
        read_transaction({"card_id": CARD, "note": "secret", "amount": "secret"}, amount="amount")
    fault = explain_record(caught.value)
    assert fault.detail == "card_id: a card number where a token belongs, or in it"


def test_an_alert_is_plain_json_with_every_field() -> None:
    alert = Alert(
        alert_id="a",
        transaction_id="t",
        card_id="c",
        case_id="k",
        event_time_ms=5,
        amount=1.5,
        currency=None,
        decided_by="online",
        probability=0.25,
        forest_score=None,
        forest_rank=None,
        expected_loss=2.0,
        threshold=1.0,
        loss=8.0,
        review_cost=1.0,
        reasons=[AlertReason(feature="amount", text="amount", value=1.5, contribution=0.5)],
        reference=-3.0,
        model_version="v",
    )
    message = json.loads(alert.to_json())
    assert message["schema_version"] == 1
    assert message["currency"] is None
    reason = {"feature": "amount", "text": "amount", "value": 1.5, "contribution": 0.5, "sentence": None}
    assert message["reasons"] == [reason]
    assert set(message) == set(Alert.model_fields)


def dead_letter(value: bytes | None, detail: str = "") -> dict[str, Any]:
    letter = DeadLetter.of(
        value,
        topic="t",
        partition=1,
        offset=2,
        timestamp_ms=3,
        stage="decode",
        reason="not_json",
        detail=detail,
    )
    read: dict[str, Any] = json.loads(letter.to_json())
    return read


def test_a_dead_letter_holds_the_original_redacted_and_a_digest_that_betrays_no_number() -> None:
    value = b'{"card_id": "' + CARD.encode() + b'", "x": "\xff"}'
    letter = dead_letter(value)
    original = base64.b64decode(letter["original"])
    assert original == value.replace(CARD.encode(), b"**** **** **** 1111")
    # Whoever knows the rest of the record could try all numbers on a digest of what came.
    assert letter["sha256"] == hashlib.sha256(original).hexdigest()
    untouched = dead_letter(b"{" * (MAX_ORIGINAL_BYTES + 1))
    assert untouched["sha256"] == hashlib.sha256(b"{" * (MAX_ORIGINAL_BYTES + 1)).hexdigest()
    assert (letter["original_bytes"], letter["truncated"]) == (len(value), False)


def test_a_dead_letter_is_bounded_and_shows_no_part_of_a_number_at_the_bound() -> None:
    value = b" " * (MAX_ORIGINAL_BYTES - 12) + CARD.replace(" ", "").encode() + b" " * 10**6
    letter = dead_letter(value, detail="d" * 1_000)
    original = base64.b64decode(letter["original"])
    assert original == b" " * (MAX_ORIGINAL_BYTES - 12) + b"*" * 12
    assert (letter["original_bytes"], letter["truncated"], len(letter["detail"])) == (len(value), True, 200)


def test_a_dead_letter_of_a_huge_value_is_made_in_bounded_time_and_without_a_digest() -> None:
    letter = DeadLetter.of(
        b" " * MAX_RECORD_BYTES, topic="t", partition=0, offset=0, timestamp_ms=0, stage="decode", reason="too_large",
        detail="", value_bytes=250 << 20,
    )  # fmt: skip
    assert (letter.original_bytes, letter.truncated, letter.sha256) == (250 << 20, True, None)
    seen: list[int] = []

    def noted(data: bytes) -> bytes:
        seen.append(len(data))
        return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("worker.wire.schema.redact_bytes", noted)
        dead_letter(b"{" * (MAX_RECORD_BYTES + 5))
    assert seen == [MAX_RECORD_BYTES]


def test_a_dead_letter_of_a_record_without_a_value_has_no_original() -> None:
    letter = dead_letter(None)
    assert (letter["original"], letter["sha256"], letter["original_bytes"]) == (None, None, 0)
