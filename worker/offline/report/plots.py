"""Draws the plots of a report: SVG inside the page, in its fonts and colours, light or dark."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from models.arrays import FloatArray
from worker.offline.report.labels import Labels
from worker.offline.report.markup import Html, element, text
from worker.offline.report.svg import GRID, INK, QUIET, SERIES, VARIABLES, inlined
from worker.offline.report.thinning import visible

WIDTH: Final = 400
"""Units of a plot; on the narrowest phone one is little less than a pixel."""
HEIGHT: Final = 265
FONT: Final = 12.0
LEFT, RIGHT = 56.0, 24.0
_TOP, _BOTTOM, _BOTTOM_WITHOUT_LABEL = 26.0, 45.0, 26.0
_POINTS_PER_INCH: Final = 72.0

_DASHES: Final[tuple[tuple[float, ...], ...]] = ((), (6, 2), (2, 2), (8, 2, 2, 2), (5, 4), ())
_MARKERS: Final = ("o", "s", "^", "D", "v", "o")
_SHAPES: Final = (
    "M15 6a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
    "M15 3h6v6h-6z",
    "M18 2.5l3.5 6.5h-7z",
    "M18 2l4 4-4 4-4-4z",
    "M18 9.5l3.5-6.5h-7z",
    "M15 6a3 3 0 1 0 6 0a3 3 0 1 0-6 0z",
)
"""The markers as paths, for the key."""
_LETTERS: Final = "ABCDEF"
_MARKED: Final = 6.5
_UNMARKED: Final = 3.5
"""Sizes of the markers of single points, with a label and without."""
MOST_SERIES: Final = len(SERIES) - 1
"""The last one is grey, for what belongs to none of them."""
_PARAMETERS: Final[Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fraud-worker",
    "font.family": "DejaVu Sans",
    "font.size": FONT,
    "text.color": INK,
    "axes.linewidth": 0.8,
    "path.simplify": False,
    "text.parse_math": False,
}


_NO_METADATA: Final[Any] = {"Date": None, "Creator": None, "Format": None, "Type": None}
"""The same figures give the same page."""


@dataclass(frozen=True, slots=True)
class Series:
    """One of the few things that a page draws: colour, dashes, marker and letter are the same in every plot."""

    number: int
    name: str

    @property
    def letter(self) -> str:
        """What names it on a plot."""
        return _LETTERS[self.number]

    @property
    def colour(self) -> str:
        """The stand-in of its colour."""
        return SERIES[self.number]

    @property
    def dashes(self) -> tuple[float, ...]:
        """Lengths drawn and left out; none for a line without a gap."""
        return _DASHES[self.number]

    @property
    def marker(self) -> str:
        """The shape of its points, in matplotlib's letters."""
        return _MARKERS[self.number]


NEUTRAL: Final = Series(MOST_SERIES, "")
"""What belongs to no strategy."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a plot.

    Attributes
    ----------
    label
        What it measures.
    low, high
        The values at its ends.
    form
        Writes a value.
    is_log
        Whether equal steps are equal factors.
    ticks
        Where values are written; None lets matplotlib choose.
    """

    label: str
    low: float
    high: float
    form: Callable[[float], str]
    is_log: bool = False
    ticks: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Curve:
    """A line.

    Attributes
    ----------
    series
        How it looks.
    x, y : float64 (n,)
        Points that are not finite leave a gap.
    label
        Written at its end; None names it by the key below the plot alone.
    has_markers
        Whether its points are marked.
    """

    series: Series
    x: FloatArray
    y: FloatArray
    label: str | None = None
    has_markers: bool = False


@dataclass(frozen=True, slots=True)
class Point:
    """A marked point with a label beside it, or a small one with none."""

    series: Series
    x: float
    y: float
    label: str


@dataclass(frozen=True, slots=True)
class Span:
    """A stroke between two points: an interval."""

    series: Series
    x: tuple[float, float]
    y: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Reference:
    """A thin line to compare with, straight between two points, with a label at its end or none."""

    x: tuple[float, float]
    y: tuple[float, float]
    label: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """Everything in one plot.

    Attributes
    ----------
    name
        Unique within the page; a word of letters, digits and dashes.
    title
        What it shows.
    description
        What a reader who cannot see it should know.
    left, right
        Room for the values of the vertical axis, and for labels at the ends of curves.
    name_size
        Font size of the values of the vertical axis, which can be names.
    """

    name: str
    title: str
    description: str
    x: Axis
    y: Axis
    curves: Sequence[Curve] = ()
    points: Sequence[Point] = ()
    spans: Sequence[Span] = ()
    references: Sequence[Reference] = ()
    left: float = LEFT
    right: float = RIGHT
    height: float = HEIGHT
    name_size: float = FONT


def drawn(plot: Plot) -> Html:
    """Return a plot as an SVG element."""
    bottom = _BOTTOM if plot.x.label else _BOTTOM_WITHOUT_LABEL
    with mpl.rc_context(_PARAMETERS), warnings.catch_warnings():
        # A browser finds a font for the letters that matplotlib's own lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        figure = Figure(
            figsize=(WIDTH / _POINTS_PER_INCH, plot.height / _POINTS_PER_INCH), dpi=_POINTS_PER_INCH
        )
        figure.patch.set_visible(False)
        axes = figure.add_axes(
            (
                plot.left / WIDTH,
                bottom / plot.height,
                1.0 - (plot.left + plot.right) / WIDTH,
                1.0 - (_TOP + bottom) / plot.height,
            )
        )
        _draw_axes(axes, plot)
        labels = Labels(axes, FONT, WIDTH)
        for reference in plot.references:
            axes.plot(reference.x, reference.y, color=QUIET, linewidth=0.9, dashes=(2, 3))
        for span in plot.spans:
            axes.plot(span.x, span.y, color=span.series.colour, linewidth=1.4)
        for curve in plot.curves:
            _draw_curve(axes, curve, plot)
        for point in plot.points:
            size = _MARKED if point.label else _UNMARKED
            _draw_marker(axes, point.series, np.array([point.x]), np.array([point.y]), size)
            labels.keep_clear(point.x, point.y, 5.0)
        for point in plot.points:
            if point.label:
                labels.beside(point.x, point.y, point.label, point.series.colour)
        for reference in plot.references:
            labels.along(reference.x, reference.y, reference.label, QUIET)
        labels.at_ends(
            [(curve.label, *_end(curve), curve.series.colour) for curve in plot.curves if curve.label]
        )
        written = BytesIO()
        figure.savefig(written, format="svg", metadata=_NO_METADATA)
    return inlined(written.getvalue(), plot.name, plot.title, plot.description)


def key(series: Sequence[Series]) -> Html:
    """Return the names of the series, each with a sample of its line and marker."""
    return element(
        "ul",
        *(
            element("li", _sample(one), element("b", text(one.letter), class_="letter"), text(one.name))
            for one in series
        ),
        class_="key",
    )


def _draw_axes(axes: Axes, plot: Plot) -> None:
    axes.patch.set_visible(False)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(QUIET)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    axes.tick_params(length=0, colors=QUIET, labelcolor=QUIET, pad=4)
    axes.tick_params(axis="x", pad=7)
    axes.tick_params(axis="y", labelsize=plot.name_size)
    for axis, side, most in ((plot.x, axes.xaxis, 6), (plot.y, axes.yaxis, 6)):
        low, high = axis.low, axis.high
        name = "x" if side is axes.xaxis else "y"
        if axis.is_log:
            axes.set(**{f"{name}scale": "log"})
        axes.set(**{f"{name}lim": (low, high)})
        if axis.ticks is not None:
            side.set_major_locator(FixedLocator(list(axis.ticks)))
        elif axis.is_log:
            side.set_major_locator(FixedLocator(log_ticks(low, high, most - 1)))
        else:
            side.set_major_locator(MaxNLocator(most - 1))
        side.set_minor_locator(NullLocator())
        form = axis.form
        side.set_major_formatter(FuncFormatter(lambda value, _, form=form: form(value)))
    axes.set_xlabel(plot.x.label, loc="right", color=INK, labelpad=5)
    # Turned text is hard to read, and has no room on a phone: the name of the vertical axis lies above it.
    axes.annotate(
        plot.y.label,
        (0, 1),
        xytext=(-plot.left + 4, 9),
        xycoords="axes fraction",
        textcoords="offset points",
        color=INK,
        va="bottom",
        ha="left",
        annotation_clip=False,
    )


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Return powers of ten, every so many that there is room; their doubles and halves too where there are few."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    if last - first < 2:
        steps = [factor * 10.0**power for power in range(first - 1, last + 1) for factor in (1.0, 2.0, 5.0)]
        inside = [step for step in steps if low <= step <= high]
        return inside if len(inside) > 1 else [low, high]
    stride = math.ceil((last - first + 1) / most)
    return [10.0**power for power in range(last, first - 1, -stride)]


def _draw_curve(axes: Axes, curve: Curve, plot: Plot) -> None:
    x, y = np.asarray(curve.x, np.float64), np.asarray(curve.y, np.float64)
    room = plot.y.high - plot.y.low
    # Far outside of the frame a point is as good as just outside, and its number is shorter.
    y = np.where(np.isfinite(y), np.clip(y, plot.y.low - room, plot.y.high + room), np.nan)
    y = np.maximum(y, plot.y.low / 2.0) if plot.y.is_log else y
    pixels = int(WIDTH - plot.left - plot.right)
    if len(x) > 4 * pixels:
        shown = np.isfinite(x) & np.isfinite(y) & (x >= plot.x.low) & (x <= plot.x.high)
        x, y = x[shown], y[shown]
        at = axes.transData.transform(np.column_stack([x, y]))
        chosen = visible(at[:, 0], at[:, 1], pixels)
        x, y = x[chosen], y[chosen]
    style: dict[str, Any] = {"color": curve.series.colour, "linewidth": 1.8}
    if curve.series.dashes:
        style["dashes"] = curve.series.dashes
    axes.plot(x, y, **style)
    if curve.has_markers:
        _draw_marker(axes, curve.series, x, y, 4.5)


def _draw_marker(axes: Axes, series: Series, x: FloatArray, y: FloatArray, size: float) -> None:
    axes.plot(x, y, series.marker, color=series.colour, markersize=size, markeredgewidth=0.0, clip_on=False)


def _end(curve: Curve) -> tuple[float, float]:
    """Return the last point of a curve that has one."""
    known = np.flatnonzero(np.isfinite(curve.x) & np.isfinite(curve.y))
    return (float(curve.x[known[-1]]), float(curve.y[known[-1]])) if len(known) else (0.0, 0.0)


def _sample(series: Series) -> Html:
    """Return a short stroke with the marker in its middle."""
    colour = VARIABLES[series.colour]
    dashes = " ".join(f"{1.8 * it:g}" for it in series.dashes)
    line = element("path", d="M0 6H36", stroke=colour, stroke_width="1.8", stroke_dasharray=dashes or None)
    marker = element("path", d=_SHAPES[series.number], fill=colour)
    return element("svg", line, marker, viewBox="0 0 36 12", aria_hidden="true")
