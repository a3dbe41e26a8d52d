"""The demo stops and removes what it started, however it ends."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from contextlib import ExitStack
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from worker.demo import processes
from worker.demo.display import display_for
from worker.demo.processes import Program, remove_from_kafka
from worker.demo.session import DemoOptions, DemoSession, run_demo
from worker.errors import UnreachableError, WorkerError
from worker.kafka_io import topic_setup
from worker.settings.sections import Settings
from worker.signals import handled_by, ignore, interrupt


def console() -> Console:
    return Console(file=StringIO(), width=100)


def printed(to: Console) -> str:
    assert isinstance(to.file, StringIO)
    return to.file.getvalue()


def is_running(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is None


@pytest.mark.parametrize("name", ["FRAUD_WORKER__KAFKA__GROUP", "fraud_worker__kafka__group"])
def test_a_program_of_the_demo_knows_no_settings_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    given: dict[str, str] = {}

    def refused(*_: Any, env: dict[str, str], **__: Any) -> None:
        given.update(env)
        raise OSError

    monkeypatch.setenv(name, "mine")
    monkeypatch.setattr(subprocess, "Popen", refused)
    with pytest.raises(OSError, match=r"^$"):
        Program(tmp_path, "-m", "worker.warm").start()
    assert given["TMPDIR"] == str(tmp_path)
    assert name not in given


def test_a_program_that_is_interrupted_as_it_starts_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def interrupted(*args: Any, **kwargs: Any) -> subprocess.Popen[bytes]:
        begun.append(popen(*args, **kwargs))
        os.kill(os.getpid(), signal.SIGTERM)
        return begun[-1]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    program = Program(tmp_path, "-c", "import time; time.sleep(60)")
    with ExitStack() as started:
        session = DemoSession(DemoOptions(20.0), display_for(console()), started)
        with handled_by(ignore), pytest.raises(KeyboardInterrupt), handled_by(interrupt):
            session._start(program)
        assert [is_running(process) for process in begun] == [True]
    assert [is_running(process) for process in begun] == [False]


def test_a_demo_that_fails_says_what_it_leaves_and_still_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(session: DemoSession) -> None:
        session.started.callback(session.notes.append, "Not deleted: the topics x.*")
        raise WorkerError("the worker has ended")

    monkeypatch.setattr(DemoSession, "run", fail)
    shown = console()
    with pytest.raises(WorkerError, match="the worker has ended"):
        run_demo(DemoOptions(20.0), shown)
    assert printed(shown) == "Not deleted: the topics x.*\n"
    assert logging.getLogger().isEnabledFor(logging.ERROR)  # the demo disables logging only while it runs


class Admin:
    """An admin client that answers as kafka-python does when it deletes a group: by the name of an error."""

    def __init__(self, answer: str) -> None:
        self._answer = answer

    def __call__(self, **_: Any) -> Admin:
        return self

    def __enter__(self) -> Admin:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def remove_group_members(self, group: str, members: list[Any]) -> None:
        assert (group, len(members)) == ("fraud-worker", 1)

    def delete_groups(self, groups: list[str]) -> dict[str, str]:
        return dict.fromkeys(groups, self._answer)


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(processes, "wait_for_brokers", lambda settings, timeout_s: None)  # noqa: ARG005
    monkeypatch.setattr(topic_setup, "delete", lambda settings: None)  # noqa: ARG005
    return lambda answer: monkeypatch.setattr(processes, "AdminClient", Admin(answer))


def test_a_group_that_kafka_does_not_delete_is_not_called_deleted(admin: Any) -> None:
    settings = Settings(entity_key="0f" * 16)
    for gone in ("OK", "GroupIdNotFoundError"):
        admin(gone)
        remove_from_kafka(settings)
    admin("GroupAuthorizationFailedError")
    with pytest.raises(UnreachableError, match="GroupAuthorizationFailedError"):
        remove_from_kafka(settings)
