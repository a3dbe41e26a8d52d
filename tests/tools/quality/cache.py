"""Files below build/quality-cache: generated streams, journalled features, and what baselines scored.

One file a result, written whole or not at all: an interrupted run goes on where it stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tests.support.repository import ROOT

CACHE_VARIABLE: Final = "FRAUD_WORKER_QUALITY_CACHE"
"""Names another folder than build/quality-cache."""


def cache_folder() -> Path:
    """Return the folder of the cache."""
    return Path(os.environ.get(CACHE_VARIABLE) or ROOT / "build" / "quality-cache")


def remembered(name: str, make: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return the arrays that `make` makes, from the cache where they are there."""
    path = cache_folder() / "streams" / f"{name}.npz"
    if not path.is_file():
        write_arrays(path, make())
    return read_arrays(path)


def write_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write named arrays."""
    with _Replacing(path) as partial, partial.open("wb") as out:
        np.savez_compressed(out, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read named arrays."""
    with np.load(path) as arrays:
        return dict(arrays)


def write_matrix(path: Path, matrix: NDArray[Any]) -> None:
    """Write one large array, to be mapped into memory."""
    with _Replacing(path) as partial, partial.open("wb") as out:
        np.save(out, matrix)


def read_matrix(path: Path) -> NDArray[Any]:
    """Map an array into memory."""
    return np.asanyarray(np.load(path, mmap_mode="r"))


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON."""
    with _Replacing(path) as partial:
        partial.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a value from JSON."""
    return json.loads(path.read_text(encoding="utf-8"))


class _Replacing:
    """A file that takes its name once it is complete."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".{path.name}.{os.getpid()}")

    def __enter__(self) -> Path:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._partial

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._partial.replace(self._path)
        self._partial.unlink(missing_ok=True)
