"""What `replay` and `simulate --to-kafka` share: the pace at which they send, and what they print of it."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from worker.commands.parsing import above

if TYPE_CHECKING:
    from worker.offline.replay import Totals
    from worker.settings.sections import Settings


def add_pace(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that set the pace."""
    pace = parser.add_argument_group("pace (default: as fast as possible)")
    pace.add_argument("--rate", type=above(0), metavar="N", help="at most N records a second")
    pace.add_argument(
        "--speed",
        type=above(0),
        metavar="X",
        help="X seconds of event time a second: 3600 sends an hour a second",
    )


def print_totals(totals: Totals, settings: Settings) -> None:
    """Print what was sent, and how fast."""
    labels = totals.fraud_labels + totals.legit_labels + totals.outcomes
    print(f"{totals.transactions:,} transactions to {settings.topics.transactions}")
    print(
        f"{totals.fraud_labels:,} fraud and {totals.legit_labels:,} legit labels to {settings.topics.labels}"
    )
    if totals.outcomes:
        print(f"{totals.outcomes:,} outcomes to {settings.topics.labels}")
    if totals.labels_ahead:
        print(f"{totals.labels_ahead:,} labels become known only after today and were not sent")
    print(f"{totals.seconds:.1f} s, {(totals.transactions + labels) / totals.seconds:,.0f} records/s")
