"""Refuses a file that a command cannot write, before the command spends its time."""

from __future__ import annotations

import os
from pathlib import Path

from worker.errors import SettingsError


def require_writable(given: str, path: Path) -> None:
    """Refuse a file that cannot be written.

    Parameters
    ----------
    given
        What the user gave, as the message begins: an option with its value.

    Raises
    ------
    SettingsError
        The folder does not exist, the path is that of a folder or a device, or the user may not write there.
    """
    if not path.parent.is_dir():
        raise SettingsError(f"{given}: there is no folder {str(path.parent)!r}; create it first")
    if path.exists() and not path.is_file():
        raise SettingsError(f"{given}: that is a folder or a device; name a file")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise SettingsError(f"{given}: it cannot be written; name a file that can")
