"""The page during the start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.spinner import Spinner
from rich.table import Column, Table
from rich.text import Text

from worker.demo.style import QUIET


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the start.

    Attributes
    ----------
    text
        What the demo does.
    seconds
        How long the step has taken.
    done
        Whether the step is over.
    """

    text: str
    seconds: float
    done: bool


class StartPage:
    """The steps of the start with a spinner; the display replaces `stages` as the start goes on."""

    def __init__(self) -> None:
        self.stages: Sequence[Stage] = ()
        self._spinner = Spinner("dots", style="green")

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Draw the page."""
        del console, options
        table = Table.grid(Column(width=2), Column(overflow="fold"), Column(justify="right"), padding=(0, 1))
        for stage in self.stages:
            mark: RenderableType = Text("✓", style="green") if stage.done else self._spinner
            style = QUIET if stage.done else ""
            table.add_row(mark, Text(stage.text, style=style), Text(f"{stage.seconds:.0f} s", style=QUIET))
        yield Text("fraud-worker demo", style="bold")
        yield Text("A real Kafka and a real worker, on made-up card payments.\n", style=QUIET)
        yield table
        yield Text("\nCtrl-C stops it and leaves nothing behind.", style=QUIET)
