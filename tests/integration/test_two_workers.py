"""Two workers share the topics: one model, every transaction decided once, while workers join and leave."""

from __future__ import annotations

import json
import signal
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pytest

from models.aggregates import _RATE_SHORT, _SALT, ENTITY_COUNT
from models.records import Commit
from models.state import ModelState
from models.vocabulary import MS_PER_DAY
from tests.support.oracle import Outcome
from tests.support.site import Site
from tests.support.traffic import InputRecord, records_of, small_traffic
from tests.support.waiting import START_S, wait_for
from worker.identity import Hasher

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

DECIDED = "fraud_worker_decisions_total"
LEFT_AFTER_MS = 6_000
SLICES = 5
"""Enough for both workers to publish a digest at the same offset, however fast either of them is."""


@dataclass
class Shared:
    """What two workers left behind: w1 came first, then w2 joined, then w1 left."""

    site: Site
    records: list[InputRecord]
    outcome: Outcome
    model: ModelState


@pytest.fixture(scope="module")
def shared(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Shared:
    quick: dict[str, dict[str, Any]] = {
        "kafka": {"session_timeout_ms": LEFT_AFTER_MS},
        "batch": {"max_event_time_s": 1_800.0},
        "model": {"digest_every": 4},
    }
    site = Site(kafka.bootstrap, tmp_path_factory.mktemp("two"), 4, quick)
    records = records_of(small_traffic(days=8, cards=400))
    quarter = len(records) // 4
    with site.worker("w1") as first, site.worker("w2") as second:
        second.kill()
        site.feed(records[:quarter])
        wait_for(lambda: first.metric(DECIDED) > 0, START_S, lambda: "nothing decided", [first])
        second.start()  # joins while the other is at work
        site.feed(records[quarter : 2 * quarter])
        second.wait_until_ready()
        for start in range(
            2 * quarter, 3 * quarter, quarter // SLICES
        ):  # both commit from the same quiet log
            site.feed(records[start : min(start + quarter // SLICES, 3 * quarter)])
            site.wait_until_quiet(first, second)
        site.wait_until_decided(first, second)
        assert first.metric(DECIDED) > 0
        assert second.metric(DECIDED) > 0
        assert first.stop() == 0
        site.feed(records[3 * quarter :])
        site.wait_until_decided(second)
        assert second.stop() == 0
    return Shared(site, records, site.assert_everything_once(), site.folded())


def test_nothing_is_lost_when_one_joins_and_one_leaves(shared: Shared) -> None:
    owners = defaultdict(set)
    for entry in shared.outcome.entries:
        owners[entry.header.partition].add(entry.header.worker)
    assert list(owners.values()).count({"w1", "w2"}) == 4, "every partition has moved"
    last = {entry.header.partition: entry.header.worker for entry in shared.outcome.entries}
    assert set(last.values()) == {"w2"}


def test_both_hold_the_same_model_at_the_same_offset(shared: Shared) -> None:
    published: dict[int, dict[str, str]] = defaultdict(dict)
    for _, record in shared.site.model_log():
        if isinstance(record, Commit) and record.digest is not None:
            published[record.digest.offset][record.worker] = record.digest.value
    by_both = {offset: digests for offset, digests in published.items() if len(digests) == 2}
    assert len(by_both) >= 5, "too few offsets at which both published a digest"
    assert all(len(set(digests.values())) == 1 for digests in by_both.values())
    offset = max(by_both)
    assert shared.site.folded(until=offset).digest() == by_both[offset]["w1"]


def test_the_log_folds_to_the_same_state_twice(shared: Shared) -> None:
    assert shared.site.folded().digest() == shared.model.digest()


def test_a_merchant_has_one_history_across_workers(shared: Shared) -> None:
    """Their decayed counts equal those of one list of all transactions, computed here by definition."""
    site, model = shared.site, shared.model
    short_days, _, long_days = site.settings.features.half_lives_days
    transactions = [json.loads(it.value or b"") for it in shared.records if it.topic == "transactions"]
    times_of = defaultdict(list)
    for one in transactions:
        times_of[one["merchant_id"]].append(one["event_time"])
    names = sorted(times_of)
    keys = Hasher(site.settings.hash_key).entities(pa.array(names)) ^ _SALT
    arrays = model.shared.arrays()
    row_of = {int(key): row for row, key in enumerate(arrays["entities_keys"])}
    assert len(row_of) == len(names) > 50
    for name, key in zip(names, keys, strict=True):
        row = row_of[int(key)]
        age_days = (int(arrays["entities_last_ms"][row]) - np.array(times_of[name])) / MS_PER_DAY
        for column, half_life in ((_RATE_SHORT, short_days), (ENTITY_COUNT, long_days)):
            expected = np.sum(2.0 ** (-age_days / half_life))
            assert arrays["entities_values"][row, column] == pytest.approx(expected, rel=1e-9), name
    assert model.traffic_seen == len(transactions)


def test_a_worker_whose_group_waits_for_a_hanging_one_is_not_ready_until_that_joins(
    kafka: Broker, tmp_path: Path
) -> None:
    site = Site(kafka.bootstrap, tmp_path, 4, {"kafka": {"session_timeout_ms": 120_000}})
    with site.worker("w1") as waiting, site.worker("w2") as hanging:
        waiting.wait_until_ready()
        hanging.wait_until_ready()
        hanging.signal(signal.SIGSTOP)
        with site.worker("w3") as joining:
            wait_for(
                lambda: waiting.get("/readyz")[0] == 503, START_S, lambda: waiting.log, [waiting, joining]
            )
            assert "the group rebalances" in json.loads(waiting.get("/readyz")[1])["reason"]
            assert waiting.get("/healthz")[0] == 200
            hanging.signal(signal.SIGCONT)
            workers = (waiting, hanging, joining)
            wait_for(
                lambda: all(worker.get("/readyz")[0] == 200 for worker in workers),
                START_S,
                lambda: "not all are ready again",
                workers,
            )
            assert [worker.stop() for worker in workers] == [0, 0, 0]
    assert waiting.log.count("has been rebalancing") == 1
    assert waiting.log.count("the group has rebalanced, after") == 1


def test_a_worker_says_so_where_another_restarts_with_old_settings(kafka: Broker, tmp_path: Path) -> None:
    site = Site(kafka.bootstrap, tmp_path, 2)
    differs = "fraud_worker_policy_differs"
    with site.worker("w1") as old:
        old.wait_until_ready()
        with site.worker("w2", costs={"review_cost": 9.0}) as new:
            wait_for(lambda: old.metric(differs) == 1, START_S, lambda: old.log, [old, new])
            new.wait_until_ready()
            assert new.metric(differs) == 0
            old.stop()
            old.start()
            wait_for(lambda: new.metric(differs) == 1, START_S, lambda: new.log, [old, new])
    [said] = [message for message in new.messages if "settings of another worker" in message]
    assert "costs.review_cost = 5.0 (here 9.0)" in said
