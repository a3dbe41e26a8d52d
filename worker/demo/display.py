"""Displays of the demo: a page at a terminal, lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import pairwise
from types import TracebackType
from typing import Final, Protocol, Self

from rich.console import Console, RenderableType
from rich.live import Live

from worker.demo.figures import Figures
from worker.demo.page import Page
from worker.demo.plain import SHOWN_PER_DECIDER, status_lines
from worker.demo.start_page import Stage, StartPage
from worker.demo.wording import NAMES, NO_DECIDER, date, hour
from worker.view.alert_text import alert_text
from worker.wire.schema import Alert

_FRAMES_PER_S: Final = 5.0
_STATUS_REPORTS: Final = 10
"""How often the lines show the status in a whole demo."""


class Display(Protocol):
    """A display of the demo while it runs; a context manager."""

    def show_stage(self, text: str) -> None:
        """Show the next step of the start; a repeat of the text changes nothing."""

    def show_figures(self, figures: Figures, alerts: Sequence[Alert]) -> None:
        """Show the current figures, and the alerts that came since the last call."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def display_for(console: Console) -> Display:
    """Return a page if the console can draw one, else lines."""
    return (
        PageDisplay(console) if console.is_terminal and not console.is_dumb_terminal else LineDisplay(console)
    )


class PageDisplay:
    """One page on a screen of its own, drawn several times a second."""

    def __init__(self, console: Console) -> None:
        self._start = StartPage()
        self._stages: list[tuple[str, float]] = []
        self._figures: Figures | None = None
        self._live = Live(
            console=console,
            screen=True,
            refresh_per_second=_FRAMES_PER_S,
            get_renderable=self._page,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def show_stage(self, text: str) -> None:
        """Show the next step of the start."""
        if not self._stages or self._stages[-1][0] != text:
            self._stages.append((text, time.monotonic()))

    def show_figures(self, figures: Figures, alerts: Sequence[Alert]) -> None:
        """Replace the figures; they hold the alerts that the page shows."""
        del alerts
        self._figures = figures

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def _page(self) -> RenderableType:
        if self._figures is not None:
            return Page(self._figures)
        stages = [*self._stages, ("", time.monotonic())]
        self._start.stages = [
            Stage(text, end - began, done=i + 2 < len(stages))
            for i, ((text, began), (_, end)) in enumerate(pairwise(stages))
        ]
        return self._start


class LineDisplay:
    """Lines for a log or a pipe: the steps, each decider's first alerts, and the status at intervals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._status_count = 0
        self._hand_overs = 0
        self._alerts = {"forest": 0, "online": 0}

    def show_stage(self, text: str) -> None:
        """Print the next step of the start."""
        if text != self._stage:
            self._stage = text
            self._print(text)

    def show_figures(self, figures: Figures, alerts: Sequence[Alert]) -> None:
        """Print new hand-overs, each decider's first alerts, and the status if it is due."""
        for hand_over in figures.hand_overs[self._hand_overs :]:
            who = NO_DECIDER if hand_over.decider == "none" else f"{NAMES[hand_over.decider]} decides"
            self._print(f"From {date(hand_over.at_ms)} {hour(hand_over.at_ms)} on: {who}")
        self._hand_overs = len(figures.hand_overs)
        for alert in alerts:
            self._alerts[alert.decided_by] += 1
            if self._alerts[alert.decided_by] <= SHOWN_PER_DECIDER:
                self._console.print(alert_text(alert), soft_wrap=True)
        due = int(_STATUS_REPORTS * figures.elapsed_s / figures.duration_s)
        if due > self._status_count:
            self._status_count = due
            self._print(*status_lines(figures))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def _print(self, *lines: str) -> None:
        for line in lines:
            self._console.print(line, markup=False, soft_wrap=True)
