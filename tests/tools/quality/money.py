"""What decisions cost, day by day: the worker's own, and those of a baseline under the same costs and budget."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from tests.tools.quality.curves import DayCosts
from worker.offline.dataset import Dataset
from worker.settings.sections import CostSettings


def rule_alerts(
    dataset: Dataset,
    rows: NDArray[np.int64],
    probability: NDArray[np.float64],
    loss: NDArray[np.float64],
    costs: CostSettings,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Alert where the expected loss pays for a review (Elkan 2001), in the best cases of each day within the budget.

    The budget of a day goes to its best cases, which a worker cannot know before the day ends: this is a strong bar.

    Parameters
    ----------
    dataset
        The stream.
    rows : int64 (k,)
        Chosen rows, in order of time.
    probability, loss : float64 (k,)
        Of those rows.
    costs
        As the worker has them.

    Returns
    -------
    alerted, opens_case : bool (k,)
    """
    ratio = probability * loss / costs.review_cost
    window_ms = round(costs.case_window_hours * MS_PER_DAY / 24)
    times_ms = dataset.event_time_ms[rows]
    card = dataset.card_id.take(pa.array(rows)).dictionary_encode().indices.to_numpy().astype(np.int64)
    case = card * (1 << 24) + times_ms // window_ms
    would = np.flatnonzero(ratio >= 1.0)
    cases, first, which = np.unique(case[would], return_index=True, return_inverse=True)
    best = np.zeros(cases.size)
    np.maximum.at(best, which, ratio[would])
    # A case belongs to the day of its first alert.
    day = times_ms[would[first]] // MS_PER_DAY
    kept = np.zeros(cases.size, np.bool_)
    order = np.lexsort((-best, day))
    rank = np.arange(cases.size) - np.searchsorted(day[order], day[order])
    kept[order[rank < costs.alert_budget_cases_per_day]] = True
    alerted = np.zeros(rows.size, np.bool_)
    alerted[would] = kept[which]
    opens = np.zeros(rows.size, np.bool_)
    opens[would[first[kept]]] = True
    return alerted, opens


def day_costs(
    fraud: NDArray[np.bool_],
    alerted: NDArray[np.bool_],
    opens_case: NDArray[np.bool_],
    first_of_window: NDArray[np.bool_],
    loss: NDArray[np.float64],
    day: NDArray[np.int64],
    review_cost: float,
) -> DayCosts:
    """Return the costs of n decisions by day, from 0 on; see `models.evaluation.evaluate`."""
    days = int(day.max()) + 1 if day.size else 0

    def by_day(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(day, weights=values, minlength=days), np.float64)

    return DayCosts(
        decided=by_day(review_cost * opens_case + loss * (fraud & ~alerted)),
        nothing=by_day(loss * fraud),
        everything=by_day(review_cost * first_of_window.astype(np.float64)),
    )
