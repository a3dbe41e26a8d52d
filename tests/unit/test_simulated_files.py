from __future__ import annotations

import dataclasses
import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from worker.errors import SettingsError
from worker.offline.dataset import NEVER, Dataset, TruthColumns, read_dataset
from worker.offline.replay import label_values, transaction_values
from worker.offline.undeclared import TRUTH
from worker.settings.fields import LabelFields, TransactionFields
from worker.simulation import FIELDS, Simulation, Traffic, files
from worker.simulation.files import holds_truth, require_data_file, write_labels, write_transactions
from worker.simulation.naming import Naming

TRAFFIC = Traffic(cards=200, merchants=60, days=12, prevalence=0.03, seed=3, legit_labels=0.1)
THEIRS = TransactionFields(
    transaction_id="TX \"1\"", card_id="card", event_time="at", amount="paid", currency="money", time_format="iso8601",
    entities=("SHOP", "country"), categorical=("mcc",), numeric=("distance_km", "age"),
)  # fmt: skip


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return Simulation.of(TRAFFIC)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHUNK_ROWS", 1_000)


def assert_same(read: Dataset, made: Dataset) -> None:
    assert read.transaction_id.equals(made.transaction_id)
    assert read.card_id.equals(made.card_id)
    np.testing.assert_array_equal(read.event_time_ms, made.event_time_ms)
    np.testing.assert_array_equal(read.amount, made.amount)
    for name, column in (read.entities | read.categorical).items():
        assert column.equals((made.entities | made.categorical)[name])
    for name, numbers in read.numeric.items():
        np.testing.assert_array_equal(numbers, made.numeric[name])


@pytest.mark.parametrize("time_format", ["epoch_ms", "epoch_s", "iso8601"])
@pytest.mark.parametrize("name", ["a.parquet", "a.csv", "a.csv.gz", "a.jsonl"])
def test_a_file_reads_back_as_what_was_simulated(
    simulation: Simulation, tmp_path: Path, name: str, time_format: Any
) -> None:
    fields = FIELDS.model_copy(update={"time_format": time_format})
    path, naming = tmp_path / name, Naming.under(fields)
    seen: list[tuple[int, int]] = []
    write_transactions(simulation, path, naming, lambda written, total: seen.append((written, total)))
    made = simulation.dataset()
    truth = TruthColumns("is_fraud", "label_time", delay_days=400) if holds_truth(path) else None
    read = read_dataset(path, fields, truth)
    assert_same(read, made)
    assert seen == sorted(seen)
    assert seen[-1] == (len(made), len(made))
    assert len(seen) > 2
    if truth is not None:
        assert read.is_fraud is not None
        assert made.label_time_ms is not None
        np.testing.assert_array_equal(read.is_fraud, made.is_fraud)
        never = made.event_time_ms + 400 * 86_400_000
        known_ms = np.where(made.label_time_ms == NEVER, never, made.label_time_ms)
        np.testing.assert_array_equal(read.label_time_ms, known_ms)


def test_the_truth_names_the_kind_of_each_fraud_and_the_source_of_its_label(
    simulation: Simulation, tmp_path: Path
) -> None:
    write_transactions(simulation, tmp_path / "a.parquet", Naming.under(FIELDS))
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names[-4:] == list(TRUTH)
    names = [None, "card_testing", "stolen_card", "compromised_merchant", "account_takeover"]
    assert table["fraud_kind"].to_pylist() == [names[kind] for kind in simulation.rows.kind]
    sources = [None, "chargeback", "early_warning", "analyst", "customer", "reversal"]
    assert table["label_source"].to_pylist() == [sources[source] for source in simulation.labels.source]


@pytest.mark.parametrize("name", ["a.parquet", "a.csv.gz", "a.jsonl"])
def test_the_same_seed_makes_the_same_bytes_and_another_seed_others(name: str, tmp_path: Path) -> None:
    made = []
    for folder, seed in (("one", 3), ("two", 3), ("three", 4)):
        (tmp_path / folder).mkdir()
        other = Simulation.of(dataclasses.replace(TRAFFIC, seed=seed))
        write_transactions(other, tmp_path / folder / name, Naming.under(FIELDS))
        made.append((tmp_path / folder / name).read_bytes())
    assert made[0] == made[1] != made[2]


@pytest.mark.parametrize("fields", [FIELDS, THEIRS])
def test_json_lines_are_what_replay_would_send(
    simulation: Simulation, tmp_path: Path, fields: TransactionFields
) -> None:
    naming, wire = Naming.under(fields), LabelFields(label="verdict", time_format="iso8601")
    write_transactions(simulation, tmp_path / "a.jsonl", naming)
    count = write_labels(simulation, tmp_path / "b.jsonl", wire)
    dataset = naming.of(simulation.dataset())
    sent = [orjson.loads(value) for value in transaction_values(dataset, np.arange(len(dataset)))]
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == sent
    labels = [orjson.loads(value) for value in label_values(wire, dataset, dataset.arrivals())]
    assert [json.loads(line) for line in (tmp_path / "b.jsonl").read_text().splitlines()] == labels
    assert count == len(labels) > 500
    assert {label["source"] for label in labels} == {"chargeback", "customer", "early_warning", "analyst"}


def test_compressed_json_lines_are_compressed(simulation: Simulation, tmp_path: Path) -> None:
    write_transactions(simulation, tmp_path / "a.jsonl", Naming.under(FIELDS))
    write_transactions(simulation, tmp_path / "a.jsonl.gz", Naming.under(FIELDS))
    assert gzip.decompress((tmp_path / "a.jsonl.gz").read_bytes()) == (tmp_path / "a.jsonl").read_bytes()


def test_fields_are_called_as_the_settings_call_them(simulation: Simulation) -> None:
    naming = Naming.under(THEIRS)
    made, theirs = simulation.dataset(slice(0, 10)), naming.of(simulation.dataset(slice(0, 10)))
    assert theirs.entities["SHOP"].equals(made.entities["merchant_id"])
    assert theirs.categorical["country"].equals(made.categorical["country"])
    np.testing.assert_array_equal(theirs.numeric["distance_km"], made.numeric["distance_km"])
    assert theirs.currency is not None
    assert theirs.currency.to_pylist() == ["EUR"] * 10
    assert (naming.missing, naming.undeclared) == (("mcc", "age"), ("channel",))
    assert transaction_values(theirs, np.array([0]))[0].startswith(b'{"TX \\"1\\"":')


def test_our_own_fields_need_no_names_and_bare_settings_leave_some_undeclared() -> None:
    ours, bare = Naming.under(FIELDS), Naming.under(TransactionFields())
    assert all(ours == theirs for ours, theirs in ours.names.items())
    assert (ours.missing, ours.undeclared) == ((), ())
    assert (bare.missing, bare.undeclared) == ((), ("channel", "country", "distance_km"))
    second = Naming.under(TransactionFields(entities=("device", "merchant_id")))
    assert second.missing == ("device",)


@pytest.mark.parametrize(("setting", "name"), [("amount", "channel"), ("card_id", "is_fraud")])
def test_a_name_that_is_taken_is_refused(setting: str, name: str) -> None:
    with pytest.raises(
        SettingsError, match=rf"transaction\.{setting} = '{name}': the simulator writes another"
    ):
        Naming.under(TransactionFields.model_validate({setting: name}))


@pytest.mark.parametrize("declared", [("is_fraud",), ("label_time",)])
def test_a_declared_field_that_is_the_truth_is_not_simulated(declared: tuple[str, ...]) -> None:
    assert Naming.under(FIELDS.model_copy(update={"categorical": declared})).missing == declared


WRONG = {
    "a.xlsx": "the name must end in one of .parquet, .pq, .csv, .jsonl, .ndjson, .json",
    "a.parquet.gz": "the name must end in one of",
    "none/a.csv": "there is no folder .*none'; create it first",
    "folder.csv": "that is a folder",
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_cannot_be_written_is_refused_before_the_work(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(SettingsError, match=WRONG[name]):
        require_data_file(tmp_path / name)


def test_labels_are_json_lines() -> None:
    require_data_file(Path("labels.jsonl"), lines_only=True)
    with pytest.raises(
        SettingsError, match=r"labels\.csv: the name must end in one of \.jsonl, \.ndjson, \.json$"
    ):
        require_data_file(Path("labels.csv"), lines_only=True)


def test_what_is_interrupted_leaves_the_old_file_and_nothing_else(
    simulation: Simulation, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("old")

    def interrupt(written: int, total: int) -> None:
        del written, total
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_transactions(simulation, path, Naming.under(FIELDS), interrupt)
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("a.csv", "old")]


def test_a_disk_that_refuses_is_named(simulation: Simulation, tmp_path: Path) -> None:
    path = tmp_path / "gone" / "a.csv"
    with pytest.raises(SettingsError, match=r"a\.csv cannot be written: "):
        write_transactions(simulation, path, Naming.under(FIELDS))


def test_json_lines_of_numbers_and_texts() -> None:
    batch = pa.RecordBatch.from_pydict({"n": [1, -2], "x": [0.1, 1e300], "t": ["a", "ü"]})
    assert files.json_lines(batch).to_pybytes().decode() == (
        '{"n":1,"x":0.1,"t":"a"}\n{"n":-2,"x":1e+300,"t":"ü"}\n'
    )
