"""How tables and trees may be made, and what a search chooses of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.blend import Mix
from models.boosting import BoostingParams
from models.online import LogisticParams
from models.threshold import Calibration

_FAST: Final[LogisticParams] = {"learning_rate": 0.1, "cross_learning_rate": 0.06}
_COARSE: Final[LogisticParams] = {"main_bins": 16, "cross_bins": 8}
"""Where frauds are few, fewer weights are learnt better."""
TABLES: Final[tuple[LogisticParams, ...]] = ({}, {"passes": 3}, _COARSE, _FAST, {**_COARSE, **_FAST})
FOR_NEARLY_NO_FRAUDS: Final = TABLES.index(_COARSE)
"""The place of the tables that are made where nothing can be judged."""
_HALF: Final = (0.5,)
_BASE: Final = BoostingParams(learning_rate=0.05, least_hessian=5.0)
_SMALL: Final = replace(_BASE, trees=250, leaves=7, column_shares=(1.0, 0.5))
"""Half of the columns for each tree are best on some streams, all of them on others; in turn they are near the better.

With larger trees, half are as good and take less time.
"""
_MIDDLE: Final = replace(_BASE, trees=200, leaves=15, column_shares=_HALF)
_LARGE: Final = replace(_BASE, trees=800, leaves=15, learning_rate=0.06, column_shares=_HALF)
_LARGEST: Final = replace(_BASE, trees=350, leaves=63, column_shares=_HALF)
_HUGE: Final = replace(
    _BASE, trees=500, leaves=127, l2=5.0, least_hessian=1.0, column_shares=_HALF, rows=60_000, by_odds=False
)
"""Where many small groups of payments are nearly all fraud, as those of accounts that were taken over.

Trees as deep know a value by its rank, and from the odds of it at other times they would learn when its frauds were.
"""
_PAIRS: Final = replace(_BASE, trees=500, leaves=3, learning_rate=0.09)
"""Two splits a tree: a sum of effects of single columns and of pairs, which is best where there is little else."""
_FEW_PAIRS: Final = replace(_PAIRS, trees=125)
_FEW_MIDDLE: Final = replace(_MIDDLE, trees=100)
"""Where what can be known says little of who is a fraud, as much of real data does, a fit that stops early is best.

Thousands of frauds bear all the trees.
"""
_PLAIN: Final = (_SMALL, _MIDDLE, _LARGE, _LARGEST, _PAIRS, _HUGE, _FEW_PAIRS, _FEW_MIDDLE)
_WITHOUT_DIFFERENCES: Final = (*_PLAIN, *(replace(it, linear=True) for it in _PLAIN if it is not _HUGE))
TREES: Final = (*_WITHOUT_DIFFERENCES, *(replace(it, differences=True) for it in _WITHOUT_DIFFERENCES))
"""Choices record the places of these and of `TABLES`, so that none may move: a new size raises `FOLD_VERSION`."""
FOR_FEW_FRAUDS: Final = tuple(TREES.index(it) for it in (_SMALL, _FEW_PAIRS, _FEW_MIDDLE, _PAIRS, _MIDDLE))
FOR_MANY_FRAUDS: Final = tuple(TREES.index(it) for it in (_SMALL, _PAIRS, _LARGE, _LARGEST, _HUGE))
"""The places of the candidates in `TREES`: the one that stays where no other is better, then the others in turn."""
_STOPPED_EARLY: Final = (_FEW_PAIRS, _FEW_MIDDLE)
_MOST_GROWTH: Final = 2.0
_MOST_TREES: Final = 1_000
"""The time to score a row grows with the trees and their leaves."""


def with_slopes(at: int) -> list[int]:
    """Return the place of the same trees that start from slopes; nothing for the largest.

    These take most of the time of a search, and have leaves enough for what is linear.
    """
    sloped = replace(TREES[at], linear=True)
    return [TREES.index(sloped)] if sloped in TREES else []


def with_differences(at: int) -> list[int]:
    """Return the place of the same trees that may split differences of columns."""
    return [TREES.index(replace(TREES[at], differences=True))]


class Shadow(NamedTuple):
    """The trees of a challenger, which of `TREES`, and their weights beside the tables that decide."""

    trees_at: int
    mix: Mix

    @classmethod
    def from_array(cls, numbers: NDArray[Any]) -> Shadow:
        """Read a record's numbers; raises ValueError where they name no candidate."""
        if numbers.shape != (4,) or numbers[0] not in range(len(TREES)):
            msg = "shadow is not the number of a candidate and three weights"
            raise ValueError(msg)
        return cls(int(numbers[0]), Mix.from_array(numbers[1:]))


@dataclass(frozen=True, slots=True)
class Choice:
    """What a search chose, in numbers: it is part of the generation's record.

    Attributes
    ----------
    tables_at, trees_at
        Which of `TABLES` and `TREES`; -1 for no trees.
    mix
        Weights of their logits.
    order : int16 (F,)
        Columns as the tables take them.
    calibration
        Makes a probability of the logit; None where too few frauds were judged.
    tables_loss, trees_loss, blend_loss
        Mean weighted log loss of each on the judged days; NaN where nothing was judged.
    age
        Generations made by this choice before.
    rows
        How many the search had.
    known_frauds
        How many the trees of the search knew, in the mean of its cuts.
    shadow
        The challenger beside these tables; None where there is none.
    """

    tables_at: int
    trees_at: int
    mix: Mix
    order: NDArray[np.int16]
    calibration: Calibration | None = None
    tables_loss: float = float("nan")
    trees_loss: float = float("nan")
    blend_loss: float = float("nan")
    age: int = 0
    rows: int = 0
    known_frauds: int = 0
    shadow: Shadow | None = None

    @property
    def has_judged(self) -> bool:
        """Whether enough was known to judge anything; if not, the choice is a default."""
        return not np.isnan(self.blend_loss)

    def size(self, frauds: int) -> BoostingParams:
        """Return how trees are fitted to so many frauds: there are more trees if the search knew fewer frauds.

        What is best for fewer frauds is too little for all, but where a fit that stops early was best: there more trees
        learn chance.
        """
        its = TREES[self.trees_at if self.shadow is None else self.shadow.trees_at]
        if replace(its, linear=False, differences=False) in _STOPPED_EARLY:
            return its
        growth = min(max(frauds / max(self.known_frauds, 1), 1.0), _MOST_GROWTH)
        return replace(its, trees=min(round(its.trees * growth), _MOST_TREES))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the numbers that `from_arrays` reads, beside those of the blend."""
        numbers = (self.tables_at, self.trees_at, self.age, self.rows, self.known_frauds)
        losses = (self.tables_loss, self.trees_loss, self.blend_loss)
        found = {"choice": np.array(numbers, np.int64), "losses": np.array(losses)}
        if self.shadow is not None:
            found["shadow"] = np.array([self.shadow.trees_at, *astuple(self.shadow.mix)])
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], mix: Mix, order: NDArray[np.int16]) -> Choice:
        """Read a choice back.

        Raises
        ------
        KeyError, ValueError
            An array is absent, or names no candidate.
        """
        tables_at, trees_at, age, rows, known_frauds = (int(number) for number in arrays["choice"])
        if not (0 <= tables_at < len(TABLES) and -1 <= trees_at < len(TREES)):
            msg = f"no candidate has the numbers {tables_at} and {trees_at}"
            raise ValueError(msg)
        tables, trees, blend = (float(loss) for loss in arrays["losses"])
        shadow = Shadow.from_array(arrays["shadow"]) if "shadow" in arrays else None
        return cls(
            tables_at, trees_at, mix, order, None, tables, trees, blend, age, rows, known_frauds, shadow
        )
