"""Aggregates of cards and other entities, against sums over lists of everything that ever happened."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from numpy.typing import NDArray

from models.feature_layout import FeatureSpec
from models.features import CardAggregates, SharedAggregates
from models.vocabulary import MS_PER_DAY

_SPEC = FeatureSpec(numeric=("age",), categorical=("country", "channel"), entities=("merchant", "device"))
_SHORT, _MIDDLE, _LONG = _SPEC.half_lives_days
_CARD = ["to_usual", "to_mean", "deviation", "usual", "excess", "large", "count_short", "count_long"]
_CARD += ["count_burst", "idle_hours"]
_ENTITY = ["odds_short", "odds_middle", "fraud_share", "legit_age", "frauds", "rate_ratio"]
_WINDOW_MS = MS_PER_DAY


class _History:
    """What happened to one entity, by kind of contribution: (time, size), and the latest time of any."""

    def __init__(self) -> None:
        self.events: dict[str, list[tuple[int, float]]] = defaultdict(list)
        self.last_ms: int | None = None
        self.windows: set[int] = set()

    def add(self, at_ms: int, **sizes: float) -> None:
        self.last_ms = at_ms if self.last_ms is None else max(at_ms, self.last_ms)
        for kind, size in sizes.items():
            self.events[kind].append((at_ms, size))

    def total(self, kind: str, half_life_days: float, at_ms: int) -> float:
        now = at_ms if self.last_ms is None else max(at_ms, self.last_ms)
        half_life_ms = half_life_days * MS_PER_DAY
        return math.fsum(size * 2.0 ** (-(now - at) / half_life_ms) for at, size in self.events[kind])


def _stream(n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Event times over 40 days, a third of them hours to days late, and amounts with a heavy tail."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, 40 * MS_PER_DAY, n))
    late = rng.random(n) < 0.3
    times[late] -= (rng.exponential(0.8, n) * MS_PER_DAY).astype(np.int64)[late]
    return times, rng.lognormal(3.0, 1.0, n)


def _hashes(rng: np.random.Generator, distinct: int, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    pool = rng.integers(1, 2**64, size=distinct, dtype=np.uint64, endpoint=False)
    return pool[rng.integers(0, distinct, size=shape)]


def _none(n: int) -> NDArray[np.uint64]:
    return np.zeros((n, len(_SPEC.entities)), np.uint64)


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0.0 else math.nan


def _expected_card(card: _History, at_ms: int, amount: float) -> list[float]:
    """The features of one transaction just before it; then adds it."""
    count = card.total("count", _LONG, at_ms)
    mean = _ratio(card.total("sum", _LONG, at_ms), count)
    usual = _ratio(card.total("usual", _LONG, at_ms), count)
    variance = _ratio(card.total("squares", _LONG, at_ms), count) - mean * mean
    deviation = (amount - mean) / math.sqrt(variance) if variance > 1e-6 * mean * mean else math.nan
    features = [
        _ratio(amount, usual),
        _ratio(amount, mean),
        deviation,
        usual,
        card.total("excess", _SHORT, at_ms),
        card.total("large", _MIDDLE, at_ms),
        card.total("count", _SHORT, at_ms),
        count,
        card.total("count", _SHORT / 24, at_ms),
        math.nan if card.last_ms is None else max(at_ms - card.last_ms, 0) / 3_600_000,
    ]
    first = math.isnan(usual)
    spread = (card.total("spread", _LONG, at_ms) + 0.8 * usual) / (count + 2.0)
    cut = min(amount, usual + 3.0 * spread) if count > 1.0 else amount
    card.add(
        at_ms,
        count=1.0,
        sum=amount,
        squares=amount * amount,
        usual=cut,
        spread=0.4 * amount if first else abs(cut - usual),
        excess=0.0 if first else min(max((amount - usual) / spread - 1.25, 0.0), 15.0),
        large=0.0 if first else float(amount > usual + 5.0 * spread),
    )
    return features


def test_card_features_equal_sums_over_the_whole_history_late_events_included() -> None:
    times, amounts = _stream(900, seed=1)
    cards = _hashes(np.random.default_rng(2), 7, (900,))
    histories: dict[int, _History] = defaultdict(_History)
    expected, windows = [], []
    for card, at, amount in zip(cards.tolist(), times.tolist(), amounts.tolist(), strict=True):
        windows.append(at // _WINDOW_MS not in histories[card].windows)
        histories[card].windows.add(at // _WINDOW_MS)
        expected.append(_expected_card(histories[card], at, amount))
    aggregates = CardAggregates(_SPEC, 100)
    features, first = aggregates.advance(cards, _none(900), times, amounts, _WINDOW_MS)
    np.testing.assert_allclose(features[:, :10], np.array(expected), rtol=2e-6)
    assert np.isnan(features[:, 10:]).all(), "without entities nothing is familiar"
    assert first.tolist() == windows
    assert len(aggregates) == 7
    state = aggregates.arrays()
    for key, last_ms, row in zip(state["keys"], state["last_ms"], state["values"], strict=True):
        history = histories[int(key)]
        assert last_ms == history.last_ms
        sums = [("count", _SHORT), ("count", _LONG), ("sum", _LONG), ("squares", _LONG), ("usual", _LONG)]
        sums += [("excess", _SHORT), ("large", _MIDDLE), ("spread", _LONG)]
        totals = [history.total(kind, half_life, int(last_ms)) for kind, half_life in sums]
        np.testing.assert_allclose(row[:8], totals, rtol=1e-9)


@pytest.mark.parametrize("least", [5e-324, 1e-310, 1e-200, 1e-40])
def test_the_least_amounts_there_are_stop_nothing(least: float) -> None:
    """A share of such an amount is zero, and no number can be divided by it."""
    aggregates = CardAggregates(_SPEC, 10)
    amounts = np.array([least, least, 100.0, least, 100.0])
    features, _ = aggregates.advance(
        np.full(5, 5, np.uint64), _none(5), np.arange(5) * 3_600_000, amounts, _WINDOW_MS
    )
    assert not np.isinf(features).any()
    assert np.isnan(features[2, _CARD.index("to_usual")])
    assert features[4, _CARD.index("to_usual")] == pytest.approx(100 / (100 / 4), rel=0.01)


def test_of_a_card_whose_history_has_faded_nothing_is_known_nor_when_it_last_paid() -> None:
    times = np.array([0, 300, 800]) * MS_PER_DAY
    features, _ = CardAggregates(_SPEC, 10).advance(
        np.full(3, 5, np.uint64), _none(3), times, np.full(3, 9.0), _WINDOW_MS
    )
    idle, usual = (features[:, _CARD.index(name)] for name in ("idle_hours", "usual"))
    # After 25 half-lives of 20 days a count of one is 2**-25.
    np.testing.assert_array_equal(idle, np.array([math.nan, 300 * 24.0, math.nan], np.float32))
    np.testing.assert_array_equal(np.isnan(usual), [True, False, True])


def test_a_spree_raises_the_mean_but_hardly_the_usual_amount() -> None:
    aggregates = CardAggregates(_SPEC, 10)
    amounts = np.array([10.0, 10.0, 1000.0, 10.0])
    features, _ = aggregates.advance(
        np.full(4, 5, np.uint64), _none(4), np.zeros(4, np.int64), amounts, _WINDOW_MS
    )
    last = dict(zip(_CARD, features[3, :10].tolist(), strict=True))
    assert last["to_mean"] == pytest.approx(10 / (1020 / 3))
    # Two steady amounts and the first spread, 0.4 of the usual amount, that weighs as much as three: (4 + 0 + 8) / 4.
    assert last["usual"] == pytest.approx((10 + 10 + 10 + 3 * 3) / 3)
    assert last["excess"] == pytest.approx(15.0)
    assert last["large"] == 1.0
    assert features[2, _CARD.index("to_usual")] == 100.0


def test_a_first_charge_of_a_cent_does_not_hide_what_a_card_usually_pays() -> None:
    """Shops check new cards so: honest payments of fifty would look like a spree for months."""
    amounts = np.array([0.01, 50.0, 50.0, 50.0])
    features, _ = CardAggregates(_SPEC, 10).advance(
        np.full(4, 5, np.uint64), _none(4), np.zeros(4, np.int64), amounts, _WINDOW_MS
    )
    # Of one amount nobody knows what is far from it; and from then on fifty is within three spreads of what is usual.
    expected = [math.nan, 0.01, 50.01 / 2, 100.01 / 3]
    np.testing.assert_allclose(features[:, _CARD.index("usual")], expected, rtol=1e-6)
    assert features[3, _CARD.index("large")] == 1.0


def test_what_counts_as_large_follows_from_how_much_the_card_varies() -> None:
    counted = []
    for pair in ([20.0, 21.0], [5.0, 36.0]):
        amounts = np.array([*pair * 20, 50.0, 20.0])
        card, now = np.full(amounts.size, 5, np.uint64), np.zeros(amounts.size, np.int64)
        features, _ = CardAggregates(_SPEC, 10).advance(card, _none(amounts.size), now, amounts, _WINDOW_MS)
        large = features[:, _CARD.index("large")]
        counted.append(float(large[-1] - large[-2]))
    assert counted == [1.0, 0.0], "50 is far from 20 and 21, but not from 5 and 36"


def test_a_window_comes_first_once_however_late_it_is_seen() -> None:
    days = np.array([3, 3, 1, 5, 1, 4, -2, 60, 5, 59, 1, 61])
    times = days * MS_PER_DAY + 1000
    _, first = CardAggregates(_SPEC, 10).advance(
        np.full(12, 5, np.uint64), _none(12), times, np.ones(12), _WINDOW_MS
    )
    # On day 60 all that is 50 days back is forgotten, and taken to have been seen.
    expected = [True, False, True, True, False, True, True, True, False, True, False, True]
    assert first.tolist() == expected


def _fold_stream(
    shared: SharedAggregates, seed: int, order: NDArray[np.int64] | None = None
) -> tuple[dict[int, _History], dict[tuple[int, int], _History]]:
    """Fold traffic and evidence by turns, and return the same as histories of cards and entities."""
    rng = np.random.default_rng(seed)
    times, amounts = _stream(600, seed)
    hashes = _hashes(rng, 9, (600, 3))
    hashes[rng.random((600, 3)) < 0.1] = 0
    frauds = rng.choice([0.0, 0.0, 1.0, 2.0], 600)
    legits = rng.choice([0.0, 1.0, 7.0], 600)
    order = np.arange(600) if order is None else order
    times, amounts, hashes, frauds, legits = (
        times[order],
        amounts[order],
        hashes[order],
        frauds[order],
        legits[order],
    )
    for part in np.array_split(np.arange(600), 11):
        shared.fold_transactions(hashes[part, 1:], times[part])
        shared.fold_evidence(hashes[part], frauds[part], legits[part], times[part] + MS_PER_DAY)
    cards: dict[int, _History] = defaultdict(_History)
    entities: dict[tuple[int, int], _History] = defaultdict(_History)
    for i in range(600):
        at, learnt = int(times[i]), int(times[i]) + MS_PER_DAY
        if hashes[i, 0] and frauds[i]:
            cards[int(hashes[i, 0])].add(learnt, frauds=frauds[i])
        for e in (0, 1):
            if hashes[i, 1 + e]:
                entities[e, int(hashes[i, 1 + e])].add(at, traffic=1.0)
                entities[e, int(hashes[i, 1 + e])].add(learnt, frauds=frauds[i], legits=legits[i])
    return cards, entities


def _expected_entity(entity: _History, at_ms: int) -> list[float]:
    short, middle, long = (entity.total("frauds", h, at_ms) for h in (_SHORT, _MIDDLE, _LONG))
    legits_short, legits_middle = (entity.total("legits", h, at_ms) for h in (_SHORT, _MIDDLE))
    traffic = entity.total("traffic", _SHORT, at_ms) / _SHORT, entity.total("traffic", _LONG, at_ms) / _LONG
    return [
        math.log((short + 0.02) / (legits_short + 1.0)),
        math.log((middle + 0.02) / (legits_middle + 1.0)),
        short / (short + legits_short),
        -_SHORT * math.log2(legits_short),
        long,
        traffic[0] / traffic[1],
    ]


def test_shared_features_equal_sums_over_the_whole_history_in_any_order() -> None:
    shared = SharedAggregates(_SPEC, 100)
    cards, entities = _fold_stream(shared, seed=4)
    queries = [(e, name, days) for e, name in entities for days in (20, 41, 44)]
    for e, name, days in queries:
        at_ms = days * MS_PER_DAY
        entity_hash = np.zeros((1, 2), np.uint64)
        entity_hash[0, e] = name
        read = shared.read(np.zeros(1, np.uint64), entity_hash, np.array([at_ms]))[0]
        expected = _expected_entity(entities[e, name], at_ms)
        np.testing.assert_allclose(read[1 + 6 * e : 7 + 6 * e], expected, rtol=1e-5)
        assert np.isnan(np.delete(read, range(1 + 6 * e, 7 + 6 * e))).all()
    names = np.array(list(cards), np.uint64)
    times = np.full(names.size, 43 * MS_PER_DAY)
    read = shared.read(names, np.zeros((names.size, 2), np.uint64), times)
    expected = [history.total("frauds", _LONG, 43 * MS_PER_DAY) for history in cards.values()]
    np.testing.assert_allclose(read[:, 0], expected, rtol=1e-6)


def test_the_order_of_folding_moves_no_sum_by_more_than_rounding() -> None:
    in_order, shuffled = SharedAggregates(_SPEC, 100), SharedAggregates(_SPEC, 100)
    _fold_stream(in_order, seed=4)
    _fold_stream(shuffled, seed=4, order=np.random.default_rng(0).permutation(600))
    for table in ("cards", "entities"):
        a, b = in_order.arrays(), shuffled.arrays()
        by_key = np.argsort(a[f"{table}_keys"]), np.argsort(b[f"{table}_keys"])
        for name in ("keys", "last_ms"):
            np.testing.assert_array_equal(a[f"{table}_{name}"][by_key[0]], b[f"{table}_{name}"][by_key[1]])
        np.testing.assert_allclose(
            a[f"{table}_values"][by_key[0]], b[f"{table}_values"][by_key[1]], rtol=1e-9, atol=1e-12
        )


def _evidence(shared: SharedAggregates, day: float, frauds: float, legits: float) -> None:
    at_ms = np.array([round(day * MS_PER_DAY)])
    shared.fold_evidence(np.array([[1, 2, 3]], np.uint64), np.array([frauds]), np.array([legits]), at_ms)


def _read(shared: SharedAggregates, day: float) -> NDArray[np.float32]:
    at_ms = np.array([round(day * MS_PER_DAY)])
    read = shared.read(np.array([1], np.uint64), np.array([[2, 3]], np.uint64), at_ms)
    return read.ravel()


def test_evidence_taken_back_at_its_own_date_leaves_nothing_behind() -> None:
    moved, plain = SharedAggregates(_SPEC, 10), SharedAggregates(_SPEC, 10)
    for shared in (moved, plain):
        _evidence(shared, 1.0, 1.0, 4.0)
    _evidence(moved, 3.0, 0.0, 1.0)
    _evidence(moved, 7.5, 1.0, 0.0)
    _evidence(moved, 3.0, 0.0, -1.0)
    _evidence(plain, 7.5, 1.0, 0.0)
    np.testing.assert_allclose(_read(moved, 8.0), _read(plain, 8.0), rtol=1e-6)


def test_more_taken_back_than_there_is_reads_as_nothing() -> None:
    shared = SharedAggregates(_SPEC, 10)
    _evidence(shared, 1.0, -1.0, -1.0)
    read = _read(shared, 1.0)
    assert read[0] == 0.0
    assert read[1] == pytest.approx(math.log(0.02))
    assert np.isnan(read[3])
    assert read[5] == 0.0


def test_a_missing_entity_reads_as_missing_and_an_unknown_one_as_without_history() -> None:
    shared = SharedAggregates(_SPEC, 10)
    entities = np.array([[0, 8], [8, 0]], np.uint64)
    read = shared.read(np.array([0, 9], np.uint64), entities, np.zeros(2, np.int64))
    unknown = [math.log(0.02), math.log(0.02), math.nan, math.log2(1e12), 0.0, math.nan]
    np.testing.assert_allclose(read[0], [math.nan] * 7 + unknown, rtol=1e-6)
    np.testing.assert_allclose(read[1], [0.0, *unknown] + [math.nan] * 6, rtol=1e-6)
    assert len(shared) == 0


def test_missing_hashes_fold_nothing() -> None:
    cards, shared = CardAggregates(_SPEC, 10), SharedAggregates(_SPEC, 10)
    none = np.zeros((2, 3), np.uint64)
    features, first = cards.advance(none[:, 0], none[:, 1:], np.zeros(2, np.int64), np.ones(2), _WINDOW_MS)
    shared.fold_transactions(none[:, 1:], np.zeros(2, np.int64))
    shared.fold_evidence(none, np.ones(2), np.ones(2), np.zeros(2, np.int64))
    assert np.isnan(features).all()
    assert not first.any()
    assert len(cards) == len(shared) == 0


def test_legit_evidence_makes_no_row_for_a_card() -> None:
    shared = SharedAggregates(_SPEC, 10)
    _evidence(shared, 1.0, 0.0, 5.0)
    assert len(shared) == 2
    _evidence(shared, 1.0, 1.0, 0.0)
    assert len(shared) == 3


def test_one_identifier_in_two_entities_is_two_entities() -> None:
    shared = SharedAggregates(_SPEC, 10)
    shared.fold_evidence(np.array([[0, 7, 0]], np.uint64), np.ones(1), np.zeros(1), np.zeros(1, np.int64))
    read = shared.read(np.zeros(1, np.uint64), np.full((1, 2), 7, np.uint64), np.zeros(1, np.int64))[0]
    frauds = 1 + _ENTITY.index("frauds")
    assert (read[frauds], read[frauds + len(_ENTITY)]) == (1.0, 0.0)


def test_reading_changes_nothing_and_an_earlier_read_is_as_of_the_row() -> None:
    shared = SharedAggregates(_SPEC, 10)
    _evidence(shared, 10.0, 3.0, 1.0)
    before = shared.arrays()
    np.testing.assert_array_equal(_read(shared, 4.0), _read(shared, 10.0))
    _read(shared, 50.0)
    for name, array in shared.arrays().items():
        np.testing.assert_array_equal(array, before[name])


def test_aggregates_do_not_depend_on_how_they_were_batched_evictions_included() -> None:
    times, amounts = _stream(800, seed=6)
    cards = _hashes(np.random.default_rng(7), 60, (800,))
    whole, parts = CardAggregates(_SPEC, 40), CardAggregates(_SPEC, 40)
    expected, _ = whole.advance(cards, _none(800), times, amounts, _WINDOW_MS)
    parts.advance(cards[:400], _none(400), times[:400], amounts[:400], _WINDOW_MS)
    features, _ = parts.advance(cards[400:], _none(400), times[400:], amounts[400:], _WINDOW_MS)
    np.testing.assert_array_equal(features, expected[400:])
    assert parts.evictions == whole.evictions > 0


def test_read_only_and_strided_columns_are_taken_as_they_are() -> None:
    times, amounts = _stream(50, seed=3)
    hashes = _hashes(np.random.default_rng(3), 5, (50, 3))
    cards, entities = hashes[:, 0], hashes[:, 1:]
    expected, _ = CardAggregates(_SPEC, 10).advance(cards.copy(), entities.copy(), times, amounts, _WINDOW_MS)
    times.flags.writeable = False
    features, _ = CardAggregates(_SPEC, 10).advance(cards, entities, times, amounts, _WINDOW_MS)
    np.testing.assert_array_equal(features, expected)
