"""`kafka`: a broker to try things out."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
from pathlib import Path

from worker.commands.parsing import Verbs, add_verb, port
from worker.commands.terminal import log_for_a_person

_MORE = """\
Java and Maven are needed: Maven fetches Apache Kafka the first time. One node at
127.0.0.1, unencrypted, without passwords or copies. Ctrl-C or SIGTERM ends it."""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    help_text = "run a Kafka broker in the foreground, to try things out"
    parser = add_verb(verbs, "kafka", help_text, kafka, _MORE, configured=False)
    parser.add_argument("--port", type=port, default=9092, metavar="PORT", help="of the broker (9092)")
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="FOLDER",
        help="where the data stay (a temporary one, gone at the end)",
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
