"""Takes a picture of a report for README: `python -m tests.tools.report_picture build/report.html OUT.png`.

Chromium draws the page without a network. The picture shows the page from its top, in the light colours.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from PIL import Image

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome")
MOST_BYTES: Final = 300_000
_TIMEOUT_S: Final = 60


def take(report: Path, picture: Path, width: int, height: int) -> None:
    """Write a picture of the top of a page.

    Parameters
    ----------
    report
        The page.
    picture
        The .png file to write.
    width, height
        Of the picture, in pixels.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"none of {', '.join(BROWSERS)} is installed")
    with tempfile.TemporaryDirectory(prefix="report-picture-") as folder:
        shot = Path(folder) / "shot.png"
        options = [
            "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
            "--hide-scrollbars", "--blink-settings=preferredColorScheme=1", f"--user-data-dir={folder}/profile",
            f"--window-size={width},{height}", f"--screenshot={shot}",
        ]  # fmt: skip
        subprocess.run(
            [browser, *options, report.resolve().as_uri()],
            check=True,
            capture_output=True,
            timeout=_TIMEOUT_S,
        )
        # Few colours make a small file; an octree keeps those that are rare.
        with Image.open(shot) as image:
            image.convert("RGB").quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
                picture, optimize=True
            )
    if picture.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{picture} has {picture.stat().st_size:,} bytes, more than {MOST_BYTES:,}")


def main() -> None:
    """Take the picture that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="a page of compare or backtest")
    parser.add_argument("picture", type=Path, help="the .png file to write")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=1740)
    args = parser.parse_args()
    take(args.report, args.picture, args.width, args.height)


if __name__ == "__main__":
    main()
