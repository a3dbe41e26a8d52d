"""The group's rebalances: which tasks a worker closes and restores when its partitions change.

Kafka's range assignor gives a worker the same partitions of both topics. `worker.live.source` notices that the group
has assigned partitions anew and calls this between two cycles, when nothing is uncommitted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial

from kafka.structs import TopicPartition

from models.state import ModelState
from worker.cycle.contracts import Standing
from worker.errors import CorruptError, FencedError, IncompatibleError
from worker.identity import Hasher
from worker.kafka_io.client import consumer_config
from worker.kafka_io.consumer import ColumnarConsumer
from worker.kafka_io.open_transactions import patience_s
from worker.live.model_log import KafkaModelLog
from worker.live.restore import Restorer
from worker.live.same_topic import TopicCheck
from worker.live.state_folder import StateFolder
from worker.parameters import feature_spec, task_limits
from worker.partition.journal import Positions
from worker.partition.task import PartitionTask, TaskState
from worker.settings.sections import Settings
from worker.telemetry.health import WorkerStatus

log = logging.getLogger(__name__)


class Rebalance:
    """Closes the tasks of lost partitions and restores gained ones; see `worker.cycle.contracts.TakeOver`.

    Parameters
    ----------
    settings
        Topics, and bounds of the tasks.
    consumer
        Knows the committed offsets of the group.
    tasks
        By partition; changed here alone.
    model, model_log
        A restore folds the log as far as the journal has seen it.
    partitions
        How many partitions the topics have.
    folder
        Where the tasks keep their waiting decisions.
    status
        Says what the worker waits for.
    alive
        Called now and then during a restore; an exception of it ends the restore.
    """

    def __init__(  # noqa: PLR0913 - all that a restore needs
        self,
        settings: Settings,
        consumer: ColumnarConsumer,
        tasks: dict[int, PartitionTask],
        model: ModelState,
        model_log: KafkaModelLog,
        partitions: int,
        folder: StateFolder,
        status: WorkerStatus,
        alive: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._consumer = consumer
        self._tasks = tasks
        self._partitions = partitions
        self._folder = folder
        self._status = status
        self._alive = alive
        self._restorer = Restorer(
            consumer_config(settings, group=False),
            settings.topics.decisions,
            Hasher(settings.hash_key),
            model.lineage.id,
            partial(_fold_log, model, model_log, alive),
            alive,
            lambda record: model_log.stray("decisions", record),
            TopicCheck(settings, alive),
            patience_s(settings),
        )

    def __call__(self, lost: set[int], gained: set[int]) -> Mapping[int, Standing]:
        """Carry the rebalance out; return how each owned partition stands."""
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
        return {
            partition: Standing(at, self._tasks[partition].clock_ms) for partition, at in positions.items()
        }

    def _restore(self, partition: int) -> Positions | None:
        settings = self._settings
        self._status.not_ready(f"restoring partition {partition}")
        folder = self._folder.of_partition(partition)
        task = PartitionTask(partition, feature_spec(settings), task_limits(settings), folder)
        committed = self._committed(partition)
        try:
            at = self._restorer.restore(
                task, committed, partitions=self._partitions, ends=self._ends(partition)
            )
        except (CorruptError, IncompatibleError) as error:
            if self._committed(partition) == committed:
                raise
            raise FencedError(
                f"partition {partition}: another worker has committed during the restore; it owns the partition now"
            ) from error
        self._tasks[partition] = task
        return at

    def _ends(self, partition: int) -> Positions:
        """Return the offsets after the newest committed records of both topics."""
        names = self._settings.topics
        tps = [TopicPartition(topic, partition) for topic in (names.transactions, names.labels)]
        found = self._consumer.end_offsets(tps)
        return Positions(*(found[tp] for tp in tps))

    def _committed(self, partition: int) -> Positions | None:
        names = self._settings.topics
        transactions, labels = (
            self._consumer.committed(
                TopicPartition(topic, partition), self._alive, patience_s(self._settings)
            )
            for topic in (names.transactions, names.labels)
        )
        if transactions is None or labels is None:
            return None
        return Positions(transactions, labels)


def _fold_log(model: ModelState, model_log: KafkaModelLog, alive: Callable[[], None]) -> int:
    model_log.catch_up(model, alive)
    return model.offset
