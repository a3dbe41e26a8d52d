"""Signals that end a command: the first interrupts it wherever it is, the rest wait until it has cleaned up."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def ignore(number: int, frame: FrameType | None) -> None:
    """Do nothing; unlike `SIG_IGN`, a child process does not inherit it."""
    del number, frame


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise `KeyboardInterrupt`, and let the signals that follow go unheard: cleaning up is under way."""
    del number, frame
    for each in ENDING:
        signal.signal(each, ignore)
    raise KeyboardInterrupt


@contextmanager
def handled_by(handler: signal._HANDLER) -> Iterator[None]:
    """Let that handler hear the signals that end a command, for the length of a `with` of the main thread.

    Under nohup SIGHUP stays unheard: the command is to outlive its terminal.
    """
    heard = [each for each in ENDING if each != signal.SIGHUP or signal.getsignal(each) is not signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heard}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


@contextmanager
def held_back() -> Iterator[None]:
    """Let no handler run before the end of the `with`: what is begun inside is known to its owner by then."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heard: list[int] = []
    with handled_by(lambda number, frame: heard.append(number)):  # noqa: ARG005
        yield
    if heard:
        signal.raise_signal(heard[0])
