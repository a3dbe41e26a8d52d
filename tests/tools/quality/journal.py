"""A run of the worker over a stream, and the features that it journalled: frozen ones and current ones.

The first features that the cache gets for a stream stay there: later, worse ones do not lower the bar of the baselines.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.feature_layout import FeatureLayout
from tests.tools.quality.cache import cache_folder, read_json, read_matrix, write_json, write_matrix
from tests.tools.quality.streams import Loaded, Stream
from worker.offline.worker_run import Decisions, WorkerRun
from worker.parameters import feature_spec

FROZEN: Final = "frozen"
CURRENT: Final = "current"
_COMPARED_ROWS: Final = 20_000
_ALIKE_SHARE: Final = 0.95
_ALIKE_DEVIATIONS: Final = 0.05


@dataclass(frozen=True, slots=True)
class FeatureSet:
    """The features of all rows of a stream.

    Attributes
    ----------
    version
        `FROZEN` or `CURRENT`.
    matrix : float32 (n, F)
    names
        Of the columns.
    categorical : bool (F,)
    """

    version: str
    matrix: NDArray[np.float32]
    names: tuple[str, ...]
    categorical: NDArray[np.bool_]

    def digest(self) -> str:
        """Return a digest of the values of some rows, and of the names."""
        rows = _some_rows(len(self.matrix))
        digest = hashlib.blake2b(",".join(self.names).encode(), digest_size=8)
        digest.update(np.ascontiguousarray(self.matrix[rows]).data)
        return digest.hexdigest()

    def is_like(self, other: FeatureSet) -> bool:
        """Return whether the other ones say the same, up to what another model's alerts change in label evidence."""
        if self.names != other.names or self.matrix.shape != other.matrix.shape:
            return False
        rows = _some_rows(len(self.matrix))
        mine, theirs = np.asarray(self.matrix[rows], np.float64), np.asarray(other.matrix[rows], np.float64)
        present = [column[np.isfinite(column)] for column in mine.T]
        spread = np.array([column.std() if column.size else 0.0 for column in present])
        allowed = np.where(self.categorical, 0.0, _ALIKE_DEVIATIONS * spread) + 1e-12
        alike = (np.abs(mine - theirs) <= allowed) | (np.isnan(mine) & np.isnan(theirs))
        return bool(np.all(alike.mean(axis=0) >= _ALIKE_SHARE))


def _some_rows(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, max(count - 1, 0), min(count, _COMPARED_ROWS)).astype(np.int64))


class Unit:
    """The folder of one stream and seed in the cache."""

    def __init__(self, stream: Stream, seed: int, loaded: Loaded) -> None:
        self._protocol = stream.protocol_key()
        self.folder: Path = cache_folder() / stream.slug / f"seed-{seed}-{loaded.key()[:12]}"

    def stored(self) -> list[FeatureSet]:
        """Return the feature sets that are there, the frozen one first."""
        return [self._read(version) for version in (FROZEN, CURRENT) if self._about(version).is_file()]

    def keep(self, features: FeatureSet) -> FeatureSet:
        """Store features unless the like are there, and return those that are."""
        for stored in self.stored():
            if stored.is_like(features):
                return stored
        version = CURRENT if self._about(FROZEN).is_file() else FROZEN
        write_matrix(self._matrix(version), features.matrix)
        write_json(
            self._about(version),
            {"names": features.names, "categorical": features.categorical.tolist()},
        )
        return self._read(version)

    def results(self, features: FeatureSet) -> Path:
        """Return the folder of what baselines made of features."""
        return self.folder / f"{features.digest()}-{self._protocol}"

    def _read(self, version: str) -> FeatureSet:
        about = read_json(self._about(version))
        return FeatureSet(
            version,
            read_matrix(self._matrix(version)),
            tuple(about["names"]),
            np.array(about["categorical"], np.bool_),
        )

    def _matrix(self, version: str) -> Path:
        return self.folder / f"{version}.npy"

    def _about(self, version: str) -> Path:
        return self.folder / f"{version}.json"


def run_worker(stream: Stream, loaded: Loaded) -> tuple[Decisions, list[float]]:
    """Return what the worker decides on a stream, and the CPU time that each generation took to make, s."""
    settings = stream.worker_settings(loaded)
    with tempfile.TemporaryDirectory(prefix="fraud-worker-quality-") as folder:
        run = WorkerRun(settings, loaded.dataset, Path(folder))
        return run.to_the_end(), run.generations_cpu_s


def features_of(stream: Stream, loaded: Loaded, decisions: Decisions) -> FeatureSet:
    """Return the features that a run journalled."""
    layout: Any = FeatureLayout.from_spec(feature_spec(stream.worker_settings(loaded)))
    return FeatureSet(CURRENT, decisions.features, layout.names, layout.categorical)
