"""What the doctor finds in the first record of the model log."""

from __future__ import annotations

from typing import Any

from worker.doctor.finding import Verdict
from worker.doctor.lineage_checks import compare
from worker.errors import CorruptError, IncompatibleError
from worker.parameters import new_model, policy
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
    assert (found.status, found.error) == (Verdict.FAILED, CorruptError)
