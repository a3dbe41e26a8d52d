"""The figures of each row of the table, and how far its cost lies above that of the cheapest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.evaluation import evaluate
from models.vocabulary import MS_PER_DAY
from models.working_points import first_alerts
from worker.offline.compare.intervals import day_draws, interval_of, standard_error
from worker.offline.compare.result import Decided, Figures, JudgedRows, Row


def figures_of(
    judged: JudgedRows,
    decided: Decided,
    review_cost: float,
    days: int,
    *,
    fit_seconds: float,
    score_us: float,
    opened: int | None = None,
) -> Figures:
    """Return the figures of one row, those beside other rows not yet known.

    Reviews are charged as `worker.offline.figures.charge` does: all rows here are of known truth.

    Parameters
    ----------
    judged
        The test window, with its truth.
    decided
        What the strategy made of it.
    review_cost
        Of one case.
    days
        Length of the test window.
    fit_seconds, score_us
        What it took.
    opened
        Cases, with those of transactions whose truth is unknown; None where there are none of these.
    """
    worth = evaluate(
        fraud=judged.fraud,
        score=decided.score,
        alerted=decided.alerted,
        loss=judged.loss,
        opens_case=first_alerts(judged.case, decided.alerted),
        first_of_window=first_alerts(judged.case, np.ones(len(judged), np.bool_)),
        review_cost=review_cost,
    )
    return Figures(
        ap=worth.ap,
        roc_auc=worth.roc_auc,
        recall=worth.recall,
        recall_by_value=worth.recall_by_value,
        precision=worth.precision,
        f1=worth.f1,
        cases_per_day=(worth.cases if opened is None else opened) / days,
        cost=worth.cost,
        savings=worth.savings,
        fit_seconds=fit_seconds,
        score_us=score_us,
        excess=np.nan,
        excess_low=np.nan,
        excess_high=np.nan,
        excess_error=np.nan,
    )


def cost_by_day(
    judged: JudgedRows, decided: Decided, review_cost: float, start_ms: int, days: int
) -> NDArray[np.float64]:
    """Return the cost of each day of the test window, float64 (days,); a case is charged where it opens."""
    day = (judged.event_time_ms - start_ms) // MS_PER_DAY
    opens = first_alerts(judged.case, decided.alerted)
    missed = judged.fraud & ~decided.alerted
    cost = review_cost * opens + np.where(missed, judged.loss, 0.0)
    return np.bincount(day, weights=cost, minlength=days).astype(np.float64)


def beside_the_cheapest(
    rows: Sequence[Row], judged: JudgedRows, review_cost: float, start_ms: int, days: int, seed: int
) -> list[Row]:
    """Return the rows of one block with their cost above that of the cheapest, and its interval.

    Parameters
    ----------
    rows
        Of one block; those without figures stay as they are.
    judged
        The test window.
    review_cost
        Of one case.
    start_ms, days
        Of the test window.
    seed
        Of the bootstrap.
    """
    costs = {
        place: cost_by_day(judged, row.decided, review_cost, start_ms, days)
        for place, row in enumerate(rows)
        if row.decided is not None
    }
    if not costs:
        return list(rows)
    cheapest = min(costs.values(), key=lambda cost: float(cost.sum()))
    drawn = day_draws(days, seed)
    completed = list(rows)
    for place, cost in costs.items():
        figures, above = rows[place].figures, cost - cheapest
        if figures is not None:
            low, high = interval_of(above, drawn @ above)
            figures = replace(
                figures,
                excess=float(above.sum()),
                excess_low=low,
                excess_high=high,
                excess_error=standard_error(above),
            )
            completed[place] = replace(rows[place], figures=figures)
    return completed
