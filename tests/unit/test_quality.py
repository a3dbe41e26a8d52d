"""The harness of the quality table: nothing it does may know a label before the label has arrived."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from models.evaluation import average_precision
from models.vocabulary import MS_PER_DAY
from tests.support.quality import DAYS, START_MS, STREAM, loaded
from tests.tools.quality import __main__ as command
from tests.tools.quality import baselines, delayed, families, public, refits, registry, shapes, table
from tests.tools.quality.cache import CACHE_VARIABLE
from tests.tools.quality.curves import DayCosts, DayCurves
from tests.tools.quality.families import Family, Fitted, Setting, Training
from tests.tools.quality.journal import CURRENT, FROZEN, FeatureSet, Unit
from tests.tools.quality.measure import Judged, JudgedWindow, Measured
from tests.tools.quality.streams import AbsentError, Loaded
from tests.tools.quality.training import FEWEST_OF_A_CATEGORY, DenseCodes, Verdicts, verdicts_at
from worker.offline.dataset import NEVER


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


# What a baseline may know.


def test_a_refit_knows_no_row_that_is_not_mature_and_no_label_of_the_future() -> None:
    data = loaded()
    now_ms = START_MS + 20 * MS_PER_DAY
    known = verdicts_at(data, now_ms, memory_days=15.0, matured_days=7.0)
    ages_days = (now_ms - data.dataset.event_time_ms[known.row]) / MS_PER_DAY
    assert 7.0 < ages_days.min() < ages_days.max() <= 15.0
    labelled = data.label_time_ms[known.row] <= now_ms
    np.testing.assert_array_equal(known.fraud, data.fraud[known.row] & labelled)
    assert (data.fraud[known.row] & ~labelled).any()


def test_both_classes_are_cut_alike() -> None:
    """Else the newest days would be frauds alone: these are labelled before silence proves a legit."""
    data = loaded(4_000)
    known = verdicts_at(data, START_MS + 28 * MS_PER_DAY, memory_days=90.0, matured_days=7.0)
    newest = data.dataset.event_time_ms[known.row]
    assert newest[known.fraud].max() < START_MS + 21 * MS_PER_DAY
    assert newest[~known.fraud].max() < START_MS + 21 * MS_PER_DAY


def test_where_silence_is_unknown_only_labels_are_learnt() -> None:
    data = loaded()
    now_ms = START_MS + 20 * MS_PER_DAY
    known = verdicts_at(data, now_ms, memory_days=90.0, matured_days=7.0, silence_is_legit=False)
    assert known.fraud.all()
    assert (data.label_time_ms[known.row] <= now_ms).all()
    unknown = dataclasses.replace(STREAM, silence_is_legit=False)
    times_ms, verdicts = refits._arrivals(unknown, data, 10_000)
    assert verdicts.fraud.all()
    np.testing.assert_array_equal(times_ms, data.label_time_ms[verdicts.row])
    assert len(verdicts.row) == data.fraud.sum()


def test_another_protocol_has_other_results() -> None:
    data = loaded()
    unknown = dataclasses.replace(STREAM, silence_is_legit=False)
    features = journalled(data)
    assert Unit(STREAM, 0, data).folder == Unit(unknown, 0, data).folder
    assert Unit(STREAM, 0, data).results(features) != Unit(unknown, 0, data).results(features)


def test_what_labels_say_after_a_day_changes_no_score_before_it() -> None:
    data = loaded()
    middle_ms = START_MS + 21 * MS_PER_DAY
    lied = np.where(data.label_time_ms >= middle_ms, ~data.fraud, data.fraud)
    lied &= data.label_time_ms != NEVER
    other = Loaded(dataclasses.replace(data.dataset, is_fraud=lied), data.judged)
    features = np.column_stack([data.dataset.numeric["x"], data.dataset.amount]).astype(np.float32)
    none = np.zeros(2, np.bool_)
    days = data.day[refits.stretch(data, 16, DAYS)]
    for family in (MEAN, families.LOGISTIC):
        made, again = (
            refits.scores(family, family.settings[0], STREAM, it, features, none, (16, DAYS), 7)
            for it in (data, other)
        )
        np.testing.assert_array_equal(made[days < 21], again[days < 21])
        assert (made[days >= 23] != again[days >= 23]).any()


def test_rows_between_two_refits_are_scored_by_the_earlier_one() -> None:
    data = loaded()
    seen: list[int] = []

    def fit(training: Training, setting: Setting) -> Fitted:
        del setting
        seen.append(training.seed)
        return lambda features: np.full(len(features), float(training.seed))

    family = Family("spy", ({},), ("numpy", "numpy"), fit=fit)
    features = np.zeros((len(data.dataset), 1), np.float32)
    made = refits.scores(family, {}, STREAM, data, features, np.zeros(1, np.bool_), (16, DAYS), 7)
    assert seen == [16, 23]
    day = data.day[refits.stretch(data, 16, DAYS)]
    np.testing.assert_array_equal(made, np.where(day < 23, 16.0, 23.0))


def test_sampled_verdicts_stand_for_all() -> None:
    row = np.arange(10_000)
    fraud = row % 50 == 0
    sampled = Verdicts(row, fraud, np.ones(row.size)).sampled(1_000, np.random.default_rng(0))
    assert sampled.row.size == 1_000
    assert sampled.fraud.sum() == fraud.sum()
    assert sampled.weight.sum() == pytest.approx(row.size)
    assert (np.diff(sampled.row) > 0).all()
    many = Verdicts(row, row % 2 == 0, np.ones(row.size)).sampled(1_000, np.random.default_rng(0))
    assert (many.fraud.sum(), many.row.size) == (500, 1_000)
    assert many.weight[many.fraud].sum() == pytest.approx(5_000)
    few = Verdicts(row, fraud, np.ones(row.size))
    assert few.sampled(10_000, np.random.default_rng(0)) is few


def test_settings_are_chosen_on_days_before_those_that_are_judged() -> None:
    with pytest.raises(ValueError, match="chosen on days that are judged"):
        dataclasses.replace(STREAM, tune_days=(10, 17))
    for stream in registry.STREAMS:
        assert stream.tune_days[1] <= stream.first_day


# Categories.


def test_codes_are_dense_and_share_one_for_what_is_rare_or_new() -> None:
    frequent = FEWEST_OF_A_CATEGORY
    column = np.repeat(
        np.array([9e6, 5.0, 16e6, np.nan], np.float32), [2 * frequent, 3 * frequent, frequent - 1, 4]
    )
    features = np.column_stack([column, column])
    codes = DenseCodes(features, np.array([True, False]), most=100)
    new = np.array([[9e6, 1.0], [5.0, 2.0], [16e6, 3.0], [77.0, 4.0], [np.nan, 5.0]], np.float32)
    np.testing.assert_array_equal(codes.of(new)[:, 0], [1.0, 0.0, 2.0, 2.0, np.nan])
    np.testing.assert_array_equal(codes.of(new)[:, 1], new[:, 1])
    one = DenseCodes(features, np.array([True, False]), most=2).of(new)[:, 0]
    np.testing.assert_array_equal(one, [1.0, 0.0, 1.0, 1.0, np.nan])
    none = DenseCodes(np.full((3, 1), np.nan, np.float32), np.array([True]), most=2)
    np.testing.assert_array_equal(none.of(new[:, :1])[:, 0], [0.0, 0.0, 0.0, 0.0, np.nan])


# Baselines and their cache.


def _mean(training: Training, setting: Setting) -> Fitted:
    """Score by the first feature, on the side where training had more frauds."""
    del setting
    side = float(np.sign(np.corrcoef(training.features[:, 0], training.fraud)[0, 1]))
    level = float(np.average(training.fraud, weights=training.weight))
    return lambda features: 1.0 / (1.0 + np.exp(-side * features[:, 0].astype(np.float64) - level))


MEAN = Family("mean", ({"a": 1.0}, {"a": 2.0}), ("numpy", "numpy"), fit=_mean)


def journalled(data: Loaded, names: tuple[str, ...] = ("x", "amount")) -> FeatureSet:
    matrix = np.column_stack([data.dataset.numeric["x"], data.dataset.amount]).astype(np.float32)
    return FeatureSet(CURRENT, matrix, names, np.zeros(2, np.bool_))


def test_what_is_cached_is_not_made_again() -> None:
    data = loaded()
    unit = Unit(STREAM, 0, data)
    unit.keep(journalled(data))
    said: list[str] = []
    baselines.make_baselines(STREAM, 0, [MEAN], said.append)
    assert len([it for it in said if "tunes to" in it]) == 2
    assert len([it for it in said if "scores" in it]) == 1
    [made] = baselines.read_baselines(STREAM, [MEAN], unit, unit)
    assert made.score.size == refits.stretch(data, 16, DAYS).size
    again: list[str] = []
    baselines.make_baselines(STREAM, 0, [MEAN], again.append)
    assert again == []
    # Interrupted before its scores were there.
    [path] = unit.folder.rglob("mean_*.npz")
    path.unlink()
    assert baselines.read_baselines(STREAM, [MEAN], unit, unit) == []
    baselines.make_baselines(STREAM, 0, [MEAN], again.append)
    assert len(again) == 1


def test_other_data_have_another_folder() -> None:
    one, other = loaded(), loaded(seed=1)
    assert Unit(STREAM, 0, one).folder == Unit(STREAM, 0, loaded()).folder
    assert Unit(STREAM, 0, one).folder != Unit(STREAM, 0, other).folder
    late = dataclasses.replace(one.dataset, label_time_ms=one.dataset.event_time_ms)
    assert Unit(STREAM, 0, one).folder != Unit(STREAM, 0, Loaded(late, one.judged)).folder
    assert (
        Unit(STREAM, 0, one).folder != Unit(STREAM, 0, dataclasses.replace(one, entity_key="0" * 32)).folder
    )


def test_the_first_features_stay_frozen_and_others_stand_beside_them() -> None:
    data = loaded()
    unit = Unit(STREAM, 0, data)
    first = journalled(data)
    assert unit.keep(first).version == FROZEN
    # Another model's alerts move label evidence a little: the features are the same.
    nearly = dataclasses.replace(first, matrix=first.matrix * np.float32(1.001))
    assert unit.keep(nearly).version == FROZEN
    other = dataclasses.replace(first, matrix=first.matrix * np.float32(2.0))
    assert unit.keep(other).version == CURRENT
    assert [it.version for it in unit.stored()] == [FROZEN, CURRENT]
    np.testing.assert_array_equal(unit.stored()[0].matrix, first.matrix)
    renamed = dataclasses.replace(first, names=("x", "y"))
    assert unit.keep(renamed).version == CURRENT
    assert unit.stored()[1].names == ("x", "y")


def test_a_class_weight_is_undone() -> None:
    probability = np.array([0.0, 0.1, 0.5, 1.0])
    weighted = 20 * probability / (20 * probability + 1 - probability)
    np.testing.assert_allclose(families.natural(weighted, 20.0), probability)


def test_an_online_model_learns_a_late_fraud_after_it_took_it_for_legit() -> None:
    data = loaded()
    times_ms, verdicts = refits._arrivals(STREAM, data, 10_000)
    assert (np.diff(times_ms) >= 0).all()
    late = data.fraud & (data.label_time_ms > data.dataset.event_time_ms + 7 * MS_PER_DAY)
    assert late.any()
    row = int(np.flatnonzero(late)[0])
    learnt = np.flatnonzero(verdicts.row == row)
    assert verdicts.fraud[learnt].tolist() == [False, True]
    assert times_ms[learnt].tolist() == [
        data.dataset.event_time_ms[row] + 7 * MS_PER_DAY,
        data.label_time_ms[row],
    ]
    assert len(verdicts.row) == len(data.dataset) + late.sum()


# The table.


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
    assert same.interval == (0.0, 0.0, 0.0)
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
    monkeypatch.setattr(table, "RECORDED", tmp_path / "recorded.json")
    assert table.read_recorded() == {}
    row = table.judge(STREAM, STREAM.windows[0], [window(0, worse_by=0.0)])
    table.write(
        tmp_path,
        [row],
        {"tiny": [Measured(0, (), (), 10, 1.0, features_changed=False, worst_excess_days=0.5)]},
        [],
        1.0,
    )
    table.record(tmp_path)
    recorded = table.read_recorded()["tiny"]
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
        {"tiny": [Measured(0, (), (), 10, 1.0, features_changed=False, worst_excess_days=0.5)]},
        [],
        1.0,
    )
    table.record(tmp_path)
    assert table.read_recorded()["tiny"] == recorded


# The streams.


def test_names_and_folders_of_streams_differ() -> None:
    rows = [stream.row_name(it) for stream in registry.STREAMS for it in stream.windows]
    assert len(set(rows)) == len(rows)
    assert len({stream.slug for stream in registry.STREAMS}) == len(registry.STREAMS)
    assert [it.name for it in registry.chosen(["s-ffsd"])] == ["S-FFSD labelled", "S-FFSD all"]


def test_absent_data_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(public.DATA_VARIABLE, str(tmp_path))
    for stream in public.STREAMS:
        with pytest.raises(AbsentError, match=r"handbook\.parquet|s-ffsd\.csv"):
            stream.load(0)


@pytest.mark.parametrize("name", ["AGR_a", "HYPER_f", "SEA_g"])
def test_a_delayed_stream_is_the_same_for_a_seed_and_labels_arrive_after_as_many_instances(name: str) -> None:
    made = delayed.delayed_stream(name, 1, 70_000, count=300)
    again = delayed.delayed_stream(name, 1, 70_000, count=300)
    assert made.key() == again.key()
    assert made.key() != delayed.delayed_stream(name, 2, 70_000, count=300).key()
    delays = made.label_time_ms - made.dataset.event_time_ms
    assert set(delays.tolist()) == {7 * MS_PER_DAY}
    steps = np.diff(made.dataset.event_time_ms)
    assert set((steps * delayed.INSTANCES_PER_DAY).tolist()) == {MS_PER_DAY}
    assert 0.05 < made.fraud.mean() < 0.95


def concept(number: int) -> Iterator[tuple[dict[str, int], bool]]:
    while True:
        yield {"concept": number}, False


def test_concepts_change_where_they_should() -> None:
    stream = delayed.changing([concept(0), concept(1), concept(2)], (1_000, 2_000), 50, seed=0)
    seen = np.array([next(stream)[0]["concept"] for _ in range(3_000)])
    assert (seen[:900] == 0).all()
    assert (seen[1_100:1_900] == 1).all()
    assert (seen[2_100:] == 2).all()
    wide = delayed.changing([concept(0), concept(1)], (1_500,), 2_000, seed=0)
    share = np.mean([next(wide)[0]["concept"] for _ in range(3_000)])
    assert 0.45 < share < 0.55


@pytest.mark.parametrize("shape", ["wide", "no entity", "categories", "noise", "mixed"])
def test_a_shape_has_its_share_of_fraud(shape: str) -> None:
    made = shapes.shaped(shape, 20_000, 0.02, seed=0)
    assert 0.015 < made.fraud.mean() < 0.025
    assert made.key() == shapes.shaped(shape, 20_000, 0.02, seed=0).key()
    assert (made.label_time_ms[~made.fraud] == NEVER).all()
    assert (made.label_time_ms[made.fraud] >= made.dataset.event_time_ms[made.fraud]).all()


def test_the_books_test_week_drops_cards_that_were_known_to_be_compromised() -> None:
    days = [115, 121, 122, 123, 124, 129, 129, 129, 130, 130, 136]
    cards = ["a", "b", "c", "d", "e", "a", "c", "e", "c", "d", "z"]
    fraud = [True, True, True, True, False, False, False, False, False, False, False]
    times_ms = np.array([START_MS, *(START_MS + day * MS_PER_DAY for day in days)])
    made = loaded(len(times_ms)).dataset
    made = dataclasses.replace(
        made,
        event_time_ms=times_ms,
        card_id=pa.array(["first", *cards]),
        is_fraud=np.array([False, *fraud]),
    )
    # On day 129 frauds up to day 121 are known, on day 130 those of day 122 too.
    assert np.flatnonzero(public.book_test_rows(made)).tolist() == [7, 8, 10]


def test_the_book_has_as_many_test_rows() -> None:
    """As published: 58,264 rows with 385 frauds; only where the data are."""
    try:
        data = public._handbook(0)
    except AbsentError as absent:
        pytest.skip(str(absent))
    rows = public.book_test_rows(data.dataset)
    assert (int(rows.sum()), int(data.fraud[rows].sum())) == (58_264, 385)


# The command.


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


def test_the_list_names_every_stream(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(registry.STREAMS)


def test_a_part_of_the_worker_can_be_left_out_on_all_streams() -> None:
    stream = dataclasses.replace(STREAM, settings={"model": {"min_frauds": 7}})
    changed = stream.with_settings({"model": {"trees": False}, "labels": {"horizon_days": 30}})
    assert changed.worker_settings(loaded()).model.min_frauds == 7
    assert not changed.worker_settings(loaded()).model.trees
    assert changed.worker_settings(loaded()).labels.horizon_days == 30


@pytest.mark.parametrize("given", ["trees=false", "model.trees", "model.trees=no"])
def test_a_setting_that_is_none_is_refused(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.main(["--only", "nothing", "--set", given])
    assert f"--set {given}" in capsys.readouterr().err
