"""Where the demo is shown: a page at a terminal, lines elsewhere."""

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
_LINES_IN_ALL: Final = 10
"""So many times the lines say how things stand."""


class Display(Protocol):
    """What the demo tells as it goes on; a context manager."""

    def show_stage(self, text: str) -> None:
        """Tell the next step of the start; the same again changes nothing."""

    def show_figures(self, figures: Figures, alerts: Sequence[Alert]) -> None:
        """Show how things stand, and the alerts that came since the last time."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def display_for(console: Console) -> Display:
    """Return a page where the console can draw one."""
    return (
        PageDisplay(console) if console.is_terminal and not console.is_dumb_terminal else LineDisplay(console)
    )


class PageDisplay:
    """One page, drawn anew a few times a second on a screen of its own."""

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
        """Show another step of the start."""
        if not self._stages or self._stages[-1][0] != text:
            self._stages.append((text, time.monotonic()))

    def show_figures(self, figures: Figures, alerts: Sequence[Alert]) -> None:
        """Show other figures; the alerts among them are enough."""
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
    """Lines, for a log or a pipe: the steps, the first alerts of each decider, and now and then how things stand."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._status_count = 0
        self._hand_overs = 0
        self._alerts = {"forest": 0, "online": 0}

    def show_stage(self, text: str) -> None:
        """Print another step of the start."""
        if text != self._stage:
            self._stage = text
            self._print(text)

    def show_figures(self, figures: Figures, alerts: Sequence[Alert]) -> None:
        """Print what is new."""
        for over in figures.hand_overs[self._hand_overs :]:
            who = NO_DECIDER if over.decider == "none" else f"{NAMES[over.decider]} decides"
            self._print(f"From {date(over.at_ms)} {hour(over.at_ms)} on: {who}")
        self._hand_overs = len(figures.hand_overs)
        for alert in alerts:
            self._alerts[alert.decided_by] += 1
            if self._alerts[alert.decided_by] <= SHOWN_PER_DECIDER:
                self._console.print(alert_text(alert), soft_wrap=True)
        due = int(_LINES_IN_ALL * figures.elapsed_s / figures.duration_s)
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
