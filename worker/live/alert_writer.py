"""Writes alerts, the only objects that Python makes one by one: few transactions are worth an investigator's time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
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
from worker.wire.schema import SCHEMA_VERSION, Alert
from worker.wire.sentences import Sentences

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
        explained = _Explained(decided, rows, model)
        return [
            self._outgoing(partition, self._alert(decided, int(row), i, explained, model))
            for i, row in enumerate(rows)
        ]

    def _alert(
        self, decided: Decided, row: int, index: int, explained: _Explained, model: ModelState
    ) -> Alert:
        transactions, scores = decided.transactions, decided.scores
        transaction_id, card_id = transactions.transaction_id[row].as_py(), transactions.card_id[row].as_py()
        event_time_ms = int(transactions.event_time_ms[row])
        counted_ms = min(event_time_ms, int(decided.rows.clock_ms[row]))
        return Alert(
            alert_id=self._hasher.alert_id(card_id, transaction_id),
            case_id=self._hasher.case_id(card_id, counted_ms // model.policy.case_window_ms),
            transaction_id=transaction_id,
            card_id=card_id,
            event_time_ms=event_time_ms,
            amount=float(transactions.amount[row]),
            currency=_currency(transactions.currency, row),
            loss=float(scores.loss[row]),
            review_cost=model.policy.costs.review_cost,
            fields={name: _field(transactions, row, name, model) for name in self._fields},
            model_version=model.version,
            **explained.decision(index),
        )

    def _outgoing(self, partition: int, alert: Alert) -> Outgoing:
        time = datetime.fromtimestamp(alert.event_time_ms / 1000, UTC).isoformat()
        headers = {
            "ce_specversion": "1.0",
            "ce_id": alert.alert_id,
            "ce_type": f"fraud.alert.v{SCHEMA_VERSION}",
            "ce_source": "fraud-worker",
            "ce_time": time,
            "content-type": "application/json",
        }
        return Outgoing(
            self._topic,
            alert.to_json(),
            alert.card_id.encode(),
            partition,
            [(name, value.encode()) for name, value in headers.items()],
        )


class _Explained:
    """The decider, score, threshold and reasons of the alerted rows."""

    def __init__(self, decided: Decided, rows: NDArray[np.int64], model: ModelState) -> None:
        self._scores, self._rows, self._model = decided.scores, rows, model
        flags = decided.scores.flags[rows]
        self._features = decided.rows.features[rows]
        self._transactions = decided.transactions
        self._sentences = Sentences(model.lineage.spec)
        self._online = (flags & Flag.DECIDER) == Decider.ONLINE
        self._joined = decided.scores.joined[rows]
        self._online_threshold = decided.scores.online_threshold[rows]
        self._explanations = explain(model, self._features, flags)

    def decision(self, index: int) -> dict[str, Any]:
        """Return the fields of an alert that depend on the decider."""
        row, scores, model = self._rows[index], self._scores, self._model
        online = bool(self._online[index])
        forest_score = float(scores.forest_score[row])
        scored = np.isfinite(forest_score)
        return {
            "decided_by": "online" if online else "forest",
            "probability": float(scores.probability[row]) if online else None,
            "expected_loss": float(scores.probability[row] * scores.loss[row]) if online else None,
            "forest_score": forest_score if scored else None,
            "forest_rank": float(scores.rank[row]) if scored else None,
            "threshold": float(self._online_threshold[index]) * model.policy.costs.review_cost
            if online
            else scores.forest_cut,
            "joins_case": bool(self._joined[index]),
            "reference": _finite(self._explanations.reference[index]),
            "reasons": alert_reasons(
                self._explanations,
                index,
                model.layout,
                category=lambda name: _text(self._transactions, row, name),
                sentence=lambda feature, text: self._sentences.of(feature, self._features[index], text),
            ),
        }


def _finite(value: np.floating[Any]) -> float | None:
    return float(value) if np.isfinite(value) else None


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


def _currency(values: pa.Array | None, row: int) -> str | None:
    return None if values is None else values[row].as_py()
