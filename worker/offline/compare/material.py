"""What the process of a strategy may see, as files: features, amounts, and verdicts with the time they arrived."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray

from models.columns import Columns, Shared, Wide
from worker.offline.compare.sample import Sample
from worker.offline.compare.windows import Verdicts, Windows
from worker.offline.dataset import NEVER

_NUMBERS: Final = "material.json"


@dataclass(frozen=True, slots=True)
class Material(Columns):
    """The n transactions from the train window on, in order of event time.

    Of the train window those of known truth alone; from the tune window on the others open cases too.

    Attributes
    ----------
    features : float32 (n, F)
        As of the decision; NaN where missing.
    amount, loss : float64 (n,)
    event_time_ms, case : int64 (n,)
        As in `Sample`.
    matures_ms, fraud_ms : int64 (n,)
        As in `Verdicts`.
    categorical : bool (F,)
        Which features are categories.
    windows
        Boundaries of the windows.
    review_cost
        Of one case.
    budget_cases_per_day
        Cases that there is time for; None for no limit.
    """

    features: Annotated[NDArray[np.float32], Wide("features")]
    amount: NDArray[np.float64]
    loss: NDArray[np.float64]
    event_time_ms: NDArray[np.int64]
    case: NDArray[np.int64]
    matures_ms: NDArray[np.int64]
    fraud_ms: NDArray[np.int64]
    categorical: Annotated[NDArray[np.bool_], Shared()]
    windows: Windows
    review_cost: float
    budget_cases_per_day: float | None = None

    @property
    def verdicts(self) -> Verdicts:
        """When the truth of each row became known."""
        return Verdicts(self.matures_ms, self.fraud_ms)

    @property
    def usable(self) -> Material:
        """The transactions whose truth is known."""
        return self.take(np.flatnonzero(self.matures_ms != NEVER))

    def between(self, start_ms: int, end_ms: int) -> slice:
        """Return the rows of a stretch of time."""
        start, end = np.searchsorted(self.event_time_ms, [start_ms, end_ms])
        return slice(int(start), int(end))

    def known_by(self, rows: NDArray[np.int64], now_ms: int) -> Sample:
        """Return rows with the verdicts known at a moment."""
        return self._sample(rows, np.asarray(self.fraud_ms[rows] <= now_ms))

    def to_score(self, rows: slice) -> Sample:
        """Return rows without any verdict: all legit, so that no score can depend on the truth."""
        return self._sample(rows, np.zeros(len(self.amount[rows]), np.bool_))

    def _sample(self, rows: NDArray[np.int64] | slice, fraud: NDArray[np.bool_]) -> Sample:
        return Sample(
            features=np.array(self.features[rows]),
            fraud=fraud,
            weight=np.ones(len(fraud)),
            amount=np.array(self.amount[rows]),
            loss=np.array(self.loss[rows]),
            event_time_ms=np.array(self.event_time_ms[rows]),
            case=np.array(self.case[rows]),
            categorical=np.array(self.categorical),
        )

    def save(self, folder: Path) -> None:
        """Write it into a folder, each array as a .npy file."""
        for name in (*self.layout(), "categorical"):
            np.save(folder / f"{name}.npy", getattr(self, name), allow_pickle=False)
        numbers = {
            "windows": asdict(self.windows),
            "review_cost": self.review_cost,
            "budget_cases_per_day": self.budget_cases_per_day,
        }
        (folder / _NUMBERS).write_text(json.dumps(numbers))

    @classmethod
    def load(cls, folder: Path) -> Material:
        """Map what `save` wrote into memory, without copying it."""
        arrays = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in (*cls.layout(), "categorical")
        }
        numbers = json.loads((folder / _NUMBERS).read_text())
        return cls(**{**arrays, **numbers, "windows": Windows(**numbers["windows"])})
