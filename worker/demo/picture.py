"""The page as an SVG file that loads no other file."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from worker.demo.figures import Figures
from worker.demo.page import Page
from worker.errors import SettingsError

COLUMNS: Final = 100
ROWS: Final = 32

_THEME: Final = TerminalTheme(
    (17, 21, 28),
    (205, 211, 222),
    [
        (17, 21, 28), (240, 98, 98), (125, 199, 128), (236, 190, 98),
        (104, 160, 240), (196, 132, 226), (92, 196, 208), (205, 211, 222),
    ],
    [
        (108, 118, 135), (255, 120, 120), (150, 220, 150), (250, 210, 120),
        (130, 180, 255), (214, 160, 240), (120, 214, 224), (240, 243, 248),
    ],
)  # fmt: skip

# rich's own format fetches a font. This one uses a font of the viewer; rich states the width of each text, so that
# the columns still align.
_FORMAT: Final = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
    <style>
    .{unique_id}-matrix {{
        font-family: "DejaVu Sans Mono", Menlo, Consolas, "Liberation Mono", monospace;
        font-size: {char_height}px;
        line-height: {line_height}px;
    }}
    .{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
    {styles}
    </style>
    <defs>
    <clipPath id="{unique_id}-clip-terminal">
      <rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" />
    </clipPath>
    {lines}
    </defs>
    {chrome}
    <g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
    {backgrounds}
    <g class="{unique_id}-matrix">
    {matrix}
    </g>
    </g>
</svg>
"""


def save_picture(figures: Figures, path: Path) -> None:
    """Write the page of these figures to a file.

    Raises
    ------
    SettingsError
        The file cannot be written; the message names `--picture`.
    """
    console = Console(
        record=True, width=COLUMNS, height=ROWS, file=StringIO(), force_terminal=True, color_system="truecolor",
        no_color=False, legacy_windows=False,
    )  # fmt: skip
    # The worker has ended: without its scheme the address is no link. The file holds no URL but its namespace.
    shown = replace(figures, metrics_url=figures.metrics_url.removeprefix("http://"))
    console.print(Page(shown), height=ROWS)
    svg = console.export_svg(
        title="fraud-worker demo", theme=_THEME, code_format=_FORMAT, unique_id="fraud-worker"
    )
    try:
        path.write_text(svg, encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"--picture = {str(path)!r}: {error.strerror}; name a file that can be written"
        ) from None
