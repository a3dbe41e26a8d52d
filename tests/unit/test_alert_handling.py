from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY, Flag, LabelKind, LabelSource
from worker.identity import Hasher
from worker.offline.alert_handling import ANSWERED_AFTER_MS, AlertHandling, AlertShares
from worker.offline.dataset import NEVER
from worker.offline.dataset_columns import label_columns, transaction_columns
from worker.simulation import Traffic, simulate
from worker.wire.decoder import LabelColumns

MADE = simulate(Traffic(cards=20, merchants=5, days=2, per_card_day=10.0, prevalence=0.2, seed=1))
TIMES_MS = MADE.event_time_ms
FRAUD = np.zeros(0, np.bool_) if MADE.is_fraud is None else MADE.is_fraud
LATE = dataclasses.replace(
    MADE, label_time_ms=np.where(FRAUD, TIMES_MS + 30 * MS_PER_DAY, NEVER), silence_is_legit=True
)
HALF = len(MADE) // 2


def handling(shares: AlertShares, flags: NDArray[np.uint16]) -> tuple[AlertHandling, LabelColumns]:
    """Return what handles alerts, and all labels of the file."""
    transactions = transaction_columns(LATE, Hasher((1, 2)))
    return AlertHandling(LATE, transactions, shares, flags), label_columns(LATE, transactions)


def test_answers_come_four_hours_later_from_analysts_and_are_no_labels_of_the_file() -> None:
    flags = np.zeros(len(MADE), np.uint16)
    alerts, of_file = handling(AlertShares(answered=1.0), flags)
    assert not len(alerts.apply(LabelColumns.none(), int(TIMES_MS[HALF - 1]), HALF))
    flags[:HALF:2] = Flag.ALERTED
    until_ms = int(TIMES_MS[HALF])
    soon = alerts.apply(LabelColumns.none(), until_ms, len(MADE))
    due = np.flatnonzero(TIMES_MS[:HALF:2] + ANSWERED_AFTER_MS <= until_ms) * 2
    assert 0 < len(due) < HALF / 2
    assert sorted(soon.event_time_ms) == TIMES_MS[due].tolist()
    assert alerts.silent_until_ms(NEVER) == TIMES_MS[due[-1] + 2] + ANSWERED_AFTER_MS - 1
    rest = alerts.apply(LabelColumns.none(), NEVER - 1, len(MADE))
    assert alerts.silent_until_ms(until_ms) == until_ms
    both = LabelColumns.concatenate([soon, rest])
    assert set(both.source.tolist()) == {LabelSource.ANALYST}
    row = np.argsort(both.event_time_ms, kind="stable")
    said = both.kind[row] == LabelKind.FRAUD
    assert np.count_nonzero(said) == np.count_nonzero(FRAUD[:HALF:2])
    assert len(np.unique(both.offsets)) == len(both)
    assert both.offsets.min() > of_file.offsets.max()
    np.testing.assert_array_equal(alerts.answered()[:HALF], flags[:HALF] > 0)


def test_a_label_of_a_declined_alert_never_arrives_however_early_it_is_read() -> None:
    flags = np.zeros(len(MADE), np.uint16)
    alerts, of_file = handling(AlertShares(declined=1.0), flags)
    assert not len(alerts.apply(of_file, int(TIMES_MS[HALF - 1]), HALF)), "no decision is known yet"
    assert alerts.silent_until_ms(NEVER) == of_file.label_time_ms.min() - 1
    flags[:HALF] = Flag.ALERTED
    found = alerts.apply(LabelColumns.none(), int(TIMES_MS[-1]), len(MADE))
    assert found.kind.tolist() == [LabelKind.OUTCOME] * HALF
    rest = alerts.apply(LabelColumns.none(), NEVER - 1, len(MADE))
    assert rest.kind.tolist() == [LabelKind.FRAUD] * np.count_nonzero(FRAUD[HALF:])
