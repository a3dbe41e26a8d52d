from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select

import pytest
from kafka import KafkaAdminClient

from tests.conftest import Broker
from tests.support.repository import COMPILED, ROOT, copy_of_the_checkout, make

pytestmark = pytest.mark.integration

START_S = 180.0
"""The first start compiles."""
END_S = 30.0


class Demo:
    """A demo in a process of its own.

    Parameters
    ----------
    folder
        For its temporary files.
    output
        Where it prints; None for a pipe.
    arguments
        Of the verb.
    """

    def __init__(self, folder: Path, output: int | None, *arguments: str) -> None:
        self.folder = folder
        out = subprocess.PIPE if output is None else output
        environment = {
            **os.environ,
            "TMPDIR": str(folder),
            "TERM": "xterm-256color",
            "COLUMNS": "",
            "LINES": "",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "worker", "demo", *arguments],
            cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        self._heard = b""

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return self._heard.decode(errors="replace")

    def read_until(self, wanted: str, descriptor: int) -> None:
        """Read what it prints until those words are among it."""
        deadline_s = time.monotonic() + START_S
        while wanted not in self.output:
            assert time.monotonic() < deadline_s, f"no {wanted!r}:\n{self.output[-4000:]}"
            read = os.read(descriptor, 65_536) if select([descriptor], [], [], 0.2)[0] else b""
            self._heard += read
            assert read or self.process.poll() is None, f"ended without {wanted!r}:\n{self.output[-4000:]}"

    def end(self) -> int:
        """Read the rest of its output; return its exit code."""
        self._heard += self.process.communicate(timeout=START_S)[0] or b""
        return self.process.returncode


def left_behind(temporary: Path) -> list[str]:
    """Return files and processes that remain; every process of a demo has its folder for temporary files."""
    return [*os.listdir(temporary), *processes_with(f"TMPDIR={temporary}".encode())]


def topics_of(output: str, admin: KafkaAdminClient) -> list[str]:
    """Return those of a demo's topics, and its group, that still exist."""
    found = re.search(r"the topics (fraud-demo-\w+)\.\*", output)
    assert found, output
    groups = [group["group_id"] for group in admin.list_groups()]
    return [name for name in [*admin.list_topics(), *groups] if name.startswith(found[1])]


def processes_with(setting: bytes) -> list[str]:
    """Return the commands of the processes whose environment has that setting."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if setting in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return found


@contextmanager
def demo(folder: Path, *arguments: str, output: int | None = None) -> Iterator[Demo]:
    """Start a demo; end it if a failed test leaves it running."""
    folder.mkdir()
    running = Demo(folder, output, *arguments)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.terminate()
            running.process.wait(END_S)
        if running.process.stdout is not None:
            running.process.stdout.close()


def test_a_demo_without_a_terminal_prints_lines_draws_its_picture_and_leaves_nothing(
    kafka: Broker, kafka_admin: KafkaAdminClient, tmp_path: Path
) -> None:
    checkout, temporary = copy_of_the_checkout(tmp_path / "checkout"), tmp_path / "tmp"
    picture = checkout / "deploy" / "pictures" / "demo.svg"
    picture.unlink()
    (checkout / "build").symlink_to(ROOT / "build")
    temporary.mkdir()
    variables = {**COMPILED, "TMPDIR": str(temporary)}
    options = ("DURATION=15", f"BOOTSTRAP={kafka.bootstrap}")
    done = make("picture", *options, folder=checkout, variables=variables)
    assert done.returncode == 0, done.stdout[-6000:]
    assert left_behind(temporary) == []
    assert topics_of(done.stdout, kafka_admin) == []
    for words in (
        "isolation forest decides",
        "decided,",
        "payments were decided in",
        "Deleted from Kafka",
        "alerts in",
    ):
        assert words in done.stdout, done.stdout
    assert "\x1b" not in done.stdout
    assert "Traceback" not in done.stdout
    assert "</svg>" in picture.read_text(encoding="utf-8")


def test_an_interrupted_demo_says_what_it_saw_and_may_leave_its_topics(
    kafka: Broker, kafka_admin: KafkaAdminClient, tmp_path: Path
) -> None:
    with demo(tmp_path / "tmp", "--bootstrap", kafka.bootstrap, "--keep-topics") as running:
        assert running.process.stdout is not None
        running.read_until("forest: anomaly score", running.process.stdout.fileno())
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 0, running.output
        assert left_behind(running.folder) == []
    assert "Interrupted." in running.output
    assert "payments were decided in" in running.output
    assert "Kept in Kafka" in running.output
    kept = topics_of(running.output, kafka_admin)
    assert len(kept) == 7, kept  # six topics and the group
    kafka_admin.delete_topics([name for name in kept if "." in name])


@pytest.mark.parametrize(
    ("stage", "number"),
    [
        ("Starting Apache Kafka", signal.SIGINT),
        ("Making the topics", signal.SIGHUP),
        ("Compiling the worker's loops", signal.SIGTERM),
        ("Starting the worker", signal.SIGINT),
        ("no decider yet", signal.SIGTERM),
    ],
)
def test_a_demo_with_its_own_kafka_is_interrupted_at_any_moment_and_leaves_nothing(
    stage: str, number: signal.Signals, tmp_path: Path
) -> None:
    with demo(tmp_path / "tmp") as running:
        assert running.process.stdout is not None
        running.read_until(stage, running.process.stdout.fileno())
        assert processes_with(f"TMPDIR={running.folder}".encode()) != []
        running.process.send_signal(number)
        assert running.end() == 0, running.output
        assert left_behind(running.folder) == []
    assert "Everything that was started has been stopped" in running.output
    assert "Traceback" not in running.output


def test_a_demo_whose_kafka_dies_says_so_and_where_its_log_is(tmp_path: Path) -> None:
    with demo(tmp_path / "tmp") as running:
        assert running.process.stdout is not None
        running.read_until("no decider yet", running.process.stdout.fileno())
        [broker] = [
            int(folder.name)
            for folder in Path("/proc").glob("[0-9]*")
            if is_broker_of(running.folder, folder)
        ]
        os.kill(broker, signal.SIGKILL)
        assert running.end() == 9, running.output
        assert processes_with(f"TMPDIR={running.folder}".encode()) == []
    assert "Kafka ended by itself" in running.output
    [log] = re.findall(r"The whole log is in (\S+);", running.output)
    assert Path(log).is_file()
    assert Path(log).is_relative_to(running.folder)


def is_broker_of(temporary: Path, process: Path) -> bool:
    with suppress(OSError):
        is_its_own = f"TMPDIR={temporary}".encode() in (process / "environ").read_bytes()
        return is_its_own and b"kafka.Kafka" in (process / "cmdline").read_bytes()
    return False


def test_a_demo_at_a_terminal_draws_its_page(kafka: Broker, tmp_path: Path) -> None:
    screen, terminal = pty.openpty()
    try:
        termios.tcsetwinsize(terminal, (32, 100))
        with demo(tmp_path / "tmp", "--bootstrap", kafka.bootstrap, output=terminal) as running:
            running.read_until("Starting the worker", screen)
            running.read_until("isolation forest, until", screen)
            running.read_until(" ≥ ", screen)  # an alert, with its score and threshold
            running.process.send_signal(signal.SIGTERM)
            running.read_until("Everything that was started has been stopped", screen)
            assert running.end() == 0
            assert left_behind(running.folder) == []
    finally:
        os.close(screen)
        os.close(terminal)
    assert "╭─ Who decides" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", running.output)
