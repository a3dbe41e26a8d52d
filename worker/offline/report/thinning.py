"""Leaves out the points of a curve that no eye could see, so that millions of rows fit into a page."""

from __future__ import annotations

import numpy as np

from models.arrays import FloatArray, IntArray


def visible(x: FloatArray, y: FloatArray, pixels: int) -> IntArray:
    """Choose the points that draw the same line as all of them (M4, Jugel et al. 2014).

    Parameters
    ----------
    x : float64 (n,)
        Finite, ascending or descending.
    y : float64 (n,)
        Finite.
    pixels
        Columns of the drawing that the line spans. Each keeps its first, last, lowest and highest point.

    Returns
    -------
    int64 (k,)
        Indices, ascending; at most four a column.
    """
    if len(x) <= 4 * pixels:
        return np.arange(len(x))
    low, high = float(x.min()), float(x.max())
    column = np.zeros(len(x), np.int64)
    if high > low:
        column = np.minimum((x - low) / (high - low) * pixels, pixels - 1).astype(np.int64)
    first = np.flatnonzero(np.concatenate([[True], column[1:] != column[:-1]]))
    last = np.append(first[1:], len(x)) - 1
    by_height = np.lexsort((y, np.cumsum(np.bincount(first, minlength=len(x)))))
    return np.unique(np.concatenate([first, last, by_height[first], by_height[last]]))
