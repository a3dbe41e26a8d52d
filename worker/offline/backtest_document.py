"""A backtest as one JSON object, and two such objects compared."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

from worker.errors import SettingsError
from worker.offline.backtest import BacktestResult
from worker.offline.digests import labels_digest, settings_digest, shaping_settings, transactions_digest
from worker.offline.figures import Stretch

COMPARED: Final = (
    "n",
    "frauds",
    "prevalence",
    "ap",
    "roc_auc",
    "recall",
    "recall_by_value",
    "precision",
    "f1",
    "alerts_per_day",
    "cases_per_day",
    "cost_reviews",
    "cost_missed",
    "cost",
    "cost_none",
    "cost_all",
    "savings",
    "decided_by_online",
    "label_coverage",
)


class Difference(NamedTuple):
    """One figure of two runs; NaN where a run does not have it."""

    name: str
    earlier: float
    now: float

    @property
    def change(self) -> float:
        """By how much it rose."""
        return self.now - self.earlier


class Against(NamedTuple):
    """One run beside an earlier one.

    Attributes
    ----------
    path
        The earlier run's file.
    differences
        Every figure of `COMPARED`.
    unequal
        What else differs between the runs, in words: a difference of figures may come from it.
    """

    path: Path
    differences: tuple[Difference, ...]
    unequal: tuple[str, ...]


def document(result: BacktestResult) -> dict[str, Any]:
    """Return all figures as JSON has them: a figure that is undefined is null."""
    return {
        **defined(result.figures()),
        "steady_from": None if result.steady_from_ms is None else _moment(result.steady_from_ms),
        "cold_start": _stretch(result.cold),
        "steady_state": _stretch(result.steady),
        "weeks": [_stretch(week) for week in result.weeks],
        "declined": int(result.declined[result.judged.row].sum()),
        "answered": int(result.answered[result.judged.row].sum()),
        "refused": [refusal._asdict() for refusal in result.dataset.refused],
        "label_file": None if result.dataset.matches is None else result.dataset.matches._asdict(),
        "run": describe(result),
    }


def describe(result: BacktestResult) -> dict[str, Any]:
    """Return what identifies a run: digests of data and labels, its options, and its settings without secrets."""
    settings = shaping_settings(result.settings)
    return {
        "transactions_digest": transactions_digest(result.dataset),
        "labels_digest": labels_digest(result.dataset),
        "settings_digest": settings_digest(settings),
        "judged_from": _moment(result.whole.start_ms),
        "judged_to": _moment(result.whole.end_ms),
        "declined_share": result.handled.declined,
        "answered_share": result.handled.answered,
        "settings": settings,
    }


def read_document(path: Path) -> dict[str, Any]:
    """Read the JSON of an earlier run.

    Raises
    ------
    SettingsError
        The file is not what `backtest --json` prints.
    """
    try:
        earlier = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"--against {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        earlier = None
    if not isinstance(earlier, dict) or "savings" not in earlier:
        raise SettingsError(f"--against {path}: this is not what `backtest --json` prints")
    return earlier


def compare(path: Path, earlier: dict[str, Any], now: dict[str, Any]) -> Against:
    """Compare the documents of two runs.

    Parameters
    ----------
    path
        Where the earlier one was read from.
    earlier, now
        As of `read_document` and `document`.
    """
    differences = tuple(Difference(name, _number(earlier, name), _number(now, name)) for name in COMPARED)
    return Against(path, differences, tuple(_unequal(earlier.get("run"), now["run"])))


def _unequal(earlier: Any, now: dict[str, Any]) -> list[str]:
    if not isinstance(earlier, dict):
        return ["the earlier file does not say of which data and settings it is"]
    # Before it was an option, no alert was answered early.
    earlier = {"answered_share": 0.0} | earlier
    found = [
        f"the {what} differ"
        for name, what in (
            ("transactions_digest", "transactions"),
            ("labels_digest", "labels or their times"),
        )
        if earlier.get(name) != now[name]
    ]
    found += [
        f"{name} was {earlier.get(name)}, now {now[name]}"
        for name in ("judged_from", "judged_to", "declined_share", "answered_share")
        if earlier.get(name) != now[name]
    ]
    given, after = earlier.get("settings"), now["settings"]
    before = given if isinstance(given, dict) else {}
    found += [
        f"{name} was {_value(before, name)}, now {_value(after, name)}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    return found


def _value(settings: dict[str, Any], name: str) -> str:
    return json.dumps(settings[name]) if name in settings else "not there"


def _number(figures: dict[str, Any], name: str) -> float:
    value = figures.get(name)
    try:
        return float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return math.nan


def _stretch(stretch: Stretch | None) -> dict[str, Any] | None:
    if stretch is None:
        return None
    return {"from": _moment(stretch.start_ms), "to": _moment(stretch.end_ms), **defined(stretch.figures())}


def defined(figures: dict[str, float]) -> dict[str, float | None]:
    """Return figures as JSON has them: null where undefined."""
    # JSON has no NaN.
    return {name: value if math.isfinite(value) else None for name, value in figures.items()}


def _moment(time_ms: int) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).isoformat(timespec="milliseconds")
