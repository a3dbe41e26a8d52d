"""Strategies that do well, fail, hang or take too much: a comparison's processes find them by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from worker.offline.compare.engine import Tried, try_out
from worker.offline.compare.isolated import Finished, OnChange, Results
from worker.offline.compare.material import Material
from worker.offline.compare.result import Block
from worker.offline.compare.sample import Sample
from worker.offline.compare.strategy import Caps, LeftOutError, Rule, Strategy

REGISTRY = f"{__name__}:strategy_named"


@dataclass
class FirstFeature:
    """Scores the first feature; keeps what it was given."""

    fitted: list[Sample] = field(default_factory=list)
    scored: list[Sample] = field(default_factory=list)

    def fit(self, train: Sample, seed: int) -> None:
        del seed
        self.fitted.append(train)

    def learn(self, sample: Sample) -> None:
        self.fitted.append(sample)

    def score(self, sample: Sample) -> NDArray[np.float64]:
        self.scored.append(sample)
        return sample.features[:, 0].astype(np.float64)


class Failing(FirstFeature):
    """Does something else when it is fitted for the n-th time.

    Parameters
    ----------
    happen
        What it does.
    """

    def __init__(self, happen: Callable[[], object]) -> None:
        super().__init__()
        self._happen = happen

    def fit(self, train: Sample, seed: int) -> None:
        super().fit(train, seed)
        self._happen()


class NotFinite(FirstFeature):
    def score(self, sample: Sample) -> NDArray[np.float64]:
        return np.where(np.arange(len(sample)) == 0, np.nan, super().score(sample))


def _refuse() -> None:
    raise LeftOutError("fewer frauds than neighbours")


def _crash() -> None:
    raise ValueError("a library\n  was not pleased")


def _grow() -> None:
    grown = [np.ones(4 << 20) for _ in range(60)]
    time.sleep(len(grown))


_BY_NAME = {
    "good": Strategy("good", "fake", "the first feature", FirstFeature, rule=Rule.CHEAPEST, is_probability=False),
    "online": Strategy(
        "online", "fake", "the same, online", make_online=lambda _: FirstFeature(), rule=Rule.CHEAPEST,
        is_probability=False,
    ),
    "half": Strategy("half", "fake", "no probability", FirstFeature, is_probability=False),
    "nan": Strategy("nan", "fake", "not finite", NotFinite, rule=Rule.CHEAPEST, is_probability=False),
    "missing": Strategy("missing", "fake", "needs what is not there", FirstFeature, needs=("xgboost",)),
    "slow": Strategy("slow", "fake", "sleeps", lambda: Failing(lambda: time.sleep(60)), caps=Caps(seconds=0.5)),
    "hungry": Strategy("hungry", "fake", "grows", lambda: Failing(_grow), caps=Caps(memory_bytes=600 << 20)),
}  # fmt: skip
for _name, _happen in {
    "refuses": _refuse,
    "crashes": _crash,
    "exits": lambda: os._exit(3),
    "dies": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "memory": lambda: (_ for _ in ()).throw(MemoryError()).__next__(),
}.items():
    _BY_NAME[_name] = Strategy(_name, "fake", "fails", lambda happen=_happen: Failing(happen))  # type: ignore[misc]


def strategy_named(name: str) -> Strategy:
    return _BY_NAME[name]


def run_here(
    folder: Path, strategies: Sequence[Strategy], *, seed: int, jobs: int, on_change: OnChange
) -> Results:
    """Run strategies one after the other in this process, which is quicker."""
    del jobs, on_change
    material, finished = Material.load(folder), dict[str, Finished]()
    for strategy in strategies:
        blocks: dict[Block, Tried] = {}
        reason = None
        try:
            for tried in try_out(material, strategy, seed):
                blocks[tried.block] = tried
        except LeftOutError as error:
            reason = str(error)
        finished[strategy.name] = Finished(blocks, reason)
    return Results(finished, interrupted=False)
