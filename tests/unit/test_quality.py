"""The harness of the quality table: nothing it does may know a label before the label has arrived."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from models.evaluation import average_precision
from models.vocabulary import MS_PER_DAY
from tests.support.quality import DAYS, START_MS, STREAM, loaded
from tests.tools.quality import baselines, families, recorded, refits, registry, weekdays
from tests.tools.quality.cache import write_json
from tests.tools.quality.families import Family, Fitted, Setting, Training
from tests.tools.quality.journal import CURRENT, FROZEN, FeatureSet, Unit
from tests.tools.quality.streams import Loaded
from tests.tools.quality.training import FEWEST_OF_A_CATEGORY, DenseCodes, Verdicts, verdicts_at
from worker.offline.dataset import NEVER

pytestmark = pytest.mark.usefixtures("own_quality_cache")


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


def test_features_are_alike_up_to_a_twentieth_of_their_spread_and_where_a_column_is_never_there() -> None:
    rng = np.random.default_rng(1)
    matrix = np.column_stack([rng.standard_normal(1_000), np.full(1_000, np.nan)]).astype(np.float32)
    its = FeatureSet(CURRENT, matrix, ("x", "never"), np.zeros(2, np.bool_))
    moved = [dataclasses.replace(its, matrix=matrix + np.float32(by)) for by in (0.04, 0.06)]
    assert [its.is_like(other) for other in (its, *moved)] == [True, True, False]


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


def test_the_baselines_of_kept_bars_are_made_without_a_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    both = (MEAN, families.LOGISTIC)
    data = loaded()
    unit = Unit(STREAM, 0, data)
    unit.keep(journalled(data))
    said: list[str] = []
    assert baselines.make_recorded(STREAM, 0, both, said.append) == []
    bar = {"bar": "mean (frozen features)", "setting": "a=2", "figure": 0.5, "seeds": 1}
    write_json(tmp_path / recorded.BARS_FILE, {"tiny": bar})
    [made] = baselines.make_recorded(STREAM, 0, both, said.append)
    [line] = said
    assert "mean a=2 scores" in line
    rows = refits.stretch(data, 16, DAYS)
    assert (made.row, made.name, made.setting) == ("tiny", f"mean ({FROZEN} features)", "a=2")
    per_day = np.bincount(data.day[rows], weights=data.fraud[rows], minlength=DAYS)[16:]
    np.testing.assert_array_equal(made.days.caught[-1], per_day)
    # One of which nothing is kept is made where it is asked for, with the setting that was better on earlier days.
    [other] = baselines.make_recorded(STREAM, 0, [families.LOGISTIC], said.append, others=True)
    tuned = {it.split()[5]: float(it.split("tunes to ")[1].split()[0]) for it in said if "tunes to" in it}
    assert other.setting == max(tuned, key=tuned.__getitem__)


def test_a_bar_is_refitted_on_each_day_of_the_week(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    monkeypatch.setattr(weekdays, "FAMILIES", (MEAN,))
    data = loaded()
    unit = Unit(STREAM, 0, data)
    unit.keep(journalled(data))
    assert weekdays.of_stream(STREAM, 0) == []
    bar = {"bar": "mean (frozen features)", "setting": "a=2", "figure": 0.5, "seeds": 1}
    write_json(tmp_path / recorded.BARS_FILE, {"tiny": bar})
    [found] = weekdays.of_stream(STREAM, 0)
    rows = refits.stretch(data, 16, DAYS)

    def by_hand(first_day: int, every: int) -> float:
        refit = first_day + (data.day[rows] - first_day) // every * every
        score = np.zeros(rows.size)
        for day in np.unique(refit):
            known = verdicts_at(data, START_MS + int(day) * MS_PER_DAY, 90.0, STREAM.matured_days)
            x = data.dataset.numeric["x"].astype(np.float32)
            weight, none = np.ones(known.row.size), np.zeros(1, np.bool_)
            training = Training(x[known.row, None], known.fraud, weight, none, seed=0)
            its = refit == day
            score[its] = _mean(training, {})(x[rows[its], None])
        return average_precision(data.fraud[rows], score.astype(np.float32).astype(np.float64))

    assert found.weekly == pytest.approx([by_hand(16 - before, 7) for before in range(7)])
    assert found.daily == pytest.approx(by_hand(16, 1))
    assert str(found).startswith("tiny, seed 0: refitted weekly 0.")


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
