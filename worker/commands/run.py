"""`run`: the worker itself."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
from typing import Final

from worker.commands.parsing import Verbs, add_verb

_LEVELS: Final = ("debug", "info", "warning", "error")
_FORMATS: Final = {"auto": None, "json": True, "text": False}

_MORE: Final = """\
Waits until Kafka answers, restores its state from the topics, then decides. Serves
/metrics, /healthz and /readyz at health.host and health.port. SIGTERM, SIGHUP or
Ctrl-C ends it after the current commit, with code 0. The first error ends it with
a code that says why: after 3, 5 and 6 a supervisor may start it again, the other
codes need a person (`fraud-worker --help` lists them)."""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "run", "run a worker until SIGTERM or Ctrl-C", run, _MORE)
    parser.add_argument(
        "--log-level",
        choices=_LEVELS,
        default="info",
        metavar="LEVEL",
        help=f"log from here on: {', '.join(_LEVELS)} (default: info)",
    )
    parser.add_argument(
        "--log-format",
        choices=[*_FORMATS],
        default="auto",
        metavar="FORMAT",
        help="json: one object a line; text: lines for people; auto: text at a terminal, else json (default)",
    )


def run(args: argparse.Namespace) -> int:
    """Run a worker until a signal or an error ends it."""
    from worker.settings.loading import load_settings
    from worker.telemetry import logs

    logs.configure(args.log_level.upper(), as_json=_FORMATS[args.log_format])
    settings = load_settings(args.config)
    from worker.live import app  # last: its imports take seconds, and a wrong setting should show at once

    return app.run(settings)
