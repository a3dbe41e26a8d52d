"""Every decision of a run as a Parquet file, the reasons of its alerts included."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.vocabulary import Decider, Flag
from worker.errors import SettingsError
from worker.offline.backtest import BacktestResult
from worker.offline.refusals import looks_like_card_numbers
from worker.output_files import require_writable
from worker.redaction import redact
from worker.wire.alert_reasons import OTHER

_CHUNK_ROWS: Final = 100_000
_DECIDERS: Final = pa.array([decider.name.lower() for decider in Decider])
_REASON: Final = pa.struct(
    {
        "feature": pa.string(),
        "text": pa.string(),
        "value": pa.float64(),
        "category": pa.string(),
        "contribution": pa.float64(),
    }
)
SCHEMA: Final = pa.schema(
    {
        "transaction_id": pa.string(),
        "card_id": pa.string(),
        "event_time": pa.timestamp("ms", "UTC"),
        "amount": pa.float64(),
        "decided": pa.bool_(),  # false for a repeat of a transaction id, of which the rest is null
        "decided_by": pa.string(),
        "score": pa.float64(),
        "probability": pa.float64(),
        "forest_score": pa.float64(),
        "loss": pa.float64(),
        "expected_loss": pa.float64(),
        "threshold": pa.float64(),
        "alerted": pa.bool_(),
        "challenger_alerted": pa.bool_(),  # would the challenger have alerted; `alerted` where there is none
        "case_opened": pa.bool_(),
        "declined": pa.bool_(),  # an alert whose label does not arrive
        "answered": pa.bool_(),  # an alert whose label arrives within hours
        # As the alerts topic has them, whose value is a text where here there is a category; null unless alerted.
        "reasons": pa.list_(_REASON),
        "is_fraud": pa.bool_(),  # null where the truth is not known
        "label_time": pa.timestamp("ms", "UTC"),  # of the file; an answer comes earlier
    }
)
"""The columns. A number is null where there is none; `threshold` is inf where the decider opened no case."""


def require_parquet(path: Path) -> None:
    """Refuse a file that cannot be written, before the run spends its time.

    Raises
    ------
    SettingsError
        The name does not end in `.parquet` or is that of a folder, the folder does not exist, or the user may not
        write there; the message names `--out`.
    """
    given = f"--out = {str(path)!r}"
    if path.suffix.lower() != ".parquet":
        raise SettingsError(f"{given}: the name must end in .parquet")
    require_writable(given, path)


def write_decisions(result: BacktestResult, path: Path) -> int:
    """Write every row of the data set with its decision, in order of event time.

    Returns
    -------
    int
        In how many rows a transaction id looks like a card number: its digits are struck out but the last four.

    Raises
    ------
    SettingsError
        The file cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    struck = 0
    try:
        with pq.ParquetWriter(partial, SCHEMA, compression="zstd") as writer:
            for first in range(0, len(result.dataset), _CHUNK_ROWS):
                rows = np.arange(first, min(first + _CHUNK_ROWS, len(result.dataset)))
                batch, struck_here = _batch(result, rows)
                writer.write_batch(batch)
                struck += struck_here
        partial.replace(path)
    except OSError as error:
        raise SettingsError(f"{path} cannot be written: {error}") from None
    finally:
        partial.unlink(missing_ok=True)
    return struck


def _batch(result: BacktestResult, rows: NDArray[np.int64]) -> tuple[pa.RecordBatch, int]:
    dataset = result.dataset.take(rows)
    decisions = result.decisions.take(rows)
    decided, flags = decisions.decided, decisions.flags
    decider = flags & Flag.DECIDER
    online = decided & (decider == Decider.ONLINE)
    ids, struck = _struck(dataset.transaction_id)
    known = dataset.truth_known
    fraud = np.zeros(len(rows), np.bool_) if dataset.is_fraud is None else dataset.is_fraud
    label_ms = np.zeros(len(rows), np.int64) if dataset.label_time_ms is None else dataset.label_time_ms
    loss = decisions.loss
    expected_loss = decisions.probability.astype(np.float64) * loss
    columns = {
        "transaction_id": ids,
        "card_id": dataset.card_id,
        "event_time": pa.array(dataset.event_time_ms.astype("datetime64[ms]")),
        "amount": pa.array(dataset.amount),
        "decided": pa.array(decided),
        "decided_by": _DECIDERS.take(pa.array(decider, mask=~decided)),
        "score": _numbers(decisions.score, decided),
        "probability": _numbers(decisions.probability, decided),
        "forest_score": _numbers(decisions.forest_score, decided),
        "loss": _numbers(loss, decided),
        "expected_loss": _numbers(expected_loss, online),
        "threshold": _numbers(decisions.threshold, decided),
        "alerted": pa.array((flags & Flag.ALERTED) != 0, mask=~decided),
        "challenger_alerted": pa.array((flags & Flag.CHALLENGER_WOULD_ALERT) != 0, mask=~decided),
        "case_opened": pa.array((flags & Flag.OPENS_CASE) != 0, mask=~decided),
        "declined": pa.array(result.declined[rows], mask=~decided),
        "answered": pa.array(result.answered[rows], mask=~decided),
        "reasons": _reasons(result, rows),
        "is_fraud": pa.array(fraud, mask=~known),
        "label_time": pa.array(label_ms.astype("datetime64[ms]"), mask=~dataset.labelled),
    }
    arrays = [columns[field.name].cast(field.type) for field in SCHEMA]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA), struck


def _numbers(values: NDArray[np.float64] | NDArray[np.float32], there: NDArray[np.bool_]) -> pa.Array:
    """Return numbers, null where they are NaN or not there."""
    return pa.array(values.astype(np.float64), mask=~there | np.isnan(values))


def _struck(ids: pa.StringArray) -> tuple[pa.StringArray, int]:
    """Strike out the card numbers among n texts, and count them."""
    suspects = np.flatnonzero(looks_like_card_numbers(ids))
    if len(suspects) == 0:
        return ids, 0
    texts = ids.to_pylist()
    shown = {int(row): redact(texts[row]) for row in suspects}
    struck = sum(shown[row] != texts[row] for row in shown)
    return pa.array([shown.get(row, text) for row, text in enumerate(texts)], pa.string()), struck


def _reasons(result: BacktestResult, rows: NDArray[np.int64]) -> pa.Array:
    """Return the reasons of consecutive rows as lists, null where there is no alert."""
    reasons, layout = result.alert_reasons, result.model.layout
    first, last = np.searchsorted(reasons.row, [rows[0], rows[-1] + 1])
    why = reasons.why.rows(int(first), int(last))
    alerted = np.zeros(len(rows), np.bool_)
    alerted[reasons.row[first:last] - rows[0]] = True
    named = why.feature.shape[1]
    ends = np.concatenate([[0], np.cumsum(alerted * (named + 1))])
    names, texts = pa.array([*layout.names, OTHER]), pa.array([*layout.texts, "all other features"])
    other = np.full((len(why), 1), len(layout.names))
    feature = pa.array(np.hstack([why.feature, other]).ravel())
    value = np.hstack([why.value.astype(np.float64), np.full((len(why), 1), np.nan)]).ravel()
    items = pa.StructArray.from_arrays(
        [
            names.take(feature),
            texts.take(feature),
            pa.array(value, mask=np.isnan(value)),
            pa.array(_categories(result, reasons.row[first:last], why.feature).ravel(), pa.string()),
            pa.array(np.hstack([why.contribution, why.rest[:, None]]).ravel()),
        ],
        fields=list(_REASON),
    )
    offsets = pa.array(ends.astype(np.int32), mask=np.append(~alerted, False))
    return pa.ListArray.from_arrays(offsets, items)


def _categories(
    result: BacktestResult, row: NDArray[np.int64], feature: NDArray[np.int64]
) -> NDArray[np.object_]:
    """Return the texts of categories among the features that alerts name; None for numbers, and for the rest."""
    layout = result.model.layout
    texts = np.full((len(row), feature.shape[1] + 1), None, np.object_)
    for at in np.flatnonzero(layout.categorical):
        alert, place = np.nonzero(feature == at)
        column = result.dataset.categorical[layout.names[at]]
        texts[alert, place], _ = _struck(column.take(pa.array(row[alert])))
    return texts
