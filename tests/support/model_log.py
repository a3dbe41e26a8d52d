"""Made-up records of the model log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.examples import Examples
from models.feature_layout import FeatureLayout, FeatureSpec
from models.ledger import LedgerDeltas, Truth, decided_deltas, settled_deltas, summed
from models.payoff_deltas import PayoffDeltas, decided_payoffs, settled_payoffs
from models.records import Budget, Commit, Digest, EntityEvents, Evidence, Lineage, Policy
from models.state import ModelState
from models.threshold import BINS, CostPolicy
from models.vocabulary import MS_PER_DAY, Decider, Flag

START_MS = 19_700 * MS_PER_DAY
SPEC = FeatureSpec(
    numeric=("age", "lat", "lon"),
    categorical=("channel",),
    entities=("merchant", "device"),
    place=("lat", "lon"),
)
FEATURES = len(FeatureLayout.from_spec(SPEC).names)
ENTITIES = len(SPEC.entities)
LINEAGE = Lineage(SPEC, "0123456789abcdef", 1.0)
POLICY = Policy(
    costs=CostPolicy(review_cost=5.0, loss_fixed=5.0, loss_factor=1.0, alert_budget_cases_per_day=200.0),
    case_window_ms=MS_PER_DAY,
    negatives_after_ms=7 * MS_PER_DAY,
    horizon_ms=30 * MS_PER_DAY,
    max_silence_ms=3 * MS_PER_DAY,
    sample_one_in=4,
    min_frauds=5,
    max_entities=10_000,
    max_examples=5_000,
    memory_ms=20 * MS_PER_DAY,
    silence_is_legit=True,
    max_cards=1_000,
)
EAGER = replace(POLICY, negatives_after_ms=0)
"""Every decision is mature at once, so that a generation learns all examples."""
DIGEST_EVERY = 4


def new_state(
    lineage: Lineage = LINEAGE, policy: Policy = EAGER, digest_every: int = DIGEST_EVERY
) -> ModelState:
    return ModelState(lineage, policy, digest_every)


def examples(rng: np.random.Generator, count: int, from_ms: int = START_MS, frauds: float = 0.3) -> Examples:
    """Return examples whose first feature separates frauds well; two keys rarely meet."""
    label = (rng.random(count) < frauds).astype(np.uint8)
    features = rng.normal(size=(count, FEATURES)).astype(np.float32)
    features[:, 0] += 2 * label
    features[rng.random((count, FEATURES)) < 0.1] = np.nan
    logit = rng.normal(size=count).astype(np.float32)
    logit[rng.random(count) < 0.2] = np.nan
    weight = rng.integers(1, 5, count).astype(np.float32)
    event_time_ms = from_ms + rng.integers(0, MS_PER_DAY, count)
    return Examples(
        features=features,
        label=label,
        weight=weight,
        event_time_ms=event_time_ms,
        key=rng.integers(0, 1 << 40, count).astype(np.uint64),
        logit=logit,
        tables_logit=logit - 1,
        trees_logit=logit + 1,
        verdict_ms=event_time_ms,
    )


def evidence(rng: np.random.Generator, count: int, from_ms: int = START_MS) -> Evidence:
    change = rng.choice(np.array([-1, 0, 1], np.int8), (2, count))
    return Evidence(
        hashes(rng, (count, 1 + ENTITIES)), change[0], change[1], from_ms + rng.integers(0, MS_PER_DAY, count)
    )


def hashes(rng: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """Return hashes of few identifiers, so that rows share entities; one in twenty is missing."""
    return rng.integers(0, 20, shape).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def traffic(rng: np.random.Generator, count: int, from_ms: int = START_MS) -> EntityEvents:
    return EntityEvents(hashes(rng, (count, ENTITIES)), from_ms + rng.integers(0, MS_PER_DAY, count))


def ledger_deltas(rng: np.random.Generator, count: int, from_ms: int = START_MS) -> LedgerDeltas:
    event_time_ms = from_ms + rng.integers(0, 3 * MS_PER_DAY, count)
    settled = settled_deltas(
        event_time_ms=event_time_ms,
        flags=rng.choice(np.array([Decider.ONLINE, Decider.FOREST | Flag.ALERTED], np.uint16), count),
        loss=rng.uniform(1, 100, count),
        truth=rng.choice(np.array(list(Truth), np.uint8), count),
        labelled=rng.random(count) < 0.5,
        sign=np.ones(count, np.int8),
    )
    return summed([decided_deltas(event_time_ms), settled])


def payoff_deltas(rng: np.random.Generator, count: int, from_ms: int = START_MS) -> PayoffDeltas:
    event_time_ms = from_ms + rng.integers(0, 3 * MS_PER_DAY, count)
    flags = rng.integers(0, 1 << 15, count).astype(np.uint16)
    logit = rng.normal(size=count).astype(np.float32)
    signs = rng.integers(-1, 2, (3, count)).astype(np.int8)
    settled = settled_payoffs(event_time_ms, flags, logit, rng.uniform(1, 100, count), signs)
    return PayoffDeltas.concatenate([decided_payoffs(event_time_ms, flags), settled])


def budget(rng: np.random.Generator) -> Budget:
    online, forest = rng.integers(0, 9, (2, BINS)).astype(np.float64)
    return Budget(online, forest, 7, 3)


def commit(
    rng: np.random.Generator,
    rows: int = 20,
    *,
    from_ms: int = START_MS,
    clocks_ms: Mapping[int, int] | None = None,
    digest: Digest | None = None,
    counts: tuple[int, int, int] | None = None,
) -> Commit:
    """Return one worker's commit; `counts` of traffic, evidence and examples where they differ."""
    decided, moved, learnt = counts or (rows, rows, rows)
    return Commit(
        worker="worker-1",
        clocks_ms={0: from_ms + MS_PER_DAY} if clocks_ms is None else clocks_ms,
        newest_label_ms=from_ms,
        traffic=traffic(rng, decided, from_ms),
        evidence=evidence(rng, moved, from_ms),
        examples=examples(rng, learnt, from_ms),
        ledger=ledger_deltas(rng, rows, from_ms),
        payoff=payoff_deltas(rng, rows, from_ms),
        budget=budget(rng),
        digest=digest,
    )


def fold_days(
    state: ModelState, rng: np.random.Generator, days: int, a_day: int, frauds: float, *, with_labels: bool
) -> None:
    """Fold examples of so many days, frauds known at once and legits by silence; labels come until the end or never."""
    for day in range(days):
        rows = examples(rng, a_day, START_MS + day * MS_PER_DAY, frauds)
        silence_ms = np.where(rows.label == 0, POLICY.negatives_after_ms, 0)
        rows = replace(rows, verdict_ms=rows.event_time_ms + silence_ms)
        now_ms = START_MS + (day + 1) * MS_PER_DAY
        record = replace(commit(rng, 0, clocks_ms={0: now_ms}), examples=rows)
        state.fold(state.offset + 1, replace(record, newest_label_ms=now_ms) if with_labels else record)
