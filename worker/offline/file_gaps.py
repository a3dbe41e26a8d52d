"""What a public file of payments may lack, and what stands in for it: ids, cards, and dates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from worker.offline.table_files import TableFile
from worker.settings.fields import TransactionFields
from worker.wire.schema import END_OF_TIME_MS

TimeStep = Literal["second", "hour", "day", "month"]
_STEP_MS: Final = {"second": 1_000, "hour": 3_600_000, "day": MS_PER_DAY}
_FAR: Final = 1e10
"""So many steps, and what is infinite, lie outside the times that a worker takes."""
_MOST_MONTHS: Final = 2_400
TIME_ORIGIN_MS: Final = 1_704_067_200_000
"""A Monday, the first of a month and of a year: 2024-01-01."""


@dataclass(frozen=True, slots=True)
class FileGaps:
    """How to read a file without some of what every payment has.

    Attributes
    ----------
    number_rows
        Whether the number of a row is its transaction id, and its card, where the file has no such column.
    time_step
        What the numbers in the column of times count; None for a column of times.
    time_origin_ms
        The moment from which they count.
    """

    number_rows: bool = False
    time_step: TimeStep | None = None
    time_origin_ms: int = TIME_ORIGIN_MS

    def may_lack(self, fields: TransactionFields) -> tuple[str, ...]:
        """Return the columns that the file need not have."""
        return (fields.transaction_id, fields.card_id) if self.number_rows else ()

    def ids(self, file: TableFile, name: str) -> pa.StringArray:
        """Return a column of ids as text; of one that the file lacks, the numbers of the rows, from 1."""
        if name in file.absent:
            return pa.array(np.arange(1, len(file.table) + 1)).cast(pa.string())
        return file.text(name)

    def notes(self, file: TableFile, fields: TransactionFields) -> Iterator[str]:
        """Yield what stands in for what the file lacks."""
        lacking = [it for it in self.may_lack(fields) if it in file.absent]
        if lacking:
            each = ", so that each payment is of a card of its own" if fields.card_id in lacking else ""
            yield f"has no column {' or '.join(lacking)}: the number of the row stands in{each}"

    def times_ms(
        self, file: TableFile, fields: TransactionFields
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return event times as epoch milliseconds, int64 (n,), and where they are missing, bool (n,)."""
        if self.time_step is None:
            return file.optional_times_ms(fields.event_time, fields.time_format)
        steps = file.numbers(fields.event_time)
        missing = np.isnan(steps)
        steps = np.clip(np.nan_to_num(steps, posinf=_FAR, neginf=-_FAR), -_FAR, _FAR)
        if self.time_step == "month":
            return self._months_on(steps), missing
        counted_ms = np.round(steps * _STEP_MS[self.time_step])
        return np.clip(self.time_origin_ms + counted_ms, -1.0, END_OF_TIME_MS).astype(np.int64), missing

    def _months_on(self, steps: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return moments as far into the month as the origin, so many months later; parts of a month do not count."""
        months = np.clip(np.floor(steps), -_MOST_MONTHS, _MOST_MONTHS).astype(np.int64)
        origin = np.datetime64(self.time_origin_ms, "ms")
        into_month = origin - origin.astype("datetime64[M]").astype("datetime64[ms]")
        moments = (origin.astype("datetime64[M]") + months).astype("datetime64[ms]") + into_month
        return np.asarray(np.clip(moments.astype(np.int64), -1, END_OF_TIME_MS), np.int64)
