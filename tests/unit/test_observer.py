"""What a worker's log says of its cycles: who decides, and that labels find no decision."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from models.vocabulary import Decider
from worker.live.observer import MetricsObserver


@pytest.fixture
def observer(caplog: pytest.LogCaptureFixture) -> MetricsObserver:
    caplog.set_level(logging.INFO, "worker.live.observer")
    model: Any = SimpleNamespace(frauds_learnt=7, policy=SimpleNamespace(min_frauds=100))
    nothing: Any = None
    return MetricsObserver(nothing, model, {}, nothing, ("payments", "chargebacks"))


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "worker.live.observer"]


def test_who_decides_is_said_when_somebody_else_begins_to_and_not_again(
    observer: MetricsObserver, caplog: pytest.LogCaptureFixture
) -> None:
    for decider in (Decider.NONE, Decider.NONE, Decider.FOREST, Decider.FOREST, Decider.ONLINE):
        observer._tell_decider(np.full(5, decider, np.uint16))
    observer._tell_decider(np.array([Decider.FOREST, Decider.ONLINE, Decider.ONLINE], np.uint16))
    nobody, forest, online = said(caplog)
    assert "nobody decides yet" in nobody
    assert "model.forest_min_rows" in nobody
    assert forest == "the isolation forest decides; frauds learnt: 7 of model.min_frauds = 100"
    assert online == "the online model decides; frauds learnt: 7"


def test_labels_without_a_decision_are_warned_of_once(
    observer: MetricsObserver, caplog: pytest.LogCaptureFixture
) -> None:
    observer._tell_orphans(2)
    observer._tell_orphans(3)
    [warning] = said(caplog)
    assert warning.startswith("chargebacks, partition 2: orphan_label goes to the dead letters: ")
    assert "label_time lies before the transaction" in warning
