from __future__ import annotations

import math

import numpy as np
import pytest

from worker.offline.report import wording
from worker.offline.report.labels import apart
from worker.offline.report.markup import Column, Table, element, text
from worker.offline.report.plots import log_ticks
from worker.offline.report.thinning import visible


@pytest.mark.parametrize("pixels", [7, 100])
@pytest.mark.parametrize("descending", [False, True])
def test_a_thinned_line_reaches_as_high_and_low_in_every_column(pixels: int, *, descending: bool) -> None:
    rng = np.random.default_rng(pixels)
    x = np.sort(rng.gamma(0.5, 1.0, 5_000))
    y = np.cumsum(rng.normal(size=5_000))
    x = x[::-1] if descending else x
    chosen = visible(x, y, pixels)
    assert len(chosen) <= 4 * pixels
    assert (np.diff(chosen) > 0).all()
    assert {0, len(x) - 1} <= set(chosen.tolist())
    column = np.minimum((x - x.min()) / (x.max() - x.min()) * pixels, pixels - 1).astype(int)
    for one in np.unique(column):
        inside, kept = np.flatnonzero(column == one), chosen[column[chosen] == one]
        assert {inside[0], inside[-1]} <= set(kept.tolist())
        assert (y[kept].min(), y[kept].max()) == (y[inside].min(), y[inside].max())


def test_a_short_line_and_a_vertical_one_are_thinned_too() -> None:
    assert visible(np.arange(20.0), np.arange(20.0), 5).tolist() == list(range(20))
    y = np.array([3.0, 9.0, 1.0, *([2.0] * 50)])
    assert visible(np.zeros(53), y, 5).tolist() == [0, 1, 2, 52]
    assert visible(np.zeros(0), np.zeros(0), 5).tolist() == []


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "0.0 %"),
        (1.0, "100.0 %"),
        (0.12345, "12.3 %"),
        (0.0012345, "0.12 %"),
        (0.0000123, "0.0012 %"),
        (-0.25, f"{wording.MINUS}25.0 %"),
        (math.nan, wording.UNKNOWN),
        (None, wording.UNKNOWN),
    ],
)
def test_percent(share: float | None, words: str) -> None:
    assert wording.percent(share) == words


def test_a_budget_of_one_case_is_one_case() -> None:
    assert [wording.alert_budget(it) for it in (None, 1.0, 2.5, 1_000.0)] == [
        "none", "1 case a day", "2.5 cases a day", "1,000 cases a day",
    ]  # fmt: skip


def test_one_day_is_no_days() -> None:
    assert [wording.days(it) for it in (0.5, 1.0, 1.001, 30.0)] == ["0.5 days", "1 day", "1 day", "30 days"]


def test_figures_in_words() -> None:
    assert [wording.money(it) for it in (1234567.8, 12.3456, 0.0, -45.5, math.inf)] == [
        "1,234,568", "12.35", "0", f"{wording.MINUS}45.50", wording.UNKNOWN,
    ]  # fmt: skip
    assert [wording.compact(it) for it in (1.5e6, 25_000.0, 0.01, -2e9)] == [
        "1.5M",
        "25k",
        "0.01",
        f"{wording.MINUS}2B",
    ]
    assert [wording.rate(it) for it in (1234.5, 12.34, 0.123, 0.0)] == ["1,234", "12.3", "0.12", "0"]
    assert wording.threshold(math.inf) == "alerts on nothing"
    assert [wording.duration(it) for it in (0.0312, 12.3, 600.0)] == ["0.031 s", "12 s", "10 min"]


@pytest.mark.parametrize("time_ms", [-(10**30), 10**30, 0])
def test_a_time_outside_the_calendar_is_the_nearest_inside(time_ms: int) -> None:
    assert wording.date(time_ms) in {"0001-01-01", "9999-12-31", "1970-01-01"}
    assert wording.moment(time_ms).endswith(("00:00:00", "23:59:59"))


def test_attributes_are_escaped_and_a_short_line_spans_the_rest() -> None:
    assert element("p", text("a<b"), title='"&') == '<p title="&quot;&amp;">a&lt;b</p>'
    table = Table("c", [Column("a"), Column("b"), Column("c")])
    table.add(text("x"), text("y"))
    assert '<td class="words" colspan="2">y</td>' in table.html()


@pytest.mark.parametrize("seed", range(5))
def test_labels_at_the_ends_of_curves_keep_their_order_and_a_distance(seed: int) -> None:
    centres = np.sort(np.random.default_rng(seed).uniform(0.0, 60.0, 6))[::-1]
    moved = apart(centres, 10.0)
    assert (np.diff(moved) <= -10.0 + 1e-9).all()
    assert moved.mean() == pytest.approx(centres.mean())
    far = centres * 100.0
    if (np.diff(far) < -10.0).all():
        np.testing.assert_allclose(apart(far, 10.0), far)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0.001, 1.0, [1.0, 0.1, 0.01, 0.001]),
        (0.3, 40.0, [0.5, 1.0, 2.0, 5.0, 10.0, 20.0]),
        (3.0, 4.0, [3.0, 4.0]),
        (1e-6, 1e3, [1e3, 10.0, 0.1, 1e-3, 1e-5]),
    ],
)
def test_a_logarithmic_axis_has_few_ticks(low: float, high: float, ticks: list[float]) -> None:
    assert log_ticks(low, high, 5) == pytest.approx(ticks)
