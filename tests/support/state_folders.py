"""What a worker that was killed leaves on its disk."""

from __future__ import annotations

from pathlib import Path


def left_by(folder: Path, size_bytes: int) -> None:
    """Make the folder of a worker id: its lock, and a segment of so many bytes."""
    (folder / "0").mkdir(parents=True)
    (folder / "lock").touch(0o600)
    (folder / "0" / f"{0:010d}").write_bytes(bytes(size_bytes))
