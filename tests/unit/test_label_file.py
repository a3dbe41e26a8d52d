"""Labels in a file of their own: as on the labels topic, joined by transaction id."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.vocabulary import MS_PER_DAY, LabelKind, LabelSource
from worker.errors import SettingsError
from worker.offline.dataset import NEVER, Dataset, read_dataset
from worker.offline.label_delay import LabelDelay
from worker.offline.label_file import LabelFile, LabelMatches, known_times_ms
from worker.settings.fields import LabelFields, TransactionFields

FIELDS = TransactionFields(entities=())
START_MS = 1_700_000_000_000
LABELS = LabelFields()


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def transactions(tmp_path: Path) -> Path:
    """Six transactions a day apart, in a file that is not in order of time."""
    rows = [
        {
            "transaction_id": f"t{day}",
            "card_id": "c",
            "event_time": START_MS + day * MS_PER_DAY,
            "amount": 1.0,
        }
        for day in (3, 0, 1, 2, 5, 4)
    ]
    return lines(tmp_path / "rows.jsonl", rows)


def label(name: str, label: str | None, day: float, **more: Any) -> dict[str, Any]:
    said = {"outcome": "declined"} if label is None else {"label": label, "source": "chargeback"}
    known_ms = START_MS + round(day * MS_PER_DAY)
    return {"transaction_id": name, "card_id": "c", "label_time": known_ms, **said, **more}


def days(times_ms: Any) -> list[float | None]:
    return [None if at == NEVER else (at - START_MS) / MS_PER_DAY for at in times_ms]


def joined(transactions: Path, labels: list[dict[str, Any]], **options: Any) -> Dataset:
    path = lines(transactions.with_name("labels.jsonl"), labels)
    return read_dataset(transactions, FIELDS, LabelFile(path, LABELS, **options))


def test_words_of_the_settings_and_sources_of_any_name_are_read(transactions: Path) -> None:
    rows = [label("t1", "CONFIRMED", 9, source="issuer"), label("t3", "Genuine", 9), label("t4", "WON", 9)]
    path = lines(transactions.with_name("labels.jsonl"), rows)
    fields = LabelFields(values={"CONFIRMED": "fraud", "Genuine": "legit", "WON": "reversal"})
    read = read_dataset(transactions, FIELDS, LabelFile(path, fields))
    assert read.is_fraud is not None
    assert read.label_source is not None
    assert read.is_fraud.tolist() == [False, True, False, False, False, False]
    assert days(read.label_time_ms) == [None, 9, None, 9, 9, None]
    assert read.label_source[1] == LabelSource.OTHER
    with pytest.raises(SettingsError, match=r"\[label.values\]"):
        read_dataset(transactions, FIELDS, LabelFile(path, LABELS))


def test_words_of_the_settings_may_mean_outcomes_in_either_column(transactions: Path) -> None:
    rows = [
        {"transaction_id": "t1", "label": "NO_REVIEW"},
        {"transaction_id": "t2", "outcome": "STOPPED"},
        {"transaction_id": "t3", "label": "fraud", "outcome": "STOPPED"},
    ]
    path = lines(transactions.with_name("labels.jsonl"), rows)
    fields = LabelFields(values={"NO_REVIEW": "not_reviewed", "STOPPED": "blocked"})
    read = read_dataset(transactions, FIELDS, LabelFile(path, fields))
    assert read.matches is not None
    assert (read.matches.labels, read.matches.outcomes, read.matches.undated) == (3, 2, 3)
    assert read.arrivals().kind.tolist() == [LabelKind.OUTCOME, LabelKind.OUTCOME, LabelKind.FRAUD]
    with pytest.raises(SettingsError, match=r"'outcome'.* 'STOPPED'.*\[label.values\]"):
        read_dataset(transactions, FIELDS, LabelFile(path, LabelFields(values={"NO_REVIEW": "not_reviewed"})))


def test_a_number_that_is_missing_says_neither_a_label_nor_an_outcome(transactions: Path) -> None:
    """As pandas writes it: no null, but NaN."""
    path = transactions.with_name("labels.parquet")
    pq.write_table(pa.table({"transaction_id": ["t1", "t2"], "label": pa.array([1.0, np.nan])}), path)
    with pytest.raises(SettingsError, match="1 rows, first row 2, have neither 'label' nor 'outcome'"):
        read_dataset(transactions, FIELDS, LabelFile(path, LABELS))


def test_a_word_of_the_settings_is_named_and_taken_as_it_is_written(transactions: Path) -> None:
    """As a live worker takes it."""
    path = lines(transactions.with_name("labels.jsonl"), [label("t1", "CHARGEBACK", 9)])
    for values in ({}, {"chargeback": "fraud"}):
        with pytest.raises(SettingsError, match="holds 'CHARGEBACK' in row 1"):
            read_dataset(
                transactions, FIELDS, LabelFile(path, LabelFields.model_validate({"values": values}))
            )


def test_labels_of_cards_that_share_ids_find_the_transaction_of_their_card(tmp_path: Path) -> None:
    rows = [
        {"transaction_id": f"t{number}", "card_id": card, "event_time": START_MS + number, "amount": 1.0}
        for number in (1, 2)
        for card in ("a", "b")
    ]
    path = lines(tmp_path / "rows.jsonl", rows)
    said = [label("t1", "legit", 9, card_id="a"), label("t1", "fraud", 9, card_id="b")]
    read = joined(path, [*said, label("t2", "fraud", 9, card_id="z")])
    assert read.is_fraud is not None
    assert read.is_fraud.tolist() == [False, True, False, False]
    assert days(read.label_time_ms) == [9, 9, None, None]
    assert read.matches is not None
    assert (read.matches.unmatched, read.matches.superseded) == (1, 0)
    without = [{name: value for name, value in row.items() if name != "card_id"} for row in said]
    with pytest.raises(SettingsError, match=r"several cards share a transaction id: add a column 'card_id'"):
        joined(path, without)


def test_labels_of_no_transaction_at_all_are_refused_and_tokens_that_differ_are_named(
    transactions: Path,
) -> None:
    with pytest.raises(
        SettingsError, match=r"none of its 2 labels finds a transaction, first '\*{12}1111'"
    ) as raised:
        joined(transactions, [label("4111111111111111", "fraud", 5), label("t9", "fraud", 5)])
    assert "'transaction_id' (label.transaction_id) has to hold what" in str(raised.value)
    strange = [label("t1", "fraud", 9, card_id="another"), label("t9", "legit", 9, card_id="c")]
    with pytest.raises(
        SettingsError, match=r"the ids of 1 are there on other cards: 'card_id' \(label.card_id\)"
    ):
        joined(transactions, strange)


def test_labels_of_dates_alone_are_known_at_the_end_of_their_day(tmp_path: Path) -> None:
    """Where payments have dates alone, too: none of a day is decided with its own labels."""
    day_ms = START_MS // MS_PER_DAY * MS_PER_DAY
    row = {"transaction_id": "t1", "card_id": "c", "event_time": day_ms, "amount": 1.0}
    said = label("t1", "fraud", 0) | {"label_time": day_ms}
    read = joined(lines(tmp_path / "rows.jsonl", [row]), [said])
    assert read.label_time_ms is not None
    assert read.label_time_ms.tolist() == [day_ms + MS_PER_DAY - 1]


def test_labels_find_their_transactions_and_the_others_are_counted_and_named(transactions: Path) -> None:
    read = joined(
        transactions,
        [
            label("t1", "fraud", 9),
            label("t3", "legit", 4, source="analyst"),
            label("nowhere", "fraud", 5),
            label("4111111111111111", "fraud", 5),
        ],
    )
    assert read.is_fraud is not None
    assert read.transaction_id.to_pylist() == [f"t{day}" for day in range(6)]
    assert read.is_fraud.tolist() == [False, True, False, False, False, False]
    assert days(read.label_time_ms) == [None, 9, None, 4, None, None]
    assert read.label_source is not None
    assert read.label_source.tolist() == [0, LabelSource.CHARGEBACK, 0, LabelSource.ANALYST, 0, 0]
    assert read.matches is not None
    assert read.matches == LabelMatches(4, 0, 2, ("nowhere", "************1111"), 0)


def test_silence_counts_as_legit_unless_it_is_unknown_but_no_label_of_it_arrives(transactions: Path) -> None:
    labels = [label("t1", "fraud", 9), label("t2", None, 2)]
    read = joined(transactions, labels)
    assert read.truth_known.tolist() == [True, True, False, True, True, True]
    assert read.labels().row.tolist() == [1]
    read = joined(transactions, labels, silence_is_legit=False)
    assert read.truth_known.tolist() == [False, True, False, False, False, False]


def test_of_several_labels_the_last_verdict_counts_as_of_when_it_first_came(transactions: Path) -> None:
    read = joined(
        transactions,
        [
            label("t1", "legit", 20, source="reversal"),
            label("t1", "fraud", 9),
            label("t0", "fraud", 3),
            label("t0", "fraud", 2),
        ],
    )
    assert read.is_fraud is not None
    assert read.is_fraud.tolist()[:2] == [True, False]
    assert days(read.label_time_ms)[:2] == [2, 20]
    assert read.matches is not None
    assert read.matches.superseded == 2
    again = [
        label("t3", "fraud", 9),
        label("t3", "legit", 6),
        label("t3", "fraud", 12),
        label("t3", "fraud", 4),
    ]
    changed = joined(transactions, [*again, label("t4", "fraud", 8)])
    assert days(changed.label_time_ms)[3:5] == [9, 8]
    assert changed.matches is not None
    assert changed.matches.superseded == 3


def test_outcomes_arrive_as_such_in_order_of_time(transactions: Path) -> None:
    read = joined(transactions, [label("t2", None, 2), label("t1", "fraud", 9), label("t2", "fraud", 30)])
    assert read.truth_known.all()
    row, time_ms, kind = read.arrivals()
    assert row.tolist() == [2, 1, 2]
    assert days(time_ms) == [2, 9, 30]
    assert kind.tolist() == [LabelKind.OUTCOME, LabelKind.FRAUD, LabelKind.FRAUD]
    assert read.take(np.array([2])).arrivals().kind.tolist() == [LabelKind.OUTCOME, LabelKind.FRAUD]
    twice = joined(transactions, [label("t2", None, 20), label("t2", None, 3)])
    assert days(twice.arrivals().time_ms) == [3]


def test_a_label_without_a_time_takes_the_delay_and_none_comes_before_its_transaction(
    transactions: Path,
) -> None:
    timeless = [{"transaction_id": "t4", "label": "fraud"}, {"transaction_id": "t1", "label": "legit"}]
    read = joined(transactions, timeless, delay=LabelDelay(2.5))
    assert days(read.label_time_ms) == [None, 3.5, None, None, 6.5, None]
    read = joined(transactions, [label("t3", "fraud", 2.5), label("t4", "fraud", 2.5)], delay=LabelDelay(2.5))
    # The second one is dated more than a day before: its date stands for none.
    assert days(read.label_time_ms)[3:5] == [3, 6.5]
    assert read.early_labels == 2
    assert read.truth_from == "column 'label' of labels.jsonl"


def test_a_label_goes_to_the_row_that_a_worker_decides_where_an_id_repeats(tmp_path: Path) -> None:
    """The latest retry stands first in an export that begins with the newest."""
    first, retry = ({"transaction_id": "t", "card_id": "c", "amount": 1.0} for _ in range(2))
    first["event_time"], retry["event_time"] = START_MS, START_MS + MS_PER_DAY
    read = joined(lines(tmp_path / "rows.jsonl", [retry, first]), [label("t", "fraud", 9)])
    assert days(read.label_time_ms) == [9, None]
    # Where the first is refused, the worker decides the next.
    first["amount"] = None
    read = joined(lines(tmp_path / "rows.jsonl", [first, retry]), [label("t", "fraud", 9)])
    assert days(read.event_time_ms) == [1]
    assert days(read.label_time_ms) == [9]


def test_a_label_of_a_refused_row_alone_finds_no_transaction(tmp_path: Path) -> None:
    rows = [
        {"transaction_id": name, "card_id": "c", "amount": amount, "event_time": START_MS}
        for name, amount in (("good", 1.0), ("bad", None))
    ]
    read = joined(lines(tmp_path / "rows.jsonl", rows), [label("bad", "fraud", 9)])
    assert read.matches is not None
    assert (read.matches.unmatched, read.matches.examples) == (1, ("bad",))


def test_a_date_without_an_hour_is_known_at_the_end_of_its_day(transactions: Path, tmp_path: Path) -> None:
    path = tmp_path / "chargebacks.csv"
    path.write_text(
        "transaction_id,label,label_time\nt1,fraud,2023-11-15\nt2,legit,2023-11-15\nt3,fraud,2023-11-20T09:00:00\n",
        encoding="utf-8",
    )
    read = read_dataset(transactions, FIELDS, LabelFile(path, LABELS))
    assert read.label_time_ms is not None
    # The day of t1, which begins before it, whatever other labels say; and the day before t2, known with it.
    assert read.label_time_ms.tolist()[1] == 1_700_092_799_999
    assert days(read.label_time_ms)[2] == 2
    assert read.early_labels == 1
    path.write_text("transaction_id,label,label_time\nt1,fraud,1700092800\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=r'set label\.time_format = "epoch_s"'):
        read_dataset(transactions, FIELDS, LabelFile(path, LABELS))


def test_the_midnight_of_a_payment_that_is_labelled_at_once_stays_where_others_have_hours() -> None:
    midnight, hour = 1_700_006_400_000, 3_600_000
    happened = np.array([midnight, midnight + hour, midnight], np.int64)
    at_once, known = happened.copy(), np.ones(3, np.bool_)
    assert known_times_ms(at_once, happened, known, happened)[0].tolist() == happened.tolist()
    dates = np.full(3, midnight, np.int64)
    end_of_day = midnight + MS_PER_DAY - 1
    assert known_times_ms(dates, happened, known, happened)[0].tolist() == [end_of_day] * 3


@pytest.mark.parametrize(
    ("time", "said"),
    [
        ("20231116", r'such as 2023-11-16, and set label\.time_format = "iso8601"'),
        ("1700092800000000", r"in microseconds: divide by 1,000"),
        ("2199-01-01", r"holds 2199-01-01 in line 2: a label time lies before 2100"),
    ],
)
def test_a_file_of_labels_whose_times_never_come_is_refused(
    transactions: Path, tmp_path: Path, time: str, said: str
) -> None:
    path = tmp_path / "chargebacks.csv"
    path.write_text(f"transaction_id,label,label_time\nt1,fraud,{time}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=rf"column 'label_time' .*{said}"):
        read_dataset(transactions, FIELDS, LabelFile(path, LABELS))


def test_columns_may_have_other_names_and_a_csv_will_do(transactions: Path, tmp_path: Path) -> None:
    path = tmp_path / "chargebacks.csv"
    path.write_text("payment,verdict\nt5,Y\nt0,N\n", encoding="utf-8")
    fields = LABELS.model_copy(update={"transaction_id": "payment", "label": "verdict"})
    read = read_dataset(transactions, FIELDS, LabelFile(path, fields))
    assert read.is_fraud is not None
    assert read.is_fraud.tolist() == [False] * 5 + [True]
    assert days(read.label_time_ms) == [7, None, None, None, None, 12]


def test_a_stretch_of_the_file_leaves_no_label_unmatched(transactions: Path) -> None:
    path = lines(transactions.with_name("labels.jsonl"), [label("t0", "fraud", 9), label("t5", "fraud", 9)])
    read = read_dataset(transactions, FIELDS, LabelFile(path, LABELS), start_ms=START_MS + 4 * MS_PER_DAY)
    assert read.labels().row.tolist() == [1]
    assert read.matches is not None
    assert read.matches.unmatched == 0


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"transaction_id": "t0", "label": "perhaps"}, "column 'label' holds 'perhaps'"),
        ({"transaction_id": "t0", "outcome": "gone"}, "column 'outcome' holds 'gone'; make it one of declined"),
        ({"transaction_id": "t0", "source": "analyst"}, "1 rows, first row 1, have neither 'label' nor 'outcome'"),
        ({"id": "t0", "label": "fraud"}, "lacks column 'transaction_id', which label.transaction_id names"),
    ],
)  # fmt: skip
def test_labels_that_say_nothing_known_are_refused(
    row: dict[str, Any], message: str, transactions: Path
) -> None:
    with pytest.raises(SettingsError) as raised:
        joined(transactions, [row])
    assert message in str(raised.value)


def test_a_dataset_with_joined_labels_can_be_changed_and_taken(transactions: Path) -> None:
    read = joined(transactions, [label("t1", "fraud", 9), label("t2", None, 2)])
    part = dataclasses.replace(read.take(np.array([1, 2])), silence_is_legit=False)
    assert part.truth_known.tolist() == [True, False]
    assert part.matches is read.matches
