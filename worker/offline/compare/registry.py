"""All strategies by name; a new family adds its list here."""

from __future__ import annotations

from collections.abc import Callable, Collection
from difflib import get_close_matches
from typing import Final

from worker.errors import SettingsError
from worker.offline.compare.families import (
    anomaly,
    combinations,
    costs,
    ensembles,
    nothing,
    online,
    resampling,
    threshold,
    weights,
)
from worker.offline.compare.strategy import Strategy

_FAMILIES: Final = (
    nothing.STRATEGIES,
    resampling.STRATEGIES,
    weights.STRATEGIES,
    ensembles.STRATEGIES,
    threshold.STRATEGIES,
    anomaly.STRATEGIES,
    costs.STRATEGIES,
    combinations.STRATEGIES,
    online.STRATEGIES,
)

_WITH_ARGUMENT: Final[dict[str, Callable[[str], Strategy]]] = {
    "weights": weights.with_argument,
    "costs": costs.with_argument,
    "river": online.by_path,
}
"""What makes the strategies that the list does not hold, by what comes before the colon of their names."""


def strategies() -> dict[str, Strategy]:
    """Return every strategy by name, in the order of the table."""
    return {strategy.name: strategy for family in _FAMILIES for strategy in family}


def strategy_named(name: str, others: Collection[str] = ()) -> Strategy:
    """Return one strategy.

    Parameters
    ----------
    name
        Of the list; or with an argument, which makes one that the list does not hold: `weights:25`,
        `costs:10:1000`, `river:river.naive_bayes.GaussianNB`.
    others
        Names that are no strategies but may have been meant.

    Raises
    ------
    SettingsError
        There is none of that name.
    """
    listed = strategies()
    if name in listed:
        return listed[name]
    kind, colon, argument = name.partition(":")
    if colon and kind in _WITH_ARGUMENT:
        return _WITH_ARGUMENT[kind](argument)
    meant = [*listed, *dict.fromkeys(it.family for it in listed.values()), *others]
    near = get_close_matches(name.lower(), meant, n=3)
    names = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(meant)}"
    raise SettingsError(f"there is no strategy {name!r}: {names}")


def chosen(
    only: Collection[str] = (), skip: Collection[str] = (), others: Collection[str] = ()
) -> dict[str, Strategy]:
    """Return some strategies by name, in the order of the table.

    Parameters
    ----------
    only
        Names of strategies, as `strategy_named` takes them, or of whole families; none for every one of the list.
    skip
        Likewise, which to leave out.
    others
        Names that are no strategies but may have been meant where one is not known.

    Raises
    ------
    SettingsError
        There is none of a name.
    """
    listed = strategies()
    wanted = _named(only, others) if only else listed
    unwanted = _named(skip, others)
    place = {name: at for at, name in enumerate(listed)}
    names = sorted(wanted.keys() - unwanted.keys(), key=lambda name: (place.get(name, len(place)), name))
    return {name: wanted[name] for name in names}


def _named(names: Collection[str], others: Collection[str]) -> dict[str, Strategy]:
    listed = strategies()
    found: dict[str, Strategy] = {}
    for name in names:
        family = {it.name: it for it in listed.values() if it.family == name}
        if family:
            found |= family
        else:
            strategy = strategy_named(name, others)
            found[strategy.name] = strategy
    return found
