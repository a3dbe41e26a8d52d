"""Numbers in a column of times that are no seconds or milliseconds since 1970, and what to do about them."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from worker.settings.fields import TimeFormat

SECONDS_END: Final = 100_000_000_000
"""Numbers below are seconds (until the year 5138), numbers from it on milliseconds (since 1973)."""
_FINER: Final = ((10**17, "nanoseconds", 1_000_000), (10**14, "microseconds", 1_000))
"""Units since 1973, the least number of each, and how many make a millisecond."""
_SECONDS_A_DAY: Final = 86_400
_FEWEST: Final = 1_000
"""So many transactions and more are of more than a day."""
_CLOCKS: Final = (1, 10**4, 10**6)
"""What a date without separators is multiplied by where nothing, hours and minutes, or seconds too follow it."""
_FIRST_DAY: Final = 1900_01_01
_LAST_DAY: Final = 2099_12_31


def not_epochs(numbers: NDArray[np.float64], time_format: TimeFormat | None, setting: str) -> str:
    """Return what such numbers are and what would be right; nothing where they are seconds or milliseconds.

    Parameters
    ----------
    numbers : float64 (n,)
        NaN where missing.
    time_format, setting
        What they are taken for, and the setting that says so; None where no setting does.
    """
    present = numbers[np.isfinite(numbers)]
    if not present.size:
        return ""
    # Of most: one odd value is a row to refuse, not another format.
    usual = float(np.percentile(present, 50, method="lower"))
    for least, unit, divisor in _FINER:
        if usual >= least:
            also = _and_set("epoch_ms", time_format, setting)
            return f"holds {usual:.0f}, which is in {unit}: divide by {divisor:,}{also}"
    for clock in _CLOCKS:
        dates = _dates(present, clock)
        if dates.size > 0.5 * present.size:
            right = _iso_8601(int(dates[0]), clock) + _and_set("iso8601", time_format, setting)
            return f"holds {dates[0]}, a date without separators: write ISO 8601, such as {right}"
    if present.size >= _FEWEST and np.ptp(present) < _SECONDS_A_DAY and usual < _SECONDS_A_DAY:
        of_events = "; of transactions, --time-step hour reads such a column as it is"
        return (
            f"holds {usual:.0f}, and no two of its numbers are a day apart in seconds: where they count seconds, "
            "hours, days or months from some moment on, write dates, such as 2024-01-01T05:00:00 for hour 5"
            f"{of_events if setting.startswith('transaction.') else ''}"
        )
    return ""


def _and_set(better: TimeFormat, time_format: TimeFormat | None, setting: str) -> str:
    return "" if time_format in (None, better) else f', and set {setting} = "{better}"'


def _dates(numbers: NDArray[np.float64], clock: int) -> NDArray[np.int64]:
    """Return those that are a year, a month, a day and, by the clock, a time of day in their digits."""
    whole = numbers[(numbers >= _FIRST_DAY * clock) & (numbers < (_LAST_DAY + 1) * clock)].astype(np.int64)
    day, time = whole // clock, whole % clock * (10**6 // clock)
    month, of_month = day // 100 % 100, day % 100
    is_date = (month >= 1) & (month <= 12) & (of_month >= 1) & (of_month <= 31)
    return whole[is_date & (time < 24_00_00) & (time // 100 % 100 < 60) & (time % 100 < 60)]


def _iso_8601(number: int, clock: int) -> str:
    day, time = divmod(number, clock)
    text = f"{day // 10_000}-{day // 100 % 100:02}-{day % 100:02}"
    time *= 10**6 // clock
    return text if clock == 1 else f"{text}T{time // 10_000:02}:{time // 100 % 100:02}:{time % 100:02}"
