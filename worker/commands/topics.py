"""`topics create`: the six topics."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse

from worker.commands.parsing import Verbs, add_group, add_verb, at_least, count
from worker.commands.terminal import read_settings, wait_for_kafka


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        add_group(verbs, "topics", "create the topics"),
        "create",
        "create the six topics that a worker needs; those that exist stay as they are",
        create,
    )
    parser.add_argument(
        "--partitions", type=count, default=4, metavar="P",
        help="partitions of each topic that is keyed by card; cannot be changed later (default: 4)",
    )  # fmt: skip
    parser.add_argument(
        "--replication", type=count, default=-1, metavar="N",
        help="replicas of each topic; 3 in production (default: that of the broker)",
    )  # fmt: skip
    parser.add_argument(
        "--retention-days", type=at_least(-1), metavar="DAYS",
        help="how long to keep transactions, labels, alerts and dead letters; -1: for ever (default: as the broker)",
    )  # fmt: skip


def create(args: argparse.Namespace) -> int:
    """Create the six topics."""
    from worker.kafka_io import topic_setup

    settings = read_settings(args)
    wait_for_kafka(settings)
    reports = topic_setup.create(settings, args.partitions, args.replication, args.retention_days)
    width = max(len(report.name) for report in reports)
    for report in reports:
        state = "created" if report.created else "exists, left as it is"
        print(f"{report.name:<{width}}  {report.partitions:>3} partitions  {state}")
    journals = f"{settings.topics.decisions} and {settings.topics.model_log}"
    if any(report.created for report in reports):
        print(
            f"{journals} are kept for ever (retention.ms = -1) where they were created: state is rebuilt from them."
        )
    return 0
