"""`python -m tests.tools.quality`: the quality table, and the baselines that it is judged by."""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from tests.support.repository import ROOT
from tests.tools.quality import ablation, first_weeks, recorded, registry, table, weekdays
from tests.tools.quality.baselines import make_baselines, make_recorded_named
from tests.tools.quality.cache import CACHE_VARIABLE
from tests.tools.quality.families import FAMILIES, LIGHTGBM, Family
from tests.tools.quality.measure import Measured, measure_named
from tests.tools.quality.progress import say
from tests.tools.quality.streams import AbsentError, Stream


def main(arguments: list[str] | None = None) -> int:
    """Run a command; the exit code is 0 even where rows do not pass."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.smoke:
        _smoke(args.out)
    else:
        _run(args, _changes(parser, args.set))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.tools.quality", description=__doc__)
    parser.add_argument(
        "command",
        nargs="?",
        choices=["table", "baselines", "list", "record", "weekdays", "ablation", "first-weeks"],
        default="table",
        help="default: table; record keeps the bars of quality.json in the repository; weekdays shows what a bar owes"
        " to the day of its refits, ablation what each part of the worker adds, first-weeks what the worker does while"
        " a stream is young",
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="PART", help="streams whose name contains it"
    )
    parser.add_argument(
        "--family",
        action="append",
        default=[],
        choices=[it.name for it in FAMILIES],
        help="baselines to make",
    )
    parser.add_argument(
        "--part",
        action="append",
        default=[],
        choices=[*ablation.PARTS],
        help="ablation: what to leave out (default: each in turn)",
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)"
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "build", help="folder of quality.json and quality.md"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.NAME=JSON",
        help='another setting of the worker, on all streams: what a part adds, such as model.challenger="off"',
    )
    parser.add_argument(
        "--all-seeds", action="store_true", help="also those seeds of which the repository keeps no bar"
    )
    parser.add_argument(
        "--kept",
        action="store_true",
        help="baselines: those that the repository keeps, or each --family, and keep their figures and days in it",
    )
    parser.add_argument("--smoke", action="store_true", help="one small stream and one setting, in seconds")
    return parser


def _run(args: argparse.Namespace, changes: Mapping[str, Mapping[str, Any]]) -> None:
    streams = registry.chosen(args.only)
    seeds = {it.name: it.seeds if args.all_seeds else recorded.seeds_with_bars(it) for it in streams}
    match args.command:
        case "list":
            for stream in streams:
                print(f"{stream.name}: {stream.about}")
        case "record":
            recorded.record(args.out)
        case "weekdays":
            _weekdays(streams)
        case "ablation":
            _ablation(streams, args.part or [*ablation.PARTS], args.jobs, args.out)
        case "first-weeks":
            _first_weeks(streams, args.jobs, args.out, changes)
        case "baselines":
            families = _installed([it for it in FAMILIES if not args.family or it.name in args.family])
            if args.kept:
                names = [it.name for it in families]
                _kept_baselines(streams, names, args.jobs, others=bool(args.family))
            else:
                _baselines(streams, seeds, families)
        case _:
            _table(streams, seeds, args.jobs, args.out, changes)


def _changes(parser: argparse.ArgumentParser, given: list[str]) -> dict[str, dict[str, Any]]:
    """Return the settings that are given, by section."""
    found: dict[str, dict[str, Any]] = {}
    for one in given:
        name, equals, value = one.partition("=")
        section, dot, setting = name.partition(".")
        if not equals or not dot:
            parser.error(f"--set {one}: not of the form section.name=value")
        try:
            found.setdefault(section, {})[setting] = json.loads(value)
        except ValueError:
            parser.error(f"--set {one}: {value!r} is not JSON")
    return found


def _installed(families: list[Family]) -> list[Family]:
    """Return those families whose modules are there, and name the others."""
    for family in (it for it in families if not it.is_installed):
        say(f"{family.name} is left out: pip install {family.needs[1]}")
    return [it for it in families if it.is_installed]


def _baselines(streams: list[Stream], seeds: Mapping[str, Sequence[int]], families: list[Family]) -> None:
    """Make what the cache lacks, one family after the other: the first ones matter most."""
    # What matters most is made first: the families in their order, the first seeds of all streams before the second.
    for family in families:
        for at in range(max(len(it) for it in seeds.values())):
            for stream in (it for it in streams if at < len(seeds[it.name])):
                try:
                    make_baselines(stream, seeds[stream.name][at], [family], say)
                except AbsentError as error:
                    say(f"{stream.name} is left out: {error}")


def _kept_baselines(streams: list[Stream], families: list[str], jobs: int, *, others: bool) -> None:
    """Make baselines for the repository, and keep them in it."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(jobs, 1), mp_context=context, max_tasks_per_child=1) as pool:
        running = {
            stream.name: [
                pool.submit(make_recorded_named, stream.name, seed, families, others)
                for seed in recorded.seeds_with_bars(stream)
            ]
            for stream in streams
        }
        for name, jobs_of_seeds in running.items():
            try:
                found = [it.result() for it in jobs_of_seeds]
            except AbsentError as error:
                say(f"{name} is left out: {error}")
                continue
            for row in dict.fromkeys(it.row for it in found[0]):
                for line in recorded.keep(row, [[it for it in seed if it.row == row] for seed in found]):
                    say(line)


def _weekdays(streams: list[Stream]) -> None:
    for stream in streams:
        try:
            for row in weekdays.of_stream(stream, stream.seeds[0]):
                say(str(row))
        except AbsentError as error:
            say(f"{stream.name} is left out: {error}")


def _ablation(streams: list[Stream], parts: list[str], jobs: int, out: Path) -> None:
    """Run the worker whole and without each part, and write ablation.md."""
    context, found = multiprocessing.get_context("spawn"), []
    with ProcessPoolExecutor(max(jobs, 1), mp_context=context, max_tasks_per_child=1) as pool:
        running = {
            stream.name: [
                pool.submit(ablation.judged_without_named, stream.name, part)
                for part in (ablation.WHOLE, *parts)
            ]
            for stream in streams
        }
        for stream in streams:
            try:
                whole, *others = (it.result() for it in running[stream.name])
            except AbsentError as error:
                say(f"{stream.name} is left out: {error}")
                continue
            for part, without in zip(parts, others, strict=True):
                for one in ablation.added(stream, whole, without, part):
                    found.append(one)
                    say(str(one))
            out.mkdir(parents=True, exist_ok=True)
            (out / "ablation.md").write_text(ablation.markdown(found), encoding="utf-8")


def _first_weeks(
    streams: list[Stream], jobs: int, out: Path, changes: Mapping[str, Mapping[str, Any]]
) -> None:
    """Run the worker on the first weeks of each stream, and write first-weeks.md."""
    context, found = multiprocessing.get_context("spawn"), []
    with ProcessPoolExecutor(max(jobs, 1), mp_context=context, max_tasks_per_child=1) as pool:
        running = {it.name: pool.submit(first_weeks.young_weeks_of_named, it.name, changes) for it in streams}
        for name, job in running.items():
            try:
                found += job.result()
            except AbsentError as error:
                say(f"{name} is left out: {error}")
                continue
            say(f"{name}: average precision {', '.join(f'{it.ap:.3f}' for it in found if it.stream == name)}")
    out.mkdir(parents=True, exist_ok=True)
    (out / "first-weeks.md").write_text(first_weeks.markdown(found), encoding="utf-8")


def _table(
    streams: list[Stream],
    seeds: Mapping[str, Sequence[int]],
    jobs: int,
    out: Path,
    changes: Mapping[str, Mapping[str, Any]],
) -> list[table.Row]:
    started = time.perf_counter()
    measured: dict[str, list[Measured]] = {}
    skipped: list[tuple[str, str]] = []
    context = multiprocessing.get_context("spawn")
    # A process a stream: what one leaves in memory does not add up.
    with ProcessPoolExecutor(max(jobs, 1), mp_context=context, max_tasks_per_child=1) as pool:
        # The shortest are the first of the registry. Begun last, they leave no processor idle for long.
        running = {
            it.name: [pool.submit(measure_named, it.name, seed, changes) for seed in seeds[it.name]]
            for it in reversed(streams)
        }
        named = {job: name for name, jobs in running.items() for job in jobs}
        for job in as_completed(named):
            _say_finished(named[job], job)
        for stream in streams:
            try:
                measured[stream.name] = [it.result() for it in running[stream.name]]
            except AbsentError as error:
                skipped.append((stream.name, str(error)))
                say(f"{stream.name} is left out: {error}")
    rows = []
    bars, days = recorded.read_recorded(), recorded.read_recorded_days()
    for stream in streams:
        for at, window in enumerate(stream.windows if stream.name in measured else ()):
            name = stream.row_name(window)
            of_seeds = [it.windows[at] for it in measured[stream.name]]
            row = table.judge(stream, window, of_seeds, bars.get(name), days.get(name, ()))
            rows.append(row)
            if row.bar is None:
                skipped.append((row.name, "no baseline in the cache: make quality-baselines"))
        if any(it.features_changed for it in measured.get(stream.name, [])):
            say(
                f"{stream.name}: the features differ from the frozen ones: make quality-baselines judges both"
            )
    out.mkdir(parents=True, exist_ok=True)
    table.write(out, rows, measured, skipped, time.perf_counter() - started)
    for row in rows:
        say(_summary(row))
    return rows


def _say_finished(name: str, job: Future[Measured]) -> None:
    if isinstance(job.exception(), AbsentError):
        return
    found = job.result()
    kept = ", kept from before" if found.is_kept else ""
    say(f"{name}, seed {found.seed}: {found.rows:,} rows in {found.seconds:.0f} s{kept}")


def _summary(row: table.Row) -> str:
    if row.bar is None or math.isnan(row.baseline):
        return f"{row.name}: worker {row.worker:.3f}, no baseline"
    low, high = row.interval.low, row.interval.high
    verdict = "passes" if row.passes else "does not pass"
    return f"{row.name}: worker {row.worker:.3f}, {row.bar} {row.baseline:.3f} [{low:+.3f}, {high:+.3f}] {verdict}"


def _smoke(out: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="fraud-worker-quality-") as folder:
        os.environ[CACHE_VARIABLE] = folder
        make_baselines(registry.SMOKE, 0, [LIGHTGBM], say)
        _table([registry.SMOKE], {registry.SMOKE.name: registry.SMOKE.seeds}, 1, out, {})


if __name__ == "__main__":
    sys.exit(main())
