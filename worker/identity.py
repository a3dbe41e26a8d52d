"""Keyed hashes of identifiers, by which the worker knows cards, merchants and transactions."""

from __future__ import annotations

import hashlib
import hmac

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.hashing import siphash_many

Key = tuple[int, int]


class Hasher:
    """Hashes columns of identifiers under keys derived from `entity_key`.

    Parameters
    ----------
    key
        The two halves of `entity_key`.
    """

    def __init__(self, key: Key) -> None:
        self._secret = b"".join(half.to_bytes(8, "little") for half in key)
        self.entity_key = key
        self.check_key = self._derived(b"id-check")

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that differ between keys and reveal neither."""
        return self._mac(b"fingerprint").hex()[:16]

    def entities(self, values: pa.Array) -> NDArray[np.uint64]:
        """Return the hashes of n identifiers, uint64 (n,); 0 where missing. Also the first hash of a transaction id."""
        return _hash(values, self.entity_key)

    def checks(self, values: pa.Array) -> NDArray[np.uint64]:
        """Return the second, independent hash of n transaction ids, uint64 (n,)."""
        return _hash(values, self.check_key)

    def alert_id(self, card_id: str, transaction_id: str) -> str:
        """Return a keyed hash of card and transaction id, 32 hexadecimal digits: a pure function of the input.

        Two issuers may give one transaction id to two cards: those are two alerts, and a repeat is one.
        """
        # The length keeps cards and ids apart whatever characters they hold.
        return self._mac(f"alert:{len(card_id)}:{card_id}:{transaction_id}".encode()).hex()[:32]

    def case_id(self, card_id: str, window: int) -> str:
        """Return a keyed hash of the card and the case window, 32 hexadecimal digits."""
        return self._mac(f"case:{window}:{card_id}".encode()).hex()[:32]

    def _mac(self, message: bytes) -> bytes:
        return hmac.digest(self._secret, message, hashlib.sha256)

    def _derived(self, purpose: bytes) -> Key:
        mac = self._mac(purpose)
        return int.from_bytes(mac[:8], "little"), int.from_bytes(mac[8:16], "little")


def _hash(values: pa.Array, key: Key) -> NDArray[np.uint64]:
    # 64-bit offsets: those of `string` end at 2 GiB. Nulls become empty texts, whose hash is 0.
    strings = values.cast(pa.large_binary()) if not pa.types.is_large_binary(values.type) else values
    if strings.null_count:
        strings = strings.fill_null(b"")
    _, offsets_buffer, data_buffer = strings.buffers()
    offsets = np.frombuffer(offsets_buffer, np.int64)[strings.offset : strings.offset + len(strings) + 1]
    data = np.frombuffer(data_buffer, np.uint8) if data_buffer is not None else np.empty(0, np.uint8)
    # A copy, because Arrow's memory is read-only: numba would compile the loop once more for it.
    return siphash_many(data, offsets[:-1].copy(), np.diff(offsets), key)
