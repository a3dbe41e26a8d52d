"""Reads a page as a browser would, and checks what every report promises."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser

_VOID = {"meta", "br", "img", "link", "input", "hr", "col", "source", "wbr"}
MOST_BYTES = 1_000_000


@dataclass
class Element:
    tag: str
    attributes: dict[str, str]
    children: list[Element] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def all(self, tag: str) -> list[Element]:
        """Return the elements of a tag inside this one, in the order of the page."""
        found = [self] if self.tag == tag else []
        return found + [it for child in self.children for it in child.all(tag)]

    @property
    def text(self) -> str:
        """All text inside, in no particular order between elements."""
        return " ".join([*self.texts, *(child.text for child in self.children)])


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Element("", {})
        self._open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        new = Element(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(new)
        if tag not in _VOID:
            self._open.append(new)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open[-1].children.append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        self._open[-1].texts.append(data)


def read(page: str) -> Element:
    """Return the page as a tree."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return reader.root


def everything(root: Element) -> list[Element]:
    """Return every element below."""
    return [it for child in root.children for it in [child, *everything(child)]]


def assert_keeps_its_promises(page: str) -> Element:
    """Check that a page is well formed, small, asks for nothing, runs nothing and can be heard; return its tree."""
    assert len(page.encode()) <= MOST_BYTES
    root = read(page)
    elements = everything(root)
    tags = {it.tag for it in elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form", "base"}
    assert not re.search(r"https?:|url\((?!#)|@import|javascript:", page)
    for it in elements:
        assert not any(name.startswith("on") or name in {"src", "srcset"} for name in it.attributes)
        assert it.attributes.get("href", "#").startswith("#")
        for name in ("fill", "stroke", "style"):
            assert not re.search(r"#[0-9a-f]{3,6}\b", it.attributes.get(name, ""), re.I), it
    ids = [it.attributes["id"] for it in elements if "id" in it.attributes]
    assert len(ids) == len(set(ids))
    references = [it.attributes["href"][1:] for it in elements if "href" in it.attributes]
    references += [name for it in elements for name in it.attributes.get("aria-labelledby", "").split()]
    references += re.findall(r"url\(#([^)]+)\)", page)
    assert set(references) <= set(ids)
    for plot in root.all("svg"):
        if plot.attributes.get("aria-hidden") != "true":
            assert plot.attributes["role"] == "img"
            assert [plot.children[i].tag for i in (0, 1)] == ["title", "desc"]
            assert plot.children[0].text.strip()
            assert plot.children[1].text.strip()
            assert "nan" not in " ".join(it.attributes.get("d", "") for it in plot.all("path"))
    for table in root.all("table"):
        assert table.all("caption")[0].text.strip()
        assert all("scope" in it.attributes for it in table.all("th"))
        columns = len(table.all("thead")[0].all("th"))
        for line in table.all("tr"):
            assert sum(int(it.attributes.get("colspan", "1")) for it in line.children) == columns
    assert "<h1>" in page
    return root


def sections(root: Element) -> dict[str, Element]:
    """Return the sections by id."""
    return {it.attributes["id"]: it for it in root.all("section")}
