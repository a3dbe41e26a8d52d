"""`alerts tail`: what it reads and which alerts it shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from worker.cli import main
from worker.wire.schema import Alert

ROOT = Path(__file__).parents[2]
KEY = "00112233445566778899aabbccddeeff"


pytestmark = pytest.mark.usefixtures("own_surroundings")


def alert_record(offset: int, **changes: Any) -> SimpleNamespace:
    fine = {
        "alert_id": f"a{offset}",
        "transaction_id": f"t{offset}",
        "card_id": "c1",
        "case_id": "k",
        "event_time_ms": 5,
        "amount": 1.5,
        "currency": None,
        "decided_by": "online",
        "probability": 0.25,
        "forest_score": None,
        "forest_rank": None,
        "expected_loss": 2.0,
        "threshold": 1.0,
        "loss": 8.0,
        "review_cost": 1.0,
        "reasons": [],
        "reference": -3.0,
        "model_version": "v",
    }
    value = Alert.model_validate(fine | changes).to_json()
    return SimpleNamespace(topic="alerts", partition=0, offset=offset, value=value)


class Alerts:
    """A topic of alerts, of which the last ones come after the reader was opened."""

    past = (
        alert_record(0),
        alert_record(1, card_id="c2"),
        alert_record(2, decided_by="forest", probability=None, forest_score=0.7),
        alert_record(3, probability=0.9),
        SimpleNamespace(topic="alerts", partition=0, offset=4, value=b"no alert"),
        alert_record(5, probability=0.95, card_id="c2"),
    )

    def since(self, time_ms: int | None) -> Iterator[Any]:
        del time_ms
        yield from self.past

    def newest(self, count: int) -> list[Any]:
        return list(self.past[-count:])

    def following(self) -> Iterator[Any]:
        raise AssertionError("it follows")


@pytest.fixture
def topic_of_alerts(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def opened(*_: object) -> Iterator[Alerts]:
        yield Alerts()

    monkeypatch.setattr("worker.kafka_io.topic_reader.open_topic", opened)
    monkeypatch.setattr("worker.commands.alerts.wait_for_kafka", lambda _: None)


@pytest.mark.usefixtures("topic_of_alerts")
@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ([], [0, 1, 2, 3, 5]),
        (["--from-beginning"], [0, 1, 2, 3, 5]),
        (["--last", "3"], [3, 5]),
        (["--card", "c2"], [1, 5]),
        (["--decided-by", "forest"], [2]),
        (["--min-probability", "0.9"], [3, 5]),
        (["--card", "c1", "--decided-by", "online"], [0, 3]),
        (["--card", "c1", "--last", "2"], [2, 3]),
        (["--limit", "2"], [0, 1]),
    ],
)
def test_alerts_are_listed_to_the_end_and_chosen(
    arguments: list[str], shown: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["alerts", "tail", "--until-end", "--json", *arguments]) == 0
    ids = [json.loads(line)["alert_id"] for line in capsys.readouterr().out.splitlines()]
    assert ids == [f"a{offset}" for offset in shown]
    assert main(["alerts", "tail", "--until-end", *arguments]) == 0
    assert capsys.readouterr().out.count("case k") == len(shown)
