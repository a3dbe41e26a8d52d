"""JSON records made by hand, most of them hostile: what a user's system may send by mistake or on purpose."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from worker.settings.fields import TimeFormat

TIMES: dict[TimeFormat, str] = {
    "epoch_ms": "1700000000123",
    "epoch_s": "1700000000.123",
    "iso8601": '"2023-11-14T22:13:20.123Z"',
}

STRINGS = [
    "a", "c1", "", "x" * 128, "x" * 129, "é" * 64, "é" * 128, "é" * 129, "x" * 256, "x" * 257, "日本", "😀",
    "a\x7fb", "a\x80b", "a\xa0b", "\ue000", "\ufeff", "4111111111111111", "4111 1111 1111 1111",
    "4111-1111-1111-1112", "411-1111111111111", "1234567890123", "fraud", "legit", "Fraud", "declined",
    "blocked", "chargeback", "reversal", "analyst", "customer", "2023-11-14T22:13:20Z", "2023-11-14 22:13:20",
    "2024-02-29T23:59:59.999999999+05:30", "2023-02-29T00:00:00Z", "1969-12-31T23:59:59Z",
    "1970-01-01T00:30:00+01:00", "2099-12-31T23:59:59.9999Z", "2100-01-01T00:00:00+00:01", "2100-01-01T00:00:00Z",
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
    """Return the names and JSON tokens of a good transaction's fields."""
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
    """Return the names and JSON tokens of a good label's fields."""
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
    """Return records with each field left out or set to every string and token, and records damaged as a whole."""
    whole = encode(fields)
    tokens = [*TOKENS, *(json.dumps(string, ensure_ascii=False) for string in STRINGS)]
    tokens += [json.dumps(string) for string in STRINGS]
    varied = [encode({**fields, name: token}) for name in [*fields, *others] for token in tokens]
    without = [encode({name: fields[name] for name in fields if name != left_out}) for left_out in fields]
    return [whole, *varied, *without, *(change(whole) for change in AROUND), *OTHERS]
