"""What the README tells its reader to type works, in order and as written."""

from __future__ import annotations

import os
import re
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.conftest import Broker
from worker.settings import TopicSettings
from worker.settings_errors import ENV_PREFIX

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DEMO_S = 25
LINES_BY_MAKE_TEST = "make test\n"
"""The block that is running already."""


def blocks(language: str) -> list[str]:
    """The fenced blocks of that language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder that looks like the repository's top; what the reader makes there is gone afterwards."""
    for entry in ROOT.iterdir():
        if entry.name != ".git":
            (tmp_path / entry.name).symlink_to(entry)
    (tmp_path / "worker.toml").write_text(settings_of_the_reader(), encoding="utf-8")
    return tmp_path


def settings_of_the_reader() -> str:
    """The settings file that the README shows, with a key as its comment says to make one."""
    [text] = [block for block in blocks("toml") if block.startswith("# worker.toml")]
    assert text.count("<") == 1
    return re.sub(r"<[^>]*>", "000102030405060708090a0b0c0d0e0f", text)


def elsewhere(kafka: Broker) -> dict[str, str]:
    """The environment of a reader whose Kafka is this one, and has other users."""
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


def test_every_shell_block_of_the_readme_works(kafka: Broker, checkout: Path) -> None:
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
    assert done.returncode == 0, done.stdout[-6000:]
    assert "savings" in done.stdout
    assert '"alert_id"' in done.stdout
