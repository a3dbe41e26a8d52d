"""Public data sets, which lie outside the repository: the handbook's card stream and S-FFSD."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from tests.support.repository import ROOT
from tests.tools.quality.streams import AbsentError, Loaded, Stream, Window, labels_at
from worker.offline.dataset import NEVER, Dataset, TruthColumns, read_dataset
from worker.settings.fields import TransactionFields

DATA_VARIABLE: Final = "FRAUD_WORKER_QUALITY_DATA"
"""Names the folder of the public files."""

_HANDBOOK: Final = TransactionFields(
    transaction_id="TRANSACTION_ID",
    card_id="CUSTOMER_ID",
    event_time="TX_DATETIME",
    amount="TX_AMOUNT",
    entities=("TERMINAL_ID",),
    time_format="iso8601",
)
_S_FFSD: Final = TransactionFields(entities=("Target",), categorical=("Location", "Type"))
_S_FFSD_STEP_MS: Final = 100_000
_S_FFSD_START_MS: Final = 1_704_067_200_000
_UNLABELLED: Final = 2
_S_FFSD_KEYS: Final = (0, 1, 2, 3, 4)
"""So small a stream depends on which legits are sampled: one entity key more or less is 0.1 in average precision."""
_DELAY_SEED: Final = 7


def _file(name: str) -> Path:
    folder = Path(os.environ.get(DATA_VARIABLE) or ROOT.parent / "shared" / "data")
    path = folder / name
    if not path.is_file():
        raise AbsentError(f"no {name} in the folder that {DATA_VARIABLE} names (or ../shared/data)")
    return path


def _handbook(_: int) -> Loaded:
    dataset = read_dataset(_file("handbook.parquet"), _HANDBOOK, TruthColumns("TX_FRAUD", delay_days=7.0))
    return Loaded(dataset, np.ones(len(dataset), np.bool_))


def _handbook_late(_: int) -> Loaded:
    """Frauds are labelled after a log-normal delay, legits never."""
    loaded = _handbook(0)
    dataset = loaded.dataset
    drawn = np.random.default_rng(_DELAY_SEED).lognormal(np.log(7.0), 1.0, len(dataset))
    delay = np.where(loaded.fraud, drawn, np.nan)
    return replace(loaded, dataset=replace(dataset, label_time_ms=labels_at(dataset.event_time_ms, delay)))


def book_test_rows(dataset: Dataset) -> NDArray[np.bool_]:
    """Choose the rows of the book's own test week: 2018-08-08 to 14, without cards known to be compromised by then.

    Known are, for each test day, cards with a fraud in the training week or by the day that is as far into the week of
    the delay.
    """
    assert dataset.is_fraud is not None
    day = (dataset.event_time_ms - int(dataset.event_time_ms[0]) // MS_PER_DAY * MS_PER_DAY) // MS_PER_DAY
    card = dataset.card_id.dictionary_encode().indices.to_numpy()
    train, test, week = 115, 129, 7
    chosen = np.zeros(len(dataset), np.bool_)
    for each in range(week):
        known_by = train + week + each
        known = np.unique(card[dataset.is_fraud & (day >= train) & (day < known_by)])
        chosen |= (day == test + each) & ~np.isin(card, known)
    return chosen


def _s_ffsd(seed: int, *, unlabelled: bool) -> Loaded:
    table = pyarrow.csv.read_csv(_file("s-ffsd.csv")).combine_chunks()
    if not unlabelled:
        table = table.filter(pc.not_equal(table["Labels"], _UNLABELLED)).combine_chunks()
    verdict = table["Labels"].to_numpy()
    times_ms = _S_FFSD_START_MS + table["Time"].to_numpy().astype(np.int64) * _S_FFSD_STEP_MS
    judged = verdict != _UNLABELLED
    dataset = Dataset(
        fields=_S_FFSD,
        transaction_id=pa.array(np.arange(len(table))).cast(pa.string()),
        card_id=_column(table, "Source"),
        event_time_ms=times_ms,
        amount=table["Amount"].to_numpy().astype(np.float64),
        currency=None,
        entities={"Target": _column(table, "Target")},
        numeric={},
        categorical={name: _column(table, name) for name in ("Location", "Type")},
        is_fraud=verdict == 1,
        label_time_ms=np.where(judged, times_ms + 7 * MS_PER_DAY, NEVER),
    )
    return Loaded(dataset, judged, entity_key=f"{seed:032x}")


def _column(table: pa.Table, name: str) -> Any:
    return table[name].chunk(0)


STREAMS: Final = (
    Stream(
        name="S-FFSD labelled",
        about="S-FFSD (AI4Risk/antifraud), labelled rows; a step of Time is 100 s; labels after 7 days",
        load=lambda seed: _s_ffsd(seed, unlabelled=False),
        tune_days=(16, 30),
        windows=(Window(30, 90),),
        seeds=_S_FFSD_KEYS,
        same_days=True,
        hindsight=True,
    ),
    Stream(
        name="S-FFSD all",
        about="S-FFSD, all rows; the unlabelled ones are silent, and baselines leave them out; judged are the others",
        load=lambda seed: _s_ffsd(seed, unlabelled=True),
        settings={"labels": {"silence": "unknown"}},
        silence_is_legit=False,
        tune_days=(16, 30),
        windows=(Window(30, 90),),
        seeds=_S_FFSD_KEYS,
        same_days=True,
        hindsight=True,
    ),
    Stream(
        name="handbook",
        about="simulated cards of Le Borgne et al. (2022); every label arrives after 7 days",
        load=_handbook,
        tune_days=(32, 60),
        windows=(
            Window(60, 135, "H1", published="weekly LightGBM 0.758, Bayes oracle 0.813"),
            Window(129, 136, "H2", book_test_rows, "one split: XGBoost 0.639, random forest 0.658"),
        ),
    ),
    Stream(
        name="handbook late",
        about="the same; frauds are labelled after a log-normal delay (median 7 days, sigma 1), legits never",
        load=_handbook_late,
        tune_days=(32, 60),
        windows=(
            Window(60, 90, "days 60-90", published="0.76"),
            Window(90, 120, "days 90-120", published="0.78"),
            Window(120, 150, "days 120-150", published="0.81"),
            Window(150, 183, "days 150-183", published="0.81"),
        ),
    ),
)
