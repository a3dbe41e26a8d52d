"""One worker as a process of its own: `python -m tests.support.run_worker CONFIG`."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from pathlib import Path
from typing import Final

from numba.core.dispatcher import Dispatcher

from worker.cli import end_process
from worker.errors import WorkerError
from worker.live import app
from worker.settings.loading import load_settings
from worker.telemetry import logs

SIGNATURES: Final = "FRAUD_WORKER_TEST_SIGNATURES"
"""Names a file; at its end the process writes there which compiled loops it has called, with which types."""


def signatures() -> set[str]:
    """Return the signatures of our compiled loops that Python code of this process has called."""
    loops = [it for it in gc.get_objects() if isinstance(it, Dispatcher)]
    ours = [it for it in loops if it.py_func.__module__.startswith(("models.", "worker."))]
    return {f"{it.py_func.__module__}.{it.py_func.__name__}{types}" for it in ours for types in it.signatures}


def main(config: str) -> int:
    """Run a worker to its end; return its exit code."""
    logs.configure()
    if (path := os.environ.get(SIGNATURES)) is not None:
        atexit.register(lambda: Path(path).write_text("\n".join(sorted(signatures())), encoding="utf-8"))
    try:
        return app.run(load_settings(Path(config)))
    except WorkerError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    end_process(main(sys.argv[1]))
