"""How the demo writes figures, times and names: alike on the page, in lines and in the summary."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

from models.vocabulary import MS_PER_DAY
from worker.demo.figures import Figures
from worker.redaction import printable
from worker.wire.schema import Alert

NAMES: Final = {"none": "no decider", "forest": "isolation forest", "online": "online model"}
"""Names of the deciders."""
NO_DECIDER: Final = "no decider yet"
UNSETTLED: Final = "known once labels settle"
_CARD_CHARACTERS: Final = 7
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def percent(share: float, digits: int = 0) -> str:
    """Write a share in per cent; a dash if it is not known."""
    return "-" if math.isnan(share) else f"{share:.{digits}%}".replace("%", " %")


def money(amount: float) -> str:
    """Write an amount of money in whole units; a dash if it is not known."""
    return "-" if math.isnan(amount) else f"{amount:,.0f}"


def milliseconds(seconds: float) -> str:
    """Write a latency; a dash if it is not known."""
    if math.isnan(seconds):
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1.0 else f"{seconds:.1f} s"


def minutes(seconds: float) -> str:
    """Write a duration as minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _utc(time_ms: int) -> datetime:
    """Return an event time; one outside the calendar becomes the nearest time inside it."""
    try:
        return _EPOCH + timedelta(milliseconds=time_ms)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if time_ms > 0 else datetime.min.replace(tzinfo=UTC)


def date(time_ms: int) -> str:
    """Write a day of the stream, such as `Tue 23 Jan`."""
    at = _utc(time_ms)
    return f"{at:%a} {at.day} {at:%b}"


def day_date(figures: Figures, day: int) -> str:
    """Write the date of a day of the stream, counted from 0."""
    return date(figures.start_ms + day * MS_PER_DAY)


def hour(time_ms: int) -> str:
    """Write a time of day, UTC."""
    return f"{_utc(time_ms):%H:%M}"


def short_card(card_id: str) -> str:
    """Return the end of a card's token; the beginnings are often alike."""
    shown = printable(card_id)
    return shown if len(shown) <= _CARD_CHARACTERS else f"…{shown[1 - _CARD_CHARACTERS :]}"


def reasons(alert: Alert) -> list[str]:
    """Return the reasons that speak for an alert, in their order, without remarks in brackets."""
    return [
        printable(reason.text).partition(" (")[0]
        for reason in alert.reasons
        if reason.contribution > 0 and reason.feature != "other_features"
    ]


def risk_and_limit(alert: Alert) -> str:
    """Write what was compared with the threshold: expected losses to the cent, ranks to a tenth."""
    online = alert.decided_by == "online"
    risk = alert.expected_loss if online else alert.forest_rank
    form = ",.2f" if online else ",.1f"
    return f"{math.nan if risk is None else risk:{form}} ≥ {alert.threshold:{form}}"


def decider_in_force(figures: Figures) -> str:
    """Say who decides, since when, and what the next decider waits for."""
    if not figures.hand_overs:
        return "waiting for the first transactions"
    latest = figures.hand_overs[-1]
    name = NAMES[latest.decider]
    if latest.decider == "none":
        return f"{NO_DECIDER}; the forest needs more traffic first"
    if latest.decider == "forest":
        return f"{name}, until {figures.frauds_needed} frauds are learnt ({figures.frauds_learnt} so far)"
    return f"{name}, since {date(latest.at_ms)}, {hour(latest.at_ms)}"
