from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests.support.demo_figures import DAY_MS, START_MS, alert
from worker.demo.background import BackgroundCall
from worker.demo.figures import Figures
from worker.demo.samples import histogram_quantile, read_samples, sample_sum, sample_value
from worker.demo.scenario import demo_settings, demo_traffic, setting_values, stream_speed, to_toml
from worker.demo.stream import Stream, simulated_stream
from worker.demo.watcher import AlertBoard, Watcher
from worker.offline.dataset import NEVER, Dataset
from worker.settings.loading import load_settings
from worker.settings.sections import Settings

DAYS = 40
PER_DAY = 100
PREFIX = "fraud_worker_"


def stream() -> Stream:
    """A hundred transactions a day at equal distances, every tenth a fraud, labelled two days later."""
    count = DAYS * PER_DAY
    time_ms = START_MS + np.arange(count) * (DAY_MS // PER_DAY)
    dataset = Dataset(
        fields=demo_settings(demo_values()).transaction,
        transaction_id=pa.array([f"t{i}" for i in range(count)]),
        card_id=pa.array(["c"] * count),
        event_time_ms=time_ms,
        amount=np.ones(count),
        currency=None,
        entities={},
        numeric={},
        categorical={},
        is_fraud=np.arange(count) % 10 == 0,
        label_time_ms=time_ms + 2 * DAY_MS,
    )
    return Stream(dataset, DAYS, START_MS)


def demo_values(bootstrap: str = "b:1", duration_s: float = 120.0) -> Any:
    return setting_values(bootstrap, Path("folder"), duration_s)


def metrics(**samples: float) -> str:
    """A text as Prometheus reads it; `name__label_value` is a sample with a label."""
    lines = []
    for name, number in samples.items():
        called, _, label = name.partition("__")
        key, _, labelled = label.partition("_")
        key = {"by": "decided_by"}.get(key, key)
        lines.append(
            f'{PREFIX}{called}{{{key}="{labelled}"}} {number}' if label else f"{PREFIX}{called} {number}"
        )
    return "\n".join(lines) + "\n"


def decided(none: float = 0, forest: float = 0, online: float = 0, **more: float) -> str:
    return metrics(
        decisions_total__by_none=none,
        decisions_total__by_forest=forest,
        decisions_total__by_online=online,
        **more,
    )


class Watched:
    """A watcher of metrics in text form; one second of the demo is one day of the stream."""

    def __init__(self) -> None:
        self._watcher = Watcher(
            stream(), demo_settings(demo_values()), 40.0, speed=86_400.0, alert_every_s=1.0
        )

    def look(self, text: str, at_s: float, alerts: tuple[Any, ...] = ()) -> Figures:
        return self._watcher.observe(read_samples(text), list(alerts), at_s)


def test_samples_are_found_by_name_and_labels() -> None:
    lines = ('x{a="1",b="2"} 3', 'x{a="1",b="3"} 4', "y NaN")
    samples = read_samples("".join(f"{PREFIX}{line}\n" for line in lines))
    assert sample_value(samples, "x", b="2", a="1") == 3.0
    assert sample_sum(samples, "x", a="1") == 7.0
    assert sample_sum(samples, "x", a="2") == 0.0
    assert math.isnan(sample_value(samples, "y"))
    assert math.isnan(sample_value(samples, "absent"))


def test_rates_and_shares_are_of_the_latest_decisions() -> None:
    watched = Watched()
    watched.look(decided(none=100), 1.0)
    watched.look(decided(none=100, forest=100), 2.0)
    shown = watched.look(decided(none=100, forest=130, online=70), 4.0)
    assert shown.decided == 300
    assert shown.per_s == pytest.approx(300 / 4)  # since the beginning, which is less than five seconds ago
    assert shown.shares == {"none": 0.0, "forest": 0.3, "online": 0.7}
    assert shown.now_ms == START_MS + 299 * (DAY_MS // PER_DAY)


def test_a_rate_forgets_what_is_older_than_five_seconds() -> None:
    watched = Watched()
    for at_s in range(1, 11):
        watched.look(decided(none=1_000 + 10 * at_s), float(at_s))
    shown = watched.look(decided(none=1_000 + 110), 11.0)
    assert shown.per_s == pytest.approx(10.0)


def test_a_hand_over_is_as_of_the_first_decision_of_the_next_decider() -> None:
    watched = Watched()
    watched.look(decided(none=100), 1.0)
    watched.look(decided(none=100, forest=100), 2.0)
    watched.look(decided(none=100, forest=100), 2.5)
    shown = watched.look(decided(none=100, forest=120, online=380), 6.0)
    # A hundred a day: the forest's first is the 101st, the online model's the 221st.
    hours = [(it.decider, (it.at_ms - START_MS) * 24 / DAY_MS) for it in shown.hand_overs]
    assert hours == [("none", 0.0), ("forest", 24.0), ("online", pytest.approx(52.8))]


def test_no_hand_over_is_missed_where_two_come_between_two_observations() -> None:
    watched = Watched()
    watched.look(decided(none=100), 1.0)
    shown = watched.look(decided(none=150, forest=50, online=200), 4.0)
    # A hundred a day: the forest's first is the 151st, the online model's the 201st.
    hours = [(it.decider, (it.at_ms - START_MS) * 24 / DAY_MS) for it in shown.hand_overs]
    assert hours == [("none", 0.0), ("forest", 36.0), ("online", 48.0)]


def test_a_model_that_steps_back_hands_over_as_well() -> None:
    watched = Watched()
    watched.look(decided(none=100, online=100), 2.0)
    watched.look(decided(none=100, forest=50, online=150), 3.0)
    shown = watched.look(decided(none=100, forest=150, online=150), 4.0)
    assert [it.decider for it in shown.hand_overs] == ["none", "online", "forest"]


def test_what_is_due_and_not_decided_is_the_lag() -> None:
    watched = Watched()
    assert (
        watched.look(decided(none=150), 2.0).lag == 201 - 150
    )  # one at the very beginning, then a hundred a day
    assert watched.look(decided(none=150), 3.0).lag == 301 - 150


def closed(days: int, recall: float) -> str:
    """The metrics of a worker once the first so many days are closed."""
    cohort: dict[str, float] = {"cohort_closed__window_30d": days, "cohort_recall__window_1d": recall}
    return decided(online=950, cohort_end_timestamp_seconds=(START_MS + days * DAY_MS) / 1000.0, **cohort)


def test_the_recall_of_a_day_is_known_once_it_is_settled() -> None:
    watched = Watched()
    watched.look(closed(3, 0.25), 9.0)
    shown = watched.look(closed(4, 0.75), 9.5)
    assert shown.quality.is_known
    assert (shown.quality.days, shown.quality.last_day) == (4, 3)
    # The first three were settled in one observation: they share the figure of the newest.
    assert [day.recall for day in shown.history[:4]] == [0.25, 0.25, 0.25, 0.75]
    assert all(math.isnan(day.recall) for day in shown.history[4:])


def test_nothing_is_settled_at_first() -> None:
    shown = Watched().look("", 0.1)
    assert not shown.quality.is_known
    assert shown.decided == 0
    assert shown.hand_overs == ()
    assert math.isnan(shown.latency_p99_s)


def test_history_has_an_entry_for_each_day_even_without_an_observation() -> None:
    watched = Watched()
    watched.look(decided(none=50, model_threshold_lambda=1.0), 1.0)
    shown = watched.look(decided(none=50, forest=350, model_threshold_lambda=2.0), 4.0)
    assert [(day.decider, day.threshold) for day in shown.history] == [
        ("none", 1.0), ("none", 1.0), ("none", 1.0), ("forest", 2.0)
    ]  # fmt: skip


def test_latency_is_that_of_the_last_seconds() -> None:
    def latency(fast: int, slow: int) -> str:
        name = f"{PREFIX}end_to_end_latency_seconds_bucket"
        buckets = {"0.1": fast, "0.2": fast + slow, "+Inf": fast + slow}
        return f"# TYPE {PREFIX}end_to_end_latency_seconds histogram\n" + "".join(
            f'{name}{{le="{bound}"}} {count}\n' for bound, count in buckets.items()
        )

    watched = Watched()
    watched.look(latency(0, 1_000), 1.0)
    watched.look(latency(0, 1_000), 10.0)
    shown = watched.look(latency(100, 1_000), 40.0)
    assert shown.latency_p50_s == pytest.approx(0.05)
    assert shown.latency_p99_s == pytest.approx(0.099)


def test_a_label_is_shown_from_its_time_on() -> None:
    watched = Watched()
    shown = watched.look(decided(none=250), 2.5, (alert(transaction_id="t100"),))
    assert [it.label for it in shown.newest] == [""]
    shown = watched.look(decided(none=320), 3.5, (alert(transaction_id="t101"),))
    assert [it.label for it in shown.newest] == ["legit", "fraud"]
    shown = watched.look(decided(none=330), 5.0, (alert(transaction_id="another stream's"),))
    assert shown.newest[0].label == ""


def test_alerts_are_shown_one_at_a_time() -> None:
    board = AlertBoard(every_s=1.0)
    board.offer([alert(alert_id="a"), alert(alert_id="b")], 0.0)
    board.offer([alert(alert_id="c")], 0.5)
    board.offer([], 2.0)
    board.offer([alert(alert_id="d")], 2.1)
    assert [it.alert_id for it in board.shown] == ["d", "b"]


@pytest.mark.parametrize(
    ("buckets", "share", "expected"),
    [
        ({0.1: 50.0, 0.2: 100.0, math.inf: 100.0}, 0.5, 0.1),
        ({0.1: 50.0, 0.2: 100.0, math.inf: 100.0}, 0.75, 0.15),
        ({0.1: 0.0, 0.2: 100.0, math.inf: 100.0}, 0.5, 0.15),
        ({0.1: 50.0, math.inf: 100.0}, 0.99, 0.1),
    ],
)
def test_a_quantile_is_promqls(buckets: dict[float, float], share: float, expected: float) -> None:
    assert histogram_quantile(buckets, share) == pytest.approx(expected)


def test_labels_after_the_last_transaction_are_not_sent() -> None:
    shown = stream()
    assert shown.dataset.label_time_ms is not None
    late = shown.dataset.event_time_ms + 2 * DAY_MS > shown.dataset.event_time_ms[-1]
    assert late.any()
    assert np.array_equal(shown.dataset.label_time_ms == NEVER, late)


@pytest.mark.parametrize("duration_s", [15.0, 120.0, 600.0])
def test_a_stream_lasts_as_long_as_asked_for(duration_s: float) -> None:
    lasts_s = DAYS * 86_400.0 / stream_speed(duration_s)
    assert 0.8 * duration_s <= lasts_s < duration_s
    shown = simulated_stream(replace(demo_traffic(duration_s), cards=100, merchants=50))
    times_ms = shown.dataset.event_time_ms
    assert shown.days == DAYS
    assert START_MS <= times_ms[0] < START_MS + DAY_MS
    assert START_MS + (DAYS - 1) * DAY_MS <= times_ms[-1] < START_MS + DAYS * DAY_MS


def test_the_settings_file_holds_the_settings_of_the_demo_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = demo_values()
    (tmp_path / "worker.toml").write_text(to_toml(given), encoding="utf-8")
    expected: Settings = demo_settings(given)
    assert load_settings(tmp_path / "worker.toml") == expected
    monkeypatch.setenv("FRAUD_WORKER__KAFKA__BOOTSTRAP", "elsewhere:1")
    assert demo_settings(given) == expected
    assert expected.entity_key != demo_settings(demo_values()).entity_key


def test_a_failure_in_the_background_is_raised_where_the_result_is_read() -> None:
    failing = BackgroundCall("failing", lambda stopping: int("no number"))  # noqa: ARG005
    with pytest.raises(ValueError, match="no number"):
        failing.result()
    waiting = BackgroundCall("waiting", lambda stopping: stopping.wait(60.0))
    assert waiting.is_running
    waiting.stop(60.0)
    assert waiting.result()
