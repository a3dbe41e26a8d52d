"""Reads the model log: every worker folds all of it, in offset order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from models.digest import DigestMismatch
from models.state import LineageMismatchError, ModelState
from models.vocabulary import MS_PER_DAY
from worker.errors import CorruptError, IncompatibleError
from worker.kafka_io.open_transactions import STALLED_S
from worker.kafka_io.patience import Patience
from worker.partition.record_layouts import ModelLogDecoder, kind_of

log = logging.getLogger(__name__)
_POLL_MS: Final = 20


class Troubles(Protocol):
    """Counts what is wrong with the logs: `worker.telemetry.metrics.Metrics`."""

    def digest_differed(self) -> None:
        """Count a digest of another worker that differs from ours."""

    def stray_record(self, log: str, /) -> None:
        """Count a record of a log that no worker wrote."""


class KafkaModelLog:
    """The committed records of the model log, from its beginning.

    Parameters
    ----------
    config
        Keyword arguments of `kafka.KafkaConsumer`, without a group.
    topic
        Name of the model log, which has one partition.
    worker_id
        A digest that this worker published itself must be confirmed by its own fold.
    troubles
        Counts strays and mismatches; None counts nothing.
    stalled_s
        After so long without a record, reading up to an offset is given up.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        topic: str,
        worker_id: str = "",
        troubles: Troubles | None = None,
        stalled_s: float = STALLED_S,
    ) -> None:
        self._stalled_s = stalled_s
        self._worker_id = worker_id
        self._troubles = troubles
        self._is_live = False
        self._tp = TopicPartition(topic, 0)
        self._consumer = KafkaConsumer(**config)
        self._consumer.assign([self._tp])
        self._consumer.seek_to_beginning(self._tp)
        self._decoder = ModelLogDecoder()

    def fold_into(self, model: ModelState, timeout_ms: int = 0) -> None:
        """Fold the records that are visible and not folded yet.

        Raises
        ------
        IncompatibleError
            The log belongs to another lineage, or its beginning was deleted.
        CorruptError
            A record does not decode, or this worker's state contradicts a digest that it published itself.
        """
        try:
            for record in self._consumer.poll(timeout_ms=timeout_ms).get(self._tp, []):
                self._fold(record, model)
        except LineageMismatchError as error:
            raise IncompatibleError(
                f"the model log was written under other settings ({error}): restore those settings (a fold_version is "
                "of a release: run the one that wrote the log), or begin a new lineage by naming a new kafka.group, "
                "topics.model_log and topics.decisions"
            ) from None

    def _fold(self, record: Any, model: ModelState) -> None:
        kind = kind_of(record.headers)
        if kind is None:
            self.stray("model_log", record)
            return
        if not model.has_lineage and kind != "lineage":
            raise self._headless(f"its first record, at offset {record.offset}, is of kind {kind!r}")
        decoded = self._decoder.decode(record.value, record.headers)
        if decoded is not None:
            model.fold(record.offset, decoded)
        for mismatch in model.digests.mismatches:
            self._judge(mismatch, record)
        model.digests.mismatches.clear()

    def _judge(self, mismatch: DigestMismatch, record: Any) -> None:
        """Report a digest that differs from ours; end the process if it is our own.

        One faulty machine must not stop all others at every start: they count and alarm. A worker that contradicts
        itself is the faulty one. While it catches up, the digest may be one of its id from another machine.
        """
        said = (
            f"model-log offset {mismatch.offset}: worker {mismatch.worker} published the digest "
            f"{mismatch.theirs[:16]}, ours is {mismatch.ours[:16]}"
        )
        if self._is_live and mismatch.worker == self._worker_id:
            raise CorruptError(
                f"{said}: this machine folds one log to two states. Test its memory; replace it"
            )
        log.error("%s: one of the two folds wrongly; run all workers from one image, and test memory", said)
        if self._troubles is not None and _is_news(record):
            self._troubles.digest_differed()

    def stray(self, name: str, record: Any) -> None:
        """Report a record of `model_log` or `decisions` that no worker wrote, and count one of the last day.

        Every worker skips it alike.
        """
        log.warning(
            "%s-%d, offset %d: a record that no worker wrote is skipped; only workers may write to this topic",
            record.topic, record.partition, record.offset,
        )  # fmt: skip
        if self._troubles is not None and _is_news(record):
            self._troubles.stray_record(name)

    def _headless(self, found: str) -> IncompatibleError:
        return IncompatibleError(
            f"the beginning of the model log ({self._tp.topic}) was deleted: {found}, where the lineage was due. What "
            "it held is nowhere else: restore the topic from a copy and see that nothing deletes its records "
            "(retention.ms = -1), or begin anew with new topics.model_log, topics.decisions and kafka.group"
        )

    def catch_up(self, model: ModelState, alive: Callable[[], None] = lambda: None) -> None:
        """Fold everything committed so far; call `alive` now and then, whose exception ends it.

        Raises
        ------
        UnreachableError
            The log cannot be read to its end.
        IncompatibleError
            Its beginning was deleted.
        """
        end = self._consumer.end_offsets([self._tp])[self._tp]
        self._is_live = False
        self.fold_until(lambda: (self._consumer.position(self._tp) or 0) >= end, model, alive)
        self._is_live = True
        if not model.has_lineage and (begin := self._consumer.beginning_offsets([self._tp])[self._tp]) > 0:
            raise self._headless(f"it begins at offset {begin} and holds no record")

    def fold_until(
        self, reached: Callable[[], bool], model: ModelState, alive: Callable[[], None] = lambda: None
    ) -> None:
        """Fold until `reached` is true; call `alive` now and then, whose exception ends it.

        Raises
        ------
        UnreachableError
            No record comes for too long.
        """
        patience = Patience(
            self._stalled_s, lambda: log.info("reading the model log: offset %d folded", model.offset)
        )
        while not reached():
            patience.wait(f"model log: nothing after offset {model.offset}")
            alive()
            before = model.offset
            self.fold_into(model, _POLL_MS)
            if model.offset > before:
                patience.progressed()

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()


def _is_news(record: Any) -> bool:
    """Return whether a record is of the last day.

    Both logs are kept for ever and read at every start: older troubles would raise an alarm at each of them.
    """
    return bool(time.time() * 1000 - record.timestamp < MS_PER_DAY)
