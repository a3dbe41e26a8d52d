"""What a worker logs when it starts."""

from __future__ import annotations

import logging

import pytest

from worker.live.app import Worker
from worker.parameters import lineage
from worker.settings.sections import CostSettings, HealthSettings, KafkaSettings, Settings


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
