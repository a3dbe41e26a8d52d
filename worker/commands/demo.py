"""`demo`: the whole thing at work."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from worker.commands.parsing import Verbs, add_verb, at_least
from worker.commands.terminal import log_for_a_person, output
from worker.errors import SettingsError

_DURATION_S: Final = 120.0
_LEAST_S: Final = 15.0
_MORE: Final = """\
Starts a Kafka of its own (Java and Maven are needed), makes topics, starts a
worker and sends it forty days of made-up card payments, whose labels come late.
At a terminal it shows one page, elsewhere lines. Ctrl-C or SIGTERM ends it at
any time, with a summary and exit code 0. Nothing stays behind: no process, no
folder; of a Kafka given by --bootstrap, the topics that it made are deleted."""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    help_text = "show the whole thing at work on made-up traffic"
    parser = add_verb(verbs, "demo", help_text, demo, _MORE, configured=False)
    parser.add_argument(
        "--duration", type=at_least(_LEAST_S), default=_DURATION_S, metavar="SECONDS",
        help=f"how long the traffic flows, {_LEAST_S:.0f} or more ({_DURATION_S:.0f}); the start comes before it",
    )  # fmt: skip
    parser.add_argument(
        "--bootstrap", metavar="HOST:PORT",
        help="use this Kafka, which wants neither encryption nor a password, instead of starting one",
    )  # fmt: skip
    parser.add_argument(
        "--keep-topics", action="store_true", help="with --bootstrap: leave the topics and the group there"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE.svg", help="save the page, as it is near the end"
    )


def demo(args: argparse.Namespace) -> int:
    """Show the whole thing on made-up traffic."""
    from worker.signals import handled_by, interrupt

    try:
        with handled_by(interrupt):  # the imports alone take a second
            from worker.demo.session import DemoOptions, run_demo
    except KeyboardInterrupt:
        return 0
    if args.keep_topics and args.bootstrap is None:
        raise SettingsError(
            "--keep-topics needs --bootstrap: the demo's own Kafka ends with it, and its topics too"
        )
    log_for_a_person()
    options = DemoOptions(args.duration, args.bootstrap, args.keep_topics, args.picture)
    return run_demo(options, output(width_elsewhere=100))
