from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from models.bins import MISSING_BIN, Bins, draw_bins
from models.candidates import FOR_NEARLY_NO_FRAUDS, TABLES
from models.online import build_generation

NUMERIC = np.zeros(1, np.bool_)
CODES = np.ones(1, np.bool_)


def column(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)[:, None]


def ones(X: NDArray[np.float32]) -> NDArray[np.float64]:
    return np.ones(len(X))


def edges_of(bins: Bins, feature: int = 0) -> list[float]:
    return [float(edge) for edge in bins.edges[feature] if np.isfinite(edge)]


def skewed(rows: int, seed: int = 1) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    X = rng.lognormal(0.0, 2.0, (rows, 3)).astype(np.float32)
    X[rng.random((rows, 3)) < 0.4] = 0.0
    X[rng.random((rows, 3)) < 0.1] = np.nan
    return X


def test_half_of_the_edges_lie_at_even_quantiles_and_half_towards_the_tail() -> None:
    X = np.arange(1, 1001, dtype=np.float32)[:, None]
    bins = draw_bins(X, ones(X), NUMERIC, main_bins=10, cross_bins=4)
    # Eight edges: fifths, and 1/2, 3/4, 7/8, 15/16.
    assert edges_of(bins) == sorted([200, 400, 600, 800, 500, 750, 875, 938])


def test_where_bins_are_few_two_edges_lie_in_the_lower_tail() -> None:
    X = np.arange(1, 1025, dtype=np.float32)[:, None]
    bins = draw_bins(X, ones(X), NUMERIC, main_bins=16, cross_bins=4)
    # Fourteen edges: 1/128 and 1/32, sixths, and 1/2 (one of these), 3/4, ..., 127/128.
    low, sixths = [8, 32], [171, 342, 512, 683, 854]
    assert edges_of(bins) == [*low, *sixths[:4], 768, sixths[4], 896, 960, 992, 1008, 1016]


def test_where_bins_are_many_the_lowest_edge_is_an_even_quantile() -> None:
    X = np.arange(1, 1025, dtype=np.float32)[:, None]
    # Sixty-two edges, of which half are even quantiles.
    assert edges_of(draw_bins(X, ones(X), NUMERIC))[0] == 32


def test_few_bins_find_frauds_far_out_on_either_side() -> None:
    """Three of twelve columns of heavy tails are five to seven out where a row is fraud, all up or all down."""
    found = []
    for sign in (1.0, -1.0):
        rng = np.random.default_rng(1)
        x, y = rng.standard_t(4.0, (30_000, 12)), rng.random(30_000) < 0.003
        x[np.ix_(np.flatnonzero(y), np.arange(3))] += sign * rng.uniform(5.0, 7.0, (np.count_nonzero(y), 3))
        X, half = x.astype(np.float32), slice(15_000, None)
        names, kinds = [str(at) for at in range(12)], np.zeros(12, np.bool_)
        learnt = y[:15_000].astype(np.uint8)
        model = build_generation(
            X[:15_000], learnt, np.ones(15_000), names, kinds, TABLES[FOR_NEARLY_NO_FRAUDS]
        )
        found.append(average_precision_score(y[half], model.score_batch(X[half])))
    assert found[0] > 0.8
    assert found[1] > 0.8


def test_cross_edges_are_main_edges() -> None:
    X = np.arange(1, 1001, dtype=np.float32)[:, None]
    main, cross = draw_bins(X, ones(X), NUMERIC, main_bins=10, cross_bins=6).assign(X)
    cuts = [int(X[i, 0]) for i in range(1, 1000) if cross[i, 0] != cross[i - 1, 0]]
    # Asked for 1/4, 1/2, 3/4 and 7/8; the first is moved up to the next main edge.
    assert cuts == [400, 500, 750, 875]
    assert main.max() == 9


def test_a_value_held_by_a_fifth_of_the_rows_has_its_bins_to_itself() -> None:
    X = skewed(5_000)
    bins = draw_bins(X, ones(X), np.zeros(3, np.bool_))
    for of_rows in bins.assign(X):
        for f in range(3):
            zero = X[:, f] == 0.0
            own = set(of_rows[zero, f])
            assert len(own) == 1
            assert own.isdisjoint(of_rows[~zero, f])


def test_every_main_bin_lies_within_one_cross_bin_and_neither_exceeds_its_number() -> None:
    X = skewed(5_000)
    for main_bins, cross_bins in ((64, 16), (16, 16), (4, 4), (256, 5)):
        main, cross = draw_bins(
            X, ones(X), np.array([False, False, True]), main_bins=main_bins, cross_bins=cross_bins
        ).assign(X)
        assert main.max() < main_bins
        assert cross.max() < cross_bins
        for f in range(3):
            assert len(set(zip(main[:, f], cross[:, f], strict=True))) == len(set(main[:, f]))


def test_the_tail_is_cut_finely() -> None:
    X = np.sort(skewed(50_000)[:, :1], axis=0)
    present = X[np.isfinite(X[:, 0])]
    main, _ = draw_bins(present, ones(present), NUMERIC).assign(present)
    assert len(set(main[-50:, 0])) >= 5


def test_rows_are_cut_as_a_plain_search_would() -> None:
    X = skewed(3_000)
    bins = draw_bins(X, ones(X), np.zeros(3, np.bool_))
    X[:30, 0] = np.repeat(bins.edges[0, :10], 3) * np.tile([1, 0.999999, 1.000001], 10).astype(np.float32)
    main, _ = bins.assign(X)
    for f in range(3):
        finite = np.isfinite(X[:, f])
        expected = 1 + np.searchsorted(edges_of(bins, f), X[finite, f], side="right")
        assert np.array_equal(main[finite, f], expected)


def test_what_is_not_finite_is_missing() -> None:
    X = skewed(1_000)
    bins = draw_bins(X, ones(X), np.zeros(3, np.bool_))
    odd = np.array([[np.nan, np.inf, -np.inf]], np.float32)
    for of_rows in bins.assign(odd):
        assert np.all(of_rows == MISSING_BIN)
    for of_rows in bins.assign(X):
        assert np.array_equal(of_rows == MISSING_BIN, np.isnan(X))


def test_a_weight_counts_as_so_many_rows() -> None:
    X = skewed(2_000)[:, :1]
    w = np.random.default_rng(2).integers(0, 5, len(X)).astype(np.float64)
    repeated = np.repeat(X, w.astype(int), axis=0)
    weighted = draw_bins(X, w, NUMERIC)
    assert edges_of(weighted) == edges_of(draw_bins(repeated, ones(repeated), NUMERIC))
    assert edges_of(weighted) != edges_of(draw_bins(X, ones(X), NUMERIC))


def test_the_most_frequent_codes_have_bins_and_the_others_share_one() -> None:
    rng = np.random.default_rng(3)
    X = np.floor(rng.pareto(0.7, (20_000, 1)) * 3).clip(0, 500).astype(np.float32)
    main, cross = draw_bins(X, ones(X), CODES, main_bins=10, cross_bins=6).assign(X)
    counts = Counter(X[:, 0].tolist()).most_common()
    assert counts[7][1] > counts[8][1]
    for of_rows, named in ((main, 8), (cross, 4)):
        bin_of = {code: set(of_rows[X[:, 0] == code, 0]) for code, _ in counts}
        assert all(len(found) == 1 for found in bin_of.values())
        own = [bin_of[code].pop() for code, _ in counts[:named]]
        other = {found.pop() for code, found in bin_of.items() if found}
        assert len(set(own)) == named
        assert len(other) == 1
        assert other.isdisjoint(own)


def test_codes_next_to_each_other_have_bins_of_their_own_up_to_24_bits() -> None:
    top = 2**24 - 1
    X = column(*[top] * 3, *[top - 1] * 2, 0, 0, 0, 0)
    main, _ = draw_bins(X, ones(X), CODES).assign(column(top, top - 1, 0, top - 2, 1))
    assert len(set(main[:3, 0])) == 3
    assert main[3, 0] == main[4, 0] not in set(main[:3, 0])


def test_a_feature_never_seen_has_one_bin_for_missing_and_one_for_present() -> None:
    X = np.full((50, 1), np.nan, np.float32)
    for kind in (NUMERIC, CODES):
        main, cross = draw_bins(X, ones(X), kind).assign(column(np.nan, 0.0, 7.0))
        assert main[:, 0].tolist() == cross[:, 0].tolist() == [0, 1, 1]


def test_a_constant_feature_notices_another_value() -> None:
    X = np.zeros((50, 1), np.float32)
    main, cross = draw_bins(X, ones(X), NUMERIC).assign(column(0.0, 0.5, -0.5))
    assert len(set(main[:, 0])) == len(set(cross[:, 0])) == 3


def test_numbers_too_small_for_a_normal_float_are_zero() -> None:
    X = column(*[0.0] * 10, 1e-42, 1.0)
    bins = draw_bins(X, ones(X), NUMERIC)
    tiny = np.finfo(np.float32).smallest_normal
    assert all(edge == 0.0 or abs(edge) >= tiny for edge in edges_of(bins))
    main, _ = bins.assign(column(0.0, 1e-42))
    assert main[0, 0] == main[1, 0]


def test_columns_of_any_layout_are_cut_alike() -> None:
    X = skewed(500)
    bins = draw_bins(X, ones(X), np.zeros(3, np.bool_))
    frozen = X.copy()
    frozen.flags.writeable = False
    for other in (np.asfortranarray(X), frozen):
        assert np.array_equal(bins.assign(other)[0], bins.assign(X)[0])


@pytest.mark.parametrize(("main_bins", "cross_bins"), [(257, 16), (64, 3), (16, 17)])
def test_impossible_numbers_of_bins_are_refused(main_bins: int, cross_bins: int) -> None:
    X = skewed(10)
    with pytest.raises(ValueError, match="cross_bins"):
        draw_bins(X, ones(X), np.zeros(3, np.bool_), main_bins=main_bins, cross_bins=cross_bins)


def test_shapes_that_disagree_are_refused() -> None:
    X = skewed(10)
    with pytest.raises(ValueError, match="2 features"):
        draw_bins(X, ones(X), np.zeros(2, np.bool_))
    with pytest.raises(ValueError, match="weights of shape"):
        draw_bins(X, np.ones(9), np.zeros(3, np.bool_))
    with pytest.raises(ValueError, match="3 features"):
        draw_bins(X, ones(X), np.zeros(3, np.bool_)).assign(X[:, :2])


def test_tables_that_would_lead_out_of_bounds_are_refused() -> None:
    X = skewed(1_000)
    good = draw_bins(X, ones(X), np.zeros(3, np.bool_))
    backwards, unnumbered, high = good.edges.copy(), good.edges.copy(), good.main_of.copy()
    backwards[0] = backwards[0, ::-1]
    unnumbered[0, 0] = np.nan
    high[0, 0] = 64
    for edges, main_of, cross_of in (
        (good.edges[:, 1:], good.main_of[:, 1:], good.cross_of[:, 1:]),
        (good.edges[:, :0], good.main_of[:, :2], good.cross_of[:, :2]),
        (backwards, good.main_of, good.cross_of),
        (unnumbered, good.main_of, good.cross_of),
        (good.edges, good.main_of[:, 1:], good.cross_of),
        (good.edges, good.main_of, good.cross_of[:2]),
        (good.edges, high, good.cross_of),
        (good.edges, good.main_of, good.main_of),
    ):
        with pytest.raises(ValueError, match="bins"):
            Bins(edges, main_of, cross_of, 64, 16)
