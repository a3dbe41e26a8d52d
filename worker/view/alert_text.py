"""An alert as an investigator reads it: what happened, who decided, against which threshold, and why."""

from __future__ import annotations

import json
from typing import Final

import orjson
from pydantic import ValidationError
from rich.text import Text

from worker.moments import moment
from worker.redaction import printable
from worker.view.foreign_text import short_id, shortened
from worker.wire.schema import Alert, AlertReason, explain_record

_SHOWN_REASONS: Final = 3
_INDENT: Final = "    "
_ID_CHARACTERS: Final = 16
_TEXT_CHARACTERS: Final = 80
_STYLES: Final = {"online": "bold red", "forest": "bold yellow"}


def alert_text(alert: Alert) -> Text:
    """Return an alert as a few lines. What others wrote in it is escaped, card numbers are redacted."""
    text = Text()
    text.append(moment(alert.event_time_ms), style="dim")
    text.append(f"  {_amount(alert)}", style="bold")
    text.append(f"  card {short_id(alert.card_id, _ID_CHARACTERS)}")
    text.append(f"  transaction {short_id(alert.transaction_id, 2 * _ID_CHARACTERS)}\n")
    text.append(f"{_INDENT}{alert.decided_by}", style=_STYLES[alert.decided_by])
    text.append(f": {_score(alert)}\n")
    for reason in _shown_reasons(alert):
        text.append(f"{_INDENT}{reason.contribution:+7.3f}", style="cyan")
        text.append(f"  {_reason(reason)}\n")
    if alert.fields:
        shown = (f"{printable(name)} {_shown(value)}" for name, value in alert.fields.items())
        text.append(f"{_INDENT}{', '.join(shown)}\n")
    text.append(
        f"{_INDENT}case {short_id(alert.case_id, _ID_CHARACTERS)}"
        f"  alert {short_id(alert.alert_id, _ID_CHARACTERS)}  model {shortened(alert.model_version, 40)}",
        style="dim",
    )
    return text


def _amount(alert: Alert) -> str:
    currency = f" {shortened(alert.currency, 8)}" if alert.currency else ""
    return f"{alert.amount:,.2f}{currency}"


def _score(alert: Alert) -> str:
    """Return the score in the terms of the decider; a missing figure is `unknown`."""
    if alert.decided_by == "online":
        return (
            f"probability {_number(alert.probability, '.2%')}, expected loss {_number(alert.expected_loss, ',.2f')}"
            f" (alerts from {alert.threshold:,.2f}{' in an open case' if alert.joins_case else ''})"
        )
    return (
        f"anomaly score {_number(alert.forest_score, '.2f')}, rank {_number(alert.forest_rank, ',.1f')}"
        f" (alerts from {alert.threshold:,.1f})"
    )


def _number(value: float | None, form: str) -> str:
    return "unknown" if value is None else format(value, form)


def _shown_reasons(alert: Alert) -> list[AlertReason]:
    """Return the largest reasons that support the alert; if none does, the first reason."""
    supporting = [reason for reason in alert.reasons if reason.contribution > 0]
    return (supporting or alert.reasons[:1])[:_SHOWN_REASONS]


def _reason(reason: AlertReason) -> str:
    if reason.sentence is not None:
        return shortened(reason.sentence, _TEXT_CHARACTERS + _TEXT_CHARACTERS)
    match reason.value:
        case None:
            value = ""
        case float():
            value = f" = {reason.value:.4g}"
        case str():
            value = f" = {shortened(reason.value, _TEXT_CHARACTERS)}"
    return f"{printable(reason.text)}{value}"


def _shown(value: float | str | None) -> str:
    if value is None:
        return "-"
    return f"{value:.6g}" if isinstance(value, float) else shortened(value, _TEXT_CHARACTERS)


def read_alert(value: bytes | None) -> Alert | str:
    """Return an alert of this schema version, without unknown fields; for any other value, what is wrong with it."""
    if value is None:
        return "it has no value"
    try:
        return Alert.model_validate_json(value, extra="ignore")
    except ValidationError as error:
        return printable(explain_record(error).detail)


def one_line(value: bytes | None) -> bytes | None:
    """Return JSON as it is, or as equal JSON if it spans lines or could steer a terminal; None if it is not JSON."""
    if value is None:
        return None
    try:
        decoded = orjson.loads(value)
    except orjson.JSONDecodeError:
        return None
    text = value.decode()
    try:
        return value if text.isprintable() else json.dumps(decoded).encode()
    except RecursionError:
        return None
