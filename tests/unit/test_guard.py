from __future__ import annotations

import numpy as np
import pytest

from tests.support.records import record_columns
from worker.errors import FuseError, IncompatibleError, UnreachableError
from worker.kafka_io.partitioner import Partitioner, partitions_of_keys
from worker.kafka_io.record_batches import RecordColumns
from worker.live.guard import InputGuard
from worker.settings.sections import BatchSettings
from worker.wire.decoder import BadRecord

BATCH = BatchSettings(fuse_share=0.5, fuse_window=1_000)


def keys_of(partition: int, partitions: int, partitioner: Partitioner, count: int) -> list[bytes]:
    """Keys that this partitioner puts into that partition."""
    keys = [f"card-{number}".encode() for number in range(50 * count)]
    found = partitions_of_keys(record_columns([b"{}"] * len(keys), keys), partitions, partitioner)
    return [key for key, where in zip(keys, found, strict=True) if where == partition][:count]


def fetched(keys: list[bytes | None], topic: str = "transactions", partition: int = 1) -> RecordColumns:
    return record_columns([b"{}"] * len(keys), keys, topic, partition)


def guard(partitions: int = 4, partitioner: Partitioner = "murmur2") -> InputGuard:
    return InputGuard(partitions, partitioner, BATCH)


def judge(watching: InputGuard, records: RecordColumns) -> int:
    """Show the guard records of which all with a key decode; how many of those lie elsewhere."""
    return int(watching.misplaced(records, records.offsets[records.key_length >= 0]).sum())


@pytest.mark.parametrize("partitioner", ["murmur2", "crc32"])
def test_keys_where_the_partitioner_puts_them_pass(partitioner: Partitioner) -> None:
    watching = guard(partitioner=partitioner)
    for _ in range(5):
        judge(watching, fetched([*keys_of(1, 4, partitioner, 300)]))


@pytest.mark.parametrize(("partitioner", "other"), [("murmur2", "crc32"), ("crc32", "murmur2")])
@pytest.mark.parametrize("partitions", [2, 4, 12])
def test_keys_by_the_other_partitioner_stop_the_worker_and_the_remedy_is_named(
    partitioner: Partitioner, other: Partitioner, partitions: int
) -> None:
    with pytest.raises(
        IncompatibleError, match=f"(?s)kafka.partitioner = '{partitioner}'.*set it to '{other}'"
    ):
        judge(guard(partitions, partitioner), fetched([*keys_of(1, partitions, other, 400)]))


def test_a_light_load_is_judged_too_once_a_hundred_keys_have_come() -> None:
    watching, keys = guard(), keys_of(1, 4, "crc32", 100)
    for key in keys[:99]:
        judge(watching, fetched([key]))
    with pytest.raises(IncompatibleError):
        judge(watching, fetched([keys[99]]))


def test_topics_are_judged_apart() -> None:
    watching, right, wrong = guard(), keys_of(1, 4, "murmur2", 400), keys_of(1, 4, "crc32", 100)
    judge(watching, fetched([*right], "transactions"))
    with pytest.raises(IncompatibleError, match="labels"):
        judge(watching, fetched([*wrong], "labels"))


def test_a_few_stray_keys_are_tolerated_and_null_keys_do_not_count() -> None:
    right, wrong = keys_of(1, 4, "murmur2", 300), keys_of(2, 4, "murmur2", 250)
    judge(guard(), fetched([*right, *wrong[:100], *[None] * 500]))
    with pytest.raises(IncompatibleError, match="45%"):
        judge(guard(), fetched([*right, *wrong, *[None] * 500]))


def test_the_first_keys_that_lie_elsewhere_are_warned_of_once_a_topic(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watching, records = guard(), fetched([*keys_of(1, 4, "murmur2", 9), *keys_of(2, 4, "murmur2", 3)])
    for _ in range(2):
        judge(watching, records)
    [warning] = [it.getMessage() for it in caplog.records if it.levelname == "WARNING"]
    assert "transactions, partition 1: the keys of 3 of 12 records" in warning


def test_garbage_says_nothing_of_the_partitioner() -> None:
    records = fetched([*keys_of(2, 4, "murmur2", 400)])
    assert guard().misplaced(records, records.offsets[:0]).tolist() == []
    few = guard().misplaced(records, records.offsets[[3, 7]])
    assert few.tolist() == [True, True]


def test_where_misplaced_records_are_refused_one_by_one_they_do_not_stop_the_worker() -> None:
    watching = InputGuard(4, "murmur2", BATCH, stops=False)
    assert judge(watching, fetched([*keys_of(2, 4, "murmur2", 400), *keys_of(1, 4, "murmur2", 10)])) == 400


def test_a_topic_that_has_grown_or_shrunk_stops_the_worker() -> None:
    guard().check_partitions("transactions", {0, 1, 2, 3})
    for found in ({0, 1, 2}, {0, 1, 2, 3, 4}):
        with pytest.raises(IncompatibleError, match=f"transactions has {len(found)} partitions now, 4 when"):
            guard().check_partitions("transactions", found)


def test_a_topic_that_is_gone_is_not_taken_for_one_of_another_size() -> None:
    with pytest.raises(UnreachableError, match="transactions is gone since the worker started"):
        guard().check_partitions("transactions", set())


def bad(count: int, topic: str = "transactions", detail: str = "amount: Field required") -> list[BadRecord]:
    return [
        BadRecord(topic, 1, offset, 0, "decode", "missing_field", detail, b"{}", 2) for offset in range(count)
    ]


def test_the_fuse_blows_when_more_than_its_share_of_a_window_is_bad() -> None:
    watching = guard()
    watching.count("transactions", 600, bad(300))
    with pytest.raises(FuseError, match=r"50% of the last 1000 records were bad.*missing_field: amount"):
        watching.count("transactions", 400, bad(201))


def test_the_fuse_holds_at_its_share_and_before_its_window_is_full() -> None:
    guard().count("transactions", 999, bad(998))
    guard().count("transactions", 1_000, bad(500))


def test_the_fuse_follows_the_present() -> None:
    watching = guard()
    for _ in range(20):
        watching.count("transactions", 1_000, [])
    watching.count("transactions", 500, bad(500))
    with pytest.raises(FuseError):
        watching.count("transactions", 1_000, bad(900))


def test_a_topic_whose_first_hundred_records_are_all_bad_stops_the_worker_and_the_field_is_named() -> None:
    watching = guard()
    watching.count("labels", 300, [])
    watching.count("transactions", 99, bad(99))
    with pytest.raises(
        FuseError, match=r"none of the first 100 records of transactions.*amount: Field required"
    ):
        watching.count("transactions", 1, bad(1))


def test_one_good_record_ends_the_beginning_of_a_topic() -> None:
    watching = guard()
    watching.count("transactions", 50, bad(49))
    watching.count("transactions", 200, bad(200))


def test_a_topic_that_was_read_before_has_no_beginning_but_its_share_still_counts() -> None:
    watching = guard()
    watching.passed_beginning("labels")
    watching.count("labels", 150, bad(150, "labels"))
    with pytest.raises(FuseError, match="of the last"):
        watching.count("labels", 900, bad(900, "labels"))


def test_a_share_of_one_turns_the_fuse_off() -> None:
    watching = InputGuard(4, "murmur2", BatchSettings(fuse_share=1.0, fuse_window=1_000))
    watching.count("transactions", 5_000, bad(5_000))


def test_the_first_bad_record_of_each_reason_is_logged_and_no_second(
    caplog: pytest.LogCaptureFixture,
) -> None:
    watching = guard()
    watching.count("transactions", 60, bad(50))
    watching.count("transactions", 60, bad(50))
    watching.count("labels", 60, bad(1, "labels"))
    assert [record.getMessage().split(" goes to")[0] for record in caplog.records] == [
        "transactions, partition 1, offset 0",
        "labels, partition 1, offset 0",
    ]


@pytest.mark.parametrize("seed", range(3))
def test_a_tolerable_share_never_blows_the_fuse_however_long_it_lasts(seed: int) -> None:
    rng, watching = np.random.default_rng(seed), guard()
    for _ in range(500):
        records = int(rng.integers(1, 300))
        watching.count("transactions", records, bad(records // 3))
