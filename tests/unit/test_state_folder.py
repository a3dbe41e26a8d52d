"""The local folder belongs to one process."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.partition import decisions, new_task
from worker.errors import FencedError, SettingsError, WorkerError
from worker.identity import Hasher
from worker.live.state_folder import StateFolder
from worker.partition.pending import PendingDecisions
from worker.settings.sections import Settings, WorkerSettings

HASHER = Hasher((1, 2))


def settings_of(folder: Path) -> Settings:
    return Settings(entity_key="00" * 16, worker=WorkerSettings(id="w1", state_dir=folder))


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


def test_a_state_dir_that_is_a_file_is_a_wrong_setting(tmp_path: Path) -> None:
    file = tmp_path / "state"
    file.write_text("")
    with pytest.raises(SettingsError, match=r"worker\.state_dir = .*cannot be written"):
        StateFolder(settings_of(file))


def test_a_state_dir_that_cannot_be_written_is_a_wrong_setting() -> None:
    # Not even root makes a folder there.
    with pytest.raises(SettingsError, match=r"worker\.state_dir = '/proc/state' cannot be written"):
        StateFolder(settings_of(Path("/proc/state")))


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
