"""What an incoming label does to a decision: the label table of README.md as one compiled loop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from models.vocabulary import LabelEffect, LabelKind, Status

_WAITING: Final = int(Status.WAITING)
_PROVISIONAL: Final = int(Status.PROVISIONAL)
_FRAUD: Final = int(Status.FRAUD)
_UNRESOLVED: Final = int(Status.UNRESOLVED)
_LEGIT: Final = int(Status.LEGIT)
_KIND_FRAUD: Final = int(LabelKind.FRAUD)
_KIND_LEGIT: Final = int(LabelKind.LEGIT)
_KIND_OUTCOME: Final = int(LabelKind.OUTCOME)
_MATCHED: Final = int(LabelEffect.MATCHED)
_LATE: Final = int(LabelEffect.LATE)
_DUPLICATE: Final = int(LabelEffect.DUPLICATE)
_CONTRADICTING: Final = int(LabelEffect.CONTRADICTING)
_REVERSED: Final = int(LabelEffect.REVERSED)
_AFTER_HORIZON: Final = int(LabelEffect.AFTER_HORIZON)
_ORPHAN: Final = int(LabelEffect.ORPHAN)
_NOTED: Final = int(LabelEffect.NOTED)


@dataclass(slots=True)
class DecisionTruth:
    """The truth of k distinct decisions; `apply_labels` changes it in place.

    Attributes
    ----------
    status : uint8 (k,)
        A `Status` each.
    label_time_ms : int64 (k,)
        The time of the newest label that states the truth in force; 0 where there is none.
    learnt_at_ms : int64 (k,)
        The clock at which the evidence in force was learnt; 0 where there is none.
    acted : uint8 (k,)
        1 where an outcome says that someone acted on the decision: then silence proves nothing.
    """

    status: NDArray[np.uint8]
    label_time_ms: NDArray[np.int64]
    learnt_at_ms: NDArray[np.int64]
    acted: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class LabelResult:
    """What each of m labels did, in their order.

    Attributes
    ----------
    effect, before, after : uint8 (m,)
        The `LabelEffect`, and the decision's `Status` before and after this label.
    learnt_before_ms : int64 (m,)
        When the evidence that this label replaces was learnt.
    acted_before : uint8 (m,)
        As of `DecisionTruth`, before this label.
    """

    effect: NDArray[np.uint8]
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    learnt_before_ms: NDArray[np.int64]
    acted_before: NDArray[np.uint8]


def apply_labels(
    truth: DecisionTruth,
    position: NDArray[np.int64],
    kind: NDArray[np.uint8],
    label_time_ms: NDArray[np.int64],
    clock_ms: int,
) -> LabelResult:
    """Apply m labels, in their order, to k decisions.

    Parameters
    ----------
    truth
        The k decisions; this function changes them in place.
    position : int64 (m,)
        Which of the k decisions each label names; -1 where there is none: the label is an orphan.
    kind : uint8 (m,)
        A `LabelKind` each.
    label_time_ms : int64 (m,)
        The time of each label; a later one overrules an earlier one.
    clock_ms
        The partition's clock, at which all this is learnt.
    """
    result = LabelResult(
        np.empty(len(kind), np.uint8),
        np.zeros(len(kind), np.uint8),
        np.zeros(len(kind), np.uint8),
        np.zeros(len(kind), np.int64),
        np.zeros(len(kind), np.uint8),
    )
    _apply(
        truth.status, truth.label_time_ms, truth.learnt_at_ms, truth.acted,
        position, kind, label_time_ms, clock_ms,
        result.effect, result.before, result.after, result.learnt_before_ms, result.acted_before,
    )  # fmt: skip
    return result


@numba.njit(cache=True, nogil=True)
def _verdict(status: int, kind: int, overrules: bool) -> tuple[int, int]:
    """Return one cell of the label table: the effect, and the status after it."""
    if kind == _KIND_OUTCOME:
        # Someone acted, so silence proves nothing: the decision waits again.
        return _NOTED, _WAITING if status == _PROVISIONAL else status
    if kind == _KIND_FRAUD:
        return _fraud_verdict(status, overrules)
    if kind == _KIND_LEGIT:
        return _legit_verdict(status, overrules)
    if status == _FRAUD:
        return (_REVERSED, _LEGIT) if overrules else (_DUPLICATE, status)
    return _ORPHAN, status


@numba.njit(cache=True, nogil=True)
def _fraud_verdict(status: int, overrules: bool) -> tuple[int, int]:
    if status == _WAITING:
        return _MATCHED, _FRAUD
    if status == _PROVISIONAL:
        return _LATE, _FRAUD
    if status == _FRAUD:
        return _DUPLICATE, status
    if status == _LEGIT:
        return (_CONTRADICTING, _FRAUD) if overrules else (_DUPLICATE, status)
    return _AFTER_HORIZON, _FRAUD


@numba.njit(cache=True, nogil=True)
def _legit_verdict(status: int, overrules: bool) -> tuple[int, int]:
    if status in (_WAITING, _PROVISIONAL):
        return _MATCHED, _LEGIT
    if status == _FRAUD:
        return (_CONTRADICTING, _LEGIT) if overrules else (_DUPLICATE, status)
    if status == _LEGIT:
        return _DUPLICATE, status
    return _AFTER_HORIZON, status


@numba.njit(cache=True, nogil=True)
def _apply(  # noqa: PLR0913 - a compiled loop
    status: NDArray[np.uint8],
    in_force_ms: NDArray[np.int64],
    learnt_at_ms: NDArray[np.int64],
    acted: NDArray[np.uint8],
    position: NDArray[np.int64],
    kind: NDArray[np.uint8],
    label_time_ms: NDArray[np.int64],
    clock_ms: int,
    effect: NDArray[np.uint8],
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    learnt_before_ms: NDArray[np.int64],
    acted_before: NDArray[np.uint8],
) -> None:
    # One label after another: several in one batch may name the same decision.
    for i in range(len(kind)):
        k = position[i]
        if k < 0:
            effect[i] = _ORPHAN
            continue
        before[i] = status[k]
        learnt_before_ms[i] = learnt_at_ms[k]
        acted_before[i] = acted[k]
        effect[i], after[i] = _verdict(status[k], kind[i], label_time_ms[i] > in_force_ms[k])
        status[k] = after[i]
        if kind[i] == _KIND_OUTCOME:
            acted[k] = 1
            if after[i] in (_WAITING, _UNRESOLVED):
                learnt_at_ms[k] = 0
        elif after[i] != before[i]:
            in_force_ms[k] = label_time_ms[i]
            # A legit label that confirms silence leaves the evidence as it was learnt.
            if after[i] != _LEGIT or before[i] == _FRAUD or learnt_at_ms[k] == 0:
                learnt_at_ms[k] = clock_ms
        elif effect[i] == _DUPLICATE:
            # A later duplicate confirms the truth in force: a label from between the two no longer overrules it.
            in_force_ms[k] = max(in_force_ms[k], label_time_ms[i])
