"""Reads the model log: every worker folds all of it, in offset order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from kafka import KafkaConsumer
from kafka.structs import TopicPartition

from models.state import DigestMismatchError, LineageMismatchError, ModelState
from worker.errors import CorruptError, IncompatibleError, UnreachableError
from worker.partition.codec import ModelLogDecoder

_POLL_MS: Final = 20
_STALLED_S: Final = 60.0


class KafkaModelLog:
    """The committed records of the model log, from its beginning.

    Parameters
    ----------
    config
        Keyword arguments of `kafka.KafkaConsumer`, without a group.
    topic
        Name of the model log, which has one partition.
    """

    def __init__(self, config: Mapping[str, Any], topic: str) -> None:
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
            The log belongs to another lineage.
        CorruptError
            A record does not decode, or two workers' states differ.
        """
        try:
            for record in self._consumer.poll(timeout_ms=timeout_ms).get(self._tp, []):
                decoded = self._decoder.decode(record.value, record.headers)
                if decoded is not None:
                    model.fold(record.offset, decoded)
        except LineageMismatchError as error:
            raise IncompatibleError(
                f"the model log was written under other settings ({error}): restore those settings, or begin a new "
                "lineage by naming a new kafka.group, topics.model_log and topics.decisions"
            ) from None
        except DigestMismatchError as error:
            raise CorruptError(
                f"two workers' model states differ: {error}; run all workers from one image"
            ) from None

    def catch_up(self, model: ModelState, alive: Callable[[], None] = lambda: None) -> None:
        """Fold everything committed so far; call `alive` now and then, whose exception ends it.

        Raises
        ------
        UnreachableError
            The log cannot be read to its end.
        """
        end = self._consumer.end_offsets([self._tp])[self._tp]
        self.fold_until(lambda: (self._consumer.position(self._tp) or 0) >= end, model, alive)

    def fold_until(
        self, reached: Callable[[], bool], model: ModelState, alive: Callable[[], None] = lambda: None
    ) -> None:
        """Fold until `reached` is true; call `alive` now and then, whose exception ends it.

        Raises
        ------
        UnreachableError
            No record comes for a minute.
        """
        deadline_s = time.monotonic() + _STALLED_S
        while not reached():
            if time.monotonic() > deadline_s:
                raise UnreachableError(
                    f"model log: nothing after offset {model.offset} for {_STALLED_S:.0f} s; is a transaction open?"
                )
            alive()
            before = model.offset
            self.fold_into(model, _POLL_MS)
            if model.offset > before:
                deadline_s = time.monotonic() + _STALLED_S

    def close(self) -> None:
        """Close the consumer."""
        self._consumer.close()
