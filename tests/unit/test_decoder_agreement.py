"""The two ways to read a record accept the same records and read the same values, to the bit.

The arbiter is `read_one`, the pydantic model on one record; what is compared with it is the decoder's columns.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.records import FIRST_OFFSET, record_columns
from worker.decoder import Decoder, LabelColumns, TransactionColumns
from worker.identity import Hasher
from worker.json_columns import read_cells
from worker.reader import Layout, read_one
from worker.redaction import looks_like_card_number
from worker.schema import Fault, SourceName, label_model, transaction_model
from worker.settings import LabelFields, Settings, TimeFormat, TransactionFields
from worker.spans import Spans, card_numbers, iso_times

KEY = "000102030405060708090a0b0c0d0e0f"
TIME_FORMATS: tuple[TimeFormat, ...] = get_args(TimeFormat)
TIMES = {"epoch_ms": "1700000000123", "epoch_s": "1700000000.123", "iso8601": '"2023-11-14T22:13:20.123Z"'}

examples = settings(max_examples=40, deadline=None, derandomize=True)


class Pair:
    """A decoder, and the layouts by which its records are read one by one."""

    def __init__(self, time_format: TimeFormat) -> None:
        transaction = TransactionFields(
            time_format=time_format,
            currency="currency",
            numeric=("x", "y"),
            categorical=("k",),
            entities=("m", "d"),
        )
        label = LabelFields(time_format=time_format)
        chosen = Settings(entity_key=KEY, transaction=transaction, label=label)
        self.time_format = time_format
        self.decoder = Decoder(chosen)
        self.hasher = Hasher(chosen.hash_key)
        self.transaction = Layout.of(transaction_model(transaction), time_format)
        self.label = Layout.of(label_model(label), time_format)

    def check_transactions(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> int:
        """Compare; the number of records accepted."""
        keys = keys or [b"c1"] * len(values)
        columns, bad = self.decoder.transactions(record_columns(values, keys))
        read, faults = one_by_one(self.transaction, keys, values)
        assert columns.offsets.tolist() == offsets(read)
        assert [(b.offset, b.reason, b.detail) for b in bad] == faults
        self._compare_transactions(columns, list(read.values()))
        return len(read)

    def check_labels(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> int:
        """Compare; the number of records accepted."""
        keys = keys or [b"c1"] * len(values)
        columns, bad = self.decoder.labels(record_columns(values, keys))
        read, faults = one_by_one(self.label, keys, values)
        assert columns.offsets.tolist() == offsets(read)
        assert [(b.offset, b.reason, b.detail) for b in bad] == faults
        assert columns.value.to_pylist() == [values[row] for row in read]
        self._compare_labels(columns, list(read.values()))
        return len(read)

    def _compare_transactions(self, columns: TransactionColumns, read: list[Any]) -> None:
        assert columns.event_time_ms.tolist() == [one.event_time for one in read]
        assert bits(columns.amount) == bits([one.amount for one in read])
        assert columns.transaction_id.to_pylist() == [one.transaction_id for one in read]
        assert columns.card_id.to_pylist() == [one.card_id for one in read]
        assert columns.currency is not None
        assert columns.currency.to_pylist() == [one.currency for one in read]
        for i, name in enumerate(("numeric_0", "numeric_1")):
            assert bits(columns.numeric[:, i]) == bits([getattr(one, name) for one in read])
        self._compare_hashes(columns, read)
        for hashes, name in (
            (columns.categorical[:, 0], "categorical_0"),
            (columns.entity_hash[:, 0], "entity_0"),
            (columns.entity_hash[:, 1], "entity_1"),
        ):
            assert hashes.tolist() == self.hasher.entities(texts(read, name)).tolist()

    def _compare_labels(self, columns: LabelColumns, read: list[Any]) -> None:
        sources = [None, *get_args(SourceName)]
        assert columns.kind.tolist() == [one.kind for one in read]
        assert [sources[source] for source in columns.source] == [one.source for one in read]
        assert columns.label_time_ms.tolist() == [one.label_time for one in read]
        assert columns.event_time_ms.tolist() == [
            -1 if one.event_time is None else one.event_time for one in read
        ]
        self._compare_hashes(columns, read)

    def _compare_hashes(self, columns: TransactionColumns | LabelColumns, read: list[Any]) -> None:
        ids = texts(read, "transaction_id")
        assert columns.id_hash.tolist() == self.hasher.entities(ids).tolist()
        assert columns.id_check.tolist() == self.hasher.checks(ids).tolist()
        assert columns.card_hash.tolist() == self.hasher.entities(texts(read, "card_id")).tolist()


def one_by_one(
    layout: Layout, keys: Sequence[bytes | None], values: Sequence[bytes]
) -> tuple[dict[int, Any], list[tuple[int, str, str]]]:
    outcomes = {
        row: read_one(layout, key, value) for row, (key, value) in enumerate(zip(keys, values, strict=True))
    }
    read = {row: outcome for row, outcome in outcomes.items() if not isinstance(outcome, Fault)}
    faults = [
        (FIRST_OFFSET + 2 * row, outcome.reason.value, outcome.detail)
        for row, outcome in outcomes.items()
        if isinstance(outcome, Fault)
    ]
    return read, faults


def offsets(read: dict[int, Any]) -> list[int]:
    return [FIRST_OFFSET + 2 * row for row in read]


def texts(read: list[Any], name: str) -> pa.Array:
    return pa.array([getattr(one, name) for one in read], pa.string())


def bits(numbers: Any) -> list[bytes]:
    """IEEE bytes of numbers; NaN for None."""
    return [struct.pack("d", np.nan if number is None else number) for number in numbers]


@pytest.fixture(scope="module", params=TIME_FORMATS)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


def is_plain(pair: Pair, values: Sequence[bytes]) -> list[bool]:
    records = record_columns(values, [b"c1"] * len(values))
    plain: list[bool] = read_cells(
        Spans(records.data, records.value_start, records.value_length), pair.transaction.fields
    ).plain.tolist()
    return plain


STRINGS = [
    "a", "c1", "", "x" * 128, "x" * 129, "é" * 64, "é" * 128, "é" * 129, "x" * 256, "x" * 257, "日本", "😀",
    "a\x7fb", "a\x80b", "a\xa0b", "\ue000", "\ufeff", "4111111111111111", "4111 1111 1111 1111",
    "4111-1111-1111-1112", "411-1111111111111", "1234567890123", "fraud", "legit", "Fraud", "declined",
    "blocked", "chargeback", "reversal", "analyst", "customer", "2023-11-14T22:13:20Z", "2023-11-14 22:13:20",
    "2024-02-29T23:59:59.999999999+05:30", "2023-02-29T00:00:00Z", "1969-12-31T23:59:59Z",
    "1970-01-01T00:30:00+01:00", "2099-12-31T23:59:59.9999Z", "2100-01-01T00:00:00+00:01",
    "2023-01-01T24:00:00Z", "2023-01-01T00:00:60Z", "2023-01-01T00:00:00+24:00", "2023-01-01T00:00:00-23:59",
    "2023-01-01T00:00:00.", "2023-01-01T00:00:00.1234567890", "2023-00-01T00:00:00Z", "2023-01-01T00:00Z",
    "2023-01-01t00:00:00z", "2023-01-01T00:00:00 Z", "2023-1-01T00:00:00Z", "/023-01-01T00:00:00Z",
]  # fmt: skip

TOKENS = [
    "0", "-0", "-0.0", "0.0", "0e0", "1", "5", "-1", "-1e-5", "1700000000000", "1700000000",
    "1700000000.1235", "1.7e9", "1.7e12", "4102444799", "4102444799.9995", "4102444799.9999", "4102444800",
    "4102444799999", "4102444800000", "1e308", "1e309", "1e999", "-1e999", "1e-400", "5e-324", "2.5e-324",
    "2.2250738585072011e-308", "1.7976931348623158e308", "1.7976931348623159e308", "9007199254740992",
    "9007199254740993", "9007199254740993.0", "9223372036854775807", "9223372036854775808",
    "-9223372036854775809", "18446744073709551616", "123456789012345678", "999999999999999999",
    "1234567890123456789", "123456789012345678901234567890", "0.1", "0.30000000000000004", "1e22", "1e23",
    "1.5e23", "8.5e-23", "1e-22", "1e-23", "123456789.12345678", "1e12", "1000000000000.0001",
    "1000000000000.01", "3e38", "3.5e38", "-3e38", "NaN", "-NaN", "nan", "Infinity", "-Infinity", "inf",
    "true", "false", "null", "nul", "nulll", "truefalse", "True", "01", "-01", "00", "1.", ".5", "+1", "1e",
    "1e+", "1E5", "1E+05", "1e0005", "-", "--1", "0x10", "1_000", "1,5", "1 2", "[]", "{}", "[1, 2]",
    '{"a": 1}', '{"a": [{"b": []}, []]}', "[1,]", '{"a": 1,}', '{"a"}', "{1: 2}", "[}", "{]", "[[1]", "[,1]",
    "[1 2]", "[" * 32 + "]" * 32, "[" * 33 + "]" * 33, "[" * 150 + "]" * 150, "[" * 300 + "]" * 300,
    "[" * 50_000, '{"a":' * 33 + "1" + "}" * 33, '"\\u0063\\u0031"', '"\\ud83d\\ude00"', '"\\ud83d"',
    '"\\ude00"', '"\\n"', '"\\u0000"', '"a\\"b"', '"\\x"', '"\\', '"tab\there"', '"line\nbreak"',
    '"unterminated', "'single'", '"a" "b"', "", "0" * 70, "1" * 70, "1" * 400, "1" * 5_000,
    "0." + "0" * 70 + "1", "1." + "0" * 300 + "1", "1" * 60 + "e249", "1e" + "0" * 50 + "5",
    "1e99999999999999999999", "1e-99999999999999999999",
]  # fmt: skip

OTHERS = [
    b"", b" ", b"null", b"true", b"1", b'"x"', b"[]", b"{}", b"{", b"}", b"{}{}", b"\x00",
    b"\xff\xfe{\x00}\x00", b"{'a': 1}", b'{"a": 1', b'{"a" 1}', b'{"a":}', b'{:1}', b'{,}', b'{"a":1,,"b":2}',
    b'{"a":1 "b":2}', b'{a:1}', b'{"":1}', b"[{}]",
]  # fmt: skip

AROUND: list[Callable[[bytes], bytes]] = [
    lambda record: b" \t\r\n" + record + b"\n \t\r",
    lambda record: b"\xef\xbb\xbf" + record,
    lambda record: b"\x0b" + record,
    lambda record: b"\xc2\xa0" + record,
    lambda record: record + b"\x00",
    lambda record: record + b"x",
    lambda record: record + b",",
    lambda record: record + b"}",
    lambda record: record + record,
    lambda record: record + b"\n" + record,
    lambda record: b"[" + record + b"]",
    lambda record: record.replace(b",", b" ,\n  ").replace(b":", b"\t:\r\n "),
    lambda record: record.replace(b"}", b",}"),
    lambda record: record.replace(b'"amount"', b'"\\u0061mount"'),
    lambda record: record.replace(b'"amount"', b'"Amount"'),
    lambda record: record.replace(b'"amount"', b'"amount "'),
    lambda record: record.replace(b'"t1"', b'"t\xff"'),
    lambda record: record.replace(b'"t1"', b'"t\xc0\xaf"'),
    lambda record: record.replace(b'"t1"', b'"t\xed\xa0\x80"'),
    lambda record: record.replace(b'"t1"', b'"t\xf4\x90\x80\x80"'),
    lambda record: record.replace(b'"t1"', b'"t\xe2\x82"'),
    lambda record: record.replace(b'"t1"', b'"t\xf0\x9f\x98\x80"'),
    lambda record: record[:-1] + b',"\xff":1}',
    lambda record: record[:-1] + b',"note":"\xff"}',
    lambda record: record[:-1] + b',"amount":1}',
    lambda record: record[:-1] + b',"amount":"1"}',
    lambda record: b'{"amount":-1,' + record[1:],
    lambda record: record[:-1] + b',"note":1,"note":2}',
]


def transaction_fields(time_format: TimeFormat) -> dict[str, str]:
    return {
        "transaction_id": '"t1"',
        "card_id": '"c1"',
        "event_time": TIMES[time_format],
        "amount": "12.34",
        "currency": '"EUR"',
        "x": "0.5",
        "k": '"k1"',
        "m": '"m1"',
    }


def label_fields(time_format: TimeFormat) -> dict[str, str]:
    return {
        "transaction_id": '"t1"',
        "card_id": '"c1"',
        "label": '"fraud"',
        "source": '"chargeback"',
        "label_time": TIMES[time_format],
        "event_time": TIMES[time_format],
    }


def encode(fields: dict[str, str]) -> bytes:
    return ("{" + ",".join(f'"{name}":{token}' for name, token in fields.items()) + "}").encode()


def corpus(fields: dict[str, str], others: Sequence[str]) -> list[bytes]:
    """Every field in turn left out, and set to every string and token; and the record as a whole maltreated."""
    whole = encode(fields)
    tokens = [*TOKENS, *(json.dumps(string, ensure_ascii=False) for string in STRINGS)]
    tokens += [json.dumps(string) for string in STRINGS]
    varied = [encode({**fields, name: token}) for name in [*fields, *others] for token in tokens]
    without = [encode({name: fields[name] for name in fields if name != left_out}) for left_out in fields]
    return [whole, *varied, *without, *(change(whole) for change in AROUND), *OTHERS]


def test_the_corpus_of_transactions_is_read_alike(pair: Pair) -> None:
    values = corpus(transaction_fields(pair.time_format), ["y", "d", "note"])
    accepted = pair.check_transactions(values)
    assert 500 < accepted < len(values) - 500
    assert 400 < sum(is_plain(pair, values)) <= accepted, "or the comparison is of pydantic with itself"


def test_the_corpus_of_labels_is_read_alike(pair: Pair) -> None:
    fields = label_fields(pair.time_format)
    outcome = {name: fields[name] for name in ("transaction_id", "card_id", "label_time")} | {
        "outcome": '"declined"'
    }
    values = corpus(fields, ["supersedes", "outcome"]) + corpus(outcome, ["label", "source"])
    accepted = pair.check_labels(values)
    assert 200 < accepted < len(values) - 500


def test_keys_are_compared_alike(pair: Pair) -> None:
    keys: list[bytes | None] = [None, b"", b"c", b"c1", b"c12", b"C1", b"\xff", b"c1\x00"]
    escaped = {**transaction_fields(pair.time_format), "card_id": '"\\u0063\\u0031"'}
    for value in (encode(transaction_fields(pair.time_format)), encode(escaped)):
        assert pair.check_transactions([value] * len(keys), keys) == 1
    assert pair.check_labels([encode(label_fields(pair.time_format))] * len(keys), keys) == 1


def test_no_record_is_read_beyond_its_end(pair: Pair) -> None:
    fields = transaction_fields(pair.time_format) | {"note": '{"a":[1,"é",{"b":null}],"c":true}', "y": "1e-5"}
    record = encode(fields)
    # Behind each of these lies the rest of the same record, so reading on would make it whole.
    start = np.zeros(len(record) + 1, dtype=np.int64)
    spans = Spans(np.frombuffer(record, dtype=np.uint8), start, np.arange(len(record) + 1))
    plain = read_cells(spans, pair.transaction.fields).plain
    assert plain.tolist() == [False] * len(record) + [True]


@st.composite
def tokens(draw: Callable[[Any], Any]) -> str:
    number = st.floats(0, 1e13).map(repr) | st.floats().map(repr) | st.integers(0, 2**70).map(str)
    digits = st.tuples(st.integers(0, 10**24), st.integers(0, 10**20), st.integers(-330, 330))
    long = digits.map(lambda parts: f"{parts[0]}.{parts[1]}e{parts[2]}")
    string = st.text(max_size=20).map(json.dumps) | st.text(max_size=20).map(
        lambda s: json.dumps(s, ensure_ascii=False)
    )
    listed = st.sampled_from(TOKENS) | st.sampled_from(STRINGS).map(json.dumps)
    token: str = draw(number | long | string | listed)
    return token


@st.composite
def records(draw: Callable[[Any], Any], fields: dict[str, str]) -> bytes:
    names = [*fields, "y", "d", "k", "note", "outcome", "supersedes"]
    items = list((fields | draw(st.dictionaries(st.sampled_from(names), tokens(), max_size=2))).items())
    items = draw(st.permutations(items)) if draw(st.booleans()) else items
    record = bytearray(
        ("{" + ",".join(f'"{name}":{token}' for name, token in items) + "}").encode("utf-8", "replace")
    )
    for at, byte in draw(
        st.lists(st.tuples(st.integers(0, len(record) - 1), st.integers(0, 255)), max_size=1)
    ):
        record[at] = byte
    return bytes(record)


@examples
@given(st.data())
def test_generated_transactions_are_read_alike(pair: Pair, data: st.DataObject) -> None:
    pair.check_transactions(data.draw(st.lists(records(transaction_fields(pair.time_format)), max_size=20)))


@examples
@given(st.data())
def test_generated_labels_are_read_alike(pair: Pair, data: st.DataObject) -> None:
    pair.check_labels(data.draw(st.lists(records(label_fields(pair.time_format)), max_size=20)))


@examples
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_no_bytes_make_the_decoder_raise(pair: Pair, values: list[bytes]) -> None:
    assert pair.check_transactions(values, values) == 0
    assert pair.check_labels(values, values) == 0


def test_numbers_are_rounded_to_the_nearest_double() -> None:
    pair = Pair("epoch_ms")
    rng = np.random.default_rng(7)
    doubles = rng.integers(0, 2**63, 4_000).view(np.float64)
    doubles = doubles[np.abs(doubles) < 3e38]
    written = [text for x in doubles.tolist() for text in (repr(x), f"{x:.17e}", f"{x:.25e}")]
    written += [f"{x:.2f}" for x in rng.gamma(1, 100, 2_000)]
    # In the middle between two doubles is where rounding twice goes wrong; just above it, dropping digits.
    middles = 2 * rng.integers(2**52, 2**53, 500) + 1
    written += [f"{middle}{fraction}" for middle in middles for fraction in (".0", ".000000000001")]
    values = [encode(transaction_fields("epoch_ms") | {"x": token}) for token in written]
    columns, bad = pair.decoder.transactions(record_columns(values, [b"c1"] * len(values)))
    assert bad == []
    assert bits(columns.numeric[:, 0]) == bits([float(token) for token in written])
    assert sum(is_plain(pair, values)) > 0.8 * len(values)


def test_iso_times_are_read_as_the_standard_library_reads_them() -> None:
    rng = np.random.default_rng(8)
    written, expected = [], []
    for milliseconds, minutes in zip(
        rng.integers(86_400_000, 4_102_358_400_000, 3_000).tolist(),
        rng.integers(-1439, 1440, 3_000).tolist(),
        strict=True,
    ):
        moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=milliseconds)
        written.append(moment.astimezone(timezone(timedelta(minutes=minutes))).isoformat())
        expected.append(milliseconds)
    assert iso_times(spans_of(written)).tolist() == expected


def test_the_compiled_loop_suspects_every_card_number() -> None:
    rng = np.random.default_rng(9)
    digits = ["".join(map(str, rng.integers(0, 10, size))) for size in rng.integers(11, 22, 3_000)]
    grouped = [" ".join(text[i : i + 4] for i in range(0, len(text), 4)) for text in digits]
    dashed = [f"{text[:4]}-{text[4:10]}-{text[10:]}" for text in digits]
    candidates = [*digits, *grouped, *dashed, *("x" + text for text in digits)]
    is_card = [looks_like_card_number(text) for text in candidates]
    suspected = card_numbers(spans_of(candidates))
    assert sum(is_card) > 300
    assert all(suspected[is_card])
    assert suspected.sum() < 0.2 * len(candidates), "or ordinary digits take the slow way"


def spans_of(strings: Sequence[str]) -> Spans:
    length = np.array([len(string) for string in strings], dtype=np.int64)
    return Spans(np.frombuffer("".join(strings).encode(), dtype=np.uint8), np.cumsum(length) - length, length)
