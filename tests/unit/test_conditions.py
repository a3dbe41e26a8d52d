"""The states that a person should hear of: each is logged once when it begins and once when it ends."""

from __future__ import annotations

import logging
import math

import pytest

from models.payoff import InForce
from models.vocabulary import MS_PER_DAY
from worker.live.conditions import (
    STANDSTILL_S,
    Conditions,
    CutOff,
    Facts,
    OtherSettings,
    Standstill,
    WaitingLabels,
)
from worker.parameters import policy
from worker.settings.sections import CostSettings, KafkaSettings, LabelSettings, Settings
from worker.telemetry.health import WorkerStatus

FINE = Facts(
    feed_halted=False,
    newest_label_ms=20 * MS_PER_DAY,
    clock_ms=20 * MS_PER_DAY,
    online_lambda=1.0,
    policy=InForce(1.0, forest_decides=False, forest_vouched=0),
    forest_is_limited=False,
    held_back=0,
    dated_ahead=0,
    waiting={3: WaitingLabels(0, 0, 20 * MS_PER_DAY, read_all=True)},
    day_closed_ms=10 * MS_PER_DAY,
    day_is_unlabelled=False,
)


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def conditions(caplog: pytest.LogCaptureFixture, clock: Clock) -> Conditions:
    caplog.set_level(logging.INFO, "worker.live.conditions")
    return Conditions(clock)


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    records = [record for record in caplog.records if record.name == "worker.live.conditions"]
    return [(record.levelname, record.getMessage()) for record in records]


HALTED = {"feed_halted": True, "newest_label_ms": 15 * MS_PER_DAY}
BUDGET = {"online_lambda": 2.5, "held_back": 12}
FUTURE = {"waiting": {3: WaitingLabels(40, 22 * MS_PER_DAY, 20 * MS_PER_DAY, read_all=True)}}
LOWER = {"policy": InForce(0.25, forest_decides=False, forest_vouched=0), "online_lambda": 0.25}
NOTHING = {"policy": InForce(math.inf, forest_decides=False, forest_vouched=0), "online_lambda": math.inf}
BY_FOREST = {"policy": InForce(1.0, forest_decides=True, forest_vouched=1)}
SPENT = {"forest_is_limited": True}
AHEAD = {"dated_ahead": 3, "clock_ms": 20 * MS_PER_DAY}
UNLABELLED = {"day_is_unlabelled": True}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (HALTED, ("label feed", "1970-01-16", "labels.max_silence_days")),
        (BUDGET, ("costs.alert_budget_cases_per_day", "2.50", "12 ")),
        (LOWER, ("another threshold", "0.25 reviews")),
        (NOTHING, ("alerts on nothing", "costs.review_cost")),
        (BY_FOREST, ("isolation forest", "it decides")),
        (SPENT, ("two days of costs.alert_budget_cases_per_day",)),
        (FUTURE, ("partition 3", "40 labels wait", "1970-01-23", "1970-01-21")),
        (AHEAD, ("a day or more ahead", "1970-01-21", "producer's clock")),
        (UNLABELLED, ("1970-01-10", "without a label")),
    ],
)
def test_a_state_is_logged_once_when_it_begins_and_once_when_it_ends(
    conditions: Conditions,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    change: dict[str, object],
    words: tuple[str, ...],
) -> None:
    conditions.observe(FINE)
    assert logged(caplog) == []
    holds = Facts(**{**FINE.__dict__, **change})
    for _ in range(5):
        conditions.observe(holds)
        clock.now_s += 1_200
    [(level, message)] = logged(caplog)
    assert level == "WARNING"
    assert [word for word in words if word not in message] == [], message
    conditions.observe(FINE)
    conditions.observe(FINE)
    assert len(logged(caplog)) == 2
    assert logged(caplog)[1][0] == "INFO"


def test_another_policy_in_place_of_one_that_was_logged_is_logged_too(
    conditions: Conditions, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for change in (LOWER, NOTHING, NOTHING, BY_FOREST, {}):
        conditions.observe(Facts(**{**FINE.__dict__, **change}))
        clock.now_s += 1_200
    messages = [message for _, message in logged(caplog)]
    assert len(messages) == 4
    for words, message in zip(
        ("0.25", "on nothing", "it decides", "one review on again"), messages, strict=True
    ):
        assert words in message


def test_a_state_that_comes_and_goes_is_not_logged_at_every_turn(
    conditions: Conditions, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    holds = Facts(**{**FINE.__dict__, **BUDGET})
    for turn in range(1_000):
        conditions.observe(holds if turn % 2 else FINE)
        clock.now_s += 0.05
    assert len(logged(caplog)) == 1


def test_what_the_budget_holds_back_is_summed_until_it_is_logged(
    conditions: Conditions, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    holds = Facts(**{**FINE.__dict__, **BUDGET})
    for _ in range(10):
        conditions.observe(holds)
    clock.now_s += 3_600
    conditions.observe(FINE)
    assert "108 alerts" in logged(caplog)[1][1]


def test_labels_that_wait_in_a_backlog_of_transactions_are_no_news(
    conditions: Conditions, caplog: pytest.LogCaptureFixture
) -> None:
    backlog = WaitingLabels(40, 22 * MS_PER_DAY, 20 * MS_PER_DAY, read_all=False)
    soon = WaitingLabels(40, 20 * MS_PER_DAY + 60_000, 20 * MS_PER_DAY, read_all=True)
    conditions.observe(Facts(**{**FINE.__dict__, "waiting": {0: backlog, 1: soon}}))
    assert logged(caplog) == []


def test_a_group_that_stands_still_is_not_ready_and_logged_once_when_it_begins_and_ends(
    conditions: Conditions, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    del conditions  # sets the level of the log
    status = WorkerStatus()
    status.ready()
    standstill = Standstill(status, clock)
    for clock.now_s in (5.0, 5.0 + STANDSTILL_S / 2):
        standstill.observe(stands=True)
    assert status.snapshot().ready, "an ordinary rebalance"
    for clock.now_s in (5.0 + STANDSTILL_S, 60.0, 65.0):
        standstill.observe(stands=True)
        assert not status.snapshot().ready
        assert "the group rebalances" in status.snapshot().reason
    standstill.observe(stands=False)
    assert not status.snapshot().ready, "the take-over says what the worker is then"
    standstill.observe(stands=False)
    (_, began), ended = logged(caplog)
    assert "kafka.max_poll_interval_s" in began
    assert ended == ("INFO", "the group has rebalanced, after 60 s")


def test_a_worker_that_kafka_does_not_answer_is_not_ready_until_it_does_again(
    conditions: Conditions, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    del conditions
    status = WorkerStatus()
    status.not_ready("restoring partition 2")
    cut_off = CutOff(status, clock)
    for clock.now_s, is_cut_off in (
        (1.0, False),
        (5.0, True),
        (9.0, True),
        (9.5, False),
        (20.0, True),
        (24.0, True),
    ):
        cut_off.observe(is_cut_off=is_cut_off)
    assert status.snapshot().reason == "restoring partition 2", "a step that kept the heartbeats back"
    for clock.now_s in (25.0, 45.0):
        cut_off.observe(is_cut_off=True)
    assert (status.snapshot().ready, status.snapshot().reason) == (False, "Kafka does not answer")
    cut_off.observe(is_cut_off=False)
    assert status.snapshot().reason == "restoring partition 2", "what it waited for before it still waits for"
    status.ready()
    for clock.now_s in (50.0, 55.0):
        cut_off.observe(is_cut_off=True)
    assert not status.snapshot().ready
    cut_off.observe(is_cut_off=False)
    assert status.snapshot().ready
    (_, began), ended, *_ = logged(caplog)
    assert "no transaction is decided until it does" in began
    assert ended == ("INFO", "Kafka answers again, after 25 s")


def test_ordinary_rebalances_one_after_another_are_no_standstill(
    conditions: Conditions, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    del conditions
    status = WorkerStatus()
    status.ready()
    standstill = Standstill(status, clock)
    for step in range(20):
        clock.now_s = step * STANDSTILL_S * 0.9
        standstill.observe(stands=step % 2 == 0)
    assert status.snapshot().ready
    assert logged(caplog) == []


def settings_with(review_cost: float = 5.0, horizon_days: float = 60.0) -> Settings:
    return Settings(
        entity_key="00" * 16,
        kafka=KafkaSettings(group="cards"),
        costs=CostSettings(review_cost=review_cost),
        labels=LabelSettings(horizon_days=horizon_days),
    )


def test_settings_of_another_worker_in_force_are_logged_once_a_change_with_both_values_and_the_remedy(
    conditions: Conditions, caplog: pytest.LogCaptureFixture
) -> None:
    del conditions  # sets the level of the log
    own = settings_with()
    shown: list[bool] = []
    watch = OtherSettings(own, shown.append)
    for in_force in (own, settings_with(9.0, 90.0), settings_with(9.0, 90.0), settings_with(9.0), own, own):
        watch.observe(policy(in_force))
    (first_level, first), (second_level, second), ended = logged(caplog)
    assert (first_level, second_level, ended[0]) == ("WARNING", "WARNING", "INFO")
    assert "costs.review_cost = 9.0 (here 5.0); labels.horizon_days = 90.0 (here 60.0)." in first
    assert "Give all workers of kafka.group = 'cards' the same settings" in first
    assert "the newest start decides" in first
    assert "costs.review_cost = 9.0 (here 5.0)." in second
    assert "labels.horizon_days" not in second
    assert "this worker's settings are in force again" in ended[1]
    assert shown == [True, True, False]


def test_settings_that_come_and_go_at_once_are_each_logged_for_no_clock_decides(
    conditions: Conditions, caplog: pytest.LogCaptureFixture
) -> None:
    del conditions
    watch = OtherSettings(settings_with(), lambda _: None)
    for review_cost in (9.0, 5.0, 9.0, 5.0):
        watch.observe(policy(settings_with(review_cost)))
    assert [level for level, _ in logged(caplog)] == ["WARNING", "INFO", "WARNING", "INFO"]
