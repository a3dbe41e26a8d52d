"""What the words of a label mean: those of the wire, and the user's own of `[label.values]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from models.vocabulary import LabelKind
from worker.settings.fields import LABEL_WORDS, OUTCOME_WORDS, LabelFields

REVERSAL: Final = "reversal"
_KINDS: Final[Mapping[str, LabelKind]] = {
    "fraud": LabelKind.FRAUD,
    "legit": LabelKind.LEGIT,
    "reversal": LabelKind.REVERSAL,
    **dict.fromkeys(OUTCOME_WORDS, LabelKind.OUTCOME),
}


@dataclass(frozen=True, slots=True)
class LabelWords:
    """The words that a label may use.

    Attributes
    ----------
    labels
        By word of the field `label`, what it means. A user's word there may mean an outcome.
    outcomes
        By word of the field `outcome`, what it means.
    reversing
        The sources that take a fraud label back.
    """

    labels: Mapping[str, LabelKind]
    outcomes: Mapping[str, LabelKind]
    reversing: tuple[str, ...]

    @classmethod
    def of(cls, fields: LabelFields) -> Self:
        """Return the words of the wire and those of the settings."""
        own = {word: _KINDS[meaning] for word, meaning in fields.values.items()}
        own_outcomes = [word for word, kind in own.items() if kind is LabelKind.OUTCOME]
        own_reversals = [word for word, kind in own.items() if kind is LabelKind.REVERSAL]
        return cls(
            labels={word: _KINDS[word] for word in LABEL_WORDS} | own,
            outcomes=dict.fromkeys([*OUTCOME_WORDS, *own_outcomes], LabelKind.OUTCOME),
            reversing=tuple(dict.fromkeys([REVERSAL, *own_reversals])),
        )
