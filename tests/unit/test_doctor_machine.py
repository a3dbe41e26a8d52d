"""What the doctor finds on the machine it runs on."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.clusters import cluster
from tests.support.state_folders import left_by
from worker.doctor import examination, machine_checks
from worker.doctor.finding import Finding, Verdict
from worker.errors import BrokerError, SettingsError
from worker.partition.pending import SEGMENT_ROWS, _Segment, bytes_per_decision
from worker.settings.sections import Settings
from worker.telemetry.health import HealthServer, WorkerStatus

GIB = 1 << 30


def settings(**sections: Any) -> Settings:
    return Settings(entity_key="00" * 16, **sections)


def assert_failed(finding: Finding, *words: str) -> None:
    assert (finding.status, finding.error) == (Verdict.FAILED, SettingsError), finding
    assert all(word in f"{finding.found} {finding.fix}" for word in words), finding


@pytest.fixture
def free_bytes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def set_to(count: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=count))

    return set_to  # type: ignore[return-value]


def test_a_disk_must_hold_what_waits_at_the_last_days_rate(free_bytes: Any, tmp_path: Path) -> None:
    here = settings(worker={"state_dir": tmp_path / "not" / "yet"})
    busy = cluster(per_day=1e6)
    # 60 + 30 days of a million a day, with 20 features and one entity beside the card.
    needed = 90 * 1e6 * bytes_per_decision(1, 20)
    free_bytes(int(needed * 1.01))
    found = machine_checks.disk(here, busy)
    assert (found.status, f"{needed / GIB:.3g} GiB" in found.found) == (Verdict.OK, True), found
    free_bytes(int(needed * 0.99))
    assert machine_checks.disk(here, busy).status is Verdict.WARNING
    assert machine_checks.disk(here, None).status is Verdict.OK
    free_bytes(GIB - 1)
    assert machine_checks.disk(here, None).status is Verdict.WARNING


def test_a_waiting_decision_takes_its_share_of_a_segments_file(tmp_path: Path) -> None:
    _Segment(tmp_path / "segment", {"hashes": 2, "features": 20})
    size = (tmp_path / "segment").stat().st_size
    assert size / SEGMENT_ROWS == pytest.approx(bytes_per_decision(1, 20), abs=0.1)


def test_a_state_folder_that_cannot_be_one_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert_failed(
        machine_checks.disk(settings(worker={"state_dir": tmp_path / "file" / "x"}), None), "worker.state_dir"
    )


def test_folders_of_former_ids_are_named_with_size_and_last_change_and_what_to_do(tmp_path: Path) -> None:
    here = settings(worker={"state_dir": tmp_path, "id": "w1"})
    assert machine_checks.left_folders(here).status is Verdict.OK
    for name, size_bytes in (("7f3a", GIB >> 8), ("c0de", GIB >> 7)):
        left_by(tmp_path / name, size_bytes)
        os.utime(tmp_path / name / "0" / f"{0:010d}", (86_400, 86_400))
    found = machine_checks.left_folders(here)
    assert found.status is Verdict.WARNING
    each = ("c0de (0.00781 GiB", "7f3a (0.00391 GiB")
    assert all(f"{one}, last change 1970-01-02 00:00Z)" in found.found for one in each), found
    assert "can be deleted once no worker of that id will run again" in found.fix
    assert "worker.id" in found.fix
    assert {it.name for it in tmp_path.iterdir()} == {"7f3a", "c0de"}


def test_the_doctor_looks_for_folders_of_former_ids() -> None:
    assert machine_checks.left_folders in [check.look for check in examination._MACHINE_CHECKS]


def test_a_state_folder_that_cannot_be_listed_is_not_called_free_of_former_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    found = machine_checks.left_folders(settings(worker={"state_dir": tmp_path}))
    assert (found.status, "Permission denied" in found.found) == (Verdict.NOT_CHECKED, True), found


def test_tables_that_may_outgrow_the_memory_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    # A card: 12 numbers, a key and a time, 112 bytes; 2 slots of 4 bytes; 4 values of its merchants, of 32 bytes.
    small = settings(features={"max_cards": 1 << 20, "max_entities": 1})
    for limit, status in ((2 * (1 << 20) * 248 + 1000, Verdict.OK), (2 * (1 << 20) * 248, Verdict.WARNING)):
        monkeypatch.setattr(machine_checks, "memory_bytes", lambda limit=limit: limit)
        found = machine_checks.memory(small, cluster())
        assert found.status is status, found
    assert "max_cards = 1,048,576 in 2 partition(s)" in found.found
    # The places of cards are a table of their own, of 7 numbers a row: 80 bytes with the slots.
    moving = small.transaction.model_copy(update={"numeric": ("lat", "lon"), "place": ("lat", "lon")})
    placed = small.model_copy(update={"transaction": moving})
    for limit, status in ((2 * (1 << 20) * 328 + 1000, Verdict.OK), (2 * (1 << 20) * 328, Verdict.WARNING)):
        monkeypatch.setattr(machine_checks, "memory_bytes", lambda limit=limit: limit)
        assert machine_checks.memory(placed, cluster()).status is status


def test_the_memory_of_a_container_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(machine_checks, "_MEMORY_FILES", (str(limit), str(tmp_path / "none")))
    limit.write_text("max\n", encoding="ascii")
    whole = machine_checks.memory_bytes()
    assert whole == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit.write_text("1048576\n", encoding="ascii")
    assert machine_checks.memory_bytes() == 1_048_576


@pytest.mark.parametrize("limits", [(1024, 4096), (4096, resource.RLIM_INFINITY)])
def test_more_segments_are_warned_of_than_the_worker_may_have_files_open(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int]
) -> None:
    """A worker raises its soft limit to the hard one, where that is a number."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    # 90 days of 2**18 a day are 90 segments; of forty times that, 3,600.
    assert machine_checks.limits(settings(), cluster(per_day=40.0 * (1 << 18))).status is Verdict.OK
    found = machine_checks.limits(settings(), cluster(per_day=50.0 * (1 << 18)))
    assert found.status is Verdict.WARNING
    assert "4,096 open files" in found.found
    assert "4,700 are needed" in found.found
    assert machine_checks.limits(settings(), None).status is Verdict.OK


def test_a_port_is_free_or_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_checks, "_TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        other.settimeout(0)
        here = settings(health={"port": port})
        assert_failed(machine_checks.health_port(here), f"health.port = {port}", "cannot be listened on")
    assert machine_checks.health_port(here).found.endswith("is free")
    assert machine_checks.health_port(settings(health={"port": 0})).status is Verdict.OK
    assert_failed(
        machine_checks.health_port(settings(health={"port": port, "host": "192.0.2.1"})), "192.0.2.1"
    )


def test_a_port_taken_by_what_does_not_speak_http_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet() -> None:
            asked, _ = other.accept()
            with asked:
                asked.sendall(b"SSH-2.0-other\r\n")

        greeter = threading.Thread(target=greet)
        greeter.start()
        found = machine_checks.health_port(settings(health={"port": other.getsockname()[1]}))
        greeter.join()
    assert_failed(found, "cannot be listened on")


def test_a_worker_that_answers_is_reported_with_its_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # for other machines, and dead
    status = WorkerStatus()
    status.not_ready("restoring partition 2")
    with HealthServer("127.0.0.1", 0, status=status, render=bytes, stalled_after_s=60) as server:
        here = settings(health={"port": server.port})
        assert machine_checks.health_port(here).found.endswith(
            "a worker answers: not ready: restoring partition 2"
        )
        status.ready()
        assert machine_checks.health_port(here).found.endswith("a worker answers: ready")


def test_the_folder_of_compiled_loops_must_be_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache"))
    assert machine_checks.compiled_loops().status is Verdict.OK
    (tmp_path / "cache").mkdir()
    assert "still empty" in machine_checks.compiled_loops().found
    (tmp_path / "cache" / "loop.nbi").touch()
    assert "empty" not in machine_checks.compiled_loops().found
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "cache" / "loop.nbi" / "x"))
    assert_failed(machine_checks.compiled_loops(), "NUMBA_CACHE_DIR")


def test_a_worker_needs_no_java(monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> str:
        raise BrokerError("there is no java")

    monkeypatch.setattr(machine_checks, "find_java", none)
    found = machine_checks.java()
    assert (found.status, found.found) == (Verdict.OK, "not needed by a worker. there is no java")


def test_the_folder_that_counts_is_the_workers_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that root has made below a folder of everybody, or a mounted one below a folder of root."""
    (tmp_path / "w1").mkdir()
    here = settings(worker={"state_dir": tmp_path, "id": "w1"})
    for refused, is_failed in ((tmp_path / "w1", True), (tmp_path, False)):
        monkeypatch.setattr("os.access", lambda path, _, refused=refused: Path(path) != refused)
        assert (machine_checks.disk(here, None).status is Verdict.FAILED) is is_failed
