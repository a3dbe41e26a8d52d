"""How tables and trees may be made, and what a search chooses of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.blend import Mix, TreeRecipe
from models.boosting import BoostingParams
from models.online import LogisticParams
from models.threshold import Calibration

TABLES: Final[tuple[LogisticParams, ...]] = (
    {},
    {"passes": 3},
    {"learning_rate": 0.02, "cross_learning_rate": 0.008},
)
_SMALL: Final = BoostingParams(trees=250, leaves=7, learning_rate=0.05, column_share=0.5)
_MIDDLE: Final = BoostingParams(trees=200, leaves=15, learning_rate=0.1, column_share=0.5)
_LARGE: Final = BoostingParams(trees=300, leaves=31, learning_rate=0.06, column_share=0.5)
_LARGEST: Final = BoostingParams(trees=350, leaves=63, learning_rate=0.05, column_share=0.5)
SIZES: Final = (_SMALL, _MIDDLE, _LARGE, _LARGEST)
LARGE_AT: Final = SIZES.index(_LARGE)
"""The first of those that are candidates only where frauds are many."""
TREES: Final = tuple(TreeRecipe(size, by_odds) for by_odds in (False, True) for size in SIZES)
"""Those by odds are candidates only where there are categories, the large and largest only where frauds are many."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a search chose, in numbers: it is part of the generation's record.

    Attributes
    ----------
    tables_at, trees_at
        Which of `TABLES` and `TREES`; -1 for no trees.
    mix
        Weights of their logits.
    order : int16 (F,)
        Columns as the tables take them.
    calibration
        Makes a probability of the logit; None where too few frauds were judged.
    tables_loss, trees_loss, blend_loss
        Mean weighted log loss of each on the judged days; NaN where nothing was judged.
    age
        Generations made by this choice before.
    rows
        How many the search had.
    """

    tables_at: int
    trees_at: int
    mix: Mix
    order: NDArray[np.int16]
    calibration: Calibration | None = None
    tables_loss: float = float("nan")
    trees_loss: float = float("nan")
    blend_loss: float = float("nan")
    age: int = 0
    rows: int = 0

    @property
    def has_judged(self) -> bool:
        """Whether enough was known to judge anything; if not, the choice is a default."""
        return not np.isnan(self.blend_loss)

    @property
    def trees_in_words(self) -> str:
        """What the trees are, for a log."""
        if self.trees_at < 0:
            return "no trees"
        recipe = TREES[self.trees_at]
        categories = "odds" if recipe.by_odds else "frequency"
        return f"{recipe.boosting.trees} trees of {recipe.boosting.leaves} leaves, categories by {categories}"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the numbers that `from_arrays` reads, beside those of the blend."""
        numbers = (self.tables_at, self.trees_at, self.age, self.rows)
        losses = (self.tables_loss, self.trees_loss, self.blend_loss)
        return {"choice": np.array(numbers, np.int64), "losses": np.array(losses)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], mix: Mix, order: NDArray[np.int16]) -> Choice:
        """Read a choice back.

        Raises
        ------
        KeyError, ValueError
            An array is absent, or names no candidate.
        """
        tables_at, trees_at, age, rows = (int(number) for number in arrays["choice"])
        if not (0 <= tables_at < len(TABLES) and -1 <= trees_at < len(TREES)):
            msg = f"no candidate has the numbers {tables_at} and {trees_at}"
            raise ValueError(msg)
        tables, trees, blend = (float(loss) for loss in arrays["losses"])
        return cls(tables_at, trees_at, mix, order, None, tables, trees, blend, age, rows)
