"""What a worker logs when it starts, and what it leaves behind when it ends."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from models.state import ModelState
from tests.support.partition import running_task
from tests.support.processes import run_python
from tests.support.state_folders import left_by
from worker.live import app
from worker.live.app import Worker
from worker.live.state_folder import StateFolder
from worker.parameters import lineage, new_model, policy
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


@pytest.fixture
def settings_without_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a worker whose parts that speak with Kafka are replaced."""
    for name in KAFKA:
        monkeypatch.setattr(app, name, MagicMock())
    app._opening.return_value = []  # type: ignore[attr-defined]
    return Settings(
        entity_key="00" * 16,
        worker=WorkerSettings(id="w1", state_dir=tmp_path),
        health=HealthSettings(port=0),
    )


def test_a_worker_that_runs_says_when_another_one_starts_with_other_settings(
    settings_without_kafka: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(settings_without_kafka)
    others = settings_without_kafka.model_copy(update={"costs": CostSettings(review_cost=9.0)})
    started = iter([None, others, settings_without_kafka])
    shown: list[bool] = []

    def processor(*parts: Any) -> Any:
        model: ModelState = parts[4]
        model.fold(0, model.lineage)

        def run_once() -> None:
            shown.append(b"fraud_worker_policy_differs 1.0" in worker._metrics.render())
            if (settings := next(started)) is not None:
                model.fold(len(shown), policy(settings))
            if settings is settings_without_kafka:
                worker.stop()

        return MagicMock(run_once=run_once)

    monkeypatch.setattr(app, "Processor", processor)
    caplog.set_level(logging.INFO, "worker.live.conditions")
    worker.run()
    said = [(it.levelname, it.getMessage()) for it in caplog.records if it.name == "worker.live.conditions"]
    assert [level for level, _ in said] == ["WARNING", "INFO"]
    assert "costs.review_cost = 9.0 (here 5.0)" in said[0][1]
    assert shown == [False, False, True]


def test_a_start_that_changes_the_policy_in_force_names_the_settings_with_both_values(
    settings_without_kafka: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    model = new_model(settings_without_kafka)
    model.fold(0, model.lineage)
    model.fold(1, policy(settings_without_kafka.model_copy(update={"costs": CostSettings(review_cost=9.0)})))
    caplog.set_level(logging.INFO, "worker.live.app")
    app._log_policy(model, settings_without_kafka)
    assert caplog.messages == ["the settings change the policy in force: costs.review_cost: 9.0 -> 5.0"]


def test_a_start_says_in_one_line_how_much_the_folders_of_former_ids_take(
    settings_without_kafka: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = Worker(settings_without_kafka)
    monkeypatch.setattr(app, "Processor", lambda *_: MagicMock(run_once=worker.stop))
    for name in ("7f3a", "c0de"):
        left_by(tmp_path / name, 3 << 20)
    worker.run()
    [line] = [it.getMessage() for it in caplog.records if it.name == "worker.live.state_folder"]
    assert line.startswith("2 folder(s) of other worker ids")
    assert "0.00586 GiB" in line
    assert {it.name for it in tmp_path.iterdir()} == {"w1", "7f3a", "c0de"}


def test_the_lock_of_the_folder_is_given_back_only_once_the_tasks_have_deleted_their_files(
    settings_without_kafka: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A successor that waits for the lock makes files of the same names at once."""
    worker = Worker(settings_without_kafka)
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
