"""What a restore makes of a journal that does not end where the group says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest
from kafka import TopicPartition

from worker.errors import FencedError, IncompatibleError
from worker.kafka_io.consumer import ColumnarConsumer
from worker.live.model_log import KafkaModelLog
from worker.live.rebalance import Rebalance
from worker.live.state_folder import StateFolder
from worker.parameters import new_model
from worker.settings.sections import Settings, WorkerSettings
from worker.telemetry.health import WorkerStatus


class Committed:
    """Stands for the consumer; each look at the committed offsets of a partition finds the next ones."""

    def __init__(self, *offsets: int) -> None:
        self._found: Iterator[int] = iter(offsets)

    def committed(self, tp: TopicPartition, alive: Callable[[], None], deadline_s: float) -> int:
        del tp, deadline_s
        alive()
        return next(self._found)

    def end_offsets(self, tps: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(tps, 9)


class Mismatch:
    """Stands for the restorer of a partition whose journal ends elsewhere."""

    def __init__(self, *config: Any) -> None:
        del config

    def restore(self, *task: Any, **limits: Any) -> None:
        del task, limits
        raise IncompatibleError("the journal ends at offsets (9, 9), the group has committed (5, 5)")


@pytest.mark.parametrize(
    ("later", "raised", "said"), [(5, IncompatibleError, "journal ends"), (9, FencedError, "another worker")]
)
def test_a_journal_that_moved_during_its_restore_belongs_to_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: int, raised: type[Exception], said: str
) -> None:
    monkeypatch.setattr("worker.live.rebalance.Restorer", Mismatch)
    settings = Settings(entity_key="00" * 16, worker=WorkerSettings(state_dir=tmp_path))
    consumer = cast("ColumnarConsumer", Committed(5, 5, later, later))
    rebalance = Rebalance(
        settings,
        consumer,
        {},
        new_model(settings),
        cast("KafkaModelLog", None),
        1,
        StateFolder(settings),
        WorkerStatus(),
        lambda: None,
    )
    with pytest.raises(raised, match=said):
        rebalance(set(), {0})
