"""Writes what a comparison or a backtest found as one page of HTML that needs no network."""

# ruff: noqa: PLC0415

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from worker.errors import SettingsError
from worker.output_files import require_writable

if TYPE_CHECKING:
    from worker.offline.backtest import BacktestResult
    from worker.offline.compare.mistakes import Mistake
    from worker.offline.compare.result import Comparison


def require_plots() -> None:
    """Refuse a report that could not be drawn, before the work that it is to show.

    Raises
    ------
    SettingsError
        matplotlib is not installed; the message names the extra that brings it.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise SettingsError(
            "--report needs matplotlib: install the extra, pip install 'fraud-worker[compare]'"
        )


def require_page(path: Path) -> None:
    """Refuse a file that is no page or that cannot be written, before the work that it is to show.

    Raises
    ------
    SettingsError
        The name does not end in .html or is that of a folder, the folder does not exist, or the user may not write
        there; the message names `--report`.
    """
    given = f"--report = {str(path)!r}"
    if path.suffix.lower() not in {".html", ".htm"}:
        raise SettingsError(f"{given}: the report is a page of HTML; end its name in .html")
    require_writable(given, path)


def write_comparison(result: Comparison, path: Path) -> None:
    """Write the report of a comparison.

    Raises
    ------
    SettingsError
        matplotlib is not installed, or the file cannot be written.
    """
    require_plots()
    from worker.offline.report.compared import comparison_page
    from worker.offline.report.page import write

    write(comparison_page(result), path)


def write_mistakes(made: Sequence[Mistake], path: Path, source: str, notes: Sequence[str]) -> None:
    """Write the report of the classic mistakes.

    Parameters
    ----------
    made
        The mistakes.
    path
        Of the page.
    source
        Name of the data.
    notes
        What the reader has to know.

    Raises
    ------
    SettingsError
        The file cannot be written.
    """
    from worker.offline.report.mistaken import mistakes_page
    from worker.offline.report.page import write

    write(mistakes_page(made, source, notes), path)


def write_backtest(result: BacktestResult, path: Path, source: str) -> None:
    """Write the report of a backtest.

    Parameters
    ----------
    result
        What it shows.
    path
        Of the page.
    source
        Name of the data.

    Raises
    ------
    SettingsError
        matplotlib is not installed, or the file cannot be written.
    """
    require_plots()
    from worker.offline.report.backtested import backtest_page
    from worker.offline.report.page import write

    write(backtest_page(result, source), path)
