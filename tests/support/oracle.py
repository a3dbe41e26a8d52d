"""What must be true of the topics once everything is decided, after any fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from models.records import Commit
from tests.support.topics import Journalled, Topics
from tests.support.traffic import Coordinates, Fed
from worker.partition.journal import JournalHeader
from worker.wire.schema import Alert, DeadLetter


class Outcome(NamedTuple):
    """What the topics held when the oracle read them."""

    entries: list[Journalled]
    alerts: list[Alert]
    dead_letters: list[DeadLetter]


def check(topics: Topics, fed: Fed) -> Outcome:
    """Fail unless every fed transaction was decided once and nothing else came of what was fed.

    Decisions, alerts and dead letters have to be exactly the due ones, the journal without gaps, the input read to
    its end, and nothing learnt twice.
    """
    entries, alerts, dead = topics.decisions(), topics.alerts(), topics.dead_letters()
    decided = Counter(name for entry in entries for name in entry.transaction_ids)
    assert {name: n for name, n in decided.items() if n != 1} == {}
    assert set(decided) == fed.transaction_ids
    flagged = [name for entry in entries for name in entry.alerted_ids]
    assert Counter(alert.transaction_id for alert in alerts) == Counter(flagged)
    assert len({alert.alert_id for alert in alerts}) == len(alerts)
    assert not _unexpected(dead, fed.dead)
    assert Counter((it.topic, it.partition, it.offset) for it in dead) == fed.dead
    offsets = topics.offsets()
    for tp, (committed, end) in offsets.items():
        assert committed == end or end == 0, tp
    last = _last_headers_of_a_journal_without_gaps(entries)
    for tp, (committed, _) in offsets.items():
        header = last.get(tp.partition)
        if header is not None:
            is_label = tp.topic == topics.settings.topics.labels
            assert committed == (header.next_label_offset if is_label else header.next_transaction_offset)
    _assert_nothing_is_learnt_twice(topics, entries)
    return Outcome(entries, alerts, dead)


def _last_headers_of_a_journal_without_gaps(entries: Sequence[Journalled]) -> dict[int, JournalHeader]:
    following: dict[int, int] = {}
    last: dict[int, JournalHeader] = {}
    for entry in entries:
        header = entry.header
        before = last.get(header.partition)
        assert header.first_sequence == following.get(header.partition, 0), (header, before)
        following[header.partition] = header.first_sequence + len(entry.transaction_ids)
        last[header.partition] = header
    return last


def _assert_nothing_is_learnt_twice(topics: Topics, entries: Sequence[Journalled]) -> None:
    """A decision adds at most one to its card's evidence; what later moves adds up to nothing."""
    decisions: Counter[int] = Counter()
    for entry in entries:
        for rows in entry.rows:
            decisions.update(rows.entities[:, 0].tolist())
    learnt: Counter[int] = Counter()
    for _, record in topics.model_log():
        if isinstance(record, Commit):
            added = record.evidence.frauds.astype(int) + record.evidence.legits
            for card, count in zip(record.evidence.hashes[:, 0].tolist(), added.tolist(), strict=True):
                learnt[card] += count
    assert learnt.total() > 0 or len(decisions) == 0, "nothing was learnt"
    assert {card: count for card, count in learnt.items() if not 0 <= count <= decisions[card]} == {}


def _unexpected(letters: Sequence[DeadLetter], fed: Counter[Coordinates]) -> list[DeadLetter]:
    return [it for it in letters if (it.topic, it.partition, it.offset) not in fed]
