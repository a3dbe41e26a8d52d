"""`replay`: a file of past transactions, sent through Kafka."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse

from worker.commands.dataset_file import add_file, read_file
from worker.commands.parsing import Verbs, add_verb
from worker.commands.sending import add_pace, print_totals
from worker.commands.terminal import progress_bar, read_settings, wait_for_kafka
from worker.errors import SettingsError


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "replay",
        "send the transactions and labels of a file through Kafka, under their own times",
        replay,
    )
    add_file(parser)
    add_pace(parser)
    parser.add_argument("--frauds-only", action="store_true", help="send no legit labels")


def replay(args: argparse.Namespace) -> int:
    """Send the transactions and labels of a file through Kafka, under their own times."""
    from worker.offline.replay import ReplayOptions
    from worker.offline.replay import replay as send

    settings = read_settings(args)
    labelled = args.fraud_column is not None or args.labels is not None
    if args.frauds_only and not labelled:
        raise SettingsError(
            "--frauds-only needs --fraud-column, the column that says which transactions are fraud, or --labels"
        )
    dataset = read_file(args, settings)
    wait_for_kafka(settings)
    with progress_bar("replay") as progress:
        totals = send(settings, dataset, ReplayOptions(args.rate, args.speed, args.frauds_only), progress)
    print_totals(totals, settings)
    if not labelled:
        print(
            "no labels sent: name the column of the truth by --fraud-column, or a file by --labels, to send some"
        )
    return 0
