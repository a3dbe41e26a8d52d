"""The local folder belongs to one process."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.partition import decisions, new_task
from tests.support.state_folders import left_by
from worker.errors import FencedError, SettingsError, WorkerError
from worker.identity import Hasher
from worker.live.state_folder import StateFolder, left_folders, log_left_folders
from worker.partition.pending import PendingDecisions
from worker.settings.sections import Settings, WorkerSettings

HASHER = Hasher((1, 2))


def settings_of(folder: Path, worker_id: str = "w1") -> Settings:
    return Settings(entity_key="00" * 16, worker=WorkerSettings(id=worker_id, state_dir=folder))


def test_a_second_process_of_one_id_is_refused_and_touches_nothing(tmp_path: Path) -> None:
    folder = StateFolder(settings_of(tmp_path))
    ours = folder.of_partition(0)
    ours.mkdir()
    (ours / "0").write_bytes(b"x")
    with pytest.raises(FencedError, match=r"another process uses .*worker\.id = 'w1'"):
        StateFolder(settings_of(tmp_path), wait_s=0.2).clear()
    assert (ours / "0").read_bytes() == b"x"
    folder.close()
    again = StateFolder(settings_of(tmp_path))
    again.clear()
    assert [entry.name for entry in again.path.iterdir()] == ["lock"]
    again.close()


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal; from pathlib import Path; from tests.unit.test_state_folder import settings_of;"
        "from worker.live.state_folder import StateFolder; it = StateFolder(settings_of(Path(sys.argv[1])));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert killed.returncode == -9
    StateFolder(settings_of(tmp_path), wait_s=0.0).close()


def test_the_wait_for_the_lock_ends_when_the_worker_is_asked_to_stop(tmp_path: Path) -> None:
    folder = StateFolder(settings_of(tmp_path))

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StateFolder(settings_of(tmp_path), stop)
    folder.close()


def test_a_state_dir_whose_files_cannot_be_locked_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(
        SettingsError, match=r"lock cannot be locked \(No locks available\).*worker\.state_dir"
    ):
        StateFolder(settings_of(tmp_path))


def test_a_partition_for_which_the_disk_has_no_room_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(WorkerError, match="free disk space there, or name another"):
        PendingDecisions(tmp_path / "0", entity_count=1, feature_count=1)


def test_a_state_dir_that_is_a_file_is_a_wrong_setting(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("")
    with pytest.raises(SettingsError, match=r"worker\.state_dir = .*cannot be written"):
        StateFolder(settings_of(file))


def test_a_state_dir_that_cannot_be_written_is_a_wrong_setting() -> None:
    # Not even root makes a folder there.
    with pytest.raises(SettingsError, match=r"worker\.state_dir = '/proc/state' cannot be written"):
        StateFolder(settings_of(Path("/proc/state")))


def left_in(folder: Path) -> list[str]:
    return [left.path.name for left in left_folders(settings_of(folder).worker)]


def test_the_folders_that_killed_workers_left_are_found_with_their_size_and_last_change(
    tmp_path: Path,
) -> None:
    left_by(tmp_path / "7f3a", 1 << 20)
    left_by(tmp_path / "c0de", 5 << 20)
    os.utime(tmp_path / "7f3a" / "0" / f"{0:010d}", (86_400, 86_400))
    large, small = left_folders(settings_of(tmp_path).worker)
    assert (large.path, small.path) == (tmp_path / "c0de", tmp_path / "7f3a")
    assert (large.size_bytes, small.size_bytes) == (5 << 20, 1 << 20)
    assert small.changed_s == 86_400


def test_a_folder_takes_what_its_files_take_of_the_disk_and_not_their_length(tmp_path: Path) -> None:
    """A segment is a sparse file: one of few decisions is as long as a full one."""
    left_by(tmp_path / "7f3a", 1 << 20)
    with (tmp_path / "7f3a" / "0" / f"{0:010d}").open("r+b") as segment:
        segment.truncate(1 << 30)
    [left] = left_folders(settings_of(tmp_path).worker)
    assert left.size_bytes == 1 << 20


def test_the_folder_of_a_worker_that_runs_is_not_named_as_left(tmp_path: Path) -> None:
    for name in ("w1", "w2"):
        left_by(tmp_path / name, 1 << 20)
    running = StateFolder(settings_of(tmp_path, "w2"))
    assert left_in(tmp_path) == [], "our own, and one whose lock is taken"
    running.close()
    assert left_in(tmp_path) == ["w2"]


def test_two_that_look_at_once_do_not_take_each_other_for_a_worker(tmp_path: Path) -> None:
    left_by(tmp_path / "7f3a", 1 << 20)
    looking = os.open(tmp_path / "7f3a" / "lock", os.O_RDONLY)
    fcntl.flock(looking, fcntl.LOCK_SH)
    assert left_in(tmp_path) == ["7f3a"]
    os.close(looking)


def test_what_no_worker_made_and_what_holds_no_files_is_not_named_as_left(tmp_path: Path) -> None:
    StateFolder(settings_of(tmp_path, "ended")).close()
    for name in ("lost+found", "database"):
        (tmp_path / name / "data").mkdir(parents=True)
        (tmp_path / name / "data" / "file").write_bytes(bytes(1 << 20))
    (tmp_path / "database" / "lock").touch()
    (tmp_path / "file").touch()
    assert left_in(tmp_path) == []
    assert left_in(tmp_path / "not yet") == []


def test_a_worker_that_may_not_list_its_state_dir_starts_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    log_left_folders(settings_of(tmp_path).worker)
    assert caplog.records == []


def append(pending: PendingDecisions, first: int, count: int) -> None:
    rows = decisions([f"t{first + row}" for row in range(count)], first=first)
    ids = rows.transaction_id
    pending.append(rows, HASHER.entities(ids), HASHER.checks(ids))


def test_an_existing_segment_is_never_truncated(tmp_path: Path) -> None:
    pending = new_task(tmp_path / "0").pending
    (tmp_path / "0" / f"{0:010d}").write_bytes(b"someone else's")
    with pytest.raises(WorkerError, match=r"cannot be written.*no other process uses"):
        append(pending, 0, 3)
    assert (tmp_path / "0" / f"{0:010d}").read_bytes() == b"someone else's"


def test_a_folder_deleted_under_a_running_worker_is_named_as_such(tmp_path: Path) -> None:
    pending = new_task(tmp_path / "0").pending
    (tmp_path / "0").rmdir()
    with pytest.raises(WorkerError, match="is gone: somebody deletes"):
        append(pending, 0, 3)


def test_the_default_id_is_the_host_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "pod 7.local")
    assert WorkerSettings().id == "pod-7.local"


def test_a_segment_truncated_under_the_worker_ends_it_with_a_word(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
import numpy as np
from tests.unit.test_state_folder import settings_of
from worker.live import app

class Truncated:
    def __init__(self, settings): pass
    def run(self):
        file = Path(sys.argv[1]) / "segment"
        file.write_bytes(bytes(1 << 20))
        mapped = np.memmap(file, np.uint8, "r+")
        with file.open("r+b") as it: it.truncate(0)
        print(mapped[5_000])

app.Worker = Truncated
app.run(settings_of(Path(sys.argv[1])))
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, text=True
    )
    assert ended.returncode == -signal.SIGBUS
    assert "Bus error" in ended.stderr
