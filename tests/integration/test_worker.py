"""A worker over a real Kafka, from its first start to its end."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.vocabulary import Decider, Flag
from tests.support.oracle import Outcome
from tests.support.site import ENTITY_KEY, Site
from tests.support.traffic import InputRecord, alike, records_of, small_traffic
from tests.support.waiting import DECIDE_S, wait_for
from worker.identity import Hasher
from worker.redaction import redact_bytes
from worker.wire.schema import DeadLetter

if TYPE_CHECKING:
    from tests.conftest import Broker

pytestmark = pytest.mark.integration

CARD_NUMBERS = ("4111111111111111", "5500005555555559", "378282246310005", "6011-0009-9013-9424")
"""Test numbers of the card schemes: they pass the Luhn check."""
DECIDED = "fraud_worker_decisions_total"


def bad_records(like: InputRecord, label_like: InputRecord) -> list[InputRecord]:
    """Return one record of every kind that goes to the dead letters; some hold card numbers."""
    transaction = {"transaction_id": "bad", "card_id": "c"}
    plain, grouped = CARD_NUMBERS[0], CARD_NUMBERS[3]
    time_ms = like.timestamp_ms
    return [
        InputRecord("transactions", b"c", None, time_ms),
        InputRecord("transactions", b"c", b"", time_ms),
        InputRecord("transactions", b"c", b"{", time_ms),
        InputRecord("transactions", b"c", b"\xff\xfe", time_ms),
        InputRecord("transactions", b"c", b'{"a":' * 400, time_ms),
        InputRecord("transactions", b"c", json.dumps(transaction).encode(), time_ms),
        InputRecord("transactions", None, like.value, time_ms),
        InputRecord("transactions", b"another card", like.value, time_ms),
        InputRecord("transactions", b"\xff\xfe", like.value, time_ms),
        alike(like, transaction_id="nan", amount=float("nan")),
        alike(like, transaction_id="minus", amount=-1.0),
        alike(like, transaction_id="words", amount="twelve"),
        alike(like, transaction_id="far", event_time=-5),
        alike(like, transaction_id="number", card_id=plain)._replace(key=plain.encode()),
        alike(like, transaction_id="shop", merchant_id=CARD_NUMBERS[1]),
        InputRecord("transactions", b"c", f"no JSON but a card: {grouped}".encode(), time_ms),
        InputRecord(
            "transactions", b"c", b"x" * (100_000 - 8) + CARD_NUMBERS[2].encode() + b"x" * 9, time_ms
        ),
        alike(label_like, transaction_id="unknown"),
        alike(label_like, label="perhaps"),
        alike(label_like, card_id=plain)._replace(key=plain.encode()),
        InputRecord("labels", b"c", f"[{plain}]".encode(), label_like.timestamp_ms),
    ]


@dataclass
class Finished:
    """What a worker shows after it has decided everything, and how it ends."""

    site: Site
    outcome: Outcome
    metrics: str
    log: str
    health: tuple[int, str]
    ready: tuple[int, str]
    bad: list[InputRecord]
    files: list[Path]
    alerts_counted: float
    exit_code: int


@pytest.fixture(scope="module")
def finished(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Decide 10,000 transactions with labels, repeats and bad records, most of them sent before the first start."""
    site = Site(kafka.bootstrap, tmp_path_factory.mktemp("worker"), sections={"batch": {"fuse_share": 1.0}})
    records = records_of(small_traffic())
    transactions = [record for record in records if record.topic == "transactions"]
    repeats = [
        records[i]._replace(timestamp_ms=records[i].timestamp_ms + 1) for i in range(50, len(records), 97)
    ]
    repeats = [record for record in repeats if record.topic == "transactions"]
    smuggled = alike(transactions[3], transaction_id="smuggled", channel=CARD_NUMBERS[0])
    everything = sorted([*records, *repeats, smuggled], key=lambda record: record.timestamp_ms)
    label = next(record for record in records if record.topic == "labels")
    bad = bad_records(transactions[100], label)
    cut = len(everything) * 4 // 5
    site.feed(everything[:cut], bad)
    with site.worker() as worker:
        worker.wait_until_ready()
        # The rest comes only when the online model is ready, so that it decides some, however fast the worker is.
        wait_for(
            lambda: site.folded().online_is_trusted, DECIDE_S, lambda: "no generation", [worker], every_s=0.5
        )
        site.feed(everything[cut:])
        site.wait_until_decided(worker)
        metrics, alerts = worker.get("/metrics")[1], worker.metric("fraud_worker_alerts_total")
        health, ready = worker.get("/healthz"), worker.get("/readyz")
        files = [path for path in site.folder.rglob("*") if path.is_file()]
        contents = [path for path in files if path.name != "worker.toml"]
        assert contents, "no local state to look through"
        leaks = [
            path for path in contents if any(number.encode() in path.read_bytes() for number in CARD_NUMBERS)
        ]
        assert leaks == []
        outcome = site.assert_everything_once()
        code = worker.stop()
        return Finished(site, outcome, metrics, worker.log, health, ready, bad, files, alerts, code)


def test_every_transaction_is_decided_once_and_repeats_are_dropped(finished: Finished) -> None:
    headers = [entry.header for entry in finished.outcome.entries]
    assert sum(header.repeats for header in headers) > 50
    assert sum(header.bad_records for header in headers) == len(finished.bad) - 1, (
        "an orphan is no bad record"
    )
    assert "smuggled" in finished.site.fed.transaction_ids


def test_both_deciders_decide(finished: Finished) -> None:
    flags = np.concatenate([rows.flags for entry in finished.outcome.entries for rows in entry.rows])
    deciders = set(flags & Flag.DECIDER)
    assert deciders == {Decider.NONE, Decider.FOREST, Decider.ONLINE}


def test_alerts_carry_reasons_that_add_up(finished: Finished) -> None:
    alerts = finished.outcome.alerts
    assert {alert.decided_by for alert in alerts} == {"online", "forest"}
    hasher = Hasher(finished.site.settings.hash_key)
    for alert in alerts:
        assert alert.alert_id == hasher.alert_id(alert.card_id, alert.transaction_id)
        named, rest = alert.reasons[:-1], alert.reasons[-1]
        assert [r.contribution for r in named] == sorted((r.contribution for r in named), reverse=True)
        assert rest.feature == "other_features"
        if alert.decided_by == "online":
            assert alert.reference is not None
            assert alert.probability is not None
            assert alert.expected_loss is not None
            assert alert.expected_loss == pytest.approx(alert.probability * alert.loss)
            assert alert.expected_loss >= alert.threshold * (1 - 1e-6)
        else:
            assert alert.probability is None
            assert alert.forest_rank is not None
            assert alert.forest_rank >= alert.threshold * (1 - 1e-6)


def test_online_reasons_sum_to_the_logit_of_the_journal(finished: Finished) -> None:
    logits = {
        name: float(logit)
        for entry in finished.outcome.entries
        for rows in entry.rows
        for name, logit in zip(rows.transaction_id.to_pylist(), rows.logit, strict=True)
    }
    online = [alert for alert in finished.outcome.alerts if alert.decided_by == "online"]
    for alert in online[:200]:
        assert alert.reference is not None
        total = alert.reference + sum(reason.contribution for reason in alert.reasons)
        assert total == pytest.approx(logits[alert.transaction_id], abs=1e-3)


def test_an_alert_is_a_cloud_event_that_lies_beside_its_transaction(finished: Finished) -> None:
    for record in finished.site.read("alerts")[:100]:
        headers = dict(record.headers)
        alert = json.loads(record.value)
        assert headers["ce_specversion"] == b"1.0"
        assert headers["ce_id"].decode() == alert["alert_id"]
        assert record.key.decode() == alert["card_id"]
    partition_of = {
        name: entry.header.partition for entry in finished.outcome.entries for name in entry.transaction_ids
    }
    assert all(
        record.partition == partition_of[json.loads(record.value)["transaction_id"]]
        for record in finished.site.read("alerts")
    )


def test_what_could_not_be_used_is_a_dead_letter_with_its_place_and_reason(finished: Finished) -> None:
    letters = finished.outcome.dead_letters
    reasons = Counter(letter.reason for letter in letters)
    assert reasons == {
        "null_value": 1,
        "not_json": 6,
        "missing_field": 1,
        "null_key": 1,
        "key_mismatch": 2,
        "not_finite": 1,
        "out_of_range": 2,
        "wrong_type": 1,
        "card_number": 3,
        "orphan_label": 1,
        "bad_label": 1,
        "not_an_object": 1,
    }
    originals = {
        hashlib.sha256(redact_bytes(bad.value)).hexdigest(): bad.value
        for bad in finished.bad
        if bad.value is not None
    }
    for letter in letters:
        if letter.sha256 is not None:
            assert letter.original_bytes == len(originals[letter.sha256])
            assert letter.truncated == (letter.original_bytes > 65_536)


def test_a_card_number_is_nowhere_but_in_the_input(finished: Finished) -> None:
    needles = [number.encode() for number in CARD_NUMBERS]
    for name in ("alerts", "decisions", "model_log", "dead_letters"):
        for record in finished.site.read(name):
            parts = [record.key or b"", record.value, *(value for _, value in record.headers)]
            assert not any(needle in part for part in parts for needle in needles), name
    for letter in finished.outcome.dead_letters:
        assert not any(needle in _original(letter) for needle in needles)
    output = (finished.log + finished.metrics).encode()
    assert not any(needle in output for needle in needles)
    hidden = b"".join(_original(letter) for letter in finished.outcome.dead_letters)
    assert all(needle[-4:] in hidden for needle in needles), "the last four digits stay"


def _original(letter: DeadLetter) -> bytes:
    return base64.b64decode(letter.original or "")


def test_a_running_worker_reports_its_state(finished: Finished) -> None:
    assert finished.health[0] == 200
    assert json.loads(finished.ready[1]) == {"status": "ready"}
    decided = len(finished.site.fed.transaction_ids)
    assert _sum(finished.metrics, "fraud_worker_decisions_total") == decided
    assert finished.alerts_counted == len(finished.outcome.alerts)
    assert _sum(finished.metrics, "fraud_worker_dead_letters_total") == len(finished.outcome.dead_letters)
    assert _sum(finished.metrics, "fraud_worker_lag_records") == 0


def _sum(metrics: str, name: str) -> float:
    lines = [line for line in metrics.splitlines() if line.startswith((name + "{", name + " "))]
    assert lines, f"no metric {name}"
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def test_sigterm_ends_it_with_code_0_and_leaves_no_decision_behind(finished: Finished) -> None:
    assert finished.exit_code == 0
    assert not list((finished.site.folder / "state").rglob("features")), "local state outlives the process"


def test_a_restart_continues_where_the_worker_ended(finished: Finished) -> None:
    """Runs last: the tests above look at what the first run left."""
    site = finished.site
    before = site.assert_everything_once()
    later = records_of(small_traffic(seed=8, days=1, cards=200))
    last_ms = max(int(rows.event_time_ms.max()) for entry in before.entries for rows in entry.rows)
    shift_ms = last_ms - later[0].timestamp_ms + 1_000
    site.feed([_moved(record, shift_ms) for record in later])
    stray = site.folder / "state" / "w1" / "77" / "features"
    stray.parent.mkdir(parents=True)
    stray.write_bytes(b"left behind by a process that was killed")
    bounds: dict[str, Any] = {"features": {"max_entities": 40}, "model": {"max_examples": 300}}
    with site.worker(costs={"review_cost": 4.5, "case_window_hours": 48.0}, **bounds) as worker:
        ready_s = worker.wait_until_ready()
        site.wait_until_decided(worker)
        assert worker.stop() == 0
    print(f"restarted in {ready_s:.1f} s")
    assert not stray.exists()
    after = site.assert_everything_once()
    grown = {entry.header for entry in after.entries}
    assert grown > {entry.header for entry in before.entries}, "the journal only grows"
    earlier = {alert.alert_id for alert in before.alerts}
    costs = {alert.review_cost for alert in after.alerts if alert.alert_id not in earlier}
    assert costs == {4.5}, "the settings of the restart are in force from its first decision on"
    folded = site.folded()
    assert folded.traffic_seen == len(site.fed.transaction_ids)
    assert 0 < len(folded.examples) <= 300, "the log's bounds hold, not those of the reader that folds it"
    assert folded.shared.evictions > 0


def _moved(record: InputRecord, by_ms: int) -> InputRecord:
    times = {
        name: value + by_ms
        for name, value in json.loads(record.value or b"{}").items()
        if name in ("event_time", "label_time")
    }
    moved = alike(record, **times)
    return moved._replace(timestamp_ms=record.timestamp_ms + by_ms)


def test_the_key_is_neither_logged_nor_a_metric(finished: Finished) -> None:
    assert ENTITY_KEY not in finished.log
    assert ENTITY_KEY not in finished.metrics
