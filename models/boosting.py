"""Gradient boosted trees, fitted once (`models.growing`) and kept in arrays: compiled loops take rows through them.

The trees score a row in microseconds and explain it exactly: a row's path through a tree changes the expected value at
every split, and each change is credited to the feature that was split on (Saabas 2014), so that a row's contributions
and the reference sum to its logit.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.bins import feature_rows
from models.column_edges import Binned
from models.growing import LEAF, Drawn, Grown, Growth, grow, pass_rows

_BLOCK: Final = 1_024
"""Rows that pass through a tree together."""
_EXPONENT: Final = np.int32(0x7F800000)
"""Its bits are all set in what is not finite."""
_ALL_BUT_SIGN: Final = np.int32(0x7FFFFFFF)
_MISSING: Final = np.int32(0x7FFFFFFF)
"""The place of a missing value: behind that of every number."""
_LEAST_SHARE: Final = 1e-9
"""Of frauds or legits, so that either may be absent."""
_GREATEST: Final = np.finfo(np.float32).max


class _Splits(NamedTuple):
    """S splits of T trees, parents before their children, as rows pass them.

    Attributes
    ----------
    starts : int64 (T + 1,)
        Where the splits of each tree begin.
    feature, node, left, right : int32 (S,)
        What is split on, and the numbers of the node and of its children.
    place, place_beside : int32 (S,)
        Of values in the order of `_places`: those up to the first go left, and so do those at the second.
    """

    starts: NDArray[np.int64]
    feature: NDArray[np.int32]
    node: NDArray[np.int32]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    place: NDArray[np.int32]
    place_beside: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BoostingParams:
    """What a fit is told; the search over these is `models.search`, the candidates are `models.candidates`.

    Attributes
    ----------
    trees, leaves
        How many trees, and the most leaves of each.
    learning_rate
        Shrinkage of every tree.
    l2
        Penalty on the leaves' values: added to the sum of hessians, which for rare frauds is what bounds a leaf.
    least_hessian
        What the hessians on each side of a split sum to at least (Chen and Guestrin 2016). One over it bounds the
        variance of a leaf's value: where fraud is rare, a leaf of a few frauds alone is chance.
    column_shares
        The share of the columns, drawn anew for each tree, that it may split; the trees take these shares in turn.
    rows
        The most rows, in the mean, by which the splits of a tree are found; all rows set the values of its leaves.
    by_odds
        Whether trees may split categories by the odds of fraud of their values (`models.category_codes`), beside
        their ranks.
    linear
        Whether the trees start from the slopes of a linear model (`models.linear`).
    differences
        Whether trees may split differences of two columns (`models.differences`).
    """

    trees: int = 60
    leaves: int = 15
    learning_rate: float = 0.15
    l2: float = 20.0
    least_hessian: float = 0.0
    column_shares: tuple[float, ...] = (1.0,)
    rows: int = 30_000
    by_odds: bool = True
    linear: bool = False
    differences: bool = False


@dataclass(frozen=True, slots=True)
class FlatBooster:
    """M nodes of all trees, one tree after the other.

    Attributes
    ----------
    features
        F, the number of columns that a row has.
    baseline
        The logit before the first tree.
    roots : int32 (T,)
        The first node of each tree.
    feature : int16 (M,)
        What a node splits on; `LEAF` for a leaf.
    threshold : float32 (M,)
        A value at most this goes left.
    missing_left : bool (M,)
        Where a missing value goes.
    left, right : int32 (M,)
        Children; 0 for a leaf.
    value : float64 (M,)
        The leaf's value; of a split, the mean of the leaves below it over the rows of the fit.
    """

    features: int
    baseline: float
    roots: NDArray[np.int32]
    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]
    _splits: _Splits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check()
        node = np.flatnonzero(self.feature != LEAF)
        place = _places(np.minimum(self.threshold[node], _GREATEST) + np.float32(0.0))
        feature, left, right = (its[node].astype(np.int32) for its in (self.feature, self.left, self.right))
        splits = _Splits(
            np.searchsorted(node, np.append(self.roots, len(self.value))),
            feature,
            node.astype(np.int32),
            left,
            right,
            place,
            np.where(self.missing_left[node], _MISSING, place),
        )
        object.__setattr__(self, "_splits", splits)

    @classmethod
    def fit(
        cls,
        binned: Binned,
        y: NDArray[np.uint8],
        w: NDArray[np.float64],
        params: BoostingParams,
        seed: int,
        closed: Collection[int] = (),
        start: tuple[float, NDArray[np.float64]] | None = None,
    ) -> FlatBooster:
        """Fit and flatten.

        Parameters
        ----------
        binned
            The rows; of categories see `models.category_codes`.
        y : uint8 (n,)
            1 for fraud.
        w : float64 (n,)
            Sampling weights.
        params, seed
            What decides the fit.
        closed
            Columns that no tree may split.
        start
            The logit before the first tree: what all rows have in common, and what each, float64 (n,), has beside it.
            None for the log odds of fraud.
        """
        edges, codes = binned
        baseline, beside = (log_odds(y, w), np.zeros(len(y))) if start is None else start
        varied = np.flatnonzero(codes.min(axis=1) != codes.max(axis=1))
        varied = varied[~np.isin(varied, list(closed))]
        if not len(varied):
            return cls._constant(baseline, len(codes))
        bins = np.array([len(edges[at]) + 1 for at in varied])
        rng = np.random.default_rng(seed)
        seen = np.zeros((params.trees, len(varied)), np.bool_)
        for tree, its in enumerate(seen):
            share = params.column_shares[tree % len(params.column_shares)]
            its[rng.permutation(len(varied))[: max(1, math.ceil(share * len(varied)))]] = True
        growth = Growth(params.leaves, params.learning_rate, params.l2, params.rows, params.least_hessian)
        drawn = Drawn(seen, rng.random(params.trees))
        grown = grow(codes[varied], bins, y, w, drawn, growth, baseline + beside)
        return cls._of(grown, baseline, len(codes), varied, [edges[at] for at in varied])

    @classmethod
    def _of(
        cls,
        grown: Grown,
        baseline: float,
        features: int,
        columns: NDArray[np.int64],
        edges: list[NDArray[np.float32]],
    ) -> FlatBooster:
        """Replace columns by features, and codes by the values that they mean."""
        feature = np.where(grown.column == LEAF, LEAF, columns[grown.column]).astype(np.int16)
        threshold = np.full(len(feature), np.inf, np.float32)
        counts = np.array([len(its) for its in edges])
        starts = np.cumsum(counts) - counts
        # Up to edge c are the values of codes 0 to c; behind the last edge only what is missing goes right.
        at = np.flatnonzero((grown.column != LEAF) & (grown.code < counts[grown.column]))
        threshold[at] = np.concatenate(edges)[starts[grown.column[at]] + grown.code[at]]
        return cls(
            features, baseline, grown.roots, feature, threshold, grown.missing_left, grown.left, grown.right,
            grown.value,
        )  # fmt: skip

    @classmethod
    def _constant(cls, baseline: float, features: int) -> FlatBooster:
        """Return a model without trees, for rows that do not differ."""
        nodes, whole, single = np.empty(0, np.int32), np.empty(0, np.int16), np.empty(0, np.float32)
        return cls(
            features, baseline, nodes, whole, single, np.empty(0, np.bool_),
            nodes, nodes, np.empty(0),
        )  # fmt: skip

    def score(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits, float64 (n,); the trees are added in their order, in every worker alike."""
        out = np.full(len(X), self.baseline)
        bits = feature_rows(X, self.features).view(np.int32)
        _add_scores(bits, self.roots, self._splits, self.value, out)
        return out

    def contributions(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each feature adds to `reference`, float64 (n, F)."""
        out = np.zeros((len(X), self.features))
        _add_contributions(
            feature_rows(X, self.features), self.roots, self.feature, self.threshold, self.missing_left,
            self.left, self.right, self.value, out,
        )  # fmt: skip
        return out

    @property
    def reference(self) -> float:
        """The mean logit over the rows of the fit."""
        total = self.baseline
        for root in self.roots:
            total += float(self.value[root])
        return total

    @property
    def most_leaves(self) -> int:
        """Leaves of the largest tree."""
        leaves = np.add.reduceat(self.feature == LEAF, self.roots, dtype=np.int64) if len(self.roots) else [0]
        return int(np.max(leaves))

    def _nodes(self) -> tuple[NDArray[Any], ...]:
        return (
            self.roots, self.feature, self.threshold, self.missing_left, self.left, self.right, self.value
        )  # fmt: skip

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays of numbers, by name."""
        return {
            "roots": self.roots, "feature": self.feature, "threshold": self.threshold,
            "missing_left": self.missing_left.astype(np.uint8), "left": self.left, "right": self.right,
            "value": self.value, "baseline": np.array([self.baseline]),
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], features: int) -> FlatBooster:
        """Restore what `arrays` returned.

        Raises
        ------
        KeyError
            An array is absent.
        ValueError
            An array has another type or shape, or a node leads nowhere.
        """
        return cls(
            features,
            float(arrays["baseline"][0]),
            arrays["roots"],
            arrays["feature"],
            arrays["threshold"],
            arrays["missing_left"].astype(np.bool_),
            arrays["left"],
            arrays["right"],
            arrays["value"],
        )

    def _check(self) -> None:
        """Reject nodes that would lead a compiled loop out of bounds, or round in circles."""
        count = len(self.value)
        types = ("int32", "int16", "float32", "bool", "int32", "int32", "float64")
        split = self.feature != LEAF
        own = np.arange(count)
        if (
            any(array.dtype != kind for array, kind in zip(self._nodes(), types, strict=True))
            or any(array.shape != (count,) for array in self._nodes()[1:])
            or self.roots.ndim != 1
            or not np.all(np.isfinite(self.value))
            or not math.isfinite(self.baseline)
            or np.any(np.isnan(self.threshold))
            or np.any(self.feature < LEAF)
            or np.any(self.feature >= self.features)
            or np.any((self.roots < 0) | (self.roots >= count))
            or np.any(np.diff(self.roots) <= 0)
            # A child lies behind its parent: every walk ends.
            or np.any((self.left <= own)[split] | (self.left >= count)[split])
            or np.any((self.right <= own)[split] | (self.right >= count)[split])
        ):
            msg = "the nodes of a boosted model are of a wrong type or shape, or lead out of bounds"
            raise ValueError(msg)


def _places(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Return whole numbers in the order of finite values, below that of what is missing."""
    bits = values.view(np.int32)
    return np.where(bits < 0, bits ^ _ALL_BUT_SIGN, bits)


@njit(cache=True, nogil=True)
def _add_scores(
    bits: NDArray[np.int32],
    roots: NDArray[np.int32],
    splits: _Splits,
    value: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    # As where `models.growing` sets the values of the leaves, all rows of a block pass every split: without a branch,
    # and many at once. Only batches of a few rows would walk faster, each down its own path.
    block = np.empty((bits.shape[1], min(_BLOCK, len(bits))), np.int32)
    reached = np.empty(_BLOCK, np.int32)
    for start in range(0, len(bits), _BLOCK):
        used = min(_BLOCK, len(bits) - start)
        _lay_out(bits[start : start + used], block)
        its_reached, its_out = reached[:used], out[start : start + used]
        for tree in range(len(roots)):
            its_reached[:] = roots[tree]
            for at in range(splits.starts[tree], splits.starts[tree + 1]):
                pass_rows(
                    its_reached, block[splits.feature[at], :used], splits.node[at], splits.place[at],
                    splits.place_beside[at], splits.left[at], splits.right[at],
                )  # fmt: skip
            for row in range(used):
                its_out[row] += value[its_reached[row]]


@njit(cache=True, nogil=True)
def _lay_out(bits: NDArray[np.int32], block: NDArray[np.int32]) -> None:
    """Write the places of the values column by column, what is missing behind all others."""
    for column in range(bits.shape[1]):
        for row in range(len(bits)):
            its = bits[row, column]
            is_missing = (its & _EXPONENT) == _EXPONENT
            block[column, row] = _MISSING if is_missing else (its ^ _ALL_BUT_SIGN if its < 0 else its)


@njit(cache=True, nogil=True)
def _add_contributions(  # noqa: PLR0913 - a compiled loop
    X: NDArray[np.float32],
    roots: NDArray[np.int32],
    feature: NDArray[np.int16],
    threshold: NDArray[np.float32],
    missing_left: NDArray[np.bool_],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    value: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    for root in roots:
        for row in range(X.shape[0]):
            node = root
            while feature[node] >= 0:
                at = feature[node]
                x = X[row, at]
                goes_left = x <= threshold[node] if np.isfinite(x) else missing_left[node]
                child = left[node] if goes_left else right[node]
                out[row, at] += value[child] - value[node]
                node = child


def log_odds(y: NDArray[np.uint8], w: NDArray[np.float64]) -> float:
    """Return the log odds of fraud over weighted rows; finite even where either class is absent."""
    share = np.average(y, weights=w) if w.sum() > 0.0 else 0.0
    share = float(np.clip(share, _LEAST_SHARE, 1.0 - _LEAST_SHARE))
    return math.log(share / (1.0 - share))
