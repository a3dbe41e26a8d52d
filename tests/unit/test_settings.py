"""Which settings are refused, and by which message."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from worker.errors import SettingsError
from worker.settings.fields import Section
from worker.settings.loading import load_settings, load_settings_if_any
from worker.settings.mistakes import ENV_PREFIX
from worker.settings.report import MASK, changed
from worker.settings.sections import Settings

HUSH = "hush-hush"
LOGIN = f'sasl_username = "alice"\nsasl_password = "{HUSH}"'


@pytest.fixture(autouse=True)
def entity_key(own_surroundings: None, monkeypatch: pytest.MonkeyPatch) -> None:
    del own_surroundings
    monkeypatch.setenv(f"{ENV_PREFIX}ENTITY_KEY", "0f" * 16)


def refusal(folder: Path, text: str) -> str:
    path = folder / "worker.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        load_settings(path)
    return str(raised.value)


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


def test_a_setting_whose_description_offers_inf_takes_it() -> None:
    offered = [
        (kind, name)
        for _, kind in sections()
        for name, field in kind.model_fields.items()
        if "inf for" in (field.description or "")
    ]
    assert "times_usual" in [name for _, name in offered]
    for kind, name in offered:
        assert getattr(kind.model_validate({name: float("inf")}), name) == float("inf")


def test_every_setting_has_a_description() -> None:
    without = [
        f"{section}.{name}"
        for section, kind in sections()
        for name, field in kind.model_fields.items()
        if not field.description
    ]
    assert without == []


@pytest.mark.parametrize(
    ("kafka", "words"),
    [
        (f'security_protocol = "SASL_SSL"\n{LOGIN}', "set kafka.sasl_mechanism too"),
        (f'security_protocol = "SSASL"\n{LOGIN}', "kafka.security_protocol = 'SSASL': Input should be"),
        (f'sasl_password = ["{HUSH}"]', "kafka.sasl_password: Input should be a valid string"),
        (f'sasl_pasword = "{HUSH}"', "kafka.sasl_pasword is no setting"),
    ],
)
def test_a_refused_section_never_quotes_the_password_in_it(tmp_path: Path, kafka: str, words: str) -> None:
    message = refusal(tmp_path, f"[kafka]\n{kafka}\n")
    assert words in message
    assert HUSH not in message


@pytest.mark.parametrize("name", ["dead-letters", "skip"])
def test_a_worker_takes_no_transactional_id_of_a_command(tmp_path: Path, name: str) -> None:
    """Whoever used it last would fence the other."""
    message = refusal(tmp_path, f'[worker]\nid = "{name}"\n')
    assert f"worker.id = '{name}' is what `fraud-worker {name}` calls itself" in message


@pytest.mark.parametrize("name", [".", "..", "..."])
def test_a_worker_takes_no_folder_but_its_own(tmp_path: Path, name: str) -> None:
    """It empties its folder when it starts."""
    message = refusal(tmp_path, f'[worker]\nid = "{name}"\n')
    assert f"worker.id = '{name}' names no folder of its own below worker.state_dir" in message


def test_a_section_that_is_no_section_is_not_quoted(tmp_path: Path) -> None:
    message = refusal(tmp_path, f'kafka = "{HUSH}"\n')
    assert "  kafka: Input should be" in message
    assert HUSH not in message


@pytest.mark.parametrize("address", ["kafka", "kafka:", ":9092", "kafka:port", "kafka:70000", "a:1,,b:2"])
def test_an_address_that_cannot_be_one_is_refused_with_the_form_of_one(tmp_path: Path, address: str) -> None:
    refused = address.split(",")[1] if "," in address else address
    assert (
        f"  kafka.bootstrap = '{address}': '{refused}' is not host:port, such as kafka-1.example.com:9092"
        in refusal(tmp_path, f'[kafka]\nbootstrap = "{address}"')
    )


def test_several_addresses_are_taken_with_spaces_between(tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text('[kafka]\nbootstrap = "a:1, [::1]:2"')
    assert load_settings(path).kafka.bootstrap == "a:1, [::1]:2"


def test_a_list_that_is_too_short_is_named_as_such_and_no_variable_of_its_parts(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[features]\nhalf_lives_days = [1.0]")
    assert message.count("  features.half_lives_days = [1.0]: this list is too short") == 1
    assert ENV_PREFIX not in message


def test_a_missed_fraud_that_costs_nothing_is_refused(tmp_path: Path) -> None:
    message = refusal(tmp_path, "[costs]\nmissed_fraud_fixed = 0\nmissed_fraud_factor = 0")
    assert "costs.missed_fraud_fixed and costs.missed_fraud_factor are both 0" in message
    assert "\n  costs: " in message


@pytest.mark.parametrize(
    ("section", "line", "bound"),
    [
        ("labels", "horizon_days = 1e12", "36500"),
        ("labels", "max_silence_days = 1e300", "36500"),
        ("model", "memory_days = 1e300", "36500"),
        ("features", "half_lives_days = [1.0, 2.0, 1e300]", "36500"),
        ("costs", "case_window_hours = 1e-12", "0.001"),
        ("features", "max_cards = 10000000000000000000", "1099511627776"),
        ("model", "max_examples = 1000000000000", "100000000"),
        ("labels", "orphan_after_hours = 1e13", "876000"),
        ("batch", "allowed_skew_s = 1e16", "3153600000"),
        ("batch", "max_event_time_s = 1e306", "3153600000"),
        ("kafka", "commit_deadline_s = 1e10", "3153600000"),
    ],
)
def test_a_number_that_no_clock_or_memory_can_hold_is_refused_with_the_bound(
    section: str, line: str, bound: str, tmp_path: Path
) -> None:
    message = refusal(tmp_path, f"[{section}]\n{line}\n")
    assert f"{section}.{line.partition(' ')[0]}" in message
    assert bound in message


@pytest.mark.parametrize("text", ["x = " + "[" * 5_000 + "]" * 5_000, "x = " + "1" * 5_000])
def test_a_file_without_end_is_no_settings_file(text: str, tmp_path: Path) -> None:
    path = tmp_path / "worker.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match="is not TOML"):
        load_settings(path)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (
            "TRANSACTION__ENTITIES",
            "merchant_id",
            "FRAUD_WORKER__TRANSACTION__ENTITIES = 'merchant_id': write a list as JSON, such as",
        ),
        (
            "FEATURES__HALF_LIVES_DAYS",
            "1,2,3",
            "FRAUD_WORKER__FEATURES__HALF_LIVES_DAYS = '1,2,3': write a list",
        ),
        ("KAFKA", HUSH, "FRAUD_WORKER__KAFKA: this is a whole section: set FRAUD_WORKER__KAFKA__NAME"),
    ],
)
def test_a_variable_that_is_no_json_is_named_with_the_fix(
    name: str, value: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENV_PREFIX + name, value)
    monkeypatch.setenv(f"{ENV_PREFIX}KAFKA__BOOTSTRAP", "no JSON, and rightly so")
    with pytest.raises(SettingsError) as raised:
        load_settings()
    assert words in str(raised.value)
    assert "BOOTSTRAP" not in str(raised.value)
    assert HUSH not in str(raised.value)


def test_a_variable_in_lower_case_is_a_setting_like_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(f"{ENV_PREFIX}ENTITY_KEY")
    assert load_settings_if_any() is None
    monkeypatch.setenv(f"{ENV_PREFIX}KAFKA__GROUP".lower(), "mine")
    found = load_settings_if_any()
    assert found is not None
    assert found.kafka.group == "mine"


def test_a_list_in_a_variable_is_read_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}TRANSACTION__ENTITIES", '["SHOP", "DEVICE"]')
    assert load_settings().transaction.entities == ("SHOP", "DEVICE")


@pytest.mark.parametrize(
    ("section", "field"),
    [
        (
            '[transaction]\namount = "x"\nnumeric = ["x"]',
            "transaction: field 'x' is declared by amount and numeric",
        ),
        ('[transaction]\nnumeric = ["x", "x"]', "transaction: field 'x' is declared by numeric, twice"),
        (
            '[label]\nlabel = "status"\noutcome = "status"',
            "label: field 'status' is declared by label and outcome",
        ),
    ],
)
def test_one_field_cannot_have_two_meanings(tmp_path: Path, section: str, field: str) -> None:
    assert f"{field}: declare it once" in refusal(tmp_path, section)


def test_a_field_that_is_both_id_and_card_is_refused_with_what_can_be_done(tmp_path: Path) -> None:
    said = refusal(tmp_path, '[transaction]\ntransaction_id = "row"\ncard_id = "row"')
    assert "by transaction_id and card_id: both are required: add a second field, a copy of this one" in said


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            'card_id = ["card1", "addr1"]',
            "transaction.card_id = ['card1', 'addr1']: Input should be a valid string",
        ),
        ("card_id = {a = 1}", "transaction.card_id = {'a': 1}: Input should be a valid string"),
        (
            'categorical = [["a", "b"]]',
            "transaction.categorical.0 = ['a', 'b']: Input should be a valid string",
        ),
        ('entities = "shop"', "transaction.entities = 'shop': this is a list, such as [\"merchant_id\"]"),
    ],
)
def test_names_of_fields_that_are_no_names_are_refused_beside_joined_entities(
    tmp_path: Path, section: str, expected: str
) -> None:
    entities = "" if section.startswith("entities") else "entities = []\n"
    assert expected in refusal(tmp_path, f"[transaction]\n{entities}{section}")


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ('[transaction]\ncard_id = "card.token"', "transaction.card_id = 'card.token'"),
        ('[transaction]\nnumeric = ["device.score"]', "transaction.numeric = 'device.score'"),
        ('[label]\nsource = "meta.source"', "label.source = 'meta.source'"),
    ],
)
def test_a_nested_field_is_refused_with_the_reason(tmp_path: Path, section: str, field: str) -> None:
    found = refusal(tmp_path, section)
    assert field in found
    assert "fields of the record itself" in found
    assert "dotted_names = true" in found
    settings_of(tmp_path, f"{section}\ndotted_names = true\n")


def test_an_alert_carries_only_declared_fields(tmp_path: Path) -> None:
    found = refusal(
        tmp_path, '[alerts]\nfields = ["merchant_id", "chanel"]\n[transaction]\ncategorical = ["channel"]'
    )
    assert "alerts.fields: 'chanel' is not declared" in found
    assert "did you mean 'channel'?" in found


def settings_of(folder: Path, text: str) -> Settings:
    path = folder / "worker.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path)


def test_labels_have_the_time_format_of_transactions_unless_they_have_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings_of(tmp_path, "").label.time_format == "epoch_ms"
    seconds = '[transaction]\ntime_format = "epoch_s"\n'
    assert settings_of(tmp_path, seconds).label.time_format == "epoch_s"
    assert settings_of(tmp_path, f'{seconds}[label]\nlabel = "verdict"').label.time_format == "epoch_s"
    both = settings_of(tmp_path, f'{seconds}[label]\ntime_format = "iso8601"')
    assert (both.transaction.time_format, both.label.time_format) == ("epoch_s", "iso8601")
    monkeypatch.setenv(f"{ENV_PREFIX}TRANSACTION__TIME_FORMAT", "iso8601")
    assert load_settings().label.time_format == "iso8601"
    monkeypatch.setenv(f"{ENV_PREFIX}LABEL__TIME_FORMAT", "epoch_ms")
    assert load_settings().label.time_format == "epoch_ms"


def test_changed_settings_are_those_that_differ_from_their_defaults(tmp_path: Path) -> None:
    text = '[costs]\nreview_cost = 7.5\n[kafka]\nsasl_password = "hush"\n[label.values]\nBAD = "fraud"\n'
    found = changed(settings_of(tmp_path, text))
    assert found.pop("entity_key") == found.pop("kafka.sasl_password") == f'"{MASK}"'
    assert found == {"costs.review_cost": "7.5", "label.values": '{"BAD" = "fraud"}'}
