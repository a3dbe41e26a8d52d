"""The parameters of a simulation, and their limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from models.vocabulary import MS_PER_DAY
from worker.errors import SettingsError
from worker.wire.schema import END_OF_TIME_MS

MOST_PREVALENCE: Final = 0.2
MOST_TRANSACTIONS: Final = 100_000_000
"""The simulation holds all transactions in memory, some 100 bytes each."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """The parameters of a simulation.

    Attributes
    ----------
    cards, merchants
        The number of each; a quarter of the merchants sell online.
    days
        The length in days.
    per_card_day
        Mean number of transactions of a card and day; the cards' own rates lie evenly between 0 and twice that.
    prevalence
        Share of fraud, to the nearest transaction; the same before and after a change of the pattern.
    pattern_change_day
        From this day on, counted from 0, fraudsters choose other kinds, merchants and amounts
        (`fraud_kinds.NEW_PATTERN`); None for no change.
    seed
        The same seed makes the same bytes; another seed makes another world.
    start_ms
        Midnight of the first day, epoch milliseconds; by default that of 1 January 2024, a Monday.
    label_delay_days
        Mean delay of a chargeback; other sources are quicker in proportion (`labelling.DELAYS`).
    legit_labels
        Share of the legitimate transactions that an analyst labels; the others get no label.

    Raises
    ------
    SettingsError
        A value is out of range; the message names the argument of the `simulate` command.
    """

    cards: int = 5_000
    merchants: int = 5_000
    days: int = 60
    per_card_day: float = 2.0
    prevalence: float = 0.008
    pattern_change_day: int | None = None
    seed: int = 0
    start_ms: int = 1_704_067_200_000
    label_delay_days: float = 14.0
    legit_labels: float = 1.0

    def __post_init__(self) -> None:
        _require(self.cards >= 1, "cards", self.cards, "make at least 1")
        _require(self.merchants >= 2, "merchants", self.merchants, "make at least 2: a shop, and one online")
        _require(self.days >= 1, "days", self.days, "make at least 1")
        _require(self.per_card_day > 0, "per_card_day", self.per_card_day, "make it more than 0")
        _require(self.seed >= 0, "seed", self.seed, "make it a whole number from 0 on")
        _require(self.label_delay_days >= 0, "label_delay_days", self.label_delay_days, "make it 0 or more")
        _require(
            0 <= self.legit_labels <= 1, "legit_labels", self.legit_labels, "make it a share from 0 to 1"
        )
        _require(
            0 <= self.prevalence <= MOST_PREVALENCE,
            "prevalence",
            self.prevalence,
            f"make it a share from 0 to {MOST_PREVALENCE} (1 % is 0.01)",
        )
        self._check_change()
        self._check_time()
        self._check_volume()

    @property
    def end_ms(self) -> int:
        """Midnight after the last day, epoch milliseconds."""
        return self.start_ms + self.days * MS_PER_DAY

    def _check_change(self) -> None:
        day = self.pattern_change_day
        if day is None:
            return
        _require(self.days > 1, "pattern_change_day", day, "leave it out, or make --days at least 2")
        fix = f"make it a day from 1 to {self.days - 1}, or raise --days"
        _require(1 <= day < self.days, "pattern_change_day", day, fix)

    def _check_time(self) -> None:
        day = np.datetime64(self.start_ms, "ms")
        _require(
            self.start_ms % MS_PER_DAY == 0, "start", day, "name a day without an hour, such as 2024-01-31"
        )
        possible = self.start_ms >= 0 and self.end_ms <= END_OF_TIME_MS
        _require(possible, "start", day, "choose days from 1970 to 2099")

    def _check_volume(self) -> None:
        expected = self.cards * self.days * self.per_card_day
        if expected > MOST_TRANSACTIONS:
            raise SettingsError(
                f"--cards = {self.cards}, --days = {self.days} and --per-card-day = {self.per_card_day} make some "
                f"{expected:,.0f} transactions, more than {MOST_TRANSACTIONS:,}: lower one of them"
            )


def _require(possible: bool, name: str, value: object, fix: str) -> None:
    if not possible:
        raise SettingsError(f"--{name.replace('_', '-')} = {value}: {fix}")
