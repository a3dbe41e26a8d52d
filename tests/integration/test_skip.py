"""A partition that is set forward goes on there, and its journal says so."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka.structs import TopicPartition

from tests.support.site import Site
from tests.support.traffic import records_of, small_traffic
from tests.support.waiting import START_S, wait_for
from worker.errors import FencedError, SettingsError
from worker.live.skip import skip
from worker.partition.journal import Positions

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration


def test_a_partition_that_was_set_forward_goes_on_there(kafka: Broker, tmp_path: Path) -> None:
    site = Site(kafka.bootstrap, tmp_path, 1)
    records = records_of(small_traffic(days=2, cards=60))
    half = len(records) // 2
    site.feed(records[:half])
    topics = site.settings.topics
    with site.worker() as worker:
        site.wait_until_decided(worker)
        with pytest.raises(FencedError, match=r"workers are in kafka\.group = .*w1"):
            skip(site.settings, 0, None, None)
        assert worker.stop() == 0
    site.feed(records[half:])
    offsets = site.offsets()
    transactions, end = offsets[TopicPartition(topics.transactions, 0)]

    def skipped() -> bool:
        try:
            before, after = skip(site.settings, 0, end - 1, None)
        except FencedError:  # the session of the static member that stopped
            return False
        assert (before.transactions, after) == (transactions, Positions(end - 1, before.labels))
        return True

    wait_for(skipped, 60, lambda: "the member stays in the group")
    with pytest.raises(SettingsError, match="is none to skip to"):
        skip(site.settings, 0, end + 1, None)
    with site.worker() as worker:
        wait_for(
            lambda: worker.metric("fraud_worker_rebalances_total") > 0, START_S, lambda: worker.log, [worker]
        )
        site.wait_until_decided(worker)
        assert worker.metric("fraud_worker_decisions_total") <= 1
        assert worker.stop() == 0
