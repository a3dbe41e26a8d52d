from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from models.decision import Scores
from models.ledger import SHAPE
from models.payoff_deltas import LAMBDAS
from models.records import Policy
from models.vocabulary import MS_PER_DAY, Decider, Flag, LabelEffect, LabelKind, Status
from tests.support.model_log import FEATURES, POLICY, START_MS, new_state
from tests.support.partition import HOUR_MS, SKEW_MS, labels, running_task, transactions
from tests.support.slow_settling import SlowDecision, SlowSettling
from worker.partition import pending as pending_module
from worker.partition.settling import SEQUENCE_BITS, Settling
from worker.partition.task import PartitionTask

SHORT = dataclasses.replace(
    POLICY,
    negatives_after_ms=20 * HOUR_MS,
    horizon_ms=60 * HOUR_MS,
    max_silence_ms=30 * HOUR_MS,
    sample_one_in=4,
)
FOREST, OWN = len(LAMBDAS), len(LAMBDAS) + 1
FRAUD, LEGIT, REVERSAL, OUTCOME = LabelKind
WOULD_ALERT = Flag.ALERTED | Flag.ONLINE_WOULD_ALERT | Flag.FOREST_WOULD_ALERT


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_module, "SEGMENT_ROWS", 64)
    monkeypatch.setattr(pending_module, "_SLOTS", 128)


def scores(flags: NDArray[np.uint16], loss: NDArray[np.float64], weight: NDArray[np.float32]) -> Scores:
    count = len(flags)
    nothing = np.full(count, np.nan, np.float32)
    logit = -np.arange(count).astype(np.float32)
    zeros, unchallenged = np.zeros(count), np.full(count, np.nan)
    return Scores(
        logit,
        nothing,
        logit + 1,
        logit + 2,
        nothing,
        loss,
        zeros,
        zeros,
        flags,
        weight,
        1.0,
        1.0,
        1.0,
        1.0,
        unchallenged,
    )


class Both:
    """A task and the slow settling, given the same input."""

    def __init__(self, folder: Path, policy: Policy = SHORT, *, clears_alerts: bool = False) -> None:
        self.policy = policy
        self.task: PartitionTask = running_task(folder)
        self.slow = SlowSettling(policy, clears_alerts=clears_alerts)
        self.sums: dict[tuple[int, int, int], NDArray[np.int64]] = defaultdict(lambda: np.zeros(2, np.int64))
        self.cells: dict[tuple[int, ...], NDArray[np.float64]] = defaultdict(lambda: np.zeros(5))
        self.payoffs: dict[tuple[int, str], NDArray[np.float64]] = defaultdict(lambda: np.zeros(4))
        self.newest_anywhere_ms: int | None = None
        """Of another partition's labels."""

    def decide(
        self,
        *named: tuple[str, int, Flag],
        first: NDArray[np.bool_] | None = None,
        sampled: Sequence[bool] | None = None,
    ) -> None:
        """Decide transactions of (id, event time, flags)."""
        names, times, flags = zip(*named, strict=True)
        columns = transactions(
            names, times, first_offset=self.task.pending.next_sequence,
            amount=[10.0 + len(name) for name in names], cards=[name[-1] for name in names],
        )  # fmt: skip
        features = np.full((len(names), FEATURES), 0.5, np.float32)
        opens = np.zeros(len(names), np.bool_) if first is None else first
        first_sequence = self.task.pending.next_sequence
        bits = np.array([int(one) for one in flags], np.uint16)
        costs = self.policy.costs
        loss = costs.loss_fixed + costs.loss_factor * columns.amount
        weight = [
            1 if one & WOULD_ALERT else (self.policy.sample_one_in or 1) * chosen
            for one, chosen in zip(flags, sampled or [False] * len(flags), strict=True)
        ]
        decided = scores(bits, loss, np.array(weight, np.float32))
        rows = self.task.record(columns, features, opens, decided, self.policy)
        for row, name in enumerate(names):
            self.slow.decisions[name] = SlowDecision(
                sequence=first_sequence + row,
                event_time_ms=int(rows.event_time_ms[row]),
                clock_ms=int(rows.clock_ms[row]),
                loss=float(loss[row]),
                legit_weight=float(weight[row]),
                flags=Flag(int(rows.flags[row])),
                entities=tuple(int(one) for one in rows.entities[row]),
            )

    def label(self, *given: tuple[str, LabelKind, int], skewed: bool = False) -> list[LabelEffect]:
        """Labels of (id, kind, time); skewed ones claim a time a year ahead of their Kafka timestamp."""
        clock_ms, before = self.task.clock_ms, len(self.slow.examples)
        expected = [self.slow.label(*one, clock_ms) for one in given]
        stamps = [time_ms - SKEW_MS for _, _, time_ms in given] if skewed else None
        ahead = [(name, kind, time_ms + 365 * MS_PER_DAY * skewed) for name, kind, time_ms in given]
        settling = self.task.settle(
            labels(*ahead, timestamps_ms=stamps, cards=[name[-1] for name, _, _ in given])
        )
        known = [row for row, (name, _, _) in enumerate(given) if name in self.slow.decisions]
        assert settling.label_effects.tolist() == [expected[row] for row in known]
        orphans = [row for row, effect in enumerate(expected) if effect is LabelEffect.ORPHAN]
        assert settling.orphans.tolist() == orphans
        self._compare([settling], before)
        return expected

    def silence(self) -> None:
        before = len(self.slow.examples)
        already = sum(it.status is Status.PROVISIONAL for it in self.slow.decisions.values())
        expected = self.slow.silence(self.task.clock_ms, self.newest_anywhere_ms)
        known = [ms for ms in (self.task.newest_label_ms, self.newest_anywhere_ms) if ms is not None]
        matured = self.task.mature(
            self.policy, max(known, default=None), clears_alerts=self.slow.clears_alerts
        )
        assert (matured.final.finally_legit, matured.final.unresolved) == expected
        provisional = [it for it in self.slow.decisions.values() if it.status is Status.PROVISIONAL]
        assert matured.provisional.provisionally_legit == len(provisional) + expected[0] - already
        self._compare([matured.provisional, matured.final], before)

    def status(self, name: str) -> Status:
        return Status(
            int(self.task.pending.column("status", np.array([self.slow.decisions[name].sequence]))[0])
        )

    def _compare(self, settled: list[Settling], before: int) -> None:
        examples = [example for one in settled for example in one.examples]
        given = [
            (int(key) & ((1 << SEQUENCE_BITS) - 1), int(label), float(weight), int(time_ms))
            for rows in examples
            for key, label, weight, time_ms in zip(
                rows.key, rows.label, rows.weight, rows.event_time_ms, strict=True
            )
        ]
        assert given == self.slow.examples[before:]
        for rows in examples:
            # As `scores` has given them.
            np.testing.assert_array_equal(rows.tables_logit, rows.logit + 1)
            np.testing.assert_array_equal(rows.trees_logit, rows.logit + 2)
        self._add(settled)
        evidence = {key: (int(sums[0]), int(sums[1])) for key, sums in self.sums.items() if sums.any()}
        assert evidence == self.slow.evidence()
        expected = self.slow.ledger()
        assert {key for key, sums in self.cells.items() if sums[0]} == set(expected)
        for key, sums in self.cells.items():
            np.testing.assert_allclose(sums, expected.get(key, np.zeros(5)), atol=1e-9)
        payoffs = {key: sums for key, sums in self.payoffs.items() if np.abs(sums).max() > 1e-9}
        expected_payoffs = self.slow.payoff()
        assert set(payoffs) == set(expected_payoffs)
        for at, found in payoffs.items():
            np.testing.assert_allclose(found, expected_payoffs[at], atol=1e-9)
        everything = np.arange(self.task.pending.next_sequence)
        statuses = [decision.status for decision in self.slow.decisions.values()]
        assert self.task.pending.column("status", everything).tolist() == statuses

    def _add(self, settled: list[Settling]) -> None:
        for part in (part for one in settled for part in one.evidence):
            for row, hashes in enumerate(part.hashes):
                for place, entity in enumerate(hashes):
                    self.sums[place, int(entity), int(part.at_ms[row])] += part.frauds[row], part.legits[row]
        for gained in (gained for one in settled for gained in one.payoff):
            for row, day in enumerate(gained.day):
                for name, policy in (("all", 0), ("forest", FOREST), ("own", OWN)):
                    self.payoffs[int(day), name] += (
                        gained.cases[row, policy],
                        gained.silent[row, policy],
                        gained.caught[row, policy],
                        gained.missed[row, policy],
                    )
        for deltas in (deltas for one in settled for deltas in one.ledger):
            for day, cell, sums in zip(deltas.day, deltas.cell, deltas.sums, strict=True):
                self.cells[(int(day), *(int(at) for at in np.unravel_index(cell, SHAPE)))] += sums


def any_flags(rng: np.random.Generator) -> Flag:
    flags = Flag(int(rng.choice(list(Decider))))
    for flag, share in (
        (Flag.ALERTED, 0.2),
        (Flag.ONLINE_WOULD_ALERT, 0.2),
        (Flag.FOREST_SCORED, 0.5),
        (Flag.CHALLENGER_WOULD_ALERT, 0.3),
    ):
        flags |= flag if rng.random() < share else Flag(0)
    return flags | Flag.FOREST_WOULD_ALERT if flags & Flag.FOREST_SCORED and rng.random() < 0.2 else flags


@pytest.mark.parametrize("seed", range(6))
def test_labels_and_silence_do_to_every_decision_what_the_design_says(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    both = Both(tmp_path, clears_alerts=seed in {1, 2, 4})
    now_ms, seen = START_MS, set[LabelEffect]()
    for step in range(60):
        now_ms += int(rng.integers(0, 6 * HOUR_MS))
        names = [f"{step}-{row}-{rng.integers(9)}" for row in range(int(rng.integers(1, 9)))]
        times = now_ms - rng.integers(0, 9 * HOUR_MS, len(names)) * (rng.random(len(names)) < 0.3)
        both.decide(
            *((name, int(at), any_flags(rng)) for name, at in zip(names, times, strict=True)),
            first=rng.random(len(names)) < 0.5,
            sampled=[bool(one) for one in rng.random(len(names)) < 0.4],
        )
        clock_ms = both.task.clock_ms
        if seed % 2 == 0 and 20 < step < 35:  # the feed is dead
            both.silence()
            continue
        decided = [*both.slow.decisions, "never decided"]
        given = [
            (str(rng.choice(decided)), LabelKind(int(rng.choice(4, p=[0.4, 0.3, 0.2, 0.1]))),
             clock_ms - int(rng.integers(0, 2) * rng.integers(1, 40) * HOUR_MS))
            for _ in range(int(rng.integers(1, 7)))
        ]  # fmt: skip
        given += [(given[0][0], LabelKind(int(rng.integers(4))), clock_ms)]  # one decision twice in a batch
        seen |= set(both.label(*given, skewed=step % 9 == 0))
        if seed == 5:
            both.newest_anywhere_ms = clock_ms
        both.silence()
    assert seen == set(LabelEffect)
    assert set(Status) == {decision.status for decision in both.slow.decisions.values()}


QUIET = Flag(Decider.ONLINE)
ALERT = QUIET | Flag.ALERTED | Flag.ONLINE_WOULD_ALERT
LONG_AFTER_MS = START_MS + 200 * HOUR_MS


def tick(both: Both, clock_ms: int) -> None:
    """Time goes by, and the feed of labels lives."""
    both.task.move_clock(clock_ms)
    both.newest_anywhere_ms = clock_ms
    both.silence()


def test_silence_is_legit_only_where_nobody_acted(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.decide(("quiet", START_MS, QUIET), ("alerted", START_MS, ALERT), ("declined", START_MS, QUIET))
    both.label(("declined", OUTCOME, START_MS))
    tick(both, START_MS + SHORT.negatives_after_ms - 1)
    assert both.status("quiet") is Status.WAITING
    tick(both, START_MS + SHORT.negatives_after_ms)
    assert [both.status(one) for one in ("quiet", "alerted", "declined")] == [
        Status.PROVISIONAL, Status.WAITING, Status.WAITING,
    ]  # fmt: skip
    tick(both, START_MS + SHORT.horizon_ms)
    assert [both.status(one) for one in ("quiet", "alerted", "declined")] == [
        Status.FINAL_LEGIT, Status.UNRESOLVED, Status.UNRESOLVED,
    ]  # fmt: skip


def test_the_entities_of_a_silent_alert_learn_it_as_legit_until_something_else_is_known(
    tmp_path: Path,
) -> None:
    """Else those whose payments alert would keep their frauds and lose their legits."""
    both = Both(tmp_path, clears_alerts=True)
    names = ("silent", "legit", "fraud", "declined", "late")
    both.decide(*((name, START_MS, ALERT) for name in names))
    matured_ms = START_MS + SHORT.negatives_after_ms
    tick(both, matured_ms)
    assert both.slow.evidence()[0, both.slow.decisions["silent"].entities[0], matured_ms] == (0, 2)
    both.task.move_clock(matured_ms + HOUR_MS)
    both.label(("legit", LEGIT, START_MS), ("fraud", FRAUD, START_MS), ("declined", OUTCOME, START_MS))
    kept = {name: both.slow.decisions[name].evidence for name in names[:4]}
    assert kept == {
        "silent": ("legit", matured_ms),
        "legit": ("legit", matured_ms),
        "fraud": ("fraud", matured_ms + HOUR_MS),
        "declined": None,
    }
    tick(both, START_MS + SHORT.horizon_ms)
    assert both.status("late") is Status.UNRESOLVED
    both.label(("late", FRAUD, START_MS))
    assert both.slow.decisions["late"].evidence == ("fraud", START_MS + SHORT.horizon_ms)


def test_silence_that_means_unknown_is_neither_learnt_nor_counted(tmp_path: Path) -> None:
    both = Both(tmp_path, dataclasses.replace(SHORT, silence_is_legit=False))
    both.decide(
        ("quiet", START_MS, QUIET),
        ("alerted", START_MS, ALERT),
        ("labelled", START_MS, QUIET),
        sampled=[True] * 3,
    )
    tick(both, START_MS + SHORT.negatives_after_ms)
    assert both.status("quiet") is Status.WAITING
    assert (both.slow.examples, both.slow.evidence()) == ([], {})
    assert both.label(("labelled", LEGIT, START_MS + HOUR_MS)) == [LabelEffect.MATCHED]
    assert [example[:3] for example in both.slow.examples] == [(2, 0, 4.0)]
    tick(both, START_MS + SHORT.horizon_ms)
    assert [both.status(one) for one in ("quiet", "alerted", "labelled")] == [
        Status.UNRESOLVED, Status.UNRESOLVED, Status.LEGIT,
    ]  # fmt: skip


def test_an_outcome_undoes_what_silence_has_taught(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.decide(("declined", START_MS, QUIET), sampled=[True])
    tick(both, START_MS + SHORT.negatives_after_ms)
    assert (both.status("declined"), len(both.slow.evidence())) == (Status.PROVISIONAL, 3)
    assert both.label(("declined", OUTCOME, START_MS)) == [LabelEffect.NOTED]
    assert (both.status("declined"), both.slow.evidence()) == (Status.WAITING, {})
    assert [weight for _, _, weight, _ in both.slow.examples] == [4.0, 0.0]
    tick(both, START_MS + SHORT.horizon_ms)
    assert both.status("declined") is Status.UNRESOLVED


def test_silence_that_has_never_counted_is_not_taken_back_once_silence_means_legit(tmp_path: Path) -> None:
    """`labels.silence` is changed from unknown by a restart, and then the alerts of before are answered."""
    both = Both(tmp_path, dataclasses.replace(SHORT, silence_is_legit=False))
    both.decide(("alerted", START_MS, ALERT | Flag.FIRST_OF_WINDOW), first=np.ones(1, np.bool_))
    tick(both, START_MS + SHORT.negatives_after_ms)
    assert both.task.mature(SHORT, both.task.clock_ms, clears_alerts=True).provisional.examples == []
    both.label(("alerted", LEGIT, START_MS))
    assert both.slow.payoff()[START_MS // MS_PER_DAY, "all"] == (1.0, 0.0, 0.0, 0.0)


def test_outcomes_of_an_alert_take_back_once_what_its_silence_has_taught_and_nothing_before(
    tmp_path: Path,
) -> None:
    both = Both(tmp_path)
    both.decide(("early", START_MS, ALERT), ("late", START_MS, ALERT))
    both.label(("early", OUTCOME, START_MS))
    assert both.slow.examples == []
    tick(both, START_MS + SHORT.negatives_after_ms)
    assert [example[:3] for example in both.slow.examples] == [(1, 2, 1.0)]
    for _ in range(2):
        both.label(("early", OUTCOME, START_MS), ("late", OUTCOME, START_MS))
    assert [example[:3] for example in both.slow.examples] == [(1, 2, 1.0), (1, 0, 0.0)]


def test_an_outcome_after_the_horizon_takes_back_what_the_silence_of_an_alert_has_taught(
    tmp_path: Path,
) -> None:
    both = Both(tmp_path)
    both.decide(("alerted", START_MS, ALERT))
    tick(both, START_MS + SHORT.horizon_ms)
    assert both.status("alerted") == Status.UNRESOLVED
    both.label(("alerted", OUTCOME, START_MS))
    assert [example[1:3] for example in both.slow.examples] == [(2, 1.0), (0, 0.0)]


def test_silence_that_has_counted_is_taken_back_after_silence_has_meant_nothing_for_a_time(
    tmp_path: Path,
) -> None:
    """`labels.silence` goes from legit to unknown and back, and then an alert of the first time is answered."""
    both = Both(tmp_path)
    both.decide(("first", START_MS, ALERT))
    tick(both, START_MS + SHORT.negatives_after_ms)
    task = both.task
    for name, meaning in (("second", False), ("third", True)):
        both.decide((name, task.clock_ms, ALERT))
        task.move_clock(task.clock_ms + SHORT.negatives_after_ms)
        task.mature(dataclasses.replace(SHORT, silence_is_legit=meaning), task.clock_ms, clears_alerts=False)
    answers = [(name, OUTCOME, START_MS) for name in ("first", "second", "third")]
    [found] = task.settle(labels(*answers, cards=["t", "d", "d"])).examples
    sequence = [both.slow.decisions[name].sequence for name in ("first", "third")]
    assert (found.key & np.uint64((1 << SEQUENCE_BITS) - 1)).tolist() == sequence
    assert found.weight.tolist() == [0.0, 0.0]


def test_what_a_forest_or_an_online_model_would_have_alerted_still_matures(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.decide(
        ("one", START_MS, QUIET | Flag.ONLINE_WOULD_ALERT), ("two", START_MS, QUIET | Flag.FOREST_WOULD_ALERT)
    )
    tick(both, LONG_AFTER_MS)
    assert [both.status(one) for one in ("one", "two")] == [Status.FINAL_LEGIT] * 2
    assert [weight for _, _, weight, _ in both.slow.examples] == [1.0, 1.0]


def test_nothing_matures_before_the_first_label_of_all(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.decide(("quiet", START_MS, QUIET), ("later", LONG_AFTER_MS, QUIET))
    both.silence()
    assert both.status("quiet") is Status.WAITING


def test_a_dead_feed_of_labels_halts_maturing_and_its_return_resumes_it(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.decide(("quiet", START_MS, QUIET))
    both.label(("never decided", FRAUD, START_MS))
    both.task.move_clock(LONG_AFTER_MS)
    both.silence()
    assert both.status("quiet") is Status.PROVISIONAL, "silence of 30 hours is believed, of 60 not"
    both.label(("never decided", FRAUD, LONG_AFTER_MS))
    both.silence()
    assert both.status("quiet") is Status.FINAL_LEGIT


def test_labels_due_are_applied_before_silence_speaks(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.decide(("fraud", START_MS, QUIET))
    both.task.move_clock(LONG_AFTER_MS)
    assert both.label(("fraud", FRAUD, LONG_AFTER_MS)) == [LabelEffect.MATCHED]
    both.silence()
    assert both.status("fraud") is Status.FRAUD


@pytest.mark.parametrize("verdicts", [(FRAUD, LEGIT), (LEGIT, FRAUD)])
def test_of_two_verdicts_in_one_commit_the_later_is_learnt_last(
    tmp_path: Path, verdicts: tuple[LabelKind, LabelKind]
) -> None:
    both = Both(tmp_path)
    both.decide(("x", START_MS, QUIET), sampled=[True])
    both.task.move_clock(LONG_AFTER_MS)
    both.label(*(("x", verdict, START_MS + at) for at, verdict in enumerate(verdicts)))
    assert [fraud for _, fraud, _, _ in both.slow.examples] == [int(verdict is FRAUD) for verdict in verdicts]


def test_after_a_change_of_the_policy_each_decision_is_settled_by_that_of_its_own_time(
    tmp_path: Path,
) -> None:
    both = Both(tmp_path)
    both.decide(("aa", START_MS, QUIET), ("bbbb", START_MS, QUIET), sampled=[True, True])
    both.task.move_clock(LONG_AFTER_MS)
    both.label(("aa", FRAUD, START_MS))
    dearer = dataclasses.replace(SHORT.costs, loss_fixed=100.0, loss_factor=3.0)
    both.policy = dataclasses.replace(SHORT, costs=dearer, sample_one_in=7)
    both.label(("aa", REVERSAL, START_MS + 1), ("bbbb", LEGIT, START_MS + 1))
    assert both.slow.examples[-1][2] == SHORT.sample_one_in
    assert sorted(sums[1] for sums in both.cells.values() if sums[0]) == [5.0 + 12.0 + 5.0 + 14.0]
    assert [sums[1] for sums in both.cells.values() if not sums[0]] == [0.0], "what was added is taken back"


def test_a_label_dated_far_ahead_counts_as_of_its_arrival_and_can_be_overruled(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.decide(("x", START_MS, QUIET), ("later", LONG_AFTER_MS, QUIET))
    both.label(("x", FRAUD, LONG_AFTER_MS - 2), skewed=True)
    assert both.task.newest_label_ms == LONG_AFTER_MS - 2
    assert both.label(("x", REVERSAL, LONG_AFTER_MS - 1)) == [LabelEffect.REVERSED]


def test_a_label_that_names_its_transactions_time_finds_the_one_of_that_time(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.decide(("x", START_MS, QUIET))
    named = labels(("x", FRAUD, START_MS), event_time_ms=[START_MS], cards=["x"])
    assert both.task.settle(named).label_effects.tolist() == [LabelEffect.MATCHED]


def test_outcomes_are_no_sign_of_life_of_the_label_feed(tmp_path: Path) -> None:
    both, model = Both(tmp_path), new_state(policy=SHORT)
    both.decide(("x", START_MS, QUIET), ("yy", START_MS, QUIET), ("zzz", LONG_AFTER_MS, QUIET))
    both.label(("yy", OUTCOME, LONG_AFTER_MS))
    both.silence()
    model.newest_label_ms = both.task.newest_label_ms
    assert (model.newest_label_ms, both.status("x")) == (None, Status.WAITING)
    assert both.task.feed_halted(model)
    both.label(("yy", FRAUD, START_MS), ("zzz", OUTCOME, LONG_AFTER_MS))
    both.silence()
    model.newest_label_ms = both.task.newest_label_ms
    assert (model.newest_label_ms, both.status("x")) == (START_MS, Status.PROVISIONAL)
    assert both.task.feed_halted(model)


def test_counters_learn_what_each_label_was_worth(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.decide(("x", START_MS, ALERT), ("yy", START_MS + HOUR_MS, QUIET))
    settling = both.task.settle(
        labels(
            ("yy", LEGIT, START_MS + HOUR_MS),
            ("nobody", FRAUD, START_MS),
            ("x", FRAUD, START_MS + 30),
            cards=["y", "y", "x"],
        )
    )
    assert settling.label_truth.tolist() == [False, True]
    assert settling.label_loss.tolist() == [5.0 + 12.0, 5.0 + 11.0]
    assert settling.label_delay_ms.tolist() == [0, 30]
    assert [bool(flags & Flag.ALERTED) for flags in settling.label_flags] == [False, True]
    assert settling.orphans.tolist() == [1]


def test_no_labels_settle_nothing(tmp_path: Path) -> None:
    both = Both(tmp_path)
    settling = both.task.settle(labels())
    assert (len(settling.settlements), settling.evidence, settling.examples) == (0, [], [])
    assert both.task.newest_label_ms is None


def test_labels_before_any_decision_are_orphans(tmp_path: Path) -> None:
    both = Both(tmp_path)
    settling = both.task.settle(labels(("x", FRAUD, START_MS), ("y", LEGIT, START_MS), cards=["x", "y"]))
    assert settling.orphans.tolist() == [0, 1]
    assert len(settling.settlements) == 0
    assert settling.settlements.status.dtype == np.uint8


def test_a_label_of_another_card_settles_nothing_and_is_an_orphan(tmp_path: Path) -> None:
    both = Both(tmp_path)
    both.decide(("x", START_MS, Flag(0)), ("y", START_MS, Flag(0)))
    named = labels(
        ("x", FRAUD, START_MS), ("y", FRAUD, START_MS), ("z", FRAUD, START_MS), cards=["y", "y", "z"]
    )
    settling = both.task.settle(named)
    assert (settling.orphans.tolist(), settling.wrong_card.tolist()) == ([0, 2], [0])
    assert settling.label_effects.tolist() == [LabelEffect.MATCHED]
    assert (both.status("x"), both.status("y")) == (Status.WAITING, Status.FRAUD)
