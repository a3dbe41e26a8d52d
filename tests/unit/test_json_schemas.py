"""The published schemas: they accept what the decoder accepts, and the committed files are up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from tests.unit.test_alert_text import VALUES as ALERT
from worker.cli import main
from worker.settings.fields import LabelFields, TimeFormat, TransactionFields
from worker.settings.sections import Settings
from worker.wire.asyncapi import asyncapi
from worker.wire.json_schemas import label_schema, schemas, transaction_schema
from worker.wire.schema import DeadLetter, label_model, transaction_model

pytestmark = pytest.mark.usefixtures("own_surroundings")

COMMITTED = Path(__file__).parents[2] / "deploy" / "schemas"
THEIRS = Settings(
    entity_key="00" * 16,
    transaction=TransactionFields(
        transaction_id="id",
        card_id="pattern",
        event_time="at",
        amount="€",
        currency="title",
        time_format="iso8601",
        numeric=("default",),
        categorical=("$ref",),
        entities=("properties",),
    ),
    label=LabelFields(label="verdict", source="by", time_format="epoch_s"),
)
TRANSACTION = {"transaction_id": "t1", "card_id": "c1", "event_time": 1_700_000_000_000, "amount": 12.5}
LABEL = {
    "transaction_id": "t1",
    "card_id": "c1",
    "label": "fraud",
    "source": "analyst",
    "label_time": 1_700_000_000_000,
}


def accepts(schema: dict[str, Any], message: Any) -> bool:
    Draft202012Validator.check_schema(schema)
    return bool(Draft202012Validator(schema).is_valid(message))


def decodes(model: Any, message: Any) -> bool:
    try:
        model.model_validate_json(json.dumps(message))
    except ValidationError:
        return False
    return True


def without(message: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != name}


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({}, True),
        ({"unknown": {"nested": [1, None]}}, True),
        ({"merchant_id": None}, True),
        ({"merchant_id": ""}, True),
        ({"merchant_id": "m" * 256}, True),
        ({"merchant_id": "m" * 257}, False),
        ({"merchant_id": 7}, False),
        ({"transaction_id": "é" * 128}, True),
        ({"transaction_id": "x" * 129}, False),
        ({"transaction_id": ""}, False),
        ({"transaction_id": "line\n"}, False),
        ({"transaction_id": "a\x85b"}, False),
        ({"transaction_id": "a\u00a0b"}, True),
        ({"card_id": None}, False),
        ({"card_id": 5}, False),
        ({"amount": 0}, True),
        ({"amount": 1e12}, True),
        ({"amount": 1.1e12}, False),
        ({"amount": -0.01}, False),
        ({"amount": "12.5"}, False),
        ({"amount": True}, False),
        ({"event_time": 0}, True),
        ({"event_time": 4_102_444_799_999}, True),
        ({"event_time": 4_102_444_800_000}, False),
        ({"event_time": -1}, False),
        ({"event_time": 1.5}, False),
        ({"event_time": "2024-01-01T00:00:00Z"}, False),
    ],
)
def test_a_transaction_fits_the_schema_when_it_decodes(change: dict[str, Any], fine: bool) -> None:
    fields = TransactionFields()
    assert accepts(transaction_schema(fields), TRANSACTION | change) is fine
    assert decodes(transaction_model(fields), TRANSACTION | change) is fine


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({}, False),
        ({"amount": "12.5"}, True),
        ({"amount": "1e5"}, False),
        ({"amount": "12.5", "merchant_id": 7}, True),
        ({"amount": "12.5", "merchant_id": 1.5}, False),
        ({"amount": "12.5", "merchant_id": None}, True),
    ],
)
def test_other_formats_fit_the_schema_when_they_decode(change: dict[str, Any], fine: bool) -> None:
    fields = TransactionFields(amount_format="text", integer_texts=True)
    assert accepts(transaction_schema(fields), TRANSACTION | change) is fine
    assert decodes(transaction_model(fields), TRANSACTION | change) is fine


@pytest.mark.parametrize("name", TRANSACTION)
def test_a_transaction_without_a_required_field_does_not_fit(name: str) -> None:
    assert not accepts(transaction_schema(TransactionFields()), without(TRANSACTION, name))


@pytest.mark.parametrize(
    ("time_format", "value", "fine"),
    [
        ("epoch_s", 1_700_000_000, True),
        ("epoch_s", 1_700_000_000.123, True),
        ("epoch_s", 4_102_444_800, False),
        ("epoch_s", "1700000000", False),
        ("iso8601", "2023-11-14T22:13:20Z", True),
        ("iso8601", "2023-11-14 22:13:20", True),
        ("iso8601", "2023-11-15T00:13:20.123999+02:00", True),
        ("iso8601", "2023-11-14T22:13:20Z\n", False),
        ("iso8601", "2023-11-14T22:13Z", False),
        ("iso8601", "20231114T221320Z", False),
        ("iso8601", "", False),
        ("iso8601", 1_700_000_000_000, False),
    ],
)
def test_a_time_fits_in_the_format_that_is_set(time_format: TimeFormat, value: object, fine: bool) -> None:
    fields = TransactionFields(time_format=time_format)
    assert accepts(transaction_schema(fields), TRANSACTION | {"event_time": value}) is fine
    assert decodes(transaction_model(fields), TRANSACTION | {"event_time": value}) is fine


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({}, True),
        ({"label": None}, False),
        ({"label": "maybe"}, False),
        ({"source": None}, False),
        ({"source": "hearsay"}, True),
        ({"source": "h" * 65}, False),
        ({"source": ""}, False),
        ({"source": "reversal"}, False),
        ({"source": "reversal", "label": "legit"}, True),
        ({"outcome": "declined"}, False),
        ({"outcome": "declined", "label": None}, True),
        ({"outcome": "declined", "label": None, "source": None}, True),
        ({"outcome": "declined", "label": None, "source": "reversal"}, False),
        ({"outcome": "lost", "label": None}, False),
        ({"event_time": None}, True),
        ({"event_time": 1_690_000_000_000, "unknown": "l0"}, True),
        ({"event_time": "yesterday"}, False),
    ],
)
def test_a_label_fits_the_schema_when_it_decodes(change: dict[str, Any], fine: bool) -> None:
    assert accepts(label_schema(LabelFields()), LABEL | change) is fine
    assert decodes(label_model(LabelFields()), LABEL | change) is fine


@pytest.mark.parametrize(
    ("change", "fine"),
    [
        ({"label": "BAD"}, True),
        ({"label": "BAD", "source": None}, False),
        ({"label": "STOPPED", "source": None}, True),
        ({"label": None, "outcome": "STOPPED", "source": None}, True),
        ({"label": None, "outcome": "BAD"}, False),
        ({"label": "WON"}, True),
        ({"label": "BAD", "source": "WON"}, False),
        ({"label": "legit", "source": "WON"}, True),
    ],
)
def test_a_label_in_the_users_words_fits_the_schema_when_it_decodes(
    change: dict[str, Any], fine: bool
) -> None:
    fields = LabelFields(values={"BAD": "fraud", "STOPPED": "blocked", "WON": "reversal"})
    assert accepts(label_schema(fields), LABEL | change) is fine
    assert decodes(label_model(fields), LABEL | change) is fine


@pytest.mark.parametrize("name", ["label", "source", "label_time"])
def test_a_label_that_lacks_what_it_needs_does_not_fit(name: str) -> None:
    assert not accepts(label_schema(LabelFields()), without(LABEL, name))


@pytest.mark.parametrize("settings", [Settings(entity_key="00" * 16), THEIRS])
def test_the_examples_fit_their_schemas_and_decode(settings: Settings) -> None:
    every = schemas(settings)
    for schema in every.values():
        assert schema["examples"]
        assert all(accepts(schema, example) for example in schema["examples"])
    models = {"transaction": transaction_model(settings.transaction), "label": label_model(settings.label)}
    for name, model in models.items():
        assert all(decodes(model, example) for example in every[name]["examples"])


def test_the_schemas_carry_the_users_own_names_whatever_those_are() -> None:
    schema = schemas(THEIRS)["transaction"]
    names = {"id", "pattern", "at", "€", "title", "default", "$ref", "properties"}
    assert set(schema["properties"]) == names
    assert schema["required"] == ["id", "pattern", "at", "€"]
    assert all(field["description"] for field in schema["properties"].values())


def test_what_the_worker_writes_fits_and_may_hold_more_some_day() -> None:
    every = schemas(Settings(entity_key="00" * 16))
    written = {"alert": ALERT, "dead-letter": DeadLetter.of(None, **COORDINATES).model_dump(mode="json")}
    for name, message in written.items():
        assert accepts(every[name], message)
        assert accepts(every[name], message | {"added_later": 1})
        assert all(not accepts(every[name], without(message, field)) for field in message)


COORDINATES: dict[str, Any] = {
    "topic": "t",
    "partition": 0,
    "offset": 1,
    "timestamp_ms": 2,
    "stage": "decode",
    "reason": "null_value",
    "detail": "the record has no value",
}


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for item in node.values() for found in references(item)]


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    settings = Settings(entity_key="00" * 16)
    document = asyncapi(settings, schemas(settings))
    found = references(document)
    assert len(found) == 4 * 4
    for reference in found:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


def test_the_asyncapi_document_knows_the_topics_by_their_names_and_directions() -> None:
    settings = Settings(entity_key="00" * 16)
    document = asyncapi(settings, schemas(settings))
    directions = {
        document["channels"][operation["channel"]["$ref"].rpartition("/")[2]]["address"]: operation["action"]
        for operation in document["operations"].values()
    }
    assert directions == {
        "fraud.transactions.v1": "receive",
        "fraud.labels.v1": "receive",
        "fraud.alerts.v1": "send",
        "fraud.dead-letters.v1": "send",
    }


def test_the_committed_schemas_are_those_of_the_models() -> None:
    assert main(["schema", "export", "--check", "--dir", str(COMMITTED)]) == 0, "run `make schemas`"


def test_export_writes_what_check_finds_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "made" / "here"
    assert main(["schema", "export", "--dir", str(folder)]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert sorted(written) == sorted(folder.iterdir())
    assert {path.name for path in written} == {path.name for path in COMMITTED.iterdir()}
    assert main(["schema", "export", "--check", "--dir", str(folder)]) == 0


def test_check_names_the_files_that_are_missing_or_differ(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["schema", "export", "--dir", str(tmp_path)]) == 0
    (tmp_path / "label.schema.json").unlink()
    (tmp_path / "alert.schema.json").write_text("{}", encoding="utf-8")
    assert main(["schema", "export", "--check", "--dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "label.schema.json" in error
    assert "alert.schema.json" in error
    assert "transaction.schema.json" not in error


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["schema", "export", "--dir", str(tmp_path / "file")]) == 2
    assert f"--dir {tmp_path / 'file'}" in capsys.readouterr().err
