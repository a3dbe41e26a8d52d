"""Transcendental functions in plain arithmetic, for folds that must agree to the bit on every processor.

The C library picks its variants of ``exp`` and ``log`` by the processor it finds (fused multiply-add or not),
so two workers of one image may disagree in the last bit. These use only additions, multiplications, divisions
and bit patterns, which IEEE 754 rounds alike everywhere; the relative error stays below 1e-15.
"""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Decimal arithmetic rounds correctly, so the constants do not depend on the C library either.
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
_EXP2_INFINITE: Final = 1024.0
_EXP2_ZERO: Final = -1080.0
_EXP_INFINITE: Final = 709.79
_EXP_ZERO: Final = -746.0
_SQRT2: Final = 1.4142135623730951
_SMALLEST_NORMAL: Final = 2.0**-1022
# Minimax coefficients of log((1 + s) / (1 - s)) from fdlibm's e_log.c (Sun Microsystems, 1993).
_L1, _L2, _L3, _L4, _L5, _L6, _L7 = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)


@njit(cache=True, nogil=True)
def _power_of_two(exponent: int) -> float:
    return float(np.int64((exponent + 1023) << 52).view(np.float64))


@njit(cache=True, nogil=True)
def _scaled(steps: float, r: float) -> float:
    """2**(steps / 64) * e**r for whole steps and |r| <= ln 2 / 128, gradual underflow included."""
    n = int(steps)
    whole = n >> 6
    r2 = r * r
    tail = r + (r2 * (0.5 + r * (1.0 / 6.0)) + (r2 * r2) * (1.0 / 24.0 + r * (1.0 / 120.0)))
    power = _POWERS[n & 63]
    value = power + power * tail
    half = whole >> 1
    return float(value * _power_of_two(half) * _power_of_two(whole - half))


@njit(cache=True, nogil=True)
def exp2(x: float) -> float:
    """2 to the power x; inf from 1024, 0 below -1080, NaN for NaN."""
    if not x < _EXP2_INFINITE:
        return np.inf if x >= _EXP2_INFINITE else x
    if x < _EXP2_ZERO:
        return 0.0
    steps = np.floor(x * _STEPS + 0.5)
    return _scaled(steps, (x - steps * (1.0 / _STEPS)) * _LN2)


@njit(cache=True, nogil=True)
def exp(x: float) -> float:
    """Euler's number to the power x (table of 64ths and a polynomial; Tang 1989)."""
    if not x < _EXP_INFINITE:
        return np.inf if x >= _EXP_INFINITE else x
    if x < _EXP_ZERO:
        return 0.0
    steps = np.floor(x * (_STEPS / _LN2) + 0.5)
    return _scaled(steps, (x - steps * (_LN2_HIGH / _STEPS)) - steps * (_LN2_LOW / _STEPS))


@njit(cache=True, nogil=True)
def log(x: float) -> float:
    """Natural logarithm (fdlibm's reduction); -inf at zero, NaN below."""
    if not x > 0.0:
        return -np.inf if x == 0.0 else np.nan
    if x == np.inf:
        return x
    exponent = 0
    if x < _SMALLEST_NORMAL:
        x *= 2.0**54
        exponent = -54
    bits = int(np.float64(x).view(np.int64))
    exponent += (bits >> 52) - 1023
    m = float(np.int64((bits & 0xFFFFFFFFFFFFF) | (1023 << 52)).view(np.float64))
    if m > _SQRT2:
        m *= 0.5
        exponent += 1
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    w = z * z
    r = z * (_L1 + w * (_L3 + w * (_L5 + w * _L7))) + w * (_L2 + w * (_L4 + w * _L6))
    half_square = 0.5 * f * f
    return exponent * _LN2_HIGH - ((half_square - (s * (half_square + r) + exponent * _LN2_LOW)) - f)


@njit(cache=True, nogil=True)
def sigmoid(x: float) -> float:
    """1 / (1 + e**-x), without overflow on either side."""
    e = exp(-abs(x))
    return (1.0 if x >= 0.0 else e) / (1.0 + e)
