"""A stream's first weeks: each is judged by its own rows, as the worker decided them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from models.vocabulary import MS_PER_DAY, Flag
from tests.tools.quality import __main__ as command
from tests.tools.quality import first_weeks, registry
from tests.tools.quality.first_weeks import YoungWeek
from tests.tools.quality.journal import run_worker

pytestmark = pytest.mark.usefixtures("own_quality_cache")


def test_a_week_is_judged_by_its_own_rows_alone() -> None:
    stream = registry.SMOKE.with_settings({"model": {"challenger": "off"}})
    loaded = stream.load(0)
    decisions, _ = run_worker(stream, loaded)
    costs = stream.worker_settings(loaded).costs
    whole_days = (loaded.dataset.event_time_ms - loaded.start_ms) // MS_PER_DAY
    for week in first_weeks.young_weeks(stream, 0)[:2]:
        # Later rows change no earlier decision, so that the whole stream's are the same.
        rows = [
            at
            for at, day in enumerate(whole_days.tolist())
            if 7 * week.week <= day < 7 * week.week + 7 and loaded.judged[at]
        ]
        alerted = (decisions.flags[rows] & Flag.ALERTED) != 0
        fraud, loss = loaded.fraud[rows], decisions.loss[rows]
        opened = int(((decisions.flags[rows] & Flag.OPENS_CASE) != 0).sum())
        assert week.frauds == fraud.sum() > 0
        assert week.ap == pytest.approx(average_precision_score(fraud, decisions.score[rows]))
        assert week.nothing == pytest.approx(loss[fraud].sum())
        assert week.cost == pytest.approx(opened * costs.review_cost + loss[fraud & ~alerted].sum())


def test_the_table_has_a_line_a_stream_and_a_cell_a_week() -> None:
    found = [
        YoungWeek("a", 1, 3, 0.25, 50.0, 100.0, 0.5, 2.0),
        YoungWeek("a", 2, 0, np.nan, 0.0, 0.0, 0.0, np.nan),
    ]
    lines = first_weeks.markdown(found).splitlines()
    assert lines[4].startswith("| data | days 8-14 | days 15-21 |")
    assert lines[6] == "| a | 0.250 50% 50% x2.00 | nan - 0% - |"


def test_the_command_writes_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "STREAMS", (registry.SMOKE,))
    given = ["first-weeks", "--only", "smoke", "--jobs", "1", "--out", str(tmp_path)]
    assert command.main([*given, "--set", "model.min_frauds=1000000"]) == 0
    # The setting arrives: the online model decides nothing.
    cells = (tmp_path / "first-weeks.md").read_text(encoding="utf-8").split("| smoke | ")[1].split(" | ")
    assert all(cell.split()[2:4] == ["0%", "-"] for cell in cells[:4])
