"""Numbers that count days are named to their reader, and no others."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from models.vocabulary import MS_PER_DAY
from tests.support.quality import START_MS, loaded
from worker.offline.dataset import Dataset
from worker.offline.dataset_notes import notes
from worker.settings.fields import TransactionFields

COUNT, DAYS = 4_000, 60
RNG = np.random.default_rng(7)
DAY = np.sort(RNG.uniform(0.0, DAYS, COUNT))
ACCOUNT = RNG.integers(0, 800, COUNT)
OPENED = RNG.uniform(-400.0, -1.0, 800)[ACCOUNT]
AGE = np.floor(DAY - OPENED)


def payments(number: NDArray[np.float64], accounts_a_card: int = 1, **fields: tuple[str, ...]) -> Dataset:
    return replace(
        loaded().dataset,
        fields=TransactionFields(**{"entities": (), "numeric": ("number",), **fields}),
        transaction_id=pa.array([f"t{at}" for at in range(COUNT)]),
        card_id=pa.array([f"k{at}" for at in ACCOUNT // accounts_a_card]),
        event_time_ms=START_MS + (DAY * MS_PER_DAY).astype(np.int64),
        amount=np.ones(COUNT),
        numeric={"number": number},
        is_fraud=None,
        label_time_ms=None,
    )


def said_of(dataset: Dataset) -> list[str]:
    return [it for it in notes(dataset) if "counts days" in it]


@pytest.mark.parametrize(
    "age",
    [AGE, DAY - OPENED, np.floor(DAY) - np.floor(OPENED), np.where(ACCOUNT % 3 == 0, np.nan, AGE)],
    ids=["whole", "fractions", "by the calendar", "missing for some"],
)
def test_a_number_that_counts_days_is_named_with_the_setting_that_learns_from_its_date(
    age: NDArray[np.float64],
) -> None:
    (said,) = said_of(payments(age))
    assert said.startswith("number: counts days")
    assert said.endswith('ages = ["number"]')


def test_where_accounts_share_a_card_number_the_date_is_offered_as_an_entity() -> None:
    (said,) = said_of(payments(AGE, accounts_a_card=4, entities=("shop",)))
    assert 'entities = ["shop", "card_id+number"]' in said
    assert f"a card has {accounts_of_a_card(4):.1f} dates in the mean" in said


def test_several_numbers_that_count_days_are_named_together() -> None:
    dataset = payments(AGE, numeric=("number", "amount_like", "other"))
    numbers = {"number": AGE, "amount_like": RNG.normal(0.0, 100.0, COUNT), "other": AGE + 30.0}
    (said,) = said_of(replace(dataset, numeric=numbers))
    assert said.startswith("number, other: each counts days")
    assert said.endswith('ages = ["number", "other"]')


def accounts_of_a_card(accounts: int) -> float:
    """Return the mean; those of one card that opened within a day of each other are one."""
    counts = []
    for card in range(800 // accounts):
        opened = sorted(set(OPENED[ACCOUNT // accounts == card]))
        counts.append(1 + sum(later - earlier > 1.0 for earlier, later in pairwise(opened)))
    return float(np.mean(counts))


def days_since_the_last_payment() -> NDArray[np.float64]:
    since, last = np.full(COUNT, np.nan), dict[int, float]()
    for at, (account, day) in enumerate(zip(ACCOUNT, np.floor(DAY), strict=True)):
        since[at] = day - last.get(account, np.nan)
        last[account] = day
    return since


@pytest.mark.parametrize(
    "number",
    [
        np.floor(DAY) + 5.0,
        np.floor(OPENED) + 400.0,
        1_000.0 - AGE,
        RNG.integers(1, 30, COUNT).astype(np.float64),
        RNG.poisson(3.0, COUNT).astype(np.float64),
        RNG.normal(0.0, 100.0, COUNT),
        np.full(COUNT, 3.0),
        np.full(COUNT, np.nan),
        days_since_the_last_payment(),
    ],
    ids=[
        "clock",
        "constant of the account",
        "countdown",
        "whole",
        "few",
        "normal",
        "one",
        "none",
        "since the last",
    ],
)
def test_of_a_number_that_counts_otherwise_nothing_is_said(number: NDArray[np.float64]) -> None:
    assert said_of(payments(number)) == []


def test_of_a_file_of_one_moment_nothing_is_said() -> None:
    dataset = payments(AGE)
    dataset.event_time_ms[:] = START_MS
    assert said_of(dataset) == []


def test_of_a_number_that_is_declared_to_count_days_nothing_is_said() -> None:
    assert said_of(payments(AGE, ages=("number",))) == []
