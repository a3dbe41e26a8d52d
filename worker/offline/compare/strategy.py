"""What a strategy is: how it makes a model, where it alerts, and how much it may cost to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from worker.offline.compare.sample import Sample


class LeftOutError(Exception):
    """A strategy cannot be run on this data or this machine; the message says why, in words for the table."""


class Rule(Enum):
    """Where a strategy alerts.

    HALF
        Where its probability is above 0.5: what most code does, and what `predict` of scikit-learn does.
    BEST_F1
        At the score with the best F1 on the tuning window.
    COST
        Where calibrated probability times loss pays for a review (Elkan 2001), which that of an open case has done;
        calibrated on the tuning window.
    CHEAPEST
        At the score that cost least on the tuning window; needs no probability.
    """

    HALF = "half"
    BEST_F1 = "best_f1"
    COST = "cost"
    CHEAPEST = "cheapest"


@dataclass(frozen=True, slots=True)
class Caps:
    """Bounds of one strategy, printed beside its row.

    Attributes
    ----------
    rows
        Rows to learn from. Beyond it legits are sampled, each then standing for 1/rate; None for no bound.
    seconds, memory_bytes
        For one block. A process that needs more is ended, and its row says so.
    """

    rows: int | None = None
    seconds: float = 600.0
    memory_bytes: int = 6 << 30


class Model(Protocol):
    """A model of one fit; `seed` decides everything random in it."""

    def fit(self, train: Sample, seed: int) -> None:
        """Learn from a sample; raises `LeftOutError` where it cannot."""

    def score(self, sample: Sample) -> NDArray[np.float64]:
        """Return a score of each row, float64 (n,), a higher one more suspect.

        Where the strategy says `is_probability`, it is the model's own probability of fraud in [0, 1].
        """


class OnlineModel(Protocol):
    """A model that learns row by row, each row once its verdict arrives."""

    def learn(self, sample: Sample) -> None:
        """Learn rows in their order."""

    def score(self, sample: Sample) -> NDArray[np.float64]:
        """Return a score of each row without learning; as `Model.score`."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """One row of the table.

    Attributes
    ----------
    name
        What `--only` and `--skip` take, such as `smote`.
    family
        Name of its module in `families`.
    meaning
        Half a sentence for the report.
    make, make_online
        Makes a new, unfitted model; exactly one of the two is set. The seed of an online model decides everything
        random in it. In the refreshed block a batch model is refitted every week, an online model learns on.
    rule
        Where it alerts.
    is_probability
        Whether its scores are probabilities: only these can be held to 0.5.
    needs
        Modules that an extra brings, with the extra's name: absent, the row says what to install.
    caps
        Bounds of one process.
    """

    name: str
    family: str
    meaning: str
    make: Callable[[], Model] | None = None
    make_online: Callable[[int], OnlineModel] | None = None
    rule: Rule = Rule.HALF
    is_probability: bool = True
    needs: tuple[str, ...] = ()
    caps: Caps = field(default_factory=Caps)
