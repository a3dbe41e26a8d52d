"""`topics create`: the six topics."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse

from worker.commands.parsing import Verbs, add_group, add_verb, at_least, count
from worker.commands.terminal import read_settings, wait_for_kafka


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        add_group(verbs, "topics", "make the topics"),
        "create",
        "make the six topics that a worker needs; those that exist are left as they are",
        create,
    )
    parser.add_argument(
        "--partitions", type=count, default=4, metavar="P",
        help="how many of each topic that goes by card, not to be changed later (4)",
    )  # fmt: skip
    parser.add_argument(
        "--replication", type=count, default=-1, metavar="N",
        help="how many copies of each; 3 in production (as the broker is set)",
    )  # fmt: skip
    parser.add_argument(
        "--retention-days", type=at_least(-1), metavar="DAYS",
        help="how long transactions, labels, alerts and dead letters are kept; -1 is for ever (as the broker is set)",
    )  # fmt: skip


def create(args: argparse.Namespace) -> int:
    """Make the six topics."""
    from worker.kafka_io import topic_setup

    settings = read_settings(args)
    wait_for_kafka(settings)
    made = topic_setup.create(settings, args.partitions, args.replication, args.retention_days)
    width = max(len(report.name) for report in made)
    for report in made:
        state = "created" if report.created else "exists, left as it is"
        print(f"{report.name:<{width}}  {report.partitions:>3} partitions  {state}")
    journals = f"{settings.topics.decisions} and {settings.topics.model_log}"
    if any(report.created for report in made):
        print(
            f"What is created of {journals} is kept for ever (retention.ms = -1): state is rebuilt from it."
        )
    return 0
