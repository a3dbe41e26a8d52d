"""The product's own simulation, at four shares of fraud, with a change of pattern."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from models.vocabulary import MS_PER_DAY
from tests.tools.quality.streams import Loaded, Stream, Window
from worker.offline.dataset import NEVER
from worker.simulation import Traffic, simulate

DAYS: Final = 120
CHANGE_DAY: Final = 90


def simulated(
    cards: int, prevalence: float, seed: int, days: int = DAYS, change_day: int = CHANGE_DAY
) -> Loaded:
    """Return traffic whose pattern of fraud changes on a day."""
    dataset = simulate(
        Traffic(cards=cards, days=days, prevalence=prevalence, pattern_change_day=change_day, seed=seed)
    )
    return Loaded(dataset, np.ones(len(dataset), np.bool_))


def labels_stop(loaded: Loaded, day: int) -> Loaded:
    """Return the stream without the labels that would come from a day on: the feed is dead."""
    dataset = loaded.dataset
    assert dataset.label_time_ms is not None
    stopped = loaded.label_time_ms >= loaded.start_ms + day * MS_PER_DAY
    return replace(
        loaded, dataset=replace(dataset, label_time_ms=np.where(stopped, NEVER, dataset.label_time_ms))
    )


def _stream(name: str, cards: int, prevalence: float) -> Stream:
    return Stream(
        name=f"simulate {name}",
        about=f"`simulate --cards {cards} --days {DAYS} --prevalence {prevalence:g} --pattern-change-day {CHANGE_DAY}`",
        load=lambda seed: simulated(cards, prevalence, seed),
        tune_days=(32, 60),
        windows=(Window(60, DAYS),),
        seeds=(0, 1, 2),
        money_only=prevalence < 1e-4,
    )


_STOPS: Final = Stream(
    name="simulate, labels stop",
    about="`simulate` at 0.5 % with 3,000 cards; no label comes from day 70 on, and the pattern changes on day 90",
    load=lambda seed: labels_stop(simulated(3_000, 0.005, seed), 70),
    tune_days=(32, 60),
    windows=(Window(60, DAYS),),
    seeds=(0, 1, 2),
    money_only=True,
)

STREAMS: Final = (
    _STOPS,
    _stream("5 %", 1_000, 0.05),
    _stream("0.5 %", 3_000, 0.005),
    _stream("0.1 %", 5_000, 0.001),
    _stream("1 in 100,000", 10_000, 0.00001),
)
