"""Bin edges, drawn without labels: fine ones for main effects, coarser ones for crosses, one search for both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

MISSING_BIN: Final = 0
"""The bin of a value that is missing or not finite, in main effects and in crosses."""

_OTHER_BIN: Final = 1
_SMALLEST_BINS: Final = 4
_LARGEST_BINS: Final = 256
_CROWDED_SHARE: Final = 0.2
"""A value with a greater share of the weight has a bin of its own."""
_LOW_SHARES: Final = (2.0**-7, 2.0**-5)
_FEW_EVEN: Final = range(5, 16)
"""So few even quantiles leave the lower tail in one bin: two give way to these. Of fewer, none can be spared."""
_TINY: Final = np.finfo(np.float32).smallest_normal

Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Bins:
    """The bins of F features.

    A value lies in slot 0 if it is missing and otherwise in slot 1 + the number of edges not above it; two tables turn
    the slot into a main bin and a cross bin. Each main bin lies within one cross bin.

    Attributes
    ----------
    edges : float32 (F, S)
        Ascending, filled up with +inf; S = 2**k - 1, so that every search takes k steps.
    main_of, cross_of : uint8 (F, S + 2)
        The bin of each slot.
    main_bins, cross_bins
        How many bins the tables may name.
    """

    edges: NDArray[np.float32]
    main_of: NDArray[np.uint8]
    cross_of: NDArray[np.uint8]
    main_bins: int
    cross_bins: int

    def __post_init__(self) -> None:
        """Reject tables that would lead a compiled loop out of bounds."""
        _check_numbers(self.main_bins, self.cross_bins)
        features, steps = self.edges.shape
        slots = (features, steps + 2)
        if (
            steps == 0
            or steps & (steps + 1)
            or self.main_of.shape != slots
            or self.cross_of.shape != slots
            or not np.all(self.edges[:, 1:] >= self.edges[:, :-1])
            or np.any(self.main_of >= self.main_bins)
            or np.any(self.cross_of >= self.cross_bins)
        ):
            msg = "bins of a wrong shape, edges that do not ascend, or a bin out of range"
            raise ValueError(msg)

    def assign(self, X: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Cut rows into bins.

        Parameters
        ----------
        X : float32 (n, F)
            What is not finite is missing.

        Returns
        -------
        main, cross : uint8 (n, F)
            The main bin and the cross bin of every value.

        Raises
        ------
        ValueError
            If X is not a matrix of F columns.
        """
        rows = feature_rows(X, self.edges.shape[0])
        main = np.empty(rows.shape, np.uint8)
        cross = np.empty(rows.shape, np.uint8)
        _assign(rows, self.edges, self.main_of, self.cross_of, main, cross)
        return main, cross


def feature_rows(X: NDArray[np.float32], features: int) -> NDArray[np.float32]:
    """Return X as a read-only float32 matrix.

    Raises
    ------
    ValueError
        If X is not a matrix with that many columns.
    """
    if X.ndim != 2 or X.shape[1] != features:
        msg = f"expected a matrix of {features} features, got an array of shape {X.shape}"
        raise ValueError(msg)
    return read_only(X.astype(np.float32, copy=False))


def read_only(array: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return a C-contiguous, read-only view or copy: numba compiles a loop again for every other type of array."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def draw_bins(
    X: NDArray[np.float32],
    w: NDArray[np.float64],
    categorical: NDArray[np.bool_],
    *,
    main_bins: int = 64,
    cross_bins: int = 16,
) -> Bins:
    """Draw the edges of every feature from weighted rows, without labels.

    The most frequent value of a quantity, if it holds more than a fifth of the weight, gets a bin of its own. Of the
    other edges, half lie at even quantiles and half at 1 - 2**-k, because frauds lie in the tail that even quantiles
    never reach. Where the even ones are five to fifteen, two of them go to the lower tail: of a quantity like the
    components of a PCA the sign means nothing. Crosses have too few bins for both: theirs are cut at the lower quartile
    and at 1 - 2**-k. A categorical gives a bin to each of its most frequent codes and one to all others.

    Parameters
    ----------
    X : float32 (n, F)
        What is not finite is missing.
    w : float64 (n,)
        Sampling weights; rows of weight 0 are left out.
    categorical : bool (F,)
        Which features are codes rather than quantities.
    main_bins, cross_bins
        The most bins a feature may have, the missing one included: 4 to 256, cross bins not above main bins.

    Returns
    -------
    Bins
        Their cross edges are a subset of the main edges.

    Raises
    ------
    ValueError
        If the numbers of bins are out of range or the shapes disagree.
    """
    _check_numbers(main_bins, cross_bins)
    rows = feature_rows(X, categorical.size)
    if w.shape != (rows.shape[0],):
        msg = f"{rows.shape[0]} rows but weights of shape {w.shape}"
        raise ValueError(msg)
    draws = [
        (_draw_codes if is_code else _draw_quantities)(*_distinct(column, w), main_bins, cross_bins)
        for is_code, column in zip(categorical, rows.T, strict=True)
    ]
    return _pack(draws, main_bins, cross_bins)


def _check_numbers(main_bins: int, cross_bins: int) -> None:
    if not _SMALLEST_BINS <= cross_bins <= main_bins <= _LARGEST_BINS:
        msg = f"4 <= cross_bins <= main_bins <= 256 is required, got {cross_bins} and {main_bins}"
        raise ValueError(msg)


_Draw = tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]
"""One feature's edges, and the main and the cross bin of every interval between them."""


def _distinct(
    column: NDArray[np.float32], w: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the distinct values in ascending order, each with its weight."""
    values = np.ascontiguousarray(column)
    kept = np.flatnonzero(np.isfinite(values) & (w > 0))
    values, w = values[kept], w[kept]
    # Some libraries switch subnormals off for the whole process: then they compare as zeros. Here they are zeros.
    values[np.abs(values) < _TINY] = 0.0
    place = np.empty(len(values), np.uint32)
    distinct = np.empty(len(values), np.float32)
    count = _number(values, np.argsort(values), distinct, place)
    return distinct[:count].copy(), np.bincount(place, weights=w, minlength=count).astype(np.float64)


@njit(cache=True, nogil=True)
def _number(
    values: NDArray[np.float32],
    ascending: NDArray[np.int64],
    distinct: NDArray[np.float32],
    place: NDArray[np.uint32],
) -> int:
    """Fill in the distinct values and the place of each value among them; return how many there are."""
    count = 0
    for at in ascending:
        if count == 0 or values[at] != distinct[count - 1]:
            distinct[count] = values[at]
            count += 1
        place[at] = count - 1
    return count


def _draw_quantities(
    values: NDArray[np.float32], mass: NDArray[np.float64], main_bins: int, cross_bins: int
) -> _Draw:
    edges = _quantity_edges(values, mass, main_bins - 2, _fine_shares)
    coarse = _quantity_edges(values, mass, cross_bins - 2, _coarse_shares)
    # Moved up to main edges, so that each main bin lies within one cross bin.
    coarse = edges[np.minimum(np.searchsorted(edges, coarse), edges.size - 1)]
    cross = np.concatenate(([0], np.searchsorted(coarse, edges, side="right")))
    return edges, 1 + np.arange(edges.size + 1), 1 + cross


def _fine_shares(budget: int) -> NDArray[np.float64]:
    even = budget // 2
    tail = _tail_shares(budget - even)
    low = np.array(_LOW_SHARES if even in _FEW_EVEN else ())
    even -= len(low)
    return np.concatenate((low, np.arange(1, even + 1) / (even + 1), tail))


def _coarse_shares(budget: int) -> NDArray[np.float64]:
    return np.concatenate(([0.25], _tail_shares(budget)))[:budget]


def _tail_shares(count: int) -> NDArray[np.float64]:
    return 1.0 - np.ldexp(np.ones(count), -np.arange(1, count + 1))


def _quantity_edges(
    values: NDArray[np.float32],
    mass: NDArray[np.float64],
    budget: int,
    shares: Callable[[int], NDArray[np.float64]],
) -> NDArray[np.float32]:
    """Return at most `budget` edges over distinct values in ascending order."""
    if values.size == 0:
        return values
    own = np.empty(0, np.float32)
    crowded = int(np.argmax(mass))
    if mass[crowded] > _CROWDED_SHARE * mass.sum():
        value = values[crowded : crowded + 1]
        own = np.concatenate((value, _just_above(value)))
        mass = np.delete(mass, crowded)
        values = np.delete(values, crowded)
    if values.size == 0:
        return own
    below = np.cumsum(mass)
    edges = values[np.searchsorted(below, shares(budget - own.size) * below[-1])]
    return np.union1d(own, edges[edges > values[0]])


def _draw_codes(
    values: NDArray[np.float32], mass: NDArray[np.float64], main_bins: int, cross_bins: int
) -> _Draw:
    # Codes of equal weight in the order of their values: the choice depends on the rows alone.
    frequent = np.lexsort((values, -mass))[: main_bins - 2]
    rank = np.argsort(values[frequent])
    codes = values[frequent][rank]
    # A code's bin reaches from itself to the next float; what lies between two codes is another code.
    edges = np.stack((codes, _just_above(codes)), axis=1).ravel()
    main = np.full(edges.size + 1, _OTHER_BIN)
    main[1::2] = 2 + rank
    return edges, main, np.where(main < cross_bins, main, _OTHER_BIN)


def _just_above(values: NDArray[np.float32]) -> NDArray[np.float32]:
    above = np.nextafter(values, np.float32(np.inf))
    return np.where(np.abs(above) < _TINY, _TINY, above)


def _pack(draws: list[_Draw], main_bins: int, cross_bins: int) -> Bins:
    longest = max((edges.size for edges, _, _ in draws), default=0)
    steps = max(1, (1 << longest.bit_length()) - 1)
    edges = np.full((len(draws), steps), np.inf, np.float32)
    main_of = np.full((len(draws), steps + 2), MISSING_BIN, np.uint8)
    cross_of = main_of.copy()
    for f, (own, main, cross) in enumerate(draws):
        edges[f, : own.size] = own
        main_of[f, 1 : main.size + 1] = main
        cross_of[f, 1 : cross.size + 1] = cross
    return Bins(edges, main_of, cross_of, main_bins, cross_bins)


@njit(cache=True, nogil=True)
def _assign(
    X: NDArray[np.float32],
    edges: NDArray[np.float32],
    main_of: NDArray[np.uint8],
    cross_of: NDArray[np.uint8],
    main: NDArray[np.uint8],
    cross: NDArray[np.uint8],
) -> None:
    # Binary search over 2**k - 1 edges in k steps, the same for every feature: the padding of +inf is never passed. All
    # features take each step together; how far one moves is read from two numbers: a branch would be foreseen wrongly
    # every other time.
    features, half = X.shape[1], (edges.shape[1] + 1) // 2
    slots, moves = np.empty(features, np.uint64), np.zeros(2, np.uint64)
    for i in range(X.shape[0]):
        slots[:] = 0
        step = half
        while step > 0:
            moves[1] = step
            for f in range(features):
                middle = slots[f] + np.uint64(step - 1)
                slots[f] += moves[np.uint64(edges[f, middle] <= X[i, f])]
            step >>= 1
        for f in range(features):
            slot = slots[f] + np.uint64(1) if np.isfinite(X[i, f]) else np.uint64(0)
            main[i, f] = main_of[f, slot]
            cross[i, f] = cross_of[f, slot]
