"""Colours and frames that the parts of the demo's page share."""

from __future__ import annotations

from typing import Final

from rich import box
from rich.console import RenderableType
from rich.panel import Panel
from rich.text import Text

STYLES: Final = {"none": "bright_black", "forest": "yellow", "online": "green"}
"""Colour of each decider."""
QUIET: Final = "bright_black"
LABEL_COLUMNS: Final = 12
FRAME_COLUMNS: Final = 4


def framed(content: RenderableType, title: str, note: Text | None = None) -> Panel:
    """Return content in a frame with a title, and with a note at the bottom."""
    return Panel(
        content,
        title=Text(title, style="bold default"),
        title_align="left",
        subtitle=note,
        subtitle_align="right",
        box=box.ROUNDED,
        border_style=QUIET,
    )
