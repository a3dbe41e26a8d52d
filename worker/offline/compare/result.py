"""The result of a comparison: the table, the decisions behind each of its rows, and the recommendation."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from enum import Enum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns
from models.threshold import CostPolicy
from worker.offline.compare.strategy import Caps, Rule

OURS: Final = "ours"
"""The family of the worker's own rows."""
OURS_FROZEN: Final = (
    "The worker's own rows are its models at the end of the train window, calibrated on the tuning window and held to "
    "the budget there as the others are; what its guard had chosen and the forest's cuts are of the end of the train "
    "window. They have learnt the warm-up too."
)
"""What a reader of the frozen block has to know."""
OPEN_CASES: Final = (
    "Where a strategy alerts by expected loss, it alerts again on a card whose case is open from a tenth of a review "
    "on: that review is paid."
)
"""What a reader of either block has to know."""
HELD_TO_BUDGET: Final = (
    "Thresholds by cost are raised until the window that they are tuned on keeps within the budget of cases; 0.5 and "
    "the best F1 know nothing of it."
)
"""What a reader has to know where there is a budget."""
OURS_UNTIMED: Final = (
    "The worker's own rows come from one run of the worker, which scores and learns in turn: their fit time is that of "
    "the whole run, and scoring has no time of its own. They have learnt the warm-up too, and learn from "
    "model.memory_days."
)
"""What a reader of the refreshed block has to know."""


class Block(Enum):
    """How a strategy meets the test window; rows of different blocks are never compared.

    FROZEN
        Fitted once, at the end of the train window, and left alone.
    REFRESHED
        Batch models are refitted every week, online models learn each label as it arrives.
    """

    FROZEN = "frozen"
    REFRESHED = "refreshed"


class Severity(Enum):
    """How rare the frauds are, by their share of the transactions."""

    BALANCED = "balanced"
    MILD = "mild"
    MODERATE = "moderate"
    SEVERE = "severe"
    EXTREME = "extreme"

    @staticmethod
    def of(prevalence: float) -> Severity:
        """Return the severity of a share of frauds: mild from 10 %, moderate from 1 %, severe from 0.1 %."""
        steps = (
            (0.3, Severity.BALANCED),
            (0.1, Severity.MILD),
            (0.01, Severity.MODERATE),
            (0.001, Severity.SEVERE),
        )
        return next((severity for lowest, severity in steps if prevalence >= lowest), Severity.EXTREME)


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of the data set.

    Attributes
    ----------
    name
        `warm-up`, `train`, `tune`, `gap` or `test`.
    start_ms, end_ms
        From `start_ms` on and before `end_ms`.
    rows, frauds
        Transactions that a strategy may use there, and how many of them it sees as frauds: in train and tune by the
        labels that had arrived, in test by the truth. Both 0 for warm-up and gap, which no strategy uses.
    """

    name: str
    start_ms: int
    end_ms: int
    rows: int
    frauds: int


@dataclass(frozen=True, slots=True)
class JudgedRows(Columns):
    """The n judged transactions of the test window, those of known truth, in order of event time.

    Attributes
    ----------
    fraud : bool (n,)
        The truth by every label there is.
    loss, amount : float64 (n,)
        The cost of missing the transaction if it is a fraud, and its amount.
    event_time_ms : int64 (n,)
    case : int64 (n,)
        Number of the card and case window: a review is charged once a case.
    """

    fraud: NDArray[np.bool_]
    loss: NDArray[np.float64]
    amount: NDArray[np.float64]
    event_time_ms: NDArray[np.int64]
    case: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Decided(Columns):
    """What one strategy made of the judged transactions, n rows as in `JudgedRows`.

    Attributes
    ----------
    score : float64 (n,)
        Its ranking; finite.
    probability : float64 (n,)
        Calibrated on the tuning window; all NaN where the strategy has no probability.
    rank : float64 (n,)
        What its rule compares with the threshold: score, probability, or expected loss over review cost.
    threshold : float64 (n,)
        In force at each transaction; constant in the frozen block. inf where nothing is alerted. Of the worker's own
        refreshed rows, those in force at the beginning of the day.
    alerted : bool (n,)
        The decision: `rank >= threshold`. Where `rank` is of expected loss, an open case takes alerts from below it;
        the worker's own refreshed rows are as it decided.
    """

    score: NDArray[np.float64]
    probability: NDArray[np.float64]
    rank: NDArray[np.float64]
    threshold: NDArray[np.float64]
    alerted: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Figures:
    """One line of the table; NaN where a figure is undefined.

    Attributes
    ----------
    ap, roc_auc
        How well the score ranks the frauds.
    recall, recall_by_value, precision, f1
        Of the alerts; by value weighs each fraud by its loss.
    cases_per_day
        Cases opened a day of the test window, with those of transactions whose truth is unknown.
    cost
        A review for each case, and the loss of every missed fraud.
    savings
        1 less the cost over the lower of the costs of alerting on nothing and on everything.
    fit_seconds
        Of all fits of the block.
    score_us
        Microseconds a transaction to score; NaN for the worker's own refreshed rows, whose run does more than score.
    excess, excess_low, excess_high
        Cost above that of the cheapest row of the block, and its 95 % interval, see `intervals.interval_of`.
    excess_error
        Its standard error, from how far the days differ.
    """

    ap: float
    roc_auc: float
    recall: float
    recall_by_value: float
    precision: float
    f1: float
    cases_per_day: float
    cost: float
    savings: float
    fit_seconds: float
    score_us: float
    excess: float
    excess_low: float
    excess_high: float
    excess_error: float


def is_over_budget(figures: Figures, costs: CostPolicy) -> bool:
    """Return whether a strategy opens more cases than there is time for."""
    budget = costs.alert_budget_cases_per_day
    return budget is not None and figures.cases_per_day > budget


@dataclass(frozen=True, slots=True)
class Row:
    """One strategy in one block: figures and decisions, or the reason why it was left out.

    Attributes
    ----------
    strategy, family, meaning
        As in `Strategy`.
    block
        Its block.
    rule
        Where it alerts; None for the worker's own rows, which decide as a live worker does.
    caps
        Its bounds; None for the worker's own rows.
    rows_learnt
        Transactions that the last fit learnt from, after sampling.
    left_out
        Why there are no figures; None where there are.
    figures, decided
        None where it was left out.
    """

    strategy: str
    family: str
    meaning: str
    block: Block
    rule: Rule | None = None
    caps: Caps | None = None
    rows_learnt: int = 0
    left_out: str | None = None
    figures: Figures | None = None
    decided: Decided | None = None


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What follows from the table and the costs.

    Attributes
    ----------
    strategy
        Name of the recommended strategy; None where no row has figures.
    block
        Of the row that it was chosen from.
    cheapest
        Name of the cheapest strategy of that block.
    common_advice
        Names of the strategies that common advice names for this severity.
    paragraphs
        The recommendation in words, plain text.
    """

    strategy: str | None
    block: Block
    cheapest: str | None
    common_advice: tuple[str, ...]
    paragraphs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that the table and the report show.

    Attributes
    ----------
    source
        Name of the file, or `simulated traffic`.
    transactions, known, frauds
        Rows of the data set, those whose truth is known, and the frauds among these.
    prevalence
        Share of frauds among the known.
    severity
        Of that prevalence.
    windows
        In order of time: warm-up, train, tune, gap, test.
    delay_days
        Age at which a verdict counts as known: the label delay. Where delays vary, `labels.negatives_after_days`, or
        what nine in ten fraud labels take if that is longer, but no longer than a gap of `--windows`.
    delay_varies
        Whether delays vary.
    features
        `journalled` or `raw`.
    feature_names
        Names of the features that the strategies saw.
    costs
        The user's costs.
    seed
        Of everything random.
    test
        The judged transactions.
    rows
        The frozen block, then the refreshed one; each in the order of the registry, the worker's own rows last.
    recommendation
        Follows from the rows.
    notes
        What the reader has to know, such as a column left out; plain sentences.
    interrupted
        Whether rows are missing because the user stopped the comparison.
    unjudged
        Transactions of the test window whose truth is unknown: of the figures, they count in cases a day alone.
    """

    source: str
    transactions: int
    known: int
    frauds: int
    prevalence: float
    severity: Severity
    windows: tuple[Window, ...]
    delay_days: float
    delay_varies: bool
    features: str
    feature_names: tuple[str, ...]
    costs: CostPolicy
    seed: int
    test: JudgedRows
    rows: tuple[Row, ...]
    recommendation: Recommendation
    notes: tuple[str, ...] = ()
    interrupted: bool = False
    unjudged: int = 0

    def block(self, block: Block) -> tuple[Row, ...]:
        """Return the rows of one block."""
        return tuple(row for row in self.rows if row.block is block)

    def cheapest(self, block: Block) -> Row | None:
        """Return the row of a block that cost least; None where none has figures."""
        judged = [(row.figures.cost, row) for row in self.block(block) if row.figures is not None]
        return min(judged, key=lambda it: it[0])[1] if judged else None

    def to_json(self) -> dict[str, Any]:
        """Return the table as JSON values, without the decisions; figures that are undefined are None."""
        return {
            "source": self.source,
            "transactions": self.transactions,
            "known": self.known,
            "frauds": self.frauds,
            "prevalence": _json_number(self.prevalence),
            "severity": self.severity.value,
            "windows": [asdict(window) for window in self.windows],
            "delay_days": self.delay_days,
            "delay_varies": self.delay_varies,
            "features": self.features,
            "feature_names": list(self.feature_names),
            "costs": asdict(self.costs),
            "seed": self.seed,
            "rows": [_json_row(row) for row in self.rows],
            "recommendation": {**asdict(self.recommendation), "block": self.recommendation.block.value},
            "notes": list(self.notes),
            "interrupted": self.interrupted,
            "unjudged": self.unjudged,
        }


def _json_row(row: Row) -> dict[str, Any]:
    names = [it.name for it in fields(Figures)]
    figures = {
        name: None if row.figures is None else _json_number(getattr(row.figures, name)) for name in names
    }
    return {
        "strategy": row.strategy,
        "block": row.block.value,
        "family": row.family,
        "meaning": row.meaning,
        "rule": None if row.rule is None else row.rule.value,
        "caps": None if row.caps is None else asdict(row.caps),
        "rows_learnt": row.rows_learnt,
        "left_out": row.left_out,
        **figures,
    }


def _json_number(value: float) -> float | None:
    return value if math.isfinite(value) else None
