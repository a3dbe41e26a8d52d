"""Transcendental functions in plain arithmetic: folds must agree to the bit on every processor.

The C library chooses its variants of ``exp`` and ``log`` by the processor that it finds (fused multiply-add or not),
so two workers of one image may differ in the last bit. The functions here use only additions, multiplications,
divisions and bit patterns, which IEEE 754 rounds alike everywhere; without ``fastmath`` the compiler neither reorders
nor fuses them. The relative error stays below 1e-15, but where a function says otherwise.
"""

from __future__ import annotations

from decimal import Context, Decimal
from math import factorial
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

# The decimal module rounds correctly, so the constants do not depend on the C library either.
_EXACT: Final = Context(prec=40)
_STEPS: Final = 64
_POWERS: Final[NDArray[np.float64]] = np.array(
    [float(_EXACT.power(2, Decimal(i) / _STEPS)) for i in range(_STEPS)]
)
_LN2_EXACT: Final = _EXACT.ln(2)
_LN2: Final = float(_LN2_EXACT)
# The high part has 32 bits, so that its product with a whole number of 21 bits is exact.
_LN2_HIGH: Final = int(_LN2_EXACT * 2**32) / 2**32
_LN2_LOW: Final = float(_EXACT.subtract(_LN2_EXACT, Decimal(_LN2_HIGH)))
# Beyond these arguments the result is inf or 0. Between them `_scaled` itself overflows and underflows as it should.
_EXP2_INFINITE: Final = 1024.0
_EXP2_ZERO: Final = -1080.0
_EXP_INFINITE: Final = 709.79
_EXP_ZERO: Final = -746.0
_SQRT2: Final = 1.4142135623730951
_SMALLEST_NORMAL: Final = 2.0**-1022
# Minimax coefficients of log((1 + s) / (1 - s)), from e_log.c of fdlibm (Sun Microsystems, 1993).
_L1, _L2, _L3, _L4, _L5, _L6, _L7 = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
_LOGIT_BOUND: Final = 40.0
_ROUNDS: Final = 1.5 * 2.0**52
"""Added to a small number it leaves a whole one in the low bits."""
_E1, _E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9 = (1.0 / factorial(n) for n in range(3, 12))
_QUARTER_TURN: Final = 90.0
_RADIANS_PER_DEGREE: Final = 0.017453292519943295
# Minimax coefficients of the sine and the cosine up to an eighth of a turn, from k_sin.c and k_cos.c of fdlibm.
_S1, _S2, _S3, _S4, _S5, _S6 = (
    -1.66666666666666324348e-01,
    8.33333333332248946124e-03,
    -1.98412698298579493134e-04,
    2.75573137070700676789e-06,
    -2.50507602534068634195e-08,
    1.58969099521155010221e-10,
)
_C1, _C2, _C3, _C4, _C5, _C6 = (
    4.16666666666666019037e-02,
    -1.38888888888741095749e-03,
    2.48015872894767294178e-05,
    -2.75573143513906633035e-07,
    2.08757232129817482790e-09,
    -1.13596475577881948265e-11,
)


@njit(cache=True, nogil=True)
def _power_of_two(exponent: int) -> float:
    # A float64 whose mantissa is zero: the exponent's bits alone. It must lie between -1022 and 1023.
    return float(np.int64((exponent + 1023) << 52).view(np.float64))


@njit(cache=True, nogil=True)
def _scaled(steps: float, r: float) -> float:
    """Return 2**(steps / 64) * e**r for whole steps and |r| <= ln 2 / 128, with gradual underflow."""
    n = int(steps)
    whole = n >> 6
    r2 = r * r
    # The Taylor series of e**r - 1. Its next term, r**6 / 720, is below 4e-17 and would change nothing.
    tail = r + (r2 * (0.5 + r * (1.0 / 6.0)) + (r2 * r2) * (1.0 / 24.0 + r * (1.0 / 120.0)))
    power = _POWERS[n & 63]
    value = power + power * tail
    # Two factors: near the ends of the range 2**whole alone has no bit pattern.
    half = whole >> 1
    return float(value * _power_of_two(half) * _power_of_two(whole - half))


@njit(cache=True, nogil=True)
def exp2(x: float) -> float:
    """Return 2 to the power x; inf from 1024, 0 below -1080, NaN for NaN."""
    if not x < _EXP2_INFINITE:
        return np.inf if x >= _EXP2_INFINITE else x
    if x < _EXP2_ZERO:
        return 0.0
    steps = np.floor(x * _STEPS + 0.5)
    return _scaled(steps, (x - steps * (1.0 / _STEPS)) * _LN2)


@njit(cache=True, nogil=True)
def exp(x: float) -> float:
    """Return e to the power x, from a table of 64ths and a polynomial (Tang 1989)."""
    if not x < _EXP_INFINITE:
        return np.inf if x >= _EXP_INFINITE else x
    if x < _EXP_ZERO:
        return 0.0
    steps = np.floor(x * (_STEPS / _LN2) + 0.5)
    # ln 2 in two parts: the first difference is exact, and the second adds what the high part lacks.
    return _scaled(steps, (x - steps * (_LN2_HIGH / _STEPS)) - steps * (_LN2_LOW / _STEPS))


@njit(cache=True, nogil=True)
def log(x: float) -> float:
    """Return the natural logarithm by the reduction of fdlibm; -inf at zero, NaN below."""
    if not x > 0.0:
        return -np.inf if x == 0.0 else np.nan
    if x == np.inf:
        return x
    exponent = 0
    if x < _SMALLEST_NORMAL:
        # A subnormal's exponent is in its leading zeros: make it normal first.
        x *= 2.0**54
        exponent = -54
    bits = int(np.float64(x).view(np.int64))
    exponent += (bits >> 52) - 1023
    m = float(np.int64((bits & 0xFFFFFFFFFFFFF) | (1023 << 52)).view(np.float64))
    # x = m * 2**exponent with m between 1 / sqrt 2 and sqrt 2, where the polynomial is accurate.
    if m > _SQRT2:
        m *= 0.5
        exponent += 1
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    # Odd and even terms apart, in fdlibm's order: the last bit depends on the order.
    r = z * (_L1 + w * (_L3 + w * (_L5 + w * _L7))) + w * (_L2 + w * (_L4 + w * _L6))
    half_square = 0.5 * f * f
    return exponent * _LN2_HIGH - ((half_square - (s * (half_square + r) + exponent * _LN2_LOW)) - f)


@njit(cache=True, nogil=True)
def sigmoid(x: float) -> float:
    """Return 1 / (1 + e**-x), without overflow on either side."""
    e = exp(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)


@njit(cache=True, nogil=True)
def branchless_sigmoid(x: float) -> float:
    """Return 1 / (1 + e**-x) to 1e-14, beyond 40 of zero that of 40; in a loop the processor works on several at once.

    For that nothing may depend on a branch or a table: the Taylor series is longer than that of `exp`.
    """
    minus = min(max(-x, -_LOGIT_BOUND), _LOGIT_BOUND)
    rounded = minus * (1.0 / _LN2) + _ROUNDS
    whole = rounded - _ROUNDS
    r = (minus - whole * _LN2_HIGH) - whole * _LN2_LOW
    tail = _E1 + r * (_E2 + r * (_E3 + r * (_E4 + r * (_E5 + r * (_E6 + r * (_E7 + r * (_E8 + r * _E9)))))))
    power = np.int64((np.float64(rounded).view(np.int64) + 1023) << 52).view(np.float64)
    return 1.0 / (1.0 + (1.0 + r * (1.0 + r * (0.5 + r * tail))) * power)


@njit(cache=True, nogil=True)
def sin_cos_degrees(x: float) -> tuple[float, float]:
    """Return sine and cosine of an angle in degrees, of at most a few turns."""
    quarters = np.floor(x / _QUARTER_TURN + 0.5)
    # Exact for whole quarters: what is left is at most an eighth of a turn.
    r = (x - quarters * _QUARTER_TURN) * _RADIANS_PER_DEGREE
    z = r * r
    sin = r + r * z * (_S1 + z * (_S2 + z * (_S3 + z * (_S4 + z * (_S5 + z * _S6)))))
    cos = 1.0 - 0.5 * z + z * z * (_C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * (_C5 + z * _C6)))))
    turned = int(quarters) & 3
    if turned == 1:
        return cos, -sin
    if turned == 2:
        return -sin, -cos
    if turned == 3:
        return -cos, sin
    return sin, cos
