"""What a reader of a file is made aware of: each sentence says what is odd and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models.vocabulary import MS_PER_DAY
from worker.offline.dataset import TruthColumns, read_dataset
from worker.offline.dataset_notes import notes, taught_unknown
from worker.offline.label_file import LabelFile, codes_of_ids
from worker.settings.fields import LabelFields, TransactionFields
from worker.settings.sections import LabelSettings, Settings

START_MS = 1_700_000_000_000
FIELDS = TransactionFields(entities=("shop",), currency="money", event_time="at")
TRUTH = TruthColumns("fraud", "known")


def row(number: int, **more: Any) -> dict[str, Any]:
    """Return a transaction of an hour of its own, known a day later to be legit; that of hour 1 to be fraud."""
    at_ms = START_MS + number * 3_600_000
    plain = {"transaction_id": f"t{number}", "card_id": "c", "shop": "s", "at": at_ms, "amount": 1.0}
    return plain | {"money": "EUR", "fraud": int(number == 1), "known": at_ms + MS_PER_DAY} | more


def said(
    tmp_path: Path,
    rows: list[dict[str, Any]],
    fields: TransactionFields = FIELDS,
    truth: TruthColumns | LabelFile | None = TRUTH,
) -> str:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(it) + "\n" for it in rows), encoding="utf-8")
    return "\n".join(notes(read_dataset(path, fields, truth)))


PLAIN = [row(at) for at in range(300)]


def test_of_ordinary_rows_nothing_is_said(tmp_path: Path) -> None:
    assert said(tmp_path, PLAIN) == ""


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([row(300, money="JPY")], "amounts are in 2 currencies (EUR, JPY)"),
        ([row(300, at=0)], "1 transactions lie far from all others (1970-01-01T00:00:00 UTC)"),
        ([row(300, at=START_MS + 9_999 * MS_PER_DAY, known=None)], "1 transactions lie far from all others"),
        ([row(300, known=START_MS)], "1 labels are dated before their transaction"),
        ([row(7, fraud=1)], "1 repeats of a transaction id say otherwise than the first"),
    ],
)
def test_what_is_odd_is_named(tmp_path: Path, more: list[dict[str, Any]], sentence: str) -> None:
    text = said(tmp_path, [*PLAIN, *more])
    assert sentence in text
    assert text.count("\n") == 0


@pytest.mark.parametrize(("rows", "repeats"), [(10, "30 of 40 rows repeat"), (37, "")])
def test_an_id_that_is_not_unique_is_named_where_many_rows_are_lost(
    tmp_path: Path, rows: int, repeats: str
) -> None:
    text = said(tmp_path, [row(at % rows) for at in range(40)])
    assert text.startswith(repeats)
    assert ("transaction.transaction_id has to name a column of a unique id" in text) is bool(repeats)


def test_a_file_whose_cards_are_hardly_ever_seen_again_says_what_else_may_be_the_card(tmp_path: Path) -> None:
    once = [row(at, card_id=f"c{at}") for at in range(1_200)]
    assert said(tmp_path, once).startswith("1,200 cards have 1,200 transactions: of most there is no history")
    assert said(tmp_path, [row(at, card_id=f"c{at % 1_000}") for at in range(1_200)]) == ""


def test_a_file_with_unknown_truth_says_of_what_its_figures_are(tmp_path: Path) -> None:
    some = [row(at, fraud=None if at % 3 == 0 else at % 7 == 0) for at in range(300)]
    assert said(tmp_path, some).startswith("of 100 transactions the truth is not known: ranking, precision,")
    assert "a case is charged once if one of its alerts is of known truth" in said(tmp_path, some)


def test_a_file_that_flags_frauds_alone_says_nothing_of_precision(tmp_path: Path) -> None:
    flagged = [row(at, fraud=1 if at % 9 == 0 else None) for at in range(300)]
    assert "every transaction of known truth is a fraud" in said(tmp_path, flagged)
    assert "--unlabelled legit" in said(tmp_path, flagged)
    assert said(tmp_path, flagged, truth=TruthColumns("fraud", "known", empty_is_legit=True)) == ""


def test_a_file_without_any_fraud_says_that_nothing_can_be_learnt_from_its_labels(tmp_path: Path) -> None:
    for fraud in (0, None):
        text = said(tmp_path, [row(at, fraud=fraud if at else 0) for at in range(300)])
        assert text.startswith("no transaction is known to be a fraud, so nothing can be learnt from labels")
        assert text.count("\n") == 0


@pytest.mark.parametrize(
    ("origin_s", "said_of_it"), [(86_400, "times end about 1970-01-14,"), (START_MS // 1_000, "")]
)
def test_times_counted_from_an_unknown_day_are_named(tmp_path: Path, origin_s: int, said_of_it: str) -> None:
    moved = [it | {"at": origin_s + 3_600 * number, "known": None} for number, it in enumerate(PLAIN)]
    text = said(tmp_path, moved, FIELDS.model_copy(update={"time_format": "epoch_s"}))
    assert text.startswith(said_of_it)
    assert bool(text) is bool(said_of_it)


def test_records_that_a_live_worker_refuses_name_the_setting_that_takes_them(tmp_path: Path) -> None:
    whole = [row(at, shop=5411) for at in range(300)]
    assert "set transaction.integer_texts = true" in said(tmp_path, whole)
    takes = FIELDS.model_copy(update={"integer_texts": True})
    assert said(tmp_path, whole, takes) == ""
    dates = [row(at, at=f"2024-03-{at // 24 + 1:02}T{at % 24:02}:00:00Z") for at in range(300)]
    assert 'set transaction.time_format = "iso8601"' in said(tmp_path, dates, truth=None)
    takes = FIELDS.model_copy(update={"time_format": "iso8601"})
    assert "time_format" not in said(tmp_path, dates, takes, truth=None)
    texts = [row(at, amount="1.50") for at in range(300)]
    assert 'set transaction.amount_format = "text"' in said(tmp_path, texts)
    takes = FIELDS.model_copy(update={"amount_format": "text"})
    assert said(tmp_path, texts, takes) == ""
    assert 'set transaction.amount_format = "number"' in said(tmp_path, PLAIN, takes)
    assert "integers in card_id: it takes texts" in said(tmp_path, [row(at, card_id=7) for at in range(300)])


def test_labels_without_any_time_of_theirs_are_said_to_come_by_the_delay(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(
        "transaction_id,label,known_at\nt1,fraud,2023-11-20\nt2,legit,2023-11-20\n", encoding="utf-8"
    )
    sentence = (
        "no label says when it became known: each is taken to come --label-delay-days after its payment"
    )
    assert sentence in said(tmp_path, PLAIN, truth=LabelFile(path, LabelFields()))
    named = LabelFields(label_time="known_at", time_format="iso8601")
    assert sentence not in said(tmp_path, PLAIN, truth=LabelFile(path, named))


def test_a_file_written_while_labels_were_on_their_way_says_where_to_end(tmp_path: Path) -> None:
    """Of 300 hours, every third payment a fraud that is labelled five days later, if that is before the file ends."""
    end_ms = START_MS + 300 * 3_600_000

    def rows(end_ms: int) -> list[dict[str, Any]]:
        late = [START_MS + at * 3_600_000 + 5 * MS_PER_DAY for at in range(300)]
        known = [at % 3 == 0 and label_ms < end_ms for at, label_ms in enumerate(late)]
        return [
            row(at, fraud=int(is_known), known=late[at] if is_known else None)
            for at, is_known in enumerate(known)
        ]

    # No label after the end, and none of the 120 hours before it: two in three of these are legit, the others silent.
    truth = TruthColumns("fraud", "known", empty_is_legit=True)
    text = said(tmp_path, rows(end_ms), truth=truth)
    assert text.startswith(
        "no label comes after the last transaction, and a tenth of the frauds took longer than 5 days"
    )
    assert text.endswith("leave them out with --to 2023-11-22")
    assert said(tmp_path, rows(end_ms + 9 * MS_PER_DAY), truth=truth) == ""
    # Of silence nothing is believed: no transaction counts as legit.
    unknown = [it | {"fraud": it["fraud"] or None} for it in rows(end_ms)]
    assert "no label comes" not in said(tmp_path, unknown)


@pytest.mark.parametrize(("unknown", "is_named"), [(20, False), (100, True)])
def test_a_file_whose_later_part_is_without_truth_says_where_to_end(
    tmp_path: Path, *, unknown: int, is_named: bool
) -> None:
    rows = PLAIN[:-unknown] + [row(300 - unknown + at, fraud=None) for at in range(unknown)]
    # The last one that is known is of hour 199, the morning of the 23rd.
    sentence = "of the last 100 transactions no truth is known: leave them out with --to 2023-11-24"
    assert (sentence in said(tmp_path, rows)) == is_named


def test_ids_of_many_cards_are_told_apart() -> None:
    """Their numbers and those of the cards multiply beyond 32 bits."""
    count = 70_000
    ids = pa.array([f"t{at}" for at in range(count)])
    cards = pa.array([f"c{at}" for at in range(count)])
    assert len(np.unique(codes_of_ids(ids, cards))) == count
    one_card = codes_of_ids(ids, pa.array(["c0"] * (count - 1) + ["c1"]))
    assert len(np.unique(one_card)) == count


@pytest.mark.parametrize(
    ("silence", "rows", "taught"),
    [
        ("legit", [*PLAIN, row(300, fraud=None)], 1),
        ("unknown", [*PLAIN, row(300, fraud=None)], 0),
        ("legit", PLAIN, 0),
        ("legit", [row(1), *(row(at, fraud=None) for at in range(2, 300))], 0),
    ],
    ids=["some are unknown", "they stay so", "all are known", "frauds alone are named"],
)
def test_the_worker_teaches_itself_rows_of_unknown_truth_by_a_setting(
    tmp_path: Path, silence: str, rows: list[dict[str, Any]], taught: int
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(it) + "\n" for it in rows), encoding="utf-8")
    settings = Settings(entity_key="0f" * 16, labels=LabelSettings.model_validate({"silence": silence}))
    assert taught_unknown(read_dataset(path, FIELDS, TRUTH), settings) == taught
