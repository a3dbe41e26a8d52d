"""A partition that is set forward goes on there, and its journal says so."""

from __future__ import annotations

import dataclasses
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka import KafkaAdminClient, KafkaProducer
from kafka.structs import TopicPartition

from tests.support.processes import to_toml
from tests.support.site import Site
from tests.support.traffic import InputRecord, records_of, small_traffic
from tests.support.waiting import START_S, wait_for
from worker.cli import main
from worker.errors import FencedError, IncompatibleError, SettingsError
from worker.live.skip import _last_header, skip
from worker.partition.journal import DecisionRows, JournalEntry, Positions, Settlements
from worker.partition.record_layouts import encode_journal

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration


def test_a_partition_that_was_set_forward_goes_on_there(kafka: Broker, tmp_path: Path) -> None:
    site = Site(kafka.bootstrap, tmp_path, 1, {"kafka": {"session_timeout_ms": 6_000}})
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


def test_a_commit_that_is_under_way_is_waited_for_and_its_journal_is_what_the_skip_goes_on_from(
    kafka: Broker, tmp_path: Path
) -> None:
    """As of a worker that hangs: it is out of the group, and its offsets are sent, but not its last word."""
    site, _ = stopped_site(kafka, tmp_path)
    set_forward(site, tmp_path)  # waits until the group is empty
    header, _ = _last_header(site.settings, 0)
    late = dataclasses.replace(header, next_transaction_offset=header.next_transaction_offset - 1)
    records = encode_journal(
        JournalEntry(late, DecisionRows.empty(hashes=0, features=0), Settlements.empty())
    )
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap, transactional_id=f"{site.settings.kafka.group}.late"
    )
    try:
        producer.init_transactions()
        producer.begin_transaction()
        for value, headers in records:
            producer.send(site.settings.topics.decisions, value, headers=headers, partition=0)
        producer.flush()
        with ThreadPoolExecutor() as pool:
            skipping = pool.submit(skip, site.settings, 0, None, None)
            time.sleep(2.0)
            assert not skipping.done()
            producer.commit_transaction()
            before, after = skipping.result(timeout=60)
    finally:
        producer.close()
    assert before == after == late.positions


def set_forward(site: Site, folder: Path, *offsets: str) -> None:
    """Skip by the command once the group has forgotten the static member that has stopped."""

    def skipped() -> bool:
        exit_code = main(["skip", "--partition", "0", *offsets, "--config", str(config_of(site, folder))])
        assert exit_code in (0, FencedError.exit_code)
        return exit_code == 0

    wait_for(skipped, 60, lambda: "the member stays in the group")


def stopped_site(kafka: Broker, folder: Path) -> tuple[Site, list[InputRecord]]:
    """Return a site whose worker has decided half of its records and stopped, and the other half."""
    site = Site(kafka.bootstrap, folder, 1, {"kafka": {"session_timeout_ms": 6_000}})
    records = records_of(small_traffic(days=2, cards=60))
    half = len(records) // 2
    site.feed(records[:half])
    with site.worker() as worker:
        site.wait_until_decided(worker)
        assert worker.stop() == 0
    return site, records[half:]


def refused(site: Site) -> str:
    with site.worker() as worker:
        assert worker.wait_for_exit(START_S) == IncompatibleError.exit_code
        return worker.log.splitlines()[-1]


def test_records_that_were_deleted_unread_are_skipped_as_worker_and_doctor_say(
    kafka: Broker, kafka_admin: KafkaAdminClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, rest = stopped_site(kafka, tmp_path)
    site.feed(rest)
    tp = TopicPartition(site.settings.topics.transactions, 0)
    oldest = site.offsets()[tp][0] + 10
    kafka_admin.delete_records({tp: oldest})
    assert f"`fraud-worker skip --partition 0 --transactions {oldest}`" in doctor(site, tmp_path, capsys)
    assert "`fraud-worker skip`" in refused(site)
    set_forward(site, tmp_path, "--transactions", str(oldest))
    with site.worker() as worker:
        site.wait_until_decided(worker)
        assert worker.stop() == 0


def test_offsets_that_expired_are_set_again_as_worker_and_doctor_say(
    kafka: Broker, kafka_admin: KafkaAdminClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, rest = stopped_site(kafka, tmp_path)
    set_forward(site, tmp_path)  # waits until the group is empty
    kafka_admin.delete_groups([site.settings.kafka.group])
    assert "`fraud-worker skip --partition N`" in doctor(site, tmp_path, capsys)
    assert "`fraud-worker skip --partition 0`" in refused(site)
    set_forward(site, tmp_path)
    site.feed(rest)
    with site.worker() as worker:
        site.wait_until_decided(worker)
        assert worker.stop() == 0
    site.assert_everything_once()


def doctor(site: Site, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the doctor says."""
    main(["doctor", "--json", "--config", str(config_of(site, folder))])
    return capsys.readouterr().out


def config_of(site: Site, folder: Path) -> Path:
    """Return a file of the site's settings."""
    path = folder / "worker.toml"
    path.write_text(to_toml(site.settings), encoding="utf-8")
    return path
