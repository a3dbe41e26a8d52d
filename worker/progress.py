"""How a long piece of work reports its progress to its caller."""

from __future__ import annotations

from collections.abc import Callable

OnProgress = Callable[[int, int], None]
"""Takes how much is done so far, and how much there is in all."""


def ignore_progress(done: int, total: int) -> None:
    """Do nothing: the `OnProgress` of a caller that shows none."""
    del done, total
