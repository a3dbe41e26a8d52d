"""The benchmark works: a short stream gives every measure. Its figures count only on a quiet machine."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from tests.support.repository import make

pytestmark = pytest.mark.integration

MEASURES = [
    "end_to_end",
    "poll_loop",
    "confluent_loop",
    "end_to_end_vs_poll",
    "end_to_end_vs_confluent",
    "end_to_end_challenger_off",
    "end_to_end_vs_challenger_off",
    "step_poll",
    "step_decide",
    "step_commit",
    "step_fold",
    "start_to_first_commit",
    "worker_memory",
    "worker_memory_own",
    "latency_offered_load",
    "latency_alerted_share",
    "latency_p50",
    "latency_p99",
    "score",
    "learn",
    "score_24",
    "learn_24",
    "trees_score",
    "trees_score_smallest",
    "trees_score_largest",
    "trees_score_differences",
    "slopes_score",
    "trees_fit",
    "trees_fit_vs_scikit_learn",
    "backtest",
]


def test_a_short_stream_gives_every_measure(tmp_path: Path) -> None:
    out = tmp_path / "bench.json"
    done = make("bench", f"OPTIONS=--transactions 5000 --rounds 1 --out {out}", timeout_s=600)
    assert done.returncode == 0, done.stdout[-6000:]
    measures = {one["name"]: one["value"] for one in json.loads(out.read_text("utf-8"))["measures"]}
    assert list(measures) == MEASURES
    assert {name: value for name, value in measures.items() if not math.isfinite(value) or value <= 0} == {}
    assert all(name in done.stdout for name in MEASURES), "the table shows every measure"
