"""Stops the worker when the input as a whole is not what it was promised: wrong partitioner, or mostly bad records."""

from __future__ import annotations

import numpy as np

from worker.errors import FuseError, IncompatibleError
from worker.partitioner import Partitioner, partitions_of_keys
from worker.record_batches import RecordColumns
from worker.settings import BatchSettings

_MISMATCHES_TOLERATED = 1 / 3
_LEAST_RECORDS = 100


class InputGuard:
    """Watches everything fetched, topic by topic.

    Parameters
    ----------
    partitions
        How many the input topics have.
    partitioner
        `kafka.partitioner`.
    batch
        The fuse.
    """

    def __init__(self, partitions: int, partitioner: Partitioner, batch: BatchSettings) -> None:
        self._partitions = partitions
        self._partitioner: Partitioner = partitioner
        self._batch = batch
        self._seen = 0
        self._bad = 0
        self._keys: dict[str, tuple[int, int]] = {}
        """By topic, how many keys were seen since the last verdict, and how many of them in a wrong partition."""

    def check_partitions(self, topic: str, found: set[int]) -> None:
        """Refuse a topic that has grown since the start.

        Raises
        ------
        IncompatibleError
            Cards have moved to other partitions than those that know them.
        """
        if found != set(range(self._partitions)):
            raise IncompatibleError(
                f"{topic} has {len(found)} partitions now, {self._partitions} when the worker started: cards have "
                "moved. Begin anew with new topics of the new count and replay into them"
            )

    def check_keys(self, columns: RecordColumns) -> None:
        """Refuse a topic whose keys lie in other partitions than the partitioner says.

        Raises
        ------
        IncompatibleError
            More than a third of the records lie elsewhere; a card's labels would never meet its transactions.
        """
        expected = partitions_of_keys(columns, self._partitions, self._partitioner)
        keyed = columns.key_length >= 0
        seen, wrong = self._keys.get(columns.topic, (0, 0))
        seen += int(np.count_nonzero(keyed))
        wrong += int(np.count_nonzero(expected[keyed] != columns.partition))
        # A light load brings few records at a time: they add up.
        self._keys[columns.topic] = (seen, wrong) if seen < _LEAST_RECORDS else (0, 0)
        if seen >= _LEAST_RECORDS and wrong > _MISMATCHES_TOLERATED * seen:
            other = "crc32" if self._partitioner == "murmur2" else "murmur2"
            raise IncompatibleError(
                f"{wrong / seen:.0%} of the keys in {columns.topic} lie in another partition than by "
                f"kafka.partitioner = {self._partitioner!r}: set it to {other!r} if the producers use that, and let "
                "transactions and labels be produced alike"
            )

    def count(self, records: int, bad: int) -> None:
        """Blow the fuse when too large a share of the last records is bad.

        Raises
        ------
        FuseError
            Nothing of them is committed: a restart with mended settings reads them again.
        """
        self._seen += records
        self._bad += bad
        window = self._batch.fuse_window
        if self._seen >= window:
            share = self._bad / self._seen
            if share > self._batch.fuse_share:
                raise FuseError(
                    f"{share:.0%} of the last {self._seen} records were bad, batch.fuse_share = "
                    f"{self._batch.fuse_share}: check [transaction], [label] and the producers; the dead letters "
                    "topic tells the reasons"
                )
            # Half of what was seen fades, so that the share follows the present.
            self._seen, self._bad = self._seen // 2, self._bad // 2
