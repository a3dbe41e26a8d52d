"""What the classic mistakes report on traffic whose truth is known here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.vocabulary import MS_PER_DAY
from worker.offline.compare.families import extras
from worker.offline.compare.material import Material
from worker.offline.compare.mistakes import Mistake, _Bench, _ignoring_costs, known_frauds_of_case, mistakes
from worker.offline.compare.windows import Windows
from worker.offline.dataset import NEVER

SEED = 42
WINDOWS = Windows(*(day * MS_PER_DAY for day in (0, 0, 24, 34, 38, 50)))
DELAY_MS = 4 * MS_PER_DAY


def traffic(rows: int = 4_000, seed: int = 1) -> Material:
    """Return 50 days of cards whose frauds come in bursts, hard to tell by the two numbers and the category."""
    rng = np.random.default_rng(seed)
    case = rng.integers(0, rows // 4, rows)
    time_ms = (case * 4 * WINDOWS.end_ms) // (4 * (rows // 4)) + rng.integers(0, MS_PER_DAY // 4, rows)
    order = np.argsort(time_ms, kind="stable")
    case, time_ms = case[order], np.minimum(time_ms[order], WINDOWS.end_ms - 1)
    stolen = rng.random(rows // 4) < 0.04
    fraud = stolen[case] & (rng.random(rows) < 0.8)
    features = rng.normal(size=(rows, 3)) + fraud[:, None] * [1.6, 0.8, 0.0]
    features[:, 2] = rng.integers(0, 5, rows)
    amount = rng.lognormal(4.0 + 0.5 * fraud, 1.0)
    return Material(
        features=features.astype(np.float32),
        amount=amount,
        loss=amount + 5.0,
        event_time_ms=time_ms,
        case=case,
        matures_ms=time_ms + DELAY_MS,
        fraud_ms=np.where(fraud, time_ms + DELAY_MS, NEVER),
        categorical=np.array([False, False, True]),
        windows=WINDOWS,
        review_cost=10.0,
    )


@pytest.fixture(scope="module")
def made() -> dict[str, Mistake]:
    return {it.name: it for it in mistakes(traffic(), SEED)}


def test_all_of_them_are_made(made: dict[str, Mistake]) -> None:
    assert [*made] == [
        "accuracy as the metric",
        "resampling before the split",
        "resampling before cross-validation",
        "ignoring costs",
        "trying one method only",
        "using labels before they arrived",
    ]
    for mistake in made.values():
        assert np.isfinite([mistake.reported, mistake.honest]).all()
        assert mistake.words.endswith(".")


def test_accuracy_praises_a_model_that_does_nothing(made: dict[str, Mistake]) -> None:
    material = traffic()
    judged = material.fraud_ms[material.event_time_ms >= WINDOWS.test_ms] != NEVER
    accuracy = made["accuracy as the metric"]
    assert accuracy.reported == pytest.approx(1.0 - judged.mean())
    assert accuracy.honest == 0.0
    assert f"{judged.sum():,} frauds" in accuracy.words


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("resampling before the split", 0.9),
        ("resampling before cross-validation", 0.6),
        ("using labels before they arrived", 0.4),
    ],
)
def test_a_leak_reports_far_more_than_is_true(made: dict[str, Mistake], name: str, least: float) -> None:
    assert made[name].reported > least
    assert made[name].honest < made[name].reported - 0.2


def test_heeding_costs_saves_more(made: dict[str, Mistake]) -> None:
    assert made["ignoring costs"].reported < made["ignoring costs"].honest <= 1.0


@pytest.mark.parametrize(
    ("reported", "honest", "said"),
    [
        (0.30, 0.299, "heeding costs made no difference here, and these data do not show the mistake"),
        (0.30, 0.20, "heeding costs saved less here, and these data do not show the mistake"),
        (0.20, 0.30, None),
    ],
)
def test_where_costs_teach_no_lesson_the_words_say_so(
    reported: float, honest: float, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = iter((reported, honest))
    monkeypatch.setattr("worker.offline.compare.mistakes._Bench.savings", lambda *_: next(saved))
    words = _ignoring_costs(_Bench(traffic(), SEED)).words
    assert said in words if said else "lesson" not in words and "do not show" not in words


def test_the_method_that_is_chosen_from_many_is_among_those_that_are_listed(made: dict[str, Mistake]) -> None:
    tried = made["trying one method only"]
    assert f"smote {100 * tried.reported:.1f} %" in tried.words
    assert f"saves {100 * tried.honest:.1f} % on the test" in tried.words


def test_what_was_not_known_in_time_moves_no_honest_figure() -> None:
    """Frauds of the train and tune windows whose label comes after the test began might as well have none."""
    material = traffic()
    chance = np.random.default_rng(2)
    fraud = material.fraud_ms != NEVER
    late = fraud & (material.event_time_ms < WINDOWS.test_ms) & (chance.random(len(material)) < 0.3)
    with_late = replace(material, fraud_ms=np.where(late, WINDOWS.end_ms, material.fraud_ms))
    without = replace(material, fraud_ms=np.where(late, NEVER, material.fraud_ms))
    ours, theirs = (mistakes(it, SEED) for it in (with_late, without))
    assert [it.honest for it in ours] == [it.honest for it in theirs]
    assert ours[-1].reported != theirs[-1].reported


def test_earlier_frauds_of_a_case_are_counted_once_they_are_known() -> None:
    material = traffic(400, seed=3)
    rng = np.random.default_rng(4)
    known_ms = material.event_time_ms + rng.choice([0, MS_PER_DAY // 8], len(material))
    fraud = material.fraud_ms != NEVER
    counts = known_frauds_of_case(material, known_ms)
    for row in range(len(material)):
        earlier = fraud & (material.case == material.case[row]) & (known_ms < material.event_time_ms[row])
        assert counts[row] == earlier.sum()
    assert counts.max() >= 2


def test_a_missing_package_leaves_the_other_mistakes(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(module: str) -> None:
        raise ModuleNotFoundError(name=module.partition(".")[0])

    monkeypatch.setattr(extras, "import_module", absent)
    calls: list[tuple[int, int]] = []
    made = mistakes(traffic(), SEED, lambda done, total: calls.append((done, total)))
    shown = {it.name: not it.words.startswith("Not shown: needs imbalanced-learn") for it in made}
    assert [name for name, there in shown.items() if there] == [
        "accuracy as the metric", "ignoring costs", "using labels before they arrived"
    ]  # fmt: skip
    assert calls == [(done, 6) for done in range(1, 7)]


def test_too_few_frauds_is_a_reason() -> None:
    material = traffic()
    frauds = np.flatnonzero(material.fraud_ms != NEVER)
    fraud_ms = np.full(len(material), NEVER)
    fraud_ms[frauds[::60]] = material.fraud_ms[frauds[::60]]
    made = {it.name: it for it in mistakes(replace(material, fraud_ms=fraud_ms), SEED)}
    assert np.isnan(made["resampling before cross-validation"].reported)
    assert "frauds" in made["resampling before cross-validation"].words
