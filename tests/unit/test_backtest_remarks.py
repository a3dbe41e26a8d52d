from __future__ import annotations

import dataclasses
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from models.vocabulary import Decider
from tests.unit.test_backtest import DATA, MODEL, settings
from worker.offline.backtest import BacktestResult, backtest
from worker.offline.backtest_remarks import remarks
from worker.offline.figures import stretch

COSTS = {"review_cost": 3.0, "missed_fraud_fixed": 2.0, "missed_fraud_factor": 0.5}
ALONE = MODEL | {"challenger": "off"}


def cold(rows: int = 1_000, **sections: Any) -> BacktestResult:
    return backtest(settings(**({"model": ALONE} | sections)), DATA.take(np.arange(rows)))


def said(result: BacktestResult) -> str:
    return "\n".join(remarks(result))


@pytest.fixture(scope="module")
def young() -> BacktestResult:
    return cold()


def test_a_file_of_fewer_frauds_than_the_model_waits_for_is_said_to_be_one(young: BacktestResult) -> None:
    assert DATA.is_fraud is not None
    frauds = int(np.count_nonzero(DATA.is_fraud[:1_000] & DATA.labelled[:1_000]))
    needy = cold(model=ALONE | {"min_frauds": frauds + 1})
    assert f"What was read has {frauds} labelled frauds in all" in said(needy)
    assert "with model.min_frauds set lower" in said(needy)
    assert "labelled frauds in all" not in said(young)


def test_where_all_that_the_model_needs_came_too_late_the_length_of_commits_is_named(
    young: BacktestResult,
) -> None:
    late = dataclasses.replace(cold(len(DATA) // 2), steady_from_ms=None)
    assert "Both came too late" in said(late)
    assert "(batch.max_event_time_s); of a file of hours 300 shows more" in said(late)
    assert "Both came too late" not in said(young)


def test_a_day_of_more_than_two_budgets_is_named(young: BacktestResult) -> None:
    tight = cold(costs=COSTS | {"alert_budget_cases_per_day": 5.0})
    judged = tight.judged
    all_open = dataclasses.replace(judged, opens_case=np.ones(len(judged), np.bool_))
    days = Counter(datetime.fromtimestamp(it / 1_000, UTC).date() for it in judged.event_time_ms.tolist())
    ((day, cases),) = days.most_common(1)
    text = said(dataclasses.replace(tight, judged=all_open))
    assert f"On {day} {cases:,} cases opened, where the budget is 5 a day" in text
    assert "cases opened, where" not in said(young)


def test_of_the_forest_it_is_said_that_alerts_rank_otherwise_than_average_precision_does(
    young: BacktestResult,
) -> None:
    words = "a high AP may stand beside few frauds alerted"
    assert words in said(young)
    judged = dataclasses.replace(young.judged, decider=np.full(len(young.judged), Decider.NONE, np.uint8))
    none = dataclasses.replace(young, whole=stretch(judged, 3.0, young.whole.start_ms, young.whole.end_ms))
    assert words not in said(none)
