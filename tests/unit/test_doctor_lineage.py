"""What the doctor finds in the first record of the model log."""

from __future__ import annotations

from typing import Any, NamedTuple

from models.records import ModelRecord
from worker.doctor.cluster import Topic
from worker.doctor.finding import Finding, Verdict
from worker.doctor.lineage_checks import compare, judge
from worker.errors import IncompatibleError
from worker.parameters import new_model, policy
from worker.partition.record_layouts import encode_model
from worker.settings.fields import TransactionFields
from worker.settings.sections import Settings


def settings(**sections: Any) -> Settings:
    return Settings(**{"entity_key": "00" * 16} | sections)


FIRST = new_model(settings()).lineage


def test_the_lineage_of_these_settings_is_found_well() -> None:
    assert compare(settings(), FIRST).status is Verdict.OK


def test_other_fields_are_named() -> None:
    found = compare(settings(transaction=TransactionFields(entities=("shop",))), FIRST)
    assert (found.status, found.error) == (Verdict.FAILED, IncompatibleError)
    assert "'merchant_id'" in found.found
    assert "'shop'" in found.found


def test_another_key_is_another_lineage_and_is_not_shown() -> None:
    key = "0123456789abcdef" * 2
    found = compare(settings(entity_key=key), FIRST)
    assert found.error is IncompatibleError
    assert key not in found.found


def test_a_log_that_has_lost_its_beginning_fails() -> None:
    found = compare(settings(), policy(settings()))
    assert (found.status, found.error) == (Verdict.FAILED, IncompatibleError)
    assert "retention.ms" in found.fix


class Record(NamedTuple):
    value: bytes
    headers: list[tuple[str, bytes]]


STRAY = Record(b"stray", [("other", b"x")])


def log_of(*records: ModelRecord) -> list[Record]:
    return [Record(*payload) for record in records for payload in encode_model(record)]


def judged(records: list[Record], begin: int = 0) -> Finding:
    return judge(settings(), Topic("fraud.model-log.v1", 1, begins={0: begin}, ends={0: 9}), records)


def test_records_that_no_worker_wrote_are_passed_over_as_workers_pass_over_them() -> None:
    assert judged([STRAY, *log_of(FIRST)]).status is Verdict.OK
    assert judged([STRAY, *log_of(policy(settings()))]).error is IncompatibleError
    assert "the first worker begins it" in judged([STRAY]).found


def test_a_log_that_was_emptied_fails_and_one_that_never_held_a_record_does_not() -> None:
    assert "the first worker begins it" in judged([]).found
    assert (judged([], begin=7).status, judged([], begin=7).error) == (Verdict.FAILED, IncompatibleError)
