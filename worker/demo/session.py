"""One demo from its start to its end: it starts everything, watches it, and leaves nothing behind."""

from __future__ import annotations

import logging
import shutil
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event
from typing import Final, Protocol, TypeVar

from rich.console import Console

from worker.broker.jars import are_fetched
from worker.demo.background import BackgroundCall
from worker.demo.display import Display, display_for
from worker.demo.figures import Figures
from worker.demo.picture import save_picture
from worker.demo.processes import OwnKafka, Program, WorkerProcess, remove_from_kafka
from worker.demo.scenario import PARTITIONS, demo_settings, demo_traffic, setting_values, stream_speed
from worker.demo.stream import send_stream, simulated_stream
from worker.demo.summary import summary_paragraphs
from worker.demo.watcher import Watcher
from worker.errors import WorkerError
from worker.kafka_io import topic_setup
from worker.kafka_io.client import wait_for_brokers
from worker.kafka_io.topic_reader import open_topic
from worker.output_files import require_writable
from worker.settings.sections import Settings
from worker.signals import handled_by, held_back, ignore, interrupt
from worker.view.alert_text import read_alert
from worker.wire.schema import Alert

_OBSERVE_EVERY_S: Final = 0.5
_OBSERVE_AT_THE_END: Final = 2
"""Observations after the last decision: its alert and its label become visible a moment later."""
_PATIENCE_S: Final = 3.0
_TEXT_COLUMNS: Final = 88
_KAFKA_WITHIN_S: Final = 10.0


class _Startable(Protocol):
    def start(self) -> None: ...

    def close(self) -> None: ...


class _Watched(Protocol):
    def check(self) -> None:
        """Raise if it has ended."""
        ...


_Part = TypeVar("_Part", bound=_Startable)


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """The options of the command.

    Attributes
    ----------
    duration_s
        The duration of the stream, without the start.
    bootstrap
        The Kafka to use; None starts one and stops it at the end.
    keep_topics
        Whether the topics stay in that Kafka.
    picture
        File for the page as an SVG; None for no picture.
    """

    duration_s: float
    bootstrap: str | None = None
    keep_topics: bool = False
    picture: Path | None = None


def run_demo(options: DemoOptions, console: Console) -> int:
    """Run the demo until its duration is over or a signal interrupts it; return the exit code.

    Raises
    ------
    WorkerError
        Kafka or the worker did not start, or failed; or the picture cannot be written.
    """
    if options.picture is not None:
        require_writable(f"--picture = {str(options.picture)!r}", options.picture)
    # A signal interrupts the run alone: cleaning up is never interrupted.
    with _quiet(), handled_by(ignore), ExitStack() as started:
        session = DemoSession(options, display_for(console), started)
        try:
            with session.display, handled_by(interrupt):
                session.run()
        except KeyboardInterrupt:
            session.notes.append("Interrupted.")
        except WorkerError:
            # Cleaning up adds notes on what it could not remove; they come before the error.
            started.close()
            _print_notes(console, session.notes)
            raise
        for paragraph in summary_paragraphs(session.last):
            wrapped = textwrap.fill(paragraph, min(console.width, _TEXT_COLUMNS))
            console.print(wrapped, markup=False, soft_wrap=True, end="\n\n")
        started.close()
        session.save_picture()
        _print_notes(
            console, [*session.notes, "Everything that was started has been stopped; its files are gone."]
        )
    return 0


@contextmanager
def _quiet() -> Iterator[None]:
    """Disable logging for a time: failures are raised, and other messages would spoil the page."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _print_notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        console.print(note, markup=False, soft_wrap=True)


@dataclass(slots=True)
class DemoSession:
    """One run of the demo.

    Attributes
    ----------
    options, display
        The options of the command, and where the run is shown.
    started
        Stops and removes everything that was started, the last first.
    notes
        Texts to print at the end.
    watched
        Parts that must not end before the stream.
    last, flowing
        The last figures, and the last ones while the stream was being sent.
    """

    options: DemoOptions
    display: Display
    started: ExitStack
    notes: list[str] = field(default_factory=list)
    watched: list[_Watched] = field(default_factory=list)
    last: Figures | None = None
    flowing: Figures | None = None

    def run(self) -> None:
        """Start everything, and watch it until the stream or the duration ends."""
        duration_s = self.options.duration_s
        simulator = BackgroundCall("simulator", lambda stopping: simulated_stream(demo_traffic(duration_s)))  # noqa: ARG005
        # A signal between the two lines would leave the folder behind.
        with held_back():
            folder = Path(tempfile.mkdtemp(prefix="fraud-worker-demo-"))
            self.started.callback(shutil.rmtree, folder, ignore_errors=True)
        compiling = self._start(Program(folder, "-m", "worker.warm"))
        values = setting_values(self.options.bootstrap or self._start_kafka(), folder, duration_s)
        settings = demo_settings(values)
        self._make_topics(settings)
        alerts: SimpleQueue[Alert] = SimpleQueue()
        self._background("alerts", lambda stopping: _collect_alerts(settings, alerts, stopping))
        stream = simulator.result()
        self.display.show_stage(
            "Compiling the worker's loops: seconds, but half a minute or more the first time"
        )
        compiling.wait()
        self.display.show_stage("Starting the worker")
        worker = self._start(WorkerProcess(values, folder))
        worker.wait_until_ready()
        self.watched.append(worker)
        speed = stream_speed(duration_s)
        feeder = self._background("feeder", lambda stopping: send_stream(settings, stream, speed, stopping))
        self._watch(worker, Watcher(stream, settings, duration_s, speed), alerts, feeder)

    def save_picture(self) -> None:
        """Save the page as it was before the stream ended, if the user wants a picture and there are figures."""
        figures = self.flowing or self.last
        if self.options.picture is not None and figures is not None:
            save_picture(figures, self.options.picture)
            self.notes.append(f"The page as it was near the end: {self.options.picture}")

    def _start_kafka(self) -> str:
        first_time = "Fetching Apache Kafka with Maven (44 MB, only this first time) and starting it"
        self.display.show_stage("Starting Apache Kafka" if are_fetched() else first_time)
        kafka = self._start(OwnKafka())
        self.watched.append(kafka)
        return kafka.bootstrap

    def _start(self, part: _Part) -> _Part:
        """Start a part; it is closed at the end even if its start fails."""
        self.started.callback(part.close)
        part.start()
        return part

    def _make_topics(self, settings: Settings) -> None:
        self.display.show_stage(
            f"Making the topics {settings.kafka.group}.* in Kafka at {settings.kafka.bootstrap}"
        )
        if self.options.bootstrap is not None:
            wait_for_brokers(settings, _KAFKA_WITHIN_S)
            self.started.callback(self._leave, settings)
        topic_setup.create(settings, PARTITIONS, stamped_by_broker=True)

    def _leave(self, settings: Settings) -> None:
        """Delete the topics and the group from a Kafka that stays, or note that they stay."""
        names = f"the topics {settings.kafka.group}.* and the consumer group of that name"
        where = f"Kafka at {settings.kafka.bootstrap}"
        if self.options.keep_topics:
            self.notes.append(f"Kept in {where}: {names}.")
            return
        try:
            remove_from_kafka(settings)
        except WorkerError as error:
            self.notes.append(f"Not deleted from {where}; delete them by hand: {names} ({error}).")
        else:
            self.notes.append(f"Deleted from {where}: {names}.")

    def _background(self, name: str, call: Callable[[Event], None]) -> BackgroundCall[None]:
        thread = BackgroundCall(name, call)
        self.started.callback(thread.stop, _PATIENCE_S)
        self.watched.append(thread)
        return thread

    def _watch(
        self,
        worker: WorkerProcess,
        watcher: Watcher,
        alerts: SimpleQueue[Alert],
        feeder: BackgroundCall[None],
    ) -> None:
        began_s, observed_at_the_end = time.monotonic(), 0
        while observed_at_the_end < _OBSERVE_AT_THE_END:
            for part in self.watched:
                part.check()
            at_s, fresh = time.monotonic() - began_s, _drain(alerts)
            self.last = watcher.observe(worker.samples(), fresh, at_s)
            if feeder.is_running:
                self.flowing = self.last
            self.display.show_figures(self.last, fresh)
            if at_s >= self.options.duration_s:
                return
            observed_at_the_end += self.last.is_wholly_decided
            time.sleep(_OBSERVE_EVERY_S)


def _collect_alerts(settings: Settings, into: SimpleQueue[Alert], stopping: Event) -> None:
    with open_topic(settings, settings.topics.alerts) as reader:
        for record in reader.following():
            if stopping.is_set():
                return
            alert = None if record is None else read_alert(record.value)
            if isinstance(alert, Alert):
                into.put(alert)


def _drain(queue: SimpleQueue[Alert]) -> list[Alert]:
    found = []
    while True:
        try:
            found.append(queue.get_nowait())
        except Empty:
            return found
