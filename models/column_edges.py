"""Where boosted trees may split a column, and the numbers of the stretches between: what a fit learns from."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_MOST_BINS: Final = 255
"""As many as scikit-learn tells apart."""


def split_values(column: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return where trees may split a column: between all its values, or between evenly many rows where it has too many.

    scikit-learn 1.9 draws such edges too, but for weighted rows in a Python loop that takes ten times as long as the
    trees and holds the interpreter's lock. Here rows count alike whatever their weight, so that the frauds, which are
    kept while legits are sampled, get a fair share of the edges.

    Parameters
    ----------
    column : float32 (n,)
        What is not finite is missing.

    Returns
    -------
    float32 (e,)
        Ascending, at most 254; empty where no two values differ.
    """
    values = np.sort(column[np.isfinite(column)])
    distinct = np.unique(values)
    if len(distinct) > _MOST_BINS:
        below = np.unique(values[np.arange(1, _MOST_BINS) * len(values) // _MOST_BINS - 1])
        at = np.searchsorted(distinct, below)
        at = at[at < len(distinct) - 1]
    else:
        at = np.arange(max(len(distinct) - 1, 0))
    below, above = distinct[at], distinct[at + 1]
    middle = (0.5 * (below.astype(np.float64) + above)).astype(np.float32)
    # Rounding may reach the value above, which belongs to the right.
    return np.where(middle < above, middle, below)


def codes_of(column: NDArray[np.float32], edges: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the number of edges below each value, float32 (n,), NaN where it is missing."""
    codes = np.searchsorted(edges, column, side="left").astype(np.float32)
    return np.where(np.isfinite(column), codes, np.float32(np.nan))
