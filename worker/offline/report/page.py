"""One page that loads nothing: sections of text, tables and plots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from string import Template
from typing import Final

from worker.errors import SettingsError
from worker.offline.report.markup import NOTHING, Html, element, joined, paragraph, text
from worker.offline.report.plots import Plot, Series, drawn, key

_PACKAGE: Final = "worker.offline.report"
# The policy holds the page to its promise: a browser would refuse any request.
_PAGE: Final = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="referrer" content="no-referrer">
<title>$title</title>
<style>
$style</style>
</head>
<body>
<header>
<h1>$title</h1>
$lead
<nav aria-label="Sections">$contents</nav>
</header>
<main>
$sections
</main>
<footer><p>Written by fraud-worker $version. Times are in UTC. The page needs no network.</p></footer>
</body>
</html>
""")


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page with a heading.

    Attributes
    ----------
    name
        What a link to it ends in.
    title
        Its heading.
    parts
        Its content.
    is_headline
        Whether it stands out.
    """

    name: str
    title: str
    parts: Sequence[Html]
    is_headline: bool = False

    def html(self) -> Html:
        """Return the section."""
        heading = element("h2", text(self.title), id=f"{self.name}-heading")
        return element(
            "section",
            heading,
            *self.parts,
            id=self.name,
            aria_labelledby=f"{self.name}-heading",
            class_="headline" if self.is_headline else None,
        )


def figure(plot: Plot, caption: str, series: Sequence[Series] = ()) -> Html:
    """Return a plot with its title, its key (one thing alone needs none) and what there is to see."""
    return element(
        "figure",
        element("strong", text(plot.title)),
        drawn(plot),
        key(series) if len(series) > 1 else NOTHING,
        element("figcaption", text(caption)),
    )


def figures(shown: Iterable[Html]) -> Html:
    """Return figures side by side, where the page is wide enough."""
    return element("div", *shown, class_="plots")


def page(title: str, lead: Sequence[Html], sections: Sequence[Section]) -> str:
    """Return the whole page; sections without content are left out."""
    shown = [section for section in sections if any(section.parts)]
    links = (element("li", element("a", text(it.title), href=f"#{it.name}")) for it in shown)
    return _PAGE.substitute(
        title=text(title),
        style=resources.files(_PACKAGE).joinpath("page.css").read_text(encoding="utf-8"),
        lead=joined(lead, "\n"),
        contents=element("ul", *links),
        sections=joined((section.html() for section in shown), "\n"),
        version=text(metadata.version("fraud-worker")),
    )


def write(content: str, path: Path) -> None:
    """Write a page to a file.

    Raises
    ------
    SettingsError
        The file cannot be written; the message names `--report`.
    """
    try:
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise SettingsError(
            f"--report = {str(path)!r}: {error.strerror}; name a file that can be written"
        ) from None


def missing(what: str) -> Html:
    """Say why there is nothing to show."""
    return paragraph(what, class_="quiet")
