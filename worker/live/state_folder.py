"""The worker's local folder, which it locks for the life of the process.

Kafka fences the older of two processes with one `worker.id`, but not on the disk: two that share a folder would change
each other's waiting decisions, and no digest sees that.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from worker.errors import FencedError, SettingsError
from worker.settings.sections import Settings

_LOCK: Final = "lock"
_WAIT_S: Final = 10.0
"""A process that was told to end may need this long."""
_STEP_S: Final = 0.1


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
        return True
