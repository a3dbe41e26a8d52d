"""What verbs for people share: settings, readable logs, the wait for Kafka, output, progress."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rich.console import Console

    from worker.settings.sections import Settings

WAIT_FOR_KAFKA_S: Final = 10.0
_QUIET_S: Final = 10.0
"""How long kafka-python logs nothing after it has logged."""


def log_for_a_person() -> None:
    """Log lines for people to standard error, even if it is no terminal."""
    from worker.telemetry import logs

    logs.configure(as_json=False)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_NowAndThen())


def read_settings(args: argparse.Namespace, *, keyless: bool = False) -> Settings:
    """Log for a person, and return the settings that the arguments name, as `load_settings` reads them."""
    from worker.settings.loading import load_settings

    log_for_a_person()
    return load_settings(args.config, keyless=keyless)


def wait_for_kafka(settings: Settings) -> None:
    """Wait for Kafka to answer, not long: a person watches.

    Raises
    ------
    UnreachableError
        Kafka does not answer.
    """
    from worker.kafka_io.client import wait_for_brokers

    wait_for_brokers(settings, WAIT_FOR_KAFKA_S)


def output(width_elsewhere: int) -> Console:
    """Return a console on standard output: in colour at a terminal, else plain and so many columns wide.

    It prints characters that the encoding lacks as escapes, and raises BrokenPipeError if the reader has closed it.
    """
    from rich.console import Console

    class Output(Console):
        def on_broken_pipe(self) -> None:
            raise BrokenPipeError  # rich itself would end the process with code 1

    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    return Output(highlight=False, width=None if sys.stdout.isatty() else width_elsewhere)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on standard error: a bar at a terminal, else a line for each tenth.

    Yields
    ------
    Callable
        Takes how many are done, and how many there are.
    """
    if not sys.stderr.isatty():
        yield _Tenths(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(title, total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


class _NowAndThen(logging.Filter):
    """Lets kafka-python log once in 10 s: without a broker it logs the same several times a second."""

    def __init__(self) -> None:
        super().__init__()
        self._quiet_until_s = float("-inf")

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.split(".")[0] != "kafka":
            return True
        passes = time.monotonic() >= self._quiet_until_s
        if passes:
            self._quiet_until_s = time.monotonic() + _QUIET_S
        return passes


class _Tenths:
    """Prints a line whenever another tenth is done."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._printed = 0

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // total
        if tenth > self._printed:
            self._printed = tenth
            print(f"{self._title}: {tenth * 10:3d} % of {total:,}", file=sys.stderr)
