"""`kafka`: a broker to try things out."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
from pathlib import Path

from worker.commands.parsing import Verbs, add_verb, count
from worker.commands.terminal import log_for_a_person


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "kafka", "run a Kafka broker in the foreground, to try things out", kafka)
    parser.add_argument("--port", type=count, default=9092, help="of the broker (9092)")
    parser.add_argument("--data-dir", type=Path, metavar="FOLDER", help="keeps the data (a temporary one)")


def kafka(args: argparse.Namespace) -> int:
    """Run a broker in the foreground."""
    from worker.broker import serve

    log_for_a_person()
    serve(args.port, args.data_dir)
    return 0
