"""SipHash-2-4 over columns, against the published vectors and a plain Python transcription."""

from __future__ import annotations

import numpy as np
import pytest

from models.hashing import siphash_many

_KEY = (0x0706050403020100, 0x0F0E0D0C0B0A0908)
# vectors_sip64 of the authors' reference implementation: the message of length n is the bytes 0 .. n - 1.
_PUBLISHED = {
    1: 0x74F839C593DC67FD,
    2: 0x0D6C8009D9A94F5A,
    7: 0xAB0200F58B01D137,
    8: 0x93F5F5799A932462,
    9: 0x9E0082DF0BA9E4B0,
    15: 0xA129CA6149BE45E5,
    16: 0x3F2ACC7F57C29BDB,
    17: 0x699AE9F52CBE4794,
    31: 0x32D892FAD841C342,
    32: 0x7127512F72F27CCE,
    48: 0xE612A3CB9ECBA951,
    63: 0x958A324CEB064572,
}
_MASK = 2**64 - 1


def _rotate(x: int, bits: int) -> int:
    return (x << bits | x >> (64 - bits)) & _MASK


def _round(v: list[int]) -> None:
    for a, b, c, d, left, right in ((0, 1, 2, 3, 13, 16), (2, 1, 0, 3, 17, 21)):
        v[a] = (v[a] + v[b]) & _MASK
        v[b] = _rotate(v[b], left) ^ v[a]
        v[a] = _rotate(v[a], 32)
        v[c] = (v[c] + v[d]) & _MASK
        v[d] = _rotate(v[d], right) ^ v[c]


def _transcribed(message: bytes, key: tuple[int, int]) -> int:
    start = int.from_bytes(b"somepseudorandomlygeneratedbytes", "big")
    v = [(start >> shift & _MASK) ^ key[i & 1] for i, shift in enumerate((192, 128, 64, 0))]
    padded = message + bytes(7 - len(message) % 8) + bytes([len(message) % 256])
    for i in range(0, len(padded), 8):
        word = int.from_bytes(padded[i : i + 8], "little")
        v[3] ^= word
        _round(v)
        _round(v)
        v[0] ^= word
    v[2] ^= 0xFF
    for _ in range(4):
        _round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _hash(messages: list[bytes], key: tuple[int, int] = _KEY) -> list[int]:
    length = np.array([len(message) for message in messages], dtype=np.int64)
    start = np.concatenate([[0], np.cumsum(length)[:-1]])
    data = np.frombuffer(b"".join(messages), dtype=np.uint8).copy()
    return [int(h) for h in siphash_many(data, start, length, key)]


def test_the_published_vectors_come_out() -> None:
    assert _hash([bytes(range(n)) for n in _PUBLISHED]) == list(_PUBLISHED.values())


def test_a_column_of_identifiers_agrees_with_the_transcription() -> None:
    rng = np.random.default_rng(3)
    messages = [rng.bytes(int(n)) for n in rng.integers(1, 300, size=200)]
    key = (int(rng.integers(2**63)), int(rng.integers(2**63)) + 2**63)
    assert _hash(messages, key) == [_transcribed(message, key) for message in messages]


def test_a_missing_value_hashes_to_zero_and_nothing_else_does() -> None:
    data = np.frombuffer(b"card", dtype=np.uint8).copy()
    hashes = siphash_many(data, np.array([0, -1, 4, 0]), np.array([4, -1, 0, 4]), _KEY)
    assert hashes.tolist() == [_transcribed(b"card", _KEY), 0, 0, _transcribed(b"card", _KEY)]


def test_a_string_outside_the_buffer_is_refused() -> None:
    data = np.zeros(8, dtype=np.uint8)
    for start, length in ((0, 9), (-1, 2), (8, 1), (2**62, 2**62)):
        with pytest.raises(ValueError, match="outside the buffer"):
            siphash_many(data, np.array([start]), np.array([length]), _KEY)
    with pytest.raises(ValueError, match="2 starts but 1 lengths"):
        siphash_many(data, np.array([0, 1]), np.array([1]), _KEY)
