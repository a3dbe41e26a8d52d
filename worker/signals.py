"""Signals that end a command: the first interrupts it anywhere, later ones are ignored while it cleans up."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing; unlike `SIG_IGN`, a child process does not inherit it."""
    del number, frame


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt` and ignore the signals that follow, because the command cleans up now."""
    del number, frame
    for each in ENDING:
        signal.signal(each, ignore)
    raise KeyboardInterrupt


@contextmanager
def handled_by(handler: signal._HANDLER) -> Iterator[None]:
    """Let a handler receive the signals that end a command, inside a `with` of the main thread.

    Under nohup SIGHUP stays ignored: the command must outlive its terminal.
    """
    handled = [
        each for each in ENDING if each != signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN
    ]
    before = {number: signal.signal(number, handler) for number in handled}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def held_back() -> Iterator[None]:
    """Delay signals until the end of the `with`: what the block starts has an owner by then, who can end it."""
    # Python allows signal handlers in the main thread alone; other threads are never interrupted.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    with handled_by(lambda number, frame: received.append(number)):  # noqa: ARG005
        yield
    if received:
        signal.raise_signal(received[0])


def run_process(
    command: Sequence[str], timeout_s: float | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Do as `subprocess.run`, but wait for a process that is killed, even on Ctrl-C: none outlives the command.

    Parameters
    ----------
    command
        The program and its arguments.
    timeout_s
        After so long the process is killed; None for no limit.
    options
        Of `subprocess.Popen`.

    Raises
    ------
    subprocess.TimeoutExpired
        It did not end in time.
    """
    process: subprocess.Popen[str] | None = None
    try:
        with held_back():
            process = subprocess.Popen(command, text=True, **options)
        out, errors = process.communicate(timeout=timeout_s)
    except BaseException:
        if process is not None:
            process.kill()
            with process:  # waits, and closes its pipes
                pass
        raise
    return subprocess.CompletedProcess(command, process.returncode, out, errors)
