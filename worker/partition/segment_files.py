"""How many segments of waiting decisions the system lets a process have, and what to do where it lets it have no more.

Each segment keeps a file open and mapped for as long as it lives.
"""

from __future__ import annotations

import errno
import resource
from contextlib import suppress
from pathlib import Path

from worker.errors import WorkerError


def most_open_files() -> int:
    """Return how many files a process may have open once it has called `raise_open_files`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # An unlimited hard limit is no number that the soft one could be raised to: Linux and macOS refuse it.
    return soft if hard == resource.RLIM_INFINITY else hard


def raise_open_files() -> None:
    """Raise the soft limit of open files to the hard one.

    The soft limit is often 1,024: so many segments as that are full within weeks of modest traffic.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A sandbox, or macOS beyond its kern.maxfilesperproc, may refuse: the worker then goes on with what it has, for a
    # segment that finds no room says so.
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_open_files(), hard))


def most_mappings() -> int | None:
    """Return how many mappings a process may have; None where the system does not say so."""
    path = Path("/proc/sys/vm/max_map_count")
    return int(path.read_text(encoding="ascii")) if path.is_file() else None


def no_segment(path: Path, error: OSError, segment_rows: int) -> WorkerError:
    """Return what to do about a segment's file that cannot be made, opened or mapped.

    Parameters
    ----------
    path
        The file.
    error
        What the system says.
    segment_rows
        So many decisions have a segment.
    """
    failed, each = f"waiting decisions: {path}", f"each {segment_rows:,} decisions of a partition take one"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return WorkerError(
                f"waiting decisions find no room at {path} ({error.strerror}): free disk space there, or name another "
                "folder in worker.state_dir"
            )
        case errno.ENOENT:
            return WorkerError(
                f"{failed} is gone: somebody deletes files below worker.state_dir while the worker runs. Stop that, "
                "and start again: the folder is rebuilt"
            )
        case errno.EMFILE:
            files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return WorkerError(
                f"{failed} cannot be opened ({error.strerror}): the limit of {files:,} open files is reached, and "
                f"{each}. Raise it (ulimit -n, LimitNOFILE of systemd, ulimits of a compose file): fraud-worker doctor "
                "says how many are needed"
            )
        case errno.ENFILE:
            return WorkerError(
                f"{failed} cannot be opened ({error.strerror}): the machine has as many files open as fs.file-max "
                f"allows, and {each}. Raise it"
            )
        case errno.ENOMEM:
            return WorkerError(
                f"{failed} cannot be mapped ({error.strerror}): {each} of the mappings that vm.max_map_count allows "
                f"(here {most_mappings()}). Raise it, or give the process more address space (ulimit -v)"
            )
    return WorkerError(
        f"{failed} cannot be written ({error.strerror}): see that worker.state_dir is a local folder that no other "
        "process uses"
    )
