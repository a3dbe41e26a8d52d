"""What all checks of Kafka find alike, and what becomes of many findings."""

from __future__ import annotations

from dataclasses import replace

from tests.support.clusters import (
    cluster,
    settings,
)
from worker.doctor import broker_checks, group_checks, topic_checks
from worker.doctor.finding import Verdict, exit_code, failed, not_checked, ok, together, warning
from worker.errors import FuseError, IncompatibleError, SettingsError, UnreachableError


def test_a_well_kept_kafka_is_found_well() -> None:
    kafka, well = settings(), cluster()
    findings = [
        broker_checks.version(kafka, well),
        broker_checks.internal_topics(well),
        topic_checks.existence(kafka, well),
        topic_checks.partitions(kafka, well),
        topic_checks.leaders(well),
        topic_checks.replication(well),
        topic_checks.state_retention(well),
        topic_checks.input_retention(kafka, well),
        topic_checks.cleanup(well),
        topic_checks.message_size(well),
        topic_checks.timestamps(well),
        topic_checks.permissions(kafka, well),
        group_checks.group(kafka, well),
        group_checks.transaction(kafka, well),
    ]
    assert [it for it in findings if it.status is not Verdict.OK] == []
    assert [it for it in findings if it.fix] == []


def test_what_kafka_does_not_show_is_not_checked() -> None:
    blind = cluster(
        topics={role: replace(it, config={}, operations=None) for role, it in cluster().topics.items()}
    )
    checks = (
        topic_checks.replication,
        topic_checks.state_retention,
        topic_checks.cleanup,
        topic_checks.message_size,
        topic_checks.timestamps,
    )
    findings = [check(blind) for check in checks]
    findings += [topic_checks.input_retention(settings(), blind), topic_checks.permissions(settings(), blind)]
    unseen = replace(blind, unknown=frozenset({"group", "transaction"}))
    findings += [group_checks.group(settings(), unseen), group_checks.transaction(settings(), unseen)]
    assert {it.status for it in findings} == {Verdict.NOT_CHECKED}


def test_the_exit_code_is_that_of_the_first_cause_to_fix() -> None:
    unreachable, wrong = failed("a", "b", UnreachableError), failed("a", "b", SettingsError)
    assert exit_code([ok("fine"), warning("a", "b"), not_checked("c")]) == 0
    assert exit_code([failed("a", "b", FuseError), unreachable, failed("a", "b", IncompatibleError)]) == 3
    assert exit_code([unreachable, wrong]) == 2


def test_what_was_not_checked_for_one_reason_is_one_finding() -> None:
    findings = [
        replace(not_checked("no Kafka"), check="a"),
        ok("fine"),
        replace(not_checked("no rights"), check="b"),
        replace(not_checked("no Kafka"), check="c"),
    ]
    assert [it.found for it in together(findings)] == ["no Kafka: a, c", "no rights: b"]
