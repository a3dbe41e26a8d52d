"""Builds a worker from its settings and runs it."""

from __future__ import annotations

import faulthandler
import logging
import signal
import threading
from importlib import import_module
from importlib.metadata import version
from types import FrameType

from models.records import ModelRecord
from models.state import ModelState
from worker.cycle.processor import Processor
from worker.cycle.refits import BackgroundJobs, Refits
from worker.kafka_io import topic_setup
from worker.kafka_io.client import (
    consumer_config,
    kafka_errors_explained,
    producer_config,
    transactional_id_of,
    wait_for_brokers,
)
from worker.kafka_io.committer import Committer
from worker.kafka_io.consumer import ColumnarConsumer
from worker.kafka_io.open_transactions import patience_s
from worker.live.conditions import CutOff, OtherSettings, Standstill
from worker.live.guard import InputGuard
from worker.live.model_log import KafkaModelLog
from worker.live.observer import MetricsObserver
from worker.live.publisher import Publisher
from worker.live.rebalance import Rebalance
from worker.live.source import KafkaSource
from worker.live.state_folder import StateFolder, log_left_folders
from worker.live.unused_labels import SETTLE_STAGE, UNUSED
from worker.memory import keep_freed_memory
from worker.parameters import by_setting, lineage, new_model, policy, refit_plan
from worker.partition.segment_files import raise_open_files
from worker.partition.task import PartitionTask, TaskState
from worker.settings.report import changed
from worker.settings.sections import Settings
from worker.signals import handled_by
from worker.telemetry.health import HealthServer, WorkerStatus
from worker.telemetry.metrics import Metrics
from worker.wire.decoder import Decoder
from worker.wire.schema import DECODE_STAGE, Reason

log = logging.getLogger(__name__)
START_TIMEOUT_S = 300.0
_IMPORT_LATE_AFTER_S = 30.0
_LATE = ("sklearn.ensemble", "river.drift")
"""What the first forest and the first test of drift need: importing it takes a second or two, which a start saves."""


class _Stopped(Exception):  # noqa: N818 - no error
    """Ends a wait or a restore when the worker is asked to stop."""


class Worker:
    """One worker process, from its first look at Kafka to its end.

    Parameters
    ----------
    settings
        All settings.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._status = WorkerStatus()
        self._tasks: dict[int, PartitionTask] = {}
        self._metrics = Metrics(
            version=version("fraud-worker"),
            status=self._status.snapshot,
            dead_letter_reasons={
                DECODE_STAGE: [reason.value for reason in Reason],
                SETTLE_STAGE: list(UNUSED),
            },
        )
        self._health = HealthServer(
            settings.health.host,
            settings.health.port,
            status=self._status,
            render=self._metrics.render,
            stalled_after_s=settings.health.stalled_after_s,
        )

    @property
    def health_port(self) -> int:
        """The port of /metrics, /healthz and /readyz."""
        return self._health.port

    def stop(self) -> None:
        """Ask the worker to end after the current cycle; safe from any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Serve until `stop`.

        Raises
        ------
        WorkerError
            The next start goes on from the last commit; nothing committed is lost.
        """
        settings = self._settings
        log.info(
            "fraud-worker %s starts as %s in kafka.group = %s; lineage %s",
            version("fraud-worker"),
            settings.worker.id,
            settings.kafka.group,
            lineage(settings).id,
            extra={
                "version": version("fraud-worker"),
                "worker": settings.worker.id,
                "group": settings.kafka.group,
                "lineage": lineage(settings).id,
                "changed_settings": changed(settings),
            },
        )
        self._health.start()
        late = _import_late()
        log.info(
            "/metrics, /healthz and /readyz are served at http://%s:%d",
            settings.health.host,
            self.health_port,
        )
        try:
            self._status.not_ready(f"waiting for Kafka at {settings.kafka.bootstrap}")
            wait_for_brokers(settings, START_TIMEOUT_S, self._alive)
            with kafka_errors_explained(settings):
                self._serve(topic_setup.check(settings))
        except _Stopped:
            log.info("ended before it was ready")
        finally:
            late.cancel()
            self._health.stop()
            self._close_tasks()

    def _close_tasks(self) -> None:
        """Close the tasks, which delete their files; a second call has no effect."""
        while self._tasks:
            self._tasks.popitem()[1].move_to(TaskState.CLOSED)

    def _alive(self) -> None:
        """Show that the worker lives, during anything that may take long before it decides."""
        self._status.beat()
        if self._stopping.is_set():
            raise _Stopped

    def _serve(self, partitions: int) -> None:
        settings = self._settings
        # Locked before the producer is there: a process that is refused must not fence the one that works.
        self._status.not_ready("waiting for the lock of its state folder")
        folder = StateFolder(settings, self._alive)
        folder.clear()
        log_left_folders(settings.worker)
        config = producer_config(settings, transactional_id_of(settings))
        committer = Committer(config, settings.kafka.commit_deadline_s)
        model_log = KafkaModelLog(
            consumer_config(settings, group=False),
            settings.topics.model_log,
            settings.worker.id,
            self._metrics,
            patience_s(settings),
        )
        model = new_model(settings)
        self._status.not_ready("reading the model log")
        model_log.catch_up(model, self._alive)
        consumer = ColumnarConsumer(consumer_config(settings, group=True), columnar=settings.kafka.columnar)
        rebalance = Rebalance(
            settings, consumer, self._tasks, model, model_log, partitions, folder, self._status, self._alive
        )
        source = self._source(consumer, rebalance, partitions)
        publisher = Publisher(settings, committer, self._tasks, partitions, lambda: source.group_metadata)
        self._open_log(model, model_log, publisher)
        processor = Processor(
            settings.worker.id,
            source,
            publisher,
            model_log,
            model,
            self._tasks,
            Refits(refit_plan(settings), BackgroundJobs(), self._metrics.refitted),
            MetricsObserver(self._metrics, model, self._tasks, source, settings.topics),
        )
        standstill, cut_off = Standstill(self._status), CutOff(self._status)
        other_settings = OtherSettings(settings, self._metrics.policy_differs)
        while not self._stopping.is_set():
            processor.run_once()
            self._status.beat()
            standstill.observe(stands=source.stands_still)
            cut_off.observe(is_cut_off=source.is_cut_off)
            other_settings.observe(model.policy)
        consumer.close()
        model_log.close()
        committer.close()
        # Before the lock is given back: a successor that waits for it makes files of the same names at once.
        self._close_tasks()
        folder.close()

    def _source(self, consumer: ColumnarConsumer, rebalance: Rebalance, partitions: int) -> KafkaSource:
        """Return what the cycle reads transactions and labels from."""
        settings = self._settings
        guard = InputGuard(
            partitions,
            settings.kafka.partitioner,
            settings.batch,
            stops=settings.kafka.misplaced == "stop",
        )
        return KafkaSource(
            consumer,
            Decoder(settings),
            settings.topics,
            settings.batch,
            guard,
            rebalance,
            settings.kafka.start_from,
        )

    def _open_log(self, model: ModelState, model_log: KafkaModelLog, publisher: Publisher) -> None:
        """Write what the log lacks of lineage and policy.

        No batch is decided under costs that are no longer the settings'.
        """
        opening = _opening(model, self._settings)
        if not opening:
            return
        _log_policy(model, self._settings)
        before = model.policy_offset
        publisher.open_log(opening)
        model_log.fold_until(lambda: model.policy_offset > before, model, self._alive)


def run(settings: Settings) -> int:
    """Run a worker until SIGTERM, SIGINT or SIGHUP; return the exit code.

    Raises
    ------
    WorkerError
        The worker cannot go on; the process ends with the exit code of the error.
    """
    keep_freed_memory()
    raise_open_files()
    # A segment truncated under the worker kills it (SIGBUS): without this, without a word.
    faulthandler.enable()
    worker = Worker(settings)

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        log.info("%s: ending after this cycle", signal.Signals(number).name)
        worker.stop()

    with handled_by(stop):
        worker.run()
    return 0


def _import_late() -> threading.Timer:
    """Import in a thread of its own, once the start is over, what would otherwise hold up a cycle when it is needed."""
    late = threading.Timer(_IMPORT_LATE_AFTER_S, lambda: [import_module(name) for name in _LATE])
    late.daemon = True
    late.start()
    return late


def _opening(model: ModelState, settings: Settings) -> list[ModelRecord]:
    """Return what the log lacks: the lineage of a new log, and a policy of changed settings."""
    records: list[ModelRecord] = []
    if not model.has_lineage:
        records.append(model.lineage)
    if model.policy_offset < 0 or model.policy != policy(settings):
        records.append(policy(settings))
    return records


def _log_policy(model: ModelState, settings: Settings) -> None:
    """Log which values of the log's policy the settings change."""
    if model.policy_offset < 0:
        log.info("the model log is new: it begins with this lineage and policy")
        return
    before, now = by_setting(model.policy), by_setting(policy(settings))
    differing = [f"{name}: {before[name]} -> {now[name]}" for name in now if before[name] != now[name]]
    log.info("the settings change the policy in force: %s", "; ".join(differing))
