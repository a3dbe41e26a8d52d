"""The integer codes of decisions and labels; the journal, the waiting decisions and the folds share them."""

from __future__ import annotations

from enum import IntEnum, IntFlag, StrEnum
from typing import Final

NEVER_MS: Final = -(1 << 63)
"""Before every event time: a clock before the first transaction."""


class Decider(IntEnum):
    """Who decided a transaction."""

    NONE = 0
    FOREST = 1
    ONLINE = 2


class ChallengerMode(StrEnum):
    """What boosted trees may do beside the tables that learn online."""

    OFF = "off"
    SHADOW = "shadow"
    """They are scored, and what they would have decided is known; tables alone decide."""
    CHOOSE = "choose"
    """They decide together with the tables, by weights that matured days choose; zero is one."""


class Status(IntEnum):
    """The state of a decision's truth: the rows of the label table (`models.labels`)."""

    WAITING = 0
    PROVISIONAL = 1
    FRAUD = 2
    LEGIT = 3
    FINAL_LEGIT = 4
    UNRESOLVED = 5


class LabelKind(IntEnum):
    """What an incoming label says."""

    FRAUD = 0
    LEGIT = 1
    REVERSAL = 2
    OUTCOME = 3


class LabelSource(IntEnum):
    """Who sent a label: a source that the metrics know by name, or any other."""

    NONE = 0
    CHARGEBACK = 1
    EARLY_WARNING = 2
    ANALYST = 3
    CUSTOMER = 4
    REVERSAL = 5
    OTHER = 6


class LabelEffect(IntEnum):
    """What an incoming label did; each effect has a counter of its own."""

    MATCHED = 0
    LATE = 1
    DUPLICATE = 2
    CONTRADICTING = 3
    REVERSED = 4
    AFTER_HORIZON = 5
    ORPHAN = 6
    NOTED = 7


LEVEL_SHIFT: Final = 8
BEFORE_SHIFT: Final = 11
"""Where the bits of `Flag.LEVEL` and `Flag.LEVEL_BEFORE` begin."""


class Flag(IntFlag):
    """The bits of a decision's flags; the two lowest bits are the `Decider`."""

    DECIDER = 0b11
    ALERTED = 1 << 2
    ONLINE_WOULD_ALERT = 1 << 3
    FOREST_WOULD_ALERT = 1 << 4
    FIRST_OF_WINDOW = 1 << 5
    """The card's first transaction in its case window: a worker that alerts on everything would open a case here."""
    OPENS_CASE = 1 << 6
    """The first alert of its case: the review is charged here and nowhere else."""
    FOREST_SCORED = 1 << 7
    LEVEL = 0b111 << LEVEL_SHIFT
    """How many multiples of the review cost the expected loss reaches; see `models.payoff`."""
    LEVEL_BEFORE = 0b111 << BEFORE_SHIFT
    """The highest level that the card has reached in the case window before."""
    OPENS_FOREST_CASE = 1 << 14
    """The first of its case where the forest would alert: had it decided, the review would be charged here."""
    CHALLENGER_WOULD_ALERT = 1 << 15
    """With the challenger in the place of the online model it would be an alert; without a challenger, `ALERTED`."""


MS_PER_MINUTE: Final = 60_000
MS_PER_DAY: Final = 86_400_000
