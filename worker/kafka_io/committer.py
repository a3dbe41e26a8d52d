"""One Kafka transaction a commit: the owner of the transactional id and of the open transaction.

::

    commit(plan)
      0. encode everything, before the transaction's time runs
      1. begin
      2. send the journal, the model log, alerts and dead letters, and check every send
      3. send the input offsets of every owned partition: Kafka refuses them from a worker that has lost one
      4. commit

Any failure on the way leaves the outcome unknown or the producer unusable: in kafka-python an aborted transaction leaks
its offsets into the next one. So there is no retry. The process ends, and its successor reads in the journal what was
committed. The calls run under a deadline, because kafka-python's transaction calls have no time-out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from kafka import ConsumerGroupMetadata, KafkaProducer
from kafka import errors as kafka_errors
from kafka.structs import OffsetAndMetadata, TopicPartition

from worker.errors import FencedError, IncompatibleError, IndefiniteError, UnreachableError, WorkerError
from worker.kafka_io.client import FENCED
from worker.kafka_io.producer_logger import keep_producer_logger

Finish = Callable[[], None]


_UNTIL_SOMEBODY_ACTS: Final = (kafka_errors.AuthorizationError, kafka_errors.InvalidTransactionTimeoutError)
_TOO_LARGE: Final = (kafka_errors.MessageSizeTooLargeError, kafka_errors.RecordListTooLargeError)


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One record to send."""

    topic: str
    value: bytes
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes]] = ()


@dataclass(slots=True)
class KafkaTransaction:
    """What one Kafka transaction holds.

    Attributes
    ----------
    records
        In the order of their partitions. The thread that sends them iterates over them, once, before the transaction
        begins: so encoding overlaps with the caller's work.
    offsets
        Next offset to read of every owned input partition, also of those without news: Kafka checks the membership of
        the sender with them.
    """

    records: Iterable[Outgoing] = ()
    offsets: Mapping[TopicPartition, int] = field(default_factory=dict)


class _State(Enum):
    IDLE = auto()
    COMMITTING = auto()
    FAILED = auto()


class Committer:
    """Commits transactions; after any error neither it nor the process may go on.

    Parameters
    ----------
    config
        Keyword arguments of `kafka.KafkaProducer`, with a `transactional_id`.
    deadline_s
        How long a commit may take.

    Raises
    ------
    FencedError, UnreachableError
        Kafka did not grant the transactional id.
    KafkaError
        Kafka's own: the transactional id is forbidden, or `kafka.transaction_timeout_ms` is too long for it.
    """

    def __init__(self, config: Mapping[str, Any], deadline_s: float) -> None:
        self._id = config["transactional_id"]
        self._deadline_s = deadline_s
        self._state = _State.IDLE
        keep_producer_logger()
        self._producer = KafkaProducer(**config)
        self._ask_for_id()

    def commit(self, transaction: KafkaTransaction, group: ConsumerGroupMetadata | None) -> None:
        """Begin a commit and wait until it is visible; see `begin`."""
        self.begin(transaction, group)()

    def begin(self, transaction: KafkaTransaction, group: ConsumerGroupMetadata | None) -> Finish:
        """Begin a commit; the caller must finish it before the next poll.

        Parameters
        ----------
        transaction
            What to write.
        group
            The consumer's membership as of the poll that brought the input (KIP-447): kafka-python forgets it when the
            group throws the member out. None sends no offsets.

        Returns
        -------
        Finish
            Waits until the whole transaction is visible; raises the errors below.

        Raises
        ------
        FencedError
            Another process has the transactional id, or the group has given our partitions to another worker.
        IncompatibleError
            A topic takes no record as large. Nothing was committed.
        AuthorizationError
            Kafka's own: a topic, the group or the transactional id is forbidden. Nothing was committed.
        IndefiniteError
            Any other failure: it is unknown whether the transaction was committed.
        """
        return self._begin(lambda: self._commit(transaction, group))

    def close(self) -> None:
        """Close the producer; an open transaction is left to its time-out."""
        self._producer.close(timeout=5, null_logger=False)

    def _ask_for_id(self) -> None:
        """Have Kafka grant the transactional id; nothing was written yet, so no commit is in doubt."""
        try:
            self._begin(self._producer.init_transactions)()
        except IndefiniteError as error:
            raise UnreachableError(
                f"Kafka does not grant transactional id {self._id!r} ({_reason(error)}): `fraud-worker doctor` says "
                "what transactions lack"
            ) from error

    def _commit(self, transaction: KafkaTransaction, group: ConsumerGroupMetadata | None) -> None:
        producer = self._producer
        # Encoded while no transaction is open: its time-out must not depend on how much there is to encode.
        records = list(transaction.records)
        producer.begin_transaction()
        sent = self._send(records)
        # Before the offsets: no offset goes out for records that could not be written.
        producer.flush()
        for future in sent:
            # kafka-python may commit although a send has failed: a failed send raises here, before the commit.
            future.get(timeout=0)
        if group is not None:
            offsets = {tp: OffsetAndMetadata(offset, "", -1) for tp, offset in transaction.offsets.items()}
            producer.send_offsets_to_transaction(offsets, group)
        producer.commit_transaction()

    def _send(self, records: Iterable[Outgoing]) -> list[Any]:
        return [
            self._producer.send(
                record.topic,
                value=record.value,
                key=record.key,
                partition=record.partition,
                headers=list(record.headers),
            )
            for record in records
        ]

    def _begin(self, call: Callable[[], None]) -> Finish:
        """Run `call` in a thread that may be abandoned: kafka-python's transaction calls have no time-out."""
        if self._state is _State.FAILED:
            raise IndefiniteError("a commit has failed before: only a new process may go on")
        if self._state is _State.COMMITTING:
            raise IndefiniteError("the commit before is not finished: finish it before the next begins")
        self._state = _State.COMMITTING
        outcome: Future[None] = Future()
        threading.Thread(target=_run, args=(call, outcome), name="commit", daemon=True).start()
        return lambda: self._finish(outcome)

    def _finish(self, outcome: Future[None]) -> None:
        self._state = _State.FAILED  # unless nothing below raises
        try:
            outcome.result(self._deadline_s)
        except TimeoutError:
            raise IndefiniteError(
                f"no answer within kafka.commit_deadline_s = {self._deadline_s}: the commit may or may not have "
                "happened; the next start reads which"
            ) from None
        except kafka_errors.KafkaError as error:
            root = self._root(error)
            if isinstance(root, _UNTIL_SOMEBODY_ACTS):
                # Nothing was committed, and no start helps before: Kafka's own word says what.
                raise root from error
            raise self._explained(root) from root
        self._state = _State.IDLE

    def _root(self, error: Exception) -> Exception:
        # Once the client's own thread has met an error, its calls raise a general one that only mentions it.
        met = getattr(getattr(self._producer, "_transaction_manager", None), "last_error", None)
        if kafka_errors.InvalidTransactionTimeoutError.__name__ in str(error):
            met = kafka_errors.InvalidTransactionTimeoutError()
        return met if isinstance(met, Exception) else error

    def _explained(self, error: Exception) -> WorkerError:
        if isinstance(error, FENCED):
            return FencedError(
                f"{type(error).__name__}: another process works under transactional id {self._id!r}, or owns our "
                "partitions now: of two workers stop one or give it another worker.id, of two runs of a command let "
                "one end first; a worker that was too slow for its group may be started again"
            )
        if isinstance(error, _TOO_LARGE):
            return IncompatibleError(
                f"{type(error).__name__}: a topic takes no record as large as a worker writes, and nothing was "
                "committed: raise max.message.bytes of the topics of [topics]; `fraud-worker doctor` says to what"
            )
        return IndefiniteError(f"the commit failed ({error!r}); the next start reads what happened")


def _reason(error: IndefiniteError) -> str:
    cause = error.__cause__
    return str(error).partition(":")[0] if cause is None else f"{type(cause).__name__}: {cause}"


def _run(call: Callable[[], None], outcome: Future[None]) -> None:
    try:
        call()
    except BaseException as error:  # noqa: BLE001 - raised in the waiting thread
        outcome.set_exception(error)
    else:
        outcome.set_result(None)
