"""How people read an event time: in logs, alerts, dead letters and findings."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(time_ms: int | None) -> str:
    """Return a time in UTC, to the second; one beyond the calendar as its number of milliseconds; None in words."""
    if time_ms is None:
        return "no time yet"
    try:
        return datetime.fromtimestamp(time_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"{time_ms} ms"
