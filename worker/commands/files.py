"""`replay` and `backtest`: a file of past transactions, through Kafka or without it."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.commands.parsing import TIMES, Verbs, above, add_verb, at_least, time_ms
from worker.commands.terminal import progress_bar, read_settings, wait_for_kafka
from worker.errors import SettingsError

if TYPE_CHECKING:
    from worker.offline.dataset import Dataset
    from worker.offline.replay import Totals
    from worker.settings.sections import Settings

COUNTS: Final = {"n", "transactions"}


def add_to(verbs: Verbs) -> None:
    """Declare the verbs."""
    _add_replay(verbs)
    _add_backtest(verbs)


def _add_replay(verbs: Verbs) -> None:
    parser = add_verb(
        verbs, "replay", "send a file through Kafka as its own past: transactions and labels", replay
    )
    _add_file(parser)
    add_pace(parser)
    parser.add_argument("--frauds-only", action="store_true", help="send no legit labels")


def _add_backtest(verbs: Verbs) -> None:
    parser = add_verb(
        verbs, "backtest", "say what the worker would have decided on a file, and at what cost", backtest
    )
    _add_file(parser)
    judged = parser.add_argument_group("which decisions to judge, all unless told otherwise")
    judged.add_argument("--evaluate-from", type=time_ms, metavar="TIME", help=TIMES)
    judged.add_argument("--evaluate-to", type=time_ms, metavar="TIME", help="this moment is not included")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")


def add_pace(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say how fast to send."""
    pace = parser.add_argument_group("pace, as fast as possible unless told otherwise")
    pace.add_argument("--rate", type=above(0), metavar="N", help="records a second at most")
    pace.add_argument("--speed", type=above(0), metavar="X", help="3600 replays an hour a second")


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="CSV, Parquet or JSON lines, columns named as in [transaction]",
    )
    window = parser.add_argument_group("stretch of the file, all of it unless told otherwise")
    window.add_argument("--from", dest="start", type=time_ms, metavar="TIME", help=TIMES)
    window.add_argument("--to", dest="end", type=time_ms, metavar="TIME", help="this moment is not included")
    truth = parser.add_argument_group("labels")
    truth.add_argument(
        "--fraud-column", metavar="NAME", help="0 and 1, booleans, or fraud and legit; may be empty"
    )
    truth.add_argument(
        "--label-time-column", metavar="NAME", help="when the label became known; may be empty"
    )
    truth.add_argument(
        "--label-delay-days",
        type=at_least(0),
        default=7.0,
        metavar="DAYS",
        help="else from event to label (7)",
    )


def replay(args: argparse.Namespace) -> int:
    """Send a file through Kafka as its own past."""
    from worker.offline.replay import ReplayOptions
    from worker.offline.replay import replay as send

    settings = read_settings(args)
    if args.frauds_only and args.fraud_column is None:
        raise SettingsError("--frauds-only needs --fraud-column, the column that says which they are")
    dataset = read_file(args, settings)
    wait_for_kafka(settings)
    with progress_bar("replay") as progress:
        totals = send(settings, dataset, ReplayOptions(args.rate, args.speed, args.frauds_only), progress)
    tell(totals, settings)
    if args.fraud_column is None:
        print("no labels: name the column that holds the truth with --fraud-column")
    return 0


def tell(totals: Totals, settings: Settings) -> None:
    """Print what was sent."""
    labels = totals.fraud_labels + totals.legit_labels
    print(f"{totals.transactions:,} transactions to {settings.topics.transactions}")
    print(
        f"{totals.fraud_labels:,} fraud and {totals.legit_labels:,} legit labels to {settings.topics.labels}"
    )
    if totals.labels_ahead:
        print(f"{totals.labels_ahead:,} labels become known only after today and were not sent")
    print(f"{totals.seconds:.1f} s, {(totals.transactions + labels) / totals.seconds:,.0f} records/s")


def backtest(args: argparse.Namespace) -> int:
    """Say what this worker would have decided on a file, and at what cost."""
    from worker.offline.backtest import backtest as judge

    settings = read_settings(args)
    dataset = read_file(args, settings)
    with progress_bar("backtest") as progress:
        result = judge(
            settings,
            dataset,
            evaluate_from_ms=args.evaluate_from,
            evaluate_to_ms=args.evaluate_to,
            progress=lambda decided: progress(decided, len(dataset)),
        )
    figures = result.figures()
    if args.json:
        # JSON has no NaN: a figure that is undefined is null.
        print(json.dumps({name: None if math.isnan(value) else value for name, value in figures.items()}))
        return 0
    if args.fraud_column is None:
        print("no labels, so nothing can be judged: name the column that holds the truth with --fraud-column")
    for name, value in figures.items():
        print(f"{name:<24} {value:>14,}" if name in COUNTS else f"{name:<24} {value:>14,.4f}")
    return 0


def read_file(args: argparse.Namespace, settings: Settings) -> Dataset:
    """Read the file that the arguments name, as they say."""
    from worker.offline.dataset import TruthColumns, read_dataset

    labels = None
    if args.fraud_column is not None:
        labels = TruthColumns(args.fraud_column, args.label_time_column, args.label_delay_days)
    return read_dataset(args.file, settings.transaction, labels, start_ms=args.start, end_ms=args.end)
