"""What the demo starts outside its own process and removes again: Kafka, topics, a worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from http import HTTPStatus
from pathlib import Path
from typing import Final

from kafka import errors as kafka_errors
from kafka.admin import MemberToRemove

from worker.broker.embedded import EmbeddedKafka
from worker.demo.samples import Samples, read_samples
from worker.demo.scenario import Values, to_toml
from worker.errors import WorkerError
from worker.kafka_io import topic_setup
from worker.kafka_io.admin import AdminClient
from worker.kafka_io.client import admin_config, kafka_errors_explained, wait_for_brokers
from worker.local_http import Answer, ask
from worker.redaction import printable
from worker.settings.mistakes import ENV_PREFIX
from worker.settings.sections import Settings
from worker.signals import held_back

READY_WITHIN_S: Final = 300.0
_STOP_WITHIN_S: Final = 1.5
_ANSWERS_WITHIN_S: Final = 3.0
_LOG_LINES: Final = 15
_GROUP_IS_GONE: Final = ("OK", "GroupIdNotFoundError")


class OwnKafka(EmbeddedKafka):
    """The demo's own broker; its data is not kept, so the demo kills it at the end."""

    def close(self) -> None:
        """Kill the broker and remove its folder; the folder of one that failed stays, and its error names the log."""
        self.kill()
        super().close()


def remove_from_kafka(settings: Settings) -> None:
    """Delete the demo's topics and its consumer group.

    Raises
    ------
    WorkerError
        Kafka does not answer, or refuses.
    """
    wait_for_brokers(settings, _ANSWERS_WITHIN_S)
    topic_setup.delete(settings)
    group = settings.kafka.group
    with kafka_errors_explained(settings), AdminClient(**admin_config(settings)) as admin:
        # A static member stays in the group after it has ended.
        admin.remove_group_members(group, [MemberToRemove(group_instance_id=settings.worker.id)])
        answer = admin.delete_groups([group])[group]
        if answer not in _GROUP_IS_GONE:
            raise getattr(kafka_errors, answer)(group)


class Program:
    """A Python program in a process of its own, with its output in a file.

    Parameters
    ----------
    folder
        Takes the output and the program's temporary files.
    arguments
        The arguments of Python; the second one names the output.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self._folder, self._arguments = folder, arguments
        self._log = folder / f"{arguments[1]}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program; the caller has to `close` it, even if a signal ends this call."""
        # Settings in the environment are for the user's own workers.
        own = {name: value for name, value in os.environ.items() if not name.upper().startswith(ENV_PREFIX)}
        with self._log.open("ab") as out, held_back():
            self._process = subprocess.Popen(
                [sys.executable, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**own, "TMPDIR": str(self._folder)},
                start_new_session=True,  # Ctrl-C at the terminal reaches the demo alone, which ends the program
            )

    def close(self) -> None:
        """End the program, if it runs."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def wait(self) -> None:
        """Return once the program has ended.

        Raises
        ------
        WorkerError
            The program failed; the message holds the end of its output.
        """
        if self._process is not None and self._process.wait() != 0:
            raise self._failure(self._process.returncode)

    def check(self) -> None:
        """Raise `WorkerError` if the program has ended."""
        code = None if self._process is None else self._process.poll()
        if code is not None:
            raise self._failure(code)

    def _failure(self, code: int) -> WorkerError:
        log = self._log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LOG_LINES:]
        return WorkerError("\n".join([f"{self._arguments[1]} ended with code {code}:", *map(printable, log)]))


class WorkerProcess(Program):
    """A worker as a user runs it: `fraud-worker run` with a settings file.

    Parameters
    ----------
    values
        The worker's settings.
    folder
        Takes the settings file and the worker's output.
    """

    def __init__(self, values: Values, folder: Path) -> None:
        config = folder / "worker.toml"
        config.write_text(to_toml(values), encoding="utf-8")
        super().__init__(folder, "-m", "worker", "run", "--config", str(config))
        self._port: int = values["health"]["port"]
        self._samples: Samples = {}

    def wait_until_ready(self) -> None:
        """Return once the worker decides.

        Raises
        ------
        WorkerError
            The worker has ended, or is not ready within `READY_WITHIN_S`.
        """
        deadline_s = time.monotonic() + READY_WITHIN_S
        while (reason := self._unready()) is not None:
            self.check()
            if time.monotonic() > deadline_s:
                raise WorkerError(f"the worker was not ready after {READY_WITHIN_S:.0f} s: {reason}")
            time.sleep(0.1)

    def samples(self) -> Samples:
        """Return the samples of the worker's /metrics; the last ones if it does not answer."""
        answer = self._ask("/metrics")
        if answer is None:
            self.check()
        elif answer.status == HTTPStatus.OK:
            self._samples = read_samples(answer.text)
        return self._samples

    def _ask(self, path: str) -> Answer | None:
        return ask("127.0.0.1", self._port, path, _ANSWERS_WITHIN_S)

    def _unready(self) -> str | None:
        """Return why the worker does not decide yet; None once it does."""
        answer = self._ask("/readyz")
        if answer is None:
            return "starting"
        return (
            None if answer.status == HTTPStatus.OK else str(json.loads(answer.text).get("reason", "starting"))
        )
