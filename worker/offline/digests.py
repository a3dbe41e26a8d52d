"""What identifies a run: digests of its data and labels, and the settings that shape decisions, without secrets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
import pyarrow as pa

from worker.identity import Hasher
from worker.offline.dataset import Dataset
from worker.settings.sections import Settings

_SECTIONS: Final = ("transaction", "labels", "costs", "features", "model", "batch")
"""The others name brokers, topics and files: they change no decision."""


def transactions_digest(dataset: Dataset) -> str:
    """Return a hash of the transactions of a data set, their order included, hexadecimal."""
    parts = [dataset.transaction_id, dataset.card_id, dataset.event_time_ms, dataset.amount, dataset.currency]
    for columns in (dataset.entities, dataset.numeric, dataset.categorical):
        for name in sorted(columns):
            parts += [name, columns[name]]
    return _digest(parts)


def labels_digest(dataset: Dataset) -> str:
    """Return a hash of what is known of the transactions and when it became known, hexadecimal."""
    return _digest(
        [dataset.is_fraud, dataset.label_time_ms, dataset.outcome_time_ms, str(dataset.silence_is_legit)]
    )


def shaping_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings that shape decisions by their full names, and a fingerprint of the key of the hashes."""
    dumped = settings.model_dump(mode="json", include=set(_SECTIONS))
    values = {
        f"{section}.{name}": str(value) if value in (float("inf"), float("-inf")) else value
        for section in _SECTIONS
        for name, value in dumped[section].items()
    }
    return values | {"entity_key_fingerprint": Hasher(settings.hash_key).fingerprint}


def settings_digest(values: dict[str, Any]) -> str:
    """Return a hash of settings by name, hexadecimal."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _digest(parts: Iterable[Any]) -> str:
    sha = hashlib.sha256()
    for part in parts:
        for piece in _bytes(part):
            # The length first, so that no two lists of pieces read alike.
            sha.update(memoryview(piece).nbytes.to_bytes(8, "little"))
            sha.update(piece)
    return sha.hexdigest()


def _bytes(part: Any) -> Iterator[Any]:
    if part is None:
        yield b"none"
    elif isinstance(part, str):
        yield part.encode()
    elif isinstance(part, np.ndarray):
        yield np.ascontiguousarray(part)
    else:
        texts = part.cast(pa.large_binary())
        yield np.packbits(np.array(texts.is_null()))
        texts = texts.fill_null(b"")
        _, ends_buffer, data = texts.buffers()
        ends = np.frombuffer(ends_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
        yield np.diff(ends)
        yield memoryview(data or b"")[int(ends[0]) : int(ends[-1])]
