"""Writes alerts, the only objects that Python makes one by one: few transactions are worth an investigator's time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.explanation import explain
from models.state import ModelState
from models.vocabulary import Decider, Flag
from worker.cycle.contracts import Decided
from worker.identity import Hasher
from worker.kafka_io.committer import Outgoing
from worker.redaction import looks_like_card_number, redact
from worker.wire.alert_reasons import alert_reasons
from worker.wire.decoder import TransactionColumns
from worker.wire.schema import SCHEMA_VERSION, Alert, AlertReason
from worker.wire.sentences import Sentences

_HEADERS: Final = (
    ("ce_specversion", b"1.0"),
    ("ce_type", f"fraud.alert.v{SCHEMA_VERSION}".encode()),
    ("ce_source", b"fraud-worker"),
    ("content-type", b"application/json"),
)
_LEAST_LIKE_A_CARD: Final = 1e9
"""A smaller number has fewer digits before its point than a card's whole number may have with a point in it."""


class AlertWriter:
    """Turns alerted decisions into records of the alerts topic.

    Parameters
    ----------
    topic
        Name of the alerts topic.
    hasher
        Hashes ids under `entity_key`.
    fields
        `alerts.fields`: the declared fields that an alert carries.
    """

    def __init__(self, topic: str, hasher: Hasher, fields: Sequence[str] = ()) -> None:
        self._topic = topic
        self._hasher = hasher
        self._fields = tuple(fields)

    def write(self, partition: int, decided: Decided, model: ModelState) -> list[Outgoing]:
        """Return the alerts of one partition's decisions, in their order.

        Parameters
        ----------
        partition
            Of the transactions, and of the alerts.
        decided
            The decisions of `model`.
        model
            Not folded any further since.
        """
        rows = np.flatnonzero(decided.scores.alerted)
        if len(rows) == 0:
            return []
        columns, reasons = _columns(decided, rows, model), _Reasons(decided, rows, model)
        return [
            self._outgoing(partition, self._alert(dict(zip(columns, values, strict=True)), reasons, i, model))
            for i, values in enumerate(zip(*columns.values(), strict=True))
        ]

    def _alert(self, known: dict[str, Any], reasons: _Reasons, index: int, model: ModelState) -> Alert:
        card_id, counted_ms = known["card_id"], known.pop("counted_ms")
        return Alert(
            alert_id=self._hasher.alert_id(card_id, known["transaction_id"]),
            case_id=self._hasher.case_id(card_id, counted_ms // model.policy.case_window_ms),
            review_cost=model.policy.costs.review_cost,
            fields=reasons.fields(self._fields, index),
            model_version=model.version,
            reasons=reasons.of(index),
            reference=reasons.reference[index],
            **known,
        )

    def _outgoing(self, partition: int, alert: Alert) -> Outgoing:
        time = datetime.fromtimestamp(alert.event_time_ms / 1000, UTC).isoformat()
        return Outgoing(
            self._topic,
            alert.to_json(),
            alert.card_id.encode(),
            partition,
            [*_HEADERS, ("ce_id", alert.alert_id.encode()), ("ce_time", time.encode())],
        )


def _columns(decided: Decided, rows: NDArray[np.int64], model: ModelState) -> dict[str, list[Any]]:
    """Return the fields that k alerts have one by one as lists of Python's own values, by name.

    Beside them, `counted_ms`: the time that says which case window an alert is of.
    """
    came, scores = decided.transactions.take(rows), decided.scores
    online = (scores.flags[rows] & Flag.DECIDER) == Decider.ONLINE
    forest_score, probability = scores.forest_score[rows], scores.probability[rows]
    scored = np.isfinite(forest_score)
    own_threshold = scores.online_threshold[rows] * model.policy.costs.review_cost
    return {
        "transaction_id": came.transaction_id.to_pylist(),
        "card_id": came.card_id.to_pylist(),
        "event_time_ms": came.event_time_ms.tolist(),
        "counted_ms": decided.rows.counted_ms[rows].tolist(),
        "amount": came.amount.tolist(),
        "currency": [None] * len(rows) if came.currency is None else came.currency.to_pylist(),
        "loss": scores.loss[rows].tolist(),
        "decided_by": ["online" if own else "forest" for own in online.tolist()],
        "probability": _where(online, probability),
        "expected_loss": _where(online, probability * scores.loss[rows]),
        "forest_score": _where(scored, forest_score),
        "forest_rank": _where(scored, scores.rank[rows]),
        "threshold": np.where(online, own_threshold, scores.forest_cut).tolist(),
        "joins_case": scores.joined[rows].tolist(),
    }


def _where(known: NDArray[np.bool_], values: NDArray[Any]) -> list[float | None]:
    return [
        value if is_known else None for value, is_known in zip(values.tolist(), known.tolist(), strict=True)
    ]


class _Reasons:
    """Why k decisions alerted, and what their transactions said."""

    def __init__(self, decided: Decided, rows: NDArray[np.int64], model: ModelState) -> None:
        self._transactions, self._rows, self._model = decided.transactions, rows, model
        self._features = decided.rows.features[rows]
        self._sentences = Sentences(model.lineage.spec)
        self._why = explain(model, self._features, decided.scores.flags[rows])
        self.reference = _where(np.isfinite(self._why.reference), self._why.reference)

    def of(self, index: int) -> list[AlertReason]:
        """Return the reasons of one alert."""
        row, values = int(self._rows[index]), self._features[index].tolist()
        return alert_reasons(
            self._why,
            index,
            self._model.layout,
            category=lambda name: _text(self._transactions, row, name),
            sentence=lambda feature, text: self._sentences.of(feature, values, text),
        )

    def fields(self, names: Sequence[str], index: int) -> dict[str, float | str | None]:
        """Return the declared fields of these names."""
        row = int(self._rows[index])
        return {name: _field(self._transactions, row, name, self._model) for name in names}


def _text(transactions: TransactionColumns, row: int, name: str) -> str | None:
    """Return a kept text of one transaction, card numbers struck out."""
    texts = transactions.texts
    if texts is None or texts.type.get_field_index(name) < 0:
        return None
    text = texts.field(name)[row].as_py()
    return None if text is None else redact(text)


def _field(transactions: TransactionColumns, row: int, name: str, model: ModelState) -> float | str | None:
    """Return what an alert carries of a declared field; null where it is missing, or a number like a card's."""
    numeric = model.lineage.spec.numeric
    if name not in numeric:
        return _text(transactions, row, name)
    number = float(transactions.numeric[row, numeric.index(name)])
    if not np.isfinite(number) or _is_like_a_card(number):
        return None
    return number


def _is_like_a_card(number: float) -> bool:
    # The digits of a fraction are no card's, however many there are; those beside a long whole part may be.
    written = (f"{number:.0f}", repr(number)) if abs(number) >= _LEAST_LIKE_A_CARD else ()
    return any(looks_like_card_number(it) for it in written)
