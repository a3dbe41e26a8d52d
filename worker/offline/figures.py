"""What the decisions of a run were worth, by any stretch of time: figures, days, misses and reasons."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns
from models.evaluation import Evaluation, evaluate
from models.vocabulary import MS_PER_DAY, Decider
from models.working_points import first_alerts
from worker.wire.schema import AlertReason

WEEK_MS: Final = 7 * MS_PER_DAY


@dataclass(frozen=True, slots=True)
class Judged(Columns):
    """m decisions in order of event time: all of the stretch asked for, or of those the ones whose truth is known.

    Attributes
    ----------
    row : int64 (m,)
        Row of the data set, and of its `Decisions`.
    event_time_ms : int64 (m,)
    fraud : bool (m,)
        The truth; False where it is not known.
    truth_known, labelled : bool (m,)
        Whether the truth counts in the figures; whether a label brought it to the worker by the end of the run.
    amount, loss : float64 (m,)
        Amount, and the cost of missing the transaction if it is a fraud.
    score : float64 (m,)
        `Decisions.score`: one ranking of all deciders.
    probability : float32 (m,)
        Calibrated, as of the decision; NaN while there was no online model.
    expected_loss : float64 (m,)
        Probability times loss; NaN where the online model did not decide.
    threshold : float64 (m,)
        Alerted from here on: an expected loss (online model), or a forest's score times amount (forest). Inf where the
        decider alerted on nothing, NaN without a decider.
    decider : uint8 (m,)
        `models.vocabulary.Decider`.
    alerted, opens_case : bool (m,)
        The decision, and whether it opens a case: the first alert of its card in a case window.
    case : int64 (m,)
        Number of the card and case window: equal for the transactions that one review would cover.
    charged, charged_for_all : bool (m,)
        Where the figures charge a review, and where they would if everything were alerted: as `charge` says.
    """

    row: NDArray[np.int64]
    event_time_ms: NDArray[np.int64]
    fraud: NDArray[np.bool_]
    truth_known: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    amount: NDArray[np.float64]
    loss: NDArray[np.float64]
    score: NDArray[np.float64]
    probability: NDArray[np.float32]
    expected_loss: NDArray[np.float64]
    threshold: NDArray[np.float64]
    decider: NDArray[np.uint8]
    alerted: NDArray[np.bool_]
    opens_case: NDArray[np.bool_]
    case: NDArray[np.int64]
    charged: NDArray[np.bool_]
    charged_for_all: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Stretch:
    """The decisions of a stretch of event time.

    Attributes
    ----------
    start_ms, end_ms
        From the first moment on and before the second.
    decisions
        All of them; `evaluation` covers those whose truth is known, with the reviews that `charge` charges for these.
    alerts, cases
        Of all decisions: what investigators would have seen.
    label_coverage
        The share of the decisions whose label reaches the worker by the end of the run; NaN without a decision.
    decided_by
        The share of the decisions that each decider made, by name; NaN without a decision.
    evaluation
        What the decisions were worth.
    """

    start_ms: int
    end_ms: int
    decisions: int
    alerts: int
    cases: int
    label_coverage: float
    decided_by: dict[str, float]
    evaluation: Evaluation

    @property
    def days(self) -> float:
        """Its length, for rates a day; less than a day counts as one."""
        return max(self.end_ms - self.start_ms, MS_PER_DAY) / MS_PER_DAY

    @property
    def alerts_per_day(self) -> float:
        """Alerts a day."""
        return self.alerts / self.days

    @property
    def cases_per_day(self) -> float:
        """Cases opened a day."""
        return self.cases / self.days

    def figures(self) -> dict[str, float]:
        """Return all figures by name, NaN where undefined."""
        return {
            **asdict(self.evaluation),
            **{f"decided_by_{name}": share for name, share in self.decided_by.items()},
            "label_coverage": self.label_coverage,
            "decisions": self.decisions,
            "alerts_per_day": self.alerts_per_day,
            "cases_per_day": self.cases_per_day,
            "days": self.days,
        }


@dataclass(frozen=True, slots=True)
class Days(Columns):
    """d days of event time (UTC), ascending, those without a decision left out.

    Attributes
    ----------
    start_ms : int64 (d,)
    decisions, alerts, cases : int64 (d,)
        Of all decisions.
    judged, frauds, caught : int64 (d,)
        Decisions whose truth is known; of those the frauds, and the alerted frauds.
    prevalence : float64 (d,)
        Share of frauds among the judged; NaN without any.
    threshold : float64 (d,)
        Median expected loss from which the online model alerted; NaN where it decided nothing.
    decided_by_none, decided_by_forest, decided_by_online : float64 (d,)
        Shares of the decisions.
    cost_reviews, cost_missed, cost_none, cost_all : float64 (d,)
        As in `models.evaluation.Evaluation`.
    """

    start_ms: NDArray[np.int64]
    decisions: NDArray[np.int64]
    alerts: NDArray[np.int64]
    cases: NDArray[np.int64]
    judged: NDArray[np.int64]
    frauds: NDArray[np.int64]
    caught: NDArray[np.int64]
    prevalence: NDArray[np.float64]
    threshold: NDArray[np.float64]
    decided_by_none: NDArray[np.float64]
    decided_by_forest: NDArray[np.float64]
    decided_by_online: NDArray[np.float64]
    cost_reviews: NDArray[np.float64]
    cost_missed: NDArray[np.float64]
    cost_none: NDArray[np.float64]
    cost_all: NDArray[np.float64]

    @property
    def cost(self) -> NDArray[np.float64]:
        """Reviews and missed frauds, float64 (d,)."""
        return self.cost_reviews + self.cost_missed

    @property
    def savings(self) -> NDArray[np.float64]:
        """Savings of each day alone, float64 (d,); NaN on a day on which alerting on nothing cost nothing."""
        cheapest = np.minimum(self.cost_none, self.cost_all)
        share = np.divide(self.cost, cheapest, out=np.full(len(cheapest), np.nan), where=cheapest > 0.0)
        return np.asarray(1.0 - share)


class Miss(NamedTuple):
    """A fraud that was not alerted on.

    `probability`, `expected_loss` and `threshold` are NaN, or inf, as in `Judged`.
    """

    transaction_id: str
    event_time_ms: int
    amount: float
    loss: float
    decider: Decider
    probability: float
    expected_loss: float
    threshold: float


class ReasonCount(NamedTuple):
    """How often a feature is a reason of alerts.

    Attributes
    ----------
    feature, text
        Its name, and the same in words.
    first, named
        Alerts in which its contribution is the largest; in which it is one of those named that raise the score.
    share
        `first` among the alerts counted.
    """

    feature: str
    text: str
    first: int
    named: int
    share: float


@dataclass(frozen=True, slots=True)
class ExplainedAlert:
    """An alert with its reasons as the alerts topic has them.

    Attributes
    ----------
    fraud
        The truth; None where it is not known.
    probability, expected_loss, reference
        None where the forest decided.
    threshold
        An expected loss (online model), or a forest's score times amount.
    """

    transaction_id: str
    event_time_ms: int
    amount: float
    loss: float
    fraud: bool | None
    decided_by: str
    probability: float | None
    expected_loss: float | None
    threshold: float
    reference: float | None
    reasons: tuple[AlertReason, ...]


class Charges(NamedTuple):
    """Where reviews are charged, bool (n,): those of the alerts, and those of everything if it were alerted."""

    of_alerts: NDArray[np.bool_]
    of_all: NDArray[np.bool_]


def charge(case: NDArray[np.int64], alerted: NDArray[np.bool_], known: NDArray[np.bool_]) -> Charges:
    """Charge one review for each case that has an alert of known truth, at the first of these.

    Losses are of transactions of known truth alone, and so are reviews: of a case without any, no loss is known.

    Parameters
    ----------
    case : int64 (n,)
        Number of the card and case window, in order of event time.
    alerted, known : bool (n,)
        The decision, and whether the truth is known.
    """
    return Charges(first_alerts(case, alerted & known), first_alerts(case, known))


def stretch(judged: Judged, review_cost: float, start_ms: int, end_ms: int) -> Stretch:
    """Return the figures of the decisions from `start_ms` on and before `end_ms`.

    Parameters
    ----------
    judged
        All decisions of the run that count.
    review_cost
        Of one case.
    start_ms, end_ms
        Epoch milliseconds.
    """
    first, last = np.searchsorted(judged.event_time_ms, [start_ms, end_ms])
    inside = judged.rows(int(first), int(last))
    known = inside.take(inside.truth_known)
    share = np.mean if len(inside) else lambda _: np.nan
    return Stretch(
        start_ms=start_ms,
        end_ms=end_ms,
        decisions=len(inside),
        alerts=int(inside.alerted.sum()),
        cases=int(inside.opens_case.sum()),
        label_coverage=float(share(inside.labelled)),
        decided_by={one.name.lower(): float(share(inside.decider == one)) for one in Decider},
        evaluation=evaluate(
            fraud=known.fraud,
            score=known.score,
            alerted=known.alerted,
            loss=known.loss,
            opens_case=known.charged,
            first_of_window=known.charged_for_all,
            review_cost=review_cost,
        ),
    )


def weeks(judged: Judged, review_cost: float) -> tuple[Stretch, ...]:
    """Return the figures of each seven days (UTC) with a decision, counted from the day of the first one."""
    if len(judged) == 0:
        return ()
    origin_ms = int(judged.event_time_ms[0]) // MS_PER_DAY * MS_PER_DAY
    numbers = np.unique((judged.event_time_ms - origin_ms) // WEEK_MS).tolist()
    end_ms = (int(judged.event_time_ms[-1]) // MS_PER_DAY + 1) * MS_PER_DAY
    starts = [origin_ms + number * WEEK_MS for number in numbers]
    return tuple(stretch(judged, review_cost, start, min(start + WEEK_MS, end_ms)) for start in starts)


def days(judged: Judged, review_cost: float) -> Days:
    """Return the decisions and their costs by day of event time."""
    day, slot = np.unique(judged.event_time_ms // MS_PER_DAY, return_inverse=True)
    count = len(day)

    def counted(chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        return np.bincount(slot[chosen], minlength=count)

    def lost(chosen: NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(slot[chosen], judged.loss[chosen], count).astype(np.float64)

    every, known = np.ones(len(judged), np.bool_), judged.truth_known
    fraud = known & judged.fraud
    decisions, judged_count, frauds = counted(every), counted(known), counted(fraud)
    shares = {one: counted(judged.decider == one) / np.maximum(decisions, 1) for one in Decider}
    return Days(
        start_ms=day * MS_PER_DAY,
        decisions=decisions,
        alerts=counted(judged.alerted),
        cases=counted(judged.opens_case),
        judged=judged_count,
        frauds=frauds,
        caught=counted(fraud & judged.alerted),
        prevalence=np.divide(frauds, judged_count, out=np.full(count, np.nan), where=judged_count > 0),
        threshold=_medians(slot, judged.threshold, judged.decider == Decider.ONLINE, count),
        decided_by_none=shares[Decider.NONE],
        decided_by_forest=shares[Decider.FOREST],
        decided_by_online=shares[Decider.ONLINE],
        cost_reviews=np.float64(review_cost) * counted(judged.charged),
        cost_missed=lost(fraud & ~judged.alerted),
        cost_none=lost(fraud),
        cost_all=np.float64(review_cost) * counted(judged.charged_for_all),
    )


def _medians(
    slot: NDArray[np.int64], values: NDArray[np.float64], chosen: NDArray[np.bool_], count: int
) -> NDArray[np.float64]:
    """Return the lower median of the chosen values of each slot, float64 (count,); slots ascend."""
    median = np.full(count, np.nan)
    found, first = np.unique(slot[chosen], return_index=True)
    for one, part in zip(found, np.split(values[chosen], first[1:]), strict=len(found) > 0):
        median[one] = np.partition(part, (len(part) - 1) // 2)[(len(part) - 1) // 2]
    return median
