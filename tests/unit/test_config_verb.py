"""`config show` and `config check`: what is set, where it comes from, and what is wrong with it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from tests.support.settings_file import KEY, settings_file
from worker.cli import build_parser, main
from worker.errors import SettingsError
from worker.settings.mistakes import ENV_PREFIX
from worker.settings.report import MASK
from worker.settings.sections import Settings

pytestmark = pytest.mark.usefixtures("own_surroundings")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return settings_file(tmp_path)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("[kafka]\nbootstrp = 'x'", "kafka.bootstrap"),
        ("[transactions]\namount = 'eur'", "transaction"),
        ("[costs]\nbudget_cases_per_day = 5", "costs.alert_budget_cases_per_day"),
        ("[labels]\ntime_format = 'iso8601'", "label.time_format"),
    ],
)
def test_a_setting_that_is_misspelt_is_answered_with_the_one_that_is_meant(
    text: str, meant: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(f'entity_key = "{KEY}"\n{text}\n', encoding="utf-8")
    assert main(["config", "check", "--config", str(path)]) == 2
    assert f"did you mean {meant}?" in capsys.readouterr().err


def test_config_show_is_json_for_programs(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}KAFKA__GROUP", "from-environment")
    monkeypatch.setenv(f"{ENV_PREFIX}COSTS__ALERT_BUDGET_CASES_PER_DAY", "inf")
    assert main(["config", "show", "--json", "--config", str(config)]) == 0
    printed = capsys.readouterr().out
    assert KEY not in printed
    assert "hush-hush" not in printed
    rows = {row["name"]: row for row in json.loads(printed)}
    assert rows["entity_key"] == {
        "name": "entity_key",
        "value": MASK,
        "origin": "file",
        "meaning": rows["entity_key"]["meaning"],
    }
    assert (rows["kafka.group"]["value"], rows["kafka.group"]["origin"]) == (
        "from-environment",
        "environment",
    )
    assert rows["transaction.entities"]["value"] == ["SHOP", "DEVICE"]
    assert rows["kafka.ssl_ca_file"]["value"] is None
    assert rows["costs.alert_budget_cases_per_day"]["value"] == "inf"
    assert rows["costs.review_cost"]["meaning"]


def test_config_show_is_toml_with_origins_and_masked_secrets(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}KAFKA__GROUP", "from-environment")
    monkeypatch.setenv(f"{ENV_PREFIX}COSTS", '{"review_cost": 7}')
    assert main(["config", "show", "--config", str(config)]) == 0
    printed = capsys.readouterr().out
    assert KEY not in printed
    assert "hush-hush" not in printed
    lines = printed.splitlines()
    assert 'bootstrap = "kafka:9092"  # file: host:port of one or more brokers, comma separated' in lines
    assert 'group = "from-environment"  # environment: consumer group' in lines
    assert any(line.startswith("review_cost = 7.0  # environment: ") for line in lines)
    assert any(line.startswith("# sasl_username is not set  # default: ") for line in lines)
    assert any(line.startswith('labels = "fraud.labels.v1"  # default: ') for line in lines)

    read = tomllib.loads(printed)
    assert (read["entity_key"], read["kafka"]["sasl_password"]) == (MASK, MASK)
    again = Settings.model_validate(read | {"entity_key": KEY})
    assert again.transaction.entities == ("SHOP", "DEVICE")
    shown = {section: set(values) for section, values in read.items() if isinstance(values, dict)}
    for section, names in shown.items():
        unset = {name for name in again.model_dump()[section] if again.model_dump()[section][name] is None}
        assert names | unset == set(again.model_dump()[section])


def test_config_show_lists_the_defaults_where_settings_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(f'entity_key = "{KEY}"\n[transactions]\namount = "eur"\n', encoding="utf-8")
    for arguments, error in (
        (["--config", str(path)], "transactions is no setting"),
        ([], "entity_key is required"),
    ):
        assert main(["config", "show", *arguments]) == 2
        out, err = capsys.readouterr()
        assert error in err
        lines = out.splitlines()
        assert lines[0].startswith("# entity_key is not set  # default: ")
        assert any(line.startswith('amount = "amount"  # default: ') for line in lines)
        assert "[transaction]" in lines


def test_config_may_stand_before_or_behind_the_verb(config: Path) -> None:
    parser = build_parser()
    assert parser.parse_args(["--config", str(config), "config", "show"]).config == config
    assert parser.parse_args(["config", "show", "--config", str(config)]).config == config
    assert parser.parse_args(["config", "show"]).config is None


def test_config_check_says_where_the_settings_come_from(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FRAUD_WORKER_CONFIG", str(config))
    monkeypatch.setenv(f"{ENV_PREFIX}KAFKA__SASL_USERNAME", "alice")
    assert main(["config", "check"]) == 0
    assert str(config) in capsys.readouterr().out


@pytest.mark.parametrize("name", ["KAFA__GROUP", "ENTITYKEY", "KAFKA_GROUP"])
def test_a_variable_that_sets_nothing_is_refused(
    name: str, config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, "x")
    assert main(["config", "check", "--config", str(config)]) == 2
    assert f"{ENV_PREFIX}{name}: no such setting" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["FRAUD_WORKER_COSTS__REVIEW_COST", "FRAUD_WORKER_COSTS_REVIEW_COST"])
@pytest.mark.parametrize(
    "verb",
    [["config", "check"], ["config", "show"], ["backtest", "no such file.csv"], ["compare", "--simulate"]],
)
def test_a_variable_with_a_single_underscore_behind_the_prefix_is_refused_by_every_verb(
    name: str, verb: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, "7.5")
    assert main(verb) == 2
    said = f"{name}: no such setting (did you mean FRAUD_WORKER__COSTS__REVIEW_COST?)"
    assert said in capsys.readouterr().err


def test_a_variable_that_an_orchestrator_sets_for_a_service_of_this_name_is_not_refused(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "SERVICE_HOST",
        "PORT",
        "PORT_8080_TCP_ADDR",
        "CONFIG_DIR",
        "HEALTH_SERVICE_HOST",
        "HEALTH_PORT",
    ):
        monkeypatch.setenv(f"FRAUD_WORKER_{name}", "x")
    assert main(["config", "check", "--config", str(config)]) == 0


def test_missing_settings_are_reported_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == SettingsError.exit_code
    error = capsys.readouterr().err
    assert "entity_key is required" in error
    assert "Traceback" not in error
