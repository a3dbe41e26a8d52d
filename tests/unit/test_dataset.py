from __future__ import annotations

import dataclasses
import datetime as dt
import gzip
import json
import math
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worker.errors import SettingsError
from worker.offline.dataset import NEVER, Dataset, TruthColumns, read_dataset
from worker.settings.fields import TransactionFields

PLAIN = TransactionFields(transaction_id="id", card_id="card", event_time="at", amount="paid", entities=())
FIELDS = PLAIN.model_copy(update={"entities": ("shop",), "categorical": ("kind",), "numeric": ("score",)})
FIRST_MS = int(dt.datetime(2024, 2, 29, 23, 59, 58, tzinfo=dt.UTC).timestamp() * 1000)

CSV = """\
score,id,at,card,paid,shop,kind,fraud,ignored
0.5,0003,2024-03-01 00:00:00,00042,12.50,s1,NA,0,x
,0001,2024-02-29 23:59:58,00007,3,s2,,1,y
-1,0002,2024-03-01 00:00:00,00042,4.25,,online,0,z
"""
JSON_LINES = """\
{"id": "0003", "at": "2024-03-01T00:00:00Z", "card": "00042", "paid": 12.5, "shop": "s1", "kind": "NA", "score": 0.5, "fraud": false}
{"id": "0001", "at": "2024-02-29T23:59:58Z", "card": "00007", "paid": 3, "shop": "s2", "fraud": true}
{"id": "0002", "at": "2024-03-01T00:00:00Z", "card": "00042", "paid": 4.25, "kind": "online", "score": -1, "fraud": false}
"""  # noqa: E501


def write_csv(folder: Path) -> Path:
    path = folder / "rows.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


def write_compressed_csv(folder: Path) -> Path:
    path = folder / "rows.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode()))
    return path


def write_compressed_csv_in_capitals(folder: Path) -> Path:
    return write_compressed_csv(folder).rename(folder / "ROWS.CSV.GZ")


def write_json_lines(folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text(JSON_LINES, encoding="utf-8")
    return path


def write_parquet(folder: Path) -> Path:
    times = [FIRST_MS * 1000 + 2_000_000, FIRST_MS * 1000, FIRST_MS * 1000 + 2_000_000]
    table = pa.table(
        {
            "fraud": pa.array([0, 1, 0], pa.int64()),
            "id": ["0003", "0001", "0002"],
            "card": pa.array(["00042", "00007", "00042"]).dictionary_encode(),
            "at": pa.array(times, pa.timestamp("us")),
            "paid": pa.array([12.5, 3, 4.25], pa.float32()),
            "shop": ["s1", "s2", None],
            "kind": ["NA", None, "online"],
            "score": [0.5, None, -1.0],
        }
    )
    path = folder / "rows.parquet"
    pq.write_table(table, path)
    return path


@pytest.mark.parametrize(
    "write",
    [write_csv, write_compressed_csv, write_compressed_csv_in_capitals, write_json_lines, write_parquet],
)
def test_every_format_gives_the_same_columns_in_order_of_time(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    read = read_dataset(write(tmp_path), FIELDS, TruthColumns("fraud", delay_days=0.5))

    # 0003 stands before 0002 in the file and shares its time, so it stays before it.
    assert read.transaction_id.to_pylist() == ["0001", "0003", "0002"]
    assert read.card_id.to_pylist() == ["00007", "00042", "00042"]
    assert read.event_time_ms.tolist() == [FIRST_MS, FIRST_MS + 2000, FIRST_MS + 2000]
    assert read.amount.tolist() == [3.0, 12.5, 4.25]
    assert read.entities["shop"].to_pylist() == ["s2", "s1", None]
    assert read.categorical["kind"].to_pylist() == [None, "NA", "online"]
    assert read.truth_from == "column 'fraud'"
    np.testing.assert_array_equal(read.numeric["score"], [np.nan, 0.5, -1.0])
    assert read.is_fraud is not None
    assert read.is_fraud.tolist() == [True, False, False]
    assert read.label_time_ms is not None
    assert (read.label_time_ms - read.event_time_ms).tolist() == [43_200_000] * 3


def parquet_of(folder: Path, **columns: object) -> Path:
    given = {
        "id": ["a", "b"],
        "card": ["c", "d"],
        "at": [1_700_000_000_000, 1_700_000_000_001],
        "paid": [1.0, 2.0],
    }
    path = folder / "given.parquet"
    pq.write_table(pa.table(given | columns), path)
    return path


SOME_S = 1_700_000_000
TIMES = {
    "whole milliseconds": (pa.array([SOME_S * 1000 + 1, SOME_S * 1000 + 2]), "epoch_ms", [1, 2]),
    "milliseconds as floats": (pa.array([SOME_S * 1000 + 1.0, SOME_S * 1000 + 2.0]), "epoch_ms", [1, 2]),
    "seconds": (pa.array([SOME_S, SOME_S + 1]), "epoch_s", [0, 1000]),
    "decimals": (
        pa.array([Decimal(SOME_S * 1000 + 1), Decimal(SOME_S * 1000 + 2)], pa.decimal128(38, 0)),
        "epoch_ms",
        [1, 2],
    ),
    "seconds with fractions": (pa.array([SOME_S + 0.25, SOME_S + 1.5]), "epoch_s", [250, 1500]),
    "time stamps of nanoseconds": (
        pa.array([SOME_S * 10**9 + 1_999_999, SOME_S * 10**9 + 2_000_000], pa.timestamp("ns")),
        "iso8601",
        [1, 2],
    ),
    "time stamps of a zone": (
        pa.array([SOME_S * 1000 + 1, SOME_S * 1000 + 2], pa.timestamp("ms", "Europe/Paris")),
        "epoch_ms",
        [1, 2],
    ),
    "text without an offset": (
        pa.array(["2023-11-14T22:13:20.001", "2023-11-14 22:13:20.002"]),
        "iso8601",
        [1, 2],
    ),
    "text with offsets": (
        pa.array(["2023-11-14T23:13:20.001+01:00", "2023-11-14T22:13:20.002Z"]),
        "iso8601",
        [1, 2],
    ),
}


@pytest.mark.parametrize("kind", TIMES)
def test_times_of_every_kind_become_epoch_milliseconds(kind: str, tmp_path: Path) -> None:
    column, time_format, after_ms = TIMES[kind]
    fields = PLAIN.model_copy(update={"time_format": time_format})
    read = read_dataset(parquet_of(tmp_path, at=column), fields)
    assert (read.event_time_ms - SOME_S * 1000).tolist() == after_ms


def test_numbers_that_are_identifiers_become_text(tmp_path: Path) -> None:
    read = read_dataset(parquet_of(tmp_path, id=[10**15, 2], card=[7.0, 8.0]), PLAIN)
    assert read.transaction_id.to_pylist() == ["1000000000000000", "2"]
    assert read.card_id.to_pylist() == ["7", "8"]


def test_whole_numbers_that_a_missing_one_has_made_floating_are_written_as_such(tmp_path: Path) -> None:
    """As pandas writes a column of integers in which some are missing."""
    path = parquet_of(tmp_path, device=[123_456_789_012.0, math.nan], odd=[0.5, 2.0])
    read = read_dataset(path, PLAIN.model_copy(update={"entities": ("device",), "categorical": ("odd",)}))
    assert read.entities["device"].to_pylist() == ["123456789012", None]
    assert read.categorical["odd"].to_pylist() == ["0.5", "2"]


def test_numbers_too_long_to_be_told_apart_are_no_ids(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [
        {"id": 12_345_678_901_234_000_000 + n, "card": "c", "at": SOME_S * 1000, "paid": 1.0}
        for n in range(3)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    with pytest.raises(SettingsError, match=r"'id'.*too many digits, first in row 1: write them as texts"):
        read_dataset(path, PLAIN)


def test_text_that_looks_like_a_date_stays_text_in_json(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(
        '{"id": "2024-01-01", "card": "2024-01-02", "at": "2024-01-03", "paid": 1}\n', encoding="utf-8"
    )
    read = read_dataset(path, PLAIN)
    assert (read.transaction_id[0].as_py(), read.card_id[0].as_py()) == ("2024-01-01", "2024-01-02")
    assert read.event_time_ms.tolist() == [1_704_240_000_000]


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, None]),
        pa.array([1, None]),
        pa.array([1.0, float("nan")]),
        pa.array([" Fraud ", None]),
        pa.array(["TRUE", None]),
        pa.array(["Y", None]),
        pa.array(["yes", None]),
    ],
)
def test_truth_in_several_spellings_and_rows_without_it_are_never_labelled(
    column: pa.Array, tmp_path: Path
) -> None:
    read = read_dataset(parquet_of(tmp_path, fraud=column), PLAIN, TruthColumns("fraud"))
    assert read.label_time_ms is not None
    assert read.label_time_ms[1] == NEVER
    labels = read.labels()
    assert (labels.row.tolist(), labels.is_fraud.tolist()) == ([0], [True])
    assert labels.time_ms.tolist() == [1_700_000_000_000 + 7 * 86_400_000]


def test_an_empty_text_of_truth_or_of_a_number_is_missing_in_a_parquet_file_too(tmp_path: Path) -> None:
    path = parquet_of(
        tmp_path, id=["a", "b", "c"], card=["x", "y", "z"], paid=["1.5", "2", "3"],
        at=pa.array([10**9, 2 * 10**9, 3 * 10**9], pa.timestamp("ms")), fraud=["1", "", " "], km=["7", "", "8.5"],
        age=pa.array(["30", "", "41"]).dictionary_encode(),
    )  # fmt: skip
    read = read_dataset(path, PLAIN.model_copy(update={"numeric": ("km", "age")}), TruthColumns("fraud"))
    assert read.labelled.tolist() == [True, False, False]
    np.testing.assert_array_equal(read.numeric["km"], [7.0, np.nan, 8.5])
    np.testing.assert_array_equal(read.numeric["age"], [30.0, np.nan, 41.0])


def test_a_column_of_label_times_wins_over_the_delay_where_it_is_filled(tmp_path: Path) -> None:
    path = parquet_of(
        tmp_path,
        id=["a", "b", "c"], card=["x", "y", "z"], paid=[1.0, 1.0, 1.0],
        at=pa.array([10**9, 2 * 10**9, 3 * 10**9], pa.timestamp("ms")),
        fraud=[1, 0, 1],
        known=pa.array([5 * 10**9, None, 3 * 10**9 - 1], pa.timestamp("ms")),
    )  # fmt: skip
    read = read_dataset(path, PLAIN, TruthColumns("fraud", time="known", delay_days=1))
    assert read.label_time_ms is not None
    # The last one claims to be older than its transaction.
    assert read.label_time_ms.tolist() == [5 * 10**9, 2 * 10**9 + 86_400_000, 3 * 10**9]
    assert read.labels().row.tolist() == [1, 2, 0]
    assert read.labels(frauds_only=True).row.tolist() == [2, 0]


def test_what_a_repeat_says_reaches_no_worker(tmp_path: Path) -> None:
    """It would overrule the label of the first row, by which the decision is judged."""
    path = parquet_of(
        tmp_path, id=["a", "a", "a"], card=["x", "y", "x"], paid=[1.0, 1.0, 1.0],
        at=pa.array([10**9, 2 * 10**9, 3 * 10**9], pa.timestamp("ms")), fraud=[0, 0, 1],
    )  # fmt: skip
    read = read_dataset(path, PLAIN, TruthColumns("fraud"))
    assert read.labels().row.tolist() == [0, 1]
    assert read.arrivals().row.tolist() == [0, 1]


def test_integers_too_long_for_a_number_are_rounded_as_a_live_worker_rounds_them(tmp_path: Path) -> None:
    long = 794_395_160_122_058_561
    fields = PLAIN.model_copy(update={"numeric": ("score",)})
    read = read_dataset(parquet_of(tmp_path, score=pa.array([long, 2], pa.int64())), fields)
    assert read.numeric["score"].tolist() == [float(long), 2.0]


def test_label_times_may_be_in_seconds_where_events_are_in_milliseconds(tmp_path: Path) -> None:
    for known in ([1_700_000_500, 1_700_000_600], [1_700_000_500_000, 1_700_000_600_000]):
        path = parquet_of(tmp_path, fraud=[0, 1], known=known)
        read = read_dataset(path, PLAIN, TruthColumns("fraud", time="known"))
        assert read.label_time_ms is not None
        assert read.label_time_ms.tolist() == [1_700_000_500_000, 1_700_000_600_000]


@pytest.mark.parametrize(("option", "name"), [("--fraud-column", "fraud"), ("--label-time-column", "known")])
def test_the_truth_is_no_field_to_learn_from(tmp_path: Path, option: str, name: str) -> None:
    path = parquet_of(tmp_path, fraud=[0, 1], known=[1_700_000_500_000, 1_700_000_600_000])
    learnt = PLAIN.model_copy(update={"numeric": (name,)})
    with pytest.raises(SettingsError, match=rf"{option} {name}: transaction\.numeric names this column too"):
        read_dataset(path, learnt, TruthColumns("fraud", time="known"))


def test_values_that_only_look_like_card_numbers_are_taken_where_the_settings_say_so(tmp_path: Path) -> None:
    path = parquet_of(tmp_path, card=["4111111111111111", "c"], shop=["s", "5500000000000004"])
    with pytest.raises(
        SettingsError, match=r"refuse 2 of 2 rows: card: card_number in 1 rows, .*shop: card_number"
    ):
        read_dataset(path, PLAIN.model_copy(update={"entities": ("shop",)}))
    searched = {"entities": ("shop",), "not_searched": ("card", "shop")}
    assert len(read_dataset(path, PLAIN.model_copy(update=searched))) == 2


def test_a_window_of_time_includes_its_start_and_excludes_its_end(tmp_path: Path) -> None:
    path = parquet_of(
        tmp_path, id=["a", "b", "c"], card=["x"] * 3, paid=[1.0] * 3, at=[10**12, 10**12 + 1, 10**12 + 2]
    )
    read = read_dataset(path, PLAIN, start_ms=10**12, end_ms=10**12 + 2)
    assert read.transaction_id.to_pylist() == ["a", "b"]
    with pytest.raises(SettingsError, match=r"2001-09-09T01:46:40\.000 to 2001-09-09T01:46:40\.002"):
        read_dataset(path, PLAIN, start_ms=10**12 + 3)


def test_a_delay_can_be_changed_and_unknown_truth_stays_unknown(tmp_path: Path) -> None:
    read = read_dataset(parquet_of(tmp_path, fraud=pa.array([0, None])), PLAIN, TruthColumns("fraud"))
    assert read.with_label_delay(0).labels().time_ms.tolist() == [1_700_000_000_000]
    unlabelled = read_dataset(parquet_of(tmp_path), PLAIN)
    assert unlabelled.with_label_delay(3).is_fraud is None
    assert unlabelled.labels().row.size == 0


def test_rows_can_be_taken_in_any_order(tmp_path: Path) -> None:
    read: Dataset = read_dataset(write_csv(tmp_path), FIELDS, TruthColumns("fraud"))
    taken = read.take(np.array([2, 0]))
    assert len(taken) == 2
    assert taken.transaction_id.to_pylist() == ["0002", "0001"]
    assert taken.entities["shop"].to_pylist() == [None, "s2"]
    assert taken.is_fraud is not None
    assert taken.is_fraud.tolist() == [False, True]


COMPACT = {
    "days": ([20250115, 20250116, 20240229], "2025-01-15"),
    "minutes": ([202501151030, 202501160000, 202402292359], "2025-01-15T10:30:00"),
    "seconds": ([20250115103059, 20250116000000, 20240229235959], "2025-01-15T10:30:59"),
}


@pytest.mark.parametrize("time_format", ["epoch_ms", "epoch_s", "iso8601"])
@pytest.mark.parametrize("kind", COMPACT)
def test_dates_without_separators_are_not_taken_for_seconds_of_1970(
    kind: str, time_format: Any, tmp_path: Path
) -> None:
    numbers, written = COMPACT[kind]
    path = parquet_of(tmp_path, id=["a", "b", "c"], card=["x"] * 3, paid=[1.0] * 3, at=numbers)
    with pytest.raises(SettingsError) as raised:
        read_dataset(path, PLAIN.model_copy(update={"time_format": time_format}))
    said = str(raised.value)
    assert f"column 'at' (transaction.event_time) holds {numbers[0]}, a date without separators" in said
    assert f"write ISO 8601, such as {written}" in said
    assert ('set transaction.time_format = "iso8601"' in said) == (time_format != "iso8601")


def test_seconds_of_august_1970_that_are_no_dates_are_seconds(tmp_path: Path) -> None:
    read = read_dataset(
        parquet_of(tmp_path, at=[20_250_115, 20_251_399]), PLAIN.model_copy(update={"time_format": "epoch_s"})
    )
    assert read.event_time_ms.tolist() == [20_250_115_000, 20_251_399_000]


@pytest.mark.parametrize(("unit", "divisor"), [("microseconds", 1_000), ("nanoseconds", 1_000_000)])
@pytest.mark.parametrize("time_format", ["epoch_ms", "epoch_s"])
def test_event_times_in_finer_units_say_by_what_to_divide(
    unit: str, divisor: int, time_format: Any, tmp_path: Path
) -> None:
    first = SOME_S * 1000 * divisor
    path = parquet_of(tmp_path, at=[first, first + divisor])
    with pytest.raises(SettingsError) as raised:
        read_dataset(path, PLAIN.model_copy(update={"time_format": time_format}))
    assert f"holds {first}, which is in {unit}: divide by {divisor:,}" in str(raised.value)
    assert ('set transaction.time_format = "epoch_ms"' in str(raised.value)) == (time_format == "epoch_s")


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ([20250115, 20250116], "holds 20250115, a date without separators: write ISO 8601, such as 2025-01-15"),
        ([SOME_S * 10**6, SOME_S * 10**6 + 1], "which is in microseconds: divide by 1,000"),
        ([SOME_S * 10**9, SOME_S * 10**9 + 1], "which is in nanoseconds: divide by 1,000,000"),
        ([SOME_S * 1000, SOME_S * 10**6], f"holds {SOME_S * 10**6} in row 2: a label time lies before 2100"),
        (pa.array([dt.date(2024, 1, 1), dt.date(9999, 12, 31)]), "holds 9999-12-31 in row 2: a label time lies"),
    ],
)  # fmt: skip
def test_label_times_that_never_come_are_refused_by_name(known: Any, said: str, tmp_path: Path) -> None:
    path = parquet_of(tmp_path, fraud=[0, 1], known=known)
    with pytest.raises(SettingsError) as raised:
        read_dataset(path, PLAIN, TruthColumns("fraud", time="known"))
    assert "column 'known' (--label-time-column) holds" in str(raised.value)
    assert said in str(raised.value)
    assert "time_format" not in str(raised.value), "no setting says it of this column"


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "no such column": (
        {"paid": None},
        "lacks column 'paid', which transaction.amount names (set transaction.amount to the column of amounts; where "
        "there is none, add one of 1 and set costs.missed_fraud_fixed to what a missed fraud costs); it has id, "
        "card, at, fraud",
    ),
    "no identifier at all": (
        {"card": [None, None]},
        "a live worker would refuse 2 of 2 rows: card: missing_field in 2 rows, first in row 1. Check [transaction]",
    ),
    "an amount that is text": (
        {"paid": ["1", "1,50"]},
        "column 'paid' (transaction.amount) does not hold numbers in row 2",
    ),
    "nothing that is taken": (
        {"paid": [float("inf"), 1.0], "at": [1_700_000_000_000, None]},
        "refuse 2 of 2 rows: at: missing_field in 1 rows, first in row 2; paid: not_finite in 1 rows, first in row 1",
    ),
    "seconds for milliseconds": ({"at": [1_700_000_000, 1]}, 'set transaction.time_format = "epoch_s"'),
    "times that are words": (
        {"at": ["2024-01-01", "today"]},
        "column 'at' (transaction.event_time) does not hold ISO 8601 times, all with or all without an offset, nor "
        "epoch times: row 2 holds 'today'",
    ),
    "a word among epoch times": ({"at": ["1700000000000", "today"]}, "row 2 holds 'today'"),
    "a truth of neither kind": (
        {"fraud": [0, 3]},
        "column 'fraud' (--fraud-column) holds '3' in row 2; make it one of fraud, 1, true, t, yes, y, legit,",
    ),
    "a truth in words of one's own": (
        {"fraud": ["ja", "nein"]},
        "; or give the word a meaning in [label.values], and the file as --labels given.parquet in place of",
    ),
    "card numbers": (
        {"card": ["4111111111111111", "5500000000000004"]},
        'card: card_number in 2 rows, first in row 1; where these are made up or no cards, add "card" to '
        "transaction.not_searched. Where they are cards, put a token, such as a keyed hash, in the place of each",
    ),
    "no truth at all": (
        {"fraud": [None, None]},
        "says of no transaction whether it is fraud: it is empty",
    ),
    "lists for text": ({"card": [["c"], ["d"]]}, "column 'card' (transaction.card_id) does not hold text"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_fault_is_told_with_its_file_and_column(fault: str, tmp_path: Path) -> None:
    changes, message = BROKEN[fault]
    columns = {"fraud": [0, 1]} | {name: column for name, column in changes.items() if column is not None}
    path = parquet_of(tmp_path, **columns)
    for name in [name for name, column in changes.items() if column is None]:
        pq.write_table(pq.read_table(path).drop_columns([name]), path)
    with pytest.raises(SettingsError) as raised:
        read_dataset(path, PLAIN, TruthColumns("fraud"))
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("time_format", ["epoch_ms", "epoch_s"])
def test_numbers_of_hours_or_months_are_not_taken_for_seconds(tmp_path: Path, time_format: str) -> None:
    count = 1_000
    columns = {name: [f"{name}{row}" for row in range(count)] for name in ("id", "card")}
    path = parquet_of(tmp_path, **columns, paid=[1.0] * count, at=[row % 744 for row in range(count)])
    with pytest.raises(
        SettingsError, match=r"no two of its numbers are a day apart in seconds: .* --time-step hour"
    ):
        read_dataset(path, PLAIN.model_copy(update={"time_format": time_format}))


def test_seconds_since_the_first_payment_are_taken(tmp_path: Path) -> None:
    count = 1_000
    columns = {name: [f"{name}{row}" for row in range(count)] for name in ("id", "card")}
    path = parquet_of(tmp_path, **columns, paid=[1.0] * count, at=[173 * row for row in range(count)])
    read = read_dataset(path, PLAIN.model_copy(update={"time_format": "epoch_s"}))
    assert read.event_time_ms[-1] == 173 * 999 * 1_000


def test_the_cell_that_is_quoted_is_that_of_the_row_that_is_named(tmp_path: Path) -> None:
    """Arrow casts each block of a large file for itself, and quotes whichever fails first."""
    path = tmp_path / "rows.csv"
    paid = {40: "first", 19_000: "later"}
    rows = "".join(f"a{row},{'c' * 200},2024-01-01,{paid.get(row, row)}\n" for row in range(20_000))
    path.write_text(f"id,card,at,paid\n{rows}", encoding="utf-8")
    with pytest.raises(SettingsError, match="in line 42: 'first'"):
        read_dataset(path, PLAIN)


def test_a_declared_column_that_a_file_lacks_is_named_with_the_remedy(tmp_path: Path) -> None:
    declared = PLAIN.model_copy(update={"entities": ("shop",)})
    expected = (
        r"lacks column 'shop', .* \(set transaction\.entities to those that it has, or to \[\]\); it has id,"
    )
    with pytest.raises(SettingsError, match=expected):
        read_dataset(parquet_of(tmp_path), declared)


@pytest.mark.parametrize("declared", [{"entities": ("card+country",)}, {"card_id": "card+country"}])
def test_a_joined_column_of_fields_that_are_not_named_says_what_joins(
    tmp_path: Path, declared: dict[str, Any]
) -> None:
    with pytest.raises(
        SettingsError, match=r"a \+ joins columns that are named each in transaction\.entities"
    ):
        read_dataset(parquet_of(tmp_path), PLAIN.model_copy(update=declared))


def test_all_columns_that_a_file_lacks_are_named_at_once(tmp_path: Path) -> None:
    declared = PLAIN.model_copy(update={"entities": ("shop",), "amount": "price"})
    with pytest.raises(SettingsError) as raised:
        read_dataset(parquet_of(tmp_path), declared)
    lacking = str(raised.value).partition("; it has ")[0]
    assert "column 'price', which transaction.amount names and column" in lacking, (
        "in the order of the settings"
    )
    assert "column 'shop', which transaction.entities names (set transaction.amount to" in lacking


def test_a_file_that_knows_no_card_is_refused_with_what_to_add(tmp_path: Path) -> None:
    path = parquet_of(tmp_path, **{f"v{number}": [1.0, 2.0] for number in range(60)})
    pq.write_table(pq.read_table(path).drop_columns(["card"]), path)
    with pytest.raises(SettingsError) as raised:
        read_dataset(path, PLAIN)
    assert "lacks column 'card', which transaction.card_id names" in str(raised.value)
    assert "--number-rows takes each for one of a card of its own" in str(raised.value)
    named = str(raised.value).partition("it has ")[2]
    assert named.startswith("id, ")
    assert named.count(",") == 39
    assert named.endswith(f" and {len(pq.read_schema(path)) - 40} more")


def test_a_line_that_is_no_json_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(JSON_LINES + '{"id": "x"\n', encoding="utf-8")
    with pytest.raises(SettingsError, match=r"does not read: JSON parse error: .* in line 4"):
        read_dataset(path, FIELDS)


def test_one_odd_time_is_refused_and_changes_no_format(tmp_path: Path) -> None:
    for at in ([1.7e9, 1.7e9, 1.7e12], [1.7e9, 1.7e9, float("nan")], [1.7e9, 1.7e9, -5.0]):
        path = parquet_of(tmp_path, id=["a", "b", "c"], card=["x"] * 3, paid=[1.0] * 3, at=at)
        read = read_dataset(path, PLAIN.model_copy(update={"time_format": "epoch_s"}))
        assert read.event_time_ms.tolist() == [1_700_000_000_000] * 2
        assert [refusal.rows for refusal in read.refused] == [1]
    dates = pa.array([dt.date(2024, 1, 1), dt.date(2024, 1, 2), dt.date(9999, 12, 31)])
    read = read_dataset(
        parquet_of(tmp_path, id=["a", "b", "c"], card=["x"] * 3, paid=[1.0] * 3, at=dates), PLAIN
    )
    assert read.refused == (("at", "out_of_range", 1, 3, None, "the years 1970 to 2099"),)
    assert str(read.refused[0]) == "at: out_of_range (the years 1970 to 2099) in 1 rows, first in row 3"


def test_a_delay_may_be_spread_and_a_part_of_the_file_has_the_delays_of_the_whole(tmp_path: Path) -> None:
    count = 4_000
    path = parquet_of(
        tmp_path,
        id=[f"t{row}" for row in range(count)], card=["x"] * count, paid=[1.0] * count, fraud=[0, 1] * (count // 2),
        at=list(range(10**12, 10**12 + count)),
    )  # fmt: skip
    truth = TruthColumns("fraud", delay_days=14.0, delay_sigma=0.5, delay_seed=3)
    read = read_dataset(path, PLAIN, truth)
    assert read.label_time_ms is not None
    logs = np.log((read.label_time_ms - read.event_time_ms) / 86_400_000 / 14.0)
    assert abs(float(np.median(logs))) < 0.03
    assert float(logs.std()) == pytest.approx(0.5, rel=0.05)
    part = read_dataset(path, PLAIN, truth, start_ms=10**12 + 1_000)
    assert part.label_time_ms is not None
    np.testing.assert_array_equal(part.label_time_ms, read.label_time_ms[1_000:])
    other = read_dataset(path, PLAIN, dataclasses.replace(truth, delay_seed=4)).label_time_ms
    assert other is not None
    assert (other != read.label_time_ms).mean() > 0.99
