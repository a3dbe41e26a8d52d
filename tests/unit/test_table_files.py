"""Files that do not read, or not as a table: each is named with what is wrong and what to do."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from worker.errors import SettingsError
from worker.offline.dataset import TruthColumns, read_dataset
from worker.settings.fields import TransactionFields

PLAIN = TransactionFields(transaction_id="id", card_id="card", event_time="at", amount="paid", entities=())
FIELDS = PLAIN.model_copy(update={"entities": ("shop",), "categorical": ("kind",), "numeric": ("score",)})
SOME_S = 1_700_000_000


def test_a_file_without_a_header_shows_no_card_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,4111111111111111,2024-01-01,1\nb,4111111111111111,2024-01-02,1\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"it has a, \*{12}1111, 2024-01-01"):
        read_dataset(path, PLAIN)


def test_texts_that_are_not_utf_8_are_refused_in_every_format(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"id": "a\xff", "card": "c", "at": 1700000000000, "paid": 1.0}\n')
    with pytest.raises(SettingsError, match="does not read"):
        read_dataset(path, PLAIN)


@pytest.mark.parametrize(("opens", "closes"), [("[", "]"), ('{"a": ', "}")])
def test_json_that_would_overflow_the_stack_of_its_reader_is_refused_by_its_line(
    opens: str, closes: str, tmp_path: Path
) -> None:
    row = '{"id": "a", "card": "c", "at": 1700000000000, "paid": 1.0, "more": %s}'
    path = tmp_path / "rows.jsonl"
    for depth, refused in ((999, False), (1_000, True), (3_000_000, True)):
        lines = [row % "null", row % (opens * depth + "1" + closes * depth)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        if refused:
            with pytest.raises(SettingsError, match=r"line 2 has objects or lists more than 1,000 deep"):
                read_dataset(path, PLAIN)
        else:
            assert len(read_dataset(path, PLAIN)) == 2


def test_json_lines_that_do_not_inflate_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.gz"
    packed = gzip.compress(b'{"id": "a", "card": "c", "at": 1700000000000, "paid": 1.0}\n' * 1_000)
    for broken in (packed[:-12], b"no gzip", packed[:20] + b"\xff" * 20 + packed[40:]):
        path.write_bytes(broken)
        with pytest.raises(SettingsError):
            read_dataset(path, PLAIN)


def test_brackets_side_by_side_and_within_texts_are_not_deep(tmp_path: Path) -> None:
    row = '{"id": "a", "card": "c", "at": 1700000000000, "paid": 1.0, "more": [%s], "said": "\\\\\\"%s"}\n'
    path = tmp_path / "rows.jsonl.gz"
    path.write_bytes(gzip.compress((row % (",".join(["[]"] * 3_000), "[{" * 3_000)).encode()))
    assert len(read_dataset(path, PLAIN)) == 1


def test_files_that_do_not_read_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.csv: there is no such file"):
        read_dataset(tmp_path / "none.csv", PLAIN)
    (tmp_path / "parts.parquet").mkdir()
    with pytest.raises(SettingsError, match=r"parts\.parquet is a folder: name one file"):
        read_dataset(tmp_path / "parts.parquet", PLAIN)
    with pytest.raises(SettingsError, match=r"no \.zip"):
        read_dataset(tmp_path / "archive.zip", PLAIN)
    with pytest.raises(SettingsError, match=r"rows\.xlsx: the name must end in one of \.csv"):
        read_dataset(tmp_path / "rows.xlsx", PLAIN)
    (tmp_path / "rows.parquet").write_text("no parquet", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"rows\.parquet does not read"):
        read_dataset(tmp_path / "rows.parquet", PLAIN)
    (tmp_path / "empty.csv").write_text("id,card,at,paid\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"empty\.csv holds no rows"):
        read_dataset(tmp_path / "empty.csv", PLAIN)


def test_the_row_that_breaks_a_csv_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,card,at,paid\na,4111111111111111,2024-01-01\n", encoding="utf-8")
    with pytest.raises(SettingsError, match="line 2: Expected 4 columns, got 3") as raised:
        read_dataset(path, PLAIN)
    assert "4111" not in str(raised.value)


def test_a_value_that_is_no_number_is_named_by_its_line_and_shows_no_card_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    good = "".join(f"a{row},c,2024-01-01,{row}\n" for row in range(5_000))
    path.write_text(f"id,card,at,paid\n{good}a,c,2024-01-01,4111 1111 1111 1111\n{good}", encoding="utf-8")
    with pytest.raises(
        SettingsError, match=r"'paid' \(transaction.amount\) does not hold numbers in line 5002"
    ) as raised:
        read_dataset(path, PLAIN)
    assert "4111" not in str(raised.value)


HEAD = 'id,card,at,paid,fraud\n\na,c,2024-01-01,1,0\n\n"b\n2",c,2024-01-02,2,1\n'
"""Four lines of two rows: one is empty, and a text has two."""


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("d,c,2024-01-03,1,5 0,0", "line 7: Expected 5 columns, got 6"),
        ("d,c,2024-01-03,1 0,0", "does not hold numbers in line 7"),
        (
            "d,c,2024-01-03,$14.52,0",
            "in line 7: '$14.52'; numbers are written as 1234.5, without a currency",
        ),
        ("d,c,soon,1,0", "line 7 holds 'soon'"),
        ("d,c,2024-01-03,1,3", "holds '3' in line 7"),
        ("d,c,2024-01-03,-1,0\ne,c,2024-01-03,-1,0\nf,c,2024-01-03,-1,0", "in 3 rows, first in line 7"),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_every_fault_of_a_csv_is_named_by_the_line_that_an_editor_shows(
    tmp_path: Path, row: str, said: str, ending: str
) -> None:
    path, text = tmp_path / f"rows{ending}", f"{HEAD}{row}\n".encode()
    path.write_bytes(gzip.compress(text) if ending.endswith(".gz") else text)
    with pytest.raises(SettingsError) as raised:
        read_dataset(path, PLAIN, TruthColumns("fraud"))
    assert said in str(raised.value)


@pytest.mark.parametrize("paid", ["1,50", "1.50"])
@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_csv_of_another_separator_says_which_one_is_read(tmp_path: Path, separator: str, paid: str) -> None:
    path = tmp_path / "rows.csv"
    rows = [["id", "card", "at", "paid"], ["a", "c", "2024-01-01", paid]]
    path.write_text("".join(f"{separator.join(row)}\n" for row in rows), encoding="utf-8")
    with pytest.raises(SettingsError, match="columns have to be separated by commas") as raised:
        read_dataset(path, PLAIN)
    assert f"its columns are separated by {separator!r}" in str(raised.value)
    assert ("decimal commas by points" in str(raised.value)) is (separator == ";")


@pytest.mark.parametrize("cell", ["NA", "pos", "5_08"])
def test_a_cell_that_is_no_number_names_its_setting_and_what_would_be_right(
    tmp_path: Path, cell: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(f"id,card,at,paid,far\na,c,2024-01-01,1,{cell}\n", encoding="utf-8")
    with pytest.raises(SettingsError) as raised:
        read_dataset(path, PLAIN.model_copy(update={"numeric": ("far",)}))
    assert "column 'far' (transaction.numeric) does not hold numbers in line 2" in str(raised.value)
    assert "a missing one is an empty cell; a field of words belongs in transaction.categorical" in str(
        raised.value
    )


def test_a_text_of_several_lines_may_lie_anywhere_in_a_large_csv(tmp_path: Path) -> None:
    """Arrow reads blocks of 1 MiB side by side."""
    path, count = tmp_path / "rows.csv", 40_000
    rows = "".join(f'a{at},c,2024-01-01,1,"first\nsecond, of row {at}"\n' for at in range(count))
    path.write_text(f"id,card,at,paid,note\n{rows}", encoding="utf-8")
    assert len(read_dataset(path, PLAIN)) == count


@pytest.mark.parametrize("ending", ["csv", "csv.gz"])
def test_a_quote_that_is_never_closed_swallows_no_row(ending: str, tmp_path: Path) -> None:
    rows = [f"{n},c,{SOME_S + n}000,1,a note" for n in range(5_000)]
    path = tmp_path / f"rows.{ending}"

    def written(changed: dict[int, str]) -> Path:
        text = "\n".join(["id,card,at,paid,memo", *(changed.get(n, row) for n, row in enumerate(rows))])
        path.write_bytes(gzip.compress(text.encode()) if ending.endswith("gz") else text.encode())
        return path

    opened = f"100,c,{SOME_S + 100}000,1,\"Joe's bar"
    with pytest.raises(SettingsError, match=r"a quote opens in line 102 goes on to the end of the file"):
        read_dataset(written({100: opened}), PLAIN)
    closed = f'100,c,{SOME_S + 100}000,1,"Joe\'s\n""bar"""'
    assert (
        len(read_dataset(written({100: closed, 101: "", 102: 'x,c,1700000000000,1,5" pipe'}), PLAIN)) == 4_999
    )


def test_two_quotes_within_texts_swallow_no_row_between_them(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    notes = ["a note", '"5 inch', "a note", '"7 inch', "a note"]
    rows = "".join(f"{n},c,{SOME_S + n}000,1,{note}\n" for n, note in enumerate(notes))
    path.write_text(f"id,card,at,paid,memo\n{rows}", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"a quote opens in line 3 goes on to line 5: close it"):
        read_dataset(path, PLAIN)
    path.write_text(
        f'id,card,at,paid,memo\n1,c,{SOME_S}000,1,"two\nlines" \n2,c,{SOME_S}000,1,x\n', encoding="utf-8"
    )
    assert len(read_dataset(path, PLAIN)) == 2


def test_a_csv_that_names_a_column_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,card,at,paid,paid,x,x\na,c,2024-01-01,1,2,3,4\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r"rows\.csv has several columns 'paid'"):
        read_dataset(path, PLAIN)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_a_csv_of_utf_16_says_how_to_make_it_one_of_utf_8(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes("\ufeffid,card,at,paid\na,c,2024-01-01,1\n".encode(encoding))
    with pytest.raises(SettingsError, match="iconv --from utf-16 --to utf-8"):
        read_dataset(path, PLAIN)


def test_a_text_of_another_encoding_and_an_array_of_objects_say_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("id,card,at,paid\nü,c,2024-01-01,1\n", encoding="latin-1")
    with pytest.raises(SettingsError, match="the file has to be UTF-8"):
        read_dataset(path, PLAIN)
    path.write_text("id,card,at,paid,libellé\na,c,2024-01-01,1,x\n", encoding="latin-1")
    with pytest.raises(SettingsError, match="names of its columns are not UTF-8; the file has to be UTF-8"):
        read_dataset(path, PLAIN)
    path = tmp_path / "rows.json"
    path.write_text('[\n{"id": "a"},\n{"id": "b"}\n]\n', encoding="utf-8")
    with pytest.raises(SettingsError, match="each line has to be an object of its own"):
        read_dataset(path, PLAIN)
