"""Trees grown from bins, against ones grown by brute force."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest

from models.growing import LEAF, Drawn, Grown, Growth, grow


class Split(NamedTuple):
    gain: float
    column: int
    code: int
    missing_left: bool
    left: np.ndarray


def grown_by_hand(
    codes: np.ndarray,
    bins: list[int],
    y: np.ndarray,
    w: np.ndarray,
    drawn: list[list[int]],
    growth: Growth,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """Return the logits of the rows: every split is tried, and every sum is taken anew from the rows.

    Splits are found by the rows whose place on the circle lies below their chance, each for those that it stands for.
    """
    logit = np.full(len(y), math.log(np.dot(w, y) / np.dot(w, 1 - y))) if start is None else start.copy()
    for tree, columns in enumerate(drawn):
        p = 1 / (1 + np.exp(-logit))
        g, h = w * (p - y), w * p * (1 - p)
        chance = np.ones(len(y)) if growth.rows >= len(y) else np.abs(g) * growth.rows / np.abs(g).sum()
        place = [(row * 2_654_435_769 + int(turn(tree) * 2**32)) % 2**32 / 2**32 for row in range(len(y))]
        each = np.where(chance > place, 1 / np.minimum(chance, 1), 0)
        leaves = [np.ones(len(y), bool)]
        while len(leaves) < growth.leaves:
            splits = [best_split(codes, bins, columns, leaf, g * each, h * each, growth) for leaf in leaves]
            at = int(np.argmax([split.gain for split in splits]))
            if splits[at].gain <= 1e-9:
                break
            leaf, left = leaves[at], splits[at].left
            leaves[at] = leaf & left
            leaves.append(leaf & ~left)
        for leaf in leaves:
            logit[leaf] -= growth.learning_rate * g[leaf].sum() / (h[leaf].sum() + growth.l2)
    return logit


def best_split(
    codes: np.ndarray,
    bins: list[int],
    columns: list[int],
    leaf: np.ndarray,
    g: np.ndarray,
    h: np.ndarray,
    growth: Growth,
) -> Split:
    def part(rows: np.ndarray) -> float:
        return float(g[rows].sum() ** 2 / (h[rows].sum() + growth.l2))

    best = Split(0.0, 0, 0, False, leaf)
    for column in columns:
        missing = codes[column] == bins[column]
        for missing_left in (False, True):
            # Behind a code that no row has, which rows go where is as behind the one before it.
            for code in np.unique(codes[column, leaf & (h > 0) & ~missing]):
                left = (codes[column] <= code) & ~missing | missing & missing_left
                if not (leaf & left).any() or not (leaf & ~left).any():
                    continue
                if min(h[leaf & left].sum(), h[leaf & ~left].sum()) < growth.least_hessian:
                    continue
                gain = part(leaf & left) + part(leaf & ~left) - part(leaf)
                if gain > best.gain + 1e-9:
                    best = Split(gain, column, code, missing_left, left)
    return best


def logits(grown: Grown, codes: np.ndarray, bins: list[int], begun: np.ndarray) -> np.ndarray:
    out = begun.copy()
    for row in range(codes.shape[1]):
        for root in grown.roots:
            node = root
            while grown.column[node] != LEAF:
                code = codes[grown.column[node], row]
                is_missing = code == bins[grown.column[node]]
                goes_left = grown.missing_left[node] if is_missing else code <= grown.code[node]
                node = grown.left[node] if goes_left else grown.right[node]
            out[row] += grown.value[node]
    return out


def sample(seed: int, count: int = 300) -> tuple[np.ndarray, list[int], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    bins = [6, 255, 1, 12]
    codes = np.stack([rng.integers(0, its + (its < 100), count) for its in bins]).astype(np.uint8)
    score = 0.5 * codes[0] - 0.01 * codes[1] + (codes[2] == 1) * (codes[3] > 5) + rng.logistic(size=count)
    return codes, bins, (score > 1.5).astype(np.uint8), rng.uniform(0.5, 20.0, count)


def begun(y: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Return the log odds of fraud for every row."""
    share = np.clip(np.average(y, weights=w) if w.sum() else 0.0, 1e-9, 1.0 - 1e-9)
    return np.full(len(y), np.log(share / (1.0 - share)))


def turn(tree: int) -> float:
    return (0.3 + 0.37 * tree) % 1


def by_chance(drawn: list[list[int]]) -> Drawn:
    columns = np.array([np.isin(np.arange(4), its) for its in drawn])
    return Drawn(columns, np.array([turn(tree) for tree in range(len(drawn))]))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("rows", [1_000, 300, 150, 40])
@pytest.mark.parametrize("drawn", [[[0, 1, 2, 3]] * 4, [[0, 1], [1, 2, 3], [0, 3], [2]], [[2], [1], [2]]])
@pytest.mark.parametrize("least_hessian", [0.0, 60.0])
def test_trees_are_those_that_brute_force_grows(
    seed: int, rows: int, drawn: list[list[int]], least_hessian: float
) -> None:
    codes, bins, y, w = sample(seed)
    growth = Growth(leaves=7, learning_rate=0.3, l2=4.0, rows=rows, least_hessian=least_hessian)
    grown = grow(codes, np.array(bins), y, w, by_chance(drawn), growth, begun(y, w))
    expected = grown_by_hand(codes, bins, y, w, drawn, growth)
    np.testing.assert_allclose(logits(grown, codes, bins, begun(y, w)), expected, atol=1e-6)
    for tree, nodes in enumerate(np.split(grown.column, grown.roots[1:])):
        assert set(nodes.tolist()) <= {LEAF, *drawn[tree]}


@pytest.mark.parametrize("count", [8_191, 8_193, 20_000])
def test_every_row_of_many_counts_in_the_value_of_its_leaf(count: int) -> None:
    codes, bins, y, w = sample(11, count)
    drawn = [[0, 1, 2, 3], [1, 3]]
    growth = Growth(leaves=6, learning_rate=0.3, l2=4.0, rows=5_000)
    grown = grow(codes, np.array(bins), y, w, by_chance(drawn), growth, begun(y, w))
    expected = grown_by_hand(codes, bins, y, w, drawn, growth)
    np.testing.assert_allclose(logits(grown, codes, bins, begun(y, w)), expected, atol=1e-6)


def test_a_split_s_value_is_the_mean_of_its_rows_and_its_children_lie_behind_it() -> None:
    codes, bins, y, w = sample(9)
    grown = grow(
        codes, np.array(bins), y, w, by_chance([[0, 1, 2, 3]]), Growth(9, 0.3, 4.0, 200), begun(y, w)
    )
    np.testing.assert_allclose(
        begun(y, w)[0] + grown.value[0], logits(grown, codes, bins, begun(y, w)).mean(), rtol=1e-12
    )
    split = np.flatnonzero(grown.column != LEAF)
    assert len(split) == 8
    assert np.all(grown.left[split] > split)
    assert np.all(grown.right[split] > split)


@pytest.mark.parametrize("seed", range(6))
def test_of_columns_that_are_alike_the_first_is_split(seed: int) -> None:
    codes, bins, y, w = sample(seed)
    twice = np.concatenate([codes, codes])
    drawn = Drawn(np.ones((5, 8), np.bool_), np.array([turn(tree) for tree in range(5)]))
    grown = grow(twice, np.array(bins * 2), y, w, drawn, Growth(9, 0.3, 4.0, 200), begun(y, w))
    assert set(grown.column.tolist()) <= {LEAF, 0, 1, 2, 3}


def test_of_equal_splits_the_one_with_missing_values_on_the_right_is_taken() -> None:
    # Splits behind code 0 with the missing values on the left, and behind code 1 with them on the right, part alike.
    codes = np.repeat(np.array([0, 1, 2, 3], np.uint8), [10, 10, 10, 40])[None]
    y = (codes[0] == 1).astype(np.uint8)
    drawn = Drawn(np.ones((1, 1), np.bool_), np.zeros(1))
    grown = grow(
        codes, np.array([3]), y, np.ones(70), drawn, Growth(2, 0.1, 20.0, 100), begun(y, np.ones(70))
    )
    assert (grown.code[0], bool(grown.missing_left[0])) == (1, False)


def test_more_leaves_than_a_byte_can_number_are_refused() -> None:
    codes, bins, y, w = sample(1)
    with pytest.raises(ValueError, match="at most 128 leaves, not 129"):
        grow(codes, np.array(bins), y, w, by_chance([[0]]), Growth(129, 0.1, 20.0, 100), begun(y, w))


@pytest.mark.parametrize("rows", [300, 100])
def test_rows_of_tiny_and_of_huge_weights_split_as_brute_force_splits_them(rows: int) -> None:
    codes, bins, y, w = sample(3)
    growth = Growth(leaves=4, learning_rate=0.1, l2=20.0, rows=rows)
    for weight in (w * 1e-3 * (1 - y) + y, w * 1e4 * (1 - y) + y):
        grown = grow(
            codes, np.array(bins), y, weight, by_chance([[0, 1, 2, 3]] * 3), growth, begun(y, weight)
        )
        expected = grown_by_hand(codes, bins, y, weight, [[0, 1, 2, 3]] * 3, growth)
        np.testing.assert_allclose(logits(grown, codes, bins, begun(y, weight)), expected, atol=1e-6)


def test_rows_without_weight_or_of_one_class_alone_teach_nothing() -> None:
    codes, bins, y, w = sample(5)
    growth = Growth(leaves=4, learning_rate=0.1, l2=20.0, rows=100)
    for label, weight in ((y, 0 * w), (0 * y, w), (0 * y + 1, w)):
        start = begun(label, weight)
        grown = grow(codes, np.array(bins), label, weight, by_chance([[0, 1, 2, 3]] * 3), growth, start)
        np.testing.assert_allclose(logits(grown, codes, bins, start), start, atol=1e-6)


def test_trees_grow_from_the_logits_that_the_rows_begin_with() -> None:
    codes, bins, y, w = sample(6)
    growth = Growth(leaves=5, learning_rate=0.3, l2=4.0, rows=1_000)
    drawn = [[0, 1, 2, 3]] * 3
    start = np.random.default_rng(6).normal(-1.0, 1.0, len(y))
    kept = start.copy()
    grown = grow(codes, np.array(bins), y, w, by_chance(drawn), growth, start)
    expected = grown_by_hand(codes, bins, y, w, drawn, growth, start)
    np.testing.assert_allclose(logits(grown, codes, bins, start), expected, atol=1e-6)
    np.testing.assert_array_equal(start, kept)
