"""One worker as a process of its own: `python -m tests.support.run_worker CONFIG`."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from pathlib import Path
from typing import Final

from numba.core.dispatcher import Dispatcher

from worker.errors import WorkerError
from worker.live import app
from worker.settings.loading import load_settings
from worker.telemetry import logs

SIGNATURES: Final = "FRAUD_WORKER_TEST_SIGNATURES"
"""Names a file for the signatures of the compiled loops that the process has called, written at its end."""


def signatures() -> set[str]:
    """Of every compiled loop of ours that was called from Python in this process."""
    loops = [it for it in gc.get_objects() if isinstance(it, Dispatcher)]
    ours = [it for it in loops if it.py_func.__module__.startswith(("models.", "worker."))]
    return {f"{it.py_func.__module__}.{it.py_func.__name__}{types}" for it in ours for types in it.signatures}


def main(config: str) -> int:
    """Run it to its end; its exit code."""
    logs.configure()
    if (path := os.environ.get(SIGNATURES)) is not None:
        atexit.register(lambda: Path(path).write_text("\n".join(sorted(signatures())), encoding="utf-8"))
    try:
        return app.run(load_settings(Path(config)))
    except WorkerError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
