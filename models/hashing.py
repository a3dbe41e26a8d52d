"""Keyed hashes of identifiers, a column at a time: the worker knows entities by these, never by the raw text."""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

MISSING: Final = 0
"""The hash of a missing value; no value hashes to it."""
# The finaliser of splitmix64 (Steele, Lea and Flood 2014): every bit of its input reaches every bit of its result.
_FIRST: Final = (np.uint64(30), np.uint64(0xBF58476D1CE4E5B9))
_SECOND: Final = (np.uint64(27), np.uint64(0x94D049BB133111EB))
_LAST_SHIFT: Final = np.uint64(31)


def mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return one number for each, uint64 (n,), of which every bit depends on every bit of it."""
    for shift, factor in (_FIRST, _SECOND):
        numbers = (numbers ^ (numbers >> shift)) * factor
    return numbers ^ (numbers >> _LAST_SHIFT)


@njit(cache=True, nogil=True)
def _rotate(x: np.uint64, bits: int) -> np.uint64:
    return (x << np.uint64(bits)) | (x >> np.uint64(64 - bits))


@njit(cache=True, nogil=True)
def _round(
    v0: np.uint64, v1: np.uint64, v2: np.uint64, v3: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    v0 += v1
    v1 = _rotate(v1, 13) ^ v0
    v0 = _rotate(v0, 32)
    v2 += v3
    v3 = _rotate(v3, 16) ^ v2
    v0 += v3
    v3 = _rotate(v3, 21) ^ v0
    v2 += v1
    v1 = _rotate(v1, 17) ^ v2
    v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


@njit(cache=True, nogil=True)
def _siphash(data: NDArray[np.uint8], start: int, length: int, k0: np.uint64, k1: np.uint64) -> np.uint64:
    # The published initial state: "somepseudorandomlygeneratedbytes" in ASCII.
    v0 = k0 ^ np.uint64(0x736F6D6570736575)
    v1 = k1 ^ np.uint64(0x646F72616E646F6D)
    v2 = k0 ^ np.uint64(0x6C7967656E657261)
    v3 = k1 ^ np.uint64(0x7465646279746573)
    whole = length >> 3
    for i in range(whole + 1):
        word = np.uint64(0)
        # Byte by byte: a word is little-endian on every machine, and need not be aligned.
        if i < whole:
            for j in range(8):
                word |= np.uint64(data[start + i * 8 + j]) << np.uint64(8 * j)
        else:
            # The last word holds the bytes that are left, and the length in its top byte.
            for j in range(length & 7):
                word |= np.uint64(data[start + i * 8 + j]) << np.uint64(8 * j)
            word |= np.uint64(length & 0xFF) << np.uint64(56)
        v3 ^= word
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
        v0 ^= word
    v2 ^= np.uint64(0xFF)
    for _ in range(4):
        v0, v1, v2, v3 = _round(v0, v1, v2, v3)
    return v0 ^ v1 ^ v2 ^ v3


@njit(cache=True, nogil=True)
def _siphash_many(
    data: NDArray[np.uint8],
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    k0: np.uint64,
    k1: np.uint64,
) -> NDArray[np.uint64]:
    out = np.full(start.size, MISSING, dtype=np.uint64)
    for i in range(start.size):
        if length[i] > 0:
            # 0 is taken: it says that the value is missing.
            out[i] = max(np.uint64(1), _siphash(data, start[i], length[i], k0, k1))
    return out


def siphash_many(
    data: NDArray[np.uint8],
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    key: tuple[int, int],
) -> NDArray[np.uint64]:
    """Hash n byte strings that lie in one buffer (SipHash-2-4; Aumasson and Bernstein 2012).

    Parameters
    ----------
    data : uint8
        The buffer that holds the strings.
    start, length : int64 (n,)
        Where each string begins in the buffer, and its length in bytes.
    key
        The two 64-bit halves of the key: its 16 bytes read as little-endian numbers.

    Returns
    -------
    uint64 (n,)
        0 where the length is zero or negative: the value is missing. 1 where the hash itself is 0.

    Raises
    ------
    ValueError
        If a string reaches outside the buffer.
    """
    if start.shape != length.shape:
        msg = f"{start.size} starts but {length.size} lengths"
        raise ValueError(msg)
    present = length > 0
    if np.any(present & ((start < 0) | (start > data.size - length))):
        msg = "a string reaches outside the buffer"
        raise ValueError(msg)
    k0, k1 = key
    return _siphash_many(data, start, length, np.uint64(k0), np.uint64(k1))
