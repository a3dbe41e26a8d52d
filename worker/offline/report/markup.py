"""HTML that holds text of others safely: `text` is the only way from a string to `Html`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NewType

from worker.redaction import redact

Html = NewType("Html", str)
"""Text of a page, markup and all. mypy refuses a plain string in its place."""
NOTHING: Final = Html("")


def plain(value: str) -> str:
    r"""Strike out card numbers, and write what does not print as an escape such as ``\x1b``."""
    return "".join(it if it.isprintable() else it.encode("unicode_escape").decode() for it in redact(value))


def text(value: str) -> Html:
    """Return a text as HTML, `plain` and escaped."""
    # A number and its sign stay on one line.
    return Html(html.escape(plain(value)).replace(" %", "&nbsp;%"))


def joined(parts: Iterable[Html], separator: str = "") -> Html:
    """Return the parts one after the other; the separator is markup of this package."""
    return Html(separator.join(parts))


def element(tag: str, *parts: Html, **attributes: str | None) -> Html:
    """Return an element.

    Parameters
    ----------
    tag
        Its name.
    *parts
        Its content.
    **attributes
        By name, `class_` for `class` and `aria_label` for `aria-label`; escaped here. None leaves one out.
    """
    shown = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{text(value)}"'
        for name, value in attributes.items()
        if value is not None
    )
    return Html(f"<{tag}{shown}>{''.join(parts)}</{tag}>")


def paragraph(value: str, class_: str | None = None) -> Html:
    """Return a paragraph of plain text."""
    return element("p", text(value), class_=class_)


def definitions(pairs: Iterable[tuple[str, str]]) -> Html:
    """Return a list of names, each with its value."""
    return element(
        "dl",
        *(element("div", element("dt", text(name)), element("dd", text(value))) for name, value in pairs),
        class_="facts",
    )


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table: its heading, what the heading means, and whether it holds words instead of numbers."""

    heading: str
    meaning: str | None = None
    words: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table.

    Attributes
    ----------
    cells
        The first one names the line. Fewer cells than columns: the last one spans the rest.
    is_group
        A heading of the lines below it.
    class_
        How it stands out.
    """

    cells: Sequence[Html]
    is_group: bool = False
    class_: str | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """A table that scrolls sideways in itself where the page is narrow."""

    caption: str
    columns: Sequence[Column]
    lines: list[Line] = field(default_factory=list)

    def add(self, *cells: Html, is_group: bool = False, class_: str | None = None) -> None:
        """Add a line, as `Line` declares it."""
        self.lines.append(Line(cells, is_group, class_))

    def html(self) -> Html:
        """Return the table."""
        head = element(
            "tr",
            *(
                element("th", text(it.heading), scope="col", title=it.meaning, class_=_class(it))
                for it in self.columns
            ),
        )
        bodies: list[list[Html]] = []
        for line in self.lines:
            if line.is_group or not bodies:
                bodies.append([])
            bodies[-1].append(self._line(line))
        table = element(
            "table",
            element("caption", text(self.caption)),
            element("thead", head),
            *(element("tbody", *body) for body in bodies),
        )
        # Keyboards scroll only what has the focus.
        scroll = element("div", table, class_="scroll", role="region", aria_label=self.caption, tabindex="0")
        # A heading's title appears under a mouse alone.
        meanings = "; ".join(f"{it.heading}: {it.meaning}" for it in self.columns if it.meaning)
        return joined([scroll, paragraph(f"{meanings}.", "quiet meanings")]) if meanings else scroll

    def _line(self, line: Line) -> Html:
        name, *values = line.cells
        if line.is_group:
            return element(
                "tr",
                element("th", name, scope="rowgroup", colspan=str(len(self.columns))),
                class_="group",
            )
        cells = [element("th", name, scope="row")]
        for i, value in enumerate(values, 1):
            rest = len(self.columns) - i if i == len(values) else 1
            words = self.columns[i].words or rest > 1
            cells.append(
                element(
                    "td",
                    value,
                    class_="words" if words else None,
                    colspan=str(rest) if rest > 1 else None,
                )
            )
        return element("tr", *cells, class_=line.class_)


def _class(column: Column) -> str | None:
    return "words" if column.words else None
