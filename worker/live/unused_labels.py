"""Labels by which nothing is settled or will be, as dead letters: which ones, and why."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from worker.cycle.contracts import Outcome
from worker.wire.decoder import LabelColumns

SETTLE_STAGE: Final = "settle"
_ORPHAN: Final = "orphan_label"
_WRONG_CARD: Final = "wrong_card"
_SURPLUS: Final = "surplus"
UNUSED: Final = {
    _ORPHAN: (
        "no decision waits for this label: its transaction_id and card_id are unknown or long gone, or its label_time "
        "lies before the transaction"
    ),
    _WRONG_CARD: "the decision of this transaction_id is on another card than the label's card_id",
    _SURPLUS: (
        "its source has taught as much as it may in a day (labels.times_usual), and so many labels wait already that "
        "there is no room for more"
    ),
}
"""What each reason means."""


class Unused(NamedTuple):
    """Labels that go to the dead letters for one reason.

    Attributes
    ----------
    reason
        One of `UNUSED`.
    labels, rows
        Columns, and which of their rows: int64 (k,), at least one.
    """

    reason: str
    labels: LabelColumns
    rows: NDArray[np.int64]


def unused_labels(outcome: Outcome) -> list[Unused]:
    """Return the labels of one cycle that are of no use."""
    settling = outcome.by_label
    found = (
        Unused(_ORPHAN, outcome.labels, np.setdiff1d(settling.orphans, settling.wrong_card)),
        Unused(_WRONG_CARD, outcome.labels, settling.wrong_card),
        Unused(_SURPLUS, outcome.overflow, np.arange(len(outcome.overflow))),
    )
    return [it for it in found if it.rows.size]
