"""The rows that a strategy learns from, is tuned on, or scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns, Shared, Wide


@dataclass(frozen=True, slots=True)
class Sample(Columns):
    """n decided transactions in order of event time.

    Attributes
    ----------
    features : float32 (n, F)
        As of the decision; NaN where missing. A category is a whole number without order.
    fraud : bool (n,)
        The verdict known at the time of fitting or tuning; all False where rows are only scored.
    weight : float64 (n,)
        How many transactions the row stands for: 1, or 1/rate where legits were sampled. The measured figures of a
        sample weigh rows by it, so that a sampled training set does not change the prior.
    amount, loss : float64 (n,)
        Amount, and the cost of missing the transaction if it is a fraud.
    event_time_ms : int64 (n,)
    case : int64 (n,)
        Number of the card and case window: a review is charged once a case.
    categorical : bool (F,)
        Which features are categories.
    """

    features: Annotated[NDArray[np.float32], Wide("features")]
    fraud: NDArray[np.bool_]
    weight: NDArray[np.float64]
    amount: NDArray[np.float64]
    loss: NDArray[np.float64]
    event_time_ms: NDArray[np.int64]
    case: NDArray[np.int64]
    categorical: Annotated[NDArray[np.bool_], Shared()]
