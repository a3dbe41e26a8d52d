"""`skip`: go on behind records that no worker shall read."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
from typing import Final

from worker.commands.parsing import MOST_OFFSET, Verbs, add_verb, whole
from worker.commands.terminal import read_settings, wait_for_kafka

_MORE: Final = """\
Stop all workers of the group first. The records between are neither decided nor
learnt, and become no dead letters. The journal and the group's offsets move in one
Kafka transaction: offsets that are set with other tools contradict the journal, and
the next start refuses them."""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs, "skip", "set a partition forward, past records that no worker shall read", run, _MORE
    )
    parser.add_argument(
        "--partition", type=whole(MOST_OFFSET), required=True, metavar="N", help="which partition"
    )
    for name in ("transactions", "labels"):
        parser.add_argument(
            f"--{name}",
            type=whole(MOST_OFFSET),
            metavar="OFFSET",
            help=f"the next offset to read of topics.{name}",
        )


def run(args: argparse.Namespace) -> int:
    """Set the partition forward."""
    from worker.kafka_io.client import kafka_errors_explained
    from worker.live.skip import skip

    settings = read_settings(args)
    wait_for_kafka(settings)
    with kafka_errors_explained(settings):
        before, after = skip(settings, args.partition, args.transactions, args.labels)
    print(f"partition {args.partition}: (transactions, labels) {before} -> {after}")
    return 0
