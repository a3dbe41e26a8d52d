"""Moves a partition on past records that no worker shall read, and journals it.

Offsets that are set with Kafka's own tools contradict the journal, and the next start refuses them.
"""

from __future__ import annotations

import dataclasses

from kafka import ConsumerGroupMetadata
from kafka.structs import TopicPartition

from worker.errors import FencedError, IncompatibleError, SettingsError
from worker.kafka_io.admin import AdminClient
from worker.kafka_io.client import admin_config, producer_config, transactional_id_of
from worker.kafka_io.committer import Committer, KafkaTransaction, Outgoing
from worker.kafka_io.open_transactions import end_offsets, wait_for_open_transactions
from worker.kafka_io.topic_reader import open_topic
from worker.partition.journal import DecisionRows, JournalEntry, JournalHeader, Positions, Settlements
from worker.partition.record_layouts import decode_journal, encode_journal, kind_of
from worker.settings.sections import SKIPPING, Settings


def skip(
    settings: Settings, partition: int, transactions: int | None, labels: int | None
) -> tuple[Positions, Positions]:
    """Set a partition's positions forward, in the journal and in the group, in one Kafka transaction.

    Parameters
    ----------
    settings
        Those of the workers, all of which have stopped.
    partition
        Which one.
    transactions, labels
        The next offset to read of each topic; None leaves it.

    Returns
    -------
    tuple
        The positions before and after.

    Raises
    ------
    SettingsError
        An offset lies behind the position, or beyond the end of its topic.
    IncompatibleError
        The partition has no journal.
    FencedError
        A worker is in the group, or was meanwhile.
    UnreachableError
        A transaction stays open, or no broker answers.
    IndefiniteError
        The commit may have happened or not: run it again.
    """
    _refuse_a_group_at_work(settings)
    # A worker that hangs, or has just ended, may have a commit under way that is not visible yet.
    wait_for_open_transactions(settings, settings.topics.decisions)
    header, end = _last_header(settings, partition)
    before = header.positions
    after = Positions(
        before.transactions if transactions is None else transactions,
        before.labels if labels is None else labels,
    )
    inputs = [
        TopicPartition(topic, partition) for topic in (settings.topics.transactions, settings.topics.labels)
    ]
    ends = {tp: at for it in inputs for tp, at in end_offsets(settings, it.topic).items()}
    _check(inputs, before, after, ends)
    moved = KafkaTransaction(
        _journalled(settings, partition, header, after), dict(zip(inputs, after, strict=True))
    )
    config = producer_config(settings, transactional_id_of(settings, SKIPPING))
    committer = Committer(config, settings.kafka.commit_deadline_s)
    try:
        # Once more: to read the journal may have taken minutes, and a worker that began meanwhile has written more.
        _refuse_a_group_at_work(settings)
        wait_for_open_transactions(settings, settings.topics.decisions)
        _refuse_a_longer_journal(settings, partition, end)
        committer.commit(moved, ConsumerGroupMetadata(settings.kafka.group))
    finally:
        committer.close()
    return before, after


def _journalled(
    settings: Settings, partition: int, header: JournalHeader, after: Positions
) -> list[Outgoing]:
    """Return the records of a journal entry that decides nothing and goes on at other positions."""
    moved = dataclasses.replace(
        header,
        worker=settings.worker.id,
        next_transaction_offset=after.transactions,
        next_label_offset=after.labels,
        repeats=0,
        bad_records=0,
    )
    entry = JournalEntry(moved, DecisionRows.empty(hashes=0, features=0), Settlements.empty())
    return [
        Outgoing(settings.topics.decisions, value, partition=partition, headers=headers)
        for value, headers in encode_journal(entry)
    ]


def _refuse_a_group_at_work(settings: Settings) -> None:
    # Kafka itself does not refuse offsets from outside the group: it accepts them from any transaction.
    admin = AdminClient(**admin_config(settings))
    try:
        members = admin.describe_groups([settings.kafka.group])[settings.kafka.group]["members"]
    finally:
        admin.close()
    if members:
        names = ", ".join(sorted(it["group_instance_id"] or it["member_id"] for it in members))
        raise FencedError(
            f"workers are in kafka.group = {settings.kafka.group!r} ({names}): stop all of them, and wait "
            f"kafka.session_timeout_ms = {settings.kafka.session_timeout_ms} until the group has forgotten them"
        )


def _refuse_a_longer_journal(settings: Settings, partition: int, read_to: int) -> None:
    tp = TopicPartition(settings.topics.decisions, partition)
    if (end := end_offsets(settings, tp.topic)[tp]) > read_to:
        raise FencedError(
            f"{tp.topic}, partition {partition}, has grown from offset {read_to} to {end} while it was read: a worker "
            "has begun and ended meanwhile. Stop all of them, and run this again"
        )


def _last_header(settings: Settings, partition: int) -> tuple[JournalHeader, int]:
    """Return the last header of a partition's journal, and the offset up to which that was read.

    The header has the sequence number of the next decision.
    """
    last: JournalHeader | None = None
    rows = next_sequence = 0
    with open_topic(settings, settings.topics.decisions) as reader:
        end = reader.end.get(TopicPartition(settings.topics.decisions, partition), 0)
        for record in reader.since(None):
            if record.partition != partition or kind_of(record.headers) is None:
                continue
            piece, header = decode_journal(record.value, record.headers)
            rows += len(piece) if isinstance(piece, DecisionRows) else 0
            if header is not None:
                last, next_sequence, rows = header, header.first_sequence + rows, 0
    if last is None:
        raise IncompatibleError(
            f"{settings.topics.decisions}, partition {partition}, holds no journal: no worker has worked on it yet; "
            "kafka.start_from says where it begins"
        )
    return dataclasses.replace(last, first_sequence=next_sequence), end


def _check(
    inputs: list[TopicPartition], before: Positions, after: Positions, ends: dict[TopicPartition, int]
) -> None:
    for tp, old, new in zip(inputs, before, after, strict=True):
        if not old <= new <= max(old, ends[tp]):
            raise SettingsError(
                f"{tp.topic}, partition {tp.partition}: offset {new} is none to skip to; name one from {old}, which is "
                f"read next, up to {ends[tp]}, the end"
            )
