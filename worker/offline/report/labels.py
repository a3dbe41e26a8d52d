"""Places the words on a plot so that none covers another."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from models.arrays import FloatArray

_CHARACTER: Final = 0.6
"""Width of a character of an ordinary font over its height, generously."""
_PLACES: Final = tuple(
    (away, angle) for away in (9.0, 15.0, 22.0, 30.0, 40.0) for angle in (45, -45, 135, -135, 0, 90, 180, -90)
)


class _Box(NamedTuple):
    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: _Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def lies_in(self, other: _Box) -> bool:
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.bottom >= other.bottom
            and self.top <= other.top
        )


class Labels:
    """The words placed on one plot so far.

    Parameters
    ----------
    axes
        With their final limits.
    font_size
        Of the words.
    width
        Of the whole plot.
    """

    def __init__(self, axes: Axes, font_size: float, width: float) -> None:
        self._axes, self._size, self._width = axes, font_size, width
        self._taken: list[_Box] = []
        frame = axes.bbox
        self._frame = _Box(frame.x0, frame.y0, frame.x1, frame.y1)

    def keep_clear(self, x: float, y: float, radius: float) -> None:
        """Cover no marker at this point."""
        at = self._pixels(x, y)
        self._taken.append(_Box(at[0] - radius, at[1] - radius, at[0] + radius, at[1] + radius))

    def beside(self, x: float, y: float, label: str, colour: str) -> None:
        """Write a label near a point, in the first place around it that is free."""
        if not label:
            return
        at = self._pixels(x, y)
        box = next((it for it in self._around(at, label) if self._is_free(it)), None)
        box = box or next(self._around(at, label))
        self._write(box, label, colour, bold=True)

    def along(self, x: tuple[float, float], y: tuple[float, float], label: str, colour: str) -> None:
        """Write a label at the first free place along a level line, from its end backwards; above a steep one."""
        if not label:
            return
        start, end = self._pixels(x[0], y[0]), self._pixels(x[1], y[1])
        width, height = self._extent(label)
        if abs(end[1] - start[1]) > abs(end[0] - start[0]):
            left = min(max(end[0] - width / 2, 0.0), self._width - width)
            self._write(_Box(left, end[1] + 3.0, left + width, end[1] + 3.0 + height), label, colour)
            return
        places = []
        for share in (0.98, 0.8, 0.6, 0.4, 0.2, 0.05):
            at = start + share * (end - start)
            for lift in (3.0, -height - 3.0):
                left, bottom = at[0] - width * share, at[1] + lift
                places.append(_Box(left, bottom, left + width, bottom + height))
        box = next((it for it in places if self._is_free(it)), places[0])
        self._write(box, label, colour)

    def at_ends(self, ends: Sequence[tuple[str, float, float, str]]) -> None:
        """Write the labels of curves to the right of their ends, one below the other where they are close.

        Parameters
        ----------
        ends
            Label, last point (x, y), and colour.
        """
        if not ends:
            return
        ranked = sorted(ends, key=lambda it: -self._pixels(it[1], it[2])[1])
        step = self._size + 2.0
        centres = np.array([self._pixels(x, y)[1] for _, x, y, _ in ranked])
        centres = apart(np.clip(centres, self._frame.bottom + step / 2, self._frame.top - step / 2), step)
        # All inside the frame, which has room for more labels than there are curves.
        centres += min(0.0, self._frame.top - centres[0]) - min(0.0, centres[-1] - self._frame.bottom)
        for (label, _, _, colour), centre in zip(ranked, centres, strict=True):
            width, height = self._extent(label)
            left = self._frame.right + 5.0
            bottom = centre - height / 2
            self._write(_Box(left, bottom, left + width, bottom + height), label, colour, bold=True)

    def _around(self, at: FloatArray, label: str) -> Iterator[_Box]:
        """Yield places around a point, the nearest first."""
        width, height = self._extent(label)
        for away, angle in _PLACES:
            x = at[0] + away * math.cos(math.radians(angle))
            y = at[1] + away * math.sin(math.radians(angle))
            left = x - (0.0 if abs(angle) < 90 else width if abs(angle) > 90 else width / 2)
            yield _Box(left, y - height / 2, left + width, y + height / 2)

    def _is_free(self, box: _Box) -> bool:
        return box.lies_in(self._frame) and not any(box.overlaps(it) for it in self._taken)

    def _write(self, box: _Box, label: str, colour: str, *, bold: bool = False) -> None:
        self._taken.append(box)
        # The box is a little higher than the letters; their base line lies a fifth of it up.
        self._axes.annotate(
            label,
            (box.left, box.bottom + 0.2 * (box.top - box.bottom)),
            xycoords="figure pixels",
            color=colour,
            fontweight="bold" if bold else "normal",
            annotation_clip=False,
        )

    def _extent(self, label: str) -> tuple[float, float]:
        return len(label) * _CHARACTER * self._size, self._size + 1.0

    def _pixels(self, x: float, y: float) -> FloatArray:
        at: FloatArray = self._axes.transData.transform((x, y))
        return at


def apart(centres: FloatArray, step: float) -> FloatArray:
    """Move descending positions apart until neighbours are a step away, each group about where it was."""
    groups = [[float(centre)] for centre in centres]
    means = [float(centre) for centre in centres]
    i = 0
    while i + 1 < len(groups):
        reach = (len(groups[i]) + len(groups[i + 1])) / 2.0 * step
        if means[i] - means[i + 1] >= reach - 1e-9:
            i += 1
            continue
        groups[i] += groups.pop(i + 1)
        means[i : i + 2] = [sum(groups[i]) / len(groups[i])]
        i = max(i - 1, 0)
    return np.concatenate(
        [
            mean + step * ((len(group) - 1) / 2.0 - np.arange(len(group)))
            for mean, group in zip(means, groups, strict=True)
        ]
    )
