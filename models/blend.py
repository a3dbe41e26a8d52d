"""The deciding model: tables that learn online, and boosted trees refitted with each generation, added as logits.

Neither wins on every stream: trees find interactions that the tables' pairs cannot, and the tables learn a new pattern
within hours of its labels. Their logits are independent, so a weighted sum of the two, fitted on days that neither has
seen (stacking: Wolpert 1992; weights that are not negative: Breiman 1996), is never far from the better of the two and
often better than both. A weight of zero leaves one of them out. Between searches the weights and an offset follow the
verdicts, by the two logits as they were at the decision (`models.mixing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.boosting import BoostingParams, FlatBooster
from models.category_codes import CategoryCodes, odds_elsewhere
from models.column_edges import Binned
from models.differences import Differences
from models.generation import BinnedRows, TrainingRows
from models.linear import LinearStart
from models.mixing import REMEMBERED, follow, information_of
from models.online import BinnedLogistic, LogisticParams
from models.threshold import Calibration

_TABLES: Final = "tables."
_BOOSTER: Final = "booster."
_CODES: Final = "codes."
_LINEAR: Final = "linear."
_DIFFERENCES: Final = "differences."
LEAST_WEIGHT: Final = 1e-3
"""Of less, no share can be said."""


@dataclass(frozen=True, slots=True)
class Trees:
    """A booster over F features of which C are categories, the two numbers that it takes for each of these, and slopes.

    Where the booster starts from slopes, these are of the features, of categories by their odds. Differences of
    features, where it has any, are behind all other columns.
    """

    booster: FlatBooster
    codes: CategoryCodes
    linear: LinearStart | None = None
    differences: Differences | None = None

    @property
    def in_words(self) -> str:
        """What they are, for a log."""
        words = f"{len(self.booster.roots)} trees of {self.booster.most_leaves} leaves"
        words = words if self.differences is None else f"{words} with differences of columns"
        return words if self.linear is None else f"{words} beside slopes"

    def score(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits, float64 (n,)."""
        coded = self._coded(X)
        score = self.booster.score(coded)
        return score if self.linear is None else score + self.linear.score(coded)

    def contributions(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each feature adds to the booster's reference, float64 (n, F)."""
        coded = self._coded(X)
        parts = self.booster.contributions(coded)
        if self.linear is not None:
            parts += self.linear.contributions(coded)
        return self.codes.summed(parts if self.differences is None else self.differences.summed(parts))

    def _coded(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        coded = self.codes.of(X)
        return coded if self.differences is None else self.differences.beside(coded)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return copies of everything as arrays of numbers, by name."""
        parts = {
            _BOOSTER: self.booster.arrays(),
            _CODES: self.codes.arrays(),
            _LINEAR: {} if self.linear is None else self.linear.arrays(),
            _DIFFERENCES: {} if self.differences is None else self.differences.arrays(),
        }
        return {
            f"{prefix}{name}": array.copy() for prefix, part in parts.items() for name, array in part.items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], features: int) -> Trees:
        """Restore what `arrays` returned; raises as its parts do."""
        codes = CategoryCodes.from_arrays(_below(arrays, _CODES), features)
        slopes, pairs = _below(arrays, _LINEAR), _below(arrays, _DIFFERENCES)
        linear = LinearStart.from_arrays(slopes, features) if slopes else None
        differences = Differences.from_arrays(pairs, features) if pairs else None
        columns = features + len(codes.columns) + (0 if differences is None else len(differences.pairs))
        booster = FlatBooster.from_arrays(_below(arrays, _BOOSTER), columns)
        return cls(booster, codes, linear, differences)


class TreeSample(NamedTuple):
    """A sample of rows as trees of any size learn it.

    Attributes
    ----------
    codes
        What is known of categories: it comes from all rows.
    X : float32 (n, F)
        The sample, with the odds of other times for its categories.
    binned
        The same, the ranks of its categories, and the differences.
    y : uint8 (n,)
        1 for fraud.
    w : float64 (n,)
        Sampling weights.
    differences
        Of columns; None for none.
    """

    codes: CategoryCodes
    X: NDArray[np.float32]
    binned: Binned
    y: NDArray[np.uint8]
    w: NDArray[np.float64]
    differences: Differences | None = None

    @classmethod
    def of(
        cls,
        rows: TrainingRows,
        categorical: NDArray[np.bool_],
        boosted: BoostedRows,
        recent: NDArray[np.float32] | None = None,
    ) -> TreeSample:
        """Take a sample of rows that are in transaction order; `recent` is as of `CategoryCodes.of_rows`."""
        codes = CategoryCodes.of_rows(rows, categorical, recent)
        X = codes.of(rows.X[boosted.rows])
        if len(codes.columns):
            X[:, codes.columns] = odds_elsewhere(rows, codes.columns)[boosted.rows]
        features = rows.X.shape[1]
        return cls(codes, X[:, :features], Binned.of(X), rows.y[boosted.rows], boosted.weight)

    def with_differences(self, differences: Differences) -> TreeSample:
        """Return the same rows with differences of their columns, too."""
        beside = Binned.of(differences.of(self.X))
        codes = np.concatenate([self.binned.codes, beside.codes])
        return self._replace(
            binned=Binned([*self.binned.edges, *beside.edges], codes), differences=differences
        )

    def fit(self, params: BoostingParams, seed: int) -> Trees:
        """Fit trees; parameters and seed decide the fit."""
        closed = () if params.by_odds else self.codes.columns
        linear, start = None, None
        if params.linear:
            linear, intercept = LinearStart.fit(self.X, self.y, self.w, seed)
            start = intercept, linear.score(self.X)
        booster = FlatBooster.fit(self.binned, self.y, self.w, params, seed, closed, start)
        return Trees(booster, self.codes, linear, self.differences)


class TableSample(NamedTuple):
    """Rows as tables of as many bins and any rates learn them.

    Attributes
    ----------
    order : int16 (F,)
        Columns as the tables take them.
    binned
        The rows, with their columns in this order.
    """

    order: NDArray[np.int16]
    binned: BinnedRows

    @classmethod
    def of(
        cls,
        rows: TrainingRows,
        categorical: NDArray[np.bool_],
        order: NDArray[np.int16],
        tables: LogisticParams,
    ) -> TableSample:
        """Take rows that are in the order in which they are learnt."""
        ordered = rows._replace(X=rows.X[:, order])
        return cls(order, BinnedLogistic(**tables).binned(ordered, categorical[order]))


@dataclass(frozen=True, slots=True)
class Mix:
    """Weights of the two logits, neither of which is negative, and an offset."""

    tables: float = 1.0
    trees: float = 0.0
    offset: float = 0.0

    @classmethod
    def from_array(cls, numbers: NDArray[Any], name: str = "mix") -> Mix:
        """Read the three numbers, in this order; raises ValueError if they cannot be these."""
        if numbers.shape != (3,) or not np.all(np.isfinite(numbers)) or np.any(numbers[:2] < 0.0):
            msg = f"{name} is not two weights that are finite and not negative, and an offset"
            raise ValueError(msg)
        return cls(*(float(number) for number in numbers))

    def balanced(self, followed: Mix) -> Mix:
        """Return the same weight and offset, shared by tables and trees as another mix shares its own."""
        weight, theirs = self.tables + self.trees, followed.tables + followed.trees
        if theirs < LEAST_WEIGHT:
            return self
        tables = weight * followed.tables / theirs
        return Mix(tables, weight - tables, self.offset)


class Parts(NamedTuple):
    """The logits of tables and trees, float64 (n,); those of the trees are NaN where there are none."""

    tables: NDArray[np.float64]
    trees: NDArray[np.float64]


class Blend:
    """Tables and trees as one model; `learn_batch` alone changes the tables, and `follow` the weights.

    Parameters
    ----------
    tables
        With a generation.
    trees
        None where there are none.
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
        self.order = order
        self._begun = mix
        self._followed = np.array([mix.tables, mix.trees, mix.offset])
        self._information: NDArray[np.float64] | None = None
        self._balance_alone = False
        self._as_declared = bool(np.all(order == np.arange(len(order))))

    @property
    def mix(self) -> Mix:
        """The weights in force."""
        followed = Mix(*self._followed.tolist())
        return self._begun.balanced(followed) if self._balance_alone else followed

    @property
    def trees_in_words(self) -> str:
        """What the trees are, for a log."""
        return "no trees" if self.trees is None else self.trees.in_words

    def score_batch(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits of fraud, float64 (n,)."""
        return self.blended(self.score_parts(X))

    def score_parts(self, X: NDArray[np.float32]) -> Parts:
        """Return the logits of tables and trees."""
        trees = np.full(len(X), np.nan) if self.trees is None else self.trees.score(X)
        return Parts(self.tables.score_batch(self._ordered(X)), trees)

    def blended(self, parts: Parts) -> NDArray[np.float64]:
        """Return the logits of fraud by those of its parts, float64 (n,)."""
        mix, weighed = self.mix, self._weighed(parts)
        return np.asarray(mix.tables * weighed.tables + mix.trees * weighed.trees + mix.offset, np.float64)

    def begin_to_follow(
        self,
        X: NDArray[np.float32],
        w: NDArray[np.float64],
        calibration: Calibration,
        certainty: float,
        *,
        balance_alone: bool = False,
    ) -> None:
        """From now on let the weights follow the verdicts that `follow` is given.

        Parameters
        ----------
        X, w
            Rows like those to come.
        calibration
            Makes a probability of the logit.
        certainty
            How many verdicts, each counted by p (1 - p), the weights in force were fitted to.
        balance_alone
            Whether of what verdicts say only the balance of tables and trees takes force. A late burst of frauds that
            neither knew says that both mean nothing, and that is over by then.
        """
        link = np.array([calibration.slope, calibration.intercept])
        parts = self._weighed(self.score_parts(X))
        self._information = information_of(*parts, w, self._followed, link, certainty)
        self._balance_alone = balance_alone

    def certainty(self, calibration: Calibration) -> float:
        """Return how many verdicts stand behind the weights, each counted by p (1 - p).

        It is the most there can be before `begin_to_follow`; `calibration` is the one that this was given.
        """
        if self._information is None:
            return REMEMBERED
        return float(self._information[2, 2]) / max(abs(calibration.slope), LEAST_WEIGHT) ** 2

    def learn_batch(self, X: NDArray[np.float32], y: NDArray[np.uint8], w: NDArray[np.float64]) -> None:
        """Let the tables learn rows one by one, in their order; see `BinnedLogistic.learn_batch`."""
        self.tables.learn_batch(self._ordered(X), y, w)

    def follow(
        self, decided: Parts, y: NDArray[np.uint8], w: NDArray[np.float64], calibration: Calibration
    ) -> None:
        """Let the weights follow the verdicts on decisions, one by one; they stay until `begin_to_follow`.

        A decision of a model without trees says nothing of the weights of one that has them.

        Parameters
        ----------
        decided
            The logits as of the decisions: when a late verdict is learnt, the parts know what came beside it.
        y : uint8 (n,)
            1 for fraud.
        w : float64 (n,)
        calibration
            Makes a probability of the logit.
        """
        if self._information is None:
            return
        link = np.array([calibration.slope, calibration.intercept])
        parts = self._weighed(decided)
        at = np.flatnonzero(np.isfinite(parts.tables) & np.isfinite(parts.trees))
        follow(parts.tables[at], parts.trees[at], y[at], w[at], link, self._followed, self._information)

    def _weighed(self, parts: Parts) -> Parts:
        """Return the parts as the weights take them: without trees, their logit is 0."""
        return parts._replace(trees=np.zeros(len(parts.tables))) if self.trees is None else parts

    def contributions(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each feature adds to the logit, float64 (n, F); with `reference_logit` they sum to it."""
        out = np.empty((len(X), len(self.order)))
        out[:, self.order] = self.mix.tables * self.tables.contributions(self._ordered(X))
        if self.trees is not None:
            out += self.mix.trees * self.trees.contributions(X)
        return out

    @property
    def reference_logit(self) -> float:
        """The logit from which contributions are counted."""
        reference = self.mix.tables * self.tables.reference_logit + self.mix.offset
        return reference if self.trees is None else reference + self.mix.trees * self.trees.booster.reference

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return copies of everything as arrays of numbers, by name."""
        found = {f"{_TABLES}{name}": array for name, array in self.tables.arrays().items()}
        found |= {"order": self.order.copy(), "mix": np.array(astuple(self._begun))}
        if self._information is not None:
            found["mix_followed"] = self._followed.copy()
            found["mix_information"] = self._information.copy()
            found["balance_alone"] = np.array([self._balance_alone], np.uint8)
        if self.trees is not None:
            found |= self.trees.arrays()
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
        order = arrays["order"]
        if order.dtype != np.int16 or not np.array_equal(np.sort(order), np.arange(len(order))):
            msg = "order is not a permutation of the columns"
            raise ValueError(msg)
        has_trees = any(name.startswith(_BOOSTER) for name in arrays)
        trees = Trees.from_arrays(arrays, len(order)) if has_trees else None
        blend = cls(tables, trees, Mix.from_array(arrays["mix"]), order)
        information = arrays.get("mix_information")
        if information is not None:
            if information.shape != (3, 3) or not np.all(np.isfinite(information)):
                msg = "mix_information is not a finite array of shape (3, 3)"
                raise ValueError(msg)
            blend._information = np.array(information, np.float64)
            blend._followed = np.array(astuple(Mix.from_array(arrays["mix_followed"], "mix_followed")))
            blend._balance_alone = _flag(arrays["balance_alone"])
        return blend

    def _ordered(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        return X if self._as_declared else X[:, self.order]


def build_blend(
    sample: TableSample,
    names: tuple[str, ...],
    tables: LogisticParams,
    mix: Mix = Mix(),
    trees: Trees | None = None,
) -> tuple[Blend, NDArray[np.float64]]:
    """Begin a generation: tables that learn the rows in their order, beside trees that are fitted already.

    Beside it this returns the tables' logit of each row before they had learnt it, float64 (n,).

    Parameters
    ----------
    sample
        In the order in which the rows are learnt, in the bins of `tables`.
    names
        Of the features, as declared.
    tables
        Parameters of the tables.
    mix
        Weights of the logits of tables and trees.
    trees
        None where there are none.
    """
    learner, order = BinnedLogistic(**tables), sample.order
    before = learner.begin(sample.binned, [names[at] for at in order])
    return Blend(learner, trees, mix if trees is not None else replace(mix, trees=0.0), order), before


class BoostedRows(NamedTuple):
    """A sample of the rows, and the weight of each with which it stands for all of them."""

    rows: NDArray[np.int64]
    weight: NDArray[np.float64]

    @classmethod
    def of(cls, rows: TrainingRows, most: int, seed: int) -> BoostedRows:
        """Keep all frauds, up to half of `most`, and as many legits as fit, each weighted for those left out."""
        rng = np.random.default_rng(seed)
        frauds, legits = np.flatnonzero(rows.y == 1), np.flatnonzero(rows.y == 0)
        kept = [_some(frauds, most // 2, rng), _some(legits, most - min(len(frauds), most // 2), rng)]
        weights = [
            rows.w[some] * (len(all_of) / max(len(some), 1))
            for some, all_of in zip(kept, (frauds, legits), strict=True)
        ]
        chosen, weight = np.concatenate(kept), np.concatenate(weights)
        ascending = np.argsort(chosen)
        return cls(chosen[ascending], weight[ascending])


def _some(rows: NDArray[np.int64], most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return rows if len(rows) <= most else rng.choice(rows, most, replace=False)


def _flag(array: NDArray[Any]) -> bool:
    if array.shape != (1,) or array.dtype != np.uint8 or array[0] > 1:
        msg = "balance_alone is not one number, 0 or 1"
        raise ValueError(msg)
    return bool(array[0])


def _below(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
