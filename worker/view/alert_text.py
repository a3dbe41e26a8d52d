"""An alert as an investigator reads it: what, who decided, against which threshold, and why."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Final

import orjson
from pydantic import ValidationError
from rich.text import Text

from worker.view.foreign_text import printable, short_id, shortened
from worker.wire.schema import Alert, AlertReason, explain_record

SHOWN_REASONS: Final = 3
_INDENT: Final = "    "
_ID_CHARACTERS: Final = 16
_TEXT_CHARACTERS: Final = 80
_STYLES: Final = {"online": "bold red", "forest": "bold yellow"}


def alert_text(alert: Alert) -> Text:
    """Lay an alert out as a few lines; what others wrote in it is escaped, card numbers are struck out."""
    text = Text()
    text.append(moment(alert.event_time_ms), style="dim")
    text.append(f"  {_amount(alert)}", style="bold")
    text.append(f"  card {short_id(alert.card_id, _ID_CHARACTERS)}")
    text.append(f"  transaction {short_id(alert.transaction_id, 2 * _ID_CHARACTERS)}\n")
    text.append(f"{_INDENT}{alert.decided_by}", style=_STYLES[alert.decided_by])
    text.append(f": {_score(alert)}\n")
    for reason in _told(alert):
        text.append(f"{_INDENT}{reason.contribution:+7.3f}", style="cyan")
        text.append(f"  {_reason(reason)}\n")
    text.append(
        f"{_INDENT}case {short_id(alert.case_id, _ID_CHARACTERS)}"
        f"  alert {short_id(alert.alert_id, _ID_CHARACTERS)}  model {shortened(alert.model_version, 40)}",
        style="dim",
    )
    return text


def moment(time_ms: int) -> str:
    """Write a time in UTC, to the second; one that no calendar holds as the number it is."""
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"


def _amount(alert: Alert) -> str:
    currency = f" {shortened(alert.currency, 8)}" if alert.currency else ""
    return f"{alert.amount:,.2f}{currency}"


def _score(alert: Alert) -> str:
    """Say the score in the decider's own terms; what is missing there is said to be."""
    if alert.decided_by == "online":
        return (
            f"probability {_number(alert.probability, '.2%')}, expected loss {_number(alert.expected_loss, ',.2f')}"
            f" (alerts from {alert.threshold:,.2f})"
        )
    return (
        f"anomaly score {_number(alert.forest_score, '.2f')}, rank {_number(alert.forest_rank, ',.1f')}"
        f" (alerts from {alert.threshold:,.1f})"
    )


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)


def _told(alert: Alert) -> list[AlertReason]:
    """The largest reasons that speak for the alert; of none that does, the first."""
    speaking = [reason for reason in alert.reasons if reason.contribution > 0]
    return (speaking or alert.reasons[:1])[:SHOWN_REASONS]


def _reason(reason: AlertReason) -> str:
    match reason.value:
        case None:
            value = ""
        case float():
            value = f" = {reason.value:.4g}"
        case str():
            value = f" = {shortened(reason.value, _TEXT_CHARACTERS)}"
    return f"{printable(reason.text)}{value}"


def read_alert(value: bytes | None) -> Alert | str:
    """Read an alert of this schema version, whose unknown fields are overlooked; else say what is wrong."""
    if value is None:
        return "it has no value"
    try:
        return Alert.model_validate_json(value, extra="ignore")
    except ValidationError as error:
        return printable(explain_record(error).detail)


def one_line(value: bytes | None) -> bytes | None:
    """Return JSON as it is, unless it spans lines or could steer a terminal: then as equal JSON; else None."""
    try:
        decoded = orjson.loads(value or b"")
    except orjson.JSONDecodeError:
        return None
    assert value is not None
    text = value.decode()
    return value if text.isprintable() else json.dumps(decoded).encode()
