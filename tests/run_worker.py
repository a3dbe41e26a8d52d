"""One worker as a process of its own: `python -m tests.run_worker CONFIG`."""

from __future__ import annotations

import sys
from pathlib import Path

from worker import app, logs
from worker.errors import WorkerError
from worker.settings import load_settings


def main(config: str) -> int:
    """Run it to its end; its exit code."""
    logs.configure()
    try:
        return app.run(load_settings(Path(config)))
    except WorkerError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
