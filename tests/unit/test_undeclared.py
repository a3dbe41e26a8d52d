"""A file's columns that no setting names are named to its reader, with the settings that would take them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from worker.offline.dataset import TruthColumns, read_dataset
from worker.settings.fields import TransactionFields

FIELDS = TransactionFields(entities=(), numeric=("declared",))
ORDINARY: dict[str, list[object]] = {
    "transaction_id": ["a", "b"],
    "card_id": ["c", "d"],
    "event_time": [1_700_000_000_000, 1_700_000_001_000],
    "amount": [1.0, 2.0],
    "declared": [0.5, 1.5],
    "fraud": [0, 1],
}
MORE: dict[str, list[object]] = {
    "V1": [1, 2],
    "V2": [0.1, None],
    "new": [True, False],
    "type": ["x", "y"],
    "free": [None, None],
}


def said_of(folder: Path, ending: str, columns: dict[str, list[object]]) -> tuple[str, ...]:
    path, table = folder / f"rows.{ending}", pa.table(columns)
    if ending == "csv":
        pa.csv.write_csv(table, path)
    else:
        pa.parquet.write_table(table, path)
    return read_dataset(path, FIELDS, TruthColumns("fraud")).notes


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_columns_of_no_setting_are_named_with_the_lines_that_would_declare_them(
    tmp_path: Path, ending: str
) -> None:
    (said,) = said_of(tmp_path, ending, {**ORDINARY, **MORE})
    assert "nothing is learnt from columns that no setting names, 5 in all (V1, V2, new, type, ...)" in said
    assert 'numeric = ["declared", "V1", "V2", "new"] and categorical = ["type"],' in said


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_of_columns_that_settings_and_options_name_nothing_is_said(tmp_path: Path, ending: str) -> None:
    assert said_of(tmp_path, ending, dict(ORDINARY)) == ()


@pytest.mark.parametrize("name", ["", "__index_level_0__", "fraud_kind"])
def test_numbers_of_rows_and_the_truth_of_a_simulation_are_not_offered(tmp_path: Path, name: str) -> None:
    assert said_of(tmp_path, "parquet", {**ORDINARY, name: [1, 2]}) == ()


def test_of_two_columns_of_one_name_none_is_offered(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "transaction_id,card_id,event_time,amount,declared,V1,twice,twice\na,c,1700000000000,1.0,2.0,3,4,5\n",
        encoding="utf-8",
    )
    (said,) = read_dataset(tmp_path / "rows.csv", FIELDS).notes
    assert "1 in all (V1)" in said


def test_a_first_row_that_is_no_header_shows_no_card_number(tmp_path: Path) -> None:
    (said,) = said_of(tmp_path, "csv", {**ORDINARY, "4111111111111111": [1, 2]})
    assert "4111111111111111" not in said
