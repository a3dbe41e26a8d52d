"""Turns a drawing of matplotlib into a part of a page, in the page's fonts and colours, light or dark."""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree

from worker.offline.report.markup import Html, plain

# matplotlib knows no CSS: it draws in colours without meaning, which become variables of the page's style.
INK, QUIET, GRID = "#0a0b00", "#0a0b01", "#0a0b02"
SERIES: Final = tuple(f"#0a0b{10 + i}" for i in range(6))
VARIABLES: Final = {
    INK: "var(--ink)",
    QUIET: "var(--quiet)",
    GRID: "var(--grid)",
    **{colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, 1)},
}
_REFERENCE: Final = re.compile(r"url\(#([\w-]+)\)")
_FONT: Final = re.compile(r"font: (?:(\d{3}|bold) )?([\d.]+)px [^;]*")
_FONT_FAMILY: Final = re.compile(r" font-family: [^;]*;")
_LONG_NUMBER: Final = re.compile(r"-?\d+\.\d{2,}")


def inlined(svg: bytes, prefix: str, title: str, description: str) -> Html:
    """Return an SVG file as an element of a page, without a namespace and in the colours of the page.

    Parameters
    ----------
    svg
        As matplotlib writes it.
    prefix
        Of all its ids: they must be unique within the page.
    title, description
        What screen readers read.
    """
    root = ElementTree.fromstring(svg)  # noqa: S314 - matplotlib wrote it
    for parent in list(root.iter()):
        for child in list(parent):
            # The style sheet would apply to the whole page.
            if _local(child.tag) in {"metadata", "style", "title"}:
                parent.remove(child)
    used = set(_REFERENCE.findall(svg.decode()))
    used |= {value[1:] for node in root.iter() for name, value in node.items() if _local(name) == "href"}
    for node in root.iter():
        node.tag = _local(node.tag)
        node.tail = None
        if node.tag != "text":
            node.text = None
        attributes = dict(node.items())
        node.attrib.clear()
        for name, value in attributes.items():
            kept = _attribute(_local(name), value, used, prefix)
            if kept is not None:
                node.set(_local(name), kept)
    texts = {"title": title, "desc": description}
    root.set("role", "img")
    root.set("aria-labelledby", " ".join(f"{prefix}-{tag}" for tag in texts))
    root.set("stroke-linejoin", "round")
    for place, (tag, content) in enumerate(texts.items()):
        node = ElementTree.Element(tag, {"id": f"{prefix}-{tag}"})
        node.text = plain(content)
        root.insert(place, node)
    return Html(ElementTree.tostring(root, encoding="unicode"))


def _local(name: str) -> str:
    """Return a name without its namespace."""
    return name.rpartition("}")[2]


def _attribute(name: str, value: str, used: set[str], prefix: str) -> str | None:
    """Return an attribute in the form in which the page needs it; None where the page does without."""
    if name == "id":
        return f"{prefix}-{value}" if value in used else None
    # The page says how large a plot is; texts that are not turned need no turning.
    if name == "version" or value.endswith("pt") or value.startswith("rotate(-0 "):
        return None
    if name == "style":
        for colour, variable in VARIABLES.items():
            value = value.replace(colour, variable)
        return _FONT_FAMILY.sub("", _FONT.sub(_font, value))
    if name == "href":
        return f"#{prefix}-{value[1:]}"
    return _REFERENCE.sub(rf"url(#{prefix}-\1)", value) if name == "clip-path" else _short(value)


def _short(value: str) -> str:
    """Round the numbers in an attribute to a tenth of a unit, which no eye can see."""
    return _LONG_NUMBER.sub(lambda it: f"{float(it[0]):.1f}".removesuffix(".0"), value)


def _font(match: re.Match[str]) -> str:
    weight = f"; font-weight: {match[1]}" if match[1] else ""
    return f"font-size: {match[2]}px{weight}"
