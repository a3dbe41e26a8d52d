"""Grows boosted trees from the numbers of bins, in compiled loops on one thread.

Each tree is grown leaf by leaf, the most gainful split first (Shi 2007), from histograms of gradients, of which that of
a larger child is its parent's less its sibling's (Ke et al. 2017). A tree may see a share of the columns (Chen and
Guestrin 2016), so that only these are summed, and finds its splits (`models.splits`) by rows that `models.gradients`
draws. All rows then set the values of the leaves. `make bench` compares the time with that of scikit-learn's booster on
one thread.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.bins import read_only
from models.gradients import WHOLE, Gradients, draw_rows, set_gradients
from models.splits import best_split

LEAF: Final = -1
"""The column of a leaf."""
_MOST_LEAVES: Final = 128
_LEAST_GAIN: Final = 1e-9
_BLOCK: Final = 8_192
"""Rows that go through a tree together: they stay in the processor's first cache."""


class Growth(NamedTuple):
    """How trees grow.

    Attributes
    ----------
    leaves
        The most leaves of a tree, at most 128: the number of a node fits into a byte.
    learning_rate
        Shrinkage of every tree.
    l2, least_hessian
        Added to the sum of hessians of every leaf, above 0; and the least that each side of a split has of it.
    rows
        The most rows, in the mean, by which the splits of a tree are found.
    """

    leaves: int
    learning_rate: float
    l2: float
    rows: int
    least_hessian: float = 0.0


class Drawn(NamedTuple):
    """What chance decides for each of T trees.

    Attributes
    ----------
    columns : bool (T, K)
        Those that it may split.
    turn : float64 (T,)
        From 0 to below 1: by how much the places are turned that decide which rows it sees.
    """

    columns: NDArray[np.bool_]
    turn: NDArray[np.float64]


class Grown(NamedTuple):
    """M nodes of T trees, one tree after the other, children behind their parents.

    Attributes
    ----------
    roots : int32 (T,)
        The first node of each tree.
    column : int16 (M,)
        What a node splits on; `LEAF` for a leaf.
    code : int32 (M,)
        The last one that goes left.
    missing_left : bool (M,)
        Where a missing value goes.
    left, right : int32 (M,)
        Children; 0 for a leaf.
    value : float64 (M,)
        The leaf's value; of a split, the mean of the leaves below it over the rows.
    """

    roots: NDArray[np.int32]
    column: NDArray[np.int16]
    code: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]


class _Leaves(NamedTuple):
    """The leaves of the tree that grows: their places in the order of the drawn rows, their sums and best splits."""

    begin: NDArray[np.int64]
    end: NDArray[np.int64]
    node: NDArray[np.int64]
    sums: NDArray[np.int64]
    gain: NDArray[np.float64]
    slot: NDArray[np.int64]
    code: NDArray[np.int64]
    missing_left: NDArray[np.bool_]


class _Codes(NamedTuple):
    """The bins of all values, column by column and row by row, and which columns have missing ones."""

    by_column: NDArray[np.uint8]
    by_row: NDArray[np.uint8]
    has_missing: NDArray[np.bool_]


class _Columns(NamedTuple):
    """The columns that a tree sees, and where the cells of each begin in a histogram; the last cell is for missing."""

    columns: NDArray[np.uint64]
    starts: NDArray[np.uint64]


def grow(
    codes: NDArray[np.uint8],
    bins: NDArray[np.int64],
    y: NDArray[np.uint8],
    w: NDArray[np.float64],
    drawn: Drawn,
    growth: Growth,
    start: NDArray[np.float64],
) -> Grown:
    """Grow trees, each of the gradients that those before it leave.

    Parameters
    ----------
    codes : uint8 (K, n)
        The bin of every value, column by column; that of a missing value is the number of the column's bins.
    bins : int64 (K,)
        Bins of each column, at most 255.
    y : uint8 (n,)
        1 for fraud.
    w : float64 (n,)
        Sampling weights.
    drawn
        What chance decides.
    growth
        How trees grow.
    start : float64 (n,)
        The logits before the first tree.

    Raises
    ------
    ValueError
        More than 128 leaves are asked for.
    """
    if growth.leaves > _MOST_LEAVES:
        msg = f"a tree has at most {_MOST_LEAVES} leaves, not {growth.leaves}"
        raise ValueError(msg)
    both = _Codes(read_only(codes), read_only(codes.T), (codes == bins[:, None]).any(axis=1))
    trees = len(drawn.turn)
    most = trees * (2 * growth.leaves - 1)
    grown = Grown(
        np.zeros(trees, np.int32),
        np.full(most, LEAF, np.int16),
        np.zeros(most, np.int32),
        np.zeros(most, np.bool_),
        np.zeros(most, np.int32),
        np.zeros(most, np.int32),
        np.zeros(most),
    )
    label = read_only(y.astype(np.float64))
    drawn = Drawn(read_only(drawn.columns), read_only(drawn.turn))
    used = _grow_all(both, bins + 1, label, read_only(w), drawn, growth, grown, start.copy())
    return Grown(
        grown.roots, grown.column[:used].copy(), grown.code[:used].copy(), grown.missing_left[:used].copy(),
        grown.left[:used].copy(), grown.right[:used].copy(), grown.value[:used].copy(),
    )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _grow_all(
    codes: _Codes,
    cells: NDArray[np.int64],
    y: NDArray[np.float64],
    w: NDArray[np.float64],
    drawn: Drawn,
    growth: Growth,
    grown: Grown,
    logit: NDArray[np.float64],
) -> int:
    n, most = len(y), growth.leaves
    its_gradients = Gradients(np.empty(n), np.empty(n), np.empty(n, np.int64))
    order, spare = np.empty(n, np.uint32), np.empty(n, np.uint32)
    taken, reached = np.empty((n, _most_columns(drawn.columns)), np.uint8), np.empty(n, np.uint8)
    leaves = _Leaves(
        np.zeros(most, np.int64), np.zeros(most, np.int64), np.zeros(most, np.int64),
        np.zeros((most, cells.sum()), np.int64),
        np.zeros(most), np.zeros(most, np.int64), np.zeros(most, np.int64), np.zeros(most, np.bool_),
    )  # fmt: skip
    free = 0
    for tree in range(len(drawn.turn)):
        sums = set_gradients(logit, y, w, its_gradients)
        its = _columns(drawn.columns[tree], cells)
        units = (sums.gradients / WHOLE, sums.hessians / WHOLE)
        packed = its_gradients.packed
        root = free
        grown.roots[tree] = root
        leaves.begin[0], leaves.node[0] = 0, root
        leaves.end[0] = draw_rows(its_gradients, sums, drawn.turn[tree], growth.rows, order)
        _take_rows(codes.by_row, its, order[: leaves.end[0]], taken)
        _sum_rows(taken, its, packed, order, leaves, 0)
        _find_split(leaves, 0, its, units, growth)
        free, used = root + 1, 1
        while used < most:
            at = int(np.argmax(leaves.gain[:used]))
            if leaves.gain[at] <= _LEAST_GAIN:
                break
            _split(taken, its, order, spare, leaves, at, used, grown, free)
            free += 2
            used += 1
            if used < most:
                _sum_children(taken, its, packed, order, leaves, at, used - 1)
                _find_split(leaves, at, its, units, growth)
                _find_split(leaves, used - 1, its, units, growth)
        _descend(codes.by_column, cells, grown, root, free, reached)
        _set_values(its_gradients, reached, codes.has_missing, growth, grown, root, free)
        for row in range(n):
            logit[row] += grown.value[root + reached[row]]
    return free


@njit(cache=True, nogil=True, error_model="numpy")
def _columns(seen: NDArray[np.bool_], cells: NDArray[np.int64]) -> _Columns:
    columns = np.flatnonzero(seen)
    starts = np.zeros(len(columns) + 1, np.uint64)
    starts[1:] = np.cumsum(cells[columns])
    return _Columns(columns.astype(np.uint64), starts)


@njit(cache=True, nogil=True, error_model="numpy")
def _most_columns(seen: NDArray[np.bool_]) -> int:
    """Return how many columns a tree sees at most."""
    most = 0
    for columns in seen:
        most = max(most, columns.sum())
    return most


@njit(cache=True, nogil=True, error_model="numpy")
def _take_rows(
    by_row: NDArray[np.uint8], its: _Columns, order: NDArray[np.uint32], taken: NDArray[np.uint8]
) -> None:
    """Copy what a tree sees of the drawn rows, so that it lies together; from now on the order is of the copies."""
    # Indices without a sign spare the check for negative ones, which costs as much as the rest.
    for at in range(np.uint64(len(order))):
        row = np.uint64(order[at])
        for slot in range(np.uint64(len(its.columns))):
            taken[at, slot] = by_row[row, its.columns[slot]]
        order[at] = at


@njit(cache=True, nogil=True, error_model="numpy")
def _sum_rows(
    taken: NDArray[np.uint8],
    its: _Columns,
    packed: NDArray[np.int64],
    order: NDArray[np.uint32],
    leaves: _Leaves,
    leaf: int,
) -> None:
    sums = leaves.sums[leaf, : its.starts[-1]]
    sums[:] = 0
    columns, end = np.uint64(len(its.columns)), leaves.end[leaf]
    # Four rows a turn: where a column's cells begin is read once for all of them.
    for at in range(leaves.begin[leaf], end - 3, 4):
        a, b = np.uint64(order[at]), np.uint64(order[at + 1])
        c, d = np.uint64(order[at + 2]), np.uint64(order[at + 3])
        its_a, its_b, its_c, its_d = taken[a], taken[b], taken[c], taken[d]
        own_a, own_b, own_c, own_d = packed[a], packed[b], packed[c], packed[d]
        for slot in range(columns):
            start = its.starts[slot]
            sums[start + np.uint64(its_a[slot])] += own_a
            sums[start + np.uint64(its_b[slot])] += own_b
            sums[start + np.uint64(its_c[slot])] += own_c
            sums[start + np.uint64(its_d[slot])] += own_d
    for at in range(end - (end - leaves.begin[leaf]) % 4, end):
        row = np.uint64(order[at])
        own = packed[row]
        for slot in range(columns):
            sums[its.starts[slot] + np.uint64(taken[row, slot])] += own


@njit(cache=True, nogil=True, error_model="numpy")
def _sum_children(
    taken: NDArray[np.uint8],
    its: _Columns,
    packed: NDArray[np.int64],
    order: NDArray[np.uint32],
    leaves: _Leaves,
    left: int,
    right: int,
) -> None:
    """Sum the rows of the smaller child; the left one's place holds the sums of both."""
    lefts, rights = leaves.sums[left, : its.starts[-1]], leaves.sums[right, : its.starts[-1]]
    if leaves.end[left] - leaves.begin[left] < leaves.end[right] - leaves.begin[right]:
        rights[:] = lefts
        _sum_rows(taken, its, packed, order, leaves, left)
        rights -= lefts
    else:
        _sum_rows(taken, its, packed, order, leaves, right)
        lefts -= rights


@njit(cache=True, nogil=True, error_model="numpy")
def _find_split(
    leaves: _Leaves, leaf: int, its: _Columns, units: tuple[float, float], growth: Growth
) -> None:
    """Fill in the best split of a leaf, its gain in units of the loss."""
    best = best_split(leaves.sums[leaf], its.starts, growth.l2 / units[1], growth.least_hessian / units[1])
    leaves.gain[leaf] = best.gain * units[0] * (units[0] / units[1])
    leaves.slot[leaf], leaves.code[leaf], leaves.missing_left[leaf] = best.slot, best.code, best.missing_left


@njit(cache=True, nogil=True, error_model="numpy")
def _split(  # noqa: PLR0913 - a compiled loop
    taken: NDArray[np.uint8],
    its: _Columns,
    order: NDArray[np.uint32],
    spare: NDArray[np.uint32],
    leaves: _Leaves,
    at: int,
    new: int,
    grown: Grown,
    free: int,
) -> None:
    """Make two leaves of one: the left one in its place, the right one at `new`; their nodes are the next free ones."""
    slot, code, missing_left = leaves.slot[at], leaves.code[at], leaves.missing_left[at]
    missing = int(its.starts[slot + 1] - its.starts[slot]) - 1
    begin, end = leaves.begin[at], leaves.end[at]
    lefts, rights = begin, np.int64(0)
    # Which way a row goes cannot be foreseen, and a wrong guess is dear. So each is written to both sides, and only its
    # own side moves on; on the left this overwrites only what has been read.
    code_beside = missing if missing_left else code
    for position in range(begin, end):
        row = order[position]
        its_code = np.int64(taken[row, slot])
        goes_left = np.int64(its_code <= code) | np.int64(its_code == code_beside)
        order[lefts] = spare[rights] = row
        lefts += goes_left
        rights += 1 - goes_left
    order[lefts:end] = spare[:rights]
    node = leaves.node[at]
    grown.column[node], grown.code[node], grown.missing_left[node] = its.columns[slot], code, missing_left
    grown.left[node], grown.right[node] = free, free + 1
    leaves.begin[new], leaves.end[new], leaves.node[new] = lefts, end, free + 1
    leaves.end[at], leaves.node[at] = lefts, free


@njit(cache=True, nogil=True, error_model="numpy")
def _descend(
    by_column: NDArray[np.uint8],
    cells: NDArray[np.int64],
    grown: Grown,
    root: int,
    free: int,
    reached: NDArray[np.uint8],
) -> None:
    """Find the leaf of every row, as its distance from the root.

    Block by block all rows pass every split, and only those at its node take note: without a branch, many at once.
    """
    for start in range(0, len(reached), _BLOCK):
        block = reached[start : start + _BLOCK]
        block[:] = 0
        for at in range(root, free):
            column = grown.column[at]
            if column != LEAF:
                code = grown.code[at]
                pass_rows(
                    block, by_column[column, start : start + _BLOCK], np.uint8(at - root), np.uint8(code),
                    np.uint8(cells[column] - 1 if grown.missing_left[at] else code),
                    np.uint8(grown.left[at] - root), np.uint8(grown.right[at] - root),
                )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def pass_rows(
    reached: NDArray[Any],
    places: NDArray[Any],
    node: Any,
    place: Any,
    place_beside: Any,
    left: Any,
    right: Any,
) -> None:
    """Send those of n rows that are at a node to its children, all without a branch.

    `models.boosting` compiles it into its own, too: see `models.gradients` on compiled code that is kept.

    Parameters
    ----------
    reached : (n,)
        The node that each row is at, in whole numbers of any one type.
    places : (n,)
        In the column of the node's split, as whole numbers of any one type.
    node, left, right
        As those that `reached` holds.
    place, place_beside
        Rows up to the first go left, and so do those at the second.
    """
    for row in range(len(reached)):
        its = places[row]
        child = left if (its <= place) | (its == place_beside) else right
        reached[row] = child if reached[row] == node else reached[row]


@njit(cache=True, nogil=True, error_model="numpy")
def _set_values(
    its: Gradients,
    reached: NDArray[np.uint8],
    has_missing: NDArray[np.bool_],
    growth: Growth,
    grown: Grown,
    root: int,
    free: int,
) -> None:
    """Give every leaf its value, and every split the mean of the leaves below it over the rows."""
    g, h, count = np.zeros(free - root), np.zeros(free - root), np.zeros(free - root)
    for row in range(len(reached)):
        leaf = np.uint64(reached[row])
        g[leaf] += its.gradient[row]
        h[leaf] += its.hessian[row]
        count[leaf] += 1.0
    # Children lie behind their parents, so that one pass from the end fills the means of all splits.
    for at in range(free - root - 1, -1, -1):
        node = root + at
        if grown.column[node] == LEAF:
            grown.value[node] = -growth.learning_rate * g[at] / (h[at] + growth.l2)
            continue
        left, right = grown.left[node], grown.right[node]
        lefts, rights = count[left - root], count[right - root]
        count[at] = lefts + rights
        if not has_missing[grown.column[node]]:
            # Nothing says where a value that is missing later belongs: it goes with most rows, drawn or not.
            grown.missing_left[node] = lefts > rights
        grown.value[node] = (lefts * grown.value[left] + rights * grown.value[right]) / (lefts + rights)
