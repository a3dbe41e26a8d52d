"""The Makefile's commands that start programs; `demo`, `picture` and `bench` are tested with what they run."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from tests.support.repository import ROOT, make_command, make_environment
from tests.support.waiting import wait_for
from worker.broker.embedded import free_port

pytestmark = pytest.mark.integration

START_S = 120.0
END_S = 30.0


def test_make_kafka_runs_a_broker_until_it_is_interrupted(tmp_path: Path) -> None:
    port = free_port()
    output = tmp_path / "output"
    with output.open("wb") as out:
        running = subprocess.Popen(
            make_command("kafka", f"PORT={port}"),
            cwd=ROOT,
            env=make_environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(
            lambda: f"127.0.0.1:{port}" in output.read_text() or running.poll() is not None,
            START_S,
            output.read_text,
        )
        assert running.poll() is None, output.read_text()
        with KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}") as admin:
            assert admin.list_topics() == []
        # As Ctrl-C does: to make and to all that it runs.
        os.killpg(running.pid, signal.SIGINT)
        running.wait(END_S)
    finally:
        if running.poll() is None:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
    assert "Traceback" not in output.read_text()
