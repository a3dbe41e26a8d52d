"""All strategies by name; a new family adds its list here."""

from __future__ import annotations

from typing import Final

from worker.offline.compare.families import nothing
from worker.offline.compare.strategy import Strategy

_FAMILIES: Final = (nothing.STRATEGIES,)


def strategies() -> dict[str, Strategy]:
    """Return every strategy by name, in the order of the table."""
    return {strategy.name: strategy for family in _FAMILIES for strategy in family}
