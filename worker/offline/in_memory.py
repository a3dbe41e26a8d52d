"""The surroundings of a cycle without Kafka: a source, an executor and an observer in memory."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from models.vocabulary import NEVER_MS
from worker.cycle.contracts import Outcome, PartitionBatch, StepTimes
from worker.cycle.inbox import UNBOUNDED, Inbox, cut
from worker.partition.early_labels import Room
from worker.partition.journal import Positions
from worker.settings.sections import Settings
from worker.wire.decoder import BadRecord, LabelColumns


class InboxSource:
    """Cuts batches from the inbox of one partition as a live worker cuts traffic; a subclass fills the inbox."""

    def __init__(self, settings: Settings) -> None:
        batch = settings.batch
        self._span_ms, self._max_records = round(batch.max_event_time_s * 1000), batch.max_records
        self._inbox = Inbox(round(batch.allowed_skew_s * 1000))

    def poll(self) -> list[PartitionBatch]:
        """Cut a batch of the waiting rows."""
        found = cut([self._inbox], self._span_ms, self._max_records)
        until_ms, [most] = (NEVER_MS, [0]) if found is None else found
        taken = self._inbox.transactions.take(until_ms, UNBOUNDED._replace(rows=most))
        return [PartitionBatch(0, taken)]

    def reaches_ms(self) -> int | None:
        """Return the event time of the last transaction of the next batch; None where nothing waits."""
        found = cut([self._inbox], self._span_ms, self._max_records)
        return None if found is None else int(self._inbox.transactions.due_ms[found.rows[0] - 1])

    def follow_clock(self, partition: int, clock_ms: int) -> int:
        """Let the watermark follow the clock; return up to when labels are due."""
        del partition
        return self._inbox.follow_clock(clock_ms)

    def take_labels(self, partition: int, until_ms: int, room: Room) -> LabelColumns | None:
        """Take labels up to the last one that is due."""
        del partition
        return self._inbox.take_labels(until_ms, UNBOUNDED._replace(rows=self._max_records), room)

    def silent_until_ms(self, partition: int, clock_ms: int) -> int:
        """Return up to when silence is known; see `worker.cycle.inbox.Inbox`."""
        del partition
        return self._inbox.silent_until_ms(clock_ms)

    def take_bad(self, partition: int) -> list[BadRecord]:
        """Take the bad records before the positions reached."""
        del partition
        return self._inbox.take_bad()

    def positions(self, partition: int) -> Positions:
        """Return where reading goes on, given what was taken."""
        del partition
        return self._inbox.positions


class ImmediateJobs(Executor):
    """Runs a job when it is submitted: a result then takes force at the same offset in every run."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run the job and return its finished future."""
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class NoObserver:
    """Observes nothing."""

    def observe(self, outcomes: list[Outcome], times: StepTimes) -> None:
        """Ignore the cycle."""
