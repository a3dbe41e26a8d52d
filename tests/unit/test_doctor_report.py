"""How the doctor tells what it found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from worker.cli import main
from worker.doctor import examination
from worker.doctor.finding import Finding, failed, not_checked, ok, refused, warning
from worker.errors import IncompatibleError, SettingsError, UnreachableError

pytestmark = pytest.mark.usefixtures("own_surroundings")

FINDINGS = [
    replace(ok("all is well"), check="one"),
    replace(warning("some " * 40, "do this"), check="two"),
    replace(not_checked("no Kafka"), check="three"),
    replace(refused(UnreachableError("gone:\n  start it")), check="four"),
    replace(not_checked("no Kafka"), check="five"),
    replace(failed("\x1b[2J[red]4111111111111111", "mend it", IncompatibleError), check="six"),
]


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(_: Path | None) -> Iterator[Finding]:
        yield from FINDINGS

    monkeypatch.setattr(examination, "examine", examine)


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


@pytest.mark.parametrize("error", [SettingsError, UnreachableError])
def test_a_check_that_ends_in_an_error_of_ours_is_a_finding(
    error: type[SettingsError | UnreachableError],
) -> None:
    def look() -> Finding:
        raise error("what is wrong")

    found = examination._safely(examination._Known(), look)
    assert (found.found, found.error) == ("what is wrong", error)


def test_an_answer_that_nobody_thought_of_spoils_one_check_only() -> None:
    def look() -> Finding:
        raise KeyError("broker_id")

    assert examination._safely(examination._Known(), look) == not_checked(
        "the check itself failed (KeyError: 'broker_id')"
    )
