"""`backtest`: a file of past transactions, decided without Kafka."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import math
from typing import Final

from worker.commands.dataset_file import add_file, read_file
from worker.commands.parsing import TIMES, Verbs, add_verb, time_ms
from worker.commands.terminal import progress_bar, read_settings

_COUNTS: Final = {"n", "transactions"}


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs, "backtest", "show what the worker would have decided on a file, and at what cost", backtest
    )
    add_file(parser)
    judged = parser.add_argument_group("decisions to judge (default: all)")
    judged.add_argument("--evaluate-from", type=time_ms, metavar="TIME", help=f"from this moment on: {TIMES}")
    judged.add_argument("--evaluate-to", type=time_ms, metavar="TIME", help="up to this moment, not included")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")


def backtest(args: argparse.Namespace) -> int:
    """Print what a worker would have decided on a file, and at what cost."""
    from worker.offline.backtest import backtest as judge

    settings = read_settings(args)
    dataset = read_file(args, settings)
    with progress_bar("backtest") as progress:
        result = judge(
            settings,
            dataset,
            evaluate_from_ms=args.evaluate_from,
            evaluate_to_ms=args.evaluate_to,
            progress=progress,
        )
    figures = result.figures()
    if args.json:
        # JSON has no NaN: a figure that is undefined is null.
        print(json.dumps({name: None if math.isnan(value) else value for name, value in figures.items()}))
        return 0
    if args.fraud_column is None:
        print("no labels, so nothing can be judged: name the column of the truth by --fraud-column")
    for name, value in figures.items():
        print(f"{name:<24} {value:>14,}" if name in _COUNTS else f"{name:<24} {value:>14,.4f}")
    return 0
