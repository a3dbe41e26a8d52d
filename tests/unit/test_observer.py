"""What a worker logs of its cycles: a change of the decider, and labels that find no decision."""

from __future__ import annotations

import dataclasses
import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.blend import Mix
from models.candidates import TABLES, Choice
from models.online import BinnedLogistic
from models.state import GenerationStart
from models.vocabulary import MS_PER_DAY, Decider, Flag, LabelEffect, LabelKind, LabelSource
from tests.support.partition import labels
from worker.live.observer import MetricsObserver, _held_back
from worker.settings.sections import TopicSettings
from worker.wire.decoder import LabelColumns


@pytest.fixture
def observer(caplog: pytest.LogCaptureFixture) -> MetricsObserver:
    caplog.set_level(logging.INFO, "worker.live.observer")
    layout = SimpleNamespace(names=("amount",), dates=())
    model: Any = SimpleNamespace(
        frauds_learnt=7,
        policy=SimpleNamespace(min_frauds=100),
        layout=layout,
        shared=SimpleNamespace(evictions=40),
    )
    nothing: Any = None
    metrics: Any = SimpleNamespace(watched_for_drift=lambda _: None)
    return MetricsObserver(
        metrics, model, {}, nothing, TopicSettings(transactions="payments", labels="chargebacks")
    )


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "worker.live.observer"]


def test_each_change_of_the_decider_is_logged_once(
    observer: MetricsObserver, caplog: pytest.LogCaptureFixture
) -> None:
    for decider in (Decider.NONE, Decider.NONE, Decider.FOREST, Decider.FOREST, Decider.ONLINE):
        observer._log_decider(np.full(5, decider, np.uint16))
    observer._log_decider(np.array([Decider.FOREST, Decider.ONLINE, Decider.ONLINE], np.uint16))
    none, forest, online = logged(caplog)
    assert "no decider yet" in none
    assert "model.forest_min_rows" in none
    assert forest == (
        "the isolation forest decides; labelled frauds: 7; model.min_frauds = 100 of them, and 1000 examples in all, "
        "must be older than labels.negatives_after_days"
    )
    assert online == "the online model decides; frauds learnt: 7"


def test_drift_is_counted_and_logged_by_name(
    observer: MetricsObserver, caplog: pytest.LogCaptureFixture
) -> None:
    days = iter([[], ["amount", "score"]])
    counted: list[list[str]] = []
    rest: Any = observer
    rest._drift = SimpleNamespace(
        decided=lambda *_: next(days), matured=lambda day, *_: ["base_rate"] * (day == 3)
    )
    rest._metrics = SimpleNamespace(drifted=counted.append)
    rest._tasks = {0: SimpleNamespace(clock_ms=5)}
    rest._model.verdicts_until_ms = None
    outcome: Any = SimpleNamespace(
        partition=0, decided=SimpleNamespace(rows=SimpleNamespace(features=None, probability=None))
    )
    rest._observe_drift([outcome])
    assert (counted, logged(caplog)) == ([], [])
    rest._model.verdicts_until_ms = 4 * MS_PER_DAY
    rest._model.ledger = SimpleNamespace(fraud_of_day=lambda day: (float(day), 10))
    rest._observe_drift([outcome])
    assert counted == [["amount", "score", "base_rate"]]
    assert "amount, score, base_rate" in logged(caplog)[0]


@pytest.mark.parametrize(
    ("change_ms", "said"),
    [
        (0, ""),
        (
            1_706_140_800_000,
            "; everything changed at 2024-01-25 00:00:00Z, and it has learnt what came since",
        ),
    ],
)
def test_each_generation_is_logged_once_with_what_it_was_made_of(
    caplog: pytest.LogCaptureFixture, change_ms: int, said: str
) -> None:
    caplog.set_level(logging.INFO, "worker.live.observer")
    choice = Choice(2, 0, Mix(0.25, 0.75), np.arange(2, dtype=np.int16), None, 0.03, 0.02, 0.0125)
    tables, trees = BinnedLogistic(**TABLES[choice.tables_at]), "250 trees of 7 leaves"
    model: Any = SimpleNamespace(
        choice=choice, generation=GenerationStart(12, 5, 100, change_ms), silent_weight=0.5, policy=None,
        challenger=None,
        layout=SimpleNamespace(names=("amount",), dates=()),
        shared=SimpleNamespace(evictions=0), online=SimpleNamespace(tables=tables, trees_in_words=trees),
    )  # fmt: skip
    shown: list[Any] = []
    metrics: Any = SimpleNamespace(
        model=SimpleNamespace(generation=lambda *given: shown.append(given)), watched_for_drift=lambda _: None
    )
    nothing: Any = None
    observer = MetricsObserver(metrics, model, {}, nothing, TopicSettings())
    observer._observe_generation()
    observer._observe_generation()
    assert logged(caplog) == [
        "a generation takes force: 0.25 of tables of 16 bins and 8 in crosses, learnt in 1 pass at rates of 0.05 and "
        "0.03, and 0.75 of 250 trees of 7 leaves; "
        "judged log loss 0.03000, 0.02000, together 0.01250; an alert that no label answers weighs 0.50"
        + said
    ]
    assert shown == [({"tables": 0.03, "trees": 0.02, "both": 0.0125}, 0.5, change_ms)]


def test_labels_without_a_decision_are_warned_of_once(
    observer: MetricsObserver, caplog: pytest.LogCaptureFixture
) -> None:
    counted: list[tuple[str, str, int]] = []
    metrics: Any = observer._metrics
    metrics.dead_lettered = lambda *given: counted.append(given)
    settling = SimpleNamespace(orphans=np.array([0, 2, 5]), wrong_card=np.array([2]))
    for partition in (2, 3):
        outcome: Any = SimpleNamespace(
            partition=partition, by_label=settling, labels=LabelColumns.none(), overflow=LabelColumns.none()
        )
        observer._observe_unused(outcome)
    assert counted == 2 * [("settle", "orphan_label", 2), ("settle", "wrong_card", 1)]
    warning, other = logged(caplog)
    assert other.startswith("chargebacks, partition 2: wrong_card goes to the dead letters: ")
    assert warning.startswith("chargebacks, partition 2: orphan_label goes to the dead letters: ")
    assert "label_time lies before the transaction" in warning


def test_alerts_that_the_budget_held_back_are_counted() -> None:
    scores: Any = SimpleNamespace(
        flags=np.array(
            [Decider.ONLINE, Decider.ONLINE | Flag.ALERTED, Decider.FOREST, Decider.ONLINE], np.uint16
        ),
        ratio=np.array([2.0, 9.0, 2.0, 0.5]),
        alerted=np.array([False, True, False, False]),
        least_lambda=1.0,
    )
    decided: Any = SimpleNamespace(scores=scores)
    assert _held_back([decided, decided]) == 2


class Task:
    """As much of a partition's task as evictions show."""

    def __init__(self, cards: int, values: int) -> None:
        self.cards = SimpleNamespace(evictions=cards, value_evictions=values)


def test_evictions_that_a_restore_repeats_are_not_counted_again(observer: MetricsObserver) -> None:
    counted: list[tuple[int, int, int]] = []
    rest: Any = observer
    rest._metrics = SimpleNamespace(evicted=lambda *counts: counted.append(counts))
    kept, gained = Task(1_000, 500), Task(9_000, 4_000)
    rest._tasks = {0: kept, 1: Task(70, 7)}
    rest._count_evictions()
    kept.cards.evictions += 3
    rest._tasks[1].cards.value_evictions += 2
    rest._model.shared.evictions += 5
    rest._count_evictions()
    rest._tasks[1] = gained
    kept.cards.evictions += 1
    rest._count_evictions()
    gained.cards.evictions += 4
    rest._count_evictions()
    assert counted == [(0, 0, 0), (3, 5, 2), (1, 0, 0), (4, 0, 0)]


def test_a_label_that_waits_for_several_days_is_surplus_once(observer: MetricsObserver) -> None:
    rest: Any = observer
    counted: list[list[int]] = []
    rest._metrics = SimpleNamespace(surplus_labels=lambda source: counted.append(source.tolist()))
    rest._tasks = {0: SimpleNamespace(clock_ms=0)}
    source = np.array([LabelSource.ANALYST, LabelSource.CHARGEBACK], np.uint8)
    outcome: Any = SimpleNamespace(
        partition=0,
        surplus=SimpleNamespace(offsets=np.array([7, 8]), source=source),
        overflow=LabelColumns.none(),
        released=SimpleNamespace(offsets=np.array([7])),
    )
    rest._observe_surplus(outcome)
    assert counted == [[LabelSource.CHARGEBACK]]


def test_of_labels_past_the_horizon_a_fraud_counts_for_the_figures_by_arrival(
    observer: MetricsObserver,
) -> None:
    rest: Any = observer
    counted: list[Any] = []
    rest._metrics = SimpleNamespace(
        labelled=lambda *columns: counted.extend(column.tolist() for column in columns),
        labels_arrived=lambda _: None,
        label_classes=lambda *_: None,
    )
    effects = np.array([LabelEffect.MATCHED, LabelEffect.AFTER_HORIZON, LabelEffect.AFTER_HORIZON], np.uint8)
    nothing = np.empty(0, np.int64)
    settling = SimpleNamespace(
        orphans=nothing,
        postponed=nothing,
        wrong_card=nothing,
        label_effects=effects,
        label_flags=np.zeros(3, np.uint16),
        label_truth=np.array([False, True, False]),
        label_loss=np.array([1.0, 2.0, 3.0]),
        label_delay_ms=np.array([1_000, 2_000, 3_000]),
    )
    three = labels(*((name, LabelKind.FRAUD, 0) for name in "abc"))
    rest._observe_labels(SimpleNamespace(labels=three, by_label=settling, partition=0))
    assert counted == [[0, 0], [False, True], [1.0, 2.0], [1.0, 2.0]]


def test_partitions_on_both_sides_of_midnight_warn_of_a_surplus_once_a_day(
    observer: MetricsObserver, caplog: pytest.LogCaptureFixture
) -> None:
    rest: Any = observer
    rest._metrics = SimpleNamespace(surplus_labels=lambda _: None)
    rest._tasks = {part: SimpleNamespace(clock_ms=part * MS_PER_DAY) for part in (1, 2)}
    surplus = SimpleNamespace(offsets=np.array([7]), source=np.array([LabelSource.ANALYST], np.uint8))
    for partition in (1, 2, 1, 2):
        outcome: Any = SimpleNamespace(
            partition=partition,
            surplus=surplus,
            overflow=LabelColumns.none(),
            released=SimpleNamespace(offsets=np.empty(0, np.int64)),
        )
        rest._observe_surplus(outcome)
    assert sum("labels of source analyst: many more" in line for line in logged(caplog)) == 2


def test_labels_without_room_to_wait_for_their_day_are_counted_as_surplus_and_as_dead_letters(
    observer: MetricsObserver, caplog: pytest.LogCaptureFixture
) -> None:
    rest: Any = observer
    counted: list[Any] = []
    rest._metrics = SimpleNamespace(
        surplus_labels=lambda source: counted.append(source.tolist()),
        dead_lettered=lambda *given: counted.append(given),
    )
    rest._tasks = {0: SimpleNamespace(clock_ms=0)}
    source = np.array([LabelSource.ANALYST, LabelSource.CHARGEBACK], np.uint8)
    two = labels(("a", LabelKind.FRAUD, 1), ("b", LabelKind.FRAUD, 1))
    outcome: Any = SimpleNamespace(
        partition=0,
        by_label=SimpleNamespace(orphans=np.empty(0, np.int64), wrong_card=np.empty(0, np.int64)),
        labels=LabelColumns.none(),
        surplus=LabelColumns.none(),
        overflow=dataclasses.replace(two, offsets=np.array([7, 8]), source=source),
        released=SimpleNamespace(offsets=np.array([7])),
    )
    rest._observe_surplus(outcome)
    rest._observe_unused(outcome)
    assert counted == [[LabelSource.CHARGEBACK], ("settle", "surplus", 2)]
    assert any("partition 0: surplus goes to the dead letters: " in line for line in logged(caplog))
