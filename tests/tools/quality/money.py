"""What decisions cost, day by day: the worker's own, and those of a baseline under the same costs and budget."""

from __future__ import annotations

from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY, Flag
from tests.tools.quality.curves import DayCosts
from worker.offline.dataset import Dataset
from worker.offline.worker_run import Decisions
from worker.settings.sections import CostSettings

LAMBDAS: Final = (0.0, 0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 16.0, 32.0, 64.0)


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
    would = np.flatnonzero(ratio >= 1.0)
    case = _cases(dataset, rows, costs)[would]
    best = np.full(int(case.max(initial=-1)) + 1, -np.inf)
    np.maximum.at(best, case, ratio[would])
    return _within_budget(rows.size, would, case, -best[case], dataset.event_time_ms[rows], costs)


def row_costs(
    fraud: NDArray[np.bool_],
    alerted: NDArray[np.bool_],
    opens_case: NDArray[np.bool_],
    loss: NDArray[np.float64],
    review_cost: float,
) -> NDArray[np.float64]:
    """Return what each of k decisions costs, float64 (k,): a review, and the loss of a missed fraud."""
    return np.asarray(review_cost * opens_case + loss * (fraud & ~alerted), np.float64)


def decided_costs(
    decisions: Decisions,
    rows: NDArray[np.int64],
    judged: NDArray[np.bool_],
    fraud: NDArray[np.bool_],
    costs: CostSettings,
) -> NDArray[np.float64]:
    """Return what the worker's decision of each of k rows costs, float64 (k,), 0 where it is not `judged`."""
    flags = decisions.flags[rows]
    alerted, opens_case = (flags & Flag.ALERTED) != 0, (flags & Flag.OPENS_CASE) != 0
    return row_costs(fraud & judged, alerted, opens_case & judged, decisions.loss[rows], costs.review_cost)


def fixed_policy_cost(
    dataset: Dataset,
    rows: NDArray[np.int64],
    judged: NDArray[np.bool_],
    fraud: NDArray[np.bool_],
    probability: NDArray[np.float64],
    loss: NDArray[np.float64],
    costs: CostSettings,
) -> float:
    """Return what the best fixed policy would have cost that knows no day beforehand.

    The policies: alert on nothing; alert from each of `LAMBDAS` reviews of expected loss on, zero being everything, the
    cases of a day as they come until its budget is spent. Only `judged` rows cost anything, but all spend the budget.
    """
    ratio, case = probability * loss / costs.review_cost, _cases(dataset, rows, costs)
    fraud = fraud & judged
    found = [float(loss[fraud].sum())]
    for least in LAMBDAS:
        would = np.flatnonzero(ratio >= least)
        alerted, opens = _within_budget(
            rows.size, would, case[would], would.astype(np.float64), dataset.event_time_ms[rows], costs
        )
        found.append(float(row_costs(fraud, alerted, opens & judged, loss, costs.review_cost).sum()))
    return min(found)


def worst_excess_days(
    dataset: Dataset,
    rows: NDArray[np.int64],
    judged: NDArray[np.bool_],
    fraud: NDArray[np.bool_],
    loss: NDArray[np.float64],
    cost: NDArray[np.float64],
    costs: CostSettings,
) -> float:
    """Return by how many days of the review budget the cost so far exceeded the cheaper trivial policy's, at the worst.

    The trivial policies: alert on nothing; alert on everything, as cases come, until each day's budget is spent.

    Parameters
    ----------
    dataset, rows, judged, fraud, loss, costs
        As of `fixed_policy_cost`.
    cost : float64 (k,)
        What each row cost as it was decided.
    """
    day = dataset.event_time_ms[rows] // MS_PER_DAY
    day -= day[0]
    case, order = _cases(dataset, rows, costs), np.arange(rows.size)
    alerted, opens = _within_budget(
        rows.size, order, case, order.astype(np.float64), dataset.event_time_ms[rows], costs
    )
    everything = row_costs(fraud & judged, alerted, opens & judged, loss, costs.review_cost)
    so_far = [np.cumsum(np.bincount(day, weights=it)) for it in (cost, loss * (fraud & judged), everything)]
    excess = so_far[0] - np.minimum(so_far[1], so_far[2])
    return float(excess.max() / (costs.review_cost * costs.alert_budget_cases_per_day))


def _cases(dataset: Dataset, rows: NDArray[np.int64], costs: CostSettings) -> NDArray[np.int64]:
    """Number the cases that alerts on the rows would open or join, int64 (k,)."""
    window = dataset.event_time_ms[rows] // round(costs.case_window_hours * MS_PER_DAY / 24)
    card = dataset.card_id.take(pa.array(rows)).dictionary_encode().indices.to_numpy().astype(np.int64)
    numbers = np.unique(card * (1 << 24) + window, return_inverse=True)[1]
    return np.asarray(numbers, np.int64)


def _within_budget(
    count: int,
    would: NDArray[np.int64],
    case: NDArray[np.int64],
    order: NDArray[np.float64],
    times_ms: NDArray[np.int64],
    costs: CostSettings,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Keep the first cases of each day by an order, as many as the budget pays for; return alerts and openings."""
    _, first, which = np.unique(case, return_index=True, return_inverse=True)
    # A case belongs to the day of its first alert.
    day = times_ms[would[first]] // MS_PER_DAY
    kept = np.zeros(first.size, np.bool_)
    ordered = np.lexsort((order[first], day))
    rank = np.arange(first.size) - np.searchsorted(day[ordered], day[ordered])
    kept[ordered[rank < costs.alert_budget_cases_per_day]] = True
    alerted, opens = np.zeros(count, np.bool_), np.zeros(count, np.bool_)
    alerted[would] = kept[which]
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
        decided=by_day(row_costs(fraud, alerted, opens_case, loss, review_cost)),
        nothing=by_day(loss * fraud),
        everything=by_day(review_cost * first_of_window.astype(np.float64)),
    )
