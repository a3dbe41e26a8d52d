"""Made-up figures of the demo."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, Final

from worker.demo.figures import Day, Figures, HandOver, Quality, ShownAlert
from worker.wire.schema import Alert, AlertReason

START_MS: Final = 1_704_067_200_000
DAY_MS: Final = 86_400_000
SETTLED: Final = Quality(
    days=15,
    last_day=16,
    decisions=70_000.0,
    frauds=700.0,
    alerts=1_000.0,
    cases=800.0,
    prevalence=0.01,
    label_coverage=0.97,
    recall=0.6,
    recall_by_value=0.8,
    precision=0.42,
    cost=30_000.0,
    cost_none=120_000.0,
    savings=0.75,
)
UNSETTLED: Final = replace(
    SETTLED,
    days=0,
    last_day=-1,
    decisions=0.0,
    prevalence=math.nan,
    label_coverage=math.nan,
    recall=math.nan,
    recall_by_value=math.nan,
    precision=math.nan,
    savings=math.nan,
)


def alert(decided_by: str = "online", **changes: Any) -> Alert:
    """An alert of 9 January 2024, 15:30 UTC."""
    online = decided_by == "online"
    values = {
        "alert_id": "a1",
        "transaction_id": "t1",
        "card_id": "card-0001234",
        "case_id": "c1",
        "event_time_ms": START_MS + 8 * DAY_MS + 15 * 3_600_000 + 30 * 60_000,
        "amount": 1_234.5,
        "currency": None,
        "decided_by": decided_by,
        "probability": 0.46 if online else None,
        "forest_score": 0.61,
        "forest_rank": 753.0,
        "expected_loss": 17.75 if online else None,
        "threshold": 14.14 if online else 71.8,
        "loss": 1_239.5,
        "review_cost": 5.0,
        "reasons": [
            AlertReason(feature="amount", text="amount", value=1_234.5, contribution=0.7),
            AlertReason(feature="o", text="shop: latest frauds (half-life in days: 1)", value=-1.0, contribution=0.5),
            AlertReason(feature="hour", text="hour of day", value=3.0, contribution=-0.1),
            AlertReason(feature="other_features", text="all other features", value=None, contribution=0.2),
        ],
        "reference": -4.0 if online else None,
        "model_version": "v",
    }  # fmt: skip
    return Alert.model_validate(values | changes)


def figures(**changes: Any) -> Figures:
    """Day 23 of 40: the online model decides since the eighth, 15 days are settled."""
    days = [Day("none", 1.0, math.nan)] + [Day("forest", 1.0, 0.2)] * 6 + [Day("online", 1.6, 0.6)] * 9
    usual = Figures(
        metrics_url="http://127.0.0.1:29999/metrics",
        elapsed_s=69.0,
        duration_s=120.0,
        start_ms=START_MS,
        now_ms=START_MS + 22 * DAY_MS + 14 * 3_600_000 + 5 * 60_000,
        stream_days=40,
        stream_size=182_676,
        decided=98_211,
        alerts=1_204,
        cases=987,
        per_s=1_498.0,
        lag=37,
        latency_p50_s=0.061,
        latency_p99_s=0.14,
        shares={"none": 0.0, "forest": 0.25, "online": 0.75},
        hand_overs=(
            HandOver("none", START_MS),
            HandOver("forest", START_MS + DAY_MS),
            HandOver("online", START_MS + 7 * DAY_MS + 49 * 60_000),
        ),
        frauds_learnt=612,
        frauds_needed=100,
        threshold_lambda=1.26,
        review_cost=5.0,
        forest_cut=114.0,
        reviews_cost=4_935.0,
        missed_cost=23_147.0,
        quality=SETTLED,
        history=(*days, *[Day("online", 1.26, math.nan)] * 7),
        newest=(ShownAlert(alert(), "fraud"), ShownAlert(alert("forest"), "")),
    )
    return replace(usual, **changes)


def at_the_start(**changes: Any) -> Figures:
    """Nothing is decided yet."""
    nothing: dict[str, Any] = {
        "elapsed_s": 0.0,
        "now_ms": START_MS,
        "decided": 0,
        "alerts": 0,
        "cases": 0,
        "per_s": 0.0,
        "lag": 0,
        "latency_p50_s": math.nan,
        "latency_p99_s": math.nan,
        "shares": {},
        "hand_overs": (),
        "frauds_learnt": 0,
        "threshold_lambda": math.nan,
        "forest_cut": math.nan,
        "reviews_cost": 0.0,
        "missed_cost": 0.0,
        "quality": UNSETTLED,
        "history": (),
        "newest": (),
    }
    return figures(**(nothing | changes))
