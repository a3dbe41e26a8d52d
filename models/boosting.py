"""Gradient boosted trees, fitted once and flattened into arrays: a score is a walk through compiled loops.

scikit-learn's HistGradientBoostingClassifier fits the trees; a call of its own `predict` costs milliseconds however few
rows it has. The flat trees score a row in microseconds and explain it exactly: a row's path through a tree changes the
expected value at every split, and each change is credited to the feature that was split on (Saabas 2014), so that a
row's contributions and the reference sum to its logit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from models.bins import feature_rows
from models.column_edges import codes_of, split_values

LEAF: Final = -1
"""The feature of a leaf."""
_BLOCK: Final = 16
"""Rows that pass through a tree together."""


class _Walk(NamedTuple):
    """The nodes as a walk without branches takes them: a leaf leads to itself, so that all walks are equally long.

    Attributes
    ----------
    depth : int32 (T,)
        Steps from the root of each tree to its deepest leaf.
    feature : int32 (M,)
        0 for a leaf.
    missing_right : int32 (M,)
        1 where a missing value goes right.
    child : int32 (2M,)
        Of node m, the left one at 2m and the right one at 2m + 1.
    """

    depth: NDArray[np.int32]
    feature: NDArray[np.int32]
    missing_right: NDArray[np.int32]
    child: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class BoostingParams:
    """What a fit is told; the search over these is `models.search`, the candidates are `models.candidates`.

    Attributes
    ----------
    trees, leaves
        How many trees, and the most leaves of each.
    learning_rate
        Shrinkage of every tree.
    min_leaf_rows
        The fewest rows of a leaf.
    l2
        Penalty on the leaves' values: added to the sum of hessians, which for rare frauds is what bounds a leaf.
    column_share
        The share of the columns, drawn anew for each split, among which the split is chosen.
    """

    trees: int = 60
    leaves: int = 15
    learning_rate: float = 0.15
    min_leaf_rows: int = 20
    l2: float = 20.0
    column_share: float = 1.0


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
    _walk: _Walk = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check()
        own, leaf = np.arange(len(self.value), dtype=np.int32), self.feature == LEAF
        child = np.column_stack([np.where(leaf, own, self.left), np.where(leaf, own, self.right)])
        walk = _Walk(
            self._depths(),
            np.where(leaf, 0, self.feature).astype(np.int32),
            (~self.missing_left).astype(np.int32),
            child.astype(np.int32).ravel(),
        )
        object.__setattr__(self, "_walk", walk)

    def _depths(self) -> NDArray[np.int32]:
        """Return the depth of each tree, int32 (T,)."""
        depth = np.zeros(len(self.value), np.int32)
        # A child lies behind its parent, so that one pass reaches every node.
        for node in np.flatnonzero(self.feature != LEAF):
            depth[[self.left[node], self.right[node]]] = depth[node] + 1
        return np.maximum.reduceat(depth, self.roots) if len(self.roots) else depth

    @classmethod
    def fit(
        cls,
        X: NDArray[np.float32],
        y: NDArray[np.uint8],
        w: NDArray[np.float64],
        params: BoostingParams,
        seed: int,
    ) -> FlatBooster:
        """Fit and flatten.

        Parameters
        ----------
        X : float32 (n, F)
            What is not finite is missing; a category is its rank, see `models.blend`.
        y : uint8 (n,)
            1 for fraud; both classes occur.
        w : float64 (n,)
            Sampling weights.
        params, seed
            What decides the fit.
        """
        edges = [split_values(column) for column in X.T]
        varied = np.flatnonzero([len(its) for its in edges])
        if not len(varied):
            return cls._constant(y, w, X.shape[1])
        codes = np.column_stack([codes_of(X[:, at], edges[at]) for at in varied])
        model = HistGradientBoostingClassifier(
            max_iter=params.trees,
            max_leaf_nodes=params.leaves,
            learning_rate=params.learning_rate,
            min_samples_leaf=params.min_leaf_rows,
            l2_regularization=params.l2,
            max_features=params.column_share,
            early_stopping=False,
            random_state=seed,
        )
        # One thread: the job runs beside the hot path, and OpenMP's threads spin while they wait for a busy core.
        with threadpool_limits(limits=1):
            model.fit(codes, y, sample_weight=w)
        nodes = [trees[0].nodes for trees in model._predictors]  # noqa: SLF001 - no public way to the trees
        baseline = float(np.ravel(model._baseline_prediction)[0])  # noqa: SLF001
        return _flattened(nodes, baseline, X.shape[1], varied, edges)

    @classmethod
    def _constant(cls, y: NDArray[np.uint8], w: NDArray[np.float64], features: int) -> FlatBooster:
        """Return a model without trees, for rows that do not differ."""
        share = float(np.clip(np.average(y, weights=w), 1e-9, 1.0 - 1e-9))
        nodes, whole, single = np.empty(0, np.int32), np.empty(0, np.int16), np.empty(0, np.float32)
        return cls(
            features, float(np.log(share / (1.0 - share))), nodes, whole, single, np.empty(0, np.bool_),
            nodes, nodes, np.empty(0),
        )  # fmt: skip

    def score(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits, float64 (n,); the trees are added in their order, in every worker alike."""
        out = np.full(len(X), self.baseline)
        _add_scores(feature_rows(X, self.features), self.roots, self._walk, self.threshold, self.value, out)
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
            or not np.all(np.isfinite(self.value))
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


def _flattened(
    trees: list[NDArray[Any]],
    baseline: float,
    features: int,
    columns: NDArray[np.int64],
    edges: list[NDArray[np.float32]],
) -> FlatBooster:
    starts = np.cumsum([0, *(len(nodes) for nodes in trees)])
    nodes = np.concatenate(trees)
    leaf = nodes["is_leaf"] == 1
    shift = np.repeat(starts[:-1], np.diff(starts))
    value = np.where(leaf, nodes["value"], 0.0).astype(np.float64)
    left = np.where(leaf, 0, nodes["left"] + shift).astype(np.int32)
    right = np.where(leaf, 0, nodes["right"] + shift).astype(np.int32)
    count = nodes["count"].astype(np.float64)
    # Children lie behind their parents, so that one pass from the end fills the means of all splits.
    for node in np.flatnonzero(~leaf)[::-1]:
        a, b = left[node], right[node]
        value[node] = (count[a] * value[a] + count[b] * value[b]) / (count[a] + count[b])
    feature = np.where(leaf, LEAF, columns[np.where(leaf, 0, nodes["feature_idx"])]).astype(np.int16)
    return FlatBooster(
        features,
        baseline,
        starts[:-1].astype(np.int32),
        feature,
        _thresholds(feature, nodes["num_threshold"], edges),
        nodes["missing_go_to_left"].astype(np.bool_),
        left,
        right,
        value,
    )


def _thresholds(
    feature: NDArray[np.int16], code: NDArray[np.float64], edges: list[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return the edge that each split's code means, float32 (M,); infinite where only what is missing goes right."""
    found = np.full(len(feature), np.inf, np.float32)
    for node in np.flatnonzero((feature != LEAF) & np.isfinite(code)):
        # A split lies halfway between two codes: up to edge c are the values of codes 0 to c.
        found[node] = edges[feature[node]][int(code[node])]
    return found


@njit(cache=True, nogil=True)
def _add_scores(
    X: NDArray[np.float32],
    roots: NDArray[np.int32],
    walk: _Walk,
    threshold: NDArray[np.float32],
    value: NDArray[np.float64],
    out: NDArray[np.float64],
) -> None:
    # A block of rows takes each step together: a processor that waits for one row's node works on another's, and no
    # branch is there to be mispredicted. Twice as fast as row by row.
    depth, feature, missing_right, child = walk
    rows, columns = X.shape
    block = np.zeros((columns, _BLOCK), np.float32)
    total = np.empty(_BLOCK)
    at = np.empty(_BLOCK, np.int32)
    for start in range(0, rows, _BLOCK):
        used = min(_BLOCK, rows - start)
        for row in range(used):
            for column in range(columns):
                x = X[start + row, column]
                block[column, row] = x if np.isfinite(x) else np.float32(np.nan)
            total[row] = out[start + row]
        for tree in range(len(roots)):
            at[:] = roots[tree]
            for _ in range(depth[tree]):
                for row in range(_BLOCK):
                    node = at[row]
                    x = block[feature[node], row]
                    missing = np.int32(x != x)  # noqa: PLR0124 - true of NaN alone
                    goes_right = np.int32(x > threshold[node]) | (missing & missing_right[node])
                    at[row] = child[2 * node + goes_right]
            for row in range(used):
                total[row] += value[at[row]]
        for row in range(used):
            out[start + row] = total[row]


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
