"""The commands of the README work, in order and as written, but for fewer simulated cards, with more fraud each."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import uuid
from typing import NamedTuple

import pytest

from tests.conftest import Broker
from tests.support.repository import COMPILED, ROOT, copy_of_the_checkout, installed_make
from worker.settings.mistakes import ENV_PREFIX
from worker.settings.sections import TopicSettings

pytestmark = pytest.mark.integration

README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO_S = 15
PATIENCE_S = 600
SIMULATED = "simulate payments.csv --days 60 --prevalence 0.005 "
"""600,000 transactions take minutes in `backtest` and `compare`."""
FEWER = "simulate payments.csv --days 60 --cards 250 --prevalence 0.025 "
"""In each window of the comparison are as many frauds as it asks for, and more."""
LINES_BY_MAKE_TEST = "make test\n"
"""The block that the tests are part of."""


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def settings_of_the_reader() -> str:
    """Return the settings file that the README shows, with a key where its comment asks for one."""
    [text] = [block for block in blocks("toml") if block.startswith("# worker.toml")]
    assert text.count("<") == 1
    return re.sub(r"<[^>]*>", "000102030405060708090a0b0c0d0e0f", text)


def elsewhere(kafka: Broker) -> dict[str, str]:
    """Return the environment of a reader whose Kafka is this one, and has other users."""
    run = uuid.uuid4().hex[:8]
    topics = {
        f"{ENV_PREFIX}TOPICS__{name.upper()}": f"readme.{run}.{name}" for name in TopicSettings.model_fields
    }
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)},
        **COMPILED,
        **topics,
        f"{ENV_PREFIX}KAFKA__BOOTSTRAP": kafka.bootstrap,
        f"{ENV_PREFIX}HEALTH__PORT": "0",
        "DURATION": str(DEMO_S),
    }


class Followed(NamedTuple):
    """What the commands left."""

    code: int
    output: str
    made: list[str]
    """New files of the folder; folders end in a slash."""


@pytest.fixture(scope="module")
def followed(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Followed:
    """Run all commands of the README in a copy of the checkout."""
    folder = tmp_path_factory.mktemp("readme")
    checkout = copy_of_the_checkout(folder / "checkout")
    tools = installed_make(folder / "bin")
    before = set(checkout.iterdir())
    (checkout / "build").symlink_to(ROOT / "build")
    (checkout / "worker.toml").write_text(settings_of_the_reader(), encoding="utf-8")
    typed = [block for block in blocks("sh") if block != LINES_BY_MAKE_TEST]
    assert len(typed) == len(blocks("sh")) - 1
    assert "".join(typed).count(SIMULATED) == 1
    typed = [block.replace(SIMULATED, FEWER) for block in typed]
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(
        f"echo '== block {number}'\n{block}" for number, block in enumerate(typed)
    )
    output = folder / "output"
    with output.open("wb") as out:
        shell = subprocess.Popen(
            ["bash", "-c", script],
            cwd=checkout,
            env=elsewhere(kafka) | {"PATH": f"{tools}:{os.environ['PATH']}"},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            shell.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(shell.pid, signal.SIGKILL)  # the shell and all that it has started
            shell.wait()
    new = [entry for entry in checkout.iterdir() if entry not in before and not entry.is_symlink()]
    made = [entry.name + "/" * entry.is_dir() for entry in new]
    return Followed(shell.returncode, output.read_text(encoding="utf-8"), made)


def test_every_shell_block_of_the_readme_works(followed: Followed) -> None:
    assert followed.code == 0, followed.output[-6000:]
    assert "savings" in followed.output
    assert '"alert_id"' in followed.output


def test_git_ignores_what_the_reader_makes(followed: Followed) -> None:
    git = ["git", "check-ignore", "--no-index", *followed.made]
    ignored = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout.splitlines() == followed.made
