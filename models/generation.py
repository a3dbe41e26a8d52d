"""One generation of the online model: edges drawn once, without labels, and the weights learnt since."""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import crosses
from models.bins import Bins, draw_bins, read_only
from models.crosses import Means, Rates, Tables

_MEAN_ROWS: Final = 20_000
"""The means of the weights are of at least so many rows, where there are as many."""


class TrainingRows(NamedTuple):
    """n rows to learn.

    Attributes
    ----------
    X : float32 (n, F)
        Features; what is not finite is missing.
    y : uint8 (n,)
        1 for fraud, 0 for legit.
    w : float64 (n,)
        Sampling weights.
    """

    X: NDArray[np.float32]
    y: NDArray[np.uint8]
    w: NDArray[np.float64]

    def take(self, chosen: NDArray[np.int64]) -> TrainingRows:
        """Return some of the rows."""
        return TrainingRows(self.X[chosen], self.y[chosen], self.w[chosen])


class BinnedRows(NamedTuple):
    """Rows cut into bins, as tables of any rates learn them.

    Attributes
    ----------
    bins
        Drawn from these rows.
    main, cross : uint8 (n, F)
        The main bin and the cross bin of every value.
    y : uint8 (n,)
        1 for fraud.
    w : float64 (n,)
        Sampling weights.
    """

    bins: Bins
    main: NDArray[np.uint8]
    cross: NDArray[np.uint8]
    y: NDArray[np.uint8]
    w: NDArray[np.float64]

    @classmethod
    def of(
        cls, rows: TrainingRows, categorical: NDArray[np.bool_], main_bins: int, cross_bins: int
    ) -> BinnedRows:
        """Draw bins from rows, without their labels, and cut the rows into them; raises as `draw_bins` does."""
        bins = draw_bins(rows.X, rows.w, categorical, main_bins=main_bins, cross_bins=cross_bins)
        return cls(bins, *bins.assign(rows.X), read_only(rows.y), read_only(rows.w))


@dataclass(frozen=True, slots=True)
class Generation:
    """Edges, weights, and the means to which reasons refer; `learn` alone changes the weights.

    Attributes
    ----------
    names
        The F features' names.
    bins
        The bins of the features.
    crossed
        The first so many features are crossed.
    tables
        Intercept, weights and accumulators.
    means
        Of the weights, over rows that the generation began with.
    """

    names: tuple[Hashable, ...]
    bins: Bins
    crossed: int
    tables: Tables
    means: Means

    @classmethod
    def begin(
        cls,
        rows: BinnedRows,
        names: Sequence[Hashable],
        crossed: int,
        intercept: float,
        rates: Rates,
        passes: int = 1,
    ) -> tuple[Generation, NDArray[np.float64]]:
        """Begin with weights of zero and learn the rows in their order, so many times.

        Beside the generation it returns the logit that each row had before it was learnt first, float64 (n,).
        """
        bins, main, cross, y, w = rows
        tables = crosses.zero_tables(intercept, len(names), crossed, bins.main_bins, bins.cross_bins)
        before = crosses.learn(main, cross, y, w, crossed, rates, tables)
        for _ in range(passes - 1):
            crosses.learn(main, cross, y, w, crossed, rates, tables)
        # The mean of some rows, evenly spread, is as good a point to count reasons from as that of all.
        some = slice(None, None, max(len(w) // _MEAN_ROWS, 1))
        few = np.ascontiguousarray(main[some]), np.ascontiguousarray(cross[some]), read_only(w[some])
        means = crosses.mean_weights(*few, crossed, tables)
        return cls(tuple(names), bins, crossed, tables, means), before

    def score(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the logits as learnt, float64 (n,)."""
        return crosses.score(*self.bins.assign(X), self.crossed, self.tables)

    def learn(
        self, X: NDArray[np.float32], y: NDArray[np.uint8], w: NDArray[np.float64], rates: Rates
    ) -> None:
        """Learn rows one by one, in their order."""
        crosses.learn(*self.bins.assign(X), y, w, self.crossed, rates, self.tables)

    def contributions(self, X: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return what each feature adds to `reference`, float64 (n, F)."""
        return crosses.contributions(*self.bins.assign(X), self.crossed, self.tables, self.means)

    @property
    def reference(self) -> float:
        """The logit, as learnt, of a row all of whose weights are the means."""
        return math.fsum((*self.tables.intercept, *self.means.main, *self.means.cross))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return copies of everything as arrays of numbers, by name; the features' names are UTF-8 JSON."""
        return {
            "names": np.frombuffer(json.dumps(self.names).encode(), np.uint8).copy(),
            "edges": self.bins.edges.copy(),
            "main_of": self.bins.main_of.copy(),
            "cross_of": self.bins.cross_of.copy(),
            "mean_main": self.means.main.copy(),
            "mean_cross": self.means.cross.copy(),
            **{name: table.copy() for name, table in self.tables._asdict().items()},
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], main_bins: int, cross_bins: int, max_crossed: int
    ) -> Generation:
        """Restore a generation from copies of what `arrays` returned.

        Raises
        ------
        KeyError
            If an array is absent.
        ValueError
            If an array has another type or shape, or holds what no generation could.
        """
        names = json.loads(arrays["names"].tobytes())
        bins = Bins(
            arrays["edges"].astype(np.float32),
            arrays["main_of"].astype(np.uint8),
            arrays["cross_of"].astype(np.uint8),
            main_bins,
            cross_bins,
        )
        if bins.edges.shape[0] != len(names):
            msg = f"{len(names)} names for the edges of {bins.edges.shape[0]} features"
            raise ValueError(msg)
        crossed = min(len(names), max_crossed)
        # Without this check, numbers from outside would lead the compiled loops out of bounds.
        like = crosses.zero_tables(0.0, len(names), crossed, main_bins, cross_bins)
        tables = Tables(*(_finite_array(arrays, name, table.shape) for name, table in like._asdict().items()))
        if np.any(tables.main_squares < 0.0) or np.any(tables.cross_squares < 0.0):
            msg = "a sum of squares is negative"
            raise ValueError(msg)
        means = Means(
            _finite_array(arrays, "mean_main", like.main_weights.shape[:1]),
            _finite_array(arrays, "mean_cross", like.cross_weights.shape[:1]),
        )
        return cls(tuple(names), bins, crossed, tables, means)


def _finite_array(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...]
) -> NDArray[np.float64]:
    array = arrays[name]
    if array.shape != shape or array.dtype != np.float64 or not np.all(np.isfinite(array)):
        msg = f"{name} is not a finite float64 array of shape {shape}"
        raise ValueError(msg)
    return np.array(array, order="C")
