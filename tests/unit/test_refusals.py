"""A file's rows are refused exactly where, and why, a live worker sends records to the dead letters."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.records import record_columns
from worker.errors import SettingsError
from worker.offline.dataset import read_dataset
from worker.offline.refusals import looks_like_card_numbers
from worker.settings.fields import TransactionFields
from worker.settings.sections import Settings
from worker.wire.decoder import Decoder

FIELDS = TransactionFields(
    currency="currency", numeric=("age",), categorical=("channel",), entities=("merchant_id",)
)
CARD_NUMBER = "4111111111111111"
FAULTS: list[dict[str, Any]] = [
    {"transaction_id": ""},
    {"transaction_id": "t" * 129},
    {"transaction_id": "tab\there"},
    {"transaction_id": "new\nline"},
    {"card_id": CARD_NUMBER},
    {"card_id": "4111 1111 1111 1111"},
    {"card_id": "c" * 129},
    {"event_time": -1},
    {"event_time": 4_102_444_800_000},
    {"amount": -0.01},
    {"amount": 1.1e12},
    {"currency": "c" * 257},
    {"age": 4e38},
    {"age": -4e38},
    {"channel": "nul\x00"},
    {"channel": "c" * 257},
    {"merchant_id": CARD_NUMBER},
    {"merchant_id": "m" * 257},
    {"amount": -5.0, "merchant_id": CARD_NUMBER},
    {"card_id": CARD_NUMBER, "amount": -5.0},
]
ALLOWED: list[dict[str, Any]] = [
    {"transaction_id": CARD_NUMBER},
    {"transaction_id": "é" * 128},
    {"card_id": "4111111111111112"},
    {"card_id": "token-4111"},
    {"event_time": 0},
    {"event_time": 4_102_444_799_999},
    {"amount": 0.0},
    {"amount": 1e12},
    {"age": -3e38},
    {"currency": None, "age": None, "channel": None, "merchant_id": None},
    {"merchant_id": ""},
    {"channel": "ü" * 256},
]


def rows() -> list[dict[str, Any]]:
    """Every fault and every allowed edge, among as many plain rows."""
    plain = {"card_id": "c1", "event_time": 1_700_000_000_000, "amount": 12.5, "currency": "EUR", "age": 41.0,
             "channel": "web", "merchant_id": "m1"}  # fmt: skip
    changes = [*FAULTS, *ALLOWED, *({} for _ in FAULTS)]
    return [{"transaction_id": f"t{row}", **plain, **change} for row, change in enumerate(changes)]


def test_a_file_is_refused_what_a_live_worker_refuses_and_for_the_same_reasons(tmp_path: Path) -> None:
    given = rows()
    path = tmp_path / "rows.parquet"
    pa.parquet.write_table(pa.Table.from_pylist(given), path)
    read = read_dataset(path, FIELDS)

    decoder = Decoder(Settings(entity_key="0f" * 16, transaction=FIELDS))
    values = [json.dumps(row).encode() for row in given]
    columns, bad = decoder.transactions(record_columns(values, [row["card_id"].encode() for row in given]))
    assert len(bad) == len(FAULTS)
    found: Counter[str] = Counter()
    for refusal in read.refused:
        found[refusal.reason] += refusal.rows
    assert found == Counter(record.reason for record in bad)
    assert {it.column: it.allowed for it in read.refused if it.allowed} == {
        "event_time": "the years 1970 to 2099",
        "amount": "0 to 1e+12",
        "age": "at most 3e+38, of either sign",
    }
    assert sorted(read.transaction_id.to_pylist()) == sorted(columns.transaction_id.to_pylist())


def test_what_json_cannot_say_is_refused_too_and_each_row_counts_once(tmp_path: Path) -> None:
    given = rows()[-5:]
    given[0]["amount"] = None
    given[1]["amount"] = float("nan")
    given[2]["amount"] = float("inf")
    given[2]["age"] = float("inf")
    path = tmp_path / "rows.parquet"
    pa.parquet.write_table(pa.Table.from_pylist([*given, *rows()[-4:]]), path)
    assert read_dataset(path, FIELDS).refused == (
        ("amount", "missing_field", 2, 1, None, ""),
        ("amount", "not_finite", 1, 3, None, ""),
    )


def test_a_file_of_which_most_is_refused_is_not_what_the_settings_say(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "transaction_id,card_id,event_time,amount\n"
        f"a,{CARD_NUMBER},1700000000000,1\nb,{CARD_NUMBER},1700000000000,1\nc,c,1700000000000,1\n",
        encoding="utf-8",
    )
    with pytest.raises(
        SettingsError, match=r"2 of 3 rows: card_id: card_number in 2 rows, first in line 2"
    ) as raised:
        read_dataset(path, TransactionFields(entities=()))
    assert CARD_NUMBER not in str(raised.value)


def test_a_file_of_which_most_has_no_amount_says_what_else_may_be_one(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        "transaction_id,card_id,event_time,amount\na,c,1700000000000,-1\nb,c,1700000000000,-1\nc,c,1700000000000,1\n",
        encoding="utf-8",
    )
    with pytest.raises(
        SettingsError, match=r"Set transaction\.amount to a column of amounts of 0 or more; where"
    ):
        read_dataset(path, TransactionFields(entities=()))


def test_card_numbers_are_found_in_slices_and_beside_missing_values() -> None:
    texts = pa.array(["x", CARD_NUMBER, None, "4111-1111-1111-1111", "41111111111111", ""])
    assert looks_like_card_numbers(texts).tolist() == [False, True, False, True, False, False]
    assert looks_like_card_numbers(texts.slice(1, 3)).tolist() == [True, False, True]
    assert looks_like_card_numbers(texts.slice(3)).tolist() == [True, False, False]
    assert looks_like_card_numbers(pa.array([None, None], pa.string())).tolist() == [False, False]
    assert looks_like_card_numbers(pa.array([], pa.string())).dtype == np.bool_
