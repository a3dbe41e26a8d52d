"""Builds a worker from its settings and runs it."""

from __future__ import annotations

import logging
import shutil
import signal
import threading
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import FrameType

from kafka.structs import TopicPartition

from models.records import ModelRecord
from models.state import ModelState
from worker.cycle.processor import Processor
from worker.cycle.refits import Background, Refits
from worker.errors import CorruptError, FencedError, IncompatibleError
from worker.identity import Hasher
from worker.kafka_io import topic_setup
from worker.kafka_io.client import consumer_config, kafka_errors_explained, producer_config, wait_for_brokers
from worker.kafka_io.committer import Committer
from worker.kafka_io.consumer import ColumnarConsumer
from worker.live.guard import InputGuard
from worker.live.model_log import KafkaModelLog
from worker.live.observer import MetricsObserver
from worker.live.publisher import ORPHAN, SETTLE_STAGE, Publisher
from worker.live.restore import Offsets, Restorer
from worker.live.source import KafkaSource
from worker.memory import keep_freed_memory
from worker.parameters import feature_spec, new_model, policy, refit_plan, task_limits
from worker.partition.task import PartitionTask, TaskState
from worker.settings.sections import Settings
from worker.signals import handled_by
from worker.telemetry.health import HealthServer, WorkerStatus
from worker.telemetry.metrics import Metrics
from worker.wire.decoder import Decoder
from worker.wire.schema import Reason

log = logging.getLogger(__name__)
START_TIMEOUT_S = 300.0


class _Stopped(Exception):  # noqa: N818 - no error
    """The worker was asked to end while it was waiting or restoring."""


class Worker:
    """One worker process, from its first look at Kafka to its end.

    Parameters
    ----------
    settings
        Everything it is told.

    Raises
    ------
    WorkerError
        It cannot start; the message says what to do.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._status = WorkerStatus()
        self._tasks: dict[int, PartitionTask] = {}
        self._metrics = Metrics(
            version=version("fraud-worker"),
            poll_age_s=lambda: self._status.snapshot().age_s,
            dead_letter_reasons={"decode": [reason.value for reason in Reason], SETTLE_STAGE: [ORPHAN]},
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
        """Where /metrics, /healthz and /readyz are served."""
        return self._health.port

    def stop(self) -> None:
        """Ask it to end after the cycle it is in; safe from any thread."""
        self._stopping.set()

    def run(self) -> None:
        """Serve until `stop`.

        Raises
        ------
        WorkerError
            Nothing uncommitted is lost by it: the next start goes on from the last commit.
        """
        settings = self._settings
        self._health.start()
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
            self._health.stop()
            for task in self._tasks.values():
                task.move_to(TaskState.CLOSED)

    def _alive(self) -> None:
        """Called wherever it may take long until there is something to decide."""
        self._status.beat()
        if self._stopping.is_set():
            raise _Stopped

    def _serve(self, partitions: int) -> None:
        settings = self._settings
        committer = Committer(producer_config(settings), settings.kafka.commit_deadline_s)
        # Whoever ran under this id cannot commit any more; what it has left behind, if it was killed, is of no use.
        shutil.rmtree(_state_folder(settings), ignore_errors=True)
        model_log = KafkaModelLog(consumer_config(settings, group=False), settings.topics.model_log)
        model = new_model(settings)
        self._status.not_ready("reading the model log")
        model_log.catch_up(model, self._alive)
        consumer = ColumnarConsumer(consumer_config(settings, group=True), columnar=settings.kafka.columnar)
        rebalance = _Rebalance(
            settings, consumer, self._tasks, model, model_log, partitions, self._status, self._alive
        )
        guard = InputGuard(partitions, settings.kafka.partitioner, settings.batch)
        source = KafkaSource(
            consumer,
            Decoder(settings),
            settings.topics,
            settings.batch,
            guard,
            rebalance,
            settings.kafka.start_from,
        )
        publisher = Publisher(settings, committer, self._tasks, partitions, lambda: source.group_metadata)
        if opening := _opening(model, settings):
            before = model.policy_offset
            publisher.open_log(opening)
            # Nothing is decided under costs that are no longer the settings'.
            model_log.fold_until(lambda: model.policy_offset > before, model, self._alive)
        processor = Processor(
            settings.worker.id,
            source,
            publisher,
            model_log,
            model,
            self._tasks,
            Refits(refit_plan(settings), Background()),
            MetricsObserver(
                self._metrics,
                model,
                self._tasks,
                source,
                (settings.topics.transactions, settings.topics.labels),
            ),
        )
        while not self._stopping.is_set():
            processor.run_once()
            self._status.beat()
        consumer.close()
        model_log.close()
        committer.close()


class _Rebalance:
    """Closes the tasks of partitions lost and restores those gained."""

    def __init__(
        self,
        settings: Settings,
        consumer: ColumnarConsumer,
        tasks: dict[int, PartitionTask],
        model: ModelState,
        model_log: KafkaModelLog,
        partitions: int,
        status: WorkerStatus,
        alive: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._tasks = tasks
        self._partitions = partitions
        self._status = status
        self._restorer = Restorer(
            consumer_config(settings, group=False),
            settings.topics.decisions,
            Hasher(settings.hash_key),
            model.lineage.id,
            partial(_folded, model, model_log, alive),
            alive,
        )

    def __call__(self, lost: set[int], gained: set[int]) -> Mapping[int, Offsets | None]:
        """Carry the rebalance out; where each owned partition goes on."""
        for partition in lost:
            self._tasks.pop(partition).move_to(TaskState.CLOSED)
        positions = {partition: self._committed(partition) for partition in self._tasks}
        for partition in sorted(gained):
            positions[partition] = self._restore(partition)
        if self._tasks:
            self._status.ready()
        else:
            self._status.not_ready("no partition is assigned: more workers than partitions?")
        log.info("partitions %s", sorted(self._tasks), extra={"lost": sorted(lost), "gained": sorted(gained)})
        return positions

    def _restore(self, partition: int) -> Offsets | None:
        settings = self._settings
        self._status.not_ready(f"restoring partition {partition}")
        folder = _state_folder(settings) / str(partition)
        task = PartitionTask(partition, feature_spec(settings), task_limits(settings), folder)
        committed = self._committed(partition)
        try:
            at = self._restorer.restore(task, committed, partitions=self._partitions)
        except (CorruptError, IncompatibleError) as error:
            if self._committed(partition) == committed:
                raise
            raise FencedError(
                f"partition {partition}: another worker has committed while it was restored; it owns the partition now"
            ) from error
        self._tasks[partition] = task
        return at

    def _committed(self, partition: int) -> Offsets | None:
        names = self._settings.topics
        transactions, labels = (
            self._consumer.committed(TopicPartition(topic, partition))
            for topic in (names.transactions, names.labels)
        )
        if transactions is None or labels is None:
            return None
        return transactions, labels


def run(settings: Settings) -> int:
    """Run a worker until SIGTERM, SIGINT or SIGHUP; the exit code.

    Raises
    ------
    WorkerError
        It cannot go on; the process should end with the error's exit code.
    """
    keep_freed_memory()
    worker = Worker(settings)

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        log.info("%s: ending after this cycle", signal.Signals(number).name)
        worker.stop()

    with handled_by(stop):
        worker.run()
    return 0


def _folded(model: ModelState, model_log: KafkaModelLog, alive: Callable[[], None]) -> int:
    model_log.catch_up(model, alive)
    return model.offset


def _state_folder(settings: Settings) -> Path:
    return settings.worker.state_dir / settings.worker.id


def _opening(model: ModelState, settings: Settings) -> list[ModelRecord]:
    """What the log does not say yet: the lineage of a new log, and settings that have changed."""
    records: list[ModelRecord] = []
    if not model.has_lineage:
        records.append(model.lineage)
    if model.policy_offset < 0 or model.policy != policy(settings):
        records.append(policy(settings))
    return records
