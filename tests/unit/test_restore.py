"""A journal read back: what belongs to the task is replayed, what cannot be is refused with what to do."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from kafka import TopicPartition

from tests.support.partition import HASHER, deciding_model, new_task, run, running_task, transactions
from worker.errors import CorruptError, IncompatibleError
from worker.live.restore import Restorer
from worker.live.same_topic import NewestDecision
from worker.partition.journal import JournalEntry, Positions
from worker.partition.record_layouts import encode_journal


@pytest.fixture(autouse=True)
def _waits_for_no_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.live.restore._LAG_S", 0.0)


class Record(NamedTuple):
    value: bytes
    headers: list[tuple[str, bytes]]


class Journal:
    """Stands for a consumer of one partition: all of it comes with the first poll."""

    def __init__(self, entries: list[JournalEntry], begin: int = 0) -> None:
        self._records = [Record(*payload) for entry in entries for payload in encode_journal(entry)]
        self._records.insert(len(self._records) // 2, Record(b"stray", []))
        self._begin = self._position = begin

    def __call__(self, **config: Any) -> Journal:
        del config
        return self

    def assign(self, tps: list[TopicPartition]) -> None:
        del tps

    def seek_to_beginning(self, tp: TopicPartition) -> None:
        del tp

    def position(self, tp: TopicPartition) -> int:
        del tp
        return self._position

    def beginning_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, self._begin)

    def highwater(self, tp: TopicPartition) -> int:
        del tp
        return self._begin + len(self._records)

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        del timeout_ms
        self._position = self._begin + len(self._records)
        return {TopicPartition("journal", 0): self._records}

    def close(self) -> None:
        pass


class NewLeader(Journal):
    """A journal whose last record is beyond the high watermark for the first polls."""

    def __init__(self, entries: list[JournalEntry], polls: int) -> None:
        super().__init__(entries)
        self._polls = polls

    def highwater(self, tp: TopicPartition) -> int:
        return super().highwater(tp) - (self._polls > 0)

    def poll(self, timeout_ms: int) -> dict[TopicPartition, list[Record]]:
        del timeout_ms
        first, self._polls = self._position, self._polls - 1
        self._position = self.highwater(TopicPartition("journal", 0))
        return {TopicPartition("journal", 0): self._records[first : self._position]}


def entries(folder: Path) -> list[JournalEntry]:
    live, model = running_task(folder / "live"), deciding_model()
    return [run(live, model, transactions([name], first_offset=at)).entry for at, name in enumerate("abc")]


def restore(
    folder: Path, monkeypatch: pytest.MonkeyPatch, journal: list[JournalEntry] | Journal, committed: Positions | None,
    lineage: str | None = None, partitions: int = 1, model_offset: int = 0, ends: Positions | None = None,
) -> Positions | None:  # fmt: skip
    consumer = journal if isinstance(journal, Journal) else Journal(journal)
    monkeypatch.setattr("worker.live.restore.KafkaConsumer", consumer)
    of = deciding_model().lineage.id if lineage is None else lineage
    return Restorer({}, "journal", HASHER, of, lambda: model_offset).restore(
        new_task(folder / "restored"), committed, partitions=partitions, ends=ends
    )


def test_a_partition_goes_on_where_its_journal_and_its_group_end_past_stray_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert restore(tmp_path, monkeypatch, entries(tmp_path), Positions(3, 0)) == (3, 0)
    assert restore(tmp_path, monkeypatch, [], None) is None


def test_a_journal_whose_new_leader_does_not_show_its_end_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = entries(tmp_path)
    monkeypatch.setattr("worker.live.restore._LAG_S", 3600.0)
    assert restore(tmp_path, monkeypatch, NewLeader(journal, polls=5), Positions(3, 0)) == (3, 0)
    monkeypatch.setattr("worker.live.restore._LAG_S", 0.0)
    with pytest.raises(IncompatibleError, match=r"ends at offsets \(2, 0\)"):
        restore(tmp_path / "again", monkeypatch, NewLeader(journal, polls=5), Positions(3, 0))


def test_a_journal_of_another_lineage_is_refused_before_any_of_it_is_replayed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = "0123456789abcdef", deciding_model().lineage.id
    wider = [
        dataclasses.replace(entry, rows=dataclasses.replace(entry.rows, features=entry.rows.features[:, :3]))
        for entry in entries(tmp_path)
    ]
    for journal in (entries(tmp_path / "again"), wider):
        with pytest.raises(IncompatibleError, match=r"topics\.decisions and kafka\.group") as refused:
            restore(tmp_path, monkeypatch, journal, Positions(3, 0), lineage=ours)
        assert ours in str(refused.value)
        assert theirs in str(refused.value)


@pytest.mark.parametrize(
    ("committed", "partitions", "said"),
    [
        (Positions(3, 0), 2, "was written for 1 partitions, the topics have 2"),
        (None, 1, r"committed offsets are missing.*`fraud-worker skip --partition 0` sets"),
        (Positions(2, 0), 1, r"has committed \(2, 0\).*Set them to \(3, 0\).*kafka\.group that wrote"),
        (Positions(3, 7), 1, r"has committed \(3, 7\).*Set them to \(3, 0\).*kafka\.group that wrote"),
    ],
)
def test_a_journal_that_does_not_belong_to_the_group_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: Positions | None, partitions: int,
    said: str,
) -> None:  # fmt: skip
    with pytest.raises(IncompatibleError, match=said):
        restore(tmp_path, monkeypatch, entries(tmp_path), committed, partitions=partitions)


def test_a_journal_that_knows_more_of_the_model_log_than_there_is_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IncompatibleError, match=r"offset 0 of the model log, topics\.model_log ends at -1"):
        restore(tmp_path, monkeypatch, entries(tmp_path), Positions(3, 0), model_offset=-1)


def test_a_model_log_whose_new_leader_does_not_show_its_end_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.live.restore._LAG_S", 3600.0)
    monkeypatch.setattr("worker.live.restore.KafkaConsumer", Journal(entries(tmp_path)))
    shown = iter([-1, -1, 0])
    restorer = Restorer({}, "journal", HASHER, deciding_model().lineage.id, lambda: next(shown))
    assert restorer.restore(new_task(tmp_path / "restored"), Positions(3, 0), partitions=1) == (3, 0)


def test_committed_offsets_without_a_journal_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(IncompatibleError, match="the journal was deleted"):
        restore(tmp_path, monkeypatch, [], Positions(3, 0))


def test_the_newest_decision_of_a_journal_is_compared_with_the_topic_it_was_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, NewestDecision]] = []
    monkeypatch.setattr("worker.live.restore.KafkaConsumer", Journal(entries(tmp_path)))
    Restorer(
        {}, "journal", HASHER, deciding_model().lineage.id, lambda: 0,
        same_topic=lambda partition, newest: asked.append((partition, newest)),
    ).restore(new_task(tmp_path / "restored"), Positions(3, 0), partitions=1)  # fmt: skip
    [(partition, newest)] = asked
    assert (partition, newest.offset, newest.transaction_id) == (0, 2, "c")


@pytest.mark.parametrize("deleted", [1, 2])
def test_a_journal_whose_head_was_deleted_is_named_as_such_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deleted: int
) -> None:
    journal = Journal(entries(tmp_path)[deleted:], begin=deleted)
    with pytest.raises(
        IncompatibleError, match=r"beginning .* was deleted: .* offset \d.*retention\.ms = -1"
    ):
        restore(tmp_path, monkeypatch, journal, Positions(3, 0))


def test_a_journal_that_began_in_a_topic_whose_records_were_deleted_before_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(entries(tmp_path), begin=700)
    assert restore(tmp_path, monkeypatch, journal, Positions(3, 0)) == (3, 0)


def test_a_journal_in_whose_middle_records_are_missing_is_corrupt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _, last = entries(tmp_path)
    with pytest.raises(CorruptError, match=r"records of topics\.decisions are missing"):
        restore(tmp_path, monkeypatch, [first, last], Positions(3, 0))


@pytest.mark.parametrize("committed", [Positions(3, 0), None])
def test_a_topic_created_again_is_named_as_such_and_no_offset_is_advised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, committed: Positions | None
) -> None:
    with pytest.raises(
        IncompatibleError, match=r"topics\.transactions, partition 0, ends at offset 2.*Do not set"
    ):
        restore(tmp_path, monkeypatch, entries(tmp_path), committed, ends=Positions(2, 0))
    assert restore(
        tmp_path / "again", monkeypatch, entries(tmp_path / "again"), Positions(3, 0), ends=Positions(3, 0)
    )
