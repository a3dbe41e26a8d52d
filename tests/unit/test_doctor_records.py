"""What the doctor finds in the newest records of the input."""

from __future__ import annotations

import json
import time
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from kafka.errors import TopicAuthorizationFailedError
from kafka.partitioner.default import murmur2

from worker.doctor.finding import Finding, Verdict
from worker.doctor.label_classes import dead_classes, judge_dead
from worker.doctor.record_checks import (
    Sample,
    clock,
    decoding_labels,
    decoding_transactions,
    event_times,
    partitioner,
    sample_of,
)
from worker.errors import FuseError, IncompatibleError, SettingsError
from worker.kafka_io.client import kafka_errors_explained
from worker.settings.fields import LabelFields, TransactionFields
from worker.settings.sections import KafkaSettings, Settings
from worker.wire.schema import DeadLetter

P = 4
NOW_MS = 1_704_164_882_000
CARDS = [f"card-{i}" for i in range(40)]


def by_murmur2(card: str) -> int:
    return int(murmur2(card.encode()) & 0x7FFFFFFF) % P


def by_crc32(card: str) -> int:
    return zlib.crc32(card.encode()) % P


def transaction(card: str, **changes: Any) -> dict[str, Any]:
    fine = {
        "transaction_id": f"t-{card}",
        "card_id": card,
        "event_time": NOW_MS,
        "amount": 9.5,
        "merchant_id": "m",
    }
    return {**fine, **changes}


def label(card: str, **changes: Any) -> dict[str, Any]:
    fine = {"transaction_id": f"t-{card}", "card_id": card, "label": "fraud", "source": "analyst"}
    return {**fine, "label_time": NOW_MS, **changes}


def sample(
    messages: list[Any], place: Any = by_murmur2, timestamp_ms: int = NOW_MS, topic: str = "topic"
) -> Sample:
    """Return records keyed by the cards in their order, each where `place` puts its key."""
    counts = dict.fromkeys(range(P), 0)
    records = []
    for card, message in zip(CARDS, messages, strict=False):
        partition = place(card)
        value = message if isinstance(message, bytes) else json.dumps(message).encode()
        records.append(
            SimpleNamespace(
                partition=partition,
                offset=counts[partition],
                timestamp=timestamp_ms,
                key=card.encode(),
                value=value,
            )
        )
        counts[partition] += 1
    return sample_of(topic, P, records)


def settings(**sections: Any) -> Settings:
    return Settings(entity_key="00" * 16, **sections)


TRANSACTIONS = sample([transaction(card) for card in CARDS], topic="transactions")
LABELS = sample([label(card) for card in CARDS], topic="labels")
NOTHING = sample([], topic="labels")


def assert_finding(finding: Finding, status: Verdict, *words: str) -> None:
    assert finding.status is status, finding
    assert [word for word in words if word not in f"{finding.found} {finding.fix}"] == [], finding


def test_records_as_they_should_be_are_found_well() -> None:
    assert partitioner(settings(), TRANSACTIONS, LABELS).found.count("all of 80 sampled keys") == 1
    assert_finding(
        decoding_transactions(settings(), TRANSACTIONS), Verdict.OK, "40 of 40 sampled records decode"
    )
    assert_finding(decoding_labels(settings(), LABELS), Verdict.OK, "40 of 40 sampled records decode")
    assert event_times(settings(), TRANSACTIONS).status is Verdict.OK
    assert_finding(clock(settings(), TRANSACTIONS, LABELS), Verdict.OK, "2024-01-02 03:08:02Z")


def test_empty_topics_are_not_judged() -> None:
    findings = [
        partitioner(settings(), NOTHING, NOTHING),
        decoding_transactions(settings(), NOTHING),
        decoding_labels(settings(), NOTHING),
        event_times(settings(), NOTHING),
        clock(settings(), NOTHING, NOTHING),
    ]
    assert {it.status for it in findings} == {Verdict.NOT_CHECKED}


def test_the_partitioner_that_fits_is_named() -> None:
    crc32 = [sample([transaction(card) for card in CARDS], by_crc32, topic=name) for name in ("a", "b")]
    wrong = sum(by_crc32(card) != by_murmur2(card) for card in CARDS)
    found = partitioner(settings(), *crc32)
    assert_finding(found, Verdict.FAILED, f"{wrong} of 40 keys in a", "set kafka.partitioner = 'crc32'")
    assert found.error is IncompatibleError
    assert partitioner(settings(kafka=KafkaSettings(partitioner="crc32")), *crc32).status is Verdict.OK


def test_topics_of_different_partitioners_are_named() -> None:
    labels = sample([label(card) for card in CARDS], by_crc32, topic="labels")
    found = partitioner(settings(), TRANSACTIONS, labels)
    assert_finding(found, Verdict.FAILED, "0 of 40 keys in transactions", "(labels by 'crc32')")


def test_a_few_keys_in_other_partitions_are_one_producers_fault() -> None:
    strays = set(CARDS[:5])
    labels = sample(
        [label(card) for card in CARDS],
        lambda card: (by_murmur2(card) + (card in strays)) % P,
        topic="labels",
    )
    assert_finding(
        partitioner(settings(), TRANSACTIONS, labels),
        Verdict.WARNING,
        "5 of 40 keys in labels",
        "find the producer",
    )


def test_records_without_a_key_are_in_no_wrong_partition() -> None:
    records = [
        SimpleNamespace(partition=partition, offset=0, timestamp=0, key=None, value=b"{}")
        for partition in range(P)
    ]
    assert_finding(
        partitioner(settings(), TRANSACTIONS, sample_of("labels", P, records)), Verdict.OK, "all of 40"
    )


def test_with_one_partition_any_partitioner_fits() -> None:
    record = SimpleNamespace(partition=0, offset=0, timestamp=0, key=b"c", value=b"{}")
    single = sample_of("t", 1, [record])
    assert_finding(partitioner(settings(), single, single), Verdict.OK, "one partition")


def test_a_wrong_field_name_is_reported_with_the_names_of_the_records() -> None:
    fields = TransactionFields(amount="eur", entities=())
    found = decoding_transactions(settings(transaction=fields), TRANSACTIONS)
    assert_finding(
        found,
        Verdict.FAILED,
        "0 of 40 sampled records decode",
        "40 missing_field (eur: Field required)",
        "transaction.amount = 'eur': none of 40 sampled records has it; they have: transaction_id, card_id",
        "correct transaction.amount: perhaps 'amount'",
    )
    assert found.error is FuseError


@pytest.mark.parametrize(
    ("others", "likely"),
    [
        ({"eur": 9.5, "country": "DE"}, "correct transaction.amount: perhaps 'eur'"),
        ({"eur": 9.5, "distance_km": 3}, None),  # neither is like what was set
        ({"prices": 9.5, "distance_km": 3}, "correct transaction.amount: perhaps 'prices'"),
        ({"price_list": "b2c"}, None),
    ],
)
def test_only_fields_of_numbers_are_proposed_for_an_amount(
    others: dict[str, Any], likely: str | None
) -> None:
    rows = [
        {name: value for name, value in transaction(card).items() if name != "amount"} | others
        for card in CARDS
    ]
    fields = TransactionFields(amount="price", entities=("merchant_id",))
    found = decoding_transactions(settings(transaction=fields), sample(rows))
    if likely is None:
        assert "perhaps" not in found.fix
    else:
        assert likely in found.fix


def test_a_declared_field_that_no_record_has_is_warned_of_though_every_record_decodes() -> None:
    fields = TransactionFields(entities=("merchant",), categorical=("channel",))
    found = decoding_transactions(settings(transaction=fields), TRANSACTIONS)
    assert_finding(
        found,
        Verdict.WARNING,
        "40 of 40 sampled records decode",
        "transaction.entities = 'merchant'",
        "correct transaction.entities: perhaps 'merchant_id'",
        "transaction.categorical = 'channel'",
    )
    assert found.found.count("they have") == 1


def test_a_few_bad_records_are_a_warning_with_their_reasons() -> None:
    bad = [b"no json", transaction(CARDS[1], amount="9.5"), transaction(CARDS[2], amount="9.5")]
    mixed = sample(bad + [transaction(card) for card in CARDS[3:]])
    found = decoding_transactions(settings(), mixed)
    assert_finding(
        found,
        Verdict.WARNING,
        "37 of 40 sampled records decode",
        "2 wrong_type (amount:",
        "1 not_json",
        "producers",
    )


@pytest.mark.parametrize(
    ("set_to", "written", "looks"),
    [
        ("epoch_ms", "2024-01-02T03:08:02Z", "iso8601"),
        ("epoch_ms", 1_704_164_882, "epoch_s"),  # decodes, as a day of January 1970
        ("epoch_s", NOW_MS, "epoch_ms"),
        ("iso8601", 1_704_164_882.5, "epoch_s"),
    ],
)
def test_a_wrong_time_format_fails_even_where_records_decode(set_to: Any, written: Any, looks: str) -> None:
    messages = sample([transaction(card, event_time=written) for card in CARDS])
    found = decoding_transactions(settings(transaction=TransactionFields(time_format=set_to)), messages)
    assert_finding(
        found, Verdict.FAILED, f"set transaction.time_format = {looks!r} instead of {set_to!r}", str(written)
    )


def test_a_time_format_that_is_wrong_and_yet_decodes_is_a_setting_to_correct() -> None:
    messages = sample([transaction(card, event_time=1_704_164_882) for card in CARDS])
    assert decoding_transactions(settings(), messages).error is SettingsError


def test_labels_may_all_be_outcomes_and_need_no_optional_field() -> None:
    outcomes = [
        {"transaction_id": "t", "card_id": card, "outcome": "declined", "label_time": NOW_MS}
        for card in CARDS
    ]
    assert decoding_labels(settings(), sample(outcomes)).status is Verdict.OK


def test_amounts_and_categories_of_another_type_are_a_setting_to_correct() -> None:
    written = sample([transaction(card, amount="9.50", merchant_id=5411) for card in CARDS])
    found = decoding_transactions(settings(), written)
    assert_finding(
        found,
        Verdict.FAILED,
        "set transaction.amount_format = 'text'",
        "set transaction.integer_texts = true: merchant_id holds integers",
    )
    fields = TransactionFields(amount_format="text", integer_texts=True)
    assert decoding_transactions(settings(transaction=fields), written).status is Verdict.OK


def labels_of(*changes: dict[str, Any]) -> Sample:
    """Return 40 labels, of which the first differ."""
    return sample(
        [label(card, **(changes[i] if i < len(changes) else {})) for i, card in enumerate(CARDS)],
        topic="labels",
    )


def test_a_word_for_fraud_that_no_setting_knows_fails_however_rare() -> None:
    found = decoding_labels(settings(), labels_of({"label": "CONFIRMED_FRAUD", "source": "issuer"}))
    assert_finding(
        found,
        Verdict.FAILED,
        "all of 1 records whose label is 'CONFIRMED_FRAUD' are bad",
        "say in [label.values] what 'CONFIRMED_FRAUD' means: fraud, legit, reversal, declined",
    )
    assert found.error is SettingsError
    mapped = settings(label=LabelFields(values={"CONFIRMED_FRAUD": "fraud"}))
    assert decoding_labels(mapped, labels_of({"label": "CONFIRMED_FRAUD"})).status is Verdict.OK


def test_a_word_for_an_outcome_that_no_setting_knows_is_never_advised_to_be_a_fraud() -> None:
    found = decoding_labels(settings(), labels_of({"label": None, "source": None, "outcome": "released"}))
    assert_finding(found, Verdict.FAILED, "'released' means: declined, blocked, challenged, not_reviewed")
    assert "fraud" not in (found.fix or "").partition("means:")[2]


def test_a_source_of_which_every_label_is_bad_fails_though_most_labels_are_good() -> None:
    bad = {"source": "issuer", "label_time": "yesterday"}
    found = decoding_labels(settings(), labels_of(bad, bad, bad))
    assert_finding(found, Verdict.FAILED, "all of 3 records whose source is 'issuer' are bad", "wrong_type")
    assert found.error is FuseError
    assert (
        decoding_labels(settings(), labels_of(bad, bad, bad, {"source": "issuer"})).status is Verdict.WARNING
    )
    assert decoding_labels(settings(), labels_of(bad)).status is Verdict.WARNING


def dead_letter(partition: int, offset: int) -> SimpleNamespace:
    letter = DeadLetter.of(
        b"{}",
        topic="labels",
        partition=partition,
        offset=offset,
        timestamp_ms=NOW_MS,
        stage="settle",
        reason="orphan_label",
        detail="",
    )
    return SimpleNamespace(value=letter.to_json(), headers=[])


def test_a_source_whose_labels_all_became_orphans_fails() -> None:
    issuer = labels_of(*[{"source": "issuer"}] * 3)
    of_issuer = [
        dead_letter(one.partition, int(one.offsets[row]))
        for one in issuer.columns
        for row in range(len(one))
        if b"issuer" in (one.value(row) or b"")
    ]
    found = judge_dead(settings(), "labels", issuer.columns, of_issuer)
    assert_finding(found, Verdict.FAILED, "all of 3 records whose source is 'issuer'", "orphan_label")
    assert found.error is FuseError
    some = judge_dead(settings(), "labels", issuer.columns, of_issuer[1:])
    assert_finding(some, Verdict.OK, "2 of the 40 newest labels are dead letters")


def test_labels_under_other_names_fail() -> None:
    fields = LabelFields(label="verdict", time_format="iso8601")
    found = decoding_labels(settings(label=fields), LABELS)
    assert_finding(
        found, Verdict.FAILED, "label.label = 'verdict'", "perhaps 'label'", "label.time_format = 'epoch_ms'"
    )


def test_hostile_names_are_cut_and_escaped() -> None:
    hostile = {f"\x1b[2J{'x' * 500}": 1, "4111111111111111": 2}
    messages = sample([{**transaction(card), **hostile} for card in CARDS])
    found = decoding_transactions(
        settings(transaction=TransactionFields(amount="eur", entities=())), messages
    )
    assert r"\x1b[2Jxxx" in found.found
    assert "\x1b" not in found.found
    assert "4111111111111111" not in found.found
    assert len(found.found) < 1_000


def test_transactions_dated_after_their_own_timestamps_are_warned_of() -> None:
    ahead = sample(
        [transaction(card, event_time=NOW_MS + 3_600_000 * (i < 3)) for i, card in enumerate(CARDS)]
    )
    assert_finding(event_times(settings(), ahead), Verdict.WARNING, "3 of 40", "3600 s", "time zones")


def test_transactions_without_a_timestamp_are_not_taken_for_ahead_of_it() -> None:
    """Kafka's -1 says that there is none."""
    for none in (0, -1):
        found = event_times(settings(), sample([transaction(card) for card in CARDS], timestamp_ms=none))
        assert found.status is Verdict.NOT_CHECKED


def test_dead_letters_that_this_user_may_not_read_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker writes them, and needs no more."""

    def refuse(*_: object) -> None:
        with kafka_errors_explained(settings()):
            raise TopicAuthorizationFailedError("dead-letters")

    monkeypatch.setattr("worker.doctor.label_classes.open_topic", refuse)
    columns = sample([label(card) for card in CARDS]).columns
    assert dead_classes(settings(), "labels", columns).status is Verdict.NOT_CHECKED


def test_records_of_the_future_show_that_a_clock_is_wrong() -> None:
    tomorrow_ms = int(time.time() * 1000) + 86_400_000
    future = sample([transaction(card) for card in CARDS], timestamp_ms=tomorrow_ms)
    assert_finding(
        clock(settings(), future, LABELS), Verdict.WARNING, "after this machine's clock", "synchronise"
    )
