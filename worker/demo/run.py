"""Starts everything the demo needs, watches it, and leaves nothing behind."""

from __future__ import annotations

import logging
import shutil
import tempfile
import textwrap
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import Final

from rich.console import Console

from worker import topics
from worker.alert_text import read_alert
from worker.client import wait_for_brokers
from worker.demo.background import Background
from worker.demo.display import Display, display_for
from worker.demo.figures import Figures
from worker.demo.picture import save_picture
from worker.demo.processes import Program, WorkerProcess, embedded_kafka, remove_from_kafka
from worker.demo.scenario import PARTITIONS, settings, speed, traffic, values
from worker.demo.stream import feed, simulated
from worker.demo.summary import summary
from worker.demo.watcher import Watcher
from worker.errors import WorkerError
from worker.kafka_jars import are_fetched
from worker.schema import Alert
from worker.settings import Settings
from worker.signals import handled_by, ignore, interrupt
from worker.topic_reader import open_topic

LOOK_EVERY_S: Final = 0.5
_LAST_LOOKS: Final = 2
"""After the last decision: its labels and its alerts are seen a moment later."""
_PATIENCE_S: Final = 1.0
_TEXT_COLUMNS: Final = 88
_KAFKA_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """What a user may choose.

    Attributes
    ----------
    duration_s
        Of the stream, without the start.
    bootstrap
        A Kafka to use; None starts one and stops it again.
    keep_topics
        Leave the topics in that Kafka.
    picture
        File for the page as an SVG; None for none.
    """

    duration_s: float
    bootstrap: str | None = None
    keep_topics: bool = False
    picture: Path | None = None


@dataclass(slots=True)
class _Seen:
    """The last figures, and the last before the stream came to its end."""

    last: Figures | None = None
    flowing: Figures | None = None


def run_demo(options: DemoOptions, console: Console | None = None) -> int:
    """Run the demo until its duration is over, or until it is interrupted; return the exit code.

    Raises
    ------
    WorkerError
        Kafka or the worker could not be started, or failed.
    """
    logging.disable(logging.ERROR)  # what fails is raised; the rest would spoil the page
    console = console or Console(highlight=False)
    seen, notes = _Seen(), list[str]()
    with handled_by(ignore), ExitStack() as started:
        try:
            with display_for(console) as display, handled_by(interrupt):
                _run(options, display, started, seen, notes)
        except KeyboardInterrupt:
            notes.insert(0, "Interrupted.")
        for paragraph in summary(seen.last):
            wrapped = textwrap.fill(paragraph, min(console.width, _TEXT_COLUMNS))
            console.print(wrapped, markup=False, soft_wrap=True, end="\n\n")
        started.close()
        if options.picture is not None and (figures := seen.flowing or seen.last) is not None:
            save_picture(figures, options.picture)
            notes.append(f"The page as it was near the end: {options.picture}")
        for note in notes:
            console.print(note, markup=False, soft_wrap=True)
    return 0


def _run(options: DemoOptions, display: Display, started: ExitStack, seen: _Seen, notes: list[str]) -> None:
    simulator = Background("simulator", lambda stopping: simulated(traffic(options.duration_s)))  # noqa: ARG005
    folder = Path(tempfile.mkdtemp(prefix="fraud-worker-demo-"))
    started.callback(shutil.rmtree, folder, ignore_errors=True)
    compiling = started.enter_context(Program(folder, "-m", "worker.warm"))
    bootstrap = options.bootstrap or _start_kafka(display, started)
    given = values(bootstrap, folder, options.duration_s)
    told = settings(given)
    _make_topics(options, told, display, started, notes)
    alerts: SimpleQueue[Alert] = SimpleQueue()
    reader = Background("alerts", lambda stopping: _read_alerts(told, alerts, stopping))
    started.callback(reader.stop, _PATIENCE_S)
    stream = simulator.result()
    display.stage("Compiling the worker's loops: seconds, but half a minute or more the first time")
    compiling.wait()
    display.stage("Starting the worker")
    worker = started.enter_context(WorkerProcess(given, folder))
    worker.wait_until_ready()
    pace = speed(options.duration_s)
    feeder = Background("feeder", lambda stopping: feed(told, stream, pace, stopping))
    started.callback(feeder.stop, _PATIENCE_S)
    _watch(
        options,
        display,
        seen,
        worker,
        Watcher(stream, told, options.duration_s, pace),
        alerts,
        (feeder, reader),
    )


def _start_kafka(display: Display, started: ExitStack) -> str:
    if not are_fetched():
        display.stage("Fetching Apache Kafka by Maven: 44 MB, this first time only")
    else:
        display.stage("Starting Apache Kafka")
    return started.enter_context(embedded_kafka())


def _make_topics(
    options: DemoOptions, told: Settings, display: Display, started: ExitStack, notes: list[str]
) -> None:
    display.stage(f"Making six topics in Kafka at {told.kafka.bootstrap}")
    if options.bootstrap is not None:
        wait_for_brokers(told, _KAFKA_WITHIN_S)
        started.callback(_leave, options, told, notes)
    topics.create(told, PARTITIONS, stamped_by_broker=True)


def _leave(options: DemoOptions, told: Settings, notes: list[str]) -> None:
    """Delete what was made in a Kafka that stays, or tell of it."""
    names = f"{told.kafka.group}.* (six topics) and the group {told.kafka.group} at {told.kafka.bootstrap}"
    if options.keep_topics:
        notes.append(f"Kept in Kafka: {names}")
        return
    try:
        remove_from_kafka(told)
    except WorkerError as error:
        notes.append(f"Could not be deleted from Kafka, do it by hand: {names} ({error})")
    else:
        notes.append(f"Deleted from Kafka: {names}")


def _read_alerts(told: Settings, into: SimpleQueue[Alert], stopping: Event) -> None:
    with open_topic(told, told.topics.alerts) as reader:
        for record in reader.following():
            if stopping.is_set():
                return
            alert = None if record is None else read_alert(record.value)
            if isinstance(alert, Alert):
                into.put(alert)


def _watch(
    options: DemoOptions,
    display: Display,
    seen: _Seen,
    worker: WorkerProcess,
    watcher: Watcher,
    alerts: SimpleQueue[Alert],
    threads: tuple[Background[None], ...],
) -> None:
    began_s, last_looks = time.monotonic(), 0
    feeder = threads[0]
    while last_looks < _LAST_LOOKS:
        for thread in threads:
            thread.check()
        worker.check()
        at_s, fresh = time.monotonic() - began_s, _drain(alerts)
        seen.last = watcher.look(worker.samples(), fresh, at_s)
        if feeder.is_running:
            seen.flowing = seen.last
        display.look(seen.last, fresh)
        if at_s >= options.duration_s:
            return
        last_looks += seen.last.is_wholly_decided
        time.sleep(LOOK_EVERY_S)


def _drain(queue: SimpleQueue[Alert]) -> list[Alert]:
    found = []
    while True:
        try:
            found.append(queue.get_nowait())
        except Empty:
            return found
