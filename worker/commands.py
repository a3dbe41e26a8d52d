"""What the verbs of `fraud-worker` do. Each imports what it needs, so that none waits for what it does not."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.errors import SettingsError
from worker.settings import Settings, config_file, load_settings

if TYPE_CHECKING:
    from worker.dataset import Dataset

WAIT_FOR_KAFKA_S = 10.0
COUNTS = {"n", "transactions"}


def run(args: argparse.Namespace) -> int:
    """Run a worker until it is told to stop."""
    from worker import logs

    logs.configure()
    settings = load_settings(args.config)
    from worker import app
    from worker.settings_report import refuse_unknown_variables

    refuse_unknown_variables()
    return app.run(settings)


def replay(args: argparse.Namespace) -> int:
    """Send a file through Kafka as its own past."""
    settings = _settings_for_a_person(args)
    from worker.client import wait_for_brokers
    from worker.replay import ReplayOptions
    from worker.replay import replay as send

    if args.frauds_only and args.fraud_column is None:
        raise SettingsError("--frauds-only needs --fraud-column, the column that says which they are")
    dataset = read_file(args, settings)
    wait_for_brokers(settings, WAIT_FOR_KAFKA_S)
    with progress_bar("replay") as progress:
        totals = send(settings, dataset, ReplayOptions(args.rate, args.speed, args.frauds_only), progress)
    labels = totals.fraud_labels + totals.legit_labels
    print(f"{totals.transactions:,} transactions to {settings.topics.transactions}")
    print(
        f"{totals.fraud_labels:,} fraud and {totals.legit_labels:,} legit labels to {settings.topics.labels}"
    )
    if totals.labels_ahead:
        print(f"{totals.labels_ahead:,} labels become known only after today and were not sent")
    if args.fraud_column is None:
        print("no labels: name the column that holds the truth with --fraud-column")
    print(f"{totals.seconds:.1f} s, {(totals.transactions + labels) / totals.seconds:,.0f} records/s")
    return 0


def backtest(args: argparse.Namespace) -> int:
    """Say what this worker would have decided on a file, and at what cost."""
    settings = _settings_for_a_person(args)
    from worker.backtest import backtest as judge

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
    for name, value in figures.items():
        print(f"{name:<24} {value:>14,}" if name in COUNTS else f"{name:<24} {value:>14,.4f}")
    return 0


def topics_create(args: argparse.Namespace) -> int:
    """Make the six topics."""
    settings = _settings_for_a_person(args)
    from worker import topics
    from worker.client import wait_for_brokers

    wait_for_brokers(settings, WAIT_FOR_KAFKA_S)
    made = topics.create(settings, args.partitions, args.replication, args.retention_days)
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


def config_show(args: argparse.Namespace) -> int:
    """Print every setting, its origin and its meaning."""
    from worker.settings_report import report

    settings = load_settings(args.config)
    print("\n".join(report(settings, config_file(args.config))))
    return 0


def config_check(args: argparse.Namespace) -> int:
    """Read the settings and say whether they are in order."""
    from worker.settings_report import refuse_unknown_variables

    refuse_unknown_variables()
    load_settings(args.config)
    print(f"The settings from {config_file(args.config) or 'the environment'} are in order.")
    return 0


def kafka(args: argparse.Namespace) -> int:
    """Run a broker in the foreground."""
    _log_for_a_person()
    from worker.broker import serve

    serve(args.port, args.data_dir)
    return 0


def demo(args: argparse.Namespace) -> int:
    """Show the whole thing on made-up traffic."""
    _log_for_a_person()
    from worker.demo import run_demo

    return run_demo(args.bootstrap)


def read_file(args: argparse.Namespace, settings: Settings) -> Dataset:
    """Read the file that the arguments name, as they say."""
    from worker.dataset import LabelColumns, read_dataset

    labels = None
    if args.fraud_column is not None:
        labels = LabelColumns(args.fraud_column, args.label_time_column, args.label_delay_days)
    return read_dataset(args.file, settings.transaction, labels, start_ms=args.start, end_ms=args.end)


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on standard error: a bar at a terminal, a line every tenth elsewhere."""
    if not sys.stderr.isatty():
        yield _Tenths(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Tenths:
    """Prints a line whenever another tenth is done."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._told = 0

    def __call__(self, done: int, total: int) -> None:
        tenth = 10 * done // total
        if tenth > self._told:
            self._told = tenth
            print(f"{self._title}: {tenth * 10:3d} % of {total:,}", file=sys.stderr)


def _settings_for_a_person(args: argparse.Namespace) -> Settings:
    _log_for_a_person()
    return load_settings(args.config)


def _log_for_a_person() -> None:
    from worker import logs

    logs.configure(as_json=False)
