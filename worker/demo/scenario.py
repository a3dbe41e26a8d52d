"""The traffic that the demo simulates, and the settings of its worker."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr

from models.vocabulary import MS_PER_DAY
from worker.broker.embedded import free_port
from worker.settings.fields import Section
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic

PARTITIONS: Final = 4
DAYS: Final = 40
START_MS: Final = 1_704_067_200_000
"""1 January 2024, a Monday."""
MARGIN_DAYS: Final = 10

_SEED: Final = 10
_MOST_CARDS: Final = 2_000
_LEAST_CARDS: Final = 600
_CARDS_PER_S: Final = 24.0
"""A shorter demo has fewer cards, so that the rate stays the same; `_LEAST_CARDS` have enough frauds to learn from."""
_CASES_PER_CARD_DAY: Final = 0.02
_TAIL_S: Final = 2.0
"""Left at the end for the last decisions and the last observation."""
_COMMITS_PER_S: Final = 4.0
_TOPICS: Final = ("transactions", "labels", "alerts", "decisions", "model_log", "dead_letters")

Values = Mapping[str, Any]
"""Settings by name; those of a section are a mapping."""


def demo_traffic(duration_s: float) -> Traffic:
    """Return what to simulate; chargebacks come three days late on average.

    The traffic has days more on either side, which `simulated_stream` cuts off: the simulator starts no fraud before
    its first day and ends every one by its last, so its first and last days have less fraud.
    """
    cards = _cards(duration_s)
    return Traffic(
        cards=cards,
        merchants=cards // 2,
        days=DAYS + 2 * MARGIN_DAYS,
        per_card_day=1.5,
        prevalence=0.01,
        seed=_SEED,
        start_ms=START_MS - MARGIN_DAYS * MS_PER_DAY,
        label_delay_days=3.0,
    )


def _cards(duration_s: float) -> int:
    return round(min(max(_CARDS_PER_S * duration_s, _LEAST_CARDS), _MOST_CARDS))


def stream_speed(duration_s: float) -> float:
    """Return how many seconds of the stream pass in one second, so that all of it fits into the duration."""
    return DAYS * MS_PER_DAY / 1000.0 / (duration_s - _TAIL_S)


def setting_values(bootstrap: str, folder: Path, duration_s: float) -> Values:
    """Return the settings that differ from the defaults; the names in Kafka are unique to this demo.

    Parameters
    ----------
    bootstrap
        Kafka's address.
    folder
        Takes the worker's local state.
    duration_s
        The duration of the stream. One commit may span the event time of a quarter of a second: a worker that keeps
        up commits more often, and one that lags can catch up.
    """
    run = f"fraud-demo-{secrets.token_hex(4)}"
    return {
        "entity_key": secrets.token_hex(16),
        "worker": {"id": run, "state_dir": str(folder / "state")},
        "kafka": {"bootstrap": bootstrap, "group": run, "start_from": "earliest"},
        "topics": {name: f"{run}.{name}" for name in _TOPICS},
        "transaction": FIELDS.model_dump(mode="json", exclude_none=True),
        "labels": {"negatives_after_days": 3.0, "horizon_days": 10.0},
        # The generations of weeks are made within seconds, beside the worker: half of the legits are enough for them.
        "model": {"sample_one_in": 2},
        "costs": {"alert_budget_cases_per_day": _CASES_PER_CARD_DAY * _cards(duration_s)},
        "batch": {"max_event_time_s": max(3_600.0, stream_speed(duration_s) / _COMMITS_PER_S)},
        "health": {"port": free_port()},
    }


def demo_settings(values: Values) -> Settings:
    """Return the settings with these values; the environment, which is for other workers, is not read."""
    sections: dict[str, Any] = {
        name: field.annotation.model_validate(values.get(name, {}))
        for name, field in Settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
    }
    return Settings.model_construct(entity_key=SecretStr(values["entity_key"]), **sections)


def to_toml(values: Values) -> str:
    """Return values as the text of a settings file; JSON's strings, numbers and lists are TOML too."""
    lines = [
        f"{name} = {json.dumps(value)}" for name, value in values.items() if not isinstance(value, Mapping)
    ]
    for name, section in values.items():
        if isinstance(section, Mapping):
            lines += [f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in section.items())]
    return "\n".join(lines) + "\n"
