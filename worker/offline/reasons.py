"""The reasons of the alerts of a run: which are most frequent, and some alerts with all of theirs."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.feature_layout import FeatureLayout
from models.state import ModelState
from models.vocabulary import Decider
from worker.offline.dataset import Dataset
from worker.offline.figures import ExplainedAlert, Judged, ReasonCount
from worker.offline.worker_run import AlertReasons
from worker.redaction import redact
from worker.wire.alert_reasons import alert_reasons
from worker.wire.schema import AlertReason
from worker.wire.sentences import Sentences

FREQUENT: Final = 12
EXPLAINED: Final = 10


def frequent_reasons(
    judged: Judged, reasons: AlertReasons, layout: FeatureLayout, *, fraud: bool
) -> tuple[ReasonCount, ...]:
    """Count the reasons of the alerts on frauds, or on legits, by feature.

    Returns
    -------
    tuple
        At most `FREQUENT`, those that are most often the first reason before the others.
    """
    of_alerts = judged.row[judged.alerted & judged.truth_known & (judged.fraud == fraud)]
    index = np.flatnonzero(np.isin(reasons.row, of_alerts))
    if len(index) == 0:
        return ()
    feature, contribution = reasons.why.feature[index], reasons.why.contribution[index]
    raises = contribution > 0.0
    first = np.bincount(feature[raises[:, 0], 0], minlength=len(layout.names))
    named = np.bincount(feature[raises], minlength=len(layout.names))
    order = np.lexsort((-named, -first))[:FREQUENT]
    return tuple(
        ReasonCount(
            layout.names[i], layout.texts[i], int(first[i]), int(named[i]), float(first[i] / len(index))
        )
        for i in order
        if named[i] > 0
    )


def explained_alerts(
    dataset: Dataset,
    judged: Judged,
    reasons: AlertReasons,
    model: ModelState,
    features: NDArray[np.float32],
) -> tuple[ExplainedAlert, ...]:
    """Choose `EXPLAINED` alerts and name their reasons, in an analyst's words.

    Half are frauds, those of the largest loss, and half are legits, those of the highest score. Where there are fewer
    of one kind, there are more of the other. Alerts whose truth is not known fill what is left.

    Parameters
    ----------
    dataset, judged, reasons
        Of one run.
    model
        Names the features.
    features : float32 (n, F)
        Of every row of the data set.
    """
    alerts = np.flatnonzero(judged.alerted)
    known, fraud = judged.truth_known[alerts], judged.fraud[alerts]
    true = _first(alerts[known & fraud], -judged.loss)
    false = _first(alerts[known & ~fraud], -judged.score)
    unknown = _first(alerts[~known], -judged.score)
    half = EXPLAINED // 2
    true = true[: max(half, EXPLAINED - len(false))]
    chosen = np.concatenate([true, false[: EXPLAINED - len(true)], unknown])[:EXPLAINED]
    sentences = Sentences(model.lineage.spec)

    def explained(i: int) -> ExplainedAlert:
        row = int(judged.row[i])
        index = int(np.searchsorted(reasons.row, row))
        values = features[row].tolist()
        its = alert_reasons(
            reasons.why,
            index,
            model.layout,
            category=lambda name: _category(dataset, row, name),
            sentence=lambda feature, text: sentences.of(feature, values, text),
        )
        return _explained(dataset, judged, i, its, float(reasons.why.reference[index]))

    return tuple(explained(int(i)) for i in chosen)


def _category(dataset: Dataset, row: int, name: str) -> str | None:
    text: str | None = dataset.categorical[name][row].as_py()
    return None if text is None else redact(text)


def _first(rows: NDArray[np.int64], key: NDArray[np.float64]) -> NDArray[np.int64]:
    return rows[np.argsort(key[rows], kind="stable")]


def _explained(
    dataset: Dataset, judged: Judged, i: int, reasons: list[AlertReason], reference: float
) -> ExplainedAlert:
    row = int(judged.row[i])
    online = judged.decider[i] == Decider.ONLINE
    return ExplainedAlert(
        transaction_id=dataset.transaction_id[row].as_py(),
        event_time_ms=int(judged.event_time_ms[i]),
        amount=float(judged.amount[i]),
        loss=float(judged.loss[i]),
        fraud=bool(judged.fraud[i]) if judged.truth_known[i] else None,
        decided_by=Decider(int(judged.decider[i])).name.lower(),
        probability=float(judged.probability[i]) if online else None,
        expected_loss=float(judged.expected_loss[i]) if online else None,
        threshold=float(judged.threshold[i]),
        reference=reference if online else None,
        reasons=tuple(reasons),
    )
