from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worker.commands.dataset_file import add_file, read_file
from worker.errors import SettingsError
from worker.offline.dataset import TruthColumns, read_dataset
from worker.offline.file_gaps import FileGaps, TimeStep
from worker.settings.fields import TransactionFields
from worker.settings.sections import Settings

FIELDS = TransactionFields(event_time="step", entities=())
HOUR_MS = 3_600_000
NEW_YEAR_MS = 1_704_067_200_000


def file_of(folder: Path, **columns: Any) -> Path:
    path = folder / "given.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def test_numbers_of_rows_stand_in_for_ids_and_cards_that_a_file_lacks(tmp_path: Path) -> None:
    path = file_of(tmp_path, step=[NEW_YEAR_MS + 2, NEW_YEAR_MS, NEW_YEAR_MS + 1], amount=[1.0, 2.0, 3.0])
    read = read_dataset(path, FIELDS, None, FileGaps(number_rows=True))
    assert read.transaction_id.to_pylist() == ["2", "3", "1"]
    assert read.card_id.to_pylist() == ["2", "3", "1"]


def test_a_card_that_a_file_has_is_taken_though_its_rows_are_numbered(tmp_path: Path) -> None:
    path = file_of(tmp_path, step=[NEW_YEAR_MS] * 2, amount=[1.0, 2.0], card_id=["a", "a"])
    read = read_dataset(path, FIELDS, None, FileGaps(number_rows=True))
    assert read.transaction_id.to_pylist() == ["1", "2"]
    assert read.card_id.to_pylist() == ["a", "a"]


def test_what_stands_in_is_said(tmp_path: Path) -> None:
    path = file_of(tmp_path, step=[NEW_YEAR_MS], amount=[1.0])
    first, *_ = read_dataset(path, FIELDS, None, FileGaps(number_rows=True)).notes
    assert first.startswith("has no column transaction_id or card_id: the number of the row stands in")
    path = file_of(tmp_path, step=[NEW_YEAR_MS], amount=[1.0], transaction_id=["t"], card_id=["c"])
    assert read_dataset(path, FIELDS, None, FileGaps(number_rows=True)).notes == ()


def test_a_column_of_cards_that_is_empty_is_refused_as_it_is(tmp_path: Path) -> None:
    path = file_of(tmp_path, step=[NEW_YEAR_MS], amount=[1.0], card_id=pa.array([None], pa.string()))
    with pytest.raises(SettingsError, match="card_id: missing_field in 1 rows"):
        read_dataset(path, FIELDS, None, FileGaps(number_rows=True))


def test_rows_of_a_csv_and_of_lines_of_json_are_numbered_alike(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("step,amount\n1.5,2\n", encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"step": "1.5", "amount": 2}\n', encoding="utf-8")
    for ending in ("csv", "jsonl"):
        read = read_dataset(tmp_path / f"a.{ending}", FIELDS, None, FileGaps(True, "second"))
        assert read.transaction_id.to_pylist() == ["1"]
        assert read.event_time_ms.tolist() == [NEW_YEAR_MS + 1_500]
        assert not any("time_format" in note for note in read.notes)


@pytest.mark.parametrize(
    ("step", "at", "moment_ms"),
    [
        ("second", 1.5, NEW_YEAR_MS + 1_500),
        ("hour", 25, NEW_YEAR_MS + 25 * HOUR_MS),
        ("day", 3, NEW_YEAR_MS + 72 * HOUR_MS),
        # 2024 is a leap year: 31 days and 29.
        ("month", 2, NEW_YEAR_MS + 60 * 24 * HOUR_MS),
        ("month", 2.9, NEW_YEAR_MS + 60 * 24 * HOUR_MS),
        ("month", -1, NEW_YEAR_MS - 31 * 24 * HOUR_MS),
    ],
)
def test_steps_count_from_the_origin_on(tmp_path: Path, step: TimeStep, at: float, moment_ms: int) -> None:
    path = file_of(tmp_path, step=[at], amount=[1.0])
    read = read_dataset(path, FIELDS, None, FileGaps(number_rows=True, time_step=step))
    assert read.event_time_ms.tolist() == [moment_ms]


@pytest.mark.parametrize("step", ["second", "hour", "day", "month"])
@pytest.mark.parametrize("far", [float("inf"), -float("inf"), 1e300, -1e300])
def test_steps_beyond_all_times_are_refused(tmp_path: Path, step: TimeStep, far: float) -> None:
    path = file_of(tmp_path, step=[1.0, 2.0, far], amount=[1.0] * 3)
    read = read_dataset(path, FIELDS, None, FileGaps(True, step))
    assert [(it.reason, it.rows) for it in read.refused] == [("out_of_range", 1)]


def test_months_from_another_origin_keep_its_day(tmp_path: Path) -> None:
    origin_ms = NEW_YEAR_MS + 14 * 24 * HOUR_MS
    path = file_of(tmp_path, step=[1], amount=[1.0])
    read = read_dataset(path, FIELDS, None, FileGaps(True, "month", origin_ms))
    assert read.event_time_ms.tolist() == [origin_ms + 31 * 24 * HOUR_MS]


def test_rows_without_a_step_or_of_one_before_1970_are_refused_and_counted(tmp_path: Path) -> None:
    path = file_of(tmp_path, step=[1.0, None, -1e6, 2.0, 3.0], amount=[1.0] * 5)
    read = read_dataset(path, FIELDS, None, FileGaps(number_rows=True, time_step="hour"))
    assert read.transaction_id.to_pylist() == ["1", "4", "5"]
    assert [(it.reason, it.rows) for it in read.refused] == [("missing_field", 1), ("out_of_range", 1)]


def read(folder: Path, *options: str) -> list[int]:
    parser = argparse.ArgumentParser()
    add_file(parser)
    path = file_of(folder, step=[0, 1], amount=[1.0, 2.0], fraud=[0, 1])
    settings = Settings(entity_key="0f" * 16, transaction=FIELDS)
    dataset = read_file(parser.parse_args([str(path), *options]), settings)
    return [int(it) for it in dataset.event_time_ms]


def test_a_command_reads_a_file_of_steps_without_ids(tmp_path: Path) -> None:
    options = ("--number-rows", "--time-step", "day", "--fraud-column", "fraud")
    assert read(tmp_path, *options) == [NEW_YEAR_MS, NEW_YEAR_MS + 24 * HOUR_MS]
    assert read(tmp_path, *options, "--time-origin", "2024-01-02")[0] == NEW_YEAR_MS + 24 * HOUR_MS


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--number-rows", "--labels", "labels.csv"), "labels are joined by transaction id and card"),
        (("--time-origin", "2024-01-01"), "--time-origin needs --time-step"),
        (
            ("--time-step", "hour", "--fraud-column", "fraud", "--label-time-column", "at"),
            "leave --label-time-column",
        ),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SettingsError, match=said):
        read(tmp_path, *options)


def test_the_truth_is_that_of_the_numbered_rows(tmp_path: Path) -> None:
    path = file_of(tmp_path, step=[1, 0], amount=[1.0, 2.0], fraud=[1, 0])
    found = read_dataset(path, FIELDS, TruthColumns("fraud"), FileGaps(number_rows=True, time_step="day"))
    assert found.is_fraud is not None
    assert dict(zip(found.transaction_id.to_pylist(), found.is_fraud.tolist(), strict=True)) == {
        "1": True,
        "2": False,
    }
