"""Settings as parameters of models/."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest

from worker.errors import SettingsError
from worker.parameters import policy
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
