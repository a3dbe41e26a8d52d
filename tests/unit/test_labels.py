"""The label table, cell by cell."""

from __future__ import annotations

import numpy as np
import pytest

from models.labels import DecisionTruth, LabelResult, apply_labels
from models.vocabulary import LabelEffect as Effect
from models.vocabulary import LabelKind as Kind
from models.vocabulary import Status

CLOCK_MS = 5_000
IN_FORCE_MS = 100
LATER, EARLIER = 200, 50


def truth_of(*statuses: Status) -> DecisionTruth:
    count = len(statuses)
    return DecisionTruth(
        np.array(statuses, np.uint8),
        np.full(count, IN_FORCE_MS, np.int64),
        np.full(count, 7, np.int64),
        np.zeros(count, np.uint8),
    )


def apply(truth: DecisionTruth, *labels: tuple[int, Kind, int]) -> LabelResult:
    position, kind, time_ms = zip(*labels, strict=True)
    return apply_labels(
        truth, np.array(position, np.int64), np.array(kind, np.uint8), np.array(time_ms, np.int64), CLOCK_MS
    )


@pytest.mark.parametrize(
    ("before", "kind", "time_ms", "effect", "after"),
    [
        (Status.WAITING, Kind.FRAUD, LATER, Effect.MATCHED, Status.FRAUD),
        (Status.WAITING, Kind.LEGIT, LATER, Effect.MATCHED, Status.LEGIT),
        (Status.WAITING, Kind.REVERSAL, LATER, Effect.ORPHAN, Status.WAITING),
        (Status.PROVISIONAL, Kind.FRAUD, LATER, Effect.LATE, Status.FRAUD),
        (Status.PROVISIONAL, Kind.LEGIT, LATER, Effect.MATCHED, Status.LEGIT),
        (Status.PROVISIONAL, Kind.REVERSAL, LATER, Effect.ORPHAN, Status.PROVISIONAL),
        (Status.FRAUD, Kind.FRAUD, LATER, Effect.DUPLICATE, Status.FRAUD),
        (Status.FRAUD, Kind.LEGIT, LATER, Effect.CONTRADICTING, Status.LEGIT),
        (Status.FRAUD, Kind.LEGIT, EARLIER, Effect.DUPLICATE, Status.FRAUD),
        (Status.FRAUD, Kind.REVERSAL, LATER, Effect.REVERSED, Status.LEGIT),
        (Status.FRAUD, Kind.REVERSAL, EARLIER, Effect.DUPLICATE, Status.FRAUD),
        (Status.LEGIT, Kind.FRAUD, LATER, Effect.CONTRADICTING, Status.FRAUD),
        (Status.LEGIT, Kind.FRAUD, EARLIER, Effect.DUPLICATE, Status.LEGIT),
        (Status.LEGIT, Kind.LEGIT, LATER, Effect.DUPLICATE, Status.LEGIT),
        (Status.LEGIT, Kind.REVERSAL, LATER, Effect.ORPHAN, Status.LEGIT),
        (Status.FINAL_LEGIT, Kind.FRAUD, LATER, Effect.AFTER_HORIZON, Status.FRAUD),
        (Status.FINAL_LEGIT, Kind.LEGIT, LATER, Effect.AFTER_HORIZON, Status.FINAL_LEGIT),
        (Status.FINAL_LEGIT, Kind.REVERSAL, LATER, Effect.ORPHAN, Status.FINAL_LEGIT),
        (Status.UNRESOLVED, Kind.FRAUD, LATER, Effect.AFTER_HORIZON, Status.FRAUD),
        (Status.UNRESOLVED, Kind.LEGIT, LATER, Effect.AFTER_HORIZON, Status.UNRESOLVED),
    ],
)
def test_every_cell_of_the_label_table(
    before: Status, kind: Kind, time_ms: int, effect: Effect, after: Status
) -> None:
    truth = truth_of(before)
    result = apply(truth, (0, kind, time_ms))
    assert (result.effect[0], result.before[0], result.after[0]) == (effect, before, after)
    assert truth.status[0] == after


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.PROVISIONAL])
def test_an_outcome_is_noted_and_changes_no_status_that_is_not_of_silence(status: Status) -> None:
    truth = truth_of(status)
    assert apply(truth, (0, Kind.OUTCOME, LATER)).effect[0] == Effect.NOTED
    # What the silence of an open alert has taught does not stand any more.
    learnt_ms = 0 if status in {Status.WAITING, Status.UNRESOLVED} else 7
    assert (truth.status[0], truth.label_time_ms[0], truth.learnt_at_ms[0]) == (
        status, IN_FORCE_MS, learnt_ms,
    )  # fmt: skip
    assert truth.acted[0] == 1


def test_what_silence_made_provisionally_legit_waits_again_after_an_outcome() -> None:
    truth = truth_of(Status.PROVISIONAL)
    result = apply(truth, (0, Kind.OUTCOME, LATER))
    assert (result.effect[0], result.before[0], result.after[0]) == (
        Effect.NOTED, Status.PROVISIONAL, Status.WAITING,
    )  # fmt: skip
    assert result.learnt_before_ms[0] == 7
    assert (truth.status[0], truth.acted[0], truth.learnt_at_ms[0]) == (Status.WAITING, 1, 0)


@pytest.mark.parametrize("others", [(Kind.LEGIT, 200), (Kind.REVERSAL, 200)])
@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2)])
def test_the_newest_label_stands_in_whichever_order_labels_come(
    others: tuple[Kind, int], order: tuple[int, int, int]
) -> None:
    """A label of 200 that comes after a fraud confirmed at 300 does not undo it."""
    truth = truth_of(Status.WAITING)
    truth.label_time_ms[:] = 0
    labels = [(Kind.FRAUD, 100), (Kind.FRAUD, 300), others]
    for at in order:
        apply(truth, (0, *labels[at]))
    assert (truth.status[0], truth.label_time_ms[0]) == (Status.FRAUD, 300)
    apply(truth, (0, Kind.LEGIT, 301), (0, Kind.LEGIT, 400), (0, Kind.FRAUD, 350))
    assert (truth.status[0], truth.label_time_ms[0]) == (Status.LEGIT, 400)


def test_a_label_without_a_decision_is_an_orphan() -> None:
    assert apply(truth_of(Status.WAITING), (-1, Kind.FRAUD, LATER)).effect[0] == Effect.ORPHAN


def test_the_same_label_twice_in_one_batch_updates_once() -> None:
    result = apply(truth_of(Status.WAITING), (0, Kind.FRAUD, LATER), (0, Kind.FRAUD, LATER))
    assert result.effect.tolist() == [Effect.MATCHED, Effect.DUPLICATE]


def test_a_change_is_learnt_at_the_clock_and_gives_the_time_the_old_truth_was_learnt() -> None:
    truth = truth_of(Status.LEGIT)
    result = apply(truth, (0, Kind.FRAUD, LATER))
    assert truth.learnt_at_ms[0] == CLOCK_MS
    assert truth.label_time_ms[0] == LATER
    assert result.learnt_before_ms[0] == 7


def test_confirming_a_provisional_legit_keeps_the_time_it_was_learnt() -> None:
    truth = truth_of(Status.PROVISIONAL)
    apply(truth, (0, Kind.LEGIT, LATER))
    assert truth.learnt_at_ms[0] == 7
