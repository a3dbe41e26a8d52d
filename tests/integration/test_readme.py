"""The commands of the README work, in order and as written."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Broker
from worker.settings.mistakes import ENV_PREFIX
from worker.settings.sections import TopicSettings

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO_S = 25
LINES_BY_MAKE_TEST = "make test\n"
"""The block that the tests are part of."""


def blocks(language: str) -> list[str]:
    """Return the fenced blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def lay_out(top: Path, folder: Path) -> None:
    """Link what git tracks at the repository's top; anything else there belongs to the user."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=top, capture_output=True, text=True, check=True)
    for name in {path.partition("/")[0] for path in tracked.stdout.split("\0") if path}:
        (folder / name).symlink_to(top / name)


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
    """Run all commands of the README in a folder that looks like the repository's top."""
    checkout = tmp_path_factory.mktemp("checkout")
    lay_out(ROOT, checkout)
    (checkout / "build").symlink_to(ROOT / "build")
    (checkout / "worker.toml").write_text(settings_of_the_reader(), encoding="utf-8")
    typed = [block for block in blocks("sh") if block != LINES_BY_MAKE_TEST]
    assert len(typed) == len(blocks("sh")) - 1
    script = "set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n" + "\n".join(
        f"echo '== block {number}'\n{block}" for number, block in enumerate(typed)
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=checkout,
        env=elsewhere(kafka),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    made = [entry.name + "/" * entry.is_dir() for entry in checkout.iterdir() if not entry.is_symlink()]
    return Followed(done.returncode, done.stdout, made)


def test_every_shell_block_of_the_readme_works(followed: Followed) -> None:
    assert followed.code == 0, followed.output[-6000:]
    assert "savings" in followed.output
    assert '"alert_id"' in followed.output


def test_git_ignores_what_the_reader_makes(followed: Followed) -> None:
    git = ["git", "check-ignore", "--no-index", *followed.made]
    ignored = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ignored.stdout.splitlines() == followed.made


def test_what_git_does_not_track_at_the_top_is_not_written_through(tmp_path: Path) -> None:
    top, folder = tmp_path / "top", tmp_path / "folder"
    for name in ("worker", "state", "../folder"):
        (top / name).mkdir(parents=True)
    for name in ("README.md", "worker/live/app.py", "worker.toml", "state/waiting"):
        (top / name).touch()
    for command in (["init", "--quiet"], ["add", "README.md", "worker"]):
        subprocess.run(["git", *command], cwd=top, check=True)
    lay_out(top, folder)
    assert {entry.name for entry in folder.iterdir()} == {"README.md", "worker"}
