"""`run`: the worker itself."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse

from worker.commands.parsing import Verbs, add_verb


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    add_verb(verbs, "run", "run a worker until SIGTERM or Ctrl-C", run)


def run(args: argparse.Namespace) -> int:
    """Run a worker until it is told to stop."""
    from worker import logs
    from worker.settings import load_settings

    logs.configure()
    settings = load_settings(args.config)
    from worker import app
    from worker.settings_report import refuse_unknown_variables

    refuse_unknown_variables()
    return app.run(settings)
