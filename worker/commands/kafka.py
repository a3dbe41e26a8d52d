"""`kafka`: a broker for trials."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
from pathlib import Path

from worker.commands.parsing import Verbs, add_verb, port
from worker.commands.terminal import log_for_a_person

_MORE = """\
Needs Java and Maven: Maven downloads Apache Kafka the first time. Runs one node at
127.0.0.1, without encryption, passwords or replicas. Ctrl-C or SIGTERM ends it."""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    help_text = "run a Kafka broker in the foreground, for trials"
    parser = add_verb(verbs, "kafka", help_text, kafka, _MORE, configured=False)
    parser.add_argument(
        "--port", type=port, default=9092, metavar="PORT", help="port of the broker (default: 9092)"
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="FOLDER",
        help="where to keep the data (default: a temporary folder, deleted at the end)",
    )


def kafka(args: argparse.Namespace) -> int:
    """Run a broker in the foreground until Ctrl-C, SIGTERM or SIGHUP."""
    from worker.broker.embedded import EmbeddedKafka
    from worker.signals import handled_by, interrupt

    log_for_a_person()
    try:
        with handled_by(interrupt), EmbeddedKafka(args.port, args.data_dir) as broker:
            where = f"its data are in {broker.folder}"
            print(f"Kafka answers at {broker.bootstrap}; {where}. Ctrl-C stops it.", flush=True)
            broker.wait()
    except KeyboardInterrupt:
        print("Kafka stopped.")
    return 0
