from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest

from models.anomaly import FlatForest
from models.examples import Examples
from models.records import Commit, Digest, EntityEvents, Evidence, Lineage, ModelRecord, Refit
from models.vocabulary import LabelKind
from tests.support.model_log import LINEAGE, POLICY, START_MS, commit
from tests.support.partition import labels
from worker.errors import CorruptError
from worker.partition.early_labels import Released
from worker.partition.journal import DecisionRows, JournalEntry, JournalHeader, JournalParts, Settlements
from worker.partition.record_layouts import (
    MAX_ROWS,
    VERSION,
    ModelLogDecoder,
    Payload,
    decode_journal,
    encode_journal,
    encode_model,
)

MEBIBYTE = 1 << 20
HEADER = JournalHeader(
    worker="worker-1", lineage="abc", model_version="abc-7", partition=3, partitions=12,
    next_transaction_offset=1 << 40, next_label_offset=5, clock_ms=START_MS, case_window_ms=3_600_000,
    first_sequence=17, provisional_sequence=9, final_sequence=2, newest_label_ms=None, repeats=1, bad_records=2,
    silence_is_legit=True, clears_alerts=False, max_cards=1_000, taught=(1.0, 0.5),
)  # fmt: skip


def decisions(
    count: int, entities: int = 2, features: int = 5, ids: Sequence[str] | None = None
) -> DecisionRows:
    rng = np.random.default_rng(count)
    matrix = rng.normal(size=(count, features)).astype(np.float32)
    matrix[rng.random(matrix.shape) < 0.2] = np.nan
    return DecisionRows(
        transaction_id=pa.array([f"t-{i}-ü" for i in range(count)] if ids is None else ids, pa.string()),
        offset=np.arange(count) * 3,
        event_time_ms=START_MS + rng.integers(0, 9, count),
        clock_ms=START_MS + np.arange(count),
        amount=rng.uniform(0, 9, count),
        entities=rng.integers(0, 1 << 64, (count, 1 + entities), dtype=np.uint64),
        features=matrix,
        logit=rng.normal(size=count).astype(np.float32),
        probability=rng.random(count).astype(np.float32),
        tables_logit=rng.normal(size=count).astype(np.float32),
        trees_logit=rng.normal(size=count).astype(np.float32),
        forest_score=np.full(count, np.nan, np.float32),
        loss=rng.uniform(0, 9, count),
        legit_weight=rng.choice(np.array([0, 1, 10], np.float32), count),
        flags=rng.integers(0, 1 << 8, count).astype(np.uint16),
    )


def settlements(count: int) -> Settlements:
    rng = np.random.default_rng(count)
    kinds = rng.integers(0, 2, (2, count)).astype(np.uint8)
    times = START_MS + rng.integers(0, 99, (2, count))
    return Settlements(np.arange(count) * 7, kinds[0], kinds[1], times[0], times[1])


def assert_same(one: Any, other: Any) -> None:
    """Field by field, types and NaNs included."""
    for name in (field.name for field in dataclasses.fields(one)):
        left, right = getattr(one, name), getattr(other, name)
        if isinstance(left, pa.Array):
            assert left.equals(right)
        elif isinstance(left, int):
            assert left == right
        else:
            assert (left.dtype, left.shape) == (right.dtype, right.shape), name
            np.testing.assert_array_equal(left, right, err_msg=name)


def journalled(entry: JournalEntry) -> JournalEntry:
    """Encode and decode, and join the pieces as a restore does."""
    decoded = [decode_journal(*payload) for payload in encode_journal(entry)]
    assert [header for _, header in decoded[:-1]] == [None] * (len(decoded) - 1)
    parts = JournalParts()
    for part, _ in decoded:
        parts.take(part)
    width = {"hashes": entry.rows.entities.shape[1], "features": entry.rows.features.shape[1]}
    header = decoded[-1][1]
    assert header is not None
    return parts.entry(header, width)


@pytest.mark.parametrize(
    ("decided", "moved"), [(0, 0), (1, 0), (0, 1), (5, 3), (MAX_ROWS + 1, 2), (2, MAX_ROWS + 1)]
)
@pytest.mark.parametrize("entities", [0, 2])
def test_the_journal_reads_back_to_the_bit(decided: int, moved: int, entities: int) -> None:
    entry = JournalEntry(HEADER, decisions(decided, entities), settlements(moved))
    again = journalled(entry)
    assert again.header == HEADER
    assert_same(again.rows, entry.rows)
    assert_same(again.settlements, entry.settlements)


@pytest.mark.parametrize("count", [1, 3, MAX_ROWS + 1])
def test_labels_set_aside_and_released_read_back_to_the_bit(count: int) -> None:
    read = labels(*[(f"t{at}", LabelKind.FRAUD, START_MS + at) for at in range(count)])
    values = pa.array([b"x" * (at % 7) if at % 5 else None for at in range(count)], pa.large_binary())
    early = dataclasses.replace(read, value=values, next_offset=-1)
    entry = JournalEntry(HEADER, decisions(0, 1), settlements(0), early, Released(np.arange(count) * 3))
    again = journalled(entry)
    assert_same(again.early, entry.early)
    assert_same(again.released, entry.released)
    nothing = journalled(JournalEntry(HEADER, decisions(1, 1), settlements(0)))
    assert (len(nothing.early), len(nothing.released)) == (0, 0)


def through_the_log(record: ModelRecord) -> list[ModelRecord]:
    decoder = ModelLogDecoder()
    decoded = [decoder.decode(*payload) for payload in encode_model(record)]
    return [one for one in decoded if one is not None]


def assert_same_commit(one: Commit, other: Commit) -> None:
    for part in ("traffic", "evidence", "examples", "ledger"):
        assert_same(getattr(one, part), getattr(other, part))
    np.testing.assert_array_equal(one.budget.online, other.budget.online)
    np.testing.assert_array_equal(one.budget.forest, other.budget.forest)
    assert (one.budget.alerts, one.budget.cases) == (other.budget.alerts, other.budget.cases)
    assert (one.worker, one.clocks_ms, one.newest_label_ms, one.digest) == (
        other.worker, other.clocks_ms, other.newest_label_ms, other.digest,
    )  # fmt: skip


@pytest.mark.parametrize("counts", [(0, 0, 0), (4, 0, 0), (0, 4, 0), (0, 0, 4), (9, 8, 7)])
def test_a_commit_reads_back_to_the_bit(counts: tuple[int, int, int]) -> None:
    record = commit(
        np.random.default_rng(1),
        3,
        counts=counts,
        digest=Digest(1 << 40, "ab" * 32),
        clocks_ms={0: -5, 11: START_MS},
    )
    (again,) = through_the_log(record)
    assert isinstance(again, Commit)
    assert_same_commit(again, record)


def test_a_commit_without_labels_clocks_or_a_digest_reads_back() -> None:
    record = dataclasses.replace(commit(np.random.default_rng(1), 0, clocks_ms={}), newest_label_ms=None)
    (again,) = through_the_log(record)
    assert isinstance(again, Commit)
    assert_same_commit(again, record)


def test_a_commit_reads_back_where_no_entity_is_declared() -> None:
    rng = np.random.default_rng(1)
    traffic = EntityEvents(np.empty((7, 0), np.uint64), START_MS + np.arange(7))
    one = np.ones(3, np.int8)
    moved = Evidence(rng.integers(0, 9, (3, 1)).astype(np.uint64), one, one, np.arange(3))
    record = dataclasses.replace(commit(rng, 0), traffic=traffic, evidence=moved)
    (again,) = through_the_log(record)
    assert isinstance(again, Commit)
    assert_same_commit(again, record)


def test_a_large_commit_reads_back_in_the_pieces_it_is_split_into() -> None:
    record = commit(np.random.default_rng(1), 30, counts=(MAX_ROWS + 5, 2 * MAX_ROWS, 400))
    pieces = through_the_log(record)
    assert len(pieces) > 1
    for part in ("traffic", "evidence", "examples"):
        whole = getattr(record, part)
        for field in dataclasses.fields(whole):
            joined = np.concatenate([getattr(getattr(piece, part), field.name) for piece in pieces])
            np.testing.assert_array_equal(joined, getattr(whole, field.name))


@pytest.mark.parametrize(
    "record",
    [
        LINEAGE,
        dataclasses.replace(
            LINEAGE, spec=dataclasses.replace(LINEAGE.spec, numeric=(), categorical=(), entities=(), place=())
        ),
        POLICY,
        dataclasses.replace(POLICY, costs=dataclasses.replace(POLICY.costs, alert_budget_cases_per_day=None)),
    ],
)
def test_lineage_and_policy_read_back(record: ModelRecord) -> None:
    assert through_the_log(record) == [record]
    if isinstance(record, Lineage):
        assert [one.id for one in through_the_log(record) if isinstance(one, Lineage)] == [record.id]


def a_refit(floats: int) -> Refit:
    rng = np.random.default_rng(3)
    arrays: dict[str, Any] = {
        "weights": rng.normal(size=(floats // 4, 4)),
        "codes": rng.integers(0, 255, 9).astype(np.uint8),
        "counts": np.array([-1, 1 << 60]),
        "features": np.array([[65_535]], np.uint16),
        "thresholds": np.array([np.nan, np.inf], np.float32),
        "nothing": np.empty((0, 3)),
    }
    return Refit("generation", 12, START_MS, arrays)


@pytest.mark.parametrize("floats", [4, 400_000])
def test_a_refit_reads_back_when_its_last_piece_has_come(floats: int) -> None:
    refit = a_refit(floats)
    payloads = list(encode_model(refit))
    assert len(payloads) == (1 if floats == 4 else 5)
    decoder = ModelLogDecoder()
    decoded = [decoder.decode(*payload) for payload in payloads]
    assert decoded[:-1] == [None] * (len(payloads) - 1)
    again = decoded[-1]
    assert isinstance(again, Refit)
    assert (again.kind, again.cut_offset, again.clock_ms) == ("generation", 12, START_MS)
    assert list(again.arrays) == list(refit.arrays)
    for name, array in refit.arrays.items():
        assert again.arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(again.arrays[name], array)


def test_commits_may_lie_between_the_pieces_of_a_refit_but_no_piece_may_be_missing() -> None:
    first, second, *_ = encode_model(a_refit(400_000))
    (between,) = encode_model(commit(np.random.default_rng(1), 2))
    decoder = ModelLogDecoder()
    assert decoder.decode(*first) is None
    assert isinstance(decoder.decode(*between), Commit)
    assert decoder.decode(*second) is None
    with pytest.raises(CorruptError, match="piece 1 came where 2 was due"):
        decoder.decode(*second)
    with pytest.raises(CorruptError, match="piece 1 came where 0 was due"):
        ModelLogDecoder().decode(*second)


def test_a_forest_survives_the_log() -> None:
    rows = np.random.default_rng(3).normal(size=(300, 4)).astype(np.float32)
    forest = FlatForest.fit(rows, trees=5, seed=1)
    (again,) = through_the_log(Refit("forest", 0, START_MS, forest.arrays()))
    assert isinstance(again, Refit)
    np.testing.assert_array_equal(FlatForest.from_arrays(again.arrays).score(rows), forest.score(rows))


def sizes(payloads: Sequence[Payload] | Iterator[Payload]) -> list[int]:
    return [len(value) for value, _ in payloads]


@pytest.mark.parametrize("features", [24, 64, 300])
def test_no_record_nears_a_mebibyte_however_wide_its_rows(features: int) -> None:
    rng, count = np.random.default_rng(2), 8_000
    zeros = np.zeros(count, np.float32)
    entry = JournalEntry(HEADER, decisions(count, 6, features), settlements(count))
    assert max(sizes(encode_journal(entry))) < 0.8 * MEBIBYTE
    rows = Examples(
        rng.normal(size=(count, features)).astype(np.float32), np.zeros(count, np.uint8), np.ones(count, np.float32),
        np.arange(count), np.arange(count).astype(np.uint64), zeros, zeros, zeros, np.arange(count),
    )  # fmt: skip
    record = dataclasses.replace(commit(rng, 500, counts=(count, count, 0)), examples=rows)
    assert max(sizes(encode_model(record))) < 0.8 * MEBIBYTE
    assert max(sizes(encode_model(a_refit(400_000)))) < 0.8 * MEBIBYTE


def test_no_record_nears_a_mebibyte_where_long_identifiers_come_in_a_run() -> None:
    ids = ["é" * 128] * 2_000 + ["1"] * 18_000
    entry = JournalEntry(HEADER, decisions(len(ids), 2, 24, ids), Settlements.empty())
    assert max(sizes(encode_journal(entry))) < 0.8 * MEBIBYTE
    assert journalled(entry).rows.transaction_id.to_pylist() == ids


def all_payloads() -> list[tuple[str, Payload]]:
    entry = JournalEntry(HEADER, decisions(6), settlements(4))
    named = [("journal", payload) for payload in encode_journal(entry)]
    for record in (LINEAGE, POLICY, commit(np.random.default_rng(1), 5, digest=Digest(4, "ab")), a_refit(8)):
        named += [("model", payload) for payload in encode_model(record)]
    return named


def decoder_of(which: str) -> Callable[[bytes, Sequence[tuple[str, bytes]]], object]:
    return decode_journal if which == "journal" else ModelLogDecoder().decode


@pytest.mark.parametrize(("which", "payload"), all_payloads())
def test_bytes_that_no_worker_wrote_are_corrupt_and_nothing_else(which: str, payload: Payload) -> None:
    rng = np.random.default_rng(11)
    value, headers = payload
    refused = 0
    for attempt in range(400):
        damaged = bytearray(value)
        if attempt % 3 == 0:
            del damaged[int(rng.integers(len(value))) :]
        elif attempt % 3 == 1:
            at = int(rng.integers(len(value)))
            damaged[at] ^= 1 << int(rng.integers(8))
        else:
            at, length = int(rng.integers(len(value))), int(rng.integers(1, 40))
            damaged[at : at + length] = rng.bytes(length)
        try:
            decoder_of(which)(bytes(damaged), headers)
        except CorruptError:
            refused += 1
    assert refused > 100


@pytest.mark.parametrize("value", [b"", b"null", b"[]", b"{}", b"{", b'"x"', b"7", bytes(200), b"\xff" * 200])
@pytest.mark.parametrize(
    ("which", "kind"),
    [
        ("journal", b"rows"),
        ("journal", b"settlements"),
        *(("model", kind) for kind in (b"lineage", b"policy", b"commit", b"refit")),
    ],
)
def test_foreign_bytes_are_corrupt(which: str, kind: bytes, value: bytes) -> None:
    refit = [("refit", b"x"), ("piece", b"0"), ("pieces", b"1")]
    with pytest.raises(CorruptError):
        decoder_of(which)(value, [("kind", kind), ("version", VERSION), *refit])


@pytest.mark.parametrize("which", ["journal", "model"])
@pytest.mark.parametrize("headers", [[], [("version", b"1"), ("kind", b"rows")], [("kind", b"commit")]])
def test_a_version_that_this_worker_does_not_know_is_refused(
    which: str, headers: list[tuple[str, bytes]]
) -> None:
    with pytest.raises(CorruptError, match="version"):
        decoder_of(which)(b"", headers)


@pytest.mark.parametrize("which", ["journal", "model"])
@pytest.mark.parametrize("kind", [b"unheard-of", b"\xff\xfe", None])
def test_a_kind_that_this_worker_does_not_know_is_refused(which: str, kind: bytes) -> None:
    value, _ = encode_journal(JournalEntry(HEADER, decisions(1), settlements(0)))[0]
    with pytest.raises(CorruptError, match="unknown kind"):
        decoder_of(which)(value, [("kind", kind), ("version", VERSION)])


@pytest.mark.parametrize("dtype", ["|O", "O", "|S4", "<M8[s]", "(2,)<f8", "<f8,<f8", ">f8", "<f16", ""])
def test_an_array_of_anything_but_numbers_is_refused(dtype: str) -> None:
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_pydict(
        {"name": ["x"], "dtype": [dtype], "shape": [[1]], "data": pa.array([bytes(16)], pa.large_binary())}
    )
    about = {b"refit": orjson.dumps({"kind": "forest", "cut_offset": 0, "clock_ms": 0})}
    with pa.ipc.new_stream(sink, batch.schema.with_metadata(about)) as writer:
        writer.write_batch(batch)
    headers = [("kind", b"refit"), ("version", VERSION), ("refit", b"k"), ("piece", b"0"), ("pieces", b"1")]
    with pytest.raises(CorruptError, match="does not hold numbers"):
        ModelLogDecoder().decode(sink.getvalue().to_pybytes(), headers)


def test_parts_of_a_commit_whose_columns_differ_in_length_are_refused() -> None:
    record = commit(np.random.default_rng(1), 5)
    lame = dataclasses.replace(record.evidence, frauds=record.evidence.frauds[:4])
    with pytest.raises(CorruptError):
        through_the_log(dataclasses.replace(record, evidence=lame))


@pytest.mark.parametrize(("version", "offset"), [("abc-7", 7), ("abc-0", 0), ("abc--1", -1)])
def test_a_header_says_how_far_the_model_log_was_folded_or_that_none_of_it_was(
    version: str, offset: int
) -> None:
    header = JournalHeader.from_json(dataclasses.replace(HEADER, model_version=version).to_json())
    assert header.model_offset == offset


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("partition", "3"),
        ("clock_ms", 1.5),
        ("newest_label_ms", "now"),
        ("worker", 7),
        ("repeats", None),
        ("first_sequence", True),
    ],
)
def test_a_header_of_the_wrong_types_is_refused(name: str, value: object) -> None:
    changed = orjson.dumps({**orjson.loads(HEADER.to_json()), name: value})
    with pytest.raises(CorruptError, match=name):
        JournalHeader.from_json(changed)
