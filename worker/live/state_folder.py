"""The worker's local folder, which it locks for the life of the process.

Kafka fences the older of two processes with one `worker.id`, but not on the disk: two that share a folder would change
each other's waiting decisions, and no digest sees that.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.errors import FencedError, SettingsError
from worker.settings.sections import Settings, WorkerSettings

log = logging.getLogger(__name__)

_LOCK: Final = "lock"
_WAIT_S: Final = 10.0
"""A process that was told to end may need this long."""
_STEP_S: Final = 0.1
_BLOCK_BYTES: Final = 512
"""The unit of `st_blocks`."""
_GIB: Final = 1 << 30


class StateFolder:
    """The folder `worker.state_dir`/`worker.id`, locked until `close` or the end of the process.

    Parameters
    ----------
    settings
        Name the folder.
    alive
        Called while the worker waits for the lock; an exception of it ends the wait.
    wait_s
        How long to wait for a process that ends.

    Raises
    ------
    SettingsError
        The folder cannot be written.
    FencedError
        Another process holds the lock.
    """

    def __init__(
        self, settings: Settings, alive: Callable[[], None] = lambda: None, wait_s: float = _WAIT_S
    ) -> None:
        self.path = settings.worker.state_dir / settings.worker.id
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(
                f"worker.state_dir = {str(settings.worker.state_dir)!r} cannot be written ({error.strerror}): name a "
                "local folder that this user may write"
            ) from None
        deadline_s = time.monotonic() + wait_s
        while not self._try():
            if time.monotonic() >= deadline_s:
                os.close(self._lock)
                raise FencedError(
                    f"another process uses {self.path}: two with worker.id = {settings.worker.id!r} and one "
                    "worker.state_dir would spoil each other's files. Stop one, or give it an id of its own"
                )
            alive()
            time.sleep(_STEP_S)

    def clear(self) -> None:
        """Delete what an earlier process left: a cache that the restore rebuilds."""
        for entry in self.path.iterdir():
            if entry.name != _LOCK:
                shutil.rmtree(entry, ignore_errors=True)

    def of_partition(self, partition: int) -> Path:
        """Return the folder of one partition's waiting decisions."""
        return self.path / str(partition)

    def close(self) -> None:
        """Unlock the folder."""
        os.close(self._lock)

    def _try(self) -> bool:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            os.close(self._lock)
            raise SettingsError(
                f"{self.path / _LOCK} cannot be locked ({error.strerror}), as on some network file systems: name a "
                "folder of a local disk as worker.state_dir"
            ) from None
        return True


@dataclass(frozen=True, slots=True)
class LeftFolder:
    """The folder of another worker id, which holds files and which no process uses.

    Attributes
    ----------
    path
        The folder.
    size_bytes
        What it takes of the disk. Segments are sparse: their lengths say more.
    changed_s
        When a file of it last changed, Unix time.
    """

    path: Path
    size_bytes: int
    changed_s: float


def left_folders(worker: WorkerSettings) -> list[LeftFolder]:
    """Return what other ids left below `worker.state_dir`, the largest first.

    A worker that ends deletes its files, and one that was killed does so when it starts under its id again. Where it
    comes back under another, as a container without `worker.id` does, nobody does.

    Raises
    ------
    OSError
        The folder cannot be listed.
    """
    if not worker.state_dir.is_dir():
        return []
    others = [_left(path) for path in worker.state_dir.iterdir() if path.name != worker.id]
    return sorted((it for it in others if it is not None), key=lambda left: -left.size_bytes)


def log_left_folders(worker: WorkerSettings) -> None:
    """Log how much other ids left, if they did."""
    # Nothing that a worker needs for its work hangs on it.
    with suppress(OSError):
        if left := left_folders(worker):
            log.warning(
                "%d folder(s) of other worker ids, which no process uses, take %.3g GiB below worker.state_dir = %r. "
                "fraud-worker doctor names them; each can be deleted once no worker of that id will run again. A "
                "worker.id that is set leaves none",
                len(left),
                sum(it.size_bytes for it in left) / _GIB,
                str(worker.state_dir),
            )


def _left(path: Path) -> LeftFolder | None:
    """Return what lies in a folder; None where a process uses it, where it is no worker's, or holds nothing."""
    # A folder that vanishes meanwhile, or that this user may not read, is none to delete.
    with suppress(OSError):
        parts = [it for it in path.iterdir() if it.name.isdecimal()] if path.is_dir() else []
        if not parts or not _is_free(path / _LOCK):
            return None
        files = [it.stat() for part in parts for it in part.rglob("*") if it.is_file()]
        if size_bytes := sum(_BLOCK_BYTES * it.st_blocks for it in files):
            return LeftFolder(path, size_bytes, max(it.st_mtime for it in files))
    return None


def _is_free(lock: Path) -> bool:
    """Return whether no process holds a lock that is there."""
    file = os.open(lock, os.O_RDONLY)
    try:
        # Shared, so that of two who look at once neither takes the other for the folder's worker.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(file)
    return True
