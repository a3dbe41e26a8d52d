"""Shells complete verbs, options and files."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.parsers import leaves
from worker.cli import build_parser, main
from worker.commands.parsing import arguments_of

ROOT = Path(__file__).parents[2]
KEY = "00112233445566778899aabbccddeeff"


pytestmark = pytest.mark.usefixtures("own_surroundings")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_knows_every_verb_and_its_options(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for verb in leaves(build_parser()):
        assert verb.prog.split()[-1] in script
        for action in arguments_of(verb):
            assert all(option.lstrip("-") in script for option in action.option_strings), verb.prog


def test_bash_completes_a_verb_an_option_and_a_file(tmp_path: Path) -> None:
    (tmp_path / "past.parquet").touch()
    script = subprocess.run(
        [sys.executable, "-m", "worker", "completion", "bash"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert completed_by_bash(script, ["fraud-worker", "back"], tmp_path) == ["backtest"]
    assert completed_by_bash(script, ["fraud-worker", "backtest", "--fraud"], tmp_path) == ["--fraud-column"]
    assert completed_by_bash(script, ["fraud-worker", "backtest", "pas"], tmp_path) == ["past.parquet"]


def completed_by_bash(script: str, words: list[str], folder: Path) -> list[str]:
    """Return what bash offers for the last of these words."""
    bash, typed = shutil.which("bash"), " ".join(words)
    assert bash is not None
    ask = (
        f"COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1}; COMP_LINE='{typed}'; COMP_POINT=${{#COMP_LINE}}\n"
        "$(complete -p fraud-worker | sed 's/.* -F \\([^ ]*\\) .*/\\1/') fraud-worker\n"
        'printf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    ended = subprocess.run(
        [bash, "--norc", "-c", f"{script}\n{ask}"], cwd=folder, capture_output=True, text=True, check=True
    )
    return [word.strip() for word in ended.stdout.splitlines()]
