"""Grows boosted trees from the numbers of bins, in compiled loops on one thread.

Each tree is grown leaf by leaf, the most gainful split first (Shi 2007), from histograms of gradients, of which that of
a larger child is its parent's less its sibling's (Ke et al. 2017). A tree may see a share of the columns (Chen and
Guestrin 2016), so that only these are summed, and finds its splits by rows that `models.gradients` draws and packs.
All rows then set the values of the leaves. `make bench` compares the time with that of scikit-learn's booster on one
thread.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.bins import read_only
from models.gradients import WHOLE, Gradients, draw_rows, gradient_of, hessian_of, set_gradients

LEAF: Final = -1
"""The column of a leaf."""
_LEAST_GAIN: Final = 1e-9
_MORE: Final = 1.0 + 1e-12
"""By which factor a split has to be better: rounding is none."""
_LEAST_SHARE: Final = 1e-9
"""Of frauds or legits, so that either may be absent."""
_BLOCK: Final = 16
"""Rows that go through a tree together."""
_WIDTH: Final = 8
"""Places of a node, of which five are used: 2 to the power of `_THREE`."""
_ONE, _TWO, _THREE = np.uint64(1), np.uint64(2), np.uint64(3)


class Growth(NamedTuple):
    """How trees grow.

    Attributes
    ----------
    leaves
        The most leaves of a tree, at most 32,768.
    learning_rate
        Shrinkage of every tree.
    l2
        Added to the sum of hessians of every leaf; above 0.
    rows
        The most rows, in the mean, by which the splits of a tree are found.
    """

    leaves: int
    learning_rate: float
    l2: float
    rows: int


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
    baseline
        The logit before the first tree.
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

    baseline: float
    roots: NDArray[np.int32]
    column: NDArray[np.int16]
    code: NDArray[np.int32]
    missing_left: NDArray[np.bool_]
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    value: NDArray[np.float64]


class _Leaves(NamedTuple):
    """The leaves of the tree that grows: their drawn rows in the order, their sums, and the best split of each."""

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
    """
    baseline = log_odds(y, w)
    both = _Codes(read_only(codes), read_only(codes.T), (codes == bins[:, None]).any(axis=1))
    trees = len(drawn.turn)
    most = trees * (2 * growth.leaves - 1)
    grown = Grown(
        baseline,
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
    used = _grow_all(both, bins + 1, label, read_only(w), drawn, growth, grown)
    return Grown(
        baseline, grown.roots, grown.column[:used].copy(), grown.code[:used].copy(), grown.missing_left[:used].copy(),
        grown.left[:used].copy(), grown.right[:used].copy(), grown.value[:used].copy(),
    )  # fmt: skip


def log_odds(y: NDArray[np.uint8], w: NDArray[np.float64]) -> float:
    """Return the log odds of fraud over weighted rows; finite even where either class is absent."""
    share = np.average(y, weights=w) if w.sum() > 0.0 else 0.0
    share = float(np.clip(share, _LEAST_SHARE, 1.0 - _LEAST_SHARE))
    return math.log(share / (1.0 - share))


@njit(cache=True, nogil=True, error_model="numpy")
def _grow_all(
    codes: _Codes,
    cells: NDArray[np.int64],
    y: NDArray[np.float64],
    w: NDArray[np.float64],
    drawn: Drawn,
    growth: Growth,
    grown: Grown,
) -> int:
    n, most = len(y), growth.leaves
    logit = np.full(n, grown.baseline)
    its_gradients = Gradients(np.empty(n), np.empty(n), np.empty(n, np.int64))
    order, spare = np.empty(n, np.uint32), np.empty(n, np.uint32)
    reached = np.empty(n, np.uint16)
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
        _sum_rows(codes.by_row, its, packed, order, leaves, 0)
        _find_split(leaves, 0, its, units, growth.l2)
        free, used = root + 1, 1
        while used < most:
            at = int(np.argmax(leaves.gain[:used]))
            if leaves.gain[at] <= _LEAST_GAIN:
                break
            _split(codes, its, order, spare, leaves, at, used, grown, free)
            free += 2
            used += 1
            if used < most:
                _sum_children(codes.by_row, its, packed, order, leaves, at, used - 1)
                _find_split(leaves, at, its, units, growth.l2)
                _find_split(leaves, used - 1, its, units, growth.l2)
        _descend(codes.by_row, cells, grown, root, free, reached)
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
def _sum_rows(
    by_row: NDArray[np.uint8],
    its: _Columns,
    packed: NDArray[np.int64],
    order: NDArray[np.uint32],
    leaves: _Leaves,
    leaf: int,
) -> None:
    # Indices without a sign spare the check for negative ones, which costs as much as the addition.
    sums = leaves.sums[leaf, : its.starts[-1]]
    sums[:] = 0
    for at in range(leaves.begin[leaf], leaves.end[leaf]):
        row = np.uint64(order[at])
        own = packed[row]
        for slot in range(len(its.columns)):
            sums[its.starts[slot] + np.uint64(by_row[row, its.columns[slot]])] += own


@njit(cache=True, nogil=True, error_model="numpy")
def _sum_children(
    by_row: NDArray[np.uint8],
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
        _sum_rows(by_row, its, packed, order, leaves, left)
        rights -= lefts
    else:
        _sum_rows(by_row, its, packed, order, leaves, right)
        lefts -= rights


@njit(cache=True, nogil=True, error_model="numpy")
def _find_split(leaves: _Leaves, leaf: int, its: _Columns, units: tuple[float, float], l2: float) -> None:
    """Find the split that lowers the loss most; the first of equals.

    Rows of gradient g and hessian h, as a leaf of their own, lower it by half of g * g / (h + l2).
    """
    sums = leaves.sums[leaf]
    packed = np.int64(0)
    for cell in range(int(its.starts[0]), int(its.starts[1])):
        packed += sums[cell]
    whole, hessian, penalty = gradient_of(packed), hessian_of(packed), l2 / units[1]
    least = best = whole * whole / (hessian + penalty)
    for slot in range(len(its.columns)):
        begin, missing = int(its.starts[slot]), int(its.starts[slot + 1]) - 1
        missing_ways = 2 if sums[missing] != 0 else 1
        upto = np.int64(0)
        # The last cell may be split off only from what is missing.
        for cell in range(begin, missing + missing_ways - 2):
            if sums[cell] == 0:
                continue
            upto += sums[cell]
            for missing_left in range(missing_ways):
                packed = upto + missing_left * sums[missing]
                left, left_h = gradient_of(packed), hessian_of(packed)
                right, right_h = whole - left, hessian - left_h + penalty
                left_h += penalty
                # A division takes longer than all the rest, and hardly any split is the best so far.
                both, found = left_h * right_h, left * left * right_h + right * right * left_h
                if found > best * both * _MORE:
                    best = found / both
                    leaves.slot[leaf], leaves.code[leaf] = slot, cell - begin
                    leaves.missing_left[leaf] = missing_left == 1
    leaves.gain[leaf] = (best - least) * units[0] * (units[0] / units[1])


@njit(cache=True, nogil=True, error_model="numpy")
def _split(  # noqa: PLR0913 - a compiled loop
    codes: _Codes,
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
    column = codes.by_column[its.columns[slot]]
    missing = int(its.starts[slot + 1] - its.starts[slot]) - 1
    begin, end = leaves.begin[at], leaves.end[at]
    lefts, rights = begin, np.int64(0)
    # Which way a row goes cannot be foreseen, and a wrong guess is dear. So each is written to both sides, and only its
    # own side moves on; on the left this overwrites only what has been read.
    code_beside = missing if missing_left else code
    for position in range(begin, end):
        row = order[position]
        its_code = np.int64(column[row])
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
    by_row: NDArray[np.uint8],
    cells: NDArray[np.int64],
    grown: Grown,
    root: int,
    free: int,
    reached: NDArray[np.uint16],
) -> None:
    """Find the leaf of every row, as its distance from the root; `models.boosting` says why rows walk in blocks."""
    # Of each node: its column, the last code that goes left and one beside it that does, the right child, the left one.
    # Children are places in this array.
    nodes, depth = np.zeros(_WIDTH * (free - root), np.uint64), np.zeros(free - root, np.int64)
    for at in range(free - root):
        its, node = nodes[_WIDTH * at :], root + at
        column, code = grown.column[node], grown.code[node]
        if column == LEAF:
            its[3] = its[4] = _WIDTH * at
            continue
        right, left = grown.right[node] - root, grown.left[node] - root
        its[0], its[1], its[2] = column, code, cells[column] - 1 if grown.missing_left[node] else code
        its[3], its[4] = _WIDTH * right, _WIDTH * left
        depth[left] = depth[right] = depth[at] + 1
    node_of, steps = np.zeros(_BLOCK, np.uint64), depth.max()
    for start in range(0, len(reached), _BLOCK):
        block = min(_BLOCK, len(reached) - start)
        node_of[:] = 0
        for _ in range(steps):
            for row in range(np.uint64(block)):
                its_node = node_of[row]
                code = np.uint64(by_row[np.uint64(start) + row, nodes[its_node]])
                is_up_to, is_beside = code <= nodes[its_node + _ONE], code == nodes[its_node + _TWO]
                node_of[row] = nodes[its_node + _THREE + (np.uint64(is_up_to) | np.uint64(is_beside))]
        for row in range(block):
            reached[start + row] = node_of[row] >> _THREE


@njit(cache=True, nogil=True, error_model="numpy")
def _set_values(
    its: Gradients,
    reached: NDArray[np.uint16],
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
