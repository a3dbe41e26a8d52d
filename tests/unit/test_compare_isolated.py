from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.support.fake_strategies import REGISTRY, strategy_named
from tests.support.materials import material_of
from worker.offline.compare.isolated import Results, resident_bytes, run_isolated
from worker.offline.compare.material import Material
from worker.offline.compare.result import Block

MATERIAL, _ = material_of()


def run(folder: Path, *names: str, jobs: int = 2) -> tuple[Results, list[tuple[int, int, list[str]]]]:
    changes: list[tuple[int, int, list[str]]] = []
    MATERIAL.save(folder)
    results = run_isolated(
        folder,
        [strategy_named(name) for name in names],
        seed=1,
        jobs=jobs,
        on_change=lambda done, total, hand: changes.append((done, total, hand)),
        registry=REGISTRY,
    )
    return results, changes


def test_material_comes_back_from_its_files_as_it_was(tmp_path: Path) -> None:
    MATERIAL.save(tmp_path)
    back = Material.load(tmp_path)
    assert (back.windows, back.review_cost) == (MATERIAL.windows, MATERIAL.review_cost)
    for name in (*Material.layout(), "categorical"):
        np.testing.assert_array_equal(getattr(back, name), getattr(MATERIAL, name))
    assert not list(tmp_path.glob("*.pkl"))


def test_what_one_strategy_does_wrong_no_other_notices(tmp_path: Path) -> None:
    names = ("good", "online", "refuses", "crashes", "exits", "dies", "memory", "half")
    results, changes = run(tmp_path, *names)
    assert not results.interrupted
    finished = results.finished
    for name in ("good", "online"):
        assert finished[name].reason is None
        assert set(finished[name].blocks) == set(Block)
        decided = finished[name].blocks[Block.FROZEN].decided
        assert len(decided) == len(MATERIAL) - MATERIAL.between(0, MATERIAL.windows.test_ms).stop
        assert decided.alerted.any()
    reasons = {name: finished[name].reason for name in names[2:]}
    assert all(not finished[name].blocks for name in reasons)
    assert reasons["refuses"] == "fewer frauds than neighbours"
    assert reasons["crashes"] == "ValueError: a library was not pleased"
    assert reasons["exits"] is not None
    assert reasons["exits"].startswith("ended with code 3")
    assert reasons["dies"] == "ended by the system, most likely because memory ran out"
    assert reasons["memory"] == "ran out of memory"
    assert reasons["half"] == "its scores are no probabilities, so 0.5 means nothing for them"
    assert changes[0] == (0, len(names), ["good"])
    assert changes[-1] == (len(names), len(names), [])
    assert max(len(hand) for *_, hand in changes) == 2


def test_a_strategy_that_exceeds_a_cap_is_ended(tmp_path: Path) -> None:
    results, _ = run(tmp_path, "slow", "hungry")
    assert results.finished["slow"].reason == "took longer than its 0.5 s; --max-seconds gives it more"
    assert (
        results.finished["hungry"].reason
        == "needed more than its 0.586 GiB of memory; fewer columns need less"
    )


def test_ctrl_c_keeps_what_is_done(tmp_path: Path) -> None:
    MATERIAL.save(tmp_path)

    def stop_when_slow(done: int, total: int, hand: list[str]) -> None:
        if done == 1 and hand == ["slow"] and total == 3:
            signal.raise_signal(signal.SIGINT)

    strategies = [strategy_named(name) for name in ("good", "slow", "online")]
    # A shell starts what it runs in the background with this signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        results = run_isolated(
            tmp_path, strategies, seed=1, jobs=1, on_change=stop_when_slow, registry=REGISTRY
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert results.interrupted
    assert results.finished["good"].reason is None
    assert results.finished["good"].blocks[Block.FROZEN].decided.alerted.any()
    stopped = "not run: the comparison was stopped"
    assert (results.finished["slow"].reason, results.finished["online"].reason) == (stopped, stopped)


def test_the_memory_of_a_process_is_known() -> None:
    assert resident_bytes(os.getpid()) > 10 << 20


@pytest.mark.parametrize("pid", [2**22 + 1])
def test_a_process_that_is_gone_holds_none(pid: int) -> None:
    assert resident_bytes(pid) == 0
