"""The deciding model: tables that learn online, and boosted trees refitted with each generation, added as logits.

Neither wins on every stream: trees find interactions that the tables' pairs cannot, and the tables learn a new pattern
within hours of its labels. Their logits are independent, so a weighted sum of the two, fitted on days that neither has
seen (stacking: Wolpert 1992; weights that are not negative: Breiman 1996), is never far from the better of the two and
often better than both. A weight of zero leaves one of them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.boosting import BoostingParams, FlatBooster
from models.generation import TrainingRows
from models.online import BinnedLogistic, LogisticParams

_TABLES: Final = "tables."
_BOOSTER: Final = "booster."


@dataclass(frozen=True, slots=True)
class Trees:
    """A booster and which of its features are categories.

    The booster takes a category as the number of the tables' bin. Ordered by their share of frauds, as splits of a
    binary target would have it, categories with few rows overfit: S-FFSD falls from 0.78 to 0.75.

    Attributes
    ----------
    booster
        Over all F features.
    categorical : bool (F,)
    """

    booster: FlatBooster
    categorical: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Mix:
    """Weights of the two logits; neither is negative."""

    tables: float = 1.0
    trees: float = 0.0


class Blend:
    """Tables and trees as one model; `learn_batch` alone changes it, and only the tables.

    Parameters
    ----------
    tables
        With a generation.
    trees
        None where there are none, or their weight is zero.
    mix
        The weights.
    order : int16 (F,)
        Columns as the tables take them: the first ones are crossed.
    """

    def __init__(
        self, tables: BinnedLogistic, trees: Trees | None, mix: Mix, order: NDArray[np.int16]
    ) -> None:
        self.tables = tables
        self.trees = trees
        self.mix = mix
        self.order = order
        self._as_declared = bool(np.all(order == np.arange(len(order))))

    def score_batch(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits of fraud, float64 (n,)."""
        logit = self.mix.tables * self.tables.score_batch(self._ordered(X))
        return logit if self.trees is None else logit + self.mix.trees * self._tree_logit(X, self.trees)

    def learn_batch(self, X: NDArray[np.float32], y: NDArray[np.uint8], w: NDArray[np.float64]) -> None:
        """Let the tables learn rows one by one, in their order; see `BinnedLogistic.learn_batch`."""
        self.tables.learn_batch(self._ordered(X), y, w)

    def contributions(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each feature adds to the logit, float64 (n, F); with `reference_logit` they sum to it."""
        out = np.empty((len(X), len(self.order)))
        out[:, self.order] = self.mix.tables * self.tables.contributions(self._ordered(X))
        if self.trees is not None:
            out += self.mix.trees * self.trees.booster.contributions(self._coded(X, self.trees))
        return out

    @property
    def reference_logit(self) -> float:
        """The logit from which contributions are counted."""
        reference = self.mix.tables * self.tables.reference_logit
        return reference if self.trees is None else reference + self.mix.trees * self.trees.booster.reference

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return copies of everything as arrays of numbers, by name."""
        found = {f"{_TABLES}{name}": array for name, array in self.tables.arrays().items()}
        found |= {"order": self.order.copy(), "mix": np.array([self.mix.tables, self.mix.trees])}
        if self.trees is not None:
            found |= {
                f"{_BOOSTER}{name}": array.copy() for name, array in self.trees.booster.arrays().items()
            }
            found["categorical"] = self.trees.categorical.astype(np.uint8)
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Blend:
        """Restore a model that continues, to the bit, where `arrays` was called.

        Raises
        ------
        KeyError
            An array is absent.
        ValueError
            An array has another type or shape, or holds what no model could.
        """
        tables = BinnedLogistic.from_arrays(_below(arrays, _TABLES))
        order, mix = arrays["order"], arrays["mix"]
        if order.dtype != np.int16 or not np.array_equal(np.sort(order), np.arange(len(order))):
            msg = "order is not a permutation of the columns"
            raise ValueError(msg)
        if mix.shape != (2,) or not np.all(np.isfinite(mix)) or np.any(mix < 0.0):
            msg = "mix is not two weights that are finite and not negative"
            raise ValueError(msg)
        trees = None
        if "categorical" in arrays:
            booster = FlatBooster.from_arrays(_below(arrays, _BOOSTER), len(order))
            categorical = arrays["categorical"].astype(np.bool_)
            if categorical.shape != order.shape:
                msg = "categorical is not of one entry per feature"
                raise ValueError(msg)
            trees = Trees(booster, categorical)
        return cls(tables, trees, Mix(float(mix[0]), float(mix[1])), order)

    def _ordered(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return X if self._as_declared else X[:, self.order]

    def main_bins_of(self, X: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the tables' main bins of every value, uint8 (n, F)."""
        main = np.empty(X.shape, np.uint8)
        main[:, self.order] = self.tables.main_bins_of(self._ordered(X))
        return main

    def _tree_logit(self, X: NDArray[np.float32], trees: Trees) -> NDArray[np.float64]:
        return trees.booster.score(self._coded(X, trees))

    def _coded(self, X: NDArray[np.float32], trees: Trees) -> NDArray[np.float32]:
        return coded(X, self.main_bins_of(X), trees.categorical) if trees.categorical.any() else X


def coded(
    X: NDArray[np.float32], main: NDArray[np.uint8], categorical: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Return X with every category replaced by the number of its bin."""
    out = np.array(X, np.float32)
    out[:, categorical] = main[:, categorical]
    return out


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a generation is made; `models.search` chooses it.

    Attributes
    ----------
    tables, boosting
        Parameters of the two; the booster's are None where there are no trees.
    mix
        Weights of their logits.
    order : int16 (F,)
        Columns as the tables take them.
    """

    tables: LogisticParams
    boosting: BoostingParams | None
    mix: Mix
    order: NDArray[np.int16]


def build_blend(
    rows: TrainingRows,
    names: tuple[str, ...],
    categorical: NDArray[np.bool_],
    recipe: Recipe,
    seed: int,
    boosted: BoostedRows | None = None,
) -> Blend:
    """Begin a generation: tables that have learnt the rows in their order, trees fitted to a sample of them.

    Parameters
    ----------
    rows
        In transaction order.
    names, categorical
        Of the features.
    recipe
        How to make it.
    seed
        Of the trees.
    boosted
        The rows that the trees are fitted to; None takes all.
    """
    order = recipe.order
    learner = BinnedLogistic(**recipe.tables)
    learner.restart(rows.X[:, order], rows.y, rows.w, [names[at] for at in order], categorical[order])
    plain = Blend(learner, None, replace(recipe.mix, trees=0.0), order)
    if recipe.boosting is None or recipe.mix.trees == 0.0:
        return plain
    boosted = boosted or BoostedRows(np.arange(len(rows.y)), rows.w)
    X, y, w = rows.X[boosted.rows], rows.y[boosted.rows], boosted.weight
    booster = FlatBooster.fit(coded(X, plain.main_bins_of(X), categorical), y, w, recipe.boosting, seed)
    return Blend(learner, Trees(booster, categorical), recipe.mix, order)


class BoostedRows(NamedTuple):
    """A sample of the rows, and the weight of each with which it stands for all of them."""

    rows: NDArray[np.int64]
    weight: NDArray[np.float64]


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
