"""`backtest`: a file of past transactions, decided without Kafka."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from worker.commands.dataset_file import add_file, read_file
from worker.commands.parsing import TIMES, Verbs, add_verb, time_ms
from worker.commands.terminal import output, progress_bar, read_settings

if TYPE_CHECKING:
    from worker.offline.alert_handling import AlertShares
    from worker.offline.backtest import BacktestResult
    from worker.offline.backtest_document import Against

_WIDTH: Final = 120
_MORE: Final = """\
The worker's own cycle runs over the file: no decision knows a label before its time.

examples:
  fraud-worker backtest payments.csv --fraud-column is_fraud --label-delay lognormal:14:0.8
  fraud-worker backtest payments.jsonl --labels payments.labels.jsonl --weeks
  fraud-worker backtest payments.csv --fraud-column is_fraud --label-delay-days 30 --answered-share 0.9
  fraud-worker backtest payments.csv --fraud-column is_fraud --json > before.json
  fraud-worker backtest payments.csv --fraud-column is_fraud --against before.json
"""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "backtest",
        "show what the worker would have decided on a file, and at what cost",
        backtest,
        _MORE,
    )
    add_file(parser)
    judged = parser.add_argument_group("decisions to judge (default: all)")
    judged.add_argument("--evaluate-from", type=time_ms, metavar="TIME", help=f"from this moment on: {TIMES}")
    judged.add_argument("--evaluate-to", type=time_ms, metavar="TIME", help="up to this moment, not included")
    world = parser.add_argument_group("what happens to alerts")
    world.add_argument(
        "--declined-share", type=_share, default=0.0, metavar="SHARE",
        help="this share of the alerts is declined: their labels never arrive, an outcome arrives at once; a hash of "
        "the transaction id chooses them (default: 0)",
    )  # fmt: skip
    world.add_argument(
        "--answered-share", type=_share, default=0.0, metavar="SHARE",
        help="this share of the alerts is answered within four hours by a label that says what they are; all other "
        "labels arrive when the file says (default: 0)",
    )  # fmt: skip
    shown = parser.add_argument_group("output")
    shown.add_argument("--weeks", action="store_true", help="show the figures of each week too")
    shown.add_argument(
        "--against", type=Path, metavar="JSON", help="compare with an earlier run, as --json printed it"
    )
    shown.add_argument(
        "--out", type=Path, metavar="PARQUET",
        help="write every decision to this .parquet file: score, probability, decider, threshold, alert, case, and the "
        "reasons of alerts",
    )  # fmt: skip
    shown.add_argument(
        "--report", type=Path, metavar="HTML", help="write a page to look at, print or pass on to this file"
    )
    shown.add_argument("--json", action="store_true", help="print the figures as one JSON object")


def backtest(args: argparse.Namespace) -> int:
    """Print what a worker would have decided on a file, and at what cost."""
    from worker.offline.backtest import backtest as judge
    from worker.offline.compare.leaks import suspects

    _require_writable(args)
    handled = _handled(args)
    earlier = None if args.against is None else _earlier(args.against)
    settings = read_settings(args, keyless=True)
    dataset = read_file(args, settings)
    if dataset.is_fraud is None:
        print(f"{args.file}: no --fraud-column and no --labels: nothing can be judged", file=sys.stderr)
    found = suspects(dataset)
    for sentence in found:
        print(f"{args.file}: {sentence}", file=sys.stderr)
    # The page is passed on without what was printed here.
    dataset = replace(dataset, notes=(*dataset.notes, *found))
    with progress_bar("backtest") as progress:
        result = judge(
            settings,
            dataset,
            evaluate_from_ms=args.evaluate_from,
            evaluate_to_ms=args.evaluate_to,
            handled=handled,
            progress=progress,
        )
    _print(args, result, earlier)
    _write(args, result)
    return 0


def _require_writable(args: argparse.Namespace) -> None:
    """Refuse files that cannot be written, before the run spends its time."""
    if args.out is not None:
        from worker.offline.decisions_file import require_parquet

        require_parquet(args.out)
    if args.report is not None:
        from worker.offline.report import require_page, require_plots

        require_plots()
        require_page(args.report)


def _earlier(path: Path) -> dict[str, Any]:
    from worker.offline.backtest_document import read_document

    return read_document(path)


def _print(args: argparse.Namespace, result: BacktestResult, earlier: dict[str, Any] | None) -> None:
    from worker.offline.backtest_document import compare, document

    figures = document(result) if args.json or earlier is not None else {}
    against = None if earlier is None else compare(args.against, earlier, figures)
    if args.json:
        print(json.dumps(figures if against is None else figures | {"against": _as_json(against)}))
        return
    from worker.offline.backtest_text import against_text, backtest_text

    console = output(_WIDTH)
    for part in backtest_text(result, weeks=args.weeks):
        console.print(part)
    if against is not None:
        for part in against_text(against):
            console.print(part)


def _as_json(against: Against) -> dict[str, Any]:
    from worker.offline.backtest_document import defined

    return {
        "file": str(against.path),
        "unequal": list(against.unequal),
        "differences": defined({one.name: one.change for one in against.differences}),
    }


def _write(args: argparse.Namespace, result: BacktestResult) -> None:
    if args.out is not None:
        from worker.offline.decisions_file import write_decisions

        struck = write_decisions(result, args.out)
        repeats = result.transactions - int(result.decisions.decided.sum())
        beside = f", {repeats:,} of them repeats without a decision" if repeats else ""
        print(f"{args.out}: {result.transactions:,} transactions{beside}", file=sys.stderr)
        if struck:
            print(
                f"{args.out}: {struck:,} transaction ids look like card numbers: all but four digits struck out",
                file=sys.stderr,
            )
    if args.report is not None:
        from worker.offline.report import write_backtest

        write_backtest(result, args.report, args.file.name)
        print(f"{args.report}: written", file=sys.stderr)


def _handled(args: argparse.Namespace) -> AlertShares:
    from worker.errors import SettingsError
    from worker.offline.alert_handling import AlertShares

    shares = AlertShares(args.declined_share, args.answered_share)
    if sum(shares) > 1.0:
        raise SettingsError(
            f"--declined-share {shares.declined:g} and --answered-share {shares.answered:g}: an alert is handled once; "
            "let both add up to 1 at most"
        )
    return shares


def _share(text: str) -> float:
    """Return a share from 0 to 1."""
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0.0 <= share <= 1.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share from 0 to 1")
    return share
