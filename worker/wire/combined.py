"""Combinations of fields as entities of their own: a card at an address, a merchant with a kind of payment."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.feature_layout import counted_from
from models.hashing import MISSING, mixed
from worker.settings.fields import TransactionFields

_STEP: Final = np.uint64(0x9E3779B97F4A7C15)


def with_combined(
    fields: TransactionFields,
    card_hash: NDArray[np.uint64],
    entity_hash: NDArray[np.uint64],
    categorical: NDArray[np.uint64],
    numeric: NDArray[np.float64],
    event_time_ms: NDArray[np.int64],
) -> NDArray[np.uint64]:
    """Return the hashes of the entities, and behind them those of `transaction.combined`.

    Parameters
    ----------
    fields
        The user's.
    card_hash : uint64 (n,)
    entity_hash : uint64 (n, E)
    categorical : uint64 (n, C)
        0 where missing.
    numeric : float64 (n, N)
        NaN where missing.
    event_time_ms : int64 (n,)

    Returns
    -------
    uint64 (n, E + K)
        C-contiguous; 0 where one of the parts is missing.
    """
    if not fields.combined:
        return entity_hash
    of_field = {fields.card_id: card_hash}
    of_field |= dict(zip(fields.entities, entity_hash.T, strict=True))
    of_field |= dict(zip(fields.categorical, categorical.T, strict=True))
    ages = numeric[:, [fields.numeric.index(name) for name in fields.ages]]
    of_field |= dict(zip(fields.ages, _of_dates(counted_from(ages, event_time_ms)).T, strict=True))
    combined = [_combined([of_field[part] for part in name.split("+")]) for name in fields.combined]
    return np.column_stack([entity_hash, *combined])


def _of_dates(dates: NDArray[np.float64]) -> NDArray[np.uint64]:
    """Return a hash of each date; 0 where it is missing."""
    known = ~np.isnan(dates)
    hashes = mixed(np.where(known, dates, 0.0).astype(np.int64).view(np.uint64) + _STEP)
    return np.where(known, np.where(hashes == MISSING, np.uint64(1), hashes), np.uint64(MISSING))


def _combined(hashes: list[NDArray[np.uint64]]) -> NDArray[np.uint64]:
    """Return one hash of several, uint64 (n,); missing where one is. Keyed parts leave no sender a choice of it."""
    found = np.zeros(len(hashes[0]), np.uint64)
    for one in hashes:
        # A step of splitmix64 (Steele, Lea and Flood 2014).
        found = mixed((found ^ one) + _STEP)
    missing = np.any([one == MISSING for one in hashes], axis=0)
    return np.where(missing, np.uint64(MISSING), np.where(found == MISSING, np.uint64(1), found))
