"""Which alerts open a case: the first of a card in a case window. The others join it."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_WINDOWS_KEPT: Final = 8


class CaseBook:
    """The cards with an open case, in the newest case windows; in an older one each batch opens them anew."""

    def __init__(self) -> None:
        self._open: dict[int, set[int]] = {}

    def has_case(
        self,
        card_hash: NDArray[np.uint64],
        time_ms: NDArray[np.int64],
        alerted: NDArray[np.bool_],
        asked: NDArray[np.bool_],
        window_ms: int,
    ) -> NDArray[np.bool_]:
        """Return whose card has an open case by then, bool (n,), of the transactions that are asked for.

        A case is open for what comes after the alert that opens it, in the same batch too.
        """
        has_case = np.zeros(len(card_hash), np.bool_)
        if not asked.any():
            return has_case
        rows = np.flatnonzero(alerted | asked)
        windows, cards = _lists(time_ms[rows] // window_ms, card_hash[rows])
        opened: set[tuple[int, int]] = set()
        found = []
        for window, card, opens in zip(windows, cards, alerted[rows].tolist(), strict=True):
            found.append(card in self._open.get(window, ()) or (window, card) in opened)
            if opens:
                opened.add((window, card))
        has_case[rows] = found
        return has_case & asked

    def open(
        self,
        card_hash: NDArray[np.uint64],
        time_ms: NDArray[np.int64],
        alerted: NDArray[np.bool_],
        window_ms: int,
    ) -> NDArray[np.bool_]:
        """Return which of n transactions open a case, bool (n,): alerts whose card has none in their window."""
        opened = np.zeros(len(card_hash), np.bool_)
        rows = np.flatnonzero(alerted)
        for row, window, card in zip(rows, *_lists(time_ms[rows] // window_ms, card_hash[rows]), strict=True):
            cards = self._open.setdefault(window, set())
            opened[row] = card not in cards
            cards.add(card)
        for old in [w for w in self._open if w <= max(self._open) - _WINDOWS_KEPT]:
            del self._open[old]
        return opened


def _lists(windows: NDArray[np.int64], cards: NDArray[np.uint64]) -> tuple[list[int], list[int]]:
    """Return both as Python's own numbers: a loop over these takes half of the time."""
    return windows.tolist(), cards.tolist()
