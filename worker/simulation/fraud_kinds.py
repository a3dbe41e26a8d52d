"""Kinds of card fraud, and how often and for how much fraudsters commit each.

Testing of cards, stolen cards and compromised merchants are those of *Reproducible Machine Learning for Credit Card
Fraud Detection* (Le Borgne et al., 2022), here as payments of their own beside the honest ones; takeovers are added.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final


class FraudKind(IntEnum):
    """The kind of fraud that a transaction is."""

    NONE = 0
    CARD_TESTING = 1
    """Five to ten payments at one online merchant within six minutes: small ones, and a large one at the end."""
    STOLEN_CARD = 2
    """Four to ten payments of raised amounts within 36 hours, in shops near home and online."""
    COMPROMISED_MERCHANT = 3
    """Fifteen to fifty payments of usual amounts at one merchant, for two to four weeks, with its customers' cards."""
    ACCOUNT_TAKEOVER = 4
    """Three to eight payments of high amounts within two days, online and far from home."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The behaviour of fraudsters for a stretch of time.

    Attributes
    ----------
    shares
        Share of each kind in the frauds, from `CARD_TESTING` on.
    tested
        Range of the amounts that test a card.
    stolen, taken_over
        Range of the amounts, in multiples of the card's usual amount.
    compromises_online
        Whether compromised merchants sell online; otherwise they are shops.
    """

    shares: tuple[float, float, float, float]
    tested: tuple[float, float]
    stolen: tuple[float, float]
    taken_over: tuple[float, float]
    compromises_online: bool


PATTERN: Final = Pattern((0.2, 0.4, 0.3, 0.1), (0.5, 3.0), (2.5, 5.0), (4.0, 10.0), compromises_online=False)
NEW_PATTERN: Final = Pattern(
    (0.1, 0.15, 0.25, 0.5), (4.0, 12.0), (1.2, 2.5), (2.0, 5.0), compromises_online=True
)
"""From `Traffic.pattern_change_day` on: more takeovers, smaller amounts, other merchants."""
