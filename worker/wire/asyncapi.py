"""An AsyncAPI 3 document of the four topics that others write or read: addresses, keys, headers, payloads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from worker.settings.sections import Settings
from worker.wire.schema import SCHEMA_VERSION

Document = dict[str, Any]

_OF_DOCUMENTS: Final = {"$schema", "$id", "$comment"}
"""Keywords of a whole JSON Schema document, which have no place inside another one."""

_INFO: Final = {
    "title": "fraud-worker",
    "version": f"{SCHEMA_VERSION}.0.0",
    "description": "Decides for each transaction whether it is worth an investigator's time, and learns from labels.",
    "license": {"name": "Apache-2.0"},
}
_CLOUDEVENTS: Final = {
    "ce_specversion": {"const": "1.0"},
    "ce_id": {"type": "string", "description": "the alert_id: a repeat has the same"},
    "ce_type": {"const": f"fraud.alert.v{SCHEMA_VERSION}"},
    "ce_source": {"const": "fraud-worker"},
    "ce_time": {"type": "string", "format": "date-time", "description": "when the transaction happened"},
    "content-type": {"const": "application/json"},
}


class _Topic(NamedTuple):
    """One topic, seen from the worker."""

    message: str
    address: str
    action: str
    operation: str
    summary: str
    key: str
    headers: Mapping[str, Any] | None = None


def asyncapi(settings: Settings, schemas: Mapping[str, Document]) -> Document:
    """Return the document; `send` and `receive` are what the worker does.

    Parameters
    ----------
    settings
        Names of the topics.
    schemas
        The result of `worker.wire.json_schemas.schemas`.
    """
    topics = _topics(settings)
    return {
        "asyncapi": "3.0.0",
        "info": _INFO,
        "defaultContentType": "application/json",
        "channels": {topic.message: _channel(topic) for topic in topics},
        "operations": {topic.operation: _operation(topic) for topic in topics},
        "components": {
            "messages": {topic.message: _message(topic) for topic in topics},
            "schemas": {name: _embedded(schema) for name, schema in schemas.items()},
        },
    }


def _topics(settings: Settings) -> list[_Topic]:
    names = settings.topics
    return [
        _Topic(
            "transaction", names.transactions, "receive", "decide", "A transaction is decided once.", "the card"
        ),
        _Topic(
            "label", names.labels, "receive", "learn",
            "A label settles a decision and is learnt from. Partitioned as the transactions.", "the card",
        ),
        _Topic(
            "alert", names.alerts, "send", "alert",
            "A transaction is worth an investigator's time. Read it with isolation.level = read_committed.",
            "the card", _CLOUDEVENTS,
        ),
        _Topic(
            "dead-letter", names.dead_letters, "send", "setAside",
            "A record could not be used. Read it with isolation.level = read_committed, and pass over records with the "
            "header kind: they note what `dead-letters replay` has sent again.",
            "topic and partition of the record",
        ),
    ]  # fmt: skip


def _channel(topic: _Topic) -> Document:
    reference = {"$ref": f"#/components/messages/{topic.message}"}
    return {"address": topic.address, "messages": {topic.message: reference}}


def _operation(topic: _Topic) -> Document:
    channel = f"#/channels/{topic.message}"
    return {
        "action": topic.action,
        "summary": topic.summary,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{topic.message}"}],
    }


def _message(topic: _Topic) -> Document:
    message = {
        "name": topic.message,
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{topic.message}"},
        "bindings": {"kafka": {"key": {"type": "string", "description": topic.key}}},
    }
    if topic.headers is not None:
        message["headers"] = {"type": "object", "properties": topic.headers, "required": list(topic.headers)}
    return message


def _embedded(schema: Document) -> Document:
    return {name: item for name, item in schema.items() if name not in _OF_DOCUMENTS}
