"""The streams of the quality table: the same for a seed, and what their names say."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from river.datasets import synth

from models.vocabulary import MS_PER_DAY
from tests.support.quality import START_MS, loaded
from tests.tools.quality import delayed, public, registry, shapes
from tests.tools.quality.streams import AbsentError
from worker.offline.dataset import NEVER


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


def test_instances_are_those_of_river_s_own_generator() -> None:
    made = delayed._drawn("AGR_a", 2, 200)
    own = synth.Agrawal(classification_function=0, seed=200, perturbation=0.05).take(201)
    for row, (x, y) in enumerate(itertools.islice(own, 1, None)):
        assert {name: made[name][row] for name in made} == {**x, "fraud": y}


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


@pytest.mark.parametrize(
    "shape", ["wide", "no entity", "categories", "noise", "faint", "deep", "rings", "mixed"]
)
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
