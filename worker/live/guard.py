"""Stops the worker when its input as a whole is wrong: another partitioner, or mostly bad records."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from worker.errors import FuseError, IncompatibleError, UnreachableError
from worker.kafka_io.partitioner import Partitioner, partitions_of_keys
from worker.kafka_io.record_batches import RecordColumns
from worker.settings.sections import BatchSettings
from worker.wire.decoder import BadRecord
from worker.wire.schema import Reason

MISMATCHES_TOLERATED = 1 / 3
_LEAST_RECORDS = 100

log = logging.getLogger(__name__)


class InputGuard:
    """Watches all fetched records, topic by topic.

    Parameters
    ----------
    partitions
        How many partitions the input topics have.
    partitioner
        `kafka.partitioner`.
    batch
        Settings of the fuse.
    stops
        Whether misplaced records stop the worker; otherwise they become dead letters.
    """

    def __init__(
        self, partitions: int, partitioner: Partitioner, batch: BatchSettings, *, stops: bool = True
    ) -> None:
        self._partitions = partitions
        self._partitioner: Partitioner = partitioner
        self._batch = batch
        self.stops = stops
        self._seen = 0
        self._bad = 0
        self._begun: Counter[str] = Counter()
        """By topic, how many records came before the first good one; -1 from then on, and for topics read before."""
        self._logged: set[tuple[str, str]] = set()
        self._keys: dict[str, tuple[int, int]] = {}
        """By topic, how many records came since the last verdict, and how many of them in a wrong partition."""

    def check_partitions(self, topic: str, found: set[int]) -> None:
        """Refuse a topic whose number of partitions has changed since the start.

        Raises
        ------
        UnreachableError
            The topic is gone.
        IncompatibleError
            Cards have moved away from the partitions that know them.
        """
        if not found:
            raise UnreachableError(
                f"{topic} is gone since the worker started: if it was deleted by mistake, create it again; with other "
                "records under its name, begin anew with new topics"
            )
        if found != set(range(self._partitions)):
            raise IncompatibleError(
                f"{topic} has {len(found)} partitions now, {self._partitions} when the worker started: cards have "
                "moved. Begin anew with new topics of that count; `fraud-worker replay` sends past payments there"
            )

    def misplaced(self, columns: RecordColumns, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the records that decode lie in another partition than the partitioner says, bool (n,).

        Records that do not decode say nothing of the partitioner: garbage often comes without a key, or with any.

        Parameters
        ----------
        columns
            The records as they were fetched.
        offsets : int64 (n,)
            Those that decode.

        Raises
        ------
        IncompatibleError
            More than a third lie elsewhere, and `kafka.misplaced` is `stop`: a card's labels would never meet its
            transactions.
        """
        expected = partitions_of_keys(columns, self._partitions, self._partitioner)
        wrong = expected[np.searchsorted(columns.offsets, offsets)] != columns.partition
        if self.stops:
            self._warn(columns, int(np.count_nonzero(wrong)))
            self._judge(columns.topic, len(offsets), int(np.count_nonzero(wrong)))
        return np.asarray(wrong)

    def _warn(self, columns: RecordColumns, wrong: int) -> None:
        if wrong and (columns.topic, Reason.MISPLACED) not in self._logged:
            self._logged.add((columns.topic, Reason.MISPLACED))
            log.warning(
                "%s, partition %d: the keys of %d of %d records belong into another partition by kafka.partitioner = "
                "%r. A card that lies in two has two histories, its labels reach one, and what is sent again through "
                "the other is decided again: let all producers use one partitioner, or set kafka.misplaced = "
                "'dead_letter' (logged once)",
                columns.topic, columns.partition, wrong, len(columns), self._partitioner,
            )  # fmt: skip

    def _judge(self, topic: str, found: int, found_wrong: int) -> None:
        seen, wrong = self._keys.get(topic, (0, 0))
        seen, wrong = seen + found, wrong + found_wrong
        # A light load brings few records at a time: they add up.
        self._keys[topic] = (seen, wrong) if seen < _LEAST_RECORDS else (0, 0)
        if seen >= _LEAST_RECORDS and wrong > MISMATCHES_TOLERATED * seen:
            other = "crc32" if self._partitioner == "murmur2" else "murmur2"
            raise IncompatibleError(
                f"{wrong / seen:.0%} of the keys in {topic} lie in another partition than by kafka.partitioner = "
                f"{self._partitioner!r}. If the topic was given more partitions after these records were written, "
                f"begin anew with new topics. Else set it to {other!r} if the producers use that, and let transactions "
                "and labels be produced alike. kafka.misplaced = 'dead_letter' refuses such records one by one instead"
            )

    def count(self, topic: str, records: int, bad: Sequence[BadRecord]) -> None:
        """Blow the fuse when too large a share of the last records is bad, or all of a topic's first ones.

        Parameters
        ----------
        topic
            Topic of the records.
        records
            How many were fetched.
        bad
            Those that did not decode.

        Raises
        ------
        FuseError
            Nothing of them is committed: a restart with mended settings reads them again.
        """
        self._log(bad)
        self._seen += records
        self._bad += len(bad)
        if self._batch.fuse_share < 1.0:
            self._check_beginning(topic, records, bad)
        window = self._batch.fuse_window
        if self._seen >= window:
            share = self._bad / self._seen
            if share > self._batch.fuse_share:
                raise FuseError(
                    f"{share:.0%} of the last {self._seen} records were bad, batch.fuse_share = "
                    f"{self._batch.fuse_share}{_commonest(bad)}. Check [transaction], [label] and the producers; the "
                    "lines above name the first record of each kind; batch.fuse_share = 1 makes dead letters of them"
                )
            # Half of what was seen fades, so that the share follows the present.
            self._seen, self._bad = self._seen // 2, self._bad // 2

    def passed_beginning(self, topic: str) -> None:
        """Note that an earlier process has read records of this topic."""
        self._begun[topic] = -1

    def _check_beginning(self, topic: str, records: int, bad: Sequence[BadRecord]) -> None:
        """Blow early where field names are wrong: a topic without one good record will not mend itself."""
        if self._begun[topic] < 0:
            return
        if len(bad) < records:
            self._begun[topic] = -1
            return
        self._begun[topic] += records
        if self._begun[topic] >= _LEAST_RECORDS:
            raise FuseError(
                f"none of the first {self._begun[topic]} records of {topic} decodes{_commonest(bad)}. Mend the field "
                "names in [transaction] or [label] (`fraud-worker doctor` compares them with what the topic holds); "
                "batch.fuse_share = 1 sends such records to the dead letters instead"
            )

    def _log(self, bad: Sequence[BadRecord]) -> None:
        """Log the first bad record of each reason; metrics count the rest, the dead letters hold them."""
        for record in bad:
            kind = (record.topic, record.reason)
            if kind not in self._logged:
                self._logged.add(kind)
                log.warning(
                    "%s, partition %d, offset %d goes to the dead letters: %s: %s (logged once a reason)",
                    record.topic, record.partition, record.offset, record.reason, record.detail,
                )  # fmt: skip


def _commonest(bad: Sequence[BadRecord]) -> str:
    """Return the most frequent fault of these records, in words."""
    if not bad:
        return ""
    [((reason, detail), _)] = Counter((record.reason, record.detail) for record in bad).most_common(1)
    return f"; most of the last ones: {reason}: {detail}"
