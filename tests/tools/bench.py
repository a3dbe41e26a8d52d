"""The benchmark: `make bench`. It writes build/bench.json and prints the measures as a table.

A process of its own measures each rate, over the same topics of one real Kafka. The processes take turns for several
rounds, and the ratios are of medians. Machines are noisy: read the ratios. A stream of less than `TRIAL_BELOW`
transactions shows only that the benchmark works; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

PARTITIONS = 4
POLL_RECORDS = 5_000
FETCH_BYTES = 8 << 20
ENTITY_KEY = "000102030405060708090a0b0c0d0e0f"
DECIDED_WITHIN_S = 300
PROCESS_WITHIN_S = 600
TRIAL_BELOW = 100_000


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much the measures that have their own stream take.

    Attributes
    ----------
    model_rows
        Rows that the domain alone scores and learns.
    backtest_cards
        Cards of the backtest's month.
    history_cards
        Cards of the days before the load under which latency is measured; too few teach the online model nothing.
    settle_s
        First part of the load, in which queues fill and nothing is measured.
    load_s
        The rest of the load.
    """

    model_rows: int
    backtest_cards: int
    history_cards: int
    settle_s: float
    load_s: float


FULL = Sizes(model_rows=100_000, backtest_cards=5_000, history_cards=20_000, settle_s=10.0, load_s=30.0)
TRIAL = Sizes(model_rows=5_000, backtest_cards=60, history_cards=2_000, settle_s=2.0, load_s=3.0)


@dataclass(frozen=True, slots=True)
class Measure:
    """One line of the table.

    Attributes
    ----------
    name, value, unit
        What was measured.
    goal
        What the value should reach; None where the line only informs.
    """

    name: str
    value: float
    unit: str
    goal: float | None = None


def main() -> None:
    """Run the whole benchmark, or one of its processes."""
    parser = argparse.ArgumentParser(prog="python -m tests.tools.bench")
    parser.add_argument("--transactions", type=int, default=800_000, help="in the stream (800000)")
    parser.add_argument(
        "--rounds", type=int, default=3, help="of all processes; more give steadier medians (3)"
    )
    parser.add_argument(
        "--latency", type=int, metavar="RATE", help="measure latency alone, at RATE transactions/s"
    )
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"), help="(build/bench.json)")
    parser.add_argument("--process", choices=sorted(_PROCESSES), help=argparse.SUPPRESS)
    parser.add_argument("--trial", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--settings", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.process:
        sizes = TRIAL if given.trial else FULL
        print(json.dumps(_PROCESSES[given.process](json.loads(given.settings), given.transactions, sizes)))
        return
    if given.latency:
        print(json.dumps(latency_alone(given.latency)))
        return
    measures = run(given.transactions, given.rounds)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({"measures": [asdict(measure) for measure in measures]}, indent=2) + "\n")
    show(measures)
    if unknown := [measure.name for measure in measures if not math.isfinite(measure.value)]:
        raise SystemExit(f"not measured: {', '.join(unknown)}")


def run(transactions: int, rounds: int) -> list[Measure]:
    """Start Kafka, fill the topics and measure."""
    from worker.broker.embedded import EmbeddedKafka  # noqa: PLC0415 - the measured processes need not pay for it

    console = Console(stderr=True)
    trial = transactions < TRIAL_BELOW
    with EmbeddedKafka() as broker, tempfile.TemporaryDirectory() as folder:
        settings = _settings(broker.bootstrap, folder)
        with console.status("filling the topics"):
            count = _fill(settings, transactions)
        figures: dict[str, list[dict[str, float]]] = {name: [] for name in _IN_TURN}
        if not trial:
            _process("worker", _renamed(settings, "warm-up"), count, trial)  # compiles and caches the loops
        for index in range(rounds):
            for name in _IN_TURN:
                console.print(f"round {index + 1} of {rounds}: {name}")
                figures[name].append(_process(name, _renamed(settings, f"{name}-{index}"), count, trial))
        half = int(_median(figures["worker"], "per_second") / 2)
        console.print(f"latency at {half:,} transactions/s")
        figures["latency"] = [_process("latency", settings, half, trial)]
    return _measures(figures)


def latency_alone(rate: int) -> dict[str, float]:
    """Measure latency at one rate over a Kafka of its own."""
    from worker.broker.embedded import EmbeddedKafka  # noqa: PLC0415

    with EmbeddedKafka() as broker, tempfile.TemporaryDirectory() as folder:
        return _process("latency", _settings(broker.bootstrap, folder), rate, trial=False)


def show(measures: list[Measure]) -> None:
    """Print the table."""
    table = Table("measure", "value", "unit", "goal")
    for measure in measures:
        goal = "" if measure.goal is None else f"{measure.goal:g}"
        table.add_row(measure.name, f"{measure.value:,.3f}".rstrip("0").rstrip("."), measure.unit, goal)
    Console().print(table)


def _settings(bootstrap: str, folder: str) -> dict[str, Any]:
    """Return settings under which chargebacks are the only labels, and silence means legit within the stream."""
    return {
        "entity_key": ENTITY_KEY,
        "worker": {"state_dir": folder},
        "kafka": {"bootstrap": bootstrap, "start_from": "earliest"},
        "labels": {"negatives_after_days": 0.1, "horizon_days": 0.5, "max_silence_days": 1.0},
        "health": {"port": 0},
    }


def _renamed(settings: dict[str, Any], run: str) -> dict[str, Any]:
    """Return settings that read the same input under another group and write other outputs."""
    outputs = {name: f"bench.{run}.{name}" for name in ("alerts", "decisions", "model_log", "dead_letters")}
    return settings | {"kafka": settings["kafka"] | {"group": f"bench-{run}"}, "topics": outputs}


def _fill(values: dict[str, Any], transactions: int) -> int:
    from worker.kafka_io.topic_setup import create  # noqa: PLC0415
    from worker.offline.replay import ReplayOptions, replay  # noqa: PLC0415
    from worker.settings.sections import Settings  # noqa: PLC0415
    from worker.simulation import Traffic, simulate  # noqa: PLC0415

    traffic = Traffic(
        cards=transactions // 4,
        merchants=10_000,
        days=1,
        per_card_day=4.0,
        prevalence=0.01,
        label_delay_days=0.1,
    )
    dataset = simulate(traffic)
    settings = Settings(**values)
    create(settings, PARTITIONS, 1)
    replay(settings, dataset, ReplayOptions(frauds_only=True))
    return len(dataset)


def _process(name: str, settings: dict[str, Any], number: int, trial: bool) -> dict[str, float]:
    command = [
        sys.executable,
        "-m",
        "tests.tools.bench",
        "--process",
        name,
        "--transactions",
        str(number),
        *(["--trial"] if trial else []),
        "--settings",
        json.dumps(settings),
    ]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=PROCESS_WITHIN_S)
    answer: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _poll_loop(values: dict[str, Any], transactions: int, _: Sizes) -> dict[str, float]:
    """Read with a bare loop over kafka-python's own consumer that touches each value."""
    from kafka import KafkaConsumer, TopicPartition  # noqa: PLC0415

    consumer = KafkaConsumer(
        bootstrap_servers=values["kafka"]["bootstrap"],
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_poll_records=POLL_RECORDS,
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    consumer.assign([TopicPartition("fraud.transactions.v1", partition) for partition in range(PARTITIONS)])
    seen, started_s, size = 0, 0.0, 0
    while seen < transactions:
        polled = consumer.poll(timeout_ms=1000)
        started_s = started_s or time.perf_counter()
        for records in polled.values():
            seen += len(records)
            for record in records:
                size += len(record.value)
    seconds = time.perf_counter() - started_s
    consumer.close()
    return {"per_second": seen / seconds, "bytes": size}


def _confluent_loop(values: dict[str, Any], transactions: int, _: Sizes) -> dict[str, float]:
    """Read the same with confluent-kafka."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition  # noqa: PLC0415

    consumer = Consumer(
        {
            "bootstrap.servers": values["kafka"]["bootstrap"],
            "group.id": "bench-confluent",
            "enable.auto.commit": False,
            "max.partition.fetch.bytes": FETCH_BYTES,
        }
    )
    consumer.assign([TopicPartition("fraud.transactions.v1", p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
    seen, started_s, size = 0, 0.0, 0
    while seen < transactions:
        messages = consumer.consume(POLL_RECORDS, timeout=1.0)
        started_s = started_s or time.perf_counter()
        seen += len(messages)
        for message in messages:
            size += len(message.value() or b"")
    seconds = time.perf_counter() - started_s
    consumer.close()
    return {"per_second": seen / seconds, "bytes": size}


def _worker(values: dict[str, Any], transactions: int, _: Sizes) -> dict[str, float]:
    """Run a whole worker, from its start until it has decided and committed every transaction."""
    launched_s = time.perf_counter()
    from worker.cycle.contracts import Outcome, StepTimes  # noqa: PLC0415
    from worker.kafka_io.topic_setup import create  # noqa: PLC0415
    from worker.live.app import Worker  # noqa: PLC0415
    from worker.live.observer import MetricsObserver  # noqa: PLC0415
    from worker.memory import keep_freed_memory  # noqa: PLC0415
    from worker.settings.sections import Settings  # noqa: PLC0415

    settings = Settings(**values)
    create(settings, PARTITIONS, 1)
    keep_freed_memory()
    worker = Worker(settings)
    cycles: list[tuple[float, int, StepTimes]] = []
    own_mib: list[float] = []
    real_observe = MetricsObserver.observe

    def observe(self: MetricsObserver, outcomes: list[Outcome], times: StepTimes) -> None:
        real_observe(self, outcomes, times)
        decided = sum(len(one.decided.rows) for one in outcomes if one.decided is not None)
        if decided:
            cycles.append((time.perf_counter(), decided, times))
        if sum(count for _, count, _ in cycles) >= transactions:
            own_mib.append(_own_memory_mib())
            worker.stop()

    MetricsObserver.observe = observe  # type: ignore[method-assign]
    guard = threading.Timer(DECIDED_WITHIN_S, worker.stop)
    guard.daemon = True
    guard.start()
    worker.run()
    decided = sum(count for _, count, _ in cycles)
    if decided < transactions:
        raise SystemExit(f"{decided:,} of {transactions:,} transactions decided in {DECIDED_WITHIN_S} s")
    first_s, last_s = cycles[0][0], cycles[-1][0]
    # The clock starts when the first batch is committed: its transactions are not counted.
    counted = sum(count for _, count, _ in cycles[1:])
    steps = {
        name: sum(getattr(times, name) for _, _, times in cycles[1:]) / counted * 1e6
        for name in ("poll_s", "decide_s", "commit_s", "fold_s")
    }
    return {
        "per_second": counted / (last_s - first_s),
        "start_s": first_s - launched_s,
        "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "own_mb": own_mib[-1],
        "commits": len(cycles),
        **{name.replace("_s", "_us"): value for name, value in steps.items()},
    }


def _worker_off(values: dict[str, Any], transactions: int, sizes: Sizes) -> dict[str, float]:
    """Run it likewise without a challenger: what trees cost is what it takes less."""
    return _worker(values | {"model": {"challenger": "off"}}, transactions, sizes)


def _own_memory_mib() -> float:
    """Return the resident memory that is no file's, in MiB; outside Linux, the most that was ever resident."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.is_file() else []
    found = [int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon:")]
    return found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _models(values: dict[str, Any], _: int, sizes: Sizes) -> dict[str, float]:
    from tests.tools.bench_models import models  # noqa: PLC0415

    return models(values, sizes.model_rows, sizes.backtest_cards)


def _latency(values: dict[str, Any], rate: int, sizes: Sizes) -> dict[str, float]:
    from tests.tools.bench_latency import Load, latency  # noqa: PLC0415

    return latency(values, Load(rate, sizes.history_cards, sizes.settle_s, sizes.load_s))


_IN_TURN: dict[str, Callable[[dict[str, Any], int, Sizes], dict[str, float]]] = {
    "poll": _poll_loop,
    "confluent": _confluent_loop,
    "worker": _worker,
    "worker_off": _worker_off,
    "models": _models,
}
_PROCESSES = _IN_TURN | {"latency": _latency}


def _median(rounds: list[dict[str, float]], figure: str) -> float:
    return statistics.median(round_[figure] for round_ in rounds)


def _measures(figures: dict[str, list[dict[str, float]]]) -> list[Measure]:
    def median(process: str, figure: str) -> float:
        return _median(figures[process], figure)

    worker, without = median("worker", "per_second"), median("worker_off", "per_second")
    measures = [
        Measure("end_to_end", worker, "transactions/s"),
        Measure("poll_loop", median("poll", "per_second"), "records/s"),
        Measure("confluent_loop", median("confluent", "per_second"), "records/s"),
        Measure("end_to_end_vs_poll", worker / median("poll", "per_second"), "ratio", 0.75),
        Measure("end_to_end_vs_confluent", worker / median("confluent", "per_second"), "ratio"),
        Measure("end_to_end_challenger_off", without, "transactions/s"),
        Measure("end_to_end_vs_challenger_off", worker / without, "ratio"),
    ]
    for step in ("poll", "decide", "commit", "fold"):
        measures.append(Measure(f"step_{step}", median("worker", f"{step}_us"), "us/transaction"))
    return [
        *measures,
        Measure("start_to_first_commit", median("worker", "start_s"), "s"),
        Measure("worker_memory", median("worker", "rss_mb"), "MiB"),
        Measure("worker_memory_own", median("worker", "own_mb"), "MiB"),
        Measure("latency_offered_load", median("latency", "sent_per_second"), "transactions/s"),
        Measure("latency_alerted_share", median("latency", "alerted_share"), "of transactions"),
        Measure("latency_p50", median("latency", "p50_ms"), "ms"),
        Measure("latency_p99", median("latency", "p99_ms"), "ms", 100.0),
        Measure("score", median("models", "score_us"), "us/transaction", 3.0),
        Measure("learn", median("models", "learn_us"), "us/example", 5.0),
        Measure("score_24", median("models", "score_24_us"), "us/transaction", 3.0),
        Measure("learn_24", median("models", "learn_24_us"), "us/example", 5.0),
        Measure("trees_score", median("models", "trees_score_us"), "us/transaction"),
        Measure("trees_score_smallest", median("models", "trees_score_smallest_us"), "us/transaction"),
        Measure("trees_score_largest", median("models", "trees_score_largest_us"), "us/transaction"),
        Measure("trees_score_differences", median("models", "trees_score_differences_us"), "us/transaction"),
        Measure("slopes_score", median("models", "slopes_score_us"), "us/transaction"),
        Measure("trees_fit", median("models", "trees_fit_s"), "s"),
        Measure("trees_fit_vs_scikit_learn", median("models", "trees_fit_speedup"), "ratio"),
        Measure("backtest", median("models", "backtest_per_second"), "transactions/s", 50_000),
    ]


if __name__ == "__main__":
    os.environ.setdefault("PROMETHEUS_DISABLE_CREATED_SERIES", "true")
    main()
