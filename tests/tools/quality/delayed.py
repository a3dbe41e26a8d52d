"""Streams with delayed labels as in arXiv 2409.10111, made by river's generators.

Agrawal with three abrupt or gradual changes, a rotating hyperplane, SEA with three changes, a million instances each;
both labels arrive, at once or 70,000 instances later. The paper judges batches of some 10,000 instances: here they are
a day, so that its delay is 7 days. Each instance has a card of its own and the amount 100.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import CodeType
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from river.datasets import synth

from models.vocabulary import MS_PER_DAY
from tests.tools.quality.cache import remembered
from tests.tools.quality.streams import Loaded, Stream, Window, labels_at
from worker.offline.dataset import Dataset
from worker.settings.fields import TransactionFields

INSTANCES: Final = 1_000_000
INSTANCES_PER_DAY: Final = 10_000
DELAYS: Final = (0, 70_000)
_START_MS: Final = 1_704_067_200_000
_CHANGES: Final = (250_000, 500_000, 750_000)
_ABRUPT: Final = 50
_GRADUAL: Final = 50_000
_BLOCK: Final = 10_000
_NAMES: Final = {
    "salary": "numeric",
    "commission": "numeric",
    "age": "numeric",
    "elevel": "categorical",
    "car": "categorical",
    "zipcode": "categorical",
    "hvalue": "numeric",
    "hyears": "numeric",
    "loan": "numeric",
}

Instances = Iterator[tuple[dict[Any, Any], Any]]


def changing(concepts: list[Instances], changes: tuple[int, ...], width: int, seed: int) -> Instances:
    """Mix streams: the chance of the next concept rises by a sigmoid around each change.

    As river's `ConceptDriftStream`, whose exponential overflows far from a narrow change.
    """
    rng = np.random.default_rng(seed)
    for first in itertools.count(0, _BLOCK):
        steps = -4.0 * (np.arange(first, first + _BLOCK)[:, None] - np.array(changes)) / width
        chance = 1.0 / (1.0 + np.exp(np.clip(steps, -50.0, 50.0)))
        # The latest change that has taken place for an instance decides.
        drawn = np.cumprod(rng.random(chance.shape) < chance, axis=1).sum(axis=1)
        for concept in drawn.tolist():
            yield next(concepts[concept])


def _agrawal(width: int, seed: int) -> Instances:
    concepts = []
    for function in range(4):
        one = synth.Agrawal(classification_function=function, seed=100 * seed + function, perturbation=0.05)
        # It evaluates each name anew for each instance; to compile them takes two thirds of its time.
        names: list[Any] = [compile(it, it, "eval") for it in one.feature_names]
        one.feature_names = names
        concepts.append(iter(one))
    return changing(concepts, _CHANGES, width, seed)


def _sea(width: int, seed: int) -> Instances:
    concepts = [iter(synth.SEA(variant=it, seed=100 * seed + it, noise=0.1)) for it in range(4)]
    return changing(concepts, _CHANGES, width, seed)


def _hyperplane(seed: int) -> Instances:
    plane = synth.Hyperplane(
        seed=seed, n_features=10, n_drift_features=10, mag_change=0.001, noise_percentage=0.05, sigma=0.1
    )
    return iter(plane)


_GENERATORS: Final[dict[str, tuple[str, Callable[[int], Instances]]]] = {
    "AGR_a": ("Agrawal, functions 1 to 4, abrupt changes", lambda seed: _agrawal(_ABRUPT, seed)),
    "AGR_g": ("Agrawal, functions 1 to 4, gradual changes", lambda seed: _agrawal(_GRADUAL, seed)),
    "HYPER_f": ("rotating hyperplane, 10 features, 0.001 a step", _hyperplane),
    "SEA_a": ("SEA, 10 % noise, abrupt changes", lambda seed: _sea(_ABRUPT, seed)),
    "SEA_g": ("SEA, 10 % noise, gradual changes", lambda seed: _sea(_GRADUAL, seed)),
}


def _drawn(name: str, seed: int, count: int) -> dict[str, NDArray[Any]]:
    """Return the columns of the first instances, and `fraud`."""
    source = _GENERATORS[name][1](seed)
    first, _ = next(source)
    columns = np.empty((count, len(first)), np.float64)
    fraud = np.empty(count, np.bool_)
    for row in range(count):
        x, y = next(source)
        columns[row] = [*x.values()]
        fraud[row] = y
    return {**{_name(it): columns[:, at] for at, it in enumerate(first)}, "fraud": fraud}


def _name(feature: Any) -> str:
    return feature.co_filename if isinstance(feature, CodeType) else str(feature)


def delayed_stream(name: str, seed: int, delay: int, count: int = INSTANCES) -> Loaded:
    """Return the stream with labels `delay` instances later."""
    columns = remembered(f"delayed-{name}-{seed}-{count}", lambda: _drawn(name, seed, count))
    fraud = columns["fraud"]
    number = np.arange(count)
    times_ms = _START_MS + number * (MS_PER_DAY // INSTANCES_PER_DAY)
    numeric = [it for it in columns if it != "fraud" and _NAMES.get(it, "numeric") == "numeric"]
    categorical = [it for it in columns if _NAMES.get(it) == "categorical"]
    named = {it: it if it in _NAMES else f"x{it}" for it in columns}
    dataset = Dataset(
        fields=TransactionFields(
            entities=(),
            numeric=tuple(named[it] for it in numeric),
            categorical=tuple(named[it] for it in categorical),
        ),
        transaction_id=pa.array(number).cast(pa.string()),
        card_id=pa.array(number).cast(pa.string()),
        event_time_ms=times_ms,
        amount=np.full(count, 100.0),
        currency=None,
        entities={},
        numeric={named[it]: columns[it].astype(np.float64) for it in numeric},
        categorical={
            named[it]: pa.array(columns[it].astype(np.int64)).cast(pa.string()) for it in categorical
        },
        is_fraud=fraud,
        label_time_ms=labels_at(times_ms, delay / INSTANCES_PER_DAY),
    )
    return Loaded(dataset, np.ones(count, np.bool_))


def _stream(name: str, delay: int) -> Stream:
    return Stream(
        name=f"{name} delay {delay:,}",
        about=f"{_GENERATORS[name][0]}; 10,000 instances a day",
        load=lambda seed: delayed_stream(name, seed, delay),
        tune_days=(12, 26),
        windows=(Window(26, INSTANCES // INSTANCES_PER_DAY),),
        seeds=(0, 1, 2),
        # Nothing is silent, and thousands of frauds a day need a budget of their size.
        settings={
            "labels": {"negatives_after_days": 8.0},
            "costs": {"alert_budget_cases_per_day": 10_000.0},
        },
        matured_days=delay / INSTANCES_PER_DAY,
    )


STREAMS: Final = tuple(_stream(name, delay) for name in _GENERATORS for delay in DELAYS)
