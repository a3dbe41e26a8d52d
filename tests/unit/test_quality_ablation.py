"""What a part of the worker adds: a run without it leaves out that part, and the worker as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models import search
from models.differences import Differences
from tests.tools.quality import __main__ as command
from tests.tools.quality import ablation, registry
from tests.tools.quality.ablation import PARTS, WHOLE, Added
from tests.tools.quality.cache import CACHE_VARIABLE
from tests.tools.quality.curves import Interval
from tests.tools.quality.journal import run_worker
from worker.parameters import new_model

REPLACED = [(owner, name) for part in PARTS.values() for owner, name, _ in part.replaced]


@pytest.fixture(scope="module", autouse=True)
def cache_of_this_file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the tests share the runs of the worker, each of which takes many seconds."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv(CACHE_VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_left_out_within_its_context_alone(part: str) -> None:
    before = [getattr(owner, name) for owner, name in REPLACED]
    with PARTS[part].left_out():
        for owner, name, other in PARTS[part].replaced:
            assert getattr(owner, name) is other
    assert [getattr(owner, name) for owner, name in REPLACED] == before
    assert PARTS[part].replaced or PARTS[part].settings


def test_without_a_search_the_first_candidate_stays() -> None:
    with PARTS["search"].left_out():
        searcher = object.__new__(search.Searcher)
        simplest = search._Judged(0, np.zeros(1))
        found = searcher._best(
            [], simplest, [1, 2], lambda *_: np.ones(1), lambda *_: np.ones(1), beyond_noise=True
        )
    assert found is simplest


def test_without_differences_there_is_no_pair_of_columns() -> None:
    order, given = np.arange(3, dtype=np.int16), np.ones(3, np.bool_)
    assert len(Differences.among(order, given).pairs) == 3
    with PARTS["differences"].left_out():
        assert len(Differences.among(order, given).pairs) == 0


def test_left_out_features_are_missing_and_all_others_are_there() -> None:
    # No generation is made: only which columns are filled in matters.
    stream = registry.SMOKE.with_settings({"model": {"min_frauds": 1_000_000}})
    loaded = stream.load(0)
    model = new_model(stream.worker_settings(loaded))
    left_out = {model.layout.names[at] for at in ablation.left_out_columns(model)}
    assert {
        "card_excess",
        "card_large_count",
        "card_count_burst",
        "card_idle_hours",
        "card_merchant_id_share",
        "merchant_id_legit_age",
    } <= left_out
    assert not left_out & {
        "amount",
        "card_usual_amount",
        "card_frauds",
        "merchant_odds_short",
        "merchant_frauds",
    }
    with PARTS["features"].left_out():
        decisions, _ = run_worker(stream, loaded)
    missing = np.flatnonzero(~np.isfinite(decisions.features).any(axis=0))
    assert {model.layout.names[at] for at in missing} == left_out


def test_what_a_part_adds_is_the_difference_day_by_day() -> None:
    whole = ablation.judged_without(registry.SMOKE, WHOLE)
    without = ablation.judged_without(registry.SMOKE, "trees")
    (same,) = ablation.added(registry.SMOKE, whole, whole, "search")
    assert (same.interval.low, same.interval.high, same.whole) == (0.0, 0.0, same.without)
    (trees,) = ablation.added(registry.SMOKE, whole, without, "trees")
    assert trees.whole == whole[0].worker.ap
    assert trees.without == without[0].worker.ap
    assert trees.interval.low <= trees.whole - trees.without <= trees.interval.high


def test_the_table_has_a_line_a_row_and_a_column_a_part() -> None:
    found = [
        Added("a", "trees", 0.5, 0.25, Interval(0.25, 0.125, 0.375)),
        Added("b", "search", 0.5, 0.5, Interval(0.0, -0.0625, 0.0625)),
    ]
    lines = ablation.markdown(found).splitlines()
    assert lines[2] == "| data | worker | search | trees |"
    assert lines[4] == "| a | 0.500 | - | +0.250 [+0.125, +0.375] |"
    assert lines[5] == "| b | 0.500 | +0.000 [-0.062, +0.062] | - |"


def test_the_command_writes_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "STREAMS", (registry.SMOKE,))
    given = ["ablation", "--only", "smoke", "--part", "trees", "--jobs", "1", "--out", str(tmp_path)]
    assert command.main(given) == 0
    assert "| smoke |" in (tmp_path / "ablation.md").read_text(encoding="utf-8")
