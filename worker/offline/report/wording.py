"""How a report writes figures and times. What is unknown is a dash."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Final

UNKNOWN: Final = "\N{EN DASH}"
MINUS: Final = "\N{MINUS SIGN}"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SUFFIXES: Final = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def percent(share: float | None) -> str:
    """Write a share in per cent: to a tenth, below one per cent to two digits that count."""
    if share is None or not math.isfinite(share):
        return UNKNOWN
    number = 100.0 * share
    if 0.0 < abs(number) < 1.0:
        digits = min(max(1 - math.floor(math.log10(abs(number))), 0), 8)
        return _signed(f"{number:.{digits}f}") + " %"
    return _signed(f"{number:,.1f}") + " %"


def whole_percent(share: float) -> str:
    """Write a share on an axis."""
    return _signed(f"{100.0 * share:.6g}") + " %"


def money(amount: float | None) -> str:
    """Write an amount of money in whole units, below 100 to the cent."""
    if amount is None or not math.isfinite(amount):
        return UNKNOWN
    return _signed(f"{amount:,.0f}" if abs(amount) >= 100.0 or amount == 0.0 else f"{amount:,.2f}")


def count(number: float | None) -> str:
    """Write a number of things."""
    return UNKNOWN if number is None or not math.isfinite(number) else f"{number:,.0f}"


def rate(number: float | None) -> str:
    """Write a number of things a day: below 100 to a tenth, below 1 to two digits that count."""
    if number is None or not math.isfinite(number):
        return UNKNOWN
    if abs(number) >= 100.0 or number == 0.0:
        return f"{number:,.0f}"
    return f"{number:.1f}" if abs(number) >= 1.0 else f"{number:.2g}"


def days(number: float) -> str:
    """Write a length of time in days."""
    return f"{number:.3g} {'day' if f'{number:.3g}' == '1' else 'days'}"


def alert_budget(cases_per_day: float | None) -> str:
    """Return the budget as a page shows it."""
    if cases_per_day is None:
        return "none"
    return f"{cases_per_day:,g} {'case' if cases_per_day == 1.0 else 'cases'} a day"


def beyond_budget(cases_per_day: float, budget: float) -> str:
    """Say that a policy opens more cases than investigators may have; nothing where it does not."""
    if cases_per_day <= budget or rate(cases_per_day) == rate(budget):
        return ""
    return (
        f" That takes {rate(cases_per_day)} cases a day, more than the budget "
        f"(costs.alert_budget_cases_per_day = {budget:g})."
    )


def decimal(number: float | None, digits: int = 3) -> str:
    """Write a figure without a unit."""
    return UNKNOWN if number is None or not math.isfinite(number) else _signed(f"{number:,.{digits}f}")


def compact(number: float) -> str:
    """Write a number on an axis, such as 1.5M."""
    if not math.isfinite(number):
        return UNKNOWN
    for size, suffix in _SUFFIXES:
        if abs(number) >= size:
            return _signed(f"{number / size:.4g}{suffix}")
    return _signed(f"{number:.4g}")


def threshold(value: float | None) -> str:
    """Write a threshold to four digits; infinity alerts on nothing."""
    if value is None or math.isnan(value):
        return UNKNOWN
    return "alerts on nothing" if value == math.inf else _signed(f"{value:,.4g}")


def duration(seconds: float | None) -> str:
    """Write a time that something took."""
    if seconds is None or not math.isfinite(seconds):
        return UNKNOWN
    if seconds < 100.0:
        return f"{seconds:.2g} s"
    return f"{seconds / 60.0:,.0f} min"


def size(number: int) -> str:
    """Write a number of bytes."""
    return f"{number / 2**30:.3g} GiB"


def _utc(time_ms: float) -> datetime:
    """Return an event time; one outside the calendar becomes the nearest time inside it."""
    try:
        return _EPOCH + timedelta(milliseconds=float(time_ms))
    except OverflowError:
        return (datetime.max if time_ms > 0 else datetime.min).replace(tzinfo=UTC)


def date(time_ms: float) -> str:
    """Write a day (UTC), such as `2024-03-09`."""
    return _utc(time_ms).date().isoformat()


def short_date(time_ms: float) -> str:
    """Write a day on an axis, such as `9 Mar`."""
    at = _utc(time_ms)
    return f"{at.day} {at:%b}"


def minute(time_ms: float) -> str:
    """Write a time to the minute, UTC."""
    return _utc(time_ms).strftime("%Y-%m-%d %H:%M")


def moment(time_ms: float) -> str:
    """Write a time to the second, UTC."""
    return _utc(time_ms).strftime("%Y-%m-%d %H:%M:%S")


def _signed(number: str) -> str:
    return number.replace("-", MINUS)
