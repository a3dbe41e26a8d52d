"""Sends dead letters again, each exactly once.

A letter's record goes to the partition of its card, which it came from unless its key was wrong or missing, in one
Kafka transaction with a *marker* on the dead-letter topic, which names what was sent again. The next run leaves those
out. Two runs at once cannot both send: they share a transactional id, and a run reads the topic only once it holds it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import orjson
from pydantic_core import from_json

from worker.kafka_io.client import producer_config, transactional_id_of
from worker.kafka_io.committer import Committer, KafkaTransaction, Outgoing
from worker.kafka_io.open_transactions import wait_for_open_transactions
from worker.kafka_io.partitioner import partition_of
from worker.kafka_io.topic_reader import open_topic
from worker.settings.sections import RESENDING, Settings
from worker.wire.dead_letters import MARKER, Wanted, is_marker, letters, original_of
from worker.wire.schema import DeadLetter

log = logging.getLogger(__name__)

AT_ONCE: Final = 500
"""Letters of one Kafka transaction."""
_STRUCK_OUT: Final = 9
"""Of a card number so many digits and more are struck out."""

Place = tuple[str, int, int]
"""Topic, partition and offset of the record that became a dead letter."""


@dataclass
class Resent:
    """What a run did.

    Attributes
    ----------
    sent
        Letters sent again, by reason.
    before
        How many of the chosen ones an earlier run had sent.
    refused
        Chosen ones that cannot be sent again, by why.
    """

    sent: Counter[str] = field(default_factory=Counter)
    before: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def resend(
    settings: Settings,
    wanted: Wanted,
    since_ms: int | None = None,
    *,
    dry_run: bool = False,
) -> Resent:
    """Send the chosen dead letters to their topics again.

    Parameters
    ----------
    settings
        Names of topics and fields.
    wanted, since_ms
        Which ones; those written since a moment, or all.
    dry_run
        Send nothing, and say what would be sent.

    Raises
    ------
    FencedError
        Another run has begun meanwhile.
    IndefiniteError
        It is unknown whether the last letters were sent; the next run finds out.
    """
    config = producer_config(settings, transactional_id_of(settings, RESENDING))
    committer = None if dry_run else Committer(config, settings.kafka.commit_deadline_s)
    try:
        partitions = _partitions(settings)
        # Behind an open transaction, of a worker that died, the marker of an earlier run is not visible yet.
        wait_for_open_transactions(settings, settings.topics.dead_letters)
        with open_topic(settings, settings.topics.dead_letters) as reader:
            found, done = Resent(), _sent_before(reader.since(None))
            chosen = letters(reader.since(since_ms), wanted)
            sendable = _sendable(chosen, done, partitions, settings, found)
            while part := list(islice(sendable, AT_ONCE)):
                if committer is not None:
                    committer.commit(KafkaTransaction(_records(part, partitions, settings)), None)
                found.sent.update(letter.reason for letter, _ in part)
        return found
    finally:
        if committer is not None:
            committer.close()


def _sent_before(records: Iterable[Any]) -> set[Place]:
    """Return what the markers on the topic name."""
    found: set[Place] = set()
    for record in records:
        if is_marker(record):
            try:
                named = orjson.loads(record.value or b"")
                found |= {(topic, partition, offset) for topic, partition, offset in named}
            except (orjson.JSONDecodeError, TypeError, ValueError):
                log.warning("offset %d of %s is no marker of ours: left out", record.offset, record.topic)
    return found


def _partitions(settings: Settings) -> dict[str, int]:
    """Return how many partitions each topic of the input has."""
    found = {}
    for name in (settings.topics.transactions, settings.topics.labels):
        with open_topic(settings, name) as reader:
            found[name] = len(reader.end)
    return found


def _sendable(
    chosen: Iterable[DeadLetter],
    done: set[Place],
    partitions: Mapping[str, int],
    settings: Settings,
    found: Resent,
) -> Iterator[tuple[DeadLetter, bytes]]:
    """Yield the letters that can be sent with the keys of their records; count the others."""
    seen = set(done)
    for letter in chosen:
        place = _place(letter)
        key = _key(letter, partitions, settings)
        if place in done:
            found.before += 1
        elif isinstance(key, str):
            found.refused[key] += 1
        elif place not in seen:
            seen.add(place)
            yield letter, key


def _key(letter: DeadLetter, partitions: Mapping[str, int], settings: Settings) -> bytes | str:
    """Return the key of a letter's record, its card; or why the letter cannot be sent again."""
    names = {
        settings.topics.transactions: settings.transaction.card_id,
        settings.topics.labels: settings.label.card_id,
    }
    if letter.topic not in names:
        return "its topic is none of topics.transactions and topics.labels"
    if not 0 <= letter.partition < partitions[letter.topic] or not 0 <= letter.offset < 1 << 63:
        return "its topic has no such partition or offset"
    if letter.original is None or letter.truncated:
        return "the topic keeps only the beginning of its record"
    original = original_of(letter)
    if original.count(b"*") >= _STRUCK_OUT:
        return "card numbers are struck out of its record"
    try:
        # As the decoder reads it, with the NaN that some producers write.
        card = from_json(original)[names[letter.topic]]
    except (ValueError, LookupError, TypeError):
        return "its record names no card"
    return card.encode() if isinstance(card, str) and card else "its record names no card"


def _records(
    part: Sequence[tuple[DeadLetter, bytes]], partitions: Mapping[str, int], settings: Settings
) -> Iterator[Outgoing]:
    for letter, key in part:
        partition = partition_of(key, partitions[letter.topic], settings.kafka.partitioner)
        yield Outgoing(letter.topic, original_of(letter), key=key, partition=partition)
    places = orjson.dumps([_place(letter) for letter, _ in part])
    yield Outgoing(settings.topics.dead_letters, places, partition=0, headers=[MARKER])


def _place(letter: DeadLetter) -> Place:
    return letter.topic, letter.partition, letter.offset
