"""Runs that the cache keeps: they stand for runs of the same code and settings, and for no other."""

from __future__ import annotations

from collections.abc import Iterator
from unittest import mock

import numpy as np
import pytest

from tests.tools.quality import ablation, registry, runs
from tests.tools.quality.journal import Unit, run_worker
from tests.tools.quality.measure import measure
from tests.tools.quality.streams import Stream
from worker.offline.worker_run import Decisions

pytestmark = pytest.mark.usefixtures("own_quality_cache", "worker")
SMOKE = registry.SMOKE


@pytest.fixture(scope="module")
def made() -> tuple[Decisions, list[float]]:
    """Run the worker once: it takes many seconds, and here only when it is run and what is kept of it matter."""
    return run_worker(SMOKE, SMOKE.load(0))


@pytest.fixture
def worker(made: tuple[Decisions, list[float]]) -> Iterator[mock.Mock]:
    """Count the runs of the worker, all of which are that one."""
    with mock.patch.object(runs, "run_worker", return_value=made) as counted:
        yield counted


def run(stream: Stream, without: str = "") -> runs.Run:
    loaded = stream.load(0)
    return runs.kept_run(stream, loaded, Unit(stream, 0, loaded), without=without)


def test_a_kept_run_has_all_that_the_run_had_but_for_the_features(worker: mock.Mock) -> None:
    made, again = run(SMOKE), run(SMOKE)
    assert worker.call_count == 1
    assert not made.is_kept
    assert again.is_kept
    for name in Decisions.layout():
        np.testing.assert_array_equal(getattr(made.decisions, name), getattr(again.decisions, name))
    assert (made.generations_cpu_s, made.seconds) == (again.generations_cpu_s, again.seconds)
    assert len(made.generations_cpu_s) > 0
    loaded = SMOKE.load(0)
    [features] = Unit(SMOKE, 0, loaded).stored()
    assert features.matrix.shape == (len(loaded.dataset), len(features.names))


def test_a_stream_is_judged_alike_by_its_run_and_by_the_kept_one() -> None:
    made, again = measure(SMOKE, 0), measure(SMOKE, 0)
    assert (made.is_kept, again.is_kept) == (False, True)
    assert made.weeks == again.weeks
    [one], [other] = made.windows, again.windows
    assert one.worker.ap > 0.2
    assert (one.worker.ap, one.worker.savings, one.over_fixed) == (
        other.worker.ap,
        other.worker.savings,
        other.over_fixed,
    )


def test_other_code_settings_or_parts_run_anew(worker: mock.Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    run(SMOKE)
    run(SMOKE.with_settings({"model": {"challenger": "off"}}))
    run(SMOKE, without="following")
    assert worker.call_count == 3
    monkeypatch.setattr(runs, "_code_digest", lambda: "other code")
    assert not run(SMOKE).is_kept
    assert run(SMOKE).is_kept
    assert worker.call_count == 4


def test_the_features_of_a_run_without_a_part_become_no_baseline_s() -> None:
    loaded = SMOKE.load(0)
    run(SMOKE, without="features")
    assert Unit(SMOKE, 0, loaded).stored() == []


def test_an_interrupted_ablation_goes_on(worker: mock.Mock) -> None:
    first = ablation.judged_without(SMOKE, "following")
    assert ablation.judged_without(SMOKE, "following")[0].worker.ap == first[0].worker.ap
    assert worker.call_count == 1
