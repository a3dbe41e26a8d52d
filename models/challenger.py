"""The challenger: trees beside the tables in force, scored in shadow. It decides nothing, and nothing learns from it.

What it would have decided is a bit of each decision's flags, so that its cost is known from the same settled decisions
as that of the model in force. Its weights are those that the search has fitted: they do not follow the verdicts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.blend import Mix, Parts, Trees
from models.threshold import Calibration

PREFIX: Final = "challenger."
"""Begins the names of its arrays in the record of a generation."""


@dataclass(frozen=True, slots=True)
class Challenger:
    """Trees, and the weights and the offset that make a logit of them and the tables."""

    trees: Trees
    mix: Mix

    @property
    def in_words(self) -> str:
        """What it is, for a log."""
        return (
            f"in shadow {self.mix.tables:.2f} of the tables and {self.mix.trees:.2f} of {self.trees.in_words}"
        )

    def score(self, parts: Parts) -> NDArray[np.float64]:
        """Return the logits of the tables that decide and of its own trees as it weighs them, float64 (n,)."""
        return self.mix.tables * parts.tables + self.mix.trees * parts.trees + self.mix.offset

    def probability(self, parts: Parts) -> NDArray[np.float64]:
        """Return the probabilities of fraud, float64 (n,); as `score`."""
        return Calibration().probability(self.score(parts))

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return copies of everything as arrays of numbers, by their names in a record."""
        found = {"mix": np.array(astuple(self.mix)), **self.trees.arrays()}
        return {f"{PREFIX}{name}": array for name, array in found.items()}

    @classmethod
    def from_record(cls, arrays: Mapping[str, NDArray[Any]], features: int) -> Challenger | None:
        """Restore the challenger of a generation's record; None where it has none.

        Raises
        ------
        KeyError
            An array is absent.
        ValueError
            An array has another type or shape, or holds what no model could.
        """
        own = {name.removeprefix(PREFIX): arrays[name] for name in arrays if name.startswith(PREFIX)}
        return cls(Trees.from_arrays(own, features), Mix.from_array(own["mix"])) if own else None
