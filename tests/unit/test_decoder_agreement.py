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

from models.vocabulary import LabelKind
from tests.support.json_corpus import STRINGS, TOKENS, corpus, encode, label_fields, transaction_fields
from tests.support.records import FIRST_OFFSET, record_columns
from worker.identity import Hasher
from worker.redaction import looks_like_card_number
from worker.settings.fields import LabelFields, LabelMeaning, TimeFormat, TransactionFields
from worker.settings.sections import Settings
from worker.wire.decoder import Decoder, LabelColumns, TransactionColumns
from worker.wire.json_columns import read_cells
from worker.wire.json_reader import RecordLayout, read_one
from worker.wire.schema import Fault, Label, label_model, transaction_model
from worker.wire.spans import Spans, card_numbers, iso_times

WORDS: dict[str, LabelMeaning] = {"a": "fraud", "c1": "legit", "日本": "blocked", "😀": "reversal"}
KINDS = {
    "fraud": LabelKind.FRAUD,
    "legit": LabelKind.LEGIT,
    "a": LabelKind.FRAUD,
    "c1": LabelKind.LEGIT,
    "日本": LabelKind.OUTCOME,
    "😀": LabelKind.REVERSAL,
}
KEY = "000102030405060708090a0b0c0d0e0f"
TIME_FORMATS: tuple[TimeFormat, ...] = get_args(TimeFormat)

examples = settings(max_examples=40, deadline=None, derandomize=True)


class Pair:
    """A decoder, and the layouts by which its records are read one by one."""

    def __init__(self, time_format: TimeFormat, **formats: Any) -> None:
        transaction = TransactionFields(
            **formats,
            time_format=time_format,
            currency="currency",
            numeric=("x", "y"),
            categorical=("k",),
            entities=("m", "d"),
        )
        # Words of the corpus, so that its records say them.
        label = LabelFields(time_format=time_format, values=WORDS)
        chosen = Settings(entity_key=KEY, transaction=transaction, label=label)
        self.time_format = time_format
        self.decoder = Decoder(chosen)
        self.hasher = Hasher(chosen.hash_key)
        self.transaction = RecordLayout.of(
            transaction_model(transaction),
            time_format,
            amount_text=transaction.amount_format == "text",
            integer_texts=transaction.integer_texts,
        )
        self.label = RecordLayout.of(label_model(label), time_format)

    def check_transactions(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> int:
        """Compare both ways of reading; return the number of records accepted."""
        keys = keys or [b"c1"] * len(values)
        columns, bad = self.decoder.transactions(record_columns(values, keys))
        read, faults = one_by_one(self.transaction, keys, values)
        assert columns.offsets.tolist() == offsets(read)
        assert [(b.offset, b.reason, b.detail) for b in bad] == faults
        self._compare_transactions(columns, list(read.values()))
        return len(read)

    def check_labels(self, values: Sequence[bytes], keys: Sequence[bytes | None] | None = None) -> int:
        """Compare both ways of reading; return the number of records accepted."""
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
            (columns.card_hash, "card_id"),
            (columns.categorical[:, 0], "categorical_0"),
            (columns.entity_hash[:, 0], "entity_0"),
            (columns.entity_hash[:, 1], "entity_1"),
        ):
            assert hashes.tolist() == self.hasher.entities(texts(read, name)).tolist()

    def _compare_labels(self, columns: LabelColumns, read: list[Any]) -> None:
        assert columns.kind.tolist() == [kind_of(one) for one in read]
        assert columns.label_time_ms.tolist() == [one.label_time for one in read]
        assert columns.event_time_ms.tolist() == [
            -1 if one.event_time is None else one.event_time for one in read
        ]
        self._compare_hashes(columns, read)

    def _compare_hashes(self, columns: TransactionColumns | LabelColumns, read: list[Any]) -> None:
        ids = texts(read, "transaction_id")
        assert columns.id_hash.tolist() == self.hasher.entities(ids).tolist()
        assert columns.id_check.tolist() == self.hasher.checks(ids).tolist()


def kind_of(label: Label) -> LabelKind:
    if label.outcome is not None:
        return LabelKind.OUTCOME
    return LabelKind.REVERSAL if label.source in {"reversal", "😀"} else KINDS[str(label.label)]


def one_by_one(
    layout: RecordLayout, keys: Sequence[bytes | None], values: Sequence[bytes]
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


def test_the_corpus_of_transactions_is_read_alike(pair: Pair) -> None:
    values = corpus(transaction_fields(pair.time_format), ["y", "d", "note"])
    accepted = pair.check_transactions(values)
    assert 500 < accepted < len(values) - 500
    assert sum(is_plain(pair, values)) > 400, "or the comparison is of pydantic with itself"


def test_text_amounts_and_integer_categories_are_read_alike() -> None:
    pair = Pair("epoch_ms", amount_format="text", integer_texts=True)
    fields = transaction_fields("epoch_ms") | {"amount": '"12.34"', "k": "5411", "m": "-7"}
    values = corpus(fields, ["y", "d", "note"])
    amounts = [
        "0",
        "00.10",
        "1e3",
        "12.",
        ".5",
        "-1",
        "1000000000000",
        "1000000000000.1",
        " 1",
        "9" * 33,
        "1_0",
    ]
    values += [encode(fields | {"amount": f'"{text}"'}) for text in amounts]
    whole = [
        "0",
        "-0",
        "007",
        "1.0",
        "1e2",
        str(10**17),
        str(10**18 - 1),
        str(10**18),
        str(-(10**18) + 1),
        "-1",
    ]
    values += [encode(fields | {"k": text, "m": text}) for text in [*whole, "4111111111111111"]]
    accepted = pair.check_transactions(values)
    assert 300 < accepted < len(values) - 300
    assert sum(is_plain(pair, values)) > 200, "or the comparison is of pydantic with itself"


def test_the_corpus_of_labels_is_read_alike(pair: Pair) -> None:
    fields = label_fields(pair.time_format)
    outcome = {name: fields[name] for name in ("transaction_id", "card_id", "label_time")} | {
        "outcome": '"declined"'
    }
    values = corpus(fields, ["outcome"]) + corpus(outcome, ["label", "source"])
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


def test_a_field_said_twice_is_left_to_the_model(pair: Pair) -> None:
    record = encode(transaction_fields(pair.time_format))
    twice = [record[:-1] + b',"amount":1}', record[:-1] + b',"m":null}', record[:-1] + b',"x":1e-99,"x":2}']
    assert is_plain(pair, [record, *twice]) == [True, False, False, False]
    assert pair.check_transactions(twice) == 3


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
    names = [*fields, "y", "d", "k", "note", "outcome"]
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


def test_the_compiled_loop_and_the_model_find_the_same_card_numbers() -> None:
    rng = np.random.default_rng(9)
    digits = ["4" + "".join(map(str, rng.integers(0, 10, size))) for size in rng.integers(11, 22, 3_000)]
    grouped = [" ".join(text[i : i + 4] for i in range(0, len(text), 4)) for text in digits]
    dashed = [f"{text[:4]}-{text[4:10]}-{text[10:]}" for text in digits]
    candidates = [*digits, *grouped, *dashed, *("x" + text for text in digits)]
    is_card = [looks_like_card_number(text) for text in candidates]
    assert 300 < sum(is_card) < 0.2 * len(candidates)
    assert card_numbers(spans_of(candidates)).tolist() == is_card


def spans_of(strings: Sequence[str]) -> Spans:
    length = np.array([len(string) for string in strings], dtype=np.int64)
    return Spans(np.frombuffer("".join(strings).encode(), dtype=np.uint8), np.cumsum(length) - length, length)
