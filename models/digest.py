"""Digests of the model state, by which workers notice that their folds differ."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.records import Digest

_REMEMBERED: Final = 64


@dataclass(frozen=True, slots=True)
class DigestMismatch:
    """The digest that a worker published differs from ours at an offset that both have folded.

    Attributes
    ----------
    offset
        Of the model log.
    worker
        Who published the digest.
    ours, theirs
        The digests.
    """

    offset: int
    worker: str
    ours: str
    theirs: str


class DigestHistory:
    """The newest digests of one state, and where those of other workers contradict them."""

    def __init__(self) -> None:
        self._ours: OrderedDict[int, str] = OrderedDict()
        self.mismatches: list[DigestMismatch] = []
        """Found since the caller last cleared the list. The state folds on: it is the caller who judges them."""

    @property
    def latest(self) -> Digest | None:
        """The digest of the newest digested state."""
        return next((Digest(*item) for item in reversed(self._ours.items())), None)

    def remember(self, digest: Digest) -> None:
        """Keep a digest of ours, and forget the oldest beyond 64."""
        self._ours[digest.offset] = digest.value
        if len(self._ours) > _REMEMBERED:
            self._ours.popitem(last=False)

    def compare(self, worker: str, theirs: Digest | None) -> None:
        """Note that a worker's digest differs from ours; one of an offset that we do not remember says nothing."""
        ours = None if theirs is None else self._ours.get(theirs.offset)
        if theirs is not None and ours is not None and ours != theirs.value:
            self.mismatches.append(DigestMismatch(theirs.offset, worker, ours, theirs.value))


def digest_of(parts: Iterable[tuple[str, Mapping[str, NDArray[np.generic]]]]) -> str:
    """Return a hash of named arrays, hexadecimal.

    The arrays go through a fast checksum first. It has to find a fold that is not deterministic, not a forger; at a
    million entities SHA-256 alone would hold up the hot path for a third of a second.

    Parameters
    ----------
    parts
        Prefixes and the arrays below them, by name.
    """
    sha = hashlib.sha256()
    for prefix, arrays in parts:
        for name in sorted(arrays):
            sha.update(f"{prefix}.{name}{arrays[name].shape}".encode())
            sha.update(_checksum(_words(arrays[name])).tobytes())
    return sha.hexdigest()


def _words(array: NDArray[np.generic]) -> NDArray[np.uint64]:
    """Return the bytes of an array, filled up with zeros to whole lines of four words."""
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    if data.size % 32:
        data = np.concatenate([data, np.zeros(-data.size % 32, np.uint8)])
    return np.require(data.view(np.uint64), requirements="W")


@njit(cache=True, nogil=True)
def _mixed(lane: np.uint64, word: np.uint64) -> np.uint64:
    # An odd factor (2**64 over the golden ratio) loses no bit; the shift brings high bits down to the low ones.
    product = (lane ^ word) * np.uint64(0x9E3779B97F4A7C15)
    return product ^ (product >> np.uint64(29))


@njit(cache=True, nogil=True)
def _checksum(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return four lanes of xor, multiply and shift: the processor works on all four at once."""
    a, b, c, d = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
    for i in range(0, words.size, 4):
        a = _mixed(a, words[i])
        b = _mixed(b, words[i + 1])
        c = _mixed(c, words[i + 2])
        d = _mixed(d, words[i + 3])
    return np.array([a, b, c, d])
