"""The file of past transactions that `replay` and `backtest` read: its arguments, and how they read it."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from worker.commands.parsing import TIMES, at_least, time_ms

if TYPE_CHECKING:
    from worker.offline.dataset import Dataset
    from worker.settings.sections import Settings


def add_file(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add the arguments that name the file, choose a stretch of it and say where its labels are."""
    parser.add_argument(
        "file",
        type=Path,
        nargs="?" if optional else None,
        metavar="FILE",
        help="CSV, Parquet or JSON lines, with columns named as in [transaction]",
    )
    window = parser.add_argument_group("stretch of the file (default: all of it)")
    window.add_argument(
        "--from", dest="start", type=time_ms, metavar="TIME", help=f"from this moment on: {TIMES}"
    )
    window.add_argument(
        "--to", dest="end", type=time_ms, metavar="TIME", help="up to this moment, not included"
    )
    truth = parser.add_argument_group("labels")
    truth.add_argument(
        "--fraud-column",
        metavar="NAME",
        help="column of the truth: 0 and 1, booleans, or fraud and legit; empty where unknown",
    )
    truth.add_argument(
        "--label-time-column",
        metavar="NAME",
        help="column of the time at which the label became known; may be empty",
    )
    truth.add_argument(
        "--label-delay-days",
        type=at_least(0),
        default=7.0,
        metavar="DAYS",
        help="days from event to label, where that time is not known (default: 7)",
    )


def read_file(args: argparse.Namespace, settings: Settings) -> Dataset:
    """Return the data set of the file that the arguments name."""
    from worker.offline.dataset import TruthColumns, read_dataset

    labels = None
    if args.fraud_column is not None:
        labels = TruthColumns(args.fraud_column, args.label_time_column, args.label_delay_days)
    return read_dataset(args.file, settings.transaction, labels, start_ms=args.start, end_ms=args.end)
