"""`demo`: a worker with a Kafka and traffic of its own, shown live."""

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
Starts a Kafka (which needs Java and Maven), creates topics, starts a worker and
sends it forty days of made-up card payments, whose labels come late. At a
terminal it shows one page, elsewhere lines. Ctrl-C or SIGTERM ends it at any
time, with a summary and code 0. It leaves no process and no folder behind; in a
Kafka given by --bootstrap it deletes the topics that it created."""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    help_text = "run a worker on made-up traffic, and show it live"
    parser = add_verb(verbs, "demo", help_text, demo, _MORE, configured=False)
    parser.add_argument(
        "--duration", type=at_least(_LEAST_S), default=_DURATION_S, metavar="SECONDS",
        help=f"length of the traffic, {_LEAST_S:.0f} or more (default: {_DURATION_S:.0f}); the start is not counted",
    )  # fmt: skip
    parser.add_argument(
        "--bootstrap", metavar="HOST:PORT",
        help="use this Kafka instead of starting one; it must need neither encryption nor a password",
    )  # fmt: skip
    parser.add_argument(
        "--keep-topics", action="store_true", help="with --bootstrap: keep the topics and the group"
    )
    parser.add_argument(
        "--picture", type=Path, metavar="FILE.svg", help="save the page as it is near the end"
    )


def demo(args: argparse.Namespace) -> int:
    """Run a worker on made-up traffic, and show it."""
    from worker.signals import handled_by, interrupt

    try:
        with handled_by(interrupt):  # the imports take a second, in which a signal may come
            from worker.demo.session import DemoOptions, run_demo
    except KeyboardInterrupt:
        return 0
    if args.keep_topics and args.bootstrap is None:
        raise SettingsError(
            "--keep-topics needs --bootstrap: the demo's own Kafka ends with the demo, and so do its topics"
        )
    log_for_a_person()
    options = DemoOptions(args.duration, args.bootstrap, args.keep_topics, args.picture)
    return run_demo(options, output(width_elsewhere=100))
