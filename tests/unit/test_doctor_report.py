"""How the doctor prints what it found."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice

import pytest

from worker.cli import main
from worker.doctor import examination
from worker.doctor.examination import examine
from worker.doctor.finding import Finding, Verdict, failed, not_checked, ok, refused, warning
from worker.errors import IncompatibleError, SettingsError, UnreachableError

pytestmark = pytest.mark.usefixtures("own_surroundings")

FINDINGS = [
    replace(ok("all is well"), check="one"),
    replace(warning("some " * 40, "do this"), check="two"),
    replace(not_checked("no Kafka"), check="three"),
    replace(refused(UnreachableError("gone:\n  start it")), check="four"),
    replace(not_checked("no Kafka"), check="five"),
    replace(failed("\x1b[2J[red]4111111111111111", "correct it", IncompatibleError), check="six"),
]


@pytest.fixture(autouse=True)
def findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "examine", lambda _: iter(FINDINGS))


def test_people_read_a_line_a_check_with_what_to_do_and_what_was_not_checked_last(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["doctor"]) == UnreachableError.exit_code
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "ok           one              all is well"
    assert lines[1].startswith("warning      two              some some")
    assert "                              -> do this" in lines
    assert all(len(line) <= 120 for line in lines)
    gone = lines.index("failed       four             gone:")
    assert lines[gone + 1] == "                              start it"
    assert lines[-3:] == [
        "not checked                   no Kafka: three, five",
        "",
        "1 ok, 1 warning, 2 failed, 2 not checked",
    ]


def test_foreign_text_is_escaped_and_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    main(["doctor"])
    out = capsys.readouterr().out
    assert r"\x1b[2J[red]************1111" in out
    assert "\x1b" not in out


def test_programs_read_one_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json"]) == UnreachableError.exit_code
    findings = json.loads(capsys.readouterr().out)
    assert [it["check"] for it in findings] == ["one", "two", "three", "four", "five", "six"]
    assert findings[1] == {"check": "two", "status": "warning", "found": "some " * 40, "fix": "do this"}
    assert findings[2] == {"check": "three", "status": "not checked", "found": "no Kafka", "fix": ""}


def test_without_a_failure_the_code_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examination, "examine", lambda _: iter(FINDINGS[:3]))
    assert main(["doctor"]) == 0


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Callable[[Exception], Finding]:
    """Return the finding of a check that raises."""

    def finding_of(error: Exception) -> Finding:
        def fail() -> None:
            raise error

        monkeypatch.setattr(examination, "refuse_unknown_variables", fail)
        return next(finding for finding in examine(None) if finding.check == "environment")

    return finding_of


@pytest.mark.parametrize("error", [SettingsError, UnreachableError])
def test_a_check_that_raises_an_error_of_the_worker_has_failed(
    error: type[SettingsError | UnreachableError], broken: Callable[[Exception], Finding]
) -> None:
    found = broken(error("what is wrong"))
    assert (found.found, found.error) == ("what is wrong", error)


def test_an_unexpected_answer_fails_one_check_only(broken: Callable[[Exception], Finding]) -> None:
    found = broken(KeyError("broker_id"))
    assert found.status is Verdict.NOT_CHECKED
    assert found.found == "the check itself failed (KeyError: 'broker_id')"


def test_a_variable_that_names_no_setting_fails_the_check_of_variables_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FRAUD_WORKER__ENTITY_KEY", "0f" * 16)
    monkeypatch.setenv("FRAUD_WORKER__COST__REVIEW_COST", "7")
    settings, environment = islice(examine(None), 2)
    assert (settings.check, settings.status) == ("settings", Verdict.OK)
    assert (environment.check, environment.error) == ("environment", SettingsError)
    assert "FRAUD_WORKER__COST__REVIEW_COST" in environment.found
