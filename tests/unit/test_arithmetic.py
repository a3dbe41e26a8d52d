"""The plain-arithmetic transcendental functions, against 40-digit decimal arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext

import numpy as np
import pytest

from models import arithmetic

_TOLERANCE = Decimal("4e-16")


def _exp2(x: Decimal) -> Decimal:
    return Decimal(2) ** x


def _sigmoid(x: Decimal) -> Decimal:
    return 1 / (1 + (-x).exp())


def _worst(
    function: Callable[[float], float], exact: Callable[[Decimal], Decimal], points: np.ndarray
) -> Decimal:
    with localcontext() as context:
        context.prec = 40
        return max(abs(Decimal(function(x)) / exact(Decimal(x)) - 1) for x in points.tolist())


def _points(low: float, high: float) -> np.ndarray:
    rng = np.random.default_rng(7)
    near_zero = rng.normal(size=100) * 10.0 ** rng.integers(-12, 0, size=100)
    return np.concatenate([rng.uniform(low, high, 400), near_zero, np.arange(low, high, (high - low) / 50.0)])


@pytest.mark.parametrize(
    ("function", "exact", "low", "high"),
    [
        (arithmetic.exp2, _exp2, -1021.0, 1023.0),
        (arithmetic.exp, Decimal.exp, -708.0, 709.0),
        (arithmetic.sigmoid, _sigmoid, -700.0, 100.0),
    ],
)
def test_exponentials_are_accurate_over_their_whole_range(
    function: Callable[[float], float], exact: Callable[[Decimal], Decimal], low: float, high: float
) -> None:
    assert _worst(function, exact, _points(low, high)) < _TOLERANCE


def test_the_branchless_sigmoid_is_accurate_and_stays_at_its_bounds() -> None:
    sigmoid = arithmetic.branchless_sigmoid
    assert _worst(sigmoid, _sigmoid, _points(-40.0, 40.0)) < Decimal("1e-14")
    for bound, beyond in ((40.0, (40.1, 1e9, math.inf)), (-40.0, (-40.1, -1e9, -math.inf))):
        assert {sigmoid(it) for it in beyond} == {sigmoid(bound)}


def test_logarithms_are_accurate_from_the_subnormals_to_the_largest_float() -> None:
    rng = np.random.default_rng(8)
    wide = 2.0 ** rng.uniform(-1074.0, 1023.9, 400)
    near_one = 1.0 + rng.normal(size=300) * 10.0 ** rng.integers(-15, 0, size=300)
    points = np.concatenate(
        [wide, near_one[(near_one > 0) & (near_one != 1.0)], [5e-324, 1.7976931348623157e308]]
    )
    assert _worst(arithmetic.log, Decimal.ln, points) < _TOLERANCE


def test_powers_of_two_and_fixed_points_are_exact() -> None:
    assert [arithmetic.exp2(float(n)) for n in range(-1074, 1024)] == [2.0**n for n in range(-1074, 1024)]
    assert arithmetic.exp(0.0) == 1.0
    assert arithmetic.log(1.0) == 0.0
    assert arithmetic.sigmoid(0.0) == 0.5


def test_the_ends_of_the_range_are_infinite_zero_or_not_a_number() -> None:
    inf = math.inf
    assert [arithmetic.exp2(x) for x in (1024.0, inf, -1081.0, -inf)] == [inf, inf, 0.0, 0.0]
    assert [arithmetic.exp(x) for x in (709.79, inf, -746.0, -inf)] == [inf, inf, 0.0, 0.0]
    assert [arithmetic.log(x) for x in (0.0, inf)] == [-inf, inf]
    assert [arithmetic.sigmoid(x) for x in (-inf, inf)] == [0.0, 1.0]
    functions = (arithmetic.exp2, arithmetic.exp, arithmetic.log, arithmetic.sigmoid)
    assert all(math.isnan(function(math.nan)) for function in functions)
    assert math.isnan(arithmetic.log(-1.0))


def test_results_below_the_smallest_normal_float_underflow_gradually() -> None:
    assert arithmetic.exp(-745.0) == pytest.approx(5e-324)
    assert 0.0 < arithmetic.exp2(-1073.5) < 2.0**-1022


def test_sine_and_cosine_of_degrees_are_those_of_the_circle() -> None:
    degrees = np.concatenate(
        [np.random.default_rng(9).uniform(-360.0, 360.0, 500), np.arange(-360.0, 361.0, 15.0)]
    )
    found = np.array([arithmetic.sin_cos_degrees(x) for x in degrees.tolist()])
    # The remainder is exact, so that the library's functions meet no rounded angle.
    quarters, rest = np.divmod(degrees + 45.0, 90.0)
    angle = np.radians(rest - 45.0)
    turn = quarters.astype(np.int64) % 4
    sine = np.choose(turn, [np.sin(angle), np.cos(angle), -np.sin(angle), -np.cos(angle)])
    cosine = np.choose(turn, [np.cos(angle), -np.sin(angle), -np.cos(angle), np.sin(angle)])
    np.testing.assert_allclose(found, np.column_stack([sine, cosine]), atol=3e-16)
    assert [arithmetic.sin_cos_degrees(float(x)) for x in (0, 90, 180, -90)] == [
        (0, 1),
        (1, 0),
        (0, -1),
        (-1, 0),
    ]
