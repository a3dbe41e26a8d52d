"""`simulate`: made-up traffic, to a file or through Kafka."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from models.vocabulary import MS_PER_DAY
from worker.commands.parsing import Verbs, add_verb, at_least, count, time_ms
from worker.commands.sending import add_pace, print_totals
from worker.commands.terminal import log_for_a_person, progress_bar, read_settings, wait_for_kafka
from worker.errors import SettingsError

if TYPE_CHECKING:
    from worker.settings.sections import Settings
    from worker.simulation import Simulation, Traffic
    from worker.simulation.naming import Naming

_MORE: Final = """\
The same arguments make the same file, byte for byte. Through Kafka, a worker
drops repeats, and its clock never goes back: send a second stream to other topics
and another group.

examples:
  fraud-worker simulate traffic.parquet --days 90 --prevalence 0.001
  fraud-worker simulate --to-kafka --days 120 --speed 1800
                        half an hour a second, for 96 minutes
"""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs,
        "simulate",
        "make up card traffic with known fraud, to a file or through Kafka",
        simulate,
        _MORE,
    )
    parser.add_argument(
        "file", type=Path, nargs="?", metavar="OUT",
        help="a .parquet or .csv file with the truth of each transaction, or a .jsonl file of records as on the "
        "transactions topic; fields have their names from [transaction], if there are settings",
    )  # fmt: skip
    parser.add_argument(
        "--to-kafka", action="store_true", help="send to the topics of the settings; write no file"
    )
    parser.add_argument(
        "--labels", type=Path, metavar="FILE",
        help="write the labels, as on the labels topic, to this .jsonl file (default: beside OUT, if that is .jsonl)",
    )  # fmt: skip
    parser.add_argument("--force", action="store_true", help="overwrite files that exist")
    _add_world(parser)
    _add_frauds(parser)
    add_pace(parser)


def _add_world(parser: argparse.ArgumentParser) -> None:
    world = parser.add_argument_group("the world")
    world.add_argument("--cards", type=count, metavar="N", help="number of cards (default: 5000)")
    world.add_argument("--merchants", type=count, metavar="N", help="number of merchants (default: 5000)")
    world.add_argument("--days", type=count, metavar="N", help="length in days (default: 60)")
    world.add_argument(
        "--per-card-day",
        type=float,
        metavar="X",
        help="mean number of transactions a card and day (default: 2)",
    )
    world.add_argument(
        "--start", type=time_ms, metavar="DAY",
        help="first day (default: 2024-01-01; through Kafka the one that makes yesterday the last day)",
    )  # fmt: skip
    world.add_argument("--seed", type=int, metavar="N", help="another seed makes another world (default: 0)")


def _add_frauds(parser: argparse.ArgumentParser) -> None:
    frauds = parser.add_argument_group("fraud and labels")
    frauds.add_argument(
        "--prevalence",
        type=float,
        metavar="SHARE",
        help="share of fraud, such as 0.00001 to 0.05 (default: 0.008)",
    )
    frauds.add_argument(
        "--pattern-change-day", type=int, metavar="DAY",
        help="from this day on, counted from 0, fraudsters use other kinds, merchants and amounts (default: never)",
    )  # fmt: skip
    frauds.add_argument(
        "--label-delay-days", type=at_least(0), metavar="DAYS",
        help="mean time from a transaction to its chargeback; customers report in an eighth of it (default: 14)",
    )  # fmt: skip
    frauds.add_argument(
        "--legit-labels", type=float, default=0.0, metavar="SHARE",
        help="share of the legitimate transactions that get a label; the others get none (default: 0)",
    )  # fmt: skip


def simulate(args: argparse.Namespace) -> int:
    """Make up traffic, and write it or send it."""
    if args.to_kafka == (args.file is not None):
        raise SettingsError("simulate: name either a file to write, such as traffic.parquet, or --to-kafka")
    return _to_kafka(args) if args.to_kafka else _to_file(args)


def _to_file(args: argparse.Namespace) -> int:
    from worker.settings.fields import LabelFields
    from worker.settings.loading import load_settings_if_any
    from worker.simulation import FIELDS, Simulation
    from worker.simulation.files import holds_truth, require_data_file, write_labels, write_transactions
    from worker.simulation.naming import Naming

    log_for_a_person()
    if args.rate is not None or args.speed is not None:
        raise SettingsError("--rate and --speed are for --to-kafka: leave them out for a file")
    require_data_file(args.file)
    labels = args.labels
    if labels is None and not holds_truth(args.file):
        labels = _beside(args.file)
    if labels is not None:
        require_data_file(labels, lines_only=True)
        if labels.resolve() == args.file.resolve():
            raise SettingsError(f"--labels = {labels}: the transactions go there: name another file")
    if not args.force:
        _refuse_to_overwrite([args.file] + ([] if labels is None else [labels]))
    settings = load_settings_if_any(args.config)
    naming = Naming.under(FIELDS if settings is None else settings.transaction)
    started_s = time.monotonic()
    simulation = Simulation.of(_traffic(args))
    with progress_bar("simulate") as progress:
        write_transactions(simulation, args.file, naming, progress)
    if labels is not None:
        fields = LabelFields() if settings is None else settings.label
        written = write_labels(simulation, labels, fields)
    seconds = time.monotonic() - started_s
    _print_counts(simulation)
    print(f"{args.file}: {_megabytes(args.file)}, {len(simulation) / seconds:,.0f} transactions/s")
    if labels is not None:
        print(f"{labels}: {written:,} labels")
    _print_naming(naming)
    if not naming.missing:
        _print_backtest(args, settings, None if holds_truth(args.file) else labels)
    return 0


def _refuse_to_overwrite(paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            raise SettingsError(f"{path} exists: name another file, or overwrite it with --force")


def _to_kafka(args: argparse.Namespace) -> int:
    from worker.offline.replay import ReplayOptions, replay
    from worker.simulation import Simulation
    from worker.simulation.naming import Naming

    settings = read_settings(args)
    if args.labels is not None:
        raise SettingsError("--labels is for a file: with --to-kafka, labels go to their topic")
    traffic = _traffic(args, ends_ms=_midnight_ms())
    if traffic.end_ms > time.time_ns() // 1_000_000:
        raise SettingsError(
            f"--start = {datetime.fromtimestamp(traffic.start_ms / 1000, UTC):%Y-%m-%d}: the last of {traffic.days} "
            "days lies in the future, and a worker does not trust it: leave it out, start earlier or lower --days"
        )
    naming = Naming.under(settings.transaction)
    simulation = Simulation.of(traffic)
    _print_naming(naming)
    wait_for_kafka(settings)
    dataset = naming.of(simulation.dataset())
    with progress_bar("simulate") as progress:
        totals = replay(settings, dataset, ReplayOptions(args.rate, args.speed, stamp_now=True), progress)
    _print_counts(simulation)
    print_totals(totals, settings)
    return 0


def _traffic(args: argparse.Namespace, ends_ms: int | None = None) -> Traffic:
    """Return the traffic that the arguments describe; what they leave out keeps the default of `Traffic`."""
    from dataclasses import fields, replace

    from worker.simulation import Traffic

    names = {field.name for field in fields(Traffic)}
    given = {name: value for name, value in vars(args).items() if name in names and value is not None}
    traffic = Traffic(**given)
    if args.start is not None:
        return replace(traffic, start_ms=args.start)
    return traffic if ends_ms is None else replace(traffic, start_ms=ends_ms - traffic.days * MS_PER_DAY)


def _midnight_ms() -> int:
    return time.time_ns() // 1_000_000 // MS_PER_DAY * MS_PER_DAY


def _beside(path: Path) -> Path:
    """Return the default file of the labels: `a.labels.jsonl` for `a.jsonl`."""
    name, dot, endings = path.name.partition(".")
    return path.with_name(f"{name}.labels{dot}{endings}")


def _print_counts(simulation: Simulation) -> None:
    from worker.simulation import FraudKind

    counts = simulation.counts()
    honest = counts.pop(FraudKind.NONE)
    frauds = len(simulation) - honest
    traffic = simulation.traffic
    print(f"{len(simulation):,} transactions of {traffic.cards:,} cards in {traffic.days} days")
    print(f"{frauds:,} frauds, prevalence {100 * frauds / len(simulation):.3g} %")
    for kind, number in counts.items():
        print(f"  {kind.name.lower():<22}{number:>10,}")


def _print_naming(naming: Naming) -> None:
    """Print how the fields of the settings differ from those that are simulated."""
    for name in naming.missing:
        print(
            f"[transaction] declares {name!r}, which is not simulated: left out. To run `backtest` on a simulated "
            "file, take it out of a copy of the settings",
            file=sys.stderr,
        )
    renamed = {ours: theirs for ours, theirs in naming.names.items() if ours != theirs}
    for ours, theirs in renamed.items():
        print(f"{ours} is written as {theirs!r}", file=sys.stderr)
    if naming.undeclared:
        print(
            f"[transaction] does not declare {', '.join(naming.undeclared)}: a worker ignores what it does not declare",
            file=sys.stderr,
        )


def _print_backtest(args: argparse.Namespace, settings: Settings | None, labels: Path | None) -> None:
    """Print the command that judges a worker on the file, and settings for it if there are none yet."""
    from worker.simulation import FIELDS

    config = _unused_name() if settings is None else args.config
    print("\nTo judge a worker on it:\n")
    if settings is None:
        print(f"cat > {config} <<END")
        print('entity_key = "$(openssl rand -hex 16)"\n\n[transaction]')
        for name in ("entities", "categorical", "numeric"):
            quoted = ", ".join(f'"{field}"' for field in getattr(FIELDS, name))
            print(f"{name} = [{quoted}]")
        print("END")
    option = "" if config is None else f" --config {shlex.quote(str(config))}"
    truth = "--fraud-column is_fraud --label-time-column label_time"
    if labels is not None:
        truth = f"--labels {shlex.quote(str(labels))}"
    print(f"fraud-worker backtest {shlex.quote(str(args.file))}{option} {truth}")


def _unused_name() -> str:
    """Return a name for a settings file that does not exist here: what is printed may be pasted."""
    names = ("simulated.toml", *(f"simulated-{number}.toml" for number in range(2, 1_000)))
    return next((name for name in names if not Path(name).exists()), "simulated-1000.toml")


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:,.1f} MB"
