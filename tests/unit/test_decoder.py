"""Columns of decoded records: what they hold, what is set aside and why, how they are cut and joined."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models.vocabulary import LabelKind, LabelSource
from tests.support.records import FIRST_OFFSET, TIMESTAMP_MS, json_columns, record_columns
from worker.identity import Hasher
from worker.settings.fields import LabelFields, TimeFormat, TransactionFields
from worker.settings.sections import AlertSettings, Settings
from worker.wire.decoder import Decoder, LabelColumns, TransactionColumns
from worker.wire.json_columns import read_cells
from worker.wire.json_reader import RecordLayout
from worker.wire.schema import MAX_RECORD_BYTES, Reason, transaction_model
from worker.wire.spans import Spans

KEY = "000102030405060708090a0b0c0d0e0f"
FIELDS = TransactionFields(
    currency="currency", numeric=("age",), categorical=("channel",), entities=("merchant_id", "device")
)


@pytest.fixture(scope="module")
def decoder() -> Decoder:
    return Decoder(Settings(entity_key=KEY, transaction=FIELDS))


def transaction(**change: Any) -> dict[str, Any]:
    message = {"transaction_id": "t1", "card_id": "c1", "event_time": 1_700_000_000_000, "amount": 12.5}
    return {**message, **change}


def label(**change: Any) -> dict[str, Any]:
    message = {"transaction_id": "t1", "card_id": "c1", "label_time": 1_700_000_000_000}
    return {
        **message,
        **({} if "outcome" in change else {"label": "fraud", "source": "chargeback"}),
        **change,
    }


def test_a_transaction_becomes_a_row_of_every_column(decoder: Decoder) -> None:
    messages = [
        transaction(currency="EUR", age=41, channel="ecom", merchant_id="m1", device="d1"),
        transaction(transaction_id="t2", card_id="c2", amount=7, age=None, merchant_id="d1"),
    ]
    columns, bad = decoder.transactions(json_columns(messages))
    assert bad == []
    assert columns.offsets.tolist() == [FIRST_OFFSET, FIRST_OFFSET + 2]
    assert columns.timestamps_ms.tolist() == [TIMESTAMP_MS, TIMESTAMP_MS + 1]
    assert columns.next_offset == FIRST_OFFSET + 9
    assert columns.event_time_ms.tolist() == [1_700_000_000_000] * 2
    assert columns.amount.tolist() == [12.5, 7.0]
    assert columns.transaction_id.to_pylist() == ["t1", "t2"]
    assert columns.card_id.to_pylist() == ["c1", "c2"]
    assert columns.currency is not None
    assert columns.currency.to_pylist() == ["EUR", None]
    assert columns.numeric[0].tolist() == [41.0]
    assert np.isnan(columns.numeric[1]).tolist() == [True]
    assert (columns.categorical == 0).tolist() == [[False], [True]]
    assert (columns.entity_hash == 0).tolist() == [[False, False], [False, True]]
    assert columns.entity_hash[1, 0] == columns.entity_hash[0, 1], "one identifier, one hash"


def test_identifiers_are_hashed_as_everywhere_else(decoder: Decoder) -> None:
    names = ["a", "tx-1", "Größe 42", "x" * 128]
    columns, _ = decoder.transactions(
        json_columns(
            [transaction(transaction_id=name, card_id=name, channel=name, device=name) for name in names]
        )
    )
    hasher = Hasher(Settings(entity_key=KEY).hash_key)
    expected = hasher.entities(pa.array(names)).tolist()
    for hashes in (columns.id_hash, columns.card_hash, columns.categorical[:, 0], columns.entity_hash[:, 1]):
        assert hashes.tolist() == expected
    assert columns.id_check.tolist() == hasher.checks(pa.array(names)).tolist()
    assert not set(columns.id_check.tolist()) & set(expected)


def test_texts_of_categories_and_of_the_alerts_fields_are_kept() -> None:
    chosen = AlertSettings(fields=("merchant_id", "age"))
    decoder = Decoder(Settings(entity_key=KEY, transaction=FIELDS, alerts=chosen))
    messages = [transaction(channel="web", merchant_id="m", device="d"), transaction(age=3)]
    columns, _ = decoder.transactions(json_columns(messages))
    assert columns.texts is not None
    assert columns.texts.to_pylist() == [
        {"channel": "web", "merchant_id": "m"},
        {"channel": None, "merchant_id": None},
    ]
    joined = TransactionColumns.concatenate([columns.rows(1, 2), columns.take(np.array([0]))])
    assert joined.texts is not None
    assert joined.texts.field("channel").to_pylist() == [None, "web"]


def test_undeclared_fields_leave_columns_of_no_width() -> None:
    plain = Decoder(Settings(entity_key=KEY, transaction=TransactionFields(entities=())))
    columns, bad = plain.transactions(json_columns([transaction(currency=5, merchant_id=[])] * 2))
    assert bad == []
    assert columns.currency is None
    assert columns.entity_hash.shape == columns.numeric.shape == columns.categorical.shape == (2, 0)


def test_a_label_becomes_a_row_of_every_column(decoder: Decoder) -> None:
    messages = [
        label(label="fraud", source="chargeback", event_time=1_600_000_000_000),
        label(label="legit", source="customer"),
        label(label="legit", source="reversal"),
        label(outcome="blocked"),
        label(outcome="challenged", source="early_warning"),
    ]
    records = json_columns(messages)
    columns, bad = decoder.labels(records)
    assert bad == []
    kinds = [LabelKind.FRAUD, LabelKind.LEGIT, LabelKind.REVERSAL, LabelKind.OUTCOME, LabelKind.OUTCOME]
    assert columns.kind.tolist() == kinds
    assert columns.event_time_ms.tolist() == [1_600_000_000_000, -1, -1, -1, -1]
    assert columns.label_time_ms.tolist() == [1_700_000_000_000] * 5
    assert columns.value.to_pylist() == [records.value(i) for i in range(5)]
    transactions, _ = decoder.transactions(json_columns([transaction()]))
    assert columns.id_hash[0] == transactions.id_hash[0]
    assert columns.id_check[0] == transactions.id_check[0]


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("12.34", 12.34),
        ("0", 0.0),
        ("007.50", 7.5),
        ("1000000000000", 1e12),
        ("0.1234567890123", 0.1234567890123),
        ("12,34", None),
        ("-1", None),
        ("1e5", None),
        (" 1", None),
        ("", None),
        ("1.", None),
        (".5", None),
        ("NaN", None),
        ("1000000000000.01", None),
        ("9" * 40, None),
        (12.34, None),
        (True, None),
    ],
)
def test_an_amount_may_be_a_text_by_setting(text: Any, amount: float | None) -> None:
    fields = TransactionFields(amount_format="text")
    decoder = Decoder(Settings(entity_key=KEY, transaction=fields))
    # An escape makes a record odd, so that its model reads it: both ways of reading must agree.
    odd = json.dumps(transaction(amount=text) | {"note": "\u00e9\n"}).encode()
    plain = json.dumps(transaction(amount=text)).encode()
    columns, bad = decoder.transactions(record_columns([plain, odd], [b"c1", b"c1"]))
    assert columns.amount.tolist() == ([] if amount is None else [amount] * 2)
    assert len(bad) == (2 if amount is None else 0)


@pytest.mark.parametrize("value", [5411, 0, -7, 10**17])
def test_categories_and_entities_may_be_integers_by_setting(value: int) -> None:
    declared = {"categorical": ("channel",), "entities": ("merchant_id",)}
    fields = TransactionFields(integer_texts=True, **declared)
    decoder = Decoder(Settings(entity_key=KEY, transaction=fields))
    message = transaction(channel=value, merchant_id=value)
    values = [message, message | {"note": "\n"}, message | {"channel": str(value), "merchant_id": str(value)}]
    columns, bad = decoder.transactions(json_columns(values))
    assert bad == []
    assert len(set(columns.categorical[:, 0].tolist())) == len(set(columns.entity_hash[:, 0].tolist())) == 1
    strict = Decoder(Settings(entity_key=KEY, transaction=TransactionFields(**declared)))
    assert len(strict.transactions(json_columns(values))[1]) == 2


@pytest.mark.parametrize("value", [1.5, True, [1], 10**18, 4111111111111111])
def test_what_is_no_small_integer_is_refused_all_the_same(value: Any) -> None:
    fields = TransactionFields(integer_texts=True, entities=("merchant_id",))
    decoder = Decoder(Settings(entity_key=KEY, transaction=fields))
    message = transaction(merchant_id=value)
    columns, bad = decoder.transactions(json_columns([message, message | {"note": "\n"}]))
    assert (len(columns), len(bad)) == (0, 2)


def test_labels_of_every_source_are_used_and_counted_under_few_names(decoder: Decoder) -> None:
    sources = ["issuer", "chargeback", "reversal", "né" * 32, "analyst"]
    messages = [label(label="legit", source=source) for source in sources] + [label(outcome="blocked")]
    columns, bad = decoder.labels(json_columns(messages))
    assert bad == []
    names = [LabelSource(number).name.lower() for number in columns.source.tolist()]
    assert names == ["other", "chargeback", "reversal", "other", "analyst", "none"]


def test_the_users_words_mean_what_the_settings_say() -> None:
    fields = LabelFields(
        values={
            "CONFIRMED_FRAUD": "fraud",
            "GENUINE": "legit",
            "CB_WON": "reversal",
            "DECLINED": "declined",
            "representment": "reversal",
        }
    )
    decoder = Decoder(Settings(entity_key=KEY, label=fields))
    messages = [
        label(label="CONFIRMED_FRAUD", source="issuer"),
        label(label="fraud", source="issuer"),
        label(label="GENUINE", source="issuer"),
        label(label="GENUINE", source="representment"),
        label(label="CB_WON", source="issuer"),
        label(label="DECLINED", source=None),
        label(outcome="DECLINED"),
    ]
    columns, bad = decoder.labels(json_columns(messages))
    assert bad == []
    assert [LabelKind(kind).name for kind in columns.kind.tolist()] == [
        "FRAUD",
        "FRAUD",
        "LEGIT",
        "REVERSAL",
        "REVERSAL",
        "OUTCOME",
        "OUTCOME",
    ]
    wrong = [
        label(label="confirmed_fraud", source="issuer"),
        label(label="CONFIRMED_FRAUD", source="representment"),
        label(label="GENUINE", source=None),
        label(outcome="GENUINE"),
    ]
    columns, bad = decoder.labels(json_columns(wrong))
    assert [record.reason for record in bad] == [Reason.BAD_LABEL] * 4


@pytest.mark.parametrize("time_format", ["epoch_s", "iso8601"])
def test_a_label_that_leaves_the_event_time_out_has_none_in_any_time_format(time_format: TimeFormat) -> None:
    decoder = Decoder(Settings(entity_key=KEY, label=LabelFields(time_format=time_format)))
    time = 1_700_000_000.5 if time_format == "epoch_s" else "2023-11-14T22:13:20.500Z"
    messages = [
        label(label="fraud", source="analyst", label_time=time, **at) for at in ({}, {"event_time": time})
    ]
    columns, _ = decoder.labels(json_columns(messages))
    assert columns.label_time_ms.tolist() == [1_700_000_000_500] * 2
    assert columns.event_time_ms.tolist() == [-1, 1_700_000_000_500]


BAD = {
    Reason.NULL_VALUE: (b"c1", None),
    Reason.NULL_KEY: (None, json.dumps(transaction()).encode()),
    Reason.KEY_MISMATCH: (b"c2", json.dumps(transaction()).encode()),
    Reason.TOO_LARGE: (b"c1", json.dumps(transaction(note="x" * MAX_RECORD_BYTES)).encode()),
    Reason.NOT_JSON: (b"c1", b"{"),
    Reason.NOT_AN_OBJECT: (b"c1", b"[]"),
    Reason.MISSING_FIELD: (b"c1", b"{}"),
    Reason.WRONG_TYPE: (b"c1", json.dumps(transaction(amount="1")).encode()),
    Reason.NOT_FINITE: (b"c1", json.dumps(transaction(amount=float("nan"))).encode()),
    Reason.OUT_OF_RANGE: (b"c1", json.dumps(transaction(amount=-1)).encode()),
    Reason.BAD_TEXT: (b"c1", json.dumps(transaction(transaction_id="")).encode()),
    Reason.CARD_NUMBER: (b"c1", json.dumps(transaction(merchant_id="4111111111111111")).encode()),
}


def test_bad_records_are_set_aside_each_with_its_reason_and_the_good_ones_keep_their_order(
    decoder: Decoder,
) -> None:
    good = json.dumps(transaction()).encode()
    between = [row for pair in BAD.values() for row in (pair, (b"c1", good))]
    keys, values = zip((b"c1", good), *between, strict=True)
    columns, bad = decoder.transactions(record_columns(values, keys, topic="transactions"))
    assert columns.offsets.tolist() == [FIRST_OFFSET + 4 * i for i in range(len(BAD) + 1)]
    assert columns.transaction_id.to_pylist() == ["t1"] * len(columns)
    assert [record.reason for record in bad] == list(BAD)
    assert [record.value for record in bad] == [
        value and value[:MAX_RECORD_BYTES] for _, value in BAD.values()
    ]
    assert [record.offset for record in bad] == [FIRST_OFFSET + 2 + 4 * i for i in range(len(BAD))]
    assert {(record.topic, record.partition, record.stage) for record in bad} == {
        ("transactions", 3, "decode")
    }
    assert bad[0].timestamp_ms == TIMESTAMP_MS + 1
    assert all(record.detail and "4111" not in record.detail for record in bad)


def test_every_reason_is_a_reachable_one() -> None:
    of_labels_and_iso_times = {Reason.BAD_LABEL, Reason.BAD_TIME}
    of_the_guard = {Reason.MISPLACED}
    assert set(BAD) | of_labels_and_iso_times | of_the_guard == set(Reason)


def test_a_record_as_large_as_allowed_is_read(decoder: Decoder) -> None:
    shell = json.dumps(transaction(note=""))
    value = json.dumps(transaction(note="x" * (MAX_RECORD_BYTES - len(shell)))).encode()
    assert len(value) == MAX_RECORD_BYTES
    columns, bad = decoder.transactions(record_columns([value, value + b" "], [b"c1", b"c1"]))
    assert columns.offsets.tolist() == [FIRST_OFFSET]
    assert [record.reason for record in bad] == [Reason.TOO_LARGE]


def test_a_batch_of_nothing_and_a_batch_of_bad_records_are_empty_columns(decoder: Decoder) -> None:
    for records in (record_columns([], []), record_columns([b"", None], [b"", None])):
        transactions, bad = decoder.transactions(records)
        labels, bad_labels = decoder.labels(records)
        assert len(transactions) == len(labels) == 0
        assert len(bad) == len(bad_labels) == len(records)
        assert transactions.next_offset == labels.next_offset == records.next_offset
        assert transactions.entity_hash.shape == (0, 2)


def test_ordinary_records_are_read_by_the_compiled_loop() -> None:
    layout = RecordLayout.of(transaction_model(FIELDS), FIELDS.time_format)
    messages = [
        transaction(currency="EUR", age=0.1 + 0.2, channel="ecom", merchant_id="Café", device=None),
        transaction(note={"a": [1, -2.5e-7, {"b": None, "c": []}], "d": {}}, flags=[True, False, "x"]),
    ]
    values = [
        json.dumps(messages[0], ensure_ascii=False),
        json.dumps(messages[1], indent=2),
        json.dumps(messages[1]),
    ]
    records = record_columns([value.encode() for value in values], [b"c1"] * 3)
    cells = read_cells(Spans(records.data, records.value_start, records.value_length), layout.fields)
    assert cells.plain.tolist() == [True] * 3


def test_rows_say_where_they_end(decoder: Decoder) -> None:
    columns, _ = decoder.transactions(json_columns([transaction(transaction_id=f"t{i}") for i in range(5)]))
    middle = columns.rows(1, 3)
    assert middle.transaction_id.to_pylist() == ["t1", "t2"]
    assert middle.next_offset == FIRST_OFFSET + 6
    assert middle.entity_hash.shape == (2, 2)
    assert columns.rows(2, 2).next_offset == FIRST_OFFSET + 4
    assert columns.rows(3, 99).next_offset == columns.next_offset


def test_rows_join_to_what_they_were_cut_from(decoder: Decoder) -> None:
    transactions, _ = decoder.transactions(
        json_columns([transaction(transaction_id=f"t{i}") for i in range(5)])
    )
    labels, _ = decoder.labels(json_columns([label(transaction_id=f"t{i}") for i in range(5)]))
    parts = [transactions.rows(0, 2), transactions.rows(2, 2), transactions.rows(2, 5)]
    assert_equal(TransactionColumns.concatenate(parts), transactions)
    assert_equal(LabelColumns.concatenate([labels.rows(0, 4), labels.rows(4, 5)]), labels)


def assert_equal(one: Any, other: Any) -> None:
    for field in fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right, field.name
