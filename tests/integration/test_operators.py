"""The verbs of operators and analysts, over a real Kafka."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from tests.conftest import Broker
from tests.support.processes import to_toml
from tests.support.repository import ROOT
from tests.support.site import Site
from tests.unit.test_alert_text import wire
from worker.cli import main
from worker.kafka_io.topic_reader import open_topic
from worker.wire.schema import DeadLetter

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("own_surroundings")]


@pytest.fixture(scope="module")
def site(kafka: Broker, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Alerts a0 to a9, of which a9 is aborted and a4 is none; three dead letters."""
    site = Site(kafka.bootstrap, tmp_path_factory.mktemp("site"), partitions=3)
    alerts = {f"a{i}": wire(alert_id=f"a{i}", transaction_id=f"t{i}") for i in range(10)}
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap, transactional_id=site.tag)
    producer.init_transactions()
    for i, value in enumerate((alerts | {"a4": b"\x1b[2J"}).values()):
        producer.begin_transaction()
        # A transaction each: every alert is followed by a marker that takes an offset.
        producer.send(site.settings.topics.alerts, value, partition=i % 3, timestamp_ms=1_000 * (i + 1))
        if i == 9:
            producer.flush()
            producer.abort_transaction()
        else:
            producer.commit_transaction()
    producer.begin_transaction()
    for offset, reason in enumerate(("not_json", "bad_time", "not_json")):
        producer.send(
            site.settings.topics.dead_letters, letter(offset, reason), timestamp_ms=1_000 * (offset + 1)
        )
    producer.commit_transaction()
    producer.close()
    return site


def letter(offset: int, reason: str) -> bytes:
    return DeadLetter.of(
        b"{", topic="x", partition=0, offset=offset, timestamp_ms=0, stage="decode", reason=reason, detail=""
    ).to_json()


@pytest.fixture
def config(site: Site, tmp_path: Path) -> str:
    """Return a file of settings without `entity_key`, which an analyst does not know."""
    path = tmp_path / "settings.toml"
    lines = to_toml(site.settings).splitlines()
    path.write_text("\n".join(line for line in lines if not line.startswith("entity_key")), encoding="utf-8")
    return str(path)


def ids(output: str) -> list[str]:
    return [json.loads(line)["alert_id"] for line in output.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--from-beginning", "--limit", "8"], ["a0", "a1", "a2", "a3", "a5", "a6", "a7", "a8"]),
        (["--last", "2", "--limit", "2"], ["a7", "a8"]),
        (["-n", "100", "--limit", "8"], ["a0", "a1", "a2", "a3", "a5", "a6", "a7", "a8"]),
        (["--since", "1970-01-01T00:00:06.5", "--limit", "3"], ["a6", "a7", "a8"]),
        (["--since", "1970-01-01T00:00:08", "--limit", "1"], ["a7"]),
    ],
)
def test_a_tail_begins_where_it_is_told_and_ends_at_its_limit(
    arguments: list[str], expected: list[str], config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["alerts", "tail", "--json", "--config", config, *arguments]) == 0
    # Partition by partition, where all is there already.
    assert sorted(ids(capsys.readouterr().out)) == expected


def test_the_newest_records_are_found_however_many_offsets_hold_none(site: Site) -> None:
    # Each record is followed by a marker, and the newest of the first partition was aborted.
    with open_topic(site.settings, site.settings.topics.alerts) as reader:
        newest = reader.newest(3)
    assert [json.loads(record.value)["alert_id"] for record in newest] == ["a6", "a7", "a8"]


def test_a_record_that_is_no_alert_is_reported_and_skipped(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["alerts", "tail", "--from-beginning", "--limit", "8", "--config", config]) == 0
    out, err = capsys.readouterr()
    assert out.count("transaction t") == 8
    assert "partition 1, offset 2: no alert that this version reads" in err


def run(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    # As a shell starts it: not every runner of tests leaves SIGINT alone.
    code = (
        "import signal, sys, worker.cli\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "sys.exit(worker.cli.main())"
    )
    environment: Mapping[str, str] = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, text=True, **pipes)


def test_a_tail_follows_what_is_published_and_ends_quietly_at_ctrl_c(site: Site, config: str) -> None:
    with run("alerts", "tail", "--json", "--config", config) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert "waiting for alerts" in process.stderr.readline()
        with KafkaProducer(bootstrap_servers=site.settings.kafka.bootstrap) as producer:
            producer.send(site.settings.topics.alerts, wire(alert_id="new"), partition=1)
        assert ids(process.stdout.readline()) == ["new"]
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130


@pytest.mark.parametrize(
    "verb", [["alerts", "tail", "--from-beginning"], ["dead-letters", "list"], ["doctor"]]
)
def test_a_reader_that_leaves_ends_the_verb_with_its_own_code(verb: list[str], config: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with run(*verb, "--config", config, stdout=writer) as process:
        os.close(writer)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 141
    assert "Traceback" not in err


def test_dead_letters_are_listed_newest_last_and_counted(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["dead-letters", "list", "--limit", "2", "--config", config]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [line.split()[2:5] for line in lines[1:3]] == [
        ["x-0@1", "decode", "bad_time"],
        ["x-0@2", "decode", "not_json"],
    ]
    assert lines[4] == "The newest 2 of 3 dead letters:"
    assert [line.split() for line in lines[-2:]] == [["2", "decode", "not_json"], ["1", "decode", "bad_time"]]


def test_dead_letters_since_a_moment_are_the_letters_written_since(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    since = ["--since", "1970-01-01T00:00:02"]
    assert main(["dead-letters", "list", "--json", "--config", config, *since]) == 0
    assert [json.loads(line)["offset"] for line in capsys.readouterr().out.splitlines()] == [1, 2]
    assert main(["dead-letters", "list", "--json", "--summary", "--config", config, *since]) == 0
    assert [json.loads(line)["count"] for line in capsys.readouterr().out.splitlines()] == [1, 1]


@pytest.mark.parametrize("verb", [["alerts", "tail"], ["dead-letters", "list"]])
def test_a_topic_that_is_not_there_is_named(
    verb: list[str], kafka: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(
        f'kafka.bootstrap = "{kafka.bootstrap}"\n[topics]\nalerts = "no-a"\ndead_letters = "no-d"', "utf-8"
    )
    assert main([*verb, "--config", str(path)]) == 3
    assert f"lacks the topic no-{verb[0][0]}" in capsys.readouterr().err
