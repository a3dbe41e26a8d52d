"""Made-up comparisons for the tests of the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from models.evaluation import evaluate
from models.threshold import CostPolicy
from models.vocabulary import MS_PER_DAY
from models.working_points import WorkingPoints, first_alerts
from worker.offline.compare.result import (
    OURS,
    Block,
    Comparison,
    Decided,
    Figures,
    JudgedRows,
    Recommendation,
    Row,
    Severity,
    Window,
)
from worker.offline.compare.strategy import Caps, Rule

START_MS = 1_709_251_200_000
TEST_DAYS = 14
COSTS = CostPolicy(review_cost=10.0, loss_fixed=20.0, loss_factor=1.0, alert_budget_cases_per_day=None)
STRENGTHS: Mapping[tuple[str, str], float] = {
    ("logistic", "nothing"): 1.5,
    ("forest", "nothing"): 2.4,
    ("smote", "resampling"): 1.6,
    ("undersampling", "resampling"): 1.4,
    ("class-weights", "weights"): 1.7,
    ("balanced-forest", "ensembles"): 2.3,
    ("isolation-forest", "anomaly"): 0.8,
    ("worker", OURS): 2.8,
}
"""How far the frauds' logits stand out, by strategy and family."""


def judged_rows(rows: int, prevalence: float, seed: int) -> JudgedRows:
    """Return transactions of the test window."""
    rng = np.random.default_rng(seed)
    fraud = rng.random(rows) < prevalence
    amount = rng.lognormal(3.2, 1.0, rows) * np.where(fraud, 2.5, 1.0)
    times = np.sort(rng.integers(0, TEST_DAYS * MS_PER_DAY, rows)) + START_MS + 76 * MS_PER_DAY
    case = np.unique(rng.integers(0, max(rows // 3, 1), rows) + 0 * times, return_inverse=True)[1]
    return JudgedRows(fraud, COSTS.loss(amount), amount, times, case.astype(np.int64))


def decided(test: JudgedRows, strength: float, rule: Rule | None, seed: int) -> Decided:
    """Return the decisions of a strategy whose frauds stand out by `strength`."""
    rng = np.random.default_rng(seed)
    logit = rng.normal(0.0, 1.0, len(test)) + strength * test.fraud
    prior = np.log(np.mean(test.fraud) / np.mean(~test.fraud)) if test.fraud.any() else -6.0
    probability = 1.0 / (1.0 + np.exp(-(strength * logit - strength**2 / 2 + prior)))
    match rule:
        case None | Rule.COST:
            rank, threshold = probability * test.loss / COSTS.review_cost, 1.0
        case Rule.HALF:
            rank, threshold = probability, 0.5
        case Rule.BEST_F1:
            rank = logit
            threshold = WorkingPoints.of(test.fraud, rank, test.loss, test.case).best_f1_threshold()
        case Rule.CHEAPEST:
            rank = logit
            swept = WorkingPoints.of(test.fraud, rank, test.loss, test.case)
            threshold = swept.cheapest_threshold(COSTS.review_cost)
    return Decided(logit, probability, rank, np.full(len(test), threshold), rank >= threshold)


def row(test: JudgedRows, name: tuple[str, str], block: Block, rule: Rule | None, its: Decided) -> Row:
    """Return a row of the table, its interval made up."""
    strategy, family = name
    judged = evaluate(
        fraud=test.fraud,
        score=its.score,
        alerted=its.alerted,
        loss=test.loss,
        opens_case=first_alerts(test.case, its.alerted),
        first_of_window=first_alerts(test.case, np.ones(len(test), np.bool_)),
        review_cost=COSTS.review_cost,
    )
    return Row(
        strategy=strategy,
        family=family,
        meaning=f"what {strategy} does",
        block=block,
        rule=rule,
        caps=None if rule is None else Caps(rows=50_000),
        rows_learnt=40_000,
        figures=Figures(
            ap=judged.ap,
            roc_auc=judged.roc_auc,
            recall=judged.recall,
            recall_by_value=judged.recall_by_value,
            precision=judged.precision,
            f1=judged.f1,
            cases_per_day=judged.cases / TEST_DAYS,
            cost=judged.cost,
            savings=judged.savings,
            fit_seconds=3.21,
            score_us=4.5,
            excess=0.0,
            excess_low=0.0,
            excess_high=0.0,
            excess_error=0.0,
        ),
        decided=its,
    )


def _against(it: Row, cheapest: float) -> Row:
    """Return the row with its cost above the cheapest, and an interval that is made up."""
    if it.figures is None:
        return it
    excess = it.figures.cost - cheapest
    figures = replace(
        it.figures,
        excess=excess,
        excess_low=0.7 * excess,
        excess_high=1.4 * excess,
        excess_error=0.2 * excess,
    )
    return replace(it, figures=figures)


def comparison(
    rows: int = 3_000,
    prevalence: float = 0.01,
    strengths: Mapping[tuple[str, str], float] = STRENGTHS,
    left_out: Sequence[Row] = (),
) -> Comparison:
    """Return a comparison of both blocks."""
    test = judged_rows(rows, prevalence, seed=1)
    rules = list(Rule)
    judged = []
    for block, gain in ((Block.FROZEN, 0.0), (Block.REFRESHED, 0.3)):
        for i, (name, strength) in enumerate(strengths.items()):
            rule = None if name[1] == OURS else rules[i % len(rules)]
            judged.append(row(test, name, block, rule, decided(test, strength + gain, rule, i)))
    cheapest = {
        block: min(it.figures.cost for it in judged if it.block is block and it.figures)
        for block in Block
        if judged
    }
    judged = [_against(it, cheapest[it.block]) for it in judged]
    names = [row.strategy for row in judged if row.block is Block.REFRESHED]
    known = 5 * rows
    return Comparison(
        source="payments.csv",
        transactions=known + 100,
        known=known,
        frauds=int(5 * test.fraud.sum()),
        prevalence=prevalence,
        severity=Severity.of(prevalence),
        windows=tuple(
            Window(name, START_MS + start * MS_PER_DAY, START_MS + end * MS_PER_DAY, count, frauds)
            for name, start, end, count, frauds in (
                ("warm-up", 0, 15, 0, 0),
                ("train", 15, 55, 3 * rows, int(2 * test.fraud.sum())),
                ("tune", 55, 62, rows, int(test.fraud.sum())),
                ("gap", 62, 76, 0, 0),
                ("test", 76, 90, rows, int(test.fraud.sum())),
            )
        ),
        delay_days=7.0,
        delay_varies=False,
        features="journalled",
        feature_names=("amount", "hour", "card_count_short"),
        costs=COSTS,
        seed=42,
        test=test,
        rows=(*judged, *left_out),
        recommendation=Recommendation(
            strategy=names[-1] if names else None,
            block=Block.REFRESHED,
            cheapest=names[-1] if names else None,
            common_advice=("smote", "class-weights"),
            paragraphs=(
                "Take the worker as it would run. Of the simplest strategies within noise of the cheapest it is the"
                " first.",
                "Common advice for this severity would have been smote or class-weights.",
            ),
        ),
        notes=("One column was left out: it is empty.",),
    )
