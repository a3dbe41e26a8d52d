"""A task restored from the journal equals the one that wrote it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.vocabulary import MS_PER_DAY
from tests.support.site import Site
from tests.support.traffic import InputRecord, alike, records_of, small_traffic
from tests.support.waiting import DECIDE_S, START_S, STOP_S
from worker.identity import Hasher
from worker.kafka_io.client import consumer_config
from worker.live.app import Worker
from worker.live.restore import Restorer
from worker.parameters import feature_spec, task_limits
from worker.partition.journal import Positions
from worker.partition.task import PartitionTask

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration


@contextmanager
def running(site: Site, **sections: Any) -> Iterator[Worker]:
    """Run a worker within this process, so that the test can read its tasks."""
    worker = Worker(site.settings_of("inside", **sections))
    thread = threading.Thread(target=worker.run, name="worker")
    thread.start()
    try:
        yield worker
    finally:
        worker.stop()
        thread.join(STOP_S)
        assert not thread.is_alive(), "the worker does not end"


def test_a_restored_task_equals_the_one_that_decided(kafka: Broker, tmp_path: Path) -> None:
    site = Site(kafka.bootstrap, tmp_path, 2)
    records = records_of(small_traffic(seed=3, days=5, cards=250))
    site.feed(_dated_ahead(records))
    with running(site) as worker:
        site.wait_until_decided(timeout_s=START_S + DECIDE_S)
        site.wait_until_quiet()
        site.wait_until_nothing_is_open()
        settings = site.settings
        restorer = Restorer(
            consumer_config(settings, group=False),
            settings.topics.decisions,
            Hasher(settings.hash_key),
            site.folded().lineage.id,
            lambda: site.folded().offset,
        )
        committed = {tp: at for tp, (at, _) in site.offsets().items()}
        for partition, live in worker._tasks.items():
            restored = PartitionTask(
                partition, feature_spec(settings), task_limits(settings), tmp_path / f"restored-{partition}"
            )
            offsets = [committed[tp] for tp in sorted(committed, reverse=True) if tp.partition == partition]
            restorer.restore(restored, Positions(*offsets), partitions=2)
            _assert_same(live, restored)
            restored.pending.close()


def _dated_ahead(records: list[InputRecord]) -> list[InputRecord]:
    """Return the records with every fourth of the first hundred labels dated a year ahead, and one transaction."""
    labels = [at for at, record in enumerate(records) if record.topic == "labels"][:100:4]
    changed = list(records)
    for at in labels:
        later_ms = records[at].timestamp_ms + 365 * MS_PER_DAY
        changed[at] = alike(records[at], label_time=later_ms)._replace(timestamp_ms=later_ms)
    middle = next(at for at in range(len(records) // 2, len(records)) if records[at].topic == "transactions")
    later_ms = records[middle].timestamp_ms + 300 * MS_PER_DAY
    changed[middle] = alike(records[middle], event_time=later_ms)._replace(timestamp_ms=later_ms)
    return changed


def _assert_same(live: PartitionTask, restored: PartitionTask) -> None:
    for name in ("clock_ms", "newest_label_ms", "provisional_sequence", "final_sequence", "waiting"):
        assert getattr(restored, name) == getattr(live, name), name
    assert live.final_sequence > 0, "nothing has matured: too little to compare"
    assert len(live.shelf) > 0, "no label was set aside"
    assert (len(restored.shelf), restored.shelf.first_due_ms) == (len(live.shelf), live.shelf.first_due_ms)
    np.testing.assert_array_equal(restored.shelf._kept.offsets, live.shelf._kept.offsets)
    for name, array in live.cards.arrays().items():
        np.testing.assert_array_equal(restored.cards.arrays()[name], array, err_msg=name)
    sequence = live.pending.newest(1 << 30)
    assert len(sequence) == live.pending.next_sequence > 1_000
    names = [
        "offset",
        "event_time_ms",
        "clock_ms",
        "loss",
        "legit_weight",
        "id_hash",
        "id_check",
        "logit",
        "tables_logit",
        "trees_logit",
        "flags",
        "entities",
    ]
    for name in [*names, "features", "status", "label_time_ms", "learnt_at_ms", "acted"]:
        expected = live.pending.column(name, sequence)
        np.testing.assert_array_equal(restored.pending.column(name, sequence), expected, err_msg=name)
    assert restored._cases._open == live._cases._open
