"""What must be true of the topics once everything is decided, after any fault."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.feature_layout import FeatureLayout
from models.features import CardAggregates
from models.records import Commit
from models.vocabulary import Flag, Status
from tests.support.topics import Journalled, Topics
from tests.support.traffic import Coordinates, Fed
from worker.parameters import feature_spec
from worker.partition.journal import DecisionRows, JournalHeader
from worker.wire.schema import Alert, DeadLetter


class Outcome(NamedTuple):
    """What the topics held when the oracle read them."""

    entries: list[Journalled]
    alerts: list[Alert]
    dead_letters: list[DeadLetter]


def check(topics: Topics, fed: Fed) -> Outcome:
    """Fail unless every fed transaction was decided once and nothing else came of what was fed.

    Decisions, alerts and dead letters have to be exactly the due ones, the journal without gaps, the input read to
    its end, and nothing learnt twice. Every label that is due has settled its decision for good, the evidence of fraud
    adds up to the decisions that are fraud, and the journal, folded again, gives every card's features to the bit.
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
    status = _status_by_id(entries)
    _assert_labels_have_settled(fed, entries, status)
    _assert_evidence_of_fraud_adds_up(topics, status)
    _assert_card_features_fold_again(topics, entries)
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


def _status_by_id(entries: Sequence[Journalled]) -> dict[str, Status]:
    """Return the last status that a label gave each decision; those that only silence settled are left out."""
    names: dict[tuple[int, int], str] = {}
    found: dict[str, Status] = {}
    for entry in entries:
        at = entry.header.partition
        for row, name in enumerate(entry.transaction_ids):
            names[at, entry.header.first_sequence + row] = name
        for settled in entry.settlements:
            for sequence, status in zip(settled.sequence.tolist(), settled.status.tolist(), strict=True):
                found[names[at, sequence]] = Status(status)
    return found


def _assert_labels_have_settled(fed: Fed, entries: Sequence[Journalled], status: dict[str, Status]) -> None:
    clock_ms: dict[str, int] = {}
    last = {entry.header.partition: entry.header.clock_ms for entry in entries}
    for entry in entries:
        clock_ms |= dict.fromkeys(entry.transaction_ids, last[entry.header.partition])
    said: dict[str, set[str]] = {}
    for name, time_ms, label in fed.labels:
        if time_ms <= clock_ms.get(name, -1):
            said.setdefault(name, set()).add(label)
    expected = {"fraud": Status.FRAUD, "legit": Status.LEGIT}
    due = {name: expected[next(iter(labels))] for name, labels in said.items() if len(labels) == 1}
    wrong = {name: (status.get(name), it) for name, it in due.items() if status.get(name) is not it}
    assert wrong == {}, f"{len(wrong)} of {len(due)} labels: status, and what they say"


def _assert_evidence_of_fraud_adds_up(topics: Topics, status: dict[str, Status]) -> None:
    learnt = sum(
        int(record.evidence.frauds.sum(dtype=np.int64))
        for _, record in topics.model_log()
        if isinstance(record, Commit)
    )
    assert learnt == sum(one is Status.FRAUD for one in status.values())


def _assert_card_features_fold_again(topics: Topics, entries: Sequence[Journalled]) -> None:
    spec = feature_spec(topics.settings)
    columns = slice(1, 1 + spec.card_features)
    cards = {entry.header.partition: CardAggregates(spec, entry.header.max_cards) for entry in entries}
    place_columns = [FeatureLayout.from_spec(spec).names.index(name) for name in spec.place]
    windows_ms: dict[int, int] = {}
    for entry in entries:
        if not entry.rows:
            continue
        rows = DecisionRows.concatenate(entry.rows)
        card = np.ascontiguousarray(rows.entities[:, 0])
        of_partition, window_ms = cards[entry.header.partition], entry.header.case_window_ms
        if window_ms != windows_ms.setdefault(entry.header.partition, window_ms):
            of_partition.forget_windows()
            windows_ms[entry.header.partition] = window_ms
        place = rows.features[:, place_columns] if spec.place else None
        entities = rows.entities[:, 1:]
        again, _ = of_partition.advance(card, entities, rows.counted_ms, rows.amount, window_ms, place)
        reached = of_partition.reach(card, rows.counted_ms, rows.flags, window_ms)
        journalled = np.ascontiguousarray(rows.features[:, columns])
        assert again.tobytes() == journalled.tobytes(), entry.header
        assert np.array_equal(reached, rows.flags & (Flag.LEVEL_BEFORE | Flag.OPENS_FOREST_CASE)), (
            entry.header
        )


def _unexpected(letters: Sequence[DeadLetter], fed: Counter[Coordinates]) -> list[DeadLetter]:
    return [it for it in letters if (it.topic, it.partition, it.offset) not in fed]
