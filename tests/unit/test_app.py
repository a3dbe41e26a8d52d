"""What a worker logs when it starts, and what it leaves behind when it ends."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from tests.support.partition import running_task
from tests.support.processes import run_python
from worker.live import app
from worker.live.app import Worker
from worker.live.state_folder import StateFolder
from worker.parameters import lineage
from worker.settings.sections import (
    CostSettings,
    HealthSettings,
    KafkaSettings,
    Settings,
    WorkerSettings,
)


def test_a_start_logs_version_lineage_group_and_the_settings_that_were_changed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = Settings(
        entity_key="00" * 16,
        kafka=KafkaSettings(bootstrap="127.0.0.1:1", group="cards"),
        costs=CostSettings(review_cost=9.0),
        health=HealthSettings(port=0),
    )
    worker = Worker(settings)
    worker.stop()
    caplog.set_level(logging.INFO, "worker.live.app")
    worker.run()
    first = caplog.records[0]
    assert first.getMessage().startswith("fraud-worker ")
    assert (first.group, first.lineage) == ("cards", lineage(settings).id)  # type: ignore[attr-defined]
    assert first.changed_settings == {  # type: ignore[attr-defined]
        "entity_key": '"********"',
        "kafka.bootstrap": '"127.0.0.1:1"',
        "kafka.group": '"cards"',
        "costs.review_cost": "9.0",
        "health.port": "0",
    }


def test_what_a_start_does_not_import_is_imported_before_a_cycle_needs_it() -> None:
    code = (
        "import sys\n"
        "from worker.live import app\n"
        "app._IMPORT_LATE_AFTER_S = 0.0\n"
        "app._import_late().join()\n"
        "late = set(sys.modules)\n"
        "from models.anomaly import FlatForest\n"
        "from models.drift import _page_hinkley\n"
        "import numpy as np\n"
        "FlatForest.fit(np.eye(256, dtype=np.float32), trees=2, seed=1)\n"
        "_page_hinkley()\n"
        "needed = {name for name in set(sys.modules) - late if name.split('.')[0] in ('river', 'sklearn', 'scipy')}\n"
        "sys.exit(str(needed) if needed else 0)"
    )
    ended = run_python(code)
    assert (ended.stderr, ended.returncode) == ("", 0)


KAFKA = [
    "wait_for_brokers",
    "topic_setup",
    "Committer",
    "KafkaModelLog",
    "ColumnarConsumer",
    "Rebalance",
    "KafkaSource",
    "Publisher",
    "MetricsObserver",
    "_opening",
]


def test_the_lock_of_the_folder_is_given_back_only_once_the_tasks_have_deleted_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A successor that waits for the lock makes files of the same names at once."""
    settings = Settings(
        entity_key="00" * 16,
        worker=WorkerSettings(id="w1", state_dir=tmp_path),
        health=HealthSettings(port=0),
    )
    for name in KAFKA:
        monkeypatch.setattr(app, name, MagicMock())
    app._opening.return_value = []  # type: ignore[attr-defined]
    worker = Worker(settings)
    files = tmp_path / "w1" / "0"
    left_at_unlocking: list[bool] = []

    class Watched(StateFolder):
        def close(self) -> None:
            left_at_unlocking.append(files.exists())
            super().close()

    def run_once() -> None:
        worker._tasks[0] = running_task(files)
        assert files.exists()
        worker.stop()

    monkeypatch.setattr(app, "StateFolder", Watched)
    monkeypatch.setattr(app, "Processor", lambda *_: MagicMock(run_once=run_once))
    worker.run()
    assert left_at_unlocking == [False]


@pytest.fixture
def limit_of_files() -> Iterator[tuple[int, int]]:
    """A soft limit of open files below the hard one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = (min(1024, before[1] - 1), before[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    yield limits
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_worker_may_have_as_many_files_open_as_the_hard_limit_allows(
    monkeypatch: pytest.MonkeyPatch, limit_of_files: tuple[int, int]
) -> None:
    seen = []
    running = MagicMock(run=lambda: seen.append(resource.getrlimit(resource.RLIMIT_NOFILE)))
    monkeypatch.setattr(app, "Worker", lambda _: running)
    assert app.run(Settings(entity_key="00" * 16)) == 0
    assert seen == [(limit_of_files[1], limit_of_files[1])]


@pytest.mark.parametrize("refused", [ValueError, OSError])
def test_a_worker_that_may_not_raise_its_limit_of_open_files_starts_with_the_one_it_has(
    monkeypatch: pytest.MonkeyPatch, limit_of_files: tuple[int, int], refused: type[Exception]
) -> None:
    monkeypatch.setattr(app, "Worker", MagicMock())
    with monkeypatch.context() as here:
        here.setattr(resource, "setrlimit", setrlimit := MagicMock(side_effect=refused))
        assert app.run(Settings(entity_key="00" * 16)) == 0
    setrlimit.assert_called_once()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limit_of_files
