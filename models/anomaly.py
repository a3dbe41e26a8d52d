"""The anomaly fallback: scikit-learn's isolation forest, flattened once and scored by a compiled loop.

scikit-learn itself takes milliseconds a call, however few rows it scores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import exp2
from models.bins import feature_rows

if TYPE_CHECKING:
    from sklearn.tree._tree import Tree

MINIMUM_ROWS: Final = 256
"""The fewest rows that a forest is fitted on: the usual sample of one tree (Liu, Ting and Zhou 2008)."""


@dataclass(frozen=True, slots=True)
class FlatForest:
    """An isolation forest of T trees over F features; every tree is complete, of depth D, in level order.

    A leaf above depth D is continued downwards, so that every walk has D steps and no branches. The score is
    scikit-learn's with its sign turned: higher is stranger, and it is no probability.

    Attributes
    ----------
    features : uint16 (T, 2**D - 1)
        The feature that each inner node looks at.
    thresholds : float32 (T, 2**D - 1)
        A value not above it goes left.
    paths : float64 (T, 2**D)
        The expected path length of each leaf.
    medians : float32 (F,)
        What replaces a value that is missing or not finite.
    normaliser : float64 (1,)
        T times the expected path length in one tree's sample.

    References
    ----------
    Liu, F. T., Ting, K. M. and Zhou, Z.-H. (2008). Isolation forest. ICDM.
    """

    features: NDArray[np.uint16]
    thresholds: NDArray[np.float32]
    paths: NDArray[np.float64]
    medians: NDArray[np.float32]
    normaliser: NDArray[np.float64]

    @classmethod
    def fit(
        cls, X: NDArray[np.float32], *, trees: int = 100, max_samples: int = 256, seed: int
    ) -> FlatForest:
        """Fit scikit-learn's IsolationForest and flatten it.

        Parameters
        ----------
        X : float32 (n, F)
            For the most part legitimate, as far as is known; the column's median replaces what is not finite.
        trees
            Number of trees T.
        max_samples
            Rows drawn for each tree, n at most.
        seed
            Of the random draws: any whole number; its lowest 32 bits count.

        Raises
        ------
        ValueError
            If there are fewer than `MINIMUM_ROWS` rows or X is not a matrix.
        """
        # A start, which has no forest to fit, is a second shorter without it; `worker.live.app` imports it soon after.
        from sklearn.ensemble import IsolationForest  # noqa: PLC0415

        if X.shape[0] < MINIMUM_ROWS:
            msg = f"an isolation forest needs {MINIMUM_ROWS} rows, got {X.shape[0]}"
            raise ValueError(msg)
        rows = feature_rows(X, X.shape[-1])
        medians = np.array([_median(column) for column in rows.T], np.float32)
        samples = min(max_samples, len(rows))
        forest = IsolationForest(n_estimators=trees, max_samples=samples, random_state=seed % 2**32)
        forest.fit(np.where(np.isfinite(rows), rows, medians))
        flat = [estimator.tree_ for estimator in forest.estimators_]
        depth = max(1, *(tree.max_depth for tree in flat))
        features, thresholds, paths = zip(*(_flatten(tree, depth) for tree in flat), strict=True)
        normaliser = trees * _expected_path(np.array([samples]))
        return cls(np.stack(features), np.stack(thresholds), np.stack(paths), medians, normaliser)

    def __post_init__(self) -> None:
        """Reject arrays that would lead a compiled loop out of bounds or to a score that is not a number."""
        trees, leaves = self.paths.shape
        if (
            self.features.shape != (trees, leaves - 1)
            or self.thresholds.shape != (trees, leaves - 1)
            or leaves < 2
            or leaves & (leaves - 1)
            or self.medians.ndim != 1
            or self.normaliser.shape != (1,)
            or np.any(self.features >= self.medians.size)
            or np.any(np.isnan(self.thresholds))
            or not np.all(np.isfinite(self.medians))
            or not np.all(np.isfinite(self.paths) & (self.paths >= 0.0))
            or not (np.isfinite(self.normaliser[0]) and self.normaliser[0] > 0.0)
        ):
            msg = "arrays of a wrong shape, or numbers that no forest holds"
            raise ValueError(msg)

    def score(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return how strange each row is, from 0 to 1.

        Parameters
        ----------
        X : float32 (n, F)

        Returns
        -------
        float64 (n,)
        """
        rows = feature_rows(X, self.medians.size)
        return _score(rows, self.features, self.thresholds, self.paths, self.medians, self.normaliser[0])

    def reasons(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return by how much the score would fall if one feature were at its median.

        Parameters
        ----------
        X : float32 (n, F)

        Returns
        -------
        float64 (n, F)
            0 where the feature is missing or at its median. The sum over a row has no meaning.
        """
        rows = feature_rows(X, self.medians.size)
        return _reasons(rows, self.features, self.thresholds, self.paths, self.medians, self.normaliser[0])

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return copies of the arrays that the forest consists of, by name."""
        return {field.name: getattr(self, field.name).copy() for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> FlatForest:
        """Restore a forest from copies of what `arrays` returned.

        Raises
        ------
        KeyError
            If an array is absent.
        ValueError
            If the arrays do not fit together or hold what no forest could.
        """
        return cls(
            np.array(arrays["features"], np.uint16),
            np.array(arrays["thresholds"], np.float32),
            np.array(arrays["paths"], np.float64),
            np.array(arrays["medians"], np.float32),
            np.array(arrays["normaliser"], np.float64),
        )


def _median(column: NDArray[np.float32]) -> np.float32:
    """Return the lower median of the finite values, so one of them; 0 where there is none."""
    finite = np.sort(column[np.isfinite(column)])
    return finite[(finite.size - 1) // 2] if finite.size else np.float32(0)


def _flatten(tree: Tree, depth: int) -> tuple[NDArray[np.uint16], NDArray[np.float32], NDArray[np.float64]]:
    """Complete a tree to `depth`; return features and thresholds of its inner nodes, path lengths of its leaves."""
    nodes = np.zeros(1, np.int64)
    steps = np.zeros(1)
    features, thresholds = [], []
    for _ in range(depth):
        # A leaf goes on as its own left child: no value is above inf.
        inner = tree.children_left[nodes] >= 0
        features.append(np.where(inner, tree.feature[nodes], 0))
        thresholds.append(np.where(inner, _rounded_down(tree.threshold[nodes]), np.float32(np.inf)))
        left = np.where(inner, tree.children_left[nodes], nodes)
        right = np.where(inner, tree.children_right[nodes], nodes)
        nodes = np.stack((left, right), axis=1).ravel()
        steps = np.repeat(steps + inner, 2)
    paths = steps + _expected_path(tree.n_node_samples[nodes])
    return np.concatenate(features).astype(np.uint16), np.concatenate(thresholds), paths


def _rounded_down(thresholds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 not above each threshold: a float32 compares with both alike."""
    with np.errstate(over="ignore"):
        nearest = thresholds.astype(np.float32)
    return np.where(nearest > thresholds, np.nextafter(nearest, np.float32(-np.inf)), nearest)


def _expected_path(rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean length of an unsuccessful search among so many rows (Liu, Ting and Zhou 2008)."""
    n = np.maximum(rows, 3).astype(np.float64)
    path = 2.0 * (np.log(n - 1.0) + np.euler_gamma) - 2.0 * (n - 1.0) / n
    return np.where(rows > 2, path, (rows == 2).astype(np.float64))


@njit(cache=True, nogil=True)
def _strangeness(
    x: NDArray[np.float32],
    features: NDArray[np.uint16],
    thresholds: NDArray[np.float32],
    paths: NDArray[np.float64],
    normaliser: float,
) -> float:
    inner = np.uint64(features.shape[1])
    one = np.uint64(1)
    total = 0.0
    for tree in range(features.shape[0]):
        node = np.uint64(0)
        # Unsigned numbers, as numba checks signed indices for a wrap-around, and no branch: four times as fast.
        while node < inner:
            node = (node << one) + one + np.uint64(x[features[tree, node]] > thresholds[tree, node])
        total += paths[tree, node - inner]
    return float(exp2(-total / normaliser))


@njit(cache=True, nogil=True)
def _fill(x: NDArray[np.float32], medians: NDArray[np.float32], filled: NDArray[np.float32]) -> None:
    for f in range(x.size):
        filled[f] = x[f] if np.isfinite(x[f]) else medians[f]


@njit(cache=True, nogil=True)
def _score(
    X: NDArray[np.float32],
    features: NDArray[np.uint16],
    thresholds: NDArray[np.float32],
    paths: NDArray[np.float64],
    medians: NDArray[np.float32],
    normaliser: float,
) -> NDArray[np.float64]:
    out = np.empty(X.shape[0])
    x = np.empty(X.shape[1], np.float32)
    for row in range(X.shape[0]):
        _fill(X[row], medians, x)
        out[row] = _strangeness(x, features, thresholds, paths, normaliser)
    return out


@njit(cache=True, nogil=True)
def _reasons(
    X: NDArray[np.float32],
    features: NDArray[np.uint16],
    thresholds: NDArray[np.float32],
    paths: NDArray[np.float64],
    medians: NDArray[np.float32],
    normaliser: float,
) -> NDArray[np.float64]:
    out = np.zeros(X.shape)
    x = np.empty(X.shape[1], np.float32)
    for row in range(X.shape[0]):
        _fill(X[row], medians, x)
        score = _strangeness(x, features, thresholds, paths, normaliser)
        for f in range(x.size):
            own = x[f]
            if own != medians[f]:
                x[f] = medians[f]
                out[row, f] = score - _strangeness(x, features, thresholds, paths, normaliser)
                x[f] = own
    return out
