"""The quality table: which rows pass, which bars are kept, and the command that makes it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation import average_precision
from tests.support.quality import STREAM, loaded
from tests.tools.quality import __main__ as command
from tests.tools.quality import recorded as kept
from tests.tools.quality import registry, table
from tests.tools.quality.cache import write_json
from tests.tools.quality.curves import DayCosts, DayCurves
from tests.tools.quality.measure import Judged, JudgedWindow, Measured

pytestmark = pytest.mark.usefixtures("own_quality_cache")

MEASURED = Measured(
    0,
    (),
    (),
    10,
    1.0,
    is_kept=False,
    features_changed=False,
    worst_excess_days=0.5,
    generations_cpu_s=(2.0, 3.0),
)


def judged(name: str, score: NDArray[np.float64], fraud: NDArray[np.bool_], day: NDArray[np.int64]) -> Judged:
    flat = np.ones(day.max() + 1)
    curves = DayCurves.of(fraud, score, day)
    return Judged(name, "a=1", average_precision(fraud, score), 0.5, 0.0, curves, DayCosts(flat, flat, flat))


def window(
    seed: int, *, worse_by: float, baselines_of: tuple[str, ...] = ("LightGBM (frozen features)",)
) -> JudgedWindow:
    rng = np.random.default_rng(seed)
    day = np.repeat(np.arange(40), 50)
    fraud = rng.random(day.size) < 0.2
    score = rng.standard_normal(day.size) + 2.0 * fraud
    others = tuple(judged(name, score, fraud, day) for name in baselines_of)
    worker = judged("worker", score - worse_by * fraud * rng.random(day.size), fraud, day)
    return JudgedWindow("tiny", 40, day.size, int(fraud.sum()), worker, others, 1.0, float("nan"))


def test_a_row_passes_by_its_lower_bound() -> None:
    same = table.judge(STREAM, STREAM.windows[0], [window(0, worse_by=0.0), window(1, worse_by=0.0)])
    assert same.passes
    assert same.interval == pytest.approx((0.0, 0.0, 0.0), abs=1e-12)
    worse = table.judge(STREAM, STREAM.windows[0], [window(0, worse_by=1.0)])
    assert not worse.passes
    assert worse.interval.low < worse.interval.difference < 0
    assert worse.bar == "LightGBM (frozen features)"


def test_the_bar_is_a_baseline_that_every_seed_has() -> None:
    both = ("LightGBM (frozen features)", "EBM (frozen features)")
    row = table.judge(
        STREAM, STREAM.windows[0], [window(0, worse_by=0.0, baselines_of=both), window(1, worse_by=0.0)]
    )
    assert row.bar == "LightGBM (frozen features)"
    # A seed without any baseline yet is left out.
    row = table.judge(
        STREAM, STREAM.windows[0], [window(0, worse_by=0.0), window(1, worse_by=0.0, baselines_of=())]
    )
    assert len(row.by_seed) == 1
    none = table.judge(STREAM, STREAM.windows[0], [window(0, worse_by=0.0, baselines_of=())])
    assert (none.bar, none.passes) == (None, False)


def test_a_recorded_bar_stands_where_the_cache_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    assert kept.read_recorded() == {}
    row = table.judge(STREAM, STREAM.windows[0], [window(0, worse_by=0.0)])
    table.write(
        tmp_path,
        [row],
        {"tiny": [MEASURED]},
        [],
        1.0,
    )
    kept.record(tmp_path)
    recorded = kept.read_recorded()["tiny"]
    assert recorded["figure"] == pytest.approx(row.baseline, abs=1e-4)
    alone = [window(0, worse_by=0.0, baselines_of=())]
    again = table.judge(STREAM, STREAM.windows[0], alone, recorded)
    assert again.bar == "LightGBM (frozen features), recorded"
    assert again.interval.low < again.interval.difference < again.interval.high
    assert not again.passes
    # A seed without a bar may be harder or easier: the worker's figure on it is not held against the others' bar.
    with_another = [*alone, window(1, worse_by=0.3, baselines_of=())]
    assert table.judge(STREAM, STREAM.windows[0], with_another, recorded).worker == again.worker
    better = table.judge(STREAM, STREAM.windows[0], alone, recorded | {"figure": 0.1})
    assert better.passes
    table.write(
        tmp_path,
        [again],
        {"tiny": [MEASURED]},
        [],
        1.0,
    )
    kept.record(tmp_path)
    assert kept.read_recorded()["tiny"] == recorded


def test_a_recorded_bar_above_that_of_the_cache_stands_on_the_days_of_the_same_baseline() -> None:
    both = [window(0, worse_by=0.0), window(1, worse_by=0.0)]
    cached = table.judge(STREAM, STREAM.windows[0], both).baseline
    recorded = {"bar": "LightGBM (frozen features)", "setting": "a=1", "figure": cached + 0.005, "seeds": 2}
    # The worker is the baseline of the cache: on every draw of days it is below the bar by as much.
    row = table.judge(STREAM, STREAM.windows[0], both, recorded)
    assert (row.bar, row.baseline) == ("LightGBM (frozen features), recorded", cached + 0.005)
    assert row.interval == pytest.approx((-0.005, -0.005, -0.005), abs=1e-12)
    far = {"figure": cached + 0.02}
    for other in ({"setting": "a=2"}, {"bar": "EBM (frozen features)"}, {"seeds": 1}, far):
        apart = table.judge(STREAM, STREAM.windows[0], both, recorded | other)
        assert apart.baseline == (recorded | other)["figure"]
        assert apart.interval.low < apart.interval.difference < apart.interval.high
    for figure in (cached - 0.05, round(cached, 4)):
        lower = table.judge(STREAM, STREAM.windows[0], both, recorded | {"figure": figure})
        assert (lower.bar, lower.baseline) == ("LightGBM (frozen features)", cached)


def remade(
    it: JudgedWindow, *, family: str = "LightGBM", features: str = "frozen", raised_by: float = 0.0
) -> kept.Remade:
    [side] = it.baselines
    assert side.curves is not None
    days = side.curves.joined(kept.STEPS)
    return kept.Remade("tiny", family, side.setting, features, it.rows, side.ap + raised_by, days)


def test_the_kept_days_of_a_bar_pair_with_those_of_the_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    both = [window(0, worse_by=0.5), window(1, worse_by=0.5)]
    row = table.judge(STREAM, STREAM.windows[0], both)
    table.write(tmp_path, [row], {"tiny": [MEASURED]}, [], 1.0)
    kept.record(tmp_path)
    assert kept.read_recorded_days() == {}
    kept.keep("tiny", [[remade(it)] for it in both])
    bar, days = kept.read_recorded()["tiny"], kept.read_recorded_days()["tiny"]
    assert [len(it.caught) for it in days] == [kept.STEPS, kept.STEPS]
    alone = [window(seed, worse_by=0.5, baselines_of=()) for seed in (0, 1)]
    paired = table.judge(STREAM, STREAM.windows[0], alone, bar, days)
    assert paired.interval == pytest.approx(row.interval, abs=0.004)
    unpaired = table.judge(STREAM, STREAM.windows[0], alone, bar)
    width = row.interval.high - row.interval.low
    assert unpaired.interval.high - unpaired.interval.low > 2.0 * width
    # Days of other data pair with nothing.
    other = [dataclasses.replace(it, caught=it.caught[:, 1:], alerted=it.alerted[:, 1:]) for it in days]
    assert table.judge(STREAM, STREAM.windows[0], alone, bar, other).interval == unpaired.interval
    # A run without the baselines loses none of what is kept.
    table.write(tmp_path, [unpaired], {"tiny": [MEASURED]}, [], 1.0)
    kept.record(tmp_path)
    assert list(kept.read_recorded_days()) == ["tiny"]


def test_a_bar_made_anew_is_raised_where_it_is_higher_and_keeps_no_days_where_it_is_far(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    it = window(0, worse_by=0.0)
    ap = it.baselines[0].ap
    # Of two versions of the features the better one stands.
    for figure, stands, has_days in ((ap + 0.1, ap + 0.1, False), (ap + 0.005, ap + 0.03, True)):
        bar = {"bar": "LightGBM (frozen features)", "setting": "a=1", "figure": figure}
        write_json(tmp_path / kept.BARS_FILE, {"tiny": bar})
        made = [remade(it), remade(it, features="current", raised_by=0.03)]
        kept.keep("tiny", [made])
        assert kept.read_recorded()["tiny"]["figure"] == pytest.approx(stands, abs=1e-4)
        assert ("tiny" in kept.read_recorded_days()) is has_days


def test_another_family_stands_beside_a_kept_bar_until_it_is_higher(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    it = window(0, worse_by=0.0)
    ap = it.baselines[0].ap
    kept.keep("tiny", [[remade(it)]])
    first = kept.read_recorded()["tiny"]
    assert (first["seeds"], first["rows"], first["frauds"]) == (1, it.rows, it.frauds)
    [line] = kept.keep("tiny", [[remade(it, family="EBM", raised_by=-0.1)]])
    assert line.startswith(f"tiny: EBM {ap - 0.1:.4f}; the bar is LightGBM")
    assert kept.read_recorded()["tiny"] == first | {
        "others": {"EBM": {"figure": pytest.approx(ap - 0.1, abs=1e-4), "setting": "a=1"}}
    }
    # Worse features lower no figure.
    kept.keep("tiny", [[remade(it, family="EBM", raised_by=-0.2)]])
    assert kept.figures_of(kept.read_recorded()["tiny"])["EBM"] == pytest.approx(ap - 0.1, abs=1e-4)
    kept.keep("tiny", [[remade(it, family="EBM", features="current", raised_by=0.01)]])
    bar, days = kept.read_recorded()["tiny"], kept.read_recorded_days()["tiny"]
    assert bar["bar"] == "EBM (current features)"
    assert kept.figures_of(bar) == pytest.approx({"EBM": ap + 0.01, "LightGBM": ap}, abs=1e-4)
    assert kept.settings_of(bar) == {"EBM": "a=1", "LightGBM": "a=1"}
    # The table of a clone without a cache shows both.
    alone = window(0, worse_by=0.0, baselines_of=())
    row = table.judge(STREAM, STREAM.windows[0], [alone], bar, days)
    assert row.bar == "EBM (current features), recorded"
    assert row.best("LightGBM", "ap") == pytest.approx(ap, abs=1e-4)
    assert np.isnan(row.best("XGBoost", "ap"))
    assert np.isnan(row.best("LightGBM", "auc"))
    # Nor does a higher bar of a table lose what stands beside it.
    better = window(0, worse_by=0.0, baselines_of=("XGBoost (frozen features)",))
    raised = dataclasses.replace(better.baselines[0], ap=ap + 0.02)
    row = table.judge(
        STREAM, STREAM.windows[0], [dataclasses.replace(better, baselines=(raised,))], bar, days
    )
    table.write(tmp_path, [row], {"tiny": [MEASURED]}, [], 1.0)
    kept.record(tmp_path)
    assert set(kept.figures_of(kept.read_recorded()["tiny"])) == {"XGBoost", "EBM", "LightGBM"}


def test_days_that_are_kept_are_those_of_the_repository_s_bars() -> None:
    bars, days = kept.read_recorded(), kept.read_recorded_days()
    assert days.keys() <= bars.keys()
    for name, seeds in days.items():
        assert len(seeds) == bars[name]["seeds"]
        assert sum(int(it.caught[-1].sum()) for it in seeds) == bars[name]["frauds"]


def test_a_smoke_run_makes_the_whole_table(tmp_path: Path) -> None:
    pytest.importorskip("lightgbm")
    assert command.main(["--smoke", "--out", str(tmp_path)]) == 0
    made = json.loads((tmp_path / "quality.json").read_text(encoding="utf-8"))
    [row] = made["rows"]
    assert set(row) == {"name", "worker", "baseline", "low", "high", "passes"}
    assert 0.3 < row["worker"] < 1.0
    assert 0.3 < row["baseline"] < 1.0
    assert row["low"] <= row["worker"] - row["baseline"] <= row["high"]
    assert made["weeks"]["smoke"][0]
    text = (tmp_path / "quality.md").read_text(encoding="utf-8")
    assert "| smoke |" in text
    assert "nan" not in text


def test_only_the_seeds_that_have_a_bar_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    stream = dataclasses.replace(STREAM, seeds=(3, 4, 5))
    assert kept.seeds_with_bars(stream) == (3, 4, 5)
    [window] = stream.windows
    bar = {"bar": "x", "setting": "", "figure": 0.5, "seeds": 2, "rows": 1, "frauds": 1}
    (tmp_path / kept.BARS_FILE).write_text(json.dumps({stream.row_name(window): bar}), encoding="utf-8")
    assert kept.seeds_with_bars(stream) == (3, 4)


def test_the_list_names_every_stream(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(registry.STREAMS)


def test_a_part_of_the_worker_can_be_left_out_on_all_streams() -> None:
    stream = dataclasses.replace(STREAM, settings={"model": {"min_frauds": 7}})
    changed = stream.with_settings({"model": {"challenger": "off"}, "labels": {"horizon_days": 30}})
    assert changed.worker_settings(loaded()).model.min_frauds == 7
    assert changed.worker_settings(loaded()).model.challenger == "off"
    assert changed.worker_settings(loaded()).labels.horizon_days == 30


def test_a_stream_may_declare_its_fields_otherwise() -> None:
    changed = STREAM.with_settings({"transaction": {"ages": ["x"], "combined": ["card_id+x"]}})
    fields = changed.worker_settings(changed.load(1)).transaction
    assert (fields.ages, fields.combined, fields.numeric) == (("x",), ("card_id+x",), ("x",))
    assert changed.load(1).dataset.amount.tolist() == STREAM.load(1).dataset.amount.tolist()


@pytest.mark.parametrize("given", ["challenger=off", "model.challenger", "model.challenger=no"])
def test_a_setting_that_is_none_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "nothing", "--set", given])
    assert f"--set {given}" in capsys.readouterr().err


def test_a_bar_that_is_kept_makes_way_for_a_higher_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    row = table.judge(STREAM, STREAM.windows[0], [window(0, worse_by=0.0)])
    assert row.baseline is not None
    table.write(tmp_path, [row], {"tiny": [MEASURED]}, [], 1.0)
    kept.record(tmp_path)
    recorded = kept.read_recorded()["tiny"]
    for figure, stands in ((row.baseline + 0.1, True), (row.baseline - 0.1, False)):
        write_json(tmp_path / kept.BARS_FILE, {"tiny": recorded | {"figure": figure, "setting": "another"}})
        kept.record(tmp_path)
        assert (kept.read_recorded()["tiny"]["setting"] == "another") is stands
