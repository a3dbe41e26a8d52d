"""Generated streams of other shapes than card traffic: wide, without entities, of many categories, noise, of any rate.

The frauds of each follow a logit that is drawn with the seed; its constant is set for the share of fraud. Frauds are
labelled after a gamma-distributed delay (mean 5 days, of `late` 40), legits by silence.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from tests.tools.quality import shape_rows
from tests.tools.quality.shape_rows import CLEAR_SHARE, DAYS, EMPTIED_SHARE, Codes, Numbers, Shape, chance
from tests.tools.quality.streams import Loaded, Stream, Window, labels_at
from worker.offline.dataset import NEVER, Dataset
from worker.settings.fields import TransactionFields

_START_MS: Final = 1_704_067_200_000


def _frauds(logit: Numbers, share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw frauds with a constant such that the expected share is `share`."""
    low, high = -60.0, 60.0
    for _ in range(60):
        middle = (low + high) / 2
        if np.mean(chance(logit + middle)) > share:
            high = middle
        else:
            low = middle
    return rng.random(logit.size) < chance(logit + low)


def _times_ms(count: int, days: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return _START_MS + np.sort((rng.random(count) * days * MS_PER_DAY).astype(np.int64))


def _text(prefix: str, codes: Codes) -> pa.StringArray:
    values, places = np.unique(codes, return_inverse=True)
    return pa.array([f"{prefix}{value}" for value in values.tolist()]).take(pa.array(places))


_SHAPES: Final[dict[str, Any]] = {
    "wide": shape_rows.wide,
    "no entity": shape_rows.no_entity,
    "clear": shape_rows.clear,
    "balances": shape_rows.balances,
    "categories": shape_rows.categories,
    "noise": shape_rows.noise,
    "faint": shape_rows.faint,
    "deep": shape_rows.deep,
    "rings": shape_rows.rings,
    "accounts": shape_rows.accounts,
    "takeovers": shape_rows.takeovers,
    "travel": shape_rows.travel,
    "mixed": shape_rows.mixed,
}


def shaped(
    shape: str, count: int, share: float, seed: int, days: int = DAYS, delay_days: float = 5.0
) -> Loaded:
    """Return a stream of a shape, over so many days, whose frauds are labelled after so many in the mean."""
    rng = np.random.default_rng([seed, count, *shape.encode()])
    drawn: Shape = _SHAPES[shape](count, rng)
    fraud = _frauds(drawn.logit, share, rng)
    times_ms = _times_ms(count, days, rng)
    waited_days = np.where(fraud, rng.standard_gamma(2.0, count) * (delay_days / 2.0), np.nan)
    dataset = Dataset(
        fields=TransactionFields(
            entities=tuple(drawn.entities),
            numeric=tuple(drawn.numeric),
            categorical=tuple(drawn.categorical),
            place=drawn.place,
        ),
        transaction_id=pa.array(np.arange(count)).cast(pa.string()),
        card_id=_text("k", drawn.card),
        event_time_ms=times_ms,
        amount=drawn.amount,
        currency=None,
        entities={name: _text("e", codes) for name, codes in drawn.entities.items()},
        numeric=drawn.numeric,
        categorical={name: _text("v", codes) for name, codes in drawn.categorical.items()},
        is_fraud=fraud,
        label_time_ms=labels_at(times_ms, waited_days),
    )
    return Loaded(dataset, np.ones(count, np.bool_))


def _stream(name: str, shape: str, count: int, share: float, seeds: tuple[int, ...] = (0, 1, 2)) -> Stream:
    return Stream(
        name=f"shape {name}",
        about=f"{_SHAPES[shape].__doc__.splitlines()[0]} {count:,} rows, {100 * share:g} % fraud",
        load=lambda seed: shaped(shape, count, share, seed),
        tune_days=(26, 40),
        windows=(Window(40, DAYS),),
        seeds=seeds,
    )


_LATE: Final = Stream(
    name="shape late",
    about="Cards and merchants; half of the frauds are labelled after more than 33 days. 300,000 rows, 2 % fraud",
    load=lambda seed: shaped("mixed", 300_000, 0.02, seed, days=150, delay_days=40.0),
    tune_days=(60, 80),
    windows=(Window(80, 150),),
)

_MONTH_DAYS: Final = 30


def _dated_by_the_month(seed: int) -> Loaded:
    """Give all transactions of thirty days one date, as files do from which the time was taken; labels wait from it."""
    loaded = shaped("mixed", 120_000, 0.015, seed, days=8 * _MONTH_DAYS)
    dataset = loaded.dataset
    since_ms = (dataset.event_time_ms - _START_MS) % (_MONTH_DAYS * MS_PER_DAY)
    assert dataset.label_time_ms is not None
    label_time_ms = np.where(dataset.label_time_ms == NEVER, NEVER, dataset.label_time_ms - since_ms)
    dated = replace(dataset, event_time_ms=dataset.event_time_ms - since_ms, label_time_ms=label_time_ms)
    return Loaded(dated, loaded.judged)


_MONTHLY: Final = Stream(
    name="shape monthly",
    about="Cards and merchants; all of a month bear one date. 120,000 rows, 1.5 % fraud",
    load=_dated_by_the_month,
    tune_days=(60, 90),
    windows=(Window(90, 240),),
)

STREAMS: Final = (
    _stream("wide", "wide", 240_000, 0.01),
    _stream("no entity", "no entity", 240_000, 0.02),
    _stream("clear", "clear", 285_000, CLEAR_SHARE, seeds=(0,)),
    _stream("balances", "balances", 240_000, EMPTIED_SHARE, seeds=(0,)),
    _stream("categories", "categories", 240_000, 0.02),
    _stream("noise", "noise", 180_000, 0.01),
    _stream("faint", "faint", 18_000, 0.05, seeds=(0,)),
    _stream("deep", "deep", 300_000, 0.035, seeds=(0,)),
    _stream("rings", "rings", 300_000, 0.035, seeds=(0,)),
    _stream("accounts", "accounts", 300_000, 0.035, seeds=(0,)),
    _stream("takeovers", "takeovers", 300_000, 0.035, seeds=(0,)),
    _stream("travel", "travel", 180_000, 0.01, seeds=(0,)),
    _LATE,
    _MONTHLY,
    _stream("20 %", "mixed", 90_000, 0.2),
    _stream("1 %", "mixed", 270_000, 0.01),
    _stream("0.1 %", "mixed", 720_000, 0.001),
    _stream("0.01 %", "mixed", 1_500_000, 0.0001),
)
