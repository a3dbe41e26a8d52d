"""Settings as parameters of models/."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

from worker.errors import SettingsError
from worker.parameters import by_setting, policy
from worker.settings.loading import load_settings
from worker.settings.report import report
from worker.settings.sections import Settings

KEY = "0f" * 16


def settings_of(folder: Path, costs: str) -> Settings:
    path = folder / "worker.toml"
    path.write_text(f'entity_key = "{KEY}"\n[costs]\n{costs}\n', encoding="utf-8")
    return load_settings(path)


def test_a_budget_without_a_limit_is_written_inf_and_reads_back(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, "alert_budget_cases_per_day = inf")
    assert policy(settings).costs.alert_budget_cases_per_day is None
    read = tomllib.loads("\n".join(report(settings, tmp_path / "worker.toml")))
    assert read["costs"]["alert_budget_cases_per_day"] == math.inf
    assert (
        policy(settings_of(tmp_path, "alert_budget_cases_per_day = 7")).costs.alert_budget_cases_per_day == 7
    )


@pytest.mark.parametrize("value", ["0", "-1.0", "nan", "-inf"])
def test_a_budget_that_is_no_number_of_cases_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(SettingsError, match=r"costs\.alert_budget_cases_per_day"):
        settings_of(tmp_path, f"alert_budget_cases_per_day = {value}")


def test_days_and_hours_become_milliseconds(tmp_path: Path) -> None:
    found = policy(settings_of(tmp_path, "case_window_hours = 1.5"))
    assert found.case_window_ms == 5_400_000
    assert found.negatives_after_ms == 7 * 24 * 3_600_000


def each_other_policy() -> list[Any]:
    """Return a policy for each value of one, which differs in that value alone."""
    plain = policy(Settings(entity_key=KEY))
    costs: dict[str, Any] = dataclasses.asdict(plain.costs)
    others: dict[str, Any] = dataclasses.asdict(plain)
    del others["costs"]
    other_costs = [dataclasses.replace(plain.costs, **{name: value + 1}) for name, value in costs.items()]
    changed: dict[str, Any] = {
        name: not it if isinstance(it, bool) else (it or 0) + 1 for name, it in others.items()
    }
    return [
        *(dataclasses.replace(plain, costs=it) for it in other_costs),
        *(dataclasses.replace(plain, **{name: value}) for name, value in changed.items()),
    ]


@pytest.mark.parametrize("other", each_other_policy())
def test_every_value_of_a_policy_has_the_name_of_the_one_setting_that_it_follows_from(other: Any) -> None:
    plain, changed = by_setting(policy(Settings(entity_key=KEY))), by_setting(other)
    [name] = [it for it in plain if plain[it] != changed[it]]
    section, field = name.split(".")
    assert field in type(getattr(Settings(entity_key=KEY), section)).model_fields


def test_a_policy_reads_as_the_settings_that_it_was_made_of(tmp_path: Path) -> None:
    given = {
        "costs.review_cost": "12345678.25",
        "costs.missed_fraud_fixed": "2.5",
        "costs.missed_fraud_factor": "0.75",
        "costs.alert_budget_cases_per_day": "inf",
        "costs.case_window_hours": "1.5",
        "labels.silence": '"unknown"',
        "labels.negatives_after_days": "3.5",
        "labels.horizon_days": "40.25",
        "labels.max_silence_days": "5.0",
        "features.max_cards": "1000",
        "features.max_entities": "2000",
        "model.sample_one_in": "7",
        "model.min_frauds": "60",
        "model.memory_days": "80.0",
        "model.max_examples": "300000",
    }
    path = tmp_path / "worker.toml"
    path.write_text("\n".join([f'entity_key = "{KEY}"', *(f"{it} = {given[it]}" for it in given)]), "utf-8")
    settings = load_settings(path)
    assert by_setting(policy(settings)) == given
    # TOML has no word for a setting that is not set.
    assert by_setting(policy(Settings(entity_key=KEY)))["model.sample_one_in"] == "not set"
