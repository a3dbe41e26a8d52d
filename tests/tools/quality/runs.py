"""Runs of the worker that the cache keeps: an interrupted table goes on with the streams that it has not run yet."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np

from tests.support.repository import ROOT
from tests.tools.quality.cache import read_arrays, write_arrays
from tests.tools.quality.journal import CURRENT, Unit, features_of, run_worker
from tests.tools.quality.streams import Loaded, Stream
from worker.offline.worker_run import Decisions

_CODE: Final = ("models", "worker", "tests/tools/quality/ablation.py", "tests/tools/quality/journal.py")
_LIBRARIES: Final = "deploy/requirements.txt"


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the worker over a stream.

    Attributes
    ----------
    decisions
        Without their features, which the unit keeps.
    generations_cpu_s
        The CPU time that each generation took to make, s.
    seconds
        Wall clock of the run.
    features_changed
        Whether the worker journals other features than those that are frozen.
    is_kept
        Whether the cache had it.
    """

    decisions: Decisions
    generations_cpu_s: tuple[float, ...]
    seconds: float
    features_changed: bool
    is_kept: bool


def kept_run(stream: Stream, loaded: Loaded, unit: Unit, *, without: str = "") -> Run:
    """Return the worker's run on a stream: the cache's where this very code made it with these settings.

    Parameters
    ----------
    stream, loaded, unit
        What is run, and its folder.
    without
        The part that the caller has left out of the worker. The features of such a run become no baseline's.
    """
    path = unit.folder / f"run-{_settings_digest(stream, loaded, without)}.npz"
    if path.is_file() and (found := _read(path)) is not None:
        return found
    started = time.perf_counter()
    decisions, generations_cpu_s = run_worker(stream, loaded)
    seconds = time.perf_counter() - started
    changed = not without and unit.keep(features_of(stream, loaded, decisions)).version == CURRENT
    narrow = replace(decisions, features=decisions.features[:, :0].copy())
    run = Run(narrow, tuple(generations_cpu_s), seconds, changed, is_kept=False)
    _write(path, run)
    return run


def _read(path: Path) -> Run | None:
    """Read a run; None where other code made it."""
    arrays = read_arrays(path)
    if str(arrays.pop("code")) != _code_digest():
        return None
    cpu_s, seconds, changed = (arrays.pop(it) for it in ("generations_cpu_s", "seconds", "features_changed"))
    return Run(Decisions(**arrays), tuple(cpu_s.tolist()), float(seconds), bool(changed), is_kept=True)


def _write(path: Path, run: Run) -> None:
    columns = {name: getattr(run.decisions, name) for name in Decisions.layout()}
    about = {
        "code": np.array(_code_digest()),
        "generations_cpu_s": np.array(run.generations_cpu_s, np.float64),
        "seconds": np.array(run.seconds),
        "features_changed": np.array(run.features_changed),
    }
    write_arrays(path, columns | about)


def _settings_digest(stream: Stream, loaded: Loaded, without: str) -> str:
    settings = stream.worker_settings(loaded).model_dump_json()
    return hashlib.blake2b(f"{without}\n{settings}".encode(), digest_size=8).hexdigest()


@cache
def _code_digest() -> str:
    """Return a digest of all code that decides, and of the versions of the libraries below it."""
    digest = hashlib.blake2b(digest_size=16)
    found = [
        path
        for name in _CODE
        for path in ([ROOT / name] if name.endswith(".py") else (ROOT / name).rglob("*.py"))
    ]
    for path in sorted([*found, ROOT / _LIBRARIES]):
        digest.update(str(path.relative_to(ROOT)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
