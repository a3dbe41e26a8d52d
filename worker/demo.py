"""`fraud-worker demo`: a real Kafka, a real worker, a small stream with late labels, and what came of it."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from kafka import KafkaConsumer
from kafka.structs import TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from worker import topics
from worker.app import Worker
from worker.broker import EmbeddedKafka
from worker.client import consumer_config
from worker.dataset import Dataset
from worker.errors import WorkerError
from worker.replay import replay
from worker.schema import Alert
from worker.settings import Settings
from worker.simulation import FIELDS, Traffic, simulate

PARTITIONS: Final = 4
TRAFFIC: Final = Traffic(
    cards=3_000, merchants=1_500, days=40, per_card_day=1.5, prevalence=0.01, seed=7, label_delay_days=3.0
)
_SHOWN_PER_DECIDER: Final = 3
_PATIENCE_S: Final = 300.0
_LOOK_EVERY_MS: Final = 500

Samples = dict[str, float]
Say = Callable[[str], None]


def run_demo(bootstrap: str | None = None, say: Say = print) -> int:
    """Run the demo and return the exit code.

    Parameters
    ----------
    bootstrap
        A Kafka to use; None starts one and stops it again.
    say
        Prints a line.

    Raises
    ------
    WorkerError
        Kafka or the worker could not be started.
    """
    with (
        tempfile.TemporaryDirectory(prefix="fraud-worker-demo-") as folder,
        _kafka(bootstrap, say) as address,
    ):
        settings = _settings(address, Path(folder))
        topics.create(settings, PARTITIONS, 1)
        dataset = simulate(TRAFFIC)
        say(f"Stream: {len(dataset):,} transactions of {TRAFFIC.days} days; each label comes 3 days late.")
        worker = Worker(settings)
        with (
            _Background("worker", worker.run, worker.stop) as serving,
            _Background("replay", lambda: replay(settings, dataset)) as feeding,
        ):
            samples = _watch(settings, worker, dataset, (serving, feeding), say)
        _summary(samples, say)
    return 0


@contextmanager
def _kafka(bootstrap: str | None, say: Say) -> Iterator[str]:
    if bootstrap is not None:
        say(f"Kafka: using the one at {bootstrap}")
        yield bootstrap
        return
    say("Kafka: starting a real one (the first time, Maven fetches it)")
    with EmbeddedKafka() as broker:
        say(f"Kafka: answers at {broker.bootstrap}")
        yield broker.bootstrap


def _settings(bootstrap: str, folder: Path) -> Settings:
    run = f"demo-{secrets.token_hex(4)}"
    names = ("transactions", "labels", "alerts", "decisions", "model_log", "dead_letters")
    return Settings.model_validate(
        {
            "entity_key": secrets.token_hex(16),
            "worker": {"id": run, "state_dir": folder},
            "kafka": {"bootstrap": bootstrap, "group": run, "start_from": "earliest"},
            "topics": {name: f"{run}.{name}" for name in names},
            "transaction": FIELDS.model_dump(),
            "costs": {"alert_budget_cases_per_day": 40},
            "health": {"port": 0},
        }
    )


class _Background:
    """Runs a call in a thread for the length of a `with`, and hands its failure to whoever looks."""

    def __init__(
        self, name: str, call: Callable[[], object], stop: Callable[[], None] = lambda: None
    ) -> None:
        self._call, self._stop = call, stop
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._failure: Exception | None = None

    def __enter__(self) -> _Background:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stop()
        self._thread.join()

    def check(self) -> None:
        """Raise what ended the thread, if anything did."""
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            self._call()
        except Exception as error:  # noqa: BLE001 - raised again by `check`
            self._failure = error


def _watch(
    settings: Settings, worker: Worker, dataset: Dataset, threads: tuple[_Background, ...], say: Say
) -> Samples:
    """Show alerts and progress until every transaction is decided; the last look at /metrics."""
    consumer = KafkaConsumer(**consumer_config(settings, group=False) | {"auto_offset_reset": "earliest"})
    consumer.assign([TopicPartition(settings.topics.alerts, partition) for partition in range(PARTITIONS)])
    shown = dict.fromkeys(("forest", "online"), 0)
    deadline_s, tenths = time.monotonic() + _PATIENCE_S, 0
    try:
        while True:
            for thread in threads:
                thread.check()
            for records in consumer.poll(timeout_ms=_LOOK_EVERY_MS).values():
                for record in records:
                    _show(Alert.model_validate_json(record.value, strict=False), shown, say)
            samples = _look(worker)
            decided = _total(samples, "fraud_worker_decisions_total")
            if decided * 10 >= (tenths + 1) * len(dataset):
                tenths = int(decided * 10 / len(dataset))
                say(_progress(samples, decided, len(dataset)))
            if decided >= len(dataset):
                return samples
            if time.monotonic() > deadline_s:
                raise WorkerError(
                    f"the demo decided {decided:.0f} of {len(dataset)} in {_PATIENCE_S:.0f} s; stopped"
                )
    finally:
        consumer.close()


def _show(alert: Alert, shown: dict[str, int], say: Say) -> None:
    shown[alert.decided_by] += 1
    if shown[alert.decided_by] > _SHOWN_PER_DECIDER:
        return
    score = (
        f"probability {alert.probability:.2f}, expected loss {alert.expected_loss:.2f}"
        if alert.decided_by == "online"
        else f"anomaly score {alert.forest_score:.2f}, rank {alert.forest_rank:.1f}"
    )
    say(
        f"Alert {alert.alert_id[:8]} by {alert.decided_by}: {alert.amount:.2f}, {score}, "
        f"threshold {alert.threshold:.2f}"
    )
    for reason in alert.reasons[:3]:
        value = "missing" if reason.value is None else f"{reason.value:.4g}"
        say(f"    {reason.contribution:+.3f}  {reason.text} = {value}")


def _progress(samples: Samples, decided: float, total: int) -> str:
    by = {name: _total(samples, "fraud_worker_decisions_total", f'decided_by="{name}"') for name in _DECIDERS}
    shares = ", ".join(f"{name} {count / max(decided, 1):.0%}" for name, count in by.items())
    alerts = _total(samples, "fraud_worker_alerts_total")
    return f"{decided / total:4.0%} decided ({shares}); {alerts:.0f} alerts"


_DECIDERS: Final = ("none", "forest", "online")


def _look(worker: Worker) -> Samples:
    """All samples of the worker's own /metrics, as Prometheus would scrape them."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{worker.health_port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return {}
    families = text_string_to_metric_families(text)
    return {
        _key(sample.name, sample.labels): sample.value for family in families for sample in family.samples
    }


def _key(name: str, labels: dict[str, str]) -> str:
    pairs = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{pairs}}}"


def _total(samples: Samples, name: str, label: str = "") -> float:
    return sum(value for key, value in samples.items() if key.startswith(name + "{") and label in key)


def _summary(samples: Samples, say: Say) -> None:
    def cohort(figure: str) -> float:
        return samples[f'fraud_worker_cohort_{figure}{{window="30d"}}']

    say("")
    say("Of the newest 30 days that are wholly settled:")
    say(f"  {cohort('decisions'):,.0f} transactions, {cohort('frauds'):.0f} frauds")
    say(f"  prevalence {cohort('prevalence'):.2%}, label coverage {cohort('label_coverage'):.0%}")
    say(f"  recall {cohort('recall'):.2f} by number, {cohort('recall_by_value'):.2f} by value")
    say(f"  precision {cohort('precision'):.2f}, F1 {cohort('f1'):.2f}")
    say(f"  cost {cohort('cost'):,.0f}; alerting on nothing would have cost {cohort('cost_none'):,.0f},")
    say(f"  reviewing everything {cohort('cost_all'):,.0f}: savings {cohort('savings'):.0%}")
    passing = 1.0 - cohort("prevalence")
    say(f"A worker that never alerts would be right {passing:.1%} of the time and catch nothing,")
    say("which is why accuracy is not among these figures.")
