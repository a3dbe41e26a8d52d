"""JSON Schemas of everything on the wire, for producers and subscribers, made from the pydantic models.

They accept what the decoder accepts, as far as JSON Schema can express it. `BEYOND` names the rest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from models.vocabulary import LabelKind
from worker.errors import SettingsError, WorkerError
from worker.settings.fields import LabelFields, TimeFormat, TransactionFields
from worker.settings.sections import Settings
from worker.wire.alert_reasons import OTHER
from worker.wire.label_words import LabelWords
from worker.wire.schema import (
    AMOUNT_TEXT,
    DECODE_STAGE,
    ISO_TIME,
    Alert,
    AlertReason,
    DeadLetter,
    label_model,
    transaction_model,
)

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
BEYOND: Final = (
    "The record's key is the UTF-8 of the card; a record has at most 1 MiB. Whole numbers are written without point "
    "or exponent, times are those of the calendar from 1970 to 2099, and where a card number is refused, that is "
    "13 to 19 digits that pass the Luhn check and have a scheme's prefix and length, anywhere in the text."
)

_CONTROL_CHARACTERS: Final = r"[\u0000-\u001f\u007f-\u009f]"
_TIMES: Final[dict[TimeFormat, str]] = {
    "epoch_ms": "in ms since 1970 UTC",
    "epoch_s": "in s since 1970 UTC",
    "iso8601": "in ISO 8601, UTC unless it has another offset",
}
_TIME_EXAMPLES: Final[dict[TimeFormat, Any]] = {
    "epoch_ms": 1_767_225_600_000,
    "epoch_s": 1_767_225_600.0,
    "iso8601": "2026-01-01T00:00:00Z",
}


def schemas(settings: Settings) -> dict[str, Schema]:
    """Return the JSON Schemas by message: `transaction`, `label`, `alert` and `dead-letter`.

    Parameters
    ----------
    settings
        The user's field names, and the topics' names, which the schemas' ids carry.
    """
    names = settings.topics
    transaction = transaction_schema(settings.transaction)
    label = label_schema(settings.label, settings.transaction)
    return {
        "transaction": _headed(names.transactions, transaction, _transaction_example(settings.transaction)),
        "label": _headed(names.labels, label, *_label_examples(settings.label)),
        "alert": _headed(names.alerts, _outgoing(Alert), _alert_example()),
        "dead-letter": _headed(names.dead_letters, _outgoing(DeadLetter), _dead_letter_example(settings)),
    }


def transaction_schema(fields: TransactionFields) -> Schema:
    """Return the schema of a transaction."""
    schema = _portable(transaction_model(fields).model_json_schema())
    _describe_time(schema["properties"][fields.event_time], fields.time_format)
    if fields.amount_format == "text":
        schema["properties"][fields.amount] |= {"pattern": AMOUNT_TEXT}
    return schema | {"$comment": BEYOND}


def label_schema(fields: LabelFields, transaction: TransactionFields | None = None) -> Schema:
    """Return the schema of a label, with the rules between its fields; a null field counts as an absent one."""
    schema = _portable(label_model(fields, transaction).model_json_schema())
    for name in (fields.label_time, fields.event_time):
        _describe_time(schema["properties"][name], fields.time_format)
    words = LabelWords.of(fields)
    label, outcome, source = (_present(name) for name in (fields.label, fields.outcome, fields.source))
    verdicts, takes_back = (
        [word for word, kind in words.labels.items() if kind in kinds]
        for kinds in (
            (LabelKind.FRAUD, LabelKind.LEGIT, LabelKind.REVERSAL),
            (LabelKind.LEGIT, LabelKind.REVERSAL),
        )
    )
    rules = [
        {"if": _present(fields.label, verdicts), "then": source},
        {"if": _present(fields.source, words.reversing), "then": _present(fields.label, takes_back)},
    ]
    return schema | {"oneOf": [label, outcome], "allOf": rules, "$comment": BEYOND}


def export(documents: Mapping[str, Schema], folder: Path) -> list[Path]:
    """Write documents into a folder, which is created if it is missing, and return their paths.

    Raises
    ------
    SettingsError
        The folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, document in documents.items():
            (folder / name).write_text(_text(document), encoding="utf-8")
    except OSError as error:
        raise SettingsError(f"--dir {folder}: {error.strerror}; name a writable folder") from None
    return [folder / name for name in documents]


def check(documents: Mapping[str, Schema], folder: Path) -> None:
    """Compare the files of a folder with documents.

    Raises
    ------
    WorkerError
        Files are missing or differ; the error names them.
    """
    drifted = [
        str(folder / name) for name, document in documents.items() if _read(folder / name) != _text(document)
    ]
    if drifted:
        raise WorkerError(
            f"these files do not match the models and settings: {', '.join(drifted)}. Write them anew with "
            f"`fraud-worker schema export --dir {folder}` and look at what has changed"
        )


def _headed(topic: str, schema: Schema, *examples: Schema) -> Schema:
    head = {"$schema": DIALECT, "$id": f"urn:fraud-worker:schema:{topic}", "title": schema.pop("title")}
    return head | schema | {"examples": list(examples)}


def _outgoing(model: type[Alert] | type[DeadLetter]) -> Schema:
    """Return the schema of what the worker writes. Fields with a default were added later: older records lack them."""
    schema = _portable(model.model_json_schema())
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    return schema | {"required": ["schema_version", *required]}


def _portable(schema: Schema) -> Schema:
    """Return what every validator understands alike: no titles made of names, no references, no Unicode classes."""
    definitions = schema.pop("$defs", {})
    plain: Schema = _plain(schema, definitions)
    return {"title": schema["title"]} | plain


def _plain(node: Any, definitions: Mapping[str, Schema]) -> Any:
    if isinstance(node, list):
        return [_plain(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        node = definitions[node["$ref"].rpartition("/")[2]] | {k: v for k, v in node.items() if k != "$ref"}
    if "properties" in node:
        properties = {name: _plain(field, definitions) for name, field in node["properties"].items()}
        rest = {
            name: item for name, item in node.items() if name not in {"properties", "additionalProperties"}
        }
        node = rest | {"properties": properties}
    dropped = {"title", "pattern", "format"} | ({"default"} if node.get("default", 0) is None else set())
    plain = {
        name: item if name == "properties" else _plain(item, definitions)
        for name, item in node.items()
        if name not in dropped
    }
    return plain | ({"not": {"pattern": _CONTROL_CHARACTERS}} if "pattern" in node else {})


def _describe_time(field: Schema, time_format: TimeFormat) -> None:
    field["description"] += f"; {_TIMES[time_format]}"
    if time_format == "iso8601":
        text = next((kind for kind in field.get("anyOf", []) if kind["type"] == "string"), field)
        text |= {"pattern": f"^{ISO_TIME}$", "not": {"pattern": _CONTROL_CHARACTERS}}


def _present(name: str, values: Sequence[str] | None = None) -> Schema:
    """Return a schema that wants the field, not null, and equal to one of the values if some are given."""
    what = {"type": "string"} if values is None else {"enum": list(values)}
    return {"required": [name], "properties": {name: what}}


def _transaction_example(fields: TransactionFields) -> Schema:
    example = {
        fields.transaction_id: "t-1001",
        fields.card_id: "card-7f3a",
        fields.event_time: _TIME_EXAMPLES[fields.time_format],
        fields.amount: 129.95 if fields.amount_format == "number" else "129.95",
    }
    if fields.currency is not None:
        example[fields.currency] = "EUR"
    example |= dict.fromkeys(fields.numeric, 1.5) | dict.fromkeys(fields.categorical, "web")
    return example | {name: f"{name}-42" for name in fields.entities}


def _label_examples(fields: LabelFields) -> list[Schema]:
    about = {fields.transaction_id: "t-1001", fields.card_id: "card-7f3a"}
    when = {fields.label_time: _TIME_EXAMPLES[fields.time_format]}
    return [
        about | {fields.label: "fraud", fields.source: "chargeback"} | when,
        about | {fields.outcome: "declined"} | when,
    ]


def _alert_example() -> Schema:
    reason = AlertReason(
        feature="card_amount_to_usual",
        text="amount against the card's own usual amount",
        value=3.1,
        contribution=2.5,
        sentence="3.1 times this card's usual amount",
    )
    others = AlertReason(
        feature=OTHER,
        text="all other features",
        value=None,
        contribution=-0.1,
        sentence="all other features together",
    )
    return Alert(
        alert_id="0f1e2d3c4b5a69788796a5b4c3d2e1f0",
        transaction_id="t-1001",
        card_id="card-7f3a",
        case_id="00112233445566778899aabbccddeeff",
        event_time_ms=1_767_225_600_000,
        amount=129.95,
        currency="EUR",
        decided_by="online",
        probability=0.25,
        forest_score=None,
        forest_rank=None,
        expected_loss=33.7375,
        threshold=5.0,
        loss=134.95,
        review_cost=5.0,
        reasons=[reason, others],
        fields={"merchant_id": "merchant_id-42"},
        reference=-3.5,
        model_version="7f4cd0bdbff4c3cc-278",
    ).model_dump(mode="json")


def _dead_letter_example(settings: Settings) -> Schema:
    return DeadLetter.of(
        b'{"transaction_id": "t-1002"}',
        topic=settings.topics.transactions,
        partition=0,
        offset=42,
        timestamp_ms=1_767_225_600_000,
        stage=DECODE_STAGE,
        reason="missing_field",
        detail=f"{settings.transaction.card_id}: Field required",
    ).model_dump(mode="json")


def _text(document: Schema) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
