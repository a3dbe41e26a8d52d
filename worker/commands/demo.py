"""`demo`: the whole thing at work."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse

from worker.commands.parsing import Verbs, add_verb
from worker.commands.terminal import log_for_a_person


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "demo", "show the whole thing at work on made-up traffic", demo)
    parser.add_argument("--bootstrap", metavar="HOST:PORT", help="use this Kafka instead of starting one")


def demo(args: argparse.Namespace) -> int:
    """Show the whole thing on made-up traffic."""
    from worker.demo import run_demo

    log_for_a_person()
    return run_demo(args.bootstrap)
