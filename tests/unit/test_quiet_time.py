"""A file without a transaction for days, as one dated by the month: what is learnt in between, and when."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.state import ModelState
from models.vocabulary import MS_PER_DAY
from worker.offline.dataset import NEVER, Dataset
from worker.offline.worker_run import Moment, WorkerRun
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic, simulate

HOUR_MS = 3_600_000
START_MS = 1_704_067_200_000
LABELLED_DAYS = 7
LONG_HALF_LIFE_DAYS = 20.0
MADE = simulate(Traffic(cards=40, merchants=10, days=5, per_card_day=2.0, prevalence=0.1, seed=5))
HALF = len(MADE) // 2


def dated(days: float) -> Dataset:
    """Date one half to the start and the other so many days later; frauds are labelled half an hour past a week."""
    assert MADE.is_fraud is not None
    times_ms = START_MS + np.repeat([0, round(days * MS_PER_DAY)], [HALF, len(MADE) - HALF])
    labelled_ms = times_ms + LABELLED_DAYS * MS_PER_DAY + HOUR_MS // 2
    return replace(MADE, event_time_ms=times_ms, label_time_ms=np.where(MADE.is_fraud, labelled_ms, NEVER))


def run_of(dataset: Dataset, folder: Path, horizon_days: float = 60.0) -> WorkerRun:
    settings = Settings(
        entity_key="0f" * 16,
        transaction=FIELDS,
        labels={"horizon_days": horizon_days},
        model={"forest_min_rows": 1_000_000, "min_frauds": 1_000_000},
    )
    return WorkerRun(settings, dataset, folder)


def frauds_of_first_half() -> NDArray[np.float64]:
    """Count, for each row of the second half, the frauds of its card in the first."""
    assert MADE.is_fraud is not None
    cards = MADE.card_id.to_pylist()
    frauds = Counter(card for card, fraud in zip(cards[:HALF], MADE.is_fraud[:HALF], strict=True) if fraud)
    return np.array([float(frauds[card]) for card in cards[HALF:]])


def test_the_first_transactions_after_a_quiet_month_are_decided_with_all_labels_that_came_in_it(
    tmp_path: Path,
) -> None:
    its = run_of(dated(30.0), tmp_path)
    decisions = its.to_the_end()

    known = decisions.features[HALF:, its.model.layout.names.index("card_frauds")]
    # Learnt at the next full hour, and half forgotten in each half-life since then.
    since_days = 30.0 - LABELLED_DAYS - 1.0 / 24.0
    expected = frauds_of_first_half() * 2.0 ** (-since_days / LONG_HALF_LIFE_DAYS)
    assert expected.max() > 1.0
    np.testing.assert_allclose(known, expected, rtol=1e-6)


def test_who_looks_at_the_model_in_a_quiet_time_sees_what_came_before_and_no_more(tmp_path: Path) -> None:
    frauds: dict[float, int] = {}

    def look(days: float) -> Moment:
        def note(model: ModelState) -> None:
            frauds[days] = model.frauds_learnt

        return Moment(START_MS + round(days * MS_PER_DAY), note)

    run_of(dated(30.0), tmp_path).to_the_end(moments=[look(7.0), look(8.0), look(29.0)])

    assert MADE.is_fraud is not None
    all_of_them = int(np.count_nonzero(MADE.is_fraud[:HALF]))
    assert frauds == {7.0: 0, 8.0: all_of_them, 29.0: all_of_them}


@pytest.mark.parametrize("days", [0.5, 1.0])
def test_up_to_a_day_without_a_transaction_is_no_quiet_time(days: float, tmp_path: Path) -> None:
    its = run_of(dated(days), tmp_path)
    its.to_the_end()

    # The lineage and the policy, then a commit for each date.
    assert its.model.offset == 3


def test_a_date_of_decades_later_takes_no_longer_than_one_behind_the_horizon(tmp_path: Path) -> None:
    its = run_of(dated(25_000.0), tmp_path, horizon_days=10.0)
    its.to_the_end()

    assert its.model.clock_ms == START_MS + 25_000 * MS_PER_DAY
    hours_before_the_horizon = 10 * 24 - 1
    assert its.model.offset == 3 + hours_before_the_horizon
