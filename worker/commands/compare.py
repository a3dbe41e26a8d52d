"""`compare`: every way to handle imbalance, side by side on one file."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from worker.commands.dataset_file import add_file, file_options, read_file
from worker.commands.parsing import MOST_SEED, Verbs, above, add_verb, count, whole
from worker.commands.terminal import log_for_a_person, output, progress_bar, read_settings
from worker.errors import SettingsError

if TYPE_CHECKING:
    from worker.offline.compare.comparing import Options
    from worker.offline.compare.isolated import OnChange
    from worker.offline.compare.mistakes import Mistake
    from worker.offline.compare.ours import OwnRow
    from worker.offline.compare.result import Comparison
    from worker.offline.compare.strategy import Strategy
    from worker.offline.compare.windows import Shares
    from worker.offline.dataset import Dataset
    from worker.progress import OnProgress
    from worker.settings.sections import Settings

INTERRUPTED: Final = 130
_METRICS: Final = (
    "cost",
    "savings",
    "ap",
    "roc_auc",
    "recall",
    "recall_by_value",
    "precision",
    "f1",
    "accuracy",
)
_MOST_JOBS: Final = 4
_WITH_A_GAP: Final = 5
"""So many numbers of `--windows` name the gap too."""
_SPEED_PERIOD_S: Final = 86_400.0
_SIMULATED_CARDS: Final = 2_000
_SIMULATED_DAYS: Final = 90
_MORE: Final = """\
Windows in time: warm up, train, tune, a gap as long as labels take, test. No
strategy learns or tunes from labels that had not arrived by then. Two blocks, never
mixed: frozen before the test, and refreshed through it. Ctrl-C keeps what is done.

examples:
  fraud-worker compare --simulate --only logistic,smote,threshold_cost
  fraud-worker compare payments.parquet --fraud-column is_fraud --skip anomaly
  fraud-worker compare payments.parquet --fraud-column is_fraud --only \\
      weights:25,costs:10:1000,river:river.naive_bayes.GaussianNB,worker
"""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs, "compare", "compare every way to handle imbalance with this worker, on a file", compare, _MORE
    )
    add_file(parser, optional=True)
    simulated = parser.add_argument_group("without a file")
    simulated.add_argument("--simulate", action="store_true", help="compare on simulated traffic instead")
    simulated.add_argument(
        "--cards", type=count, metavar="N", help=f"its cards (default: {_SIMULATED_CARDS})"
    )
    simulated.add_argument("--days", type=count, metavar="N", help=f"its days (default: {_SIMULATED_DAYS})")
    simulated.add_argument(
        "--prevalence", type=above(0), metavar="SHARE", help="its share of fraud (default: 0.008)"
    )
    chosen = parser.add_argument_group("strategies (default: all)")
    chosen.add_argument("--list", action="store_true", help="list the strategies and end")
    chosen.add_argument(
        "--only", type=_names, default=[], action="extend", metavar="NAMES",
        help="strategies or whole families, comma separated; weights:N, costs:REVIEW:MISSED and river:DOTTED.PATH make "
        "further ones",
    )  # fmt: skip
    chosen.add_argument(
        "--skip", type=_names, default=[], action="extend", metavar="NAMES", help="likewise, to leave out"
    )
    how = parser.add_argument_group("how to compare")
    how.add_argument(
        "--features", choices=("journalled", "raw"),
        help="those that the worker journals at decision time (default), or the declared columns alone",
    )  # fmt: skip
    how.add_argument(
        "--windows", type=_shares, metavar="W,T,U[,GAP],E",
        help="proportions of the warm-up, train, tune and test windows (default: 15,40,14,14); of five numbers the "
        "fourth is the gap, in days",
    )  # fmt: skip
    how.add_argument(
        "--trust-columns", action="store_true", help="keep columns that alone tell fraud from legit"
    )
    how.add_argument(
        "--jobs", type=count, metavar="N", help="strategies at a time (default: one a processor, at most 4)"
    )
    how.add_argument(
        "--seed",
        type=whole(MOST_SEED),
        default=42,
        metavar="N",
        help="decides everything random (default: 42)",
    )
    how.add_argument(
        "--max-seconds", type=above(0), metavar="S", help="bound of a strategy in a block (default: 600)"
    )
    shown = parser.add_argument_group("what to show")
    shown.add_argument(
        "--metric", choices=_METRICS,
        help="order of the rows (default: cost); accuracy explains why it is not in the table",
    )  # fmt: skip
    shown.add_argument(
        "--mistakes", action="store_true",
        help="make the classic mistakes on this data, with raw features, and show what each hides; no table",
    )  # fmt: skip
    shown.add_argument("--json", action="store_true", help="print the table as one JSON object")
    shown.add_argument(
        "--report", type=Path, metavar="FILE", help="write a page with plots to this .html file"
    )


def compare(args: argparse.Namespace) -> int:
    """Compare strategies on a file or on simulated traffic, and print the table."""
    if args.list:
        return _print_list()
    if args.simulate == (args.file is not None):
        raise SettingsError("compare: name either a file, such as payments.parquet, or --simulate")
    if args.mistakes:
        _require_no_choice(args)
    from worker.offline.compare.comparing import compare as side_by_side

    if args.report is not None:
        from worker.offline.report import require_page, require_plots

        require_plots()
        require_page(args.report)
    if args.mistakes:
        return _mistakes(args)
    options = _options(args)
    settings, dataset, source = _simulated(args) if args.simulate else _from_file(args)
    with _bars() as (progress, on_change):
        comparison = side_by_side(settings, dataset, options, source, progress=progress, on_change=on_change)
    # The table first: a page that cannot be written must not take it along.
    _print(comparison, args)
    if args.report is not None:
        from worker.offline.report import write_comparison

        write_comparison(comparison, args.report)
        _name_page(args)
    return INTERRUPTED if comparison.interrupted else 0


def _require_no_choice(args: argparse.Namespace) -> None:
    """Refuse what chooses or orders the rows of a table: the mistakes have none."""
    for name in ("only", "skip", "features", "jobs", "max_seconds", "metric"):
        if getattr(args, name):
            option = name.replace("_", "-")
            raise SettingsError(
                f"--{option} is not for --mistakes, which are made with methods of their own on raw features: leave "
                "one of the two out"
            )


def _mistakes(args: argparse.Namespace) -> int:
    """Make the classic mistakes on a file or on simulated traffic, and print what each hides."""
    from worker.offline.compare.mistakes import mistakes
    from worker.offline.compare.prepared import prepare

    settings, dataset, source = _simulated(args) if args.simulate else _from_file(args)
    prepared = prepare(
        settings, dataset, "raw", args.windows, own_rows=False, trust_columns=args.trust_columns
    )
    with progress_bar("mistakes") as progress:
        made = mistakes(prepared.material.usable, args.seed, progress)
    _print_mistakes(args, made, source, prepared.notes)
    if args.report is not None:
        from worker.offline.report import write_mistakes

        write_mistakes(made, args.report, source, prepared.notes)
        _name_page(args)
    return 0


def _print_mistakes(
    args: argparse.Namespace, made: Sequence[Mistake], source: str, notes: Sequence[str]
) -> None:
    if args.json:
        print(json.dumps({"mistakes": [_json_mistake(it) for it in made], "notes": list(notes)}))
        return
    from worker.offline.compare.table_text import WIDTH_ELSEWHERE, mistakes_text

    console = output(WIDTH_ELSEWHERE)
    for part in mistakes_text(made, source, notes, console.width):
        console.print(part)


def _json_mistake(mistake: Mistake) -> dict[str, str | float | None]:
    from dataclasses import asdict

    # JSON has no NaN: a figure that is undefined is null.
    return {
        name: None if isinstance(value, float) and math.isnan(value) else value
        for name, value in asdict(mistake).items()
    }


def _from_file(args: argparse.Namespace) -> tuple[Settings, Dataset, str]:
    given = [name for name in ("cards", "days", "prevalence") if getattr(args, name) is not None]
    if given:
        raise SettingsError(f"--{given[0]} is for --simulate: leave it out for a file")
    if args.fraud_column is None and args.labels is None:
        raise SettingsError(
            "compare needs the truth: name its column by --fraud-column, or a file by --labels"
        )
    settings = read_settings(args, keyless=True)
    return settings, read_file(args, settings), args.file.name


def _simulated(args: argparse.Namespace) -> tuple[Settings, Dataset, str]:
    from dataclasses import replace

    import numpy as np

    from models.vocabulary import MS_PER_DAY
    from worker.settings.loading import load_settings_if_any
    from worker.settings.sections import Settings
    from worker.simulation import FIELDS, Traffic, simulate

    if for_a_file := file_options(args):
        raise SettingsError(
            f"{for_a_file[0]} is for a file: leave it out with --simulate, whose labels have their times"
        )
    log_for_a_person()
    settings = load_settings_if_any(args.config) or Settings(entity_key="0" * 32, transaction=FIELDS)
    traffic = Traffic(cards=args.cards or _SIMULATED_CARDS, days=args.days or _SIMULATED_DAYS, seed=args.seed)
    if args.prevalence is not None:
        traffic = replace(traffic, prevalence=args.prevalence)
    dataset = simulate(traffic)
    # As `backtest` reads a simulated file: where no label arrives, the truth is known after a week.
    label_ms = dataset.event_time_ms + 7 * MS_PER_DAY
    if dataset.label_time_ms is not None:
        label_ms = np.where(dataset.labelled, dataset.label_time_ms, label_ms)
    return settings, replace(dataset, label_time_ms=label_ms), f"simulated traffic, seed {args.seed}"


def _options(args: argparse.Namespace) -> Options:
    from worker.offline.compare.comparing import Options

    strategies, own_rows = _chosen(args.only, args.skip)
    if args.max_seconds is not None:
        from dataclasses import replace

        strategies = [replace(it, caps=replace(it.caps, seconds=args.max_seconds)) for it in strategies]
    return Options(
        strategies=strategies,
        own_rows=own_rows,
        features=args.features or "journalled",
        shares=args.windows,
        seed=args.seed,
        jobs=args.jobs or min(os.cpu_count() or 1, _MOST_JOBS),
        trust_columns=args.trust_columns,
    )


def _chosen(only: list[str], skip: list[str]) -> tuple[list[Strategy], list[OwnRow]]:
    """Return the strategies and the worker's own rows that the two lists of names leave."""
    from worker.offline.compare.ours import OWN_ROWS
    from worker.offline.compare.registry import chosen
    from worker.offline.compare.result import OURS

    own = {it.name: it for it in OWN_ROWS}

    def split(names: list[str]) -> tuple[list[str], set[str]]:
        ours = {name for name in names if name in own} | (set(own) if OURS in names else set())
        return [name for name in names if name not in own and name != OURS], ours

    (only_theirs, only_own), (skip_theirs, skip_own) = split(only), split(skip)
    own_rows = [it for name, it in own.items() if name not in skip_own and (not only or name in only_own)]
    strategies = (
        [] if only and not only_theirs else list(chosen(only_theirs, skip_theirs, [*own, OURS]).values())
    )
    if not strategies and not own_rows:
        raise SettingsError("no strategy is left to compare: name more by --only, or fewer by --skip")
    return strategies, own_rows


def _print(comparison: Comparison, args: argparse.Namespace) -> None:
    from worker.offline.compare.recommendation import accuracy_explained, accuracy_of_nothing
    from worker.offline.compare.table_text import ACCURACY, WIDTH_ELSEWHERE, comparison_text

    if args.json:
        printed = comparison.to_json()
        if args.metric == ACCURACY:
            words = accuracy_explained(comparison)
            printed[ACCURACY] = {"always_legit": accuracy_of_nothing(comparison), "words": words}
        print(json.dumps(printed))
        return

    console = output(WIDTH_ELSEWHERE)
    for part in comparison_text(comparison, args.metric or "cost", console.width):
        console.print(part)


def _name_page(args: argparse.Namespace) -> None:
    if not args.json:
        print(f"\n{args.report}: the report")


def _print_list() -> int:
    from worker.offline.compare.ours import OWN_ROWS
    from worker.offline.compare.registry import strategies
    from worker.offline.compare.result import OURS

    rows = [(it.family, it.name, it.meaning) for it in strategies().values()]
    rows += [(OURS, it.name, it.meaning) for it in OWN_ROWS]
    family = ""
    for of, name, meaning in rows:
        if of != family:
            print(of)
            family = of
        print(f"  {name:<34}{meaning}")
    return 0


@contextmanager
def _bars() -> Iterator[tuple[OnProgress, OnChange]]:
    """Show the run of the worker and the strategies in hand on standard error: bars at a terminal, else lines."""
    if not sys.stderr.isatty():
        with progress_bar("worker") as progress:
            yield progress, _Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.fields[title]:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    # A strategy takes up to minutes: the speed is that of all so far, not of the last half minute.
    with Progress(
        *columns, console=Console(stderr=True), transient=True, speed_estimate_period=_SPEED_PERIOD_S
    ) as bars:
        run = bars.add_task("", total=None, title="worker", visible=False)
        # Its time begins with the first strategy, not with the run of the worker.
        strategies = bars.add_task("", total=None, title="strategies", visible=False, start=False)

        def on_change(done: int, total: int, names: list[str]) -> None:
            bars.start_task(strategies)
            bars.update(strategies, completed=done, total=total, description=", ".join(names), visible=True)

        yield (lambda done, total: bars.update(run, completed=done, total=total, visible=True)), on_change


class _Lines:
    """Prints a line whenever a strategy ends: the seconds since the first began, and about how many are left."""

    def __init__(self) -> None:
        self._done = 0
        self._started_s: float | None = None

    def __call__(self, done: int, total: int, names: list[str]) -> None:
        now_s = time.monotonic()
        if self._started_s is None:
            self._started_s = now_s
        if done > self._done:
            self._done = done
            passed_s = now_s - self._started_s
            left = f", about {passed_s * (total - done) / done:,.0f} s left" if done < total else ""
            hand = f"; in hand: {', '.join(names)}" if names else ""
            print(
                f"compare: {done} of {total} strategies after {passed_s:,.0f} s{left}{hand}", file=sys.stderr
            )


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        # Taken for no choice, it would run all of them.
        raise argparse.ArgumentTypeError(f"{text!r} names no strategy: see --list")
    return names


def _shares(text: str) -> Shares:
    from worker.offline.compare.windows import Shares

    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    gap_days = numbers.pop(3) if len(numbers) == _WITH_A_GAP else None
    # The sum, by which they are divided, is finite only where each is.
    if (
        len(numbers) != _WITH_A_GAP - 1
        or not math.isfinite(sum(numbers))
        or numbers[0] < 0
        or min(numbers[1:]) <= 0
        or not 0 <= (gap_days or 0) < math.inf
    ):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not four numbers, that of the warm-up from 0 and the others above 0, such as {Shares()}, or "
            f"five with the days of the gap in the fourth place, such as {Shares(gap_days=7)}"
        )
    return Shares(*numbers)._replace(gap_days=gap_days)
