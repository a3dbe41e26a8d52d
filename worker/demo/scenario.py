"""What the demo simulates, and the settings its worker runs under."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from models.vocabulary import MS_PER_DAY
from worker.broker import free_port
from worker.settings import Settings
from worker.simulation import FIELDS, Traffic

PARTITIONS: Final = 4
TRAFFIC: Final = Traffic(
    cards=3_000, merchants=1_500, days=40, per_card_day=1.5, prevalence=0.01, seed=7, label_delay_days=3.0
)

_TAIL_S: Final = 2.0
"""Left at the end for the last decisions and the last look."""
_COMMITS_PER_S: Final = 10.0
_TOPICS: Final = ("transactions", "labels", "alerts", "decisions", "model_log", "dead_letters")

Values = Mapping[str, Any]


def speed(duration_s: float) -> float:
    """Return how many seconds of the stream pass in one, so that all of it fits into the duration."""
    return TRAFFIC.days * MS_PER_DAY / 1000.0 / (duration_s - _TAIL_S)


def values(bootstrap: str, folder: Path, duration_s: float) -> Values:
    """Return what differs from the default settings, under names that nobody else uses.

    Parameters
    ----------
    bootstrap
        Kafka's address.
    folder
        For the worker's local state.
    duration_s
        Of the whole stream. One commit never spans more event time than passes in a tenth of a second, or
        than the default.
    """
    run = f"fraud-demo-{secrets.token_hex(4)}"
    return {
        "entity_key": secrets.token_hex(16),
        "worker": {"id": run, "state_dir": str(folder / "state")},
        "kafka": {"bootstrap": bootstrap, "group": run, "start_from": "earliest"},
        "topics": {name: f"{run}.{name}" for name in _TOPICS},
        "transaction": {"entities": list(FIELDS.entities), "categorical": list(FIELDS.categorical)},
        "labels": {"negatives_after_days": 3.0, "horizon_days": 8.0},
        "costs": {"alert_budget_cases_per_day": 40.0},
        "batch": {"max_event_time_s": max(3_600.0, speed(duration_s) / _COMMITS_PER_S)},
        "health": {"port": free_port()},
    }


def settings(given: Values) -> Settings:
    """Return the settings that those values make, whatever the environment says."""
    return Settings.model_validate(given)


def to_toml(given: Values) -> str:
    """Write values as a settings file; JSON's strings, numbers and lists are TOML's too."""
    lines = [
        f"{name} = {json.dumps(value)}" for name, value in given.items() if not isinstance(value, Mapping)
    ]
    for name, section in given.items():
        if isinstance(section, Mapping):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"
