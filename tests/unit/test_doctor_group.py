"""What the doctor finds in the consumer group and its transaction; what Kafka reports is made up."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.support.clusters import (
    assert_failed,
    assert_warned,
    cluster,
    settings,
    topic,
)
from worker.doctor import group_checks
from worker.doctor.cluster import Group, TransactionState
from worker.doctor.finding import Verdict, ok
from worker.errors import IncompatibleError, SettingsError


def committed(transactions: int, labels: int) -> dict[tuple[str, int], int]:
    names = settings().topics
    given = {names.transactions: transactions, names.labels: labels}
    return {(name, partition): offset for name, offset in given.items() for partition in (0, 1)}


def test_a_group_that_has_not_begun_needs_a_place_to_begin() -> None:
    assert "'latest'" in group_checks.group(settings(start_from="latest"), cluster()).found
    assert_failed(
        group_checks.group(settings(start_from="committed"), cluster()), SettingsError, "kafka.start_from"
    )


def test_a_group_without_offsets_beside_a_journal_is_the_wrong_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_checks, "holds_records", lambda _, topic: topic.name == "d")
    written = cluster(decisions=topic("d", ends={0: 5, 1: 0}))
    assert_failed(
        group_checks.group(settings(group="g"), written), IncompatibleError, "'g'", "d is not empty",
        "fraud-worker skip --partition N",
    )  # fmt: skip
    assert "start over" not in group_checks.group(settings(group="g"), written).fix
    emptied = cluster(decisions=topic("d", begins={0: 5, 1: 0}, ends={0: 5, 1: 0}))
    assert group_checks.group(settings(), emptied).status is Verdict.OK
    aborted = cluster(decisions=topic("of-an-aborted-transaction", ends={0: 5, 1: 0}))
    assert group_checks.group(settings(), aborted).status is Verdict.OK


def test_offsets_beyond_the_end_of_a_topic_fail_and_no_offset_is_advised() -> None:
    recreated = cluster(
        transactions=topic("fraud.transactions.v1", ends={0: 20, 1: 20}),
        group=Group("Empty", (), committed(20, 0) | {("fraud.transactions.v1", 0): 21}),
    )
    found = group_checks.group(settings(), recreated)
    assert_failed(
        found, IncompatibleError, "beyond the end of fraud.transactions.v1-0:", "do not set offsets"
    )
    assert "fraud-worker skip" not in found.fix


def test_offsets_of_records_that_were_deleted_unread_are_skipped_and_no_model_is_thrown_away() -> None:
    behind = cluster(
        transactions=topic("fraud.transactions.v1", begins={0: 10, 1: 0}, ends={0: 20, 1: 20}),
        labels=topic("fraud.labels.v1", begins={0: 5, 1: 7}, ends={0: 5, 1: 9}),
        group=Group("Empty", (), committed(9, 4)),
    )
    found = group_checks.group(settings(), behind)
    words = ["fraud.transactions.v1-0, fraud.labels.v1-0, fraud.labels.v1-1:"]
    words += ["`fraud-worker skip --partition 0 --transactions 10 --labels 5`"]
    words += ["`fraud-worker skip --partition 1 --labels 7`"]
    assert_failed(found, IncompatibleError, *words)
    assert "anew" not in found.fix
    assert "start over" not in found.fix


def test_a_group_is_reported_with_its_members_and_its_lag() -> None:
    ends = topic("fraud.transactions.v1", ends={0: 20, 1: 30})
    running = cluster(transactions=ends, group=Group("Stable", ("w2", "w1"), committed(15, 0)))
    assert group_checks.group(settings(), running) == ok("2 in it (w1, w2), Stable; 20 records wait")
    stopped = replace(running, group=Group("Empty", (), committed(15, 0)))
    assert_warned(
        group_checks.group(settings(), stopped), "no worker runs; 20 records wait", "fraud-worker run"
    )
    done = cluster(group=Group("Empty", (), committed(0, 0)))
    assert group_checks.group(settings(), done) == ok("no worker runs; 0 records wait")


def test_a_transaction_that_hangs_is_warned_of_and_one_under_way_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now_ms = 1_704_164_882_000
    monkeypatch.setattr(time, "time", lambda: now_ms / 1000)
    hanging = cluster(transaction=TransactionState("Ongoing", now_ms - 60_000))
    assert_warned(group_checks.transaction(settings(group="g"), hanging), "g.worker-1", "open for 60 s")
    under_way = cluster(transaction=TransactionState("Ongoing", now_ms))
    assert group_checks.transaction(settings(), under_way).status is Verdict.OK
    assert (
        "CompleteCommit"
        in group_checks.transaction(settings(), cluster(transaction=TransactionState("CompleteCommit"))).found
    )
