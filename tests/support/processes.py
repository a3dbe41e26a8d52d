"""Workers, and pieces of code, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final, Self

from tests.support.repository import ROOT
from tests.support.waiting import START_S, STOP_S, wait_for
from worker.local_http import ask
from worker.settings.sections import Settings

RUN_WORKER: Final = "tests.support.run_worker"


class WorkerProcess:
    """A worker in a process of its own; the context manager starts it, and kills it if it still runs at the end.

    Parameters
    ----------
    settings
        The process reads them from a TOML file.
    folder
        Of that file and of the process's log.
    module
        What runs; its one argument is that file.
    """

    def __init__(self, settings: Settings, folder: Path, module: str = RUN_WORKER) -> None:
        self.settings = settings
        self._module = module
        self._folder = folder
        folder.mkdir(parents=True)
        self._config = folder / "worker.toml"
        self._config.write_text(to_toml(settings), encoding="utf-8")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and return at once."""
        with (self._folder / "log").open("ab") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", self._module, str(self._config)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
            )
        return self

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, running or ended."""
        assert self._process is not None, "not started"
        return self._process

    @property
    def log(self) -> str:
        """All that it has logged."""
        return (self._folder / "log").read_text(encoding="utf-8", errors="replace")

    @property
    def messages(self) -> list[str]:
        """The messages of its log, without the fields."""
        lines = [line for line in self.log.splitlines() if line.startswith("{")]
        return [json.loads(line)["message"] for line in lines]

    def get(self, path: str) -> tuple[int, str]:
        """Ask one of its endpoints; return status and body, status 0 while it does not listen."""
        health = self.settings.health
        answer = ask(health.host, health.port, path, timeout_s=5)
        return (0, "") if answer is None else (answer.status, answer.text)

    def metric(self, name: str) -> float:
        """Return the sum of a metric's samples over its labels."""
        lines = self.get("/metrics")[1].splitlines()
        return sum(
            float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{"))
        )

    def wait_until_ready(self, timeout_s: float = START_S) -> float:
        """Wait until it decides; return how long it took, in seconds."""
        return wait_for(
            lambda: self.get("/readyz")[0] == 200, timeout_s, lambda: self.get("/readyz")[1], [self]
        )

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Ask it to end; return its exit code."""
        self.process.terminate()
        return self.wait_for_exit(STOP_S)

    def wait_for_exit(self, timeout_s: float) -> int:
        """Wait for its end; return its exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s} s:\n{self.log[-4000:]}") from None

    def assert_running(self) -> None:
        """Fail with its log if it has ended."""
        code = self.process.poll()
        assert code is None, f"ended with code {code}:\n{self.log[-4000:]}"

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc_info: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in an interpreter that has imported nothing yet."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def to_toml(settings: Settings) -> str:
    """Return the settings as a settings file. JSON's values are TOML's, except null, which is left out."""
    values = settings.model_dump(mode="json")
    if settings.kafka.sasl_password is not None:
        values["kafka"]["sasl_password"] = settings.kafka.sasl_password.get_secret_value()
    lines = [f'entity_key = "{settings.entity_key.get_secret_value()}"']
    for name, section in values.items():
        if isinstance(section, dict):
            lines.append(f"[{name}]")
            lines += [f"{key} = {json.dumps(value)}" for key, value in section.items() if value is not None]
    return "\n".join(lines) + "\n"
