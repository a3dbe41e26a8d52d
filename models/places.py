"""Compiled folds and reads of where cards were: how far a transaction is from the places of its card, and how fast.

A place is a unit vector: sums of such vectors are linear, as all other aggregates are, and know no date line. A row
holds the place of the card's latest transaction that had one, and the decayed sum of all of them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numba import njit
from numpy.typing import NDArray

from models.arithmetic import exp2, sin_cos_degrees
from models.hashing import MISSING
from models.tables import Rows, find_or_insert
from models.vocabulary import MS_PER_DAY

WIDTH: Final = 7
COUNT: Final = 6
FEATURES: Final = 3

# Where the vectors of a row begin; each has three columns.
_LAST: Final = 0
_SUM: Final = 3
_AXES: Final = 3
_EARTH_RADIUS_KM: Final = 6371.0
_MS_PER_HOUR: Final = MS_PER_DAY // 24
_LEAST_ELAPSED_MS: Final = 60_000
"""Two transactions of one moment are taken to be a minute apart: clocks of terminals differ by as much."""
_NO_DIRECTION: Final = 1e-6
"""A mean of unit vectors shorter than this points nowhere: the card has been on all sides alike."""


@njit(cache=True, nogil=True)
def advance_places(
    rows: Rows,
    card_hash: NDArray[np.uint64],
    event_time_ms: NDArray[np.int64],
    place: NDArray[np.float32],
    decay: float,
    first: int,
    out: NDArray[np.float32],
) -> None:
    """Write how far and how fast each transaction is from the places of its card just before it, then fold it.

    The features go into the columns of `out` from `first` on.

    `place` holds degrees of latitude and longitude, float32 (n, 2); without a card, or off the globe, nothing is known.
    """
    here = np.empty(_AXES)
    for i in range(card_hash.size):
        # NaN compares as false.
        on_earth = abs(place[i, 0]) <= 90.0 and abs(place[i, 1]) <= 360.0
        if card_hash[i] == MISSING or not on_earth:
            continue
        row = find_or_insert(rows, card_hash[i], event_time_ms[i])
        v = rows.values[row]
        elapsed_ms = event_time_ms[i] - rows.last_ms[row]
        _unit_vector(np.float64(place[i, 0]), np.float64(place[i, 1]), here)
        if v[COUNT] > 0.0:
            _place_features(v, here, abs(elapsed_ms), out[i, first : first + FEATURES])
        factor = exp2(-abs(elapsed_ms) * decay)
        if elapsed_ms >= 0:
            rows.last_ms[row] = event_time_ms[i]
            v[_SUM:] *= factor
            v[_LAST:_SUM] = here
            factor = 1.0
        for axis in range(_AXES):
            v[_SUM + axis] += factor * here[axis]
        v[COUNT] += factor


@njit(cache=True, nogil=True)
def _unit_vector(latitude: float, longitude: float, out: NDArray[np.float64]) -> None:
    sin_latitude, cos_latitude = sin_cos_degrees(latitude)
    sin_longitude, cos_longitude = sin_cos_degrees(longitude)
    out[0] = cos_latitude * cos_longitude
    out[1] = cos_latitude * sin_longitude
    out[2] = sin_latitude


@njit(cache=True, nogil=True)
def _place_features(
    v: NDArray[np.float64], here: NDArray[np.float64], elapsed_ms: int, out: NDArray[np.float32]
) -> None:
    distance_km = _distance_km(v[_LAST:_SUM], 1.0, here)
    out[0] = distance_km
    out[1] = distance_km * _MS_PER_HOUR / max(elapsed_ms, _LEAST_ELAPSED_MS)
    usual = v[_SUM : _SUM + _AXES]
    length = np.sqrt(usual[0] * usual[0] + usual[1] * usual[1] + usual[2] * usual[2])
    if length > _NO_DIRECTION * v[COUNT]:
        out[2] = _distance_km(usual, length, here)


@njit(cache=True, nogil=True)
def _distance_km(a: NDArray[np.float64], length: float, b: NDArray[np.float64]) -> float:
    """Return the great-circle distance from the direction of `a`, which has this length, to the unit vector `b`."""
    squares = 0.0
    for axis in range(_AXES):
        difference = a[axis] / length - b[axis]
        squares += difference * difference
    # Features only: nothing is folded from them, so the C library's function may be used.
    return float(2.0 * _EARTH_RADIUS_KM * np.arcsin(min(1.0, 0.5 * np.sqrt(squares))))
