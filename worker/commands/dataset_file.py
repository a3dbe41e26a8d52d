"""The file of past transactions that `replay`, `backtest` and `compare` read: its arguments, and how they read it."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.commands.parsing import MOST_SEED, TIMES, at_least, time_ms, whole
from worker.errors import SettingsError
from worker.redaction import printable

if TYPE_CHECKING:
    from worker.offline.dataset import Dataset, TruthColumns
    from worker.offline.file_gaps import FileGaps
    from worker.offline.label_file import LabelFile, LabelMatches
    from worker.settings.sections import Settings

_LOGNORMAL: Final = "lognormal"
_DELAY_DAYS: Final = 7.0


def add_file(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add the arguments that name the file, choose a stretch of it and say where its labels are."""
    parser.add_argument(
        "file",
        type=Path,
        nargs="?" if optional else None,
        metavar="FILE",
        help="CSV or JSON lines, also as .gz, or Parquet, with columns named as in [transaction]",
    )
    window = parser.add_argument_group("stretch of the file (default: all of it)")
    window.add_argument(
        "--from", dest="start", type=time_ms, metavar="TIME", help=f"from this moment on: {TIMES}"
    )
    window.add_argument(
        "--to", dest="end", type=time_ms, metavar="TIME", help="up to this moment, not included"
    )
    gaps = parser.add_argument_group("what the file lacks")
    gaps.add_argument(
        "--number-rows",
        action="store_true",
        help="where it has no column of transaction ids, or of cards, the number of the row stands in: each payment "
        "is then of a card of its own (the rows of a second file have the same numbers)",
    )
    gaps.add_argument(
        "--time-step",
        choices=("second", "hour", "day", "month"),
        help="its column of times counts these from --time-origin on; of months only whole ones",
    )
    gaps.add_argument(
        "--time-origin",
        type=time_ms,
        metavar="TIME",
        help=f"the moment of step 0: {TIMES} (default: 2024-01-01)",
    )
    truth = parser.add_argument_group("labels")
    truth.add_argument(
        "--fraud-column",
        metavar="NAME",
        help="column of the truth: 0 and 1, booleans, fraud and legit, or Y and N; empty where unknown",
    )
    truth.add_argument(
        "--label-time-column",
        metavar="NAME",
        help="column of the time at which the label became known; may be empty. A date without an hour "
        "means the end of its day; one more than a day before the transaction says nothing",
    )
    truth.add_argument(
        "--labels", type=Path, metavar="LABELS",
        help="file of labels instead, joined by transaction id and card, with columns named as in [label], as "
        "`simulate` writes it beside OUT.jsonl",
    )  # fmt: skip
    truth.add_argument(
        "--unlabelled", choices=("legit", "unknown"),
        help="what a transaction without a label counts as in figures (default: legit with --labels, unknown with "
        "--fraud-column)",
    )  # fmt: skip
    delay = truth.add_mutually_exclusive_group()
    delay.add_argument(
        "--label-delay-days",
        type=at_least(0),
        default=_DELAY_DAYS,
        metavar="DAYS",
        help="days from event to label, where that time is not known, as of most legits (default: 7)",
    )
    delay.add_argument(
        "--label-delay", type=_spread, metavar="lognormal:DAYS:SIGMA",
        help="the same, drawn for each transaction from a log-normal distribution of this median",
    )  # fmt: skip
    truth.add_argument(
        "--label-seed",
        type=whole(MOST_SEED),
        default=0,
        metavar="N",
        help="another seed draws other delays (default: 0)",
    )  # fmt: skip


def file_options(args: argparse.Namespace) -> list[str]:
    """Return which options of `add_file` have another value than none or their default."""
    given = {
        "--from": args.start is not None,
        "--to": args.end is not None,
        "--number-rows": args.number_rows,
        "--time-step": args.time_step is not None,
        "--time-origin": args.time_origin is not None,
        "--fraud-column": args.fraud_column is not None,
        "--label-time-column": args.label_time_column is not None,
        "--labels": args.labels is not None,
        "--unlabelled": args.unlabelled is not None,
        "--label-delay-days": args.label_delay_days != _DELAY_DAYS,
        "--label-delay": args.label_delay is not None,
        "--label-seed": args.label_seed != 0,
    }
    return [name for name, is_given in given.items() if is_given]


def read_file(args: argparse.Namespace, settings: Settings) -> Dataset:
    """Return the data set of the file that the arguments name; report what it leaves out on standard error."""
    from worker.offline.dataset import read_dataset
    from worker.offline.dataset_notes import notes, taught_unknown

    labels, gaps = _labels(args, settings), _gaps(args)
    dataset = read_dataset(
        args.file, settings.transaction, labels, gaps, start_ms=args.start, end_ms=args.end
    )
    if args.label_delay is not None and dataset.matches is not None and dataset.matches.undated == 0:
        raise SettingsError(
            f"--label-delay draws when labels without a time come, and each of --labels {args.labels} has a date: "
            "leave --label-delay out, or set label.label_time to a name that no column has, and all are drawn"
        )
    for refusal in dataset.refused:
        print(f"{args.file}: left out, as a live worker refuses it: {refusal}", file=sys.stderr)
    for note in notes(dataset):
        print(f"{args.file}: {note}", file=sys.stderr)
    if taught := taught_unknown(dataset, settings):
        print(
            f"{args.file}: labels say of others that they are legit, and by labels.silence = 'legit' the worker learns "
            f"{taught:,} of unknown truth as legit too unless they alert: set labels.silence = 'unknown'",
            file=sys.stderr,
        )
    if dataset.matches is not None:
        _report_matches(args.labels, dataset.matches)
    return dataset


def _gaps(args: argparse.Namespace) -> FileGaps:
    from worker.offline.file_gaps import TIME_ORIGIN_MS, FileGaps

    if args.number_rows and args.labels is not None:
        raise SettingsError(
            "--number-rows and --labels: labels are joined by transaction id and card, so both files need these"
        )
    if args.time_origin is not None and args.time_step is None:
        raise SettingsError("--time-origin needs --time-step, which says what the column of times counts")
    if args.time_step is not None and (args.labels is not None or args.label_time_column is not None):
        raise SettingsError(
            "--time-step is for transactions alone, and label times are dates: write both as dates, or leave "
            f"{'--labels' if args.labels is not None else '--label-time-column'} out"
        )
    origin_ms = TIME_ORIGIN_MS if args.time_origin is None else args.time_origin
    return FileGaps(args.number_rows, args.time_step, origin_ms)


def _labels(args: argparse.Namespace, settings: Settings) -> TruthColumns | LabelFile | None:
    from worker.offline.dataset import TruthColumns
    from worker.offline.label_delay import LabelDelay
    from worker.offline.label_file import LabelFile

    median_days, sigma = args.label_delay or (args.label_delay_days, 0.0)
    if args.labels is not None:
        if args.fraud_column is not None:
            raise SettingsError("--labels and --fraud-column: both say what is fraud; leave one of them out")
        if args.label_time_column is not None:
            raise SettingsError(
                "--label-time-column is for --fraud-column; with --labels, set label.label_time"
            )
        delay = LabelDelay(median_days, sigma, args.label_seed)
        return LabelFile(args.labels, settings.label, delay, args.unlabelled != "unknown")
    if args.fraud_column is None:
        if args.unlabelled is not None:
            raise SettingsError("--unlabelled needs --labels or --fraud-column, which say what is fraud")
        if args.label_time_column is not None:
            raise SettingsError(
                "--label-time-column needs --fraud-column, the column that says what is fraud"
            )
        return None
    spread = median_days, sigma, args.label_seed
    empty_is_legit = args.unlabelled == "legit"
    return TruthColumns(args.fraud_column, args.label_time_column, *spread, empty_is_legit)


def _report_matches(path: Path, matches: LabelMatches) -> None:
    if matches.unmatched:
        more = ", ..." if matches.unmatched > len(matches.examples) else ""
        print(
            f"{path}: {matches.unmatched:,} of {matches.labels:,} labels find no transaction: "
            f"{', '.join(map(printable, matches.examples))}{more}",
            file=sys.stderr,
        )
    if matches.superseded:
        print(
            f"{path}: {matches.superseded:,} labels left out: of several of one transaction the last verdict counts, "
            "as of when it first came",
            file=sys.stderr,
        )


def _spread(text: str) -> tuple[float, float]:
    """Return the median and the spread of a log-normal delay."""
    name, _, numbers = text.partition(":")
    try:
        median_days, sigma = map(float, numbers.split(":"))
    except ValueError:
        median_days = sigma = math.nan
    if name != _LOGNORMAL or not (0 < median_days < math.inf and 0 < sigma < math.inf):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not {_LOGNORMAL}:DAYS:SIGMA with two numbers above 0, such as {_LOGNORMAL}:14:0.8"
        )
    return median_days, sigma
