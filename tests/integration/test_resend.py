"""Dead letters sent again, over a real Kafka and past a running worker."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.partitioner import murmur2

from tests.conftest import Broker
from tests.support.processes import WorkerProcess, to_toml
from tests.support.site import Site
from tests.support.traffic import InputRecord, alike, records_of, small_traffic
from tests.support.waiting import DECIDE_S, START_S, wait_for
from worker.cli import main
from worker.errors import FencedError
from worker.kafka_io.client import producer_config
from worker.kafka_io.committer import Committer, KafkaTransaction, Outgoing
from worker.kafka_io.topic_reader import open_topic
from worker.live.resend import resend
from worker.wire.dead_letters import MARKER, Wanted
from worker.wire.schema import DeadLetter

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("own_surroundings")]


def replay(config: Path, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, object]:
    capsys.readouterr()
    assert main(["dead-letters", "replay", "--json", "--config", str(config), *options]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def sent_to(site: Site, topic: str) -> list[bytes]:
    with open_topic(site.settings, topic) as reader:
        return [record.value for record in reader.since(None)]


def a_pair(records: list[InputRecord]) -> tuple[InputRecord, InputRecord]:
    """Return a transaction and its label, both with an id of their own."""
    label = next(it for it in records if it.topic == "labels")
    named = json.loads(label.value or b"")["transaction_id"]
    transaction = next(
        it for it in records if it.topic == "transactions" and f'"{named}"'.encode() in (it.value or b"")
    )
    return alike(transaction, transaction_id="late"), alike(label, transaction_id="late")


def wait_for_postponed(worker: WorkerProcess, count: int) -> None:
    """Wait until so many labels wait; the metric follows the commit that a test sees a moment later."""
    name = "fraud_worker_postponed_labels"
    wait_for(lambda: worker.metric(name) == count, 30.0, lambda: f"{worker.metric(name)} wait", [worker])


def test_a_label_that_came_before_its_transaction_waits_for_it_beyond_a_restart(
    kafka: Broker, tmp_path: Path
) -> None:
    site = Site(kafka.bootstrap, tmp_path, 2)
    records = records_of(small_traffic(days=3, cards=60))
    transaction, early = a_pair(records)
    with site.worker() as worker:
        site.feed(records)
        site.wait_until_decided(worker, timeout_s=START_S + DECIDE_S)
        site.feed([early])
        site.wait_until_decided(worker)
        wait_for_postponed(worker, 1)
        assert worker.stop() == 0
    with site.worker() as worker:
        site.feed([transaction])
        site.wait_until_decided(worker, timeout_s=START_S + DECIDE_S)
        wait_for_postponed(worker, 0)
        assert worker.stop() == 0
    assert not [it for it in sent_to(site, site.settings.topics.dead_letters) if b"orphan_label" in it]


def test_a_label_that_came_before_its_transaction_is_sent_again_once_and_finds_it(
    kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site(kafka.bootstrap, tmp_path, 2, sections={"labels": {"orphan_after_hours": 0}})
    config = tmp_path / "worker.toml"
    config.write_text(to_toml(site.settings), "utf-8")
    records = records_of(small_traffic(days=3, cards=60))
    transaction, early = a_pair(records)
    with site.worker() as worker:
        site.feed([*records, early])
        site.wait_until_decided(worker, timeout_s=START_S + DECIDE_S)
        site.feed([transaction])
        site.wait_until_decided(worker)
        assert replay(config, capsys, "--dry-run") == {
            "sent": {"orphan_label": 1}, "sent_before": 0, "refused": {},
        }  # fmt: skip
        assert replay(config, capsys, "--reason", "not_json")["sent"] == {}
        assert replay(config, capsys, "--reason", "orphan_label")["sent"] == {"orphan_label": 1}
        site.wait_until_decided(worker)
        assert replay(config, capsys) == {"sent": {}, "sent_before": 1, "refused": {}}
        assert worker.stop() == 0
    assert sent_to(site, site.settings.topics.labels).count(early.value or b"") == 2
    orphans = [it for it in sent_to(site, site.settings.topics.dead_letters) if b"orphan_label" in it]
    assert len(orphans) == 1, "sent again, the label found its decision"
    assert main(["dead-letters", "list", "--summary", "--json", "--config", str(config)]) == 0
    assert json.loads(capsys.readouterr().out) == {"stage": "settle", "reason": "orphan_label", "count": 1}


def test_what_is_not_whole_any_more_stays(kafka: Broker, tmp_path: Path) -> None:
    site = Site(kafka.bootstrap, tmp_path, 1)
    names = site.settings.topics
    values = {
        1: b'{"card_id": "c1", "note": "4111111111111111"}',
        2: b'{"card_id": "c1", "filler": "' + b"x" * 70_000 + b'"}',
        3: b'{"no": "card"}',
        4: b"no JSON",
        5: b'{"card_id": "c5"}',
        6: b'{"card_id": "c6"}',
        1 << 70: b'{"card_id": "c7"}',
    }
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for offset, value in [*values.items(), (5, values[5])]:
        letter = DeadLetter.of(
            value, topic="elsewhere" if offset == 6 else names.transactions, partition=0, offset=offset, timestamp_ms=1,
            stage="decode", reason="missing_field", detail="d",
        )  # fmt: skip
        producer.send(names.dead_letters, letter.to_json())
    producer.send(names.dead_letters, b"x", headers=[MARKER])
    producer.close()
    found = resend(site.settings, Wanted())
    assert (found.sent, found.before) == ({"missing_field": 1}, 0)
    assert sorted(found.refused.values()) == [1, 1, 1, 1, 2]
    assert sent_to(site, names.transactions) == [values[5]]


def test_a_record_without_its_key_goes_to_the_partition_of_its_card(kafka: Broker, tmp_path: Path) -> None:
    """Where it lay, no label would find it; enough of them would stop the worker at every start."""
    site = Site(kafka.bootstrap, tmp_path, 4)
    names, cards = site.settings.topics, [f"c{at}" for at in range(40)]
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap)
    for offset, card in enumerate(cards):
        letter = DeadLetter.of(
            json.dumps({"card_id": card}).encode(), topic=names.transactions, partition=offset % 4, offset=offset,
            timestamp_ms=1, stage="decode", reason="null_key", detail="d",
        )  # fmt: skip
        producer.send(names.dead_letters, letter.to_json())
    producer.close()
    assert resend(site.settings, Wanted()).sent == {"null_key": 40}
    with open_topic(site.settings, names.transactions) as reader:
        lies = {record.key.decode(): record.partition for record in reader.since(None)}
    assert lies == {card: (murmur2(card.encode()) & 0x7FFFFFFF) % 4 for card in cards}


def test_of_two_runs_at_once_the_later_one_sends(kafka: Broker, tmp_path: Path) -> None:
    site = Site(kafka.bootstrap, tmp_path, 1)
    config = producer_config(site.settings, f"{site.settings.kafka.group}.dead-letters")
    earlier = Committer(config, site.settings.kafka.commit_deadline_s)
    assert resend(site.settings, Wanted()).sent == {}
    with pytest.raises(FencedError):
        earlier.commit(KafkaTransaction([Outgoing(site.settings.topics.labels, b"x", partition=0)]), None)
    earlier.close()
    assert sent_to(site, site.settings.topics.labels) == []
